// SPDX-License-Identifier: GPL-2.0

//! What the host VM reports, one JSON value per line on the virtio-serial port [`PORT`].

use lab_guest::report;
use serde::Deserialize;
use serde::Serialize;

/// Name of the host VM's virtio-serial port.
pub const PORT: &str = "ferry.host";

/// What `lab` answers to [`What::Finished`], so that the VM does not end before it was heard.
pub const HEARD: &str = "heard";

/// In the reason of a failure: the guest cannot go on, and no device can have done that.
pub const SPINS: &str = "the guest's only processor waits for a spinlock with interrupts off";

/// Something happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// When, in seconds on the host VM's monotonic clock.
    pub time: f64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum What {
    /// The host VM is up.
    Booted {
        /// Its kernel's release.
        kernel: String,
    },
    /// What the host VM is doing now, for a person.
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
    /// The guest said something.
    Guest {
        /// The QEMU that it runs in.
        vm: String,
        /// What.
        #[serde(flatten)]
        report: report::Report,
    },
    /// A migration is over, as the source QEMU tells it.
    Migrated(Migrated),
    /// How fast a disk is.
    Speed(Speed),
    /// What it cost to move a disk.
    Cost(Cost),
    /// Something has not happened in time: what the host VM looks like is of interest now.
    Stuck {
        /// What was waited for.
        what: String,
    },
    /// A line of the host VM's kernel log which must not be there, with what surrounds it.
    Splat {
        /// The excerpt.
        text: String,
    },
    /// The job is done.
    Finished {
        /// Whether everything could be run; says nothing of the tests' outcome.
        error: Option<String>,
    },
}

/// How a test went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", content = "why", rename_all = "kebab-case")]
pub enum Outcome {
    /// As it should.
    Passed,
    /// It did not; expected and seen in words.
    Failed(String),
    /// It could not be run here.
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

/// A migration that succeeded, as the source QEMU tells it.
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

/// How fast a disk is at something.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Speed {
    /// What kind of disk.
    pub disk: String,
    /// What it did.
    pub workload: String,
    /// The how manyth time, from 0 on.
    pub round: usize,
    /// Operations per second.
    pub per_second: f64,
    /// Bytes per second.
    pub bytes_per_second: f64,
    /// Mean time of an operation in microseconds, on the guest's clock.
    pub latency_us: f64,
}

/// What it cost to move a guest while it wrote to its disk at a steady rate.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Cost {
    /// What kind of disk.
    pub disk: String,
    /// The how manyth time, from 0 on.
    pub round: usize,
    /// The disk's size in bytes.
    pub capacity: u64,
    /// Bytes of a Ferry disk's state that were moved while the guest ran.
    pub precopy_bytes: u64,
    /// Bytes of a Ferry disk's state that were moved while the guest stood still.
    pub stop_copy_bytes: u64,
    /// All bytes that QEMU sent: memory and devices.
    pub sent_bytes: u64,
    /// QEMU's `downtime` in milliseconds.
    pub downtime_ms: u64,
    /// QEMU's `total-time` in milliseconds.
    pub total_ms: u64,
}
