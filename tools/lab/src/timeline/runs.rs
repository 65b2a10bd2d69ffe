// SPDX-License-Identifier: GPL-2.0

//! Runs of similar events. The text has one line for each run.

use super::Chunk;
use super::Timeline;

/// Up to this number of similar events have a line each; more have one line together.
const FEW: usize = 8;

/// Chunks that have one line.
pub(super) struct Chunks {
    pub first: f64,
    pub vm: String,
    pub state: String,
    pub bytes: u64,
    pub count: usize,
}

/// Reads that have one line.
#[derive(Clone)]
pub(super) struct Reads {
    pub first: f64,
    pub state: String,
    pub least: u64,
    pub most: u64,
    pub count: usize,
}

impl Timeline {
    /// Chunks. Many chunks of a QEMU in one state are one run.
    pub(super) fn chunk_runs(&self, from: f64, to: f64) -> Vec<Chunks> {
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

    /// Reads of `pending_bytes` by `vm`. Successive reads of the same value are one run, and so are many reads in one
    /// state.
    pub(super) fn pending_runs(&self, vm: &str, from: f64, to: f64) -> Vec<Reads> {
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

#[cfg(test)]
mod tests {
    use lab_host::event::Event;
    use lab_host::event::Trace;
    use lab_host::event::What;

    use super::*;

    #[test]
    fn many_chunks_are_told_as_one() {
        let chunk = |number: u64| {
            let what = What::Trace(Trace::Chunk {
                device: "A".to_owned(),
                state: "PRE_COPY".to_owned(),
                size: 1 << 20,
                total: number << 20,
            });
            let time = number as f64 / 100.0;
            Event { time, what }
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
}
