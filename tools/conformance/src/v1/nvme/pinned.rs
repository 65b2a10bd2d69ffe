// SPDX-License-Identifier: GPL-2.0

//! The pages of a controller's queues stay pinned while it works, and no longer.

use core::sync::atomic::AtomicBool;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use rustix::process::getrlimit;
use rustix::process::setrlimit;
use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::thread::capabilities;
use rustix::thread::set_capabilities;
use rustix::thread::CapabilitySet;
use vfio_bindings::bindings::vfio;
use vfio_client::v1::State;
use vfio_client::AddressSpace;
use vfio_client::Mapping;
use vfio_client::Region;
use vfio_drivers::nvme;
use vfio_drivers::nvme::content;
use vfio_drivers::nvme::nvm;
use vfio_drivers::nvme::tail_doorbell;
use vfio_drivers::nvme::Command;
use vfio_drivers::nvme::Controller;
use vfio_drivers::nvme::PAGE;

use crate::case::cases;
use crate::case::Case;
use crate::check::holds;
use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::check::Stop;
use crate::pins::of_machine;
use crate::pins::pinned;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::device::PATIENCE;
use crate::v1::nvme::config::capability;
use crate::v1::nvme::config::DEVICE_CONTROL;
use crate::v1::nvme::config::EXPRESS;
use crate::v1::nvme::disk::Disk;
use crate::v1::nvme::disk::DEPTH;
use crate::v1::nvme::migration::Shadow;

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::Nvme];

pub const CASES: &[Case] = cases![
    NEEDS;
    nvme_pinned_are_the_queues_alone,
    nvme_pinned_is_nothing_once_the_device_is_stopped,
    nvme_pinned_is_nothing_once_the_device_is_reset,
    nvme_pinned_is_nothing_once_the_device_is_closed,
    nvme_pinned_queues_are_unmapped_while_they_are_used,
    nvme_pinned_queues_are_replaced_by_other_memory,
    nvme_pinned_is_nothing_beyond_the_limit_of_locked_memory,
];

const MIB: u64 = 1 << 20;
/// KiB of a page.
const KIB: u64 = PAGE / 1024;
/// Offset of the command register in configuration space.
const COMMAND: u64 = 0x04;
/// Bytes of a completion.
const COMPLETION_SIZE: usize = 16;
const MEMORY: u16 = 0x0002;
const MEMORY_AND_MASTER: u16 = 0x0006;

/// The pages of the queues.
pub fn queue_pages(driver: &Controller) -> BTreeSet<u64> {
    let pairs = [0, 1].map(|queue| driver.pair(queue));
    pairs
        .into_iter()
        .flat_map(|pair| [pair.submissions, pair.completions])
        .collect()
}

/// Has the controller use all of its queues, and checks that their pages are pinned.
#[track_caller]
fn expect_pinned(disk: &mut Disk, target: &Target) -> Outcome {
    disk.driver.identify(1, 0)?;
    disk.write(0, &content(0, 1))?;
    let pages = queue_pages(&disk.driver).len() as u64;
    same("pinned KiB with queues", pinned(target)?, pages * KIB)
}

#[track_caller]
fn expect_nothing_pinned(what: &str, target: &Target) -> Outcome {
    same(format_args!("pinned KiB {what}"), pinned(target)?, 0)
}

fn nvme_pinned_are_the_queues_alone(target: &Target) -> Outcome {
    expect_nothing_pinned("before the device is opened", target)?;
    let mut disk = Disk::new(target)?;
    expect_pinned(&mut disk, target)?;
    same("pages of queues", queue_pages(&disk.driver).len(), 4)?;
    for round in 0..4 {
        let place = round * MIB;
        disk.write(place, &content(round, 1).repeat(32))?;
        disk.read(place, 32 * PAGE)?;
        same("pinned KiB after transfers", pinned(target)?, 4 * KIB)?;
    }
    Shadow::configure(&mut disk)?.work(&mut disk, 3)?;
    same("pinned KiB with shadow doorbells", pinned(target)?, 6 * KIB)
}

fn nvme_pinned_is_nothing_once_the_device_is_stopped(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    for state in [State::STOP, State::STOP_COPY] {
        expect_pinned(&mut disk, target)?;
        disk.device.set(State::PRE_COPY)?;
        expect_pinned(&mut disk, target)?;
        disk.device.set(state)?;
        expect_nothing_pinned("once stopped", target)?;
        disk.device.set(State::RUNNING)?;
    }
    expect_pinned(&mut disk, target)
}

