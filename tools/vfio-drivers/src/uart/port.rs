// SPDX-License-Identifier: GPL-2.0

//! A port behind BAR0 of a PCI serial card.

use vfio_bindings::bindings::vfio;
use vfio_client::Device;
use vfio_client::Region;
use vfio_client::Result;

use super::registers::Register;
use super::registers::FIFO;
use super::registers::LCR_DLAB;
use super::registers::LSR_DR;
use super::registers::PORT_SIZE;

/// One port of an open card.
#[derive(Clone, Debug)]
pub struct Uart {
    bar: Region,
    base: u64,
}

impl Uart {
    /// Takes port number `port`, counted from 0.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn new(device: &Device, port: u8) -> Result<Self> {
        Ok(Uart {
            bar: device.region(vfio::VFIO_PCI_BAR0_REGION_INDEX)?,
            base: u64::from(port) * PORT_SIZE,
        })
    }

    /// Reads a register.
    ///
    /// # Errors
    ///
    /// As [`Region::read`].
    pub fn read(&self, register: Register) -> Result<u8> {
        self.bar.read_u8(self.base + register as u64)
    }

    /// Writes a register.
    ///
    /// # Errors
    ///
    /// As [`Region::write`].
    pub fn write(&self, register: Register, value: u8) -> Result<()> {
        self.bar.write(self.base + register as u64, &[value])
    }

    /// Sends bytes, no more than fit.
    ///
    /// # Errors
    ///
    /// As [`Uart::write`].
    pub fn send(&self, bytes: &[u8]) -> Result<()> {
        for byte in bytes {
            self.write(Register::Data, *byte)?;
        }
        Ok(())
    }

    /// Takes all bytes that wait in the receiver.
    ///
    /// # Errors
    ///
    /// As [`Uart::read`].
    pub fn receive(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        // Both FIFOs may be full, with one byte each in the shift registers. The bound keeps a broken chip
        // from hanging the test.
        while bytes.len() < 4 * FIFO && self.read(Register::Lsr)? & LSR_DR != 0 {
            bytes.push(self.read(Register::Data)?);
        }
        Ok(bytes)
    }

    /// Sets the divisor of the baud rate.
    ///
    /// # Errors
    ///
    /// As [`Uart::write`].
    pub fn set_divisor(&self, divisor: u16) -> Result<()> {
        let [low, high] = divisor.to_le_bytes();
        let lcr = self.read(Register::Lcr)?;
        self.write(Register::Lcr, lcr | LCR_DLAB)?;
        self.write(Register::Data, low)?;
        self.write(Register::Ier, high)?;
        self.write(Register::Lcr, lcr & !LCR_DLAB)
    }

    /// Reads the divisor of the baud rate.
    ///
    /// # Errors
    ///
    /// As [`Uart::read`].
    pub fn divisor(&self) -> Result<u16> {
        let lcr = self.read(Register::Lcr)?;
        self.write(Register::Lcr, lcr | LCR_DLAB)?;
        let bytes = [self.read(Register::Data)?, self.read(Register::Ier)?];
        self.write(Register::Lcr, lcr)?;
        Ok(u16::from_le_bytes(bytes))
    }
}
