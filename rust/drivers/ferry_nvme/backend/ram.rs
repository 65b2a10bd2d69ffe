// SPDX-License-Identifier: GPL-2.0

//! The content of a namespace in the host's memory.
//!
//! A block takes memory only while it is not all zeros: a block that is deallocated or written with
//! zeros gives its memory back. Blocks hang off leaves, which hang off a root, and a leaf without blocks
//! is freed. All memory is charged to the memory cgroup of the process that uses the device: the worker is one of
//! its threads. A guest that writes more than the group or the host has gets an error; no process is killed for
//! it.
//!
//! A command's write is done as a whole or not at all: see [`spares`].
//!
//! During a migration, a bitmap has the dirty blocks: each block that is or becomes present, and each
//! that ceases to be, which another bitmap has. So a migration never looks at a block that was never
//! written, and an empty block costs it next to nothing.

mod spares;

use core::ops::Range;
use device_model::{
    migrated_blocks::is_zero,
    BackendError,
    BlockBackend,
    Dirty,
    DirtyBlocks,
    MemoryError,
    MigratedBlocks,
    ReadStraight,
    BLOCK_SIZE, //
};
use kernel::{
    alloc::AllocError,
    prelude::*, //
};
use kernel_ext::{
    memory::try_zeroed,
    sched::cond_resched, //
};
use spares::{
    Spares,
    SPARES, //
};
use vfio_uapi::Errno;

/// Blocks of a leaf: one page of pointers, and 2 MiB of content.
const LEAF_BLOCKS: usize = 512;
/// Bytes of content of a leaf.
const LEAF_SIZE: u64 = (LEAF_BLOCKS * BLOCK_SIZE) as u64;

type Block = [u8; BLOCK_SIZE];

/// Content of a block that is not present.
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
    fn new() -> Result<Self, AllocError> {
        // INVARIANT: Zeroed blocks are `None`.
        Ok(Self {
            blocks: try_zeroed()?,
            present: 0,
        })
    }

    /// Returns a block that is about to be written, and makes it present.
    fn block(&mut self, slot: usize) -> Result<&mut Block, AllocError> {
        let slot = self.blocks.get_mut(slot).ok_or(AllocError)?;

        match slot {
            Some(block) => Ok(block),
            None => {
                let block = slot.insert(try_zeroed()?);
                // INVARIANT: One more block is `Some`.
                self.present += 1;
                Ok(block)
            }
        }
    }

    /// Puts the spare block number `index` into a slot, which may be empty.
    fn replace(&mut self, slot: usize, index: usize, spares: &mut Spares) {
        let place = self.blocks.get_mut(slot);
        if place.is_some_and(|place| spares.put(index, place)) {
            // INVARIANT: One more block is `Some`.
            self.present += 1;
        }
    }

    fn is_present(&self, slot: usize) -> bool {
        self.blocks.get(slot).is_some_and(Option::is_some)
    }

    /// Zeroes a part of a block, if the block is present.
    fn zero(&mut self, piece: &Piece) {
        if piece.range.len() == BLOCK_SIZE {
            self.remove(piece.slot);
            return;
        }

        let block = self.blocks.get_mut(piece.slot).and_then(Option::as_mut);
        if let Some(part) = block.and_then(|block| block.get_mut(piece.range.clone())) {
            part.fill(0);
            self.settle(piece);
        }
    }

    /// Frees a block after a write of a part of it, if the block is all zeros.
    fn settle(&mut self, piece: &Piece) {
        let Some(Some(block)) = self.blocks.get(piece.slot) else {
            return;
        };

        // Most writes are not of zeros, so the part that was written mostly settles it.
        let part = block.get(piece.range.clone()).unwrap_or_default();
        if is_zero(part) && is_zero(&block[..]) {
            self.remove(piece.slot);
        }
    }

    fn remove(&mut self, slot: usize) {
        if self.blocks.get_mut(slot).and_then(Option::take).is_some() {
            // INVARIANT: One block fewer is `Some`.
            self.present = self.present.saturating_sub(1);
        }
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
    /// Bytes of the block.
    range: Range<usize>,
}