fn config(disk: &Disk) -> Outcome<Region> {
    Ok(disk
        .device
        .vfio()
        .region(vfio::VFIO_PCI_CONFIG_REGION_INDEX)?)
}

/// Asks for a function-level reset by the PCI Express capability.
fn reset_function(disk: &Disk) -> Outcome {
    const INITIATE: u16 = 0x8000;
    let config = config(disk)?;
    let express = capability(&config, EXPRESS)?;
    Ok(config.write(express + DEVICE_CONTROL, &INITIATE.to_le_bytes())?)
}

fn nvme_pinned_is_nothing_once_the_device_is_reset(target: &Target) -> Outcome {
    type Reset = fn(&mut Disk) -> Outcome;
    let resets: [(&str, Reset); 4] = [
        ("after a reset of the controller", |disk| {
            Ok(disk.driver.disable()?)
        }),
        ("after a reset of the device", |disk| {
            Ok(disk.device.vfio().reset()?)
        }),
        ("after a reset of the function", |disk| reset_function(disk)),
        ("without bus mastering", |disk| {
            Ok(config(disk)?.write(COMMAND, &MEMORY.to_le_bytes())?)
        }),
    ];
    let mut disk = Disk::new(target)?;
    for (what, reset) in resets {
        expect_pinned(&mut disk, target)?;
        reset(&mut disk)?;
        expect_nothing_pinned(what, target)?;
        config(&disk)?.write(COMMAND, &MEMORY_AND_MASTER.to_le_bytes())?;
        disk.expect_recovers()?;
    }
    Ok(())
}

fn nvme_pinned_is_nothing_once_the_device_is_closed(target: &Target) -> Outcome {
    let before = of_machine()?;
    for round in 0..8 {
        let mut disk = Disk::new(target)?;
        expect_pinned(&mut disk, target)?;
        let during = of_machine()?;
        holds(
            during >= before + 4,
            format_args!("round {round}: expected 4 pins more than {before}, seen {during}"),
        )?;
        // The device is busy as it is closed.
        let buffer = disk.driver.data(0);
        for i in 0..DEPTH as u64 - 1 {
            let command = disk.transfer(1, nvm::READ, i * 16 * PAGE, 16 * PAGE, buffer);
            disk.driver.post(1, command);
        }
        disk.driver.ring(1)?;
        drop(disk);
        expect_nothing_pinned("once closed", target)?;
        same("pins of the machine once closed", of_machine()?, before)?;
    }
    Ok(())
}

fn nvme_pinned_queues_are_unmapped_while_they_are_used(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    for round in 0..40 {
        expect_pinned(&mut disk, target)?;
        unmap_while_used(&mut disk.driver, &disk.device.session.container, 1 + round)?;
        expect_nothing_pinned("once unmapped", target)?;
        expect_fatal(&mut disk.driver)?;
        disk.memory().attach(&disk.device.session.container)?;
        disk.expect_recovers()?;
    }
    Ok(())
}

/// Unmaps the memory of a driver once queue 1 has completed some commands, while it completes more.
#[track_caller]
pub fn unmap_while_used(
    driver: &mut Controller,
    space: &dyn AddressSpace,
    completions: u64,
) -> Outcome {
    let memory = driver.memory().clone();
    let (completed, done) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let guest = scope.spawn(|| keep_busy(driver, &completed, &done));
        let start = Instant::now();
        while completed.load(Ordering::Relaxed) < completions
            && start.elapsed() < PATIENCE
            && !guest.is_finished()
        {
            thread::yield_now();
        }
        let unmapped = memory.detach(space);
        done.store(true, Ordering::Relaxed);
        let kept_busy = guest.join();
        unmapped?;
        kept_busy.map_err(|_| Stop::failed("the guest's thread panicked"))?
    })?;
    let completed = completed.into_inner();
    holds(
        completed >= completions,
        format_args!("expected {completions} completions before the unmap, seen {completed}"),
    )
}

/// Checks that a controller whose queues are unmapped fails, and leaves the memory alone.
#[track_caller]
pub fn expect_fatal(driver: &mut Controller) -> Outcome {
    let memory = driver.memory().clone();
    let before = memory.bytes(memory.start(), memory.size() as usize);
    driver.write(tail_doorbell(0), 1)?;
    let status = driver.wait_status(nvme::CSTS_FATAL, nvme::CSTS_FATAL)?;
    same(
        "CFS once the queues are gone",
        status & nvme::CSTS_FATAL,
        nvme::CSTS_FATAL,
    )?;
    same_bytes(
        "memory that was taken away",
        &memory.bytes(memory.start(), before.len()),
        &before,
    )
}

