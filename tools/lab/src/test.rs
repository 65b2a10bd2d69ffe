// SPDX-License-Identifier: GPL-2.0

//! `lab test`: every test that needs a virtual machine, and the table of all tests.
//!
//! The table also has the stages, which run before the first virtual machine.

mod emulation;
mod parts;
mod runner;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Instant;

use anyhow::Result;
use lab_host::event::Outcome;
use lab_host::scenario::Scenario;

use self::parts::parts;
use self::parts::Part;
use self::runner::Runner;
use crate::components::Components;
use crate::machine::Accelerator;
use crate::policy;
use crate::prepare::prepare;
use crate::prepare::Needs;
use crate::report::Report;
use crate::workplace::Workplace;

#[derive(clap::Args)]
pub struct Options {
    /// Run on the debug kernel: KUnit, kselftests, one live migration, and a look for leaks
    #[arg(long)]
    debug: bool,

    /// Run only the parts or scenarios whose name has this in it: policy, kunit, kselftest, ...
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,

    /// Skip the virtual machines that would be started later than this many seconds from now
    #[arg(long, value_name = "SECONDS")]
    budget: Option<u64>,

    /// Run virtual machines that have this many processors in all at once, instead of as many as
    /// there are and memory suffices for
    #[arg(long, value_name = "NUMBER")]
    jobs: Option<usize>,

    /// List the parts and scenarios, and stop
    #[arg(long)]
    list: bool,

    /// Copy the virtual machines' logs here
    #[arg(long, value_name = "DIR")]
    keep_logs: Option<PathBuf>,

    /// Print the results as one JSON value instead of a table
    #[arg(long)]
    json: bool,
}

/// What the virtual machines of `parts` and all other tests need.
fn needs(options: &Options, parts: &[Part]) -> Needs {
    let stages: Vec<_> = parts.iter().flat_map(|part| part.stages.clone()).collect();
    Needs {
        debug: options.debug,
        checks: !options.debug,
        ..Needs::of(&stages)
    }
}

/// Runs the tests; the exit status is 1 when one failed.
pub fn run(workplace: &Workplace, options: &Options) -> Result<ExitCode> {
    let parts = parts(options);
    if options.list {
        for part in &parts {
            println!("{}", part.name);
        }
        for scenario in Scenario::ALL {
            println!("{}", scenario.name());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let prepared = prepare(workplace, &needs(options, &parts))?;
    let began = Instant::now();
    let mut report = Report::new(prepared.stages, options.json)?;
    match prepared.components {
        Ok(components) => report = run_in_machines(&components, options, &parts, report, began)?,
        // A stage that failed is in the table, but a failed download is no stage.
        Err(error) => {
            let row = report.begin("set-up");
            let why = Outcome::Failed(format!("{error:#}"));
            report.add(row, "set-up", why, 0.0);
        }
    }
    Ok(if report.print(&prepared.times)? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Checks the source, and runs the VMs of all parts.
fn run_in_machines(
    components: &Components,
    options: &Options,
    parts: &[Part],
    mut report: Report,
    began: Instant,
) -> Result<Report> {
    let policy_wanted = options
        .only
        .as_ref()
        .is_none_or(|only| "policy".contains(only.as_str()));
    if policy_wanted && !options.debug {
        let began = Instant::now();
        let row = report.begin("policy");
        for (name, outcome) in policy::check(components.source.root()) {
            report.add(row, &format!("policy: {name}"), outcome, 0.0);
        }
        report.end(row, began);
    }
    if parts.is_empty() {
        return Ok(report);
    }
    let accelerator = if options.debug {
        // The debug kernel has KVM only for the processor that QEMU emulates.
        Accelerator::Tcg
    } else {
        Accelerator::probe(components, components.kernel(false)?)?
    };
    report.doing(&format!("host VMs run with {}", accelerator.name()));
    let runner = Runner {
        components,
        options,
        accelerator,
        report: Mutex::new(report),
    };
    runner.run(parts, began)?;
    Ok(runner
        .report
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner))
}
