// SPDX-License-Identifier: GPL-2.0

//! A controller whose content is on a block device of the host, without the host's page cache: the device executes
//! commands while the controller goes on. The devices are those of `null_blk`, which takes its time for each request.

use std::fs;
use std::os::unix::fs::FileExt;

use vfio_client::v1::State;
use vfio_client::Errno;
use vfio_client::GroupSession;
use vfio_drivers::nvme::admin;
use vfio_drivers::nvme::content;
use vfio_drivers::nvme::nvm;
use vfio_drivers::nvme::Command;
use vfio_drivers::nvme::Status;
use vfio_drivers::nvme::PAGE;

use crate::case::cases;
use crate::case::Case;
use crate::check::holds;
use crate::check::refused;
use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::check::Stop;
use crate::kmsg::expect_line;
use crate::null_disk::NullDisk;
use crate::requirement::Requirement;
use crate::subject::Subject;
use crate::target::Target;
use crate::v1::nvme::disk::create;
use crate::v1::nvme::disk::Disk;
use crate::v1::nvme::disk::CACHE;
use crate::v1::nvme::disk::DEPTH;
use crate::v1::nvme::disk::FILE;
use crate::v1::nvme::disk::MOST;
use crate::v1::nvme::disk::STORE;

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::Nvme];

pub const CASES: &[Case] = cases![
    NEEDS;
    nvme_direct_block_device_has_what_was_written [Mdev],
    nvme_direct_needs_blocks_that_the_disk_has [Mdev],
    nvme_direct_commands_of_a_queue_are_executed_at_once [Mdev],
    nvme_direct_commands_end_before_their_queue [Mdev],
    nvme_direct_commands_do_not_outlast_a_reset [Mdev],
    nvme_direct_commands_end_before_a_stop [Mdev],
    nvme_direct_commands_end_before_a_close [Mdev],
    nvme_direct_failures_are_those_of_the_command [Mdev],
];

const MIB: u64 = 1 << 20;
/// Milliseconds that a request of a slow device takes: more than a guest needs for what comes between.
const LATENCY: u64 = 700;
/// Commands that are under way at once.
const COMMANDS: u64 = 8;

/// Opens a controller whose content is on `null`.
#[track_caller]
fn open_on(target: &Target, null: &NullDisk) -> Outcome<Disk> {
    let attributes = [(STORE, "file"), (FILE, &null.path()), (CACHE, "none")];
    Disk::with(target, &attributes)
}

/// Opens a controller whose first namespace is on `slow`, and whose second one takes no time.
#[track_caller]
fn open_on_both(target: &Target, slow: &NullDisk) -> Outcome<(Disk, NullDisk)> {
    let fast = NullDisk::new()?;
    Ok((
        Disk::open(target, create_on_both(target, slow, &fast)?)?,
        fast,
    ))
}

/// Creates a controller whose first namespace is on `slow`, and whose second one is on `fast`.
#[track_caller]
fn create_on_both(target: &Target, slow: &NullDisk, fast: &NullDisk) -> Outcome<Subject> {
    let attributes = [
        (STORE, "file"),
        (FILE, &slow.path()),
        (CACHE, "none"),
        ("nvme-ns2/store", "file"),
        ("nvme-ns2/file", &fast.path()),
        ("nvme-ns2/cache", "none"),
    ];
    create(target, &attributes)
}

/// Has pages read, of which each has a place and a part of the memory of its own.
#[track_caller]
fn submit_reads(disk: &mut Disk) -> Outcome {
    for index in 0..COMMANDS {
        let into = disk.driver.data(index * PAGE);
        let read = disk.transfer(1, nvm::READ, index * PAGE, PAGE, into);
        disk.driver.post(1, read);
    }
    Ok(disk.driver.ring(1)?)
}

/// Waits until the controller has begun all commands before, none of which has completed: a command of the fast namespace,
/// which is behind them in their queue, does not wait for them.
#[track_caller]
fn await_begun(disk: &mut Disk) -> Outcome {
    let elsewhere = disk.driver.data(MIB);
    let read = disk.transfer(1, nvm::READ, 0, PAGE, elsewhere).namespace(2);
    let id = disk.driver.submit(1, read)?;
    let seen = disk.driver.wait(1)?;
    same("identifier", seen.id, id)?;
    same("status", seen.status, Status::SUCCESS)
}

