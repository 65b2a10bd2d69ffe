// SPDX-License-Identifier: GPL-2.0

//! The pages of user memory that the kernel has pinned.

use std::fs;

use crate::check::Outcome;
use crate::check::Stop;
use crate::target::Target;
use vfio_client::Backend;

/// Returns a value that follows `name` in a file of lines.
#[track_caller]
fn value(path: &str, name: &str) -> Outcome<u64> {
    let text =
        fs::read_to_string(path).map_err(|error| Stop::failed(format_args!("{path}: {error}")))?;
    text.lines()
        .find_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some(name)).then(|| words.next()?.parse().ok())?
        })
        .ok_or_else(|| Stop::failed(format_args!("expected {name} in {path}, seen none")))
}

/// Returns how many KiB of this process devices have pinned, as it is accounted for the address spaces of a target: a
/// container locks the memory.
#[track_caller]
pub fn pinned(target: &Target) -> Outcome<u64> {
    let name = match target.backend {
        Backend::Type1 => "VmLck:",
        Backend::Iommufd => "VmPin:",
    };
    value("/proc/self/status", name)
}

/// Returns how many pins of pages there are in all of the machine.
#[track_caller]
pub fn of_machine() -> Outcome<u64> {
    // Each processor counts by itself; the write sums them up.
    fs::write("/proc/sys/vm/stat_refresh", "1").map_err(Stop::failed)?;
    let acquired = value("/proc/vmstat", "nr_foll_pin_acquired")?;
    let released = value("/proc/vmstat", "nr_foll_pin_released")?;
    acquired
        .checked_sub(released)
        .ok_or_else(|| Stop::failed(format_args!("{acquired} pins and {released} releases")))
}
