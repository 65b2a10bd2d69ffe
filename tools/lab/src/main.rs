// SPDX-License-Identifier: GPL-2.0

//! `lab` runs Ferry: its demonstration, its tests, and commands in the host VM.

#![forbid(unsafe_code)]

mod bench;
mod components;
mod demo;
mod drawing;
mod initramfs;
mod interrupt;
mod libraries;
mod machine;
mod matrix;
mod modules;
mod policy;
mod progress;
mod report;
mod run;
mod slots;
mod test;
mod timeline;
mod units;

use std::process::ExitCode;

use clap::Parser;
use clap::Subcommand;
use components::Components;

/// Live migration of VFIO devices, shown and tested in virtual machines
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Action,

    #[command(flatten)]
    components: Components,
}

#[derive(Subcommand)]
enum Action {
    /// Live-migrate a guest with a busy device to another QEMU and back, and show how it went
    Demo(demo::Options),
    /// Measure a disk beside others in the same guest, and what it costs to move one
    Bench(bench::Options),
    /// Run a shell command in the host VM, with Ferry's modules loaded
    Run(run::Options),
    /// Run all tests that need a virtual machine, and sum up all tests
    Test(test::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = interrupt::catch_signals() {
        eprintln!("lab: {error:#}");
        return ExitCode::from(2);
    }
    let components = &arguments.components;
    let status = match &arguments.command {
        Action::Demo(options) => demo::run(components, options),
        Action::Bench(options) => bench::run(components, options),
        Action::Run(options) => run::run(components, options),
        Action::Test(options) => test::run(components, options),
    };
    status.unwrap_or_else(|error| {
        eprintln!("lab: {error:#}");
        ExitCode::from(2)
    })
}
