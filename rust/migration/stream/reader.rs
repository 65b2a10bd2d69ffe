// SPDX-License-Identifier: GPL-2.0

//! Reads a stream that comes in pieces of any size.
//!
//! Everything in a stream is hostile. Bytes are copied out of the chunk once, and what is checked
//! is the copy: the header of a record goes to a buffer of its own, a piece of device state
//! straight to its place in the state buffer, and a piece of storage to its place in the staged
//! blocks. A record has no effect on anything else before its checksum was found right, and lengths
//! are bounded before they are used. Statements 44, 46 and 47 of the protocol.

use super::{
    crc32c::{
        crc32c,
        Crc32c, //
    },
    format::{
        Kind,
        HEADER_SIZE,
        IDENTITY_MAX,
        ZEROES_MAX, //
    },
    identity::Identity,
    order::{
        check_within,
        Known,
        Order, //
    },
    record::{
        RecordHeader,
        Totals, //
    },
};
use crate::{
    migrated_blocks::BLOCK_SIZE,
    port::Source,
    refusal::{
        Reason,
        Refusal, //
    },
};

pub use super::order::Limits;

/// Bytes of a payload that are skipped at a time.
const SKIP_SIZE: usize = 64;

/// The most bytes of storage that are taken at a time. The device may have to wait for as long as it takes to
/// copy and sum them.
const PIECE_MAX: usize = 16 * BLOCK_SIZE;

/// The part of a chunk that has not been read.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    offset: usize,
    len: usize,
}

impl Span {
    /// All of a chunk of `len` bytes.
    pub const fn new(len: usize) -> Self {
        Self { offset: 0, len }
    }

    /// Fills `into` as far as the part goes, and returns the number of bytes.
    fn read<S: Source + ?Sized>(&mut self, source: &S, into: &mut [u8]) -> usize {
        let len = self.len.min(into.len());
        if let Some(into) = into.get_mut(..len) {
            source.read(self.offset, into);
        }
        self.offset = self.offset.saturating_add(len);
        self.len = self.len.saturating_sub(len);
        len
    }
}

/// What the reader found in a stream, for its caller to act upon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// HEADER came, and is that of a device like this one.
    Accepted,
    /// RESTART came: all that was read before is void.
    Restarted,
    /// A piece of storage is next, and is to be taken with [`Reader::take`] before the rest can be read. Its
    /// checksum is not known yet and may be wrong.
    Block {
        /// Offset of the piece in the storage, in bytes.
        offset: u64,
        /// Length of the piece, in bytes.
        len: usize,
    },
    /// A part of the storage is all zeros.
    Zeroes {
        /// Offset of the part in the storage, in bytes.
        offset: u64,
        /// Length of the part, in bytes.
        len: u64,
    },
    /// A save is complete and its totals are right.
    Completed {
        /// Length of the device state in the state buffer, in bytes.
        len: usize,
    },
}

/// A record whose payload is being read.
#[derive(Clone, Copy)]
struct Current {
    header: RecordHeader,
    known: Known,
    /// Bytes of payload read.
    done: usize,
    crc: Crc32c,
}

impl Current {
    /// Returns how many bytes of payload are to come.
    fn left(&self) -> usize {
        (self.header.length as usize).saturating_sub(self.done)
    }

    /// Copies the next bytes of payload to `into`, and returns their number: as many as there are of the
    /// record in the chunk.
    fn read<S: Source + ?Sized>(&mut self, source: &S, span: &mut Span, into: &mut [u8]) -> usize {
        let len = into.len().min(self.left());
        let Some(into) = into.get_mut(..len) else {
            return 0;
        };

        let read = span.read(source, into);
        self.crc.update(into.get(..read).unwrap_or(into));
        self.done = self.done.saturating_add(read);
        read
    }

    /// Returns the piece of storage that is next: whole blocks as far as possible.
    fn next_piece(&self, span: &Span) -> Event {
        let offset = self.header.argument.saturating_add(self.done as u64);
        let left = self.left();
        let len = left.min(PIECE_MAX).min(span.len);
        // How much of the last block would be taken.
        let over = offset.saturating_add(len as u64) & (BLOCK_SIZE as u64).wrapping_sub(1);

        let len = match usize::try_from(over) {
            Ok(over) if len < left && over < len => len.saturating_sub(over),
            _ => len,
        };
        Event::Block { offset, len }
    }
}

/// Reads a stream.
pub struct Reader {
    order: Order,
    current: Option<Current>,
    /// The header of the next record, as far as it came.
    head: [u8; HEADER_SIZE],
    head_len: usize,
    /// The payload of HEADER, ZEROES or END.
    payload: [u8; IDENTITY_MAX],
}

impl Reader {
    /// Begins a stream.
    pub const fn new() -> Self {
        Self {
            order: Order::new(),
            current: None,
            head: [0; HEADER_SIZE],
            head_len: 0,
            payload: [0; IDENTITY_MAX],
        }
    }

    /// Returns whether the stream may end here: END came, and nothing after it.
    pub fn is_complete(&self) -> bool {
        self.order.is_at_end() && self.current.is_none() && self.head_len == 0
    }

    /// Returns how many records of the present generation were read.
    pub const fn records(&self) -> u32 {
        self.order.records()
    }

