// SPDX-License-Identifier: GPL-2.0

//! The source tree, and the places in it that builds write to.

use std::env;
use std::path::Path;
use std::path::PathBuf;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;

/// The file that tells a source tree of Ferry.
const VERSIONS: &str = "scripts/versions.lock";

/// A source tree.
#[derive(Clone, Debug)]
pub struct Source {
    root: PathBuf,
}

impl Source {
    /// The tree in `root`, or the one that the current directory belongs to.
    pub fn find(root: Option<&Path>) -> Result<Self> {
        let start = match root {
            Some(root) => root.to_owned(),
            None => env::current_dir().context("asking for the current directory")?,
        };
        let start = start
            .canonicalize()
            .with_context(|| format!("looking for {}", start.display()))?;
        let is_source = |directory: &&Path| directory.join(VERSIONS).is_file();
        let found = match root {
            Some(_) => Some(&*start).filter(is_source),
            None => start.ancestors().find(is_source),
        };
        let Some(found) = found else {
            bail!(
                "{} is no source tree of Ferry, which would have a file {VERSIONS}\n    \
                 Change to the source tree, or name it with --source.",
                start.display()
            );
        };
        check_path("the source tree", found, "Move the source tree.")?;
        Ok(Self {
            root: found.to_owned(),
        })
    }

    /// The tree's top directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A file or directory of the tree.
    pub fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    /// Where builds write what is not part of the source.
    pub fn build(&self) -> PathBuf {
        self.join("build")
    }

    /// The lock file with the versions of all packages; `FERRY_LOCK` names another one.
    pub fn versions(&self) -> PathBuf {
        match env::var_os("FERRY_LOCK").filter(|path| !path.is_empty()) {
            Some(path) => path.into(),
            None => self.join(VERSIONS),
        }
    }
}

/// Fails if the kernel's build cannot take `path`, which is what `name` says.
pub fn check_path(name: &str, path: &Path, mend: &str) -> Result<()> {
    let text = path.to_string_lossy();
    if text.contains(|c: char| c.is_whitespace() || c == ':') {
        bail!(
            "the path of {name}, '{text}', has a blank or a colon, which the kernel's build cannot take\n    {mend}"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_tree_is_found_from_a_directory_in_it() {
        let here = Source::find(None).expect("this test runs in the source");
        assert!(here.join("tools/lab").is_dir());
        let by_name = Source::find(Some(here.root())).expect("the same tree");
        assert_eq!(by_name.root(), here.root());
        assert!(Source::find(Some(&here.join("tools"))).is_err());
    }

    #[test]
    fn a_path_that_the_kernels_build_cannot_take_is_refused() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path().join("a b");
        fs::create_dir_all(root.join("scripts")).expect("directories");
        fs::write(root.join(VERSIONS), "").expect("write");
        let error = Source::find(Some(&root)).expect_err("a blank");
        assert!(error.to_string().contains("blank or a colon"), "{error:#}");
    }
}
