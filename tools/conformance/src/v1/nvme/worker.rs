// SPDX-License-Identifier: GPL-2.0

//! The worker of a controller is a thread of the process that uses it.

use std::fs;

use crate::case::cases;
use crate::case::Case;
use crate::check::same;
use crate::check::Outcome;
use crate::check::Stop;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::nvme::disk::Disk;

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::Nvme];

pub const CASES: &[Case] = cases![
    NEEDS;
    nvme_worker_is_a_thread_of_the_user,
];

/// Returns the number of workers among the threads of this process.
fn workers() -> Outcome<usize> {
    let mut count = 0;
    for thread in fs::read_dir("/proc/self/task").map_err(Stop::failed)? {
        let path = thread.map_err(Stop::failed)?.path().join("comm");
        // A thread may end meanwhile.
        let name = fs::read_to_string(path).unwrap_or_default();
        count += usize::from(name.trim_end() == "ferry");
    }
    Ok(count)
}

fn nvme_worker_is_a_thread_of_the_user(target: &Target) -> Outcome {
    let before = workers()?;
    let disk = Disk::new(target)?;
    same("workers of an open disk", workers()?, before + 1)?;
    drop(disk);
    same("workers of a closed disk", workers()?, before)
}
