// SPDX-License-Identifier: GPL-2.0

//! The content of a namespace in the host's memory.
//!
//! A block takes memory from when it is written until it is deallocated, and nothing before and
//! afterwards: blocks hang off leaves, which hang off a root, and a leaf without blocks is no leaf.
//! All of it is charged to the memory cgroup of the process that opened the device, whichever thread
//! executes the command. A guest that writes more than the group or the host has gets an error;
//! nothing is killed for it.
//!
//! While a migration is under way, each block that is or becomes present is in a bitmap of dirty
//! blocks, and so is each that ceases to be. So a block that was never written is never looked at.

use core::ops::Range;
use kernel::{
    alloc::AllocError,
    prelude::*, //
};
use migration::{
    DirtyBlocks,
    Errno,
    Storage,
    BLOCK_SIZE, //
};
use nvme::{
    MemoryError,
    Store,
    StoreError, //
};
use vfio::memcg::{
    cond_resched,
    MemoryCgroup, //
};

/// Blocks of a leaf: one page of pointers, and 2 MiB of content.
const LEAF_BLOCKS: usize = 512;
/// Bytes of content of a leaf.
const LEAF_SIZE: u64 = (LEAF_BLOCKS * BLOCK_SIZE) as u64;

type Block = [u8; BLOCK_SIZE];

/// What a block that is not present reads as.
static ZEROES: Block = [0; BLOCK_SIZE];

/// Neighbouring blocks.
///
/// # Invariants
///
/// `present` is the number of blocks that are [`Some`].
struct Leaf {
    blocks: KBox<[Option<KBox<Block>>; LEAF_BLOCKS]>,
    present: usize,
}

impl Leaf {
    fn new(group: &MemoryCgroup) -> Result<Self, AllocError> {
        // INVARIANT: Zeroes are `None`.
        Ok(Self {
            blocks: group.try_zeroed()?,
            present: 0,
        })
    }

    /// Makes a part of a block zeros; the block ceases to be present if it is the whole. Returns
    /// whether it was.
    fn zero(&mut self, piece: &Piece) -> bool {
        let Some(slot) = self.blocks.get_mut(piece.slot) else {
            return false;
        };
        let Some(block) = slot else {
            return false;
        };

        if piece.range.len() == BLOCK_SIZE {
            // INVARIANT: There is one less.
            *slot = None;
            self.present = self.present.saturating_sub(1);
        } else if let Some(part) = block.get_mut(piece.range.clone()) {
            part.fill(0);
        }
        true
    }
}

/// Part of a block.
struct Piece {
    /// Number of the block.
    index: u64,
    /// Number of the leaf that the block is in.
    leaf: usize,
    /// Number of the block in the leaf.
    slot: usize,
    /// Which bytes of the block.
    range: Range<usize>,
}

/// Splits the bytes `[at, end)` at the borders of blocks.
struct Pieces {
    at: u64,
    end: u64,
}

impl Iterator for Pieces {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        let rest = self.end.checked_sub(self.at).filter(|rest| *rest > 0)?;
        let index = self.at / BLOCK_SIZE as u64;
        // These are less than a block.
        let start = (self.at % BLOCK_SIZE as u64) as usize;
        let len = rest.min((BLOCK_SIZE - start) as u64);

        self.at += len;
        Some(Piece {
            index,
            leaf: usize::try_from(index / LEAF_BLOCKS as u64).ok()?,
            slot: (index % LEAF_BLOCKS as u64) as usize,
            range: start..start + len as usize,
        })
    }
}

/// The words of a bitmap.
struct Words(KVVec<u64>);

impl AsRef<[u64]> for Words {
    fn as_ref(&self) -> &[u64] {
        &self.0
    }
}

impl AsMut<[u64]> for Words {
    fn as_mut(&mut self) -> &mut [u64] {
        &mut self.0
    }
}