/// Splits the bytes `[at, end)` at the borders of blocks.
#[derive(Clone)]
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

/// Sparse memory of a fixed capacity, all zeros at first.
pub(crate) struct RamBackend {
    root: KVVec<Option<Leaf>>,
    /// Capacity in blocks.
    blocks: u64,
    /// Blocks that the stream does not have as they are now, during a migration.
    dirty: Option<DirtyBlocks<Words>>,
    spares: Spares,
}

impl RamBackend {
    /// Returns a backend of `capacity` bytes for the current process.
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
            spares: Spares::new()?,
        })
    }

    /// Returns a backend of the same capacity for the current process, all zeros.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new_alike(&self) -> Result<Self> {
        Self::new(self.capacity())
    }

    /// Capacity in bytes.
    fn capacity(&self) -> u64 {
        self.blocks * BLOCK_SIZE as u64
    }

    /// Returns the end of `[offset, offset + len)`, or [`None`] if it is behind the end of the backend.
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

    /// Has `fill` write the bytes of `piece`.
    fn put_piece(
        &mut self,
        piece: &Piece,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), AllocError> {
        let place = self.root.get_mut(piece.leaf).ok_or(AllocError)?;
        let leaf = match place {
            Some(leaf) => leaf,
            None => place.insert(Leaf::new()?),
        };
        let was_present = leaf.is_present(piece.slot);

        let put = leaf
            .block(piece.slot)
            .map(|block| fill(block.get_mut(piece.range.clone()).unwrap_or_default()));
        leaf.settle(piece);
        mark(
            &mut self.dirty,
            piece.index,
            was_present,
            leaf.is_present(piece.slot),
        );
        if leaf.present == 0 {
            *place = None;
        }
        put
    }

    /// Has `source` write the bytes of `pieces`, at most [`SPARES`]. On error no byte changes, but leaves without blocks may
    /// be left.
    fn write_whole(
        &mut self,
        pieces: &Pieces,
        source: &mut dyn FnMut(&mut [u8]) -> Result<(), MemoryError>,
    ) -> Result<(), BackendError> {
        let full = |AllocError| BackendError::Full;

        let mut absent = 0;
        for piece in pieces.clone() {
            let place = self.root.get_mut(piece.leaf).ok_or(BackendError::Medium)?;
            let leaf = match place {
                Some(leaf) => leaf,
                None => place.insert(Leaf::new().map_err(full)?),
            };
            absent += usize::from(!leaf.is_present(piece.slot));
        }
        self.spares.add(absent).map_err(full)?;

        for (index, piece) in pieces.clone().enumerate() {
            let new = self.spares.get_mut(index).ok_or(BackendError::Medium)?;
            if piece.range.len() < BLOCK_SIZE {
                let leaf = self.root.get(piece.leaf).and_then(Option::as_ref);
                let old = leaf.and_then(|leaf| leaf.blocks.get(piece.slot)?.as_deref());
                *new = *old.unwrap_or(&ZEROES);
            }
            source(new.get_mut(piece.range).unwrap_or_default())?;
        }

        // Nothing can fail any more.
        for (index, piece) in pieces.clone().enumerate() {
            let Some(Some(leaf)) = self.root.get_mut(piece.leaf) else {
                continue;
            };
            let was_present = leaf.is_present(piece.slot);
            leaf.replace(piece.slot, index, &mut self.spares);
            leaf.settle(&piece);
            let is_present = leaf.is_present(piece.slot);
            mark(&mut self.dirty, piece.index, was_present, is_present);
        }
        Ok(())
    }

    /// Frees the leaves of `pieces` that have no block.
    fn free_leaves(&mut self, pieces: Pieces) {
        for piece in pieces {
            if let Some(place) = self.root.get_mut(piece.leaf) {
                *place = place.take().filter(|leaf| leaf.present > 0);
            }
        }
    }

    /// Zeroes `[at, end)`, which the backend has. Only blocks that are present take time.
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
                        let was_present = leaf.is_present(piece.slot);
                        leaf.zero(&piece);
                        let is_present = leaf.is_present(piece.slot);
                        mark(&mut self.dirty, piece.index, was_present, is_present);
                    }
                }
                *slot = slot.take().filter(|leaf| leaf.present > 0);
                cond_resched();
            }
            at = leaf_end;
        }
    }
}

