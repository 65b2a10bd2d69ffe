// SPDX-License-Identifier: GPL-2.0

//! VFIO devices with an emulated IOMMU: what a driver of one implements and how it is registered.
//!
//! First open and last close run under the device set's lock, so that [`Operations::open_device`]
//! and [`Operations::close_device`] are never concurrent with each other or with the other
//! operations. All others are concurrent with each other: they get `&Device<T>`.
//!
//! C header: [`include/linux/vfio.h`](srctree/include/linux/vfio.h)

use crate::{
    dma::{
        self,
        Dma, //
    },
    dma_log,
    ioctl,
    irq,
    mdev,
    migration,
    region, //
};
use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    mem::{
        align_of,
        offset_of,
        size_of, //
    },
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    current,
    device,
    error::{
        from_err_ptr,
        from_result,
        to_result, //
    },
    ffi::{
        c_char,
        c_int,
        c_long,
        c_uint,
        c_ulong, //
    },
    mm::{
        virt::VmaNew,
        Mm, //
    },
    prelude::*,
    str::as_char_ptr_in_const_context,
    sync::{
        aref::ARef,
        Arc, //
    },
    types::Opaque,
    uaccess::UserPtr, //
};
use kernel_ext::refusal::{
    Refusals,
    Refuse,
    Subject, //
};

/// What a driver of a VFIO device implements, `struct vfio_device_ops`.
///
/// The implementing type is the device's private data. Everything may sleep.
pub trait Operations: Sized + Send + Sync + 'static {
    /// Name of the driver.
    const NAME: &'static CStr;
    /// Whether the device logs its DMA.
    const DMA_LOGGING: dma_log::Support<Self> = dma_log::Support::NONE;

    /// The first file of the device is opened.
    ///
    /// # Errors
    ///
    /// What the user's open gets.
    fn open_device(device: &Device<Self>) -> Result;

    /// The last file of the device is closed, and no mapping of it is left.
    fn close_device(device: &Device<Self>);

    /// Reads `count` bytes at `position` into `into`. Returns how many.
    ///
    /// # Errors
    ///
    /// What the user's `read()` gets.
    fn read(
        device: &Device<Self>,
        into: UserPtr,
        count: usize,
        position: region::Position,
    ) -> Result<usize>;

    /// Writes `count` bytes of `from` at `position`. Returns how many.
    ///
    /// # Errors
    ///
    /// What the user's `write()` gets.
    fn write(
        device: &Device<Self>,
        from: UserPtr,
        count: usize,
        position: region::Position,
    ) -> Result<usize>;

    /// Maps `offset..` of region `index` into `vma`. Called under the mmap lock: must not take a
    /// lock under which user memory is accessed.
    ///
    /// # Errors
    ///
    /// What the user's `mmap()` gets.
    fn mmap(device: &Device<Self>, vma: &VmaNew, index: u32, offset: u64) -> Result;

    /// How many regions and interrupts there are.
    fn info(device: &Device<Self>) -> ioctl::DeviceInfo;

    /// Describes region `index`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such index.
    fn region_info(device: &Device<Self>, index: u32) -> Result<region::Info>;

    /// Describes interrupt `index`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such index.
    fn irq_info(device: &Device<Self>, index: u32) -> Result<irq::Info>;

    /// Serves `VFIO_DEVICE_SET_IRQS`.
    ///
    /// # Errors
    ///
    /// See [`irq::Interrupts::set`].
    fn set_irqs(device: &Device<Self>, set: irq::Set) -> Result;

    /// Serves `VFIO_DEVICE_RESET`.
    ///
    /// # Errors
    ///
    /// What the user's ioctl gets.
    fn reset(device: &Device<Self>) -> Result;

    /// The device's refusals.
    fn refusals(&self) -> &Refusals;

    /// The device is to be taken away and somebody still has it open, or has its character device open
    /// without having bound it: ask the user to release it. Called again every ten seconds, `count` times
    /// before this one, while whoever takes it away waits.
    fn request(_device: &Device<Self>, _count: u32) {}

    /// The user unmapped `[iova, iova + length)`: drop every pin in it before returning.
    ///
    /// [`Dma`] pins nothing.
    fn dma_unmap(_device: &Device<Self>, _iova: u64, _length: u64) {}

    /// The device could not access the user's memory, which it was told of as an error by [`Dma`].
    /// Called by [`Self::work`]'s thread, with whatever locks that holds.
    fn dma_failed(_device: &Device<Self>, _failure: &dma::Failure) {}

    /// The device's work, which [`Device::kick`] asked for: the place for DMA and for whatever the
    /// user's thread shall not wait for. Called in a kernel worker, never twice at once, and only
    /// while the device is open.
    fn work(_device: &Device<Self>, _dma: &Dma<'_>) {}
}

