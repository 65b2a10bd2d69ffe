// SPDX-License-Identifier: GPL-2.0

//! Reads `/dev/kmsg`: the lines of refusals, and complaints of the kernel.

use std::os::fd::OwnedFd;
use std::time::Duration;
use std::time::Instant;

use rustix::fs::open;
use rustix::fs::seek;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::SeekFrom;
use vfio_client::Errno;

use crate::check::holds;
use crate::check::name;
use crate::check::Outcome;
use crate::check::Stop;

/// How long to wait for a line. The rate of refusals is limited.
const PATIENCE: Duration = Duration::from_secs(10);

/// The kernel's log, record by record.
struct Kmsg(OwnedFd);

impl Kmsg {
    fn open() -> Outcome<Kmsg> {
        open(
            "/dev/kmsg",
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map(Kmsg)
        .map_err(|errno| Stop::Skipped(format!("open /dev/kmsg: {}", name(errno))))
    }

    /// Opens the log at its end, so that only what is logged from now on is read.
    fn from_now() -> Outcome<Kmsg> {
        let kmsg = Kmsg::open()?;
        seek(&kmsg.0, SeekFrom::End(0))
            .map_err(|errno| Stop::Skipped(format!("seek in /dev/kmsg: {}", name(errno))))?;
        Ok(kmsg)
    }

    /// Reads all messages that were logged so far.
    fn messages(&self) -> Outcome<Vec<String>> {
        let mut messages = Vec::new();
        let mut record = vec![0; 8192];
        loop {
            match rustix::io::read(&self.0, &mut record) {
                Ok(len) => {
                    let text = String::from_utf8_lossy(&record[..len]);
                    // `priority,sequence,time,flags;message`, then lines of key and value.
                    let message = text
                        .split_once(';')
                        .and_then(|(_, rest)| rest.lines().next());
                    messages.extend(message.map(str::to_string));
                }
                // Records were overwritten before they were read: go on with the oldest that is left.
                Err(Errno::PIPE) => {}
                Err(Errno::AGAIN) => return Ok(messages),
                Err(errno) => return Err(Stop::failed(format_args!("/dev/kmsg: {errno}"))),
            }
        }
    }
}

/// Provokes a refusal until the log has a line with all of `words`. The log limits the rate of refusals, so
/// several may be needed.
#[track_caller]
pub fn expect_line(words: &[&str], provoke: impl FnMut() -> Outcome) -> Outcome {
    await_line(words, provoke).map(drop)
}

/// As [`expect_line`]; returns the line.
#[track_caller]
pub fn await_line(words: &[&str], mut provoke: impl FnMut() -> Outcome) -> Outcome<String> {
    let kmsg = Kmsg::from_now()?;
    let start = Instant::now();
    let mut seen = Vec::new();
    loop {
        provoke()?;
        let messages = kmsg.messages()?;
        let has_all = |message: &&String| words.iter().all(|word| message.contains(word));
        if let Some(message) = messages.iter().find(has_all) {
            return Ok(message.clone());
        }
        seen.extend(messages);
        if start.elapsed() > PATIENCE {
            seen.dedup();
            return Err(Stop::failed(format_args!(
                "expected a line with {words:?} in the kernel log, seen {seen:#?}"
            )));
        }
        std::thread::yield_now();
    }
}

/// Provokes refusals once, and returns the lines that they logged with all of `words`.
#[track_caller]
pub fn lines_of(words: &[&str], provoke: impl FnOnce() -> Outcome) -> Outcome<Vec<String>> {
    let kmsg = Kmsg::from_now()?;
    provoke()?;
    let mut messages = kmsg.messages()?;
    messages.retain(|message| words.iter().all(|word| message.contains(word)));
    Ok(messages)
}

/// Whether `report`, the lines from a report of lockdep on, is about type1's own order of locks. It takes
/// `device_list_lock` while it has a driver unpin memory, and the function for that takes `iommu->lock`;
/// elsewhere it takes the two in the other order. A driver can do nothing about it.
fn is_of_type1(report: &[String]) -> bool {
    report
        .first()
        .is_some_and(|line| line.contains("circular locking"))
        && report
            .iter()
            .take(40)
            .find(|line| line.contains(", at: ") && line.contains("device_list_lock"))
            .is_some_and(|line| line.contains("vfio_notify_dma_unmap"))
}

/// Checks that the log has no warning of the kernel about itself.
pub fn no_complaint() -> Outcome {
    let complaints = [
        "WARNING:",
        "BUG:",
        "Oops",
        "UBSAN:",
        "KASAN:",
        "KFENCE:",
        "general protection",
        "kernel panic",
        "blocked for more than",
        "soft lockup",
        "refcount_t:",
        "possible recursive locking",
        "circular locking",
        "inconsistent lock state",
        "suspicious RCU usage",
        "rust_kernel: panicked",
        // kmemleak's reports. Its line at boot says "memory leak detector".
        "suspected memory leak",
    ];
    let messages = Kmsg::open()?.messages()?;
    let found: Vec<&String> = messages
        .iter()
        .enumerate()
        .filter(|(_, message)| complaints.iter().any(|word| message.contains(word)))
        .filter(|(at, _)| !is_of_type1(&messages[*at..]))
        .map(|(_, message)| message)
        .collect();
    holds(
        found.is_empty(),
        format_args!("expected no complaint in the kernel log, seen {found:#?}"),
    )
}
