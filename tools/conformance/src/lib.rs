// SPDX-License-Identifier: GPL-2.0

//! Conformance cases of VFIO devices that migrate.
//!
//! A [`Case`] is a name, a function, and what it requires of the device, the kernel and the
//! driver ([`Requirement`]). A [`Target`] is what cases run on: a type of mediated device, of which each
//! case creates its own, or a device that exists already, at any address. [`plan`] puts cases and a target
//! together; [`ktap::run`] runs the plan and reports it, and skips a case with the reason where a
//! requirement is missing.
//!
//! The cases are in [`v1`], the migration region of QEMU 5.2 to 7.2, and in [`v2`],
//! `VFIO_DEVICE_FEATURE_MIGRATION`. Cases about Ferry's own interface, such as its attributes, log lines
//! and stream, require [`Requirement::Ferry`].
//!
//! The cases share nothing with the code that they judge: what they know of protocols, streams and
//! devices is written from the specifications.

#![forbid(unsafe_code)]

pub mod case;
pub mod check;
pub mod device;
pub mod kmsg;
pub mod ktap;
pub mod plan;
pub mod program;
pub mod requirement;
pub mod second_process;
pub mod subject;
pub mod target;
pub mod v1;
pub mod v2;

pub use case::Case;
pub use requirement::Requirement;
pub use target::Target;
