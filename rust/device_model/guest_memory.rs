// SPDX-License-Identifier: GPL-2.0

//! The memory of a guest, as a device model reaches it by DMA.

use core::fmt;

/// The guest's memory does not take the access: nothing is mapped there, or not for this direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryError;

/// The memory of a guest, as a device reaches it by DMA.
///
/// The guest changes it at any time, so two reads of the same bytes can differ.
pub trait GuestMemory {
    /// Reads `into.len()` bytes at the bus address `address`.
    ///
    /// # Errors
    ///
    /// Not all of the bytes are readable; `into` may have any content then.
    fn read(&mut self, address: u64, into: &mut [u8]) -> Result<(), MemoryError>;

    /// Writes `from.len()` bytes at the bus address `address`.
    ///
    /// The guest's processors may see the bytes of a write in any order, but see nothing of it before
    /// all that was written before: the phase of a completion tells that the entry and the data are
    /// there.
    ///
    /// # Errors
    ///
    /// Not all of the bytes are writable; some may have been written.
    fn write(&mut self, address: u64, from: &[u8]) -> Result<(), MemoryError>;

    /// Does the same as [`Self::read`], with memory that is accessed again and again, such as a queue: a look-up of it
    /// may be kept.
    ///
    /// # Errors
    ///
    /// As for [`Self::read`].
    fn read_often(&mut self, address: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        self.read(address, into)
    }

    /// Does the same as [`Self::write`], with memory as in [`Self::read_often`].
    ///
    /// # Errors
    ///
    /// As for [`Self::write`].
    fn write_often(&mut self, address: u64, from: &[u8]) -> Result<(), MemoryError> {
        self.write(address, from)
    }
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the guest's memory does not take the access")
    }
}
