// SPDX-License-Identifier: GPL-2.0

//! The host is suspended while a controller works.

use std::fs;
use std::path::Path;

use vfio_drivers::nvme::nvm;
use vfio_drivers::nvme::tail_doorbell;

use crate::case::cases;
use crate::case::Case;
use crate::check::holds;
use crate::check::Outcome;
use crate::check::Stop;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::log::tracefs;
use crate::v1::nvme::disk::Disk;
use crate::v1::nvme::disk::MOST;

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::Nvme];

pub const CASES: &[Case] = cases![
    NEEDS;
    nvme_suspend_nothing_is_executed_while_frozen,
];

/// The phase at which the suspend ends: all tasks are frozen.
const PM_TEST: &str = "/sys/power/pm_test";
/// How long the tasks stay frozen, in seconds.
const PM_TEST_DELAY: &str = "/sys/module/suspend/parameters/pm_test_delay";
const PM_STATE: &str = "/sys/power/state";
/// Entries of each queue, and how many queues.
const DEPTH: u16 = 256;
const PAIRS: u16 = 16;

fn write(path: impl AsRef<Path>, text: &str) -> Outcome {
    let path = path.as_ref();
    fs::write(path, text).map_err(|error| Stop::failed(format_args!("{}: {error}", path.display())))
}

/// Freezes all tasks for a second, as a suspend and a hibernation do at first.
fn freeze() -> Outcome {
    write(PM_TEST, "freezer")?;
    write(PM_TEST_DELAY, "1")?;
    let frozen = write(PM_STATE, "freeze");
    write(PM_TEST, "none")?;
    frozen
}

fn nvme_suspend_nothing_is_executed_while_frozen(target: &Target) -> Outcome {
    if !Path::new(PM_TEST).exists() {
        return Err(Stop::Skipped(
            "this kernel cannot test a suspend (CONFIG_PM_DEBUG)".into(),
        ));
    }
    let root = tracefs()?;
    let events = [
        root.join("events/power/suspend_resume/enable"),
        root.join("events/sched/sched_switch/enable"),
    ];
    let mut disk = Disk::new(target)?;
    disk.driver.restart(DEPTH)?;
    // The largest reads, in full queues: more than is done before the freeze.
    for queue in 1..=PAIRS {
        disk.driver.create_pair(DEPTH, None)?;
        let buffer = disk.driver.data(0);
        let command = disk.transfer(queue, nvm::READ, 0, MOST, buffer);
        for _ in 1..DEPTH {
            disk.driver.post(queue, command);
        }
    }
    write(root.join("trace"), "")?;
    for event in &events {
        write(event, "1")?;
    }
    let rung = (1..=PAIRS).try_for_each(|queue| {
        let tail = u32::from(DEPTH - 1);
        disk.driver.write(tail_doorbell(queue), tail)
    });
    let frozen = freeze();
    for event in &events {
        write(event, "0")?;
    }
    let trace = fs::read_to_string(root.join("trace")).map_err(Stop::failed);
    disk.driver.disable()?;
    rung?;
    frozen?;

    let trace = trace?;
    let (before, rest) = trace
        .split_once("freeze_processes[0] end")
        .ok_or_else(|| Stop::failed(format_args!("expected a freeze, seen {trace}")))?;
    let (during, after) = rest
        .split_once("thaw_processes[0] begin")
        .ok_or_else(|| Stop::failed(format_args!("expected a thaw, seen {trace}")))?;
    let works = |part: &str| {
        let lines = part.lines().filter(|line| line.contains("sched_switch"));
        lines
            .filter(|line| line.contains("next_comm=ferry "))
            .count()
    };
    holds(
        works(during) == 0,
        format_args!("expected no work of a frozen controller, seen {during}"),
    )?;
    holds(
        works(before) > 0 && works(after) > 0,
        format_args!(
            "expected work before and after the freeze, seen {} and {}",
            works(before),
            works(after)
        ),
    )
}
