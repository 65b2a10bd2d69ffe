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
mod speed;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
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
use self::figures::trim_lines;
use self::figures::Figures;
use self::speed::Comparison;
use self::speed::COMPARISONS;
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

/// Disks whose content is on one host only, and moves with the guest.
const UNSHARED: [(MovedDisk, u64); 2] =
    [(MovedDisk::Ram, 64 << 20), (MovedDisk::Mirrored, 64 << 20)];

/// Memory in MiB of guests with a network card, and the load in percent of what the link carries.
const MEMORY_MIB: [u64; 2] = [256, 1024];
const PERCENT: [u64; 3] = [0, 50, 100];

/// A card's speed is measured this many times in each round, for a measurement takes seconds and its guest's boot a minute.
const CARD_SPEEDS: usize = 5;

#[derive(clap::Args)]
pub struct Options {
    /// The type of the mediated device: ferry_nvme-512 or -4096
    #[arg(long, value_name = "TYPE", default_value = DISK)]
    device: String,

    /// Measure only the speed in a guest, only that on a slow disk, in a guest or without one (slow-file), only two queues beside
    /// one, only the cost of a migration with a disk, with one
    /// beside a disk that QEMU mirrors, only a network card, or its speed or the cost of its migration, only the migration engine, on this machine itself,
    /// or only the instructions for a command of the disk
    #[arg(long, value_name = "WHAT",
          value_parser = ["speed", "slow-disk", "slow-file", "queues", "cost", "mirror", "card", "card-speed", "card-cost", "engine", "instructions"])]
    only: Option<String>,

    /// Move only guests with a network card that have this much memory
    #[arg(long, value_name = "MIB", value_parser = memory)]
    memory: Option<u64>,

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

fn memory(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(size) if MEMORY_MIB.contains(&size) => Ok(size),
        _ => Err(format!("one of {MEMORY_MIB:?}")),
    }
}

#[derive(Default)]
struct Results {
    speeds: Vec<(&'static Comparison, Speed)>,
    costs: Vec<Cost>,
    /// Of disks whose content moves with the guest.
    unshared_costs: Vec<Cost>,
    card_costs: Vec<Cost>,
    engine: Vec<engine::Passage>,
    instructions: Vec<instructions::Row>,
    troubles: Vec<String>,
}

impl Results {
    fn speeds_of(&self, comparison: &Comparison) -> Vec<&Speed> {
        self.speeds
            .iter()
            .filter(|(of, _)| *of == comparison)
            .map(|(_, speed)| speed)
            .collect()
    }

