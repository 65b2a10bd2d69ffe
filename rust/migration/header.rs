// SPDX-License-Identifier: GPL-2.0

//! The header of the migration region: which field an access means.
//!
//! Mirrors `struct vfio_device_migration_info` (Linux 5.8 to 5.17, `include/uapi/linux/vfio.h`);
//! statements 2 to 5 of the protocol.

use crate::refusal::{
    Reason,
    Refusal, //
};

pub use crate::handshake::Handshake;
use vfio_uapi::v1::Field;

/// Returns the field that an access of `len` bytes at `offset` of the region means.
///
/// # Errors
///
/// [`Reason::Access`] for anything but one field at its own offset and width.
pub fn decode(offset: u64, len: usize) -> Result<Field, Refusal> {
    Field::at(offset, len).ok_or_else(|| Reason::Access { offset, len }.into())
}
