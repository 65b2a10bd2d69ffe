// SPDX-License-Identifier: GPL-2.0

//! Makes a component by its recipe.
//!
//! The component is made beside its place and renamed into it, under a lock that ends with the last process of the build.
//! So a second run waits, and an interrupted one leaves a temporary directory that the next removes.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use rustix::fs::syncfs;

use super::component::Component;
use super::component::Recipe;
use super::packages::Packages;
use crate::cache::remove_tree;
use crate::cache::Cache;
use crate::console::Console;
use crate::file_lock::FileLock;
use crate::job::Job;
use crate::job::Log;
use crate::source::Source;

/// How a recipe marks, in its log, a line that says what it does.
const MARK: &str = "=== ";

/// Lines of the log that an error shows.
const TAIL_LINES: usize = 15;

/// A directory that is removed unless it has got another name.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = remove_tree(&self.0);
    }
}

/// The temporary directories of a component.
pub fn leftovers(cache: &Cache, component: Component) -> Result<Vec<PathBuf>> {
    with_prefix(cache.directory(), &format!(".tmp-{}-", component.name()))
}

/// The files and directories in `directory` whose name is `prefix` and then hexadecimal digits.
pub fn with_prefix(directory: &Path, prefix: &str) -> Result<Vec<PathBuf>> {
    let listing = || format!("listing {}", directory.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(listing)? {
        let name = entry.with_context(listing)?.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix(prefix));
        if rest
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|it| it.is_ascii_hexdigit()))
        {
            found.push(directory.join(name));
        }
    }
    found.sort();
    Ok(found)
}

/// Makes `component` unless another run has made it meanwhile. `paths` are those of all components.
pub fn build(
    source: &Source,
    cache: &Cache,
    console: &Console,
    packages: &Packages,
    paths: &BTreeMap<Component, PathBuf>,
    component: Component,
) -> Result<()> {
    let name = component.name();
    let path_of = |component: Component| {
        let path = paths.get(&component);
        path.with_context(|| format!("{} has no place", component.name()))
    };
    let path = path_of(component)?;
    let lock = FileLock::take(&cache.lock(name), || {
        console.say(&format!(
            "{name}: waiting for another run that is making it"
        ));
    })?;
    if path.is_dir() {
        return Ok(());
    }
    for leftover in leftovers(cache, component)? {
        remove_tree(&leftover)?;
    }
    let directory = cache
        .directory()
        .join(format!(".tmp-{name}-{}", std::process::id()));
    let directory = Temporary(directory);
    fs::create_dir(&directory.0).context("making a directory for the component")?;

    let recipe = Recipe::read(source, component)?;
    let mut pins = tempfile::NamedTempFile::new().context("making a temporary file")?;
    write_pins(&recipe, packages, pins.as_file_mut())?;
    let mut command = Command::new(source.join("scripts/lib/build-component"));
    command
        .arg(name)
        .arg(path)
        .arg(&directory.0)
        .arg(pins.path())
        .env("FERRY_CACHE", cache.directory());
    for need in &recipe.needs {
        let path = path_of(*need)?.display();
        command.arg(format!("{}={path}", need.name()));
    }
    let log = Log::create(cache.log(name))?;
    log.receive(&mut command)?;
    command.stdin(lock.stdin()?);

    let task = console.task(name);
    let mut offset = 0;
    let mut tell = || {
        for line in log.new_lines(&mut offset) {
            if let Some(line) = line.strip_prefix(MARK) {
                task.say(line);
            }
        }
    };
    let status = Job::start(&mut command)?.wait(|| {
        task.note(|| {
            let line = log.last_line();
            line.strip_prefix(MARK).map_or(line.clone(), str::to_owned)
        });
        tell();
    })?;
    tell();
    if !status.success() {
        bail!(
            "component {name} could not be made ({status}); the last lines of its log:\n{}\n    The log is {}.",
            log.tail(TAIL_LINES),
            log.path().display()
        );
    }
    let file = fs::File::open(&directory.0).context("opening the component")?;
    syncfs(&file).context("writing the component to the disk")?;
    fs::rename(&directory.0, path)
        .with_context(|| format!("moving the component to {}", path.display()))
}

/// Writes the packages of all groups that the recipe uses, as lines of GROUP and the fields of the lock file.
fn write_pins(recipe: &Recipe, packages: &Packages, file: &mut fs::File) -> Result<()> {
    let mut groups: Vec<_> = recipe.packages.iter().map(|it| &*it.group).collect();
    groups.dedup();
    for group in groups {
        for pin in packages.of_group(group)? {
            writeln!(file, "{group} {pin}").context("writing a temporary file")?;
        }
    }
    Ok(())
}
