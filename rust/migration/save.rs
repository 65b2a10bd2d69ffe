// SPDX-License-Identifier: GPL-2.0

//! A save session: gives the stream chunk by chunk.
//!
//! A session begins when SAVING is set and ends when it is cleared. Every session, and every
//! stop-and-copy after a return to pre-copy, is a generation of the stream with a number of its
//! own. In pre-copy HEADER is offered, so that a destination that cannot take this device says so
//! early; in stop-and-copy the state follows, then END. Statements 38 to 42 and 47 of the protocol.

use crate::{
    crc32c::crc32c,
    device::{
        state_buffer,
        Device,
        Window, //
    },
    identity::{
        self,
        Identity, //
    },
    record::{
        self,
        Kind,
        Totals,
        HEADER_SIZE, //
    },
    refusal::{
        Reason,
        Refusal, //
    },
    transition::Step,
    writer::Writer, //
};

/// The smallest window that a session can work with, in bytes. It has the room for the records that
/// must not be parted: RESTART with its HEADER, RESEND with its HEADER.
pub const WINDOW_MIN: usize = 256;

const _: () = assert!(WINDOW_MIN >= HEADER_SIZE + HEADER_SIZE + identity::PAYLOAD_MAX);

/// The most bytes of a window that a chunk uses: a user keeps the size in an `int` (statement 12 of
/// the protocol).
const CHUNK_MAX: usize = i32::MAX as usize;

/// The generation that the first save of an open has. Only it begins without RESTART.
pub const FIRST_GENERATION: u32 = 1;

/// The state of the stopped device, as it was when stop-and-copy was entered.
#[derive(Clone, Copy)]
struct Captured {
    /// Its length in the state buffer, in bytes.
    len: usize,
    crc: u32,
}

/// A record that is to be given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Item {
    Resend { first: u32 },
    Restart,
    Header,
    State { offset: usize, len: usize },
    End { totals: Totals },
}

/// What was put into the window last.
#[derive(Clone, Copy, Default)]
struct Chunk {
    /// The number of its first record.
    first: u32,
    /// Whether RESTART is in it.
    restarts: bool,
}

/// A save session.
pub struct Save {
    identity: Identity,
    generation: u32,
    writer: Writer,
    /// The last chunk, for the case that nobody knows whether it was taken.
    chunk: Chunk,
    /// Where RESEND is due: the first record that may not have arrived.
    resend: Option<u32>,
    /// Whether RESTART is due.
    restart: bool,
    /// Whether HEADER is due.
    header: bool,
    captured: Option<Captured>,
    /// Bytes of the device state that have been given.
    given: usize,
    /// Whether END has been given.
    ended: bool,
    /// Bytes given in this session.
    total: u64,
}

impl Save {
    /// Begins a session of `device`.
    ///
    /// # Errors
    ///
    /// [`Reason::WindowTooSmall`] for a window of fewer than [`WINDOW_MIN`] bytes, or what
    /// [`Identity::of`] says.
    pub fn begin<D: Device, W: Window>(
        device: &D,
        window: &W,
        generation: u32,
    ) -> Result<Self, Refusal> {
        if window.size() < WINDOW_MIN {
            return Err(Reason::WindowTooSmall {
                size: window.size(),
                least: WINDOW_MIN,
            }
            .into());
        }

        Ok(Self {
            identity: Identity::of(device)?,
            generation,
            writer: Writer::new(),
            chunk: Chunk::default(),
            resend: None,
            restart: generation != FIRST_GENERATION,
            header: true,
            captured: None,
            given: 0,
            ended: false,
            total: 0,
        })
    }

    /// Returns the number of the session's present generation.
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Returns how many bytes were given in this session.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Returns whether the state of the device was taken, that is, whether this is stop-and-copy.
    pub const fn is_captured(&self) -> bool {
        self.captured.is_some()
    }

    /// Takes the state of `device`, which is stopped, into `buffer`. From then on it can be read.
    ///
    /// # Errors
    ///
    /// What the device says, [`Reason::BufferTooSmall`] or [`Reason::StateTooLong`]; the session is
    /// as before.
    pub fn capture<D: Device>(&mut self, device: &mut D, buffer: &mut [u8]) -> Result<(), Refusal> {
        let out = state_buffer::<D>(buffer)?;
        let len = device.save(out).map_err(|errno| Reason::StepFailed {
            step: Step::Capture,
            errno,
        })?;
        let state = out.get(..len).ok_or(Reason::StateTooLong {
            len,
            most: D::STATE_SIZE,
        })?;

        self.captured = Some(Captured {
            len,
            crc: crc32c(state),
        });
        Ok(())
    }

    /// Gives the state that was taken up again: the session is as before
    /// [`capture`](Self::capture).
    pub fn release(&mut self) {
        self.captured = None;
    }

    /// Begins a new generation: the device ran on, so the state that was taken is void, and with it
    /// all that was given.
    pub fn restart(&mut self, generation: u32) {
        self.generation = generation;
        self.writer = Writer::new();
        self.chunk = Chunk::default();
        self.resend = None;
        self.restart = true;
        self.header = true;
        self.captured = None;
        self.given = 0;
        self.ended = false;
    }