/// A VFIO device and its driver's data, which [`Deref`] leads to.
///
/// # Invariants
///
/// - `vdev` is at offset 0 and was initialised by `_vfio_alloc_device()`, which also owns the
///   allocation; `vfio_put_device()` drops a reference to it.
/// - `work` is initialised as soon as the allocation has succeeded, is only queued while the device
///   is open, and is cancelled before it is closed.
/// - `gate` is initialised as soon as the allocation has succeeded, and open at most while the device
///   is, when it has an owner.
/// - `revocable` and `user`, the address space of whoever opened the device, are initialised as soon as
///   the allocation has succeeded, and only change while the device is being opened or closed, when
///   nothing else is called.
/// - `migration` and `data` are initialised as soon as the allocation has succeeded, and never change.
#[repr(C)]
pub struct Device<T: Operations> {
    vdev: Opaque<vfio_bindings::vfio_device>,
    work: Opaque<bindings::work_struct>,
    gate: Opaque<vfio_bindings::ferry_dma_gate>,
    revocable: UnsafeCell<Option<Arc<migration::RevocableDevice>>>,
    user: UnsafeCell<Option<ARef<Mm>>>,
    migration: migration::Support,
    data: Arc<T>,
}

// SAFETY: The VFIO core reference-counts and locks its part; `T` is `Send + Sync`.
unsafe impl<T: Operations> Send for Device<T> {}

// SAFETY: As above; what is not the core's only changes while nothing else is called.
unsafe impl<T: Operations> Sync for Device<T> {}

impl<T: Operations> Device<T> {
    /// # Safety
    ///
    /// `vdev` must be that of a registered `Device<T>` and stay so for the lifetime.
    pub(crate) unsafe fn from_raw<'a>(vdev: *mut vfio_bindings::vfio_device) -> &'a Self {
        // SAFETY: `vdev` is at offset 0 of a `Device<T>`.
        unsafe { &*vdev.cast() }
    }
}

impl<T: Operations> Device<T> {
    pub(crate) fn as_vdev_ptr(&self) -> *mut vfio_bindings::vfio_device {
        self.vdev.get()
    }

    /// The revocable device of the open device, if it migrates by protocol v2.
    pub(crate) fn revocable(&self) -> Option<&Arc<migration::RevocableDevice>> {
        // SAFETY: By the type invariants it does not change while it is borrowed: who has a
        // reference to an open device is called while it is neither opened nor closed, or is what
        // is called for that.
        unsafe { (*self.revocable.get()).as_ref() }
    }

    /// Has [`Operations::work`] called soon, once more if it is being called now. Can be called in
    /// any context while the device is open.
    pub fn kick(&self) {
        // SAFETY: By the type invariants the work is initialised, and cancelled before the device
        // goes.
        unsafe { vfio_bindings::ferry_work_queue(self.work.get()) };
    }

    /// Waits until [`Operations::work`] is neither called nor going to be called. May sleep; must
    /// not be called by that, nor with a lock held that it takes.
    pub fn cancel_work(&self) {
        // SAFETY: By the type invariants the work is initialised.
        unsafe { bindings::cancel_work_sync(self.work.get()) };
    }
}

impl<T: Operations> Deref for Device<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.data
    }
}

impl<T: Operations> Refuse for Device<T> {
    fn refusals(&self) -> &Refusals {
        T::refusals(self)
    }
}

