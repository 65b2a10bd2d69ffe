// SPDX-License-Identifier: GPL-2.0

//! The memory of a guest, whose addresses are those of the guest's driver and of its devices.

use core::sync::atomic::fence;
use core::sync::atomic::Ordering;
use std::sync::Arc;

use crate::address_space::AddressSpace;
use crate::error::Context as _;
use crate::Mapping;
use crate::Result;

/// Memory that has the same addresses for the driver and, once [attached](GuestMemory::attach), for the
/// devices of an address space. Clones are the same memory, for example of a guest that moves to another
/// host.
#[derive(Clone, Debug)]
pub struct GuestMemory {
    mapping: Arc<Mapping>,
    start: u64,
}

impl GuestMemory {
    /// Makes `len` bytes of zeros at an address.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn new(start: u64, len: usize) -> Result<Self> {
        let mapping = Mapping::anonymous(len).what(|| format!("mmap of {len} bytes"))?;
        Ok(GuestMemory {
            mapping: Arc::new(mapping),
            start,
        })
    }

    /// Returns the first address.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Returns the size in bytes.
    pub fn size(&self) -> u64 {
        self.mapping.len() as u64
    }

    /// Maps the memory for the devices of an address space.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn attach(&self, space: &dyn AddressSpace) -> Result<()> {
        space.map(self.start, &self.mapping)
    }

    /// Unmaps the memory for the devices of an address space.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn detach(&self, space: &dyn AddressSpace) -> Result<()> {
        space.unmap(self.start, self.size()).map(drop)
    }

    fn offset(&self, address: u64) -> usize {
        address
            .checked_sub(self.start)
            .and_then(|offset| usize::try_from(offset).ok())
            .unwrap_or(usize::MAX)
    }

    /// Copies bytes out.
    ///
    /// # Panics
    ///
    /// When a byte is outside this memory; also in the other methods.
    pub fn read(&self, address: u64, into: &mut [u8]) {
        self.mapping.read(self.offset(address), into);
    }

    /// Copies bytes in.
    pub fn write(&self, address: u64, bytes: &[u8]) {
        self.mapping.write(self.offset(address), bytes);
    }

    /// Copies `len` bytes out.
    pub fn bytes(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.read(address, &mut bytes);
        bytes
    }

    /// Reads eight bytes, little endian, at an aligned address: with a single access, and before all later
    /// reads.
    pub fn read_u64(&self, address: u64) -> u64 {
        let mut bytes = [0; size_of::<u64>()];
        self.read(address, &mut bytes);
        fence(Ordering::SeqCst);
        u64::from_le_bytes(bytes)
    }

    /// Flips bits of one byte while a device may use it.
    pub fn flip(&self, address: u64, bits: u8) {
        self.mapping.flip(self.offset(address), bits);
    }
}

#[cfg(test)]
mod tests {
    use super::GuestMemory;

    #[test]
    fn addresses_count_from_where_the_memory_starts() {
        let memory = GuestMemory::new(0x10_0000, 8192).expect("memory");
        memory.write(0x10_1ff8, &0x0102_0304_0506_0708u64.to_le_bytes());
        assert_eq!(memory.read_u64(0x10_1ff8), 0x0102_0304_0506_0708);
        assert_eq!(memory.bytes(0x10_1ff6, 4), [0, 0, 8, 7]);
    }

    #[test]
    #[should_panic(expected = "of a 8192-byte mapping")]
    fn an_address_below_the_memory_is_not_in_it() {
        let memory = GuestMemory::new(0x10_0000, 8192).expect("memory");
        memory.read(0xf_ffff, &mut [0]);
    }
}
