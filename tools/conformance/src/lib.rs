// SPDX-License-Identifier: GPL-2.0

//! Conformance cases of VFIO devices that migrate.
//!
//! A [`Case`] has a name, a function, and [`Requirement`]s of device, kernel and driver. Cases run on a
//! [`Target`]: a type of mediated device, from which each case creates its devices, or a device that exists,
//! at any address. [`plan`] puts cases and a target together. A case whose requirement is missing is skipped
//! with the reason. [`ktap::run`] runs a plan and reports it.
//!
//! The cases are in [`v1`], the migration region of QEMU 5.2 to 7.2, and in [`v2`],
//! `VFIO_DEVICE_FEATURE_MIGRATION`. Cases about Ferry's own interface, such as its attributes, log lines
//! and stream, require [`Requirement::Ferry`].
//!
//! The cases share no code with the devices and drivers that they judge, except for the numbers of the
//! interface (`vfio_uapi`), whose tests compare them with the kernel's header. The cases' knowledge of
//! protocols, streams and devices is written from the specifications.

#![forbid(unsafe_code)]

pub mod case;
pub mod cgroup;
pub mod check;
pub mod device;
pub mod kind;
pub mod kmsg;
pub mod ktap;
pub mod lease;
pub mod network;
pub mod null_disk;
pub mod pins;
pub mod plan;
pub mod program;
pub mod requirement;
pub mod second_process;
pub mod slow_file;
pub mod subject;
pub mod target;
pub mod v1;
pub mod v2;

pub use case::Case;
pub use requirement::Requirement;
pub use target::Target;