/// The memory that [`submit_reads`] reads into.
fn read_into(disk: &Disk) -> Vec<u8> {
    let into = disk.driver.data(0);
    disk.memory().bytes(into, (COMMANDS * PAGE) as usize)
}

/// The content of the pages that [`submit_reads`] reads.
fn pages() -> Vec<u8> {
    (0..COMMANDS)
        .flat_map(|index| content(index * PAGE, 3))
        .collect()
}

/// Takes the completions of [`submit_reads`], which are there, or come if `wait` says so.
#[track_caller]
fn take_reads(disk: &mut Disk, wait: bool) -> Outcome {
    for index in 0..COMMANDS {
        let seen = match wait {
            true => Some(disk.driver.wait(1)?),
            false => disk.driver.take(1)?,
        };
        let seen = seen.ok_or_else(|| {
            Stop::failed(format_args!(
                "expected {COMMANDS} completions, seen {index}"
            ))
        })?;
        same("status", seen.status, Status::SUCCESS)?;
    }
    Ok(())
}

fn nvme_direct_block_device_has_what_was_written(target: &Target) -> Outcome {
    let null = NullDisk::new()?;
    let mut disk = open_on(target, &null)?;
    let mut expected = Vec::new();
    let lengths = [disk.block(), PAGE, 5 * PAGE, MOST];
    for (index, len) in lengths.into_iter().enumerate() {
        let place = (1 + index as u64) * MIB;
        let bytes: Vec<u8> = (0..len.div_ceil(PAGE))
            .flat_map(|page| content(place + page * PAGE, 1))
            .take(len as usize)
            .collect();
        disk.write(place, &bytes)?;
        same_bytes("read back", &disk.read(place, len)?, &bytes)?;
        expected.push((place, bytes));
    }
    // These are executed at once, beside those that are not.
    disk.write_zeroes(2 * MIB, PAGE, false)?;
    expected[1].1.fill(0);
    let buffer = disk.driver.data(0);
    disk.memory().write(buffer, &expected[0].1);
    let len = disk.block();
    disk.expect(nvm::COMPARE, MIB, len, buffer, Status::SUCCESS)?;
    disk.expect(nvm::COMPARE, 4 * MIB, len, buffer, Status::COMPARE_FAILURE)?;
    const FUA: u32 = 1 << 30;
    for opcode in [nvm::WRITE, nvm::READ] {
        let command = disk.transfer(1, opcode, MIB, len, buffer);
        let blocks = (len >> target.shift()) as u32;
        let words = command.word(12, (blocks - 1) | FUA);
        same(
            "FUA",
            disk.driver.execute(1, words)?.status,
            Status::SUCCESS,
        )?;
    }
    let flush = Command::new(nvm::FLUSH).namespace(1);
    same(
        "flush",
        disk.driver.execute(1, flush)?.status,
        Status::SUCCESS,
    )?;
    drop(disk);

    let file = fs::File::open(null.path()).map_err(Stop::failed)?;
    for (place, bytes) in expected {
        let mut seen = vec![0; bytes.len()];
        file.read_exact_at(&mut seen, place).map_err(Stop::failed)?;
        same_bytes(format_args!("block device at {place:#x}"), &seen, &bytes)?;
    }
    Ok(())
}

fn nvme_direct_needs_blocks_that_the_disk_has(target: &Target) -> Outcome {
    let null = NullDisk::with(&[("blocksize", "4096")])?;
    let attributes = [(STORE, "file"), (FILE, &null.path()), (CACHE, "none")];
    let mdev = create(target, &attributes)?;
    if 1 << target.shift() == PAGE {
        return Disk::open(target, mdev).map(drop);
    }
    let uuid = mdev.name().to_string();
    expect_line(&[target.kind.driver(), &uuid, "page cache"], || {
        refused("the device", GroupSession::open(&mdev), Errno::INVAL)
    })?;
    mdev.set_attribute(CACHE, b"writeback")?;
    Disk::open(target, mdev).map(drop)
}

