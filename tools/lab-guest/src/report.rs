// SPDX-License-Identifier: GPL-2.0

//! The messages between the guest and the host VM, one JSON value per line.

use serde::Deserialize;
use serde::Serialize;

use crate::datagram::Tally;
use crate::flow::Settings;
use crate::line::Faults;

/// Name of the guest's virtio-serial port.
pub const PORT: &str = "ferry.guest";

/// Requests of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Send lines (again).
    Start,
    /// Stop sending, wait for lines in flight and for the present rounds of the loads, answer with a final
    /// [`Report::Verdict`].
    Stop,
    /// Answer with a [`Report::Verdict`] now.
    Verdict,
    /// Put load on a disk.
    Load(LoadOrder),
    /// Open the guest's end of a flow, and send.
    BeginFlow(Settings),
    /// Stop to send, and answer with [`Report::FlowStopped`].
    StopFlow,
    /// Wait for the datagrams in flight, close the flow, and answer with [`Report::FlowEnded`].
    EndFlow {
        /// The number of datagrams that the host has sent.
        sent: u64,
    },
    /// Run a shell script, and answer with [`Report::Ran`].
    Run {
        /// The script's number, which the answer repeats.
        id: u64,
        /// For `sh -c`.
        script: String,
    },
    /// Suspend the devices and resume them, and answer with [`Report::Ran`]. Until then, the guest reads and says nothing.
    Suspend {
        /// The number of the script in whose place this is.
        id: u64,
    },
}

/// A run of fio, which is one load of several that go on side by side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadOrder {
    /// Its name.
    pub name: String,
    /// Arguments of fio.
    pub arguments: Vec<String>,
    /// Whether fio is run again and again until [`Request::Stop`]. Each round verifies all that it has written. A run
    /// that is not repeated is answered with [`Report::Loaded`].
    pub repeat: bool,
}

/// Reports of the guest.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "guest", rename_all = "kebab-case")]
pub enum Report {
    /// The guest is up and has opened these serial ports and connections.
    Ready {
        /// Names of the ports, such as `ttyS4`, and of the network card's TCP connection, `tcp`.
        ports: Vec<String>,
        /// The disks that it found.
        disks: Vec<Disk>,
        /// The guest's kernel release.
        kernel: String,
    },
    /// The counters of the streams and the disks, four times a second.
    Progress {
        /// Reports of this kind so far, without a gap while the guest runs.
        beat: u64,
        /// Lines sent, all ports.
        sent: u64,
        /// Lines received, all ports.
        received: u64,
        /// Faults found, all ports.
        faults: u64,
        #[serde(default)]
        disks: Vec<DiskCounters>,
        /// Datagrams received in the present flow.
        #[serde(default)]
        datagrams: u64,
        /// Packets that the network card has sent and received, if there is one.
        #[serde(default)]
        packets: Option<u64>,
    },
    /// Something is wrong with the data, or with the guest itself.
    Problem { text: String },
    /// The verdict on all ports and loads.
    Verdict {
        /// Whether the streams were stopped and no line was in flight.
        last: bool,
        /// One per port.
        ports: Vec<Port>,
        /// The loads since the last final verdict.
        #[serde(default)]
        loads: Vec<Load>,
    },
    /// A load that is not repeated has ended.
    Loaded { load: Load },
    /// The guest has stopped to send datagrams.
    FlowStopped {
        /// The number of datagrams sent.
        sent: u64,
    },
    /// A flow has ended.
    FlowEnded { tally: Tally },
    /// A script has ended.
    Ran {
        id: u64,
        /// Its exit status, 128 and the signal's number after a signal.
        status: i32,
        /// The end of its standard output and error.
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

/// The counters of a disk since the guest's boot, from `/sys/block/*/stat`.
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

/// The report on a load.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Its name.
    pub name: String,
    /// Runs of fio that are over.
    pub rounds: u64,
    /// Reads, most of them to verify.
    pub read: Io,
    pub written: Io,
    /// fio's error.
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
    pub faults: Faults,
    /// The longest time between two lines in microseconds, on the guest's monotonic clock while
    /// the stream was running; the guest's clock stands still while the guest does.
    pub longest_stall_us: u64,
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
    /// Breaks on the line.
    pub breaks: u64,
    /// Characters lost because the receiver was full.
    pub overruns: u64,
    /// Interrupts of the port's line.
    pub interrupts: u64,
}

impl Port {
    /// Whether no byte was lost, doubled, reordered or changed and, with `last`, no line is in flight.
    pub fn good(&self, last: bool) -> bool {
        let driver = &self.driver;
        self.faults.none()
            && driver.framing + driver.parity + driver.breaks + driver.overruns == 0
            && (!last || self.sent == self.received)
    }
}

impl Load {
    /// Whether the load did any work, and read every block as written.
    pub fn good(&self) -> bool {
        self.error.is_none()
            && self.rounds > 0
            && self.read.operations + self.written.operations > 0
    }
}
