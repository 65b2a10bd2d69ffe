// SPDX-License-Identifier: GPL-2.0

//! Address spaces of users in kernel threads.
//!
//! C header: [`include/linux/kthread.h`](srctree/include/linux/kthread.h)

use core::marker::PhantomData;
use kernel::{
    bindings,
    mm::{
        Mm,
        MmWithUser, //
    },
    sync::aref::ARef, //
};

/// A user's address space that the current kernel thread has entered. Entering and leaving it costs more
/// than a short access, so a thread enters it once for many accesses.
///
/// # Invariants
///
/// The current thread has called `kthread_use_mm()` with it, and no other since.
pub struct BorrowedMm {
    mm: ARef<MmWithUser>,
    /// The address space is entered by this thread only.
    _not_send: PhantomData<*mut ()>,
}

impl BorrowedMm {
    /// Enters the address space `mm`. Returns [`None`] if the user is gone.
    ///
    /// # Safety
    ///
    /// This must be a kernel thread without an address space, which does not sleep for good with it.
    pub unsafe fn new(mm: &Mm) -> Option<Self> {
        let mm = mm.mmget_not_zero()?;

        // SAFETY: By the function's requirement, and the address space has users.
        unsafe { bindings::kthread_use_mm(mm.as_raw()) };
        // INVARIANT: `kthread_use_mm()` was called just now.
        Some(Self {
            mm,
            _not_send: PhantomData,
        })
    }
}

impl Drop for BorrowedMm {
    fn drop(&mut self) {
        // SAFETY: By the type invariants this thread has it.
        unsafe { bindings::kthread_unuse_mm(self.mm.as_raw()) };
    }
}
