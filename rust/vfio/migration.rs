// SPDX-License-Identifier: GPL-2.0

//! Protocol v2 of live migration: what a driver implements, and the data files through which the
//! state of a device moves.
//!
//! A user sets states by `VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE`, some of which come with a file. The
//! driver gives that file's data, or takes it, by [`MigrationOperations::read_data`] and
//! [`MigrationOperations::write_data`]; the file itself is here, once for all drivers.
//!
//! # Lifetime
//!
//! A data file outlives its session, the device and the driver's module, as long as the user keeps
//! it. It holds a [`RevocableDevice`](revocable::RevocableDevice) to the device, which is revoked before the device is closed; from then on
//! every operation on the file returns `ENODEV` and runs none of the driver's code.
//!
//! # Lock order
//!
//! `DataFile::buffer`, `RevocableDevice::device`, then whatever locks the driver takes. The user's memory is
//! accessed with `DataFile::buffer` held alone: a user that lets a page fault hang holds up nobody
//! but those who use the same file.
//!
//! C headers: [`include/linux/vfio.h`](srctree/include/linux/vfio.h),
//! `enum vfio_device_mig_state` and `struct vfio_precopy_info` of
//! [`include/uapi/linux/vfio.h`](srctree/include/uapi/linux/vfio.h)

mod data;
mod file;
mod operations;
pub(crate) mod revocable;
pub(crate) mod support;
mod trampolines;

pub use self::{
    data::{
        Available,
        Direction, //
    },
    file::{
        DataFile,
        BUFFER_SIZE, //
    },
    operations::MigrationOperations,
    support::Support, //
};
