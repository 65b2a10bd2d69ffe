// SPDX-License-Identifier: GPL-2.0

//! A save session: gives the stream chunk by chunk.
//!
//! A session begins when SAVING is set and ends when it is cleared. Every session, and every
//! stop-and-copy after a return to pre-copy, is a generation of the stream with a number of its
//! own. Pre-copy gives HEADER, so that a destination that cannot take this device says so early, and then the
//! blocks of the device, and again those that the running device has written since. Stop-and-copy gives the
//! rest of the blocks, the state, then END. Statements 38 to 42 and 47 of the protocol.
//!
//! The engine holds one copy of the state, taken when stop-and-copy is entered: a user may write
//! configuration space after that, and pieces that are fetched when they are given would be of different
//! states. Data that is too large for that migrates as blocks.

mod estimate;

use self::estimate::Reinit;
use super::{
    amount::{
        piece_max,
        CHUNK_MAX, //
    },
    blocks::{
        BlockSave,
        Given, //
    },
    state_buffer, //
};
use crate::{
    port::{
        Port,
        Sink, //
    },
    refusal::{
        Reason,
        Refusal, //
    },
    stream::{
        crc32c::crc32c,
        format::{
            Kind,
            HEADER_SIZE,
            IDENTITY_MAX, //
        },
        identity::Identity,
        record::Totals,
        writer::Writer, //
    },
    transition::{
        Step,
        StepError, //
    },
};
use vfio_uapi::Errno;

pub(crate) use estimate::stop_copy_size;

/// The least room that a chunk needs, in bytes: that of the records that must not be parted, RESTART with its
/// HEADER and RESEND with its HEADER.
pub const ROOM_MIN: usize = 256;

const _: () = assert!(ROOM_MIN >= HEADER_SIZE + HEADER_SIZE + IDENTITY_MAX);

/// The generation that the first save of an open has. Only it begins without RESTART.
pub(crate) const FIRST_GENERATION: u32 = 1;

/// The state of the stopped device, as it was when stop-and-copy was entered.
#[derive(Clone, Copy)]
struct Captured {
    /// Its length in the state buffer, in bytes.
    len: usize,
    crc: u32,
}

/// The number of records of a generation after which pre-copy gives no more blocks, so that the sequence
/// numbers suffice for stop-and-copy. One chunk a millisecond takes weeks to get there.
const PRE_COPY_RECORDS: u32 = 1 << 31;

/// A record that is to be given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Item {
    Resend { first: u32 },
    Restart,
    Header,
    State { offset: usize, len: usize },
    End { totals: Totals },
}

/// The chunk that was given last.
#[derive(Clone, Copy, Default)]
struct Chunk {
    /// The number of its first record.
    first: u32,
    /// Whether RESTART is in it.
    restarts: bool,
    /// Whether HEADER is in it.
    introduces: bool,
}

/// A save session.
pub(crate) struct Save {
    identity: Identity,
    generation: u32,
    writer: Writer,
    /// The last chunk, for the case that the user leaves it unacknowledged.
    chunk: Chunk,
    /// Where RESEND is due: the first record that may not have arrived.
    resend: Option<u32>,
    /// Whether RESTART is due.
    restart: bool,
    /// Whether HEADER is due.
    header: bool,
    /// Present if the device has blocks that migrate.
    blocks: Option<BlockSave>,
    /// Whether the blocks are still to be tracked anew.
    untracked: bool,
    reinit: Reinit,
    captured: Option<Captured>,
    /// Bytes of the device state that have been given.
    given: usize,
    /// Bytes of payload for END.
    bytes: u64,
    /// Whether END has been given.
    ended: bool,
    /// Bytes given in this session.
    total: u64,
    /// Whether the next chunk has to have a record, as the user was told that something is pending.
    promised: bool,
}

