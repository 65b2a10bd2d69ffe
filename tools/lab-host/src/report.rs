// SPDX-License-Identifier: GPL-2.0

//! Reports events to `lab`.

use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use lab_guest::init;
use lab_host::event::Event;
use lab_host::event::What;
use lab_host::event::HEARD;
use lab_host::event::PORT;
use rustix::time::clock_gettime;
use rustix::time::ClockId;

static OUT: OnceLock<Mutex<File>> = OnceLock::new();

/// Seconds on the monotonic clock, which is the clock of the trace, too.
pub fn now() -> f64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// Opens the port. Events that are reported before are lost.
pub fn open() -> Result<()> {
    let port = init::open_virtio_port(PORT, Duration::from_secs(60))?;
    OUT.set(Mutex::new(port))
        .ok()
        .context("the report port was opened twice")
}

/// Reports something that happens now.
pub fn say(what: What) {
    say_at(now(), what);
}

/// Reports something that happened at `time`.
pub fn say_at(time: f64, what: What) {
    let Some(out) = OUT.get() else { return };
    let Ok(mut text) = serde_json::to_string(&Event { time, what }) else {
        return;
    };
    text.push('\n');
    let mut port = out.lock().unwrap_or_else(PoisonError::into_inner);
    // A failure cannot be reported, but `lab` notices that the last event is missing.
    let _ = port.write_all(text.as_bytes());
}

/// Reports the present step.
pub fn doing(text: impl Into<String>) {
    say(What::Doing { text: text.into() });
}

/// Reports that the job is done, and waits for the answer.
pub fn finish(error: Option<String>) {
    let listener = OUT.get().and_then(|out| {
        out.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .try_clone()
            .ok()
    });
    say(What::Finished { error });
    if let Some(listener) = listener {
        for line in BufReader::new(listener).lines() {
            if line.map_or(true, |line| line == HEARD) {
                break;
            }
        }
    }
}
