// SPDX-License-Identifier: GPL-2.0

//! Registration of a driver of mediated devices, with its parent device and its types.

use super::{
    device::Device,
    driver::Driver,
    instance::Instance, //
};
use crate::registration::Registration as VfioRegistration;
use core::marker::{
    PhantomData,
    PhantomPinned, //
};
use kernel::{
    bindings, device,
    error::{
        from_result,
        to_result, //
    },
    ffi::{
        c_char,
        c_int, //
    },
    module::this_module,
    prelude::*,
    sync::Arc,
    types::{
        ForeignOwnable,
        Opaque, //
    },
};
use kernel_ext::{
    class::ClassDevice,
    sysfs, //
};

/// A registered driver with its parent device.
pub struct Registration<T: Driver> {
    inner: Pin<KBox<Inner<T>>>,
    // Dropped last: the driver's `drop()` unregisters the types, which hang off the parent.
    _parent: ClassDevice,
}

/// # Invariants
///
/// `types` and `type_pointers` do not change, and each pointer is to the type of its index.
#[pin_data]
struct Inner<T: Driver> {
    #[pin]
    driver: Opaque<vfio_bindings::mdev_driver>,
    #[pin]
    parent: Opaque<vfio_bindings::mdev_parent>,
    types: KVec<Opaque<vfio_bindings::mdev_type>>,
    type_pointers: KVec<*mut vfio_bindings::mdev_type>,
    #[pin]
    _pin: PhantomPinned,
    _driver: PhantomData<T>,
}

// SAFETY: The mdev core locks what it shares; the rest does not change once it is registered.
unsafe impl<T: Driver> Send for Registration<T> {}

// SAFETY: Nothing can be done with a shared reference.
unsafe impl<T: Driver> Sync for Registration<T> {}

impl<T: Driver> Registration<T> {
    /// Registers the class, the parent device, the driver and its types.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or what the driver core and the mdev core return.
    pub fn new() -> Result<Self> {
        let parent = ClassDevice::new(T::NAME)?;
        let parent_device: &device::Device = parent.as_ref();
        let (types, type_pointers) = Self::types()?;

        let inner = KBox::pin_init(
            pin_init!(Inner::<T> {
                driver: Opaque::new(Self::driver()),
                parent: Opaque::zeroed(),
                types,
                type_pointers,
                _pin: PhantomPinned,
                _driver: PhantomData,
            }),
            GFP_KERNEL,
        )?;

        // SAFETY: The driver is pinned, and unregistered before it is freed.
        to_result(unsafe { vfio_bindings::mdev_register_driver(inner.driver.get()) })?;

        // SAFETY: All of it is pinned or on the heap, and lives until `mdev_unregister_parent()`;
        // the parent device is registered. The core only reads the array of types.
        to_result(unsafe {
            vfio_bindings::mdev_register_parent(
                inner.parent.get(),
                core::ptr::from_ref(parent_device).cast_mut().cast(),
                inner.driver.get(),
                inner.type_pointers.as_ptr().cast_mut(),
                // A driver has a handful of types.
                inner.type_pointers.len() as u32,
            )
        })
        .inspect_err(|_| {
            // SAFETY: The driver was registered above.
            unsafe { vfio_bindings::mdev_unregister_driver(inner.driver.get()) };
        })?;

        Ok(Self {
            inner,
            _parent: parent,
        })
    }

    fn driver() -> vfio_bindings::mdev_driver {
        vfio_bindings::mdev_driver {
            device_api: c"vfio-pci".as_char_ptr(),
            max_instances: T::MAX_INSTANCES,
            probe: Some(Self::probe_callback),
            remove: Some(Self::remove_callback),
            get_available: None,
            show_description: Some(Self::show_description_callback),
            driver: bindings::device_driver {
                name: T::NAME.as_char_ptr(),
                // The mdev core does not set the owner. With an owner an open device holds the module.
                owner: this_module::<T::OwnerModule>().as_ptr(),
                // SAFETY: The driver data of a device is an `Instance<T::Data>` from the probe to the
                // remove, and the files are removed before that.
                dev_groups: unsafe {
                    sysfs::Groups::<T::Attributes, T::MoreAttributes>::dev_groups()
                },
                ..Default::default()
            },
        }
    }

