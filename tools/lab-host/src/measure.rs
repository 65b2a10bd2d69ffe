// SPDX-License-Identifier: GPL-2.0

//! Measurements: the speed of a disk beside other disks of the same guest, and the cost of a migration.
//!
//! Numbers of emulated machines mean nothing by themselves. They are only compared with numbers of the same host VM. Each is
//! measured several times, in rounds that alternate between the disks, so that other work of the machine affects all disks.

pub mod card;
pub mod instructions;
mod mirror;
mod polled;
pub mod queues;
pub mod slow_file;

use std::fs::File;
use std::time::Instant;

use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use lab_host::event::Cost;
use lab_host::event::Outcome;
use lab_host::event::Speed;
use lab_host::event::Trace;
use lab_host::event::What;
use lab_host::job::MovedDisk;
use lab_host::job::MEASURED_QEMU;
use lab_host::job::SLOW_DISKS;

use crate::assigned::Assigned;
use crate::emulated;
use crate::recipe::Recipe;
use crate::report;
use crate::report::doing;
use crate::scenarios::Running;
use crate::trace::Tracer;
use crate::vm::Hardware;
use crate::vm_directory;

/// The workloads of every disk: name and arguments of fio.
const WORKLOADS: [(&str, &[&str]); 6] = [
    (
        "read 4 KiB, queue depth 1",
        &["--rw=randread", "--bs=4k", "--iodepth=1"],
    ),
    (
        "write 4 KiB, queue depth 1",
        &["--rw=randwrite", "--bs=4k", "--iodepth=1"],
    ),
    (
        "read 4 KiB, queue depth 32",
        &["--rw=randread", "--bs=4k", "--iodepth=32"],
    ),
    (
        "write 4 KiB, queue depth 32",
        &["--rw=randwrite", "--bs=4k", "--iodepth=32"],
    ),
    (
        "read 128 KiB, queue depth 8",
        &["--rw=read", "--bs=128k", "--iodepth=8"],
    ),
    (
        "write 128 KiB, queue depth 8",
        &["--rw=write", "--bs=128k", "--iodepth=8"],
    ),
];

/// The beginning of the measured area, behind the part of a disk that has to stay unchanged.
const OFFSET: &str = "--offset=8m";

/// Arguments of fio in every workload. A round takes some seconds; fio ignores the first.
const COMMON: [&str; 7] = [
    OFFSET,
    "--ioengine=libaio",
    "--direct=1",
    "--size=32m",
    "--time_based",
    "--ramp_time=1",
    "--runtime=3",
];

/// The workloads of disks on a slow disk, and arguments of fio in all of them. Offsets are random, so that caches hardly
/// have the data.
const SLOW_WORKLOADS: [(&str, &[&str]); 2] = [
    ("read 4 KiB, queue depth 1", &["--iodepth=1"]),
    ("read 4 KiB, queue depth 32", &["--iodepth=32"]),
];
const SLOW_COMMON: [&str; 9] = [
    "--ioengine=libaio",
    "--direct=1",
    "--rw=randread",
    "--bs=4k",
    "--size=15g",
    "--norandommap",
    "--time_based",
    "--ramp_time=1",
    "--runtime=3",
];

/// Arguments of fio that fill a disk behind the part that a verdict checks, so that no read finds a part that was never
/// written.
const FILL: [&str; 6] = [
    OFFSET,
    "--ioengine=libaio",
    "--direct=1",
    "--rw=write",
    "--bs=512k",
    "--iodepth=4",
];

/// The load while a disk is moved: a constant rate of writes all over the disk.
const STEADY: [&str; 8] = [
    OFFSET,
    "--ioengine=libaio",
    "--direct=1",
    "--rw=randwrite",
    "--bs=4k",
    "--iodepth=4",
    "--rate_iops=200",
    "--runtime=3",
];

/// The file that both sides of a migration have as a disk's content.
const SHARED: &str = "/tmp/moved-disk";

/// The name of a disk in results, by its PCI identity.
fn disk_name(pci: &str) -> &str {
    match pci {
        "1af4:10f0" => "ferry_nvme",
        "1b36:0010" => "nvme",
        "1af4:1001" | "1af4:1042" => "virtio-blk",
        other => other,
    }
}

