// SPDX-License-Identifier: GPL-2.0

//! Calls to work from where there is no device.

use super::{
    operations::Operations,
    work::Worker, //
};
use crate::device::Device;
use core::ptr::NonNull;
use kernel::{
    device,
    sync::aref::ARef, //
};
use kernel_ext::file::Notify;

/// Has the worker of a device called, if the device is open.
///
/// # Invariants
///
/// `worker` is that of a device which `_device` keeps in memory.
#[derive(Clone)]
pub struct Waker {
    worker: NonNull<Worker>,
    _device: ARef<device::Device>,
}

// SAFETY: The worker and the reference may be used by any thread.
unsafe impl Send for Waker {}

// SAFETY: As above.
unsafe impl Sync for Waker {}

impl Waker {
    /// As [`Device::kick`], in any context, with any lock held or none.
    pub fn wake(&self) {
        // SAFETY: By the type invariants.
        unsafe { self.worker.as_ref() }.kick();
    }
}

impl Notify for Waker {
    fn notify(&self) {
        self.wake();
    }
}

impl<T: Operations> Device<T> {
    /// Returns what has the device's worker called.
    pub fn waker(&self) -> Waker {
        // SAFETY: The structure device of the VFIO device is initialised, and referenced as long as `self` is borrowed.
        let device = unsafe {
            let device = &raw mut (*self.as_vfio_device()).device;
            device::Device::get_device(device.cast())
        };

        // INVARIANT: The worker is in the allocation of the device, which lasts as long as the reference.
        Waker {
            worker: NonNull::from(&self.base().worker),
            _device: device,
        }
    }
}
