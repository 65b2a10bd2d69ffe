// SPDX-License-Identifier: GPL-2.0

//! The PCI driver: which functions it binds, and how.
//!
//! `kernel::pci` cannot be used: the driver data must be the `vfio_pci_core_device`, and a variant driver has error
//! handlers and manages DMA itself.
//!
//! C header: [`include/linux/pci.h`](srctree/include/linux/pci.h), `struct pci_driver`

use crate::{
    function::Identity,
    operations::Operations,
    trampolines::ErrorHandlers,
    Id, //
};
use core::{
    marker::{
        PhantomData,
        PhantomPinned, //
    },
    ptr::NonNull,
};
use kernel::{
    bindings,
    device::{
        self,
        Bound, //
    },
    device_id::IdTable,
    error::{
        from_result,
        to_result, //
    },
    ffi::c_int,
    module::this_module,
    prelude::*,
    sync::Arc,
    types::Opaque,
    ModuleMetadata, //
};
use kernel_ext::{
    refusal::Refusals,
    sysfs, //
};
use vfio::{
    migration::Support,
    Device,
    Registration as VfioRegistration, //
};

/// A variant driver.
pub trait Driver: Sized + 'static {
    /// The driver's module: its `LocalModule`.
    type OwnerModule: ModuleMetadata;
    /// The private data of a device.
    type Data: Operations + AsRef<Refusals>;
    /// A directory of attributes in that of the PCI device.
    type Attributes: sysfs::Group<Data = Device<Self::Data>>;

    /// Name of the driver.
    const NAME: &'static CStr;
    /// The functions that the driver can be given, see [`device_table`](crate::device_table).
    const IDS: &'static dyn IdTable<Id, ()>;
    /// The migration protocol v2 that users see.
    const MIGRATION: Support;

    /// Makes the data of a function.
    fn probe(
        device: &device::Device<Bound>,
        identity: &Identity,
    ) -> impl PinInit<Self::Data, Error>;
}

/// A driver has no attributes but [`Driver::Attributes`].
struct NoAttributes<T>(PhantomData<T>);

impl<T: Driver> sysfs::Directories for NoAttributes<T> {
    type Data = Device<T::Data>;

    const DIRECTORIES: &'static [sysfs::Directory<Self::Data>] = &[];
}

/// A registered driver.
pub struct Registration<T: Driver> {
    driver: Pin<KBox<PciDriver>>,
    _driver: PhantomData<T>,
}

#[pin_data]
struct PciDriver {
    #[pin]
    raw: Opaque<bindings::pci_driver>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: The PCI core locks what it shares; the rest does not change once it is registered.
unsafe impl<T: Driver> Send for Registration<T> {}

// SAFETY: Nothing can be done with a shared reference.
unsafe impl<T: Driver> Sync for Registration<T> {}

impl<T: Driver> Registration<T> {
    /// Registers the driver.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EEXIST`.
    pub fn new() -> Result<Self> {
        let driver = KBox::pin_init(
            pin_init!(PciDriver {
                raw: Opaque::new(bindings::pci_driver {
                    name: T::NAME.as_char_ptr(),
                    id_table: T::IDS.as_ptr(),
                    probe: Some(Self::probe_callback),
                    remove: Some(Self::remove_callback),
                    err_handler: ErrorHandlers::<T::Data>::TABLE,
                    driver_managed_dma: true,
                    // SAFETY: The driver data is the registered device, from before the probe returns until the remove,
                    // before which the files are removed. The device begins with its C structure.
                    dev_groups: unsafe {
                        sysfs::Groups::<T::Attributes, NoAttributes<T>>::dev_groups()
                    },
                    ..Default::default()
                }),
                _pin: PhantomPinned,
            }),
            GFP_KERNEL,
        )?;

        // SAFETY: The driver is pinned, and unregistered before it is freed.
        to_result(unsafe {
            bindings::__pci_register_driver(
                driver.raw.get(),
                this_module::<T::OwnerModule>().as_ptr(),
                T::NAME.as_char_ptr(),
            )
        })?;
        Ok(Self {
            driver,
            _driver: PhantomData,
        })
    }

    /// # Safety
    ///
    /// Called by the PCI core with a function that is being bound to this driver.
    unsafe extern "C" fn probe_callback(
        pdev: *mut bindings::pci_dev,
        _id: *const bindings::pci_device_id,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By the function's requirement.
            let (parent, identity) = unsafe {
                let parent: &device::Device<Bound> = device::Device::from_raw(&raw mut (*pdev).dev);
                (parent, Identity::of(pdev))
            };

            let data = Arc::pin_init(T::probe(parent, &identity), GFP_KERNEL)?;
            // SAFETY: `remove_callback()` drops the registration.
            let vfio = unsafe { VfioRegistration::new(parent, data, T::MIGRATION) }?;
            // The registration has made the device the driver data.
            let _ = vfio.into_raw();
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the PCI core with a function whose probe succeeded, once.
    unsafe extern "C" fn remove_callback(pdev: *mut bindings::pci_dev) {
        // SAFETY: By the function's requirement the driver data is the registered device.
        let vfio = unsafe {
            let device = bindings::dev_get_drvdata(&raw mut (*pdev).dev).cast::<Device<T::Data>>();
            VfioRegistration::from_raw(NonNull::new_unchecked(device))
        };

        drop(vfio);
    }
}

impl<T: Driver> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: It was registered in `new()`.
        unsafe { bindings::pci_unregister_driver(self.driver.raw.get()) };
    }
}
