// SPDX-License-Identifier: GPL-2.0

//! `lab fmt`: all Rust code of the tree in the kernel's format, by the toolchain's rustfmt.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use anyhow::Result;

use crate::cache::Cache;
use crate::in_root::in_root;
use crate::setup::Component;
use crate::setup::SetUp;
use crate::source::Source;

pub const COMPONENTS: [Component; 2] = [Component::Toolchain, Component::LinuxSource];

/// Where Rust code is.
const PLACES: [&str; 2] = ["rust", "tools"];

/// Adds the files below `directory` that people write.
fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let listing = || format!("listing {}", directory.display());
    for entry in fs::read_dir(directory).with_context(listing)? {
        let entry = entry.with_context(listing)?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if entry.file_type().with_context(listing)?.is_dir() {
            if name != "target" {
                collect(&path, files)?;
            }
        } else if name.ends_with(".rs") && !name.ends_with("_generated.rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// The command that formats, or only checks the format.
pub fn command(source: &Source, cache: &Cache, set_up: &SetUp, check: bool) -> Result<Command> {
    let mut files = Vec::new();
    for place in PLACES {
        collect(&source.join(place), &mut files)?;
    }
    files.sort();
    let mut command = in_root(
        source,
        cache,
        set_up.path(Component::Toolchain)?,
        &[],
        "rustfmt",
    );
    command
        .arg("--config-path")
        .arg(set_up.path(Component::LinuxSource)?.join(".rustfmt.toml"))
        .args(check.then_some("--check"))
        .args(files)
        .current_dir(source.root());
    Ok(command)
}
