// SPDX-License-Identifier: GPL-2.0

//! Namespaces: what changes of one besides its content, and the one that a command is about.

use device_model::saved_state::{
    StateReader,
    StateWriter, //
};

use crate::io::Extent;
use crate::load_error::LoadError;
use crate::parameters::NamespaceParameters;
use crate::spec::status::Status;

/// What changes of a namespace. It is as old as the content, and outlives resets as that does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Namespace {
    /// LBA format that Format NVM chose, at first 0; see [`NamespaceParameters::lba_shift_of`].
    pub(crate) format: u8,
    /// Blocks were marked by Write Uncorrectable since the content began, and may still be.
    pub(crate) marked: bool,
}

impl Namespace {
    /// Bytes of the saved namespace.
    pub(crate) const STATE_SIZE: usize = 8;

    /// Saves the namespace, and what features say of it.
    pub(crate) fn save(&self, error_recovery: u32, state: &mut StateWriter<'_>) {
        state.u8(self.format);
        state.u8(self.marked.into());
        state.reserved::<2>();
        state.u32(error_recovery);
    }

    /// Loads what [`Self::save`] saved, of a namespace with `parameters`, but for the features.
    pub(crate) fn load(
        parameters: &NamespaceParameters,
        state: &mut StateReader<'_>,
    ) -> Result<Self, LoadError> {
        let format = state.at_most("LBA format", parameters.lba_formats() - 1)?;
        let marked = state.flag("marks")?;
        state.reserved::<2>()?;
        if marked && !parameters.keeps_marks() {
            return Err(LoadError::Marks);
        }
        Ok(Self { format, marked })
    }
}

/// The namespace that a command is about.
#[derive(Clone, Copy)]
pub(crate) struct Selected {
    /// Its number, from 0, which is the number of its store.
    pub(crate) index: usize,
    pub(crate) parameters: NamespaceParameters,
    pub(crate) state: Namespace,
}

impl Selected {
    /// Binary logarithm of the bytes of a logical block.
    pub(crate) fn lba_shift(&self) -> u8 {
        self.parameters.lba_shift_of(self.state.format)
    }

    /// Number of logical blocks.
    pub(crate) fn blocks(&self) -> u64 {
        self.parameters.capacity >> self.lba_shift()
    }

    /// Returns `blocks` logical blocks from `start` on, if the namespace has them.
    pub(crate) fn extent(&self, start: u64, blocks: u64) -> Result<Extent, Status> {
        match start.checked_add(blocks) {
            Some(end) if end <= self.blocks() => Ok(Extent {
                offset: start << self.lba_shift(),
                length: blocks << self.lba_shift(),
            }),
            _ => Err(Status::LBA_OUT_OF_RANGE),
        }
    }
}
