// SPDX-License-Identifier: GPL-2.0

//! Mediated devices, made and removed through sysfs as an administrator would.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;

const PARENT: &str = "/sys/class/ferry_uart/ferry_uart/mdev_supported_types";
const DEVICES: &str = "/sys/bus/mdev/devices";

/// A device; dropped, it is removed.
pub struct Mdev {
    uuid: String,
}

impl Mdev {
    /// Makes a device of this type.
    pub fn create(kind: &str) -> Result<Self> {
        let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid").context("making a UUID")?;
        let uuid = uuid.trim_end().to_owned();
        let create = Path::new(PARENT).join(kind).join("create");
        fs::write(&create, &uuid).with_context(|| format!("creating an mdev of type {kind}"))?;
        Ok(Self { uuid })
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
}

impl Drop for Mdev {
    fn drop(&mut self) {
        if let Err(error) = fs::write(self.path().join("remove"), "1") {
            eprintln!("ferry-host: removing the mdev {}: {error}", self.uuid);
        }
    }
}
