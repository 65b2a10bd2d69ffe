// SPDX-License-Identifier: GPL-2.0

//! Mediated devices: a driver whose devices an administrator makes through sysfs.
//!
//! A [`Registration`] owns the parent device, the driver and its types. Dropping it removes the
//! devices that are left, which waits until they are closed; the module cannot be unloaded while
//! one is open.
//!
//! C header: [`include/linux/mdev.h`](srctree/include/linux/mdev.h)

use crate::{
    device::{
        Operations,
        Registration as VfioRegistration, //
    },
    migration, //
};
use core::{
    marker::{
        PhantomData,
        PhantomPinned, //
    },
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::{
        from_result,
        to_result, //
    },
    ffi::{
        c_char,
        c_int, //
    },
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
    types::{
        ForeignOwnable,
        Opaque, //
    },
    ThisModule, //
};
use kernel_ext::{
    class::ClassDevice,
    new_lock,
    refusal::{
        Refusals,
        Refuse, //
    },
    sysfs, //
};

/// A mediated device.
///
/// # Invariants
///
/// The underlying `struct mdev_device` is valid.
#[repr(transparent)]
pub struct Device(Opaque<vfio_bindings::mdev_device>);

impl Device {
    pub(crate) fn as_device_ptr(&self) -> *mut bindings::device {
        // SAFETY: By the type invariants the pointer is valid.
        unsafe { &raw mut (*self.0.get()).dev }
    }

    /// Its name, which is a UUID.
    pub fn name(&self) -> &CStr {
        // SAFETY: By the type invariants the device is valid.
        let device: &kernel::device::Device =
            unsafe { kernel::device::Device::from_raw(self.as_device_ptr()) };

        device.name()
    }
}

/// A kind of device that an administrator can choose.
pub struct Type {
    /// Name in sysfs, after the parent's name and a hyphen.
    pub sysfs_name: &'static CStr,
    /// Short name for people.
    pub pretty_name: &'static CStr,
    /// What the device is.
    pub description: &'static CStr,
}

/// A mediated device that is bound to its driver: the driver's data, to which [`Deref`] leads, and the
/// VFIO device through which users get to it.
///
/// The VFIO device is made anew where users are to be told something else of it than they were: what it
/// is registered with never changes.
///
/// # Invariants
///
/// The mdev is bound, and its driver data is this.
#[pin_data]
pub struct Instance<T: Operations> {
    mdev: NonNull<vfio_bindings::mdev_device>,
    data: Arc<T>,
    /// [`None`] if the last attempt to make it anew has failed.
    #[pin]
    vfio: Mutex<Option<VfioRegistration<T>>>,
}

// SAFETY: An mdev may be used from any thread; `T` is `Send + Sync`.
unsafe impl<T: Operations> Send for Instance<T> {}

// SAFETY: As above.
unsafe impl<T: Operations> Sync for Instance<T> {}

impl<T: Operations> Instance<T> {
    fn mdev(&self) -> &Device {
        // SAFETY: By the type invariants the mdev is valid, and `Device` is a transparent wrapper.
        unsafe { self.mdev.cast().as_ref() }
    }

    /// Whether there is a VFIO device.
    pub fn is_registered(&self) -> bool {
        self.vfio.lock().is_some()
    }

    /// Takes the VFIO device away, calls `between`, and makes one with another `migration`. Called by a
    /// sysfs attribute of the mdev.
    ///
    /// # Errors
    ///
    /// `EBUSY` if somebody has the VFIO device open, be it a character device that is not bound: to wait
    /// for that can take for ever, and no signal ends it. As [`VfioRegistration::new`]; then there is a
    /// VFIO device as before, or none if that cannot be registered either.
    pub fn register_anew(&self, migration: migration::Support, between: impl FnOnce()) -> Result {
        let mut vfio = self.vfio.lock();

        let former = match &*vfio {
            Some(registration) if registration.is_held() => return Err(EBUSY),
            Some(registration) => registration.migration(),
            None => migration,
        };
        // Whoever opens the character device just now finds it gone when it is bound.
        drop(vfio.take());
        between();
        let register = |migration| VfioRegistration::new(self.mdev(), self.data.clone(), migration);
        match register(migration) {
            Ok(registration) => *vfio = Some(registration),
            Err(error) => {
                *vfio = register(former).ok();
                return Err(error);
            }
        }
        Ok(())
    }
}

