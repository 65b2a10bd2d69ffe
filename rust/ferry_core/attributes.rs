// SPDX-License-Identifier: GPL-2.0

//! Sysfs attributes of an mdev: in its `migration` directory, and in one of its driver.
//!
//! Described in `Documentation/ABI/testing/sysfs-bus-mdev-ferry`.

use crate::{
    driver::{
        Driver,
        WindowSize, //
    },
    emulated::{
        EmulatedDevice,
        Protocols, //
    },
};
use core::{
    fmt::Display,
    marker::PhantomData, //
};
use kernel::prelude::*;
use vfio::{
    attribute::{
        Attribute,
        Entry,
        Group,
        NoGroup, //
    },
    mdev::Instance, //
};

/// The `migration` directory.
pub(crate) struct MigrationAttributes<D>(PhantomData<D>);

impl<D: Driver> Group for MigrationAttributes<D> {
    const NAME: &'static CStr = c"migration";
    const ATTRIBUTES: &'static [Entry] = &[
        Entry::of::<DeviceStateAttribute<D>>(),
        Entry::of::<ProtocolAttribute<D>>(),
        Entry::of::<WindowSizeAttribute<D>>(),
        Entry::END,
    ];
}

/// What an administrator can choose for a device while it is closed.
///
/// A clone is made for each open and for each read of an attribute, and must be cheap.
pub trait Settings: Clone + Send + Unpin + 'static {
    /// The directory of attributes, [`NoSettings`] if there is nothing to choose.
    type Directory: SettingDirectory;
}

/// The directory of a driver's own attributes.
pub trait SettingDirectory: 'static {
    /// Name of the directory.
    const NAME: &'static CStr;
    /// [`setting`]s, with [`Entry::END`] at the end.
    const ATTRIBUTES: &'static [Entry];
}

/// No directory.
pub struct NoSettings;

impl SettingDirectory for NoSettings {
    const NAME: &'static CStr = NoGroup::NAME;
    const ATTRIBUTES: &'static [Entry] = NoGroup::ATTRIBUTES;
}

/// The driver's directory.
pub(crate) struct SettingAttributes<D>(PhantomData<D>);

impl<D: Driver> Group for SettingAttributes<D> {
    const NAME: &'static CStr = <D::Settings as Settings>::Directory::NAME;
    const ATTRIBUTES: &'static [Entry] = <D::Settings as Settings>::Directory::ATTRIBUTES;
}

/// One of the [`Settings`], an attribute.
pub trait Setting: 'static {
    /// The driver whose settings these are.
    type Driver: Driver;
    /// What a read shows.
    type Shown: Display;
    /// What a write stores.
    type Parsed;

    /// Name of the attribute.
    const NAME: &'static CStr;
    /// What can be stored, as [`Attribute::ALLOWED`].
    const ALLOWED: &'static str;

    /// Serves a read. Called with no lock held, so that it may wait for a file system.
    ///
    /// # Errors
    ///
    /// What the user's `read()` gets.
    fn show(settings: &<Self::Driver as Driver>::Settings) -> Result<Self::Shown>;

    /// Finds out what `text` means to the current process. Called with no lock held, so that it may
    /// wait for a file system.
    ///
    /// # Errors
    ///
    /// What the user's `write()` gets.
    fn parse(text: &str) -> Result<Self::Parsed>;

    /// Stores what [`Self::parse`] found, while the device is closed. Called with the state mutex held.
    ///
    /// # Errors
    ///
    /// What the user's `write()` gets; nothing has changed then.
    fn store(settings: &mut <Self::Driver as Driver>::Settings, parsed: Self::Parsed) -> Result;
}

/// The attribute of `S`, which an open device refuses to change with `EBUSY`.
pub const fn setting<S: Setting>() -> Entry {
    Entry::of::<SettingAttribute<S>>()
}

struct SettingAttribute<S>(PhantomData<S>);

impl<S: Setting> Attribute for SettingAttribute<S> {
    type Data = EmulatedDevice<S::Driver>;
    type Value = S::Shown;

    const NAME: &'static CStr = S::NAME;
    const WRITABLE: bool = true;
    const ALLOWED: &'static str = S::ALLOWED;

    fn show(mdev: &Instance<Self::Data>) -> Result<S::Shown> {
        S::show(&mdev.settings())
    }

    fn store(mdev: &Instance<Self::Data>, text: &str) -> Result {
        // An open device says so whatever is written.
        mdev.change_settings(|_| Ok(()))?;
        let parsed = S::parse(text)?;
        mdev.change_settings(|settings| S::store(settings, parsed))
    }
}

/// `device_state`: the name of the state, or `closed`.
struct DeviceStateAttribute<D>(PhantomData<D>);

impl<D: Driver> Attribute for DeviceStateAttribute<D> {
    type Data = EmulatedDevice<D>;
    type Value = &'static str;

    const NAME: &'static CStr = c"device_state";
    const WRITABLE: bool = false;
    const ALLOWED: &'static str = "nothing";

    fn show(mdev: &Instance<EmulatedDevice<D>>) -> Result<&'static str> {
        Ok(mdev.state().map_or("closed", |state| state.name()))
    }
}

/// `protocol`: which migration protocols the device offers, `any`, `v1` or `v2`, which can be changed
/// while the device is closed.
struct ProtocolAttribute<D>(PhantomData<D>);

impl<D: Driver> Attribute for ProtocolAttribute<D> {
    type Data = EmulatedDevice<D>;
    type Value = Protocols;

    const NAME: &'static CStr = c"protocol";
    const WRITABLE: bool = true;
    const ALLOWED: &'static str = "any, v1 or v2";

    fn show(mdev: &Instance<EmulatedDevice<D>>) -> Result<Protocols> {
        Ok(mdev.protocols())
    }

    fn store(mdev: &Instance<EmulatedDevice<D>>, text: &str) -> Result {
        EmulatedDevice::set_protocols(mdev, text.parse()?)
    }
}

/// `window_size`: the size of the data window in bytes, which can be changed while the device is
/// closed.
struct WindowSizeAttribute<D>(PhantomData<D>);

impl<D: Driver> Attribute for WindowSizeAttribute<D> {
    type Data = EmulatedDevice<D>;
    type Value = usize;

    const NAME: &'static CStr = c"window_size";
    const WRITABLE: bool = true;
    const ALLOWED: &'static str = "a multiple of the page size, from one page to 16777216";

    fn show(mdev: &Instance<EmulatedDevice<D>>) -> Result<usize> {
        Ok(mdev.window_size().bytes())
    }

    fn store(mdev: &Instance<EmulatedDevice<D>>, text: &str) -> Result {
        let bytes = text.parse().map_err(|_| EINVAL)?;

        mdev.set_window_size(WindowSize::new(bytes)?)
    }
}
