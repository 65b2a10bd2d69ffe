// SPDX-License-Identifier: GPL-2.0

//! The data file of a session: the stream, and the sizes that a user may ask for.
//!
//! The stream is that of protocol v1. The kernel knows how far a file was read, so that no chunk is ever
//! unacknowledged and a save has no RESEND here.
//!
//! Mirrors `VFIO_MIG_GET_PRECOPY_INFO` and `VFIO_DEVICE_FEATURE_MIG_DATA_SIZE` of
//! `include/uapi/linux/vfio.h`.

use crate::{
    engine::Engine,
    port::{
        Port,
        Sink,
        Source, //
    },
    refusal::{
        Reason,
        Refusal, //
    },
    session::save::stop_copy_size,
};
use vfio_uapi::{
    v1::State,
    v2::PrecopyInfo, //
};

/// The buffer of a `read()`.
impl Sink for [u8] {
    fn room(&self) -> usize {
        self.len()
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let to = offset
            .checked_add(bytes.len())
            .and_then(|end| self.get_mut(offset..end));

        debug_assert!(to.is_some(), "the engine keeps within the room");
        if let Some(to) = to {
            to.copy_from_slice(bytes);
        }
    }
}

/// The bytes of a `write()`.
impl Source for [u8] {
    fn read(&self, offset: usize, into: &mut [u8]) {
        let from = offset
            .checked_add(into.len())
            .and_then(|end| self.get(offset..end));

        debug_assert!(from.is_some(), "the engine stays within the chunk");
        if let Some(from) = from {
            into.copy_from_slice(from);
        }
    }
}

/// What a read of a data file gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// This many bytes, at least one.
    Bytes(u64),
    /// No bytes now; there may be some later, as the device runs.
    Later,
    /// No bytes any more.
    Ended,
}

/// The data file of one session: the bytes that the file has taken from the device and its user has not
/// read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct File {
    unread: u64,
    /// How many of them, the first ones, are of the initial part.
    unread_initial: u64,
    /// Whether the user has asked for [`PrecopyInfo`] since it last tried to read.
    asked: bool,
}

impl File {
    /// Returns the file of a session that has just begun.
    pub const fn new() -> Self {
        Self {
            unread: 0,
            unread_initial: 0,
            asked: false,
        }
    }

    /// Returns how many bytes the user has yet to read of those that the file has taken.
    pub const fn unread(&self) -> u64 {
        self.unread
    }

    /// The user has read all but the last `bytes` bytes of those that the file has taken.
    pub fn keep(&mut self, bytes: u64) {
        let read = self.unread.saturating_sub(bytes);

        self.unread = self.unread.min(bytes);
        self.unread_initial = self.unread_initial.saturating_sub(read);
        self.asked = false;
    }

    /// Reads the next bytes of the stream into `buffer`, which is the file's own and has nothing in it
    /// that the user has yet to read.
    ///
    /// # Errors
    ///
    /// [`Reason::NotSaving`] in other states, or why the blocks of the device fail.
    pub fn read<P: Port, B: AsMut<[u8]> + AsRef<[u8]>, S: Sink + ?Sized>(
        &mut self,
        engine: &mut Engine<B>,
        port: &mut P,
        buffer: &mut S,
    ) -> Result<Read, Refusal> {
        let state = engine.state();

        *self = Self::new();
        let before = initial_bytes(engine, port, buffer.room());
        let size = engine
            .read_chunk(port, buffer)
            .inspect_err(|refusal| port.on_refusal(state, refusal))?;
        let after = initial_bytes(engine, port, buffer.room());
        self.unread = size;
        // What was read counts as it did before, so that the initial bytes never become more.
        self.unread_initial = before.saturating_sub(after).min(size);
        Ok(match (size, state) {
            (0, State::PreCopy) => Read::Later,
            (0, _) => Read::Ended,
            (size, _) => Read::Bytes(size),
        })
    }

