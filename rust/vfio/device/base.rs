// SPDX-License-Identifier: GPL-2.0

//! The C structure that a VFIO device embeds.

use super::{
    Device,
    Operations, //
};
use kernel::prelude::*;

/// The C structure that a [`Device`] begins with, and the functions of the C library that it belongs to.
///
/// A `struct vfio_device` may stand alone, or be the start of a larger structure such as
/// `struct vfio_pci_core_device`. The structure decides how the device is registered, what a callback
/// does that the driver does not implement, and what surrounds the driver's open and close. A value of the
/// implementing type is the Rust state that the base keeps in each device.
///
/// Below, a callback is one that gets a [`Device`], see [`Operations`].
///
/// # Safety
///
/// - [`Self::Raw`] begins with a `struct vfio_device`, and is valid if it is all zeros but for what
///   `_vfio_alloc_device()` and the `init` of [`Self::DEFAULTS`] set.
/// - `init` and `release` of [`Self::DEFAULTS`] touch nothing of the device behind [`Self::Raw`].
/// - The other callbacks of [`Self::DEFAULTS`] are sound for a [`Device<T>`].
/// - After [`Self::unregister`] no callback runs or will run.
pub unsafe trait Base<T: Operations>: Sized + Send + Sync + 'static {
    /// The C structure.
    type Raw;

    /// The callbacks that stand where [`Operations`] has none. `init` sets up what [`Self::Raw`] has
    /// beside the `struct vfio_device`; `release` is called after the driver's data is dropped. `name`,
    /// `open_device` and `close_device` are not used.
    const DEFAULTS: vfio_bindings::vfio_device_ops;

    /// Initialises the Rust state.
    fn new() -> impl PinInit<Self>;

    /// Registers the device. Migration and logging callbacks are set before.
    ///
    /// # Safety
    ///
    /// `raw` must be the start of an initialised [`Device<T>`] that is not registered.
    ///
    /// # Errors
    ///
    /// What the C library returns.
    unsafe fn register(raw: *mut Self::Raw) -> Result;

    /// Unregisters the device, which waits until its last file is closed. May sleep.
    ///
    /// # Safety
    ///
    /// `raw` must be the start of a [`Device<T>`] that [`Self::register`] registered.
    unsafe fn unregister(raw: *mut Self::Raw);

    /// Prepares the device for [`Operations::open_device`], which follows.
    ///
    /// # Safety
    ///
    /// The device must be registered and closed, and no callback run.
    ///
    /// # Errors
    ///
    /// What the user's open gets.
    unsafe fn open(device: &Device<T>) -> Result;

    /// Lets the device be used, after a successful [`Operations::open_device`].
    ///
    /// # Safety
    ///
    /// [`Self::open`] must have succeeded, and no callback run.
    unsafe fn opened(_device: &Device<T>) {}

    /// Called before each callback of the open device that may give it work, with no lock held.
    ///
    /// # Safety
    ///
    /// The device must be open, and stay so meanwhile.
    ///
    /// # Errors
    ///
    /// What the user gets instead of the callback.
    unsafe fn enter(_device: &Device<T>) -> Result {
        Ok(())
    }

    /// Undoes [`Self::open`], after an [`Operations::open_device`] that failed.
    ///
    /// # Safety
    ///
    /// As for [`Self::opened`].
    unsafe fn open_failed(device: &Device<T>);

    /// Ends what keeps [`Operations::close_device`], which follows, waiting for the user.
    ///
    /// # Safety
    ///
    /// The device must be open, and no callback run.
    unsafe fn close(_device: &Device<T>) {}

    /// Undoes [`Self::open`], after [`Operations::close_device`].
    ///
    /// # Safety
    ///
    /// [`Self::close`] must have been called, and no callback run.
    unsafe fn closed(device: &Device<T>);
}
