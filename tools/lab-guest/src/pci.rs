// SPDX-License-Identifier: GPL-2.0

//! The guest's PCI functions.

use std::fs;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;

/// A number in a file, in C's notation.
pub fn number(path: &Path) -> Option<u32> {
    let text = fs::read_to_string(path).ok()?;
    u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}

/// The number of functions whose base class and subclass are one of `classes`.
pub fn count(classes: &[u32]) -> Result<usize> {
    let mut count = 0;
    for device in fs::read_dir("/sys/bus/pci/devices").context("listing PCI devices")? {
        let class = device.context("listing PCI devices")?.path().join("class");
        count += usize::from(number(&class).is_some_and(|class| classes.contains(&(class >> 8))));
    }
    Ok(count)
}
