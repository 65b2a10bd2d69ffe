// SPDX-License-Identifier: GPL-2.0

//! The connection to the host.

use std::fs::File;
use std::io::Write;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use lab_guest::init;
use lab_guest::report::Report;
use lab_guest::report::PORT;

/// How long the port may take to appear.
const APPEAR_LIMIT: Duration = Duration::from_secs(60);

/// The connection to the host.
pub struct Host(Mutex<File>);

impl Host {
    /// Opens the port to the host. Returns it with the end from which requests are read.
    pub fn open() -> Result<(Self, File)> {
        let port = init::open_virtio_port(PORT, APPEAR_LIMIT)?;
        let requests = port.try_clone().context("duplicating the report port")?;
        Ok((Self(Mutex::new(port)), requests))
    }

    /// Calls `work`, which may take the port's driver away. Nothing is reported meanwhile. Opens the port anew, and returns what
    /// `work` returned, with the end from which requests are read.
    pub fn reopen_after<T>(&self, work: impl FnOnce() -> T) -> Result<(T, File)> {
        let mut port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let done = work();
        let (host, requests) = Self::open()?;
        *port = host.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok((done, requests))
    }

    /// Reports a problem.
    pub fn complain(&self, error: &anyhow::Error) {
        let text = format!("{error:#}");
        self.say(&Report::Problem { text });
    }

    /// Sends a report.
    pub fn say(&self, report: &Report) {
        let Ok(mut text) = serde_json::to_string(report) else {
            return;
        };
        text.push('\n');
        // One write per line makes a line one virtqueue element, which a migration cannot tear. A
        // failure cannot be reported.
        let mut port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = port.write_all(text.as_bytes());
    }
}
