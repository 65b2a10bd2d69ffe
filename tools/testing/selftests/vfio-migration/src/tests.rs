// SPDX-License-Identifier: GPL-2.0

//! The tests, a file per part of the interface.

pub mod config;
mod ioctl;
mod irq;
pub mod log;
pub mod nvme;
mod region;
mod request;
pub use region::joined;
mod resuming;
mod saving;
pub mod state;
mod sysfs;
mod uart;

use crate::ktap::Test;
use crate::test_device::Context;
use crate::test_device::Kind;

/// A test of a device.
pub type Case = Test<Context>;

/// Makes tests of functions, each under the function's name.
macro_rules! cases {
    ($($function:ident),+ $(,)?) => {
        &[$($crate::ktap::Test { name: stringify!($function), run: $function }),+]
    };
}
use cases;

/// The tests of whatever device, in the order in which they run.
const ANY_DEVICE: [&[Case]; 9] = [
    log::FIRST,
    region::CASES,
    state::CASES,
    saving::CASES,
    resuming::CASES,
    ioctl::CASES,
    config::CASES,
    sysfs::CASES,
    request::CASES,
];
/// Those of a serial card.
const UART: [&[Case]; 4] = [resuming::NO_STORAGE, config::UART, uart::CASES, irq::CASES];

/// Returns the tests of a kind of device, in the order in which they run.
pub fn of(kind: Kind) -> impl Iterator<Item = &'static Case> {
    let own: &[&[Case]] = match kind {
        Kind::Uart { .. } => &UART,
        Kind::Nvme { .. } => &nvme::CASES,
    };
    ANY_DEVICE.iter().chain(own).copied().flatten()
}

/// Returns the tests that have something to say about the size of a logical block.
pub fn of_format() -> impl Iterator<Item = &'static Case> {
    nvme::FORMAT.into_iter().flatten()
}

/// Returns the test that runs last of all.
pub fn last() -> impl Iterator<Item = &'static Case> {
    log::LAST.iter()
}

/// Returns all tests.
pub fn all() -> impl Iterator<Item = &'static Case> {
    ANY_DEVICE
        .into_iter()
        .chain(UART)
        .chain(nvme::CASES)
        .flatten()
        .chain(last())
}
