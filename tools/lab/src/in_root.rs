// SPDX-License-Identifier: GPL-2.0

//! Commands in the toolchain root, through `scripts/in-root`.

use std::ffi::OsStr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::cache::Cache;
use crate::source::Source;

/// A command that runs `program` in the root `toolchain`, where `binds` are writable at their own paths, too.
pub fn in_root(
    source: &Source,
    cache: &Cache,
    toolchain: &Path,
    binds: &[PathBuf],
    program: impl AsRef<OsStr>,
) -> Command {
    let mut command = Command::new(source.join("scripts/in-root"));
    command.arg(toolchain).env("FERRY_CACHE", cache.directory());
    for bind in binds {
        command.arg("--bind").arg(bind);
    }
    command.arg("--").arg(program);
    command
}
