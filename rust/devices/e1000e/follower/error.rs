// SPDX-License-Identifier: GPL-2.0

//! Why the function's DMA writes cannot be told any longer.

use core::fmt;

/// Why pages may have been missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowError {
    /// A ring is longer than the follower has room for.
    TooLong {
        /// Which queue.
        queue: usize,
        /// Descriptors of the ring.
        descriptors: u32,
        /// Descriptors that there is room for.
        room: usize,
    },
    /// A tail is not in its ring.
    Tail {
        /// Which queue.
        queue: usize,
        /// The tail.
        tail: u32,
        /// Descriptors of the ring.
        descriptors: u32,
    },
    /// In packet split, head and tail are an odd number of half descriptors apart.
    HalfDescriptor {
        /// Which queue.
        queue: usize,
    },
    /// Descriptors cannot be read.
    Descriptors {
        /// Their bus address.
        address: u64,
    },
    /// A page cannot be pinned.
    Page {
        /// Its bus address.
        address: u64,
    },
}

impl fmt::Display for FollowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong {
                queue,
                descriptors,
                room,
            } => write!(
                f,
                "receive ring {queue} has {descriptors} descriptors, and only {room} can be followed"
            ),
            Self::Tail {
                queue,
                tail,
                descriptors,
            } => write!(
                f,
                "RDT{queue} is {tail} in a ring of {descriptors} descriptors"
            ),
            Self::HalfDescriptor { queue } => {
                write!(f, "receive ring {queue} has half a packet split descriptor")
            }
            Self::Descriptors { address } => {
                write!(f, "the receive descriptors at {address:#x} cannot be read")
            }
            Self::Page { address } => write!(f, "the page at {address:#x} cannot be pinned"),
        }
    }
}
