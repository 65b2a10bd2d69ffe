// SPDX-License-Identifier: GPL-2.0

//! The trait that a vendor driver implements.

use crate::dma_memory::DmaMemory;
use device_model::{
    Backend,
    DeviceModel,
    Log,
    Worker, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    time::Delta,
    ModuleMetadata, //
};

pub use vfio::{
    emulated::Waker,
    mdev::Type, //
};

/// Default size of the data window in bytes.
pub const WINDOW_SIZE_DEFAULT: usize = 1 << 20;
/// Largest size of the data window in bytes.
pub const WINDOW_SIZE_MAX: usize = 16 << 20;

/// Size of a data window: a multiple of the page size from one page to [`WINDOW_SIZE_MAX`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WindowSize(usize);

impl WindowSize {
    /// Returns a size of `bytes`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the size is not allowed.
    pub fn new(bytes: usize) -> Result<Self> {
        if bytes == 0 || bytes > WINDOW_SIZE_MAX || bytes % PAGE_SIZE != 0 {
            return Err(EINVAL);
        }

        Ok(Self(bytes))
    }

    /// Returns the size in bytes.
    pub fn bytes(self) -> usize {
        self.0
    }
}

/// The parameters of a driver's kernel module. [`module_driver`](crate::module_driver) implements them.
pub trait ModuleParameters {
    /// Bytes of the data window of a new mdev, see [`WindowSize`]. With another number the driver cannot be
    /// registered.
    fn window_size() -> usize;
}

/// The parameters of a driver's devices.
pub type Parameters<D> = <<D as Driver>::Model as DeviceModel>::Parameters;

/// A vendor driver, which describes its devices.
pub trait Driver: ModuleParameters + Sized + Send + Sync + 'static {
    /// The model of a device.
    type Model: DeviceModel + for<'a> Worker<DmaMemory<'a>, Self::Backend>;
    /// The content of a device on the host, `()` if the model is all of the device.
    type Backend: Backend;
    /// The settings that an administrator can choose for a closed device. A clone is made for each open
    /// and for each read of an attribute, and must be cheap.
    type Settings: Clone + Send + Unpin + 'static;

    /// The driver's module: its `LocalModule`.
    type OwnerModule: ModuleMetadata;

    /// Name of the driver, and of the class and the parent device of its mdevs.
    const NAME: &'static CStr;
    /// The types of mdev that can be made.
    const TYPES: &'static [Type];
    /// The largest number of mdevs of all types together.
    const MAX_INSTANCES: u32;

    /// Returns the settings of a new mdev called `name` of type `TYPES[type_index]`, which the current
    /// process makes.
    ///
    /// # Errors
    ///
    /// The error of that process.
    fn settings(type_index: usize, name: &CStr) -> Result<Self::Settings>;

    /// Returns the size of BAR `bar`, 0 to 5, of a device of type `TYPES[type_index]` in bytes; 0 if the
    /// device has no such BAR. Only a BAR with a size is accessed.
    fn bar_size(type_index: usize, bar: u32) -> u64;

    /// Returns the parameters of a device and its backend, for the user that is opening it now. The backend uses `waker`
    /// when it is done with what it does while the device goes on.
    ///
    /// # Errors
    ///
    /// The error of the user's open.
    fn open(
        settings: &Self::Settings,
        waker: Waker,
        log: Log<'_>,
    ) -> Result<(Parameters<Self>, Self::Backend)>;

    /// Returns how long the worker of a device looks for more work, as [`Work::Poll`](device_model::Work::Poll) lets it.
    fn poll_time(_settings: &Self::Settings) -> Delta {
        Delta::ZERO
    }
}