impl<T: Operations> AsRef<device::Device> for Device<T> {
    fn as_ref(&self) -> &device::Device {
        // SAFETY: `dev` is set by `_vfio_alloc_device()`, and outlives the registered VFIO device.
        unsafe { device::Device::from_raw((*self.vdev.get()).dev) }
    }
}

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
    /// Makes a VFIO device with an emulated IOMMU for `parent` and lets users open it. `migration` is what
    /// users are told of protocol v2 for as long as it is registered.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or what `vfio_register_emulated_iommu_dev()` returns.
    pub fn new(parent: &mdev::Device, data: Arc<T>, migration: migration::Support) -> Result<Self> {
        const {
            assert!(offset_of!(Device<T>, vdev) == 0);
            // What `kvzalloc()` promises.
            assert!(align_of::<Device<T>>() <= align_of::<u64>());
        }

        // SAFETY: The parent is valid, the vtable is static, and the size covers the whole type.
        let vdev = from_err_ptr(unsafe {
            vfio_bindings::_vfio_alloc_device(
                size_of::<Device<T>>(),
                parent.as_device_ptr(),
                &VTable::<T>::VTABLE,
            )
        })?;
        // SAFETY: The allocation has the size of a `Device<T>`.
        let this = unsafe { NonNull::new_unchecked(vdev.cast::<Device<T>>()) };
        // SAFETY: The work is ours and not queued; the callback takes it for part of a `Device<T>`.
        unsafe {
            vfio_bindings::ferry_work_init(
                (*this.as_ptr()).work.get(),
                Some(VTable::<T>::work_callback),
            )
        };
        // SAFETY: The gate is ours.
        unsafe { vfio_bindings::ferry_dma_gate_init((*this.as_ptr()).gate.get()) };
        // SAFETY: The core wants them before the registration.
        unsafe {
            (*vdev).migration_flags = migration.flags.bits() as u32;
            (*vdev).mig_ops = migration.ops;
            (*vdev).log_ops = T::DMA_LOGGING.ops;
        }
        // SAFETY: The allocation is ours, and what was there is zeros.
        unsafe {
            (&raw mut (*this.as_ptr()).revocable).write(UnsafeCell::new(None));
            (&raw mut (*this.as_ptr()).user).write(UnsafeCell::new(None));
            (&raw mut (*this.as_ptr()).migration).write(migration);
            (&raw mut (*this.as_ptr()).data).write(data);
        }
        // From here on a failure puts the device, and `release_callback` frees what there is.
        let put_on_error = Unregistered(this);

        // SAFETY: `vdev` was allocated above and is not registered.
        to_result(unsafe { vfio_bindings::vfio_register_emulated_iommu_dev(vdev) })?;

        core::mem::forget(put_on_error);
        // INVARIANT: The device is registered, and we own the allocation's reference.
        Ok(Self(this))
    }
}

impl<T: Operations> Registration<T> {
    /// Whether somebody has the device open, even if only its character device.
    pub(crate) fn is_held(&self) -> bool {
        // SAFETY: By the type invariants the device is registered.
        unsafe { vfio_bindings::ferry_vfio_is_held(self.0.as_ptr().cast()) }
    }

    /// What users are told of protocol v2.
    pub(crate) fn migration(&self) -> migration::Support {
        // SAFETY: By the type invariants the device is valid, and this never changes.
        unsafe { self.0.as_ref() }.migration
    }
}

impl<T: Operations> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the device is registered.
        unsafe { vfio_bindings::vfio_unregister_group_dev(self.0.as_ptr().cast()) };

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

struct VTable<T: Operations>(PhantomData<T>);

impl<T: Operations> Device<T> {
    /// Forgets what belongs to one open. Called when the device is being opened or closed, with no
    /// work under way.
    fn forget_user(&self) {
        // SAFETY: Nothing else is called then; the gate has an owner.
        unsafe {
            vfio_bindings::ferry_dma_gate_release(self.gate.get());
            *self.revocable.get() = None;
            *self.user.get() = None;
        }
    }
}

impl<T: Operations> VTable<T> {
    const VTABLE: vfio_bindings::vfio_device_ops = vfio_bindings::vfio_device_ops {
        name: as_char_ptr_in_const_context(T::NAME).cast_mut(),
        init: None,
        release: Some(Self::release_callback),
        #[cfg(CONFIG_IOMMUFD)]
        bind_iommufd: Some(vfio_bindings::vfio_iommufd_emulated_bind),
        #[cfg(CONFIG_IOMMUFD)]
        unbind_iommufd: Some(vfio_bindings::vfio_iommufd_emulated_unbind),
        #[cfg(CONFIG_IOMMUFD)]
        attach_ioas: Some(vfio_bindings::vfio_iommufd_emulated_attach_ioas),
        #[cfg(CONFIG_IOMMUFD)]
        detach_ioas: Some(vfio_bindings::vfio_iommufd_emulated_detach_ioas),
        #[cfg(not(CONFIG_IOMMUFD))]
        bind_iommufd: None,
        #[cfg(not(CONFIG_IOMMUFD))]
        unbind_iommufd: None,
        #[cfg(not(CONFIG_IOMMUFD))]
        attach_ioas: None,
        #[cfg(not(CONFIG_IOMMUFD))]
        detach_ioas: None,
        pasid_attach_ioas: None,
        pasid_detach_ioas: None,
        open_device: Some(Self::open_device_callback),
        close_device: Some(Self::close_device_callback),
        read: Some(Self::read_callback),
        write: Some(Self::write_callback),
        ioctl: Some(Self::ioctl_callback),
        get_region_info_caps: Some(Self::get_region_info_caps_callback),
        mmap: Some(Self::mmap_callback),
        request: Some(Self::request_callback),
        match_: None,
        match_token_uuid: None,
        dma_unmap: Some(Self::dma_unmap_callback),
        device_feature: None,
    };

