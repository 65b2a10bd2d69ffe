// SPDX-License-Identifier: GPL-2.0

//! `lab demo`: migrates a guest with a busy device to another QEMU and back, and shows the migrations.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use lab_guest::report::DiskCounters;
use lab_guest::report::Report;
use lab_host::device::Kind;
use lab_host::device::CARD_DRIVER;
use lab_host::event::Event;
use lab_host::event::Outcome;
use lab_host::event::What;
use lab_host::job::Stage;
use lab_host::scenario::Scenario;
use lab_host::vmm::Qemu;

use crate::drawing;
use crate::machine::Accelerator;
use crate::machine::Machine;
use crate::machine::Plan;
use crate::matrix::DISK;
use crate::matrix::SERIAL;
use crate::prepare;
use crate::progress::Progress;
use crate::run::qemu;
use crate::timeline::Timeline;
use crate::units::size;
use crate::workplace::Workplace;

/// The time after which the host VM is ended.
const LIMIT: Duration = Duration::from_secs(400);

const PICTURE: &str = "ferry-demo.svg";

#[derive(clap::Args)]
pub struct Options {
    /// Where the picture goes [default: ferry-demo.svg in the build directory]
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// The device: nvme, uart, e1000e, or the type of a mediated device
    #[arg(long, value_name = "DEVICE", default_value = "nvme", value_parser = device_type)]
    device: String,

    /// The QEMUs: 7.2, which uses protocol v1, or 10.0 or 11.1, which use v2
    #[arg(long, value_name = "VERSION", default_value = Qemu::default().version(), value_parser = qemu)]
    qemu: Qemu,

    /// Print everything that happened as one JSON value instead of text
    #[arg(long)]
    json: bool,
}

/// The mdev type of a device, or its variant driver: `nvme`, `uart` and `e1000e` are short names.
fn device_type(name: &str) -> Result<String, String> {
    let meant = match name {
        "nvme" => DISK,
        "uart" => SERIAL,
        "e1000e" => CARD_DRIVER,
        other => other,
    };
    match Kind::of(meant) {
        Some(_) => Ok(meant.to_owned()),
        None => Err("it is nvme, uart, e1000e, or a type as in ferry_nvme-4096".to_owned()),
    }
}

/// The guest's counters in words.
fn told(
    sent: u64,
    received: u64,
    faults: u64,
    disks: &[DiskCounters],
    packets: Option<u64>,
) -> String {
    if let Some(packets) = packets {
        return format!("{packets} packets; {sent} lines sent, {received} back, {faults} faults");
    }
    if disks.is_empty() {
        return format!("{sent} lines sent, {received} back, {faults} faults");
    }
    let sum = |part: fn(&DiskCounters) -> u64| disks.iter().map(part).sum::<u64>();
    format!(
        "{} written, {} read back and verified",
        size(sum(|disk| disk.written_bytes)),
        size(sum(|disk| disk.read_bytes))
    )
}

/// Shows the progress that an event means.
fn tell(progress: &Progress, event: &Event) {
    match &event.what {
        What::Booted { kernel } => progress.doing(&format!("the host VM runs Linux {kernel}")),
        What::Doing { text } => progress.doing(text),
        What::Guest {
            vm,
            report:
                Report::Ready {
                    ports,
                    disks,
                    kernel,
                },
        } => progress.doing(&format!(
            "the guest in QEMU {vm} runs Linux {kernel} and found {}",
            disks
                .iter()
                .map(|disk| &*disk.name)
                .chain(ports.iter().map(|port| &**port))
                .collect::<Vec<_>>()
                .join(", ")
        )),
        What::Guest {
            vm,
            report:
                Report::Progress {
                    sent,
                    received,
                    faults,
                    disks,
                    packets,
                    ..
                },
        } => {
            let told = told(*sent, *received, *faults, disks, *packets);
            progress.note(&format!("the guest in QEMU {vm}: {told}"));
        }
        What::Migrated(migrated) => progress.doing(&format!(
            "the guest is in QEMU {} now; it stood still for {} ms",
            migrated.destination, migrated.downtime_ms
        )),
        _ => {}
    }
}

/// Runs the demonstration. The exit status is 1 when the guest lost data, or a kernel complained.
pub fn run(workplace: &Workplace, options: &Options) -> Result<ExitCode> {
    let stages = vec![Stage::Scenario {
        scenario: Scenario::ThereAndBack,
        qemu: options.qemu,
    }];
    let components = &prepare::components(workplace, &stages, false)?;
    let progress = Progress::new()?;
    let accelerator = Accelerator::probe(components, components.kernel(false)?)?;
    progress.doing(&format!("starting the host VM ({})", accelerator.name()));
    let plan = Plan {
        stages,
        driver: true,
        nested: true,
        functions: Kind::of(&options.device) == Some(Kind::NetworkCard),
        device: Some(options.device.clone()),
        limit: LIMIT,
        ..Plan::default()
    };
    let mut machine = Machine::start(components, &plan, accelerator)?;
    let mut events = Vec::new();
    let mut troubles = Vec::new();
    let mut passed = false;
    let ran = machine.run(|event| {
        tell(&progress, event);
        match &event.what {
            What::Ended {
                outcome: Outcome::Passed,
                ..
            } => passed = true,
            What::Ended {
                outcome: Outcome::Failed(why),
                ..
            } => troubles.push(why.clone()),
            What::Ended {
                outcome: Outcome::Skipped(why),
                ..
            } => troubles.push(why.clone()),
            What::Splat { text } => troubles.push(format!("the host's kernel reported:\n{text}")),
            _ => {}
        }
        events.push(event.clone());
        Ok(())
    });
    progress.finish();
    ran?;

    let timeline = Timeline::new(&events);
    let picture = options
        .svg
        .clone()
        .unwrap_or_else(|| workplace.source.build().join(PICTURE));
    if let Some(directory) = picture
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        fs::create_dir_all(directory)
            .with_context(|| format!("creating {}", directory.display()))?;
    }
    svg::save(&picture, &drawing::draw(&timeline))
        .with_context(|| format!("writing {}", picture.display()))?;
    let good = passed && troubles.is_empty();
    if options.json {
        let value = serde_json::json!({
            "passed": good,
            "troubles": troubles,
            "timeline": timeline,
            "picture": picture,
        });
        println!("{value}");
    } else {
        println!("{}", timeline.text());
        println!("picture: {}", picture.display());
        for trouble in &troubles {
            println!("trouble: {trouble}");
        }
        if good {
            let data = match Kind::of(&options.device) {
                Some(Kind::Disk) => "every block is as it was written",
                Some(Kind::NetworkCard) => {
                    "its connection lost nothing, and only packets that came while it stood still are missing"
                }
                _ => "not one byte was lost, doubled or reordered",
            };
            println!("The guest went there and back: {data}.");
        } else {
            println!("The demonstration FAILED.");
        }
    }
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
