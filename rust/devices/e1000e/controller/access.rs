// SPDX-License-Identifier: GPL-2.0

//! Accesses of the guest to trapped registers.
//!
//! BAR 2 has IOADDR and IODATA, a window to all registers, and is trapped as a whole: it would lead past
//! the traps otherwise.

use core::ops::DerefMut;

use device_model::hardware::{
    AccessError,
    Context,
    Hardware,
    Trap,
    PAGE_SIZE, //
};

use crate::follower::Slot;
use crate::registers::Register;
use crate::statistics;

use super::{
    view,
    Controller,
    Following, //
};

/// Size of IOADDR and IODATA's BAR.
const IO_SIZE: u64 = 32;
/// IOADDR selects a register.
const IO_ADDRESS: u64 = 0;
/// IODATA is that register.
const IO_DATA: u64 = 4;
/// The bits of IOADDR.
const IO_ADDRESS_BITS: u32 = 0x000f_ffff;
/// The registers that IOADDR can select.
const IO_REGISTERS: u32 = 0x2_0000;

/// Page with RDBAL to RDT.
const RECEIVE_PAGE: u32 = 0x2000;

/// Page with TDBAL to TDT.
const TRANSMIT_PAGE: u32 = 0x3000;

const REGISTER_BAR: u32 = 0;

const IO_BAR: u32 = 2;

const fn page(offset: u32) -> Trap {
    Trap {
        bar: REGISTER_BAR,
        offset: offset as u64,
        len: PAGE_SIZE,
    }
}

const IO_TRAP: Trap = Trap {
    bar: IO_BAR,
    offset: 0,
    len: IO_SIZE,
};

/// What is trapped.
pub(super) fn traps(following: Following) -> &'static [Trap] {
    const STATISTICS: Trap = page(Register::STATISTICS.0);
    const RECEIVE: Trap = page(RECEIVE_PAGE);
    const TRANSMIT: Trap = page(TRANSMIT_PAGE);

    match following {
        Following::Off => &[IO_TRAP],
        Following::ReceiveTrapped => &[IO_TRAP, RECEIVE, STATISTICS],
        Following::BothTrapped => &[IO_TRAP, RECEIVE, TRANSMIT, STATISTICS],
    }
}

impl<S: DerefMut<Target = [Slot]>> Controller<S> {
    /// Reads a register as the guest does.
    fn read_register(&mut self, context: &mut Context<'_>, offset: u32) -> u32 {
        if statistics::page_has(offset) {
            if let Some(value) = self.statistics.read(context.registers, offset) {
                return value;
            }
        }
        context.registers.read32(offset)
    }

    /// Writes a register as the guest does.
    fn write_register(&mut self, context: &mut Context<'_>, offset: u32, value: u32) {
        let mut view = view(context);

        match offset & !0xfff {
            RECEIVE_PAGE => self.follower.write(&mut view, offset, value),
            TRANSMIT_PAGE => self.follower.write_transmit(&mut view, offset, value),
            _ => context.registers.write32(offset, value),
        }
    }

    /// The register that IODATA is, if there is one.
    fn io_register(&self) -> Option<u32> {
        (self.io_address < IO_REGISTERS && self.io_address & 3 == 0).then_some(self.io_address)
    }

    /// Reads the 32 bits at `offset` of a trapped part.
    pub(super) fn read_trapped(&mut self, context: &mut Context<'_>, bar: u32, offset: u64) -> u32 {
        match (bar, offset) {
            (IO_BAR, IO_ADDRESS) => self.io_address,
            (IO_BAR, IO_DATA) => self
                .io_register()
                .map_or(0, |offset| self.read_register(context, offset)),
            (IO_BAR, _) => 0,
            // A trap is in the first 128 KiB.
            _ => self.read_register(context, offset as u32),
        }
    }

    /// Writes the 32 bits at `offset` of a trapped part.
    pub(super) fn write_trapped(
        &mut self,
        context: &mut Context<'_>,
        bar: u32,
        offset: u64,
        value: u32,
    ) {
        match (bar, offset) {
            (IO_BAR, IO_ADDRESS) => self.io_address = value & IO_ADDRESS_BITS,
            (IO_BAR, IO_DATA) => {
                if let Some(offset) = self.io_register() {
                    self.write_register(context, offset, value);
                }
            }
            (IO_BAR, _) => {}
            _ => self.write_register(context, offset as u32, value),
        }
    }

    /// Whether a trap has all of an access.
    pub(super) fn check_access(
        &self,
        bar: u32,
        offset: u64,
        len: usize,
    ) -> Result<(), AccessError> {
        let len = len as u64;
        let trapped = self.traps().iter().any(|trap| {
            trap.bar == bar
                && offset
                    .checked_sub(trap.offset)
                    .is_some_and(|at| at < trap.len)
        });
        // A trap has a multiple of 8 bytes, so an aligned access does not reach beyond it.
        let natural = matches!(len, 1 | 2 | 4 | 8) && offset & len.saturating_sub(1) == 0;

        if trapped && natural {
            Ok(())
        } else {
            Err(AccessError)
        }
    }
}
