// SPDX-License-Identifier: GPL-2.0

//! Binds a real PCI function to vfio-pci and to the migration engine.
//!
//! The author of a variant driver has a [`Hardware`], implements [`Driver`], and declares the module by
//! [`variant_driver`](crate::variant_driver). Everything in here is generic, so that it is in the driver's module, and
//! ferry.ko does not need vfio-pci-core.ko.
//!
//! # Lock order
//!
//! 1. `Variant::migration`: the state mutex. Transitions and the header of the migration region.
//! 2. `Variant::open`: the function. Accesses of trapped registers take only this one.
//! 3. `vfio_pci_core_device::memory_lock`, for each access of a register, see `vfio_pci`.
//!
//! `Variant::window` and `Variant::traps` are leaves, and the only locks that are taken under the mmap lock. The
//! user's buffers are accessed with no lock held. A stop reads the guest's descriptor rings with the first two held:
//! a user that lets a page fault hang there holds up its own device until it is killed.

mod context;
mod device;
mod ops;
mod port;

use crate::{
    driver::{
        ModuleParameters,
        WindowSize,
        WINDOW_SIZE_MAX, //
    },
    variant::device::Variant, //
};
use core::marker::PhantomData;
use device_model::hardware::Hardware;
use kernel::{
    device::{
        self as kernel_device,
        Bound, //
    },
    device_id::IdTable,
    prelude::*,
    ModuleMetadata, //
};
use vfio::migration::Support;

pub use vfio_pci::{
    Id,
    Identity, //
};

/// A variant driver, which describes the functions that it migrates.
pub trait Driver: ModuleParameters + Sized + Send + Sync + 'static {
    /// The function.
    type Hardware: Hardware<StateError: Send + Unpin> + Send + Unpin + 'static;

    /// The driver's module: its `LocalModule`.
    type OwnerModule: ModuleMetadata;

    /// Name of the driver.
    const NAME: &'static CStr;
    /// The functions that an administrator can give to the driver.
    const IDS: &'static dyn IdTable<Id, ()>;
    /// Index of the BAR with the registers.
    const REGISTER_BAR: u32;

    /// Returns the hardware of a function that a user is opening. It is reset next.
    ///
    /// # Errors
    ///
    /// The error of the user's open.
    fn open(identity: &Identity) -> Result<Self::Hardware>;
}

/// The PCI core's view of a driver.
struct Glue<D>(PhantomData<D>);

impl<D: Driver> vfio_pci::Driver for Glue<D> {
    type OwnerModule = D::OwnerModule;
    type Data = Variant<D>;

    const NAME: &'static CStr = D::NAME;
    const IDS: &'static dyn IdTable<Id, ()> = D::IDS;
    const MIGRATION: Support = Support::of::<Variant<D>>();

    fn probe(
        device: &kernel_device::Device<Bound>,
        identity: &Identity,
    ) -> impl PinInit<Variant<D>, Error> {
        Variant::new(device.name(), *identity, WindowSize::new(D::window_size()))
    }
}

/// A registered variant driver. Dropping it unbinds its functions.
pub struct Registration<D: Driver>(#[expect(dead_code)] vfio_pci::Registration<Glue<D>>);

impl<D: Driver> Registration<D> {
    /// Registers the driver.
    ///
    /// # Errors
    ///
    /// `EINVAL` if [`ModuleParameters::window_size`] is not allowed; `ENOMEM`, `EEXIST`.
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

        Ok(Self(vfio_pci::Registration::new()?))
    }
}

/// Declares the kernel module of a variant driver, as [`module_driver`](crate::module_driver) does for mdevs.
#[macro_export]
macro_rules! variant_driver {
    ($driver:ty, { $($entries:tt)* }) => {
        struct DriverModule {
            _registration: $crate::variant::Registration<$driver>,
        }

        impl ::kernel::Module for DriverModule {
            fn init(_module: &'static ::kernel::ThisModule) -> ::kernel::error::Result<Self> {
                Ok(Self {
                    _registration: $crate::variant::Registration::new()?,
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
                    description: "Size of the migration data window in bytes (page multiple, at most 16 MiB)",
                },
            },
        }
    };
}
