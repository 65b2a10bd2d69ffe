// SPDX-License-Identifier: GPL-2.0

//! The device state: the first word of the migration region's header.
//!
//! Mirrors "device_state" of `struct vfio_device_migration_info` (Linux 5.8 to 5.17,
//! `include/uapi/linux/vfio.h`); statements 16 to 18, 20 and 21 of the protocol.

use crate::refusal::{
    Reason,
    Refusal, //
};
use vfio_uapi::v1::{
    State,
    STATE_MASK, //
};

pub use crate::transition::{
    run,
    Failure,
    Step,
    Steps,
    Transition, //
};

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
            .find(|state| state.bits() == word & STATE_MASK)
            .ok_or(Reason::InvalidState { word })?;

        Ok(Self {
            state,
            reserved: word & !STATE_MASK,
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
