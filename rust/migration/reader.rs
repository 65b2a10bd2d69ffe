// SPDX-License-Identifier: GPL-2.0

//! Takes a stream in, in pieces of any size.
//!
//! Everything in a stream is hostile. Bytes are copied out of the window once, and what is checked
//! is the copy: the header of a record goes to a buffer of its own, a piece of device state
//! straight to its place in the state buffer, and a piece of storage through that buffer, which is
//! not in use yet, to the storage that is staged. A record has no effect on anything else before its
//! checksum was found right, and lengths are bounded before they are used. Statements 44, 46 and 47
//! of the protocol.

use crate::{
    blocks::ZEROES_SIZE,
    crc32c::{
        crc32c,
        Crc32c, //
    },
    device::Window,
    identity::{
        self,
        Identity, //
    },
    migrated_blocks::BLOCK_SIZE,
    record::{
        Kind,
        RecordHeader,
        Totals,
        HEADER_SIZE,
        OPTIONAL, //
    },
    refusal::{
        Reason,
        Refusal, //
    },
};

/// Bytes of a payload that are passed over at a time.
const SKIP_SIZE: usize = 64;

/// A part of the window that has not been read.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    offset: usize,
    len: usize,
}

impl Span {
    /// The first `len` bytes of the window.
    pub const fn new(len: usize) -> Self {
        Self { offset: 0, len }
    }

    /// Fills `into` as far as the part goes; returns how many bytes that were.
    fn read<W: Window>(&mut self, window: &W, into: &mut [u8]) -> usize {
        let len = self.len.min(into.len());
        if let Some(into) = into.get_mut(..len) {
            window.read(self.offset, into);
        }
        self.offset = self.offset.saturating_add(len);
        self.len = self.len.saturating_sub(len);
        len
    }
}

/// What a stream has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// HEADER came, and is that of a device like this one.
    Accepted,
    /// All that was read is needed no more: a RESTART came.
    Restarted,
    /// A piece of storage is at the start of the buffer. Its checksum may still turn out to be
    /// wrong.
    Block {
        /// Where it belongs, in bytes.
        offset: u64,
        /// Its length, in bytes.
        len: usize,
    },
    /// A part of the storage is all zeros.
    Zeroes {
        /// Where it begins, in bytes.
        offset: u64,
        /// Its length, in bytes.
        len: u64,
    },
    /// A save is complete and its totals are right.
    Completed {
        /// Length of the device state in the state buffer, in bytes.
        len: usize,
    },
}

/// How much a device can take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The most bytes of device state, for which the buffer has the room.
    pub state: usize,
    /// Size of the device's storage in bytes, if it has one and [`Event::Accepted`] was returned.
    pub storage: Option<u64>,
}

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nothing came yet: HEADER or RESTART, or RESEND where the first chunk was in doubt.
    Opening,
    /// RESTART came, or a RESEND of HEADER: HEADER.
    Header,
    /// HEADER came: blocks, then pieces of the state, then END; or RESEND before the state.
    Body,
    /// END came: nothing but RESTART.
    End,
}

/// What a record is, once its header was found right.
#[derive(Clone, Copy)]
enum Known {
    Record(Kind),
    /// Of an unknown type, but optional.
    Skipped,
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

/// The HEADER of this generation.
#[derive(Clone, Copy)]
struct Accepted {
    header: RecordHeader,
    minor: u16,
}

/// Reads a stream.
pub struct Reader {
    place: Place,
    /// The number that the next record must have.
    sequence: u32,
    /// The last generation seen; zero before the first.
    generation: u32,
    accepted: Option<Accepted>,
    /// Whether a RESEND came in this generation.
    resent: bool,
    /// Bytes of device state in the state buffer.
    state_len: usize,
    /// Bytes of payload that END counts.
    bytes: u64,
    current: Option<Current>,
    /// A header of a record, as far as it came.
    head: [u8; HEADER_SIZE],
    head_len: usize,
    /// The payload of HEADER or END.
    payload: [u8; identity::PAYLOAD_MAX],
}

impl Reader {
    /// Begins a stream.
    pub const fn new() -> Self {
        Self {
            place: Place::Opening,
            sequence: 0,
            generation: 0,
            accepted: None,
            resent: false,
            state_len: 0,
            bytes: 0,
            current: None,
            head: [0; HEADER_SIZE],
            head_len: 0,
            payload: [0; identity::PAYLOAD_MAX],
        }
    }

