// SPDX-License-Identifier: GPL-2.0

//! The interface between a device model and the code that drives it.
//!
//! A device model is a PCI function as a value: it answers accesses, raises interrupts, and can be
//! written down as bytes at any time between two calls. This crate has the traits at the borders of
//! a model, and what models share to save and load their state. It knows no kernel, so models are
//! tested on the host.
//!
//! ```text
//! guest_memory    memory of the guest, as DMA reaches it
//! block_backend   content of a disk, as commands access it
//! hardware        a real function that migrates, in a variant driver
//! saved_state     fields of a saved state: written, read and checked
//! ```
//!
//! Nothing in here allocates or locks, and nothing sleeps but what a real function has to wait for.

#![cfg_attr(not(MODULE), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod block_backend;
mod guest_memory;
pub mod hardware;
pub mod saved_state;

pub use block_backend::{
    BackendError,
    BlockBackend, //
};
pub use guest_memory::{
    GuestMemory,
    MemoryError, //
};
