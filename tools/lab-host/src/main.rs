// SPDX-License-Identifier: GPL-2.0

//! The first process of the host VM.
//!
//! It mounts file systems, loads the modules, does its job and reports over a virtio-serial port; then it ends the VM
//! through the `isa-debug-exit` device.

#![forbid(unsafe_code)]

mod assigned;
mod diagnosis;
mod emulated;
mod endless_wait;
mod function;
mod guest;
mod kernel;
mod ktap;
mod mdev;
mod measure;
mod network;
mod program;
mod qmp;
mod recipe;
mod report;
mod scenarios;
mod selftest;
mod sysfs;
mod trace;
mod vm;
mod vm_directory;

use std::fs;

use anyhow::Context;
use anyhow::Result;
use function::Function;
use kernel::Log;
use lab_guest::init;
use lab_host::event::What;
use lab_host::job;
use lab_host::job::Job;
use lab_host::job::Stage;
use lab_host::vmm::Qemu;
use scenarios::Bench;
use trace::Tracer;

/// File systems beyond what every VM mounts, as (type, where).
const FILE_SYSTEMS: [(&str, &str); 4] = [
    ("tmpfs", "/tmp"),
    ("tmpfs", "/run"),
    ("debugfs", "/sys/kernel/debug"),
    ("tracefs", "/sys/kernel/tracing"),
];

/// The exit code of a VM that did its job, whether tests passed or failed.
const EXIT_DONE: u8 = 1;

/// The exit code of a VM that could not do its job.
const EXIT_BROKEN: u8 = 2;

fn run() -> Result<()> {
    for (kind, target) in FILE_SYSTEMS {
        init::mount_at(kind, target)?;
    }
    let job = fs::read_to_string(job::PATH).with_context(|| format!("reading {}", job::PATH))?;
    let job: Job = serde_json::from_str(&job).context("reading the job")?;
    report::say(What::Booted {
        kernel: kernel::release(),
    });

    let mut log = Log::open()?;
    let mut modules_log = log.take();
    for module in &job.modules {
        kernel::load(module)?;
    }
    kernel::tolerate_clock_rates()?;
    modules_log.extend(log.take());
    if let Some(text) = kernel::trouble(&modules_log) {
        report::say(What::Splat { text });
    }

    let mut bench = Bench {
        device: job.device.as_deref(),
        qemu: Qemu::default(),
        tracer: Tracer::start()?,
        running: None,
    };
    for stage in &job.stages {
        match stage {
            Stage::Shell { command } => {
                let status = program::run("/bin/sh", &["-c", command])?;
                report::say(What::Exited { status });
            }
            Stage::Kselftest {
                program,
                arguments,
                cards,
            } => {
                let _bound = if *cards { Function::all()? } else { Vec::new() };
                selftest::run(program, arguments)?;
            }
            Stage::Scenario { scenario, qemu } => {
                scenarios::run(&mut bench, &mut log, *scenario, *qemu);
            }
            Stage::Speed { rounds } => measure::speed(&bench.tracer, bench.device, *rounds),
            Stage::SpeedOnSlowDisk { rounds } => {
                measure::speed_on_slow_disk(&bench.tracer, bench.device, *rounds);
            }
            Stage::Queues { rounds } => {
                let device = bench.device.context("no disk is to be measured")?;
                measure::queues::measure(device, *rounds);
            }
            Stage::SlowFile { rounds } => {
                let device = bench.device.context("no disk is to be measured")?;
                measure::slow_file::measure(device, *rounds);
            }
            Stage::Cost {
                disk,
                capacity,
                round,
            } => {
                let device = bench.device.context("no disk is to be moved")?;
                measure::cost(&bench.tracer, device, *disk, *capacity, *round);
            }
            Stage::CardCost { load, round } => measure::card::cost(&bench.tracer, *load, *round),
            Stage::Instructions { round } => {
                let device = bench.device.context("no disk is to be measured")?;
                measure::instructions::measure(device, *round);
            }
            Stage::CardSpeed { rounds } => measure::card::speed(&bench.tracer, *rounds),
            Stage::Kunit { modules } => selftest::run_kunit(modules, &mut log)?,
            Stage::Kmemleak => selftest::run_kmemleak()?,
        }
        if let Some(text) = kernel::trouble(&log.take()) {
            report::say(What::Splat { text });
        }
    }
    // The kernel has to survive the end of the last guest and its device, too.
    drop(bench);
    if let Some(text) = kernel::trouble(&log.take()) {
        report::say(What::Splat { text });
    }
    Ok(())
}

fn main() {
    let done = init::mount_all()
        .and_then(|()| report::open())
        .and_then(|()| run());
    let error = done.err().map(|error| format!("{error:#}"));
    if let Some(error) = &error {
        eprintln!("lab-host: {error}");
    }
    let code = if error.is_none() {
        EXIT_DONE
    } else {
        EXIT_BROKEN
    };
    report::finish(error);
    kernel::end(code);
}
