// SPDX-License-Identifier: GPL-2.0

//! States, reads, chunks and the guest's work during migrations, collected from the host VM's events.

mod runs;
mod text;

use std::collections::BTreeMap;

use lab_guest::report::DiskCounters;
use lab_guest::report::Load;
use lab_guest::report::Port;
use lab_guest::report::Report;
use lab_host::event::Event;
use lab_host::event::Migrated;
use lab_host::event::Trace;
use lab_host::event::What;
use serde::Serialize;

/// The state of a device that was just opened.
const FRESH: &str = "RUNNING";

/// Seconds of a disk's work that are shown before and after a migration.
const AROUND_IO: f64 = 1.0;

/// A change of a device's state.
#[derive(Clone, Debug, Serialize)]
pub struct StateChange {
    /// Seconds on the host VM's clock, as all times here.
    pub time: f64,
    /// The QEMU that has the device.
    pub vm: String,
    pub state: String,
}

/// A read of `pending_bytes`.
#[derive(Clone, Debug, Serialize)]
pub struct Pending {
    pub time: f64,
    /// The QEMU that read.
    pub vm: String,
    pub state: String,
    pub bytes: u64,
}

/// A chunk of a device's state.
#[derive(Clone, Debug, Serialize)]
pub struct Chunk {
    pub time: f64,
    /// The QEMU that read the chunk from its device, or wrote the chunk to its device.
    pub vm: String,
    pub state: String,
    pub bytes: u64,
}

/// The rate of the guest's disks, or of its network card, in the interval before a report.
#[derive(Clone, Debug, Serialize)]
pub struct IoRate {
    /// The beginning of the interval.
    pub from: f64,
    /// The time of the report.
    pub time: f64,
    /// Completed reads and writes, or packets sent and received.
    pub per_second: f64,
    /// Bytes read and written.
    pub bytes_per_second: f64,
}

/// All that the text and the picture show. All lists are in the order of time.
#[derive(Debug, Default, Serialize)]
pub struct Timeline {
    pub states: Vec<StateChange>,
    pub pending: Vec<Pending>,
    pub chunks: Vec<Chunk>,
    /// Lines that the guest has received, as time and number.
    pub received: Vec<(f64, u64)>,
    pub io: Vec<IoRate>,
    /// Whether [`Self::io`] has the packets of a network card.
    pub of_card: bool,
    /// Stops and starts of the guest, as time, QEMU and the name of QMP's event.
    pub guest_runs: Vec<(f64, String, String)>,
    pub migrations: Vec<Migrated>,
    /// The guest's verdict on its ports.
    pub verdict: Vec<Port>,
    /// The guest's verdict on its disks.
    pub loads: Vec<Load>,
}

/// Operations and bytes of all disks together.
fn work(disks: &[DiskCounters]) -> (u64, u64) {
    let operations = disks.iter().map(|disk| disk.reads + disk.writes).sum();
    let bytes = disks
        .iter()
        .map(|disk| disk.read_bytes + disk.written_bytes);
    (operations, bytes.sum())
}

impl Timeline {
    /// Collects the events.
    pub fn new(events: &[Event]) -> Self {
        let mut events: Vec<_> = events.iter().collect();
        // Events of QEMU and of tracepoints are received a little later than they happened.
        events.sort_by(|a, b| a.time.total_cmp(&b.time));
        let mut timeline = Self::default();
        let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
        let mut last: Option<(f64, (u64, u64))> = None;
        for event in events {
            let time = event.time;
            let owner = |device: &str| (*owners.get(device).unwrap_or(&device)).to_owned();
            match &event.what {
                What::Opened { vm, device } => {
                    owners.insert(device, vm);
                    let (vm, state) = (vm.clone(), FRESH.to_owned());
                    timeline.states.push(StateChange { time, vm, state });
                }
                What::Trace(Trace::State {
                    device,
                    to,
                    result: 0,
                    ..
                }) => {
                    let (vm, state) = (owner(device), to.clone());
                    timeline.states.push(StateChange { time, vm, state });
                }
                What::Trace(Trace::Pending {
                    device,
                    state,
                    pending,
                }) => {
                    let (vm, state, bytes) = (owner(device), state.clone(), *pending);
                    timeline.pending.push(Pending {
                        time,
                        vm,
                        state,
                        bytes,
                    });
                }
                What::Trace(Trace::Chunk {
                    device,
                    state,
                    size,
                    ..
                }) => {
                    let (vm, state, bytes) = (owner(device), state.clone(), *size);
                    timeline.chunks.push(Chunk {
                        time,
                        vm,
                        state,
                        bytes,
                    });
                }
                What::Guest {
                    report:
                        Report::Progress {
                            received,
                            disks,
                            packets,
                            ..
                        },
                    ..
                } => {
                    timeline.received.push((time, *received));
                    let now = match packets {
                        _ if !disks.is_empty() => work(disks),
                        Some(packets) => (*packets, 0),
                        None => continue,
                    };
                    timeline.of_card = disks.is_empty();
                    // Reports with the same time, as when a guest resumes, make no rate.
                    if let Some((from, then)) = last.filter(|(from, _)| time > *from) {
                        let rate =
                            |now: u64, then: u64| now.saturating_sub(then) as f64 / (time - from);
                        timeline.io.push(IoRate {
                            from,
                            time,
                            per_second: rate(now.0, then.0),
                            bytes_per_second: rate(now.1, then.1),
                        });
                    }
                    last = Some((time, now));
                }
                What::Guest {
                    report: Report::Verdict { ports, loads, .. },
                    ..
                } => {
                    timeline.verdict.clone_from(ports);
                    timeline.loads.clone_from(loads);
                }
                What::Qmp { vm, name, .. } if name == "STOP" || name == "RESUME" => {
                    timeline.guest_runs.push((time, vm.clone(), name.clone()));
                }
                What::Migrated(migrated) => timeline.migrations.push(migrated.clone()),
                _ => {}
            }
        }
        timeline
    }

