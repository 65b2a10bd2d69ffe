// SPDX-License-Identifier: GPL-2.0

//! Reads a stream that comes in pieces of any size.
//!
//! Everything in a stream is hostile. Bytes are copied out of the chunk once, and what is checked
//! is the copy: the header of a record goes to a buffer of its own, a piece of device state
//! straight to its place in the state buffer, and a piece of storage through that buffer, which is
//! not in use yet, to the staged blocks. A record has no effect on anything else before its
//! checksum was found right, and lengths are bounded before they are used. Statements 44, 46 and 47
//! of the protocol.

use super::{
    crc32c::{
        crc32c,
        Crc32c, //
    },
    format::{
        Kind,
        HEADER_SIZE,
        IDENTITY_MAX, //
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
    /// A piece of storage is at the start of the buffer. Its checksum is not known yet and may be wrong.
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
    /// `buffer` takes the device state, and before that the pieces of storage on their way. It has room for
    /// all of the state.
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
        while span.len > 0 {
            let piece = match self.current {
                None => {
                    self.read_header(source, span, limits)?;
                    None
                }
                Some(current) => self.read_payload(current, source, span, buffer),
            };
            // A record without payload is complete with its header.
            let event = self.finish_if_complete(identity, limits, buffer)?;
            if piece.is_some() || event.is_some() {
                return Ok(piece.or(event));
            }
        }

        Ok(None)
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

    /// Reads the rest of a payload as far as it goes. Returns a piece of storage that it finds.
    fn read_payload<S: Source + ?Sized>(
        &mut self,
        mut current: Current,
        source: &S,
        span: &mut Span,
        buffer: &mut [u8],
    ) -> Option<Event> {
        let left = (current.header.length as usize).saturating_sub(current.done);
        let mut skipped = [0; SKIP_SIZE];

        let offset = current.header.argument.saturating_add(current.done as u64);
        let is_block = matches!(current.known, Known::Record(Kind::Block));
        let place = match current.known {
            Known::Record(Kind::Block) => {
                let len = block_piece(offset, left, buffer.len());
                buffer.get_mut(..len)
            }
            Known::Record(Kind::State) => {
                let start = self.order.state_len().saturating_add(current.done);
                buffer.get_mut(start..)
            }
            Known::Record(_) => self.payload.get_mut(current.done..),
            Known::Skipped => None,
        };
        let place = match place {
            Some(place) if !place.is_empty() => place,
            _ => &mut skipped,
        };
        let len = left.min(place.len());
        let mut read = 0;
        if let Some(place) = place.get_mut(..len) {
            read = span.read(source, place);
            current.crc.update(place.get(..read).unwrap_or(place));
            current.done = current.done.saturating_add(read);
        }

        self.current = Some(current);
        is_block.then_some(Event::Block { offset, len: read })
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

/// Returns how many bytes of a piece of storage at `offset`, of which `left` are to come, to take at
/// once through a buffer of `room` bytes: whole blocks as far as possible.
fn block_piece(offset: u64, left: usize, room: usize) -> usize {
    let len = left.min(room);
    // How much of the last block would be taken.
    let over = offset.saturating_add(len as u64) & (BLOCK_SIZE as u64).wrapping_sub(1);

    match usize::try_from(over) {
        Ok(over) if len < left && over < len => len.saturating_sub(over),
        _ => len,
    }
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}
