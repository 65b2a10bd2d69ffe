// SPDX-License-Identifier: GPL-2.0

//! One live function.

use core::fmt;

use crate::access::AccessError;
use crate::layout::Layout;
use crate::registers as regs;

/// Bytes of conventional configuration space.
pub const CONFIG_SPACE_SIZE: usize = 256;

/// The configuration space of one function.
///
/// # Invariants
///
/// Bits that the layout does not let software change are as after power-on, but for the interrupt
/// status bit, which the device drives with [`ConfigSpace::set_interrupt_status`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSpace {
    layout: &'static Layout,
    bytes: [u8; CONFIG_SPACE_SIZE],
}

/// An image that no function of the layout can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageError {
    /// Offset of the first byte that does not fit.
    pub offset: usize,
    /// What the byte is.
    pub found: u8,
    /// What the byte is after power-on.
    pub power_on: u8,
    /// The bits of the byte that may differ from power-on.
    pub writable: u8,
}

impl ConfigSpace {
    /// Returns a function as it is after power-on.
    pub const fn new(layout: &'static Layout) -> Self {
        Self {
            layout,
            bytes: *layout.power_on(),
        }
    }

    /// Brings the function back to its power-on values.
    pub fn reset(&mut self) {
        self.bytes = *self.layout.power_on();
    }

    /// Reads any number of bytes, at any alignment.
    ///
    /// # Errors
    ///
    /// The access ends past configuration space; `bytes` is untouched.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
        let range = AccessError::check(offset, bytes.len(), CONFIG_SPACE_SIZE)?;

        bytes.copy_from_slice(&self.bytes[range]);
        Ok(())
    }

    /// Writes any number of bytes, at any alignment. Bits that software cannot change stay.
    ///
    /// # Errors
    ///
    /// The access ends past configuration space; nothing is written.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), AccessError> {
        let range = AccessError::check(offset, bytes.len(), CONFIG_SPACE_SIZE)?;

        let masks = &self.layout.writable()[range.clone()];
        for ((byte, mask), value) in self.bytes[range].iter_mut().zip(masks).zip(bytes) {
            *byte = (*byte & !mask) | (value & mask);
        }
        Ok(())
    }

    /// Whether software lets the function access memory by itself.
    pub fn bus_master_enabled(&self) -> bool {
        self.u16(regs::COMMAND) & regs::COMMAND_MASTER != 0
    }

    /// Whether software forbids the function to assert its interrupt pin.
    pub fn intx_disabled(&self) -> bool {
        self.u16(regs::COMMAND) & regs::COMMAND_INTX_DISABLE != 0
    }

    /// Whether software makes the function send messages instead of asserting its interrupt pin.
    pub fn msi_enabled(&self) -> bool {
        self.layout
            .msi_flags()
            .is_some_and(|at| self.u16(at) & regs::MSI_FLAGS_ENABLE != 0)
    }

    /// Whether software makes the function send MSI-X messages instead of asserting its interrupt pin.
    pub fn msix_enabled(&self) -> bool {
        self.layout
            .msix_flags()
            .is_some_and(|at| self.u16(at) & regs::MSIX_FLAGS_ENABLE != 0)
    }

    /// Whether writing `bytes` at `offset` asks for a reset of the function.
    ///
    /// The bit for it always reads as 0, so [`ConfigSpace::write`] leaves no trace of the request.
    /// The owner of the device looks for it, and does what it takes.
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

    /// Shows in the status register whether the function has an interrupt pending.
    ///
    /// The bit is the device's own state, so it follows neither the disabled pin nor messages.
    pub fn set_interrupt_status(&mut self, pending: bool) {
        let idle = self.u16(regs::STATUS) & !regs::STATUS_INTERRUPT;
        let status = if pending {
            idle | regs::STATUS_INTERRUPT
        } else {
            idle
        };

        let [low, high] = status.to_le_bytes();
        self.bytes[regs::STATUS] = low;
        self.bytes[regs::STATUS + 1] = high;
    }

    /// Returns what software made of the function, to be restored with [`ConfigSpace::restore`].
    ///
    /// The interrupt status reads as not pending: it follows from the device's state.
    pub fn image(&self) -> [u8; CONFIG_SPACE_SIZE] {
        let mut idle = self.clone();
        idle.set_interrupt_status(false);
        idle.bytes
    }

    /// Makes the function one of which [`ConfigSpace::image`] gave `image`.
    ///
    /// # Errors
    ///
    /// A bit that software cannot change differs from its power-on value; nothing is restored.
    pub fn restore(&mut self, image: &[u8; CONFIG_SPACE_SIZE]) -> Result<(), ImageError> {
        let shape = self.layout.power_on().iter().zip(self.layout.writable());
        for (offset, (&found, (&power_on, &writable))) in image.iter().zip(shape).enumerate() {
            if (found ^ power_on) & !writable != 0 {
                return Err(ImageError {
                    offset,
                    found,
                    power_on,
                    writable,
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

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "configuration space byte {:#04x} is {:#04x}, but only the bits {:#04x} of {:#04x} can change",
            self.offset, self.found, self.writable, self.power_on
        )
    }
}
