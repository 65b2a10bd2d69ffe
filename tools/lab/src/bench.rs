// SPDX-License-Identifier: GPL-2.0

//! `lab bench`: a Ferry disk beside disks that QEMU emulates, and what it costs to move each, and to move a network card;
//! and the migration engine, without a virtual machine.
//!
//! One run on one machine measures everything several times. The tables have medians with their spread, and ratios: on
//! emulated processors the numbers themselves mean nothing.

mod earlier;
mod engine;
mod figures;
mod instructions;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use lab_host::device;
use lab_host::event::Cost;
use lab_host::event::Outcome;
use lab_host::event::Speed;
use lab_host::event::What;
use lab_host::job::CardLoad;
use lab_host::job::MovedDisk;
use lab_host::job::Stage;
use lab_host::job::MEASURED_QEMU;

use self::figures::bytes;
use self::figures::distinct;
use self::figures::line;
use self::figures::ratios;
use self::figures::trim_lines;
use self::figures::Figures;
use crate::components::Components;
use crate::interrupt;
use crate::machine::Accelerator;
use crate::machine::Machine;
use crate::machine::Plan;
use crate::matrix::DISK;
use crate::prepare;
use crate::progress::Progress;
use crate::units::size;
use crate::workplace::Workplace;

/// The time after which a host VM is ended.
const LIMIT: Duration = Duration::from_secs(3600);

/// The disks that are moved, and their capacities in bytes: Ferry's beside QEMU's own, and Ferry's with more content.
const MOVED: [(MovedDisk, u64); 5] = [
    (MovedDisk::Ram, 64 << 20),
    (MovedDisk::File, 64 << 20),
    (MovedDisk::Emulated, 64 << 20),
    (MovedDisk::Ram, 256 << 20),
    (MovedDisk::Ram, 1 << 30),
];

/// Memory in MiB of guests with a network card, and datagrams per second in each direction. An emulated host VM cannot
/// send many more.
const MEMORY_MIB: [u64; 2] = [256, 1024];
const DATAGRAMS_PER_SECOND: [u64; 3] = [0, 50, 100];

/// The disk that the others are compared with.
const OURS: &str = device::DISK_DRIVER;

/// A workload with blocks of at least this many bytes is compared by its throughput, any other by its IOPS.
const LARGE_BLOCK: f64 = 65536.0;

#[derive(clap::Args)]
pub struct Options {
    /// The type of the mediated device: ferry_nvme-512 or -4096
    #[arg(long, value_name = "TYPE", default_value = DISK)]
    device: String,

    /// Measure only the speed, only that on a slow disk, only the cost of a migration with a disk or with a network card,
    /// only the migration engine, on this machine itself, or only the instructions for a command of the disk
    #[arg(long, value_name = "WHAT", value_parser = ["speed", "slow-disk", "cost", "card", "engine", "instructions"])]
    only: Option<String>,

    /// How many times everything is measured
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = rounds)]
    rounds: usize,

    /// Print the results as one JSON value instead of tables
    #[arg(long)]
    json: bool,
}

fn rounds(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("a number from 1 on".to_owned()),
    }
}

#[derive(Default)]
struct Results {
    speeds: Vec<Speed>,
    /// The same with the content on a slow disk of the host.
    slow_speeds: Vec<Speed>,
    costs: Vec<Cost>,
    card_costs: Vec<Cost>,
    engine: Vec<engine::Passage>,
    instructions: Vec<instructions::Row>,
    troubles: Vec<String>,
}

impl Results {
    fn add(&mut self, other: Self) {
        self.speeds.extend(other.speeds);
        self.slow_speeds.extend(other.slow_speeds);
        self.costs.extend(other.costs);
        self.card_costs.extend(other.card_costs);
        self.engine.extend(other.engine);
        self.instructions.extend(other.instructions);
        self.troubles.extend(other.troubles);
    }
}

