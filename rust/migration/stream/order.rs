// SPDX-License-Identifier: GPL-2.0

//! The order of a stream: which record may come next, and how much of it a device can take.
//!
//! A record is judged by its header alone, before its payload is read; it changes what may come next only
//! when its payload was found right. [`format`](super::format) has the grammar.

use super::{
    format::{
        Kind,
        MINOR,
        OPTIONAL,
        ZEROES_SIZE, //
    },
    record::{
        RecordHeader,
        Totals, //
    },
};
use crate::refusal::{
    Reason,
    Refusal, //
};

/// The most that a device can take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The most bytes of device state, for which the buffer has the room.
    pub state: usize,
    /// Size of the device's storage in bytes, if it has storage and HEADER was accepted.
    pub storage: Option<u64>,
}

/// The records that may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nothing came yet: HEADER or RESTART, or RESEND where the first chunk was unacknowledged.
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
pub(super) enum Known {
    Record(Kind),
    /// Of an unknown type, but optional.
    Skipped,
}

/// The HEADER of this generation.
#[derive(Clone, Copy)]
struct Accepted {
    header: RecordHeader,
    minor: u16,
}

/// The position of a reader in the order of a stream.
pub(super) struct Order {
    place: Place,
    /// The number that the next record must have.
    sequence: u32,
    /// The last generation seen; zero before the first.
    generation: u32,
    accepted: Option<Accepted>,
    /// Whether a RESEND came in this generation.
    resent: bool,
    /// Bytes of device state that came in this generation.
    state_len: usize,
    /// Bytes of payload that END counts.
    bytes: u64,
}

impl Order {
    /// Begins a stream.
    pub(super) const fn new() -> Self {
        Self {
            place: Place::Opening,
            sequence: 0,
            generation: 0,
            accepted: None,
            resent: false,
            state_len: 0,
            bytes: 0,
        }
    }

    /// Returns whether the stream may end here.
    pub(super) fn is_at_end(&self) -> bool {
        self.place == Place::End
    }

    /// Returns how many records of the present generation came.
    pub(super) const fn records(&self) -> u32 {
        self.sequence
    }

    /// Returns how many bytes of device state came in this generation.
    pub(super) const fn state_len(&self) -> usize {
        self.state_len
    }

    /// Admits a record by its header: the record may come here, and the device can take it.
    ///
    /// # Errors
    ///
    /// Why the stream is refused.
    pub(super) fn admit(&self, header: &RecordHeader, limits: Limits) -> Result<Known, Refusal> {
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
        // Before the state, and once: the last chunk of pre-copy is the only one that may be unacknowledged.
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
        // The unacknowledged records came, or the first of them is the one that is missing.
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

    /// Returns the generation in the argument, if it is greater than all that were seen.
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
        // Pieces of storage go through the buffer that has the state by then.
        if self.state_len > 0 {
            return Err(header.misplaced());
        }
        let Some(size) = limits.storage else {
            return Err(Reason::NoMigratedBlocks {
                sequence: header.sequence,
            }
            .into());
        };

        // The payload has the length of the zeros.
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
        check_within(header.argument, u64::from(header.length), size)
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
        let newer = self.accepted.is_some_and(|a| a.minor > MINOR);
        if length < Totals::SIZE || (length > Totals::SIZE && !newer) {
            return Err(header.bad_length());
        }
        if header.argument != 0 && !newer {
            return Err(header.bad_argument());
        }
        Ok(())
    }

    /// HEADER came, with the identity of this device and the minor version `minor`.
    pub(super) fn accept(&mut self, header: &RecordHeader, minor: u16) -> Result<(), Refusal> {
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

    /// RESTART came: the records before it are void.
    pub(super) fn restart(&mut self, header: &RecordHeader) -> Result<(), Refusal> {
        self.generation = self.later_generation(header)?;
        self.accepted = None;
        self.resent = false;
        self.state_len = 0;
        self.bytes = 0;
        self.place = Place::Header;
        Ok(())
    }

    /// RESEND came: the records from the argument on follow again.
    pub(super) fn resend(&mut self, header: &RecordHeader) {
        self.resent = true;
        self.bytes = 0;
        let covers_header = self
            .accepted
            .is_some_and(|accepted| header.argument <= u64::from(accepted.header.sequence));
        if covers_header {
            self.place = Place::Header;
        }
    }

    /// A record came whose payload END counts.
    pub(super) fn count(&mut self, header: &RecordHeader) {
        self.bytes = self.bytes.saturating_add(u64::from(header.length));
    }

    /// A piece of the device state came.
    pub(super) fn count_state(&mut self, header: &RecordHeader) {
        self.state_len = self.state_len.saturating_add(header.length as usize);
        self.count(header);
    }

    /// END came, with the checksum `state_crc` of the state that was received.
    pub(super) fn end(
        &mut self,
        header: &RecordHeader,
        totals: Totals,
        state_crc: u32,
    ) -> Result<(), Refusal> {
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
        if totals.state_crc != state_crc {
            return Err(Reason::TotalChecksum {
                stored: totals.state_crc,
                computed: state_crc,
            }
            .into());
        }

        self.place = Place::End;
        Ok(())
    }

    /// The record with `header`, which [`admit`](Self::admit) has admitted, is complete.
    pub(super) fn advance(&mut self, header: &RecordHeader) {
        // `admit` has seen that there is a number after it.
        self.sequence = header.sequence.saturating_add(1);
    }
}

/// Checks that `len` bytes at `offset`, at least one, lie in a storage of `size` bytes.
pub(super) fn check_within(offset: u64, len: u64, size: u64) -> Result<(), Refusal> {
    match offset.checked_add(len) {
        Some(end) if len > 0 && end <= size => Ok(()),
        _ => Err(Reason::OutsideStorage { offset, len, size }.into()),
    }
}
