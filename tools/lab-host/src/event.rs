// SPDX-License-Identifier: GPL-2.0

//! What the host VM reports, one JSON value per line on the virtio-serial port [`PORT`].

use lab_guest::report;
use serde::Deserialize;
use serde::Serialize;

/// Name of the host VM's virtio-serial port.
pub const PORT: &str = "ferry.host";

/// The answer of `lab` to [`What::Finished`], for which the VM waits before it ends.
pub const HEARD: &str = "heard";

/// A part of a failure's reason: the guest cannot go on, and no device can have caused that.
pub const WAITS: &str =
    "the guest's only processor waits with interrupts off for what only it could end";

/// An event with its time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// Seconds on the host VM's monotonic clock.
    pub time: f64,
    #[serde(flatten)]
    pub what: What,
}

/// The kinds of events.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum What {
    /// The host VM has booted.
    Booted {
        /// Its kernel's release.
        kernel: String,
    },
    /// The host VM's present step.
    Doing {
        /// In words.
        text: String,
    },
    /// A line of a command's output.
    Output {
        /// Without its newline.
        text: String,
    },
    /// A shell command or a program ended.
    Exited {
        /// Its exit status, 128 and the signal's number after a signal.
        status: i32,
    },
    /// A test or scenario begins.
    Started {
        /// Its name.
        name: String,
    },
    /// A test or scenario is over.
    Ended {
        /// Its name.
        name: String,
        /// How it went.
        #[serde(flatten)]
        outcome: Outcome,
        /// How long it took in seconds.
        seconds: f64,
    },
    /// An event from a nested QEMU's QMP.
    Qmp {
        /// Which QEMU.
        vm: String,
        /// QEMU's name of the event.
        name: String,
        /// Its data.
        data: serde_json::Value,
    },
    /// A nested QEMU starts, and has this device.
    Opened {
        /// Which QEMU.
        vm: String,
        /// The mdev's UUID.
        device: String,
    },
    /// One of Ferry's tracepoints fired.
    Trace(Trace),
    /// The guest reported something.
    Guest {
        /// The QEMU that it runs in.
        vm: String,
        /// The guest's report.
        #[serde(flatten)]
        report: report::Report,
    },
    /// A migration is over, with the source QEMU's figures.
    Migrated(Migrated),
    /// The speed of a disk.
    Speed(Speed),
    /// The cost of moving a disk or a network card.
    Cost(Cost),
    /// The instructions for a command of a disk.
    Instructions(Instructions),
    /// Something has not happened in time: `lab` looks at the host VM from outside.
    Stuck {
        /// The missing event, in words.
        what: String,
    },
    /// A warning, bug or leak in the host VM's kernel log, with the lines that follow.
    Splat {
        /// The excerpt.
        text: String,
    },
    /// The job is done.
    Finished {
        /// Why not everything could be run. Failed tests are no error here.
        error: Option<String>,
    },
}

/// The outcome of a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", content = "why", rename_all = "kebab-case")]
pub enum Outcome {
    Passed,
    /// Why, with what was expected and seen.
    Failed(String),
    /// Why the test could not be run here.
    Skipped(String),
}

/// A tracepoint of `events/ferry`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "point", rename_all = "kebab-case")]
pub enum Trace {
    /// `vfio_migration_state`: a transition.
    State {
        /// The mdev's UUID.
        device: String,
        /// State before.
        from: String,
        /// State asked for.
        to: String,
        /// 0 or a negative errno.
        result: i64,
    },
    /// `vfio_migration_pending`: the user read `pending_bytes`.
    Pending {
        /// The mdev's UUID.
        device: String,
        /// State at that moment.
        state: String,
        /// What was read.
        pending: u64,
    },
    /// `vfio_migration_chunk`: a chunk was presented or consumed.
    Chunk {
        /// The mdev's UUID.
        device: String,
        /// State at that moment.
        state: String,
        /// Bytes of this chunk.
        size: u64,
        /// Bytes of the session so far.
        total: u64,
    },
    /// `vfio_migration_refusal`: something was refused.
    Refusal {
        /// The mdev's UUID.
        device: String,
        /// State at that moment.
        state: String,
        /// The negative errno.
        errno: i64,
        /// In words.
        reason: String,
    },
}

