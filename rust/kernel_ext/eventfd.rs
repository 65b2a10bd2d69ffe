// SPDX-License-Identifier: GPL-2.0

//! Eventfds, by which the kernel tells a user of an event.
//!
//! C header: [`include/linux/eventfd.h`](srctree/include/linux/eventfd.h)

use core::ptr::NonNull;
use kernel::{
    bindings,
    error::from_err_ptr,
    prelude::*, //
};

/// A counted reference to an eventfd that a user handed in.
///
/// # Invariants
///
/// The pointer is valid and this value owns one reference to it.
pub struct EventFd(NonNull<bindings::eventfd_ctx>);

// SAFETY: An `eventfd_ctx` is reference-counted and may be used and put from any thread.
unsafe impl Send for EventFd {}

// SAFETY: `eventfd_signal_mask()` takes the context's own lock.
unsafe impl Sync for EventFd {}

impl EventFd {
    /// Takes a reference to the eventfd behind `fd` of the current process.
    ///
    /// # Errors
    ///
    /// `EBADF` if `fd` is not open, `EINVAL` if it is not an eventfd.
    pub fn from_fd(fd: i32) -> Result<Self> {
        // SAFETY: Any number is allowed; the function looks it up in the current process.
        let ctx = from_err_ptr(unsafe { bindings::eventfd_ctx_fdget(fd) })?;

        // INVARIANT: `eventfd_ctx_fdget()` took a reference for us.
        Ok(Self(NonNull::new(ctx).ok_or(EBADF)?))
    }

    /// Adds one to the counter and wakes the eventfd's waiters. Can be called in any context.
    pub fn signal(&self) {
        // SAFETY: By the type invariants the context is valid.
        unsafe { bindings::eventfd_signal_mask(self.0.as_ptr(), 0) };
    }
}

impl Drop for EventFd {
    fn drop(&mut self) {
        // SAFETY: By the type invariants we own the reference that is put.
        unsafe { bindings::eventfd_ctx_put(self.0.as_ptr()) };
    }
}
