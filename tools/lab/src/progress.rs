// SPDX-License-Identifier: GPL-2.0

//! Says what is going on: a line that changes on a terminal, plain lines with times elsewhere.

use std::cell::Cell;
use std::io::IsTerminal;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;

/// How often the terminal's line is drawn again.
const TICK: Duration = Duration::from_millis(200);

/// How often plain lines tell of something that changes all the time.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// Where progress is shown: on the standard error, so that the output stays a program's.
pub struct Progress {
    bar: ProgressBar,
    began: Instant,
    last_note: Cell<Option<Instant>>,
}

impl Progress {
    /// Starts to tell.
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

    /// A line that stays.
    pub fn say(&self, text: &str) {
        // While the bar is drawn it owns the terminal.
        self.bar.suspend(|| println!("{text}"));
    }

    /// A line that stays and is not for programs.
    pub fn remark(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    /// What is being done now.
    pub fn doing(&self, text: &str) {
        if self.bar.is_hidden() {
            eprintln!("[{:6.1} s] {text}", self.began.elapsed().as_secs_f64());
        } else {
            self.bar.set_message(text.to_owned());
        }
    }

    /// How far it is. This may be told often.
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

    /// Removes what is not to stay.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
