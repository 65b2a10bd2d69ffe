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

mod attributes;
mod context;
mod device;
mod ops;
mod pins;
mod port;

use crate::{
    driver::{
        ModuleParameters,
        WindowSize,
        WINDOW_SIZE_MAX, //
    },
    variant::{
        attributes::MigrationAttributes,
        device::Variant, //
    },
};
use core::marker::PhantomData;
use device_model::hardware::FollowDma;
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

/// How the pages that a function writes to are told, for the dirty bitmap.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DirtyTracking {
    /// They are not: all memory is dirty, and no register is trapped for this.
    Off,
    /// By the registers that drivers of guests write in their usual order.
    Usual,
    /// By all registers that tell, at the price of more traps.
    Strict,
}

impl DirtyTracking {
    /// # Errors
    ///
    /// `EINVAL` for an unknown value.
    fn new(parameter: u8) -> Result<Self> {
        match parameter {
            0 => Ok(Self::Off),
            1 => Ok(Self::Usual),
            2 => Ok(Self::Strict),
            _ => Err(EINVAL),
        }
    }
}

/// The module parameters of a variant driver.
pub trait VariantParameters: ModuleParameters {
    /// The parameter `dirty_tracking`.
    fn dirty_tracking() -> u8;
}

/// A variant driver, which describes the functions that it migrates.
pub trait Driver: VariantParameters + Sized + Send + Sync + 'static {
    /// The function.
    type Hardware: FollowDma<StateError: Send + Unpin> + Send + Unpin + 'static;

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
    fn open(identity: &Identity, tracking: DirtyTracking) -> Result<Self::Hardware>;
}

/// The PCI core's view of a driver.
struct Glue<D>(PhantomData<D>);

impl<D: Driver> vfio_pci::Driver for Glue<D> {
    type OwnerModule = D::OwnerModule;
    type Data = Variant<D>;

    type Attributes = MigrationAttributes<D>;

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
    /// `EINVAL` if a module parameter is not allowed; `ENOMEM`, `EEXIST`.
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

        DirtyTracking::new(D::dirty_tracking()).inspect_err(|_| {
            pr_err!(
                "{}: dirty_tracking={} is none of 0 (off), 1 (usual) and 2 (strict)\n",
                D::NAME,
                D::dirty_tracking()
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

        impl $crate::variant::VariantParameters for $driver {
            fn dirty_tracking() -> u8 {
                module_parameters::dirty_tracking.value()
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
                dirty_tracking: u8 {
                    default: 1,
                    description: "Follow DMA for the dirty bitmap: 0 never (all memory is dirty), 1 with few traps, 2 with all traps",
                },
            },
        }
    };
}
