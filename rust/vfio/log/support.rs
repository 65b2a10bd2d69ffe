// SPDX-License-Identifier: GPL-2.0

//! Whether a device logs the memory that it writes, without the type of the device.

/// Whether a device logs the memory that it writes.
#[derive(Clone, Copy)]
pub struct Support {
    pub(crate) ops: *const vfio_bindings::vfio_log_ops,
}

// SAFETY: The table that it points to never changes.
unsafe impl Send for Support {}

// SAFETY: As above.
unsafe impl Sync for Support {}

impl Support {
    /// The device has no log.
    pub const NONE: Self = Self {
        ops: core::ptr::null(),
    };

    /// Whether users can start the log.
    pub const fn is_offered(&self) -> bool {
        !self.ops.is_null()
    }
}
