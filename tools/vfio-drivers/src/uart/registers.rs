// SPDX-License-Identifier: GPL-2.0

//! Registers of a 16550A. Names are those of the data sheet and of `include/uapi/linux/serial_reg.h`.

/// How many bytes of BAR0 a port takes.
pub const PORT_SIZE: u64 = 8;

/// A register, by its offset in the port. Some registers share an offset, as on the chip.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Register {
    /// Received byte (read), byte to send (write), divisor's low byte (DLAB).
    Data = 0,
    /// Interrupt enable, divisor's high byte (DLAB).
    Ier = 1,
    /// Interrupt identification (read), FIFO control (write).
    IirFcr = 2,
    /// Line control.
    Lcr = 3,
    /// Modem control.
    Mcr = 4,
    /// Line status.
    Lsr = 5,
    /// Modem status.
    Msr = 6,
    /// Scratch.
    Scr = 7,
}

/// IER: a byte was received.
pub const IER_RDI: u8 = 0x01;
/// IER: the transmitter has room.
pub const IER_THRI: u8 = 0x02;
/// IER: line status.
pub const IER_RLSI: u8 = 0x04;
/// IER: modem status.
pub const IER_MSI: u8 = 0x08;

/// IIR: nothing is pending.
pub const IIR_NONE: u8 = 0x01;
/// IIR: the four bits that name the source.
pub const IIR_SOURCE: u8 = 0x0f;
/// IIR: the transmitter has room.
pub const IIR_THRI: u8 = 0x02;
/// IIR: a byte was received.
pub const IIR_RDI: u8 = 0x04;
/// IIR: line status.
pub const IIR_RLSI: u8 = 0x06;
/// IIR: modem status.
pub const IIR_MSI: u8 = 0x00;
/// IIR: bytes wait in the receiver, fewer than its trigger level.
pub const IIR_TIMEOUT: u8 = 0x0c;
/// IIR: the FIFOs are on.
pub const IIR_FIFOS: u8 = 0xc0;

/// FCR: FIFOs on.
pub const FCR_ENABLE: u8 = 0x01;
/// FCR: empty the receiver's FIFO.
pub const FCR_CLEAR_RX: u8 = 0x02;
/// FCR: empty the transmitter's FIFO.
pub const FCR_CLEAR_TX: u8 = 0x04;
/// FCR: receive trigger level of 14 bytes.
pub const FCR_TRIGGER_14: u8 = 0xc0;

/// LCR: eight data bits.
pub const LCR_8N1: u8 = 0x03;
/// LCR: the divisor's latches are at 0 and 1.
pub const LCR_DLAB: u8 = 0x80;

/// MCR: data terminal ready.
pub const MCR_DTR: u8 = 0x01;
/// MCR: request to send.
pub const MCR_RTS: u8 = 0x02;
/// MCR: the chip's own loop back.
pub const MCR_LOOP: u8 = 0x10;

/// LSR: a byte is in the receiver.
pub const LSR_DR: u8 = 0x01;
/// LSR: a received byte was lost.
pub const LSR_OE: u8 = 0x02;
/// LSR: the transmitter has room.
pub const LSR_THRE: u8 = 0x20;
/// LSR: the transmitter is idle.
pub const LSR_TEMT: u8 = 0x40;

/// MSR: clear to send.
pub const MSR_CTS: u8 = 0x10;
/// MSR: data set ready.
pub const MSR_DSR: u8 = 0x20;
/// MSR: carrier detect.
pub const MSR_DCD: u8 = 0x80;
/// MSR: clear to send has changed.
pub const MSR_DCTS: u8 = 0x01;

/// The FIFOs' depth in bytes.
pub const FIFO: usize = 16;
