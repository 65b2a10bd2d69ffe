// SPDX-License-Identifier: GPL-2.0

//! The migration engine: states, transitions, sessions and the stream, driven by either version of
//! VFIO migration.
//!
//! The engine does not know how a user reaches it. Protocol v1 is a region of the device
//! (`struct vfio_device_migration_info`, Linux 5.8 to 5.17, QEMU 5.2 to 7.2); protocol v2 is a feature and
//! a data file (Linux 5.18 and later, QEMU 8 and later). Each is a front end of one [`Engine`], and neither
//! uses the other. A binding implements [`Port`] for its devices, holds engine and front ends behind its
//! state mutex, and passes the port in with each call.
//!
//! ```text
//! v1       region, header and handshake     v2       states, data file, requests of several arcs
//!        \                                 /
//!          engine       the state, the steps from state to state, the open session
//!          transition   perform, undo, commit
//!          session      save gives a stream, resume takes one, blocks move while the device runs
//!          stream       records, identity of a device, reader and writer
//!          port         what a device does for the engine; where chunks go to and come from
//!          refusal      why a request is refused, with the error number
//! ```
//!
//! A module uses the modules below its own, and none above. The crate has no allocation, no recursion, no
//! unsafe code and no floating point, and takes no lock.

#![cfg_attr(not(MODULE), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![warn(clippy::arithmetic_side_effects)]
#![warn(clippy::indexing_slicing)]
#![warn(clippy::expect_used)]
#![warn(clippy::unwrap_used)]
#![warn(clippy::panic)]

pub mod engine;
pub mod port;
pub mod refusal;
mod session;
pub mod stream;
pub mod transition;
pub mod v1;
pub mod v2;

pub use crate::{
    engine::Engine,
    port::{
        Port,
        Sink,
        Source, //
    },
    refusal::{
        Reason,
        Refusal,
        Subject, //
    },
    transition::StepError, //
};
pub use device_model::{
    migrated_blocks,
    Dirty,
    DirtyBlocks,
    MigratedBlocks,
    BLOCK_SIZE,
    CONFIGURATION_MAX, //
};
