// SPDX-License-Identifier: GPL-2.0

//! The options of a test program, and its exit status.

use std::io::stdout;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use vfio_client::Address;
use vfio_client::Backend;

use crate::ktap;
use crate::ktap::Exit;
use crate::ktap::Job;
use crate::plan::Planned;
use crate::target::Target;

/// The options and filters of every test program.
#[derive(clap::Args)]
pub struct Common {
    /// List the tests and stop
    #[arg(long)]
    pub list: bool,

    /// Run all tests of this type of mediated device; may be given repeatedly
    #[arg(long = "type", value_name = "NAME")]
    types: Vec<String>,

    /// Run on this device instead: an mdev's UUID, a PCI address, a path in sysfs or a file in
    /// /dev/vfio/devices; may be given repeatedly. Tests that create devices are skipped
    #[arg(long = "device", value_name = "ADDRESS")]
    devices: Vec<Address>,

    /// Another device like the one of --device, for tests that need two at once
    #[arg(long, value_name = "ADDRESS", requires = "devices")]
    second: Option<Address>,

    /// How long each test may take
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,

    /// Run only tests whose name, TYPE.TEST, contains one of these
    #[arg(value_name = "FILTER")]
    pub filters: Vec<String>,
}

impl Common {
    /// Says whether the filters let the test of this name through.
    pub fn wants(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|part| name.contains(part))
    }

    /// Says whether neither a type nor a device is named.
    pub fn is_default(&self) -> bool {
        self.types.is_empty() && self.devices.is_empty()
    }

    /// Returns the targets that are named by `--type` and `--device`, or the `default` types if there are
    /// none.
    ///
    /// # Errors
    ///
    /// Which type has no tests, or which device cannot be opened, and why.
    pub fn targets(&self, default: &[&str]) -> Result<Vec<Target>, String> {
        let named = self.types.iter().map(String::as_str);
        let default = default.iter().copied().filter(|_| self.is_default());
        let types = named.chain(default).map(|name| {
            Target::of_type(name).ok_or_else(|| format!("{name:?} is not a type with tests"))
        });
        if self.second.is_some() && self.devices.len() != 1 {
            return Err("--second is for one --device".to_string());
        }
        let devices = self.devices.iter().map(|address| {
            let addresses: Vec<Address> =
                [address].into_iter().chain(&self.second).cloned().collect();
            Target::at(&addresses, Backend::Type1).map_err(|error| error.to_string())
        });
        types.chain(devices).collect()
    }

    /// Runs or lists the tests that were planned.
    ///
    /// # Errors
    ///
    /// There are none, or the report could not be written.
    pub fn run(&self, plan: Vec<Planned>) -> Result<Exit, String> {
        if plan.is_empty() {
            return Err("no test has such a name".into());
        }
        if self.list {
            for test in plan {
                println!("{}", test.name);
            }
            return Ok(Exit::Pass);
        }
        let jobs: Vec<Job> = plan.into_iter().map(Job::from).collect();
        ktap::run(&jobs, Duration::from_secs(self.timeout), &mut stdout())
            .map_err(|error| format!("standard output: {error}"))
    }
}

/// The main function of a test program: hands the options to `run`. A wrong option is a failure of
/// kselftest's, and not clap's own exit status, which has another meaning there.
pub fn main<O: Parser>(run: impl FnOnce(O) -> Result<Exit, String>) -> ExitCode {
    // The report has the message of a panic; the default hook would print it a second time.
    std::panic::set_hook(Box::new(|_| {}));
    let options = match O::try_parse() {
        Ok(options) => options,
        Err(error) => {
            // A request for help is no error.
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
