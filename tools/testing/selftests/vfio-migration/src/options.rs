// SPDX-License-Identifier: GPL-2.0

//! What both test programs can be told, and their end.

use std::io::stdout;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::ktap;
use crate::ktap::Exit;
use crate::ktap::Planned;

/// The options and filters of every test program.
#[derive(clap::Args)]
pub struct Common {
    /// List the tests and stop
    #[arg(long)]
    pub list: bool,

    /// Run all tests of this type of mediated device; may be given repeatedly
    #[arg(long = "type", value_name = "NAME")]
    pub types: Vec<String>,

    /// How long each test may take
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,

    /// Run only tests whose name, TYPE.TEST, contains one of these
    #[arg(value_name = "FILTER")]
    pub filters: Vec<String>,
}

impl Common {
    /// Whether the test of this name is wanted.
    pub fn wants(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|part| name.contains(part))
    }

    /// Runs or lists the tests that were planned.
    ///
    /// # Errors
    ///
    /// There are none, or the report could not be written.
    pub fn run<C: Clone + Send + 'static>(&self, plan: &[Planned<C>]) -> Result<Exit, String> {
        if plan.is_empty() {
            return Err("no test has such a name".into());
        }
        if self.list {
            for test in plan {
                println!("{}", test.name);
            }
            return Ok(Exit::Pass);
        }
        ktap::run(plan, Duration::from_secs(self.timeout), &mut stdout())
            .map_err(|error| format!("standard output: {error}"))
    }
}

/// A test program: `run` is given its options. The exit status is kselftest's, in which clap's own for
/// a wrong option has another meaning.
pub fn main<O: Parser>(run: impl FnOnce(O) -> Result<Exit, String>) -> ExitCode {
    // A failed test's message is in the report; the default hook would put it there twice.
    std::panic::set_hook(Box::new(|_| {}));
    let options = match O::try_parse() {
        Ok(options) => options,
        Err(error) => {
            // Help is asked for, and not an error.
            let status = if error.use_stderr() {
                Exit::Fail
            } else {
                Exit::Pass
            };
            let _ = error.print();
            return ExitCode::from(status as u8);
        }
    };
    match run(options) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(message) => {
            eprintln!("{}: {message}", O::command().get_name());
            ExitCode::from(Exit::Fail as u8)
        }
    }
}
