// SPDX-License-Identifier: GPL-2.0

//! The C callbacks that lead to [`Operations`], or to the base's defaults.
//!
//! C header: [`include/linux/vfio.h`](srctree/include/linux/vfio.h), `struct vfio_device_ops`

use crate::{
    device::{
        Base,
        Device,
        Operations, //
    },
    migration::revocable::RevocableDevice,
    region::{
        Capabilities,
        Position,
        RegionInfo, //
    },
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::from_result,
    ffi::{
        c_char,
        c_int,
        c_long,
        c_uint,
        c_ulong, //
    },
    mm::virt::VmaNew,
    prelude::*,
    str::as_char_ptr_in_const_context,
    uaccess::UserPtr, //
};

/// The callbacks of devices with the private data `T`.
pub(crate) struct Trampolines<T: Operations>(PhantomData<T>);

impl<T: Operations> Trampolines<T> {
    const DEFAULTS: vfio_bindings::vfio_device_ops = T::Base::DEFAULTS;

    /// The table that the VFIO core takes.
    pub(crate) const OPS: &'static vfio_bindings::vfio_device_ops =
        &vfio_bindings::vfio_device_ops {
            name: as_char_ptr_in_const_context(T::NAME).cast_mut(),
            release: Some(Self::release_callback),
            open_device: Some(Self::open_device_callback),
            close_device: Some(Self::close_device_callback),
            read: if T::HAS_READ {
                Some(Self::read_callback)
            } else {
                Self::DEFAULTS.read
            },
            write: if T::HAS_WRITE {
                Some(Self::write_callback)
            } else {
                Self::DEFAULTS.write
            },
            ioctl: if T::HAS_IOCTL {
                Some(Self::ioctl_callback)
            } else {
                Self::DEFAULTS.ioctl
            },
            get_region_info_caps: if T::HAS_GET_REGION_INFO {
                Some(Self::get_region_info_caps_callback)
            } else {
                Self::DEFAULTS.get_region_info_caps
            },
            mmap: if T::HAS_MMAP {
                Some(Self::mmap_callback)
            } else {
                Self::DEFAULTS.mmap
            },
            request: if T::HAS_REQUEST {
                Some(Self::request_callback)
            } else {
                Self::DEFAULTS.request
            },
            dma_unmap: if T::HAS_DMA_UNMAP {
                Some(Self::dma_unmap_callback)
            } else {
                Self::DEFAULTS.dma_unmap
            },
            ..Self::DEFAULTS
        };

    /// # Safety
    ///
    /// Called by the VFIO core when the last reference to a device of this table is gone.
    unsafe extern "C" fn release_callback(vdev: *mut vfio_bindings::vfio_device) {
        // SAFETY: Nobody else uses the device any more, and the registration has initialised it.
        unsafe { Device::<T>::deinit(vdev.cast()) };
        if let Some(release) = Self::DEFAULTS.release {
            // SAFETY: The C structure is still initialised, and the core frees it next.
            unsafe { release(vdev) };
        }
    }

    /// # Safety
    ///
    /// Called by the VFIO core with a registered device of this table, and with arguments that are
    /// valid during the call.
    unsafe extern "C" fn open_device_callback(vdev: *mut vfio_bindings::vfio_device) -> c_int {
        // SAFETY: By the function's requirement.
        let device = unsafe { Device::<T>::from_raw(vdev) };

        from_result(|| {
            let vdev = NonNull::from(device).cast();
            // SAFETY: The device is of type `T` and stays open until `close_device_callback()`, which revokes
            // the link, as a failure below does.
            let revocable = unsafe { RevocableDevice::new(vdev, device.migration()) }?;
            // SAFETY: The device is being opened.
            unsafe { device.set_revocable(revocable) };

            // SAFETY: The device is being opened, and no other callback runs.
            let opened = unsafe { T::Base::open(device) }.and_then(|()| {
                T::open_device(device).inspect_err(|_| {
                    // SAFETY: `open()` has succeeded.
                    unsafe { T::Base::open_failed(device) }
                })
            });
            match opened {
                // SAFETY: `open()` has succeeded.
                Ok(()) => unsafe { T::Base::opened(device) },
                Err(error) => {
                    // `open_device()` may have made a data file before it failed.
                    if let Some(revocable) = device.revocable() {
                        revocable.revoke();
                    }
                    // SAFETY: The device is not going to be open, and no other callback runs.
                    unsafe { device.set_revocable(None) };
                    return Err(error);
                }
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// As for [`Self::open_device_callback`].
    unsafe extern "C" fn close_device_callback(vdev: *mut vfio_bindings::vfio_device) {
        // SAFETY: As for `open_device_callback()`.
        let device = unsafe { Device::<T>::from_raw(vdev) };

        // SAFETY: The device is open, and the core calls nothing else.
        unsafe { T::Base::close(device) };
        // The data files that are left outlive the open device.
        if let Some(revocable) = device.revocable() {
            revocable.revoke();
        }
        T::close_device(device);
        // SAFETY: `close()` was called.
        unsafe { T::Base::closed(device) };
        // SAFETY: The device is being closed, and nobody else uses it.
        unsafe { device.set_revocable(None) };
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
            // A guest whose command does not end looks at the registers: work that was asked for as its worker was
            // killed goes on then.
            // SAFETY: The core calls this with an open device.
            unsafe { T::Base::enter(device) }?;
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

            // SAFETY: The core calls this with an open device.
            unsafe { T::Base::enter(device) }?;
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

        from_result(|| T::ioctl(device, cmd, UserPtr::from_addr(arg)).map(|()| 0))
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
            T::get_region_info(device, RegionInfo::new(info, Capabilities::new(caps))).map(|()| 0)
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

            T::mmap(device, new, Position::from_file_offset(offset)?).map(|()| 0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFIO core with a device of this table that is being unregistered.
    unsafe extern "C" fn request_callback(vdev: *mut vfio_bindings::vfio_device, count: c_uint) {
        // SAFETY: By the function's requirement; the data outlives the unregistration.
        let device = unsafe { Device::<T>::from_raw(vdev) };

        T::request(device, device.as_ref(), count);
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

/// Runs a read or write at `*ppos` and moves `*ppos` on by the bytes that were transferred.
fn advance(ppos: &mut bindings::loff_t, transfer: impl FnOnce(Position) -> Result<usize>) -> isize {
    let transferred = Position::from_file_offset(*ppos).and_then(transfer);

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
