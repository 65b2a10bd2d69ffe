// SPDX-License-Identifier: GPL-2.0

//! `ferry bench`: a Ferry disk beside disks that QEMU emulates, and what it costs to move one.
//!
//! All is measured in one run on one machine, and told as ratios: where processors are emulated the
//! numbers themselves mean nothing.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use ferry_host::device;
use ferry_host::event::Cost;
use ferry_host::event::Outcome;
use ferry_host::event::Speed;
use ferry_host::event::What;
use ferry_host::job::Stage;

use crate::components::Components;
use crate::machine::Accelerator;
use crate::machine::Machine;
use crate::machine::Plan;
use crate::matrix::DISK;
use crate::progress::Progress;
use crate::timeline::size;

/// When a host VM is ended.
const LIMIT: Duration = Duration::from_secs(900);

/// Capacities in bytes of the disks that are moved.
const CAPACITIES: [u64; 3] = [64 << 20, 256 << 20, 1 << 30];

/// The disks in a row of the table; what the others are is said relative to the first.
const DISKS: [&str; 3] = [device::DISK_DRIVER, "nvme", "virtio-blk"];

/// Blocks of at least this many bytes are about throughput, smaller ones about operations.
const LARGE_BLOCK: f64 = 65536.0;

/// Options of `ferry bench`.
#[derive(clap::Args)]
pub struct Options {
    /// The type of the mediated device: ferry_nvme-512 or -4096
    #[arg(long, value_name = "TYPE", default_value = DISK)]
    device: String,

    /// Measure only the speed, only that on a slow disk, or only the cost of a migration
    #[arg(long, value_name = "WHAT", value_parser = ["speed", "slow-disk", "cost"])]
    only: Option<String>,

    /// Print the results as one JSON value instead of tables
    #[arg(long)]
    json: bool,
}

#[derive(Default)]
struct Results {
    speeds: Vec<Speed>,
    /// The same with the content on a slow disk of the host.
    slow_speeds: Vec<Speed>,
    costs: Vec<Cost>,
    troubles: Vec<String>,
}

impl Results {
    fn add(&mut self, other: Self) {
        self.speeds.extend(other.speeds);
        self.slow_speeds.extend(other.slow_speeds);
        self.costs.extend(other.costs);
        self.troubles.extend(other.troubles);
    }
}

/// Runs `stages` in a host VM and adds what comes out.
fn measure(
    components: &Components,
    options: &Options,
    accelerator: Accelerator,
    stages: Vec<Stage>,
    progress: &Progress,
    results: &mut Results,
) -> Result<()> {
    let slow = stages.contains(&Stage::SpeedOnSlowDisk);
    let plan = Plan {
        stages,
        driver: true,
        nested: true,
        device: Some(options.device.clone()),
        limit: LIMIT,
        ..Plan::default()
    };
    Machine::start(components, &plan, accelerator)?.run(|event| {
        match &event.what {
            What::Doing { text } => progress.doing(text),
            What::Speed(speed) if slow => results.slow_speeds.push(speed.clone()),
            What::Speed(speed) => results.speeds.push(speed.clone()),
            What::Cost(cost) => results.costs.push(cost.clone()),
            What::Ended {
                name,
                outcome: Outcome::Failed(why) | Outcome::Skipped(why),
                ..
            } => results.troubles.push(format!("{name}: {why}")),
            What::Splat { text } => results
                .troubles
                .push(format!("the host's kernel reported:\n{text}")),
            _ => {}
        }
        Ok(())
    })
}

/// What counts in a result, and how it is written.
fn figure(speed: &Speed) -> (f64, String) {
    if speed.bytes_per_second >= speed.per_second * LARGE_BLOCK {
        let value = speed.bytes_per_second;
        (value, format!("{}/s", size(value as u64)))
    } else {
        (speed.per_second, format!("{:.0} IOPS", speed.per_second))
    }
}

/// The speeds, a row for each workload.
fn speed_table(speeds: &[Speed]) -> String {
    let mut workloads: Vec<&str> = Vec::new();
    for speed in speeds {
        if !workloads.contains(&&*speed.workload) {
            workloads.push(&speed.workload);
        }
    }
    let mut text = format!("{:30}", "");
    for disk in DISKS {
        text.push_str(&format!("{disk:>14}"));
    }
    for disk in &DISKS[1..] {
        text.push_str(&format!("{:>14}", format!("to {disk}")));
    }
    for workload in workloads {
        let of = |disk: &str| {
            let mut speeds = speeds.iter();
            speeds
                .find(|speed| speed.disk == disk && speed.workload == workload)
                .map(figure)
        };
        let first = of(DISKS[0]).map(|(value, _)| value);
        text.push_str(&format!("\n{workload:30}"));
        for disk in DISKS {
            let figure = of(disk).map_or_else(|| "-".to_owned(), |(_, text)| text);
            text.push_str(&format!("{figure:>14}"));
        }
        for disk in &DISKS[1..] {
            let ratio = match (first, of(disk)) {
                (Some(first), Some((other, _))) if other > 0.0 => format!("{:.2}", first / other),
                _ => "-".to_owned(),
            };
            text.push_str(&format!("{ratio:>14}"));
        }
    }
    text
}

