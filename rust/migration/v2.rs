// SPDX-License-Identifier: GPL-2.0

//! Protocol v2 on the same machine: its states, and the data file.
//!
//! This is `VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE` of Linux 5.18 and later. The states are those of
//! protocol v1, and two more in which the device runs but initiates no DMA (P2P). The kernel takes a
//! change apart into arcs; what an arc does is the same list of steps as in protocol v1.
//!
//! The stream is the same, too. It flows through a file, of which the kernel knows how far it was
//! read: no chunk is ever in doubt, so a save has no RESEND here.

use crate::{
    device::{
        Device,
        Window, //
    },
    observer::Observer,
    refusal::{
        Reason,
        Refusal, //
    },
    region::MigrationRegion, //
};
use vfio_uapi::{
    v1::State,
    v2::{
        MigState,
        PrecopyInfo, //
    }, //
};

/// Returns the state of the engine in which the device is in `state`.
pub const fn engine_state(state: MigState) -> State {
    match state {
        MigState::Error => State::Error,
        MigState::Stop => State::Stop,
        MigState::Running | MigState::RunningP2p => State::Running,
        MigState::StopCopy => State::StopCopy,
        MigState::Resuming => State::Resuming,
        MigState::PreCopy | MigState::PreCopyP2p => State::PreCopy,
    }
}

/// Returns the state of protocol v2 of a device that is in `state`, and in P2P if `p2p` says so.
const fn mig_state(state: State, p2p: bool) -> MigState {
    match (state, p2p) {
        (State::Error, _) => MigState::Error,
        (State::Stop, _) => MigState::Stop,
        (State::Running, false) => MigState::Running,
        (State::Running, true) => MigState::RunningP2p,
        (State::StopCopy, _) => MigState::StopCopy,
        (State::Resuming, _) => MigState::Resuming,
        (State::PreCopy, false) => MigState::PreCopy,
        (State::PreCopy, true) => MigState::PreCopyP2p,
    }
}

/// Bytes that a data file has taken from the device and its user has not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    bytes: u64,
    /// How many of them, the first ones, are of the initial part.
    initial: u64,
    /// Whether the user has asked what there is since it last tried to read.
    asked: bool,
}

impl Unread {
    /// Returns how many they are.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Notes that the user has read all but the last `bytes` of them.
    pub fn keep(&mut self, bytes: u64) {
        let read = self.bytes.saturating_sub(bytes);

        self.bytes = self.bytes.min(bytes);
        self.initial = self.initial.saturating_sub(read);
        self.asked = false;
    }
}

/// What was read from a data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes, at least one.
    Bytes(u64),
    /// Nothing now; the device runs, so there may be something later.
    Later,
    /// Nothing any more.
    Ended,
}

impl<W: Window, B: AsMut<[u8]> + AsRef<[u8]>> MigrationRegion<W, B> {
    /// Returns the state of protocol v2 that the device is in.
    pub fn mig_state(&self) -> MigState {
        mig_state(self.state(), self.is_p2p())
    }

    /// Does the arc from the present state to `to`, which the kernel's state machine has found.
    ///
    /// # Errors
    ///
    /// Why a step of it fails; the device is in the state that it was in, or in ERROR.
    pub fn do_arc<D: Device, O: Observer>(
        &mut self,
        device: &mut D,
        observer: &mut O,
        to: MigState,
    ) -> Result<(), Refusal> {
        let from = self.mig_state();

        // P2P before it runs, and left only when it has stopped or runs anyway: in between nothing
        // must be initiated.
        if to.is_p2p() {
            self.set_p2p(device, true);
        }
        self.set_state(device, observer, engine_state(to))
            .inspect_err(|refusal| {
                self.set_p2p(device, from.is_p2p() && self.state() != State::Error);
                observer.refused(engine_state(from), refusal);
            })?;
        if !to.is_p2p() {
            self.set_p2p(device, false);
        }
        Ok(())
    }

