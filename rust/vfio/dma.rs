// SPDX-License-Identifier: GPL-2.0

//! Memory access by the device: DMA through the user's I/O address space.
//!
//! The VFIO core copies straight between the kernel's memory and the user's pages that are mapped
//! at an I/O virtual address, and marks those that are written in the container's dirty bitmap, so
//! that a migration under way sees them. Nothing stays pinned: as soon as the user has unmapped an
//! address, an access of it fails.
//!
//! C header: [`include/linux/vfio.h`](srctree/include/linux/vfio.h), `vfio_dma_rw()`

use core::marker::PhantomData;
use kernel::{
    error::to_result,
    prelude::*, //
};

/// The I/O address space of an open device.
///
/// # Invariants
///
/// `vdev` is open during the lifetime.
pub struct Dma<'a> {
    vdev: *mut vfio_bindings::vfio_device,
    _open: PhantomData<&'a ()>,
}

impl Dma<'_> {
    /// # Safety
    ///
    /// `vdev` must be open during the lifetime.
    pub(crate) unsafe fn new(vdev: *mut vfio_bindings::vfio_device) -> Self {
        // INVARIANT: By the function's requirement.
        Self {
            vdev,
            _open: PhantomData,
        }
    }

    /// Reads memory at the I/O virtual address `iova`. May sleep, as long as the user has a page
    /// fault take.
    ///
    /// # Errors
    ///
    /// `EINVAL` if some of it is not mapped, `EPERM` if it is mapped without leave to read,
    /// `EFAULT` if the user has no memory there. What is in `into` is unspecified then.
    pub fn read(&self, iova: u64, into: &mut [u8]) -> Result {
        if into.is_empty() {
            return Ok(());
        }
        check_range(iova, into.len())?;

        // SAFETY: By the type invariants the device is open; `into` is ours and `len()` bytes long.
        to_result(unsafe {
            vfio_bindings::vfio_dma_rw(self.vdev, iova, into.as_mut_ptr().cast(), into.len(), false)
        })
    }

    /// Writes `bytes` to memory at the I/O virtual address `iova`. May sleep as [`Self::read`].
    ///
    /// # Errors
    ///
    /// As [`Self::read`], `EPERM` without leave to write. Some of it may have been written then.
    pub fn write(&self, iova: u64, bytes: &[u8]) -> Result {
        if bytes.is_empty() {
            return Ok(());
        }
        check_range(iova, bytes.len())?;

        // SAFETY: By the type invariants the device is open; with `write` set the function only
        // reads the data.
        to_result(unsafe {
            vfio_bindings::vfio_dma_rw(
                self.vdev,
                iova,
                bytes.as_ptr().cast_mut().cast(),
                bytes.len(),
                true,
            )
        })
    }
}

/// The core would go on at address 0 behind the last one.
fn check_range(iova: u64, len: usize) -> Result {
    iova.checked_add(len as u64 - 1).map(|_| ()).ok_or(EINVAL)
}