/// Runs `stages` in a host VM and adds their results.
fn measure(
    components: &Components,
    options: &Options,
    accelerator: Accelerator,
    stages: Vec<Stage>,
    progress: &Progress,
    results: &mut Results,
) -> Result<()> {
    let on_slow_disk = |stage: &Stage| matches!(stage, Stage::SpeedOnSlowDisk { .. });
    let slow = stages.iter().any(on_slow_disk);
    let of_card = |stage: &Stage| matches!(stage, Stage::CardCost { .. });
    let card = stages.iter().any(of_card);
    let unfollowed =
        |stage: &Stage| matches!(stage, Stage::CardCost { load, .. } if !load.followed);
    let parameters = if stages.iter().any(unfollowed) {
        "dirty_tracking=0"
    } else {
        ""
    };
    let plan = Plan {
        stages,
        driver: true,
        nested: true,
        functions: card,
        variant_parameters: parameters.to_owned(),
        device: Some(options.device.clone()),
        limit: LIMIT,
        ..Plan::default()
    };
    Machine::start(components, &plan, accelerator)?.run(|event| {
        match &event.what {
            What::Doing { text } => progress.doing(text),
            What::Speed(speed) if slow => results.slow_speeds.push(speed.clone()),
            What::Speed(speed) => results.speeds.push(speed.clone()),
            What::Cost(cost) if card => results.card_costs.push(cost.clone()),
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

/// The throughput or the IOPS of one workload.
fn figures(speeds: &[&Speed]) -> Figures {
    let large = |speed: &&Speed| speed.bytes_per_second >= speed.per_second * LARGE_BLOCK;
    if speeds.iter().any(large) {
        Figures {
            values: speeds.iter().map(|speed| speed.bytes_per_second).collect(),
            write: |value| format!("{}/s", bytes(value)),
        }
    } else {
        Figures {
            values: speeds.iter().map(|speed| speed.per_second).collect(),
            write: |value| format!("{value:.0} IOPS"),
        }
    }
}

/// The speeds, a paragraph for each workload.
fn speed_table(speeds: &[Speed]) -> String {
    let mut text = format!(
        "{:30}{:>12}   {:26}{OURS} to it, and spread",
        "", "median", "spread"
    );
    let mut disks = distinct(speeds.iter().map(|speed| &*speed.disk));
    disks.sort_by_key(|disk| *disk != OURS);
    for workload in distinct(speeds.iter().map(|speed| &*speed.workload)) {
        text.push_str(&format!("\n{workload}"));
        let of = |disk: &str| {
            let its = |speed: &&Speed| speed.disk == disk && speed.workload == workload;
            figures(&speeds.iter().filter(its).collect::<Vec<_>>())
        };
        for disk in &disks {
            let figures = of(disk);
            text.push_str(&format!("\n{}", line(disk, &figures)));
            if *disk != OURS {
                let (median, spread) = ratios(&of(OURS), &figures).columns();
                text.push_str(&format!("{median}   {spread}"));
            }
        }
    }
    trim_lines(&text)
}

/// A figure of a migration.
struct CostRow {
    name: &'static str,
    value: fn(&Cost) -> u64,
    write: fn(f64) -> String,
}

const COST_ROWS: [CostRow; 6] = [
    CostRow {
        name: "state while it ran",
        value: |cost| cost.precopy_bytes,
        write: bytes,
    },
    CostRow {
        name: "state while it stood still",
        value: |cost| cost.stop_copy_bytes,
        write: bytes,
    },
    CostRow {
        name: "sent while it stood still",
        value: |cost| cost.stopped_bytes,
        write: bytes,
    },
    CostRow {
        name: "all that QEMU sent",
        value: |cost| cost.sent_bytes,
        write: bytes,
    },
    CostRow {
        name: "downtime",
        value: |cost| cost.downtime_ms,
        write: |value| format!("{value:.0} ms"),
    },
    CostRow {
        name: "whole migration",
        value: |cost| cost.total_ms,
        write: |value| format!("{:.1} s", value / 1000.0),
    },
];

/// The costs, a paragraph for each disk.
fn cost_table(costs: &[Cost]) -> String {
    let mut text = format!("{:30}{:>12}   spread", "", "median");
    for (disk, capacity) in distinct(costs.iter().map(|cost| (&*cost.disk, cost.capacity))) {
        text.push_str(&format!("\n{disk}, {}", size(capacity)));
        let its = |cost: &&Cost| cost.disk == disk && cost.capacity == capacity;
        let its: Vec<_> = costs.iter().filter(its).collect();
        for row in COST_ROWS {
            let figures = Figures {
                values: its.iter().map(|cost| (row.value)(cost) as f64).collect(),
                write: row.write,
            };
            // QEMU does not report the size of its own devices' state.
            if figures.values.iter().any(|value| *value > 0.0) {
                text.push_str(&format!("\n{}", line(row.name, &figures)));
            }
        }
    }
    trim_lines(&text)
}

/// The measurements of a guest with a network card, without or with its DMA followed, which is for a whole VM.
fn card_stages(memory_mib: u64, followed: bool, round: usize) -> Vec<Stage> {
    DATAGRAMS_PER_SECOND
        .map(|datagrams_per_second| Stage::CardCost {
            load: CardLoad {
                followed,
                datagrams_per_second,
                memory_mib,
            },
            round,
        })
        .to_vec()
}

/// Measures each of `runs` in a host VM of its own. Returns what the VMs ran with.
fn measure_in_vms(
    workplace: &Workplace,
    options: &Options,
    runs: Vec<Vec<Stage>>,
    progress: &Progress,
    results: &mut Results,
) -> Result<Accelerator> {
    let components = &prepare::components(workplace, &runs.concat(), false)?;
    let accelerator = Accelerator::probe(components, components.kernel(false)?)?;
    progress.doing(&format!("starting host VMs ({})", accelerator.name()));
    for stages in runs {
        let mut again = matches!(accelerator, Accelerator::Tcg);
        loop {
            let mut these = Results::default();
            let ran = measure(
                components,
                options,
                accelerator,
                stages.clone(),
                progress,
                &mut these,
            );
            // Emulated nested virtualisation breaks down once in a while. Numbers of two VMs are not
            // comparable, so those of the first VM are dropped.
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
    Ok(accelerator)
}

/// Measures and prints the tables. The exit status is 1 when something could not be measured.
pub fn run(workplace: &Workplace, options: &Options) -> Result<ExitCode> {
    let wanted = |what: &str| options.only.as_ref().is_none_or(|only| only == what);
    let mut results = Results::default();
    let mut runs = Vec::new();
    if wanted("speed") {
        runs.push(vec![Stage::Speed {
            rounds: options.rounds,
        }]);
    }
    if wanted("slow-disk") {
        runs.push(vec![Stage::SpeedOnSlowDisk {
            rounds: options.rounds,
        }]);
    }
    if wanted("cost") {
        // Each round has a host VM of its own, so that an emulated VM that breaks down costs one round.
        for round in 0..options.rounds {
            let stage = |(disk, capacity)| Stage::Cost {
                disk,
                capacity,
                round,
            };
            runs.push(MOVED.map(stage).to_vec());
        }
    }
    if wanted("card") {
        for round in 0..options.rounds {
            for memory_mib in MEMORY_MIB {
                runs.extend([false, true].map(|followed| card_stages(memory_mib, followed, round)));
            }
        }
    }
    let progress = Progress::new()?;
    if wanted("engine") {
        // The rest is measured, too, where the commit that the engine is compared with is missing.
        match engine::measure(workplace, options.rounds, &progress) {
            Ok(passages) => results.engine = passages,
            Err(error) => results.troubles.push(format!("engine: {error:#}")),
        }
        interrupt::check()?;
    }
    if wanted("instructions") {
        let measured = instructions::measure(
            workplace,
            &options.device,
            options.rounds,
            &progress,
            &mut results.troubles,
        );
        match measured {
            Ok(rows) => results.instructions = rows,
            Err(error) => results.troubles.push(format!("instructions: {error:#}")),
        }
        interrupt::check()?;
    }
    let accelerator = if runs.is_empty() {
        None
    } else {
        Some(measure_in_vms(
            workplace,
            options,
            runs,
            &progress,
            &mut results,
        )?)
    };
    progress.finish();
    if options.json {
        let value = serde_json::json!({
            "accelerator": accelerator.map(|accelerator| accelerator.name()),
            "device": options.device,
            "qemu": MEASURED_QEMU,
            "rounds": options.rounds,
            "speed": results.speeds,
            "speed_on_slow_disk": results.slow_speeds,
            "cost": results.costs,
            "card_cost": results.card_costs,
            "engine": results.engine,
            "instructions": results.instructions,
            "troubles": results.troubles,
        });
        println!("{value}");
    } else {
        if !results.engine.is_empty() {
            println!("{}", engine::describe(options.rounds));
            println!("{}\n", engine::table(&results.engine));
        }
        if !results.instructions.is_empty() {
            println!("{}", instructions::describe(options.rounds));
            println!("{}\n", instructions::table(&results.instructions));
            println!("{}\n", instructions::verdict(&results.instructions));
        }
        if let Some(accelerator) = accelerator {
            println!(
                "Host VM with {}; {}; guests in QEMU {}; {} rounds\n",
                accelerator.name(),
                options.device,
                MEASURED_QEMU.version(),
                options.rounds
            );
        }
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
            println!(
                "Moving a guest whose disk was written in full and gets the same writes meanwhile:\n"
            );
            println!("{}\n", cost_table(&results.costs));
        }
        if wanted("card") {
            println!("Moving a guest with a network card, by the guest's memory:\n");
            println!("{}", cost_table(&results.card_costs));
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

    fn speed(disk: &str, workload: &str, round: usize, per_second: f64, block: f64) -> Speed {
        Speed {
            disk: disk.to_owned(),
            workload: workload.to_owned(),
            round,
            per_second,
            bytes_per_second: per_second * block,
            latency_us: 0.0,
        }
    }

    fn words(table: &str) -> Vec<String> {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        table.lines().skip(1).map(words).collect()
    }

    #[test]
    fn ratios_are_those_of_operations_or_of_bytes() {
        let table = speed_table(&[
            speed("ferry_nvme", "small", 0, 300.0, 4096.0),
            speed("nvme", "small", 0, 200.0, 4096.0),
            speed("ferry_nvme", "large", 0, 80.0, 131072.0),
            speed("nvme", "large", 0, 40.0, 131072.0),
        ]);
        let expected = [
            "small",
            "ferry_nvme 300 IOPS",
            "nvme 200 IOPS 1.50",
            "large",
            "ferry_nvme 10.0 MiB/s",
            "nvme 5.0 MiB/s 2.00",
        ];
        assert_eq!(words(&table), expected);
    }

    #[test]
    fn one_lucky_round_moves_the_spread_and_not_the_median() {
        let rounds = [100.0, 900.0, 110.0];
        let mut speeds = Vec::new();
        for (round, value) in rounds.into_iter().enumerate() {
            speeds.push(speed("nvme", "small", round, 100.0, 4096.0));
            speeds.push(speed("ferry_nvme", "small", round, value, 4096.0));
        }
        let expected = [
            "small",
            "ferry_nvme 110 IOPS 100 IOPS to 900 IOPS",
            "nvme 100 IOPS 100 IOPS to 100 IOPS 1.10 1.00 to 9.00",
        ];
        assert_eq!(words(&speed_table(&speeds)), expected);
    }

    #[test]
    fn of_two_rounds_the_median_is_between_them() {
        let cost = |round, downtime_ms| Cost {
            disk: "nvme".to_owned(),
            round,
            capacity: 1 << 20,
            downtime_ms,
            ..Cost::default()
        };
        let expected = ["nvme, 1.0 MiB", "downtime 15 ms 10 ms to 20 ms"];
        assert_eq!(words(&cost_table(&[cost(0, 20), cost(1, 10)])), expected);
    }
}
