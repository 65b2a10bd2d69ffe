// SPDX-License-Identifier: GPL-2.0

//! The base of emulated devices: a `struct vfio_device` by itself.

use super::{
    dma::Dma,
    gate::Gate,
    ioctl,
    operations::Operations,
    state::Emulated,
    work::Worker, //
};
use crate::device::{
    Base,
    Device, //
};
use core::{
    marker::PhantomData,
    mem::offset_of, //
};
use kernel::{
    error::{
        from_result,
        to_result, //
    },
    ffi::{
        c_long,
        c_uint,
        c_ulong, //
    },
    prelude::*,
    types::NotThreadSafe,
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
            worker <- Worker::new(Trampolines::<T>::work_callback),
            gate <- Gate::new(),
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
        // SAFETY: By the function's requirement nothing else is called.
        unsafe { device.base().gate.open(device.as_vfio_device()) };
        Ok(())
    }

    unsafe fn enter(device: &Device<T>) -> Result {
        if T::WORKS {
            // SAFETY: By the function's requirement.
            unsafe { device.base().worker.make() }?;
        }
        Ok(())
    }

    unsafe fn open_failed(device: &Device<T>) {
        device.base().gate.close();
        device.stop_work();
    }

    unsafe fn close(device: &Device<T>) {
        // The work may be waiting for the user's memory with a lock held that `close_device()` takes,
        // and the user for the close.
        device.base().gate.close();
        device.base().gate.await_access();
        // SAFETY: The device is open, by the function's requirement.
        unsafe { device.base().gate.unpin(device.as_vfio_device()) };
    }

    unsafe fn closed(device: &Device<T>) {
        // Nobody kicks a closed device, and no DMA is possible when this has returned.
        device.stop_work();
    }
}

impl<T: Operations> Device<T> {
    /// Has [`Operations::work`] called soon, once more if it is being called now: by the worker that lives,
    /// else by that which the next access makes. Can be called with any lock held while the device is open.
    pub fn kick(&self) {
        self.base().worker.kick();
    }

    /// Makes the memory accesses fail that [`Operations::work`] has yet to make, or is making, before it
    /// [renews](Dma::renew) them. Can be called with any lock held; [`Self::await_dma`] has to follow.
    pub fn end_dma(&self) {
        self.base().gate.end();
    }

    /// Waits until the memory access that [`Self::end_dma`] ended is over. May sleep, though not for a page fault of
    /// the user.
    pub fn await_dma(&self) {
        self.base().gate.await_access();
    }

    /// Waits until no other thread has the turn, which lasts until the return value is dropped: one thread at a time
    /// waits for [`Operations::work`], or does with the device what work would have to wait for. May sleep for as long
    /// as that takes.
    ///
    /// # Errors
    ///
    /// `EINTR` if the current process is killed.
    pub fn take_turn(&self) -> Result<Turn<'_>> {
        let worker = &self.base().worker;

        worker.take_turn()?;
        // INVARIANT: It was taken just now.
        Ok(Turn {
            worker,
            _of_this_thread: NotThreadSafe,
        })
    }

    /// Unpins the memory that stays pinned, until it is accessed again. May sleep.
    pub fn unpin_dma(&self) {
        // SAFETY: Pages are pinned only while the device is open: its close unpins them when the gate lets no other be
        // pinned. So either it is open, or nothing is pinned.
        unsafe { self.base().gate.unpin(self.as_vfio_device()) };
    }

    /// Has no work begun until the return value is dropped. What is under way goes on.
    pub fn pause_work(&self) -> Paused<'_> {
        let worker = &self.base().worker;

        worker.pause();
        Paused(worker)
    }

    /// Waits until [`Operations::work`] is neither called nor going to be called. The device is being closed.
    /// May sleep; must not be called by that, nor with a lock held that it takes.
    pub fn stop_work(&self) {
        self.base().worker.stop();
    }
}

/// The turn of the current thread, see [`Device::take_turn`].
///
/// # Invariants
///
/// The current thread has taken the turn of `worker`, and not ended it.
#[must_use]
pub struct Turn<'a> {
    worker: &'a Worker,
    _of_this_thread: NotThreadSafe,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, and as the value cannot be sent to another thread.
        unsafe { self.worker.end_turn() };
    }
}

/// As long as this exists, no work of a device begins.
#[must_use]
pub struct Paused<'a>(&'a Worker);

impl Paused<'_> {
    /// Waits until no work is under way. May sleep for as long as [`Operations::work`] takes.
    ///
    /// # Errors
    ///
    /// `EINTR` if the current process is killed.
    pub fn await_idle(&self) -> Result {
        self.0.await_idle()
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.resume();
    }
}

/// The C callbacks of emulated devices with the private data `T`.
struct Trampolines<T: Operations>(PhantomData<T>);

impl<T: Operations> Trampolines<T> {
    /// Byte offset of the worker in a device.
    const WORKER_OFFSET: usize = Device::<T>::BASE_OFFSET + offset_of!(Emulated, worker);

    /// # Safety
    ///
    /// Called by the thread of `worker`, which is that of a `Device<T>` that is open.
    unsafe extern "C" fn work_callback(worker: *mut vfio_bindings::ferry_worker) {
        // SAFETY: By the function's requirement; the device is closed, and with it the reference
        // at its end, only after the thread has ended.
        let device = unsafe { &*worker.byte_sub(Self::WORKER_OFFSET).cast::<Device<T>>() };
        let this = device.base();

        // SAFETY: As the device is open, so it stays during the call; this is the worker's thread.
        T::work(device, &unsafe {
            Dma::new(
                device.as_vfio_device(),
                this,
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

        from_result(|| {
            // SAFETY: The core calls this with an open device.
            unsafe { <Emulated as Base<T>>::enter(device) }?;
            ioctl::dispatch(device, cmd, UserPtr::from_addr(arg)).map(|()| 0)
        })
    }

    /// Unpins the pages that [`Dma`] keeps pinned, and waits for the copy of another under way.
    ///
    /// # Safety
    ///
    /// Called by the VFIO core with an open device of type `T`, without a lock that pinning takes.
    unsafe extern "C" fn dma_unmap_callback(
        vdev: *mut vfio_bindings::vfio_device,
        iova: u64,
        length: u64,
    ) {
        // SAFETY: By the function's requirement.
        let device = unsafe { Device::<T>::from_raw(vdev) };

        // SAFETY: By the function's requirement.
        unsafe { device.base().gate.unmap(vdev, iova, length) };
    }
}
