// SPDX-License-Identifier: GPL-2.0

//! The tests, a file per part of the interface.

pub mod config;
mod ioctl;
mod irq;
mod log;
mod region;
mod resuming;
mod saving;
pub mod state;
mod sysfs;
mod uart;

use crate::card::Context;
use crate::ktap::Test;

/// A test of a card.
pub type Case = Test<Context>;

/// Makes tests of functions, each under the function's name.
macro_rules! cases {
    ($($function:ident),+ $(,)?) => {
        &[$($crate::ktap::Test { name: stringify!($function), run: $function }),+]
    };
}
use cases;

/// Returns all tests, in the order in which they run.
pub fn all() -> impl Iterator<Item = &'static Case> {
    [
        log::FIRST,
        region::CASES,
        state::CASES,
        saving::CASES,
        resuming::CASES,
        ioctl::CASES,
        config::CASES,
        uart::CASES,
        irq::CASES,
        sysfs::CASES,
        log::LAST,
    ]
    .into_iter()
    .flatten()
}