/// Has the controller execute commands until `done`.
fn keep_busy(driver: &mut Controller, completed: &AtomicU64, done: &AtomicBool) -> Outcome {
    let command = Command::new(nvm::FLUSH).namespace(1);
    while !done.load(Ordering::Relaxed) {
        for _ in 0..8 {
            driver.post(1, command);
        }
        driver.ring(1)?;
        let mut left = 8;
        while left > 0 && !done.load(Ordering::Relaxed) {
            if driver.take_quietly(1).is_some() {
                left -= 1;
                completed.fetch_add(1, Ordering::Relaxed);
            } else {
                thread::yield_now();
            }
        }
        driver.acknowledge(1)?;
    }
    Ok(())
}

fn nvme_pinned_queues_are_replaced_by_other_memory(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    expect_pinned(&mut disk, target)?;
    let memory = disk.memory().clone();
    let (start, size) = (memory.start(), memory.size() as usize);
    let other = Arc::new(Mapping::anonymous(size).map_err(Stop::failed)?);
    let read = |address: u64, len: usize| {
        let mut bytes = vec![0; len];
        other.read((address - start) as usize, &mut bytes);
        bytes
    };
    // A command that is only in the other memory: the device finds it there, or none.
    let pair = disk.driver.pair(1);
    let slot = pair.submissions + u64::from(pair.tail) * Command::SIZE as u64;
    let completion = pair.completions + u64::from(pair.head) * COMPLETION_SIZE as u64;
    let buffer = disk.driver.data(MIB);
    let former = memory.bytes(slot, Command::SIZE);
    let command = disk.transfer(1, nvm::READ, 0, PAGE, buffer);
    disk.driver.post(1, command);
    other.write(0, &memory.bytes(start, size));
    memory.write(slot, &former);
    let before = memory.bytes(start, size);

    let container = &disk.device.session.container;
    memory.detach(container)?;
    container.map(start, &other)?;
    disk.driver.ring(1)?;
    let waited = Instant::now();
    while read(completion, COMPLETION_SIZE) == memory.bytes(completion, COMPLETION_SIZE) {
        holds(
            waited.elapsed() < PATIENCE,
            "expected a completion in the memory that is mapped, seen none",
        )?;
        thread::yield_now();
    }
    same_bytes("data", &read(buffer, PAGE as usize), &content(0, 1))?;
    same("pinned KiB", pinned(target)?, 2 * KIB)?;
    same_bytes(
        "memory that was taken away",
        &memory.bytes(start, size),
        &before,
    )?;
    container.unmap(start, size as u64)?;
    memory.attach(&disk.device.session.container)?;
    disk.expect_recovers()
}

/// Maps memory as somebody who may lock no memory.
#[track_caller]
fn attach_without_privilege(disk: &Disk) -> Outcome {
    thread::scope(|scope| {
        // Capabilities are a thread's own.
        let mapping = scope.spawn(|| -> Outcome {
            let mut sets = capabilities(None).map_err(Stop::failed)?;
            sets.effective.remove(CapabilitySet::IPC_LOCK);
            set_capabilities(None, sets).map_err(Stop::failed)?;
            Ok(disk.memory().attach(&disk.device.session.container)?)
        });
        mapping
            .join()
            .map_err(|_| Stop::failed("the mapping thread panicked"))?
    })
}

fn nvme_pinned_is_nothing_beyond_the_limit_of_locked_memory(target: &Target) -> Outcome {
    let limit = getrlimit(Resource::Memlock);
    let mut disk = Disk::new(target)?;
    disk.memory().detach(&disk.device.session.container)?;
    attach_without_privilege(&disk)?;
    for (pages, pinned_pages) in [(0, 0), (3, 3), (4, 4)] {
        let lowered = Rlimit {
            current: Some(pages * PAGE),
            ..limit
        };
        setrlimit(Resource::Memlock, lowered).map_err(Stop::failed)?;
        let seen = disk
            .expect_recovers()
            .and_then(|()| disk.read(5 * PAGE, 8 * PAGE))
            .and_then(|_| pinned(target));
        setrlimit(Resource::Memlock, limit).map_err(Stop::failed)?;
        same(
            format_args!("pinned KiB with a limit of {pages} pages"),
            seen?,
            pinned_pages * KIB,
        )?;
    }
    Ok(())
}
