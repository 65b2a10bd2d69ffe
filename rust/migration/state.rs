// SPDX-License-Identifier: GPL-2.0

//! The device state: the first word of the migration region's header.
//!
//! Mirrors "device_state" of `struct vfio_device_migration_info` (Linux 5.8 to 5.17,
//! `include/uapi/linux/vfio.h`); statements 16 to 18, 20 and 21 of the protocol.

use core::fmt;

use crate::refusal::{
    Reason,
    Refusal, //
};

pub use crate::transition::{
    run,
    Failure,
    Step,
    Steps,
    Transition, //
};

/// `VFIO_DEVICE_STATE_RUNNING`: the device runs.
const RUNNING: u32 = 1 << 0;
/// `VFIO_DEVICE_STATE_SAVING`: the device gives its state.
const SAVING: u32 = 1 << 1;
/// `VFIO_DEVICE_STATE_RESUMING`: the device takes a state.
const RESUMING: u32 = 1 << 2;
/// `VFIO_DEVICE_STATE_MASK`: the bits that have a meaning.
const MASK: u32 = RUNNING | SAVING | RESUMING;

/// A state that the device can be in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// 000b: stopped, neither saving nor resuming.
    Stop,
    /// 001b: running, which is where every open begins.
    Running,
    /// 010b: stopped, and all of its state can be read.
    StopCopy,
    /// 011b: running, and a part of its state can be read.
    PreCopy,
    /// 100b: stopped, and a state can be written.
    Resuming,
    /// 110b: broken until it is reset. Only reported, never written.
    Error,
}

impl State {
    /// The states that can be written.
    pub const VALID: [State; 5] = [
        Self::Stop,
        Self::Running,
        Self::StopCopy,
        Self::PreCopy,
        Self::Resuming,
    ];

    /// Returns the three bits of the state.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Stop => 0,
            Self::Running => RUNNING,
            Self::StopCopy => SAVING,
            Self::PreCopy => SAVING | RUNNING,
            Self::Resuming => RESUMING,
            Self::Error => RESUMING | SAVING,
        }
    }

    /// Returns whether the device runs.
    pub const fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::PreCopy)
    }

    /// Returns whether a save session goes on.
    pub const fn is_saving(self) -> bool {
        matches!(self, Self::StopCopy | Self::PreCopy)
    }

    /// Returns whether a resume session goes on.
    pub const fn is_resuming(self) -> bool {
        matches!(self, Self::Resuming)
    }

    /// Returns the name as traces and logs have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stop => "STOP",
            Self::Running => "RUNNING",
            Self::StopCopy => "STOP_COPY",
            Self::PreCopy => "PRE_COPY",
            Self::Resuming => "RESUMING",
            Self::Error => "ERROR",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The `device_state` word: a [`State`], and the reserved bits as the user last wrote them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceState {
    state: State,
    reserved: u32,
}

impl DeviceState {
    /// What every open begins with and every reset gives: running, the reserved bits clear.
    pub const INITIAL: Self = Self {
        state: State::Running,
        reserved: 0,
    };

    /// Takes the word of a user's write apart.
    ///
    /// # Errors
    ///
    /// [`Reason::InvalidState`] for 101b, 110b and 111b.
    pub fn from_word(word: u32) -> Result<Self, Refusal> {
        let state = State::VALID
            .into_iter()
            .find(|state| state.bits() == word & MASK)
            .ok_or(Reason::InvalidState { word })?;

        Ok(Self {
            state,
            reserved: word & !MASK,
        })
    }

    /// Returns the word as the user reads it.
    pub const fn word(self) -> u32 {
        self.reserved | self.state.bits()
    }

    /// Returns the state.
    pub const fn state(self) -> State {
        self.state
    }

    /// Returns the state `state` with the reserved bits of this one.
    pub const fn with_state(self, state: State) -> Self {
        Self {
            state,
            reserved: self.reserved,
        }
    }
}
