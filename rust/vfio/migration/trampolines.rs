// SPDX-License-Identifier: GPL-2.0

//! The callbacks that lead to [`MigrationOperations`]: those of the VFIO core, and those of data files.
//!
//! C header: [`include/linux/vfio.h`](srctree/include/linux/vfio.h), `struct vfio_migration_ops`

use super::{
    data::Available,
    operations::MigrationOperations,
    support::{
        DataOperations,
        Support, //
    },
};
use crate::device::{
    Base,
    Device, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::from_result,
    ffi::{
        c_int,
        c_ulong, //
    },
    prelude::*, //
};
use vfio_uapi::v2::{
    MigState,
    PrecopyInfo, //
};

impl Support {
    /// The device migrates as `T` says.
    pub const fn of<T: MigrationOperations>() -> Self {
        Self {
            flags: T::FLAGS,
            ops: &raw const *VTable::<T>::OPS,
            data: Some(VTable::<T>::DATA),
        }
    }
}

struct VTable<T>(PhantomData<T>);

impl<T: MigrationOperations> VTable<T> {
    const OPS: &'static vfio_bindings::vfio_migration_ops = &vfio_bindings::vfio_migration_ops {
        migration_set_state: Some(Self::set_state_callback),
        migration_get_state: Some(Self::get_state_callback),
        migration_get_data_size: Some(Self::get_data_size_callback),
    };
    const DATA: &'static DataOperations = &DataOperations {
        read: Self::read_data,
        write: Self::write_data,
        is_readable: Self::is_readable,
        is_writable: Self::is_writable,
        precopy_info: Self::precopy_info,
        buffered: Self::buffered,
    };

    /// # Safety
    ///
    /// Called by the VFIO core with an open device of a driver with this table.
    unsafe extern "C" fn set_state_callback(
        vdev: *mut vfio_bindings::vfio_device,
        new_state: vfio_bindings::vfio_device_mig_state,
    ) -> *mut bindings::file {
        // SAFETY: By the function's requirement.
        let device = unsafe { Device::<T>::from_raw(vdev) };

        let file = MigState::from_raw(new_state)
            .ok_or(EINVAL)
            .and_then(|state| {
                // SAFETY: By the function's requirement.
                unsafe { T::Base::enter(device) }?;
                T::set_state(device, state)
            });
        match file {
            Ok(Some(file)) => file.into_raw(),
            Ok(None) => core::ptr::null_mut(),
            Err(error) => error.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// Called by the VFIO core with a registered device of a driver with this table.
    unsafe extern "C" fn get_state_callback(
        vdev: *mut vfio_bindings::vfio_device,
        state: *mut vfio_bindings::vfio_device_mig_state,
    ) -> c_int {
        // SAFETY: By the function's requirement.
        let device = unsafe { Device::<T>::from_raw(vdev) };

        // SAFETY: The core passes a variable of its own.
        unsafe { *state = T::state(device).raw() };
        0
    }

    /// # Safety
    ///
    /// As for [`Self::set_state_callback`].
    unsafe extern "C" fn get_data_size_callback(
        vdev: *mut vfio_bindings::vfio_device,
        size: *mut c_ulong,
    ) -> c_int {
        // SAFETY: By the function's requirement.
        let device = unsafe { Device::<T>::from_raw(vdev) };

        from_result(|| {
            let bytes = T::data_size(device)?;
            // SAFETY: The core passes a variable of its own.
            unsafe { *size = c_ulong::try_from(bytes).map_err(|_| EOVERFLOW)? };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// `vdev` must be an open device of this type during the lifetime.
    unsafe fn device<'a>(vdev: NonNull<vfio_bindings::vfio_device>) -> &'a Device<T> {
        // SAFETY: By the function's requirement.
        unsafe { Device::from_raw(vdev.as_ptr()) }
    }

    /// # Safety
    ///
    /// See [`DataOperations`].
    unsafe fn read_data(
        vdev: NonNull<vfio_bindings::vfio_device>,
        session: u64,
        into: &mut [u8],
    ) -> Result<Available> {
        // SAFETY: By the function's requirement.
        T::read_data(unsafe { Self::device(vdev) }, session, into)
    }

    /// # Safety
    ///
    /// See [`DataOperations`].
    unsafe fn write_data(
        vdev: NonNull<vfio_bindings::vfio_device>,
        session: u64,
        bytes: &[u8],
    ) -> Result {
        // SAFETY: By the function's requirement.
        T::write_data(unsafe { Self::device(vdev) }, session, bytes)
    }

    /// # Safety
    ///
    /// See [`DataOperations`].
    unsafe fn is_readable(vdev: NonNull<vfio_bindings::vfio_device>, session: u64) -> Result<bool> {
        // SAFETY: By the function's requirement.
        T::is_readable(unsafe { Self::device(vdev) }, session)
    }

    /// # Safety
    ///
    /// See [`DataOperations`].
    unsafe fn is_writable(vdev: NonNull<vfio_bindings::vfio_device>, session: u64) -> Result<bool> {
        // SAFETY: By the function's requirement.
        T::is_writable(unsafe { Self::device(vdev) }, session)
    }

    /// # Safety
    ///
    /// See [`DataOperations`].
    unsafe fn precopy_info(
        vdev: NonNull<vfio_bindings::vfio_device>,
        session: u64,
        may_reinit: bool,
    ) -> Result<PrecopyInfo> {
        // SAFETY: By the function's requirement.
        T::precopy_info(unsafe { Self::device(vdev) }, session, may_reinit)
    }

    /// # Safety
    ///
    /// See [`DataOperations`].
    unsafe fn buffered(vdev: NonNull<vfio_bindings::vfio_device>, session: u64, bytes: usize) {
        // SAFETY: By the function's requirement.
        T::buffered(unsafe { Self::device(vdev) }, session, bytes);
    }
}
