// SPDX-License-Identifier: GPL-2.0

//! The callbacks of a VFIO device, `struct vfio_device_ops`.

use super::{
    Base,
    Device, //
};
use crate::{
    log::support::Support as LogSupport,
    region::{
        Position,
        RegionInfo, //
    },
};
use kernel::{
    build_error,
    device,
    error::VTABLE_DEFAULT_ERROR,
    mm::virt::VmaNew,
    prelude::*,
    uaccess::UserPtr, //
};

/// Callbacks of a VFIO device. The implementing type is the device's private data.
///
/// A callback that is not implemented is the base's default, see [`Base::DEFAULTS`]. Every callback may sleep.
///
/// First open and last close run under the lock of the device set, so [`Self::open_device`] and
/// [`Self::close_device`] are concurrent neither with each other nor with another callback that gets a
/// [`Device`]. The other callbacks are concurrent with each other.
///
/// A callback that gets no [`Device`] but only the data is also called while the device is closed, or is being
/// opened or closed.
#[vtable]
pub trait Operations: Sized + Send + Sync + 'static {
    /// The C structure that the device embeds.
    type Base: Base<Self>;

    /// Name of the driver.
    const NAME: &'static CStr;
    /// Whether the device logs its DMA.
    const LOG: LogSupport = LogSupport::NONE;

    /// Opens the first file of the device.
    ///
    /// # Errors
    ///
    /// What the user's open gets.
    fn open_device(device: &Device<Self>) -> Result;

    /// Closes the last file of the device. No mapping of the device is left.
    fn close_device(device: &Device<Self>);

    /// Reads `count` bytes at `position` into `into`, and returns the number of bytes that were read.
    ///
    /// # Errors
    ///
    /// What the user's `read()` gets.
    fn read(
        _device: &Device<Self>,
        _into: UserPtr,
        _count: usize,
        _position: Position,
    ) -> Result<usize> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Writes `count` bytes of `from` at `position`, and returns the number of bytes that were written.
    ///
    /// # Errors
    ///
    /// What the user's `write()` gets.
    fn write(
        _device: &Device<Self>,
        _from: UserPtr,
        _count: usize,
        _position: Position,
    ) -> Result<usize> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Serves an ioctl that the VFIO core does not serve.
    ///
    /// # Errors
    ///
    /// What the user's `ioctl()` gets.
    fn ioctl(_device: &Device<Self>, _cmd: u32, _arg: UserPtr) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Serves `VFIO_DEVICE_GET_REGION_INFO`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such region.
    fn get_region_info(_device: &Device<Self>, _info: RegionInfo<'_>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Maps the region at `position` into `vma`. Called under the mmap lock: must not take a lock under
    /// which user memory is accessed.
    ///
    /// # Errors
    ///
    /// What the user's `mmap()` gets.
    fn mmap(_device: &Device<Self>, _vma: &VmaNew, _position: Position) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Asks the user to release the device, which is being unregistered while a user has it open, or has
    /// its character device open and not bound. Called again every ten seconds, after `count` earlier
    /// calls, until the device is released.
    fn request(_data: &Self, _device: &device::Device, _count: u32) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Drops every pin in `[iova, iova + length)`, which the user is unmapping.
    fn dma_unmap(_device: &Device<Self>, _iova: u64, _length: u64) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}
