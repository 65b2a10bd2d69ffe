// SPDX-License-Identifier: GPL-2.0

//! Loads on disks: runs of fio, each in a process of its own, which verify what they write.
//!
//! Locks: a load's state, alone.

use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use lab_guest::fio::parse;
use lab_guest::fio::ARGUMENTS;
use lab_guest::report::Io;
use lab_guest::report::Load;
use lab_guest::report::LoadOrder;
use lab_guest::report::Report;

use crate::host::Host;
use crate::shell;

const FIO: &str = "/usr/bin/fio";

/// A load that was begun.
pub struct Running {
    order: LoadOrder,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The present round is the last one.
    ending: bool,
    /// The load has ended.
    ended: bool,
    load: Load,
}

impl Running {
    /// Begins a load.
    pub fn begin(order: LoadOrder, host: &Arc<Host>) -> Arc<Self> {
        let load = Load {
            name: order.name.clone(),
            ..Load::default()
        };
        let running = Arc::new(Self {
            order,
            state: Mutex::new(State {
                load,
                ..State::default()
            }),
            changed: Condvar::new(),
        });
        let (its, host) = (running.clone(), host.clone());
        thread::spawn(move || its.run(&host));
        running
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, host: &Host) {
        loop {
            let round = self.round();
            let mut state = self.lock();
            match &round {
                Ok((read, written)) => {
                    state.load.rounds += 1;
                    add(&mut state.load.read, read);
                    add(&mut state.load.written, written);
                }
                Err(error) => state.load.error = Some(format!("{error:#}")),
            }
            if state.ending || !self.order.repeat || round.is_err() {
                state.ended = true;
                let load = state.load.clone();
                drop(state);
                self.changed.notify_all();
                if let Err(error) = round {
                    host.complain(&error);
                }
                if !self.order.repeat {
                    host.say(&Report::Loaded { load });
                }
                return;
            }
        }
    }

    /// One run of fio.
    fn round(&self) -> Result<(Io, Io)> {
        let name = &self.order.name;
        let output = Command::new(FIO)
            .args(ARGUMENTS)
            .arg(format!("--name={name}"))
            .args(&self.order.arguments)
            .env("PATH", shell::SEARCH_PATH)
            .current_dir("/tmp")
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("{name}: starting fio"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            // fio prints errors to both.
            bail!(
                "{name}: fio: {}: {} {}",
                output.status,
                complaint.trim(),
                shell::end_of(said.split("\n{").next().unwrap_or_default().trim())
            );
        }
        parse(&said).with_context(|| format!("{name}: reading fio's report: {complaint}"))
    }

    /// Makes the present round the last one.
    pub fn end(&self) {
        self.lock().ending = true;
    }

    /// Waits for the load's end, and returns its report.
    pub fn wait(&self) -> Load {
        let mut state = self.lock();
        while !state.ended {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.load.clone()
    }

    /// The report so far.
    pub fn so_far(&self) -> Load {
        self.lock().load.clone()
    }
}

/// Adds a round to the sum; rates are those of the last round.
fn add(sum: &mut Io, round: &Io) {
    *sum = Io {
        operations: sum.operations + round.operations,
        bytes: sum.bytes + round.bytes,
        ..*round
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_add_up_and_the_last_rates_stay() {
        let round = Io {
            operations: 7,
            bytes: 28672,
            per_second: 3.5,
            ..Io::default()
        };
        let mut sum = Io::default();
        add(&mut sum, &round);
        add(&mut sum, &round);
        assert_eq!(
            (sum.operations, sum.bytes, sum.per_second),
            (14, 57344, 3.5)
        );
    }
}
