// SPDX-License-Identifier: GPL-2.0

//! kselftests of the v1 migration region and of the devices that have it: the cases of
//! [`conformance::v1`], on mediated devices of types that are named or of the default ones.
//!
//! The tests run as root on any host with Ferry's modules and VFIO's type1 container loaded, each on
//! devices of its own that it creates and removes, and need no file but this program.
//!
//! The report is KTAP; the exit status is kselftest's.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use conformance::ktap::Exit;
use conformance::plan::plan;
use conformance::plan::Planned;
use conformance::program;
use conformance::program::Common;
use conformance::second_process;
use conformance::v1;
use conformance::Target;

/// The types that are tested when none is named.
const TYPES: [&str; 2] = ["ferry_uart-2", "ferry_nvme-512"];
/// The type on which only the tests run, when none is named, that depend on the size of a logical block.
const OTHER_FORMAT: &str = "ferry_nvme-4096";

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

    /// As does that of a user that is killed while it waits
    #[arg(long, hide = true, value_name = "STATE")]
    change: Option<u32>,
}

const DEFAULTS: &str = "\
Without --type and --device all tests are run on ferry_uart-2 and ferry_nvme-512, and on ferry_nvme-4096 those for
which the size of a block makes a difference.";

impl Options {
    /// Plans the tests that are wanted, or `everything` that there is, for a list.
    fn plan(&self, everything: bool) -> Result<Vec<Planned>, String> {
        let place = |target: Target| {
            Arc::new(match &self.sysfs_parent {
                Some(parent) => target.of_parent(parent),
                None => target,
            })
        };
        let mut planned: Vec<Planned> = Vec::new();
        for target in self.common.targets(&TYPES)? {
            let target = place(target);
            planned.extend(plan(&target, v1::cases(), |_| None, everything));
        }
        if self.common.is_default() {
            for target in self.common.targets(&[OTHER_FORMAT])? {
                let target = place(target);
                let cases = v1::cases_of_block_sizes();
                planned.extend(plan(&target, cases, |_| None, everything));
            }
        }
        planned.retain(|test| !test.is_case() || self.common.wants(&test.name));
        // A look for traces of those that ran.
        let target = planned.iter().rfind(|test| test.is_case());
        if let Some(target) = target.map(|test| test.target.clone()) {
            let last = Planned::new(&target, v1::last());
            planned.extend(Some(last).filter(|test| self.common.wants(&test.name)));
        }
        Ok(planned)
    }
}

fn run(options: Options) -> Result<Exit, String> {
    if options.statements {
        v1::statements::print();
        return Ok(Exit::Pass);
    }
    if let Some([uuid, end]) = options.stall.as_deref() {
        return second_process::end(v1::nvme::dma::stall(uuid, end));
    }
    if let Some(state) = options.change {
        return second_process::end(v1::nvme::slow_file::change(state));
    }
    if let Some([address, state]) = options.hold.as_deref() {
        let state = state
            .parse()
            .map_err(|_| format!("{state:?} is not a state"))?;
        return second_process::end(v1::state::hold(address, state));
    }
    options.common.run(options.plan(options.common.list)?)
}

fn main() -> ExitCode {
    program::main(run)
}

#[cfg(test)]
mod tests {
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
        let plan = options.plan(true).expect("a known type");
        let [first, .., last] = plan.as_slice() else {
            panic!("{} tests", plan.len());
        };
        assert!(
            first.name.starts_with("ferry_uart-4.log_"),
            "{}",
            first.name
        );
        assert_eq!(first.target.ports(), 4);
        assert_eq!(last.name, "log_the_kernel_did_not_complain");
    }

    #[test]
    fn every_type_is_tested_when_none_is_named() {
        let plan = parse(&[]).and_then(|options| options.plan(true));
        let plan = plan.expect("a plan");
        for name in [TYPES[0], TYPES[1], OTHER_FORMAT] {
            let count = plan.iter().filter(|test| test.target.name == name).count();
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
            &["--device", "0000:3g:00.0"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        for unknown in [
            ["--type", "ferry_x-1"],
            ["--type", "ferry_uart"],
            ["--device", "/sys/nowhere"],
        ] {
            let plan = parse(&unknown).and_then(|options| options.plan(true));
            assert!(plan.is_err(), "{unknown:?}, which is not there");
        }
    }
}