impl Save {
    /// Begins a session.
    ///
    /// # Errors
    ///
    /// Why the device has no [`Identity`], or why its blocks cannot be tracked.
    pub(crate) fn begin<P: Port>(port: &mut P, generation: u32) -> Result<Self, Refusal> {
        let blocks = port.with_blocks(|_| BlockSave::new());
        let minor = if blocks.is_some() {
            Kind::Block.since()
        } else {
            Kind::State.since()
        };
        let identity = Identity::of(port, minor)?;
        if let Some(tracked) = port.with_blocks(|migrated| migrated.track()) {
            tracked.map_err(|errno| Reason::StepFailed {
                step: Step::BeginSave,
                errno,
            })?;
        }

        let mut save = Self {
            identity,
            generation,
            writer: Writer::new(),
            chunk: Chunk::default(),
            resend: None,
            restart: generation != FIRST_GENERATION,
            header: true,
            blocks,
            untracked: false,
            reinit: Reinit::default(),
            captured: None,
            given: 0,
            bytes: 0,
            ended: false,
            total: 0,
            promised: false,
        };
        save.begin_initial(port);
        Ok(save)
    }

    /// Ends the session.
    pub(crate) fn end<P: Port>(&mut self, port: &mut P) {
        port.untrack();
    }

    /// Returns the number of the session's present generation.
    pub(crate) const fn generation(&self) -> u32 {
        self.generation
    }

    /// Returns how many bytes were given in this session.
    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    /// Returns whether the state of the device was taken, that is, whether this is stop-and-copy.
    pub(crate) const fn is_captured(&self) -> bool {
        self.captured.is_some()
    }

    /// Takes the state of the device, which is stopped, into `buffer`. From then on it can be read.
    ///
    /// # Errors
    ///
    /// What the device says, [`Reason::BufferTooSmall`] or [`Reason::StateTooLong`]; the session is
    /// as before.
    pub(crate) fn capture<P: Port>(
        &mut self,
        port: &mut P,
        buffer: &mut [u8],
    ) -> Result<(), StepError<Refusal>> {
        let out = state_buffer(port, buffer)?;
        let most = out.len();
        let len = port.save(out).map_err(|error| {
            error.map(|errno| {
                Refusal::from(Reason::StepFailed {
                    step: Step::Capture,
                    errno,
                })
            })
        })?;
        let too_long = || Refusal::from(Reason::StateTooLong { len, most });
        let state = out.get(..len).ok_or_else(too_long)?;

        self.captured = Some(Captured {
            len,
            crc: crc32c(state),
        });
        Ok(())
    }

    /// Gives up the state that was taken: the session is as before [`capture`](Self::capture).
    pub(crate) fn release(&mut self) {
        self.captured = None;
    }

    /// Begins a new generation: the device ran on, so the state that was taken is void, and with it all
    /// that was given.
    pub(crate) fn restart<P: Port>(&mut self, port: &mut P, generation: u32) {
        self.begin_generation(generation);
        self.captured = None;
        self.given = 0;
        self.ended = false;
        self.untracked = true;
        self.reinit.due = true;
        // Should tracking anew fail, the next chunk is refused with the reason.
        let _ = self.track_anew(port);
    }

    /// Makes all blocks that are dirty the initial part.
    fn begin_initial<P: Port>(&mut self, port: &mut P) {
        let Some(blocks) = &mut self.blocks else {
            return;
        };
        let begun = port.with_blocks(|migrated| {
            blocks.begin_initial(migrated);
            migrated.dirty(0).data
        });

        self.reinit.blocks = begun.unwrap_or(0);
    }

    fn begin_generation(&mut self, generation: u32) {
        self.generation = generation;
        self.writer = Writer::new();
        self.chunk = Chunk::default();
        self.resend = None;
        self.restart = true;
        self.header = true;
        self.blocks = self.blocks.map(|_| BlockSave::new());
        self.bytes = 0;
    }

