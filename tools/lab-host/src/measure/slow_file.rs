// SPDX-License-Identifier: GPL-2.0

//! A disk on a slow disk of the host, with this process as its only user, beside fio on another one: what the slow disk
//! gives to who asks it directly.

use std::time::Instant;

use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use lab_guest::fio;
use lab_host::event::Speed;
use lab_host::event::What;
use lab_host::job::DIRECTLY;
use lab_host::job::SLOW_DISKS;
use vfio_drivers::nvme::nvm;
use vfio_drivers::nvme::polling::Load;
use vfio_drivers::nvme::polling::MAX_UNDER_WAY;

use super::directly_on;
use super::outcome;
use super::polled::Polled;
use crate::program;
use crate::report;
use crate::report::doing;

/// Workloads: name, opcode, what fio calls it.
const WORKLOADS: [(&str, u8, &str); 2] = [
    ("read 4 KiB, queue depth 32", nvm::READ, "randread"),
    ("write 4 KiB, queue depth 32", nvm::WRITE, "randwrite"),
];

/// Bytes of a command.
const SIZE: u64 = 4096;

/// The part of the slow disk that commands go to.
const RANGE: u64 = 8 << 30;

/// From one command's place to that of the next: odd, and far.
const STEP: u64 = 0x9_e377;

/// Commands of a measurement, some seconds' at full speed.
const COMMANDS: u64 = 8192;

/// Arguments of fio in every workload: the same depth, the host's page cache left out.
const COMMON: [&str; 8] = [
    "--ioengine=libaio",
    "--direct=1",
    "--bs=4k",
    "--iodepth=32",
    "--size=8g",
    "--norandommap",
    "--time_based",
    "--runtime=3",
];

/// Measures a disk of the type `device`.
pub fn measure(device: &str, rounds: usize) {
    outcome("slow file", Instant::now(), run(device, rounds));
}

fn run(device: &str, rounds: usize) -> Result<()> {
    let [ours, directly, _] = SLOW_DISKS;
    let mut disk = Polled::open(&directly_on(device, ours))?;
    for round in 0..rounds {
        for (workload, opcode, rw) in WORKLOADS {
            doing(format!("round {}: {workload}", round + 1));
            let load = Load {
                opcode,
                size: SIZE,
                under_way: MAX_UNDER_WAY,
                commands: COMMANDS,
                range: RANGE,
                step: STEP,
            };
            let ours = |disk: &mut Polled| -> Result<f64> {
                let mut client = disk.start_with_interrupts()?;
                let warm_up = Load {
                    commands: COMMANDS / 8,
                    ..load
                };
                client.measure(disk.controller(), &warm_up)?;
                let took = client.measure(disk.controller(), &load)?;
                Ok(COMMANDS as f64 / took.time.as_secs_f64())
            };
            // The rounds begin with one and with the other in turn.
            let (ours, theirs) = if round % 2 == 0 {
                let ours = ours(&mut disk)?;
                (ours, fio_on(directly, rw)?)
            } else {
                let theirs = fio_on(directly, rw)?;
                (ours(&mut disk)?, theirs)
            };
            for (disk, per_second) in [("ferry_nvme", ours), (DIRECTLY, theirs)] {
                report::say(What::Speed(Speed {
                    disk: disk.to_owned(),
                    workload: workload.to_owned(),
                    round,
                    per_second,
                    bytes_per_second: per_second * SIZE as f64,
                    latency_us: f64::from(MAX_UNDER_WAY) / per_second * 1e6,
                }));
            }
        }
    }
    Ok(())
}

/// The operations per second that fio gets.
fn fio_on(path: &str, rw: &str) -> Result<f64> {
    let (file, rw) = (format!("--filename={path}"), format!("--rw={rw}"));
    let mut arguments = vec!["--name=directly", &*file, &*rw];
    arguments.extend(fio::ARGUMENTS);
    arguments.extend(COMMON);
    let mut said = String::new();
    let status = program::run_with("fio", &arguments, |line| {
        said.push_str(&line);
        said.push('\n');
    })?;
    ensure!(status == 0, "fio: exit status {status}: {said}");
    let (read, written) = fio::parse(&said).context("reading fio's report")?;
    Ok(read.per_second + written.per_second)
}
