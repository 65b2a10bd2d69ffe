// SPDX-License-Identifier: GPL-2.0

//! The set-up: fetches and makes the components that are not in the cache yet.

mod archive;
mod build;
mod clean;
mod component;
mod download;
mod hash;
mod identity;
mod machine_needs;
mod mirror;
mod packages;
mod resolve;
mod update;
mod versions;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use serde::Serialize;

pub use self::clean::clean_cache;
pub use self::component::Component;
use self::component::Recipe;
use self::download::Fetched;
pub use self::machine_needs::cargo;
pub use self::machine_needs::check as check_machine;
pub use self::machine_needs::check_lint;
use self::packages::Packages;
pub use self::update::update_lock;
use self::versions::Versions;
use crate::cache::disk_size;
use crate::cache::Cache;
use crate::console::Console;
use crate::source::Source;
use crate::units::size;

/// How often packages are fetched anew because they vanish from the archive meanwhile.
const ATTEMPTS: usize = 3;

/// How a component came to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    Built,
    Cached,
}

/// How long a part of the set-up took.
#[derive(Clone, Debug, Serialize)]
pub struct SetupTime {
    /// A component, or "download".
    pub name: &'static str,
    pub seconds: f64,
    pub how: How,
}

/// Components that are in the cache.
#[derive(Clone, Debug, Default)]
pub struct SetUp {
    paths: BTreeMap<Component, PathBuf>,
    pub times: Vec<SetupTime>,
}

impl SetUp {
    /// Whether nothing had to be made.
    pub fn are_cached(&self) -> bool {
        self.times.iter().all(|time| time.how == How::Cached)
    }

    /// Where a component is.
    pub fn path(&self, component: Component) -> Result<&Path> {
        let path = self.paths.get(&component);
        let path = path.with_context(|| format!("{} was not set up", component.name()))?;
        Ok(path)
    }
}

/// The components that `wanted` are made with, and `wanted`, each after what it needs.
fn with_needs(source: &Source, wanted: &[Component]) -> Result<BTreeSet<Component>> {
    let mut all = BTreeSet::new();
    let mut left = wanted.to_vec();
    while let Some(component) = left.pop() {
        if all.insert(component) {
            left.extend(Recipe::read(source, component)?.needs);
        }
    }
    Ok(all)
}

/// Makes sure that the components `wanted` are in the cache.
pub fn set_up(
    source: &Source,
    cache: &Cache,
    console: &Console,
    wanted: &[Component],
) -> Result<SetUp> {
    let order = with_needs(source, wanted)?;
    let mut times = Vec::new();
    let (packages, paths) = fetch(source, cache, console, &order, &mut times)?;
    for (index, &component) in order.iter().enumerate() {
        let name = component.name();
        let path = paths.get(&component).context("a component has no place")?;
        let began = Instant::now();
        let how = if path.is_dir() {
            How::Cached
        } else {
            console.say(&format!("[{}/{}] {name}", index + 1, order.len()));
            build::build(source, cache, console, &packages, &paths, component)?;
            console.say(&format!(
                "[{}/{}] {name}: done in {} s, {}",
                index + 1,
                order.len(),
                began.elapsed().as_secs(),
                size(disk_size(path))
            ));
            How::Built
        };
        let seconds = began.elapsed().as_secs_f64();
        times.push(SetupTime { name, seconds, how });
    }
    let paths = paths
        .into_iter()
        .filter(|(it, _)| order.contains(it))
        .collect();
    Ok(SetUp { paths, times })
}

/// Fetches the packages of those components in `order` that are not in the cache. Returns all packages, and where each
/// component is or will be.
fn fetch(
    source: &Source,
    cache: &Cache,
    console: &Console,
    order: &BTreeSet<Component>,
    times: &mut Vec<SetupTime>,
) -> Result<(Packages, BTreeMap<Component, PathBuf>)> {
    let mut checked = false;
    for _ in 0..ATTEMPTS {
        let packages = Packages::load(Versions::read(&source.versions())?, cache)?;
        let paths = identity::paths(source, cache, &packages)?;
        let is_missing = |it: &&Component| !paths.get(it).is_some_and(|path| path.is_dir());
        let missing: Vec<_> = order.iter().filter(is_missing).collect();
        if missing.is_empty() {
            return Ok((packages, paths));
        }
        if !checked {
            check_machine(source, cache)?;
            checked = true;
        }
        let mut selections = Vec::new();
        for component in missing {
            selections.extend(Recipe::read(source, *component)?.packages);
        }
        let began = Instant::now();
        let fetched = download::fetch(cache, console, &packages, &selections)?;
        let (name, seconds, how) = ("download", began.elapsed().as_secs_f64(), How::Built);
        times.push(SetupTime { name, seconds, how });
        if fetched == Fetched::All {
            return Ok((packages, paths));
        }
    }
    bail!("packages vanish from the archive while they are fetched\n    Try again later.")
}