/// A migration that succeeded, with the source QEMU's figures.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Migrated {
    /// Name of the source QEMU.
    pub source: String,
    /// Name of the destination QEMU.
    pub destination: String,
    /// When it was started, in seconds on the host VM's monotonic clock.
    pub began: f64,
    /// When it was over.
    pub ended: f64,
    /// QEMU's `total-time` in milliseconds.
    pub total_ms: u64,
    /// QEMU's `setup-time` in milliseconds.
    pub setup_ms: u64,
    /// QEMU's `downtime` in milliseconds.
    pub downtime_ms: u64,
    /// Bytes of guest memory, with QEMU 7.2; all bytes that were sent, with later ones.
    pub ram_bytes: u64,
    /// Of these, bytes moved while the guest ran.
    pub precopy_bytes: u64,
    /// Of these, bytes moved while the guest stood still.
    pub downtime_bytes: u64,
    /// The longest time between two progress reports of the guest, in milliseconds, seen from the
    /// host.
    pub stall_ms: u64,
}

/// The speed of a disk with one workload.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Speed {
    /// What kind of disk.
    pub disk: String,
    pub workload: String,
    /// The number of the round, from 0 on.
    pub round: usize,
    /// Operations per second.
    pub per_second: f64,
    /// Bytes per second.
    pub bytes_per_second: f64,
    /// Mean time of an operation in microseconds, on the guest's clock.
    pub latency_us: f64,
}

/// The cost of moving a guest that writes to its disk, or uses its network card, at a steady rate.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Cost {
    /// What kind of disk, or what load on a network card.
    pub disk: String,
    /// The number of the round, from 0 on.
    pub round: usize,
    /// The size of the disk, or of the memory of a guest with a network card, in bytes.
    pub capacity: u64,
    /// Bytes that QEMU sent while the guest stood still.
    #[serde(default)]
    pub stopped_bytes: u64,
    /// Bytes of a Ferry disk's state that were moved while the guest ran.
    pub precopy_bytes: u64,
    /// Bytes of a Ferry disk's state that were moved while the guest stood still.
    pub stop_copy_bytes: u64,
    /// All bytes that QEMU sent: memory and devices.
    pub sent_bytes: u64,
    /// QEMU's downtime limit in milliseconds at the end of a migration of a guest with a network card.
    #[serde(default)]
    pub downtime_limit_ms: u64,
    /// QEMU's `downtime` in milliseconds.
    pub downtime_ms: u64,
    /// QEMU's `total-time` in milliseconds.
    pub total_ms: u64,
}

/// The instructions that commands of one kind took on a host VM's only processor.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Instructions {
    /// Whether the commands write; else they read.
    pub writes: bool,
    /// Bytes of a command.
    pub size: u64,
    /// Commands under way.
    pub under_way: u16,
    /// Whether the doorbells are in memory; else in registers.
    pub shadow_doorbells: bool,
    /// The number of the round, from 0 on.
    pub round: usize,
    /// The number of commands.
    pub commands: u64,
    /// All instructions of the processor.
    pub all: u64,
    /// Of these, the client's own.
    pub client: u64,
    /// Writes to doorbell registers.
    pub exits: u64,
    /// Looks of the client at a completion queue with nothing new.
    pub looks: u64,
}

impl Instructions {
    /// The commands in words.
    pub fn workload(&self) -> String {
        let what = if self.writes { "write" } else { "read" };
        format!("{what} {} KiB, depth {}", self.size >> 10, self.under_way)
    }

    /// Whether both are of the same kind of commands.
    pub fn is_like(&self, other: &Self) -> bool {
        let kind = |it: &Self| (it.writes, it.size, it.under_way, it.shadow_doorbells);
        kind(self) == kind(other)
    }

    /// The kernel's instructions for a command.
    pub fn of_kernel(&self) -> f64 {
        self.all.saturating_sub(self.client) as f64 / self.commands as f64
    }
}
