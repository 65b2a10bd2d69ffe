// SPDX-License-Identifier: GPL-2.0

//! Blocks of a device that a migration moves, most of them while the device still runs.
//!
//! The device notes which of its blocks were written or emptied since the stream got them last. A save
//! takes these blocks one after the other in pre-copy, takes those again that the running device
//! changes in the meantime, and takes the rest in stop-and-copy.
//!
//! A block is *empty* if the device knows that it is all zeros: the block was never written, or it was
//! deallocated, or zeros were written. An empty block has no content to send, so it is counted apart:
//! a guest that trims leaves next to nothing to be sent.

use vfio_uapi::Errno;

/// Size of a block, in bytes.
pub const BLOCK_SIZE: usize = 4096;

/// Blocks that migrate one by one while the device runs, such as the memory behind an NVMe namespace.
///
/// A save uses the blocks of the live device, and a resume those that are staged. Blocks are numbered from
/// 0, and read as zeros wherever nothing was written.
pub trait MigratedBlocks {
    /// Returns the number of blocks, which never changes while the device is open.
    fn blocks(&self) -> u64;

    /// Returns the number of blocks that are not empty: those that a save has to send at first.
    fn written_blocks(&self) -> u64 {
        self.blocks()
    }

    /// Begins to track: every block that is not empty is dirty, and from now on a write or a deallocation
    /// makes a block dirty. Blocks that are tracked already are tracked anew.
    ///
    /// # Errors
    ///
    /// The blocks are as before. Tracking anew never fails.
    fn track(&mut self) -> Result<(), Errno>;

    /// Ends the tracking; without effect if nothing is tracked.
    fn untrack(&mut self);

    /// Returns the amount of dirty blocks, in constant time; none if nothing is tracked. A run of empty
    /// blocks that begins before block `from` and ends after it counts as two.
    fn dirty(&self, from: u64) -> Dirty;

    /// Takes the first dirty block at or after `from`, or else the first of all, and returns its
    /// number. The block is clean before the engine looks at its content, so a later write makes it
    /// dirty again.
    fn take_dirty(&mut self, from: u64) -> Option<u64>;

    /// Makes a block dirty; without effect if there is no such block or nothing is tracked.
    fn mark_dirty(&mut self, index: u64);

    /// Returns the content of a block; [`None`] if it is empty, or there is no such block.
    fn block(&self, index: u64) -> Option<&[u8; BLOCK_SIZE]>;

    /// Has `fill` write `len` bytes at `offset`, in bytes, which need not be at the border of a block. `fill`
    /// is called with one piece after the other, from the first to the last, and writes all of it.
    ///
    /// The bytes come from a stream and go straight to their place: what `fill` has written there may turn
    /// out to be wrong later. Nothing of it can be told from the outside before the blocks are the live ones.
    ///
    /// # Errors
    ///
    /// The bytes are not all within the blocks, or memory is short. A part may have been written.
    fn put(
        &mut self,
        offset: u64,
        len: usize,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Errno>;

    /// Makes `len` bytes at `offset` zeros.
    ///
    /// # Errors
    ///
    /// As for [`put`](Self::put).
    fn put_zeroes(&mut self, offset: u64, len: u64) -> Result<(), Errno>;
}

/// Returns whether all bytes are zeros.
pub fn is_zero(bytes: &[u8]) -> bool {
    /// Bytes after which the comparison can stop.
    const STEP: usize = 64;

    let mut steps = bytes.chunks(STEP);
    steps.all(|step| step.iter().fold(0, |seen, byte| seen | byte) == 0)
}

/// Amount of dirty blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// Blocks that are not empty.
    pub data: u64,
    /// Blocks that are empty.
    pub empty: u64,
    /// Runs of dirty empty blocks, each as long as it can be.
    pub runs: u64,
}

/// The blocks of a device that has none.
#[derive(Debug)]
pub enum NoMigratedBlocks {}

impl MigratedBlocks for NoMigratedBlocks {
    fn blocks(&self) -> u64 {
        match *self {}
    }

    fn track(&mut self) -> Result<(), Errno> {
        match *self {}
    }

    fn untrack(&mut self) {
        match *self {}
    }

    fn dirty(&self, _from: u64) -> Dirty {
        match *self {}
    }

    fn take_dirty(&mut self, _from: u64) -> Option<u64> {
        match *self {}
    }

    fn mark_dirty(&mut self, _index: u64) {
        match *self {}
    }

    fn block(&self, _index: u64) -> Option<&[u8; BLOCK_SIZE]> {
        match *self {}
    }

    fn put(
        &mut self,
        _offset: u64,
        _len: usize,
        _fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Errno> {
        match *self {}
    }

    fn put_zeroes(&mut self, _offset: u64, _len: u64) -> Result<(), Errno> {
        match *self {}
    }
}
