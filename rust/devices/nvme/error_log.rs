// SPDX-License-Identifier: GPL-2.0

//! The Error Information log, section 5.14.1.1.

use device_model::saved_state::{
    StateError,
    StateReader,
    StateWriter, //
};

use crate::spec::log_page::error_entry as layout;
use crate::spec::status::Status;
use crate::window::Window;

/// Entries of the error log.
pub(crate) const ENTRIES: usize = 16;

/// An entry of the error log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ErrorEntry {
    /// Submission queue (`sqid`).
    pub(crate) queue: u16,
    /// Command identifier (`cid`).
    pub(crate) cid: u16,
    /// Status field, without the phase tag.
    pub(crate) status: u16,
    /// Namespace identifier of the command.
    pub(crate) nsid: u32,
    /// First logical block of the command, if it has one.
    pub(crate) lba: u64,
}

impl ErrorEntry {
    /// Bytes of a saved entry.
    const STATE_SIZE: usize = 24;

    /// Returns an entry about an error that no command caused.
    pub(crate) fn without_command(status: Status) -> Self {
        Self {
            queue: layout::NO_COMMAND,
            cid: layout::NO_COMMAND,
            status: status.unlogged().field(),
            ..Self::default()
        }
    }

    fn save(&self, state: &mut StateWriter<'_>) {
        state.u16(self.queue);
        state.u16(self.cid);
        state.u16(self.status);
        state.reserved::<2>();
        state.u32(self.nsid);
        state.reserved::<4>();
        state.u64(self.lba);
    }

    /// Loads an entry, which is left alone and has to be unused unless it `exists`.
    fn load(&mut self, exists: bool, state: &mut StateReader<'_>) -> Result<(), StateError> {
        if !exists {
            *self = Self::default();
            return state.reserved::<{ Self::STATE_SIZE }>();
        }
        self.queue = state.u16()?;
        self.cid = state.u16()?;
        self.status = state.u16_of("status", u16::MAX >> 1)?;
        state.reserved::<2>()?;
        self.nsid = state.u32()?;
        state.reserved::<4>()?;
        self.lba = state.u64()?;
        Ok(())
    }
}

/// The error log: the newest errors, and the number of all errors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ErrorLog {
    /// Number of errors, ever.
    pub(crate) count: u64,
    /// The error with number `n`, from 0, is at `n` modulo the number of entries.
    entries: [ErrorEntry; ENTRIES],
}

impl ErrorLog {
    /// Bytes of the saved log.
    pub(crate) const STATE_SIZE: usize = 8 + ENTRIES * ErrorEntry::STATE_SIZE;
    /// Bytes of the log page.
    pub(crate) const PAGE_SIZE: usize = ENTRIES * layout::SIZE;

    /// Adds an error.
    pub(crate) fn add(&mut self, entry: ErrorEntry) {
        self.entries[slot(self.count)] = entry;
        self.count = self.count.saturating_add(1);
    }

    /// Describes the log page: newest error first.
    pub(crate) fn describe(&self, window: &mut Window<'_>) {
        let numbers = (1..=self.count).rev().take(ENTRIES);
        for (index, number) in numbers.enumerate() {
            let at = index * layout::SIZE;
            let entry = &self.entries[slot(number - 1)];
            window.put_u64(at + layout::ERROR_COUNT, number);
            window.put_u16(at + layout::SQID, entry.queue);
            window.put_u16(at + layout::CMDID, entry.cid);
            // The phase tag is not kept.
            window.put_u16(at + layout::STATUS, entry.status << 1);
            window.put_u16(at + layout::PARAMETER_LOCATION, layout::LOCATION_NONE);
            window.put_u64(at + layout::LBA, entry.lba);
            window.put_u32(at + layout::NSID, entry.nsid);
        }
    }

    /// Saves the log.
    pub(crate) fn save(&self, state: &mut StateWriter<'_>) {
        state.u64(self.count);
        for entry in &self.entries {
            entry.save(state);
        }
    }

    /// Loads what [`Self::save`] saved.
    pub(crate) fn load(&mut self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        self.count = state.u64()?;
        for (number, entry) in (0..).zip(&mut self.entries) {
            entry.load(number < self.count, state)?;
        }
        Ok(())
    }
}

fn slot(number: u64) -> usize {
    (number % ENTRIES as u64) as usize
}
