// SPDX-License-Identifier: GPL-2.0

//! `lab` is the developer's program: it sets up compilers, kernels and QEMUs, builds the modules, and runs Ferry's
//! demonstration, measurements and tests in virtual machines.
//!
//! `scripts/lab` builds it and starts it. A module may use the modules below it in this list:
//!
//! - commands: `demo`, `bench`, `run`, `test` with `report`, `matrix` and `policy`
//! - [`prepare`]: makes all that a command needs, in [`stage`]s
//! - [`machine`]: the host VM; [`timeline`] and [`drawing`] of its events
//! - [`kernel_build`], [`format`](mod@format): what is built or checked in the toolchain
//! - [`setup`]: fetches and makes components
//! - [`source`], [`cache`], [`console`], [`job`], [`file_lock`], [`interrupt`]: the floor

#![forbid(unsafe_code)]

mod bench;
mod cache;
mod components;
mod console;
mod demo;
mod drawing;
mod file_lock;
mod format;
mod in_root;
mod initramfs;
mod interrupt;
mod job;
mod kernel_build;
mod kernel_selftests;
mod libraries;
mod machine;
mod matrix;
mod modules;
mod policy;
mod prepare;
mod progress;
mod report;
mod run;
mod setup;
mod slots;
mod source;
mod stage;
mod test;
mod timeline;
mod units;
mod workplace;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use cache::Cache;
use clap::Parser;
use clap::Subcommand;
use console::Console;
use job::Job;
use kernel_build::Commands;
use kernel_build::KernelBuild;
use kernel_build::Sample;
use setup::Component;
use setup::SetUp;
use source::Source;
use workplace::Workplace;

/// The exit status after an error. A failed test has 1.
const ERROR: u8 = 2;

/// The exit status after a signal, which is that of a shell's command that SIGINT ended.
const INTERRUPTED: u8 = 130;

/// Ferry's laboratory: sets up toolchain, kernels and QEMUs, and migrates VFIO devices in virtual machines
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Action,

    /// The source tree [default: that of the current directory]
    #[arg(long, global = true, value_name = "DIR")]
    source: Option<PathBuf>,

    /// The QEMU that runs the host VM: qemu-11.1 or qemu-10.0
    #[arg(long, global = true, env = "HOST_QEMU", value_name = "NAME", default_value = Component::Qemu11_1.name(),
          value_parser = host_qemu)]
    host_qemu: Component,
}

/// The QEMU of this name; an empty variable of the environment is as good as none.
fn host_qemu(name: &str) -> Result<Component, String> {
    match name {
        "" => Ok(Component::Qemu11_1),
        name => Component::qemu_by_name(name),
    }
}

#[derive(Subcommand)]
enum Action {
    /// Live-migrate a guest with a busy device to another QEMU and back, and show how it went
    Demo(demo::Options),
    /// Measure a disk beside others in the same guest, what it costs to move one, and the migration engine
    Bench(bench::Options),
    /// Run a shell command in the host VM, with Ferry's modules loaded
    Run(run::Options),
    /// Check the source, run all tests, and sum them up
    Test(test::Options),
    /// Set up components and print their paths, one per line
    Setup {
        /// The components [default: all but the debug kernel]
        #[arg(value_name = "COMPONENT", value_parser = Component::by_name)]
        components: Vec<Component>,
    },
    /// Run the kernel's build on this tree's modules
    KernelMake {
        /// For the debug kernel instead of the stock one
        #[arg(long)]
        debug: bool,
        /// Build a copy of the sources in build/NAME
        #[arg(long = "in", value_name = "NAME")]
        directory: Option<String>,
        /// Targets and variables of the kernel's build
        #[arg(value_name = "TARGET|VARIABLE=VALUE", required = true)]
        arguments: Vec<String>,
    },
    /// Build the kernel's sample device in build/mtty and print the module's path
    Mtty,
    /// Format all Rust code as the kernel does
    Fmt {
        /// Only check the format
        #[arg(long)]
        check: bool,
    },
    /// Pin the newest packages of the series in the lock file
    UpdateLock {
        /// The groups of packages [default: all]
        #[arg(value_name = "GROUP")]
        groups: Vec<String>,
    },
    /// Remove what is out of date from the cache, and say what is left
    CleanCache,
}

