// SPDX-License-Identifier: GPL-2.0

//! The connection to the host.

use std::fs::File;
use std::io::Write;
use std::sync::Mutex;
use std::sync::PoisonError;

use lab_guest::report::Report;

/// The connection to the host.
pub struct Host(Mutex<File>);

impl Host {
    pub fn new(port: File) -> Self {
        Self(Mutex::new(port))
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
