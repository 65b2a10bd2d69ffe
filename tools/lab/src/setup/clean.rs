// SPDX-License-Identifier: GPL-2.0

//! Removes from the cache what the source tree does not use any more.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;

use super::build::leftovers;
use super::build::with_prefix;
use super::identity::paths;
use super::packages::Packages;
use super::versions::Versions;
use crate::cache::disk_size;
use crate::cache::remove_tree;
use crate::cache::Cache;
use crate::console::Console;
use crate::file_lock::FileLock;
use crate::source::Source;
use crate::units::size;

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Removes `path`, and says so.
fn drop_tree(console: &Console, path: &Path) -> Result<()> {
    console.say(&format!(
        "removing {}, {}",
        name(path),
        size(disk_size(path))
    ));
    remove_tree(path)
}

/// Removes what is out of date, and says what is left. What another run is making or fetching is left alone.
pub fn clean_cache(source: &Source, cache: &Cache, console: &Console) -> Result<()> {
    let packages = Packages::load(Versions::read(&source.versions())?, cache)?;
    for (component, current) in paths(source, cache, &packages)? {
        let Some(_lock) = FileLock::try_take(&cache.lock(component.name()))? else {
            console.say(&format!(
                "{}: being made by another run, left alone",
                component.name()
            ));
            continue;
        };
        let mut found = with_prefix(cache.directory(), &format!("{}-", component.name()))?;
        found.extend(leftovers(cache, component)?);
        for path in found.iter().filter(|path| **path != current) {
            drop_tree(console, path)?;
        }
        if current.is_dir() {
            console.say(&format!(
                "keeping {}, {}",
                name(&current),
                size(disk_size(&current))
            ));
        }
    }
    if let Some(_lock) = FileLock::try_take(&cache.lock("downloads"))? {
        clean_downloads(cache, console, &packages)?;
    }
    let all = size(disk_size(cache.directory()));
    console.say(&format!(
        "the cache {} now takes {all}",
        cache.directory().display()
    ));
    Ok(())
}

/// Removes downloads and fallbacks that no group uses.
fn clean_downloads(cache: &Cache, console: &Console, packages: &Packages) -> Result<()> {
    let mut used = HashSet::new();
    for group in packages.groups() {
        let current = cache.resolved(&group.name, &group.identity());
        let resolved = cache.directory().join("resolved");
        for path in with_prefix(&resolved, &format!("{}-", group.name))? {
            if path != current {
                drop_tree(console, &path)?;
            }
        }
        let pins = packages.of_group(&group.name)?.iter();
        used.extend(pins.map(|pin| cache.download(&pin.sha256)));
    }
    let downloads = cache.directory().join("downloads");
    let listing = || format!("listing {}", downloads.display());
    let mut removed = 0;
    for entry in fs::read_dir(&downloads).with_context(listing)? {
        let path = entry.with_context(listing)?.path();
        let is_package = path.extension().is_some_and(|it| it == "deb");
        if is_package && !used.contains(&path) {
            remove_tree(&path)?;
            removed += 1;
        }
    }
    remove_tree(&downloads.join("partial"))?;
    // The lists of a run that was killed.
    for entry in fs::read_dir(cache.directory()).with_context(listing)? {
        let path = entry.with_context(listing)?.path();
        if name(&path).starts_with(".apt-") {
            remove_tree(&path)?;
        }
    }
    let kept = size(disk_size(&downloads));
    console.say(&format!(
        "removed {removed} downloads, keeping {kept} of them"
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::component::Component;
    use super::*;

    #[test]
    fn only_what_is_not_used_is_removed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let cache = Cache::at(directory.path()).expect("a cache");
        let source = Source::find(None).expect("the source tree");
        let versions = Versions::read(&source.versions()).expect("the lock file");
        let packages = Packages::load(versions, &cache).expect("packages");
        let current = paths(&source, &cache, &packages).expect("paths");
        let used = &packages.groups()[0].pins[0];
        let unused = "0".repeat(64);
        let kept = [
            current[&Component::Kernel].clone(),
            cache.download(&used.sha256),
            // The name is not one of the cache.
            directory.path().join("kernel-other-0123"),
        ];
        let dropped = [
            cache.component("kernel", "0123456789abcdef"),
            cache.component("qemu-7.2", "0123456789abcdef"),
            directory.path().join(".tmp-kernel-17"),
            cache.download(&unused),
            cache.resolved(&packages.groups()[0].name, "0123456789abcdef"),
        ];
        for path in kept.iter().chain(&dropped) {
            match path.extension() {
                Some(extension) if extension == "deb" => fs::write(path, "x").expect("write"),
                _ => fs::create_dir_all(path).expect("a directory"),
            }
        }
        clean_cache(&source, &cache, &Console::new().expect("a console")).expect("clean");
        for path in kept {
            assert!(path.exists(), "{}", path.display());
        }
        for path in dropped {
            assert!(!path.exists(), "{}", path.display());
        }
    }
}
