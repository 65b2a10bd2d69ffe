// SPDX-License-Identifier: GPL-2.0

//! The migration engine on this machine's own processor, beside `memcpy` and beside the engine of an earlier commit.
//!
//! `tools/engine-bench` measures everything once. Here it is built with the engine of this tree, and in a work tree of the
//! commit with that one's, and both programs run in alternation.

use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use serde::Serialize;
use tempfile::TempDir;

use super::earlier::check_commit;
use super::earlier::WorkTree;
use super::earlier::COMMIT;
use super::earlier::EARLIER;
use super::earlier::OURS;
use super::figures::bytes;
use super::figures::distinct;
use super::figures::line;
use super::figures::ratios;
use super::figures::trim_lines;
use super::figures::Figures;
use crate::interrupt;
use crate::job::Job;
use crate::job::Log;
use crate::progress::Progress;
use crate::setup::cargo;
use crate::stage;
use crate::workplace::Workplace;

/// The way that the others are compared with. The names of all copies that no engine makes begin with it.
const MEMCPY: &str = "memcpy";

/// Size of the disk in MiB. A program takes twice as much memory.
const MIB: u64 = 1024;

/// Lines of a log that a failure shows.
const TAIL_LINES: usize = 20;

/// The passage of a disk's content from one device to another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Passage {
    pub engine: &'static str,
    pub round: usize,
    /// The way of the content, or the copies that are compared with it.
    pub way: String,
    pub bytes: u64,
    /// Processor time of the save and of the resume.
    pub save_seconds: f64,
    pub resume_seconds: f64,
}

/// The command that builds the program, and the directory that it is built in.
fn build(target: &Path, more: &[&str]) -> Command {
    let mut build = cargo();
    build
        .args(["build", "--release", "--package", "engine-bench"])
        .args(more)
        .arg("--target-dir")
        .arg(target);
    build
}

fn program(target: &Path) -> PathBuf {
    target.join("release/engine-bench")
}

fn run_stage(workplace: &Workplace, name: &str, command: Command) -> Result<()> {
    let result = stage::run(
        &workplace.source,
        &workplace.console,
        name,
        vec![command],
        None,
    )?;
    if result.failed > 0 {
        bail!("{name} could not be built, see above");
    }
    Ok(())
}

/// Builds the program with the engine of this tree.
fn build_ours(workplace: &Workplace) -> Result<PathBuf> {
    let target = env::var_os("CARGO_TARGET_DIR").filter(|it| !it.is_empty());
    let target = target.map_or_else(|| workplace.source.join("target"), PathBuf::from);
    let mut build = build(&target, &["--locked"]);
    build.current_dir(workplace.source.root());
    run_stage(workplace, "engine of this tree", build)?;
    Ok(program(&target))
}

/// Builds the program with the engine of [`COMMIT`] in `directory`.
fn build_earlier(workplace: &Workplace, directory: &Path) -> Result<PathBuf> {
    let source = &workplace.source;
    let tree = WorkTree::add(source.root(), directory.join(EARLIER), COMMIT)?;
    let package = directory.join("engine-bench");
    let ours = source.join("tools/engine-bench");
    fs::create_dir_all(package.join("src")).context("creating a package")?;
    for file in ["main.rs", "measure.rs", "pages.rs"] {
        copy(
            &ours.join("src").join(file),
            &package.join("src").join(file),
        )?;
    }
    copy(
        &ours.join("d3fbec3/engine.rs"),
        &package.join("src/engine.rs"),
    )?;
    copy(
        &ours.join("d3fbec3/manifest.toml"),
        &package.join("Cargo.toml"),
    )?;
    // The versions that cargo has fetched for this tree already.
    copy(&source.join("Cargo.lock"), &package.join("Cargo.lock"))?;
    let target = directory.join("target");
    let mut build = build(&target, &["--offline"]);
    build.current_dir(&package);
    run_stage(workplace, "engine of d3fbec3", build)?;
    drop(tree);
    Ok(program(&target))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
    Ok(())
}

/// The passages that the program tells of in `output`.
fn passages(engine: &'static str, round: usize, output: &str) -> Option<Vec<Passage>> {
    let passage = |line: &str| {
        let (save, rest) = line.split_once(' ')?;
        let (resume, way) = rest.split_once(' ')?;
        let seconds = |nanoseconds: &str| Some(nanoseconds.parse::<f64>().ok()? / 1e9);
        Some(Passage {
            engine,
            round,
            way: way.to_owned(),
            bytes: MIB << 20,
            save_seconds: seconds(save)?,
            resume_seconds: seconds(resume)?,
        })
    };
    output.lines().map(passage).collect()
}

/// Measures both engines in each round. Each round begins with the other one.
pub fn measure(workplace: &Workplace, rounds: usize, progress: &Progress) -> Result<Vec<Passage>> {
    check_commit(workplace.source.root(), COMMIT)?;
    let build = workplace.source.build();
    fs::create_dir_all(&build).with_context(|| format!("creating {}", build.display()))?;
    let directory = TempDir::with_prefix_in("engine-", &build)
        .with_context(|| format!("creating a directory in {}", build.display()))?;
    let mut programs = [
        (OURS, build_ours(workplace)?),
        (EARLIER, build_earlier(workplace, directory.path())?),
    ];
    let mut all = Vec::new();
    for round in 0..rounds {
        for (engine, program) in &programs {
            progress.doing(&format!("round {}: engine of {engine}", round + 1));
            let log = Log::create(build.join("logs/engine-bench.log"))?;
            let mut command = Command::new(program);
            log.receive(command.arg(MIB.to_string()).stdin(Stdio::null()))?;
            let status = Job::start(&mut command)?.wait(|| ())?;
            match passages(engine, round, &log.text()) {
                Some(passages) if status.success() => all.extend(passages),
                _ => bail!(
                    "the engine of {engine} could not be measured ({status}):\n{}",
                    log.tail(TAIL_LINES)
                ),
            }
        }
        programs.rotate_left(1);
        interrupt::check()?;
    }
    Ok(all)
}

