// SPDX-License-Identifier: GPL-2.0

//! Attributes in sysfs.

use std::fs;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;

/// Sets an attribute.
pub fn write(path: &Path, value: &str) -> Result<()> {
    fs::write(path, value).with_context(|| format!("writing {value} to {}", path.display()))
}

/// Reads an attribute.
pub fn read(path: &Path) -> Result<String> {
    let value = fs::read_to_string(path);
    Ok(value
        .with_context(|| format!("reading {}", path.display()))?
        .trim_end()
        .to_owned())
}
