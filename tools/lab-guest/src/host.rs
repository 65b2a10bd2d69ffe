// SPDX-License-Identifier: GPL-2.0

//! The way to the host.

use std::fs::File;
use std::io::Write;
use std::sync::Mutex;
use std::sync::PoisonError;

use lab_guest::report::Report;

/// The way to the host.
pub struct Host(Mutex<File>);

impl Host {
    /// Over this port.
    pub fn new(port: File) -> Self {
        Self(Mutex::new(port))
    }

    /// Reports a problem.
    pub fn complain(&self, error: &anyhow::Error) {
        let text = format!("{error:#}");
        self.say(&Report::Problem { text });
    }

    /// Reports.
    pub fn say(&self, report: &Report) {
        let Ok(mut text) = serde_json::to_string(report) else {
            return;
        };
        text.push('\n');
        // One write per line: a line is then one virtqueue element and cannot be torn apart by a
        // migration. When the host is gone there is nobody left to tell.
        let mut port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = port.write_all(text.as_bytes());
    }
}
