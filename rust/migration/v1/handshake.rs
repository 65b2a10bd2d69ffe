// SPDX-License-Identifier: GPL-2.0

//! How a user takes the chunks of a save session one by one.
//!
//! The user reads `pending_bytes`, then `data_offset`, which puts a chunk into the data section,
//! then `data_size` and the data. The next read of `pending_bytes` acknowledges the chunk, and no other
//! access does; statements 33 to 39 of the protocol.

/// Where the user is in taking a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Handshake {
    /// No save session goes on, so there is nothing to take.
    #[default]
    Idle,
    /// The next read of `data_offset` puts a chunk into the data section.
    Prepared,
    /// A chunk is in the data section, and the user has not acknowledged it.
    Presented {
        /// Size of the chunk, in bytes; zero where nothing was pending.
        size: u64,
    },
}

impl Handshake {
    /// `pending_bytes` was read: a chunk that had been presented is taken now.
    pub(super) fn pending_was_read(&mut self) {
        if let Self::Presented { .. } = self {
            *self = Self::Prepared;
        }
    }

    /// Returns whether a read of `data_offset` has to put a chunk into the data section.
    pub(super) fn wants_chunk(&self) -> bool {
        *self == Self::Prepared
    }

    /// Returns the size of the chunk that is presented, in bytes; zero where there is none.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Presented { size } => *size,
            Self::Idle | Self::Prepared => 0,
        }
    }
}
