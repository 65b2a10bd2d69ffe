// SPDX-License-Identifier: GPL-2.0

//! The number of stream bytes that the parts of a save take.
//!
//! The exact number depends on how the user cuts the stream into chunks, so the amounts are bounds: rather
//! too much than too little, and zero exactly for nothing.

use crate::{
    migrated_blocks::{
        Dirty,
        BLOCK_SIZE, //
    },
    stream::{
        format::{
            self,
            HEADER_SIZE,
            PAYLOAD_MAX,
            ZEROES_SIZE, //
        },
        writer::Writer, //
    },
};

/// The most bytes of a sink that a chunk uses: a user keeps the size in an `int` (statement 12 of
/// the protocol).
pub(super) const CHUNK_MAX: usize = i32::MAX as usize;

/// The most blocks of zeros that one record tells of. The engine looks through them while the device may
/// have to wait.
pub(super) const ZEROES_MAX: u64 = format::ZEROES_MAX / BLOCK_SIZE as u64;

/// Returns the most bytes of device state that one record has in a chunk of up to `room` bytes. Pieces are as
/// large in every chunk, whatever else is in it, so that what is pending does not depend on how it is taken.
pub(super) fn piece_max(room: usize) -> usize {
    room.min(CHUNK_MAX)
        .saturating_sub(HEADER_SIZE)
        .clamp(1, PAYLOAD_MAX as usize)
}

/// Returns how many pieces of at most `most` bytes `len` bytes make.
///
/// Not `div_ceil()`: objtool does not know that its panic, which is never reached, ends there.
pub(super) fn pieces(len: usize, most: usize) -> usize {
    len.saturating_add(most)
        .saturating_sub(1)
        .checked_div(most)
        .unwrap_or(len)
}

/// Returns how many bytes of stream `len` bytes take in records with up to `piece_max` bytes of payload.
pub(super) fn in_pieces(len: usize, piece_max: usize) -> usize {
    pieces(len, piece_max)
        .saturating_mul(HEADER_SIZE)
        .saturating_add(len)
}

/// Returns the most bytes of stream that a block that is not empty takes, in records with up to `piece_max`
/// bytes of payload.
///
/// A block is cut where the chunk ends, so it has a header of its own and one for each of the pieces that
/// follow the first. Adjacent blocks share a record and take less.
pub(super) fn block_size(piece_max: usize) -> u64 {
    let headers = pieces(BLOCK_SIZE.saturating_sub(1), piece_max).saturating_add(1);

    headers
        .saturating_mul(HEADER_SIZE)
        .saturating_add(BLOCK_SIZE) as u64
}

/// An amount of blocks, as the stream has them.
#[derive(Clone, Copy, Default)]
pub(super) struct Amount {
    /// Blocks that are not empty.
    pub(super) blocks: u64,
    /// Records that tell of empty blocks.
    pub(super) zeroes: u64,
}

impl Amount {
    /// No blocks.
    pub(super) const NONE: Self = Self {
        blocks: 0,
        zeroes: 0,
    };

    /// Returns the amount for blocks that are dirty, with as many records as it takes at most.
    pub(super) fn of(dirty: Dirty) -> Self {
        // A run of `n` blocks takes one record, and one more for every `ZEROES_MAX` of `n - 1`.
        let further = dirty.empty.saturating_sub(dirty.runs) / ZEROES_MAX;

        Self {
            blocks: dirty.data,
            zeroes: dirty.runs.saturating_add(further),
        }
    }

    /// Returns the smaller number of each kind.
    pub(super) fn at_most(self, other: Self) -> Self {
        Self {
            blocks: self.blocks.min(other.blocks),
            zeroes: self.zeroes.min(other.zeroes),
        }
    }

    /// Returns the most bytes of stream that the blocks take.
    pub(super) fn pending(self, piece_max: usize) -> u64 {
        let zeroes = Writer::size_of(ZEROES_SIZE) as u64;

        block_size(piece_max)
            .saturating_mul(self.blocks)
            .saturating_add(zeroes.saturating_mul(self.zeroes))
    }
}

/// Bytes of stream that are left to give.
#[derive(Clone, Copy, Default)]
pub(crate) struct Estimate {
    /// Left of the initial part: the data of when pre-copy began, or began anew.
    pub(crate) initial: u64,
    /// All of it.
    pub(crate) all: u64,
}
