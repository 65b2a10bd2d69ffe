// SPDX-License-Identifier: GPL-2.0

//! A VFIO device: its callbacks, the C structure that it embeds, and its driver's data.
//!
//! C header: [`include/linux/vfio.h`](srctree/include/linux/vfio.h)

mod base;
mod operations;

pub use self::{
    base::Base,
    operations::Operations, //
};

use crate::migration::{
    revocable::RevocableDevice,
    support::Support, //
};
use core::{
    cell::UnsafeCell,
    mem::offset_of,
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    device,
    sync::Arc,
    types::Opaque, //
};
use kernel_ext::refusal::{
    Refusals,
    Refuse, //
};

type Raw<T> = <<T as Operations>::Base as Base<T>>::Raw;

/// A VFIO device with its driver's data, to which [`Deref`] leads.
///
/// # Invariants
///
/// - `raw` is at offset 0 and was initialised by `_vfio_alloc_device()`, which also owns the
///   allocation; `vfio_put_device()` drops a reference to it.
/// - `base`, `revocable`, `migration` and `data` are initialised as soon as the allocation has succeeded.
/// - `revocable` changes only while the device is being opened or closed, when no callback that gets a
///   `Device` runs.
/// - `migration` and `data` never change.
#[repr(C)]
pub struct Device<T: Operations> {
    raw: Opaque<Raw<T>>,
    base: T::Base,
    revocable: UnsafeCell<Option<Arc<RevocableDevice>>>,
    migration: Support,
    data: Arc<T>,
}

// SAFETY: The VFIO core reference-counts and locks the C structure; `T` and the base are `Send + Sync`.
unsafe impl<T: Operations> Send for Device<T> {}

// SAFETY: As above; `revocable` changes only while no callback runs.
unsafe impl<T: Operations> Sync for Device<T> {}

impl<T: Operations> Device<T> {
    /// Byte offset of the C structure.
    pub(crate) const RAW_OFFSET: usize = offset_of!(Self, raw);
    /// Byte offset of the Rust state of the base.
    pub const BASE_OFFSET: usize = offset_of!(Self, base);

    /// Converts the C structure to the device.
    ///
    /// # Safety
    ///
    /// `vdev` must be that of a `Device<T>` that is registered and stays so for the lifetime.
    pub unsafe fn from_raw<'a>(vdev: *mut vfio_bindings::vfio_device) -> &'a Self {
        // SAFETY: By the type invariants `vdev` is at offset 0 of a `Device<T>`.
        unsafe { &*vdev.cast() }
    }

    /// Initialises everything behind the C structure.
    ///
    /// # Safety
    ///
    /// `this` must be an allocation of a `Device<T>` whose C structure is initialised and that nobody else
    /// uses.
    pub(crate) unsafe fn init(this: NonNull<Self>, migration: Support, data: Arc<T>) {
        let this = this.as_ptr();

        // SAFETY: The allocation is ours and stays where it is, and these fields are not initialised.
        unsafe {
            pin_init::raw_init(&raw mut (*this).base, T::Base::new());
            (&raw mut (*this).revocable).write(UnsafeCell::new(None));
            (&raw mut (*this).migration).write(migration);
            (&raw mut (*this).data).write(data);
        }
    }

    /// Drops everything behind the C structure.
    ///
    /// # Safety
    ///
    /// [`Self::init`] must have been called, and nobody use the device any more.
    pub(crate) unsafe fn deinit(this: *mut Self) {
        // SAFETY: By the function's requirement these are initialised, and not used again.
        unsafe {
            (&raw mut (*this).data).drop_in_place();
            (&raw mut (*this).revocable).drop_in_place();
            (&raw mut (*this).base).drop_in_place();
        }
    }

    /// The C structure of the base.
    pub fn as_raw(&self) -> *mut Raw<T> {
        self.raw.get()
    }

    /// The `struct vfio_device` at the start of the C structure.
    pub fn as_vfio_device(&self) -> *mut vfio_bindings::vfio_device {
        self.raw.get().cast()
    }

    /// The Rust state of the base.
    pub fn base(&self) -> &T::Base {
        &self.base
    }

    /// The migration protocol v2 that users see.
    pub(crate) fn migration(&self) -> Support {
        self.migration
    }

    /// The link of data files to the open device, if the device migrates by protocol v2.
    pub(crate) fn revocable(&self) -> Option<&Arc<RevocableDevice>> {
        // SAFETY: By the type invariants it does not change while it is borrowed: a callback of an open
        // device runs while the device is neither opened nor closed, or opens or closes it.
        unsafe { (*self.revocable.get()).as_ref() }
    }

    /// # Safety
    ///
    /// The device must be being opened or closed, with no other callback running and nobody borrowing
    /// [`Self::revocable`].
    pub(crate) unsafe fn set_revocable(&self, revocable: Option<Arc<RevocableDevice>>) {
        // SAFETY: By the function's requirement.
        unsafe { *self.revocable.get() = revocable };
    }
}

impl<T: Operations> Deref for Device<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.data
    }
}

impl<T: Operations + AsRef<Refusals>> Refuse for Device<T> {
    fn refusals(&self) -> &Refusals {
        T::as_ref(self)
    }
}

impl<T: Operations> AsRef<device::Device> for Device<T> {
    fn as_ref(&self) -> &device::Device {
        // SAFETY: `dev` is set by `_vfio_alloc_device()`, and outlives the registered VFIO device.
        unsafe { device::Device::from_raw((*self.as_vfio_device()).dev) }
    }
}
