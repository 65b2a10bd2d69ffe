// SPDX-License-Identifier: GPL-2.0

//! The I/O address space of devices: the common part of a type1 container and an IOAS of iommufd.

use core::fmt::Debug;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::Mapping;
use crate::Result;

/// The DMA that a mapping allows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// Reads and writes.
    Both,
    /// Reads alone.
    ReadOnly,
    /// Writes alone.
    WriteOnly,
}

/// An I/O address space. It owns memory for as long as the memory is mapped in it.
pub trait AddressSpace: Debug + Sync {
    /// Maps memory at an IOVA.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    fn map_for(&self, iova: u64, memory: &Arc<Mapping>, access: Access) -> Result<()>;

    /// Maps memory at an IOVA, for reads and writes.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    fn map(&self, iova: u64, memory: &Arc<Mapping>) -> Result<()> {
        self.map_for(iova, memory, Access::Both)
    }

    /// Unmaps all mappings in `[iova, iova + size)`. Returns their size in bytes.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    fn unmap(&self, iova: u64, size: u64) -> Result<u64>;
}

/// The memory that is mapped in an address space.
///
/// # Invariants
///
/// Every memory that the kernel has mapped there is here, by its IOVA.
#[derive(Debug, Default)]
pub(crate) struct Mapped(Mutex<BTreeMap<u64, Arc<Mapping>>>);

impl Mapped {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Mapping>>> {
        // No code panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Maps memory with `map`.
    pub(crate) fn add(
        &self,
        iova: u64,
        memory: &Arc<Mapping>,
        map: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        // The lock is held across both steps, so that an unmap of the same address comes before or after
        // both.
        let mut mapped = self.lock();
        map()?;
        mapped.insert(iova, Arc::clone(memory));
        Ok(())
    }

    /// Unmaps a range with `unmap`.
    pub(crate) fn remove(
        &self,
        iova: u64,
        size: u64,
        unmap: impl FnOnce() -> Result<u64>,
    ) -> Result<u64> {
        let mut mapped = self.lock();
        let unmapped = unmap()?;
        // No kernel cuts a mapping: a mapping is in the range as a whole, or stays.
        let end = iova.saturating_add(size);
        mapped.retain(|start, _| !(iova..end).contains(start));
        Ok(unmapped)
    }

    /// Unmaps everything with `unmap`. If `unmap` fails, the memory is leaked, because devices may still
    /// write it.
    pub(crate) fn remove_all(&self, unmap: impl FnOnce() -> Result<()>) {
        let mut mapped = self.lock();
        if mapped.is_empty() {
            return;
        }
        if let Err(error) = unmap() {
            eprintln!("# {error}");
            core::mem::forget(core::mem::take(&mut *mapped));
        }
        mapped.clear();
    }

    /// Leaves everything mapped, and leaks the memory.
    pub(crate) fn leave(&self) {
        core::mem::forget(core::mem::take(&mut *self.lock()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Mapped;
    use crate::Errno;
    use crate::Error;
    use crate::Mapping;

    fn refusal<T>() -> crate::Result<T> {
        Err(Error::Kernel {
            what: "test".into(),
            errno: Errno::BUSY,
        })
    }

    #[test]
    fn memory_is_kept_exactly_while_the_kernel_has_it_mapped() {
        let memory = Arc::new(Mapping::anonymous(4096).expect("memory"));
        let mapped = Mapped::default();
        assert!(mapped.add(0, &memory, refusal).is_err());
        assert_eq!(Arc::strong_count(&memory), 1, "after a map that failed");
        for iova in [0x1000, 0x2000, 0x4000] {
            mapped.add(iova, &memory, || Ok(())).expect("a mapping");
        }
        assert_eq!(Arc::strong_count(&memory), 4, "after three");
        assert!(mapped.remove(0, u64::MAX, refusal).is_err());
        assert_eq!(Arc::strong_count(&memory), 4, "after an unmap that failed");
        mapped.remove(0x1000, 0x3000, || Ok(0x2000)).expect("two");
        assert_eq!(Arc::strong_count(&memory), 2, "after an unmap of two");
        mapped.remove_all(|| Ok(()));
        assert_eq!(Arc::strong_count(&memory), 1, "after an unmap of all");
    }

    #[test]
    fn memory_that_may_still_be_mapped_stays() {
        let memory = Arc::new(Mapping::anonymous(4096).expect("memory"));
        let mapped = Mapped::default();
        mapped.add(0, &memory, || Ok(())).expect("a mapping");
        mapped.remove_all(refusal);
        drop(mapped);
        assert_eq!(Arc::strong_count(&memory), 2, "nobody can free it");
    }
}
