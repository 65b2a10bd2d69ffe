// SPDX-License-Identifier: GPL-2.0

//! Tests that report by themselves: kselftest programs, KUnit and kmemleak.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use lab_host::event::Outcome;
use lab_host::event::What;
use lab_host::job::Module;

use crate::kernel;
use crate::kernel::Log;
use crate::ktap::Reader;
use crate::program;
use crate::report;

const KMEMLEAK: &str = "/sys/kernel/debug/kmemleak";

/// Exit status of a kselftest that cannot be run here.
const SKIPPED: i32 = 4;

fn say(suite: &str, name: &str, outcome: Outcome, seconds: f64) {
    report::say(What::Ended {
        name: format!("{suite}: {name}"),
        outcome,
        seconds,
    });
}

/// Runs a kselftest program and reports each of its tests.
pub fn run(program: &str, arguments: &[String]) -> Result<()> {
    const SUITE: &str = "kselftest";
    let mut reader = Reader::default();
    let mut failed = 0;
    let mut last = Instant::now();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let status = program::run_with(program, &arguments, |line| {
        if let Some((name, outcome)) = reader.take(&line) {
            failed += usize::from(matches!(outcome, Outcome::Failed(_)));
            say(SUITE, &name, outcome, last.elapsed().as_secs_f64());
            last = Instant::now();
        }
        report::say(What::Output { text: line });
    })?;
    let complaint = reader.complaint();
    let outcome = match (status, complaint) {
        (SKIPPED, _) => Outcome::Skipped(format!("{program} cannot be run here")),
        (_, Some(complaint)) => Outcome::Failed(format!("exit status {status}: {complaint}")),
        (status, None) if (status == 0) != (failed == 0) => {
            Outcome::Failed(format!("exit status {status} with {failed} failed tests"))
        }
        _ => Outcome::Passed,
    };
    say(SUITE, "the report is whole", outcome, 0.0);
    Ok(())
}

/// Loads the modules with KUnit tests, and reports what the tests have written to `log`.
pub fn run_kunit(modules: &[Module], log: &mut Log) -> Result<()> {
    const SUITE: &str = "kunit";
    let _ = log.take();
    let began = Instant::now();
    for module in modules {
        kernel::load(module)?;
    }
    let mut reader = Reader::default();
    let mut results = 0;
    for line in log.peek() {
        // Lines of suites are not indented, lines of their tests are.
        let is_test = line.starts_with(' ');
        if let Some((name, outcome)) = reader.take(line)
            && is_test
        {
            results += 1;
            say(SUITE, &name, outcome, 0.0);
        }
    }
    let outcome = if results > 0 {
        Outcome::Passed
    } else {
        Outcome::Failed("no test reported to the kernel's log".to_owned())
    };
    say(
        SUITE,
        "the tests ran",
        outcome,
        began.elapsed().as_secs_f64(),
    );
    Ok(())
}

/// Scans for leaked memory twice, because the first scan reports memory that was freed just now.
pub fn run_kmemleak() -> Result<()> {
    const SUITE: &str = "kmemleak";
    const NAME: &str = "nothing is leaked";
    let began = Instant::now();
    if !Path::new(KMEMLEAK).exists() {
        say(
            SUITE,
            NAME,
            Outcome::Skipped("the kernel has no kmemleak".to_owned()),
            0.0,
        );
        return Ok(());
    }
    let mut leaks = String::new();
    for _ in 0..2 {
        fs::write(KMEMLEAK, "scan").context("scanning for leaks")?;
        leaks = fs::read_to_string(KMEMLEAK).context("reading the leaks")?;
    }
    let outcome = match leaks.trim() {
        "" => Outcome::Passed,
        leaks => Outcome::Failed(leaks.to_owned()),
    };
    say(SUITE, NAME, outcome, began.elapsed().as_secs_f64());
    Ok(())
}
