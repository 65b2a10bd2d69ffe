// SPDX-License-Identifier: GPL-2.0

//! User-space drivers of VFIO devices, for tests and tools.
//!
//! A [`Driver`] gives a device work, and verifies later, or on another device that the state was moved to,
//! that the work is still there. [`probe()`] finds the driver by the PCI ids. The parts of the drivers
//! are public, for tests of one kind of device: [`nvme`], [`uart`] and
//! [`e1000e`].
//!
//! Everything here is written from the devices' specifications. It shares nothing with the models in
//! `rust/devices`, which it judges.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod compare;
pub mod driver;
pub mod e1000e;
pub mod nvme;
pub mod probe;
pub mod random;
pub mod uart;

pub use driver::Driver;
pub use driver::Error;
pub use driver::Result;
pub use probe::probe;
