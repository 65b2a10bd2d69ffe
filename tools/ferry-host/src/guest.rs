// SPDX-License-Identifier: GPL-2.0

//! The guest, as the host sees it through the virtio-serial ports of the QEMUs that it lives in.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use ferry_guest::report::Port;
use ferry_guest::report::Report;
use ferry_guest::report::Request;
use ferry_host::event::What;

use crate::diagnosis;
use crate::report;

/// How long a guest may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);

/// Lines that have to come back before a guest counts as streaming.
const ENOUGH_LINES: u64 = 60;

/// Progress reports that have to come before a guest counts as running.
const ENOUGH_BEATS: u64 = 3;

/// One guest, in whichever QEMU it is.
#[derive(Clone, Default)]
pub struct Guest(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    ports: Option<Vec<String>>,
    beats: u64,
    sent: u64,
    received: u64,
    problems: Vec<String>,
    verdict: Option<(bool, Vec<Port>)>,
    last_beat: Option<Instant>,
    longest_stall: Duration,
}

impl Guest {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens to the guest through the QEMU called `vm`.
    pub fn listen(&self, vm: &str, stream: UnixStream) {
        let (guest, vm) = (self.clone(), vm.to_owned());
        thread::spawn(move || {
            for line in BufReader::new(stream).lines() {
                let Ok(line) = line else { break };
                // What is torn, as when QEMU is killed, is no report.
                let Ok(report) = serde_json::from_str::<Report>(&line) else {
                    continue;
                };
                guest.heard(&report);
                report::say(What::Guest {
                    vm: vm.clone(),
                    report,
                });
            }
        });
    }

    fn heard(&self, report: &Report) {
        let mut state = self.lock();
        match report {
            Report::Ready { ports, .. } => state.ports = Some(ports.clone()),
            Report::Progress { sent, received, .. } => {
                let now = Instant::now();
                if let Some(last) = state.last_beat.replace(now) {
                    state.longest_stall = state.longest_stall.max(now - last);
                }
                state.beats += 1;
                state.sent = *sent;
                state.received = *received;
            }
            Report::Problem { text } => state.problems.push(text.clone()),
            Report::Verdict { last, ports } => state.verdict = Some((*last, ports.clone())),
        }
        drop(state);
        self.0.changed.notify_all();
    }

    /// Waits until `done` makes something of the state.
    fn wait<T>(
        &self,
        limit: Duration,
        what: &str,
        mut done: impl FnMut(&State) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            if let Some(result) = done(&state) {
                return Ok(result);
            }
            if let Some(problem) = state.problems.first() {
                bail!("the guest has a problem while {what} is awaited: {problem}");
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let last_beat = state.last_beat.map(|at| at.elapsed());
                let seen = format!(
                    "{} reports so far, the last {last_beat:?} ago, of {} lines sent and {} received",
                    state.beats, state.sent, state.received
                );
                // The reports go on while we look.
                drop(state);
                diagnosis::look(what);
                bail!("the guest: {what}: not within {limit:?}; {seen}");
            }
            state = self
                .0
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits until the guest has booted; its serial ports' names.
    pub fn wait_ready(&self, limit: Duration) -> Result<Vec<String>> {
        self.wait(limit, "the guest's boot", |state| state.ports.clone())
    }

    /// Waits until the guest has run, and streamed, for a while from now on.
    pub fn wait_alive(&self) -> Result<()> {
        let (beats, streams) = {
            let state = self.lock();
            let streams = state.ports.as_ref().is_some_and(|ports| !ports.is_empty());
            (state.beats, streams)
        };
        // A guest that was set back to an earlier state counts from there, hence the reference is
        // the first report that comes now.
        let mut reference = None;
        self.wait(ANSWER_LIMIT, "signs of life", |state| {
            if state.beats == beats {
                return None;
            }
            let reference = *reference.get_or_insert(state.received);
            let lines = state.received.saturating_sub(reference);
            let enough = state.beats >= beats + ENOUGH_BEATS;
            (enough && (!streams || lines >= ENOUGH_LINES)).then_some(())
        })
    }

    /// Starts to measure the longest stall anew.
    pub fn reset_stall(&self) {
        self.lock().longest_stall = Duration::ZERO;
    }

    /// The longest time between two progress reports.
    pub fn stall(&self) -> Duration {
        self.lock().longest_stall
    }

    /// Stops the streams through `link`, waits for what is in flight, and returns the verdict.
    pub fn stop(&self, link: &Link) -> Result<Vec<Port>> {
        self.lock().verdict = None;
        link.ask(Request::Stop)?;
        self.wait(ANSWER_LIMIT, "the verdict", |state| match &state.verdict {
            Some((true, ports)) => Some(ports.clone()),
            _ => None,
        })
    }

    /// What the guest has complained of.
    pub fn problems(&self) -> Vec<String> {
        self.lock().problems.clone()
    }
}

/// The way to the guest through one QEMU.
pub struct Link(UnixStream);

impl Link {
    /// Over this connection.
    pub fn new(stream: UnixStream) -> Self {
        Self(stream)
    }

    /// Asks the guest for something.
    pub fn ask(&self, request: Request) -> Result<()> {
        let text = serde_json::to_string(&request).context("writing a request")?;
        (&self.0)
            .write_all(format!("{text}\n").as_bytes())
            .context("asking the guest")
    }
}
