// SPDX-License-Identifier: GPL-2.0

//! Whether and how a device migrates by protocol v2, without the type of the device.

use super::data::Available;
use core::ptr::NonNull;
use kernel::prelude::*;
use vfio_uapi::v2::{
    Flags,
    PrecopyInfo, //
};

/// Whether and how a device migrates by protocol v2.
#[derive(Clone, Copy)]
pub struct Support {
    pub(crate) flags: Flags,
    pub(crate) ops: *const vfio_bindings::vfio_migration_ops,
    pub(super) data: Option<&'static DataOperations>,
}

// SAFETY: The tables that it points to never change.
unsafe impl Send for Support {}

// SAFETY: As above.
unsafe impl Sync for Support {}

impl Support {
    /// The device does not migrate by protocol v2.
    pub const NONE: Self = Self {
        flags: Flags::NONE,
        ops: core::ptr::null(),
        data: None,
    };
}

/// [`MigrationOperations`](super::MigrationOperations) of a type that is not known.
///
/// # Safety
///
/// Each must be called with an open device of the type that the table was made for.
pub(super) struct DataOperations {
    pub(super) read:
        unsafe fn(NonNull<vfio_bindings::vfio_device>, u64, &mut [u8]) -> Result<Available>,
    pub(super) write: unsafe fn(NonNull<vfio_bindings::vfio_device>, u64, &[u8]) -> Result,
    pub(super) is_readable: unsafe fn(NonNull<vfio_bindings::vfio_device>, u64) -> Result<bool>,
    pub(super) is_writable: unsafe fn(NonNull<vfio_bindings::vfio_device>, u64) -> Result<bool>,
    pub(super) precopy_info:
        unsafe fn(NonNull<vfio_bindings::vfio_device>, u64, bool) -> Result<PrecopyInfo>,
    pub(super) buffered: unsafe fn(NonNull<vfio_bindings::vfio_device>, u64, usize),
}
