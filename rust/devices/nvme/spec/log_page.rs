// SPDX-License-Identifier: GPL-2.0

//! Log pages, section 5.14: identifiers and layouts.

use crate::spec::status::Status;

/// Log Page Identifier (`lid`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum LogPage {
    /// Error Information, section 5.14.1.1.
    Error = 0x01,
    /// SMART / Health Information, section 5.14.1.2.
    Health = 0x02,
    /// Firmware Slot Information, section 5.14.1.3.
    FirmwareSlot = 0x03,
    /// Commands Supported and Effects, section 5.14.1.5.
    CommandsSupported = 0x05,
}

impl LogPage {
    /// Returns the page that dword 10 names.
    pub(crate) fn decode(cdw10: u32) -> Result<Self, Status> {
        match cdw10 & 0xff {
            0x01 => Ok(Self::Error),
            0x02 => Ok(Self::Health),
            0x03 => Ok(Self::FirmwareSlot),
            0x05 => Ok(Self::CommandsSupported),
            _ => Err(Status::LOG_PAGE.unlogged()),
        }
    }
}

/// Dword 10: Retain Asynchronous Event (`rae`).
pub(crate) const RAE: u32 = 1 << 15;

/// Layout of an entry of the Error Information log, figure 195.
pub(crate) mod error_entry {
    /// Bytes of an entry.
    pub(crate) const SIZE: usize = 64;

    /// Error Count.
    pub(crate) const ERROR_COUNT: usize = 0;
    /// Submission Queue ID.
    pub(crate) const SQID: usize = 8;
    /// Command ID.
    pub(crate) const CMDID: usize = 10;
    /// Status Field; bit 0 may be the phase tag of the completion.
    pub(crate) const STATUS: usize = 12;
    /// Parameter Error Location.
    pub(crate) const PARAMETER_LOCATION: usize = 14;
    /// First LBA.
    pub(crate) const LBA: usize = 16;
    /// Namespace.
    pub(crate) const NSID: usize = 24;

    /// Parameter Error Location of an error that no parameter in particular caused.
    pub(crate) const LOCATION_NONE: u16 = u16::MAX;
    /// SQID and CMDID of an error that no command caused.
    pub(crate) const NO_COMMAND: u16 = u16::MAX;
}

/// Layout of the SMART / Health Information log, figure 196.
pub(crate) mod health {
    /// Bytes of the page.
    pub(crate) const SIZE: usize = 512;

    /// Critical Warning.
    pub(crate) const CRITICAL_WARNING: usize = 0;
    /// Composite Temperature, in kelvins.
    pub(crate) const COMPOSITE_TEMPERATURE: usize = 1;
    /// Available Spare, in percent.
    pub(crate) const AVAILABLE_SPARE: usize = 3;
    /// Available Spare Threshold, in percent.
    pub(crate) const SPARE_THRESHOLD: usize = 4;
    /// Data Units Read.
    pub(crate) const DATA_UNITS_READ: usize = 32;
    /// Data Units Written.
    pub(crate) const DATA_UNITS_WRITTEN: usize = 48;
    /// Host Read Commands.
    pub(crate) const HOST_READS: usize = 64;
    /// Host Write Commands.
    pub(crate) const HOST_WRITES: usize = 80;
    /// Power Cycles.
    pub(crate) const POWER_CYCLES: usize = 112;
    /// Media and Data Integrity Errors.
    pub(crate) const MEDIA_ERRORS: usize = 160;
    /// Number of Error Information Log Entries.
    pub(crate) const ERROR_LOG_ENTRIES: usize = 176;

    /// Sectors of 512 bytes in a data unit.
    pub(crate) const DATA_UNIT_SECTORS: u64 = 1000;
    /// Critical Warning: the temperature is beyond a threshold.
    pub(crate) const WARNING_TEMPERATURE: u8 = 1 << 1;
}

/// Layout of the Firmware Slot Information log, figure 198.
pub(crate) mod firmware_slot {
    /// Bytes of the page.
    pub(crate) const SIZE: usize = 512;

    /// Active Firmware Info: the number of the active slot.
    pub(crate) const AFI: usize = 0;
    /// Firmware Revision for Slot 1.
    pub(crate) const FRS1: usize = 8;
}

/// Layout of the Commands Supported and Effects log, figures 204 and 205.
pub(crate) mod effects {
    /// Bytes of the page.
    pub(crate) const SIZE: usize = 4096;

    /// Where the effects of admin commands begin.
    pub(crate) const ACS: usize = 0;
    /// Where the effects of I/O commands begin.
    pub(crate) const IOCS: usize = 1024;
    /// Bytes of the effects of a command.
    pub(crate) const ENTRY_SIZE: usize = 4;

    /// Command Supported.
    pub(crate) const CSUPP: u32 = 1 << 0;
    /// Logical Block Content Change.
    pub(crate) const LBCC: u32 = 1 << 1;
    /// Namespace Capability Change.
    pub(crate) const NCC: u32 = 1 << 2;
    /// Command Submission and Execution: no other command of the namespace meanwhile.
    pub(crate) const CSE_NAMESPACE: u32 = 1 << 16;
}
