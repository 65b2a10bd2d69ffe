// SPDX-License-Identifier: GPL-2.0

//! DMA: memory that was unmapped is not accessed any more, and written pages are dirty.

use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering;
use std::collections::BTreeSet;
use std::fs;
use std::process;
use std::process::Child;
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use rustix::event::poll;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::process::pidfd_open;
use rustix::process::Pid;
use rustix::process::PidfdFlags;
use vfio_client::address_space::Access;
use vfio_client::irq::Index;
use vfio_client::sys::PageFaults;
use vfio_client::v1::State;
use vfio_client::AddressSpace as _;
use vfio_client::Errno;
use vfio_client::EventFd;
use vfio_client::GuestMemory;
use vfio_client::Mapping;
use vfio_drivers::nvme;
use vfio_drivers::nvme::admin;
use vfio_drivers::nvme::content;
use vfio_drivers::nvme::nvm;
use vfio_drivers::nvme::tail_doorbell;
use vfio_drivers::nvme::Command;
use vfio_drivers::nvme::Status;
use vfio_drivers::nvme::PAGE;
use vfio_drivers::random::Random;

use crate::case::cases;
use crate::case::Case;
use crate::check::holds;
use crate::check::refused;
use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::check::Stop;
use crate::kmsg::expect_line;
use crate::requirement::Requirement;
use crate::second_process;
use crate::subject::Subject;
use crate::target::Target;
use crate::v1::device::TestDevice;
use crate::v1::device::PATIENCE;
use crate::v1::nvme::disk::in_each_store;
use crate::v1::nvme::disk::Disk;
use crate::v1::nvme::disk::DEPTH;
use crate::v1::nvme::pinned::queue_pages;

const MIB: u64 = 1 << 20;
/// Where no memory is mapped.
const NOWHERE: u64 = 0x7f_ffff_f000;
/// Where further memory is mapped.
const ELSEWHERE: u64 = 0x40_0000_0000;

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::Nvme];

pub const CASES: &[Case] = cases![
    NEEDS;
    nvme_dma_that_fails_is_logged_and_counted,
    nvme_dma_no_access_after_an_unmap [Mdev],
    nvme_dma_unmap_while_it_works [Mdev],
    nvme_dma_unmap_of_the_queues,
    nvme_dma_read_only_memory_is_not_written [Mdev],
    nvme_dma_across_two_mappings [Mdev],
    nvme_dma_a_page_fault_ends_with_its_user,
    nvme_dma_dirty_pages_are_those_written [Mdev],
    nvme_dma_every_changed_page_is_dirty [Mdev],
    nvme_dma_nothing_is_dirty_while_stopped,
];

/// Returns a counter of the device from debugfs.
fn statistic(disk: &Disk, target: &Target, name: &str) -> Outcome<u64> {
    let (driver, uuid) = (target.kind.driver(), disk.device.subject.name());
    let path = format!("/sys/kernel/debug/{driver}-{uuid}/statistics");
    let text =
        fs::read_to_string(&path).map_err(|error| Stop::failed(format_args!("{path}: {error}")))?;
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines
        .find(|(found, _)| *found == name)
        .and_then(|(_, value)| value.parse().ok())
        .ok_or_else(|| Stop::failed(format_args!("expected {name} in {path}, seen {text:?}")))
}

fn nvme_dma_that_fails_is_logged_and_counted(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    disk.write(0, &content(0, 1))?;
    same("failures", statistic(&disk, target, "dma_failures")?, 0)?;
    let uuid = disk.device.subject.name().to_string();
    for (opcode, direction) in [(nvm::READ, "write"), (nvm::WRITE, "read")] {
        let words = format!("{direction} of {PAGE} bytes at IOVA {NOWHERE:#x}");
        let mut tries = 0;
        let before = statistic(&disk, target, "dma_failures")?;
        expect_line(&[target.kind.driver(), &uuid, "DMA", &words], || {
            tries += 1;
            let seen = disk.execute(opcode, 0, PAGE, NOWHERE)?;
            holds(
                seen.status != Status::SUCCESS,
                "expected a command that fails",
            )
        })?;
        let after = statistic(&disk, target, "dma_failures")?;
        same("failures by as many commands", after - before, tries)?;
    }
    // Driver and controller work.
    same_bytes("page", &disk.read(0, PAGE)?, &content(0, 1))
}