/// Sparse memory of a fixed capacity, which begins with zeros.
pub(crate) struct RamStore {
    root: KVVec<Option<Leaf>>,
    /// Capacity in blocks.
    blocks: u64,
    /// Which blocks the stream does not have as they are now, while a migration is under way.
    dirty: Option<DirtyBlocks<Words>>,
    group: MemoryCgroup,
}

impl RamStore {
    /// Makes a store of `capacity` bytes for the current process.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `capacity` is not a multiple of [`BLOCK_SIZE`], `ENOMEM`.
    pub(crate) fn new(capacity: u64) -> Result<Self> {
        if capacity % BLOCK_SIZE as u64 != 0 {
            return Err(EINVAL);
        }
        let leaves = usize::try_from(capacity.div_ceil(LEAF_SIZE)).map_err(|_| ENOMEM)?;

        let mut root = KVVec::with_capacity(leaves, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..leaves {
            root.push(None, GFP_KERNEL_ACCOUNT)?;
        }

        Ok(Self {
            root,
            blocks: capacity / BLOCK_SIZE as u64,
            dirty: None,
            group: MemoryCgroup::of_current(),
        })
    }

    /// Makes another store of the same capacity for the current process, with nothing in it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new_alike(&self) -> Result<Self> {
        Self::new(self.capacity())
    }

    /// Capacity in bytes.
    pub(crate) fn capacity(&self) -> u64 {
        self.blocks * BLOCK_SIZE as u64
    }

    /// Returns where `[offset, offset + len)` ends, or [`None`] if that is behind the end of the
    /// store.
    fn end(&self, offset: u64, len: u64) -> Option<u64> {
        offset
            .checked_add(len)
            .filter(|end| *end <= self.capacity())
    }

    fn pieces(&self, offset: u64, len: u64) -> Option<Pieces> {
        let end = self.end(offset, len)?;

        Some(Pieces { at: offset, end })
    }

    fn present(&self, leaf: usize, slot: usize) -> Option<&Block> {
        let leaf = self.root.get(leaf)?.as_ref()?;

        leaf.blocks.get(slot)?.as_deref()
    }

    /// Returns the bytes of `piece`, which are about to be written.
    fn write_piece(&mut self, piece: &Piece) -> Result<&mut [u8], AllocError> {
        let leaf = self.root.get_mut(piece.leaf).ok_or(AllocError)?;
        let leaf = match leaf {
            Some(leaf) => leaf,
            None => leaf.insert(Leaf::new(&self.group)?),
        };

        let slot = leaf.blocks.get_mut(piece.slot).ok_or(AllocError)?;
        let block = match slot {
            Some(block) => block,
            None => {
                let block = slot.insert(self.group.try_zeroed()?);
                // INVARIANT: There is one more.
                leaf.present += 1;
                block
            }
        };

        if let Some(dirty) = &mut self.dirty {
            dirty.mark(piece.index);
        }
        block.get_mut(piece.range.clone()).ok_or(AllocError)
    }

    /// Makes `[at, end)`, which is in the store, zeros. It takes its time only where blocks are
    /// present.
    fn zero(&mut self, mut at: u64, end: u64) {
        while at < end {
            let leaf = at / LEAF_SIZE;
            let leaf_end = end.min((leaf + 1) * LEAF_SIZE);
            let slot = usize::try_from(leaf)
                .ok()
                .and_then(|leaf| self.root.get_mut(leaf));

            if let Some(slot @ Some(_)) = slot {
                if let Some(leaf) = slot {
                    for piece in (Pieces { at, end: leaf_end }) {
                        let was_present = leaf.zero(&piece);
                        if let (true, Some(dirty)) = (was_present, &mut self.dirty) {
                            dirty.mark(piece.index);
                        }
                    }
                }
                *slot = slot.take().filter(|leaf| leaf.present > 0);
                cond_resched();
            }
            at = leaf_end;
        }
    }
}

impl Drop for RamStore {
    fn drop(&mut self) {
        // Gigabytes take a while.
        for leaf in self.root.iter_mut() {
            if leaf.take().is_some() {
                cond_resched();
            }
        }
    }
}

