// SPDX-License-Identifier: GPL-2.0

//! Model number and firmware revision.

use device_model::saved_state::{
    StateReader,
    StateWriter, //
};

use crate::load_error::LoadError;
use crate::parameters::is_printable;
use crate::spec::identify::controller::{
    FR_SIZE,
    MN_SIZE, //
};

const MODEL: [u8; MN_SIZE] = *b"Ferry NVMe Controller                   ";
const FIRMWARE: [u8; FR_SIZE] = *b"1.0     ";

/// The names of a controller besides its serial number. A controller keeps them when it moves to a
/// host whose code would give others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) model: [u8; MN_SIZE],
    pub(crate) firmware: [u8; FR_SIZE],
}

impl Default for Names {
    fn default() -> Self {
        Self {
            model: MODEL,
            firmware: FIRMWARE,
        }
    }
}

impl Names {
    /// Bytes of the saved names.
    pub(crate) const STATE_SIZE: usize = MN_SIZE + FR_SIZE;

    /// Saves the names.
    pub(crate) fn save(&self, state: &mut StateWriter<'_>) {
        state.bytes(&self.model);
        state.bytes(&self.firmware);
    }

    /// Loads what [`Self::save`] saved.
    pub(crate) fn load(state: &mut StateReader<'_>) -> Result<Self, LoadError> {
        Ok(Self {
            model: text("model number", state)?,
            firmware: text("firmware revision", state)?,
        })
    }
}

/// Reads a field of printable ASCII.
fn text<const N: usize>(
    field: &'static str,
    state: &mut StateReader<'_>,
) -> Result<[u8; N], LoadError> {
    let text = state.bytes()?;
    match text.iter().find(|byte| !is_printable(**byte)) {
        Some(&found) => Err(LoadError::Text { field, found }),
        None => Ok(text),
    }
}
