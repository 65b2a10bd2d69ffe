// SPDX-License-Identifier: GPL-2.0

//! Streams of numbered lines ([`lab_guest::line`]) through the ports of the serial card, whose
//! loop-back plugs return them, and through a TCP connection to the host, which returns them, too.
//!
//! Locks: a stream's state, alone.

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

use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use lab_guest::line;
use lab_guest::line::Judge;
use lab_guest::report::Driver;
use lab_guest::report::Port;
use lab_guest::report::Report;

use crate::card;
use crate::host::Host;
use crate::serial;

/// Lines in flight in each port: more than the chip's FIFOs hold, so that the FIFOs are full whenever the machine stops, but
/// few more, because the card's line is infinitely fast and the driver stays in its interrupt handler until all lines are
/// through.
const LINES_IN_FLIGHT: u64 = 6;

/// The name of the TCP connection, lines in flight in it, and the time between two lines. Each packet is a chance for an
/// emulated host to deliver an interrupt of its guest twice.
pub const TCP: &str = "tcp";
const TCP_LINES_IN_FLIGHT: u64 = 50;
const TCP_PAUSE: Duration = Duration::from_millis(10);

/// The time limit of the lines in flight once the streams are stopped.
const FLUSH_LIMIT: Duration = Duration::from_secs(60);

/// The stream through one port.
pub struct Stream {
    state: Mutex<StreamState>,
    changed: Condvar,
}

struct StreamState {
    name: String,
    window: u64,
    pause: Duration,
    counters: fn(&str) -> Driver,
    running: bool,
    sent: u64,
    judge: Judge,
    last_line: Option<Instant>,
    longest_stall: Duration,
}

/// The totals of all streams.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Lines sent.
    pub sent: u64,
    /// Lines received.
    pub received: u64,
    /// Faults found.
    pub faults: u64,
}

/// Adds up the counters of the streams.
pub fn totals(streams: &[Arc<Stream>]) -> Totals {
    let mut totals = Totals::default();
    for stream in streams {
        let state = stream.lock();
        totals.sent += state.sent;
        totals.received += state.judge.received;
        let found = &state.judge.faults;
        totals.faults += found.lost + found.doubled + found.reordered + found.corrupt;
    }
    totals
}

impl Stream {
    /// Opens the port `name` and makes a stream through it, which does not run yet.
    pub fn open(name: &str, host: &Arc<Host>) -> Result<Arc<Self>> {
        let tty = Arc::new(serial::open(name)?);
        let stream = Self::new(name, LINES_IN_FLIGHT, Duration::ZERO, serial::counters);
        stream.run(tty.clone(), tty, host);
        Ok(stream)
    }

    /// Makes a stream through a TCP connection to the host, which does not run yet.
    pub fn connect(host: &Arc<Host>) -> Result<Arc<Self>> {
        let connection = card::connect()?;
        let writer = connection.try_clone().context("duplicating a connection")?;
        let stream = Self::new(TCP, TCP_LINES_IN_FLIGHT, TCP_PAUSE, |_| card::counters());
        stream.run(connection, writer, host);
        Ok(stream)
    }

    fn new(name: &str, window: u64, pause: Duration, counters: fn(&str) -> Driver) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(StreamState {
                name: name.to_owned(),
                window,
                pause,
                counters,
                running: false,
                sent: 0,
                judge: Judge::new(name),
                last_line: None,
                longest_stall: Duration::ZERO,
            }),
            changed: Condvar::new(),
        })
    }

    /// Starts the two threads of the stream.
    fn run(
        self: &Arc<Self>,
        reader: impl Read + Send + 'static,
        writer: impl Write + Send + 'static,
        host: &Arc<Host>,
    ) {
        let (sender, its_host) = (self.clone(), host.clone());
        thread::spawn(move || {
            if let Err(error) = sender.send(writer) {
                its_host.complain(&error);
            }
        });
        let (receiver, its_host) = (self.clone(), host.clone());
        thread::spawn(move || {
            if let Err(error) = receiver.receive(reader, &its_host) {
                its_host.complain(&error);
            }
        });
    }

    /// The verdict on the port.
    pub fn verdict(&self) -> Port {
        self.lock().verdict()
    }

    fn lock(&self) -> MutexGuard<'_, StreamState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, mut writer: impl Write) -> Result<()> {
        loop {
            let (name, number, pause) = {
                let mut state = self.lock();
                while !state.running || state.in_flight() >= state.window {
                    state = self
                        .changed
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                let number = state.sent;
                state.sent += 1;
                (state.name.clone(), number, state.pause)
            };
            writer
                .write_all(&line::build(&name, number))
                .with_context(|| format!("writing {name}"))?;
            if !pause.is_zero() {
                thread::sleep(pause);
            }
        }
    }

    fn receive(&self, mut reader: impl Read, host: &Host) -> Result<()> {
        let mut bytes = [0u8; 4096];
        loop {
            let length = reader.read(&mut bytes).context("reading a stream")?;
            ensure!(length > 0, "a stream has ended");
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
    /// Lines that were sent and neither received nor found lost.
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
            driver: (self.counters)(&self.name),
        }
    }
}

/// Resumes or pauses the streams.
pub fn set_running(streams: &[Arc<Stream>], running: bool) {
    for stream in streams {
        let mut state = stream.lock();
        state.running = running;
        // A pause is no stall.
        state.last_line = None;
        drop(state);
        stream.changed.notify_all();
    }
}

/// Waits until no line is in flight, but not longer than [`FLUSH_LIMIT`].
pub fn flush(streams: &[Arc<Stream>]) {
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
