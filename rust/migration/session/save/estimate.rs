// SPDX-License-Identifier: GPL-2.0

//! How many bytes a save has yet to give, and when the initial part of pre-copy begins anew.

use super::Save;
use crate::{
    port::Port,
    session::{
        amount::{
            block_size,
            in_pieces,
            piece_max,
            Estimate, //
        },
        state_size, //
    },
    stream::{
        format::{
            HEADER_SIZE,
            IDENTITY_MAX, //
        },
        record::Totals,
        writer::Writer, //
    },
};

/// The most initial parts that a session has after the first because of what the device writes. Were
/// there no limit, a device that writes faster than its blocks are read would keep a user waiting for
/// the end of an initial part for ever.
const REINITS_MAX: u32 = 3;

/// The fewest dirty blocks that make a new initial part, 4 MiB: for fewer it is not worth while that
/// both ends agree once more that stop-and-copy may begin.
const REINIT_BLOCKS_MIN: u64 = 1024;

/// When there is a new initial part.
#[derive(Clone, Copy, Default)]
pub(super) struct Reinit {
    /// A new generation has begun since the user asked last.
    pub(super) due: bool,
    /// How many initial parts there were because of what the device wrote.
    count: u32,
    /// Blocks with content that the initial part had when it began.
    pub(super) blocks: u64,
}

impl Save {
    /// Returns how many bytes of stream can be read in the present state, headers of records
    /// included, in chunks of up to `room` bytes.
    ///
    /// For blocks, which share headers, that is an estimate. No more than that comes if nothing
    /// changes; it is zero exactly if there is nothing to read.
    pub(crate) fn pending<P: Port>(&self, port: &mut P, room: usize) -> u64 {
        self.estimate(port, room).all
    }

    /// Returns how many bytes are pending, in chunks of up to `room` bytes, with those that the device has to write back
    /// before it can stop. If the latter are all that is pending, the next chunk has a record all the same: a user is told
    /// that nothing is pending, or gets something.
    pub(crate) fn promise<P: Port>(&mut self, port: &mut P, room: usize) -> u64 {
        let pending = self.pending(port, room);
        let may_wait = self.captured.is_none() && self.is_before_state();
        let unwritten = if may_wait { port.unwritten() } else { 0 };

        self.promised = pending == 0 && unwritten > 0;
        let wait = if self.promised {
            Writer::size_of(0) as u64
        } else {
            0
        };
        pending.saturating_add(unwritten).saturating_add(wait)
    }

    /// Returns how many of the [`pending`](Self::pending) bytes are of the initial part, and how many
    /// there are in all.
    pub(crate) fn estimate<P: Port>(&self, port: &mut P, room: usize) -> Estimate {
        let opening = self.opening_size();
        let blocks = self
            .blocks
            .filter(|_| self.is_before_state())
            .and_then(|blocks| {
                port.with_blocks(|migrated| blocks.estimate(migrated, piece_max(room)))
            })
            .unwrap_or_default();

        Estimate {
            initial: blocks.initial.saturating_add(opening),
            all: blocks
                .all
                .saturating_add(opening)
                .saturating_add(self.rest_of_state(room)),
        }
    }

    /// Returns the size of the records before the blocks that have not been given.
    fn opening_size(&self) -> u64 {
        let header = HEADER_SIZE.saturating_add(self.identity.payload().len());
        let sizes = [
            (self.resend.is_some(), HEADER_SIZE),
            (self.restart, HEADER_SIZE),
            (self.header, header),
        ];

        sizes
            .into_iter()
            .filter(|(due, _)| *due)
            .fold(0, |sum: u64, (_, size)| sum.saturating_add(size as u64))
    }

    /// Returns the size of the records of the state that was taken and of END, as far as they have
    /// not been given.
    fn rest_of_state(&self, room: usize) -> u64 {
        let Some(captured) = self.captured else {
            return 0;
        };
        let left = captured.len.saturating_sub(self.given);
        let end = match self.ended {
            true => 0,
            false => Writer::size_of(Totals::SIZE),
        };

        in_pieces(left, piece_max(room)).saturating_add(end) as u64
    }

    /// Keeps the initial part from growing: the user is told from now on of no more than is left now, whatever
    /// the device writes.
    pub(crate) fn settle_initial<P: Port>(&mut self, port: &mut P) {
        if let Some(blocks) = &mut self.blocks {
            port.with_blocks(|migrated| blocks.settle_initial(migrated));
        }
    }

    /// Begins a new initial part if one is due, and returns whether it did. All that is pending is of
    /// it then.
    ///
    /// One is due when a new generation has begun. If the user has read the initial part and does not
    /// rely on that, as `is_read` tells, one is also due when more than half as many blocks as it had
    /// are dirty again, [`REINIT_BLOCKS_MIN`] at least; but no more than [`REINITS_MAX`] times.
    pub(crate) fn begin_anew<P: Port>(&mut self, port: &mut P, is_read: bool) -> bool {
        if !self.reinit.due {
            let is_read = is_read && self.estimate(port, super::ROOM_MIN).initial == 0;
            if !is_read || !self.is_rewritten(port) || self.reinit.count >= REINITS_MAX {
                return false;
            }
            self.reinit.count = self.reinit.count.saturating_add(1);
        }
        self.reinit.due = false;
        self.begin_initial(port);
        true
    }

    fn is_rewritten<P: Port>(&self, port: &mut P) -> bool {
        let dirty = port.with_blocks(|migrated| migrated.dirty(0).data);

        dirty.is_some_and(|data| data >= REINIT_BLOCKS_MIN && data > self.reinit.blocks / 2)
    }
}

/// Returns how many bytes stop-and-copy gives if it is entered now, or has yet to give, in chunks of up to
/// `room` bytes. An estimate, and rather too much than too little.
pub(crate) fn stop_copy_size<P: Port>(save: Option<&Save>, port: &mut P, room: usize) -> u64 {
    let pending = match save {
        Some(save) if save.is_captured() => return save.pending(port, room),
        Some(save) => save.pending(port, room),
        None => {
            let written = port.with_blocks(|migrated| migrated.written_blocks());
            block_size(piece_max(room))
                .saturating_mul(written.unwrap_or(0))
                // HEADER, after RESTART.
                .saturating_add((HEADER_SIZE + HEADER_SIZE + IDENTITY_MAX) as u64)
        }
    };

    let state =
        in_pieces(state_size(port), piece_max(room)).saturating_add(Writer::size_of(Totals::SIZE));
    pending.saturating_add(state as u64)
}
