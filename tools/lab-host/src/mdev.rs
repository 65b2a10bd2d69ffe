// SPDX-License-Identifier: GPL-2.0

//! Mediated devices, made and removed through sysfs as an administrator would.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use lab_host::device;

const CLASSES: &str = "/sys/class";
const DEVICES: &str = "/sys/bus/mdev/devices";
const STATISTICS: &str = "/sys/kernel/debug";

/// The settings that a device is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// The mdev type.
    pub kind: String,
    /// Attributes that are set before the device is opened, as file and value.
    pub attributes: Vec<(String, String)>,
}

impl Recipe {
    /// A device of this type with default attributes.
    pub fn new(kind: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            attributes: Vec::new(),
        }
    }

    /// Adds an attribute.
    pub fn with(mut self, attribute: &str, value: impl ToString) -> Self {
        self.attributes
            .push((attribute.to_owned(), value.to_string()));
        self
    }
}

/// A device, which is removed when this is dropped.
pub struct Mdev {
    uuid: String,
    recipe: Recipe,
}

impl Mdev {
    /// Makes a device.
    pub fn create(recipe: &Recipe) -> Result<Self> {
        let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid").context("making a UUID")?;
        let uuid = uuid.trim_end().to_owned();
        let driver = device::driver(&recipe.kind);
        let types = Path::new(CLASSES)
            .join(driver)
            .join(driver)
            .join("mdev_supported_types");
        fs::write(types.join(&recipe.kind).join("create"), &uuid)
            .with_context(|| format!("creating an mdev of type {}", recipe.kind))?;
        let mdev = Self {
            uuid,
            recipe: recipe.clone(),
        };
        for (attribute, value) in &recipe.attributes {
            mdev.set(attribute, value)?;
        }
        Ok(mdev)
    }

    /// Makes another device in the same way.
    pub fn twin(&self) -> Result<Self> {
        Self::create(&self.recipe)
    }

    /// The settings that the device was made with.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The device's name.
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// The device's directory in sysfs.
    pub fn path(&self) -> PathBuf {
        Path::new(DEVICES).join(&self.uuid)
    }

    /// Sets an attribute.
    pub fn set(&self, attribute: &str, value: &str) -> Result<()> {
        let path = self.path().join(attribute);
        fs::write(&path, value).with_context(|| format!("writing {value} to {}", path.display()))
    }

    /// Reads an attribute.
    pub fn get(&self, attribute: &str) -> Result<String> {
        let path = self.path().join(attribute);
        let value = fs::read_to_string(&path);
        Ok(value
            .with_context(|| format!("reading {}", path.display()))?
            .trim_end()
            .to_owned())
    }

    /// A number of the driver's statistics, or 0 if the statistics do not have it.
    pub fn statistic(&self, name: &str) -> Result<u64> {
        let driver = device::driver(&self.recipe.kind);
        let path = format!("{STATISTICS}/{driver}-{}/statistics", self.uuid);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let number = |line: &str| line.strip_prefix(name)?.trim().parse().ok();
        Ok(text.lines().find_map(number).unwrap_or(0))
    }
}

impl Drop for Mdev {
    fn drop(&mut self) {
        if let Err(error) = fs::write(self.path().join("remove"), "1") {
            eprintln!("lab-host: removing the mdev {}: {error}", self.uuid);
        }
    }
}