    /// Reads on until `span` is used up, or until there is an event that the caller has to act upon before
    /// the rest can be read.
    ///
    /// `buffer` takes the device state, and has room for all of it.
    /// `identity` is that of the device.
    ///
    /// # Errors
    ///
    /// The reason for which the stream cannot be accepted. Nothing more of it may be read then.
    pub fn read<S: Source + ?Sized>(
        &mut self,
        source: &S,
        span: &mut Span,
        identity: &Identity,
        limits: Limits,
        buffer: &mut [u8],
    ) -> Result<Option<Event>, Refusal> {
        loop {
            // A record without payload is complete with its header.
            let event = self.finish_if_complete(identity, limits, buffer)?;
            if event.is_some() || span.len == 0 {
                return Ok(event);
            }
            let Some(current) = &mut self.current else {
                self.read_header(source, span, limits)?;
                continue;
            };
            let place = match current.known {
                Known::Record(Kind::Block) => return Ok(Some(current.next_piece(span))),
                Known::Record(Kind::State) => {
                    let start = self.order.state_len().saturating_add(current.done);
                    buffer.get_mut(start..)
                }
                Known::Record(_) => self.payload.get_mut(current.done..),
                Known::Skipped => None,
            };
            let mut skipped = [0; SKIP_SIZE];
            let place = match place {
                Some(place) if !place.is_empty() => place,
                _ => &mut skipped,
            };
            current.read(source, span, place);
        }
    }

    /// Copies the next bytes of a piece of storage to `into`, and returns their number: as many as the chunk
    /// has of the record.
    pub fn take<S: Source + ?Sized>(
        &mut self,
        source: &S,
        span: &mut Span,
        into: &mut [u8],
    ) -> usize {
        match &mut self.current {
            Some(current) => current.read(source, span, into),
            None => 0,
        }
    }

    /// Reads the rest of a header as far as it goes, and judges the record if it is there.
    fn read_header<S: Source + ?Sized>(
        &mut self,
        source: &S,
        span: &mut Span,
        limits: Limits,
    ) -> Result<(), Refusal> {
        if let Some(rest) = self.head.get_mut(self.head_len..) {
            self.head_len = self.head_len.saturating_add(span.read(source, rest));
        }
        if self.head_len < HEADER_SIZE {
            return Ok(());
        }

        let header = RecordHeader::decode(&self.head, self.order.records())?;
        let known = self.order.admit(&header, limits)?;
        self.head_len = 0;
        self.current = Some(Current {
            header,
            known,
            done: 0,
            crc: Crc32c::new(),
        });
        Ok(())
    }

    /// Lets the record take effect if all of its payload is there.
    fn finish_if_complete(
        &mut self,
        identity: &Identity,
        limits: Limits,
        buffer: &[u8],
    ) -> Result<Option<Event>, Refusal> {
        let Some(Current {
            header,
            known,
            done,
            crc,
        }) = self.current
        else {
            return Ok(None);
        };
        if done < header.length as usize {
            return Ok(None);
        }
        if crc.value() != header.payload_crc {
            return Err(Reason::PayloadChecksum {
                stored: header.payload_crc,
                computed: crc.value(),
                sequence: header.sequence,
            }
            .into());
        }

        let event = match known {
            Known::Record(Kind::Header) => {
                let here = self.payload.len().min(header.length as usize);
                let payload = self.payload.get(..here).unwrap_or(&self.payload);
                let minor = identity.check(payload, header.length)?;
                self.order.accept(&header, minor)?;
                Some(Event::Accepted)
            }
            Known::Record(Kind::Restart) => {
                self.order.restart(&header)?;
                Some(Event::Restarted)
            }
            Known::Record(Kind::Resend) => {
                self.order.resend(&header);
                None
            }
            Known::Record(Kind::Block) => {
                self.order.count(&header);
                None
            }
            Known::Record(Kind::Zeroes) => {
                self.order.count(&header);
                Some(self.finish_zeroes(&header, limits)?)
            }
            Known::Record(Kind::State) => {
                self.order.count_state(&header);
                None
            }
            Known::Record(Kind::End) => {
                self.finish_end(&header, buffer)?;
                Some(Event::Completed {
                    len: self.order.state_len(),
                })
            }
            Known::Skipped => None,
        };
        self.current = None;
        self.order.advance(&header);
        Ok(event)
    }

    fn finish_zeroes(&self, header: &RecordHeader, limits: Limits) -> Result<Event, Refusal> {
        let Some(len) = self.payload.first_chunk() else {
            return Err(header.bad_length());
        };
        let offset = header.argument;
        let len = u64::from_le_bytes(*len);

        check_within(offset, len, limits.storage.unwrap_or(0))?;
        // A few bytes of the stream must not cost the time of all the storage.
        if len > ZEROES_MAX {
            return Err(Reason::ZeroesLength {
                len,
                most: ZEROES_MAX,
            }
            .into());
        }
        Ok(Event::Zeroes { offset, len })
    }

    fn finish_end(&mut self, header: &RecordHeader, buffer: &[u8]) -> Result<(), Refusal> {
        let Some(payload) = self.payload.first_chunk() else {
            return Err(header.bad_length());
        };
        let state = buffer.get(..self.order.state_len()).unwrap_or(buffer);

        self.order
            .end(header, Totals::decode(payload), crc32c(state))
    }
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}
