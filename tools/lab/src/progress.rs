// SPDX-License-Identifier: GPL-2.0

//! Progress of virtual machines: on a terminal a line that changes, elsewhere plain lines with times.

use std::cell::Cell;
use std::io::IsTerminal;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;

/// How often the terminal's line is drawn again.
const TICK: Duration = Duration::from_millis(200);

/// The shortest time between plain lines of [`Progress::note`].
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// Shows progress on the standard error, so that a program can read the standard output.
pub struct Progress {
    bar: ProgressBar,
    began: Instant,
    last_note: Cell<Option<Instant>>,
}

impl Progress {
    pub fn new() -> Result<Self> {
        let bar = if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new_spinner();
            bar.set_style(ProgressStyle::with_template(
                "{spinner} {elapsed:>4} {wide_msg}",
            )?);
            bar.enable_steady_tick(TICK);
            bar
        } else {
            ProgressBar::hidden()
        };
        Ok(Self {
            bar,
            began: Instant::now(),
            last_note: Cell::new(None),
        })
    }

    /// Prints a line of the result.
    pub fn say(&self, text: &str) {
        // A line that is drawn again must not be written into.
        self.bar.suspend(|| println!("{text}"));
    }

    /// Prints a line that is no part of the result.
    pub fn remark(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    /// Shows the present step.
    pub fn doing(&self, text: &str) {
        if self.bar.is_hidden() {
            eprintln!("[{:6.1} s] {text}", self.began.elapsed().as_secs_f64());
        } else {
            self.bar.set_message(text.to_owned());
        }
    }

    /// Shows how far the present step is. This may be called often.
    pub fn note(&self, text: &str) {
        let due = self
            .last_note
            .get()
            .is_none_or(|last| last.elapsed() >= PLAIN_INTERVAL);
        if !self.bar.is_hidden() {
            self.bar.set_message(text.to_owned());
        } else if due {
            self.last_note.set(Some(Instant::now()));
            self.doing(text);
        }
    }

    /// Removes the line that changes.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
