// SPDX-License-Identifier: GPL-2.0

//! The instructions that the host's kernel executes for a command of the disk, beside those of an earlier commit.
//!
//! The host VM has one processor whose clock counts instructions. Its first process is the disk's only user, see
//! `measure/instructions.rs` of `tools/lab-host`: this tree's for the modules of both.

use std::path::PathBuf;

use anyhow::bail;
use anyhow::Result;
use lab_host::event::Instructions;
use lab_host::event::Outcome;
use lab_host::event::What;
use lab_host::job::Stage;
use serde::Serialize;

use super::earlier;
use super::earlier::COMMIT;
use super::earlier::EARLIER;
use super::earlier::OURS;
use super::figures::distinct;
use super::figures::line;
use super::figures::ratios;
use super::figures::trim_lines;
use super::figures::Figures;
use super::LIMIT;
use crate::components::Components;
use crate::interrupt;
use crate::kernel_build::KernelBuild;
use crate::kernel_build::SOURCES;
use crate::machine::Accelerator;
use crate::machine::Machine;
use crate::machine::Plan;
use crate::prepare;
use crate::progress::Progress;
use crate::stage;
use crate::workplace::Workplace;

/// The directory below `build` for the modules of the earlier commit.
const DIRECTORY: &str = "d3fbec3";

/// The largest ratio to the earlier commit that a small command should have, and the bytes of a small command.
const TARGET: f64 = 0.5;
const SMALL: u64 = 4096;

/// The instructions for commands of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Whose modules.
    pub modules: &'static str,
    #[serde(flatten)]
    pub instructions: Instructions,
}

/// Builds the modules of the earlier commit for the same kernel.
fn build_earlier(workplace: &Workplace, components: &Components) -> Result<PathBuf> {
    let Workplace {
        source,
        cache,
        console,
        ..
    } = workplace;
    let build = KernelBuild {
        directory: Some(DIRECTORY.to_owned()),
        has_sources: true,
        arguments: vec!["modules".to_owned()],
        ..KernelBuild::default()
    };
    let directory = build.output(source);
    earlier::export(source.root(), COMMIT, &SOURCES, &directory)?;
    let commands = build.commands(source, cache, console, &components.set_up)?;
    let name = format!("modules of {EARLIER}");
    let result = stage::run(
        source,
        console,
        &name,
        commands.commands,
        Some(&commands.lock),
    )?;
    if result.failed > 0 {
        bail!("{name} could not be built, see above");
    }
    Ok(directory)
}

/// Measures the modules of this tree and of the earlier commit, each in a host VM of its own in each round.
pub fn measure(
    workplace: &Workplace,
    device: &str,
    rounds: usize,
    progress: &Progress,
    troubles: &mut Vec<String>,
) -> Result<Vec<Row>> {
    earlier::check_commit(workplace.source.root(), COMMIT)?;
    let ours = prepare::components(workplace, &[], false)?;
    let earlier = Components {
        modules: build_earlier(workplace, &ours)?,
        ..ours.clone()
    };
    let mut rows = Vec::new();
    let mut both = [(OURS, ours), (EARLIER, earlier)];
    for round in 0..rounds {
        for (modules, components) in &both {
            let about = format!("round {}: modules of {modules}", round + 1);
            progress.doing(&about);
            let plan = Plan {
                stages: vec![Stage::Instructions { round }],
                driver: true,
                device: Some(device.to_owned()),
                limit: LIMIT,
                ..Plan::default()
            };
            let mut machine = Machine::start(components, &plan, Accelerator::Counted)?;
            machine.run(|event| {
                match &event.what {
                    What::Doing { text } => progress.doing(&format!("{about}: {text}")),
                    What::Instructions(instructions) => rows.push(Row {
                        modules,
                        instructions: instructions.clone(),
                    }),
                    What::Ended {
                        outcome: Outcome::Failed(why),
                        ..
                    } => troubles.push(format!("{about}: {why}")),
                    What::Splat { text } => {
                        troubles.push(format!("{about}: the kernel reported:\n{text}"));
                    }
                    _ => {}
                }
                Ok(())
            })?;
            interrupt::check()?;
        }
        both.rotate_left(1);
    }
    Ok(rows)
}

/// The rows of some modules and some commands, in round order.
fn select<'a>(rows: &'a [Row], modules: &str, like: &Instructions) -> Vec<&'a Row> {
    let mut its: Vec<_> = rows
        .iter()
        .filter(|row| row.modules == modules && row.instructions.is_like(like))
        .collect();
    its.sort_by_key(|row| row.instructions.round);
    its
}

/// The instructions of the kernel for a command.
fn per_command(rows: &[&Row]) -> Figures {
    Figures {
        values: rows
            .iter()
            .map(|row| row.instructions.of_kernel())
            .collect(),
        write: |value| format!("{value:.0}"),
    }
}

