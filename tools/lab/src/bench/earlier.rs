// SPDX-License-Identifier: GPL-2.0

//! The earlier commit that this tree is compared with, out of the repository.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use tempfile::NamedTempFile;

/// The commit, whose engine computes the checksum with tables, and whose disk has one lock for registers and commands.
pub const COMMIT: &str = "d3fbec35db1a3015c19d5566c2b1aacfa84eee5b";

/// The names of this tree and of the commit in results.
pub const OURS: &str = "this tree";
pub const EARLIER: &str = "d3fbec3";

/// A work tree of the repository, which is removed when this is dropped.
pub struct WorkTree<'a> {
    root: &'a Path,
    directory: PathBuf,
}

impl<'a> WorkTree<'a> {
    /// Checks out `commit` of the repository in `root`.
    pub fn add(root: &'a Path, directory: PathBuf, commit: &str) -> Result<Self> {
        let tree = Self { root, directory };
        let mut add = tree.git(&["worktree", "add", "--quiet", "--detach", "--force"]);
        let output = add
            .arg(&tree.directory)
            .arg(commit)
            .output()
            .context("running git")?;
        if !output.status.success() {
            bail!("git worktree: {}", text(&output.stderr));
        }
        Ok(tree)
    }

    fn git(&self, arguments: &[&str]) -> Command {
        let mut git = Command::new("git");
        git.current_dir(self.root).args(arguments);
        git
    }
}

impl Drop for WorkTree<'_> {
    fn drop(&mut self) {
        let mut remove = self.git(&["worktree", "remove", "--force"]);
        let removed = remove.arg(&self.directory).stderr(Stdio::null()).status();
        if !removed.is_ok_and(|status| status.success()) {
            eprintln!(
                "lab: the work tree {} could not be removed; 'git worktree prune' forgets it",
                self.directory.display()
            );
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// Checks that the repository in `root` has `commit`.
pub fn check_commit(root: &Path, commit: &str) -> Result<()> {
    let output = Command::new("git")
        .current_dir(root)
        .args(["cat-file", "-e", &format!("{commit}^{{commit}}")])
        .output()
        .context("running git")?;
    if !output.status.success() {
        let why = text(&output.stderr);
        bail!(
            "results are compared with those of commit {commit}, which this clone lacks ({why})\n    \
             Fetch it: 'git fetch --unshallow' completes a shallow clone, 'git fetch origin {commit}' fetches it alone."
        );
    }
    Ok(())
}

/// Writes `paths` of `commit` of the repository in `root` below `directory`. Their times are the commit's, so that a second call
/// has nothing built again.
pub fn export(root: &Path, commit: &str, paths: &[&str], directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    let archive = NamedTempFile::new().context("creating a temporary file")?;
    let mut git = Command::new("git");
    git.current_dir(root)
        .args(["archive", "--format=tar", "-o"])
        .arg(archive.path())
        .arg(commit)
        .args(paths);
    let mut tar = Command::new("tar");
    tar.arg("-xf").arg(archive.path()).arg("-C").arg(directory);
    for (name, mut command) in [("git archive", git), ("tar", tar)] {
        let output = command
            .output()
            .with_context(|| format!("running {name}"))?;
        if !output.status.success() {
            bail!("{name}: {}", text(&output.stderr));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_that_the_clone_lacks_is_named_with_what_to_do() {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        let missing = "0123456789012345678901234567890123456789";
        let error = check_commit(Path::new(source), missing).expect_err("no such commit");
        let text = format!("{error:#}");
        assert!(
            text.contains(missing) && text.contains("git fetch --unshallow"),
            "{text}"
        );
    }

    #[test]
    fn an_export_has_the_files_of_the_commit_with_its_time() {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        let directory = tempfile::tempdir().expect("a temporary directory");
        export(Path::new(source), "HEAD", &["COPYING"], directory.path()).expect("a file");
        let time = || fs::metadata(directory.path().join("COPYING"))?.modified();
        let first = time().expect("a file");
        export(Path::new(source), "HEAD", &["COPYING"], directory.path()).expect("a file");
        assert_eq!(time().expect("a file"), first);
        let error = export(Path::new(source), "HEAD", &["no-such"], directory.path());
        assert!(error.is_err());
    }
}