    fn types() -> Result<(
        KVec<Opaque<vfio_bindings::mdev_type>>,
        KVec<*mut vfio_bindings::mdev_type>,
    )> {
        let mut types = KVec::with_capacity(T::TYPES.len(), GFP_KERNEL)?;
        let mut pointers = KVec::with_capacity(T::TYPES.len(), GFP_KERNEL)?;
        for type_ in T::TYPES {
            types.push(
                Opaque::new(vfio_bindings::mdev_type {
                    sysfs_name: type_.sysfs_name.as_char_ptr(),
                    pretty_name: type_.pretty_name.as_char_ptr(),
                    ..Default::default()
                }),
                GFP_KERNEL,
            )?;
        }
        // The addresses are taken only now, as the vector no longer moves.
        for type_ in types.iter() {
            pointers.push(type_.get(), GFP_KERNEL)?;
        }

        Ok((types, pointers))
    }

    /// # Safety
    ///
    /// `type_` must be one that this driver registered.
    unsafe fn type_index(type_: *mut vfio_bindings::mdev_type) -> Option<usize> {
        // SAFETY: By the function's requirement the core has set the type's parent, which is
        // registered with our array of pointers.
        let (pointers, count) = unsafe {
            let parent = (*type_).parent;
            ((*parent).types, (*parent).nr_types)
        };

        (0..count as usize)
            // SAFETY: The array has `count` elements.
            .find(|i| unsafe { *pointers.add(*i) } == type_)
    }

    /// # Safety
    ///
    /// Called by the mdev core with a device of one of this driver's types.
    unsafe extern "C" fn probe_callback(mdev: *mut vfio_bindings::mdev_device) -> c_int {
        from_result(|| {
            // SAFETY: By the function's requirement.
            let type_index = unsafe { Self::type_index((*mdev).type_) }.ok_or(EINVAL)?;
            // SAFETY: `Device` is a transparent wrapper, valid during the call.
            let device = unsafe { &*mdev.cast::<Device>() };

            let data = Arc::pin_init(T::probe(device, type_index), GFP_KERNEL)?;
            let bound = device.as_ref();
            // SAFETY: The instance owns the registration, and is dropped when the device is unbound.
            let vfio = unsafe { VfioRegistration::new(bound, data.clone(), T::MIGRATION) }?;
            // SAFETY: The device is being bound, and `remove_callback()` drops the instance.
            let instance = unsafe { Instance::new(device, data, vfio) };
            let instance = KBox::pin_init(instance, GFP_KERNEL)?;
            // SAFETY: The device is being bound to us, so that the driver data is ours.
            unsafe {
                bindings::dev_set_drvdata(device.as_device_ptr(), instance.into_foreign().cast())
            };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the mdev core with a device whose probe succeeded, once.
    unsafe extern "C" fn remove_callback(mdev: *mut vfio_bindings::mdev_device) {
        // SAFETY: By the function's requirement the driver data is what the probe set, and nobody uses it
        // any more: the attributes are removed.
        let instance = unsafe {
            <Pin<KBox<Instance<T::Data>>> as ForeignOwnable>::from_foreign(
                bindings::dev_get_drvdata(&raw mut (*mdev).dev).cast(),
            )
        };

        drop(instance);
    }

    /// # Safety
    ///
    /// Called by the mdev core with one of this driver's types and a buffer of one page.
    unsafe extern "C" fn show_description_callback(
        type_: *mut vfio_bindings::mdev_type,
        buf: *mut c_char,
    ) -> isize {
        from_result(|| {
            // SAFETY: By the function's requirement.
            let index = unsafe { Self::type_index(type_) }.ok_or(EINVAL)?;
            let description = T::TYPES.get(index).ok_or(EINVAL)?.description;
            // SAFETY: `buf` is a page of sysfs, and the format takes exactly one string.
            let len = unsafe {
                bindings::sysfs_emit(buf, c"%s\n".as_char_ptr(), description.as_char_ptr())
            };
            // The length is at most a page.
            Ok(len as isize)
        })
    }
}

impl<T: Driver> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: Both were registered in `new()`.
        unsafe {
            vfio_bindings::mdev_unregister_parent(self.inner.parent.get());
            vfio_bindings::mdev_unregister_driver(self.inner.driver.get());
        }
    }
}
