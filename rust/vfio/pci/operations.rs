// SPDX-License-Identifier: GPL-2.0

//! The callbacks of a variant driver's device beside those of every VFIO device.

use crate::{
    base::PciCore,
    function::Function,
    reset::ResetFlag,
    traps::Traps, //
};
use kernel::{
    mm::virt::VmaNew,
    prelude::*,
    uaccess::UserPtr, //
};
use vfio::{
    region::Info,
    Device, //
};

/// Callbacks of a variant driver's device. They may sleep.
///
/// Region [`pci::COUNT`](vfio::region::pci::COUNT) is the device's own, the migration region, if
/// [`open_device`](vfio::Operations::open_device) has registered it by
/// [`PciCore::register_own_region`].
pub trait Operations: vfio::Operations<Base = PciCore> + AsRef<ResetFlag> {
    /// The parts of BARs that the user must not map. Constant while the device is open. Called under the mmap
    /// lock, so it must not take a lock under which user memory is accessed.
    fn traps(device: &Device<Self>) -> Traps;

    /// Reads 1, 2, 4 or 8 bytes of a trapped part of a BAR, at a multiple of their number.
    ///
    /// # Errors
    ///
    /// What the user's `read()` gets.
    fn read_trapped(device: &Device<Self>, bar: u32, offset: u64, bytes: &mut [u8]) -> Result;

    /// Writes a trapped part of a BAR.
    ///
    /// # Errors
    ///
    /// What the user's `write()` gets.
    fn write_trapped(device: &Device<Self>, bar: u32, offset: u64, bytes: &[u8]) -> Result;

    /// Describes the device's own region.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is none.
    fn own_region(device: &Device<Self>) -> Result<Info>;

    /// Reads `count` bytes at `offset` of the own region.
    ///
    /// # Errors
    ///
    /// What the user's `read()` gets.
    fn read_own(device: &Device<Self>, into: UserPtr, count: usize, offset: u64) -> Result;

    /// Writes `count` bytes at `offset` of the own region.
    ///
    /// # Errors
    ///
    /// What the user's `write()` gets.
    fn write_own(device: &Device<Self>, from: UserPtr, count: usize, offset: u64) -> Result;

    /// Maps the own region at `offset` into `vma`. Called under the mmap lock.
    ///
    /// # Errors
    ///
    /// What the user's `mmap()` gets.
    fn map_own(device: &Device<Self>, vma: &VmaNew, offset: u64) -> Result;

    /// A system call that may have reset the function is about to return. See [`ResetFlag::take`].
    fn was_reset(device: &Device<Self>);

    /// The user has written the command register.
    fn command_written(device: &Device<Self>);

    /// The device is being closed, after [`close_device`](vfio::Operations::close_device), or an open of it has failed. The
    /// core has woken up the function and has ended its DMA, and disables it next. Called only if there is an own region.
    fn disabling(device: &Device<Self>, function: &Function<'_, Self>);
}
