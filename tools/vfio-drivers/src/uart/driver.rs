// SPDX-License-Identifier: GPL-2.0

//! The work that a serial card is given: settings of each port, and bytes that wait in its receiver.

use vfio_bindings::bindings::vfio;
use vfio_client::Device;
use vfio_client::GuestMemory;

use super::port::Uart;
use super::registers::Register;
use super::registers::FCR_ENABLE;
use super::registers::FCR_TRIGGER_14;
use super::registers::IER_RDI;
use super::registers::IER_THRI;
use super::registers::LCR_8N1;
use super::registers::MCR_DTR;
use super::registers::MCR_RTS;
use crate::compare::same;
use crate::compare::same_bytes;
use crate::probe::Ids;
use crate::Driver;
use crate::Result;

/// A serial card each of whose ports has a loop-back plug.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Model {
    ids: Ids,
    ports: u8,
    /// The kernel's sample, `samples/vfio-mdev/mtty.c`. Its divisor always reads 0, and its MCR and FIFO
    /// trigger level are not checked.
    mtty: bool,
}

const fn ferry(device: u16, ports: u8) -> Model {
    Model {
        ids: Ids {
            vendor: 0x1af4,
            device,
        },
        ports,
        mtty: false,
    }
}

/// The cards that the driver knows.
const MODELS: [Model; 4] = [
    ferry(0x10f1, 1),
    ferry(0x10f2, 2),
    ferry(0x10f3, 4),
    Model {
        ids: Ids {
            vendor: 0x4348,
            device: 0x3253,
        },
        ports: 1,
        mtty: true,
    },
];

impl Model {
    pub(crate) fn of(ids: Ids) -> Option<Self> {
        MODELS.into_iter().find(|model| model.ids == ids)
    }
}

fn divisor(port: u8, seed: u8) -> u16 {
    0x0100 | u16::from(seed.wrapping_add(port).max(1))
}

fn waiting(port: u8, seed: u8) -> Vec<u8> {
    (0..10)
        .map(|i: u8| seed.wrapping_mul(31).wrapping_add(port * 16 + i))
        .collect()
}

/// The driver of a serial card.
#[derive(Debug)]
pub struct SerialDriver {
    device: Device,
    model: Model,
}

impl SerialDriver {
    pub(crate) fn new(device: &Device, model: Model) -> Self {
        SerialDriver {
            device: device.clone(),
            model,
        }
    }

    fn port(&self, number: u8) -> Result<Uart> {
        Ok(Uart::new(&self.device, number)?)
    }

    /// Sets COMMAND.IO, so that the card answers accesses of its ports.
    fn decode(&self) -> Result {
        const COMMAND: u64 = 0x04;
        const IO: u16 = 0x0001;
        let space = self.device.region(vfio::VFIO_PCI_CONFIG_REGION_INDEX)?;
        let command = space.read_u16(COMMAND)? | IO;
        Ok(space.write(COMMAND, &command.to_le_bytes())?)
    }
}

impl Driver for SerialDriver {
    fn name(&self) -> String {
        let Model { ports, mtty, .. } = self.model;
        let plural = if ports == 1 { "" } else { "s" };
        let sample = if mtty { " (mtty)" } else { "" };
        format!("serial card with {ports} port{plural}{sample}")
    }

    fn memory_size(&self) -> usize {
        0
    }

    fn use_memory(&mut self, _: &GuestMemory) {}

    fn init(&self) -> Result {
        self.decode()?;
        for number in 0..self.model.ports {
            let port = self.port(number)?;
            port.write(Register::Ier, 0)?;
            port.write(Register::Lcr, LCR_8N1)?;
            port.write(Register::Mcr, 0)?;
            port.write(Register::IirFcr, FCR_ENABLE)?;
            port.receive()?;
        }
        Ok(())
    }

    fn work(&self, seed: u8) -> Result {
        for number in 0..self.model.ports {
            let port = self.port(number)?;
            port.write(Register::Lcr, LCR_8N1)?;
            if self.model.mtty {
                port.write(Register::Mcr, MCR_DTR)?;
                port.write(Register::IirFcr, FCR_ENABLE)?;
            } else {
                port.set_divisor(divisor(number, seed))?;
                port.write(Register::Mcr, MCR_DTR | MCR_RTS)?;
                port.write(Register::IirFcr, FCR_ENABLE | FCR_TRIGGER_14)?;
            }
            port.write(Register::Scr, seed ^ number)?;
            port.send(&waiting(number, seed))?;
        }
        Ok(())
    }

    /// Takes the waiting bytes.
    fn verify(&self, seed: u8) -> Result {
        for number in 0..self.model.ports {
            let port = self.port(number)?;
            same(
                format_args!("port {number}: LCR"),
                port.read(Register::Lcr)?,
                LCR_8N1,
            )?;
            if !self.model.mtty {
                same(
                    format_args!("port {number}: MCR"),
                    port.read(Register::Mcr)?,
                    MCR_DTR | MCR_RTS,
                )?;
                same(
                    format_args!("port {number}: divisor"),
                    port.divisor()?,
                    divisor(number, seed),
                )?;
            }
            same(
                format_args!("port {number}: SCR"),
                port.read(Register::Scr)?,
                seed ^ number,
            )?;
            same_bytes(
                format_args!("port {number}: received bytes"),
                &port.receive()?,
                &waiting(number, seed),
            )?;
        }
        Ok(())
    }

    fn discard(&self) -> Result {
        for number in 0..self.model.ports {
            self.port(number)?.receive()?;
        }
        Ok(())
    }

    fn verify_fresh(&self) -> Result {
        same("scratch register", self.port(0)?.read(Register::Scr)?, 0)
    }

    /// Every port sends to itself through its plug.
    fn exercise(&self) -> Result {
        self.init()?;
        for number in 0..self.model.ports {
            let port = self.port(number)?;
            let text = [b'F', b'e', b'r', number];
            port.send(&text)?;
            same_bytes(format_args!("port {number}: plug"), &port.receive()?, &text)?;
        }
        Ok(())
    }

    /// Enables the interrupt of the first port's transmitter, which has room.
    fn raise_intx(&self) -> Result {
        Ok(self.port(0)?.write(Register::Ier, IER_THRI)?)
    }

    fn poke(&self) -> Result {
        for number in 0..self.model.ports {
            let port = self.port(number)?;
            let _ = port.write(Register::Ier, 0);
            let _ = port.write(Register::Ier, IER_THRI | IER_RDI);
            let _ = port.write(Register::Data, 0x19);
            for register in [
                Register::Data,
                Register::Ier,
                Register::IirFcr,
                Register::Lcr,
                Register::Mcr,
                Register::Scr,
            ] {
                let _ = port.write(register, 0xff);
                // A read takes a byte out of the FIFO, or clears a latch, when the device runs.
                let _ = port.read(register);
                let _ = port.read(Register::Lsr);
                let _ = port.read(Register::Msr);
            }
        }
        Ok(())
    }

    fn scribble(&self, value: u8) -> Result {
        Ok(self.port(0)?.write(Register::Scr, value)?)
    }
}
