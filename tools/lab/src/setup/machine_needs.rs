// SPDX-License-Identifier: GPL-2.0

//! What the machine must have before anything can be made.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;

use super::download::HELPER;
use crate::cache::Cache;
use crate::source::Source;

/// Programs that the set-up runs, and the packages that have them.
const PROGRAMS: [(&str, &str); 10] = [
    ("bash", "bash"),
    ("dpkg-deb", "dpkg"),
    ("apt-get", "apt"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("mount", "mount"),
    ("tar", "tar"),
    ("xz", "xz-utils"),
    ("awk", "mawk"),
    ("git", "git"),
];

fn is_program(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}

fn is_on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| is_program(&directory.join(program)))
}

/// Checks for all that the set-up runs, and names all that is missing at once.
pub fn check(source: &Source, cache: &Cache) -> Result<()> {
    if env::consts::ARCH != "x86_64" {
        bail!(
            "this machine is {}; the drivers and their tests are for x86_64",
            env::consts::ARCH
        );
    }
    let missing = PROGRAMS.iter().filter(|(program, _)| !is_on_path(program));
    let mut missing: Vec<_> = missing.map(|(_, package)| *package).collect();
    if !is_program(Path::new(HELPER)) {
        missing.push("apt");
    }
    missing.sort_unstable();
    missing.dedup();
    if !missing.is_empty() {
        bail!(
            "the machine lacks what the set-up needs\n    Install: apt-get install {}",
            missing.join(" ")
        );
    }
    let output = Command::new(source.join("scripts/in-root"))
        .arg("--check")
        .env("FERRY_CACHE", cache.directory())
        .output()
        .context("running scripts/in-root")?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("{}", why.trim_end().trim_start_matches("in-root: "));
    }
    Ok(())
}

/// Checks for the linter that `make test` looks at the source with.
pub fn check_lint() -> Result<()> {
    let output = cargo().args(["clippy", "--version"]).output();
    if !output.is_ok_and(|output| output.status.success()) {
        bail!("cargo has no clippy\n    Install it, for example with: rustup component add clippy");
    }
    Ok(())
}

/// Cargo, or what `CARGO` names instead.
pub fn cargo() -> Command {
    let cargo = env::var_os("CARGO").filter(|it| !it.is_empty());
    Command::new(cargo.unwrap_or_else(|| "cargo".into()))
}
