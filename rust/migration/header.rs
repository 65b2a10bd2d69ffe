// SPDX-License-Identifier: GPL-2.0

//! The header of the migration region: which field an access means.
//!
//! Mirrors `struct vfio_device_migration_info` (Linux 5.8 to 5.17, `include/uapi/linux/vfio.h`);
//! statements 2 to 5 of the protocol.

use core::fmt;

use crate::refusal::{
    Reason,
    Refusal, //
};

pub use crate::handshake::Handshake;

/// Size of the header, in bytes.
pub const SIZE: u64 = 32;

/// A field of the header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    /// `device_state`, 4 bytes at 0, read and write: the state, and the request to change it.
    DeviceState,
    /// `reserved`, 4 bytes at 4: reads as zero, writes are ignored.
    Reserved,
    /// `pending_bytes`, 8 bytes at 8, read-only: what is left to save.
    PendingBytes,
    /// `data_offset`, 8 bytes at 16, read-only: where in the region the data is.
    DataOffset,
    /// `data_size`, 8 bytes at 24, read and write: how much data is there.
    DataSize,
}

impl Field {
    /// All fields, in the order of their offsets.
    pub const ALL: [Field; 5] = [
        Self::DeviceState,
        Self::Reserved,
        Self::PendingBytes,
        Self::DataOffset,
        Self::DataSize,
    ];

    /// Returns the field's offset in the region, in bytes.
    pub const fn offset(self) -> u64 {
        match self {
            Self::DeviceState => 0,
            Self::Reserved => 4,
            Self::PendingBytes => 8,
            Self::DataOffset => 16,
            Self::DataSize => 24,
        }
    }

    /// Returns the field's width, in bytes.
    pub const fn width(self) -> usize {
        match self {
            Self::DeviceState | Self::Reserved => 4,
            Self::PendingBytes | Self::DataOffset | Self::DataSize => 8,
        }
    }

    /// Returns the field's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DeviceState => "device_state",
            Self::Reserved => "reserved",
            Self::PendingBytes => "pending_bytes",
            Self::DataOffset => "data_offset",
            Self::DataSize => "data_size",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Returns the field that an access of `len` bytes at `offset` of the region means.
///
/// # Errors
///
/// [`Reason::Access`] for anything but one field at its own offset and width.
pub fn decode(offset: u64, len: usize) -> Result<Field, Refusal> {
    Field::ALL
        .into_iter()
        .find(|field| field.offset() == offset && field.width() == len)
        .ok_or_else(|| Reason::Access { offset, len }.into())
}
