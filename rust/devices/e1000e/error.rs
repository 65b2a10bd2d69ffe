// SPDX-License-Identifier: GPL-2.0

//! Why a sequence failed.

use core::fmt;

use crate::state::StateError;

/// Why a sequence failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The registers read as all ones.
    Gone,
    /// The function runs, and has to be stopped for this.
    Running,
    /// The transmitter did not send what the guest has posted.
    Transmit {
        /// Which queue.
        queue: usize,
        /// TDH.
        head: u32,
        /// TDT.
        tail: u32,
    },
    /// The transmit FIFO did not empty.
    TransmitFifo {
        /// Packets in it.
        packets: u32,
    },
    /// The beginning of a packet that was fetched in part cannot be found.
    Packet {
        /// Which queue.
        queue: usize,
        /// TDH.
        head: u32,
    },
    /// Requests on PCIe did not end.
    Master,
    /// The reset, or the reading of the EEPROM behind it, did not end.
    Reset,
    /// The PHY did not answer, or its management interface was not to be had.
    Phy,
    /// A register did not take its value.
    Register {
        /// Its offset.
        offset: u32,
        /// The value written.
        written: u32,
        /// The value read.
        read: u32,
    },
    /// There is not enough room for the state.
    Room {
        /// Bytes that there are.
        found: usize,
    },
    /// The guest has programmed what no state may have.
    State(StateError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the device does not answer"),
            Self::Running => f.write_str("the device is running"),
            Self::Transmit { queue, head, tail } => write!(
                f,
                "transmit queue {queue} does not drain: head {head}, tail {tail}"
            ),
            Self::TransmitFifo { packets } => {
                write!(f, "{packets} packets stay in the transmit FIFO")
            }
            Self::Packet { queue, head } => write!(
                f,
                "the packet that descriptor {head} of transmit queue {queue} belongs to has no beginning"
            ),
            Self::Master => f.write_str("requests on PCIe do not end"),
            Self::Reset => f.write_str("the reset does not end"),
            Self::Phy => f.write_str("the PHY does not answer"),
            Self::Register {
                offset,
                written,
                read,
            } => write!(
                f,
                "register {offset:#06x} reads {read:#010x} instead of {written:#010x}"
            ),
            Self::Room { found } => write!(f, "{found} bytes are too few for the state"),
            Self::State(error) => error.fmt(f),
        }
    }
}
