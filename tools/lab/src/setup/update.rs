// SPDX-License-Identifier: GPL-2.0

//! Pins the newest packages of each group's series in the lock file.

use anyhow::Result;

use super::resolve::resolve;
use super::versions::pin;
use super::versions::Versions;
use crate::cache::Cache;
use crate::console::Console;
use crate::source::Source;

/// Writes the pins of `groups`, or of all groups if there are none, into the lock file.
pub fn update_lock(
    source: &Source,
    cache: &Cache,
    console: &Console,
    groups: &[String],
) -> Result<()> {
    let path = source.versions();
    let versions = Versions::read(&path)?;
    let chosen = if groups.is_empty() {
        versions.groups.iter().collect()
    } else {
        let chosen = groups.iter().map(|name| versions.group(name));
        chosen.collect::<Result<Vec<_>>>()?
    };
    for group in chosen {
        let pins = resolve(cache, console, group)?;
        pin(&path, &group.name, &pins)?;
        console.say(&format!("{}: {} packages pinned", group.name, pins.len()));
    }
    Ok(())
}
