// SPDX-License-Identifier: GPL-2.0

//! The base of variant drivers: a `struct vfio_pci_core_device`.

use crate::{
    function::Function,
    operations::Operations,
    trampolines::Trampolines,
    uses::Uses, //
};
use kernel::{
    bindings,
    error::to_result,
    prelude::*, //
};
use vfio::{
    region::{
        SUBTYPE_MIGRATION,
        TYPE_MIGRATION, //
    },
    Base,
    Device, //
};

/// The base of a variant driver's device.
#[pin_data]
pub struct PciCore {
    #[pin]
    pub(crate) uses: Uses,
}

impl PciCore {
    /// The function of `device`, from [`open_device`](vfio::Operations::open_device) to
    /// [`close_device`](vfio::Operations::close_device). After the latter the function is disabled, which waits until
    /// nobody has it: a callback that has it must not wait for the close.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the device is closed.
    pub fn function<T: Operations>(device: &Device<T>) -> Result<Function<'_, T>> {
        device.base().uses.begin()?;
        // SAFETY: `open()` lets uses begin once the function is enabled, and what disables the function waits for the
        // end of this one.
        Ok(unsafe { Function::new(device) })
    }

    /// Adds the migration region of `size` bytes as the first region after those of every PCI device. Called by
    /// [`open_device`](vfio::Operations::open_device).
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn register_own_region<T: Operations>(device: &Device<T>, size: usize) -> Result {
        const FLAGS: u32 = vfio_bindings::VFIO_REGION_INFO_FLAG_READ
            | vfio_bindings::VFIO_REGION_INFO_FLAG_WRITE
            | vfio_bindings::VFIO_REGION_INFO_FLAG_MMAP;

        // SAFETY: The device is being opened, and the table is static. The core frees the region when it disables the
        // function.
        to_result(unsafe {
            vfio_bindings::vfio_pci_core_register_dev_region(
                device.as_raw(),
                TYPE_MIGRATION,
                SUBTYPE_MIGRATION,
                Trampolines::<T>::REGION_OPS,
                size,
                FLAGS,
                core::ptr::null_mut(),
            )
        })
    }
}

// SAFETY:
// - A `struct vfio_pci_core_device` begins with its `struct vfio_device`, and `vfio_pci_core_init_dev()` sets up
//   the rest of the zeroed allocation.
// - `init` and `release` are the core's, and touch nothing behind the structure.
// - The callbacks are the core's, and those of `Trampolines`.
// - `vfio_pci_core_unregister_device()` waits until the device is closed.
unsafe impl<T: Operations> Base<T> for PciCore {
    type Raw = vfio_bindings::vfio_pci_core_device;

    const DEFAULTS: vfio_bindings::vfio_device_ops = vfio_bindings::vfio_device_ops {
        init: Some(vfio_bindings::vfio_pci_core_init_dev),
        release: Some(vfio_bindings::vfio_pci_core_release_dev),
        ioctl: Some(Trampolines::<T>::ioctl_callback),
        get_region_info_caps: Some(Trampolines::<T>::get_region_info_caps_callback),
        device_feature: Some(vfio_bindings::vfio_pci_core_ioctl_feature),
        read: Some(Trampolines::<T>::read_callback),
        write: Some(Trampolines::<T>::write_callback),
        mmap: Some(Trampolines::<T>::mmap_callback),
        request: Some(vfio_bindings::vfio_pci_core_request),
        match_: Some(vfio_bindings::vfio_pci_core_match),
        match_token_uuid: Some(vfio_bindings::vfio_pci_core_match_token_uuid),
        #[cfg(CONFIG_IOMMUFD)]
        bind_iommufd: Some(vfio_bindings::vfio_iommufd_physical_bind),
        #[cfg(CONFIG_IOMMUFD)]
        unbind_iommufd: Some(vfio_bindings::vfio_iommufd_physical_unbind),
        #[cfg(CONFIG_IOMMUFD)]
        attach_ioas: Some(vfio_bindings::vfio_iommufd_physical_attach_ioas),
        #[cfg(CONFIG_IOMMUFD)]
        detach_ioas: Some(vfio_bindings::vfio_iommufd_physical_detach_ioas),
        ..pin_init::zeroed()
    };

    fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            uses <- Uses::new(),
        })
    }

    unsafe fn register(raw: *mut Self::Raw) -> Result {
        // SAFETY: The device is initialised, and its parent, a PCI function, is being bound to its driver. The core
        // demands that the driver data is the device.
        unsafe {
            let parent = &raw mut (*(*raw).pdev).dev;

            bindings::dev_set_drvdata(parent, raw.cast());
            to_result(vfio_bindings::vfio_pci_core_register_device(raw)).inspect_err(|_| {
                bindings::dev_set_drvdata(parent, core::ptr::null_mut());
            })
        }
    }

    unsafe fn unregister(raw: *mut Self::Raw) {
        // SAFETY: By the function's requirement. The error handlers, which look at the driver data, are called with the
        // lock of the function that its unbinding holds.
        unsafe {
            vfio_bindings::vfio_pci_core_unregister_device(raw);
            bindings::dev_set_drvdata(&raw mut (*(*raw).pdev).dev, core::ptr::null_mut());
        }
    }

    unsafe fn open(device: &Device<T>) -> Result {
        // SAFETY: The device is being opened.
        to_result(unsafe { vfio_bindings::vfio_pci_core_enable(device.as_raw()) })?;
        device.base().uses.open();
        Ok(())
    }

    unsafe fn opened(device: &Device<T>) {
        // SAFETY: `open()` has succeeded.
        unsafe { vfio_bindings::vfio_pci_core_finish_enable(device.as_raw()) };
    }

    unsafe fn open_failed(device: &Device<T>) {
        device.base().uses.close();
        // SAFETY: `open()` has succeeded.
        unsafe { vfio_bindings::vfio_pci_core_disable(device.as_raw()) };
    }

    unsafe fn closed(device: &Device<T>) {
        device.base().uses.close();
        // SAFETY: The device is being closed, with the lock of the device set held.
        unsafe { vfio_bindings::vfio_pci_core_close_device(device.as_vfio_device()) };
    }
}
