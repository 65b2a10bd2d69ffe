// SPDX-License-Identifier: GPL-2.0

//! The Rust state of an emulated device.

use super::{
    gate::Gate,
    work::WorkItem, //
};
use core::cell::UnsafeCell;
use kernel::{
    mm::Mm,
    prelude::*,
    sync::aref::ARef, //
};

/// The base of an emulated device, which embeds nothing but a `struct vfio_device`. The driver itself does the
/// DMA, in a kernel worker, through the user's I/O address space.
///
/// # Invariants
///
/// - `work` is queued only while the device is open, and cancelled before the device is closed.
/// - `gate` is open, and has an owner, at most while the device is open.
/// - `user`, the address space of the process that opened the device, changes only while the device is
///   being opened or closed, when no callback runs and `work` is not queued.
#[pin_data]
pub struct Emulated {
    #[pin]
    pub(super) work: WorkItem,
    #[pin]
    pub(super) gate: Gate,
    pub(super) user: UnsafeCell<Option<ARef<Mm>>>,
}

// SAFETY: By the type invariants `user` changes only while nobody else uses it; the rest is `Send + Sync`.
unsafe impl Sync for Emulated {}

impl Emulated {
    /// Forgets what belongs to one open.
    ///
    /// # Safety
    ///
    /// The device must be being opened or closed after the gate was opened, with no callback running and
    /// no work under way.
    pub(super) unsafe fn forget_user(&self) {
        // SAFETY: By the function's requirement.
        unsafe {
            self.gate.release();
            *self.user.get() = None;
        }
    }
}
