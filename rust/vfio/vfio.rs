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

pub mod attribute;
pub mod class;
pub mod device;
pub mod dma;
pub mod dma_log;
pub mod eventfd;
pub mod file;
pub mod ioctl;
pub mod irq;
pub mod lock;
pub mod mdev;
pub mod memcg;
pub mod migration;
pub mod page_log;
pub mod ratelimit;
pub mod refusal;
pub mod region;
pub mod routing;
pub mod shared_pages;
pub mod trace;
mod uapi_check;

use kernel::{
    ffi::c_char,
    prelude::*, //
};

/// `CStrExt::as_char_ptr()` for tables that the compiler makes.
#[expect(
    clippy::disallowed_methods,
    reason = "a trait's method cannot be called there"
)]
const fn const_char_ptr(name: &'static CStr) -> *const c_char {
    name.as_ptr().cast()
}
