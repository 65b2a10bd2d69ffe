// SPDX-License-Identifier: GPL-2.0

//! The lock file `scripts/versions.lock`: groups of Debian packages, what is wanted and what is pinned. Its format is
//! described at its top.

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::str::FromStr;

use anyhow::anyhow;
use anyhow::bail;
use anyhow::Context;
use anyhow::Result;

use super::hash::hash;

/// How the packages of a group are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The wanted packages, all in one version, for they are built from one source.
    List,
    /// The wanted packages, each in its own version.
    Each,
    /// The wanted packages, and all that they depend on.
    Closure,
}

impl Mode {
    const ALL: [Self; 3] = [Self::List, Self::Each, Self::Closure];

    pub fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Each => "each",
            Self::Closure => "closure",
        }
    }
}

/// A package that is wanted, whose name may be a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    pub package: String,
    /// What the version starts with.
    pub series: String,
}

/// A package in one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    pub suite: String,
    pub package: String,
    pub version: String,
    pub architecture: String,
    /// The size of the package's file, in bytes.
    pub size: u64,
    /// In lower case hexadecimal digits.
    pub sha256: String,
    /// Below the mirror.
    pub path: String,
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} {} {} {} {}",
            self.suite,
            self.package,
            self.version,
            self.architecture,
            self.size,
            self.sha256,
            self.path
        )
    }
}

impl FromStr for Pin {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let words: Vec<_> = text.split_whitespace().collect();
        let [suite, package, version, architecture, size, sha256, path] = words.as_slice() else {
            bail!(
                "a package has 7 fields, and this has {}: {text}",
                words.len()
            );
        };
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if sha256.len() != 64 || !sha256.bytes().all(is_digit) {
            bail!("no SHA-256: {sha256}");
        }
        Ok(Self {
            suite: (*suite).to_owned(),
            package: (*package).to_owned(),
            version: (*version).to_owned(),
            architecture: (*architecture).to_owned(),
            size: size.parse().with_context(|| format!("no size: {size}"))?,
            sha256: (*sha256).to_owned(),
            path: (*path).to_owned(),
        })
    }
}

/// Reads lines of packages.
pub fn read_pins(text: &str) -> Result<Vec<Pin>> {
    text.lines().map(str::parse).collect()
}

/// Packages that are resolved together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    pub mode: Mode,
    /// Suites of Debian's archive.
    pub suites: Vec<String>,
    pub wants: Vec<Want>,
    pub pins: Vec<Pin>,
}

impl Group {
    /// The hash of all that the lock file says of the group, under which a fallback is kept.
    pub fn identity(&self) -> String {
        let mut text = format!("{} {}\n", self.mode.name(), self.suites.join(" "));
        for want in &self.wants {
            text.push_str(&format!("{} {}\n", want.package, want.series));
        }
        for pin in &self.pins {
            text.push_str(&format!("{pin}\n"));
        }
        hash(text.as_bytes())
    }
}

/// The lock file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    pub groups: Vec<Group>,
}

impl Versions {
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("reading {}", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let mut groups: Vec<Group> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let at = || format!("line {}", index + 1);
            let words: Vec<_> = line.split_whitespace().collect();
            let group = |groups: &mut Vec<Group>, name: &str| {
                let found = groups.iter().position(|group| group.name == name);
                found.with_context(|| format!("line {}: there is no group {name} above", index + 1))
            };
            match words.as_slice() {
                [] => {}
                [word, ..] if word.starts_with('#') => {}
                ["group", name, mode, suites @ ..] if !suites.is_empty() => {
                    let mode = Mode::ALL.into_iter().find(|known| known.name() == *mode);
                    groups.push(Group {
                        name: (*name).to_owned(),
                        mode: mode.with_context(|| at() + ": the mode is list, each or closure")?,
                        suites: suites.iter().map(|suite| (*suite).to_owned()).collect(),
                        wants: Vec::new(),
                        pins: Vec::new(),
                    });
                }
                ["want", name, package, series] => {
                    let group = group(&mut groups, name)?;
                    groups[group].wants.push(Want {
                        package: (*package).to_owned(),
                        series: (*series).to_owned(),
                    });
                }
                ["pin", name, fields @ ..] => {
                    let group = group(&mut groups, name)?;
                    let pin = fields.join(" ").parse().with_context(at)?;
                    groups[group].pins.push(pin);
                }
                _ => {
                    return Err(anyhow!(
                        "{}: neither a group, a want nor a pin: {line}",
                        at()
                    ))
                }
            }
        }
        Ok(Self { groups })
    }

    pub fn group(&self, name: &str) -> Result<&Group> {
        self.groups
            .iter()
            .find(|group| group.name == name)
            .with_context(|| format!("the lock file has no group {name}"))
    }
}

