// SPDX-License-Identifier: GPL-2.0

//! A cgroup of version 2 that the test program is in for a while.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use rustix::mount::mount;
use rustix::mount::MountFlags;
use vfio_client::mdev::random_uuid;
use vfio_client::Errno;

use crate::check::name;
use crate::check::Outcome;
use crate::check::Stop;

/// Where the cgroups are mounted.
const ROOT: &str = "/sys/fs/cgroup";
/// The controllers of a [`Cgroup`].
const CONTROLLERS: [&str; 2] = ["io", "memory"];

/// A cgroup with all threads of this program. They return to where they were when it is dropped.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    before: PathBuf,
}

fn read(path: &Path) -> Outcome<String> {
    fs::read_to_string(path)
        .map_err(|error| Stop::failed(format_args!("{}: {error}", path.display())))
}

fn write(path: &Path, text: &str) -> Outcome {
    fs::write(path, text).map_err(|error| Stop::failed(format_args!("{}: {error}", path.display())))
}

/// Moves this program to a cgroup, with all threads.
fn join(path: &Path) -> Outcome {
    write(&path.join("cgroup.procs"), "0")
}

impl Cgroup {
    /// Makes a cgroup with the controllers for I/O and memory. The test is skipped where that is not possible.
    #[track_caller]
    pub fn new() -> Outcome<Cgroup> {
        let root = Path::new(ROOT);
        let available = root.join("cgroup.controllers");
        if !available.exists() {
            match mount("cgroup2", ROOT, "cgroup2", MountFlags::empty(), None) {
                Ok(()) | Err(Errno::BUSY) => {}
                Err(errno) => {
                    let why = format!("there are no cgroups of version 2: {}", name(errno));
                    return Err(Stop::Skipped(why));
                }
            }
        }
        let available = read(&available)?;
        for controller in CONTROLLERS {
            if !available.split_whitespace().any(|one| one == controller) {
                return Err(Stop::Skipped(format!(
                    "the cgroups have no controller {controller}"
                )));
            }
            let subtree = root.join("cgroup.subtree_control");
            write(&subtree, &format!("+{controller}"))?;
        }

        let own = read(Path::new("/proc/self/cgroup"))?;
        let before = own
            .lines()
            .find_map(|line| line.strip_prefix("0::/"))
            .ok_or_else(|| Stop::failed(format_args!("expected a cgroup, seen {own}")))?;
        let cgroup = Cgroup {
            path: root.join(format!("ferry-{}", random_uuid()?)),
            before: root.join(before),
        };
        fs::create_dir(&cgroup.path).map_err(Stop::failed)?;
        join(&cgroup.path)?;
        Ok(cgroup)
    }

    /// Returns the bytes that its threads have read from a block device and written to it, which has this number.
    #[track_caller]
    pub fn transferred(&self, number: &str) -> Outcome<(u64, u64)> {
        let text = read(&self.path.join("io.stat"))?;
        // A device without I/O has no line.
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{number} ")))
            .unwrap_or_default();
        let field = |key: &str| {
            let mut fields = line
                .split_whitespace()
                .filter_map(|field| field.split_once('='));
            let value = fields.find(|(found, _)| *found == key);
            value
                .map_or("0", |(_, value)| value)
                .parse()
                .map_err(Stop::failed)
        };
        Ok((field("rbytes")?, field("wbytes")?))
    }

    /// Returns the bytes of memory that are charged to it.
    #[track_caller]
    pub fn memory(&self) -> Outcome<u64> {
        let text = read(&self.path.join("memory.current"))?;
        text.trim().parse().map_err(Stop::failed)
    }

    /// Limits the bytes of memory that are charged to it. A process that needs more is killed.
    #[track_caller]
    pub fn limit_memory(&self, bytes: u64) -> Outcome {
        write(&self.path.join("memory.max"), &bytes.to_string())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let left =
            join(&self.before).and_then(|()| fs::remove_dir(&self.path).map_err(Stop::failed));
        if let Err(stop) = left {
            eprintln!("# {}: {stop:?}", self.path.display());
        }
    }
}
