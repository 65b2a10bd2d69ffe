// SPDX-License-Identifier: GPL-2.0

//! A PCI serial card with one, two or four 16550A ports, as a pure value.
//!
//! [`Card`] is the whole device, a [`DeviceModel`]: its configuration space and its ports, each with a
//! loop-back plug. Nothing in here allocates, locks, sleeps or looks at a clock, and no access takes
//! longer than moving a FIFO's content.
//!
//! # The ports
//!
//! They follow the data sheet of the 16550A (Texas Instruments TL16C550C without its automatic flow
//! control, National Semiconductor PC16550D), as `drivers/tty/serial/8250` expects it, with names
//! from `include/uapi/linux/serial_reg.h`. Where a data sheet depends on time, the model does not:
//!
//! - The line is infinitely fast, whatever the divisor is: a character that the receiver has room
//!   for arrives within the access that sent it.
//! - The time after which the receiver reports characters that have not reached its trigger level
//!   has always passed.
//! - An empty receiver buffer reads as 0.
//! - A character crosses the line with all its eight bits: the word length that LCR holds cuts
//!   nothing off, as in QEMU's serial port. Software that never sets it loses nothing.
//!
//! As on any PCI card, OUT2 does not gate the interrupt.
//!
//! # The plug
//!
//! TX is wired to RX, RTS to CTS, and DTR to DSR and DCD; RI is never active. The wire honours flow
//! control: a character waits in the transmitter while the receiver has no room, so no character that
//! is written while THR is empty gets lost. The chip's own loop-back mode overruns instead, as on the
//! chip. A break acts on the wire only, not on the transmitter: characters sent meanwhile are lost, as
//! on the chip.

#![cfg_attr(not(MODULE), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod card;
mod fifo;
mod model;
mod plug;
mod port;
mod registers;
mod state;

pub use card::{
    Card,
    PortCount, //
};
pub use device_model::{
    saved_state::StateError,
    DeviceModel, //
};
pub use pci_config::{
    AccessError,
    ImageError, //
    CONFIG_SPACE_SIZE,
};
pub use state::{
    LoadError,
    PortError, //
};
