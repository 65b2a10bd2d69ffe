// SPDX-License-Identifier: GPL-2.0

//! The first process of the guest that is migrated.
//!
//! It streams numbered lines ([`ferry_guest::line`]) through every port of the serial card, reads
//! back what the card's loop-back plugs return, and reports over a virtio-serial port. It knows
//! nothing of migration: whatever the hosts do to it, its lines have to come back whole, once and
//! in order.
//!
//! Locks: a port's state is the only thing under a lock besides the report port, which is taken
//! last and alone.

#![forbid(unsafe_code)]

mod serial;

use std::fs;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use ferry_guest::init;
use ferry_guest::line;
use ferry_guest::line::Judge;
use ferry_guest::report::Port;
use ferry_guest::report::Report;
use ferry_guest::report::Request;
use ferry_guest::report::PORT;

/// Lines that are under way in a port at any time. They are more than the FIFOs of the chip hold,
/// which so are full whenever the machine stops. They are not many more, for the card's line is
/// infinitely fast: the driver stays in its interrupt handler until all of them are through.
const LINES_IN_FLIGHT: u64 = 6;

/// How often progress is reported.
const BEAT: Duration = Duration::from_millis(200);

/// How long the lines in flight may take to come back once the streams are stopped.
const FLUSH_LIMIT: Duration = Duration::from_secs(60);

struct Stream {
    state: Mutex<StreamState>,
    changed: Condvar,
}

struct StreamState {
    name: String,
    running: bool,
    sent: u64,
    judge: Judge,
    last_line: Option<Instant>,
    longest_stall: Duration,
}

impl Stream {
    fn lock(&self) -> MutexGuard<'_, StreamState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, mut tty: &File) -> Result<()> {
        loop {
            let (name, number) = {
                let mut state = self.lock();
                while !state.running || state.in_flight() >= LINES_IN_FLIGHT {
                    state = self
                        .changed
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                let number = state.sent;
                state.sent += 1;
                (state.name.clone(), number)
            };
            tty.write_all(&line::build(&name, number))
                .with_context(|| format!("writing {name}"))?;
        }
    }

    fn receive(&self, mut tty: &File, host: &Host) -> Result<()> {
        let mut bytes = [0u8; 4096];
        loop {
            let length = tty.read(&mut bytes).context("reading a serial port")?;
            let faults = {
                let mut state = self.lock();
                let before = state.judge.received;
                let faults = state.judge.take(&bytes[..length]);
                if state.judge.received > before {
                    let now = Instant::now();
                    if let Some(last) = state.last_line.replace(now) {
                        state.longest_stall = state.longest_stall.max(now - last);
                    }
                }
                faults
            };
            self.changed.notify_all();
            for text in faults {
                host.say(&Report::Problem { text });
            }
        }
    }
}

impl StreamState {
    /// Lines that were sent and are neither back nor known to be lost.
    fn in_flight(&self) -> u64 {
        self.sent
            .saturating_sub(self.judge.received + self.judge.faults.lost)
    }

    fn verdict(&self) -> Port {
        Port {
            name: self.name.clone(),
            sent: self.sent,
            received: self.judge.received,
            bytes: self.judge.bytes,
            faults: self.judge.faults.clone(),
            longest_stall_us: self.longest_stall.as_micros() as u64,
            driver: serial::counters(&self.name),
        }
    }
}

/// The way to the host.
struct Host(Mutex<File>);

impl Host {
    fn say(&self, report: &Report) {
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

fn set_running(streams: &[Arc<Stream>], running: bool) {
    for stream in streams {
        let mut state = stream.lock();
        state.running = running;
        // A pause is no stall.
        state.last_line = None;
        drop(state);
        stream.changed.notify_all();
    }
}

/// Waits until nothing is in flight, or not for longer than [`FLUSH_LIMIT`].
fn flush(streams: &[Arc<Stream>]) {
    let deadline = Instant::now() + FLUSH_LIMIT;
    for stream in streams {
        let mut state = stream.lock();
        while state.in_flight() > 0 || state.judge.partial() > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = stream
                .changed
                .wait_timeout(state, left)
                .map(|(state, _)| state)
                .unwrap_or_else(|poisoned| poisoned.into_inner().0);
        }
    }
}

fn report_progress(streams: &[Arc<Stream>], host: &Host) {
    for beat in 0.. {
        let (mut sent, mut received, mut faults) = (0, 0, 0);
        for stream in streams {
            let state = stream.lock();
            sent += state.sent;
            received += state.judge.received;
            let found = &state.judge.faults;
            faults += found.lost + found.doubled + found.reordered + found.corrupt;
        }
        host.say(&Report::Progress {
            beat,
            sent,
            received,
            faults,
        });
        thread::sleep(BEAT);
    }
}

fn run() -> Result<()> {
    init::mount_all()?;
    let port = init::open_virtio_port(PORT, Duration::from_secs(60))?;
    let requests = BufReader::new(port.try_clone().context("duplicating the report port")?);
    let host = Arc::new(Host(Mutex::new(port)));

    let mut streams = Vec::new();
    let mut names = Vec::new();
    for name in serial::find_ports()? {
        let tty = Arc::new(serial::open(&name)?);
        let stream = Arc::new(Stream {
            state: Mutex::new(StreamState {
                name: name.clone(),
                running: false,
                sent: 0,
                judge: Judge::new(&name),
                last_line: None,
                longest_stall: Duration::ZERO,
            }),
            changed: Condvar::new(),
        });
        let (sender, its_tty, its_host) = (stream.clone(), tty.clone(), host.clone());
        thread::spawn(move || {
            if let Err(error) = sender.send(&its_tty) {
                its_host.say(&Report::Problem {
                    text: format!("{error:#}"),
                });
            }
        });
        let (receiver, its_host) = (stream.clone(), host.clone());
        thread::spawn(move || {
            if let Err(error) = receiver.receive(&tty, &its_host) {
                its_host.say(&Report::Problem {
                    text: format!("{error:#}"),
                });
            }
        });
        names.push(name);
        streams.push(stream);
    }

    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    host.say(&Report::Ready {
        ports: names,
        kernel: kernel.trim_end().to_owned(),
    });
    let (its_streams, its_host) = (streams.clone(), host.clone());
    thread::spawn(move || report_progress(&its_streams, &its_host));

    for request in requests.lines() {
        let request = request.context("reading requests")?;
        if request.is_empty() {
            continue;
        }
        match serde_json::from_str(&request) {
            Ok(Request::Start) => set_running(&streams, true),
            Ok(Request::Stop) => {
                set_running(&streams, false);
                flush(&streams);
                let ports = streams
                    .iter()
                    .map(|stream| stream.lock().verdict())
                    .collect();
                host.say(&Report::Verdict { last: true, ports });
            }
            Ok(Request::Verdict) => {
                let ports = streams
                    .iter()
                    .map(|stream| stream.lock().verdict())
                    .collect();
                host.say(&Report::Verdict { last: false, ports });
            }
            Err(error) => host.say(&Report::Problem {
                text: format!(
                    "a request that is none: \"{}\": {error}",
                    request.escape_default()
                ),
            }),
        }
    }
    anyhow::bail!("the report port was closed")
}

fn main() {
    // A first process that returns is a kernel panic, which ends the VM: that is what is wanted.
    if let Err(error) = run() {
        eprintln!("ferry-guest: {error:#}");
    }
}
