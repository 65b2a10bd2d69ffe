// SPDX-License-Identifier: GPL-2.0

//! The packages that are used: those that the lock file pins, or what a group fell back to because the archive did not
//! have a pinned one any more.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Context;
use anyhow::Result;

use super::versions::read_pins;
use super::versions::Group;
use super::versions::Pin;
use super::versions::Versions;
use crate::cache::Cache;

/// Some packages of a group: `GROUP`, or `GROUP:GLOB`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    pub group: String,
    glob: String,
}

impl Selection {
    pub fn new(text: &str) -> Self {
        let (group, glob) = text.split_once(':').unwrap_or((text, "*"));
        Self {
            group: group.to_owned(),
            glob: glob.to_owned(),
        }
    }
}

/// Whether the whole of `text` matches a pattern in which `*` stands for any characters and `?` for one.
pub fn matches(glob: &str, text: &str) -> bool {
    let mut glob_rest = glob.chars();
    let mut text_rest = text.chars();
    match (glob_rest.next(), text_rest.next()) {
        (None, None) => true,
        (Some('*'), None) => matches(glob_rest.as_str(), text),
        (Some('*'), Some(_)) => {
            matches(glob_rest.as_str(), text) || matches(glob, text_rest.as_str())
        }
        (Some('?'), Some(_)) => matches(glob_rest.as_str(), text_rest.as_str()),
        (Some(a), Some(b)) if a == b => matches(glob_rest.as_str(), text_rest.as_str()),
        _ => false,
    }
}

/// All packages of the lock file, with fallbacks.
pub struct Packages {
    versions: Versions,
    /// By the name of the group.
    fallbacks: BTreeMap<String, Vec<Pin>>,
}

impl Packages {
    /// The packages of `versions` with the fallbacks that the cache has.
    pub fn load(versions: Versions, cache: &Cache) -> Result<Self> {
        let mut fallbacks = BTreeMap::new();
        for group in &versions.groups {
            let path = cache.resolved(&group.name, &group.identity());
            if path.is_file() {
                let reading = || {
                    format!(
                        "reading {}\n    Remove it to use the pinned packages again.",
                        path.display()
                    )
                };
                let text = fs::read_to_string(&path).with_context(reading)?;
                fallbacks.insert(group.name.clone(), read_pins(&text).with_context(reading)?);
            }
        }
        Ok(Self {
            versions,
            fallbacks,
        })
    }

    pub fn group(&self, name: &str) -> Result<&Group> {
        self.versions.group(name)
    }

    pub fn groups(&self) -> &[Group] {
        &self.versions.groups
    }

    /// The packages of a group that are used.
    pub fn of_group(&self, name: &str) -> Result<&[Pin]> {
        let group = self.group(name)?;
        Ok(self.fallbacks.get(name).unwrap_or(&group.pins))
    }

    /// The packages of a selection.
    pub fn selected(&self, selection: &Selection) -> Result<Vec<&Pin>> {
        let pins = self.of_group(&selection.group)?;
        Ok(pins
            .iter()
            .filter(|pin| matches(&selection.glob, &pin.package))
            .collect())
    }

    /// What is used instead of the pinned packages of a group, in one line, if the group fell back.
    pub fn fallback_note(&self, name: &str) -> Result<Option<String>> {
        const FEW: usize = 4;
        let group = self.group(name)?;
        let Some(fallback) = self.fallbacks.get(name) else {
            return Ok(None);
        };
        let pinned = |pin: &Pin| {
            group
                .pins
                .iter()
                .find(|pinned| pinned.package == pin.package)
        };
        let changes: Vec<_> = fallback
            .iter()
            .filter_map(|pin| match pinned(pin) {
                Some(pinned) if pinned.version == pin.version => None,
                Some(pinned) => Some(format!(
                    "{} {} instead of {}",
                    pin.package, pin.version, pinned.version
                )),
                None => Some(format!("{} {}", pin.package, pin.version)),
            })
            .collect();
        let more = match changes.len().saturating_sub(FEW) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let few = &changes[..changes.len().min(FEW)];
        Ok(Some(format!(
            "NOTE: {name}: pinned versions are gone from the archive, using the newest of the same series: {}{more}",
            few.join(", ")
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::super::versions::Mode;
    use super::*;

    fn pin(package: &str, version: &str) -> Pin {
        let text = format!("s {package} {version} all 1 {} p", "0".repeat(64));
        text.parse().expect("a pin")
    }

    fn versions() -> Versions {
        Versions {
            groups: vec![Group {
                name: "a".to_owned(),
                mode: Mode::Each,
                suites: vec!["s".to_owned()],
                wants: Vec::new(),
                pins: vec![pin("x-1", "1"), pin("x-2", "1"), pin("y", "1")],
            }],
        }
    }

    #[test]
    fn patterns_match_whole_names() {
        for (glob, text, expected) in [
            ("*", "", true),
            ("linux-headers-*", "linux-headers-7.3.4+deb13-amd64", true),
            (
                "linux-base-7.3.*+deb13-amd64",
                "linux-base-7.3.4+deb13-amd64",
                true,
            ),
            (
                "linux-base-7.3.*+deb13-amd64",
                "linux-base-7.3.4+deb13-amd64-dbg",
                false,
            ),
            ("base-files", "base-files", true),
            ("base", "base-files", false),
            ("?b", "ab", true),
            ("?", "", false),
        ] {
            assert_eq!(matches(glob, text), expected, "{glob} {text}");
        }
    }

    #[test]
    fn a_fallback_takes_the_place_of_the_pinned_packages() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let cache = Cache::at(directory.path()).expect("a cache");
        let packages = Packages::load(versions(), &cache).expect("packages");
        let names = |packages: &Packages, selection: &str| {
            let pins = packages
                .selected(&Selection::new(selection))
                .expect("selected");
            pins.iter()
                .map(|pin| format!("{} {}", pin.package, pin.version))
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&packages, "a:x-*"), ["x-1 1", "x-2 1"]);
        assert_eq!(packages.fallback_note("a").expect("a group"), None);
        assert!(packages.selected(&Selection::new("b")).is_err());

        let identity = versions().groups[0].identity();
        let text = format!(
            "{}\n{}\n{}\n",
            pin("x-1", "2"),
            pin("y", "1"),
            pin("z", "3")
        );
        fs::write(cache.resolved("a", &identity), text).expect("write");
        let packages = Packages::load(versions(), &cache).expect("packages");
        assert_eq!(names(&packages, "a"), ["x-1 2", "y 1", "z 3"]);
        let note = packages
            .fallback_note("a")
            .expect("a group")
            .expect("a note");
        assert!(note.ends_with(": x-1 2 instead of 1, z 3"), "{note}");
    }
}
