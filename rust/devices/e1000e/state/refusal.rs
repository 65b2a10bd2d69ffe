// SPDX-License-Identifier: GPL-2.0

//! Why a state is refused.

use core::fmt;

use crate::ring::Direction;

use super::VERSION;

/// Why a state is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateError {
    /// The state has a wrong length.
    Length {
        /// Bytes that a state has.
        expected: usize,
        /// Bytes that this one has.
        found: usize,
    },
    /// The state has a version that this code does not know.
    Version {
        /// Its version.
        found: u8,
    },
    /// A reserved byte is not 0.
    Reserved {
        /// Offset of the byte.
        offset: usize,
        /// Value of the byte.
        found: u8,
    },
    /// The state is one of another device.
    Device {
        /// Vendor, device and subsystem of this function.
        expected: (u16, u16, u16),
        /// Those of the state's.
        found: (u16, u16, u16),
    },
    /// The state is one of another stepping.
    Revision {
        /// PCI revision of this function.
        expected: u8,
        /// That of the state's.
        found: u8,
    },
    /// The state is one of a function whose BARs have other sizes.
    Bar {
        /// Index of the BAR.
        index: usize,
        /// Size of this function's.
        expected: u32,
        /// Size of the state's.
        found: u32,
    },
    /// The state is one of a function with another configuration space.
    ConfigSpace,
    /// A register has bits that it does not have, or that start an operation.
    Bits {
        /// Name of the register.
        register: &'static str,
        /// Its value.
        found: u32,
        /// The bits that it can have.
        allowed: u32,
    },
    /// A register has a value that the data sheet reserves.
    Value {
        /// Name of the register.
        register: &'static str,
        /// Its value.
        found: u32,
    },
    /// A ring is not aligned to 16 bytes.
    Base {
        /// Which way its packets go.
        direction: Direction,
        /// Which queue.
        queue: usize,
        /// Lower half of its bus address.
        found: u32,
    },
    /// The length of a ring is not a multiple of 128, or 1 MiB and more.
    RingLength {
        /// Which way its packets go.
        direction: Direction,
        /// Which queue.
        queue: usize,
        /// Its length in bytes.
        found: u32,
    },
    /// Head or tail of a ring that is enabled is not in it.
    Position {
        /// Which way its packets go.
        direction: Direction,
        /// Which queue.
        queue: usize,
        /// Head.
        head: u32,
        /// Tail.
        tail: u32,
        /// Number of descriptors.
        descriptors: u32,
    },
    /// A register of the PHY has bits that it does not have, or that start an operation.
    Phy {
        /// Name of the register.
        register: &'static str,
        /// Its value.
        found: u16,
        /// The bits that it can have.
        allowed: u16,
    },
    /// There is a half-read value of a pair of statistics that has not been half read.
    Unused {
        /// Which pair.
        pair: usize,
    },
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { expected, found } => {
                write!(f, "state has {found} bytes instead of {expected}")
            }
            Self::Version { found } => {
                write!(f, "state has version {found}, known is {VERSION}")
            }
            Self::Reserved { offset, found } => {
                write!(f, "state byte {offset} is reserved, but {found:#04x}")
            }
            Self::Device { expected, found } => write!(
                f,
                "state is of device {:04x} (subsystem {:04x}:{:04x}), this one is {:04x} ({:04x}:{:04x})",
                found.0, found.1, found.2, expected.0, expected.1, expected.2
            ),
            Self::Revision { expected, found } => write!(
                f,
                "state is of revision {found:#04x}, this device has revision {expected:#04x}"
            ),
            Self::Bar {
                index,
                expected,
                found,
            } => write!(
                f,
                "state is of a device whose BAR {index} has {found:#x} bytes instead of {expected:#x}"
            ),
            Self::ConfigSpace => {
                f.write_str("state is of a device with another configuration space")
            }
            Self::Bits {
                register,
                found,
                allowed,
            } => write!(
                f,
                "{register} is {found:#010x}, but may have only the bits {allowed:#010x}"
            ),
            Self::Value { register, found } => {
                write!(f, "{register} is {found:#010x}, which is reserved")
            }
            Self::Base {
                direction,
                queue,
                found,
            } => write!(
                f,
                "{direction} ring {queue} is at ...{found:08x}, not at a multiple of 16"
            ),
            Self::RingLength {
                direction,
                queue,
                found,
            } => write!(
                f,
                "{direction} ring {queue} has {found:#x} bytes, not a multiple of 128 below 1 MiB"
            ),
            Self::Position {
                direction,
                queue,
                head,
                tail,
                descriptors,
            } => write!(
                f,
                "{direction} ring {queue} of {descriptors} descriptors has head {head} and tail {tail}"
            ),
            Self::Phy {
                register,
                found,
                allowed,
            } => write!(
                f,
                "{register} is {found:#06x}, but may have only the bits {allowed:#06x}"
            ),
            Self::Unused { pair } => {
                write!(f, "pair {pair} of the statistics has a value that nobody has read")
            }
        }
    }
}
