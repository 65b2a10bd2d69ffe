// SPDX-License-Identifier: GPL-2.0

//! What the tests of the migration do to a serial card.

use vfio_bindings::bindings::vfio;
use vfio_client::uart::Register;
use vfio_client::uart::Uart;
use vfio_client::uart::FCR_ENABLE;
use vfio_client::uart::FCR_TRIGGER_14;
use vfio_client::uart::IER_RDI;
use vfio_client::uart::IER_THRI;
use vfio_client::uart::LCR_8N1;
use vfio_client::uart::MCR_DTR;
use vfio_client::uart::MCR_RTS;
use vfio_client::Device;

use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;

fn divisor(port: u8, seed: u8) -> u16 {
    0x0100 | u16::from(seed.wrapping_add(port).max(1))
}

fn waiting(port: u8, seed: u8) -> Vec<u8> {
    (0..10)
        .map(|i: u8| seed.wrapping_mul(31).wrapping_add(port * 16 + i))
        .collect()
}

/// Gives every port settings and waiting bytes that no fresh card has, different by `seed`.
#[track_caller]
pub fn fill(device: &Device, ports: u8, seed: u8) -> Outcome {
    for number in 0..ports {
        let port = Uart::new(device, number)?;
        port.write(Register::Lcr, LCR_8N1)?;
        port.set_divisor(divisor(number, seed))?;
        port.write(Register::Mcr, MCR_DTR | MCR_RTS)?;
        port.write(Register::IirFcr, FCR_ENABLE | FCR_TRIGGER_14)?;
        port.write(Register::Scr, seed ^ number)?;
        port.send(&waiting(number, seed))?;
    }
    Ok(())
}

/// Takes the bytes that wait in the ports.
#[track_caller]
pub fn empty(device: &Device, ports: u8) -> Outcome {
    for number in 0..ports {
        Uart::new(device, number)?.receive()?;
    }
    Ok(())
}

/// Checks that every port has what [`fill`] gave it, and takes the waiting bytes.
#[track_caller]
pub fn expect_filled(device: &Device, ports: u8, seed: u8) -> Outcome {
    for number in 0..ports {
        let port = Uart::new(device, number)?;
        same(
            format_args!("port {number}: LCR"),
            port.read(Register::Lcr)?,
            LCR_8N1,
        )?;
        same(
            format_args!("port {number}: MCR"),
            port.read(Register::Mcr)?,
            MCR_DTR | MCR_RTS,
        )?;
        same(
            format_args!("port {number}: SCR"),
            port.read(Register::Scr)?,
            seed ^ number,
        )?;
        same(
            format_args!("port {number}: divisor"),
            port.divisor()?,
            divisor(number, seed),
        )?;
        same_bytes(
            format_args!("port {number}: received bytes"),
            &port.receive()?,
            &waiting(number, seed),
        )?;
    }
    Ok(())
}

/// Checks that the registers show nothing of a [`fill`].
#[track_caller]
pub fn expect_fresh(device: &Device) -> Outcome {
    let port = Uart::new(device, 0)?;
    same("scratch register", port.read(Register::Scr)?, 0)
}

/// Has the card answer accesses of its ports, as a driver does first of all.
#[track_caller]
fn decode(device: &Device) -> Outcome {
    const COMMAND: u64 = 0x04;
    const IO: u16 = 0x0001;
    let space = device.region(vfio::VFIO_PCI_CONFIG_REGION_INDEX)?;
    let command = space.read_u16(COMMAND)? | IO;
    Ok(space.write(COMMAND, &command.to_le_bytes())?)
}

/// Checks that the card works: every port sends to itself through its plug.
#[track_caller]
pub fn expect_works(device: &Device, ports: u8) -> Outcome {
    decode(device)?;
    for number in 0..ports {
        let port = Uart::new(device, number)?;
        port.write(Register::Ier, 0)?;
        port.write(Register::Lcr, LCR_8N1)?;
        port.write(Register::Mcr, 0)?;
        port.write(Register::IirFcr, FCR_ENABLE)?;
        port.receive()?;
        let text = [b'F', b'e', b'r', number];
        port.send(&text)?;
        same_bytes(format_args!("port {number}: plug"), &port.receive()?, &text)?;
    }
    Ok(())
}

/// Has the first port's transmitter ask for attention.
#[track_caller]
pub fn raise(device: &Device) -> Outcome {
    Ok(Uart::new(device, 0)?.write(Register::Ier, IER_THRI)?)
}

/// Reads and writes all there is. Whether a card that does not run ignores these or refuses them is
/// its business.
#[track_caller]
pub fn poke(device: &Device, ports: u8) -> Outcome {
    for number in 0..ports {
        let port = Uart::new(device, number)?;
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
