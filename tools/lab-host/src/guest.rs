// SPDX-License-Identifier: GPL-2.0

//! The guest's reports and answers, through the virtio-serial ports of the QEMUs that it runs in.

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
use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use lab_guest::datagram::Tally;
use lab_guest::flow::Settings;
use lab_guest::report::Disk;
use lab_guest::report::DiskCounters;
use lab_guest::report::Load;
use lab_guest::report::LoadOrder;
use lab_guest::report::Port;
use lab_guest::report::Report;
use lab_guest::report::Request;
use lab_host::event::What;

use crate::diagnosis;
use crate::report;

/// The time limit of a guest's answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(300);

/// Lines that have to come back before a guest counts as streaming.
const ENOUGH_LINES: u64 = 60;

/// Reads and writes that each disk has to complete before a guest with load on its disks counts as
/// running.
const ENOUGH_IO: u64 = 40;

/// Datagrams that a guest with a flow has to receive before it counts as running.
const ENOUGH_DATAGRAMS: u64 = 25;

/// Progress reports that have to come before a guest counts as running.
const ENOUGH_BEATS: u64 = 3;

/// The name of the TCP connection among the guest's ports.
const TCP: &str = "tcp";

/// One guest, which moves between QEMUs.
#[derive(Clone, Default)]
pub struct Guest(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// The devices that a guest has found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Serial ports of the card, and the TCP connection of the network card.
    pub ports: Vec<String>,
    /// Disks.
    pub disks: Vec<Disk>,
}

impl Found {
    /// Whether the guest has a network card.
    pub fn has_card(&self) -> bool {
        self.ports.iter().any(|port| port == TCP)
    }
}

/// A guest's verdict on its data.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// One for each serial port.
    pub ports: Vec<Port>,
    /// One for each load on a disk.
    pub loads: Vec<Load>,
}

