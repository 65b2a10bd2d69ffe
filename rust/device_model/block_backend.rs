// SPDX-License-Identifier: GPL-2.0

//! The content of a disk, as the commands of a device model access it.

use core::fmt;

use crate::guest_memory::MemoryError;

/// Why a store did not do what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendError {
    /// The guest's memory failed, as the closure said.
    Memory(MemoryError),
    /// There is no space left for what is to be kept.
    Full,
    /// The medium failed.
    Medium,
}

/// The content of a namespace, from byte 0 to its capacity. What was never written reads as zeros.
///
/// Data moves in place: a store lends out slices of its own memory, one after the other in ascending
/// order and `len` bytes altogether. Offsets and lengths are inside of the namespace, and whole
/// logical blocks.
pub trait BlockBackend {
    /// Hands `len` bytes at `offset` to `sink`.
    ///
    /// # Errors
    ///
    /// The medium failed, or `sink` did, which ends the reading.
    fn read(
        &mut self,
        offset: u64,
        len: usize,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), MemoryError>,
    ) -> Result<(), BackendError>;

    /// Whether there is a medium to wait for: then [`Self::expect_read`] is of use, and [`Self::flush`]
    /// can take long.
    fn has_to_wait(&self) -> bool {
        false
    }

    /// Is told that `len` bytes at `offset` will be asked for soon, after other requests, so that a
    /// slow medium can have them under way. Does not wait for them.
    fn expect_read(&mut self, _offset: u64, _len: u64) {}

    /// Moves bytes from `offset` on, `len` at most, to the guest's memory, if the store has a shorter
    /// way there than to lend them. `place` is asked again and again where the next ones go: it is
    /// told how many they are at most, at least one, and says at which bus address how many of them,
    /// at least one, have their place. Returns how many bytes were moved; the rest is read by
    /// [`Self::read`], so this is not the one to report that the medium failed.
    ///
    /// # Errors
    ///
    /// The guest's memory failed, or `place` did, which ends the reading.
    fn read_straight(
        &mut self,
        _offset: u64,
        _len: usize,
        _place: &mut dyn FnMut(usize) -> Result<(u64, usize), MemoryError>,
    ) -> Result<usize, BackendError> {
        Ok(0)
    }

    /// Has `source` fill `len` bytes at `offset`.
    ///
    /// # Errors
    ///
    /// The medium failed, it is full, or `source` failed, which ends the writing. The bytes have
    /// their old or any other content then.
    fn write(
        &mut self,
        offset: u64,
        len: usize,
        source: &mut dyn FnMut(&mut [u8]) -> Result<(), MemoryError>,
    ) -> Result<(), BackendError>;

    /// Makes `len` bytes at `offset` zeros. If `may_deallocate`, they need not take space afterwards.
    ///
    /// # Errors
    ///
    /// The medium failed or is full; the bytes have their old content or are zeros.
    fn write_zeroes(
        &mut self,
        offset: u64,
        len: u64,
        may_deallocate: bool,
    ) -> Result<(), BackendError>;

    /// Makes `len` bytes at `offset` take no space, as far as the store can. They are zeros then, or, if
    /// it cannot and the guest was promised nothing, as they were.
    ///
    /// # Errors
    ///
    /// The medium failed; the bytes have their old content or are zeros.
    fn deallocate(&mut self, offset: u64, len: u64) -> Result<(), BackendError>;

    /// Makes what was written survive a loss of power, as far as the store outlives one at all.
    ///
    /// # Errors
    ///
    /// The medium failed.
    fn flush(&mut self) -> Result<(), BackendError>;
}

impl From<MemoryError> for BackendError {
    fn from(error: MemoryError) -> Self {
        Self::Memory(error)
    }
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(error) => error.fmt(f),
            Self::Full => f.write_str("the store has no space left"),
            Self::Medium => f.write_str("the store's medium failed"),
        }
    }
}