    fn track_anew<P: Port>(&mut self, port: &mut P) -> Result<(), Refusal> {
        if self.untracked {
            port.with_blocks(|migrated| migrated.track())
                .unwrap_or(Ok(()))
                .map_err(|errno| Reason::StorageFailed { errno })?;
            self.untracked = false;
            self.begin_initial(port);
        }
        Ok(())
    }

    /// Makes the blocks of the last chunk dirty again, which the user left unacknowledged when it left
    /// pre-copy. `buffer` is the one of [`next_chunk`](Self::next_chunk), before a state is taken into it.
    pub(crate) fn resend_unacknowledged<P: Port>(&mut self, port: &mut P, buffer: &[u8]) {
        if let Some(blocks) = &mut self.blocks {
            port.with_blocks(|migrated| blocks.resend_unacknowledged(migrated, buffer));
        }
    }

    /// Covers the last chunk, which was not empty and which the user left unacknowledged when it left
    /// pre-copy, by what follows; [`resend_unacknowledged`](Self::resend_unacknowledged) was called.
    /// `next_generation` is used if that takes a new generation.
    pub(crate) fn cover_chunk(&mut self, next_generation: u32) {
        let chunk = core::mem::take(&mut self.chunk);

        if chunk.restarts {
            // A reader that has not seen this RESTART is still in an older generation, where a
            // RESEND of this one means nothing. As RESTART is in a generation's first chunk, which
            // has no blocks, there is nothing to lose by another one.
            self.begin_generation(next_generation);
        } else {
            self.resend = Some(chunk.first);
            self.header |= chunk.introduces;
        }
    }

    /// Puts the next records into `sink`, as many as fit, and returns their size in bytes; zero
    /// only if nothing is pending. `buffer` is the one that the state is taken into; until it is,
    /// the session keeps notes about the chunk there.
    ///
    /// # Errors
    ///
    /// [`Reason::WindowTooSmall`] for a room of fewer than [`ROOM_MIN`] bytes, [`Reason::BufferTooSmall`] if
    /// `buffer` is another one, or [`Reason::StorageFailed`] if the blocks are gone or cannot be tracked any
    /// more.
    pub(crate) fn next_chunk<P: Port, S: Sink + ?Sized>(
        &mut self,
        port: &mut P,
        sink: &mut S,
        buffer: &mut [u8],
    ) -> Result<u64, Refusal> {
        let size = sink.room();
        if size < ROOM_MIN {
            let least = ROOM_MIN;
            return Err(Reason::WindowTooSmall { size, least }.into());
        }
        self.track_anew(port)?;

        let mut space = Space {
            sink,
            used: 0,
            room: size.min(CHUNK_MAX),
        };
        self.chunk = Chunk {
            first: self.writer.sequence(),
            restarts: false,
            introduces: false,
        };
        // Blocks after RESTART are for the next chunk, see `cover_chunk`.
        if self.put_items(&mut space, buffer, Self::next_opening)?
            && !(self.chunk.restarts && self.blocks.is_some())
            && self.put_blocks(port, &mut space, buffer)?
        {
            self.put_items(&mut space, buffer, |save| save.next_of_state(size))?;
        }

        let promised = core::mem::take(&mut self.promised);
        if promised && space.used == 0 && self.captured.is_none() {
            self.writer.put_wait(space.sink);
            space.used = Writer::size_of(0);
        }

        self.total = self.total.saturating_add(space.used as u64);
        Ok(space.used as u64)
    }

    /// Puts records as `next` names them. Returns whether all of them fitted.
    fn put_items<S: Sink + ?Sized>(
        &mut self,
        space: &mut Space<'_, S>,
        buffer: &[u8],
        next: impl Fn(&Self) -> Option<Item>,
    ) -> Result<bool, Refusal> {
        while let Some(item) = next(self) {
            let size = self.size_of(item);
            if size > space.left() {
                return Ok(false);
            }
            self.put(space, item, buffer)?;
            space.used = space.used.saturating_add(size);
        }

        Ok(true)
    }

