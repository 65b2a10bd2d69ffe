// SPDX-License-Identifier: GPL-2.0

//! The PHY, behind MDIC.
//!
//! Mirrors sections 10.2.2.7 (MDIC) and 4.5.2 (who owns MDIO) of the data sheet and its chapter on
//! the PHY. The settings of a PHY move to the destination; its link does not. A PHY that negotiates what the
//! guest wants keeps its link: it is reset only if what it negotiates differs.

use device_model::hardware::{
    poll,
    Registers, //
};

use crate::registers::{
    extcnf,
    mdic,
    Register, //
};

/// Microseconds between two looks at MDIC.
const MDIC_STEP: u32 = 50;
/// Microseconds after which an MDIO operation has failed. One takes less than 64 µs.
const MDIC_LIMIT: u32 = 10_000;
/// Microseconds after which MDIO is not to be had from the firmware.
const OWNER_LIMIT: u32 = 20_000;

/// Addresses of registers of the PHY.
mod address {
    pub(super) const CONTROL: u8 = 0;
    pub(super) const PAGE: u8 = 22;
}

/// Bit of the control register that resets the PHY, so that it takes its settings. Clears itself.
const CONTROL_RESET: u16 = 1 << 15;

/// The page that has the settings.
const SETTINGS_PAGE: u16 = 0;

/// A register of the PHY with settings.
struct Setting {
    name: &'static str,
    address: u8,
    /// The bits that a state may have. None of them starts an operation.
    mask: u16,
    /// The link depends on it, so the PHY has to negotiate anew if it changes. The others are taken at the
    /// next negotiation.
    negotiated: bool,
}

/// The settings that move.
const SETTINGS: [Setting; 6] = [
    Setting {
        name: "PHY auto-negotiation advertisement",
        address: 4,
        mask: 0xbfff,
        negotiated: true,
    },
    Setting {
        name: "PHY 1000BASE-T control",
        address: 9,
        mask: 0xff00,
        negotiated: true,
    },
    Setting {
        name: "PHY specific control 1",
        address: 16,
        mask: 0xffff,
        negotiated: false,
    },
    Setting {
        name: "PHY interrupt enable",
        address: 18,
        mask: 0xffff,
        negotiated: false,
    },
    Setting {
        name: "PHY specific control 2",
        address: 20,
        mask: 0xffff,
        negotiated: false,
    },
    // The control register comes last. Reset and restart of the negotiation start operations.
    Setting {
        name: "PHY control",
        address: address::CONTROL,
        mask: 0x7dc0,
        negotiated: true,
    },
];

/// The bits of the page register.
const PAGE_MASK: u16 = 0x00ff;

/// Number of values that a state has of the PHY.
pub(crate) const VALUES: usize = SETTINGS.len() + 1;

/// The settings of a PHY, and the page that is selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings(pub(crate) [u16; VALUES]);

/// A value has bits that are not settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadSetting {
    pub(crate) name: &'static str,
    pub(crate) found: u16,
    pub(crate) allowed: u16,
}

/// The PHY does not answer, or the firmware does not let go of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PhyError;

impl Settings {
    /// Checks that no value has bits that it cannot have.
    pub(crate) fn check(&self) -> Result<(), BadSetting> {
        let masks = SETTINGS
            .iter()
            .map(|setting| (setting.name, setting.mask))
            .chain([("PHY page", PAGE_MASK)]);

        for ((name, allowed), &found) in masks.zip(&self.0) {
            if found & !allowed != 0 {
                return Err(BadSetting {
                    name,
                    found,
                    allowed,
                });
            }
        }
        Ok(())
    }

    /// The page that is selected.
    fn page(&self) -> u16 {
        let [.., page] = self.0;
        page
    }
}

/// MDIO, owned by software.
///
/// What MDIC has for the guest is lost: [`Mdio::leave`] makes the guest see an operation that is done.
pub(crate) struct Mdio<'a> {
    registers: &'a mut dyn Registers,
    /// MDIC before.
    last: u32,
    /// Ownership is to be given back. Otherwise it is the guest's.
    ours: bool,
}

impl<'a> Mdio<'a> {
    /// Waits for the guest's operation, if one is under way, and for ownership.
    pub(crate) fn acquire(registers: &'a mut dyn Registers) -> Result<Self, PhyError> {
        let mut last = 0;
        let idle = poll(registers, MDIC_LIMIT, MDIC_STEP, |registers| {
            last = registers.read32(Register::MDIC.0);
            last & (mdic::READ | mdic::WRITE) == 0 || last & (mdic::READY | mdic::ERROR) != 0
        });
        if !idle {
            return Err(PhyError);
        }

        let ours = !owned(registers);
        if ours && !request(registers) {
            release(registers);
            return Err(PhyError);
        }
        Ok(Self {
            registers,
            last,
            ours,
        })
    }

