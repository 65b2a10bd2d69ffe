// SPDX-License-Identifier: GPL-2.0

//! The ports behind BAR0. The host tests of the model prove the 16550A in detail; these cases prove that the
//! model is connected.

use vfio_bindings::bindings::vfio;
use vfio_client::v1::State;
use vfio_drivers::uart::Register;
use vfio_drivers::uart::FCR_CLEAR_RX;
use vfio_drivers::uart::FCR_CLEAR_TX;
use vfio_drivers::uart::FCR_ENABLE;
use vfio_drivers::uart::FCR_TRIGGER_14;
use vfio_drivers::uart::FIFO;
use vfio_drivers::uart::IER_RDI;
use vfio_drivers::uart::IER_THRI;
use vfio_drivers::uart::IIR_FIFOS;
use vfio_drivers::uart::IIR_SOURCE;
use vfio_drivers::uart::IIR_THRI;
use vfio_drivers::uart::IIR_TIMEOUT;
use vfio_drivers::uart::LCR_8N1;
use vfio_drivers::uart::LSR_DR;
use vfio_drivers::uart::LSR_OE;
use vfio_drivers::uart::LSR_TEMT;
use vfio_drivers::uart::LSR_THRE;
use vfio_drivers::uart::MCR_DTR;
use vfio_drivers::uart::MCR_LOOP;
use vfio_drivers::uart::MCR_RTS;
use vfio_drivers::uart::MSR_CTS;
use vfio_drivers::uart::MSR_DCD;
use vfio_drivers::uart::MSR_DSR;

use crate::case::cases;
use crate::case::Case;
use crate::check::denied;
use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::device::TestDevice;

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::Uart];

pub const CASES: &[Case] = cases![
    NEEDS;
    uart_plug_returns_every_byte,
    uart_plug_connects_the_modem_lines,
    uart_plug_loses_nothing_when_the_receiver_is_full,
    uart_ports_do_not_share_anything,
    uart_chips_own_loop_overruns,
    uart_clearing_the_receiver_takes_a_break_along,
    uart_divisor_and_scratch,
    uart_all_eight_bits_cross_at_every_word_length,
    uart_a_wide_access_is_one_of_each_register,
    uart_accesses_outside_bar0_are_refused,
    uart_accesses_to_a_bad_address_are_refused,
    uart_reset_gives_power_on_values,
    uart_full_fifos_and_latches_move [Mdev],
];

fn uart_plug_returns_every_byte(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    for number in 0..target.ports() {
        let port = device.byte_port(number)?;
        port.write(Register::IirFcr, FCR_ENABLE)?;
        for byte in 0..=u8::MAX {
            port.send(&[byte])?;
            same_bytes(
                format_args!("port {number}: byte {byte:#x}"),
                &port.receive()?,
                &[byte],
            )?;
        }
        same(
            format_args!("port {number}: LSR"),
            port.read(Register::Lsr)?,
            LSR_THRE | LSR_TEMT,
        )?;
    }
    Ok(())
}

fn uart_plug_connects_the_modem_lines(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let port = device.port(0)?;
    for (out, back) in [
        (0, 0),
        (MCR_RTS, MSR_CTS),
        (MCR_DTR, MSR_DSR | MSR_DCD),
        (MCR_RTS | MCR_DTR, MSR_CTS | MSR_DSR | MSR_DCD),
    ] {
        port.write(Register::Mcr, out)?;
        same(
            format_args!("MSR with MCR {out:#x}"),
            port.read(Register::Msr)? & 0xf0,
            back,
        )?;
    }
    Ok(())
}

fn uart_plug_loses_nothing_when_the_receiver_is_full(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let port = device.byte_port(0)?;
    port.write(Register::IirFcr, FCR_ENABLE)?;
    // The receiver's FIFO, then the transmitter's: that much is held without a loss.
    let bytes: Vec<u8> = (0..2 * FIFO as u8).collect();
    port.send(&bytes)?;
    same(
        "LSR with all full",
        port.read(Register::Lsr)? & (LSR_DR | LSR_OE | LSR_THRE),
        LSR_DR,
    )?;
    same_bytes("received bytes", &port.receive()?, &bytes)
}

