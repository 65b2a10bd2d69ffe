// SPDX-License-Identifier: GPL-2.0

//! A save session: gives the stream chunk by chunk.
//!
//! A session begins when SAVING is set and ends when it is cleared. Every session, and every
//! stop-and-copy after a return to pre-copy, is a generation of the stream with a number of its
//! own. In pre-copy HEADER is offered, so that a destination that cannot take this device says so
//! early, and then the device's storage, block by block, and again what the running device has
//! written since. In stop-and-copy the rest of the blocks follows, the state, then END. Statements 38
//! to 42 and 47 of the protocol.

use crate::{
    blocks::{
        block_size,
        Blocks,
        Estimate,
        Given, //
    },
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
use vfio_uapi::Errno;

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

/// How many records a generation may have before pre-copy offers no more blocks, so that the numbers
/// suffice for stop-and-copy. At a rate of one chunk in a millisecond that takes weeks.
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

/// What was put into the window last.
#[derive(Clone, Copy, Default)]
struct Chunk {
    /// The number of its first record.
    first: u32,
    /// Whether RESTART is in it.
    restarts: bool,
    /// Whether HEADER is in it.
    introduces: bool,
}

/// The most initial parts that a session has after the first because of what the device writes. Were
/// there no limit, a device that writes faster than its blocks are read would keep a user waiting for
/// the end of an initial part for ever.
const REINITS_MAX: u32 = 3;

/// The fewest dirty blocks that make a new initial part, 4 MiB: for fewer it is not worth while that
/// both ends agree once more that stop-and-copy may begin.
const REINIT_BLOCKS_MIN: u64 = 1024;

/// When there is a new initial part.
#[derive(Clone, Copy, Default)]
struct Reinit {
    /// A new generation has begun, of which the user has not been told.
    due: bool,
    /// How many initial parts there were because of what the device wrote.
    count: u32,
    /// Blocks with content that the initial part had when it began.
    blocks: u64,
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
    /// How far it is with the storage, if the device has one.
    blocks: Option<Blocks>,
    /// Whether the storage is still to be tracked anew.
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
}

impl Save {
    /// Begins a session of `device`.
    ///
    /// # Errors
    ///
    /// [`Reason::WindowTooSmall`] for a window of fewer than [`WINDOW_MIN`] bytes, what
    /// [`Identity::of`] says, or what the storage says.
    pub fn begin<D: Device, W: Window>(
        device: &mut D,
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

        let blocks = device.with_storage(|_| Blocks::new());
        let minor = if blocks.is_some() {
            Kind::Block.since()
        } else {
            Kind::State.since()
        };
        let identity = Identity::of(device, minor)?;
        if let Some(tracked) = device.with_storage(|storage| storage.track()) {
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
        };
        save.begin_initial(device);
        Ok(save)
    }

    /// Ends the session; `device` is the one that it began with.
    pub fn end<D: Device>(&mut self, device: &mut D) {
        device.with_storage(|storage| storage.untrack());
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

    /// Begins a new generation: `device` ran on, so the state that was taken is void, and with it all
    /// that was given.
    pub fn restart<D: Device>(&mut self, device: &mut D, generation: u32) {
        self.begin_generation(generation);
        self.captured = None;
        self.given = 0;
        self.ended = false;
        self.untracked = true;
        self.reinit.due = true;
        // If it fails, which it should not, the user hears of it when the next chunk is due.
        let _ = self.track_anew(device);
    }

    /// Makes all blocks that are dirty the initial part.
    fn begin_initial<D: Device>(&mut self, device: &mut D) {
        let Some(blocks) = &mut self.blocks else {
            return;
        };
        let begun = device.with_storage(|storage| {
            blocks.begin_initial(storage);
            storage.dirty(0).data
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
        self.blocks = self.blocks.map(|_| Blocks::new());
        self.bytes = 0;
    }

    fn track_anew<D: Device>(&mut self, device: &mut D) -> Result<(), Refusal> {
        if self.untracked {
            device
                .with_storage(|storage| storage.track())
                .unwrap_or(Ok(()))
                .map_err(|errno| Reason::StorageFailed { errno })?;
            self.untracked = false;
            self.begin_initial(device);
        }
        Ok(())
    }

    /// Makes the blocks dirty that the last chunk has, which the user may or may not have taken
    /// before it left pre-copy. `buffer` is the one of [`next_chunk`](Self::next_chunk), before a
    /// state is taken into it.
    pub fn resend_unacknowledged<D: Device>(&mut self, device: &mut D, buffer: &[u8]) {
        if let Some(blocks) = &mut self.blocks {
            device.with_storage(|storage| blocks.resend_unacknowledged(storage, buffer));
        }
    }

    /// Covers the last chunk, which was not empty and which the user may or may not have taken
    /// before it left pre-copy, by what follows; [`resend_unacknowledged`](Self::resend_unacknowledged) was called.
    /// `next_generation` is used if that takes a new generation.
    pub fn cover_chunk(&mut self, next_generation: u32) {
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

    /// Returns how many bytes of stream can be read in the present state, headers of records and
    /// all. `window_size` is the size of the window in bytes.
    ///
    /// For the blocks of a storage, which share headers, that is an estimate. No more than that comes
    /// if nothing changes; it is zero exactly if there is nothing to read.
    pub fn pending<D: Device>(&self, device: &mut D, window_size: usize) -> u64 {
        self.estimate(device, window_size).all
    }

    /// Returns how many of the [`pending`](Self::pending) bytes are of the initial part, and how many
    /// there are in all.
    pub(crate) fn estimate<D: Device>(&self, device: &mut D, window_size: usize) -> Estimate {
        let opening = self.opening_size();
        let blocks = self
            .blocks
            .filter(|_| self.is_before_state())
            .and_then(|blocks| {
                device.with_storage(|storage| blocks.estimate(storage, piece_max(window_size)))
            })
            .unwrap_or_default();

        Estimate {
            initial: blocks.initial.saturating_add(opening),
            all: blocks
                .all
                .saturating_add(opening)
                .saturating_add(self.state_size(window_size)),
        }
    }

    /// Returns the size of the records before the blocks that have not been given.
    fn opening_size(&self) -> u64 {
        let header = HEADER_SIZE.saturating_add(self.identity.payload().len());
        let sizes = [
            (self.resend.is_some(), HEADER_SIZE),
            (self.restart, HEADER_SIZE),
            (self.header, header),
        ];

        sizes
            .into_iter()
            .filter(|(due, _)| *due)
            .fold(0, |sum: u64, (_, size)| sum.saturating_add(size as u64))
    }

    /// Returns the size of the records of the state that was taken and of END, as far as they have
    /// not been given.
    fn state_size(&self, window_size: usize) -> u64 {
        let Some(captured) = self.captured else {
            return 0;
        };
        let left = captured.len.saturating_sub(self.given);
        let end = match self.ended {
            true => 0,
            false => Writer::size_of(Totals::SIZE),
        };

        pieces(left, piece_max(window_size))
            .saturating_mul(HEADER_SIZE)
            .saturating_add(left)
            .saturating_add(end) as u64
    }

    /// Sees to it that what the user is told of the initial part from now on is never more than it is
    /// now, whatever the device writes.
    pub(crate) fn settle_initial<D: Device>(&mut self, device: &mut D) {
        if let Some(blocks) = &mut self.blocks {
            device.with_storage(|storage| blocks.settle_initial(storage));
        }
    }

    /// Begins a new initial part if one is due, and returns whether it did. All that is pending is of
    /// it then.
    ///
    /// One is due when a new generation has begun. If the user has read the initial part and does not
    /// rely on that, as `is_read` tells, one is also due when more than half as many blocks as it had
    /// are dirty again, [`REINIT_BLOCKS_MIN`] at least; but no more than [`REINITS_MAX`] times.
    pub(crate) fn begin_anew<D: Device>(&mut self, device: &mut D, is_read: bool) -> bool {
        if !self.reinit.due {
            let is_read = is_read && self.estimate(device, WINDOW_MIN).initial == 0;
            if !is_read || !self.is_rewritten(device) || self.reinit.count >= REINITS_MAX {
                return false;
            }
            self.reinit.count = self.reinit.count.saturating_add(1);
        }
        self.reinit.due = false;
        self.begin_initial(device);
        true
    }

    fn is_rewritten<D: Device>(&self, device: &mut D) -> bool {
        let dirty = device.with_storage(|storage| storage.dirty(0).data);

        dirty.is_some_and(|data| data >= REINIT_BLOCKS_MIN && data > self.reinit.blocks / 2)
    }

    /// Puts the next records into `window`, as many as fit, and returns their size in bytes; zero
    /// only if nothing is pending. `buffer` is the one that the state is taken into; until it is,
    /// the session keeps notes about the chunk there.
    ///
    /// # Errors
    ///
    /// [`Reason::BufferTooSmall`] if it is not, or [`Reason::StorageFailed`] if the storage is gone
    /// or cannot be tracked any more.
    pub fn next_chunk<D: Device, W: Window>(
        &mut self,
        device: &mut D,
        window: &mut W,
        buffer: &mut [u8],
    ) -> Result<u64, Refusal> {
        self.track_anew(device)?;

        let size = window.size();
        let mut space = Space {
            window,
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
            && self.put_blocks(device, &mut space, buffer)?
        {
            self.put_items(&mut space, buffer, |save| save.next_of_state(size))?;
        }

        self.total = self.total.saturating_add(space.used as u64);
        Ok(space.used as u64)
    }

    /// Puts records as `next` names them. Returns whether all of them fitted.
    fn put_items<W: Window>(
        &mut self,
        space: &mut Space<'_, W>,
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
    fn put_blocks<D: Device, W: Window>(
        &mut self,
        device: &mut D,
        space: &mut Space<'_, W>,
        notes: &mut [u8],
    ) -> Result<bool, Refusal> {
        let before_state = self.is_before_state();
        let Some(blocks) = self.blocks.as_mut().filter(|_| before_state) else {
            return Ok(true);
        };

        blocks.begin_chunk(self.captured.is_none());
        loop {
            let writer = &mut self.writer;
            let given = device
                .with_storage(|storage| {
                    let room = space.left();
                    blocks.put(storage, writer, space.window, space.used, room, notes)
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

    fn next_of_state(&self, window_size: usize) -> Option<Item> {
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

    fn put<W: Window>(
        &mut self,
        space: &mut Space<'_, W>,
        item: Item,
        buffer: &[u8],
    ) -> Result<(), Refusal> {
        let writer = &mut self.writer;
        let window = &mut *space.window;
        let offset = space.used;
        let generation = u64::from(self.generation);

        match item {
            Item::Resend { first } => {
                writer.put(window, offset, Kind::Resend, u64::from(first), &[]);
                self.resend = None;
                self.bytes = 0;
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
                self.chunk.introduces = true;
            }
            Item::State { offset: from, len } => {
                let until = from.saturating_add(len);
                let piece = buffer.get(from..until).ok_or(Reason::BufferTooSmall {
                    size: buffer.len(),
                    least: until,
                })?;
                writer.put(window, offset, Kind::State, from as u64, piece);
                self.given = until;
                self.bytes = self.bytes.saturating_add(len as u64);
            }
            Item::End { totals } => {
                writer.put(window, offset, Kind::End, 0, &totals.encode());
                self.ended = true;
            }
        }

        Ok(())
    }
}

/// The window that a chunk is put into.
struct Space<'a, W: Window> {
    window: &'a mut W,
    /// Bytes of the chunk so far.
    used: usize,
    /// The most bytes that the chunk can have.
    room: usize,
}

impl<W: Window> Space<'_, W> {
    fn left(&self) -> usize {
        self.room.saturating_sub(self.used)
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

/// Returns how many bytes stop-and-copy gives if it is entered now, or has yet to give, through a
/// window of `window_size` bytes. An estimate, and rather too much than too little.
pub(crate) fn stop_copy_size<D: Device>(
    save: Option<&Save>,
    device: &mut D,
    window_size: usize,
) -> u64 {
    let pending = match save {
        Some(save) if save.is_captured() => return save.pending(device, window_size),
        Some(save) => save.pending(device, window_size),
        None => {
            let written = device.with_storage(|storage| storage.written_blocks());
            block_size(piece_max(window_size))
                .saturating_mul(written.unwrap_or(0))
                // HEADER, after RESTART.
                .saturating_add((HEADER_SIZE + HEADER_SIZE + identity::PAYLOAD_MAX) as u64)
        }
    };

    let state = pieces(D::STATE_SIZE, piece_max(window_size))
        .saturating_mul(HEADER_SIZE)
        .saturating_add(D::STATE_SIZE)
        .saturating_add(Writer::size_of(Totals::SIZE));
    pending.saturating_add(state as u64)
}

/// Returns how many pieces of at most `most` bytes `len` bytes make.
///
/// Not `div_ceil()`: objtool does not know that its panic, which is never reached, ends there.
pub(crate) fn pieces(len: usize, most: usize) -> usize {
    len.saturating_add(most)
        .saturating_sub(1)
        .checked_div(most)
        .unwrap_or(len)
}