    /// Returns whether a read would give something other than [`Read::Later`], through a buffer of `room`
    /// bytes.
    pub fn is_readable<P: Port, B: AsMut<[u8]> + AsRef<[u8]>>(
        &self,
        engine: &Engine<B>,
        port: &mut P,
        room: usize,
    ) -> bool {
        match (engine.state(), engine.save()) {
            (State::PreCopy, Some(save)) => self.unread > 0 || save.pending(port, room) > 0,
            _ => true,
        }
    }

    /// Writes all of `bytes` to the stream.
    ///
    /// # Errors
    ///
    /// Why the stream is refused, or [`Reason::NotResuming`] in other states.
    pub fn write<P: Port, B: AsMut<[u8]> + AsRef<[u8]>>(
        &mut self,
        engine: &mut Engine<B>,
        port: &mut P,
        bytes: &[u8],
    ) -> Result<(), Refusal> {
        let state = engine.state();

        engine
            .write_chunk(port, bytes, bytes.len())
            .inspect_err(|refusal| port.on_refusal(state, refusal))
    }

    /// Returns what the user has yet to read in pre-copy: the unread bytes of the file,
    /// and what comes through its buffer of `room` bytes.
    ///
    /// `may_reinit` tells whether the user understands that pre-copy begins anew. Because of what the
    /// device has written it does not while the device is in P2P, nor where the user has not read since
    /// it last asked: that user is about to stop the device, as the answer was little enough. QEMU
    /// asks once more at that point, and gives the migration up if there is a new initial part.
    ///
    /// # Errors
    ///
    /// [`Reason::NotSaving`] outside of pre-copy.
    pub fn precopy_info<P: Port, B: AsMut<[u8]> + AsRef<[u8]>>(
        &mut self,
        engine: &mut Engine<B>,
        port: &mut P,
        room: usize,
        may_reinit: bool,
    ) -> Result<PrecopyInfo, Refusal> {
        check_pre_copy(engine)?;

        let state = engine.state();
        let is_read = self.unread_initial == 0 && !self.asked && !engine.is_p2p();
        let save = engine.save_mut().ok_or(Reason::NotSaving { state })?;
        let reinit = may_reinit && save.begin_anew(port, is_read);
        self.asked = true;
        if reinit {
            // The unread bytes are read before the new initial part, so they are of it.
            self.unread_initial = self.unread;
        }
        save.settle_initial(port);
        let estimate = save.estimate(port, room);
        let left = |all: u64, initial| all.saturating_sub(initial);
        let info = PrecopyInfo {
            initial_bytes: estimate.initial.saturating_add(self.unread_initial),
            // A user that stopped the device now would wait for what it has to write back.
            dirty_bytes: left(estimate.all, estimate.initial)
                .saturating_add(left(self.unread, self.unread_initial))
                .saturating_add(port.unwritten()),
            reinit,
        };
        port.on_pending(state, info.initial_bytes.saturating_add(info.dirty_bytes));
        Ok(info)
    }
}

/// Checks that the device is in one of the states for [`File::precopy_info`].
///
/// # Errors
///
/// [`Reason::NotSaving`] outside of pre-copy.
pub fn check_pre_copy<B: AsMut<[u8]> + AsRef<[u8]>>(engine: &Engine<B>) -> Result<(), Refusal> {
    match engine.state() {
        State::PreCopy => Ok(()),
        state => Err(Reason::NotSaving { state }.into()),
    }
}

/// Returns how many bytes would have to be read in STOP_COPY if that were entered now, or are
/// left to be read in it, through a buffer of `room` bytes. An estimate, without the bytes that a file has
/// taken.
pub fn data_size<P: Port, B: AsMut<[u8]> + AsRef<[u8]>>(
    engine: &Engine<B>,
    port: &mut P,
    room: usize,
) -> u64 {
    stop_copy_size(engine.save(), port, room)
}

/// Returns how many bytes of the initial part have not been read from the device.
fn initial_bytes<P: Port, B: AsMut<[u8]> + AsRef<[u8]>>(
    engine: &mut Engine<B>,
    port: &mut P,
    room: usize,
) -> u64 {
    if engine.state() != State::PreCopy {
        return 0;
    }

    engine.save_mut().map_or(0, |save| {
        save.settle_initial(port);
        save.estimate(port, room).initial
    })
}
