// SPDX-License-Identifier: GPL-2.0

//! Registration of a VFIO device.

use crate::{
    device::{
        Base,
        Device,
        Operations, //
    },
    migration::Support,
    trampolines::Trampolines, //
};
use core::{
    mem::{
        align_of,
        size_of, //
    },
    ptr::NonNull, //
};
use kernel::{
    bindings,
    device::{
        self,
        Bound, //
    },
    error::from_err_ptr,
    prelude::*,
    sync::Arc, //
};

/// A registered VFIO device. Dropping it takes the device away from users, which waits until the
/// last file is closed.
///
/// # Invariants
///
/// The pointer is to a registered device, and this value owns the reference of its allocation.
pub struct Registration<T: Operations>(NonNull<Device<T>>);

// SAFETY: Registration and unregistration may happen in different threads.
unsafe impl<T: Operations> Send for Registration<T> {}

// SAFETY: Only gives out `&Device<T>`, which is `Sync`.
unsafe impl<T: Operations> Sync for Registration<T> {}

impl<T: Operations> Registration<T> {
    /// Makes a VFIO device for `parent` and lets users open it. `migration` is the migration protocol v2
    /// that users see for as long as the device is registered.
    ///
    /// # Safety
    ///
    /// The registration must be dropped before `parent` is unbound.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or what [`Base::register`] returns.
    pub unsafe fn new(
        parent: &device::Device<Bound>,
        data: Arc<T>,
        migration: Support,
    ) -> Result<Self> {
        const {
            assert!(Device::<T>::RAW_OFFSET == 0);
            // What `kvzalloc()` promises.
            assert!(align_of::<Device<T>>() <= align_of::<u64>());
        }

        // SAFETY: The parent is valid, the vtable is static, and the size covers the whole type.
        let vdev = from_err_ptr(unsafe {
            vfio_bindings::_vfio_alloc_device(
                size_of::<Device<T>>(),
                core::ptr::from_ref(parent).cast_mut().cast(),
                Trampolines::<T>::OPS,
            )
        })?;
        // SAFETY: The core wants them before the registration, and the device is not registered.
        unsafe {
            (*vdev).migration_flags = migration.flags.bits() as u32;
            (*vdev).mig_ops = migration.ops;
            (*vdev).log_ops = T::LOG.ops;
        }
        // SAFETY: The allocation has the size of a `Device<T>`.
        let this = unsafe { NonNull::new_unchecked(vdev.cast::<Device<T>>()) };
        // SAFETY: The allocation is ours, and its C structure initialised.
        unsafe { Device::init(this, migration, data) };
        // A failure from here on puts the device, whose release drops the rest.
        let put_on_error = Unregistered(this);

        // SAFETY: The device is initialised and not registered.
        unsafe { T::Base::register(this.as_ptr().cast()) }?;

        core::mem::forget(put_on_error);
        // INVARIANT: The device is registered, and we own the allocation's reference.
        Ok(Self(this))
    }

    /// Gives the registration to the driver core, which returns it by [`Self::from_raw`].
    pub fn into_raw(self) -> NonNull<Device<T>> {
        let this = self.0;

        core::mem::forget(self);
        this
    }

    /// Takes a registration back.
    ///
    /// # Safety
    ///
    /// `this` must come from [`Self::into_raw`], and be taken back once.
    pub unsafe fn from_raw(this: NonNull<Device<T>>) -> Self {
        // INVARIANT: By the function's requirement.
        Self(this)
    }

    /// Whether a user has the device open, even if only its character device.
    pub fn is_held(&self) -> bool {
        // SAFETY: By the type invariants the device is registered.
        unsafe { vfio_bindings::ferry_vfio_is_held(self.0.as_ptr().cast()) }
    }

    /// The migration protocol v2 that users see.
    pub fn migration(&self) -> Support {
        // SAFETY: By the type invariants the device is valid.
        unsafe { self.0.as_ref() }.migration()
    }
}

impl<T: Operations> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the device is registered.
        unsafe { T::Base::unregister(self.0.as_ptr().cast()) };

        drop(Unregistered(self.0));
    }
}

/// A device that was allocated and is not registered, or no longer.
///
/// # Invariants
///
/// The pointer is valid, and this value owns the reference of the allocation.
struct Unregistered<T: Operations>(NonNull<Device<T>>);

impl<T: Operations> Drop for Unregistered<T> {
    fn drop(&mut self) {
        let vdev: *mut vfio_bindings::vfio_device = self.0.as_ptr().cast();

        // SAFETY: By the type invariants the device is valid and the reference ours:
        // `vfio_put_device()`.
        unsafe { bindings::put_device(&raw mut (*vdev).device) };
    }
}
