// SPDX-License-Identifier: GPL-2.0

//! The callbacks of the VFIO core that lead to a [`DirtyLog`].
//!
//! C header: [`include/linux/vfio.h`](srctree/include/linux/vfio.h), `struct vfio_log_ops`

use super::{
    dirty_log::{
        DirtyLog,
        LogOperations, //
    },
    support::Support,
};
use crate::device::Device;
use core::marker::PhantomData;
use kernel::{
    error::from_result,
    ffi::{
        c_int,
        c_ulong, //
    },
};

impl Support {
    /// The device has the log of `T`.
    pub const fn of<T: LogOperations>() -> Self {
        Self {
            ops: &raw const *VTable::<T>::OPS,
        }
    }
}

struct VTable<T>(PhantomData<T>);

impl<T: LogOperations> VTable<T> {
    const OPS: &'static vfio_bindings::vfio_log_ops = &vfio_bindings::vfio_log_ops {
        log_start: Some(Self::start_callback),
        log_stop: Some(Self::stop_callback),
        log_read_and_clear: Some(Self::read_and_clear_callback),
    };

    /// # Safety
    ///
    /// Called by the VFIO core with an open device of a driver with this table, and with arguments
    /// that are valid during the call.
    unsafe extern "C" fn start_callback(
        vdev: *mut vfio_bindings::vfio_device,
        ranges: *mut kernel::bindings::rb_root_cached,
        count: u32,
        page_size: *mut u64,
    ) -> c_int {
        // SAFETY: By the function's requirement.
        let device = unsafe { Device::<T>::from_raw(vdev) };
        let mut from = Some(0);
        let ranges = core::iter::from_fn(|| {
            let (mut first, mut last) = (0, 0);
            // SAFETY: The tree is the core's, and ours during the call.
            let found =
                unsafe { vfio_bindings::ferry_next_range(ranges, from?, &mut first, &mut last) };
            from = c_ulong::checked_add(last, 1);
            found.then_some((first as u64, last as u64))
        });

        from_result(|| {
            // SAFETY: The core passes a variable of its own.
            let page_size = unsafe { &mut *page_size };
            let log = T::dirty_log(device);
            *page_size = log.start(ranges, count as usize, *page_size)?;
            T::log_started(device).inspect_err(|_| {
                // Fails if another user has stopped it, which is as good.
                let _ = log.stop();
            })?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// As for [`Self::start_callback`].
    unsafe extern "C" fn stop_callback(vdev: *mut vfio_bindings::vfio_device) -> c_int {
        // SAFETY: By the function's requirement.
        let device = unsafe { Device::<T>::from_raw(vdev) };

        from_result(|| T::dirty_log(device).stop().map(|()| 0))
    }

    /// # Safety
    ///
    /// As for [`Self::start_callback`].
    unsafe extern "C" fn read_and_clear_callback(
        vdev: *mut vfio_bindings::vfio_device,
        iova: c_ulong,
        length: c_ulong,
        dirty: *mut kernel::bindings::iova_bitmap,
    ) -> c_int {
        // SAFETY: By the function's requirement.
        let device = unsafe { Device::<T>::from_raw(vdev) };

        from_result(|| {
            T::log_is_read(device)?;
            T::dirty_log(device).read_and_clear(iova as u64, length as u64, |iova, length| {
                // SAFETY: The bitmap is valid during the call, and the range within what was asked
                // for.
                unsafe {
                    vfio_bindings::ferry_iova_bitmap_set(dirty, iova as c_ulong, length as usize)
                };
            })?;
            Ok(0)
        })
    }
}
