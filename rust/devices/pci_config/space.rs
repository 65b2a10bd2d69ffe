// SPDX-License-Identifier: GPL-2.0

//! The configuration space of one live function.

use core::fmt;

use crate::access::AccessError;
use crate::layout::{
    Decoder,
    Layout, //
};
use crate::registers::{
    self as regs,
    CONFIG_SPACE_SIZE, //
};

/// The configuration space of one function.
///
/// The interrupt status bit is a part of each read only: the device knows it.
///
/// # Invariants
///
/// Bits that software cannot change are as after power-on, and fields have possible values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSpace {
    layout: &'static Layout,
    bytes: [u8; CONFIG_SPACE_SIZE],
}

/// An image that no function of the layout can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// The image is of another device.
    Identity {
        /// Vendor and device number of this device.
        expected: (u16, u16),
        /// Vendor and device number of the image.
        found: (u16, u16),
    },
    /// A bit that software cannot change differs from its power-on value.
    Bits {
        /// Offset of the first byte that does not fit.
        offset: usize,
        /// Value of the byte.
        found: u8,
        /// Value of the byte after power-on.
        power_on: u8,
        /// The bits of the byte that may differ from power-on.
        writable: u8,
    },
    /// A field has an impossible value.
    Value {
        /// Name of the field.
        field: &'static str,
        /// Value of the field.
        found: u8,
    },
}

impl ConfigSpace {
    /// Returns a function as it is after power-on.
    pub const fn new(layout: &'static Layout) -> Self {
        Self {
            layout,
            bytes: *layout.power_on(),
        }
    }

    /// Bytes of configuration space: [`CONFIG_SPACE_SIZE`] or
    /// [`EXTENDED_CONFIG_SPACE_SIZE`](regs::EXTENDED_CONFIG_SPACE_SIZE).
    pub const fn size(&self) -> usize {
        self.layout.size()
    }

    /// Resets the function by a function level reset, section 6.6.2 of the PCI Express base specification:
    /// control bits of the link stay.
    pub fn function_level_reset(&mut self) {
        self.reset_but(self.layout.survives());
    }

    /// Resets the function as a bus driver does, which saves the header and a part of the PCI Express
    /// capability before, and restores both afterwards.
    ///
    /// Messages are disabled then, and the function is in D0.
    pub fn bus_driver_reset(&mut self) {
        self.reset_but(self.layout.restored());
    }

    fn reset_but(&mut self, kept: &[u8; CONFIG_SPACE_SIZE]) {
        let power_on = self.layout.power_on();
        for ((byte, &idle), &kept) in self.bytes.iter_mut().zip(power_on).zip(kept) {
            *byte = *byte & kept | idle & !kept;
        }
    }

    /// Reads any number of bytes, at any alignment. `interrupt` is the interrupt status bit.
    ///
    /// # Errors
    ///
    /// The access ends past configuration space; `bytes` is untouched.
    pub fn read(&self, offset: u64, bytes: &mut [u8], interrupt: bool) -> Result<(), AccessError> {
        /// The byte of the status register that has the bit.
        const STATUS: usize = regs::STATUS;
        const BIT: u8 = regs::STATUS_INTERRUPT as u8;

        let range = AccessError::check(offset, bytes.len(), self.size())?;
        for (at, byte) in range.zip(bytes) {
            *byte = match self.bytes.get(at) {
                Some(status) if at == STATUS && interrupt => status | BIT,
                Some(&value) => value,
                None => 0,
            };
        }
        Ok(())
    }

    /// Writes any number of bytes, at any alignment. Bits that software cannot change stay, and so
    /// does a field that would get an impossible value.
    ///
    /// # Errors
    ///
    /// The access ends past configuration space; nothing is written.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), AccessError> {
        let range = AccessError::check(offset, bytes.len(), self.size())?;

