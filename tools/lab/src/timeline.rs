// SPDX-License-Identifier: GPL-2.0

//! What happened during migrations, put in order from the host VM's events.

use std::collections::BTreeMap;
use std::fmt::Write;

use lab_guest::report::DiskCounters;
use lab_guest::report::Load;
use lab_guest::report::Port;
use lab_guest::report::Report;
use lab_host::event::Event;
use lab_host::event::Migrated;
use lab_host::event::Trace;
use lab_host::event::What;
use serde::Serialize;

/// State of a device that was just opened.
const FRESH: &str = "RUNNING";

/// Columns of the terminal's lanes.
const WIDTH: usize = 64;

/// Lines of a kind that are told one by one; more become one line.
const FEW: usize = 8;

/// How a terminal shows a part of the whole, from nothing to all.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Seconds before and after a migration that are shown of a disk's work.
const AROUND_IO: f64 = 1.0;

/// A device's state from a moment on.
#[derive(Clone, Debug, Serialize)]
pub struct StateChange {
    /// When, in seconds on the host VM's clock.
    pub time: f64,
    /// The QEMU that has the device.
    pub vm: String,
    /// The new state.
    pub state: String,
}

/// A read of `pending_bytes`.
#[derive(Clone, Debug, Serialize)]
pub struct Pending {
    /// When.
    pub time: f64,
    /// The QEMU that read.
    pub vm: String,
    /// The device's state.
    pub state: String,
    /// What was read.
    pub bytes: u64,
}

/// A chunk of a device's state.
#[derive(Clone, Debug, Serialize)]
pub struct Chunk {
    /// When.
    pub time: f64,
    /// The QEMU that took it from the device, or gave it to it.
    pub vm: String,
    /// The device's state.
    pub state: String,
    /// Its size.
    pub bytes: u64,
}

/// How much the guest's disks did in the time before a report.
#[derive(Clone, Debug, Serialize)]
pub struct IoRate {
    /// When the time began.
    pub from: f64,
    /// When the report came.
    pub time: f64,
    /// Reads and writes that were completed, per second.
    pub per_second: f64,
    /// Bytes that were read and written, per second.
    pub bytes_per_second: f64,
}