#[derive(Default)]
struct State {
    found: Option<Found>,
    beats: u64,
    /// Whether the streams run.
    streaming: bool,
    sent: u64,
    received: u64,
    disks: Vec<DiskCounters>,
    datagrams: u64,
    /// Whether a flow has begun and not ended.
    flows: bool,
    /// The number of datagrams that the guest has sent, and its tally, of the flow that is being ended.
    flow_sent: Option<u64>,
    flow_tally: Option<Tally>,
    /// Whether the disks have loads that have not ended.
    loaded: bool,
    problems: Vec<String>,
    verdict: Option<Verdict>,
    /// Loads that are not repeated and have ended.
    ended_loads: Vec<Load>,
    /// The number of the newest script; the scripts that have ended, as number, status and output.
    last_script: u64,
    ended_scripts: Vec<(u64, i32, String)>,
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
                // A torn line, as when QEMU is killed, is no report.
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
            Report::Ready {
                ports,
                disks,
                kernel,
            } => {
                diagnosis::guest_runs(kernel);
                state.found = Some(Found {
                    ports: ports.clone(),
                    disks: disks.clone(),
                });
            }
            Report::Progress {
                sent,
                received,
                disks,
                datagrams,
                ..
            } => {
                let now = Instant::now();
                if let Some(last) = state.last_beat.replace(now) {
                    state.longest_stall = state.longest_stall.max(now - last);
                }
                state.beats += 1;
                state.sent = *sent;
                state.received = *received;
                state.disks.clone_from(disks);
                state.datagrams = *datagrams;
            }
            Report::Problem { text } => state.problems.push(text.clone()),
            Report::Verdict { last, ports, loads } => {
                state.verdict = last.then(|| Verdict {
                    ports: ports.clone(),
                    loads: loads.clone(),
                });
            }
            Report::FlowStopped { sent } => state.flow_sent = Some(*sent),
            Report::FlowEnded { tally } => state.flow_tally = Some(tally.clone()),
            Report::Loaded { load } => state.ended_loads.push(load.clone()),
            Report::Ran { id, status, output } => {
                state.ended_scripts.push((*id, *status, output.clone()));
            }
        }
        drop(state);
        self.0.changed.notify_all();
    }

    /// Waits until `done` returns a value for the state.
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
                // The lock is released: reports go on meanwhile.
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

    /// Waits until the guest has booted, and returns its devices.
    pub fn wait_ready(&self, limit: Duration) -> Result<Found> {
        self.wait(limit, "the guest's boot", |state| state.found.clone())
    }

    /// The devices that the guest found when it booted.
    pub fn found(&self) -> Found {
        self.lock().found.clone().unwrap_or_default()
    }

    /// Waits until the guest has run, and streamed, for a while from now on.
    pub fn wait_alive(&self) -> Result<()> {
        let beats = self.lock().beats;
        // A guest that was set back to a snapshot counts from there, so the reference is the next
        // report.
        let mut reference = None;
        self.wait(ANSWER_LIMIT, "signs of life", |state| {
            if state.beats == beats {
                return None;
            }
            let (received, disks, datagrams) = reference
                .get_or_insert_with(|| (state.received, state.disks.clone(), state.datagrams));
            let has_ports = |found: &Found| !found.ports.is_empty();
            let streams = state.streaming && state.found.as_ref().is_some_and(has_ports);
            let lines = state.received.saturating_sub(*received);
            let io = state.disks.iter().zip(disks).all(|(now, then)| {
                let done = |disk: &DiskCounters| disk.reads + disk.writes;
                done(now).saturating_sub(done(then)) >= ENOUGH_IO
            });
            // A flow that has just begun counts from 0.
            let datagrams = state
                .datagrams
                .checked_sub(*datagrams)
                .unwrap_or(state.datagrams);
            let enough = state.beats >= beats + ENOUGH_BEATS
                && (!streams || lines >= ENOUGH_LINES)
                && (!state.loaded || io)
                && (!state.flows || datagrams >= ENOUGH_DATAGRAMS);
            enough.then_some(())
        })
    }

    /// Starts the streams.
    pub fn start(&self, link: &Link) -> Result<()> {
        self.lock().streaming = true;
        link.ask(&Request::Start)
    }

    /// Puts a load on a disk until [`Self::stop`].
    pub fn load(&self, link: &Link, name: &str, arguments: &[&str]) -> Result<()> {
        self.lock().loaded = true;
        link.ask(&Request::Load(order(name, arguments, true)))
    }

    /// Begins the guest's end of a flow.
    pub fn begin_flow(&self, link: &Link, settings: Settings) -> Result<()> {
        let mut state = self.lock();
        state.flows = true;
        state.flow_sent = None;
        state.flow_tally = None;
        drop(state);
        link.ask(&Request::BeginFlow(settings))
    }

    /// Waits until the guest has stopped to send datagrams, and returns their number.
    pub fn wait_flow_stopped(&self) -> Result<u64> {
        self.wait(ANSWER_LIMIT, "the end of a flow", |state| state.flow_sent)
    }

    /// Waits until the guest has ended its flow, and returns its tally.
    pub fn wait_flow_ended(&self) -> Result<Tally> {
        let tally = |state: &State| state.flow_tally.clone();
        let tally = self.wait(ANSWER_LIMIT, "the tally of a flow", tally)?;
        self.lock().flows = false;
        Ok(tally)
    }

    /// Runs fio once, and returns its figures.
    pub fn measure(&self, link: &Link, name: &str, arguments: &[&str]) -> Result<Load> {
        self.lock().ended_loads.clear();
        link.ask(&Request::Load(order(name, arguments, false)))?;
        self.wait(ANSWER_LIMIT, name, |state| {
            let mut loads = state.ended_loads.iter();
            loads.find(|load| load.name == name).cloned()
        })
    }

    /// Starts a script and returns its number. The guest may move to another QEMU before the script ends.
    pub fn begin_script(&self, link: &Link, script: &str) -> Result<u64> {
        let id = self.next_script();
        let script = script.to_owned();
        link.ask(&Request::Run { id, script })?;
        Ok(id)
    }

    /// The number of the next script.
    fn next_script(&self) -> u64 {
        let mut state = self.lock();
        state.last_script += 1;
        state.last_script
    }

    /// Has the guest suspend its devices and resume them.
    pub fn suspend(&self, link: &Link) -> Result<()> {
        let id = self.next_script();
        link.ask(&Request::Suspend { id })?;
        self.end_script(id)
            .context("suspending the guest's devices")?;
        Ok(())
    }

    /// Waits for a script, whose exit status has to be 0, and returns its output.
    pub fn end_script(&self, id: u64) -> Result<String> {
        let (status, output) = self.wait(ANSWER_LIMIT, "a script's end", |state| {
            let mut scripts = state.ended_scripts.iter();
            let (_, status, output) = scripts.find(|script| script.0 == id)?;
            Some((*status, output.clone()))
        })?;
        ensure!(
            status == 0,
            "a script in the guest: expected exit status 0, saw {status}: {}",
            output.trim_end()
        );
        Ok(output)
    }

    /// Runs a script and returns its output.
    pub fn run(&self, link: &Link, script: &str) -> Result<String> {
        let id = self.begin_script(link, script)?;
        self.end_script(id)
    }

    /// Starts to measure the longest stall anew.
    pub fn reset_stall(&self) {
        self.lock().longest_stall = Duration::ZERO;
    }

    /// The longest time between two progress reports.
    pub fn stall(&self) -> Duration {
        self.lock().longest_stall
    }

    /// Stops the streams and loads through `link`, waits for what is in flight, and returns the
    /// verdict.
    pub fn stop(&self, link: &Link) -> Result<Verdict> {
        self.lock().verdict = None;
        link.ask(&Request::Stop)?;
        let verdict = self.wait(ANSWER_LIMIT, "the verdict", |state| state.verdict.clone())?;
        let mut state = self.lock();
        state.loaded = false;
        state.streaming = false;
        drop(state);
        Ok(verdict)
    }

    /// The problems that the guest has reported.
    pub fn problems(&self) -> Vec<String> {
        self.lock().problems.clone()
    }
}

fn order(name: &str, arguments: &[&str], repeat: bool) -> LoadOrder {
    LoadOrder {
        name: name.to_owned(),
        arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
        repeat,
    }
}

/// The connection to the guest through one QEMU.
pub struct Link(UnixStream);

impl Link {
    pub fn new(stream: UnixStream) -> Self {
        Self(stream)
    }

    /// Sends a request to the guest.
    pub fn ask(&self, request: &Request) -> Result<()> {
        let text = serde_json::to_string(request).context("writing a request")?;
        (&self.0)
            .write_all(format!("{text}\n").as_bytes())
            .context("asking the guest")
    }
}
