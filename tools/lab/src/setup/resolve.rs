// SPDX-License-Identifier: GPL-2.0

//! Resolves a group of the lock file: finds the newest packages of its series in the archive as it is now.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::process::Command;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;

use super::archive::Archive;
use super::archive::Available;
use super::packages::matches;
use super::versions::Group;
use super::versions::Mode;
use super::versions::Pin;
use super::versions::Want;
use crate::cache::Cache;
use crate::console::Console;

/// The packages that `group` resolves to.
pub fn resolve(cache: &Cache, console: &Console, group: &Group) -> Result<Vec<Pin>> {
    console.say(&format!(
        "{}: reading the package lists of {}",
        group.name,
        group.suites.join(", ")
    ));
    let archive = Archive::fetch(cache, &group.suites)?;
    let chosen = match group.mode {
        Mode::List => choose_list(&archive, &group.wants),
        Mode::Each => choose_each(&archive, &group.wants),
        Mode::Closure => {
            choose_each(&archive, &group.wants).and_then(|chosen| archive.closure(&chosen))
        }
    };
    let wants: Vec<_> = group
        .wants
        .iter()
        .map(|want| format!("{} {}", want.package, want.series))
        .collect();
    let chosen = chosen.with_context(|| {
        format!(
            "the archive has nothing left of the series that group {} asks for: {}\n    \
             Edit the 'want' lines of scripts/versions.lock and run 'make update-lock'.",
            group.name,
            wants.join(", ")
        )
    })?;
    archive.describe(&chosen)
}

/// Each wanted package, by a pattern, in the newest version that every one of them has.
fn choose_list(archive: &Archive, wants: &[Want]) -> Result<Vec<String>> {
    let names = archive.names()?;
    let mut found = Vec::new();
    for (index, want) in wants.iter().enumerate() {
        let names: Vec<_> = names
            .iter()
            .map(|name| &**name)
            .filter(|name| matches(&want.package, name))
            .collect();
        let available = archive.available(&names)?.into_iter();
        let of_series = available.filter(|it| it.version.starts_with(&want.series));
        found.extend(of_series.map(|available| (index, available)));
    }
    let version = common_version(&found, wants.len())?;
    let chosen = found
        .into_iter()
        .filter(|(_, available)| available.version == version);
    Ok(chosen
        .map(|(_, available)| format!("{}={version}", available.package))
        .collect())
}

/// The newest version that all `wants` have; each available version comes with the number of what wants it.
fn common_version(available: &[(usize, Available)], wants: usize) -> Result<String> {
    let mut having = BTreeMap::<&str, BTreeSet<usize>>::new();
    for (want, available) in available {
        having.entry(&available.version).or_default().insert(*want);
    }
    let common = having.iter().filter(|(_, having)| having.len() == wants);
    let mut newest: Option<&str> = None;
    for (version, _) in common {
        if newest.is_none_or(|newest| compare(version, newest) == Ordering::Greater) {
            newest = Some(version);
        }
    }
    Ok(newest
        .context("there is no version that all of them have")?
        .to_owned())
}

/// Compares versions as Debian does.
fn compare(a: &str, b: &str) -> Ordering {
    let is = |relation: &str| {
        let status = Command::new("dpkg")
            .args(["--compare-versions", a, relation, b])
            .status();
        status.is_ok_and(|status| status.success())
    };
    if is("gt") {
        Ordering::Greater
    } else if is("lt") {
        Ordering::Less
    } else {
        Ordering::Equal
    }
}

/// The newest version of each wanted package. A name that starts with `?` is a pattern of apt's, and stays as it is.
fn choose_each(archive: &Archive, wants: &[Want]) -> Result<Vec<String>> {
    let is_pattern = |want: &&Want| want.package.starts_with('?');
    let names: Vec<_> = wants
        .iter()
        .filter(|want| !is_pattern(want))
        .map(|want| &*want.package)
        .collect();
    let available = archive.available(&names)?;
    let choose = |want: &Want| {
        if is_pattern(&want) {
            return Ok(want.package.clone());
        }
        let of_series =
            |it: &&Available| it.package == want.package && it.version.starts_with(&want.series);
        match available.iter().find(of_series) {
            Some(newest) => Ok(format!("{}={}", newest.package, newest.version)),
            None => bail!("there is no version {}* of {}", want.series, want.package),
        }
    };
    wants.iter().map(choose).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn available(want: usize, version: &str) -> (usize, Available) {
        let (package, suite) = (format!("p{want}"), "s".to_owned());
        let version = version.to_owned();
        (
            want,
            Available {
                package,
                version,
                suite,
            },
        )
    }

    #[test]
    fn a_list_is_in_the_newest_version_that_all_have() {
        let found = ["7.3.10-1", "7.3.9-1"]
            .map(|version| available(0, version))
            .to_vec();
        let both = [
            found.clone(),
            vec![available(1, "7.3.9-1"), available(1, "7.3.9-1")],
        ]
        .concat();
        assert_eq!(common_version(&found, 1).expect("a version"), "7.3.10-1");
        assert_eq!(common_version(&both, 2).expect("a version"), "7.3.9-1");
        assert!(common_version(&both, 3).is_err());
    }

    #[test]
    fn versions_are_compared_as_debian_does() {
        assert_eq!(compare("1.10-1", "1.9-1"), Ordering::Greater);
        assert_eq!(compare("1.9-1~bpo13+1", "1.9-1"), Ordering::Less);
        assert_eq!(compare("1.9", "1.9"), Ordering::Equal);
    }
}
