// SPDX-License-Identifier: GPL-2.0

//! Counters of a device since it was made: chunks moved, refusals, dwell times. The file `statistics` of debugfs
//! shows them.

use ::migration::{
    Refusal, //
};
use core::time::Duration;
use kernel::{
    debugfs::Writer,
    fmt,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        SpinLock, //
    },
    time::{
        Instant,
        Monotonic, //
    },
};
use vfio_uapi::{
    v1::State,
    Errno, //
};

/// Errors of refusals that have a counter each; all other errors share one.
const CAUSES: [Errno; 11] = [
    Errno::EPERM,
    Errno::EIO,
    Errno::ENOMEM,
    Errno::EBUSY,
    Errno::EXDEV,
    Errno::ENODEV,
    Errno::EINVAL,
    Errno::ENODATA,
    Errno::EBADMSG,
    Errno::EMSGSIZE,
    Errno::EPROTONOSUPPORT,
];

/// Chunks of streams and their bytes.
struct Moved {
    chunks: Atomic<u64>,
    bytes: Atomic<u64>,
}

impl Moved {
    const fn new() -> Self {
        Self {
            chunks: Atomic::new(0),
            bytes: Atomic::new(0),
        }
    }

    fn count(&self, bytes: u64) {
        add(&self.chunks, 1);
        add(&self.bytes, bytes);
    }
}

/// Adds to a counter. Only one thread counts at a time, for it holds the state mutex.
fn add(counter: &Atomic<u64>, count: u64) {
    counter.store(counter.load(Relaxed).saturating_add(count), Relaxed);
}

/// Dwell time in a state.
struct Dwell {
    since: Option<Instant<Monotonic>>,
    last: Option<Duration>,
}

impl Dwell {
    const fn new() -> Self {
        Self {
            since: None,
            last: None,
        }
    }

    fn enter(&mut self) {
        self.since = Some(Instant::now());
    }

    fn leave(&mut self) {
        if let Some(since) = self.since.take() {
            let nanoseconds = since.elapsed().as_nanos();
            self.last = Some(Duration::from_nanos(nanoseconds.max(0).unsigned_abs()));
        }
    }
}

struct Dwells {
    /// From entering STOP_COPY to leaving it.
    stop_copy: Dwell,
    /// From entering RESUMING to leaving it.
    resuming: Dwell,
}

/// The counters of one device.
#[pin_data]
pub(crate) struct Statistics {
    saved: Moved,
    received: Moved,
    transitions: Atomic<u64>,
    failed_transitions: Atomic<u64>,
    refusals: [Atomic<u64>; CAUSES.len()],
    other_refusals: Atomic<u64>,
    dma_failures: Atomic<u64>,
    #[pin]
    dwells: SpinLock<Dwells>,
}

impl Statistics {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            saved: Moved::new(),
            received: Moved::new(),
            transitions: Atomic::new(0),
            failed_transitions: Atomic::new(0),
            refusals: [const { Atomic::new(0) }; CAUSES.len()],
            other_refusals: Atomic::new(0),
            dma_failures: Atomic::new(0),
            dwells <- kernel_ext::new_lock!(SpinLock, c"Statistics::dwells", Dwells {
                stop_copy: Dwell::new(),
                resuming: Dwell::new(),
            }),
        })
    }

    /// Counts a chunk that was presented to the user or consumed.
    pub(crate) fn chunk(&self, state: State, bytes: u64) {
        match state {
            State::Resuming => self.received.count(bytes),
            _ => self.saved.count(bytes),
        }
    }

    /// Counts a transition that was tried.
    pub(crate) fn transition(&self, from: State, to: State, result: Result<(), &Refusal>) {
        add(&self.transitions, 1);
        if result.is_err() {
            add(&self.failed_transitions, 1);
        }
        // A transition that was unwound changes no state.
        if result.is_ok() || to == State::Error {
            let mut dwells = self.dwells.lock();
            match from {
                State::StopCopy => dwells.stop_copy.leave(),
                State::Resuming => dwells.resuming.leave(),
                _ => {}
            }
            match to {
                State::StopCopy => dwells.stop_copy.enter(),
                State::Resuming => dwells.resuming.enter(),
                _ => {}
            }
        }
    }

    /// Counts a DMA access that failed. Only the worker calls this.
    pub(crate) fn dma_failed(&self) {
        add(&self.dma_failures, 1);
    }

    /// Counts a refusal by its error.
    pub(crate) fn refused(&self, errno: Errno) {
        let counter = CAUSES
            .iter()
            .position(|cause| *cause == errno)
            .and_then(|index| self.refusals.get(index));

        add(counter.unwrap_or(&self.other_refusals), 1);
    }
}

impl Writer for Statistics {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, value: u64| writeln!(f, "{name} {value}");

        line("saved_chunks", self.saved.chunks.load(Relaxed))?;
        line("saved_bytes", self.saved.bytes.load(Relaxed))?;
        line("received_chunks", self.received.chunks.load(Relaxed))?;
        line("received_bytes", self.received.bytes.load(Relaxed))?;
        line("dma_failures", self.dma_failures.load(Relaxed))?;
        line("transitions", self.transitions.load(Relaxed))?;
        line("failed_transitions", self.failed_transitions.load(Relaxed))?;
        let (stop_copy, resuming) = {
            let dwells = self.dwells.lock();
            (dwells.stop_copy.last, dwells.resuming.last)
        };
        let mut microseconds = |name: &str, dwelt: Option<Duration>| match dwelt {
            Some(dwelt) => line(name, dwelt.as_micros() as u64),
            None => Ok(()),
        };
        microseconds("last_stop_copy_us", stop_copy)?;
        microseconds("last_resuming_us", resuming)?;
        for (cause, counter) in CAUSES.iter().zip(&self.refusals) {
            match counter.load(Relaxed) {
                0 => {}
                count => writeln!(f, "refusals_{cause} {count}")?,
            }
        }
        match self.other_refusals.load(Relaxed) {
            0 => Ok(()),
            count => writeln!(f, "refusals_other {count}"),
        }
    }
}
