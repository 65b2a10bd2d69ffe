// SPDX-License-Identifier: GPL-2.0

//! The MSI-X table, section 6.8.2.6 of the PCI Local Bus Specification.
//!
//! The table keeps what software writes. Nothing in this crate acts on it: the owner of the vectors
//! does.

use device_model::saved_state::{
    StateError,
    StateReader,
    StateWriter, //
};

use crate::parameters::PAIRS;

/// Bytes of a vector's entry.
const ENTRY_SIZE: usize = 16;
/// Offset of the Vector Control word in an entry.
const VECTOR_CONTROL: usize = 12;
/// Vector Control: the vector is masked.
const MASKED: u8 = 1 << 0;

/// The MSI-X table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MsixTable([u8; Self::SIZE]);

impl MsixTable {
    /// Bytes of the table.
    pub(crate) const SIZE: usize = PAIRS * ENTRY_SIZE;
    /// Bytes of the saved table.
    pub(crate) const STATE_SIZE: usize = Self::SIZE;

    /// Returns the table after power-on: every vector is masked.
    pub(crate) fn new() -> Self {
        let mut table = [0; Self::SIZE];
        for entry in table.chunks_exact_mut(ENTRY_SIZE) {
            entry[VECTOR_CONTROL] = MASKED;
        }
        Self(table)
    }

    /// Returns the byte at `offset` of the table.
    pub(crate) fn byte(&self, offset: usize) -> Option<u8> {
        self.0.get(offset).copied()
    }

    /// Writes `word` at `offset` of the table; past its end nothing is written.
    pub(crate) fn write(&mut self, offset: usize, word: [u8; 4]) {
        if let Some(slot) = self.0.get_mut(offset..offset + word.len()) {
            slot.copy_from_slice(&word);
        }
    }

    /// Saves the table.
    pub(crate) fn save(&self, state: &mut StateWriter<'_>) {
        state.bytes(&self.0);
    }

    /// Loads what [`Self::save`] saved.
    pub(crate) fn load(&mut self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        self.0 = *state.array()?;
        Ok(())
    }
}
