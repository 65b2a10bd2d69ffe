// SPDX-License-Identifier: GPL-2.0

//! States, flags and records of the VFIO migration interface, and the kernel's error numbers.
//!
//! The engine, the kernel's VFIO abstractions and the tools take these definitions from here. Pure
//! crates cannot read the kernel's headers, so the numbers are written down once; `rust/vfio/uapi_check.rs`
//! asserts at compile time that they equal the generated bindings', and the host test of this crate
//! that they equal those of the `vfio-bindings` crate.
//!
//! C headers: `include/uapi/linux/vfio.h`, `include/uapi/asm-generic/errno.h`
//!
//! The crate is not called `uapi`, as the kernel has a crate of that name.

#![cfg_attr(not(MODULE), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![warn(clippy::arithmetic_side_effects)]
#![warn(clippy::indexing_slicing)]
#![warn(clippy::expect_used)]
#![warn(clippy::unwrap_used)]
#![warn(clippy::panic)]

mod errno;
pub mod v1;
pub mod v2;

pub use errno::Errno;
