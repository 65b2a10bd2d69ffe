// SPDX-License-Identifier: GPL-2.0

//! CTRL.RST, with which both the controller's reset and the start of the PHY's sequences begin.

use crate::registers::{
    ctrl,
    Register, //
};
use device_model::hardware::Registers;

/// Microseconds after CTRL.RST until the next access.
const RESET: u32 = 1_000;

/// Sets CTRL.RST.
pub(crate) fn start_reset(registers: &mut dyn Registers) {
    replace(
        registers,
        Register::CTRL,
        ctrl::RST | ctrl::PHY_RST,
        ctrl::RST,
    );
    registers.delay(RESET);
}

/// Replaces the bits `mask` of a register by `bits`; the others keep their value.
pub(crate) fn replace(registers: &mut dyn Registers, register: Register, mask: u32, bits: u32) {
    let kept = if mask == u32::MAX {
        0
    } else {
        registers.read32(register.0) & !mask
    };
    registers.write32(register.0, kept | bits);
}
