// SPDX-License-Identifier: GPL-2.0

//! What the registers and the PHY have: read from a function that is stopped, and written to one that has
//! been reset.

use device_model::hardware::{
    poll,
    Registers, //
};

use crate::error::Error;
use crate::phy::{
    self,
    Mdio, //
};
use crate::registers::{
    ctrl,
    eerd,
    mdic,
    rctl,
    tctl,
    Register,
    QUEUES, //
};
use crate::ring::Direction;
use crate::state::{
    Extra,
    State,
    FLAG_EERD,
    FLAG_MDIO_OWNED, //
};
use crate::table::{
    Order,
    Word, //
};

use crate::ctrl_reset::replace;

/// Microseconds between two looks.
const STEP: u32 = 100;
/// Microseconds for a word of the EEPROM.
const EEPROM: u32 = 10_000;

/// The registers, the PHY and what else the state has, in a function that has been reset.
pub(super) fn program(
    registers: &mut dyn Registers,
    state: &State<'_>,
    extra: &Extra,
) -> Result<(), Error> {
    let control = state.word(Word::<{ Register::CTRL.0 }>::AT);
    // Nothing that is written below starts a request.
    replace(
        registers,
        Register::CTRL,
        ctrl::CONFIGURATION | ctrl::RST | ctrl::PHY_RST,
        control | ctrl::GIO_MASTER_DISABLE,
    );
    for (entry, register, value) in state.words() {
        if entry.order != Order::Step {
            replace(registers, register, entry.mask | entry.starts, value);
        }
    }
    let receive = state.word(Word::<{ Register::RCTL.0 }>::AT);
    replace(registers, Register::RCTL, rctl::ALL, receive & !rctl::EN);
    let transmit = state.word(Word::<{ Register::TCTL.0 }>::AT);
    replace(
        registers,
        Register::TCTL,
        tctl::ALL | 1 << 22,
        transmit & !tctl::EN,
    );

    for direction in [Direction::Transmit, Direction::Receive] {
        for queue in 0..QUEUES {
            let ring = direction.ring(queue).into_iter();
            for (register, written) in ring.zip(state.ring(direction, queue)) {
                registers.write32(register.0, written);
                let read = registers.read32(register.0);
                if read != written {
                    return Err(Error::Register {
                        offset: register.0,
                        written,
                        read,
                    });
                }
            }
        }
    }

    if extra.flags & FLAG_EERD != 0 {
        read_eeprom(registers, extra.eerd);
    }
    {
        let mut mdio = Mdio::acquire(registers).map_err(|_| Error::Phy)?;
        mdio.set(&extra.phy).map_err(|_| Error::Phy)?;
        mdio.leave(extra.mdic);
    }
    if extra.flags & FLAG_MDIO_OWNED != 0 && !phy::request(registers) {
        return Err(Error::Phy);
    }
    // Whatever has happened since the reset is no cause of the guest's.
    registers.read32(Register::ICR.0);
    Ok(())
}

/// What the state has besides the table.
pub(super) fn extra(
    registers: &mut dyn Registers,
    causes: u32,
    io_address: u32,
) -> Result<Extra, Error> {
    let mut flags = 0;
    let mut read = 0;

    let done = poll(registers, EEPROM, STEP, |registers| {
        read = registers.read32(Register::EERD.0);
        read & eerd::START == 0 || read & eerd::DONE != 0
    });
    if done && read & eerd::DONE != 0 {
        flags |= FLAG_EERD;
    }
    if phy::owned(registers) {
        flags |= FLAG_MDIO_OWNED;
    }

    // A guest that has not used MDIC yet finds a read of register 0 that is done, and does not look.
    let mut mdio = Mdio::acquire(registers).map_err(|_| Error::Phy)?;
    let used = mdio.last() & mdic::REGISTER;
    let phy = mdio.settings().map_err(|_| Error::Phy)?;
    mdio.leave(used);
    Ok(Extra {
        causes,
        io_address,
        mdic: used,
        eerd: if flags & FLAG_EERD != 0 {
            read & eerd::ADDRESS
        } else {
            0
        },
        flags,
        phy,
    })
}

/// Reads a word of the EEPROM, so that EERD has it.
fn read_eeprom(registers: &mut dyn Registers, address: u32) {
    registers.write32(Register::EERD.0, address | eerd::START);
    poll(registers, EEPROM, STEP, |registers| {
        registers.read32(Register::EERD.0) & eerd::DONE != 0
    });
}
