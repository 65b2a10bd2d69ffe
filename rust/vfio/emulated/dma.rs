// SPDX-License-Identifier: GPL-2.0

//! Memory access by the device: DMA through the user's I/O address space.
//!
//! The VFIO core copies between the kernel's memory and the user's pages that are mapped at an IOVA, in a
//! container or in the IOAS that the device is attached to. The core marks written pages in the container's
//! dirty bitmap, so that a migration under way sends them; an IOAS has no such bitmap, but see
//! [`log`](crate::log). Pages that are accessed [again and again](Dma::read_often) stay pinned until the user unmaps the
//! IOVA; an access fails as soon as that is done. Memory of
//! another process than the worker's is reached page by page.
//!
//! A page fault takes as long as the user likes, but does not outlast the open device: see `rust/helpers/dma.c`.
//!
//! C header: [`include/linux/vfio.h`](srctree/include/linux/vfio.h), `vfio_dma_rw()`

use super::state::Emulated;
use crate::log::DmaLog;
use core::{
    cell::Cell,
    fmt::Display,
    marker::PhantomData, //
};
use kernel::{
    error::to_result,
    ffi::{
        c_int,
        c_uint,
        c_void, //
    },
    fmt,
    prelude::*, //
};
use kernel_ext::file::Cached;

/// The direction of an access.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// The device reads memory.
    Read,
    /// The device writes memory.
    Write,
}

/// An access of the user's memory that failed.
#[derive(Debug)]
pub struct Failure {
    /// The first IOVA.
    pub iova: u64,
    /// Length in bytes.
    pub len: usize,
    /// The direction.
    pub access: Access,
    /// The error, see [`Dma::read`].
    pub error: Error,
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = match self.access {
            Access::Read => "read",
            Access::Write => "write",
        };
        let Self { iova, len, .. } = self;

        write!(
            f,
            "{access} of {len} bytes at IOVA {iova:#x}: not all of it is mapped, or not for a {access}"
        )
    }
}

/// The I/O address space of an open device.
///
/// # Invariants
///
/// `vdev` is open during the lifetime, and `base` is its own. The current thread is the device's worker.
pub struct Dma<'a> {
    vdev: *mut vfio_bindings::vfio_device,
    base: &'a Emulated,
    /// The epoch that accesses belong to.
    epoch: Cell<u32>,
    /// The log in which writes are marked.
    log: Option<&'a DmaLog>,
    /// Called with each access that fails.
    failed: &'a dyn Fn(&Failure),
    _open: PhantomData<&'a ()>,
}

impl<'a> Dma<'a> {
    /// Memory access by the current thread, the device's worker.
    ///
    /// # Safety
    ///
    /// `vdev`, whose base is `base`, must be open during the lifetime, and this be the thread of its worker.
    pub(super) unsafe fn new(
        vdev: *mut vfio_bindings::vfio_device,
        base: &'a Emulated,
        log: Option<&'a DmaLog>,
        failed: &'a dyn Fn(&Failure),
    ) -> Self {
        // INVARIANT: By the function's requirement.
        Self {
            vdev,
            base,
            epoch: Cell::new(base.gate.epoch()),
            log,
            failed,
            _open: PhantomData,
        }
    }

    /// Returns whether the worker has to freeze, pause, stop or end before it goes on.
    pub fn is_interrupted(&self) -> bool {
        self.base.worker.is_interrupted()
    }

    /// Has [`Operations::work`](super::Operations::work) called when `microseconds` are over, unless such a time is under
    /// way already.
    pub fn wake_in(&self, microseconds: u32) {
        self.base.worker.wake_in(microseconds);
    }

    /// Returns whether a time of [`Self::wake_in`] is over, once for each.
    pub fn is_due(&self) -> bool {
        self.base.worker.is_due()
    }

    /// Says whether something is under way that goes on while [`Operations::work`](super::Operations::work) is not
    /// called, and that has to end before the device stops. [`Self::is_interrupted`] has to be asked after it: if it is so,
    /// the worker has to end it.
    pub fn set_under_way(&self, under_way: bool) {
        self.base.worker.set_under_way(under_way);
    }

    /// Returns whether accesses are possible: [`Device::end_dma`](crate::Device::end_dma) has not ended them.
    pub fn is_current(&self) -> bool {
        self.epoch.get() == self.base.gate.epoch()
    }

    /// Makes accesses possible again that [`Device::end_dma`](crate::Device::end_dma) ended. Called with the lock
    /// held that protects what led to that.
    pub fn renew(&self) {
        self.epoch.set(self.base.gate.epoch());
    }

