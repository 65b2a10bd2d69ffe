// SPDX-License-Identifier: GPL-2.0

//! Serial cards: [`SerialDriver`] as one of the [`Driver`](crate::Driver)s, and [`Uart`] for tests of a port
//! itself.

mod driver;
mod port;
mod registers;

pub use driver::Model;
pub use driver::SerialDriver;
pub use port::Uart;
pub use registers::*;
