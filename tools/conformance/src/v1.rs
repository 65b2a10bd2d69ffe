// SPDX-License-Identifier: GPL-2.0

//! The cases of the v1 migration region and of the devices that have it, a file per part of the interface.
//!
//! Every statement of `Documentation/protocol-v1.rst` that a user of a device can see is a case here, under
//! its number ([`statements`]). Around them are cases of what else a user can do to the device, rightly and
//! wrongly.

mod card;
mod config;
pub mod device;
mod ioctl;
mod irq;
mod log;
pub mod nvme;
mod region;
mod request;
mod resuming;
mod saving;
pub mod state;
pub mod statements;
mod sysfs;
mod uart;

use crate::case::Case;

/// The cases in the order in which they run: of any device, of a serial card, of an NVMe controller, of a
/// network card.
const CASES: [&[Case]; 13] = [
    log::FIRST,
    region::CASES,
    state::CASES,
    saving::CASES,
    resuming::CASES,
    ioctl::CASES,
    config::CASES,
    sysfs::CASES,
    request::CASES,
    resuming::NO_STORAGE,
    config::UART,
    uart::CASES,
    irq::CASES,
];

/// Returns the cases in the order in which they run, except for [`last`].
pub fn cases() -> impl Iterator<Item = &'static Case> {
    CASES
        .into_iter()
        .chain(nvme::CASES)
        .chain(card::CASES)
        .flatten()
}

/// Returns the cases of a controller for which the size of a logical block makes a difference.
pub fn cases_of_block_sizes() -> impl Iterator<Item = &'static Case> {
    nvme::FORMAT.into_iter().flatten()
}

/// Returns the case that runs once, after all others.
pub fn last() -> &'static Case {
    &log::LAST[0]
}

/// Returns all cases.
fn all() -> impl Iterator<Item = &'static Case> {
    cases().chain(core::iter::once(last()))
}