        for (at, &value) in range.zip(bytes) {
            let (Some(byte), Some(&writable)) =
                (self.bytes.get_mut(at), self.layout.writable().get(at))
            else {
                // Extended configuration space has no capability.
                break;
            };
            let mut written = *byte & !writable | value & writable;
            for field in self.layout.fields().filter(|field| field.at == at) {
                if !field.allows(written) {
                    written = written & !field.mask | *byte & field.mask;
                }
            }
            *byte = written;
        }
        Ok(())
    }

    /// Returns whether the function answers accesses of the range behind base address register `bar`:
    /// software enabled that kind of address, and the function is in D0.
    pub fn decodes(&self, bar: usize) -> bool {
        let enable = match self.layout.decoder(bar) {
            Some(Decoder::Io) => regs::COMMAND_IO,
            Some(Decoder::Memory) => regs::COMMAND_MEMORY,
            None => return false,
        };
        self.is_in_d0() && self.u16(regs::COMMAND) & enable != 0
    }

    /// Returns whether the function is in the power state D0. In another state the function answers
    /// accesses of configuration space only, and neither accesses memory nor interrupts.
    pub fn is_in_d0(&self) -> bool {
        self.layout
            .power_control()
            .is_none_or(|at| self.u16(at) & regs::PM_CTRL_STATE_MASK == regs::PM_CTRL_STATE_D0)
    }

    /// Returns whether the function may access memory by itself: it is a bus master and in D0.
    pub fn may_access_memory(&self) -> bool {
        self.is_in_d0() && self.u16(regs::COMMAND) & regs::COMMAND_MASTER != 0
    }

    /// Returns whether software forbids the function to assert its interrupt pin.
    pub fn intx_disabled(&self) -> bool {
        self.u16(regs::COMMAND) & regs::COMMAND_INTX_DISABLE != 0
    }

    /// Returns whether software makes the function send messages instead of asserting its interrupt pin.
    pub fn msi_enabled(&self) -> bool {
        self.layout
            .msi_flags()
            .is_some_and(|at| self.u16(at) & regs::MSI_FLAGS_ENABLE != 0)
    }

    /// Returns whether software makes the function send MSI-X messages instead of asserting its interrupt pin.
    pub fn msix_enabled(&self) -> bool {
        self.layout
            .msix_flags()
            .is_some_and(|at| self.u16(at) & regs::MSIX_FLAGS_ENABLE != 0)
    }

    /// Returns whether a write of `bytes` at `offset` asks for a function level reset.
    ///
    /// The bit for it always reads as 0, so [`ConfigSpace::write`] leaves no trace of the request. The
    /// device asks with each write, and resets itself.
    pub fn requests_reset(&self, offset: u64, bytes: &[u8]) -> bool {
        /// The byte of device control that has the bit.
        const BYTE: u64 = 1;
        const BIT: u8 = (regs::EXP_DEVCTL_BCR_FLR >> u8::BITS) as u8;

        let Some(control) = self.layout.express_device_control() else {
            return false;
        };
        (control as u64 + BYTE)
            .checked_sub(offset)
            .and_then(|index| bytes.get(usize::try_from(index).ok()?))
            .is_some_and(|byte| byte & BIT != 0)
    }

    /// Returns the image of the function, to be restored with [`ConfigSpace::restore`].
    pub fn image(&self) -> &[u8; CONFIG_SPACE_SIZE] {
        &self.bytes
    }

    /// Restores an image that [`ConfigSpace::image`] gave.
    ///
    /// # Errors
    ///
    /// No function of the layout can have the image; nothing is restored.
    pub fn restore(&mut self, image: &[u8; CONFIG_SPACE_SIZE]) -> Result<(), ImageError> {
        let power_on = self.layout.power_on();
        let (expected, found) = (identity(power_on), identity(image));
        if expected != found {
            return Err(ImageError::Identity { expected, found });
        }
        let shape = power_on.iter().zip(self.layout.writable());
        for (offset, (&found, (&power_on, &writable))) in image.iter().zip(shape).enumerate() {
            if (found ^ power_on) & !writable != 0 {
                return Err(ImageError::Bits {
                    offset,
                    found,
                    power_on,
                    writable,
                });
            }
        }
        for field in self.layout.fields() {
            let byte = image.get(field.at).copied().unwrap_or(0);
            if !field.allows(byte) {
                return Err(ImageError::Value {
                    field: field.name,
                    found: field.value(byte),
                });
            }
        }

        self.bytes = *image;
        Ok(())
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }
}

/// Vendor and device number.
fn identity(image: &[u8; CONFIG_SPACE_SIZE]) -> (u16, u16) {
    let at = |at| u16::from_le_bytes([image[at], image[at + 1]]);
    (at(regs::VENDOR_ID), at(regs::DEVICE_ID))
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity { expected, found } => write!(
                f,
                "configuration space is that of PCI device {:04x}:{:04x} instead of {:04x}:{:04x}",
                found.0, found.1, expected.0, expected.1
            ),
            Self::Bits {
                offset,
                found,
                power_on,
                writable,
            } => write!(
                f,
                "configuration space byte {offset:#04x} is {found:#04x}, but only the bits {writable:#04x} of {power_on:#04x} can change"
            ),
            Self::Value { field, found } => {
                write!(f, "{field} is {found}, which it cannot be")
            }
        }
    }
}
