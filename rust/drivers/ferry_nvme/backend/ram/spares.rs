// SPDX-License-Identifier: GPL-2.0

//! Blocks that wait to be written: the new content of a command is put together in them, so that it takes the place of the
//! old content as a whole or not at all.

use super::Block;
use kernel::{
    alloc::AllocError,
    prelude::*, //
};
use kernel_ext::memory::try_zeroed;
use nvme::TRANSFER_MAX;

/// The most blocks that a command writes, of which the first and the last one may be partial.
pub(super) const SPARES: usize = TRANSFER_MAX / size_of::<Block>() + 1;

/// Spare blocks.
///
/// # Invariants
///
/// There are [`SPARES`] between two commands, so a command that finds all its blocks present needs no memory; during a
/// command at most as many again.
pub(super) struct Spares(KVVec<KBox<Block>>);

impl Spares {
    /// Allocates the blocks, which are charged to the current process.
    pub(super) fn new() -> Result<Self, AllocError> {
        let blocks = KVVec::with_capacity(2 * SPARES, GFP_KERNEL_ACCOUNT)?;
        let mut spares = Self(blocks);

        spares.add(SPARES)?;
        // INVARIANT: There are `SPARES`.
        Ok(spares)
    }

    /// Adds `count` blocks, at most [`SPARES`], for blocks that are not present.
    ///
    /// # Errors
    ///
    /// No memory is left. There are as many blocks as before.
    pub(super) fn add(&mut self, count: usize) -> Result<(), AllocError> {
        let before = self.0.len();

        for _ in 0..count.min(SPARES) {
            let block = try_zeroed();
            if !block.is_ok_and(|block| self.0.push_within_capacity(block).is_ok()) {
                self.0.truncate(before);
                return Err(AllocError);
            }
        }
        Ok(())
    }

    /// Returns the block number `index`, for the piece of a command with this number.
    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut Block> {
        self.0.get_mut(index).map(|block| &mut **block)
    }

    /// Puts block number `index` into `place`. A block that is there becomes a spare one; if none is, an added block does.
    /// Returns whether none was.
    pub(super) fn put(&mut self, index: usize, place: &mut Option<KBox<Block>>) -> bool {
        let (mut new, was_absent) = match place.take() {
            Some(block) => (Some(block), false),
            None => (self.0.pop(), true),
        };

        if let (Some(spare), Some(new)) = (self.0.get_mut(index), new.as_mut()) {
            core::mem::swap(spare, new);
        }
        *place = new;
        was_absent
    }

    /// Gives up the blocks that were added and not put.
    pub(super) fn settle(&mut self) {
        // INVARIANT: There are `SPARES` again.
        self.0.truncate(SPARES);
    }
}
