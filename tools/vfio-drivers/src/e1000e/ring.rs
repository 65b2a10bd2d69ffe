// SPDX-License-Identifier: GPL-2.0

//! Rings of legacy descriptors, sections 7.1.4 and 7.2.10 of the data sheet.

use vfio_client::GuestMemory;

/// The size of a descriptor in bytes.
const DESCRIPTOR: u64 = 16;
/// From one buffer to the next. Each has a page, so that the dirty bitmap tells which was written.
pub const BUFFER: u64 = 4096;

/// Offset of the status in both kinds of descriptor.
const STATUS: u64 = 12;
/// The descriptor is done.
const DONE: u8 = 1 << 0;
/// Offset of the length.
const LENGTH: u64 = 8;
/// Offset of a transmit descriptor's command.
const COMMAND: u64 = 11;
/// The packet ends here, the checksum is inserted, and the status is reported.
const END_CHECKSUM_REPORT: u8 = 1 << 0 | 1 << 1 | 1 << 3;

/// A ring in memory. Each descriptor has a buffer.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    memory: GuestMemory,
    /// Address of the descriptors.
    pub(super) start: u64,
    /// Addresses of the buffers, by descriptor.
    buffers: Vec<u64>,
    /// Number of descriptors.
    pub(super) len: u64,
    /// The descriptor that is done next.
    pub(super) next: u64,
}

impl Ring {
    pub(super) fn new(memory: &GuestMemory, start: u64, buffers: u64, len: u64) -> Self {
        Ring {
            memory: memory.clone(),
            start,
            buffers: (0..len).map(|index| buffers + index * BUFFER).collect(),
            len,
            next: 0,
        }
    }

    /// Makes all descriptors empty.
    pub(super) fn clear(&self) {
        self.memory
            .write(self.start, &vec![0; self.size() as usize]);
    }

    /// The length in bytes, as RDLEN and TDLEN have it.
    pub(super) fn size(&self) -> u32 {
        (self.len * DESCRIPTOR) as u32
    }

    fn descriptor(&self, index: u64) -> u64 {
        self.start + index % self.len * DESCRIPTOR
    }

    pub(super) fn buffer(&self, index: u64) -> u64 {
        self.buffers[(index % self.len) as usize]
    }

    /// Gives a descriptor another buffer, and returns the one that it had. The card gets it when the descriptor is
    /// posted again.
    pub(super) fn exchange(&mut self, index: u64, buffer: u64) -> u64 {
        core::mem::replace(&mut self.buffers[(index % self.len) as usize], buffer)
    }

    /// Fills a descriptor for a buffer in which a frame may be received.
    pub(super) fn post(&self, index: u64) {
        let at = self.descriptor(index);
        self.memory.write(at + LENGTH, &[0; 8]);
        self.memory.write(at, &self.buffer(index).to_le_bytes());
    }

    /// Fills a descriptor with a frame to be sent.
    pub(super) fn fill(&self, index: u64, frame: &[u8]) {
        let at = self.descriptor(index);
        self.memory.write(self.buffer(index), frame);
        let len = (frame.len() as u16).to_le_bytes();
        let mut rest = [len[0], len[1], 0, 0, 0, 0, 0, 0];
        rest[(COMMAND - LENGTH) as usize] = END_CHECKSUM_REPORT;
        self.memory.write(at + LENGTH, &rest);
        self.memory.write(at, &self.buffer(index).to_le_bytes());
    }

    /// Says whether the card is done with a descriptor.
    pub(super) fn is_done(&self, index: u64) -> bool {
        // The whole half of the descriptor, which is read at once and before what it tells of.
        let half = self.memory.read_u64(self.descriptor(index) + LENGTH);
        half.to_le_bytes()[(STATUS - LENGTH) as usize] & DONE != 0
    }

    /// Returns the bytes of a frame that was received.
    pub(super) fn received(&self, index: u64) -> Vec<u8> {
        let half = self.memory.read_u64(self.descriptor(index) + LENGTH);
        let len = usize::from(half as u16).min(BUFFER as usize);
        self.memory.bytes(self.buffer(index), len)
    }
}

#[cfg(test)]
mod tests {
    use vfio_client::GuestMemory;

    use super::Ring;

    #[test]
    fn descriptors_are_those_of_the_data_sheet() {
        let memory = GuestMemory::new(0x10_0000, 0x8000).expect("memory");
        let ring = Ring::new(&memory, 0x10_0000, 0x10_1000, 4);
        assert_eq!(ring.size(), 64);
        ring.fill(1, &[0xaa; 60]);
        let expected = [0, 0x20, 0x10, 0, 0, 0, 0, 0, 60, 0, 0, 0x0b, 0, 0, 0, 0];
        assert_eq!(memory.bytes(0x10_0010, 16), expected);
        assert!(!ring.is_done(1));
        memory.write(0x10_001c, &[1]);
        assert!(ring.is_done(1) && ring.is_done(5), "the ring wraps around");
        ring.post(1);
        assert_eq!(memory.bytes(0x10_0010, 16)[8..], [0; 8]);
    }
}
