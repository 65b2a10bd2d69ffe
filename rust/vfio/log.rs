// SPDX-License-Identifier: GPL-2.0

//! The dirty log: the memory that a device writes while a user migrates it,
//! `VFIO_DEVICE_FEATURE_DMA_LOGGING_*`.
//!
//! A device that has a [`DirtyLog`] sets [`Operations::LOG`](crate::device::Operations::LOG) to
//! [`Support::of`]. The feature is offered where the kernel can report a log, which takes
//! `CONFIG_IOMMUFD_DRIVER`. Elsewhere a VMM uses the container's own log, in which the core's
//! `vfio_dma_rw()` records the same writes.
//!
//! C header: [`include/linux/vfio.h`](srctree/include/linux/vfio.h), `struct vfio_log_ops`

mod dirty_log;
mod dma_log;
pub mod page_log;
pub(crate) mod support;
#[cfg(CONFIG_IOMMUFD_DRIVER)]
mod trampolines;

pub use self::{
    dirty_log::{
        DirtyLog,
        LogOperations, //
    },
    dma_log::DmaLog,
    support::Support, //
};

#[cfg(not(CONFIG_IOMMUFD_DRIVER))]
impl Support {
    /// The device has no log, for the kernel cannot report the log of `T`.
    pub const fn of<T: LogOperations>() -> Self {
        Self::NONE
    }
}
