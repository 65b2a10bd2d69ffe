// SPDX-License-Identifier: GPL-2.0

//! What changes of a namespace besides its content.

use device_model::saved_state::{
    StateReader,
    StateWriter, //
};

use crate::load_error::LoadError;
use crate::parameters::Parameters;

/// A namespace. It is as old as its content, and outlives resets as that does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Namespace {
    /// LBA format that Format NVM chose, at first 0; see [`Parameters::lba_shift_of`].
    pub(crate) format: u8,
    /// Blocks were marked by Write Uncorrectable since the content began, and may still be.
    pub(crate) marked: bool,
}

impl Namespace {
    /// Bytes of the saved namespace.
    pub(crate) const STATE_SIZE: usize = 8;

    /// Saves the namespace.
    pub(crate) fn save(&self, state: &mut StateWriter<'_>) {
        state.u8(self.format);
        state.u8(self.marked.into());
        state.reserved::<6>();
    }

    /// Loads what [`Self::save`] saved, of a namespace with `parameters`.
    pub(crate) fn load(
        parameters: &Parameters,
        state: &mut StateReader<'_>,
    ) -> Result<Self, LoadError> {
        let format = state.at_most("LBA format", parameters.lba_formats() - 1)?;
        let marked = state.flag("marks")?;
        state.reserved::<6>()?;
        if marked && !parameters.keeps_marks() {
            return Err(LoadError::Marks);
        }
        Ok(Self { format, marked })
    }
}
