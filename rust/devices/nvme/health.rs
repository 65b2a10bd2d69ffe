// SPDX-License-Identifier: GPL-2.0

//! The SMART / Health Information log, section 5.14.1.2.

use device_model::saved_state::{
    StateError,
    StateReader,
    StateWriter, //
};

use crate::features::TEMPERATURE;
use crate::spec::log_page::health as layout;
use crate::window::Window;

/// All of the spare blocks are left, in percent.
const SPARE: u8 = 100;
/// Fewer spare blocks than this would be worth a warning, in percent.
const SPARE_THRESHOLD: u8 = 10;
/// The controller was switched on once. It has no clock to count hours with.
const POWER_CYCLES: u64 = 1;

/// Counters of the controller since power-on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// Data that was moved to the host or compared with the host's, in 512 bytes.
    sectors_read: u64,
    /// Data that was moved from the host to be written, in 512 bytes.
    sectors_written: u64,
    /// Read and Compare commands that were completed, with any status.
    reads: u64,
    /// Write commands that were completed, with any status.
    writes: u64,
    /// Failures of the medium.
    media_errors: u64,
}

impl Health {
    /// Bytes of the saved counters.
    pub(crate) const STATE_SIZE: usize = 5 * 8;

    /// Counts a command that reads.
    pub(crate) fn count_read(&mut self) {
        self.reads = self.reads.saturating_add(1);
    }

    /// Counts a command that writes.
    pub(crate) fn count_write(&mut self) {
        self.writes = self.writes.saturating_add(1);
    }

    /// Counts data of a command that reads.
    pub(crate) fn count_data_read(&mut self, bytes: usize) {
        self.sectors_read = self.sectors_read.saturating_add(sectors(bytes));
    }

    /// Counts data of a command that writes.
    pub(crate) fn count_data_written(&mut self, bytes: usize) {
        self.sectors_written = self.sectors_written.saturating_add(sectors(bytes));
    }

    /// Counts a failure of the medium.
    pub(crate) fn count_media_error(&mut self) {
        self.media_errors = self.media_errors.saturating_add(1);
    }

    /// Describes the log page. Counters have 128 bits, but 64 bits last forever.
    pub(crate) fn describe(&self, window: &mut Window<'_>, warnings: u8, errors: u64) {
        let units = |sectors: u64| sectors.div_ceil(layout::DATA_UNIT_SECTORS);

        window.put_u8(layout::CRITICAL_WARNING, warnings);
        window.put_u16(layout::COMPOSITE_TEMPERATURE, TEMPERATURE);
        window.put_u8(layout::AVAILABLE_SPARE, SPARE);
        window.put_u8(layout::SPARE_THRESHOLD, SPARE_THRESHOLD);
        window.put_u64(layout::DATA_UNITS_READ, units(self.sectors_read));
        window.put_u64(layout::DATA_UNITS_WRITTEN, units(self.sectors_written));
        window.put_u64(layout::HOST_READS, self.reads);
        window.put_u64(layout::HOST_WRITES, self.writes);
        window.put_u64(layout::POWER_CYCLES, POWER_CYCLES);
        window.put_u64(layout::MEDIA_ERRORS, self.media_errors);
        window.put_u64(layout::ERROR_LOG_ENTRIES, errors);
    }

    /// Saves the counters.
    pub(crate) fn save(&self, state: &mut StateWriter<'_>) {
        state.u64(self.sectors_read);
        state.u64(self.sectors_written);
        state.u64(self.reads);
        state.u64(self.writes);
        state.u64(self.media_errors);
    }

    /// Loads what [`Self::save`] saved.
    pub(crate) fn load(state: &mut StateReader<'_>) -> Result<Self, StateError> {
        Ok(Self {
            sectors_read: state.u64()?,
            sectors_written: state.u64()?,
            reads: state.u64()?,
            writes: state.u64()?,
            media_errors: state.u64()?,
        })
    }
}

fn sectors(bytes: usize) -> u64 {
    const SECTOR_SHIFT: u32 = 9;
    bytes as u64 >> SECTOR_SHIFT
}
