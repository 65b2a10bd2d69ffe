// SPDX-License-Identifier: GPL-2.0

//! Device migration: states, transitions, the migration region, and the stream.
//!
//! The protocol is the first version of VFIO migration, which a user drives through a region of the
//! device: `struct vfio_device_migration_info` of Linux 5.8 to 5.17. QEMU 5.2 to 7.2 speak it.
//!
//! A driver author implements [`Device`]. An adapter gives the engine the memory that it shares
//! with the user, as a [`Window`], and passes the accesses of the header on to [`MigrationRegion`].
//! From there it goes down:
//!
//! ```text
//! region      header and data section, tied to the device
//! handshake   how chunks are taken       transition  the steps from state to state
//! save        gives a stream             resume      takes a stream
//! writer      puts records               reader      takes records, trusts nothing
//! record      header of a record         identity    what both ends must have in common
//! v2          protocol v2 on the same machine
//! request     a state of protocol v2 that takes several arcs
//! storage     blocks of a device that move while it runs
//! ```
//!
//! There is no allocation, no recursion, no unsafe code and no floating point in here. Locking is
//! the adapter's: [`MigrationRegion`] wants `&mut`.

#![cfg_attr(not(MODULE), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![warn(clippy::arithmetic_side_effects)]
#![warn(clippy::indexing_slicing)]
#![warn(clippy::expect_used)]
#![warn(clippy::unwrap_used)]
#![warn(clippy::panic)]

mod blocks;
mod crc32c;
pub mod device;
mod handshake;
pub mod header;
mod identity;
pub mod migrated_blocks;
pub mod observer;
mod reader;
mod record;
pub mod refusal;
pub mod region;
pub mod request;
pub mod resume;
pub mod save;
pub mod state;
pub mod stream;
mod transition;
pub mod v2;
mod writer;

pub use crate::{
    device::{
        Device,
        Window,
        CONFIGURATION_MAX, //
    },
    migrated_blocks::{
        Dirty,
        DirtyBlocks,
        MigratedBlocks,
        BLOCK_SIZE, //
    }, //
    observer::Observer,
    refusal::{
        Reason,
        Refusal,
        Subject, //
    },
    region::MigrationRegion, //
};
