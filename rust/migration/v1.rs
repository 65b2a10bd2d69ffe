// SPDX-License-Identifier: GPL-2.0

//! Protocol v1, a front end of the engine: the migration region of Linux 5.8 to 5.17.

mod handshake;
pub mod header;
mod region;

pub use region::{
    DataSection,
    MigrationRegion,
    DATA_OFFSET, //
};