impl Store for RamStore {
    fn read(
        &mut self,
        offset: u64,
        len: usize,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), MemoryError>,
    ) -> Result<(), StoreError> {
        for piece in self.pieces(offset, len as u64).ok_or(StoreError::Medium)? {
            let block = self.present(piece.leaf, piece.slot).unwrap_or(&ZEROES);
            sink(block.get(piece.range).ok_or(StoreError::Medium)?)?;
        }

        Ok(())
    }

    fn write(
        &mut self,
        offset: u64,
        len: usize,
        source: &mut dyn FnMut(&mut [u8]) -> Result<(), MemoryError>,
    ) -> Result<(), StoreError> {
        for piece in self.pieces(offset, len as u64).ok_or(StoreError::Medium)? {
            let bytes = self.write_piece(&piece).map_err(|_| StoreError::Full)?;
            source(bytes)?;
        }

        Ok(())
    }

    fn write_zeroes(
        &mut self,
        offset: u64,
        len: u64,
        _may_deallocate: bool,
    ) -> Result<(), StoreError> {
        // Nobody can tell memory that is taken from memory that is not.
        self.deallocate(offset, len)
    }

    fn deallocate(&mut self, offset: u64, len: u64) -> Result<(), StoreError> {
        let end = self.end(offset, len).ok_or(StoreError::Medium)?;

        self.zero(offset, end);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Storage for RamStore {
    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn written_blocks(&self) -> u64 {
        let leaves = self.root.iter().flatten();
        leaves.map(|leaf| leaf.present as u64).sum()
    }

    fn track(&mut self) -> Result<(), Errno> {
        let mut dirty = match self.dirty.take() {
            Some(mut dirty) => {
                dirty.clear();
                dirty
            }
            None => {
                let words = DirtyBlocks::words(self.blocks).ok_or(Errno::ENOMEM)?;
                let words = self
                    .group
                    .charge(|| KVVec::from_elem(0, words, GFP_KERNEL_ACCOUNT))
                    .map_err(|_| Errno::ENOMEM)?;
                DirtyBlocks::new(Words(words), self.blocks).ok_or(Errno::ENOMEM)?
            }
        };

        let leaves = (0..).step_by(LEAF_BLOCKS).zip(self.root.iter());
        for (first, leaf) in leaves {
            let Some(leaf) = leaf else {
                continue;
            };
            for (index, block) in (first..).zip(leaf.blocks.iter()) {
                if block.is_some() {
                    dirty.mark(index);
                }
            }
            cond_resched();
        }
        self.dirty = Some(dirty);

        Ok(())
    }

    fn untrack(&mut self) {
        self.dirty = None;
    }

    fn dirty_blocks(&self) -> u64 {
        self.dirty.as_ref().map_or(0, DirtyBlocks::count)
    }

    fn take_dirty(&mut self, from: u64) -> Option<u64> {
        self.dirty.as_mut()?.take_next(from)
    }

    fn mark_dirty(&mut self, index: u64) {
        if let Some(dirty) = &mut self.dirty {
            dirty.mark(index);
        }
    }

    fn block(&self, index: u64) -> Option<&[u8; BLOCK_SIZE]> {
        let leaf = usize::try_from(index / LEAF_BLOCKS as u64).ok()?;

        self.present(leaf, (index % LEAF_BLOCKS as u64) as usize)
    }

    fn put(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        let mut rest = bytes;

        for piece in self
            .pieces(offset, bytes.len() as u64)
            .ok_or(Errno::EINVAL)?
        {
            let into = self.write_piece(&piece).map_err(|_| Errno::ENOMEM)?;
            let (bytes, behind) = rest.split_at_checked(into.len()).ok_or(Errno::EINVAL)?;
            into.copy_from_slice(bytes);
            rest = behind;
        }

        Ok(())
    }

    fn put_zeroes(&mut self, offset: u64, len: u64) -> Result<(), Errno> {
        let end = self.end(offset, len).ok_or(Errno::EINVAL)?;

        self.zero(offset, end);
        Ok(())
    }
}
