// SPDX-License-Identifier: GPL-2.0

//! Two queues of a disk with two processors beside one queue with one processor, with this process as the disk's only user.

use std::thread;
use std::time::Instant;

use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use lab_host::event::Speed;
use lab_host::event::What;
use lab_host::job::ONE_QUEUE;
use lab_host::job::TWO_QUEUES;
use rustix::thread::sched_getaffinity;
use rustix::thread::sched_setaffinity;
use rustix::thread::CpuSet;
use vfio_drivers::nvme::nvm;
use vfio_drivers::nvme::polling::Load;
use vfio_drivers::nvme::polling::MAX_SIZE;
use vfio_drivers::nvme::polling::MAX_UNDER_WAY;
use vfio_drivers::nvme::polling::RANGE;

use super::outcome;
use super::polled::Polled;
use crate::recipe::Recipe;
use crate::report;
use crate::report::doing;

/// Workloads: name, opcode, bytes of a command, commands under way in each queue, commands of each queue.
const WORKLOADS: [(&str, u8, u64, u16, u64); 6] = [
    ("read 4 KiB, queue depth 1", nvm::READ, 4096, 1, 4096),
    ("write 4 KiB, queue depth 1", nvm::WRITE, 4096, 1, 4096),
    (
        "read 4 KiB, queue depth 32",
        nvm::READ,
        4096,
        MAX_UNDER_WAY,
        16384,
    ),
    (
        "write 4 KiB, queue depth 32",
        nvm::WRITE,
        4096,
        MAX_UNDER_WAY,
        16384,
    ),
    (
        "read 128 KiB, queue depth 32",
        nvm::READ,
        MAX_SIZE,
        MAX_UNDER_WAY,
        2048,
    ),
    (
        "write 128 KiB, queue depth 32",
        nvm::WRITE,
        MAX_SIZE,
        MAX_UNDER_WAY,
        2048,
    ),
];

/// Measures a disk of the type `device`.
pub fn measure(device: &str, rounds: usize) {
    outcome("two queues", Instant::now(), run(device, rounds));
}

/// Lets this thread, and the threads that it makes from now on, run only on the first `count` processors.
fn use_processors(count: usize) -> Result<()> {
    let mut set = CpuSet::new();
    (0..count).for_each(|processor| set.set(processor));
    sched_setaffinity(None, &set).context("choosing processors")
}

fn run(device: &str, rounds: usize) -> Result<()> {
    let all = sched_getaffinity(None).context("asking for processors")?;
    ensure!(all.count() >= 2, "the host VM has a single processor");
    let mut ways = [(ONE_QUEUE, 1), (TWO_QUEUES, 2)];
    for round in 0..rounds {
        for (name, queues) in ways {
            doing(format!("round {}: {name}", round + 1));
            use_processors(queues)?;
            // The first access makes the disk's worker, which may run where this thread may.
            let mut disk = Polled::open(&Recipe::new(device))?;
            disk.fill()?;
            for (workload, opcode, size, under_way, commands) in WORKLOADS {
                let load = Load {
                    opcode,
                    size,
                    under_way,
                    commands,
                    range: RANGE,
                    step: 1,
                };
                let seconds = measure_queues(&mut disk, queues, &load)?;
                let per_second = (queues as u64 * commands) as f64 / seconds;
                report::say(What::Speed(Speed {
                    disk: name.to_owned(),
                    workload: workload.to_owned(),
                    round,
                    per_second,
                    bytes_per_second: per_second * size as f64,
                    latency_us: f64::from(under_way) * queues as f64 / per_second * 1e6,
                }));
            }
        }
        ways.rotate_left(1);
    }
    sched_setaffinity(None, &all).context("choosing processors")
}

/// Gives `queues` the same load, each from a thread of its own; returns the seconds until the last is done.
fn measure_queues(disk: &mut Polled, queues: usize, load: &Load) -> Result<f64> {
    let mut clients = vec![disk.start()?];
    while clients.len() < queues {
        clients.push(disk.add_queue(None)?);
    }
    let controller = disk.controller();
    let warm_up = Load {
        commands: load.commands / 8,
        ..*load
    };
    for client in &mut clients {
        client.measure(controller, &warm_up)?;
    }
    let began = Instant::now();
    thread::scope(|scope| {
        let threads: Vec<_> = clients
            .iter_mut()
            .map(|client| scope.spawn(move || client.measure(controller, load)))
            .collect();
        for thread in threads {
            match thread.join() {
                Ok(took) => took?,
                Err(panic) => std::panic::resume_unwind(panic),
            };
        }
        Ok(began.elapsed().as_secs_f64())
    })
}
