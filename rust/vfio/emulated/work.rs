// SPDX-License-Identifier: GPL-2.0

//! The work item of a device, on the workqueue of `rust/helpers/work.c`.

use kernel::{
    bindings,
    prelude::*,
    types::Opaque, //
};

/// A work item. It is queued only while the device is open, and cancelled before the device is closed.
///
/// # Invariants
///
/// The item is initialised.
// Transparent, so that the pointer that the workqueue passes to the function is one to the item.
#[pin_data]
#[repr(transparent)]
pub(super) struct WorkItem {
    #[pin]
    inner: Opaque<bindings::work_struct>,
}

// SAFETY: The workqueue locks its items itself.
unsafe impl Send for WorkItem {}

// SAFETY: As above.
unsafe impl Sync for WorkItem {}

impl WorkItem {
    /// An item that calls `function` with a pointer to itself.
    pub(super) fn new(
        function: unsafe extern "C" fn(*mut bindings::work_struct),
    ) -> impl PinInit<Self> {
        pin_init!(Self {
            inner <- Opaque::ffi_init(move |slot| {
                // SAFETY: `slot` is valid for writes and pinned.
                unsafe { vfio_bindings::ferry_work_init(slot, Some(function)) }
            }),
        })
    }

    /// Queues the item. Can be called in any context.
    pub(super) fn queue(&self) {
        // SAFETY: By the type invariants the item is initialised.
        unsafe { vfio_bindings::ferry_work_queue(self.inner.get()) };
    }

    /// Waits until the item is neither running nor queued. May sleep.
    pub(super) fn cancel(&self) {
        // SAFETY: By the type invariants the item is initialised.
        unsafe { bindings::cancel_work_sync(self.inner.get()) };
    }
}
