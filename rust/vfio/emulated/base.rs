// SPDX-License-Identifier: GPL-2.0

//! The base of emulated devices: a `struct vfio_device` by itself.

use super::{
    dma::Dma,
    gate::Gate,
    ioctl,
    operations::Operations,
    state::Emulated,
    work::WorkItem, //
};
use crate::device::{
    Base,
    Device, //
};
use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    mem::offset_of, //
};
use kernel::{
    bindings,
    current,
    error::{
        from_result,
        to_result, //
    },
    ffi::{
        c_long,
        c_uint,
        c_ulong, //
    },
    mm::Mm,
    prelude::*,
    sync::aref::ARef,
    uaccess::UserPtr, //
};

// SAFETY:
// - A `struct vfio_device` has no other `init` and `release`.
// - The callbacks are those that the VFIO core has for such devices, and those of `Trampolines`.
// - `vfio_unregister_group_dev()` waits until the device is closed.
unsafe impl<T: Operations> Base<T> for Emulated {
    type Raw = vfio_bindings::vfio_device;

    const DEFAULTS: vfio_bindings::vfio_device_ops = vfio_bindings::vfio_device_ops {
        #[cfg(CONFIG_IOMMUFD)]
        bind_iommufd: Some(vfio_bindings::vfio_iommufd_emulated_bind),
        #[cfg(CONFIG_IOMMUFD)]
        unbind_iommufd: Some(vfio_bindings::vfio_iommufd_emulated_unbind),
        #[cfg(CONFIG_IOMMUFD)]
        attach_ioas: Some(vfio_bindings::vfio_iommufd_emulated_attach_ioas),
        #[cfg(CONFIG_IOMMUFD)]
        detach_ioas: Some(vfio_bindings::vfio_iommufd_emulated_detach_ioas),
        ioctl: Some(Trampolines::<T>::ioctl_callback),
        dma_unmap: Some(Trampolines::<T>::dma_unmap_callback),
        ..pin_init::zeroed()
    };

    fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            work <- WorkItem::new(Trampolines::<T>::work_callback),
            gate <- Gate::new(),
            user: UnsafeCell::new(None),
        })
    }

    unsafe fn register(raw: *mut Self::Raw) -> Result {
        // SAFETY: By the function's requirement.
        to_result(unsafe { vfio_bindings::vfio_register_emulated_iommu_dev(raw) })
    }

    unsafe fn unregister(raw: *mut Self::Raw) {
        // SAFETY: By the function's requirement.
        unsafe { vfio_bindings::vfio_unregister_group_dev(raw) };
    }

    unsafe fn open(device: &Device<T>) -> Result {
        let this = device.base();

        // SAFETY: By the function's requirement nothing else is called, and the gate has no owner.
        unsafe {
            *this.user.get() = current!().mm().map(|mm| {
                let mm: &Mm = mm;
                ARef::from(mm)
            });
            this.gate.open();
        }
        Ok(())
    }

    unsafe fn open_failed(device: &Device<T>) {
        // `open_device()` may have queued work before it failed, and the work may wait for the user.
        device.base().gate.close();
        device.cancel_work();
        // SAFETY: No other callback runs, and no work is under way.
        unsafe { device.base().forget_user() };
    }

    unsafe fn close(device: &Device<T>) {
        // The work may be waiting for the user's memory with a lock held that `close_device()` takes,
        // and the user for the close.
        device.base().gate.close();
    }

    unsafe fn closed(device: &Device<T>) {
        // Nobody kicks a closed device, and no DMA is possible when this has returned.
        device.cancel_work();
        // SAFETY: The device is closed, and no work under way.
        unsafe { device.base().forget_user() };
    }
}

impl<T: Operations> Device<T> {
    /// Has [`Operations::work`] called soon, once more if it is being called now. Can be called in
    /// any context while the device is open.
    pub fn kick(&self) {
        self.base().work.queue();
    }

    /// Waits until [`Operations::work`] is neither called nor going to be called. May sleep; must
    /// not be called by that, nor with a lock held that it takes.
    pub fn cancel_work(&self) {
        self.base().work.cancel();
    }
}

/// The C callbacks of emulated devices with the private data `T`.
struct Trampolines<T: Operations>(PhantomData<T>);

impl<T: Operations> Trampolines<T> {
    /// Byte offset of the work item in a device.
    const WORK_OFFSET: usize = Device::<T>::BASE_OFFSET + offset_of!(Emulated, work);

    /// # Safety
    ///
    /// Called by a workqueue with the `work` of a `Device<T>` that is open.
    unsafe extern "C" fn work_callback(work: *mut bindings::work_struct) {
        // SAFETY: By the function's requirement; the device is closed, and with it the reference
        // at its end, only after the work.
        let device = unsafe { &*work.byte_sub(Self::WORK_OFFSET).cast::<Device<T>>() };
        let this = device.base();

        // SAFETY: As the device is open, so it stays during the call, and `user` does not change
        // meanwhile. A worker has no address space of its own.
        T::work(device, &unsafe {
            Dma::new(
                device.as_vfio_device(),
                &this.gate,
                (*this.user.get()).as_deref(),
                T::dma_log(device).filter(|_| T::LOG.is_offered()),
                &|failure| T::dma_failed(device, failure),
            )
        });
    }

    /// # Safety
    ///
    /// Called by the VFIO core with an open device of type `T`.
    unsafe extern "C" fn ioctl_callback(
        vdev: *mut vfio_bindings::vfio_device,
        cmd: c_uint,
        arg: c_ulong,
    ) -> c_long {
        // SAFETY: By the function's requirement.
        let device = unsafe { Device::<T>::from_raw(vdev) };

        from_result(|| ioctl::dispatch(device, cmd, UserPtr::from_addr(arg)).map(|()| 0))
    }

    /// [`Dma`] pins nothing. The callback is there because the core offers pinning and unmapping together.
    ///
    /// # Safety
    ///
    /// Touches nothing.
    unsafe extern "C" fn dma_unmap_callback(
        _vdev: *mut vfio_bindings::vfio_device,
        _iova: u64,
        _length: u64,
    ) {
    }
}
