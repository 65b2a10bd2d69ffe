// SPDX-License-Identifier: GPL-2.0

//! What the author of a vendor driver writes: the driver.

use crate::model::{
    Log,
    Model, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};

pub use vfio::mdev::Type;

/// Default size of the data window in bytes.
pub const WINDOW_SIZE_DEFAULT: usize = 1 << 20;
/// Largest size of the data window in bytes.
pub const WINDOW_SIZE_MAX: usize = 16 << 20;

/// Size of a data window: a multiple of the page size from one page to [`WINDOW_SIZE_MAX`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WindowSize(usize);

impl WindowSize {
    /// A size of `bytes`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if that is not allowed.
    pub fn new(bytes: usize) -> Result<Self> {
        if bytes == 0 || bytes > WINDOW_SIZE_MAX || bytes % PAGE_SIZE != 0 {
            return Err(EINVAL);
        }

        Ok(Self(bytes))
    }

    /// In bytes.
    pub fn bytes(self) -> usize {
        self.0
    }
}

/// What a vendor driver says of itself.
pub trait Driver: Sized + Send + Sync + 'static {
    /// Its device.
    type Model: Model;
    /// What an administrator can choose for a device while it is closed. A clone is made for each open and
    /// for each read of an attribute, and must be cheap.
    type Settings: Clone + Send + Unpin + 'static;

    /// Name of the driver, and of the class and the parent device of its mdevs.
    const NAME: &'static CStr;
    /// The types of mdev that can be made.
    const TYPES: &'static [Type];
    /// How many mdevs of all types together there can be.
    const MAX_INSTANCES: u32;

    /// The settings of a new mdev called `name` of type `TYPES[type_index]`, which the current process
    /// makes.
    ///
    /// # Errors
    ///
    /// What that process gets.
    fn settings(type_index: usize, name: &CStr) -> Result<Self::Settings>;

    /// Size of BAR `bar`, which is 0 to 5, of a device of type `TYPES[type_index]` in bytes; 0 if
    /// there is no such BAR. Only a BAR with a size is accessed.
    fn bar_size(type_index: usize, bar: u32) -> u64;

    /// A device after power-on, for the user that is opening it now.
    ///
    /// # Errors
    ///
    /// What the user's open gets.
    fn open(settings: &Self::Settings, log: Log<'_>) -> Result<Self::Model>;

    /// Bytes of the data window of a new mdev, see [`WindowSize`]. With another number the driver
    /// cannot be registered.
    fn window_size() -> usize;
}
