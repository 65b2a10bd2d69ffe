// SPDX-License-Identifier: GPL-2.0

//! The timeline as text for a terminal: lanes of states and of I/O, a list of events, and the totals.

use std::fmt::Write;

use lab_host::event::Migrated;

use super::Timeline;
use crate::units::size;

/// Columns of the terminal's lanes.
const WIDTH: usize = 64;

/// Bars from empty to full.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

impl Timeline {
    /// The whole text.
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

    /// The lane of the disks' operations or the network card's packets, and the highest rate per second in it.
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
            // Any rate above 0 has a bar.
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
            let what = if self.of_card {
                "packets of the guest's network card"
            } else {
                "I/O of the guest's disk"
            };
            let _ = writeln!(text, "  {what}, up to {most:.0} a second");
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
}

/// The character of a state in a lane.
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

/// The state of the highest prominence in a column is drawn.
fn prominence(state: &str) -> usize {
    const ORDER: [&str; 5] = ["STOP", "RUNNING", "RESUMING", "PRE_COPY", "STOP_COPY"];
    ORDER
        .iter()
        .position(|known| *known == state)
        .unwrap_or(ORDER.len())
}

#[cfg(test)]
mod tests {
    use lab_guest::report::DiskCounters;
    use lab_guest::report::Report;
    use lab_host::event::Event;
    use lab_host::event::What;

    use super::*;

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
                datagrams: 0,
                packets: None,
            };
            let vm = "A".to_owned();
            let what = What::Guest { vm, report };
            Event { time, what }
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
}
