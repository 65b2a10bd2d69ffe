// SPDX-License-Identifier: GPL-2.0

//! Fetches packages into the cache, with the helper that comes with apt, so that the machine's own proxies and
//! credentials for its mirror apply.
//!
//! A package has its final name only with the pinned SHA-256. What came in whole is kept, whatever happens next, and the
//! helper goes on with what came in half.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;

use super::archive::sandbox_user;
use super::hash::file_sha256;
use super::mirror::mirror;
use super::packages::Packages;
use super::packages::Selection;
use super::resolve::resolve;
use super::versions::Group;
use super::versions::Pin;
use crate::cache::Cache;
use crate::console::Console;
use crate::file_lock::FileLock;
use crate::job::Job;
use crate::job::Log;
use crate::units::size;

/// The helper.
pub const HELPER: &str = "/usr/lib/apt/apt-helper";

/// How often the size of what came in is asked for.
const INTERVAL: Duration = Duration::from_secs(1);

/// What came of a download.
#[derive(Debug, PartialEq, Eq)]
pub enum Fetched {
    /// All packages are there.
    All,
    /// A group fell back to other packages. All that depends on the group has another identity now.
    FellBack,
}

/// Takes over a package that an earlier run has fetched whole. Returns whether the package is there.
fn take(cache: &Cache, pin: &Pin) -> Result<bool> {
    let download = cache.download(&pin.sha256);
    if download.is_file() {
        return Ok(true);
    }
    let partial = cache.partial(&pin.sha256);
    // The helper may still be writing a file of another size.
    let whole = partial
        .metadata()
        .is_ok_and(|it| it.is_file() && it.len() == pin.size);
    if !whole || file_sha256(&partial)? != pin.sha256 {
        return Ok(false);
    }
    fs::rename(&partial, &download).with_context(|| format!("moving {}", partial.display()))?;
    Ok(true)
}

/// Where the helper leaves a file that does not have the SHA-256 that it should have.
fn rejected(cache: &Cache, pin: &Pin) -> PathBuf {
    cache.partial(&format!("{}.FAILED", pin.sha256))
}

/// Whether the helper's log says that the archive does not have the file.
fn is_gone(log: &str, path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let mut lines = log.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("Err:") && line.ends_with(name) {
            let reason = lines.peek().copied().unwrap_or_default();
            let gone = ["404", "410", "File not found"];
            if [line, reason]
                .iter()
                .any(|line| gone.iter().any(|it| line.contains(it)))
            {
                return true;
            }
        }
    }
    false
}

