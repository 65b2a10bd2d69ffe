// SPDX-License-Identifier: GPL-2.0

//! The gate that the DMA of an open device passes, so that no access outlasts the open device, see
//! `rust/helpers/dma.c`.

use kernel::{
    prelude::*,
    types::Opaque, //
};

/// Whether a device may access memory. Closed at first.
///
/// # Invariants
///
/// The gate is initialised; it is open at most while the device is open.
#[pin_data(PinnedDrop)]
pub(super) struct Gate {
    #[pin]
    inner: Opaque<vfio_bindings::ferry_dma_gate>,
}

// SAFETY: The C functions lock what they share.
unsafe impl Send for Gate {}

// SAFETY: As above.
unsafe impl Sync for Gate {}

impl Gate {
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            inner <- Opaque::ffi_init(|slot| {
                // SAFETY: `slot` is valid for writes and pinned.
                unsafe { vfio_bindings::ferry_dma_gate_init(slot) }
            }),
        })
    }

    pub(super) fn as_ptr(&self) -> *mut vfio_bindings::ferry_dma_gate {
        self.inner.get()
    }

    /// Opens the gate.
    ///
    /// # Safety
    ///
    /// The device `vdev`, whose gate this is, must be being opened, and nobody use the gate meanwhile.
    pub(super) unsafe fn open(&self, vdev: *mut vfio_bindings::vfio_device) {
        // SAFETY: By the function's requirement.
        unsafe { vfio_bindings::ferry_dma_gate_open(self.as_ptr(), vdev) };
    }

    /// Makes every access fail from here on, also one that is under way.
    pub(super) fn close(&self) {
        // SAFETY: By the type invariants the gate is initialised.
        unsafe { vfio_bindings::ferry_dma_gate_close(self.as_ptr()) };
    }

    /// Makes every access of this epoch fail from here on, also one that is under way. Does not sleep.
    pub(super) fn end(&self) {
        // SAFETY: By the type invariants the gate is initialised.
        unsafe { vfio_bindings::ferry_dma_gate_end(self.as_ptr()) };
    }

    /// Waits until no access is under way that was under way before. May sleep.
    pub(super) fn await_access(&self) {
        // SAFETY: By the type invariants the gate is initialised.
        unsafe { vfio_bindings::ferry_dma_gate_await_access(self.as_ptr()) };
    }

    /// Returns the epoch that accesses belong to which begin now.
    pub(super) fn epoch(&self) -> u32 {
        // SAFETY: By the type invariants the gate is initialised.
        unsafe { vfio_bindings::ferry_dma_gate_epoch(self.as_ptr()) }
    }

    /// Unpins what is pinned of `length` bytes from `iova` on, which are being unmapped. May sleep.
    ///
    /// # Safety
    ///
    /// `vdev` must be open, and its gate be this one.
    pub(super) unsafe fn unmap(
        &self,
        vdev: *mut vfio_bindings::vfio_device,
        iova: u64,
        length: u64,
    ) {
        // SAFETY: By the type invariants the gate is initialised; by the function's requirement.
        unsafe { vfio_bindings::ferry_dma_gate_unmap(self.as_ptr(), vdev, iova, length) };
    }

    /// Unpins all that stays pinned. May sleep.
    ///
    /// # Safety
    ///
    /// As for [`Self::unmap`], or nothing is pinned.
    pub(super) unsafe fn unpin(&self, vdev: *mut vfio_bindings::vfio_device) {
        // SAFETY: By the type invariants the gate is initialised; by the function's requirement.
        unsafe { vfio_bindings::ferry_dma_gate_unpin(self.as_ptr(), vdev) };
    }
}

#[pinned_drop]
impl PinnedDrop for Gate {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariants the gate is initialised; nobody else uses it any more.
        unsafe { vfio_bindings::ferry_dma_gate_destroy(self.as_ptr()) };
    }
}
