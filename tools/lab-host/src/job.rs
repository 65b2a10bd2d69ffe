// SPDX-License-Identifier: GPL-2.0

//! What the host VM is to do. It finds its job in its initramfs, at [`PATH`].

use serde::Deserialize;
use serde::Serialize;

use crate::scenario::Scenario;
use crate::vmm::Qemu;

/// Where the job lies, as JSON.
pub const PATH: &str = "/ferry/job.json";

/// Where the guest's kernel lies.
pub const GUEST_KERNEL: &str = "/ferry/guest/vmlinuz";

/// Where the guest's initramfs lies.
pub const GUEST_INITRD: &str = "/ferry/guest/initrd";

/// Where the static programs lie that the job may run.
pub const PROGRAMS: &str = "/ferry/bin";

/// Port of the `isa-debug-exit` device.
pub const EXIT_PORT: u64 = 0xf4;

/// The kernel module whose disks take as long as they are told to: each request 10 ms here, many of
/// them at a time. They have no content.
pub const SLOW_DISK: &str = "null_blk";

/// How it makes [`SLOW_DISKS`].
pub const SLOW_DISK_PARAMETERS: &str =
    "nr_devices=3 gb=16 irqmode=2 completion_nsec=10000000 hw_queue_depth=64";

/// Its disks.
pub const SLOW_DISKS: [&str; 3] = ["/dev/nullb0", "/dev/nullb1", "/dev/nullb2"];

/// A kernel module to load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Module {
    /// Its name, for messages.
    pub name: String,
    /// Its file in the host VM.
    pub path: String,
    /// Its parameters.
    pub parameters: String,
    /// Whether the job can go on without it, as KVM's module for the other maker's processors.
    pub optional: bool,
}

/// The whole job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Modules in the order in which they have to be loaded.
    pub modules: Vec<Module>,
    /// What to do then, in this order.
    pub stages: Vec<Stage>,
    /// The mdev type that the scenarios use; none makes them migrate a guest without a device.
    pub device: Option<String>,
}

/// A disk that is moved, and where its content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MovedDisk {
    /// One of the job's type, which keeps its content itself: it moves with the guest.
    Ram,
    /// One of the job's type, on a file that both sides have.
    File,
    /// QEMU's own NVMe disk, on a file that both sides have.
    Emulated,
}

impl MovedDisk {
    /// What it is called in results.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ram => "ferry_nvme, store ram",
            Self::File => "ferry_nvme, store file",
            Self::Emulated => "nvme",
        }
    }
}

/// The QEMU of all measurements: the oldest here whose own NVMe disk can be migrated.
pub const MEASURED_QEMU: Qemu = Qemu::V11_1;

/// One part of the job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "kebab-case")]
pub enum Stage {
    /// Run a command in a shell, its output is copied out as it comes.
    Shell {
        /// For `sh -c`.
        command: String,
    },
    /// Run a kselftest program, whose output is KTAP.
    Kselftest {
        /// The program's file in the host VM.
        program: String,
    },
    /// Run a migration scenario.
    Scenario {
        /// Which one.
        scenario: Scenario,
        /// What runs the guest.
        qemu: Qemu,
    },
    /// Measure the speed of a disk of the job's type beside others.
    Speed {
        /// How often each disk gets each workload.
        rounds: usize,
    },
    /// Measure the speed of a disk of the job's type whose content is on a slow disk of the host,
    /// beside others. It needs [`SLOW_DISK`].
    SpeedOnSlowDisk {
        /// How often each disk gets each workload.
        rounds: usize,
    },
    /// Measure what it costs to move a guest with a disk.
    Cost {
        /// Whose disk it is.
        disk: MovedDisk,
        /// The disk's size in bytes.
        capacity: u64,
        /// Which time this is, from 0 on.
        round: usize,
    },
    /// Load these modules, whose in-kernel unit tests then report to the kernel's log.
    Kunit {
        /// In the order in which they have to be loaded.
        modules: Vec<Module>,
    },
    /// Look for leaked kernel memory; only a kernel with kmemleak can.
    Kmemleak,
}

impl Stage {
    /// The QEMUs that have to be in the host VM.
    pub fn qemus(&self) -> Vec<Qemu> {
        match self {
            Self::Scenario { scenario, qemu } => scenario.qemus(*qemu),
            Self::Shell { .. } => vec![Qemu::default()],
            Self::Speed { .. } | Self::SpeedOnSlowDisk { .. } | Self::Cost { .. } => {
                vec![MEASURED_QEMU]
            }
            Self::Kselftest { .. } | Self::Kunit { .. } | Self::Kmemleak => Vec::new(),
        }
    }
}