/// Marks a block dirty that was, or is, present.
fn mark(dirty: &mut Option<DirtyBlocks<Words>>, index: u64, was_present: bool, is_present: bool) {
    match (dirty, was_present, is_present) {
        (Some(dirty), _, true) => dirty.mark_data(index),
        (Some(dirty), true, false) => dirty.mark_empty(index),
        _ => {}
    }
}

impl Drop for RamBackend {
    fn drop(&mut self) {
        // Freeing gigabytes takes a while.
        for leaf in self.root.iter_mut() {
            if leaf.take().is_some() {
                cond_resched();
            }
        }
    }
}

impl BlockBackend for RamBackend {
    fn read(
        &mut self,
        offset: u64,
        len: usize,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), MemoryError>,
    ) -> Result<(), BackendError> {
        for piece in self
            .pieces(offset, len as u64)
            .ok_or(BackendError::Medium)?
        {
            let block = self.present(piece.leaf, piece.slot).unwrap_or(&ZEROES);
            sink(block.get(piece.range).ok_or(BackendError::Medium)?)?;
        }

        Ok(())
    }

    fn write(
        &mut self,
        offset: u64,
        len: usize,
        source: &mut dyn FnMut(&mut [u8]) -> Result<(), MemoryError>,
    ) -> Result<(), BackendError> {
        let pieces = self
            .pieces(offset, len as u64)
            .filter(|pieces| pieces.clone().count() <= SPARES)
            .ok_or(BackendError::Medium)?;

        let written = self.write_whole(&pieces, source);
        self.spares.settle();
        self.free_leaves(pieces);
        written
    }

    fn write_zeroes(
        &mut self,
        offset: u64,
        len: u64,
        _may_deallocate: bool,
    ) -> Result<(), BackendError> {
        // A guest cannot tell zeros that take memory from zeros that do not.
        self.deallocate(offset, len)
    }

    fn deallocate(&mut self, offset: u64, len: u64) -> Result<(), BackendError> {
        let end = self.end(offset, len).ok_or(BackendError::Medium)?;

        self.zero(offset, end);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BackendError> {
        Ok(())
    }

    fn write_back(&mut self) -> Result<(), BackendError> {
        Ok(())
    }
}

// The backend lends its own memory.
impl<M> ReadStraight<M> for RamBackend {}

impl MigratedBlocks for RamBackend {
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
                let words =
                    KVVec::from_elem(0, words, GFP_KERNEL_ACCOUNT).map_err(|_| Errno::ENOMEM)?;
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
                    dirty.mark_data(index);
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

    fn dirty(&self, from: u64) -> Dirty {
        let dirty = self.dirty.as_ref();

        dirty.map_or(Dirty::default(), |dirty| dirty.dirty(from))
    }

    fn take_dirty(&mut self, from: u64) -> Option<u64> {
        self.dirty.as_mut()?.take_next(from)
    }

    fn mark_dirty(&mut self, index: u64) {
        let is_present = self.block(index).is_some();

        mark(&mut self.dirty, index, true, is_present);
    }

    fn block(&self, index: u64) -> Option<&[u8; BLOCK_SIZE]> {
        let leaf = usize::try_from(index / LEAF_BLOCKS as u64).ok()?;

        self.present(leaf, (index % LEAF_BLOCKS as u64) as usize)
    }

    fn put(
        &mut self,
        offset: u64,
        len: usize,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Errno> {
        for piece in self.pieces(offset, len as u64).ok_or(Errno::EINVAL)? {
            self.put_piece(&piece, &mut *fill)
                .map_err(|AllocError| Errno::ENOMEM)?;
        }

        Ok(())
    }

    fn put_zeroes(&mut self, offset: u64, len: u64) -> Result<(), Errno> {
        let end = self.end(offset, len).ok_or(Errno::EINVAL)?;

        self.zero(offset, end);
        Ok(())
    }
}
