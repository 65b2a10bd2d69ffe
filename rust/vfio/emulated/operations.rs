// SPDX-License-Identifier: GPL-2.0

//! The callbacks of an emulated PCI device beside those of every VFIO device.

use super::{
    dma::{
        Dma,
        Failure, //
    },
    state::Emulated,
};
use crate::{
    device::{
        self,
        Device, //
    },
    irq,
    log::DmaLog, //
};
use kernel::prelude::*;
use kernel_ext::refusal::Refusals;

/// The answer to `VFIO_DEVICE_GET_INFO`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DeviceInfo {
    /// Number of region indexes.
    pub num_regions: u32,
    /// Number of interrupt indexes.
    pub num_irqs: u32,
}

/// Callbacks of an emulated PCI device. They may sleep.
pub trait Operations: device::Operations<Base = Emulated> + AsRef<Refusals> {
    /// Serves `VFIO_DEVICE_GET_INFO`.
    fn info(device: &Device<Self>) -> DeviceInfo;

    /// Serves `VFIO_DEVICE_GET_IRQ_INFO`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no index `index`.
    fn irq_info(device: &Device<Self>, index: u32) -> Result<irq::Info>;

    /// Serves `VFIO_DEVICE_SET_IRQS`.
    ///
    /// # Errors
    ///
    /// See [`Interrupts::set`](super::Interrupts::set).
    fn set_irqs(device: &Device<Self>, set: irq::Set) -> Result;

    /// Serves `VFIO_DEVICE_RESET`.
    ///
    /// # Errors
    ///
    /// What the user's ioctl gets.
    fn reset(device: &Device<Self>) -> Result;

    /// The log in which [`Dma`] marks writes.
    fn dma_log(_device: &Device<Self>) -> Option<&DmaLog> {
        None
    }

    /// An access of the user's memory by [`Dma`] failed, which also got the error. Called by
    /// [`Self::work`]'s thread, with whatever locks that holds.
    fn dma_failed(_device: &Device<Self>, _failure: &Failure) {}

    /// Whether the device has work at all, and so a worker.
    const WORKS: bool;

    /// Does the work that [`Device::kick`] asked for: DMA, and all that the user's thread shall not wait
    /// for. Called in a thread of the user's process, never twice at once, and only while the device is open.
    fn work(_device: &Device<Self>, _dma: &Dma<'_>) {}
}
