// SPDX-License-Identifier: GPL-2.0

//! The tests, a file per part of the interface.

mod cdev;
pub mod cdev_dma;
mod failing;
mod feature;
mod file;
mod lifetime;
mod log;
mod logging;
mod moving;
mod protocol;
mod size;
mod state;

use crate::ktap::Test;
use crate::test_device::Kind;
use crate::test_device::Target;

/// A test of a device.
pub type Case = Test<Target>;

/// Makes tests of functions, each under the function's name.
macro_rules! cases {
    ($($function:ident),+ $(,)?) => {
        &[$($crate::ktap::Test { name: stringify!($function), run: $function }),+]
    };
}
use cases;

/// The tests of whatever device, in the order in which they run.
const ANY_DEVICE: [&[Case]; 7] = [
    state::CASES,
    feature::CASES,
    file::CASES,
    size::CASES,
    logging::CASES,
    moving::CASES,
    lifetime::CASES,
];
/// Those of Ferry's devices.
const FERRY: [&[Case]; 5] = [
    protocol::CASES,
    moving::FERRY,
    lifetime::FERRY,
    cdev::CASES,
    cdev::SECOND,
];
/// Those of a device with storage.
const STORAGE: [&[Case]; 8] = [
    state::STORAGE,
    failing::CASES,
    file::STORAGE,
    size::STORAGE,
    logging::STORAGE,
    moving::STORAGE,
    cdev_dma::STORAGE,
    cdev::SECOND_STORAGE,
];

/// Returns the tests of a kind of device, in the order in which they run.
pub fn of(kind: Kind) -> impl Iterator<Item = &'static Case> {
    let (ferry, storage): (&[_], &[_]) = match kind {
        Kind::Uart { .. } => (&FERRY, &[]),
        Kind::Nvme { .. } => (&FERRY, &STORAGE),
        Kind::Mtty => (&[], &[]),
    };
    ANY_DEVICE
        .iter()
        .chain(ferry)
        .chain(storage)
        .copied()
        .flatten()
        .chain(log::LAST)
}
