// SPDX-License-Identifier: GPL-2.0

//! Logs, section 5.14.1.

use crate::features::TEMPERATURE;
use crate::identify::FIRMWARE_SIZE;
use crate::status::Status;
use crate::window::Window;

/// Entries of the error log.
pub(crate) const ERROR_ENTRIES: usize = 16;

/// A log page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogPage {
    /// Error Information.
    Error = 0x01,
    /// SMART / Health Information.
    Health = 0x02,
    /// Firmware Slot Information.
    FirmwareSlot = 0x03,
    /// Commands Supported and Effects.
    CommandsSupported = 0x05,
}

impl LogPage {
    /// Returns the page that a command names in dword 10.
    pub(crate) fn decode(cdw10: u32) -> Result<Self, Status> {
        match cdw10 & 0xff {
            0x01 => Ok(Self::Error),
            0x02 => Ok(Self::Health),
            0x03 => Ok(Self::FirmwareSlot),
            0x05 => Ok(Self::CommandsSupported),
            _ => Err(Status::LOG_PAGE.unlogged()),
        }
    }

    /// How many bytes it has.
    pub(crate) fn size(self) -> u64 {
        match self {
            Self::Error => (ERROR_ENTRIES * ERROR_ENTRY_SIZE) as u64,
            Self::Health | Self::FirmwareSlot => 512,
            Self::CommandsSupported => 4096,
        }
    }
}

/// Bytes of an entry of the error log page.
const ERROR_ENTRY_SIZE: usize = 64;
/// No parameter of the command in particular is wrong.
const LOCATION_UNKNOWN: u16 = u16::MAX;
/// An error that no command made names this one, in this queue.
const NO_COMMAND: u16 = u16::MAX;

/// An entry of the error log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ErrorEntry {
    /// Submission queue.
    pub(crate) queue: u16,
    /// Command identifier.
    pub(crate) cid: u16,
    /// Status field, without the phase.
    pub(crate) status: u16,
    /// Namespace identifier of the command.
    pub(crate) nsid: u32,
    /// First logical block of the command, if it has one.
    pub(crate) lba: u64,
}

impl ErrorEntry {
    /// Returns an entry about something that no command did.
    pub(crate) fn without_command(status: Status) -> Self {
        Self {
            queue: NO_COMMAND,
            cid: NO_COMMAND,
            status: status.unlogged().field(),
            ..Self::default()
        }
    }
}

/// The error log: the last errors, and how many there were at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ErrorLog {
    /// Number of errors, ever.
    pub(crate) count: u64,
    /// An error with number `n`, from 0, is at `n` modulo the number of entries.
    pub(crate) entries: [ErrorEntry; ERROR_ENTRIES],
}

impl ErrorLog {
    /// Adds an error.
    pub(crate) fn add(&mut self, entry: ErrorEntry) {
        self.entries[slot(self.count)] = entry;
        self.count = self.count.saturating_add(1);
    }

    /// Describes the log page, newest error first, figure 195.
    pub(crate) fn describe(&self, window: &mut Window<'_>) {
        let numbers = (1..=self.count).rev().take(ERROR_ENTRIES);
        for (index, number) in numbers.enumerate() {
            let at = index * ERROR_ENTRY_SIZE;
            let entry = &self.entries[slot(number - 1)];
            window.put_u64(at, number);
            window.put_u16(at + 8, entry.queue);
            window.put_u16(at + 10, entry.cid);
            // The lowest bit is the phase in a completion, and nothing here.
            window.put_u16(at + 12, entry.status << 1);
            window.put_u16(at + 14, LOCATION_UNKNOWN);
            window.put_u64(at + 16, entry.lba);
            window.put_u32(at + 24, entry.nsid);
        }
    }
}

fn slot(number: u64) -> usize {
    (number % ERROR_ENTRIES as u64) as usize
}

/// Units that the health log counts data in: 1000 times 512 bytes.
const DATA_UNIT_SECTORS: u64 = 1000;
/// All of the spare blocks are left, in percent.
const SPARE: u8 = 100;
/// Fewer spare blocks than this would be worth a warning, in percent.
const SPARE_THRESHOLD: u8 = 10;
/// The controller was switched on once, and has no clock to tell for how long.
const POWER_CYCLES: u64 = 1;

/// What the controller did since it is there, for the health log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// Data that was moved to the host or compared with the host's, in 512 bytes.
    pub(crate) sectors_read: u64,
    /// Data that was moved from the host to be written, in 512 bytes.
    pub(crate) sectors_written: u64,
    /// Read and Compare commands that were completed, with whatever status.
    pub(crate) reads: u64,
    /// Write commands that were completed, with whatever status.
    pub(crate) writes: u64,
    /// Failures of the medium.
    pub(crate) media_errors: u64,
}

impl Health {
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

    /// Describes the log page, figure 196. Counters have 128 bits, of which 64 last forever.
    pub(crate) fn describe(&self, window: &mut Window<'_>, warnings: u8, errors: u64) {
        window.put_u8(0, warnings);
        window.put_u16(1, TEMPERATURE);
        window.put_u8(3, SPARE);
        window.put_u8(4, SPARE_THRESHOLD);
        window.put_u64(32, self.sectors_read.div_ceil(DATA_UNIT_SECTORS));
        window.put_u64(48, self.sectors_written.div_ceil(DATA_UNIT_SECTORS));
        window.put_u64(64, self.reads);
        window.put_u64(80, self.writes);
        window.put_u64(112, POWER_CYCLES);
        window.put_u64(160, self.media_errors);
        window.put_u64(176, errors);
    }
}

fn sectors(bytes: usize) -> u64 {
    const SECTOR_SHIFT: u32 = 9;
    bytes as u64 >> SECTOR_SHIFT
}

/// Describes the firmware slots, figure 198: the only one is the active one.
pub(crate) fn firmware_slots(window: &mut Window<'_>, revision: &[u8; FIRMWARE_SIZE]) {
    const ACTIVE_SLOT: u8 = 1;

    window.put_u8(0, ACTIVE_SLOT);
    window.put(8, revision);
}

/// Where the effects of I/O commands begin in the log page; those of admin commands are before them.
const IO_EFFECTS: usize = 1024;
/// Effects: the command is supported.
const SUPPORTED: u32 = 1 << 0;
/// Effects: content may change.
const CONTENT_CHANGES: u32 = 1 << 1;

/// Describes the commands that there are and what they do, section 5.14.1.5: `admin` ones by their
/// opcodes, and `io` ones with whether they change content.
pub(crate) fn commands_supported(window: &mut Window<'_>, admin: &[u8], io: &[(u8, bool)]) {
    for &opcode in admin {
        window.put_u32(usize::from(opcode) * 4, SUPPORTED);
    }
    for &(opcode, writes) in io {
        let effects = SUPPORTED | if writes { CONTENT_CHANGES } else { 0 };
        window.put_u32(IO_EFFECTS + usize::from(opcode) * 4, effects);
    }
}
