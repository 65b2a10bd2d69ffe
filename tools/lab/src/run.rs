// SPDX-License-Identifier: GPL-2.0

//! `lab run`: a shell command in the host VM.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use lab_host::device::Kind;
use lab_host::event::Outcome;
use lab_host::event::What;
use lab_host::job::Stage;
use lab_host::scenario::Scenario;
use lab_host::vmm::Qemu;

use crate::machine::Accelerator;
use crate::machine::Machine;
use crate::machine::Plan;
use crate::prepare;
use crate::workplace::Workplace;

#[derive(clap::Args)]
pub struct Options {
    /// Do not load Ferry's modules
    #[arg(long)]
    no_driver: bool,

    /// Have an IOMMU and two network cards in the VM, 0000:00:05.0 and 0000:00:06.0, and the variant driver ferry_e1000e
    #[arg(long)]
    functions: bool,

    /// Parameters of the driver module, as in window_size=65536
    #[arg(long, value_name = "TEXT", default_value = "")]
    parameters: String,

    /// Use the debug kernel
    #[arg(long)]
    debug_kernel_vm: bool,

    /// Static programs to have in the VM
    #[arg(long = "program", value_name = "NAME")]
    carried: Vec<String>,

    /// Other files to have in the VM, found through its search path
    #[arg(long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Have QEMU and a guest in the VM
    #[arg(long)]
    nested: bool,

    /// Print every event of the VM as a line of JSON
    #[arg(long)]
    json: bool,

    /// Run these scenarios, too
    #[arg(long = "scenario", value_name = "NAME", value_parser = scenario)]
    scenarios: Vec<Scenario>,

    /// The scenarios' mdev type or variant driver; without it they migrate a guest without a device
    #[arg(long, value_name = "TYPE")]
    device: Option<String>,

    /// The scenarios' QEMU: 7.2, 10.0 or 11.1
    #[arg(long, value_name = "VERSION", default_value = Qemu::default().version(), value_parser = qemu)]
    qemu: Qemu,

    /// Print the VM's kernel log afterwards
    #[arg(long)]
    dmesg: bool,

    /// When the VM is ended, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    limit: u64,

    /// The command, for sh -c
    #[arg(required_unless_present = "scenarios", last = true)]
    command: Vec<String>,
}

fn scenario(name: &str) -> Result<Scenario, String> {
    Scenario::by_name(name).ok_or_else(|| {
        let names: Vec<_> = Scenario::ALL
            .iter()
            .map(|scenario| scenario.name())
            .collect();
        format!("there are only {}", names.join(", "))
    })
}

/// The QEMU of a version, or else the versions that there are.
pub fn qemu(version: &str) -> Result<Qemu, String> {
    Qemu::by_version(version).ok_or_else(|| {
        let versions = Qemu::ALL.map(Qemu::version);
        format!("there are only {}", versions.join(", "))
    })
}

/// Runs the command and returns its exit status, or 1 if only the kernel reported a fault.
pub fn run(workplace: &Workplace, options: &Options) -> Result<ExitCode> {
    let mut stages = Vec::new();
    if !options.command.is_empty() {
        stages.push(Stage::Shell {
            command: options.command.join(" "),
        });
    }
    stages.extend(options.scenarios.iter().map(|&scenario| Stage::Scenario {
        scenario,
        qemu: options.qemu,
    }));
    let components = &prepare::components(workplace, &stages, options.debug_kernel_vm)?;
    let plan = Plan {
        stages,
        device: options.device.clone(),
        debug: options.debug_kernel_vm,
        driver: !options.no_driver,
        functions: options.functions
            || options.device.as_deref().and_then(Kind::of) == Some(Kind::NetworkCard),
        parameters: options.parameters.clone(),
        nested: options.nested || !options.scenarios.is_empty(),
        programs: options.carried.clone(),
        files: options.files.clone(),
        limit: Duration::from_secs(options.limit),
        ..Plan::default()
    };
    let kernel = components.kernel(options.debug_kernel_vm)?;
    let accelerator = Accelerator::probe(components, kernel)?;
    let mut machine = Machine::start(components, &plan, accelerator)?;
    let mut status = if options.command.is_empty() { 0 } else { 2 };
    let mut splats = 0;
    let ran = machine.run(|event| {
        if options.json {
            println!("{}", serde_json::to_string(event)?);
            return Ok(());
        }
        match &event.what {
            What::Doing { text } => eprintln!("lab: {text}"),
            What::Ended {
                name,
                outcome,
                seconds,
            } => {
                println!("{name}: {outcome:?} ({seconds:.1} s)");
                if matches!(outcome, Outcome::Failed(_)) {
                    status = 1;
                }
            }
            What::Output { text } => println!("{text}"),
            What::Exited { status: exited } => status = *exited,
            What::Splat { text } => {
                splats += 1;
                eprintln!("lab: the kernel reported:\n{text}");
            }
            _ => {}
        }
        Ok(())
    });
    if options.dmesg {
        print!("{}", machine.console());
    }
    ran?;
    if splats > 0 && status == 0 {
        status = 1;
    }
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX)))
}
