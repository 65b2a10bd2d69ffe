// SPDX-License-Identifier: GPL-2.0

//! What software sees of a 16550A, with the names of `include/uapi/linux/serial_reg.h`.
//!
//! It is written down a second time on purpose, so that a wrong bit in the model is found.

/// Receiver buffer, on a read.
pub const RX: u64 = 0;
/// Transmitter holding register, on a write.
pub const TX: u64 = 0;
/// Lower half of the divisor, behind DLAB.
pub const DLL: u64 = 0;
pub const IER: u64 = 1;
/// Upper half of the divisor, behind DLAB.
pub const DLM: u64 = 1;
/// On a read.
pub const IIR: u64 = 2;
/// On a write.
pub const FCR: u64 = 2;
/// Where later chips have their enhanced features.
pub const EFR: u64 = 2;
pub const LCR: u64 = 3;
pub const MCR: u64 = 4;
pub const LSR: u64 = 5;
pub const MSR: u64 = 6;
pub const SCR: u64 = 7;
/// Registers of one UART.
pub const REGISTERS: u64 = 8;

/// Characters in a FIFO.
pub const FIFO_DEPTH: usize = 16;

pub const IER_RDI: u8 = 0x01;
pub const IER_THRI: u8 = 0x02;
pub const IER_RLSI: u8 = 0x04;
pub const IER_MSI: u8 = 0x08;
pub const IER_ALL_INTR: u8 = 0x0f;
pub const IER_UUE: u8 = 0x40;

pub const IIR_NO_INT: u8 = 0x01;
pub const IIR_MSI: u8 = 0x00;
pub const IIR_THRI: u8 = 0x02;
pub const IIR_RDI: u8 = 0x04;
pub const IIR_RLSI: u8 = 0x06;
pub const IIR_RX_TIMEOUT: u8 = 0x0c;
pub const IIR_FIFO_ENABLED: u8 = 0xc0;
pub const IIR_FIFO_ENABLED_16750: u8 = 0xe0;

pub const FCR_ENABLE_FIFO: u8 = 0x01;
pub const FCR_CLEAR_RCVR: u8 = 0x02;
pub const FCR_CLEAR_XMIT: u8 = 0x04;
pub const FCR_DMA_SELECT: u8 = 0x08;
pub const FCR_TRIGGER_1: u8 = 0x00;
pub const FCR_TRIGGER_4: u8 = 0x40;
pub const FCR_TRIGGER_8: u8 = 0x80;
pub const FCR_TRIGGER_14: u8 = 0xc0;
pub const FCR7_64BYTE: u8 = 0x20;

pub const LCR_WLEN5: u8 = 0x00;
pub const LCR_WLEN6: u8 = 0x01;
pub const LCR_WLEN7: u8 = 0x02;
pub const LCR_WLEN8: u8 = 0x03;
pub const LCR_PARITY: u8 = 0x08;
pub const LCR_EPAR: u8 = 0x10;
pub const LCR_SBC: u8 = 0x40;
pub const LCR_DLAB: u8 = 0x80;
pub const LCR_CONF_MODE_A: u8 = LCR_DLAB;
pub const LCR_CONF_MODE_B: u8 = 0xbf;

pub const MCR_DTR: u8 = 0x01;
pub const MCR_RTS: u8 = 0x02;
pub const MCR_OUT1: u8 = 0x04;
pub const MCR_OUT2: u8 = 0x08;
pub const MCR_LOOP: u8 = 0x10;

pub const LSR_DR: u8 = 0x01;
pub const LSR_OE: u8 = 0x02;
pub const LSR_PE: u8 = 0x04;
pub const LSR_FE: u8 = 0x08;
pub const LSR_BI: u8 = 0x10;
pub const LSR_THRE: u8 = 0x20;
pub const LSR_TEMT: u8 = 0x40;
pub const LSR_FIFOE: u8 = 0x80;
pub const LSR_BRK_ERROR_BITS: u8 = 0x1e;

pub const MSR_DCTS: u8 = 0x01;
pub const MSR_DDSR: u8 = 0x02;
pub const MSR_TERI: u8 = 0x04;
pub const MSR_DDCD: u8 = 0x08;
pub const MSR_ANY_DELTA: u8 = 0x0f;
pub const MSR_CTS: u8 = 0x10;
pub const MSR_DSR: u8 = 0x20;
pub const MSR_RI: u8 = 0x40;
pub const MSR_DCD: u8 = 0x80;
pub const MSR_STATUS_BITS: u8 = 0xf0;
