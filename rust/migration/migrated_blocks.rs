// SPDX-License-Identifier: GPL-2.0

//! Storage of a device that moves block by block, most of it while the device still runs.
//!
//! The storage counts which of its blocks were written or emptied since they were last given to the
//! stream. A save takes them one after the other in pre-copy, and what the running device changes in
//! the meantime is taken again, until stop-and-copy gives the rest.
//!
//! A block is *empty* if the storage knows that it is all zeros: nothing was ever written there, or it
//! was deallocated, or zeros were written. An empty block has no content to send, so it is counted
//! apart from the others: a guest that trims leaves next to nothing to be sent.

use vfio_uapi::Errno;

/// Size of a block, in bytes.
pub const BLOCK_SIZE: usize = 4096;

/// Storage of a device that moves block by block while the device runs, such as the memory behind an
/// NVMe namespace.
///
/// The engine uses the storage of the live device for a save, and that which is staged for a resume.
/// Blocks are numbered from 0, and the storage begins with zeros wherever nothing was written.
pub trait MigratedBlocks {
    /// Returns how many blocks there are. It never changes while the device is open.
    fn blocks(&self) -> u64;

    /// Returns how many blocks are not empty: those that a save has to give at first.
    fn written_blocks(&self) -> u64 {
        self.blocks()
    }

    /// Begins to track: every block that is not empty is dirty, and from now on whatever changes
    /// blocks makes them dirty, be it a write or that they are emptied. Where the storage is tracked
    /// already, all that holds anew.
    ///
    /// # Errors
    ///
    /// The storage is as before. Tracking anew needs nothing that could fail.
    fn track(&mut self) -> Result<(), Errno>;

    /// Ends what [`track`](Self::track) has begun; without effect if nothing is tracked.
    fn untrack(&mut self);

    /// Returns how much is dirty, in constant time; nothing if nothing is tracked. A run of empty
    /// blocks that begins before block `from` and ends after it counts as two.
    fn dirty(&self, from: u64) -> Dirty;

    /// Takes the first dirty block at or after `from`, or else the first of all, and returns its
    /// number. It is clean before the engine looks at its content: a write that comes after makes it
    /// dirty again.
    fn take_dirty(&mut self, from: u64) -> Option<u64>;

    /// Makes a block dirty; without effect if there is no such block or nothing is tracked.
    fn mark_dirty(&mut self, index: u64);

    /// Returns the content of a block; [`None`] if it is empty, or there is no such block.
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

/// Returns whether all bytes are zeros.
pub fn is_zero(bytes: &[u8]) -> bool {
    /// How many bytes are looked at before it is decided whether to look on.
    const STEP: usize = 64;

    let mut steps = bytes.chunks(STEP);
    steps.all(|step| step.iter().fold(0, |seen, byte| seen | byte) == 0)
}

/// How much of a storage is dirty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// Blocks that are not empty.
    pub data: u64,
    /// Blocks that are empty.
    pub empty: u64,
    /// Runs of dirty empty blocks, each as long as it can be.
    pub runs: u64,
}

/// Blocks that a pair of words of the bitmaps tells of.
const WORD_BLOCKS: u64 = u64::BITS as u64;

/// Words of a pair: 64 blocks in the one bitmap, the same blocks in the other.
const PAIR: usize = 2;

/// Two bitmaps, of the dirty blocks and of those among them that are empty, which know how much that
/// is.
///
/// # Invariants
///
/// - `words` are pairs of one word of each bitmap, with a bit for every block; no other bit is set.
/// - What is set in the second word of a pair is set in the first.
/// - `dirty` counts the bits of the first words that are not set in the second, those of the second
///   words, and the runs of the latter.
pub struct DirtyBlocks<B: AsRef<[u64]> + AsMut<[u64]>> {
    words: B,
    blocks: u64,
    dirty: Dirty,
}

/// Where a block is in the bitmaps.
struct Place {
    pair: usize,
    mask: u64,
}

/// What the bitmaps say about a block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    Clean,
    Data,
    Empty,
}

impl DirtyBlocks<[u64; 0]> {
    /// Returns how many words the bitmaps of `blocks` blocks have, two bits a block, or [`None`] if
    /// they are more than memory can have.
    pub fn words(blocks: u64) -> Option<usize> {
        usize::try_from(blocks.div_ceil(WORD_BLOCKS))
            .ok()?
            .checked_mul(PAIR)
    }
}

