// SPDX-License-Identifier: GPL-2.0

//! Block devices of a test's own: the kernel's `null_blk`, with its content in memory, whose bad sectors are set by
//! configfs.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process;

use rustix::mount::mount;
use rustix::mount::MountFlags;
use vfio_client::mdev::random_uuid;
use vfio_client::Errno;

use crate::check::name;
use crate::check::Outcome;
use crate::check::Stop;

/// Where configfs is mounted.
const CONFIGFS: &str = "/sys/kernel/config";

/// All sectors of a disk.
const ALL: &str = "0-131071";

/// Size of a disk in MiB.
const SIZE: &str = "64";

/// A block device that can be made to fail. It is removed when it is dropped.
#[derive(Debug)]
pub struct NullDisk {
    directory: PathBuf,
    name: String,
}

impl NullDisk {
    /// Makes a block device that works. The test is skipped where that is not possible.
    #[track_caller]
    pub fn new() -> Outcome<NullDisk> {
        NullDisk::with(&[])
    }

    /// As [`NullDisk::new`], and each request takes `latency` milliseconds, however many there are.
    #[track_caller]
    pub fn slow(latency: u64) -> Outcome<NullDisk> {
        let latency = (latency * 1_000_000).to_string();
        // By a timer, which completes requests.
        NullDisk::with(&[("irqmode", "2"), ("completion_nsec", &latency)])
    }

    /// As [`NullDisk::new`], with some attributes of configfs.
    #[track_caller]
    pub fn with(attributes: &[(&str, &str)]) -> Outcome<NullDisk> {
        // The driver may be loaded, or built in.
        let _ = process::Command::new("modprobe")
            .args(["null_blk", "nr_devices=0"])
            .output();
        let parent = Path::new(CONFIGFS).join("nullb");
        if !parent.exists() {
            match mount("configfs", CONFIGFS, "configfs", MountFlags::empty(), None) {
                Ok(()) | Err(Errno::BUSY) => {}
                Err(errno) => {
                    let why = format!("there is no configfs: {}", name(errno));
                    return Err(Stop::Skipped(why));
                }
            }
        }
        if !parent.exists() {
            return Err(Stop::Skipped("there is no null_blk".into()));
        }

        let name = format!("ferry{}", &random_uuid()?[..8]);
        let directory = parent.join(&name);
        fs::create_dir(&directory).map_err(Stop::failed)?;
        let disk = NullDisk { directory, name };
        let common = [("size", SIZE), ("memory_backed", "1")];
        let all = common.iter().chain(attributes).chain(&[("power", "1")]);
        for (attribute, value) in all {
            disk.set(attribute, value)?;
        }
        Ok(disk)
    }

    /// Returns the path of its node.
    pub fn path(&self) -> String {
        format!("/dev/{}", self.name)
    }

    /// Returns its number as the kernel writes it, such as `251:0`.
    #[track_caller]
    pub fn number(&self) -> Outcome<String> {
        let path = format!("/sys/block/{}/dev", self.name);
        let text = fs::read_to_string(&path)
            .map_err(|error| Stop::failed(format_args!("{path}: {error}")))?;
        Ok(text.trim().into())
    }

    #[track_caller]
    fn set(&self, attribute: &str, value: &str) -> Outcome {
        let path = self.directory.join(attribute);
        fs::write(&path, value)
            .map_err(|error| Stop::failed(format_args!("{}: {error}", path.display())))
    }

    /// Has every access fail. A write is cached, and fails when it is flushed.
    #[track_caller]
    pub fn fail(&self) -> Outcome {
        self.set("badblocks", &format!("+{ALL}"))
    }

    /// Has every access work again.
    #[track_caller]
    pub fn mend(&self) -> Outcome {
        self.set("badblocks", &format!("-{ALL}"))
    }
}

impl Drop for NullDisk {
    fn drop(&mut self) {
        // The block device goes with it.
        let _ = fs::remove_dir(&self.directory);
    }
}