    /// Returns whether the stream may end here: END came, and nothing after it.
    pub fn is_complete(&self) -> bool {
        self.place == Place::End && self.current.is_none() && self.head_len == 0
    }

    /// Returns how many records of the present generation were read.
    pub const fn records(&self) -> u32 {
        self.sequence
    }

    /// Reads on, until `span` is used up or something has happened that somebody has to act upon
    /// before the rest can be read.
    ///
    /// `buffer` takes the device state, and before that the pieces of storage on their way.
    /// `identity` is that of the device.
    ///
    /// # Errors
    ///
    /// The reason for which the stream cannot be accepted. Nothing more of it may be read then.
    pub fn read<W: Window>(
        &mut self,
        window: &W,
        span: &mut Span,
        identity: &Identity,
        limits: Limits,
        buffer: &mut [u8],
    ) -> Result<Option<Event>, Refusal> {
        while span.len > 0 {
            let piece = match self.current {
                None => {
                    self.read_header(window, span, limits)?;
                    None
                }
                Some(current) => self.read_payload(current, window, span, buffer),
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
    fn read_header<W: Window>(
        &mut self,
        window: &W,
        span: &mut Span,
        limits: Limits,
    ) -> Result<(), Refusal> {
        if let Some(rest) = self.head.get_mut(self.head_len..) {
            self.head_len = self.head_len.saturating_add(span.read(window, rest));
        }
        if self.head_len < HEADER_SIZE {
            return Ok(());
        }

        let header = RecordHeader::decode(&self.head, self.sequence)?;
        let known = self.admit(&header, limits)?;
        self.head_len = 0;
        self.current = Some(Current {
            header,
            known,
            done: 0,
            crc: Crc32c::new(),
        });
        Ok(())
    }

    /// Judges a record by its header: may it come here, and can it be what it says?
    fn admit(&self, header: &RecordHeader, limits: Limits) -> Result<Known, Refusal> {
        let minor = self.accepted.map_or(0, |accepted| accepted.minor);
        let kind = Kind::from_number(header.kind).filter(|kind| kind.since() <= minor);
        let known = match kind {
            Some(_) if header.flags != 0 => return Err(header.bad_flags()),
            Some(kind) => Known::Record(kind),
            None if header.flags & OPTIONAL != 0 => Known::Skipped,
            None => {
                return Err(Reason::UnknownRecord {
                    kind: header.kind,
                    sequence: header.sequence,
                }
                .into())
            }
        };

        match known {
            Known::Record(Kind::Restart) => self.admit_restart(header)?,
            Known::Record(Kind::Resend) => self.admit_resend(header)?,
            _ if header.sequence != self.sequence => {
                return Err(Reason::Sequence {
                    expected: self.sequence,
                    found: header.sequence,
                }
                .into())
            }
            Known::Record(Kind::Header) => self.admit_header(header)?,
            _ if self.place != Place::Body => return Err(header.misplaced()),
            Known::Record(Kind::Block | Kind::Zeroes) => self.admit_blocks(header, limits)?,
            Known::Record(Kind::State) => self.admit_state(header, limits.state)?,
            Known::Record(Kind::End) => self.admit_end(header)?,
            Known::Skipped => {}
        }

        // The number after it must exist.
        if header.sequence == u32::MAX {
            return Err(header.misplaced());
        }
        Ok(known)
    }

    fn admit_restart(&self, header: &RecordHeader) -> Result<(), Refusal> {
        if header.sequence != 0 {
            return Err(Reason::Sequence {
                expected: 0,
                found: header.sequence,
            }
            .into());
        }
        if header.length != 0 {
            return Err(header.bad_length());
        }
        self.later_generation(header).map(|_| ())
    }

    fn admit_resend(&self, header: &RecordHeader) -> Result<(), Refusal> {
        // Before the state, and once: what is in doubt is the last chunk of pre-copy.
        if self.resent || self.state_len > 0 || !matches!(self.place, Place::Opening | Place::Body)
        {
            return Err(header.misplaced());
        }
        if header.length != 0 {
            return Err(header.bad_length());
        }

        let first = match u32::try_from(header.argument) {
            Ok(first) if first < header.sequence => first,
            _ => return Err(header.bad_argument()),
        };
        // The records in doubt came, or the first of them is the one that is missing.
        if self.sequence != header.sequence && self.sequence != first {
            return Err(Reason::Sequence {
                expected: self.sequence,
                found: first,
            }
            .into());
        }
        Ok(())
    }

    fn admit_header(&self, header: &RecordHeader) -> Result<(), Refusal> {
        if let Some(accepted) = self.accepted {
            // The only way for HEADER to come twice is a RESEND before it.
            if self.place != Place::Header {
                return Err(header.misplaced());
            }
            let again = RecordHeader {
                sequence: header.sequence,
                ..accepted.header
            };
            if again != *header {
                return Err(Reason::HeaderChanged {
                    sequence: header.sequence,
                }
                .into());
            }
            return Ok(());
        }

        match self.place {
            // The generation that RESTART has begun.
            Place::Header if self.generation != 0 => {
                if header.argument == u64::from(self.generation) {
                    Ok(())
                } else {
                    Err(header.bad_argument())
                }
            }
            Place::Opening | Place::Header => self.later_generation(header).map(|_| ()),
            Place::Body | Place::End => Err(header.misplaced()),
        }
    }

    /// Returns the generation in the argument, if it comes after those that were seen.
    fn later_generation(&self, header: &RecordHeader) -> Result<u32, Refusal> {
        match u32::try_from(header.argument) {
            Ok(generation) if generation > self.generation => Ok(generation),
            _ => Err(Reason::Generation {
                found: header.argument,
                last: self.generation,
            }
            .into()),
        }
    }

    fn admit_blocks(&self, header: &RecordHeader, limits: Limits) -> Result<(), Refusal> {
        // The buffer that they go through has the state by then.
        if self.state_len > 0 {
            return Err(header.misplaced());
        }
        let Some(size) = limits.storage else {
            return Err(Reason::NoMigratedBlocks {
                sequence: header.sequence,
            }
            .into());
        };

        // How many zeros there are is in the payload.
        if header.kind == Kind::Zeroes.number() {
            return if header.length as usize == ZEROES_SIZE {
                Ok(())
            } else {
                Err(header.bad_length())
            };
        }
        if header.length == 0 {
            return Err(header.bad_length());
        }
        within_storage(header.argument, u64::from(header.length), size)
    }

    fn admit_state(&self, header: &RecordHeader, state_max: usize) -> Result<(), Refusal> {
        if header.length == 0 {
            return Err(header.bad_length());
        }
        if usize::try_from(header.argument) != Ok(self.state_len) {
            return Err(Reason::StateOffset {
                expected: self.state_len,
                found: header.argument,
            }
            .into());
        }

        let end = header.argument.saturating_add(u64::from(header.length));
        if end > state_max as u64 {
            return Err(Reason::StateOverflow {
                end,
                most: state_max,
            }
            .into());
        }
        Ok(())
    }

    fn admit_end(&self, header: &RecordHeader) -> Result<(), Refusal> {
        let length = header.length as usize;
        // Minor versions after this one may have more totals.
        let newer = self.accepted.is_some_and(|a| a.minor > identity::MINOR);
        if length < Totals::SIZE || (length > Totals::SIZE && !newer) {
            return Err(header.bad_length());
        }
        if header.argument != 0 && !newer {
            return Err(header.bad_argument());
        }
        Ok(())
    }

    /// Reads the rest of a payload as far as it goes. Returns a piece of storage that it finds.
    fn read_payload<W: Window>(
        &mut self,
        mut current: Current,
        window: &W,
        span: &mut Span,
        buffer: &mut [u8],
    ) -> Option<Event> {
        let left = (current.header.length as usize).saturating_sub(current.done);
        let mut skipped = [0; SKIP_SIZE];

        let offset = current.header.argument.saturating_add(current.done as u64);
        let storage = matches!(current.known, Known::Record(Kind::Block));
        let place = match current.known {
            Known::Record(Kind::Block) => {
                let len = block_piece(offset, left, buffer.len());
                buffer.get_mut(..len)
            }
            Known::Record(Kind::State) => {
                let start = self.state_len.saturating_add(current.done);
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
            read = span.read(window, place);
            current.crc.update(place.get(..read).unwrap_or(place));
            current.done = current.done.saturating_add(read);
        }

        self.current = Some(current);
        storage.then_some(Event::Block { offset, len: read })
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
                self.finish_header(&header, identity)?;
                Some(Event::Accepted)
            }
            Known::Record(Kind::Restart) => {
                self.finish_restart(&header)?;
                Some(Event::Restarted)
            }
            Known::Record(Kind::Resend) => {
                self.finish_resend(&header);
                None
            }
            Known::Record(Kind::Block) => {
                self.count(&header);
                None
            }
            Known::Record(Kind::Zeroes) => {
                self.count(&header);
                Some(self.finish_zeroes(&header, limits)?)
            }
            Known::Record(Kind::State) => {
                self.state_len = self.state_len.saturating_add(header.length as usize);
                self.count(&header);
                None
            }
            Known::Record(Kind::End) => {
                self.finish_end(&header, buffer)?;
                Some(Event::Completed {
                    len: self.state_len,
                })
            }
            Known::Skipped => None,
        };
        self.current = None;
        // `admit` has seen that there is a number after it.
        self.sequence = header.sequence.saturating_add(1);
        Ok(event)
    }

    /// Counts a payload that END counts, too.
    fn count(&mut self, header: &RecordHeader) {
        self.bytes = self.bytes.saturating_add(u64::from(header.length));
    }

    fn finish_zeroes(&self, header: &RecordHeader, limits: Limits) -> Result<Event, Refusal> {
        let Some(len) = self.payload.first_chunk() else {
            return Err(header.bad_length());
        };
        let offset = header.argument;
        let len = u64::from_le_bytes(*len);

        within_storage(offset, len, limits.storage.unwrap_or(0))?;
        Ok(Event::Zeroes { offset, len })
    }

    fn finish_header(&mut self, header: &RecordHeader, identity: &Identity) -> Result<(), Refusal> {
        let here = self.payload.len().min(header.length as usize);
        let payload = self.payload.get(..here).unwrap_or(&self.payload);
        let minor = identity.check(payload, header.length)?;

        if self.generation == 0 {
            self.generation = self.later_generation(header)?;
        }
        self.accepted = Some(Accepted {
            header: *header,
            minor,
        });
        self.place = Place::Body;
        Ok(())
    }

    fn finish_restart(&mut self, header: &RecordHeader) -> Result<(), Refusal> {
        self.generation = self.later_generation(header)?;
        self.accepted = None;
        self.resent = false;
        self.state_len = 0;
        self.bytes = 0;
        self.place = Place::Header;
        Ok(())
    }

    fn finish_resend(&mut self, header: &RecordHeader) {
        self.resent = true;
        self.bytes = 0;
        let covers_header = self
            .accepted
            .is_some_and(|accepted| header.argument <= u64::from(accepted.header.sequence));
        if covers_header {
            self.place = Place::Header;
        }
    }

    fn finish_end(&mut self, header: &RecordHeader, buffer: &[u8]) -> Result<(), Refusal> {
        let Some(payload) = self.payload.first_chunk() else {
            return Err(header.bad_length());
        };
        let totals = Totals::decode(payload);

        if totals.records != header.sequence {
            return Err(Reason::TotalRecords {
                expected: header.sequence,
                found: totals.records,
            }
            .into());
        }
        if totals.bytes != self.bytes {
            return Err(Reason::TotalBytes {
                expected: self.bytes,
                found: totals.bytes,
            }
            .into());
        }
        let state = buffer.get(..self.state_len).unwrap_or(buffer);
        let computed = crc32c(state);
        if totals.state_crc != computed {
            return Err(Reason::TotalChecksum {
                stored: totals.state_crc,
                computed,
            }
            .into());
        }

        self.place = Place::End;
        Ok(())
    }
}

/// Checks that `len` bytes at `offset`, which are at least one, lie in a storage of `size` bytes.
fn within_storage(offset: u64, len: u64, size: u64) -> Result<(), Refusal> {
    match offset.checked_add(len) {
        Some(end) if len > 0 && end <= size => Ok(()),
        _ => Err(Reason::OutsideStorage { offset, len, size }.into()),
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