/// Everything that is shown.
#[derive(Debug, Default, Serialize)]
pub struct Timeline {
    /// State changes, in order.
    pub states: Vec<StateChange>,
    /// Reads of `pending_bytes`, in order.
    pub pending: Vec<Pending>,
    /// Chunks, in order.
    pub chunks: Vec<Chunk>,
    /// What the guest has received, as time and lines.
    pub received: Vec<(f64, u64)>,
    /// What the guest's disks did, in order.
    pub io: Vec<IoRate>,
    /// When a QEMU stopped or started its guest, as time, QEMU and QMP's name.
    pub guest_runs: Vec<(f64, String, String)>,
    /// The migrations.
    pub migrations: Vec<Migrated>,
    /// The guest's last word.
    pub verdict: Vec<Port>,
    /// The guest's last word on its disks.
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
    /// Puts the events in order.
    pub fn new(events: &[Event]) -> Self {
        let mut events: Vec<_> = events.iter().collect();
        // What QEMU and the tracepoints tell comes a little later than it happened.
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
                            received, disks, ..
                        },
                    ..
                } => {
                    timeline.received.push((time, *received));
                    if disks.is_empty() {
                        continue;
                    }
                    let now = work(disks);
                    // Reports that come at once, when a guest goes on, make no rate.
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

    /// The span of a migration with a little of what is around it.
    pub fn span(&self, migrated: &Migrated) -> (f64, f64) {
        let ended = self
            .standstill(migrated)
            .map_or(migrated.ended, |span| span.1);
        let ended = ended.max(migrated.ended);
        let least = if self.io.is_empty() { 0.0 } else { AROUND_IO };
        let margin = ((ended - migrated.began) * 0.04).max(least);
        (migrated.began - margin, ended + margin)
    }

    /// Bytes of device state that `migrated` has moved in this state of the source.
    pub fn device_bytes(&self, migrated: &Migrated, state: &str) -> u64 {
        let (from, to) = self.span(migrated);
        self.chunks
            .iter()
            .filter(|chunk| chunk.vm == migrated.source && chunk.state == state)
            .filter(|chunk| chunk.time >= from && chunk.time <= to)
            .map(|chunk| chunk.bytes)
            .sum()
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for migrated in &self.migrations {
            self.migration_text(migrated, &mut text);
        }
        for port in &self.verdict {
            let faults = &port.faults;
            let _ = writeln!(
                text,
                "{}: {} lines sent, {} received, {} bytes; lost {}, doubled {}, reordered {}, corrupt {}; \
                 driver: {} interrupts, {} overruns, {} framing, {} parity errors, {} breaks",
                port.name,
                port.sent,
                port.received,
                port.bytes,
                faults.lost,
                faults.doubled,
                faults.reordered,
                faults.corrupt,
                port.driver.interrupts,
                port.driver.overruns,
                port.driver.framing,
                port.driver.parity,
                port.driver.breaks,
            );
        }
        for load in &self.loads {
            let (read, written) = (&load.read, &load.written);
            let _ = writeln!(
                text,
                "{}: {} rounds: {} writes of {} in all, verified by {} reads; {}",
                load.name,
                load.rounds,
                written.operations,
                size(written.bytes),
                read.operations,
                load.error
                    .as_deref()
                    .unwrap_or("every block was as it was written"),
            );
        }
        text
    }

    /// The disks' work over the columns of a terminal, and the most that there was in a second.
    fn io_lane(&self, from: f64, to: f64) -> (String, f64) {
        let shown = self
            .io
            .iter()
            .filter(|rate| rate.time > from && rate.from < to);
        let most = shown.map(|rate| rate.per_second).fold(0.0, f64::max);
        let mut lane = String::new();
        for column in 0..WIDTH {
            let middle = from + (to - from) * (column as f64 + 0.5) / WIDTH as f64;
            let mut rates = self.io.iter();
            let rate = rates.find(|rate| rate.from < middle && middle <= rate.time);
            let part = rate.map_or(0.0, |rate| rate.per_second) / most.max(1.0);
            // Whatever there is shows.
            lane.push(BARS[(part * (BARS.len() - 1) as f64).ceil() as usize]);
        }
        (lane, most)
    }

    fn migration_text(&self, migrated: &Migrated, text: &mut String) {
        let (source, destination) = (&migrated.source, &migrated.destination);
        let _ = writeln!(text, "{source} -> {destination}: live migration\n");
        let (from, to) = self.span(migrated);
        let _ = writeln!(text, "  device_state over {:.1} s", to - from);
        let mut legend: Vec<&str> = Vec::new();
        for vm in [source, destination] {
            let mut lane = String::new();
            for column in 0..WIDTH {
                // A state that lasts for less than a column still gets the column in which it ends.
                let left = from + (to - from) * column as f64 / WIDTH as f64;
                let right = from + (to - from) * (column + 1) as f64 / WIDTH as f64;
                let busiest = self
                    .states
                    .iter()
                    .filter(|change| change.vm == *vm && change.time > left && change.time <= right)
                    .map(|change| &*change.state)
                    .chain(self.state_at(vm, left))
                    .max_by_key(|state| prominence(state));
                match busiest {
                    Some(state) => {
                        if !legend.contains(&state) {
                            legend.push(state);
                        }
                        lane.push(symbol(state));
                    }
                    None => lane.push(' '),
                }
            }
            let _ = writeln!(text, "  {vm} |{lane}|");
        }
        legend.sort_by_key(|state| prominence(state));
        let legend: Vec<_> = legend
            .iter()
            .map(|state| format!("{} {state}", symbol(state)))
            .collect();
        let _ = writeln!(text, "     {}\n", legend.join("   "));
        let (lane, most) = self.io_lane(from, to);
        if most > 0.0 {
            let _ = writeln!(text, "  I/O of the guest's disk, up to {most:.0} a second");
            let _ = writeln!(text, "    |{lane}|\n");
        }

        let column = format!("source {source}");
        let _ = writeln!(
            text,
            "  {:>9}  {column:32}destination {destination}",
            "time"
        );
        let mut lines: Vec<(f64, bool, String)> = Vec::new();
        let within = |time: f64| time >= from && time <= to;
        for change in self.states.iter().filter(|change| within(change.time)) {
            lines.push((change.time, change.vm == *source, change.state.clone()));
        }
        for chunks in self.chunk_runs(from, to) {
            let verb = if chunks.state == "RESUMING" {
                "takes"
            } else {
                "gives"
            };
            let line = match chunks.count {
                1 => format!("  {verb} {} of state", size(chunks.bytes)),
                count => format!("  {verb} {} in {count} chunks", size(chunks.bytes)),
            };
            lines.push((chunks.first, chunks.vm == *source, line));
        }
        for (time, vm, name) in self.guest_runs.iter().filter(|(time, _, _)| within(*time)) {
            let line = if name == "STOP" {
                "  (the guest stands still)"
            } else {
                "  (the guest goes on)"
            };
            lines.push((*time, vm == source, line.to_owned()));
        }
        for reads in self.pending_runs(source, from, to) {
            let bytes = if reads.least == reads.most {
                reads.most.to_string()
            } else {
                format!("{} to {}", size(reads.most), size(reads.least))
            };
            let line = match reads.count {
                1 => format!("  pending_bytes {bytes}"),
                count => format!("  pending_bytes {bytes}, {count} reads"),
            };
            lines.push((reads.first, true, line));
        }
        lines.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (time, is_source, line) in lines {
            let (left, right) = if is_source {
                (&*line, "")
            } else {
                ("", &*line)
            };
            let row = format!("  {:>7.3} s  {left:32}{right}", time - migrated.began);
            let _ = writeln!(text, "{}", row.trim_end());
        }

        let _ = writeln!(
            text,
            "\n  {:16}{:>14}{:>16}",
            "moved in", "pre-copy", "stop-and-copy"
        );
        let _ = writeln!(
            text,
            "  {:16}{:>14}{:>16}",
            "device state",
            size(self.device_bytes(migrated, "PRE_COPY")),
            size(self.device_bytes(migrated, "STOP_COPY"))
        );
        let _ = writeln!(
            text,
            "  {:16}{:>14}{:>16}",
            "guest memory",
            size(migrated.precopy_bytes),
            size(migrated.downtime_bytes)
        );
        let _ = writeln!(
            text,
            "  downtime {} ms, as QEMU reports it; whole migration {:.1} s\n",
            migrated.downtime_ms,
            migrated.total_ms as f64 / 1000.0
        );
    }

    /// Chunks, those of a QEMU in one state as one when there are many of them.
    fn chunk_runs(&self, from: f64, to: f64) -> Vec<Chunks> {
        let within = |time: f64| time >= from && time <= to;
        let mut runs: Vec<Chunks> = Vec::new();
        for chunk in self.chunks.iter().filter(|chunk| within(chunk.time)) {
            let alike = |other: &&Chunk| {
                within(other.time) && other.vm == chunk.vm && other.state == chunk.state
            };
            let many = self.chunks.iter().filter(alike).count() > FEW;
            let run = runs
                .iter_mut()
                .find(|run| many && run.vm == chunk.vm && run.state == chunk.state);
            match run {
                Some(run) => {
                    run.count += 1;
                    run.bytes += chunk.bytes;
                }
                None => runs.push(Chunks {
                    first: chunk.time,
                    vm: chunk.vm.clone(),
                    state: chunk.state.clone(),
                    bytes: chunk.bytes,
                    count: 1,
                }),
            }
        }
        runs
    }

    /// Reads of `pending_bytes` by `vm`, those in a row with the same result as one; those in one
    /// state as one when there are many of them.
    fn pending_runs(&self, vm: &str, from: f64, to: f64) -> Vec<Reads> {
        let mut runs: Vec<Reads> = Vec::new();
        let reads = self.pending.iter().filter(|read| read.vm == vm);
        for read in reads.filter(|read| read.time >= from && read.time <= to) {
            match runs.last_mut() {
                Some(run) if run.most == read.bytes && run.state == read.state => run.count += 1,
                _ => runs.push(Reads {
                    first: read.time,
                    state: read.state.clone(),
                    least: read.bytes,
                    most: read.bytes,
                    count: 1,
                }),
            }
        }
        let mut merged: Vec<Reads> = Vec::new();
        for run in &runs {
            let many = runs.iter().filter(|other| other.state == run.state).count() > FEW;
            match merged.last_mut() {
                Some(last) if many && last.state == run.state => {
                    last.least = last.least.min(run.least);
                    last.most = last.most.max(run.most);
                    last.count += run.count;
                }
                _ => merged.push(run.clone()),
            }
        }
        merged
    }
}