impl<B: AsRef<[u64]> + AsMut<[u64]>> DirtyBlocks<B> {
    /// Returns the bitmaps of `blocks` blocks, all clean, or [`None`] if `words` has fewer than
    /// [`DirtyBlocks::words`] words. What is in them does not matter.
    pub fn new(words: B, blocks: u64) -> Option<Self> {
        let needed = DirtyBlocks::words(blocks)?;
        if words.as_ref().len() < needed {
            return None;
        }

        let mut dirty = Self {
            words,
            blocks,
            dirty: Dirty::default(),
        };
        dirty.clear();
        Some(dirty)
    }

    /// Returns how many blocks there are, dirty or clean.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Returns how much is dirty. A run of empty blocks that begins before block `from` and ends
    /// after it counts as two.
    pub fn dirty(&self, from: u64) -> Dirty {
        let divides = self.is_empty(from) && self.is_empty_before(from);

        Dirty {
            runs: self.dirty.runs.saturating_add(u64::from(divides)),
            ..self.dirty
        }
    }

    /// Returns whether a block is dirty; one that does not exist is not.
    pub fn is_dirty(&self, index: u64) -> bool {
        self.get(index) != Block::Clean
    }

    /// Makes a block dirty that is not empty; without effect if there is no such block.
    pub fn mark_data(&mut self, index: u64) {
        self.set(index, Block::Data);
    }

    /// Makes a block dirty that is empty; without effect if there is no such block.
    pub fn mark_empty(&mut self, index: u64) {
        self.set(index, Block::Empty);
    }

    /// Makes the first dirty block at or after `from` clean, or else the first of all, and returns
    /// its number.
    pub fn take_next(&mut self, from: u64) -> Option<u64> {
        if self.dirty.data == 0 && self.dirty.empty == 0 {
            return None;
        }

        let index = self.find(from).or_else(|| self.find(0))?;
        self.set(index, Block::Clean);
        Some(index)
    }

    /// Makes all blocks clean.
    pub fn clear(&mut self) {
        self.words.as_mut().fill(0);
        self.dirty = Dirty::default();
    }

    fn get(&self, index: u64) -> Block {
        let pair = self
            .place(index)
            .and_then(|place| Some((self.words.as_ref().get(place.pair..)?, place.mask)));

        match pair {
            Some(([_, empty, ..], mask)) if empty & mask != 0 => Block::Empty,
            Some(([dirty, ..], mask)) if dirty & mask != 0 => Block::Data,
            _ => Block::Clean,
        }
    }

    fn set(&mut self, index: u64, block: Block) {
        let before = self.get(index);
        let neighbours = u64::from(self.is_empty_before(index))
            .saturating_add(u64::from(self.is_empty_after(index)));
        let place = self.place(index);
        let pair = place.and_then(|place| {
            let pair = self.words.as_mut().get_mut(place.pair..)?;
            Some((pair, place.mask))
        });
        let Some(([dirty, empty, ..], mask)) = pair else {
            return;
        };

        let put = |word: &mut u64, set| {
            if set {
                *word |= mask;
            } else {
                *word &= !mask;
            }
        };
        put(dirty, block != Block::Clean);
        put(empty, block == Block::Empty);

        let counts = &mut self.dirty;
        match before {
            Block::Clean => {}
            Block::Data => counts.data = counts.data.saturating_sub(1),
            Block::Empty => {
                counts.empty = counts.empty.saturating_sub(1);
                // The run is gone, shorter, or two.
                counts.runs = counts.runs.saturating_add(neighbours).saturating_sub(1);
            }
        }
        match block {
            Block::Clean => {}
            Block::Data => counts.data = counts.data.saturating_add(1),
            Block::Empty => {
                counts.empty = counts.empty.saturating_add(1);
                // A run of its own, a longer one, or two that are one now.
                counts.runs = counts.runs.saturating_add(1).saturating_sub(neighbours);
            }
        }
    }

    fn is_empty(&self, index: u64) -> bool {
        self.get(index) == Block::Empty
    }

    fn is_empty_before(&self, index: u64) -> bool {
        index
            .checked_sub(1)
            .is_some_and(|before| self.is_empty(before))
    }

    fn is_empty_after(&self, index: u64) -> bool {
        index
            .checked_add(1)
            .is_some_and(|after| self.is_empty(after))
    }

    /// Returns the first dirty block at or after `from`.
    fn find(&self, from: u64) -> Option<u64> {
        let first = self.place(from)?;
        // The bits at and above that of `from`.
        let mut wanted = !first.mask.wrapping_sub(1);

        let pairs = self.words.as_ref().chunks_exact(PAIR).enumerate();
        for (word, pair) in pairs.skip(first.pair / PAIR) {
            let bits = pair.first()? & wanted;
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
            pair: usize::try_from(index / WORD_BLOCKS)
                .ok()?
                .checked_mul(PAIR)?,
            mask: 1u64.rotate_left((index % WORD_BLOCKS) as u32),
        })
    }
}
