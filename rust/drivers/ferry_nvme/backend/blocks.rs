// SPDX-License-Identifier: GPL-2.0

//! The blocks of all namespaces in memory, one namespace after the other, as a migration moves them.

use super::ram::RamBackend;
use device_model::{
    Dirty,
    MigratedBlocks,
    BLOCK_SIZE, //
};
use kernel::prelude::*;
use nvme::NAMESPACES_MAX;
use vfio_uapi::Errno;

/// Bytes of a block.
const SIZE: u64 = BLOCK_SIZE as u64;

/// The memory of each namespace that is in memory.
#[derive(Default)]
pub(crate) struct RamBlocks([Option<RamBackend>; NAMESPACES_MAX]);

impl RamBlocks {
    /// Puts the memory of a namespace to its place.
    pub(super) fn put_store(&mut self, index: usize, store: RamBackend) {
        if let Some(place) = self.0.get_mut(index) {
            *place = Some(store);
        }
    }

    /// Returns the memory of a namespace.
    pub(super) fn store(&mut self, index: usize) -> Option<&mut RamBackend> {
        self.0.get_mut(index)?.as_mut()
    }

    /// Returns whether no namespace is in memory.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// Returns as many blocks for the current process, all zeros.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new_alike(&self) -> Result<Self> {
        let mut blocks = Self::default();

        for (index, store) in self.0.iter().enumerate() {
            if let Some(store) = store {
                blocks.put_store(index, store.new_alike()?);
            }
        }
        Ok(blocks)
    }

    /// Returns each store with the number of its first block.
    fn stores(&self) -> impl Iterator<Item = (u64, &RamBackend)> {
        self.0.iter().flatten().scan(0, |first, store| {
            let begin = *first;
            *first += store.blocks();
            Some((begin, store))
        })
    }

    /// As [`Self::stores`].
    fn stores_mut(&mut self) -> impl Iterator<Item = (u64, &mut RamBackend)> {
        self.0.iter_mut().flatten().scan(0, |first, store| {
            let begin = *first;
            *first += store.blocks();
            Some((begin, store))
        })
    }

    /// Has `f` do one part of `[offset, offset + len)` after the other: it gets a store, and offset and length of the part
    /// in it, in bytes.
    fn for_each_part(
        &mut self,
        offset: u64,
        len: u64,
        mut f: impl FnMut(&mut RamBackend, u64, u64) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let end = offset.checked_add(len).ok_or(Errno::EINVAL)?;
        if end > self.blocks().saturating_mul(SIZE) {
            return Err(Errno::EINVAL);
        }

        for (first, store) in self.stores_mut() {
            let begin = first.saturating_mul(SIZE);
            let behind = begin.saturating_add(store.blocks().saturating_mul(SIZE));
            let (from, to) = (offset.max(begin), end.min(behind));
            if from < to {
                f(store, from - begin, to - from)?;
            }
        }
        Ok(())
    }
}

impl MigratedBlocks for RamBlocks {
    fn blocks(&self) -> u64 {
        self.0.iter().flatten().map(RamBackend::blocks).sum()
    }

    fn written_blocks(&self) -> u64 {
        let stores = self.0.iter().flatten();
        stores.map(RamBackend::written_blocks).sum()
    }

    fn track(&mut self) -> Result<(), Errno> {
        let tracked = self.0.iter_mut().flatten().try_for_each(RamBackend::track);
        // To track anew never fails, so none was tracked before.
        tracked.inspect_err(|_| self.untrack())
    }

    fn untrack(&mut self) {
        self.0.iter_mut().flatten().for_each(RamBackend::untrack);
    }

    fn dirty(&self, from: u64) -> Dirty {
        self.stores()
            .map(|(first, store)| {
                // Where `from` is in no run of the store, the amount is the same.
                let within = from.checked_sub(first).filter(|at| *at < store.blocks());
                store.dirty(within.unwrap_or(0))
            })
            .fold(Dirty::default(), |sum, dirty| Dirty {
                data: sum.data + dirty.data,
                empty: sum.empty + dirty.empty,
                runs: sum.runs + dirty.runs,
            })
    }

    fn take_dirty(&mut self, from: u64) -> Option<u64> {
        for (first, store) in self.stores_mut() {
            if from >= first + store.blocks() {
                continue;
            }
            let within = from.saturating_sub(first);
            match store.take_dirty(within) {
                Some(index) if index >= within => return Some(first + index),
                // It is before `from`; others may come behind.
                Some(index) => store.mark_dirty(index),
                None => {}
            }
        }
        self.stores_mut()
            .find_map(|(first, store)| store.take_dirty(0).map(|index| first + index))
    }

    fn mark_dirty(&mut self, index: u64) {
        for (first, store) in self.stores_mut() {
            let within = index.checked_sub(first);
            if let Some(index) = within.filter(|index| *index < store.blocks()) {
                store.mark_dirty(index);
            }
        }
    }

    fn block(&self, index: u64) -> Option<&[u8; BLOCK_SIZE]> {
        self.stores().find_map(|(first, store)| {
            let index = index.checked_sub(first)?;
            (index < store.blocks()).then(|| store.block(index))?
        })
    }

    fn put(
        &mut self,
        offset: u64,
        len: usize,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Errno> {
        self.for_each_part(offset, len as u64, |store, at, len| {
            // It is at most the length of the whole.
            store.put(at, len as usize, fill)
        })
    }

    fn put_zeroes(&mut self, offset: u64, len: u64) -> Result<(), Errno> {
        self.for_each_part(offset, len, RamBackend::put_zeroes)
    }
}