/// Chunks that are told together.
struct Chunks {
    first: f64,
    vm: String,
    state: String,
    bytes: u64,
    count: usize,
}

/// Reads that are told together.
#[derive(Clone)]
struct Reads {
    first: f64,
    state: String,
    least: u64,
    most: u64,
    count: usize,
}

/// How a state is drawn on a terminal.
fn symbol(state: &str) -> char {
    match state {
        "RUNNING" => '=',
        "PRE_COPY" => '+',
        "STOP_COPY" => '#',
        "RESUMING" => '~',
        "STOP" => '.',
        _ => '!',
    }
}

/// Which of several states in one column is drawn.
fn prominence(state: &str) -> usize {
    const ORDER: [&str; 5] = ["STOP", "RUNNING", "RESUMING", "PRE_COPY", "STOP_COPY"];
    ORDER
        .iter()
        .position(|known| *known == state)
        .unwrap_or(ORDER.len())
}

/// A number of bytes for a person.
pub fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    for (unit, worth) in UNITS {
        if bytes >= worth {
            return format!("{:.1} {unit}", bytes as f64 / worth as f64);
        }
    }
    format!("{bytes} B")
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

    #[test]
    fn a_disks_work_shows_its_dip() {
        let progress = |time: f64, writes: u64| {
            let disk = DiskCounters {
                writes,
                written_bytes: writes * 4096,
                ..DiskCounters::default()
            };
            let report = Report::Progress {
                beat: 0,
                sent: 0,
                received: 0,
                faults: 0,
                disks: vec![disk],
            };
            let vm = "A".to_owned();
            event(time, What::Guest { vm, report })
        };
        // Nothing comes between 2 and 4.
        let events = [
            progress(0.0, 0),
            progress(1.0, 1000),
            progress(2.0, 2000),
            progress(4.0, 2010),
            progress(5.0, 3010),
        ];
        let timeline = Timeline::new(&events);
        assert_eq!(timeline.io[0].per_second, 1000.0);
        assert_eq!(timeline.io[2].per_second, 5.0);
        assert_eq!(timeline.io[2].bytes_per_second, 5.0 * 4096.0);
        let (lane, most) = timeline.io_lane(0.0, 5.0);
        let lane: Vec<_> = lane.chars().collect();
        assert_eq!(most, 1000.0);
        let seen = (lane[0], lane[WIDTH * 3 / 5], lane[WIDTH - 1]);
        assert_eq!(seen, ('█', '▁', '█'), "saw {lane:?}");
    }

    #[test]
    fn many_chunks_are_told_as_one() {
        let chunk = |number: u64| {
            event(
                number as f64 / 100.0,
                What::Trace(Trace::Chunk {
                    device: "A".to_owned(),
                    state: "PRE_COPY".to_owned(),
                    size: 1 << 20,
                    total: number << 20,
                }),
            )
        };
        let told = |count: u64| {
            let events: Vec<_> = (1..=count).map(chunk).collect();
            let runs = Timeline::new(&events).chunk_runs(0.0, 1.0);
            runs.iter()
                .map(|run| (run.count, run.bytes))
                .collect::<Vec<_>>()
        };
        assert_eq!(told(20), [(20, 20 << 20)]);
        assert_eq!(told(2), [(1, 1 << 20), (1, 1 << 20)]);
    }

    #[test]
    fn sizes_are_told_in_the_largest_unit_that_fits() {
        let told: Vec<_> = [523, 2048, 117 << 20].into_iter().map(size).collect();
        assert_eq!(told, ["523 B", "2.0 KiB", "117.0 MiB"]);
    }
}
