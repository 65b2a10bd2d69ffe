// SPDX-License-Identifier: GPL-2.0

//! Measures the migration engine once, on this machine's own processor, beside copies of as many bytes.
//!
//! `engine-bench MIB` saves and resumes a full disk of `MIB` MiB in memory. Each line of the output has nanoseconds of
//! the save, nanoseconds of the resume, and the name of the way that the content took. `lab bench` runs the program several
//! times, in alternation with one that has the engine of an earlier commit: `engine.rs` is all that differs.

#![forbid(unsafe_code)]

mod engine;
mod measure;
mod pages;

use std::process::ExitCode;

use crate::measure::Times;
use crate::pages::BLOCK_SIZE;

fn main() -> ExitCode {
    let mib = std::env::args().nth(1).and_then(|mib| mib.parse().ok());
    let Some(mib @ 1..=4096) = mib else {
        eprintln!("usage: engine-bench MIB");
        return ExitCode::FAILURE;
    };
    let tell = |name: &str, Times { save, resume }: Times| {
        println!("{} {} {name}", save.as_nanos(), resume.as_nanos());
    };
    match measure::all((mib << 20) / BLOCK_SIZE, tell) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("engine-bench: {why}");
            ExitCode::FAILURE
        }
    }
}
