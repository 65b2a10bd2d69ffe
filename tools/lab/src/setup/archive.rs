// SPDX-License-Identifier: GPL-2.0

//! Debian's archive, through the machine's own apt but with private state: nothing of the machine's package management is
//! read beyond its mirror, and nothing of it is changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use tempfile::TempDir;

use super::mirror::mirror;
use super::versions::Pin;
use crate::cache::Cache;
use crate::job::Job;
use crate::job::Log;

/// The keys that Debian signs its package lists with.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The option by which apt stays the user that it is started by, who owns the cache.
pub fn sandbox_user() -> Result<String> {
    let output = Command::new("id")
        .arg("-un")
        .output()
        .context("running id")?;
    let user = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(format!("APT::Sandbox::User={user}"))
}

/// The package lists of some suites.
pub struct Archive {
    state: TempDir,
    options: Vec<String>,
}

/// A version of a package that the lists have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Available {
    pub package: String,
    pub version: String,
    pub suite: String,
}

impl Archive {
    /// Fetches the lists of `suites`; apt checks Debian's signature on them.
    pub fn fetch(cache: &Cache, suites: &[String]) -> Result<Self> {
        if !Path::new(KEYRING).is_file() {
            bail!("{KEYRING} is missing\n    Install the package debian-archive-keyring.");
        }
        let mirror = mirror()?;
        let making = "making a directory for apt's state";
        let state = tempfile::Builder::new()
            .prefix(".apt-")
            .tempdir_in(cache.directory())
            .context(making)?;
        for directory in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(state.path().join(directory)).context(making)?;
        }
        let file = |name: &str| state.path().join(name).display().to_string();
        fs::write(file("status"), "").context(making)?;
        let line = |suite: &String| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n");
        let list: String = suites.iter().map(line).collect();
        fs::write(file("sources.list"), list).context(making)?;
        let options = [
            format!("Dir::Etc::sourcelist={}", file("sources.list")),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            "Dir::Etc::preferences=/dev/null".to_owned(),
            "Dir::Etc::preferencesparts=/dev/null".to_owned(),
            format!("Dir::State={}", file("")),
            format!("Dir::State::status={}", file("status")),
            format!("Dir::Cache={}", file("cache")),
            "APT::Architecture=amd64".to_owned(),
            "APT::Architectures=amd64".to_owned(),
            "APT::Install-Recommends=false".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            sandbox_user()?,
        ];
        let archive = Self {
            state,
            options: options.to_vec(),
        };
        let log = Log::create(cache.log("lists"))?;
        let mut command = archive.command("apt-get");
        command.args(["-q", "update", "-o", "APT::Update::Error-Mode=any"]);
        log.receive(&mut command)?;
        let status = Job::start(&mut command)?.wait(|| ())?;
        if !status.success() {
            bail!(
                "the package lists of {} cannot be fetched from {mirror}\n{}\n    The log is {}.",
                suites.join(", "),
                log.tail(5),
                log.path().display()
            );
        }
        Ok(archive)
    }

    /// A tool of apt's on the private state.
    fn command(&self, tool: &str) -> Command {
        let mut command = Command::new(tool);
        for option in &self.options {
            command.args(["-o", option]);
        }
        // Its output is read by a program.
        command
            .env("LC_ALL", "C.UTF-8")
            .current_dir(self.state.path());
        command
    }

    /// What a tool of apt's prints.
    fn output(&self, tool: &str, arguments: &[&str]) -> Result<String> {
        let output = self
            .command(tool)
            .args(arguments)
            .output()
            .with_context(|| format!("running {tool}"))?;
        if !output.status.success() {
            bail!("{tool}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The names of all packages.
    pub fn names(&self) -> Result<Vec<String>> {
        let names = self.output("apt-cache", &["pkgnames"])?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// All versions of `packages`, the newest of each first.
    pub fn available(&self, packages: &[&str]) -> Result<Vec<Available>> {
        if packages.is_empty() {
            return Ok(Vec::new());
        }
        let mut arguments = vec!["madison"];
        arguments.extend(packages);
        Ok(read_madison(&self.output("apt-cache", &arguments)?))
    }

    /// All that would be installed for `chosen`, each a PACKAGE=VERSION or a pattern of apt's.
    pub fn closure(&self, chosen: &[String]) -> Result<Vec<String>> {
        let mut arguments = vec!["install", "-qq", "-s"];
        arguments.extend(chosen.iter().map(|it| &**it));
        let simulation = self.output("apt-get", &arguments)?;
        let installed = |line: &str| {
            let mut words = line.split_whitespace();
            let (word, package, version) = (words.next()?, words.next()?, words.next()?);
            (word == "Inst").then(|| format!("{package}={}", version.trim_start_matches('(')))
        };
        Ok(simulation.lines().filter_map(installed).collect())
    }

    /// All that a lock file says of each of `packages`, which are PACKAGE=VERSION.
    pub fn describe(&self, packages: &[String]) -> Result<Vec<Pin>> {
        let names: Vec<_> = packages
            .iter()
            .map(|it| it.split_once('=').map_or(&**it, |(name, _)| name))
            .collect();
        let mut suites = BTreeMap::new();
        for available in self.available(&names)? {
            let key = (available.package, available.version);
            suites.entry(key).or_insert(available.suite);
        }
        let mut arguments = vec!["show"];
        arguments.extend(packages.iter().map(|it| &**it));
        read_show(&self.output("apt-cache", &arguments)?, &suites)
    }
}

/// Reads lines of "PACKAGE | VERSION | URI SUITE/COMPONENT ARCHITECTURE Packages".
fn read_madison(text: &str) -> Vec<Available> {
    let read = |line: &str| {
        let mut columns = line.strip_suffix(" Packages")?.split('|').map(str::trim);
        let (package, version) = (columns.next()?, columns.next()?);
        let suite = columns.next()?.split_whitespace().nth(1)?;
        Some(Available {
            package: package.to_owned(),
            version: version.to_owned(),
            suite: suite.split('/').next()?.to_owned(),
        })
    };
    text.lines().filter_map(read).collect()
}

/// Reads paragraphs of package descriptions, in the order of the names.
fn read_show(text: &str, suites: &BTreeMap<(String, String), String>) -> Result<Vec<Pin>> {
    let mut pins = Vec::new();
    for paragraph in text.split("\n\n").filter(|it| !it.trim().is_empty()) {
        let field = |name: &str| {
            let value = paragraph
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            value
                .with_context(|| format!("apt does not tell the {name} of a package:\n{paragraph}"))
        };
        let (package, version) = (field("Package")?.to_owned(), field("Version")?.to_owned());
        let suite = suites.get(&(package.clone(), version.clone()));
        let suite =
            suite.with_context(|| format!("apt does not tell the suite of {package} {version}"))?;
        pins.push(Pin {
            suite: suite.clone(),
            architecture: field("Architecture")?.to_owned(),
            size: field("Size")?
                .parse()
                .context("reading the size of a package")?,
            sha256: field("SHA256")?.to_owned(),
            path: field("Filename")?.to_owned(),
            package,
            version,
        });
    }
    pins.sort_by_cached_key(|pin| {
        let line = pin.to_string();
        line.split_once(' ')
            .map_or(String::new(), |(_, rest)| rest.to_owned())
    });
    Ok(pins)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apts_lists_are_read() {
        let madison = " linux-base-7 | 7.3.4-1~bpo13+1 | http://a/debian trixie-backports/main amd64 Packages\n   \
                       linux | 7.3.4-1 | http://a/debian trixie/main Sources\n";
        let available = read_madison(madison);
        let expected = Available {
            package: "linux-base-7".to_owned(),
            version: "7.3.4-1~bpo13+1".to_owned(),
            suite: "trixie-backports".to_owned(),
        };
        assert_eq!(available, [expected]);

        let sha = "0".repeat(64);
        let paragraph = |name: &str| {
            format!("Package: {name}\nVersion: 1\nArchitecture: all\nFilename: pool/{name}.deb\nSize: 7\nSHA256: {sha}\nDescription: x\n y\n")
        };
        let text = format!("{}\n{}\n", paragraph("b"), paragraph("a"));
        let suites = ["a", "b"].map(|name| ((name.to_owned(), "1".to_owned()), "sid".to_owned()));
        let pins = read_show(&text, &BTreeMap::from(suites)).expect("pins");
        let lines: Vec<_> = pins.iter().map(Pin::to_string).collect();
        assert_eq!(
            lines,
            ["a", "b"].map(|name| format!("sid {name} 1 all 7 {sha} pool/{name}.deb"))
        );
        assert!(read_show("Package: a\n", &BTreeMap::new()).is_err());
    }
}
