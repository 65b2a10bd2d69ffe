// SPDX-License-Identifier: GPL-2.0

//! How much a backend has yet to write back.

use core::sync::atomic::{
    AtomicU64,
    Ordering, //
};

/// Bytes that were written to a cache and have yet to be written back, at most. Caches count pages, and not those of
/// one file, so this counts what goes into the cache, and what was in it when a write-back that has ended began. A byte
/// that is written twice counts twice, up to the size of the disk.
///
/// Writers and whoever writes back need no lock.
#[derive(Debug, Default)]
pub struct Unwritten {
    /// Bytes that were written, since the disk was opened.
    written: AtomicU64,
    /// How many of them, the first ones, were written back.
    written_back: AtomicU64,
}

/// What was written before a write-back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(pub u64);

impl Unwritten {
    /// Counts `len` bytes that are in the cache now.
    pub fn add(&self, len: u64) {
        // It takes centuries to wrap.
        self.written.fetch_add(len, Ordering::Relaxed);
    }

    /// Returns what a write-back that begins now writes.
    pub fn mark(&self) -> Mark {
        Mark(self.written.load(Ordering::Relaxed))
    }

    /// A write-back that began at `mark` has ended.
    pub fn written_back(&self, mark: Mark) {
        // An earlier one may end later.
        self.written_back.fetch_max(mark.0, Ordering::Relaxed);
    }

    /// Returns the bytes that have yet to be written back, of a disk of `capacity` bytes.
    pub fn bytes(&self, capacity: u64) -> u64 {
        // In this order, what is written meanwhile makes the result larger, not less than 0.
        let written_back = self.written_back.load(Ordering::Relaxed);
        let written = self.written.load(Ordering::Relaxed);

        written.saturating_sub(written_back).min(capacity)
    }
}
