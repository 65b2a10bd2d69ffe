// SPDX-License-Identifier: GPL-2.0

//! Devices with an emulated IOMMU: registers, interrupts and DMA are the driver's.
//!
//! C header: [`include/linux/vfio.h`](srctree/include/linux/vfio.h), `vfio_register_emulated_iommu_dev()`

mod base;
mod dma;
mod gate;
mod interrupts;
mod ioctl;
mod operations;
mod state;
mod waker;
mod work;

pub use self::{
    base::{
        Paused,
        Turn, //
    },
    dma::{
        Access,
        Dma,
        Failure, //
    },
    interrupts::{
        Interrupts,
        VectorCounts, //
    },
    operations::{
        DeviceInfo,
        Operations, //
    },
    state::Emulated,
    waker::Waker, //
};
