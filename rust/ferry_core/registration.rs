// SPDX-License-Identifier: GPL-2.0

//! Registration of a driver with the mdev core.

use crate::{
    attributes::{
        MigrationAttributes,
        SettingAttributes,
        SettingDirectories, //
    },
    device::emulated::EmulatedDevice,
    driver::{
        Type,
        WindowSize,
        WINDOW_SIZE_MAX, //
    },
};
use core::marker::PhantomData;
use kernel::prelude::*;
use vfio::{
    mdev,
    migration::Support, //
};

/// The mdev core's view of a driver.
struct Glue<D>(PhantomData<D>);

impl<D: SettingDirectories> mdev::Driver for Glue<D> {
    type OwnerModule = D::OwnerModule;
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
pub struct Registration<D: SettingDirectories>(#[expect(dead_code)] mdev::Registration<Glue<D>>);

impl<D: SettingDirectories> Registration<D> {
    /// Registers the driver.
    ///
    /// # Errors
    ///
    /// `EINVAL` if [`ModuleParameters::window_size`](crate::driver::ModuleParameters::window_size) is not
    /// allowed; `ENOMEM`, `EEXIST`, or the error of the mdev core.
    pub fn new() -> Result<Self> {
        let window_size = D::window_size();
        WindowSize::new(window_size).inspect_err(|_| {
            pr_err!(
                "{}: window_size={} is not a multiple of the page size between one page and {}\n",
                D::NAME,
                window_size,
                WINDOW_SIZE_MAX
            );
        })?;

        Ok(Self(mdev::Registration::new()?))
    }
}

/// Declares the kernel module of a driver, with the entries that `module!` takes after `type`, and with
/// the parameters of [`ModuleParameters`](crate::driver::ModuleParameters).
#[macro_export]
macro_rules! module_driver {
    ($driver:ty, { $($entries:tt)* }) => {
        struct DriverModule {
            _registration: $crate::registration::Registration<$driver>,
        }

        impl ::kernel::Module for DriverModule {
            fn init(_module: &'static ::kernel::ThisModule) -> ::kernel::error::Result<Self> {
                Ok(Self {
                    _registration: $crate::registration::Registration::new()?,
                })
            }
        }

        impl $crate::driver::ModuleParameters for $driver {
            fn window_size() -> usize {
                module_parameters::window_size.value()
            }
        }

        ::kernel::prelude::module! {
            type: DriverModule,
            $($entries)*
            params: {
                window_size: usize {
                    default: $crate::driver::WINDOW_SIZE_DEFAULT,
                    description: "Default size of an mdev's migration data window in bytes (page multiple, at most 16 MiB)",
                },
            },
        }
    };
}