    /// Puts dirty blocks. Returns whether they all fitted.
    fn put_blocks<P: Port, S: Sink + ?Sized>(
        &mut self,
        port: &mut P,
        space: &mut Space<'_, S>,
        notes: &mut [u8],
    ) -> Result<bool, Refusal> {
        let before_state = self.is_before_state();
        let Some(blocks) = self.blocks.as_mut().filter(|_| before_state) else {
            return Ok(true);
        };

        blocks.begin_chunk(self.captured.is_none());
        loop {
            let writer = &mut self.writer;
            let given = port
                .with_blocks(|migrated| {
                    let room = space.left();
                    blocks.put(migrated, writer, space.sink, space.used, room, notes)
                })
                .ok_or(Reason::StorageFailed { errno: Errno::EIO })?;
            match given {
                Given::Record { payload } => {
                    space.used = space.used.saturating_add(Writer::size_of(payload));
                    self.bytes = self.bytes.saturating_add(payload as u64);
                }
                Given::Full => return Ok(false),
                Given::Nothing => return Ok(true),
            }
        }
    }

    /// Returns whether this is the place for blocks.
    fn is_before_state(&self) -> bool {
        match self.captured {
            Some(_) => self.given == 0 && !self.ended,
            None => self.writer.sequence() < PRE_COPY_RECORDS,
        }
    }

    fn next_opening(&self) -> Option<Item> {
        if let Some(first) = self.resend {
            return Some(Item::Resend { first });
        }
        if self.restart {
            return Some(Item::Restart);
        }
        self.header.then_some(Item::Header)
    }

    fn next_of_state(&self, room: usize) -> Option<Item> {
        let captured = self.captured?;
        let left = captured.len.saturating_sub(self.given);
        if left > 0 {
            return Some(Item::State {
                offset: self.given,
                len: left.min(piece_max(room)),
            });
        }
        if self.ended {
            return None;
        }
        Some(Item::End {
            totals: Totals {
                records: self.writer.sequence(),
                bytes: self.bytes,
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

    fn put<S: Sink + ?Sized>(
        &mut self,
        space: &mut Space<'_, S>,
        item: Item,
        buffer: &[u8],
    ) -> Result<(), Refusal> {
        let writer = &mut self.writer;
        let sink = &mut *space.sink;
        let offset = space.used;
        let generation = u64::from(self.generation);

        match item {
            Item::Resend { first } => {
                writer.put(sink, offset, Kind::Resend, u64::from(first), &[]);
                self.resend = None;
                self.bytes = 0;
            }
            Item::Restart => {
                writer.put(sink, offset, Kind::Restart, generation, &[]);
                self.restart = false;
                self.chunk.restarts = true;
            }
            Item::Header => {
                let payload = self.identity.payload();
                writer.put(sink, offset, Kind::Header, generation, payload);
                self.header = false;
                self.chunk.introduces = true;
            }
            Item::State { offset: from, len } => {
                let until = from.saturating_add(len);
                let piece = buffer.get(from..until).ok_or(Reason::BufferTooSmall {
                    size: buffer.len(),
                    least: until,
                })?;
                writer.put(sink, offset, Kind::State, from as u64, piece);
                self.given = until;
                self.bytes = self.bytes.saturating_add(len as u64);
            }
            Item::End { totals } => {
                writer.put(sink, offset, Kind::End, 0, &totals.encode());
                self.ended = true;
            }
        }

        Ok(())
    }
}

/// The sink that a chunk is put into.
struct Space<'a, S: Sink + ?Sized> {
    sink: &'a mut S,
    /// Bytes of the chunk so far.
    used: usize,
    /// The most bytes that the chunk can have.
    room: usize,
}

impl<S: Sink + ?Sized> Space<'_, S> {
    fn left(&self) -> usize {
        self.room.saturating_sub(self.used)
    }
}
