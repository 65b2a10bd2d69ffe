// SPDX-License-Identifier: GPL-2.0

//! A driver of mediated devices that migrate.

use crate::{
    attributes::{
        MigrationAttributes,
        SettingAttributes,
        Settings, //
    },
    emulated::EmulatedDevice,
    model::{
        Log,
        Model, //
    },
};
use core::marker::PhantomData;
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    ThisModule, //
};
use vfio::{
    mdev,
    migration::Support, //
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
    /// What an administrator can choose for a device while it is closed.
    type Settings: Settings;

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

/// What the mdev core sees of a driver.
struct Glue<D>(PhantomData<D>);

impl<D: Driver> mdev::Driver for Glue<D> {
    type Data = EmulatedDevice<D>;
    type Attributes = MigrationAttributes<D>;
    type MoreAttributes = SettingAttributes<D>;

    const NAME: &'static CStr = D::NAME;
    const TYPES: &'static [Type] = D::TYPES;
    const MAX_INSTANCES: u32 = D::MAX_INSTANCES;
    const MIGRATION: Support = Support::of::<EmulatedDevice<D>>();

    fn probe(mdev: &mdev::Device, type_index: usize) -> impl PinInit<EmulatedDevice<D>, Error> {
        EmulatedDevice::new(
            mdev.name(),
            D::settings(type_index, mdev.name()),
            move |bar| D::bar_size(type_index, bar),
            WindowSize::new(D::window_size()),
        )
    }
}

/// A registered driver. Dropping it removes its mdevs.
pub struct Registration<D: Driver>(#[expect(dead_code)] mdev::Registration<Glue<D>>);

impl<D: Driver> Registration<D> {
    /// Registers the driver for `module`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if [`Driver::window_size`] is not allowed; `ENOMEM`, `EEXIST`, or what the mdev core
    /// returns.
    pub fn new(module: &'static ThisModule) -> Result<Self> {
        let window_size = D::window_size();
        WindowSize::new(window_size).inspect_err(|_| {
            pr_err!(
                "{}: window_size={} is not a multiple of the page size between one page and {}\n",
                D::NAME,
                window_size,
                WINDOW_SIZE_MAX
            );
        })?;

        Ok(Self(mdev::Registration::new(module)?))
    }
}