fn uart_ports_do_not_share_anything(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    for number in 0..target.ports() {
        let port = device.byte_port(number)?;
        port.write(Register::IirFcr, FCR_ENABLE)?;
        port.write(Register::Scr, 0x50 | number)?;
        port.set_divisor(0x100 + u16::from(number))?;
        port.send(&[0xa0 | number])?;
    }
    for number in 0..target.ports() {
        let port = device.byte_port(number)?;
        same("scratch", port.read(Register::Scr)?, 0x50 | number)?;
        same("divisor", port.divisor()?, 0x100 + u16::from(number))?;
        same_bytes("received bytes", &port.receive()?, &[0xa0 | number])?;
    }
    Ok(())
}

fn uart_chips_own_loop_overruns(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let port = device.byte_port(0)?;
    port.write(Register::Mcr, MCR_LOOP)?;
    port.write(Register::IirFcr, FCR_ENABLE | FCR_CLEAR_RX | FCR_CLEAR_TX)?;
    port.send(&[0x33; FIFO])?;
    same("overrun at 16 bytes", port.read(Register::Lsr)? & LSR_OE, 0)?;
    port.send(&[0x44])?;
    same(
        "overrun at 17 bytes",
        port.read(Register::Lsr)? & LSR_OE,
        LSR_OE,
    )?;
    same("overrun read again", port.read(Register::Lsr)? & LSR_OE, 0)?;
    same_bytes("received bytes", &port.receive()?, &[0x33; FIFO])
}

fn uart_clearing_the_receiver_takes_a_break_along(target: &Target) -> Outcome {
    const BREAK: u8 = 0x40;
    let device = TestDevice::new(target)?;
    let port = device.byte_port(0)?;
    for fcr in [FCR_ENABLE | FCR_CLEAR_RX, 0] {
        port.write(Register::IirFcr, FCR_ENABLE)?;
        port.write(Register::Lcr, LCR_8N1 | BREAK)?;
        port.write(Register::Lcr, LCR_8N1)?;
        port.write(Register::IirFcr, fcr)?;
        same(
            format_args!("LSR after FCR of {fcr:#x}"),
            port.read(Register::Lsr)?,
            LSR_THRE | LSR_TEMT,
        )?;
    }
    Ok(())
}

fn uart_divisor_and_scratch(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let port = device.port(0)?;
    for value in [1, 12, 0x1234, u16::MAX] {
        port.set_divisor(value)?;
        same("divisor", port.divisor()?, value)?;
        let [low, _] = value.to_le_bytes();
        port.write(Register::Scr, low)?;
        same("scratch", port.read(Register::Scr)?, low)?;
    }
    Ok(())
}

fn uart_all_eight_bits_cross_at_every_word_length(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let port = device.port(0)?;
    for lcr in 0..4 {
        port.write(Register::Lcr, lcr)?;
        port.send(&[0xff])?;
        same_bytes(
            format_args!("0xff with LCR {lcr}"),
            &port.receive()?,
            &[0xff],
        )?;
    }
    Ok(())
}

fn uart_a_wide_access_is_one_of_each_register(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let bar = device.vfio().region(vfio::VFIO_PCI_BAR0_REGION_INDEX)?;
    let port = device.port(0)?;
    port.write(Register::Lcr, 0x1b)?;
    port.write(Register::Mcr, MCR_DTR)?;
    port.write(Register::Scr, 0x5c)?;
    let mut bytes = [0; 2];
    bar.read(Register::Lcr as u64, &mut bytes)?;
    same_bytes("LCR and MCR", &bytes, &[0x1b, MCR_DTR])?;
    // An offset in the middle and a width that no CPU has: still one byte each.
    bar.write(Register::Lcr as u64, &[0x03, MCR_RTS, 0xff, 0xff, 0x77])?;
    same("LCR", port.read(Register::Lcr)?, 0x03)?;
    same("MCR", port.read(Register::Mcr)?, MCR_RTS)?;
    same("SCR", port.read(Register::Scr)?, 0x77)
}

