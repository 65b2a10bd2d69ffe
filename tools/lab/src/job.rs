// SPDX-License-Identifier: GPL-2.0

//! A child that writes into a log, in a process group of its own, which ends when this process is interrupted.

use std::fs;
use std::fs::File;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use rustix::process::kill_process_group;
use rustix::process::Pid;
use rustix::process::Signal;

use crate::interrupt;

/// How often a job is looked at.
const INTERVAL: Duration = Duration::from_millis(50);

/// How long an interrupted job may take to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much of a log's end is read.
const TAIL: u64 = 16 << 10;

/// The file that a job writes its output to.
pub struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// An empty log.
    pub fn create(path: PathBuf) -> Result<Self> {
        let creating = || format!("creating the log {}", path.display());
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).with_context(creating)?;
        }
        // Several processes write at the end.
        File::create(&path).with_context(creating)?;
        let file = File::options()
            .append(true)
            .open(&path)
            .with_context(creating)?;
        Ok(Self { path, file })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has `command` write its output and errors here.
    pub fn receive(&self, command: &mut Command) -> Result<()> {
        let duplicate = || self.file.try_clone().context("duplicating a log");
        command.stdout(duplicate()?).stderr(duplicate()?);
        Ok(())
    }

    /// The text of the log.
    pub fn text(&self) -> String {
        let log = fs::read(&self.path).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The whole lines that were added since the last call with this `offset`, which begins with 0.
    pub fn new_lines(&self, offset: &mut u64) -> Vec<String> {
        let read = |from: u64| -> std::io::Result<Vec<u8>> {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(from))?;
            let mut new = Vec::new();
            file.read_to_end(&mut new)?;
            Ok(new)
        };
        let mut new = read(*offset).unwrap_or_default();
        let whole = new
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        new.truncate(whole);
        *offset += whole as u64;
        let text = String::from_utf8_lossy(&new);
        text.lines().map(str::to_owned).collect()
    }

    /// The end of the log.
    fn end(&self) -> String {
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(&self.path)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
            let mut end = Vec::new();
            file.read_to_end(&mut end)?;
            Ok(end)
        };
        String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
    }

    /// The last line, without control characters.
    pub fn last_line(&self) -> String {
        let end = self.end();
        let last = end.lines().rev().find(|line| !line.trim().is_empty());
        let last: String = last
            .unwrap_or_default()
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(60)
            .collect();
        last.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// The last `count` lines, each indented.
    pub fn tail(&self, count: usize) -> String {
        let end = self.end();
        let lines: Vec<_> = end.lines().collect();
        let lines = &lines[lines.len().saturating_sub(count)..];
        let lines: Vec<_> = lines.iter().map(|line| format!("    {line}")).collect();
        lines.join("\n")
    }
}

/// A job that runs. Its process group is ended when this is dropped.
pub struct Job {
    child: Child,
}

impl Job {
    pub fn start(command: &mut Command) -> Result<Self> {
        let starting = format!("starting {}", command.get_program().to_string_lossy());
        let child = command.process_group(0).spawn().context(starting)?;
        Ok(Self { child })
    }

    /// Waits for the job's end, and calls `meanwhile` again and again until then.
    pub fn wait(mut self, mut meanwhile: impl FnMut()) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait().context("waiting for a job")? {
                return Ok(status);
            }
            interrupt::check()?;
            meanwhile();
            thread::sleep(INTERVAL);
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // Once waited for, the number may be another group's.
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        self.signal(Signal::TERM);
        let began = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if began.elapsed() > PATIENCE {
                self.signal(Signal::KILL);
                let _ = self.child.wait();
                return;
            }
            thread::sleep(INTERVAL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_output_is_in_its_log() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let log = Log::create(directory.path().join("logs/a.log")).expect("a log");
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; printf 'two\\r\\033[K  x' >&2; exit 3"]);
        log.receive(&mut command).expect("the log's file");
        let status = Job::start(&mut command).expect("a job").wait(|| ());
        assert_eq!(status.expect("its end").code(), Some(3));
        assert_eq!(log.text(), "one\ntwo\r\u{1b}[K  x");
        let mut offset = 0;
        assert_eq!(log.new_lines(&mut offset), ["one"]);
        assert!(log.new_lines(&mut offset).is_empty());
        assert_eq!(log.last_line(), "two [K x");
        assert_eq!(log.tail(2).lines().next(), Some("    one"));
    }

    #[test]
    fn a_job_that_is_dropped_ends_with_all_its_children() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("pid");
        let script = format!("sleep 60 & echo $! > {}; wait", path.display());
        let job = Job::start(Command::new("sh").args(["-c", &script])).expect("a job");
        let pid = loop {
            let pid = fs::read_to_string(&path).unwrap_or_default();
            if pid.ends_with('\n') {
                break pid.trim().to_owned();
            }
            thread::sleep(INTERVAL);
        };
        drop(job);
        // The grandchild is a zombie until its new parent waits for it, which may take a moment.
        let ended = (0..100).any(|_| {
            thread::sleep(INTERVAL);
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        });
        assert!(ended, "process {pid} still runs");
    }
}