fn nvme_dma_no_access_after_an_unmap(target: &Target) -> Outcome {
    in_each_store(target, no_access_after_an_unmap)
}

fn no_access_after_an_unmap(_: &Target, mut disk: Disk) -> Outcome {
    let other = GuestMemory::new(ELSEWHERE, MIB as usize)?;
    disk.write(0, &content(0, 1))?;
    for round in 0..10 {
        other.attach(&disk.device.session.container)?;
        disk.expect(nvm::READ, 0, PAGE, ELSEWHERE, Status::SUCCESS)?;
        same_bytes("data", &other.bytes(ELSEWHERE, 4096), &content(0, 1))?;
        other.detach(&disk.device.session.container)?;
        let mark = content(round, 2);
        other.write(ELSEWHERE, &mark);
        disk.expect(nvm::READ, 0, PAGE, ELSEWHERE, Status::TRANSFER_ERROR)?;
        disk.expect(nvm::WRITE, PAGE, PAGE, ELSEWHERE, Status::TRANSFER_ERROR)?;
        same_bytes(
            "memory that was taken away",
            &other.bytes(ELSEWHERE, 4096),
            &mark,
        )?;
    }
    Ok(())
}

fn nvme_dma_unmap_while_it_works(target: &Target) -> Outcome {
    in_each_store(target, unmap_while_it_works)
}

fn unmap_while_it_works(target: &Target, mut disk: Disk) -> Outcome {
    const ROUNDS: u64 = 150;
    let other = GuestMemory::new(ELSEWHERE, MIB as usize)?;
    let data = Random::new(1).bytes(128 * 1024);
    disk.write(0, &data)?;
    let done = AtomicBool::new(false);
    let Disk { driver, device, .. } = &mut disk;
    let container = &device.session.container;
    let shift = target.shift();
    thread::scope(|scope| {
        let worker = scope.spawn(|| -> Outcome<(u64, u64)> {
            let (mut good, mut bad) = (0, 0);
            let list = driver.data(0);
            for i in 0..31 {
                let entry = ELSEWHERE + (i + 1) * PAGE;
                driver.memory().write(list + i * 8, &entry.to_le_bytes());
            }
            let command = Command::new(nvm::READ)
                .namespace(1)
                .prp(ELSEWHERE, list)
                .blocks(0, ((32 * PAGE) >> shift) as u32);
            while !done.load(Ordering::Relaxed) {
                for _ in 0..8 {
                    driver.submit(1, command)?;
                }
                for _ in 0..8 {
                    match driver.wait(1)?.status {
                        Status::SUCCESS => good += 1,
                        Status::TRANSFER_ERROR => bad += 1,
                        other => {
                            return Err(Stop::failed(format_args!(
                                "expected success or a transfer error, seen {other:?}"
                            )))
                        }
                    }
                }
            }
            Ok((good, bad))
        });
        let come_and_go = || -> Outcome {
            for round in 0..ROUNDS {
                other.attach(container)?;
                // The wait is for the first access, so that the unmap comes in the middle of the first
                // command, or of a later one.
                let start = std::time::Instant::now();
                let seen = ELSEWHERE + if round % 2 == 0 { 0 } else { 31 * PAGE };
                while other.read_u64(seen) == 0
                    && start.elapsed() < crate::v1::device::PATIENCE
                    && !worker.is_finished()
                {
                    thread::yield_now();
                }
                other.detach(container)?;
                let mark = [round as u8; 32 * PAGE as usize];
                other.write(ELSEWHERE, &mark);
                thread::yield_now();
                same_bytes(
                    format_args!("round {round}: memory that was taken away"),
                    &other.bytes(ELSEWHERE, mark.len()),
                    &mark,
                )?;
                other.write(ELSEWHERE, &[0; 32 * PAGE as usize]);
            }
            Ok(())
        };
        let came = come_and_go();
        done.store(true, Ordering::Relaxed);
        let (good, bad) = worker
            .join()
            .map_err(|_| Stop::failed("the working thread panicked"))??;
        came?;
        holds(
            good > 0 && bad > 0,
            format_args!("expected commands of both kinds, seen {good} good and {bad} failed"),
        )
    })?;
    disk.expect_recovers()
}

