// SPDX-License-Identifier: GPL-2.0

//! The job of the host VM, which is the file [`PATH`] of its initramfs.

use serde::Deserialize;
use serde::Serialize;

use crate::scenario::Scenario;
use crate::vmm::Qemu;

/// The job, as JSON.
pub const PATH: &str = "/ferry/job.json";

/// The guest's kernel.
pub const GUEST_KERNEL: &str = "/ferry/guest/vmlinuz";

/// The guest's initramfs.
pub const GUEST_INITRD: &str = "/ferry/guest/initrd";

/// The directory of the static programs that the job may run.
pub const PROGRAMS: &str = "/ferry/bin";

/// Port of the `isa-debug-exit` device.
pub const EXIT_PORT: u64 = 0xf4;

/// The kernel module whose disks delay each request by a parameter, 10 ms here, many requests at a time. The disks have
/// no content.
pub const SLOW_DISK: &str = "null_blk";

/// The module's parameters for [`SLOW_DISKS`].
pub const SLOW_DISK_PARAMETERS: &str =
    "nr_devices=3 gb=16 irqmode=2 completion_nsec=10000000 hw_queue_depth=64";

/// The module's disks.
pub const SLOW_DISKS: [&str; 3] = ["/dev/nullb0", "/dev/nullb1", "/dev/nullb2"];

/// The names in results of one queue of a disk with one processor, and of two queues with two processors.
pub const ONE_QUEUE: &str = "one queue, one processor";
pub const TWO_QUEUES: &str = "two queues, two processors";

/// The name in results of fio on a disk of the host, without a device of this project.
pub const DIRECTLY: &str = "fio on the host";

/// A kernel module to load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Module {
    /// For messages.
    pub name: String,
    /// The file in the host VM.
    pub path: String,
    pub parameters: String,
    /// Whether the job can go on without the module, as KVM's for another maker's processors.
    pub optional: bool,
}

/// The whole job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Modules in loading order.
    pub modules: Vec<Module>,
    /// The stages in their order, after the modules.
    pub stages: Vec<Stage>,
    /// The mdev type of the scenarios. Without a type the scenarios migrate a guest without a device.
    pub device: Option<String>,
}

/// A disk that is moved, and the place of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MovedDisk {
    /// One of the job's type with its content in RAM, which moves with the guest.
    Ram,
    /// One of the job's type, on a file that both sides have.
    File,
    /// QEMU's own NVMe disk, on a file that both sides have.
    Emulated,
    /// QEMU's own NVMe disk, on a file of each side: QEMU copies the content, apart from the migration.
    Mirrored,
}

impl MovedDisk {
    /// The name in results.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ram => "ferry_nvme, store ram",
            Self::File => "ferry_nvme, store file",
            Self::Emulated => "nvme",
            Self::Mirrored => "nvme, mirrored",
        }
    }
}

/// The load on the network card of a guest that is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardLoad {
    /// Whether the driver follows the card's DMA.
    pub followed: bool,
    /// Datagrams per second in each direction, in percent of what the link carries.
    pub percent: u64,
    /// The guest's memory.
    pub memory_mib: u64,
}

impl CardLoad {
    /// The name in results.
    pub fn name(self) -> String {
        let dma = if self.followed {
            "DMA followed"
        } else {
            "all dirty"
        };
        format!("ferry_e1000e, {dma}, {} % of the link", self.percent)
    }
}

/// The QEMU of all measurements: the oldest here whose own NVMe disk can be migrated.
pub const MEASURED_QEMU: Qemu = Qemu::V11_1;

/// One part of the job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "kebab-case")]
pub enum Stage {
    /// Run a command in a shell. Its output is reported line by line.
    Shell {
        /// For `sh -c`.
        command: String,
    },
    /// Run a kselftest program, whose output is KTAP.
    Kselftest {
        /// The program's file in the host VM.
        program: String,
        arguments: Vec<String>,
        /// Whether the network cards are bound to their variant driver for it.
        cards: bool,
    },
    /// Run a migration scenario.
    Scenario {
        scenario: Scenario,
        /// The QEMU that runs the guest.
        qemu: Qemu,
    },
    /// Measure the speed of a disk of the job's type beside others.
    Speed {
        /// The number of times that each disk gets each workload.
        rounds: usize,
    },
    /// Measure the speed of a disk of the job's type whose content is on a slow disk of the host,
    /// beside others. It needs [`SLOW_DISK`].
    SpeedOnSlowDisk {
        /// The number of times that each disk gets each workload.
        rounds: usize,
    },
    /// Measure two queues of a disk of the job's type beside one, without a guest. The VM has to have two processors.
    Queues {
        /// The number of times that each gets each workload.
        rounds: usize,
    },
    /// Measure the speed of a disk of the job's type whose content is on a slow disk of the host, without a guest, beside fio on
    /// such a disk. It needs [`SLOW_DISK`].
    SlowFile {
        /// The number of times that each gets each workload.
        rounds: usize,
    },
    /// Measure the cost of moving a guest with a disk.
    Cost {
        disk: MovedDisk,
        /// The disk's size in bytes.
        capacity: u64,
        /// The number of the round, from 0 on.
        round: usize,
    },
    /// Measure the cost of moving a guest with a network card.
    CardCost {
        load: CardLoad,
        /// The number of the round, from 0 on.
        round: usize,
    },
    /// Measure the instructions for a command of a disk of the job's type. The VM's clock has to count instructions.
    Instructions {
        /// The number of the round, from 0 on.
        round: usize,
    },
    /// Measure how many datagrams a network card carries beside one that plain vfio-pci passes through.
    CardSpeed {
        /// The number of times that each card is measured.
        rounds: usize,
    },
    /// Load these modules, whose in-kernel unit tests then report to the kernel's log.
    Kunit {
        /// In loading order.
        modules: Vec<Module>,
    },
    /// Look for leaked kernel memory; only a kernel with kmemleak can.
    Kmemleak,
}

impl Stage {
    /// Whether the stage needs [`SLOW_DISK`].
    pub fn is_on_slow_disk(&self) -> bool {
        matches!(self, Self::SpeedOnSlowDisk { .. } | Self::SlowFile { .. })
    }

    /// The QEMUs that have to be in the host VM.
    pub fn qemus(&self) -> Vec<Qemu> {
        match self {
            Self::Scenario { scenario, qemu } => scenario.qemus(*qemu),
            Self::Shell { .. } => vec![Qemu::default()],
            Self::Speed { .. }
            | Self::SpeedOnSlowDisk { .. }
            | Self::Cost { .. }
            | Self::CardCost { .. }
            | Self::CardSpeed { .. } => vec![MEASURED_QEMU],
            Self::Kselftest { .. }
            | Self::Instructions { .. }
            | Self::Queues { .. }
            | Self::SlowFile { .. }
            | Self::Kunit { .. }
            | Self::Kmemleak => Vec::new(),
        }
    }
}
