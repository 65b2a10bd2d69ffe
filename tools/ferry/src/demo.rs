// SPDX-License-Identifier: GPL-2.0

//! `ferry demo`: a guest that streams moves to another QEMU and back, and a person sees how.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use ferry_guest::report::Report;
use ferry_host::event::Event;
use ferry_host::event::Outcome;
use ferry_host::event::What;
use ferry_host::job::Stage;
use ferry_host::scenario::Scenario;

use crate::components::Components;
use crate::drawing;
use crate::machine::Accelerator;
use crate::machine::Machine;
use crate::machine::Plan;
use crate::progress::Progress;
use crate::test::SERIAL;
use crate::timeline::Timeline;

/// When the host VM is ended.
const LIMIT: Duration = Duration::from_secs(400);

/// The picture's name.
const PICTURE: &str = "ferry-demo.svg";

/// Options of `ferry demo`.
#[derive(clap::Args)]
pub struct Options {
    /// Where the picture goes [default: ferry-demo.svg in the build directory]
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// The type of the mediated device: ferry_uart-1, -2 or -4
    #[arg(long, value_name = "TYPE", default_value = SERIAL)]
    device: String,

    /// Print everything that happened as one JSON value instead of text
    #[arg(long)]
    json: bool,
}

/// Tells a person of an event.
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
                    ..
                },
        } => {
            progress.note(&format!(
                "the guest in QEMU {vm}: {sent} lines sent, {received} back, {faults} faults"
            ));
        }
        What::Migrated(migrated) => progress.doing(&format!(
            "the guest is in QEMU {} now; it stood still for {} ms",
            migrated.destination, migrated.downtime_ms
        )),
        _ => {}
    }
}

/// Shows it. The exit status is 1 when the guest lost something, or the kernel complained.
pub fn run(components: &Components, options: &Options) -> Result<ExitCode> {
    let progress = Progress::new()?;
    let accelerator = Accelerator::probe(components, components.kernel(false)?)?;
    progress.doing(&format!("starting the host VM ({})", accelerator.name()));
    let plan = Plan {
        stages: vec![Stage::Scenario {
            scenario: Scenario::ThereAndBack,
        }],
        driver: true,
        nested: true,
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
        .unwrap_or_else(|| components.output(PICTURE));
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
            println!("The guest went there and back: not one byte was lost, doubled or reordered.");
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
