// SPDX-License-Identifier: GPL-2.0

//! Messages of the set-up and of builds that run at the same time, on the standard error.
//!
//! On a terminal each task has a line that changes. Elsewhere a task prints a plain line every ten seconds.

use std::cell::Cell;
use std::io::IsTerminal;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;
use indicatif::MultiProgress;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;

/// How often a terminal's lines are drawn again.
const TICK: Duration = Duration::from_millis(200);

/// How often a task prints a plain line.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// Where messages go. Threads share it.
pub struct Console {
    /// None where the standard error is no terminal.
    bars: Option<(MultiProgress, ProgressStyle)>,
}

impl Console {
    pub fn new() -> Result<Self> {
        let bars = if std::io::stderr().is_terminal() {
            let style =
                ProgressStyle::with_template("{spinner} {elapsed:>4} {prefix}: {wide_msg}")?;
            Some((MultiProgress::new(), style))
        } else {
            None
        };
        Ok(Self { bars })
    }

    /// Prints a message that stays.
    pub fn say(&self, text: &str) {
        match &self.bars {
            // A line that is drawn again must not be written into.
            Some((bars, _)) => bars.suspend(|| eprintln!("lab: {text}")),
            None => eprintln!("lab: {text}"),
        }
    }

    /// Shows that a task runs, until the result is dropped.
    pub fn task(&self, name: &str) -> Task<'_> {
        let bar = self.bars.as_ref().map(|(bars, style)| {
            let bar = bars.add(ProgressBar::new_spinner());
            bar.set_style(style.clone());
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(TICK);
            bar
        });
        let began = Instant::now();
        Task {
            console: self,
            name: name.to_owned(),
            bar,
            began,
            told: Cell::new(began),
        }
    }
}

/// A task that runs.
pub struct Task<'a> {
    console: &'a Console,
    name: String,
    bar: Option<ProgressBar>,
    began: Instant,
    /// When the last plain line was printed.
    told: Cell<Instant>,
}

impl Task<'_> {
    /// Says how far the task is. This may be called often; `text` is made only when it is shown.
    pub fn note(&self, text: impl FnOnce() -> String) {
        match &self.bar {
            Some(bar) => bar.set_message(text()),
            None if self.told.get().elapsed() >= PLAIN_INTERVAL => {
                self.told.set(Instant::now());
                self.say(&format!("{} s: {}", self.began.elapsed().as_secs(), text()));
            }
            None => {}
        }
    }

    /// Prints a message of the task that stays.
    pub fn say(&self, text: &str) {
        self.console.say(&format!("{}: {text}", self.name));
    }

    /// For how long the task has run.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
