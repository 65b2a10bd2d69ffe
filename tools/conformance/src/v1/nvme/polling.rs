// SPDX-License-Identifier: GPL-2.0

//! A worker that looks at the shadow doorbells for a while, so that a guest with few commands at a time need not ring.

use std::fs;
use std::thread;
use std::time::Instant;

use vfio_client::v1::State;
use vfio_drivers::nvme::nvm;
use vfio_drivers::nvme::Status;
use vfio_drivers::nvme::PAGE;

use crate::case::cases;
use crate::case::Case;
use crate::check::holds;
use crate::check::same;
use crate::check::Outcome;
use crate::check::Stop;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::device::PATIENCE;
use crate::v1::nvme::disk::Disk;
use crate::v1::nvme::disk::POLL;
use crate::v1::nvme::migration::Shadow;

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::Nvme];

pub const CASES: &[Case] = cases![
    NEEDS;
    nvme_polling_takes_commands_that_nobody_rings_for [Mdev],
    nvme_polling_is_off_by_default [Mdev],
    nvme_polling_ends [Mdev],
    nvme_polling_does_not_outlast_a_stop [Mdev],
];

/// The longest time of polling, in microseconds.
const LONGEST: &str = "100000";

/// Posts a command, and moves the shadow doorbell without a write to the device.
fn post(disk: &mut Disk, shadow: &Shadow) {
    let buffer = disk.driver.data(0);
    let command = disk.transfer(1, nvm::READ, 0, PAGE, buffer);
    disk.driver.post(1, command);
    let tail = disk.driver.pair(1).tail;
    shadow.set(disk, 1, false, tail);
}

/// Waits for a completion, and takes it without a write to the device.
#[track_caller]
fn take(disk: &mut Disk, shadow: &Shadow) -> Outcome {
    disk.driver.await_completion(1)?;
    let seen = disk.driver.take_quietly(1);
    same(
        "status",
        seen.map(|completion| completion.status),
        Some(Status::SUCCESS),
    )?;
    let head = disk.driver.pair(1).head;
    shadow.set(disk, 1, true, head);
    Ok(())
}

/// Executes a command that the device is told of.
#[track_caller]
fn execute(disk: &mut Disk, shadow: &Shadow) -> Outcome {
    post(disk, shadow);
    disk.driver.ring(1)?;
    take(disk, shadow)
}

/// Waits until the worker, a thread of this process, sleeps for want of work.
#[track_caller]
fn await_sleep() -> Outcome {
    let start = Instant::now();
    loop {
        let mut states = Vec::new();
        for thread in fs::read_dir("/proc/self/task").map_err(Stop::failed)? {
            let path = thread.map_err(Stop::failed)?.path().join("stat");
            // Other threads may end meanwhile.
            let stat = fs::read_to_string(path).unwrap_or_default();
            if let Some((_, rest)) = stat.split_once("(ferry) ") {
                states.extend(rest.chars().next());
            }
        }
        if states == ['S'] {
            return Ok(());
        }
        holds(
            start.elapsed() < PATIENCE,
            format_args!("expected one worker that sleeps, seen workers in the states {states:?}"),
        )?;
        thread::yield_now();
    }
}

/// Checks that nobody takes a command that is in the shadow doorbell.
#[track_caller]
fn expect_untaken(disk: &Disk) -> Outcome {
    // A worker that looks would have the time for it meanwhile.
    for _ in 0..50 {
        disk.driver.status()?;
    }
    same("a completion", disk.driver.peek(1).is_some(), false)
}

fn nvme_polling_takes_commands_that_nobody_rings_for(target: &Target) -> Outcome {
    const ROUNDS: usize = 50;
    let mut disk = Disk::with(target, &[(POLL, LONGEST)])?;
    let shadow = Shadow::configure(&mut disk)?;
    for _ in 0..ROUNDS {
        execute(&mut disk, &shadow)?;
        post(&mut disk, &shadow);
        let start = Instant::now();
        let tail = disk.driver.pair(1).tail;
        loop {
            if disk.driver.peek(1).is_some() {
                return take(&mut disk, &shadow);
            }
            // A slow machine: the worker has gone to sleep before the command was there.
            if shadow.event(&disk, 1, false) == tail - 1 {
                disk.driver.ring(1)?;
                take(&mut disk, &shadow)?;
                break;
            }
            holds(
                start.elapsed() < PATIENCE,
                "expected a completion, or a device that wants to be told of the command",
            )?;
            thread::yield_now();
        }
    }
    Err(Stop::failed(format_args!(
        "expected a command of {ROUNDS} that the worker finds by itself, seen none"
    )))
}

fn nvme_polling_is_off_by_default(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    same(POLL, disk.device.subject.attribute(POLL)?, "0".to_string())?;
    let shadow = Shadow::configure(&mut disk)?;
    for _ in 0..10 {
        execute(&mut disk, &shadow)?;
        await_sleep()?;
        post(&mut disk, &shadow);
        expect_untaken(&disk)?;
        disk.driver.ring(1)?;
        take(&mut disk, &shadow)?;
    }
    Ok(())
}

fn nvme_polling_ends(target: &Target) -> Outcome {
    let mut disk = Disk::with(target, &[(POLL, LONGEST)])?;
    let shadow = Shadow::configure(&mut disk)?;
    for _ in 0..3 {
        execute(&mut disk, &shadow)?;
        await_sleep()?;
        // The guest is asked for a write of the register before that.
        let tail = disk.driver.pair(1).tail;
        same("event index", shadow.event(&disk, 1, false), tail)?;
        post(&mut disk, &shadow);
        expect_untaken(&disk)?;
        disk.driver.ring(1)?;
        take(&mut disk, &shadow)?;
    }
    Ok(())
}

fn nvme_polling_does_not_outlast_a_stop(target: &Target) -> Outcome {
    let mut disk = Disk::with(target, &[(POLL, LONGEST)])?;
    let shadow = Shadow::configure(&mut disk)?;
    for _ in 0..10 {
        execute(&mut disk, &shadow)?;
        disk.device.set(State::STOP_COPY)?;
        post(&mut disk, &shadow);
        expect_untaken(&disk)?;
        disk.device.set(State::RUNNING)?;
        take(&mut disk, &shadow)?;
    }
    Ok(())
}