    /// # Safety
    ///
    /// Called by the VFIO core when the last reference to a device of this vtable is gone.
    unsafe extern "C" fn release_callback(vdev: *mut vfio_bindings::vfio_device) {
        let this: *mut Device<T> = vdev.cast();

        // SAFETY: Nobody else has the device any more; by the type invariants these are initialised, and
        // they are not used again.
        unsafe {
            (&raw mut (*this).data).drop_in_place();
            (*this).revocable.get().drop_in_place();
            (*this).user.get().drop_in_place();
        }
    }

    /// # Safety
    ///
    /// Called by the VFIO core with a registered device of this vtable, and with arguments that are
    /// valid during the call.
    unsafe extern "C" fn open_device_callback(vdev: *mut vfio_bindings::vfio_device) -> c_int {
        // SAFETY: By the function's requirement.
        let device = unsafe { Device::<T>::from_raw(vdev) };

        from_result(|| {
            let vdev = NonNull::from(device).cast();
            // SAFETY: The device is of type `T` and stays open until `close_device_callback()`; should
            // this open fail, nobody knows of the revocable device.
            let revocable = unsafe { migration::RevocableDevice::new(vdev, device.migration) }?;
            // SAFETY: Nothing else is called while the device is being opened.
            unsafe {
                *device.revocable.get() = revocable;
                *device.user.get() = current!().mm().map(|mm| {
                    let mm: &Mm = mm;
                    ARef::from(mm)
                });
            }
            // SAFETY: The gate is initialised, and nobody has opened it.
            unsafe { vfio_bindings::ferry_dma_gate_open(device.gate.get()) };
            T::open_device(device).inspect_err(|_| device.forget_user())?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// As for [`Self::open_device_callback`].
    unsafe extern "C" fn close_device_callback(vdev: *mut vfio_bindings::vfio_device) {
        // SAFETY: As for `open_device_callback()`.
        let device = unsafe { Device::<T>::from_raw(vdev) };

        // The work may be waiting for the user's memory with a lock held that is taken below, and the
        // user for this.
        // SAFETY: The gate is initialised.
        unsafe { vfio_bindings::ferry_dma_gate_close(device.gate.get()) };
        // The data files that are left go on without us.
        if let Some(revocable) = device.revocable() {
            revocable.revoke();
        }
        T::close_device(device);
        // Nobody kicks a closed device, and no DMA is possible when this has returned.
        device.cancel_work();
        device.forget_user();
    }

    /// # Safety
    ///
    /// Called by a workqueue with the `work` of a `Device<T>` that is open.
    unsafe extern "C" fn work_callback(work: *mut bindings::work_struct) {
        // SAFETY: By the function's requirement; the device is closed, and with it the reference
        // at its end, only after the work.
        let device = unsafe {
            &*work
                .byte_sub(offset_of!(Device<T>, work))
                .cast::<Device<T>>()
        };

        // SAFETY: As the device is open, so it stays during the call, and `user` does not change
        // meanwhile. A worker has no address space of its own.
        T::work(device, &unsafe {
            Dma::new(
                device.vdev.get(),
                device.gate.get(),
                (*device.user.get()).as_deref(),
                T::DMA_LOGGING.log.map(|log| log(device)),
                &|failure| T::dma_failed(device, failure),
            )
        });
    }

    /// # Safety
    ///
    /// As for [`Self::open_device_callback`].
    unsafe extern "C" fn read_callback(
        vdev: *mut vfio_bindings::vfio_device,
        buf: *mut c_char,
        count: usize,
        ppos: *mut bindings::loff_t,
    ) -> isize {
        // SAFETY: As for `open_device_callback()`.
        let device = unsafe { Device::<T>::from_raw(vdev) };

        // SAFETY: The VFS passes a valid position that is ours during the call.
        advance(unsafe { &mut *ppos }, |position| {
            T::read(device, UserPtr::from_ptr(buf.cast()), count, position)
        })
    }

    /// # Safety
    ///
    /// As for [`Self::open_device_callback`].
    unsafe extern "C" fn write_callback(
        vdev: *mut vfio_bindings::vfio_device,
        buf: *const c_char,
        count: usize,
        ppos: *mut bindings::loff_t,
    ) -> isize {
        // SAFETY: As for `open_device_callback()`.
        let device = unsafe { Device::<T>::from_raw(vdev) };

        // SAFETY: As for `read_callback()`.
        advance(unsafe { &mut *ppos }, |position| {
            let from = UserPtr::from_ptr(buf.cast_mut().cast());

            T::write(device, from, count, position)
        })
    }

    /// # Safety
    ///
    /// As for [`Self::open_device_callback`].
    unsafe extern "C" fn ioctl_callback(
        vdev: *mut vfio_bindings::vfio_device,
        cmd: c_uint,
        arg: c_ulong,
    ) -> c_long {
        // SAFETY: As for `open_device_callback()`.
        let device = unsafe { Device::<T>::from_raw(vdev) };

        from_result(|| ioctl::dispatch(device, cmd, UserPtr::from_addr(arg)).map(|()| 0))
    }

    /// # Safety
    ///
    /// As for [`Self::open_device_callback`].
    unsafe extern "C" fn get_region_info_caps_callback(
        vdev: *mut vfio_bindings::vfio_device,
        info: *mut vfio_bindings::vfio_region_info,
        caps: *mut vfio_bindings::vfio_info_cap,
    ) -> c_int {
        // SAFETY: As for `open_device_callback()`.
        let device = unsafe { Device::<T>::from_raw(vdev) };
        // SAFETY: Both are local variables of the VFIO core, ours during the call.
        let (info, caps) = unsafe { (&mut *info, &mut *caps) };

        from_result(|| {
            let index = info.index;
            T::region_info(device, index)
                .map_err(|error| {
                    device.refused(
                        Subject::Ioctl,
                        "VFIO_DEVICE_GET_REGION_INFO",
                        &format_args!("no region {index}"),
                        error,
                    )
                })?
                .write(index, info, region::Capabilities::new(caps))
                .map(|()| 0)
        })
    }

    /// # Safety
    ///
    /// As for [`Self::open_device_callback`].
    unsafe extern "C" fn mmap_callback(
        vdev: *mut vfio_bindings::vfio_device,
        vma: *mut bindings::vm_area_struct,
    ) -> c_int {
        // SAFETY: As for `open_device_callback()`.
        let device = unsafe { Device::<T>::from_raw(vdev) };
        // SAFETY: The VMA is undergoing its initial setup, in this call only.
        let new = unsafe { VmaNew::from_raw(vma) };

        from_result(|| {
            // SAFETY: The VMA is valid and nobody else changes it.
            let page_offset = unsafe { (*vma).vm_pgoff };
            let offset = page_offset
                .checked_mul(kernel::page::PAGE_SIZE)
                .and_then(|offset| i64::try_from(offset).ok())
                .ok_or(EINVAL)?;
            let position = region::Position::from_file_offset(offset)?;

            T::mmap(device, new, position.index, position.offset).map(|()| 0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFIO core with a device of this vtable that is being unregistered.
    unsafe extern "C" fn request_callback(vdev: *mut vfio_bindings::vfio_device, count: c_uint) {
        // SAFETY: By the function's requirement; the data outlives the unregistration.
        T::request(unsafe { Device::<T>::from_raw(vdev) }, count);
    }

    /// # Safety
    ///
    /// As for [`Self::open_device_callback`].
    unsafe extern "C" fn dma_unmap_callback(
        vdev: *mut vfio_bindings::vfio_device,
        iova: u64,
        length: u64,
    ) {
        // SAFETY: As for `open_device_callback()`.
        T::dma_unmap(unsafe { Device::<T>::from_raw(vdev) }, iova, length);
    }
}

/// Runs a read or write at `*ppos` and moves that on by what was done.
fn advance(
    ppos: &mut bindings::loff_t,
    transfer: impl FnOnce(region::Position) -> Result<usize>,
) -> isize {
    let transferred = region::Position::from_file_offset(*ppos).and_then(transfer);

    match transferred.map(|len| (len, isize::try_from(len))) {
        Ok((len, Ok(ret))) => {
            // A region lies below 2^40 in a 63-bit file, so that this cannot overflow.
            *ppos = ppos.saturating_add_unsigned(len as u64);
            ret
        }
        Ok((_, Err(_))) => EINVAL.to_errno() as isize,
        Err(error) => error.to_errno() as isize,
    }
}
