// SPDX-License-Identifier: GPL-2.0

//! I/O commands that few guests use: Verify and Write Uncorrectable.

use vfio_client::stream::Stream;
use vfio_client::v1::State;
use vfio_drivers::nvme::content;
use vfio_drivers::nvme::nvm;
use vfio_drivers::nvme::Command;
use vfio_drivers::nvme::Status;
use vfio_drivers::nvme::PAGE;

use crate::case::cases;
use crate::case::Case;
use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::check::Stop;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::nvme::disk::field;
use crate::v1::nvme::disk::in_each_store;
use crate::v1::nvme::disk::Disk;
use crate::v1::nvme::disk::Scratch;
use crate::v1::nvme::disk::CAPACITY;
use crate::v1::nvme::disk::DEPTH;
use crate::v1::nvme::disk::FILE;
use crate::v1::nvme::disk::STORE;
use crate::v1::nvme::migration::pre_copy;

const MIB: u64 = 1 << 20;
/// Where Identify Controller has ONCS, and its bits.
const ONCS: usize = 520;
const ONCS_WRITE_UNCORRECTABLE: u64 = 1 << 1;
const ONCS_VERIFY: u64 = 1 << 7;

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::Nvme];

pub const CASES: &[Case] = cases![
    NEEDS;
    nvme_verify_reads_and_transfers_nothing [Mdev],
    nvme_uncorrectable_blocks_cannot_be_read_until_they_are_written [Mdev],
    nvme_uncorrectable_blocks_move_with_the_guest [Mdev],
    nvme_uncorrectable_blocks_of_a_file_are_not_offered [Mdev],
    nvme_state_of_version_1_is_loaded [Mdev],
];

/// Executes a command for `len` bytes at a place, without memory.
#[track_caller]
fn without_data(disk: &mut Disk, opcode: u8, place: u64, len: u64, expected: Status) -> Outcome {
    let block = disk.block();
    let command = Command::new(opcode)
        .namespace(1)
        .blocks(place / block, (len / block) as u32);
    let seen = disk.driver.execute(1, command)?.status;
    same(
        format_args!("opcode {opcode:#x}, {len} bytes at {place:#x}"),
        seen,
        expected,
    )
}

/// Checks that a block has, or has not, the mark of Write Uncorrectable.
#[track_caller]
fn expect_marked(disk: &mut Disk, place: u64, marked: bool) -> Outcome {
    let block = disk.block();
    let buffer = disk.driver.data(0);
    let expected = if marked {
        Status::READ_ERROR
    } else {
        Status::SUCCESS
    };
    disk.expect(nvm::READ, place, block, buffer, expected)?;
    disk.expect(nvm::COMPARE, place, block, buffer, expected)?;
    without_data(disk, nvm::VERIFY, place, block, expected)
}

fn nvme_verify_reads_and_transfers_nothing(target: &Target) -> Outcome {
    in_each_store(target, |_, mut disk| {
        let oncs = field(&disk.driver.identify(1, 0)?, ONCS, 2);
        same("ONCS, Verify", oncs & ONCS_VERIFY, ONCS_VERIFY)?;
        disk.write(0, &content(0, 3))?;
        // The maximum transfer size does not limit it, and no address is used.
        let block = disk.block();
        for (place, len) in [(0, block), (0, 32 * MIB), (64 * MIB - block, block)] {
            without_data(&mut disk, nvm::VERIFY, place, len, Status::SUCCESS)?;
        }
        without_data(&mut disk, nvm::VERIFY, 64 * MIB, block, Status::LBA_RANGE)
    })
}

fn nvme_uncorrectable_blocks_cannot_be_read_until_they_are_written(target: &Target) -> Outcome {
    let mut disk = Disk::with(target, &[(STORE, "ram"), (CAPACITY, "67108864")])?;
    let oncs = field(&disk.driver.identify(1, 0)?, ONCS, 2);
    same(
        "ONCS, Write Uncorrectable",
        oncs & ONCS_WRITE_UNCORRECTABLE,
        ONCS_WRITE_UNCORRECTABLE,
    )?;
    let block = disk.block();
    let all = 64 * MIB;
    let written = content(0, 3);
    disk.write(0, &written)?;
    // All of the namespace, in commands as large as they can be.
    let most = all.min(block << 16);
    for place in (0..all).step_by(most as usize) {
        without_data(
            &mut disk,
            nvm::WRITE_UNCORRECTABLE,
            place,
            most,
            Status::SUCCESS,
        )?;
    }
    for place in [0, 5 * block, 2 * MIB - block, 2 * MIB, all - block] {
        expect_marked(&mut disk, place, true)?;
    }
    // A reset of the controller does not touch the content.
    disk.start(DEPTH)?;
    expect_marked(&mut disk, 0, true)?;

    disk.write(4 * PAGE, &written)?;
    same_bytes("what was written", &disk.read(4 * PAGE, PAGE)?, &written)?;
    expect_marked(&mut disk, 4 * PAGE - block, true)?;
    expect_marked(&mut disk, 5 * PAGE, true)?;
    disk.write_zeroes(8 * PAGE, PAGE, false)?;
    same_bytes("zeros", &disk.read(8 * PAGE, PAGE)?, &[0; PAGE as usize])?;
    expect_marked(&mut disk, 9 * PAGE, true)?;
    disk.deallocate(0, all)?;
    for place in [0, 2 * MIB, all - block] {
        expect_marked(&mut disk, place, false)?;
    }
    same_bytes("deallocated", &disk.read(0, PAGE)?, &[0; PAGE as usize])
}