fn nvme_direct_commands_of_a_queue_are_executed_at_once(target: &Target) -> Outcome {
    let slow = NullDisk::slow(LATENCY)?;
    let (mut disk, _fast) = open_on_both(target, &slow)?;
    submit_reads(&mut disk)?;
    await_begun(&mut disk)?;
    take_reads(&mut disk, true)
}

fn nvme_direct_commands_end_before_their_queue(target: &Target) -> Outcome {
    let slow = NullDisk::slow(LATENCY)?;
    let (mut disk, _fast) = open_on_both(target, &slow)?;
    submit_reads(&mut disk)?;
    await_begun(&mut disk)?;
    let delete = Command::new(admin::DELETE_SQ).word(10, 1);
    disk.driver.succeed(0, delete)?;
    take_reads(&mut disk, false)
}

fn nvme_direct_commands_do_not_outlast_a_reset(target: &Target) -> Outcome {
    let slow = NullDisk::slow(LATENCY)?;
    let (mut disk, _fast) = open_on_both(target, &slow)?;
    disk.write(0, &pages())?;
    let mark = vec![0x5a; (COMMANDS * PAGE) as usize];
    disk.memory().write(disk.driver.data(0), &mark);
    submit_reads(&mut disk)?;
    await_begun(&mut disk)?;
    disk.driver.disable()?;
    same_bytes("memory after the reset", &read_into(&disk), &mark)?;
    // It is ready again only when the disk is done with the reads.
    disk.start(DEPTH)?;
    same_bytes("memory of the next one", &read_into(&disk), &mark)?;
    same_bytes("page", &disk.read(PAGE, PAGE)?, &content(PAGE, 3))?;

    submit_reads(&mut disk)?;
    disk.expect_recovers()
}

fn nvme_direct_commands_end_before_a_stop(target: &Target) -> Outcome {
    let slow = NullDisk::slow(LATENCY)?;
    let (mut disk, fast) = open_on_both(target, &slow)?;
    disk.write(0, &pages())?;
    let mark = vec![0x5a; (COMMANDS * PAGE) as usize];
    disk.memory().write(disk.driver.data(0), &mark);
    submit_reads(&mut disk)?;
    await_begun(&mut disk)?;
    disk.device.set(State::STOP_COPY)?;
    same_bytes("memory of a stopped disk", &read_into(&disk), &pages())?;
    let stream = disk.device.migration.save()?;
    let other = create_on_both(target, &slow, &fast)?;
    let mut disk = disk.arrive_at(other, &stream)?;
    take_reads(&mut disk, false)?;
    disk.memory().write(disk.driver.data(0), &mark);
    submit_reads(&mut disk)?;
    take_reads(&mut disk, true)?;
    same_bytes("memory", &read_into(&disk), &pages())
}

fn nvme_direct_commands_end_before_a_close(target: &Target) -> Outcome {
    let slow = NullDisk::slow(LATENCY)?;
    let (mut disk, _fast) = open_on_both(target, &slow)?;
    let bytes = content(0, 9);
    let from = disk.driver.data(0);
    disk.memory().write(from, &bytes);
    let write = disk.transfer(1, nvm::WRITE, MIB, PAGE, from);
    disk.driver.submit(1, write)?;
    await_begun(&mut disk)?;
    drop(disk);
    // What began is done, and nobody has the disk any more.
    let mut disk = open_on(target, &slow)?;
    same_bytes("page", &disk.read(MIB, PAGE)?, &bytes)
}

fn nvme_direct_failures_are_those_of_the_command(target: &Target) -> Outcome {
    let null = NullDisk::new()?;
    let mut disk = open_on(target, &null)?;
    let buffer = disk.driver.data(0);
    null.fail()?;
    disk.expect(nvm::READ, 0, PAGE, buffer, Status::READ_ERROR)?;
    disk.expect(nvm::WRITE, 0, PAGE, buffer, Status::WRITE_FAULT)?;
    null.mend()?;
    disk.expect(nvm::WRITE, 0, PAGE, buffer, Status::SUCCESS)?;
    let flush = Command::new(nvm::FLUSH).namespace(1);
    let seen = disk.driver.execute(1, flush)?;
    // The guest knows of the write that failed.
    same("a flush", seen.status, Status::SUCCESS)?;
    holds(
        disk.driver.status()? & 1 != 0,
        "expected a controller that is ready",
    )
}
