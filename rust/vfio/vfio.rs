// SPDX-License-Identifier: GPL-2.0

//! Safe abstractions over the kernel's VFIO, mediated devices and what a vendor driver needs
//! beside them.
//!
//! This crate is the only home of `unsafe` in Ferry's modules. Its names follow those of the abstractions
//! that are proposed upstream ([`Operations`](device::Operations), [`Device`](device::Device),
//! [`Registration`](device::Registration)), so that a driver can move to them one day.
//!
//! C headers: [`include/linux/vfio.h`](srctree/include/linux/vfio.h),
//! [`include/linux/mdev.h`](srctree/include/linux/mdev.h),
//! [`include/uapi/linux/vfio.h`](srctree/include/uapi/linux/vfio.h)

#![warn(missing_docs)]
#![warn(clippy::undocumented_unsafe_blocks)]

pub mod device;
pub mod emulated;
pub mod irq;
pub mod log;
pub mod mdev;
pub mod migration;
pub mod region;
mod registration;
pub mod trace;
mod trampolines;
mod uapi_check;
pub mod virqfd;

pub use self::{
    device::{
        Base,
        Device,
        Operations, //
    },
    registration::Registration, //
};
