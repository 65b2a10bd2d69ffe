// SPDX-License-Identifier: GPL-2.0

//! kselftests of the v1 migration region and of the devices that have it.
//!
//! Every statement of the protocol that a user of a device can see is a test here, under its number;
//! around them are tests of what else a user can do to the device, rightly and wrongly. They run as
//! root on any host with Ferry's modules and VFIO's type1 container loaded, each on devices of its
//! own that it creates and removes, and need no file but this program. What holds for every device is
//! tried with a serial card and with an NVMe controller.
//!
//! The report is KTAP; the exit status is kselftest's.

#![forbid(unsafe_code)]

mod check;
mod kmsg;
mod ktap;
mod options;
mod second;
mod statements;
mod test_device;
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use vfio_client::stream;

use crate::check::Outcome;
use crate::check::Stop;
use crate::ktap::Exit;
use crate::ktap::Planned;
use crate::options::Common;
use crate::test_device::Context;
use crate::test_device::Target;
use crate::tests::Case;

/// The types that are tested when none is named.
const TYPES: [&str; 2] = ["ferry_uart-2", "ferry_nvme-512"];
/// The type of which only what depends on the size of a logical block is tested then.
const OTHER_FORMAT: &str = "ferry_nvme-4096";

/// The test that is left of a type that is not there.
const IS_THERE: &str = "is_there";

/// Tests of the v1 migration region and of the devices that have it
#[derive(Parser)]
#[command(name = "vfio-migration-selftests", after_help = DEFAULTS)]
struct Options {
    #[command(flatten)]
    common: Common,

    /// List the protocol's statements with their tests and stop
    #[arg(long)]
    statements: bool,

    /// Where the types are, instead of each driver's own place
    #[arg(long, value_name = "PATH")]
    sysfs_parent: Option<PathBuf>,

    /// The test of a killed user starts this program a second time
    #[arg(long, hide = true, num_args = 2)]
    hold: Option<Vec<String>>,

    /// As does that of a user that is gone during a page fault
    #[arg(long, hide = true, num_args = 2)]
    stall: Option<Vec<String>>,
}

const DEFAULTS: &str = "\
Without --type all tests are run on ferry_uart-2 and ferry_nvme-512, and on ferry_nvme-4096 those for
which the size of a block makes a difference.";

fn is_there(context: &Context) -> Outcome {
    if context.mdev_type().exists() {
        return Ok(());
    }
    Err(Stop::Skipped(format!(
        "no {} at {}; is {} loaded?",
        context.type_name,
        context.parent.display(),
        context.kind.driver()
    )))
}

impl Options {
    fn target(&self, name: &str) -> Result<Context, String> {
        let mut target =
            Target::new(name).ok_or_else(|| format!("{name:?} is not a type with tests"))?;
        if let Some(parent) = &self.sysfs_parent {
            target.parent = parent.clone();
        }
        Ok(Arc::new(target))
    }

    /// Plans the tests of one type. When it is not there that takes a single test, which says so;
    /// `everything` is for those who only want to know what there would be.
    fn plan_type(
        &self,
        context: &Context,
        tests: impl Iterator<Item = &'static Case>,
        everything: bool,
    ) -> Vec<Planned<Context>> {
        let planned = |name: &str, run| Planned {
            name: format!("{}.{name}", context.type_name),
            run,
            context: context.clone(),
        };
        if !everything && !context.mdev_type().exists() {
            return vec![planned(IS_THERE, is_there)];
        }
        tests
            .map(|test| planned(test.name, test.run))
            .filter(|test| self.common.wants(&test.name))
            .collect()
    }

    /// Plans the tests that are wanted.
    fn plan(&self, everything: bool) -> Result<Vec<Planned<Context>>, String> {
        let mut plan = Vec::new();
        let named = self.common.types.iter().map(String::as_str);
        let default = TYPES.into_iter().filter(|_| self.common.types.is_empty());
        for name in named.chain(default) {
            let context = self.target(name)?;
            plan.extend(self.plan_type(&context, tests::of(context.kind), everything));
        }
        if self.common.types.is_empty() {
            let context = self.target(OTHER_FORMAT)?;
            plan.extend(self.plan_type(&context, tests::of_format(), everything));
        }
        // Whatever ran is to have left no trace.
        let ran = plan.iter().rfind(|test| !test.name.ends_with(IS_THERE));
        if let Some(context) = ran.map(|test| test.context.clone()) {
            let last = tests::last().filter(|test| self.common.wants(test.name));
            plan.extend(last.map(|test| Planned {
                name: test.name.to_string(),
                run: test.run,
                context: context.clone(),
            }));
        }
        Ok(plan)
    }
}

fn run(options: Options) -> Result<Exit, String> {
    if options.statements {
        statements::print();
        return Ok(Exit::Pass);
    }
    if let Some([uuid, end]) = options.stall.as_deref() {
        return second::end(tests::nvme::dma::stall(uuid, end));
    }
    if let Some([uuid, state]) = options.hold.as_deref() {
        let state = state
            .parse()
            .map_err(|_| format!("{state:?} is not a state"))?;
        return second::end(tests::state::hold(uuid, state));
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

    use super::Options;
    use super::OTHER_FORMAT;
    use super::TYPES;

    fn parse(arguments: &[&str]) -> Result<Options, String> {
        let arguments = ["vfio-migration-selftests"].iter().chain(arguments);
        Options::try_parse_from(arguments).map_err(|error| error.to_string())
    }

    #[test]
    fn options_and_filters_are_told_apart() {
        let options = parse(&["v1_3", "--type", "ferry_uart-4", "log_"]).expect("good options");
        assert_eq!(options.common.filters, ["v1_3", "log_"]);
        assert_eq!(options.common.types, ["ferry_uart-4"]);
        let plan = options.plan(true).expect("a known type");
        let [first, .., last] = plan.as_slice() else {
            panic!("{} tests", plan.len());
        };
        assert!(
            first.name.starts_with("ferry_uart-4.log_"),
            "{}",
            first.name
        );
        assert_eq!(first.context.ports(), 4);
        assert_eq!(last.name, "log_the_kernel_did_not_complain");
    }

    #[test]
    fn every_type_is_tested_when_none_is_named() {
        let plan = parse(&[]).and_then(|options| options.plan(true));
        let plan = plan.expect("a plan");
        for name in [TYPES[0], TYPES[1], OTHER_FORMAT] {
            let count = plan
                .iter()
                .filter(|test| test.context.type_name == name)
                .count();
            assert!(count > 10, "{count} tests of {name}");
        }
    }

    #[test]
    fn of_a_type_that_is_not_there_one_test_is_left() {
        let options = parse(&["--sysfs-parent", "/nowhere", "irq"]).expect("good options");
        let plan = options.plan(false).expect("a plan");
        let names: Vec<&str> = plan.iter().map(|test| test.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "ferry_uart-2.is_there",
                "ferry_nvme-512.is_there",
                "ferry_nvme-4096.is_there",
            ]
        );
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
        let unknown = parse(&["--type", "ferry_x-1"]).and_then(|options| options.plan(true));
        assert!(unknown.is_err(), "a type that nobody knows");
    }
}
