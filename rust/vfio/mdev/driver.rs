// SPDX-License-Identifier: GPL-2.0

//! The callbacks of a driver of mediated devices, `struct mdev_driver`.

use super::{
    device::Device,
    instance::Instance, //
};
use crate::{
    device::Operations,
    migration::Support, //
};
use kernel::{
    prelude::*,
    ModuleMetadata, //
};
use kernel_ext::{
    refusal::Refusals,
    sysfs, //
};

/// A type of mdev that an administrator can make.
pub struct Type {
    /// Name in sysfs, after the parent's name and a hyphen.
    pub sysfs_name: &'static CStr,
    /// Short name for administrators, the type's `name` in sysfs.
    pub pretty_name: &'static CStr,
    /// Description of the device, the type's `description` in sysfs.
    pub description: &'static CStr,
}

/// A driver of mediated PCI devices, `struct mdev_driver`.
pub trait Driver: Sized + 'static {
    /// The driver's module: its `LocalModule`.
    type OwnerModule: ModuleMetadata;
    /// The private data of an mdev and of its VFIO device.
    type Data: Operations + AsRef<Refusals>;
    /// Sysfs attributes of a device.
    type Attributes: sysfs::Group<Data = Instance<Self::Data>>;
    /// Sysfs attributes in other directories.
    type MoreAttributes: sysfs::Directories<Data = Instance<Self::Data>>;

    /// Name of the driver, and of the class and the parent device.
    const NAME: &'static CStr;
    /// The types, in a fixed order.
    const TYPES: &'static [Type];
    /// Most devices, of all types together.
    const MAX_INSTANCES: u32;

    /// The migration protocol v2 that users see at first.
    const MIGRATION: Support;

    /// Makes the data of an mdev of type `TYPES[type_index]`.
    fn probe(mdev: &Device, type_index: usize) -> impl PinInit<Self::Data, Error>;
}