/// The costs, a row for each capacity.
fn cost_table(costs: &[Cost]) -> String {
    let mut text = format!(
        "{:>12}{:>16}{:>16}{:>12}{:>12}",
        "capacity", "pre-copy", "stop-and-copy", "downtime", "total"
    );
    for cost in costs {
        text.push_str(&format!(
            "\n{:>12}{:>16}{:>16}{:>12}{:>12}",
            size(cost.capacity),
            size(cost.precopy_bytes),
            size(cost.stop_copy_bytes),
            format!("{} ms", cost.downtime_ms),
            format!("{:.1} s", cost.total_ms as f64 / 1000.0),
        ));
    }
    text
}

/// Measures. The exit status is 1 when something could not be measured.
pub fn run(components: &Components, options: &Options) -> Result<ExitCode> {
    let progress = Progress::new()?;
    let accelerator = Accelerator::probe(components, components.kernel(false)?)?;
    progress.doing(&format!("starting host VMs ({})", accelerator.name()));
    let wanted = |what: &str| options.only.as_ref().is_none_or(|only| only == what);
    let mut results = Results::default();
    let mut runs = Vec::new();
    if wanted("speed") {
        runs.push(vec![Stage::Speed]);
    }
    if wanted("slow-disk") {
        runs.push(vec![Stage::SpeedOnSlowDisk]);
    }
    if wanted("cost") {
        runs.push(CAPACITIES.map(|capacity| Stage::Cost { capacity }).to_vec());
    }
    for stages in runs {
        let mut again = matches!(accelerator, Accelerator::Tcg);
        loop {
            let mut these = Results::default();
            let ran = measure(
                components,
                options,
                accelerator,
                stages.clone(),
                &progress,
                &mut these,
            );
            // Emulated nested virtualisation breaks down once in a while. Numbers of two VMs are
            // not to be compared, so what was measured until then goes.
            if ran.is_err() && std::mem::take(&mut again) {
                progress.doing("NOTE: the emulated host VM broke down; once more from the start");
                continue;
            }
            if let Err(error) = ran {
                these.troubles.push(format!("{error:#}"));
            }
            results.add(these);
            break;
        }
    }
    progress.finish();
    if options.json {
        let value = serde_json::json!({
            "accelerator": accelerator.name(),
            "device": options.device,
            "speed": results.speeds,
            "speed_on_slow_disk": results.slow_speeds,
            "cost": results.costs,
            "troubles": results.troubles,
        });
        println!("{value}");
    } else {
        println!("Host VM with {}; {}\n", accelerator.name(), options.device);
        if wanted("speed") {
            println!("{}\n", speed_table(&results.speeds));
        }
        if wanted("slow-disk") {
            println!(
                "On a disk of the host that takes 10 ms for each request, for many at a time:\n"
            );
            println!("{}\n", speed_table(&results.slow_speeds));
        }
        if wanted("cost") {
            println!("Moving a disk that was written in full, under the same writes:\n");
            println!("{}", cost_table(&results.costs));
        }
        for trouble in &results.troubles {
            println!("trouble: {trouble}");
        }
    }
    Ok(if results.troubles.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speed(disk: &str, workload: &str, per_second: f64, block: f64) -> Speed {
        Speed {
            disk: disk.to_owned(),
            workload: workload.to_owned(),
            per_second,
            bytes_per_second: per_second * block,
            latency_us: 0.0,
        }
    }

    #[test]
    fn ratios_are_those_of_operations_or_of_bytes() {
        let table = speed_table(&[
            speed("ferry_nvme", "small", 300.0, 4096.0),
            speed("nvme", "small", 200.0, 4096.0),
            speed("ferry_nvme", "large", 80.0, 131072.0),
            speed("nvme", "large", 40.0, 131072.0),
        ]);
        let rows: Vec<Vec<_>> = table
            .lines()
            .skip(1)
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            rows[0],
            ["small", "300", "IOPS", "200", "IOPS", "-", "1.50", "-"]
        );
        assert_eq!(
            rows[1],
            ["large", "10.0", "MiB/s", "5.0", "MiB/s", "-", "2.00", "-"]
        );
    }
}
