// SPDX-License-Identifier: GPL-2.0

//! What the author of a vendor driver writes: a setting of its devices.

use core::fmt::Display;
use kernel::prelude::*;

/// One of a driver's [`Settings`](crate::driver::Driver::Settings), which is an attribute in sysfs.
pub trait Setting: 'static {
    /// The settings that this one is a part of.
    type Settings;
    /// What a read shows.
    type Shown: Display;
    /// What a write stores.
    type Parsed;

    /// Name of the attribute.
    const NAME: &'static CStr;
    /// The values that can be stored, as [`ALLOWED`](kernel_ext::sysfs::Attribute::ALLOWED).
    const ALLOWED: &'static str;

    /// Serves a read. Called with no lock held, so that it may wait for a file system.
    ///
    /// # Errors
    ///
    /// What the user's `read()` gets.
    fn show(settings: &Self::Settings) -> Result<Self::Shown>;

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
    fn store(settings: &mut Self::Settings, parsed: Self::Parsed) -> Result;
}