    fn add(&mut self, other: Self) {
        self.speeds.extend(other.speeds);
        self.costs.extend(other.costs);
        self.unshared_costs.extend(other.unshared_costs);
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
    let of_mirrored = |stage: &Stage| {
        matches!(
            stage,
            Stage::Cost {
                disk: MovedDisk::Mirrored,
                ..
            }
        )
    };
    let unshared = stages.iter().any(of_mirrored);
    let comparison = stages.iter().find_map(Comparison::of);
    let of_card = |stage: &Stage| matches!(stage, Stage::CardCost { .. } | Stage::CardSpeed { .. });
    let card = stages.iter().any(of_card);
    let unfollowed =
        |stage: &Stage| matches!(stage, Stage::CardCost { load, .. } if !load.followed);
    let parameters = if stages.iter().any(unfollowed) {
        "dirty_tracking=0"
    } else {
        ""
    };
    let plan = Plan {
        nested: stages.iter().any(|stage| !stage.qemus().is_empty()),
        stages,
        driver: true,
        functions: card,
        variant_parameters: parameters.to_owned(),
        device: Some(options.device.clone()),
        limit: LIMIT,
        ..Plan::default()
    };
    Machine::start(components, &plan, accelerator)?.run(|event| {
        match &event.what {
            What::Doing { text } => progress.doing(text),
            What::Speed(speed) => {
                results
                    .speeds
                    .extend(comparison.map(|of| (of, speed.clone())));
            }
            What::Cost(cost) if card => results.card_costs.push(cost.clone()),
            What::Cost(cost) if unshared => results.unshared_costs.push(cost.clone()),
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

/// A figure of a migration.
struct CostRow {
    name: &'static str,
    value: fn(&Cost) -> u64,
    write: fn(f64) -> String,
}

const COST_ROWS: [CostRow; 7] = [
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
        name: "downtime limit at the end",
        value: |cost| cost.downtime_limit_ms,
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
    PERCENT
        .map(|percent| Stage::CardCost {
            load: CardLoad {
                followed,
                percent,
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
            // A measurement that was interrupted is not begun again, and what it has is shown.
            if ran.is_err() && !interrupt::has_come() && std::mem::take(&mut again) {
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
    // The whole of a network card has two parts.
    let part_wanted = |part: &str| wanted(part) || part.starts_with("card-") && wanted("card");
    let mut results = Results::default();
    let mut runs = Vec::new();
    let rounds = options.rounds;
    for stage in [
        Stage::Speed { rounds },
        Stage::SpeedOnSlowDisk { rounds },
        Stage::SlowFile { rounds },
        Stage::Queues { rounds },
        Stage::CardSpeed {
            rounds: rounds * CARD_SPEEDS,
        },
    ] {
        if Comparison::of(&stage).is_some_and(|of| part_wanted(of.name)) {
            runs.push(vec![stage]);
        }
    }
    for (what, disks) in [("cost", &MOVED[..]), ("mirror", &UNSHARED[..])] {
        if !wanted(what) {
            continue;
        }
        // Each round has a host VM of its own, so that an emulated VM that breaks down costs one round.
        for round in 0..options.rounds {
            let stage = |&(disk, capacity)| Stage::Cost {
                disk,
                capacity,
                round,
            };
            runs.push(disks.iter().map(stage).collect());
        }
    }
    if part_wanted("card-cost") {
        let sizes = options
            .memory
            .map_or(MEMORY_MIB.to_vec(), |size| vec![size]);
        for round in 0..options.rounds {
            for &memory_mib in &sizes {
                runs.extend([true, false].map(|followed| card_stages(memory_mib, followed, round)));
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
        let mut value = serde_json::json!({
            "accelerator": accelerator.map(|accelerator| accelerator.name()),
            "device": options.device,
            "qemu": MEASURED_QEMU,
            "rounds": options.rounds,
            "cost": results.costs,
            "cost_beside_mirror": results.unshared_costs,
            "card_cost": results.card_costs,
            "engine": results.engine,
            "instructions": results.instructions,
            "troubles": results.troubles,
        });
        for comparison in &COMPARISONS {
            value[comparison.key] = serde_json::json!(results.speeds_of(comparison));
        }
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
                "Host VM with {}; {}; guests, if any, in QEMU {}; {} rounds\n",
                accelerator.name(),
                options.device,
                MEASURED_QEMU.version(),
                options.rounds
            );
        }
        for comparison in COMPARISONS.iter().filter(|it| part_wanted(it.name)) {
            let speeds = results.speeds_of(comparison);
            println!("{}\n", comparison.title);
            println!("{}\n", comparison.table(&speeds));
            let verdict = comparison.verdict(&speeds);
            if !verdict.is_empty() {
                println!("{verdict}");
            }
        }
        if wanted("cost") {
            println!(
                "Moving a guest whose disk was written in full and gets the same writes meanwhile:\n"
            );
            println!("{}\n", cost_table(&results.costs));
        }
        if wanted("mirror") {
            println!(
                "Moving a guest whose disk's content is on one host only, a disk that was written in full and gets the same writes \
                 meanwhile:\n"
            );
            println!("{}\n", cost_table(&results.unshared_costs));
        }
        if part_wanted("card-cost") {
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

    fn words(table: &str) -> Vec<String> {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        table.lines().skip(1).map(words).collect()
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