    /// Reads the next bytes of the stream into `window`, which is the file's own and has nothing in it
    /// that the user has yet to read. `unread` then tells what it has.
    ///
    /// # Errors
    ///
    /// [`Reason::NotSaving`] in other states, or why the storage of the device fails.
    pub fn read_file<D: Device, O: Observer, F: Window>(
        &mut self,
        device: &mut D,
        observer: &mut O,
        window: &mut F,
        unread: &mut Unread,
    ) -> Result<Read, Refusal> {
        let state = self.state();

        *unread = Unread::default();
        let before = self.initial_bytes(device, window.size());
        let size = self
            .read_stream(device, observer, window)
            .inspect_err(|refusal| observer.refused(state, refusal))?;
        let after = self.initial_bytes(device, window.size());
        *unread = Unread {
            bytes: size,
            // What was read counts as it did before, so that the initial bytes never become more.
            initial: before.saturating_sub(after).min(size),
            asked: false,
        };
        Ok(match (size, state) {
            (0, State::PreCopy) => Read::Later,
            (0, _) => Read::Ended,
            (size, _) => Read::Bytes(size),
        })
    }

    /// Returns how many bytes of the initial part have not been read from the device.
    fn initial_bytes<D: Device>(&mut self, device: &mut D, window_size: usize) -> u64 {
        if self.state() != State::PreCopy {
            return 0;
        }

        self.save_mut().map_or(0, |save| {
            save.settle_initial(device);
            save.estimate(device, window_size).initial
        })
    }

    /// Returns whether [`read_file`](Self::read_file) would give something other than
    /// [`Read::Later`].
    pub fn has_data<D: Device>(&self, device: &mut D, window_size: usize) -> bool {
        match (self.state(), self.save()) {
            (State::PreCopy, Some(save)) => save.pending(device, window_size) > 0,
            _ => true,
        }
    }

    /// Writes the first `size` bytes of `window`, which is the file's own, to the stream.
    ///
    /// # Errors
    ///
    /// Why the stream is refused, or [`Reason::NotResuming`] in other states.
    pub fn write_file<D: Device, O: Observer, F: Window>(
        &mut self,
        device: &mut D,
        observer: &mut O,
        window: &F,
        size: usize,
    ) -> Result<(), Refusal> {
        let state = self.state();

        self.write_stream(device, observer, window, size)
            .inspect_err(|refusal| observer.refused(state, refusal))
    }

    /// Returns what the user of a data file has yet to read in pre-copy: what is `unread` in the file,
    /// and what comes through its window of `window_size` bytes.
    ///
    /// `may_reinit` tells whether the user understands that pre-copy begins anew. Because of what the
    /// device has written it does not while the device is in P2P, nor where the user has not read since
    /// it last asked: it is about to stop the device, as what it was told then was little enough. QEMU
    /// asks once more at that point, and gives the migration up if there is a new initial part.
    ///
    /// # Errors
    ///
    /// [`Reason::NotSaving`] outside of pre-copy.
    pub fn precopy_info<D: Device>(
        &mut self,
        device: &mut D,
        window_size: usize,
        unread: &mut Unread,
        may_reinit: bool,
    ) -> Result<PrecopyInfo, Refusal> {
        self.check_pre_copy()?;

        let state = self.state();
        let is_read = unread.initial == 0 && !unread.asked && !self.is_p2p();
        let save = self.save_mut().ok_or(Reason::NotSaving { state })?;
        let reinit = may_reinit && save.begin_anew(device, is_read);
        unread.asked = true;
        if reinit {
            // They are read before the new initial part, so they are of it.
            unread.initial = unread.bytes;
        }
        save.settle_initial(device);
        let estimate = save.estimate(device, window_size);
        let left = |all: u64, initial| all.saturating_sub(initial);
        Ok(PrecopyInfo {
            initial_bytes: estimate.initial.saturating_add(unread.initial),
            dirty_bytes: left(estimate.all, estimate.initial)
                .saturating_add(left(unread.bytes, unread.initial)),
            reinit,
        })
    }

    /// Checks that the device is in one of the states for [`precopy_info`](Self::precopy_info).
    ///
    /// # Errors
    ///
    /// [`Reason::NotSaving`] outside of pre-copy.
    pub fn check_pre_copy(&self) -> Result<(), Refusal> {
        match self.state() {
            State::PreCopy => Ok(()),
            state => Err(Reason::NotSaving { state }.into()),
        }
    }

    /// Returns how many bytes would have to be read in STOP_COPY if that were entered now, or are
    /// left to be read in it, through a window of `window_size` bytes. An estimate.
    pub fn stop_copy_size<D: Device>(&self, device: &mut D, window_size: usize) -> u64 {
        crate::save::stop_copy_size(self.save(), device, window_size)
    }
}
