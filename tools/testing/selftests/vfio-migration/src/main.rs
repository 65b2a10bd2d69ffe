// SPDX-License-Identifier: GPL-2.0

//! kselftests of the v1 migration region.
//!
//! Every statement of the protocol that a user of a device can see is a test here, under its number;
//! around them are tests of what else a user can do to the device, rightly and wrongly. They run as
//! root on any host with `ferry_uart` and VFIO's type1 container loaded, each on cards of its own
//! that it creates and removes, and need no file but this program.
//!
//! The report is KTAP; the exit status is kselftest's.

#![forbid(unsafe_code)]

mod card;
mod check;
mod ktap;
mod statements;
mod stream;
mod tests;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use vfio_client::mdev::UART_PARENT;

use crate::card::Target;
use crate::ktap::Exit;
use crate::tests::Case;

const USAGE: &str = "\
usage: vfio-migration-selftests [options] [filter...]
  --list                 list the tests and stop
  --statements           list the protocol's statements with their tests and stop
  --type NAME            type of the mediated device (default: ferry_uart-2)
  --sysfs-parent PATH    its parent (default: /sys/class/ferry_uart/ferry_uart)
  --timeout SECONDS      for each test (default: 300)
Only tests whose name contains one of the filters are run.
";

struct Options {
    list: bool,
    statements: bool,
    help: bool,
    hold: Option<(String, u32)>,
    target: Target,
    timeout: Duration,
    filters: Vec<String>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            list: false,
            statements: false,
            help: false,
            hold: None,
            target: Target {
                parent: UART_PARENT.into(),
                type_name: "ferry_uart-2".into(),
            },
            timeout: Duration::from_secs(300),
            filters: Vec::new(),
        };
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .ok_or_else(|| format!("{argument} needs a value"))
            };
            match argument.as_str() {
                "--list" => options.list = true,
                "--statements" => options.statements = true,
                "--help" | "-h" => options.help = true,
                "--type" => options.target.type_name = value()?,
                "--sysfs-parent" => options.target.parent = value()?.into(),
                "--timeout" => {
                    let seconds = value()?;
                    options.timeout = seconds
                        .parse()
                        .map(Duration::from_secs)
                        .map_err(|_| format!("{seconds:?} is not a number of seconds"))?;
                }
                // The test of a killed user starts this program a second time.
                "--hold" => {
                    let uuid = value()?;
                    let state = value()?;
                    let state = state
                        .parse()
                        .map_err(|_| format!("{state:?} is not a state"))?;
                    options.hold = Some((uuid, state));
                }
                other if other.starts_with('-') => return Err(format!("unknown option {other}")),
                filter => options.filters.push(filter.to_string()),
            }
        }
        Ok(options)
    }

    fn wants(&self, test: &Case) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|part| test.name.contains(part))
    }
}

fn run(options: Options) -> Result<Exit, String> {
    if options.help {
        print!("{USAGE}");
        return Ok(Exit::Pass);
    }
    if options.statements {
        statements::print();
        return Ok(Exit::Pass);
    }
    if let Some((uuid, state)) = &options.hold {
        return tests::state::hold(uuid, *state)
            .map(|()| Exit::Pass)
            .map_err(|error| error.to_string());
    }
    let wanted: Vec<&Case> = tests::all().filter(|test| options.wants(test)).collect();
    if options.list {
        for test in wanted {
            println!("{}", test.name);
        }
        return Ok(Exit::Pass);
    }
    if wanted.is_empty() {
        return Err("no test has such a name".into());
    }
    let mut out = std::io::stdout();
    let report = if options.target.mdev_type().exists() {
        ktap::run(
            &wanted,
            &Arc::new(options.target),
            options.timeout,
            &mut out,
        )
    } else {
        let reason = format!(
            "no {} at {}; is ferry_uart loaded?",
            options.target.type_name,
            options.target.parent.display()
        );
        ktap::skip_all(&reason, &mut out)
    };
    report.map_err(|error| format!("standard output: {error}"))
}

fn main() -> ExitCode {
    // A failed test's message is in the report; the default hook would put it there twice.
    std::panic::set_hook(Box::new(|_| {}));
    match Options::parse(std::env::args().skip(1)).and_then(run) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(message) => {
            eprintln!("vfio-migration-selftests: {message}\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests_of_the_options {
    use super::Options;

    fn parse(arguments: &[&str]) -> Result<Options, String> {
        Options::parse(arguments.iter().map(ToString::to_string))
    }

    #[test]
    fn options_and_filters_are_told_apart() {
        let options = parse(&["v1_3", "--type", "ferry_uart-4", "irq"]).expect("good options");
        assert_eq!(options.filters, ["v1_3", "irq"]);
        assert_eq!(options.target.type_name, "ferry_uart-4");
        assert_eq!(options.target.ports(), 4);
    }

    #[test]
    fn bad_options_are_refused() {
        for bad in [
            &["--typo"][..],
            &["--type"],
            &["--timeout", "soon"],
            &["--hold", "uuid"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
