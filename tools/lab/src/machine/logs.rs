// SPDX-License-Identifier: GPL-2.0

//! The files that a host VM writes: its console, what QEMU said, and why QEMU reset a processor.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;

/// The console's first words, from the serial port.
const EARLY: &str = "early.log";

/// The console.
const CONSOLE: &str = "console.log";

/// The standard error of QEMU.
const VMM: &str = "qemu.log";

/// Why QEMU reset a processor that it emulates.
const RESETS: &str = "resets.log";

const ALL: [&str; 4] = [EARLY, CONSOLE, VMM, RESETS];

/// Lines of each log that an error shows.
const TAIL_LINES: usize = 25;

/// The logs of one host VM.
pub(super) struct Logs {
    directory: PathBuf,
}

impl Logs {
    /// The logs are files of `directory`.
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    pub fn early(&self) -> PathBuf {
        self.directory.join(EARLY)
    }

    pub fn console(&self) -> PathBuf {
        self.directory.join(CONSOLE)
    }

    pub fn vmm(&self) -> PathBuf {
        self.directory.join(VMM)
    }

    pub fn resets(&self) -> PathBuf {
        self.directory.join(RESETS)
    }

    /// The text of a log, empty if the log does not exist.
    fn text(&self, name: &str) -> String {
        let log = fs::read(self.directory.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Everything that the console said.
    pub fn console_text(&self) -> String {
        self.text(EARLY) + &self.text(CONSOLE)
    }

    /// Whether an emulated processor took a triple fault.
    pub fn show_triple_fault(&self) -> bool {
        self.text(RESETS).contains("Triple fault")
    }

    /// The last lines of each log.
    pub fn tails(&self) -> String {
        let mut tails = String::new();
        for name in ALL {
            let log = self.text(name);
            let lines: Vec<_> = log.lines().collect();
            if !lines.is_empty() {
                tails.push_str(&format!("--- the end of {name}:\n"));
                for line in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
                    tails.push_str(line.trim_end());
                    tails.push('\n');
                }
            }
        }
        tails
    }

    /// Copies the logs to `directory`, each with `prefix`.
    pub fn keep(&self, directory: &Path, prefix: &str) -> Result<()> {
        fs::create_dir_all(directory)
            .with_context(|| format!("creating {}", directory.display()))?;
        for name in ALL {
            let from = self.directory.join(name);
            if from.exists() {
                let to = directory.join(format!("{prefix}-{name}"));
                fs::copy(&from, &to).with_context(|| format!("writing {}", to.display()))?;
            }
        }
        Ok(())
    }
}
