// SPDX-License-Identifier: GPL-2.0

//! A device of a class of its own: a parent for devices that belong to no bus, such as mediated devices.
//!
//! C header: [`include/linux/device/class.h`](srctree/include/linux/device/class.h)

use core::ptr::NonNull;
use kernel::{
    bindings,
    device,
    error::from_err_ptr,
    prelude::*, //
};

/// A class and its only device, both of the same name: `/sys/class/<name>/<name>`.
///
/// # Invariants
///
/// Both pointers are valid; the class and the device are registered.
pub struct ClassDevice {
    class: NonNull<bindings::class>,
    device: NonNull<bindings::device>,
}

// SAFETY: The driver core locks classes and devices itself; the drop may run in any thread.
unsafe impl Send for ClassDevice {}

// SAFETY: As above.
unsafe impl Sync for ClassDevice {}

impl ClassDevice {
    /// Registers the class and its device.
    ///
    /// # Errors
    ///
    /// `EEXIST` if the name is taken, `ENOMEM`.
    pub fn new(name: &'static CStr) -> Result<Self> {
        // SAFETY: `name` lives as long as the class.
        let class = from_err_ptr(unsafe { bindings::class_create(name.as_char_ptr()) })?;

        // SAFETY: The class is registered; no parent and no device number are allowed; the format
        // takes exactly one string.
        let device = from_err_ptr(unsafe {
            bindings::device_create(
                class,
                core::ptr::null_mut(),
                0,
                core::ptr::null_mut(),
                c"%s".as_char_ptr(),
                name.as_char_ptr(),
            )
        })
        .inspect_err(|_| {
            // SAFETY: We registered the class above and nothing uses it.
            unsafe { bindings::class_destroy(class) };
        })?;

        // INVARIANT: Both calls succeeded, so that neither pointer is NULL or an error.
        Ok(Self {
            class: NonNull::new(class).ok_or(ENOMEM)?,
            device: NonNull::new(device).ok_or(ENOMEM)?,
        })
    }
}

impl AsRef<device::Device> for ClassDevice {
    fn as_ref(&self) -> &device::Device {
        // SAFETY: By the type invariants the device is registered, thus referenced.
        unsafe { device::Device::from_raw(self.device.as_ptr()) }
    }
}

impl Drop for ClassDevice {
    fn drop(&mut self) {
        // SAFETY: By the type invariants both are registered, and we are their only owner.
        unsafe {
            bindings::device_unregister(self.device.as_ptr());
            bindings::class_destroy(self.class.as_ptr());
        }
    }
}