fn exits(rows: &[&Row]) -> String {
    let figures = Figures {
        values: rows
            .iter()
            .map(|row| row.instructions.exits as f64 / row.instructions.commands as f64)
            .collect(),
        write: |value| format!("{value:.2}"),
    };
    figures.columns().0
}

/// The kinds of commands, in the order of their first appearance.
fn kinds(rows: &[Row]) -> Vec<Instructions> {
    rows.iter().fold(Vec::new(), |mut kinds, row| {
        if !kinds.iter().any(|it| row.instructions.is_like(it)) {
            kinds.push(row.instructions.clone());
        }
        kinds
    })
}

/// What the table is of.
pub fn describe(rounds: usize) -> String {
    format!(
        "Instructions of the host's kernel for a command, store ram, on one processor; {rounds} rounds:\n"
    )
}

/// The instructions and exits, a paragraph for each kind of doorbells.
pub fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:30}{:>12}   {:28}{:>8}   {:20}doorbell exits, {EARLIER}",
        "", "median", "spread", EARLIER, "ratio, and spread"
    );
    let kinds = kinds(rows);
    for shadows in distinct(kinds.iter().map(|kind| kind.shadow_doorbells)) {
        text.push_str(if shadows {
            "\nshadow doorbells"
        } else {
            "\ndoorbells in registers"
        });
        for kind in kinds.iter().filter(|it| it.shadow_doorbells == shadows) {
            let ours = select(rows, OURS, kind);
            let earlier = select(rows, EARLIER, kind);
            let (figures, other) = (per_command(&ours), per_command(&earlier));
            let (ratio, spread) = ratios(&figures, &other).columns();
            let ratio = format!("{ratio}   {spread}");
            text.push_str(&format!(
                "\n{}{:>8}   {ratio:20}{:>5}{:>10}",
                line(&kind.workload(), &figures),
                other.columns().0,
                exits(&ours),
                exits(&earlier),
            ));
        }
    }
    trim_lines(&text)
}

/// Whether the small commands have reached the target, and what to do if not.
pub fn verdict(rows: &[Row]) -> String {
    let kinds = kinds(rows);
    let small: Vec<_> = kinds.iter().filter(|kind| kind.size == SMALL).collect();
    let missed: Vec<_> = small
        .iter()
        .filter(|kind| {
            let ours = per_command(&select(rows, OURS, kind));
            let ratio = ratios(&ours, &per_command(&select(rows, EARLIER, kind))).median();
            // Nothing to compare with is a miss, too.
            ratio.is_nan() || ratio > TARGET
        })
        .map(|kind| {
            let doorbells = if kind.shadow_doorbells {
                "shadow doorbells"
            } else {
                "registers"
            };
            format!("{} ({doorbells})", kind.workload())
        })
        .collect();
    let target = format!("Target for 4 KiB: at most {TARGET:.2} of {EARLIER}.");
    if missed.is_empty() {
        format!("{target} Reached in all {} rows.", small.len())
    } else {
        format!(
            "{target} Missed in {} of {} rows:\n  {}\nDocumentation/ferry_nvme.rst, \"Instructions for a command\", says \
             where they go.",
            missed.len(),
            small.len(),
            missed.join("\n  ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(modules: &'static str, round: usize, all: u64, exits: u64) -> Row {
        Row {
            modules,
            instructions: Instructions {
                writes: false,
                size: SMALL,
                under_way: 1,
                shadow_doorbells: false,
                round,
                commands: 100,
                all,
                client: 50_000,
                exits,
                looks: 0,
            },
        }
    }

    #[test]
    fn the_ratio_is_that_of_the_kernels_part_in_one_round() {
        let rows = [
            row(OURS, 0, 550_000, 200),
            row(EARLIER, 0, 1_050_000, 200),
            row(EARLIER, 1, 2_050_000, 200),
            row(OURS, 1, 650_000, 100),
            row(OURS, 2, 450_000, 150),
            row(EARLIER, 2, 1_050_000, 200),
        ];
        let table = table(&rows);
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<_> = table.lines().skip(1).map(words).collect();
        assert_eq!(
            lines,
            [
                "doorbells in registers",
                "read 4 KiB, depth 1 5000 4000 to 6000 10000 0.40 0.30 to 0.50 1.50 2.00",
            ]
        );
        assert!(verdict(&rows).contains("Reached in all 1 rows"));
    }

    #[test]
    fn a_row_that_misses_the_target_or_has_no_other_is_named() {
        let rows = [row(OURS, 0, 1_050_000, 1), row(EARLIER, 0, 1_550_000, 1)];
        let verdict = |rows| super::verdict(rows);
        for rows in [&rows[..], &rows[..1]] {
            let text = verdict(rows);
            assert!(
                text.contains("Missed in 1 of 1") && text.contains("read 4 KiB, depth 1"),
                "{text}"
            );
        }
    }
}
