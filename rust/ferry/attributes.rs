// SPDX-License-Identifier: GPL-2.0

//! Sysfs attributes of an mdev, in its `migration` directory.
//!
//! Described in `Documentation/ABI/testing/sysfs-bus-mdev-ferry`.

use crate::{
    driver::{
        Driver,
        WindowSize, //
    },
    mediated::Mediated, //
};
use core::marker::PhantomData;
use kernel::prelude::*;
use vfio::{
    attribute::{
        Attribute,
        Entry,
        Group, //
    },
    device::Device, //
};

/// The `migration` directory.
pub(crate) struct MigrationAttributes<D>(PhantomData<D>);

impl<D: Driver> Group for MigrationAttributes<D> {
    const NAME: &'static CStr = c"migration";
    const ATTRIBUTES: &'static [Entry] = &[
        Entry::of::<DeviceStateAttribute<D>>(),
        Entry::of::<WindowSizeAttribute<D>>(),
        Entry::END,
    ];
}

/// `device_state`: the name of the state, or `closed`.
struct DeviceStateAttribute<D>(PhantomData<D>);

impl<D: Driver> Attribute for DeviceStateAttribute<D> {
    type Device = Mediated<D>;
    type Value = &'static str;

    const NAME: &'static CStr = c"device_state";
    const WRITABLE: bool = false;

    fn show(device: &Device<Mediated<D>>) -> Result<&'static str> {
        Ok(device.state().map_or("closed", |state| state.name()))
    }
}

/// `window_size`: the size of the data window in bytes, which can be changed while the device is
/// closed.
struct WindowSizeAttribute<D>(PhantomData<D>);

impl<D: Driver> Attribute for WindowSizeAttribute<D> {
    type Device = Mediated<D>;
    type Value = usize;

    const NAME: &'static CStr = c"window_size";
    const WRITABLE: bool = true;

    fn show(device: &Device<Mediated<D>>) -> Result<usize> {
        Ok(device.window_size().bytes())
    }

    fn store(device: &Device<Mediated<D>>, text: &str) -> Result {
        let bytes = text.parse().map_err(|_| EINVAL)?;

        device.set_window_size(WindowSize::new(bytes)?)
    }
}
