// SPDX-License-Identifier: GPL-2.0

//! The cache: components, downloads, fallbacks of package groups, logs and locks, outside of the source tree.
//!
//! Source trees share the cache. What is in it has a name that says what went into it, so a file or directory is either
//! whole and right, or absent.

use std::collections::HashSet;
use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;

use crate::source::check_path;

/// Directories of the cache.
const DIRECTORIES: [&str; 5] = [
    "downloads",
    "downloads/partial",
    "locks",
    "logs",
    "resolved",
];

/// The cache.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// The cache in `FERRY_CACHE`, or else in the user's directory of caches. It is made if it does not exist.
    pub fn open() -> Result<Self> {
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
        let directory = match (variable("FERRY_CACHE"), variable("XDG_CACHE_HOME")) {
            (Some(directory), _) => PathBuf::from(directory),
            (None, Some(caches)) => PathBuf::from(caches).join("ferry"),
            (None, None) => {
                let home = variable("HOME").context(
                    "there is no place for the cache: neither FERRY_CACHE, XDG_CACHE_HOME nor HOME is set",
                )?;
                PathBuf::from(home).join(".cache/ferry")
            }
        };
        Self::at(&directory)
    }

    /// The cache in `directory`.
    pub fn at(directory: &Path) -> Result<Self> {
        let making = || {
            format!(
                "cannot make the cache directory {}\n    \
                 Set FERRY_CACHE to a directory that you can write to.",
                directory.display()
            )
        };
        for name in DIRECTORIES {
            fs::create_dir_all(directory.join(name)).with_context(making)?;
        }
        let directory = directory.canonicalize().with_context(making)?;
        // A prepared build tree holds its own path.
        check_path(
            "the cache",
            &directory,
            "Set FERRY_CACHE to a directory without them.",
        )?;
        Ok(Self { directory })
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the component `name` with the identity `key` is, or will be.
    pub fn component(&self, name: &str, key: &str) -> PathBuf {
        self.directory.join(format!("{name}-{key}"))
    }

    /// Where the package with this SHA-256 is, or will be.
    pub fn download(&self, sha256: &str) -> PathBuf {
        self.directory.join(format!("downloads/{sha256}.deb"))
    }

    /// Where the package with this SHA-256 comes in.
    pub fn partial(&self, sha256: &str) -> PathBuf {
        self.directory.join("downloads/partial").join(sha256)
    }

    /// Where the fallback of a package group is, or would be, kept.
    pub fn resolved(&self, group: &str, identity: &str) -> PathBuf {
        self.directory.join(format!("resolved/{group}-{identity}"))
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.directory.join(format!("logs/{name}.log"))
    }

    pub fn lock(&self, name: &str) -> PathBuf {
        self.directory.join("locks").join(name)
    }
}

/// The bytes that a file or tree takes on the disk. A file with several names counts once.
pub fn disk_size(path: &Path) -> u64 {
    fn add(path: &Path, seen: &mut HashSet<(u64, u64)>) -> u64 {
        const BLOCK: u64 = 512;
        let Ok(metadata) = path.symlink_metadata() else {
            return 0;
        };
        if metadata.nlink() > 1
            && !metadata.is_dir()
            && !seen.insert((metadata.dev(), metadata.ino()))
        {
            return 0;
        }
        let mut size = metadata.blocks() * BLOCK;
        if metadata.is_dir() {
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                size += add(&entry.path(), seen);
            }
        }
        size
    }
    add(path, &mut HashSet::new())
}

/// Removes a file or a tree, even one with directories that their owner may not write.
pub fn remove_tree(path: &Path) -> Result<()> {
    fn unlock(directory: &Path) {
        if !directory.symlink_metadata().is_ok_and(|it| it.is_dir()) {
            return;
        }
        let _ = fs::set_permissions(directory, fs::Permissions::from_mode(0o700));
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            unlock(&entry.path());
        }
    }
    let removing = || format!("removing {}", path.display());
    let Ok(metadata) = path.symlink_metadata() else {
        return Ok(());
    };
    if !metadata.is_dir() {
        return fs::remove_file(path).with_context(removing);
    }
    if fs::remove_dir_all(path).is_ok() {
        return Ok(());
    }
    unlock(path);
    fs::remove_dir_all(path).with_context(removing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_without_write_permission_is_removed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let tree = directory.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).expect("directories");
        fs::write(tree.join("a/b/c"), "x").expect("write");
        for name in ["a/b", "a"] {
            fs::set_permissions(tree.join(name), fs::Permissions::from_mode(0o555)).expect("chmod");
        }
        assert!(disk_size(&tree) > 0);
        remove_tree(&tree).expect("remove");
        assert!(!tree.exists());
        remove_tree(&tree).expect("remove what is not there");
    }
}