impl Workplace {
    fn set_up(&self, components: &[Component]) -> Result<SetUp> {
        setup::set_up(&self.source, &self.cache, &self.console, components)
    }
}

/// Runs `commands` one after the other; the last takes the place of this process.
fn execute(mut commands: Vec<Command>) -> Result<ExitCode> {
    let mut last = commands.pop().context("nothing to run")?;
    for mut command in commands {
        if !command.status().context("starting a command")?.success() {
            return Ok(ExitCode::FAILURE);
        }
    }
    Err(last.exec()).with_context(|| format!("starting {}", last.get_program().to_string_lossy()))
}

/// Runs `commands` with the lock, which ends with the last process of the last of them.
fn execute_locked(Commands { mut commands, lock }: Commands) -> Result<ExitCode> {
    for command in &mut commands {
        command.stdin(lock.stdin()?);
    }
    execute(commands)
}

/// Sets up components and prints their paths.
fn print_components(workplace: &Workplace, chosen: &[Component]) -> Result<ExitCode> {
    let components = match chosen {
        [] => &Component::USUAL,
        chosen => chosen,
    };
    let set_up = workplace.set_up(components)?;
    if chosen.is_empty() && set_up.are_cached() {
        let number = set_up.times.len();
        workplace
            .console
            .say(&format!("all {number} components are in the cache"));
    }
    for component in components {
        println!("{}", set_up.path(*component)?.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn act(arguments: Arguments) -> Result<ExitCode> {
    let workplace = Workplace {
        source: Source::find(arguments.source.as_deref())?,
        cache: Cache::open()?,
        console: Console::new()?,
        host_qemu: arguments.host_qemu,
    };
    let Workplace {
        source,
        cache,
        console,
        ..
    } = &workplace;
    match arguments.command {
        Action::Demo(options) => demo::run(&workplace, &options),
        Action::Bench(options) => bench::run(&workplace, &options),
        Action::Run(options) => run::run(&workplace, &options),
        Action::Test(options) => test::run(&workplace, &options),
        Action::Setup { components } => print_components(&workplace, &components),
        Action::KernelMake {
            debug,
            directory,
            arguments,
        } => {
            let build = KernelBuild {
                debug,
                directory,
                arguments,
                ..KernelBuild::default()
            };
            let set_up = workplace.set_up(&KernelBuild::components(debug))?;
            execute_locked(build.commands(source, cache, console, &set_up)?)
        }
        Action::Mtty => {
            let set_up = workplace.set_up(&Sample::COMPONENTS)?;
            let Commands { commands, lock } = Sample::commands(source, cache, console, &set_up)?;
            for mut command in commands {
                // The standard output has the module's path alone.
                command.stdin(lock.stdin()?).stdout(std::io::stderr());
                if !Job::start(&mut command)?.wait(|| ())?.success() {
                    bail!("mtty.ko could not be built, see above");
                }
            }
            println!("{}", Sample::output(source).join("mtty.ko").display());
            Ok(ExitCode::SUCCESS)
        }
        Action::Fmt { check } => {
            let set_up = workplace.set_up(&format::COMPONENTS)?;
            execute(vec![format::command(source, cache, &set_up, check)?])
        }
        Action::UpdateLock { groups } => {
            setup::update_lock(source, cache, console, &groups)?;
            Ok(ExitCode::SUCCESS)
        }
        Action::CleanCache => {
            setup::clean_cache(source, cache, console)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let status = interrupt::catch_signals().and_then(|()| act(arguments));
    status.unwrap_or_else(|error| {
        eprintln!("lab: error: {error:#}");
        ExitCode::from(if interrupt::has_come() {
            INTERRUPTED
        } else {
            ERROR
        })
    })
}
