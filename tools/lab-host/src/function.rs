// SPDX-License-Identifier: GPL-2.0

//! PCI functions of the host, given to a variant driver through sysfs as an administrator would.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;

use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use lab_host::device;

use crate::recipe::Recipe;
use crate::sysfs;

const DEVICES: &str = "/sys/bus/pci/devices";
const PROBE: &str = "/sys/bus/pci/drivers_probe";

/// The addresses of the functions that are in use.
static TAKEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// A function that is bound to its variant driver, and is free again when this is dropped.
pub struct Function {
    address: String,
    recipe: Recipe,
}

/// A hexadecimal number in a file of sysfs.
fn number(path: &Path) -> Option<u16> {
    let text = fs::read_to_string(path).ok()?;
    u16::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}

/// The addresses of the host's network cards, in their order: the equal ones, or the `other` one.
fn cards(other: bool) -> Result<BTreeSet<String>> {
    let mut cards = BTreeSet::new();
    for entry in fs::read_dir(DEVICES).context("listing PCI devices")? {
        let path = entry.context("listing PCI devices")?.path();
        let ids = (number(&path.join("vendor")), number(&path.join("device")));
        let is_card = ids == (Some(device::CARD_IDS.0), Some(device::CARD_IDS.1));
        let subsystem = number(&path.join("subsystem_device"));
        if is_card && (subsystem == Some(device::OTHER_SUBSYSTEM)) == other {
            let address = path.file_name().unwrap_or_default();
            cards.insert(address.to_string_lossy().into_owned());
        }
    }
    Ok(cards)
}

impl Function {
    /// Takes a free card, has the variant driver bind it, and sets its attributes.
    pub fn create(recipe: &Recipe) -> Result<Self> {
        let cards = cards(recipe.kind == device::OTHER_CARD)?;
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let address = cards.difference(&taken).next().cloned();
        let address = address.with_context(|| format!("no card is free; there are {cards:?}"))?;
        bind(&address, device::driver(&recipe.kind))?;
        taken.insert(address.clone());
        drop(taken);
        let function = Self {
            address,
            recipe: recipe.clone(),
        };
        for (attribute, value) in &recipe.attributes {
            sysfs::write(&function.path().join(attribute), value)?;
        }
        Ok(function)
    }

    /// Takes all cards, and has the variant driver bind them.
    pub fn all() -> Result<Vec<Self>> {
        let recipe = Recipe::new(device::CARD_DRIVER);
        cards(false)?
            .iter()
            .map(|_| Self::create(&recipe))
            .collect()
    }

    /// The settings that the function was taken with.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The function's PCI address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The function's directory in sysfs.
    pub fn path(&self) -> PathBuf {
        Path::new(DEVICES).join(&self.address)
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        taken.remove(&self.address);
    }
}

/// Has `driver` bind the function at `address`.
fn bind(address: &str, driver: &str) -> Result<()> {
    let path = Path::new(DEVICES).join(address);
    let bound = || {
        let link = fs::read_link(path.join("driver")).unwrap_or_default();
        link.file_name()
            .map(|name| name.to_string_lossy().into_owned())
    };
    if bound().as_deref() == Some(driver) {
        return Ok(());
    }
    fs::write(path.join("driver_override"), driver)
        .with_context(|| format!("{address}: writing driver_override"))?;
    if bound().is_some() {
        fs::write(path.join("driver/unbind"), address)
            .with_context(|| format!("{address}: unbinding its driver"))?;
    }
    fs::write(PROBE, address).with_context(|| format!("{address}: probing"))?;
    ensure!(
        bound().as_deref() == Some(driver),
        "{address}: expected the driver {driver}, saw {:?}",
        bound()
    );
    Ok(())
}