fn nvme_dma_unmap_of_the_queues(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    let memory = disk.memory().clone();
    for posted in [false, true] {
        if posted {
            let buffer = disk.driver.data(0);
            for i in 0..DEPTH as u64 - 1 {
                let command = disk.transfer(1, nvm::READ, i * PAGE, PAGE, buffer);
                disk.driver.post(1, command);
            }
            disk.driver.ring(1)?;
        }
        memory.detach(&disk.device.session.container)?;
        disk.driver.write(tail_doorbell(0), 1)?;
        let status = disk
            .driver
            .wait_status(nvme::CSTS_FATAL, nvme::CSTS_FATAL)?;
        same(
            "CFS once the queues are gone",
            status & nvme::CSTS_FATAL,
            nvme::CSTS_FATAL,
        )?;
        memory.attach(&disk.device.session.container)?;
        disk.expect_recovers()?;
    }
    Ok(())
}

fn nvme_dma_read_only_memory_is_not_written(target: &Target) -> Outcome {
    in_each_store(target, read_only_memory_is_not_written)
}

fn read_only_memory_is_not_written(_: &Target, mut disk: Disk) -> Outcome {
    disk.write(0, &content(0, 1))?;
    let mapping = Arc::new(Mapping::anonymous(MIB as usize).map_err(Stop::failed)?);
    mapping.write(0, &content(0, 7));
    let container = &disk.device.session.container;
    container.map_for(ELSEWHERE, &mapping, Access::ReadOnly)?;
    disk.expect(nvm::READ, 0, PAGE, ELSEWHERE, Status::TRANSFER_ERROR)?;
    let mut seen = [0; 4096];
    mapping.read(0, &mut seen);
    same_bytes("memory that may only be read", &seen, &content(0, 7))?;
    disk.expect(nvm::WRITE, PAGE, PAGE, ELSEWHERE, Status::SUCCESS)?;
    same_bytes("data", &disk.read(PAGE, PAGE)?, &content(0, 7))
}

fn nvme_dma_across_two_mappings(target: &Target) -> Outcome {
    in_each_store(target, across_two_mappings)
}

fn across_two_mappings(_: &Target, mut disk: Disk) -> Outcome {
    let first = GuestMemory::new(ELSEWHERE, MIB as usize)?;
    let second = GuestMemory::new(ELSEWHERE + MIB, MIB as usize)?;
    let container = &disk.device.session.container;
    first.attach(container)?;
    second.attach(container)?;
    let bytes = Random::new(6).bytes(8 * PAGE as usize);
    disk.write(0, &bytes)?;
    let at = ELSEWHERE + MIB - 3 * PAGE - 512;
    disk.expect(nvm::READ, 0, 8 * PAGE, at, Status::SUCCESS)?;
    let before = 3 * PAGE as usize + 512;
    same_bytes("first part", &first.bytes(at, before), &bytes[..before])?;
    same_bytes(
        "second part",
        &second.bytes(ELSEWHERE + MIB, bytes.len() - before),
        &bytes[before..],
    )?;
    // A command fails as a whole if half of its memory is unmapped.
    second.detach(&disk.device.session.container)?;
    disk.expect(nvm::READ, 0, 8 * PAGE, at, Status::TRANSFER_ERROR)
}

/// Reads and clears the dirty bitmap of the guest's memory.
#[track_caller]
fn dirty(disk: &Disk) -> Outcome<BTreeSet<u64>> {
    let memory = disk.memory();
    let dirty = disk
        .device
        .session
        .container
        .take_dirty(memory.start(), memory.size())?;
    Ok(dirty.pages().into_iter().collect())
}

fn nvme_dma_dirty_pages_are_those_written(target: &Target) -> Outcome {
    in_each_store(target, dirty_pages_are_those_written)
}