    /// The state of `vm`'s device at `time`.
    pub fn state_at(&self, vm: &str, time: f64) -> Option<&str> {
        let before = |change: &&StateChange| change.vm == vm && change.time <= time;
        Some(&self.states.iter().rev().find(before)?.state)
    }

    /// The span from when `source` stops its guest until `destination` starts it.
    pub fn standstill(&self, migrated: &Migrated) -> Option<(f64, f64)> {
        let within = |time: f64| time >= migrated.began && time <= migrated.ended + 1.0;
        let find = |vm: &str, what: &str| {
            let mut runs = self.guest_runs.iter();
            runs.find(|(time, who, name)| within(*time) && who == vm && name == what)
                .map(|(time, _, _)| *time)
        };
        let span = (
            find(&migrated.source, "STOP")?,
            find(&migrated.destination, "RESUME")?,
        );
        (span.0 < span.1).then_some(span)
    }

    /// The time of a migration with a margin.
    pub fn span(&self, migrated: &Migrated) -> (f64, f64) {
        let ended = self
            .standstill(migrated)
            .map_or(migrated.ended, |span| span.1);
        let ended = ended.max(migrated.ended);
        let least = if self.io.is_empty() { 0.0 } else { AROUND_IO };
        let margin = ((ended - migrated.began) * 0.04).max(least);
        (migrated.began - margin, ended + margin)
    }

    /// Bytes of device state that `migrated` moved while the source was in `state`.
    pub fn device_bytes(&self, migrated: &Migrated, state: &str) -> u64 {
        let (from, to) = self.span(migrated);
        self.chunks
            .iter()
            .filter(|chunk| chunk.vm == migrated.source && chunk.state == state)
            .filter(|chunk| chunk.time >= from && chunk.time <= to)
            .map(|chunk| chunk.bytes)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(time: f64, what: What) -> Event {
        Event { time, what }
    }

    fn state(time: f64, device: &str, from: &str, to: &str) -> Event {
        let (device, from, to) = (device.to_owned(), from.to_owned(), to.to_owned());
        event(
            time,
            What::Trace(Trace::State {
                device,
                from,
                to,
                result: 0,
            }),
        )
    }

    fn opened(vm: &str, device: &str) -> Event {
        event(
            0.5,
            What::Opened {
                vm: vm.to_owned(),
                device: device.to_owned(),
            },
        )
    }

    #[test]
    fn a_migration_is_told_in_order() {
        let chunk = |time, device: &str, state: &str| {
            let (device, state) = (device.to_owned(), state.to_owned());
            event(
                time,
                What::Trace(Trace::Chunk {
                    device,
                    state,
                    size: 500,
                    total: 500,
                }),
            )
        };
        let migrated = Migrated {
            source: "A".to_owned(),
            destination: "B".to_owned(),
            began: 1.0,
            ended: 3.0,
            downtime_ms: 12,
            ..Migrated::default()
        };
        let events = [
            opened("A", "u"),
            opened("B", "v"),
            event(4.0, What::Migrated(migrated.clone())),
            state(2.0, "u", "PRE_COPY", "STOP_COPY"),
            state(1.1, "u", "RUNNING", "PRE_COPY"),
            chunk(2.1, "u", "STOP_COPY"),
            chunk(2.2, "v", "RESUMING"),
        ];
        let timeline = Timeline::new(&events);
        assert_eq!(timeline.state_at("A", 1.5), Some("PRE_COPY"));
        assert_eq!(timeline.state_at("A", 2.5), Some("STOP_COPY"));
        assert_eq!(timeline.state_at("B", 2.5), Some("RUNNING"));
        assert_eq!(timeline.device_bytes(&migrated, "STOP_COPY"), 500);
        assert_eq!(timeline.device_bytes(&migrated, "PRE_COPY"), 0);
        let text = timeline.text();
        let at = |what: &str| {
            text.find(what)
                .unwrap_or_else(|| panic!("no {what} in\n{text}"))
        };
        assert!(
            at("gives 500 B") < at("takes 500 B"),
            "in order, in\n{text}"
        );
        assert!(text.contains("downtime 12 ms"), "in\n{text}");
    }
}