fn uart_accesses_outside_bar0_are_refused(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let bar = device.vfio().region(vfio::VFIO_PCI_BAR0_REGION_INDEX)?;
    let size = bar.size();
    for (at, len) in [
        (size, 1),
        (size - 1, 2),
        (size - 2, 4),
        (0, size as usize + 1),
        (0, 4096),
        (4096, 1),
        (1 << 32, 1),
    ] {
        denied(
            format_args!("read of {len} at {at:#x}"),
            bar.read(at, &mut vec![0; len]),
        )?;
        denied(
            format_args!("write of {len} at {at:#x}"),
            bar.write(at, &vec![0xff; len]),
        )?;
    }
    // The bytes in range had no effect, either.
    let port = device.port(0)?;
    same("SCR", port.read(Register::Scr)?, 0)?;
    same("LSR", port.read(Register::Lsr)? & LSR_DR, 0)
}

fn uart_accesses_to_a_bad_address_are_refused(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let bar = device.vfio().region(vfio::VFIO_PCI_BAR0_REGION_INDEX)?;
    let port = device.byte_port(0)?;
    port.send(b"x")?;
    for len in [1, 2, 4, 8] {
        denied(
            format_args!("read of {len} to nowhere"),
            bar.read_nowhere(0, len),
        )?;
        denied(
            format_args!("write of {len} from nowhere"),
            bar.write_nowhere(0, len),
        )?;
    }
    // A read of the receiver takes the byte out, but not when the read fails.
    same_bytes("received bytes", &port.receive()?, b"x")?;
    device.expect_works()
}

fn uart_reset_gives_power_on_values(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let fresh = device.image()?;
    device.fill(0x42)?;
    device.port(0)?.write(Register::Ier, IER_RDI | IER_THRI)?;
    device.reset()?;
    same_bytes("image after a reset", &device.image()?, &fresh)?;
    let port = device.port(0)?;
    same("LSR", port.read(Register::Lsr)?, LSR_THRE | LSR_TEMT)?;
    same("IER", port.read(Register::Ier)?, 0)?;
    same("FIFOs in IIR", port.read(Register::IirFcr)? & IIR_FIFOS, 0)
}

fn uart_full_fifos_and_latches_move(target: &Target) -> Outcome {
    let source = TestDevice::new(target)?;
    let bytes: Vec<u8> = (0x80..0x80 + 2 * FIFO as u8).collect();
    let port = source.byte_port(0)?;
    port.write(Register::IirFcr, FCR_ENABLE | FCR_TRIGGER_14)?;
    port.send(&bytes[..3])?;
    port.write(Register::Ier, IER_RDI | IER_THRI)?;
    // Two latches of different priority; the lower one shows when the higher is gone.
    same(
        "source before",
        port.read(Register::IirFcr)? & IIR_SOURCE,
        IIR_TIMEOUT,
    )?;
    let stream = source.save()?;
    let destination = TestDevice::new(target)?;
    destination.resume(&stream)?;
    let moved = destination.port(0)?;
    let iir = moved.read(Register::IirFcr)?;
    same("FIFOs in IIR", iir & IIR_FIFOS, IIR_FIFOS)?;
    same("source after", iir & IIR_SOURCE, IIR_TIMEOUT)?;
    same_bytes("received bytes", &moved.receive()?, &bytes[..3])?;
    same(
        "source below",
        moved.read(Register::IirFcr)? & IIR_SOURCE,
        IIR_THRI,
    )?;

    // Both FIFOs are full, and the device migrates twice.
    source.set(State::RUNNING)?;
    source.empty()?;
    port.write(Register::Ier, 0)?;
    port.send(&bytes)?;
    let stream = source.save()?;
    let between = TestDevice::new(target)?;
    between.resume(&stream)?;
    let stream = between.save()?;
    let last = TestDevice::new(target)?;
    last.resume(&stream)?;
    let moved = last.port(0)?;
    same_bytes("received bytes", &moved.receive()?, &bytes)
}
