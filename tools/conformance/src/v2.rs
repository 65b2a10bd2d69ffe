// SPDX-License-Identifier: GPL-2.0

//! The cases of protocol v2 and of the devices that have it, a file per part of the interface.
//!
//! They are about what `include/uapi/linux/vfio.h` says of `VFIO_DEVICE_FEATURE_MIGRATION` and its
//! neighbours, and what else a user can do to a device through them, rightly and wrongly. [`mtty`] names the
//! cases that the kernel's sample device fails, and why.

mod card;
mod cdev;
pub mod cdev_dma;
pub mod device;
mod failing;
mod feature;
mod file;
mod lifetime;
mod log;
mod logging;
mod moving;
pub mod mtty;
mod protocol;
mod size;
pub mod slow_file;
mod state;

use crate::case::Case;

/// The cases in the order in which they run: of any device, of Ferry's, of Ferry's with storage, of a
/// network card, and last of all what the kernel complained of.
const CASES: [&[Case]; 23] = [
    state::CASES,
    feature::CASES,
    file::CASES,
    size::CASES,
    logging::CASES,
    moving::CASES,
    lifetime::CASES,
    protocol::CASES,
    moving::FERRY,
    lifetime::FERRY,
    cdev::CASES,
    cdev::SECOND,
    state::STORAGE,
    failing::CASES,
    file::STORAGE,
    size::STORAGE,
    slow_file::STORAGE,
    logging::STORAGE,
    moving::STORAGE,
    cdev_dma::STORAGE,
    cdev::SECOND_STORAGE,
    card::CASES,
    log::LAST,
];

/// Returns the cases in the order in which they run.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    CASES.into_iter().flatten()
}