fn outcome(name: &str, began: Instant, result: Result<()>) {
    let outcome = match result {
        Ok(()) => Outcome::Passed,
        Err(error) => {
            let mut why = format!("{error:#}");
            for (name, log) in vm_directory::logs() {
                why.push_str(&format!("\n{name}:\n{log}"));
            }
            Outcome::Failed(why)
        }
    };
    report::say(What::Ended {
        name: name.to_owned(),
        outcome,
        seconds: began.elapsed().as_secs_f64(),
    });
}

/// Measures a disk of the type `device`, if given, beside disks that QEMU emulates.
pub fn speed(tracer: &Tracer, device: Option<&str>, rounds: usize) {
    let result = measure_speed(tracer, device, rounds);
    outcome("speed", Instant::now(), result);
}

fn measure_speed(tracer: &Tracer, device: Option<&str>, rounds: usize) -> Result<()> {
    let recipes: Vec<_> = device.map(Recipe::new).into_iter().collect();
    let emulated = [
        emulated::fast_nvme(MEASURED_QEMU)?,
        emulated::fast_virtio_blk(MEASURED_QEMU)?,
    ];
    let running = boot(tracer, &recipes, emulated)?;
    for disk in &running.guest.found().disks {
        let file = format!("--filename=/dev/{}", disk.name);
        let fill: Vec<&str> = [&*file].into_iter().chain(FILL).collect();
        running.guest.measure(&running.vm.link, "fill", &fill)?;
    }
    measure_workloads(&running, &COMMON, &WORKLOADS, rounds)
}

/// Measures a disk of the type `device`, if given, beside disks that QEMU emulates, each on a slow disk of the host.
pub fn speed_on_slow_disk(tracer: &Tracer, device: Option<&str>, rounds: usize) {
    let result = measure_speed_on_slow_disk(tracer, device, rounds);
    outcome("speed on a slow disk", Instant::now(), result);
}

fn measure_speed_on_slow_disk(tracer: &Tracer, device: Option<&str>, rounds: usize) -> Result<()> {
    let [ours, nvme, virtio] = SLOW_DISKS;
    let recipes: Vec<_> = device.map(|it| directly_on(it, ours)).into_iter().collect();
    let emulated = [
        emulated::fast_nvme_on(MEASURED_QEMU, nvme),
        emulated::fast_virtio_blk_on(MEASURED_QEMU, virtio),
    ];
    let running = boot(tracer, &recipes, emulated)?;
    measure_workloads(&running, &SLOW_COMMON, &SLOW_WORKLOADS, rounds)
}

/// A disk of the type `device` whose content is in a file or on a disk of the host.
fn on_file(device: &str, path: &str) -> Recipe {
    Recipe::new(device)
        .with("nvme/store", "file")
        .with("nvme/file", path)
}

/// As [`on_file`], without the host's page cache.
fn directly_on(device: &str, path: &str) -> Recipe {
    on_file(device, path).with("nvme/cache", "none")
}

/// Boots a guest with disks made like this and others that QEMU emulates.
fn boot(tracer: &Tracer, recipes: &[Recipe], emulated: [Hardware; 2]) -> Result<Running> {
    let hardware = Hardware {
        qemu: MEASURED_QEMU,
        machine: MEASURED_QEMU,
        devices: recipes
            .iter()
            .map(Assigned::create)
            .collect::<Result<_>>()?,
        arguments: emulated.into_iter().flat_map(|it| it.arguments).collect(),
        ..Hardware::default()
    };
    Running::boot(tracer, hardware)
}

/// Runs the same workload of fio on all disks of a guest, one after the other, and reports the speeds. Each round begins
/// with another disk.
fn measure_workloads(
    running: &Running,
    common: &[&str],
    workloads: &[(&str, &[&str])],
    rounds: usize,
) -> Result<()> {
    let mut disks = running.guest.found().disks;
    for round in 0..rounds {
        for (number, (workload, its)) in workloads.iter().enumerate() {
            // All disks get the same blocks. Each round gets other blocks, for a cache may have the
            // former ones.
            let seed = format!("--randseed={}", round * workloads.len() + number + 1);
            for disk in &disks {
                let name = disk_name(&disk.pci);
                doing(format!("round {}: {name}: {workload}", round + 1));
                let file = format!("--filename=/dev/{}", disk.name);
                let arguments = [&[&*file, &*seed], common, its].concat();
                let load = running
                    .guest
                    .measure(&running.vm.link, "measure", &arguments)?;
                ensure!(load.good(), "{name}: {workload}: {load:?}");
                let io = if load.read.operations > 0 {
                    load.read
                } else {
                    load.written
                };
                report::say(What::Speed(Speed {
                    disk: name.to_owned(),
                    workload: (*workload).to_owned(),
                    round,
                    per_second: io.per_second,
                    bytes_per_second: io.bytes_per_second,
                    latency_us: io.latency_ns / 1e3,
                }));
            }
        }
        disks.rotate_left(1);
    }
    Ok(())
}

