// SPDX-License-Identifier: GPL-2.0

//! Follows Ferry's tracepoints through a tracefs instance of our own.

use std::collections::HashMap;
use std::fs;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
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
use lab_host::event::Trace;
use lab_host::event::What;

use crate::diagnosis;
use crate::report;

const INSTANCE: &str = "/sys/kernel/tracing/instances/lab-host";

/// How often a wait calls `hope`.
const HOPE_SLICE: Duration = Duration::from_secs(1);

/// The events of tracepoints since the last [`Tracer::forget`].
#[derive(Clone, Default)]
pub struct Tracer(Arc<Shared>);

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Trace>>,
    changed: Condvar,
}

impl Tracer {
    /// Enables the tracepoints. Without Ferry's modules there are none.
    pub fn start() -> Result<Self> {
        let tracer = Self::default();
        let instance = Path::new(INSTANCE);
        fs::create_dir(instance).context("making a tracefs instance")?;
        let events = instance.join("events/ferry/enable");
        if !events.exists() {
            return Ok(tracer);
        }
        // The clock of all events.
        fs::write(instance.join("trace_clock"), "mono").context("choosing the trace's clock")?;
        fs::write(&events, "1").context("switching the tracepoints on")?;
        let pipe = File::open(instance.join("trace_pipe")).context("opening trace_pipe")?;
        let reader = tracer.clone();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(|line| line.ok()) {
                let Some((time, trace)) = parse(&line) else {
                    continue;
                };
                report::say_at(time, What::Trace(trace.clone()));
                reader.lock().push(trace);
                reader.0.changed.notify_all();
            }
        });
        Ok(tracer)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Trace>> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the events so far.
    pub fn forget(&self) {
        self.lock().clear();
    }

    /// The sum of `part` of all events.
    pub fn sum(&self, part: impl Fn(&Trace) -> u64) -> u64 {
        self.lock().iter().map(part).sum()
    }

    /// All events before the first one that is `last`.
    pub fn until(&self, last: impl Fn(&Trace) -> bool) -> Vec<Trace> {
        let seen = self.lock();
        seen.iter()
            .take_while(|trace| !last(trace))
            .cloned()
            .collect()
    }

    /// The number of events that are `wanted`.
    pub fn count(&self, wanted: impl Fn(&Trace) -> bool) -> usize {
        self.lock().iter().filter(|trace| wanted(trace)).count()
    }

    /// Waits for an event that is `wanted`.
    pub fn wait(
        &self,
        limit: Duration,
        what: &str,
        wanted: impl Fn(&Trace) -> bool,
    ) -> Result<Trace> {
        self.wait_while(limit, what, wanted, || Ok(()))
    }

    /// As [`Self::wait`], but fails as soon as `hope`, which is called now and then, returns an error.
    pub fn wait_while(
        &self,
        limit: Duration,
        what: &str,
        wanted: impl Fn(&Trace) -> bool,
        mut hope: impl FnMut() -> Result<()>,
    ) -> Result<Trace> {
        let deadline = Instant::now() + limit;
        let mut seen = self.lock();
        loop {
            if let Some(found) = seen.iter().find(|trace| wanted(trace)) {
                return Ok(found.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let until_now = format!("{:?}", *seen);
                drop(seen);
                diagnosis::look(what);
                bail!("no tracepoint told of {what} within {limit:?}; seen: {until_now}");
            }
            let (now, slice) = self
                .0
                .changed
                .wait_timeout(seen, left.min(HOPE_SLICE))
                .unwrap_or_else(PoisonError::into_inner);
            seen = now;
            if slice.timed_out() {
                drop(seen);
                hope().with_context(|| format!("while {what} is awaited"))?;
                seen = self.lock();
            }
        }
    }
}

/// Parses a line of `trace_pipe`:
/// `task-123 [000] ..... 12.345678: vfio_migration_state: device=... from=... to=... result=0`.
fn parse(line: &str) -> Option<(f64, Trace)> {
    let (before, after) = line.split_once(": vfio_migration_")?;
    let time = before.rsplit(' ').next()?.parse().ok()?;
    let (point, fields) = after.split_once(": ")?;
    // Only the last field has blanks in it.
    let (fields, reason) = match fields.split_once(" reason=") {
        Some((fields, reason)) => (fields, reason),
        None => (fields, ""),
    };
    let fields: HashMap<&str, &str> = fields
        .split_whitespace()
        .filter_map(|field| field.split_once('='))
        .collect();
    let text = |name: &str| fields.get(name).map(|value| (*value).to_owned());
    let unsigned = |name: &str| fields.get(name)?.parse::<u64>().ok();
    let signed = |name: &str| fields.get(name)?.parse::<i64>().ok();
    let trace = match point {
        "state" => Trace::State {
            device: text("device")?,
            from: text("from")?,
            to: text("to")?,
            result: signed("result")?,
        },
        "pending" => Trace::Pending {
            device: text("device")?,
            state: text("state")?,
            pending: unsigned("pending")?,
        },
        "chunk" => Trace::Chunk {
            device: text("device")?,
            state: text("state")?,
            size: unsigned("size")?,
            total: unsigned("total")?,
        },
        "refusal" => Trace::Refusal {
            device: text("device")?,
            state: text("state")?,
            errno: signed("errno")?,
            reason: reason.to_owned(),
        },
        _ => return None,
    };
    Some((time, trace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tracepoint_is_taken_apart() {
        let line = "  qemu-system-x86-97 [001] ..... 12.500000: vfio_migration_state: \
                    device=u from=RUNNING to=PRE_COPY result=0";
        let (time, trace) = parse(line).expect("a state");
        assert_eq!(time, 12.5);
        assert!(
            matches!(trace, Trace::State { result: 0, .. }),
            "saw {trace:?}"
        );

        let line = " a b-1 [000] ...1. 3.25: vfio_migration_refusal: device=u state=RESUMING \
                    errno=-19 reason=the stream is of another device: x";
        let (_, trace) = parse(line).expect("a refusal");
        let Trace::Refusal { errno, reason, .. } = trace else {
            panic!("saw {trace:?}")
        };
        assert_eq!(
            (errno, &*reason),
            (-19, "the stream is of another device: x")
        );

        assert!(parse("CPU:0 [LOST 3 EVENTS]").is_none());
        assert!(parse("x-1 [000] ..... 1.0: vfio_migration_chunk: device=u").is_none());
    }
}
