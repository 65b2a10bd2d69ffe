// SPDX-License-Identifier: GPL-2.0

//! The header of the migration region: the field of an access, and the bits of `device_state`.
//!
//! Mirrors `struct vfio_device_migration_info` (Linux 5.8 to 5.17, `include/uapi/linux/vfio.h`);
//! statements 2 to 5, 16 to 18 and 20 of the protocol.

use crate::refusal::{
    Reason,
    Refusal, //
};
use vfio_uapi::v1::{
    Field,
    State,
    STATE_MASK, //
};

/// Returns the field that an access of `len` bytes at `offset` of the region means.
///
/// # Errors
///
/// [`Reason::Access`] for anything but one field at its own offset and width.
pub fn decode(offset: u64, len: usize) -> Result<Field, Refusal> {
    Field::at(offset, len).ok_or_else(|| Reason::Access { offset, len }.into())
}

/// The `device_state` word of a user's write: a [`State`], and the reserved bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct DeviceState {
    pub(super) state: State,
    pub(super) reserved: u32,
}

impl DeviceState {
    /// Takes the word of a user's write apart.
    ///
    /// # Errors
    ///
    /// [`Reason::InvalidState`] for 101b, 110b and 111b.
    pub(super) fn from_word(word: u32) -> Result<Self, Refusal> {
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
    pub(super) const fn word(self) -> u32 {
        self.reserved | self.state.bits()
    }
}