/// Measures the cost of moving a guest with a disk of `capacity` bytes. A disk that is not QEMU's has the type `device`.
pub fn cost(tracer: &Tracer, device: &str, disk: MovedDisk, capacity: u64, round: usize) {
    let name = format!(
        "round {}: migration with {} of {} MiB",
        round + 1,
        disk.name(),
        capacity >> 20
    );
    let began = Instant::now();
    let result = measure_cost(tracer, device, disk, capacity, round);
    outcome(&name, began, result);
}

/// A guest's hardware with such a disk.
fn moved(device: &str, disk: MovedDisk, capacity: u64) -> Result<Hardware> {
    let recipe = match disk {
        MovedDisk::Ram => Recipe::new(device).with("nvme/capacity", capacity),
        MovedDisk::File => {
            let file = File::create(SHARED).context("creating a disk's file")?;
            file.set_len(capacity).context("creating a disk's file")?;
            on_file(device, SHARED)
        }
        MovedDisk::Emulated | MovedDisk::Mirrored => {
            ensure!(
                capacity == emulated::SIZE,
                "QEMU's own disk has {} bytes, not {capacity}",
                emulated::SIZE
            );
            return match disk {
                MovedDisk::Mirrored => mirror::hardware(),
                _ => emulated::nvme(MEASURED_QEMU),
            };
        }
    };
    Ok(Hardware {
        qemu: MEASURED_QEMU,
        machine: MEASURED_QEMU,
        devices: vec![Assigned::create(&recipe)?],
        ..Hardware::default()
    })
}

fn measure_cost(
    tracer: &Tracer,
    device: &str,
    disk: MovedDisk,
    capacity: u64,
    round: usize,
) -> Result<()> {
    let mut from = Running::boot(tracer, moved(device, disk, capacity)?)?;
    let found = from.guest.found().disks;
    let found = found.first().context("the guest found no disk")?;
    let file = format!("--filename=/dev/{}", found.name);
    doing(format!("filling {} MiB", capacity >> 20));
    let mut fill = vec![&*file];
    fill.extend(FILL);
    from.guest.measure(&from.vm.link, "fill", &fill)?;
    let mut steady = vec![&*file, "--time_based"];
    steady.extend(STEADY);
    from.guest.load(&from.vm.link, "steady", &steady)?;
    from.wait_alive("before the migration")?;
    let (to, migrated) = if disk == MovedDisk::Mirrored {
        let (mut to, uri) = mirror::destination(&mut from)?;
        let migrated = mirror::migrate(&mut from, &mut to, &uri)?;
        (to, migrated)
    } else {
        let (mut to, uri) = from.destination(from.twins()?)?;
        let migrated = from.migrate(&mut to, &uri)?;
        (to, migrated)
    };
    // Early tracepoints of a long pre-copy may be lost, but not those of its end.
    let (mut state, mut last) = (0, 0);
    if let Some(moved) = from.hardware.devices.first() {
        state = moved.statistic("saved_bytes")?;
        last = tracer.sum(|trace| match trace {
            Trace::Chunk {
                device,
                state,
                size,
                ..
            } if device == moved.name() && state == "STOP_COPY" => *size,
            _ => 0,
        });
    }
    report::say(What::Cost(Cost {
        disk: disk.name().to_owned(),
        round,
        capacity,
        precopy_bytes: state.saturating_sub(last),
        stop_copy_bytes: last,
        stopped_bytes: migrated.downtime_bytes,
        sent_bytes: migrated.ram_bytes,
        downtime_ms: migrated.downtime_ms,
        total_ms: migrated.total_ms,
        downtime_limit_ms: 0,
    }));
    to.verdict()
}
