// SPDX-License-Identifier: GPL-2.0

//! The tests of an NVMe controller, a file per part of it.

mod attributes;
mod block_device;
mod coalescing;
mod commands;
mod config;
mod data;
mod direct;
mod disk;
pub mod dma;
mod format;
mod hostile;
mod irq;
mod migration;
mod namespaces;
pub mod pinned;
mod polling;
mod power;
mod registers;
pub mod slow_file;
mod stalled;
mod suspend;
mod worker;

use crate::case::Case;

/// All of them, in the order in which they run.
pub const CASES: [&[Case]; 21] = [
    attributes::CASES,
    block_device::CASES,
    config::CASES,
    power::CASES,
    registers::CASES,
    data::CASES,
    commands::CASES,
    direct::CASES,
    format::CASES,
    namespaces::CASES,
    irq::CASES,
    coalescing::CASES,
    hostile::CASES,
    dma::CASES,
    pinned::CASES,
    polling::CASES,
    migration::CASES,
    stalled::CASES,
    slow_file::CASES,
    suspend::CASES,
    worker::CASES,
];

/// Those for which the size of a logical block makes a difference.
pub const FORMAT: [&[Case]; 6] = [
    attributes::FORMAT,
    data::CASES,
    commands::CASES,
    format::CASES,
    namespaces::CASES,
    migration::FORMAT,
];
