// SPDX-License-Identifier: GPL-2.0

//! The guest's memory as device models reach it: DMA through the user's I/O address space.

use device_model::{
    GuestMemory,
    MemoryError, //
};
use kernel_ext::file::Cached;
use vfio::emulated::Dma;

/// The guest's memory, by [`Dma`], which reports each access that fails.
pub struct DmaMemory<'a>(pub(crate) &'a Dma<'a>);

impl DmaMemory<'_> {
    /// Writes bytes of a file at the bus address `address`, straight from the page cache.
    ///
    /// # Errors
    ///
    /// As for [`GuestMemory::write`].
    pub fn write_cached(&mut self, address: u64, bytes: Cached<'_>) -> Result<(), MemoryError> {
        self.0.write_cached(address, bytes).map_err(|_| MemoryError)
    }
}

impl GuestMemory for DmaMemory<'_> {
    fn read(&mut self, address: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        self.0.read(address, into).map_err(|_| MemoryError)
    }

    fn write(&mut self, address: u64, from: &[u8]) -> Result<(), MemoryError> {
        self.0.write(address, from).map_err(|_| MemoryError)
    }

    fn read_often(&mut self, address: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        self.0.read_often(address, into).map_err(|_| MemoryError)
    }

    fn write_often(&mut self, address: u64, from: &[u8]) -> Result<(), MemoryError> {
        self.0.write_often(address, from).map_err(|_| MemoryError)
    }
}