/// Makes sure that the packages of `selections` are in the cache.
pub fn fetch(
    cache: &Cache,
    console: &Console,
    packages: &Packages,
    selections: &[Selection],
) -> Result<Fetched> {
    let lock = FileLock::take(&cache.lock("downloads"), || {
        console.say("download: waiting for another run that is downloading");
    })?;
    // Cleaning the cache removes the directory, under the same lock.
    let partial = cache.partial("");
    fs::create_dir_all(&partial).with_context(|| format!("creating {}", partial.display()))?;
    let mut wanted: Vec<(&str, &Pin)> = Vec::new();
    let mut told: Vec<&str> = Vec::new();
    for selection in selections {
        let group = &*selection.group;
        if !told.contains(&group) {
            told.push(group);
            if let Some(note) = packages.fallback_note(group)? {
                console.say(&note);
            }
        }
        let pins = packages.selected(selection)?.into_iter();
        wanted.extend(pins.map(|pin| (group, pin)));
    }
    let mut missing: Vec<(&str, &Pin)> = Vec::new();
    for (group, pin) in wanted {
        let known = missing.iter().any(|(_, known)| known.sha256 == pin.sha256);
        if !known && !take(cache, pin)? {
            missing.push((group, pin));
        }
    }
    if missing.is_empty() {
        return Ok(Fetched::All);
    }

    let log = run_helper(cache, console, &lock, &missing)?;
    let text = log.text();
    let (mut wrong, mut gone, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for (group, pin) in &missing {
        if take(cache, pin)? {
            continue;
        } else if rejected(cache, pin).exists() {
            wrong.push(format!("{} {}", pin.package, pin.version));
        } else if is_gone(&text, &pin.path) {
            gone.push(*group);
        } else {
            failed.push(format!("{} {}", pin.package, pin.version));
        }
    }
    if !wrong.is_empty() {
        bail!(
            "the mirror's file does not have the SHA-256 that scripts/versions.lock pins: {}\n    \
             Nothing of it was used. The log is {}.",
            wrong.join(", "),
            log.path().display()
        );
    }
    if let Some(first) = failed.first() {
        let reason = text.lines().find(|line| line.starts_with("E:"));
        bail!(
            "{} of {} packages could not be downloaded from {}, the first is {first}\n    {}\n    \
             What came in is kept: run the command again to go on. The log is {}.",
            failed.len(),
            missing.len(),
            mirror()?,
            reason.map_or_else(|| log.last_line(), str::to_owned),
            log.path().display()
        );
    }
    if gone.is_empty() {
        return Ok(Fetched::All);
    }
    gone.sort_unstable();
    gone.dedup();
    for group in gone {
        fall_back(cache, console, packages.group(group)?)?;
    }
    Ok(Fetched::FellBack)
}

/// Runs apt's helper on packages and returns its log. That it failed shows in what is missing afterwards.
fn run_helper(
    cache: &Cache,
    console: &Console,
    lock: &FileLock,
    missing: &[(&str, &Pin)],
) -> Result<Log> {
    let mirror = mirror()?;
    let mut command = Command::new(HELPER);
    command.args([
        "-q",
        "-o",
        &sandbox_user()?,
        "-o",
        "Acquire::Retries=3",
        "download-file",
    ]);
    for (_, pin) in missing {
        let _ = fs::remove_file(rejected(cache, pin));
        command.arg(format!("{mirror}{}", pin.path));
        command.arg(cache.partial(&pin.sha256));
        command.arg(format!("SHA256:{}", pin.sha256));
    }
    let log = Log::create(cache.log("download"))?;
    log.receive(&mut command)?;
    // A helper that outlives this process keeps others from the files that it writes.
    command.stdin(lock.stdin()?).env("LC_ALL", "C.UTF-8");
    let total = missing.iter().map(|(_, pin)| pin.size).sum();
    console.say(&format!(
        "download: {} packages, {}",
        missing.len(),
        size(total)
    ));
    let task = console.task("download");
    let mut asked = Instant::now();
    Job::start(&mut command)?.wait(|| {
        if asked.elapsed() >= INTERVAL {
            asked = Instant::now();
            task.note(|| {
                let length = |path: &Path| path.metadata().map_or(0, |it| it.len());
                let have = missing
                    .iter()
                    .map(|(_, pin)| length(&cache.partial(&pin.sha256)));
                format!("{} of {}", size(have.sum()), size(total))
            });
        }
    })?;
    Ok(log)
}

/// Resolves a group anew because a pinned package of it is gone, and keeps the outcome for the next run.
fn fall_back(cache: &Cache, console: &Console, group: &Group) -> Result<()> {
    console.say(&format!(
        "{}: a pinned package is gone from the archive; looking for the newest of the same series",
        group.name
    ));
    let pins = resolve(cache, console, group)?;
    let text: String = pins.iter().map(|pin| format!("{pin}\n")).collect();
    let path = cache.resolved(&group.name, &group.identity());
    if fs::read_to_string(&path).is_ok_and(|old| old == text) {
        bail!(
            "the archive lists packages of group {} that it does not have\n    \
             The mirror may be in the middle of an update: try again later.",
            group.name
        );
    }
    let new = path.with_extension(format!("tmp{}", std::process::id()));
    let writing = || format!("writing {}", path.display());
    fs::write(&new, text).with_context(writing)?;
    fs::rename(&new, &path).with_context(writing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_taken_over_only_with_its_sha256() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let cache = Cache::at(directory.path()).expect("a cache");
        // printf abc | sha256sum
        let sha = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let pin: Pin = format!("s p 1 all 3 {sha} pool/p.deb")
            .parse()
            .expect("a pin");
        assert!(!take(&cache, &pin).expect("nothing there"));
        for (content, expected) in [("ab", false), ("abd", false), ("abc", true)] {
            fs::write(cache.partial(sha), content).expect("write");
            assert_eq!(take(&cache, &pin).expect("take"), expected, "{content}");
        }
        assert!(cache.download(sha).is_file() && !cache.partial(sha).exists());
        assert!(take(&cache, &pin).expect("it is there"));
    }

    #[test]
    fn a_package_that_is_gone_is_told_from_a_mirror_that_fails() {
        let log = "Get:1 http://a/debian pool/a_1.deb [5 B]\nErr:2 http://a/debian pool/b_1.deb\n  404  Not Found [IP: ::1 80]\n\
                   Err:3 http://a/debian pool/c_1.deb\n  Could not connect\nE: Failed to fetch http://a/debian/pool/b_1.deb  404  Not Found\n";
        let gone = ["pool/a_1.deb", "pool/b_1.deb", "pool/c_1.deb"].map(|path| is_gone(log, path));
        assert_eq!(gone, [false, true, false]);
    }
}
