// SPDX-License-Identifier: GPL-2.0

//! The exclusive use of block devices.
//!
//! C header: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)

use super::FileName;
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::from_err_ptr,
    prelude::*, //
};

/// The exclusive use of a block device: nobody else has claimed it, by a mount for one, nor can meanwhile. Others
/// can open it without a claim.
///
/// # Invariants
///
/// The file is a block device that was opened exclusively, and this value owns its only reference.
pub struct Claim(NonNull<bindings::file>);

// SAFETY: Files are reference-counted and may be put from any thread.
unsafe impl Send for Claim {}

impl Claim {
    /// Claims the block device of `name`. May sleep.
    ///
    /// # Errors
    ///
    /// `EBUSY` if it is claimed, `ENOTBLK` if the file is no block device, else as [`super::File::open`].
    pub fn new(name: &FileName) -> Result<Self> {
        // SAFETY: By their type invariants the path and the credentials are valid.
        let file = from_err_ptr(unsafe {
            vfio_bindings::ferry_bdev_claim(&raw const name.path.0, name.credential.as_ptr())
        })?;

        // INVARIANT: The function opened the block device exclusively, and the reference is ours.
        NonNull::new(file).map(Self).ok_or(EINVAL)
    }
}

impl Drop for Claim {
    /// Others can claim the device from now on.
    fn drop(&mut self) {
        // SAFETY: By the type invariants it is an exclusively opened block device, whose reference is ours.
        unsafe { vfio_bindings::ferry_bdev_unclaim(self.0.as_ptr()) };
    }
}
