// SPDX-License-Identifier: GPL-2.0

//! The second process of a test: the same program with a hidden option.

use std::io::BufRead;
use std::io::BufReader;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use crate::check::same;
use crate::check::Outcome;
use crate::check::Stop;
use crate::ktap::Exit;

/// Starts the second process with `arguments`, and waits until it prints `word`.
#[track_caller]
pub fn start(arguments: &[&str], stdin: impl Into<Stdio>, word: &str) -> Outcome<Child> {
    let mut child = Command::new("/proc/self/exe")
        .args(arguments)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(Stop::failed)?;
    let mut line = String::new();
    let heard = match child.stdout.take() {
        Some(out) => BufReader::new(out).read_line(&mut line).map(drop),
        None => Ok(()),
    };
    let said = heard
        .map_err(Stop::failed)
        .and_then(|()| same("the second process's word", line.trim(), word));
    match said {
        Ok(()) => Ok(child),
        Err(stop) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(stop)
        }
    }
}

/// Returns the exit of the second process.
pub fn end(outcome: Outcome) -> Result<Exit, String> {
    outcome
        .map(|()| Exit::Pass)
        .map_err(|stop| format!("{stop:?}"))
}