impl<T: Operations> Deref for Instance<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.data
    }
}

impl<T: Operations> Refuse for Instance<T> {
    fn refusals(&self) -> &Refusals {
        self.data.refusals()
    }
}

impl<T: Operations> AsRef<kernel::device::Device> for Instance<T> {
    fn as_ref(&self) -> &kernel::device::Device {
        // SAFETY: By the type invariants the mdev is valid.
        unsafe { kernel::device::Device::from_raw(self.mdev().as_device_ptr()) }
    }
}

/// What a driver of mediated PCI devices implements, `struct mdev_driver`.
pub trait Driver: Sized + 'static {
    /// The private data of an mdev and of its VFIO device.
    type Data: Operations;
    /// Sysfs attributes of a device.
    type Attributes: sysfs::Group<Data = Instance<Self::Data>>;
    /// Sysfs attributes in a second directory.
    type MoreAttributes: sysfs::Group<Data = Instance<Self::Data>>;

    /// Name of the driver, and of the class and the parent device.
    const NAME: &'static CStr;
    /// The types, in a fixed order.
    const TYPES: &'static [Type];
    /// How many devices of all types together there can be.
    const MAX_INSTANCES: u32;

    /// What users are told of protocol v2 at first.
    const MIGRATION: migration::Support;

    /// Makes the data of an mdev of type `TYPES[type_index]`.
    fn probe(mdev: &Device, type_index: usize) -> impl PinInit<Self::Data, Error>;
}

/// A registered driver with its parent device.
pub struct Registration<T: Driver> {
    inner: Pin<KBox<Inner<T>>>,
    // Dropped last: the driver's `drop()` unregisters what hangs off it.
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
    /// Registers the class, the parent device, the driver and its types, for `module`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or what the driver core and the mdev core return.
    pub fn new(module: &'static ThisModule) -> Result<Self> {
        let parent = ClassDevice::new(T::NAME)?;
        let parent_device: &kernel::device::Device = parent.as_ref();
        let (types, type_pointers) = Self::types()?;

        let inner = KBox::pin_init(
            pin_init!(Inner::<T> {
                driver: Opaque::new(Self::driver(module)),
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
                // There are a handful.
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

    fn driver(module: &'static ThisModule) -> vfio_bindings::mdev_driver {
        vfio_bindings::mdev_driver {
            device_api: c"vfio-pci".as_char_ptr(),
            max_instances: T::MAX_INSTANCES,
            probe: Some(Self::probe_callback),
            remove: Some(Self::remove_callback),
            get_available: None,
            show_description: Some(Self::show_description_callback),
            driver: bindings::device_driver {
                name: T::NAME.as_char_ptr(),
                // The mdev core leaves it to the driver; with it an open device holds the module.
                owner: module.as_ptr(),
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
        // Only now, as the vector no longer moves.
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
            let registration = VfioRegistration::new(device, data.clone(), T::MIGRATION)?;
            // INVARIANT: It becomes the driver data of the mdev, which is being bound.
            let instance = KBox::pin_init(
                pin_init!(Instance {
                    mdev: NonNull::from(device).cast(),
                    data,
                    vfio <- new_lock!(Mutex, c"Instance::vfio", Some(registration)),
                }),
                GFP_KERNEL,
            )?;
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
        // SAFETY: By the function's requirement the driver data is what the probe set, and nobody has it
        // any more: the attributes are gone.
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
            // At most a page.
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
