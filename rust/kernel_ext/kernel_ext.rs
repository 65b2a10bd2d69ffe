// SPDX-License-Identifier: GPL-2.0

//! Safe abstractions that the kernel crate lacks and that have nothing to do with VFIO.
//!
//! Each module is for one kernel interface, so that it could become a file of `rust/kernel/` by itself.

#![warn(missing_docs)]
#![warn(clippy::undocumented_unsafe_blocks)]

pub mod class;
pub mod crc32c;
pub mod eventfd;
pub mod file;
pub mod lock;
pub mod memory;
pub mod ratelimit;
pub mod refusal;
pub mod sched;
pub mod shared_pages;
pub mod sysfs;
