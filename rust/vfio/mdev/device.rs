// SPDX-License-Identifier: GPL-2.0

//! The mediated device, `struct mdev_device`.

use kernel::{
    bindings,
    device::{
        self,
        Bound, //
    },
    prelude::*,
    types::Opaque, //
};

/// A mediated device.
///
/// # Invariants
///
/// The underlying `struct mdev_device` is valid, and bound to its driver or being bound.
#[repr(transparent)]
pub struct Device(Opaque<vfio_bindings::mdev_device>);

impl Device {
    pub(super) fn as_device_ptr(&self) -> *mut bindings::device {
        // SAFETY: By the type invariants the pointer is valid.
        unsafe { &raw mut (*self.0.get()).dev }
    }

    /// Its name, which is a UUID.
    pub fn name(&self) -> &CStr {
        let device: &device::Device<Bound> = self.as_ref();

        device.name()
    }
}

impl AsRef<device::Device<Bound>> for Device {
    fn as_ref(&self) -> &device::Device<Bound> {
        // SAFETY: By the type invariants the device is valid and bound.
        unsafe { device::Device::from_raw(self.as_device_ptr()) }
    }
}
