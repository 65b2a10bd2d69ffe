// SPDX-License-Identifier: GPL-2.0

//! Protocol v2 of live migration: the driver's callbacks, and the data files through which the state
//! of a device moves.
//!
//! A user sets states by `VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE`, and some states come with a data file. The
//! driver produces or consumes the file's data by [`MigrationOperations::read_data`] and
//! [`MigrationOperations::write_data`]; the file itself is implemented here, once for all drivers.
//!
//! # Lifetime
//!
//! A data file outlives its session, the device and the driver's module, as long as the user keeps
//! it. It holds a `RevocableDevice`, which is revoked before the device is
//! closed; from then on every operation on the file returns `ENODEV` and runs none of the driver's code.
//!
//! # Lock order
//!
//! `DataStream::buffer`, `RevocableDevice::device`, then the driver's locks. The user's memory is accessed
//! with `DataStream::buffer` held alone: a user that lets a page fault hang holds up only the users of the
//! same file.
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
