// SPDX-License-Identifier: GPL-2.0

//! Locks that runs at the same time exclude each other with.
//!
//! A lock belongs to the open file, so a child that has the file as its standard input keeps the lock until the child and
//! all of its own children have ended, even if this process is killed. To them the empty file reads like /dev/null.

use std::fs::File;
use std::fs::OpenOptions;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use rustix::fs::flock;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::interrupt;

/// How often a lock that another run holds is tried again.
const INTERVAL: Duration = Duration::from_millis(200);

/// A lock that is held until this and all children that inherited it are gone.
pub struct FileLock {
    file: File,
}

impl FileLock {
    /// Takes the lock if nobody has it.
    pub fn try_take(path: &Path) -> Result<Option<Self>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(|| format!("opening the lock {}", path.display()))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { file })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("locking {}", path.display())),
        }
    }

    /// Waits for the lock; `waiting` is called once if somebody else has it.
    pub fn take(path: &Path, waiting: impl FnOnce()) -> Result<Self> {
        let mut waiting = Some(waiting);
        loop {
            if let Some(lock) = Self::try_take(path)? {
                return Ok(lock);
            }
            if let Some(waiting) = waiting.take() {
                waiting();
            }
            interrupt::check()?;
            thread::sleep(INTERVAL);
        }
    }

    /// The standard input of a child that is to keep the lock.
    pub fn stdin(&self) -> Result<Stdio> {
        Ok(self.file.try_clone().context("duplicating a lock")?.into())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_child_that_inherits_the_lock_keeps_it() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("lock");
        let lock = FileLock::take(&path, || panic!("somebody has a new lock")).expect("take");
        let mut child = Command::new("sh")
            .args(["-c", "read -r line; exec sleep 60"])
            .stdin(lock.stdin().expect("stdin"))
            .spawn()
            .expect("a child");
        drop(lock);
        let held = FileLock::try_take(&path).expect("try").is_none();
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert!(held, "the child does not have the lock");
        // A child that another test starts has all files for a moment, until it executes its program.
        let free = (0..100).any(|_| {
            thread::sleep(Duration::from_millis(50));
            FileLock::try_take(&path).expect("try").is_some()
        });
        assert!(free, "the lock has outlived the child");
    }
}