/// What the table is of.
pub fn describe(rounds: usize) -> String {
    format!(
        "The engine on this machine's processor: {MIB} MiB of blocks that are not zeros, {rounds} rounds; bytes per \
         second of processor time:\n"
    )
}

/// One side of a migration.
struct Side {
    name: &'static str,
    seconds: fn(&Passage) -> f64,
}

const SIDES: [Side; 2] = [
    Side {
        name: "save",
        seconds: |passage| passage.save_seconds,
    },
    Side {
        name: "resume",
        seconds: |passage| passage.resume_seconds,
    },
];

/// The passages, a paragraph for each side.
pub fn table(passages: &[Passage]) -> String {
    let mut text = format!(
        "{:30}{:>12}   {:28}{:24}to {EARLIER}, and spread",
        "", "median", "spread", "to memcpy, and spread"
    );
    let ways = distinct(passages.iter().map(|passage| &*passage.way));
    for side in SIDES {
        text.push_str(&format!("\n{}", side.name));
        let of = |engine: &str, way: &str| {
            let mut its: Vec<_> = passages
                .iter()
                .filter(|passage| passage.engine == engine && passage.way == way)
                .collect();
            its.sort_by_key(|passage| passage.round);
            Figures {
                values: its
                    .iter()
                    .map(|passage| passage.bytes as f64 / (side.seconds)(passage))
                    .collect(),
                write: |value| format!("{}/s", bytes(value)),
            }
        };
        for way in &ways {
            for engine in [OURS, EARLIER] {
                let figures = of(engine, way);
                // Both programs copy alike.
                let is_copy = way.starts_with(MEMCPY);
                if figures.values.is_empty() || engine == EARLIER && is_copy {
                    continue;
                }
                let name = match engine {
                    OURS => (*way).to_owned(),
                    _ => format!("{way}, {engine}"),
                };
                text.push_str(&format!("\n{}", line(&name, &figures)));
                let earlier = of(EARLIER, way);
                let others = [
                    (*way != MEMCPY).then(|| of(engine, MEMCPY)),
                    (engine == OURS && !is_copy).then_some(earlier),
                ];
                for other in others.into_iter().flatten() {
                    let ratios = ratios(&figures, &other);
                    if !ratios.values.is_empty() {
                        let (median, spread) = ratios.columns();
                        text.push_str(&format!("{median:>5}   {spread:16}"));
                    }
                }
            }
        }
    }
    trim_lines(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_the_program_is_understood() {
        let seen = passages(OURS, 2, "1500000000 250000000 v1, mapped\n").expect("a line");
        let expected = Passage {
            engine: OURS,
            round: 2,
            way: "v1, mapped".to_owned(),
            bytes: 1 << 30,
            save_seconds: 1.5,
            resume_seconds: 0.25,
        };
        assert_eq!(seen, [expected]);
        for bad in [
            "1",
            "1 2",
            "1 two v2",
            "engine-bench: the content arrived changed",
        ] {
            assert_eq!(passages(OURS, 0, bad), None, "{bad:?}");
        }
    }

    #[test]
    fn ratios_are_those_of_one_round_and_of_one_program() {
        let passage = |engine, round, way: &str, save_seconds| Passage {
            engine,
            round,
            way: way.to_owned(),
            bytes: 1 << 30,
            save_seconds,
            resume_seconds: save_seconds * 2.0,
        };
        // The second round began with the earlier engine.
        let table = table(&[
            passage(OURS, 0, MEMCPY, 0.25),
            passage(OURS, 0, "v2", 0.5),
            passage(EARLIER, 0, MEMCPY, 0.25),
            passage(EARLIER, 0, "v2", 2.0),
            passage(EARLIER, 1, MEMCPY, 0.5),
            passage(EARLIER, 1, "v2", 4.0),
            passage(OURS, 1, MEMCPY, 0.5),
            passage(OURS, 1, "v2", 0.5),
        ]);
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<_> = table.lines().skip(1).map(words).collect();
        assert_eq!(
            lines,
            [
                "save",
                "memcpy 3.0 GiB/s 2.0 GiB/s to 4.0 GiB/s",
                "v2 2.0 GiB/s 2.0 GiB/s to 2.0 GiB/s 0.75 0.50 to 1.00 6.00 4.00 to 8.00",
                "v2, d3fbec3 384.0 MiB/s 256.0 MiB/s to 512.0 MiB/s 0.12 0.12 to 0.12",
                "resume",
                "memcpy 1.5 GiB/s 1.0 GiB/s to 2.0 GiB/s",
                "v2 1.0 GiB/s 1.0 GiB/s to 1.0 GiB/s 0.75 0.50 to 1.00 6.00 4.00 to 8.00",
                "v2, d3fbec3 192.0 MiB/s 128.0 MiB/s to 256.0 MiB/s 0.12 0.12 to 0.12",
            ]
        );
    }
}
