// SPDX-License-Identifier: GPL-2.0

//! The interface between a device model and the code that drives it.
//!
//! A device model is a PCI function as a value: it answers accesses, raises interrupts, and can be
//! written down as bytes at any time between two calls. This crate has the traits at the borders of
//! a model, and what models share to save and load their state. It knows no kernel, so models are
//! tested on the host.
//!
//! ```text
//! model            a device model: its registers, its executor, and the link between them
//! posted_writes    registers that are written without the lock of the device
//! guest_memory     memory of the guest, as DMA reaches it
//! backend          content of a device on the host
//! block_backend    content of a disk, as commands access it
//! migrated_blocks  content that migrates block by block
//! unwritten        content that has yet to be written back
//! untold           losses of data that the guest has not been told of
//! dirty_blocks     bitmaps of dirty blocks
//! hardware         a real function that migrates, in a variant driver
//! saved_state      fields of a saved state: written, read and checked
//! log              lines of the host's log
//! ```
//!
//! Nothing in here allocates or locks, and nothing sleeps but what a real function has to wait for.

#![cfg_attr(not(MODULE), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![warn(clippy::arithmetic_side_effects)]
#![warn(clippy::indexing_slicing)]
#![warn(clippy::expect_used)]
#![warn(clippy::unwrap_used)]
#![warn(clippy::panic)]

mod backend;
mod block_backend;
mod dirty_blocks;
mod guest_memory;
pub mod hardware;
mod log;
pub mod migrated_blocks;
mod model;
mod posted_writes;
mod request;
pub mod saved_state;
mod untold;
mod unwritten;

pub use backend::{
    Backend,
    WriteBack, //
};
pub use block_backend::{
    BackendError,
    BlockBackend,
    Place,
    ReadStraight,
    Stores, //
};
pub use dirty_blocks::DirtyBlocks;
pub use guest_memory::{
    GuestMemory,
    MemoryError, //
};
pub use log::Log;
pub use migrated_blocks::{
    Dirty,
    MigratedBlocks,
    NoMigratedBlocks,
    BLOCK_SIZE, //
};
pub use model::{
    DeviceModel,
    Link,
    Vectors,
    Work,
    Worker,
    CONFIGURATION_MAX, //
};
pub use posted_writes::PostedWrites;
pub use request::{
    Begun,
    Done,
    Request,
    Source,
    Tag,
    CONTEXT_SIZE, //
};
pub use untold::Untold;
pub use unwritten::{
    Mark,
    Unwritten, //
};
