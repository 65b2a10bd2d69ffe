// SPDX-License-Identifier: GPL-2.0

//! Memory access by the device: DMA through the user's I/O address space.
//!
//! The VFIO core copies straight between the kernel's memory and the user's pages that are mapped
//! at an I/O virtual address, in a container or in the IOAS that the device is attached to. It marks
//! those that are written in a container's dirty bitmap, so that a migration under way sees them; an
//! IOAS has none, but see [`log`](crate::log). Nothing stays pinned: as soon as the user has
//! unmapped an address, an access of it fails.
//!
//! A page fault of the user takes as long as the user has it take, but ends with the user: see
//! `rust/helpers/dma.c`.
//!
//! C header: [`include/linux/vfio.h`](srctree/include/linux/vfio.h), `vfio_dma_rw()`

use super::gate::Gate;
use crate::log::DmaLog;
use core::{
    cell::RefCell,
    fmt::Display,
    marker::PhantomData, //
};
use kernel::{
    error::to_result,
    fmt,
    mm::Mm,
    prelude::*, //
};
use kernel_ext::{
    file::Cached,
    mm::BorrowedMm, //
};

/// Which way an access goes.
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
    /// The first address, an I/O virtual one.
    pub iova: u64,
    /// Length in bytes.
    pub len: usize,
    /// Which way it goes.
    pub access: Access,
    /// Why it failed, see [`Dma::read`].
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
/// - `vdev` is open during the lifetime, and `gate` is its own.
/// - The current thread has called `ferry_dma_begin()`.
pub struct Dma<'a> {
    vdev: *mut vfio_bindings::vfio_device,
    gate: &'a Gate,
    /// The address space of the user who opened the device, which this thread has meanwhile.
    borrowed: RefCell<Option<BorrowedMm>>,
    /// Where writes are logged.
    log: Option<&'a DmaLog>,
    /// Who is told of accesses that fail.
    failed: &'a dyn Fn(&Failure),
    _open: PhantomData<&'a ()>,
}

impl<'a> Dma<'a> {
    /// Memory access by the current kernel thread, which has no address space of its own. `mm` is the
    /// one that most of the memory is likely to be in.
    ///
    /// # Safety
    ///
    /// `vdev`, whose gate is `gate`, must be open during the lifetime, and this be a kernel thread
    /// without an address space, which has no use for signals of its own.
    pub(super) unsafe fn new(
        vdev: *mut vfio_bindings::vfio_device,
        gate: &'a Gate,
        mm: Option<&Mm>,
        log: Option<&'a DmaLog>,
        failed: &'a dyn Fn(&Failure),
    ) -> Self {
        // SAFETY: By the function's requirement.
        let borrowed = mm.and_then(|mm| unsafe { BorrowedMm::new(mm) });

        // SAFETY: By the function's requirement it is a kernel thread.
        unsafe { vfio_bindings::ferry_dma_begin() };
        // INVARIANT: By the function's requirement, and `ferry_dma_begin()` was called.
        Self {
            vdev,
            gate,
            borrowed: RefCell::new(borrowed),
            log,
            failed,
            _open: PhantomData,
        }
    }

    /// Runs `access`, of `len` bytes at `iova`, in the address space of the memory's owner if that is
    /// another than ours.
    fn access(&self, iova: u64, len: usize, access: impl Fn() -> Result) -> Result {
        check_range(iova, len)?;

        match access() {
            // The core takes a thread without an address space there by itself, for every access
            // anew.
            Err(error) if error == EFAULT && self.leave_borrowed() => access(),
            result => result,
        }
    }

    /// Returns whether there was an address space to leave.
    fn leave_borrowed(&self) -> bool {
        // It is never borrowed for longer than this. (Nor does objtool know that `borrow_mut()`
        // would not return otherwise.)
        self.borrowed
            .try_borrow_mut()
            .is_ok_and(|mut borrowed| borrowed.take().is_some())
    }

    /// Reads memory at the I/O virtual address `iova`. May sleep, as long as the user has a page
    /// fault take.
    ///
    /// # Errors
    ///
    /// `EINVAL` or, in an IOAS, `ENOENT` if some of it is not mapped, `EPERM` if it is mapped without
    /// leave to read, `EFAULT` if the user has no memory there, or a page fault was ended with the
    /// user; `EINTR` once the device is being closed. What is in `into` is unspecified then.
    pub fn read(&self, iova: u64, into: &mut [u8]) -> Result {
        if into.is_empty() {
            return Ok(());
        }

        let (data, len) = (into.as_mut_ptr(), into.len());
        self.access(iova, len, || {
            // SAFETY: By the type invariants the device is open and has the gate; `into` is ours and
            // has `len` bytes.
            to_result(unsafe {
                vfio_bindings::ferry_dma_rw(
                    self.gate.as_ptr(),
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

    /// Tells of an access that failed, unless it did because the device is being closed.
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

    /// Writes `bytes` to memory at the I/O virtual address `iova`. May sleep as [`Self::read`].
    ///
    /// # Errors
    ///
    /// As [`Self::read`], `EPERM` without leave to write. Some of it may have been written then.
    pub fn write(&self, iova: u64, bytes: &[u8]) -> Result {
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: `bytes` is so long.
        unsafe { self.write_raw(iova, bytes.as_ptr(), bytes.len()) }
    }

    /// Writes bytes of a file to memory at the I/O virtual address `iova`, straight from the page
    /// cache. May sleep as [`Self::read`].
    ///
    /// # Errors
    ///
    /// As [`Self::write`].
    pub fn write_cached(&self, iova: u64, bytes: Cached<'_>) -> Result {
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: By the type's invariants the bytes are there.
        unsafe { self.write_raw(iova, bytes.as_ptr(), bytes.len()) }
    }

    /// # Safety
    ///
    /// `len` bytes at `data` must be mapped during the call, and `len` not be 0. They may change.
    unsafe fn write_raw(&self, iova: u64, data: *const u8, len: usize) -> Result {
        let result = self.access(iova, len, || {
            // SAFETY: By the type invariants the device is open and has the gate; with `write` set the
            // function only reads the data, which is there by the requirement.
            to_result(unsafe {
                vfio_bindings::ferry_dma_rw(
                    self.gate.as_ptr(),
                    self.vdev,
                    iova,
                    data.cast_mut().cast(),
                    len,
                    true,
                )
            })
        });
        // Some of it may have been written in any case.
        if let Some(log) = self.log {
            log.mark(iova, len);
        }
        result.inspect_err(|error| self.tell(iova, len, Access::Write, *error))
    }
}

impl Drop for Dma<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants this thread has called `ferry_dma_begin()`.
        unsafe { vfio_bindings::ferry_dma_end() };
    }
}

/// The core would go on at address 0 behind the last one.
fn check_range(iova: u64, len: usize) -> Result {
    iova.checked_add(len as u64 - 1).map(|_| ()).ok_or(EINVAL)
}