fn dirty_pages_are_those_written(_: &Target, mut disk: Disk) -> Outcome {
    disk.write(0, &Random::new(2).bytes(16 * PAGE as usize))?;
    disk.device.session.container.start_logging()?;
    dirty(&disk)?;
    // A container takes a page for written as long as it is pinned, as those of the queues are.
    let queues = queue_pages(&disk.driver);
    same("pages of queues", queues.len(), 4)?;
    same(
        "dirty pages without any work",
        dirty(&disk)?,
        queues.clone(),
    )?;
    let buffer = disk.driver.data(MIB);

    disk.expect(nvm::READ, 0, 5 * PAGE, buffer + 512, Status::SUCCESS)?;
    let mut expected: BTreeSet<u64> = (0..6).map(|i| buffer + i * PAGE).collect();
    expected.extend(&queues);
    same(
        "dirty pages after a read of 5 pages",
        dirty(&disk)?,
        expected.clone(),
    )?;
    same("dirty pages a second time", dirty(&disk)?, queues.clone())?;

    disk.expect(nvm::WRITE, 0, 5 * PAGE, buffer, Status::SUCCESS)?;
    same("dirty pages after a write", dirty(&disk)?, queues.clone())?;

    disk.driver.identify(1, 0)?;
    expected = queues;
    expected.insert(disk.driver.data(0));
    same("dirty pages after an identify", dirty(&disk)?, expected)?;

    disk.device.session.container.stop_logging()?;
    let memory = disk.memory();
    refused(
        "dirty pages without logging",
        disk.device
            .session
            .container
            .take_dirty(memory.start(), memory.size()),
        Errno::INVAL,
    )
}

fn nvme_dma_every_changed_page_is_dirty(target: &Target) -> Outcome {
    in_each_store(target, every_changed_page_is_dirty)
}

fn every_changed_page_is_dirty(_: &Target, mut disk: Disk) -> Outcome {
    let mut random = Random::new(77);
    disk.write(0, &random.bytes(MIB as usize))?;
    disk.device.session.container.start_logging()?;
    dirty(&disk)?;
    let memory = disk.memory().clone();
    let size = memory.size() as usize;
    for round in 0..30 {
        let before = memory.bytes(memory.start(), size);
        let mut ours = BTreeSet::new();
        for _ in 0..1 + random.below(8) {
            let len = (1 + random.below(20) as u64) * disk.block();
            let place = random.below(64) as u64 * disk.block();
            let at = disk
                .driver
                .data(MIB / 2 + random.below(0x8_0000) as u64 * 4);
            disk.expect(nvm::READ, place, len, at, Status::SUCCESS)?;
            // The driver's own writes are not the device's: submissions and lists.
            let pair = disk.driver.pair(1).submissions;
            ours.extend((0..6).map(|i| pair + i * PAGE));
            if random.below(4) == 0 {
                let command = Command::new(admin::IDENTIFY)
                    .prp(disk.driver.data(0), 0)
                    .word(10, 1);
                disk.driver.succeed(0, command)?;
                ours.insert(disk.driver.pair(0).submissions);
            }
        }
        let dirty = dirty(&disk)?;
        let after = memory.bytes(memory.start(), size);
        for (i, (old, new)) in before.chunks(4096).zip(after.chunks(4096)).enumerate() {
            let page = memory.start() + i as u64 * PAGE;
            let is_ours = ours.contains(&page) && page != disk.driver.pair(1).completions;
            holds(
                old == new || dirty.contains(&page) || is_ours,
                format_args!("round {round}: page {page:#x} was written and is not dirty"),
            )?;
        }
    }
    Ok(())
}

fn nvme_dma_nothing_is_dirty_while_stopped(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    disk.device.session.container.start_logging()?;
    for state in [State::STOP, State::STOP_COPY] {
        let buffer = disk.driver.data(0);
        for i in 0..DEPTH as u64 - 1 {
            let command = disk.transfer(1, nvm::READ, i * 16 * PAGE, 16 * PAGE, buffer);
            disk.driver.post(1, command);
        }
        disk.driver.ring(1)?;
        disk.device.set(state)?;
        dirty(&disk)?;
        // The bitmap that is read after the stop is complete.
        let memory = disk.memory().clone();
        let before = memory.bytes(memory.start(), memory.size() as usize);
        disk.driver.ring(1)?;
        disk.driver.write(tail_doorbell(0), 1)?;
        disk.device.migration.drain()?;
        same("dirty pages once stopped", dirty(&disk)?, BTreeSet::new())?;
        same_bytes(
            "memory once stopped",
            &memory.bytes(memory.start(), before.len()),
            &before,
        )?;
        disk.device.set(State::RUNNING)?;
        disk.start(DEPTH)?;
    }
    Ok(())
}

