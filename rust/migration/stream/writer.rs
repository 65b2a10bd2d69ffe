// SPDX-License-Identifier: GPL-2.0

//! Puts records into a chunk.

use super::{
    crc32c::Crc32c,
    format::{
        Kind,
        HEADER_SIZE,
        OPTIONAL,
        WAIT, //
    },
    record::RecordHeader, //
};
use crate::port::Sink;

/// A record whose payload is put into a chunk piece by piece; its header comes last.
pub(crate) struct Draft<'a, S: Sink + ?Sized> {
    sink: &'a mut S,
    offset: usize,
    kind: Kind,
    argument: u64,
    len: usize,
    crc: Crc32c,
}

impl<'a, S: Sink + ?Sized> Draft<'a, S> {
    /// Begins a record at `offset` of the chunk.
    pub(crate) fn new(sink: &'a mut S, offset: usize, kind: Kind, argument: u64) -> Self {
        Self {
            sink,
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

    /// Adds to the payload; the chunk has the room for it, and a record for all of it.
    ///
    /// The bytes are copied once. Their checksum is that of `bytes`, never of the sink's memory, which the
    /// user may have changed by then. It comes first: a block that only memory has is read faster by the
    /// checksum than by the copy, which then finds it in the cache.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
        if !bytes.is_empty() {
            let offset = self.offset.saturating_add(self.size());
            self.sink.write(offset, bytes);
        }
        self.len = self.len.saturating_add(bytes.len());
    }
}

/// Numbers the records of one generation and puts them into chunks, header and payload.
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

    /// Puts a record at `offset` of the chunk, which has the room for it.
    pub fn put<S: Sink + ?Sized>(
        &mut self,
        sink: &mut S,
        offset: usize,
        kind: Kind,
        argument: u64,
        payload: &[u8],
    ) {
        let mut draft = Draft::new(sink, offset, kind, argument);
        draft.append(payload);
        self.complete(draft);
    }

    /// Puts [`WAIT`] at the front of a chunk that has nothing else.
    pub(crate) fn put_wait<S: Sink + ?Sized>(&mut self, sink: &mut S) {
        let header = RecordHeader {
            kind: WAIT,
            flags: OPTIONAL,
            length: 0,
            sequence: self.sequence,
            argument: 0,
            payload_crc: Crc32c::new().value(),
        };

        sink.write(0, &header.encode());
        self.sequence = self.sequence.saturating_add(1);
    }

    /// Completes a record whose payload has been put.
    pub(crate) fn complete<S: Sink + ?Sized>(&mut self, draft: Draft<'_, S>) {
        let header = RecordHeader {
            kind: draft.kind.number(),
            flags: 0,
            // The payload was cut to `format::PAYLOAD_MAX`.
            length: draft.len as u32,
            sequence: self.sequence,
            argument: draft.argument,
            payload_crc: draft.crc.value(),
        };

        draft.sink.write(draft.offset, &header.encode());
        // No save has as many records as the number can count, see `session::save::PRE_COPY_RECORDS`.
        self.sequence = self.sequence.saturating_add(1);
    }
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}
