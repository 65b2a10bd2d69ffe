// SPDX-License-Identifier: GPL-2.0

//! Completions that a controller announces together.

use std::thread;
use std::time::Instant;

use vfio_client::v1::State;
use vfio_drivers::nvme::feature;
use vfio_drivers::nvme::nvm;
use vfio_drivers::nvme::PAGE;

use crate::case::cases;
use crate::case::Case;
use crate::check::holds;
use crate::check::Outcome;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::device::PATIENCE;
use crate::v1::nvme::disk::Disk;
use crate::v1::nvme::irq::connected;

const NEEDS: &[Requirement] = &[
    Requirement::V1,
    Requirement::Nvme,
    Requirement::Mdev,
    Requirement::Msix,
];

pub const CASES: &[Case] = cases![
    NEEDS;
    nvme_coalescing_announces_a_completion_when_the_time_is_over,
    nvme_coalescing_announces_all_before_a_stop,
    nvme_coalescing_ends_with_a_close,
];

/// 256 completions, or 25.5 ms.
const MOST: u32 = 0xffff;

/// A controller that announces completions as late as it can.
#[track_caller]
fn late(target: &Target) -> Outcome<Disk> {
    let mut disk = connected(target, 1)?;
    disk.driver.set_feature(feature::COALESCING, MOST)?;
    Ok(disk)
}

/// Has a page read, and looks at the memory until its completion is there: the interrupt is left to the test.
#[track_caller]
fn read(disk: &mut Disk) -> Outcome {
    let buffer = disk.driver.data(0);
    let command = disk.transfer(1, nvm::READ, 0, PAGE, buffer);
    disk.driver.submit(1, command)?;
    let start = Instant::now();
    while disk.driver.peek(1).is_none() {
        holds(start.elapsed() < PATIENCE, "no completion")?;
        thread::yield_now();
    }
    Ok(())
}

fn nvme_coalescing_announces_a_completion_when_the_time_is_over(target: &Target) -> Outcome {
    let mut disk = late(target)?;
    for _ in 0..10 {
        read(&mut disk)?;
        let signals = disk.driver.event(1).wait(PATIENCE)?;
        holds(
            signals >= 1,
            format_args!("no interrupt of a completion within {PATIENCE:?}"),
        )?;
        disk.driver.take(1)?;
    }
    Ok(())
}

fn nvme_coalescing_announces_all_before_a_stop(target: &Target) -> Outcome {
    let mut disk = late(target)?;
    for _ in 0..10 {
        read(&mut disk)?;
        disk.device.set(State::STOP)?;
        let signals = disk.driver.event(1).take()?;
        holds(signals >= 1, "no interrupt of a completion before the stop")?;
        disk.device.set(State::RUNNING)?;
        // The start may announce once more what was not consumed.
        disk.driver.take(1)?;
        disk.device.set(State::STOP)?;
        disk.driver.event(1).take()?;
        disk.device.set(State::RUNNING)?;
    }
    Ok(())
}

/// The time is not over when the device is gone.
fn nvme_coalescing_ends_with_a_close(target: &Target) -> Outcome {
    for _ in 0..10 {
        read(&mut late(target)?)?;
    }
    Ok(())
}
