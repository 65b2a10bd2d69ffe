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

#[path = "../check.rs"]
#[expect(dead_code, reason = "the tests of protocol v1 use the rest")]
mod check;
#[path = "../kmsg.rs"]
mod kmsg;
#[path = "../ktap.rs"]
mod ktap;
mod mtty;
#[path = "../options.rs"]
mod options;
#[path = "../second.rs"]
mod second;
mod test_device;
mod tests;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use vfio_client::stream;

use crate::check::Outcome;
use crate::check::Stop;
use crate::ktap::Exit;
use crate::ktap::Planned;
use crate::options::Common;
use crate::test_device::Kind;
use crate::test_device::Target;
use crate::tests::Case;

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

/// Tests of migration protocol v2 and of the devices that have it
#[derive(Parser)]
#[command(name = "vfio-migration-v2-selftests", after_help = DEFAULTS)]
struct Options {
    #[command(flatten)]
    common: Common,

    /// The test of two processes starts this program a second time
    #[arg(long, hide = true, value_name = "IOAS")]
    map: Option<u32>,
}

const DEFAULTS: &str =
    "Without --type all tests are run on ferry_uart-2, ferry_nvme-512, and mtty-1 if it is there.";

impl Options {
    /// Plans the tests that are wanted; `everything` is for those who only want to know what there
    /// would be.
    fn plan(&self, everything: bool) -> Result<Vec<Planned<Context>>, String> {
        let mut plan = Vec::new();
        let named = self.common.types.iter().map(String::as_str);
        let default = TYPES.into_iter().filter(|_| self.common.types.is_empty());
        for name in named.chain(default) {
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
        plan.retain(|test| test.name.ends_with(IS_THERE.name) || self.common.wants(&test.name));
        Ok(plan)
    }
}

fn run(options: Options) -> Result<Exit, String> {
    if let Some(ioas) = options.map {
        return second::end(tests::cdev_dma::map_for_another_process(ioas));
    }
    let plan = options.plan(options.common.list)?;
    options.common.run(&plan)
}

fn main() -> ExitCode {
    options::main(run)
}

#[cfg(test)]
mod tests_of_the_options {
    use clap::Parser as _;

    use super::mtty;
    use super::tests;
    use super::Kind;
    use super::Options;

    fn plan(arguments: &[&str]) -> Result<Vec<String>, String> {
        let arguments = ["vfio-migration-v2-selftests"].iter().chain(arguments);
        let options = Options::try_parse_from(arguments).map_err(|error| error.to_string())?;
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