/// Writes `pins` into the lock file `path` in place of those of `group`, behind its last `want` line. All other lines stay.
pub fn pin(path: &Path, group: &str, pins: &[Pin]) -> Result<()> {
    let writing = || format!("writing {}", path.display());
    let text = fs::read_to_string(path).with_context(writing)?;
    let text = with_pins(&text, group, pins)?;
    let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
    let mut new = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(directory.unwrap_or(Path::new(".")))
        .with_context(writing)?;
    new.write_all(text.as_bytes()).with_context(writing)?;
    new.persist(path).with_context(writing)?;
    Ok(())
}

fn with_pins(text: &str, group: &str, pins: &[Pin]) -> Result<String> {
    let is = |line: &str, kind: &str| {
        let mut words = line.split_whitespace();
        words.next() == Some(kind) && words.next() == Some(group)
    };
    let lines: Vec<_> = text.lines().filter(|line| !is(line, "pin")).collect();
    let last_want = lines.iter().rposition(|line| is(line, "want"));
    let last_want = last_want.with_context(|| format!("group {group} wants nothing"))?;
    let mut new = String::new();
    for (index, line) in lines.into_iter().enumerate() {
        new.push_str(line);
        new.push('\n');
        if index == last_want {
            for pin in pins {
                new.push_str(&format!("pin {group} {pin}\n"));
            }
        }
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    const SHA: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn pin(package: &str, version: &str) -> Pin {
        let text = format!("trixie {package} {version} amd64 12 {SHA} pool/{package}.deb");
        text.parse().expect("a pin")
    }

    fn text(pins: &[Pin]) -> String {
        let pins: String = pins.iter().map(|pin| format!("pin a {pin}\n")).collect();
        format!("# comment\n\ngroup a list trixie trixie-backports\nwant a x 1.\nwant a y-* 1.\n{pins}\ngroup b each sid\nwant b z -\n")
    }

    #[test]
    fn a_lock_file_is_read_as_it_is_written() {
        let pins = [pin("x", "1.0-1"), pin("y-1", "1.1")];
        let versions = Versions::parse(&text(&pins)).expect("a lock file");
        let [a, b] = versions.groups.as_slice() else {
            panic!("expected two groups, saw {:?}", versions.groups);
        };
        assert_eq!(
            (a.mode, &*a.suites),
            (
                Mode::List,
                &["trixie".to_owned(), "trixie-backports".to_owned()][..]
            )
        );
        assert_eq!(a.pins, pins);
        assert_eq!((b.mode, b.wants.len(), b.pins.len()), (Mode::Each, 1, 0));
        assert!(versions.group("c").is_err());
    }

    #[test]
    fn a_line_that_is_no_statement_is_told_with_its_number() {
        for (text, expected) in [
            ("group a list trixie\nwish a b 1\n", "line 2: neither"),
            ("want a b 1\n", "line 1: there is no group a"),
            ("group a some trixie\n", "line 1: the mode"),
            (
                "group a list trixie\npin a trixie b 1 all 1 abc p\n",
                "line 2",
            ),
        ] {
            let error = Versions::parse(text).expect_err(text);
            assert!(error.to_string().contains(expected), "{text}: {error:#}");
        }
    }

    #[test]
    fn new_pins_replace_the_groups_own_and_nothing_else() {
        let (old, new) = ([pin("x", "1.0-1")], [pin("x", "1.2"), pin("y", "1.3")]);
        assert_eq!(with_pins(&text(&old), "a", &new).expect("pins"), text(&new));
        assert_eq!(with_pins(&text(&[]), "a", &old).expect("pins"), text(&old));
        assert!(with_pins(&text(&old), "c", &new).is_err());
    }

    #[test]
    fn the_trees_own_lock_file_is_whole() {
        let source = Source::find(None).expect("the source tree");
        let text = fs::read_to_string(source.join("scripts/versions.lock")).expect("the lock file");
        let versions = Versions::parse(&text).expect("a lock file");
        for group in &versions.groups {
            assert!(!group.pins.is_empty(), "{} has no pins", group.name);
            let same = with_pins(&text, &group.name, &group.pins).expect("pins");
            assert_eq!(same, text, "{} is written as it is read", group.name);
        }
    }

    #[test]
    fn a_groups_identity_is_the_hash_of_its_lines() {
        // printf 'list trixie\nx 1.\ntrixie x 1.0 amd64 12 SHA pool/x.deb\n' | sha256sum
        let group = Group {
            name: "a".to_owned(),
            mode: Mode::List,
            suites: vec!["trixie".to_owned()],
            wants: vec![Want {
                package: "x".to_owned(),
                series: "1.".to_owned(),
            }],
            pins: vec![pin("x", "1.0")],
        };
        assert_eq!(group.identity(), "76cd99445358a886");
    }
}
