// SPDX-License-Identifier: GPL-2.0

//! Ties a device model to VFIO and to the migration protocol.
//!
//! A vendor driver implements [`Model`](model::Model) for its device and [`Driver`](driver::Driver)
//! for itself, and keeps a [`Registration`](driver::Registration). The rest is here: regions,
//! interrupts, reset, the v1 migration region, sysfs attributes, tracepoints and log lines.
//!
//! # Lock order
//!
//! 1. `Mediated::migration`: the state mutex. Transitions and the header of the migration region.
//! 2. `Mediated::live`: the model. The fast path takes only this one.
//! 3. The interrupts' own locks, see `vfio::irq`.
//!
//! `Mediated::window` is a leaf. User memory is accessed and VMAs are made with none of them held,
//! so that a user who lets a page fault hang holds up nobody, least of all a reset.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod attributes;
pub mod driver;
mod mediated;
mod migrate;
pub mod model;

pub use migration::CONFIGURATION_MAX;
