// SPDX-License-Identifier: GPL-2.0

//! Sysfs attributes of an mdev: its directory `migration`, and the directories of the driver's settings.
//!
//! Described in `Documentation/ABI/testing/sysfs-bus-mdev-ferry`.

use crate::{
    device::emulated::EmulatedDevice,
    driver::{
        Driver,
        WindowSize, //
    },
    protocol::Protocols,
    settings::Setting, //
};
use core::marker::PhantomData;
use kernel::prelude::*;
use kernel_ext::sysfs::{
    self,
    Attribute,
    Group, //
};
use vfio::mdev::Instance;

/// An element of a list of attributes of the driver `D`.
pub type Entry<D> = sysfs::Entry<Instance<EmulatedDevice<D>>>;

/// The directory `migration`.
pub(crate) struct MigrationAttributes<D>(PhantomData<D>);

impl<D: Driver> Group for MigrationAttributes<D> {
    type Data = Instance<EmulatedDevice<D>>;

    const NAME: &'static CStr = c"migration";
    const ATTRIBUTES: &'static [Entry<D>] = &[
        sysfs::Entry::of::<DeviceStateAttribute<D>>(),
        sysfs::Entry::of::<ProtocolAttribute<D>>(),
        sysfs::Entry::of::<WindowSizeAttribute<D>>(),
        sysfs::Entry::END,
    ];
}

/// A directory of settings of the driver `D`: [`setting`]s, with [`Entry::END`](sysfs::Entry::END) at the end.
pub type Directory<D> = sysfs::Directory<Instance<EmulatedDevice<D>>>;

/// The settings of a driver's devices, as files of directories of each mdev.
pub trait SettingDirectories: Driver {
    /// The directories.
    const DIRECTORIES: &'static [Directory<Self>] = &[];
}

/// The directories of the driver's settings.
pub(crate) struct SettingAttributes<D>(PhantomData<D>);

impl<D: SettingDirectories> sysfs::Directories for SettingAttributes<D> {
    type Data = Instance<EmulatedDevice<D>>;

    const DIRECTORIES: &'static [Directory<D>] = D::DIRECTORIES;
}

/// The attribute of `S`, a setting of the driver `D`, which an open device refuses to change with `EBUSY`.
pub const fn setting<D: Driver, S: Setting<Settings = D::Settings>>() -> Entry<D> {
    sysfs::Entry::of::<SettingAttribute<D, S>>()
}

struct SettingAttribute<D, S>(PhantomData<(D, S)>);

impl<D: Driver, S: Setting<Settings = D::Settings>> Attribute for SettingAttribute<D, S> {
    type Data = Instance<EmulatedDevice<D>>;
    type Value = S::Shown;

    const NAME: &'static CStr = S::NAME;
    const WRITABLE: bool = true;
    const ALLOWED: &'static str = S::ALLOWED;

    fn show(mdev: &Self::Data) -> Result<S::Shown> {
        S::show(&mdev.settings())
    }

    fn store(mdev: &Self::Data, text: &str) -> Result {
        // An open device answers EBUSY, even to a text that does not parse.
        mdev.change_settings(|_| Ok(()))?;
        let parsed = S::parse(text)?;
        mdev.change_settings(|settings| S::store(settings, parsed))
    }
}

/// `device_state`: the name of the state, or `closed`.
struct DeviceStateAttribute<D>(PhantomData<D>);

impl<D: Driver> Attribute for DeviceStateAttribute<D> {
    type Data = Instance<EmulatedDevice<D>>;
    type Value = &'static str;

    const NAME: &'static CStr = c"device_state";
    const WRITABLE: bool = false;
    const ALLOWED: &'static str = "nothing";

    fn show(mdev: &Self::Data) -> Result<&'static str> {
        Ok(mdev.state().map_or("closed", |state| state.name()))
    }
}

/// `protocol`: which migration protocols the device offers, `any`, `v1` or `v2`, which can be changed
/// while the device is closed.
struct ProtocolAttribute<D>(PhantomData<D>);

impl<D: Driver> Attribute for ProtocolAttribute<D> {
    type Data = Instance<EmulatedDevice<D>>;
    type Value = Protocols;

    const NAME: &'static CStr = c"protocol";
    const WRITABLE: bool = true;
    const ALLOWED: &'static str = "any, v1 or v2";

    fn show(mdev: &Self::Data) -> Result<Protocols> {
        Ok(mdev.protocols())
    }

    fn store(mdev: &Self::Data, text: &str) -> Result {
        EmulatedDevice::set_protocols(mdev, text.parse()?)
    }
}

/// `window_size`: the size of the data window in bytes, which can be changed while the device is
/// closed.
struct WindowSizeAttribute<D>(PhantomData<D>);

impl<D: Driver> Attribute for WindowSizeAttribute<D> {
    type Data = Instance<EmulatedDevice<D>>;
    type Value = usize;

    const NAME: &'static CStr = c"window_size";
    const WRITABLE: bool = true;
    const ALLOWED: &'static str = "a multiple of the page size, from one page to 16777216";

    fn show(mdev: &Self::Data) -> Result<usize> {
        Ok(mdev.window_size().bytes())
    }

    fn store(mdev: &Self::Data, text: &str) -> Result {
        let bytes = text.parse().map_err(|_| EINVAL)?;

        mdev.set_window_size(WindowSize::new(bytes)?)
    }
}
