// SPDX-License-Identifier: GPL-2.0

//! Sysfs attributes of a function that a variant driver has bound: the directory `migration` in that of the PCI
//! device.
//!
//! Described in `Documentation/ABI/testing/sysfs-bus-pci-ferry`.

use crate::{
    driver::WindowSize,
    migration::{
        migrating::with_migration,
        state::Engine, //
    },
    variant::{
        device::Variant,
        Driver, //
    },
};
use core::marker::PhantomData;
use device_model::hardware::FollowDma;
use kernel::prelude::*;
use kernel_ext::sysfs::{
    Attribute,
    Entry,
    Group, //
};
use vfio::Device;

/// The directory `migration`.
pub(super) struct MigrationAttributes<D>(PhantomData<D>);

impl<D: Driver> Group for MigrationAttributes<D> {
    type Data = Device<Variant<D>>;

    const NAME: &'static CStr = c"migration";
    const ATTRIBUTES: &'static [Entry<Self::Data>] = &[
        Entry::of::<DeviceStateAttribute<D>>(),
        Entry::of::<DirtyTrackingAttribute<D>>(),
        Entry::of::<WindowSizeAttribute<D>>(),
        Entry::END,
    ];
}

/// `device_state`: the name of the state, or `closed`.
struct DeviceStateAttribute<D>(PhantomData<D>);

impl<D: Driver> Attribute for DeviceStateAttribute<D> {
    type Data = Device<Variant<D>>;
    type Value = &'static str;

    const NAME: &'static CStr = c"device_state";
    const WRITABLE: bool = false;
    const ALLOWED: &'static str = "nothing";

    fn show(device: &Self::Data) -> Result<&'static str> {
        let state = with_migration(device, |migration| {
            migration.engine.as_ref().map(Engine::state)
        });

        Ok(state.map_or("closed", |state| state.name()))
    }
}

/// `dirty_tracking`: whether the function's DMA is followed.
struct DirtyTrackingAttribute<D>(PhantomData<D>);

impl<D: Driver> Attribute for DirtyTrackingAttribute<D> {
    type Data = Device<Variant<D>>;
    type Value = &'static str;

    const NAME: &'static CStr = c"dirty_tracking";
    const WRITABLE: bool = false;
    const ALLOWED: &'static str = "nothing";

    fn show(device: &Self::Data) -> Result<&'static str> {
        let open = device.open.lock();
        let Some(open) = open.as_ref() else {
            return Ok("closed");
        };

        Ok(if !open.hardware.can_follow() {
            "off"
        } else if open.hardware.lost().is_some() {
            "lost"
        } else if open.hardware.is_following() {
            "following"
        } else {
            "idle"
        })
    }
}

/// `window_size`: the size of the data section in bytes, which can be changed while the device is closed.
struct WindowSizeAttribute<D>(PhantomData<D>);

impl<D: Driver> Attribute for WindowSizeAttribute<D> {
    type Data = Device<Variant<D>>;
    type Value = usize;

    const NAME: &'static CStr = c"window_size";
    const WRITABLE: bool = true;
    const ALLOWED: &'static str = "a multiple of the page size, from one page to 16777216";

    fn show(device: &Self::Data) -> Result<usize> {
        Ok(device.migration.lock().window_size.bytes())
    }

    fn store(device: &Self::Data, text: &str) -> Result {
        let bytes = text.parse().map_err(|_| EINVAL)?;
        let size = WindowSize::new(bytes)?;
        let mut migration = device.migration.lock();

        if migration.in_use {
            return Err(EBUSY);
        }
        migration.window_size = size;
        Ok(())
    }
}
