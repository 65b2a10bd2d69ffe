// SPDX-License-Identifier: GPL-2.0

//! kselftests of migration protocol v2 and of the devices that have it.
//!
//! What `include/uapi/linux/vfio.h` says of `VFIO_DEVICE_FEATURE_MIGRATION` and its neighbours, and
//! what else a user can do to a device through them, rightly and wrongly. They run as root on any
//! host with Ferry's modules and VFIO's type1 container loaded, each on devices of its own that it
//! creates and removes.
//!
//! The same tests run on the kernel's sample `mtty.ko` with `--type mtty-1`. Where that does
//! something else, [`mtty`] says what and why, and the tests see that it is so.
//!
//! The report is KTAP; the exit status is kselftest's.

#![forbid(unsafe_code)]

mod card;
#[path = "../check.rs"]
#[expect(dead_code, reason = "the tests of protocol v1 use the rest")]
mod check;
#[path = "../kmsg.rs"]
mod kmsg;
#[path = "../ktap.rs"]
mod ktap;
mod mtty;
mod tests;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use vfio_client::stream;

use crate::card::Kind;
use crate::card::Target;
use crate::check::Outcome;
use crate::check::Stop;
use crate::ktap::Exit;
use crate::ktap::Planned;
use crate::tests::Case;

const USAGE: &str = "\
usage: vfio-migration-v2-selftests [options] [filter...]
  --list                 list the tests and stop
  --type NAME            run all tests of this type of mediated device; may be given repeatedly
                         (default: ferry_uart-2, ferry_nvme-512, and mtty-1 if it is there)
  --timeout SECONDS      for each test (default: 120)
Only tests whose name, TYPE.TEST, contains one of the filters are run.
";

/// The types that are tested when none is named.
const TYPES: [&str; 3] = ["ferry_uart-2", "ferry_nvme-512", "mtty-1"];

/// The test that is left of a type that is not there.
const IS_THERE: Case = Case {
    name: "is_there",
    run: is_there,
};

/// What a test is run with.
#[derive(Clone)]
struct Context {
    target: Arc<Target>,
    case: &'static Case,
    /// Why the device is known to fail the test.
    difference: Option<&'static str>,
}

fn is_there(target: &Target) -> Outcome {
    if target.mdev_type().exists() {
        return Ok(());
    }
    Err(Stop::Skipped(format!(
        "no {}; is {} loaded?",
        target.type_name,
        target.kind.driver()
    )))
}

fn run_case(context: &Context) -> Outcome {
    match ((context.case.run)(&context.target), context.difference) {
        (Err(Stop::Failed(_)), Some(why)) => Err(Stop::Skipped(format!("as known: {why}"))),
        (Ok(()), Some(why)) => Err(Stop::failed(format_args!(
            "expected a failure because {why}, seen none"
        ))),
        (outcome, _) => outcome,
    }
}

struct Options {
    list: bool,
    help: bool,
    map: Option<u32>,
    types: Vec<String>,
    timeout: Duration,
    filters: Vec<String>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            list: false,
            help: false,
            map: None,
            types: Vec::new(),
            timeout: Duration::from_secs(120),
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
                "--help" | "-h" => options.help = true,
                "--type" => options.types.push(value()?),
                "--timeout" => {
                    let seconds = value()?;
                    options.timeout = seconds
                        .parse()
                        .map(Duration::from_secs)
                        .map_err(|_| format!("{seconds:?} is not a number of seconds"))?;
                }
                // The test of two processes starts this program a second time.
                "--map" => {
                    let ioas = value()?;
                    let ioas = ioas
                        .parse()
                        .map_err(|_| format!("{ioas:?} is not the id of an IOAS"))?;
                    options.map = Some(ioas);
                }
                other if other.starts_with('-') => return Err(format!("unknown option {other}")),
                filter => options.filters.push(filter.to_string()),
            }
        }
        if options.types.is_empty() {
            options.types = TYPES.map(str::to_string).to_vec();
        }
        Ok(options)
    }

    fn wants(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|part| name.contains(part))
    }

    /// Plans the tests that are wanted; `everything` is for those who only want to know what there
    /// would be.
    fn plan(&self, everything: bool) -> Result<Vec<Planned<Context>>, String> {
        let mut plan = Vec::new();
        for name in &self.types {
            let target = Target::new(name).map(Arc::new);
            let target = target.ok_or_else(|| format!("{name:?} is not a type with tests"))?;
            let cases: Vec<&'static Case> = if everything || target.mdev_type().exists() {
                tests::of(target.kind).collect()
            } else {
                vec![&IS_THERE]
            };
            plan.extend(cases.into_iter().map(|case| Planned {
                name: format!("{name}.{}", case.name),
                run: run_case,
                context: Context {
                    target: target.clone(),
                    case,
                    difference: match target.kind {
                        Kind::Mtty => mtty::difference(case.name),
                        Kind::Uart { .. } | Kind::Nvme { .. } => None,
                    },
                },
            }));
        }
        plan.retain(|test| test.name.ends_with(IS_THERE.name) || self.wants(&test.name));
        Ok(plan)
    }
}

fn run(options: Options) -> Result<Exit, String> {
    if options.help {
        print!("{USAGE}");
        return Ok(Exit::Pass);
    }
    if let Some(ioas) = options.map {
        return tests::cdev_dma::map_for_another_process(ioas)
            .map(|()| Exit::Pass)
            .map_err(|stop| format!("{stop:?}"));
    }
    let plan = options.plan(options.list)?;
    if plan.is_empty() {
        return Err("no test has such a name".into());
    }
    if options.list {
        for test in plan {
            println!("{}", test.name);
        }
        return Ok(Exit::Pass);
    }
    ktap::run(&plan, options.timeout, &mut std::io::stdout())
        .map_err(|error| format!("standard output: {error}"))
}

fn main() -> ExitCode {
    // A failed test's message is in the report; the default hook would put it there twice.
    std::panic::set_hook(Box::new(|_| {}));
    match Options::parse(std::env::args().skip(1)).and_then(run) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(message) => {
            eprintln!("vfio-migration-v2-selftests: {message}\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests_of_the_options {
    use super::mtty;
    use super::tests;
    use super::Kind;
    use super::Options;

    fn plan(arguments: &[&str]) -> Result<Vec<String>, String> {
        let options = Options::parse(arguments.iter().map(ToString::to_string))?;
        let plan = options.plan(true)?;
        Ok(plan.into_iter().map(|test| test.name).collect())
    }

    #[test]
    fn tests_are_planned_by_type_and_name() {
        let all = plan(&[]).expect("a plan");
        let serial = plan(&["ferry_uart-2."]).expect("a plan");
        assert!(serial.iter().all(|name| name.starts_with("ferry_uart-2.")));
        assert!(serial.len() > 10 && serial.len() < all.len(), "{serial:?}");
        assert!(plan(&["--type", "ferry_x-1"]).is_err());
        assert!(plan(&["--typo"]).is_err());
    }

    #[test]
    fn what_mtty_does_differently_is_said_of_tests_that_it_has() {
        let names: Vec<&str> = tests::of(Kind::Mtty).map(|case| case.name).collect();
        for (name, _) in mtty::DIFFERENCES.iter().chain(mtty::WITHOUT_IOMMUFD) {
            assert!(names.contains(name), "{name} is no test of mtty");
        }
    }
}