/// The word that a process prints once it [`stall`]s a device.
pub const STALLED: &str = "stalled";
/// How a process ends that [`stall`]s a device, and whether it is killed: it exits; closes the device; unmasks
/// an interrupt, looks at a register or resets the device first, which do not wait; or is killed while it waits for the
/// device or for the core.
const ENDS: [(&str, bool); 7] = [
    ("exit", false),
    ("close", false),
    ("unmask", false),
    ("access", false),
    ("reset", false),
    ("stop", true),
    ("unmap", true),
];

fn nvme_dma_a_page_fault_ends_with_its_user(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    for (end, killed) in ENDS {
        // The driver has the device open as well.
        let Disk { driver, device, .. } = disk;
        drop(driver);
        let mdev = device.close();
        let mut child =
            second_process::start(&["--stall", mdev.name(), end], Stdio::null(), STALLED)?;
        if killed {
            await_blocked(&child)?;
            child.kill().map_err(Stop::failed)?;
        }
        if !ends_soon(&child)? {
            // The removal would wait, too.
            let _ = mdev.keep();
            return Err(Stop::failed(format_args!(
                "{end}: the process is still there after {PATIENCE:?}"
            )));
        }
        child.wait().map_err(Stop::failed)?;
        disk = Disk::open(target, mdev)?;
        disk.expect_recovers()?;
    }
    Ok(())
}

/// Waits until a process waits in a system call.
fn await_blocked(child: &Child) -> Outcome {
    let path = format!("/proc/{}/syscall", child.id());
    let start = Instant::now();
    while fs::read_to_string(&path).map_err(Stop::failed)?.trim() == "running" {
        holds(
            start.elapsed() < PATIENCE,
            "the process has waited for nothing yet",
        )?;
        thread::yield_now();
    }
    Ok(())
}

/// Waits until the process ends, and returns whether it has.
fn ends_soon(child: &Child) -> Result<bool, Stop> {
    let pid = Pid::from_child(child);
    let handle = pidfd_open(pid, PidfdFlags::empty()).map_err(Stop::failed)?;
    let timeout = Timespec::try_from(PATIENCE).map_err(Stop::failed)?;
    let ended = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&timeout));
    Ok(ended.map_err(Stop::failed)? > 0)
}

/// Has a device wait for a page that never comes, and ends as `end` says: a VMM whose thread for page faults
/// is gone first.
///
/// # Errors
///
/// What the kernel answers.
pub fn stall(uuid: &str, end: &str) -> Outcome {
    // Opened before the device, so that an exit closes it after the device.
    let faults = PageFaults::new().map_err(Stop::failed)?;
    let device = TestDevice::open(Subject::existing(uuid)?)?;
    let event = EventFd::new()?;
    device.vfio().set_trigger(Index::Intx, Some(&event))?;
    let slow = Arc::new(Mapping::anonymous(MIB as usize).map_err(Stop::failed)?);
    faults.of(&slow).map_err(Stop::failed)?;
    device.session.container.map(ELSEWHERE, &slow)?;
    let mut driver = nvme::Controller::new(device.vfio(), device.memory()?)?;
    driver.restart(DEPTH)?;
    let queue = driver.create_pair(DEPTH, None)?;
    let command = Command::new(nvm::WRITE)
        .namespace(1)
        .prp(ELSEWHERE, 0)
        .blocks(0, 1);
    driver.submit(queue, command)?;
    let mut ready = [PollFd::new(&faults, PollFlags::IN)];
    poll(&mut ready, None).map_err(Stop::failed)?;
    println!("{STALLED}");
    match end {
        "exit" => process::exit(0),
        "unmask" => device.vfio().unmask(Index::Intx)?,
        "access" => driver.status().map(drop)?,
        "reset" => device.vfio().reset()?,
        "stop" => device.set(State::STOP)?,
        "unmap" => device.session.container.unmap(ELSEWHERE, MIB).map(drop)?,
        _ => {}
    }
    drop(driver);
    drop(device);
    drop(faults);
    Ok(())
}
