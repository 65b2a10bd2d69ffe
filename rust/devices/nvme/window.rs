// SPDX-License-Identifier: GPL-2.0

//! A part of a data structure that a command returns.

/// Bytes of a window: data structures go to the guest in pieces of this size.
pub(crate) const WINDOW_SIZE: usize = 512;

/// A part of a data structure that does not fit onto the stack.
///
/// The structure is described as a whole, once for each window; fields outside of the window are
/// dropped.
pub(crate) struct Window<'a> {
    start: usize,
    bytes: &'a mut [u8],
}

impl<'a> Window<'a> {
    /// Returns the window of `bytes` that begins at `start` of the structure, all zeros.
    pub(crate) fn new(start: usize, bytes: &'a mut [u8]) -> Self {
        bytes.fill(0);
        Self { start, bytes }
    }

    /// Puts `field` at `offset` of the structure.
    pub(crate) fn put(&mut self, offset: usize, field: &[u8]) {
        let end = self.start + self.bytes.len();
        let from = offset.max(self.start);
        let to = (offset + field.len()).min(end);
        if from < to {
            self.bytes[from - self.start..to - self.start]
                .copy_from_slice(&field[from - offset..to - offset]);
        }
    }

    /// Puts a field of 8 bits at `offset` of the structure.
    pub(crate) fn put_u8(&mut self, offset: usize, number: u8) {
        self.put(offset, &[number]);
    }

    /// Puts a field of 16 bits at `offset` of the structure.
    pub(crate) fn put_u16(&mut self, offset: usize, number: u16) {
        self.put(offset, &number.to_le_bytes());
    }

    /// Puts a field of 32 bits at `offset` of the structure.
    pub(crate) fn put_u32(&mut self, offset: usize, number: u32) {
        self.put(offset, &number.to_le_bytes());
    }

    /// Puts a field of 64 bits at `offset` of the structure: the lower half of one of 128 bits, or all of it.
    pub(crate) fn put_u64(&mut self, offset: usize, number: u64) {
        self.put(offset, &number.to_le_bytes());
    }
}
