// SPDX-License-Identifier: GPL-2.0

//! kselftests of migration protocol v2 and of the devices that have it: the cases of [`conformance::v2`], on
//! mediated devices of types that are named or of the default ones.
//!
//! The tests run as root on any host with Ferry's modules and VFIO's type1 container loaded, each on
//! devices of its own that it creates and removes. They run on the kernel's sample `mtty.ko`, too, with
//! `--type mtty-1`. Where mtty is known to do something else ([`conformance::v2::mtty`]), the tests see that
//! it still does.
//!
//! The report is KTAP; the exit status is kselftest's.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use conformance::kind::Kind;
use conformance::ktap::Exit;
use conformance::plan::plan;
use conformance::plan::Planned;
use conformance::program;
use conformance::program::Common;
use conformance::second_process;
use conformance::v2;

/// The types that are tested when none is named.
const TYPES: [&str; 3] = ["ferry_uart-2", "ferry_nvme-512", "mtty-1"];

/// Tests of migration protocol v2 and of the devices that have it
#[derive(Parser)]
#[command(name = "vfio-migration-v2-selftests", after_help = DEFAULTS)]
struct Options {
    #[command(flatten)]
    common: Common,

    /// The test of two processes starts this program a second time
    #[arg(long, hide = true, value_name = "IOAS")]
    map: Option<u32>,

    /// As does that of a user that is killed while it waits
    #[arg(long, hide = true, value_name = "STATE")]
    change: Option<u32>,
}

const DEFAULTS: &str = "\
Without --type and --device all tests are run on ferry_uart-2, ferry_nvme-512, and mtty-1 if it is
there.";

impl Options {
    /// Plans the tests that are wanted, or `everything` that there is, for a list.
    fn plan(&self, everything: bool) -> Result<Vec<Planned>, String> {
        let mut planned: Vec<Planned> = Vec::new();
        for target in self.common.targets(&TYPES)? {
            let target = Arc::new(target);
            let difference = |case: &str| match target.kind {
                Kind::Mtty => v2::mtty::difference(case),
                Kind::Uart { .. } | Kind::Nvme { .. } | Kind::E1000e | Kind::Other => None,
            };
            planned.extend(plan(&target, v2::cases(), difference, everything));
        }
        planned.retain(|test| !test.is_case() || self.common.wants(&test.name));
        Ok(planned)
    }
}

fn run(options: Options) -> Result<Exit, String> {
    if let Some(ioas) = options.map {
        return second_process::end(v2::cdev_dma::map_for_another_process(ioas));
    }
    if let Some(state) = options.change {
        return second_process::end(v2::slow_file::change(state));
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
}