    /// Covers the last chunk, which was not empty and which the user may or may not have taken
    /// before it left pre-copy, by what follows. `next_generation` is used if that takes a new
    /// generation.
    pub fn cover_chunk(&mut self, next_generation: u32) {
        let chunk = core::mem::take(&mut self.chunk);

        if chunk.restarts {
            // A reader that has not seen this RESTART is still in an older generation, where a
            // RESEND of this one means nothing. As RESTART is in a generation's first chunk, there
            // is nothing to lose by another one.
            let captured = self.captured;
            self.restart(next_generation);
            self.captured = captured;
        } else {
            self.resend = Some(chunk.first);
            // All there is in pre-copy is HEADER.
            self.header = true;
        }
    }

    /// Returns how many bytes of stream can be read in the present state, headers of records and
    /// all. `window_size` is the size of the window in bytes.
    pub fn pending(&self, window_size: usize) -> u64 {
        let mut bytes: u64 = 0;
        let mut add = |records: usize, payload: usize| {
            let headers = records.saturating_mul(HEADER_SIZE);
            bytes = bytes.saturating_add(headers.saturating_add(payload) as u64);
        };

        if self.resend.is_some() {
            add(1, 0);
        }
        if self.restart {
            add(1, 0);
        }
        if self.header {
            add(1, self.identity.payload().len());
        }
        if let Some(captured) = self.captured {
            let left = captured.len.saturating_sub(self.given);
            add(left.div_ceil(piece_max(window_size)), left);
            if !self.ended {
                add(1, Totals::SIZE);
            }
        }

        bytes
    }

    /// Puts the next records into `window`, as many as fit, and returns their size in bytes; zero
    /// only if nothing is pending. `buffer` is the one that the state was taken into.
    ///
    /// # Errors
    ///
    /// [`Reason::BufferTooSmall`] if it is not.
    pub fn next_chunk<W: Window>(&mut self, window: &mut W, buffer: &[u8]) -> Result<u64, Refusal> {
        let room = window.size().min(CHUNK_MAX);
        let mut used: usize = 0;

        self.chunk = Chunk {
            first: self.writer.sequence(),
            restarts: false,
        };
        while let Some(item) = self.next_item(window.size()) {
            let end = used.saturating_add(self.size_of(item));
            if end > room {
                break;
            }
            self.put(window, used, item, buffer)?;
            self.total = self.total.saturating_add(end.saturating_sub(used) as u64);
            used = end;
        }

        Ok(used as u64)
    }

    fn next_item(&self, window_size: usize) -> Option<Item> {
        if let Some(first) = self.resend {
            return Some(Item::Resend { first });
        }
        if self.restart {
            return Some(Item::Restart);
        }
        if self.header {
            return Some(Item::Header);
        }

        let captured = self.captured?;
        let left = captured.len.saturating_sub(self.given);
        if left > 0 {
            return Some(Item::State {
                offset: self.given,
                len: left.min(piece_max(window_size)),
            });
        }
        if self.ended {
            return None;
        }
        Some(Item::End {
            totals: Totals {
                records: self.writer.sequence(),
                bytes: captured.len as u64,
                state_crc: captured.crc,
            },
        })
    }

    fn size_of(&self, item: Item) -> usize {
        Writer::size_of(match item {
            Item::Resend { .. } | Item::Restart => 0,
            Item::Header => self.identity.payload().len(),
            Item::State { len, .. } => len,
            Item::End { .. } => Totals::SIZE,
        })
    }

    fn put<W: Window>(
        &mut self,
        window: &mut W,
        offset: usize,
        item: Item,
        buffer: &[u8],
    ) -> Result<(), Refusal> {
        let writer = &mut self.writer;
        let generation = u64::from(self.generation);

        match item {
            Item::Resend { first } => {
                writer.put(window, offset, Kind::Resend, u64::from(first), &[]);
                self.resend = None;
            }
            Item::Restart => {
                writer.put(window, offset, Kind::Restart, generation, &[]);
                self.restart = false;
                self.chunk.restarts = true;
            }
            Item::Header => {
                let payload = self.identity.payload();
                writer.put(window, offset, Kind::Header, generation, payload);
                self.header = false;
            }
            Item::State { offset: from, len } => {
                let until = from.saturating_add(len);
                let piece = buffer.get(from..until).ok_or(Reason::BufferTooSmall {
                    size: buffer.len(),
                    least: until,
                })?;
                writer.put(window, offset, Kind::State, from as u64, piece);
                self.given = until;
            }
            Item::End { totals } => {
                writer.put(window, offset, Kind::End, 0, &totals.encode());
                self.ended = true;
            }
        }

        Ok(())
    }
}

/// Returns the most bytes of device state that one record has. Pieces are as large in every chunk,
/// whatever else is in it, so that what is pending does not depend on how it is taken.
fn piece_max(window_size: usize) -> usize {
    window_size
        .min(CHUNK_MAX)
        .saturating_sub(HEADER_SIZE)
        .clamp(1, record::PAYLOAD_MAX as usize)
}
