// SPDX-License-Identifier: GPL-2.0

//! Puts records into a window.

use crate::{
    crc32c::Crc32c,
    device::Window,
    record::{
        Kind,
        RecordHeader,
        HEADER_SIZE, //
    },
};

/// A record whose payload is put into a window piece by piece; its header comes last.
pub(crate) struct Draft<'a, W: Window> {
    window: &'a mut W,
    offset: usize,
    kind: Kind,
    argument: u64,
    len: usize,
    crc: Crc32c,
}

impl<'a, W: Window> Draft<'a, W> {
    /// Begins a record at `offset` of the window.
    pub(crate) fn new(window: &'a mut W, offset: usize, kind: Kind, argument: u64) -> Self {
        Self {
            window,
            offset,
            kind,
            argument,
            len: 0,
            crc: Crc32c::new(),
        }
    }

    /// Returns the length of the payload so far, in bytes.
    pub(crate) fn payload_len(&self) -> usize {
        self.len
    }

    /// Returns the size of the record so far, in bytes.
    pub(crate) fn size(&self) -> usize {
        Writer::size_of(self.len)
    }

    /// Adds to the payload; the window has the room for it, and a record for all of it.
    ///
    /// The bytes are copied once. Their checksum is that of `bytes`, never of what the window has,
    /// which the user may have changed by then.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            let offset = self.offset.saturating_add(self.size());
            self.window.write(offset, bytes);
        }
        self.crc.update(bytes);
        self.len = self.len.saturating_add(bytes.len());
    }
}

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

    /// Puts a record at `offset` of the window, which has the room for it.
    pub fn put<W: Window>(
        &mut self,
        window: &mut W,
        offset: usize,
        kind: Kind,
        argument: u64,
        payload: &[u8],
    ) {
        let mut draft = Draft::new(window, offset, kind, argument);
        draft.append(payload);
        self.complete(draft);
    }

    /// Completes a record whose payload has been put.
    pub(crate) fn complete<W: Window>(&mut self, draft: Draft<'_, W>) {
        let header = RecordHeader {
            kind: draft.kind.number(),
            flags: 0,
            // The payload was cut to `record::PAYLOAD_MAX`.
            length: draft.len as u32,
            sequence: self.sequence,
            argument: draft.argument,
            payload_crc: draft.crc.value(),
        };

        draft.window.write(draft.offset, &header.encode());
        // No save has as many records as the number can count, see `save::PRE_COPY_RECORDS`.
        self.sequence = self.sequence.saturating_add(1);
    }
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}
