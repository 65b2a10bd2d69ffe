// SPDX-License-Identifier: GPL-2.0

//! The reset through CTRL.RST, from which the PHY keeps its settings and its link.

use device_model::hardware::{
    poll,
    Registers, //
};

use crate::ctrl_reset::{
    replace,
    start_reset, //
};
use crate::error::Error;
use crate::phy::Mdio;
use crate::registers::{
    ctrl,
    eecd,
    rctl,
    tctl,
    Register,
    QUEUES, //
};
use crate::ring::Direction;

use super::stop::{
    masters_ended,
    SETTLE, //
};

/// Microseconds between two looks.
const STEP: u32 = 100;
/// Microseconds for a reset, and for the EEPROM to be read after it.
const LIMIT: u32 = 50_000;
/// Microseconds for the PHY to be configured from the EEPROM.
const PHY: u32 = 25_000;

/// Resets the function.
pub(super) fn reset_function(registers: &mut dyn Registers) -> Result<(), Error> {
    let enabled = is_enabled(registers);

    registers.write32(Register::IMC.0, u32::MAX);
    if enabled {
        replace(registers, Register::RCTL, rctl::EN, 0);
        replace(registers, Register::TCTL, tctl::EN, 0);
        registers.read32(Register::STATUS.0);
        registers.delay(SETTLE);
    }
    replace(
        registers,
        Register::CTRL,
        ctrl::GIO_MASTER_DISABLE,
        ctrl::GIO_MASTER_DISABLE,
    );
    // A request that does not end is ended by the reset.
    masters_ended(registers);

    // The firmware does not use the PHY while software owns MDIO, and owns it after the reset.
    let started = Mdio::acquire(registers).map(Mdio::reset_function);
    if started.is_err() {
        start_reset(registers);
    }
    let done = poll(registers, LIMIT, STEP, |registers| {
        registers.read32(Register::CTRL.0) & ctrl::RST == 0
            && registers.read32(Register::EECD.0) & eecd::AUTO_RD != 0
    });
    if !done {
        return Err(Error::Reset);
    }
    registers.delay(PHY);
    registers.write32(Register::IMC.0, u32::MAX);
    registers.read32(Register::ICR.0);
    Ok(())
}

/// Whether receiver or transmitter is enabled.
fn is_enabled(registers: &mut dyn Registers) -> bool {
    registers.read32(Register::RCTL.0) & rctl::EN != 0
        || registers.read32(Register::TCTL.0) & tctl::EN != 0
}

/// Whether a function that has been reset, and has not been enabled since, has no ring set up. Then heads may be
/// written without another reset.
pub(super) fn is_fresh(registers: &mut dyn Registers) -> bool {
    !is_enabled(registers)
        && [Direction::Receive, Direction::Transmit]
            .into_iter()
            .flat_map(|direction| (0..QUEUES).flat_map(move |queue| direction.ring(queue)))
            .all(|register| registers.read32(register.0) == 0)
}
