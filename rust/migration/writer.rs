// SPDX-License-Identifier: GPL-2.0

//! Puts records into a window.

use crate::{
    crc32c::crc32c,
    device::Window,
    record::{
        Kind,
        RecordHeader,
        HEADER_SIZE, //
    },
};

/// Numbers the records of one generation and puts them into a window, header and payload.
#[derive(Debug)]
pub struct Writer {
    sequence: u32,
}

impl Writer {
    /// Begins a generation.
    pub const fn new() -> Self {
        Self { sequence: 0 }
    }

    /// Returns the number that the next record will have.
    pub const fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Returns the size of a record with a payload of `payload_len` bytes.
    pub const fn size_of(payload_len: usize) -> usize {
        HEADER_SIZE.saturating_add(payload_len)
    }

    /// Puts a record at `offset` of the window, which has the room for it. The payload is copied
    /// once; its checksum is that of `payload`, never of what the window has, which the user may
    /// have changed by then.
    pub fn put<W: Window>(
        &mut self,
        window: &mut W,
        offset: usize,
        kind: Kind,
        argument: u64,
        payload: &[u8],
    ) {
        let header = RecordHeader {
            kind: kind.number(),
            flags: 0,
            // The payload was cut to `record::PAYLOAD_MAX`.
            length: payload.len() as u32,
            sequence: self.sequence,
            argument,
            payload_crc: crc32c(payload),
        };

        window.write(offset, &header.encode());
        if !payload.is_empty() {
            window.write(offset.saturating_add(HEADER_SIZE), payload);
        }
        // A generation has fewer records than bytes, and of those at most `device::STATE_MAX` and a
        // few hundred.
        self.sequence = self.sequence.saturating_add(1);
    }
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}
