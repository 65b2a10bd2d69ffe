// SPDX-License-Identifier: GPL-2.0

//! Storage of a device that moves block by block, most of it while the device still runs.
//!
//! The storage counts which of its blocks were written since they were last given to the stream. A
//! save takes them one after the other in pre-copy, and what the running device writes in the
//! meantime is taken again, until stop-and-copy gives the rest.

use crate::refusal::Errno;

/// Size of a block, in bytes.
pub const BLOCK_SIZE: usize = 4096;

/// Storage of a device that moves block by block while the device runs, such as the memory behind an
/// NVMe namespace.
///
/// The engine uses the storage of the live device for a save, and that which is staged for a resume.
/// Blocks are numbered from 0, and the storage begins with zeros wherever nothing was written.
pub trait Storage {
    /// Returns how many blocks there are. It never changes while the device is open.
    fn blocks(&self) -> u64;

    /// Returns how many blocks may not be all zeros: those that a save has to give at first.
    fn written_blocks(&self) -> u64 {
        self.blocks()
    }

    /// Begins to track: every block that may not be all zeros is dirty, and from now on whatever
    /// changes blocks makes them dirty, be it a write or that they are dropped. Where the storage is
    /// tracked already, all that holds anew.
    ///
    /// # Errors
    ///
    /// The storage is as before. Tracking anew needs nothing that could fail.
    fn track(&mut self) -> Result<(), Errno>;

    /// Ends what [`track`](Self::track) has begun; without effect if nothing is tracked.
    fn untrack(&mut self);

    /// Returns how many blocks are dirty, in constant time; 0 if nothing is tracked.
    fn dirty_blocks(&self) -> u64;

    /// Takes the first dirty block at or after `from`, or else the first of all, and returns its
    /// number. It is clean before the engine looks at its content: a write that comes after makes it
    /// dirty again.
    fn take_dirty(&mut self, from: u64) -> Option<u64>;

    /// Makes a block dirty; without effect if there is no such block or nothing is tracked.
    fn mark_dirty(&mut self, index: u64);

    /// Returns the content of a block; [`None`] if it is all zeros because nothing was written
    /// there, or there is no such block.
    fn block(&self, index: u64) -> Option<&[u8; BLOCK_SIZE]>;

    /// Writes `bytes` at `offset`, in bytes, which need not be at the border of a block.
    ///
    /// # Errors
    ///
    /// The storage does not reach so far, or there is no memory. A part may have been written.
    fn put(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Errno>;

    /// Makes `len` bytes at `offset` zeros.
    ///
    /// # Errors
    ///
    /// As for [`put`](Self::put).
    fn put_zeroes(&mut self, offset: u64, len: u64) -> Result<(), Errno>;
}

/// Blocks in one word of the bitmap.
const WORD_BLOCKS: u64 = u64::BITS as u64;

/// A bitmap of dirty blocks that knows how many they are.
///
/// # Invariants
///
/// - `words` has a bit for every block, and no other bit is set.
/// - `count` is the number of bits that are set.
pub struct DirtyBlocks<B: AsRef<[u64]> + AsMut<[u64]>> {
    words: B,
    blocks: u64,
    count: u64,
}

/// Where a block is in the bitmap.
struct Place {
    word: usize,
    mask: u64,
}

impl DirtyBlocks<[u64; 0]> {
    /// Returns how many words the bitmap of `blocks` blocks has, or [`None`] if they are more than
    /// memory can have.
    pub fn words(blocks: u64) -> Option<usize> {
        usize::try_from(blocks.div_ceil(WORD_BLOCKS)).ok()
    }
}

impl<B: AsRef<[u64]> + AsMut<[u64]>> DirtyBlocks<B> {
    /// Returns the bitmap of `blocks` blocks, all clean, or [`None`] if `words` has fewer than
    /// [`DirtyBlocks::words`] words. What is in them does not matter.
    pub fn new(words: B, blocks: u64) -> Option<Self> {
        let needed = DirtyBlocks::words(blocks)?;
        if words.as_ref().len() < needed {
            return None;
        }

        let mut dirty = Self {
            words,
            blocks,
            count: 0,
        };
        dirty.clear();
        Some(dirty)
    }

    /// Returns how many blocks there are, dirty or clean.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Returns how many blocks are dirty.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns whether a block is dirty; one that does not exist is not.
    pub fn is_dirty(&self, index: u64) -> bool {
        self.place(index).is_some_and(|place| {
            let word = self.words.as_ref().get(place.word);
            word.is_some_and(|word| word & place.mask != 0)
        })
    }

    /// Makes a block dirty; without effect if there is no such block.
    pub fn mark(&mut self, index: u64) {
        let Some(place) = self.place(index) else {
            return;
        };

        if let Some(word) = self.words.as_mut().get_mut(place.word) {
            if *word & place.mask == 0 {
                *word |= place.mask;
                self.count = self.count.saturating_add(1);
            }
        }
    }

    /// Makes the first dirty block at or after `from` clean, or else the first of all, and returns
    /// its number.
    pub fn take_next(&mut self, from: u64) -> Option<u64> {
        if self.count == 0 {
            return None;
        }

        let index = self.find(from).or_else(|| self.find(0))?;
        let place = self.place(index)?;
        let word = self.words.as_mut().get_mut(place.word)?;
        *word &= !place.mask;
        self.count = self.count.saturating_sub(1);
        Some(index)
    }

    /// Makes all blocks clean.
    pub fn clear(&mut self) {
        self.words.as_mut().fill(0);
        self.count = 0;
    }

    /// Returns the first dirty block at or after `from`.
    fn find(&self, from: u64) -> Option<u64> {
        let first = self.place(from)?;
        // The bits at and above that of `from`.
        let mut wanted = !first.mask.wrapping_sub(1);

        for (word, bits) in self.words.as_ref().iter().enumerate().skip(first.word) {
            let bits = bits & wanted;
            if bits != 0 {
                let bit = u64::from(bits.trailing_zeros());
                return (word as u64).checked_mul(WORD_BLOCKS)?.checked_add(bit);
            }
            wanted = u64::MAX;
        }
        None
    }

    fn place(&self, index: u64) -> Option<Place> {
        if index >= self.blocks {
            return None;
        }

        Some(Place {
            word: usize::try_from(index / WORD_BLOCKS).ok()?,
            mask: 1u64.rotate_left((index % WORD_BLOCKS) as u32),
        })
    }
}
