// SPDX-License-Identifier: GPL-2.0

//! Safe abstractions over the kernel's VFIO: devices, regions, interrupts, migration, the dirty log, mediated
//! devices.
//!
//! A [`Device`] begins with the C structure of its [`Base`] and ends with the driver's data, whose type
//! implements [`Operations`]. A [`Registration`] makes it. `emulated` has the base of devices whose registers
//! and DMA are the driver's. The base of real functions, `vfio_pci_core_device`, is the crate `vfio_pci`, in a
//! module of its own.
//!
//! # Layers
//!
//! 1. `region`, `irq`, `virqfd`; of `migration` the data file and the link to the device; `support` of
//!    `migration` and `log`: none of these knows the type of a device.
//! 2. `device`: [`Device`], [`Operations`], [`Base`].
//! 3. The other callbacks, and the C callbacks that lead to them: `migration`, `log`, `emulated`.
//! 4. `trampolines`, `registration`, `mdev`.
//!
//! The names follow those of the abstractions that are proposed upstream, see
//! `Documentation/upstreaming.rst`.
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