    /// What MDIC has of the guest's last operation.
    pub(crate) fn last(&self) -> u32 {
        self.last
    }

    /// Resets the function, and gives MDIO back afterwards: it is owned by the firmware then.
    pub(crate) fn reset_function(self) {
        crate::ctrl_reset::start_reset(self.registers);
    }

    /// Reads the settings.
    pub(crate) fn settings(&mut self) -> Result<Settings, PhyError> {
        let mut values = [0; VALUES];
        let page = self.read(address::PAGE)? & PAGE_MASK;

        self.select(page, SETTINGS_PAGE)?;
        let read = values
            .iter_mut()
            .zip(&SETTINGS)
            .try_for_each(|(value, setting)| {
                *value = self.read(setting.address)? & setting.mask;
                Ok(())
            });
        // The guest goes on with its own page after a save that failed.
        self.select(SETTINGS_PAGE, page)?;
        read?;

        if let Some(last) = values.last_mut() {
            *last = page;
        }
        Ok(Settings(values))
    }

    /// Makes `settings` those of the PHY, which negotiates anew if it negotiated others.
    pub(crate) fn set(&mut self, settings: &Settings) -> Result<(), PhyError> {
        let page = self.read(address::PAGE)? & PAGE_MASK;
        let mut negotiate = false;

        self.select(page, SETTINGS_PAGE)?;
        for (setting, &value) in SETTINGS.iter().zip(&settings.0) {
            let found = self.read(setting.address)?;
            let written = (found & !setting.mask) | value;

            negotiate |= setting.negotiated && found != written;
            if setting.address == address::CONTROL {
                if negotiate {
                    self.write(setting.address, written | CONTROL_RESET)?;
                }
            } else if found != written {
                self.write(setting.address, written)?;
            }
        }
        self.select(SETTINGS_PAGE, settings.page())
    }

    /// Leaves MDIC as after an operation on the register that `used` has, as MDIC shows it, with the value
    /// that this register has now.
    pub(crate) fn leave(&mut self, used: u32) {
        let register = (used & mdic::REGISTER) >> mdic::REGISTER_SHIFT;

        // Five bits. MDIC shows an error if the PHY has no such register: so it did before.
        let _ = self.read(register as u8);
    }

    fn select(&mut self, from: u16, to: u16) -> Result<(), PhyError> {
        if from == to {
            return Ok(());
        }
        self.write(address::PAGE, to)
    }

    fn read(&mut self, address: u8) -> Result<u16, PhyError> {
        // The data is the lower half.
        self.operate(address, mdic::READ).map(|value| value as u16)
    }

    fn write(&mut self, address: u8, value: u16) -> Result<(), PhyError> {
        self.operate(address, mdic::WRITE | u32::from(value))
            .map(|_| ())
    }

    fn operate(&mut self, address: u8, operation: u32) -> Result<u32, PhyError> {
        let register = u32::from(address) << mdic::REGISTER_SHIFT & mdic::REGISTER;
        let mut value = 0;

        self.registers
            .write32(Register::MDIC.0, operation | register | mdic::PHY);
        let done = poll(self.registers, MDIC_LIMIT, MDIC_STEP, |registers| {
            value = registers.read32(Register::MDIC.0);
            value & (mdic::READY | mdic::ERROR) != 0
        });
        if !done || value & mdic::ERROR != 0 {
            return Err(PhyError);
        }
        Ok(value)
    }
}

impl Drop for Mdio<'_> {
    fn drop(&mut self) {
        if self.ours {
            release(self.registers);
        }
    }
}

/// Whether software owns MDIO.
pub(crate) fn owned(registers: &mut dyn Registers) -> bool {
    registers.read32(Register::EXTCNF_CTRL.0) & extcnf::MDIO_SW_OWNERSHIP != 0
}

/// Asks for MDIO, and returns whether software owns it.
pub(crate) fn request(registers: &mut dyn Registers) -> bool {
    poll(registers, OWNER_LIMIT, 1_000, |registers| {
        let value = registers.read32(Register::EXTCNF_CTRL.0);
        registers.write32(Register::EXTCNF_CTRL.0, value | extcnf::MDIO_SW_OWNERSHIP);
        owned(registers)
    })
}

/// Gives MDIO back.
fn release(registers: &mut dyn Registers) {
    let value = registers.read32(Register::EXTCNF_CTRL.0);
    registers.write32(Register::EXTCNF_CTRL.0, value & !extcnf::MDIO_SW_OWNERSHIP);
}
