// SPDX-License-Identifier: GPL-2.0

//! Devices that QEMU opens through VFIO: mediated devices and functions of the host.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use lab_host::device;
use lab_host::device::Kind;

use crate::function::Function;
use crate::mdev::Mdev;
use crate::recipe::Recipe;
use crate::sysfs;

const STATISTICS: &str = "/sys/kernel/debug";

/// A device for a guest.
pub enum Assigned {
    Mdev(Mdev),
    Function(Function),
}

impl Assigned {
    /// Makes a mediated device, or takes a function.
    pub fn create(recipe: &Recipe) -> Result<Self> {
        Ok(match Kind::of(&recipe.kind) {
            Some(Kind::NetworkCard) => Self::Function(Function::create(recipe)?),
            _ => Self::Mdev(Mdev::create(recipe)?),
        })
    }

    /// Another device that is made in the same way.
    pub fn twin(&self) -> Result<Self> {
        Self::create(self.recipe())
    }

    /// The settings that the device was made with.
    pub fn recipe(&self) -> &Recipe {
        match self {
            Self::Mdev(mdev) => mdev.recipe(),
            Self::Function(function) => function.recipe(),
        }
    }

    /// The device's name: a UUID or a PCI address.
    pub fn name(&self) -> &str {
        match self {
            Self::Mdev(mdev) => mdev.uuid(),
            Self::Function(function) => function.address(),
        }
    }

    /// Whether the device's driver can migrate it.
    pub fn migrates(&self) -> bool {
        self.recipe().kind != device::PLAIN_DRIVER
    }

    /// The device's directory in sysfs.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Mdev(mdev) => mdev.path(),
            Self::Function(function) => function.path(),
        }
    }

    /// Sets an attribute.
    pub fn set(&self, attribute: &str, value: &str) -> Result<()> {
        sysfs::write(&self.path().join(attribute), value)
    }

    /// Reads an attribute.
    pub fn get(&self, attribute: &str) -> Result<String> {
        sysfs::read(&self.path().join(attribute))
    }

    /// A number of the driver's statistics, or 0 if the statistics do not have it.
    pub fn statistic(&self, name: &str) -> Result<u64> {
        let driver = device::driver(&self.recipe().kind);
        let path = format!("{STATISTICS}/{driver}-{}/statistics", self.name());
        let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let number = |line: &str| line.strip_prefix(name)?.trim().parse().ok();
        Ok(text.lines().find_map(number).unwrap_or(0))
    }
}
