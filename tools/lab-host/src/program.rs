// SPDX-License-Identifier: GPL-2.0

//! Programs that the host VM runs.

use std::io::BufRead;
use std::io::BufReader;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;

use anyhow::Context;
use anyhow::Result;
use lab_host::event::What;

use crate::report;

/// The search path in the host VM.
pub const SEARCH_PATH: &str = "/ferry/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The exit status as a shell has it: 128 and the signal's number after a signal.
pub fn status_number(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// Runs a program, gives each line of its output to `each`, and returns its exit status.
pub fn run_with(program: &str, arguments: &[&str], mut each: impl FnMut(String)) -> Result<i32> {
    let (output, input) = std::io::pipe().context("pipe")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("PATH", SEARCH_PATH)
        .env("HOME", "/tmp")
        .current_dir("/tmp")
        .stdin(Stdio::null())
        .stdout(input.try_clone().context("pipe")?)
        .stderr(input);
    let mut child = command
        .spawn()
        .with_context(|| format!("starting {program}"))?;
    // The command keeps the pipe's writing end open, and reading would not end.
    drop(command);
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while output
        .read_until(b'\n', &mut line)
        .with_context(|| format!("reading {program}"))?
        > 0
    {
        each(
            String::from_utf8_lossy(&line)
                .trim_end_matches('\n')
                .to_owned(),
        );
        line.clear();
    }
    let status = child
        .wait()
        .with_context(|| format!("waiting for {program}"))?;
    Ok(status_number(status))
}

/// Runs a program, copies its output out and returns its exit status.
pub fn run(program: &str, arguments: &[&str]) -> Result<i32> {
    run_with(program, arguments, |text| {
        report::say(What::Output { text })
    })
}
