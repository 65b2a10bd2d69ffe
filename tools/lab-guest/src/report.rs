// SPDX-License-Identifier: GPL-2.0

//! What the guest and the host VM say to each other, one JSON value per line.

use serde::Deserialize;
use serde::Serialize;

use crate::line::Faults;

/// Name of the guest's virtio-serial port.
pub const PORT: &str = "ferry.guest";

/// What the host asks of the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Send lines (again).
    Start,
    /// Stop sending, wait for what is in flight and for the loads to come to the end of their
    /// rounds, answer with a final [`Report::Verdict`].
    Stop,
    /// Answer with a [`Report::Verdict`] now.
    Verdict,
    /// Put load on a disk.
    Load(LoadOrder),
    /// Run a shell script, and answer with [`Report::Ran`].
    Run {
        /// Which one; the answer has it, too.
        id: u64,
        /// For `sh -c`.
        script: String,
    },
}

/// A run of fio, which is one load of several that go on side by side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadOrder {
    /// Its name.
    pub name: String,
    /// What fio is told.
    pub arguments: Vec<String>,
    /// Whether it is run again and again until [`Request::Stop`]. Each round is whole: what it
    /// wrote it also verified. One that is not repeated is answered with [`Report::Loaded`].
    pub repeat: bool,
}

/// What the guest says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "guest", rename_all = "kebab-case")]
pub enum Report {
    /// The guest is up and has opened these serial ports.
    Ready {
        /// Names of the ports, such as `ttyS4`.
        ports: Vec<String>,
        /// The disks that it found.
        disks: Vec<Disk>,
        /// The guest's kernel release.
        kernel: String,
    },
    /// How far the streams and the disks are; four times a second.
    Progress {
        /// Reports of this kind so far: a guest that runs counts on, without a gap.
        beat: u64,
        /// Lines sent, all ports.
        sent: u64,
        /// Lines received, all ports.
        received: u64,
        /// Faults found, all ports.
        faults: u64,
        /// What the disks have done so far.
        #[serde(default)]
        disks: Vec<DiskCounters>,
    },
    /// Something is wrong with the data, or with the guest itself.
    Problem {
        /// What, in words.
        text: String,
    },
    /// All that is known about every port.
    Verdict {
        /// Whether the streams had been stopped and nothing was in flight any more.
        last: bool,
        /// One per port.
        ports: Vec<Port>,
        /// The loads that have been on the disks since the last verdict that was final.
        #[serde(default)]
        loads: Vec<Load>,
    },
    /// A load that is not repeated has ended.
    Loaded {
        /// How it went.
        load: Load,
    },
    /// A script has ended.
    Ran {
        /// Which one.
        id: u64,
        /// Its exit status, 128 and the signal's number after a signal.
        status: i32,
        /// What it wrote to its standard output and error, the end of it if it was long.
        output: String,
    },
}

/// A disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Its name below `/dev`, such as `nvme0n1`.
    pub name: String,
    /// The controller's PCI vendor and device, as in `1af4:10f0`.
    pub pci: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Size of a logical block in bytes.
    pub block: u64,
}

/// What a disk has done since the guest booted, from `/sys/block/*/stat`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskCounters {
    /// Its name.
    pub name: String,
    /// Reads that were completed.
    pub reads: u64,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Writes that were completed.
    pub writes: u64,
    /// Bytes that were written.
    pub written_bytes: u64,
}

/// How a load went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Its name.
    pub name: String,
    /// Runs of fio that are over.
    pub rounds: u64,
    /// What it read, to verify what it wrote above all.
    pub read: Io,
    /// What it wrote.
    pub written: Io,
    /// What went wrong, in fio's words.
    pub error: Option<String>,
}

/// I/O in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Io {
    /// Operations, all rounds.
    pub operations: u64,
    /// Bytes, all rounds.
    pub bytes: u64,
    /// Operations per second in the last round.
    pub per_second: f64,
    /// Bytes per second in the last round.
    pub bytes_per_second: f64,
    /// Mean time from submission to completion in the last round, in nanoseconds.
    pub latency_ns: f64,
}

/// The verdict on one port.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Port {
    /// Such as `ttyS4`.
    pub name: String,
    /// Lines sent.
    pub sent: u64,
    /// Good lines received.
    pub received: u64,
    /// Bytes received.
    pub bytes: u64,
    /// What is wrong with them.
    pub faults: Faults,
    /// The longest time between two lines in microseconds, on the guest's monotonic clock while
    /// the stream was running; the guest's clock stands still while the guest does.
    pub longest_stall_us: u64,
    /// What the guest's serial driver counted.
    pub driver: Driver,
}

/// Counters of the guest's serial driver, from `/proc/tty/driver/` and `/proc/interrupts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Driver {
    /// Bytes sent.
    pub tx: u64,
    /// Bytes received.
    pub rx: u64,
    /// Framing errors.
    pub framing: u64,
    /// Parity errors.
    pub parity: u64,
    /// Breaks.
    pub breaks: u64,
    /// Overruns.
    pub overruns: u64,
    /// Interrupts of the port's line.
    pub interrupts: u64,
}

impl Port {
    /// Whether not one byte was lost, doubled, reordered or changed; `last` asks that nothing is in
    /// flight either.
    pub fn good(&self, last: bool) -> bool {
        let driver = &self.driver;
        self.faults.none()
            && driver.framing + driver.parity + driver.breaks + driver.overruns == 0
            && (!last || self.sent == self.received)
    }
}

impl Load {
    /// Whether it found every block as it had written it, and did anything at all.
    pub fn good(&self) -> bool {
        self.error.is_none()
            && self.rounds > 0
            && self.read.operations + self.written.operations > 0
    }
}
