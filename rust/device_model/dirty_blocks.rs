// SPDX-License-Identifier: GPL-2.0

//! Bitmaps of dirty blocks, for an implementation of [`MigratedBlocks`](crate::MigratedBlocks).

use crate::migrated_blocks::Dirty;

/// Blocks in a pair of words of the bitmaps.
const WORD_BLOCKS: u64 = u64::BITS as u64;

/// Words of a pair: 64 blocks in the one bitmap, the same blocks in the other.
const PAIR: usize = 2;

/// Two bitmaps, of the dirty blocks and of the empty ones among them, with the amounts of both.
///
/// # Invariants
///
/// - `words` are pairs of one word of each bitmap, with a bit for every block; no other bit is set.
/// - A bit that is set in the second word of a pair is set in the first.
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

/// A block according to the bitmaps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    Clean,
    Data,
    Empty,
}

impl DirtyBlocks<[u64; 0]> {
    /// Returns the number of words of the bitmaps of `blocks` blocks, two bits a block, or [`None`] if it
    /// overflows.
    pub fn words(blocks: u64) -> Option<usize> {
        usize::try_from(blocks.div_ceil(WORD_BLOCKS))
            .ok()?
            .checked_mul(PAIR)
    }
}

impl<B: AsRef<[u64]> + AsMut<[u64]>> DirtyBlocks<B> {
    /// Returns the bitmaps of `blocks` blocks, all clean, or [`None`] if `words` has fewer than
    /// [`DirtyBlocks::words`] words, whose values do not matter.
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

    /// Returns the number of blocks, dirty or clean.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Returns the amount of dirty blocks. A run of empty blocks that begins before block `from` and ends
    /// after it counts as two.
    pub fn dirty(&self, from: u64) -> Dirty {
        let divides = self.is_empty(from) && self.is_empty_before(from);

        Dirty {
            runs: self.dirty.runs.saturating_add(u64::from(divides)),
            ..self.dirty
        }
    }

    /// Returns whether a block exists and is dirty.
    pub fn is_dirty(&self, index: u64) -> bool {
        self.get(index) != Block::Clean
    }

    /// Marks a block dirty and not empty; without effect if there is no such block.
    pub fn mark_data(&mut self, index: u64) {
        self.set(index, Block::Data);
    }

    /// Marks a block dirty and empty; without effect if there is no such block.
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
