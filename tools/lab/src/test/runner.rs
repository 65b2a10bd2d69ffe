// SPDX-License-Identifier: GPL-2.0

//! Runs the VMs of a test run, several at once, and puts their results into the report.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;
use lab_host::event::Outcome;
use lab_host::event::What;
use lab_host::job::Stage;

use super::emulation::broken_emulation;
use super::parts::Part;
use super::Options;
use crate::components::Components;
use crate::kernel_selftests;
use crate::machine::Accelerator;
use crate::machine::Machine;
use crate::machine::Plan;
use crate::machine::TripleFault;
use crate::machine::MEMORY_GIB;
use crate::report::Report;
use crate::report::RowId;
use crate::slots;
use crate::slots::Slots;

/// Stages that emulated nested virtualisation kept from being tested.
struct Untested {
    /// For a person.
    why: &'static str,
    stages: Vec<Stage>,
}

/// Runs the VMs of parts.
pub struct Runner<'a> {
    pub components: &'a Components,
    pub options: &'a Options,
    pub accelerator: Accelerator,
    pub report: Mutex<Report>,
}

impl Runner<'_> {
    fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of processors that the VM of a part takes. A VM with the debug kernel runs alone: its guests barely boot
    /// beside another VM.
    fn processors(&self, part: &Part) -> usize {
        if self.options.debug {
            usize::MAX
        } else {
            self.accelerator.processors(part.device.is_some()) as usize
        }
    }

    /// Runs the VM of a part. A VM that cannot be run is a failed test, too.
    fn run_part(&self, part: &Part) -> Result<()> {
        let began = Instant::now();
        let row = self.report().begin(&part.name);
        // The driver does not cause a fault of emulated nested virtualisation, so the stages that it hit
        // run in another VM. There is no fourth: a failure in the last counts.
        let mut stages = part.stages.clone();
        for excuse in [true, true, false] {
            let Some(untested) = self.run_stages(row, part, &stages, excuse)? else {
                break;
            };
            self.report().doing(&format!(
                "{}: NOTE: {}; it runs in another VM",
                part.name, untested.why
            ));
            stages = untested.stages;
        }
        self.report().end(row, began);
        Ok(())
    }

    /// Runs `stages` in a VM. With `excuse`, returns the stages that emulated nested virtualisation kept from being
    /// tested; without, those stages have failed.
    fn run_stages(
        &self,
        row: RowId,
        part: &Part,
        stages: &[Stage],
        excuse: bool,
    ) -> Result<Option<Untested>> {
        let excuse =
            excuse && part.device.is_some() && matches!(self.accelerator, Accelerator::Tcg);
        let mut broken = Vec::new();
        let plan = Plan {
            stages: stages.to_vec(),
            debug: self.options.debug,
            driver: true,
            kunit: part.kunit,
            nested: part.device.is_some(),
            functions: part.functions,
            variant_parameters: part.variant_parameters.to_owned(),
            device: part.device.map(str::to_owned),
            programs: part.programs.clone(),
            files: part
                .kernel_programs
                .iter()
                .map(|name| kernel_selftests::output(&self.components.source).join(name))
                .collect(),
            limit: part.limit,
            ..Plan::default()
        };
        let mut splats = 0;
        let mut done = 0;
        let mut last_stage = "the host VM".to_owned();
        let started = Machine::start(self.components, &plan, self.accelerator);
        let ran = started.and_then(|mut machine| {
            let ran = machine.run(|event| {
                let mut report = self.report();
                match &event.what {
                    What::Booted { kernel } => {
                        report.doing(&format!("{}: on {kernel}", part.name));
                    }
                    What::Doing { text } => report.doing(&format!("{}: {text}", part.name)),
                    What::Started { name } => {
                        last_stage.clone_from(name);
                        report.doing(&format!("{}: {name}", part.name));
                    }
                    What::Ended {
                        name,
                        outcome,
                        seconds,
                    } => {
                        last_stage = format!("after {name}");
                        done += 1;
                        let sign = match outcome {
                            Outcome::Failed(why) if excuse => broken_emulation(why),
                            _ => None,
                        };
                        match (sign, stages.get(done - 1)) {
                            (Some(sign), Some(stage)) => {
                                report.doing(&format!("{}: {name}: {sign}", part.name));
                                broken.push(stage.clone());
                            }
                            _ => report.add(row, name, outcome.clone(), *seconds),
                        }
                    }
                    What::Splat { text } => {
                        splats += 1;
                        let why = format!("{last_stage}:\n{text}");
                        report.add(row, &kernel_log(&part.name), Outcome::Failed(why), 0.0);
                    }
                    _ => {}
                }
                Ok(())
            });
            if let Some(directory) = &self.options.keep_logs {
                machine.keep_logs(directory, &part.name.replace(' ', "-"))?;
            }
            ran
        });
        if let Err(error) = ran {
            if excuse && splats == 0 && error.is::<TripleFault>() {
                broken.extend(stages.iter().skip(done).cloned());
                return Ok(Some(Untested {
                    why: "a processor of the emulated host VM took a triple fault without a word \
                          from its kernel, and what is left could not be tested",
                    stages: broken,
                }));
            }
            let name = format!("{}: the host VM", part.name);
            let why = format!("{last_stage}: {error:#}");
            self.report().add(row, &name, Outcome::Failed(why), 0.0);
        } else if splats == 0 {
            self.report()
                .add(row, &kernel_log(&part.name), Outcome::Passed, 0.0);
        }
        Ok((!broken.is_empty()).then_some(Untested {
            why: "the emulation of the host VM broke a guest, as the line above shows",
            stages: broken,
        }))
    }

    /// Starts the parts in this order, as many at once as the processors suffice for.
    pub fn run(&self, parts: &[Part], began: Instant) -> Result<()> {
        let processors = self.options.jobs;
        let processors = Slots::new(processors.unwrap_or_else(|| slots::processors(MEMORY_GIB)));
        thread::scope(|scope| {
            let mut running = Vec::new();
            for part in parts {
                let taken = processors.take(self.processors(part));
                match self.options.budget {
                    Some(budget) if began.elapsed() > Duration::from_secs(budget) => {
                        let why = format!("{budget} seconds had passed, see --budget");
                        let mut report = self.report();
                        let row = report.begin(&part.name);
                        report.add(row, &part.name, Outcome::Skipped(why), 0.0);
                    }
                    _ => running.push(scope.spawn(move || {
                        let _taken = taken;
                        self.run_part(part)
                    })),
                }
            }
            running.into_iter().try_for_each(|part| match part.join() {
                Ok(ended) => ended,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })
    }
}

fn kernel_log(part: &str) -> String {
    format!("{part}: no warning, bug or leak in the kernel's log")
}
