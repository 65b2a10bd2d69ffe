// SPDX-License-Identifier: GPL-2.0

//! Mediated devices: a driver whose devices an administrator makes through sysfs.
//!
//! A [`Registration`] owns the parent device, the driver and its types. Dropping it removes the
//! devices that are left, which waits until they are closed; the module cannot be unloaded while
//! one is open.
//!
//! C header: [`include/linux/mdev.h`](srctree/include/linux/mdev.h)

mod device;
mod driver;
mod instance;
mod registration;

pub use self::{
    device::Device,
    driver::{
        Driver,
        Type, //
    },
    instance::Instance,
    registration::Registration, //
};
