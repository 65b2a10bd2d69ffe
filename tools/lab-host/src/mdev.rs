// SPDX-License-Identifier: GPL-2.0

//! Mediated devices, made and removed through sysfs as an administrator would.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use lab_host::device;

use crate::recipe::Recipe;
use crate::sysfs;

const CLASSES: &str = "/sys/class";
const DEVICES: &str = "/sys/bus/mdev/devices";

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
            sysfs::write(&mdev.path().join(attribute), value)?;
        }
        Ok(mdev)
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
}

impl Drop for Mdev {
    fn drop(&mut self) {
        if let Err(error) = fs::write(self.path().join("remove"), "1") {
            eprintln!("lab-host: removing the mdev {}: {error}", self.uuid);
        }
    }
}
