// SPDX-License-Identifier: GPL-2.0

//! Get Log Page, section 5.14.

use device_model::GuestMemory;

use super::Outcome;
use crate::error_log::ErrorLog;
use crate::executor::Executor;
use crate::parameters::Parameters;
use crate::prp::TRANSFER_MAX;
use crate::spec::command::{
    high,
    low,
    Command,
    NSID_ALL, //
};
use crate::spec::identify::controller::FR_SIZE;
use crate::spec::log_page::{
    effects,
    firmware_slot,
    health,
    LogPage,
    RAE, //
};
use crate::spec::opcode::{
    AdminOpcode,
    NvmOpcode, //
};
use crate::spec::status::Status;
use crate::window::Window;

/// Bytes of a dword.
const DWORD_SIZE: u64 = 4;

impl Executor {
    /// Get Log Page.
    pub(super) fn get_log_page<M: GuestMemory>(
        &mut self,
        command: &Command,
        memory: &mut M,
    ) -> Outcome {
        let page = LogPage::decode(command.cdw10())?;
        if ![0, NSID_ALL].contains(&command.nsid) {
            // No log is about one namespace.
            return Err(Status::INVALID_FIELD);
        }
        // Number of Dwords (`numdl`, `numdu`), less one.
        let dwords =
            u64::from(high(command.cdw10())) | u64::from(low(command.cdw11())) << u16::BITS;
        let length = usize::try_from((dwords + 1) * DWORD_SIZE)
            .ok()
            .filter(|length| *length <= TRANSFER_MAX)
            .ok_or(Status::INVALID_FIELD)?;
        // Log Page Offset (`lpol`, `lpou`).
        let offset = u64::from(command.cdw12()) | u64::from(command.cdw13()) << u32::BITS;
        if offset % DWORD_SIZE != 0 || offset > page_size(page) as u64 {
            return Err(Status::INVALID_FIELD);
        }

        // It is at most the size of the page.
        self.give(
            command,
            offset as usize,
            length,
            memory,
            |window| match page {
                LogPage::Error => self.errors.describe(window),
                LogPage::Health => {
                    let warnings = self.features.warnings();
                    self.health.describe(window, warnings, self.errors.count);
                }
                LogPage::FirmwareSlot => firmware_slots(window, &self.names.firmware),
                LogPage::CommandsSupported => commands_supported(window, &self.parameters),
            },
        )?;
        if command.cdw10() & RAE == 0 {
            self.events.clear(page);
        }
        Ok(Some(0))
    }
}

/// Bytes of a page.
fn page_size(page: LogPage) -> usize {
    match page {
        LogPage::Error => ErrorLog::PAGE_SIZE,
        LogPage::Health => health::SIZE,
        LogPage::FirmwareSlot => firmware_slot::SIZE,
        LogPage::CommandsSupported => effects::SIZE,
    }
}

/// Describes the firmware slots, figure 198: the only one is the active one.
fn firmware_slots(window: &mut Window<'_>, revision: &[u8; FR_SIZE]) {
    const ACTIVE_SLOT: u8 = 1;

    window.put_u8(firmware_slot::AFI, ACTIVE_SLOT);
    window.put(firmware_slot::FRS1, revision);
}

/// Describes the commands that the controller executes, and their effects, section 5.14.1.5.
fn commands_supported(window: &mut Window<'_>, parameters: &Parameters) {
    let offset = |table, opcode: u8| table + usize::from(opcode) * effects::ENTRY_SIZE;

    for &opcode in AdminOpcode::ALL {
        let changes = match opcode {
            AdminOpcode::FormatNvm => effects::LBCC | effects::NCC | effects::CSE_NAMESPACE,
            _ => 0,
        };
        window.put_u32(offset(effects::ACS, opcode as u8), effects::CSUPP | changes);
    }
    let executed = |opcode: &&NvmOpcode| opcode.is_executed(parameters.keeps_marks());
    for &opcode in NvmOpcode::ALL.iter().filter(executed) {
        let changes = if opcode.changes_content() {
            effects::LBCC
        } else {
            0
        };
        window.put_u32(
            offset(effects::IOCS, opcode as u8),
            effects::CSUPP | changes,
        );
    }
}