    /// Reads memory at `iova`. May sleep for as long as a page fault of the user takes.
    ///
    /// # Errors
    ///
    /// `EINVAL` or, in an IOAS, `ENOENT` if a part of the range is not mapped, `EPERM` if the mapping is
    /// write-only, `EFAULT` if the user has no memory there or is being killed, `EINTR` once the device is
    /// being closed, or accesses were [ended](crate::Device::end_dma). The content of `into` is unspecified then.
    pub fn read(&self, iova: u64, into: &mut [u8]) -> Result {
        self.read_by(vfio_bindings::ferry_dma_rw, iova, into)
    }

    /// As [`Self::read`], of memory that is accessed again and again: its pages stay pinned until the user unmaps them,
    /// or [`Device::unpin_dma`](crate::Device::unpin_dma) is called.
    ///
    /// # Errors
    ///
    /// As for [`Self::read`].
    pub fn read_often(&self, iova: u64, into: &mut [u8]) -> Result {
        self.read_by(vfio_bindings::ferry_dma_rw_often, iova, into)
    }

    fn read_by(&self, access: Rw, iova: u64, into: &mut [u8]) -> Result {
        if into.is_empty() {
            return Ok(());
        }

        let (data, len) = (into.as_mut_ptr(), into.len());
        check_range(iova, len)
            .and_then(|()| {
                // SAFETY: By the type invariants the device is open and has the base; `into` is ours and
                // has `len` bytes.
                to_result(unsafe {
                    access(
                        self.base.gate.as_ptr(),
                        self.epoch.get(),
                        self.vdev,
                        iova,
                        data.cast(),
                        len,
                        false,
                    )
                })
            })
            .inspect_err(|error| self.tell(iova, len, Access::Read, *error))
    }

    /// Reports an access that failed, unless the device ended it.
    fn tell(&self, iova: u64, len: usize, access: Access, error: Error) {
        if error != EINTR {
            (self.failed)(&Failure {
                iova,
                len,
                access,
                error,
            });
        }
    }

    /// Writes `bytes` to memory at `iova`. May sleep as [`Self::read`].
    ///
    /// # Errors
    ///
    /// As [`Self::read`], and `EPERM` if the mapping is read-only. On error a prefix may have been written.
    pub fn write(&self, iova: u64, bytes: &[u8]) -> Result {
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: `bytes` is so long.
        unsafe {
            self.write_raw(
                vfio_bindings::ferry_dma_rw,
                iova,
                bytes.as_ptr(),
                bytes.len(),
            )
        }
    }

    /// As [`Self::write`], to memory that is accessed again and again, see [`Self::read_often`].
    ///
    /// # Errors
    ///
    /// As for [`Self::write`].
    pub fn write_often(&self, iova: u64, bytes: &[u8]) -> Result {
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: `bytes` is so long.
        unsafe {
            self.write_raw(
                vfio_bindings::ferry_dma_rw_often,
                iova,
                bytes.as_ptr(),
                bytes.len(),
            )
        }
    }

    /// Writes bytes of a file to memory at `iova`, straight from the page cache. May sleep as [`Self::read`].
    ///
    /// # Errors
    ///
    /// As [`Self::write`].
    pub fn write_cached(&self, iova: u64, bytes: Cached<'_>) -> Result {
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: By the type's invariants the bytes are there.
        unsafe {
            self.write_raw(
                vfio_bindings::ferry_dma_rw,
                iova,
                bytes.as_ptr(),
                bytes.len(),
            )
        }
    }

    /// # Safety
    ///
    /// `len` bytes at `data` must be mapped during the call, and `len` not be 0. They may change.
    unsafe fn write_raw(&self, access: Rw, iova: u64, data: *const u8, len: usize) -> Result {
        let result = check_range(iova, len).and_then(|()| {
            // SAFETY: By the type invariants the device is open and has the base; with `write` set the
            // function only reads the data, which is there by the requirement.
            to_result(unsafe {
                access(
                    self.base.gate.as_ptr(),
                    self.epoch.get(),
                    self.vdev,
                    iova,
                    data.cast_mut().cast(),
                    len,
                    true,
                )
            })
        });
        // On error, too, a prefix may have been written.
        if let Some(log) = self.log {
            log.mark(iova, len);
        }
        result.inspect_err(|error| self.tell(iova, len, Access::Write, *error))
    }
}

/// A C function that copies between the kernel's memory and the user's.
type Rw = unsafe extern "C" fn(
    *mut vfio_bindings::ferry_dma_gate,
    c_uint,
    *mut vfio_bindings::vfio_device,
    kernel::bindings::dma_addr_t,
    *mut c_void,
    usize,
    bool,
) -> c_int;

/// Refuses a range that wraps around: the core would go on at IOVA 0.
fn check_range(iova: u64, len: usize) -> Result {
    iova.checked_add(len as u64 - 1).map(|_| ()).ok_or(EINVAL)
}