fn nvme_uncorrectable_blocks_move_with_the_guest(target: &Target) -> Outcome {
    let mut disk = Disk::with(target, &[])?;
    let block = disk.block();
    disk.write(0, &content(0, 3))?;
    without_data(
        &mut disk,
        nvm::WRITE_UNCORRECTABLE,
        0,
        PAGE,
        Status::SUCCESS,
    )?;
    let mut stream = pre_copy(&disk)?;
    // Others while the guest runs.
    without_data(
        &mut disk,
        nvm::WRITE_UNCORRECTABLE,
        50 * MIB,
        PAGE,
        Status::SUCCESS,
    )?;
    disk.write(0, &content(0, 4)[..block as usize])?;
    disk.device.set(State::STOP_COPY)?;
    stream.extend(disk.device.migration.save()?);
    let mut disk = disk.arrive(target, &[], &stream)?;
    expect_marked(&mut disk, 0, false)?;
    if block < PAGE {
        expect_marked(&mut disk, block, true)?;
        expect_marked(&mut disk, PAGE - block, true)?;
    }
    expect_marked(&mut disk, PAGE, false)?;
    expect_marked(&mut disk, 50 * MIB, true)?;
    disk.write(50 * MIB, &content(0, 5))?;
    expect_marked(&mut disk, 50 * MIB, false)?;
    same_bytes("written", &disk.read(50 * MIB, PAGE)?, &content(0, 5))
}

fn nvme_uncorrectable_blocks_of_a_file_are_not_offered(target: &Target) -> Outcome {
    let scratch = Scratch::new(64 * MIB)?;
    let mut disk = Disk::with(target, &[(STORE, "file"), (FILE, scratch.text())])?;
    let oncs = field(&disk.driver.identify(1, 0)?, ONCS, 2);
    same(
        "ONCS, Write Uncorrectable",
        oncs & ONCS_WRITE_UNCORRECTABLE,
        0,
    )?;
    disk.write(0, &content(0, 3))?;
    let opcode = nvm::WRITE_UNCORRECTABLE;
    without_data(&mut disk, opcode, 0, PAGE, Status::INVALID_OPCODE)?;
    same_bytes("what was there", &disk.read(0, PAGE)?, &content(0, 3))
}

/// A stream whose state is that of a release without Write Uncorrectable: 2228 bytes.
fn nvme_state_of_version_1_is_loaded(target: &Target) -> Outcome {
    const VERSION_1_SIZE: usize = 2228;
    let mut disk = Disk::with(target, &[])?;
    disk.write(0, &content(0, 6))?;
    let buffer = disk.driver.data(0);
    let command = disk.transfer(1, nvm::WRITE, PAGE, PAGE, buffer);
    disk.memory().write(buffer, &content(0, 7));
    disk.device.set(State::STOP_COPY)?;
    // A command that was not fetched.
    disk.driver.submit(1, command)?;
    let stream = Stream::parse(&disk.device.migration.save()?).map_err(Stop::failed)?;
    let mut state = stream.device_state().map_err(Stop::failed)?;
    state.truncate(VERSION_1_SIZE);
    state[0] = 1;
    let mut disk = disk.arrive(target, &[], &stream.with_state(&state).bytes())?;
    // A write to a doorbell of a device that is stopped is lost.
    disk.driver.ring(1)?;
    let completion = disk.driver.wait(1)?;
    same("the write", completion.status, Status::SUCCESS)?;
    same_bytes("before", &disk.read(0, PAGE)?, &content(0, 6))?;
    same_bytes("behind", &disk.read(PAGE, PAGE)?, &content(0, 7))
}
