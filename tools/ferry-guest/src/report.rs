// SPDX-License-Identifier: GPL-2.0

//! What the guest and the host VM say to each other, one JSON value per line.

use serde::Deserialize;
use serde::Serialize;

use crate::line::Faults;

/// Name of the guest's virtio-serial port.
pub const PORT: &str = "ferry.guest";

/// What the host asks of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Send lines (again).
    Start,
    /// Stop sending, wait for what is in flight, answer with a final [`Report::Verdict`].
    Stop,
    /// Answer with a [`Report::Verdict`] now.
    Verdict,
}

/// What the guest says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "guest", rename_all = "kebab-case")]
pub enum Report {
    /// The guest is up and has opened these serial ports.
    Ready {
        /// Names of the ports, such as `ttyS4`.
        ports: Vec<String>,
        /// The guest's kernel release.
        kernel: String,
    },
    /// How far the streams are; a few times a second.
    Progress {
        /// Reports of this kind so far: a guest that runs counts on, without a gap.
        beat: u64,
        /// Lines sent, all ports.
        sent: u64,
        /// Lines received, all ports.
        received: u64,
        /// Faults found, all ports.
        faults: u64,
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
    },
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
