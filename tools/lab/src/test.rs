// SPDX-License-Identifier: GPL-2.0

//! `lab test`: every test that needs a virtual machine, and the table of all tests.
//!
//! The table also has the stages, which run before the first virtual machine.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;
use lab_host::device::Kind;
use lab_host::event::Outcome;
use lab_host::event::What;
use lab_host::event::SPINS;
use lab_host::job::Stage;
use lab_host::scenario::Scenario;
use lab_host::vmm::Qemu;

use crate::components::Components;
use crate::machine::Accelerator;
use crate::machine::Machine;
use crate::machine::Plan;
use crate::machine::TripleFault;
use crate::machine::MEMORY_GIB;
use crate::matrix;
use crate::policy;
use crate::prepare::prepare;
use crate::prepare::Needs;
use crate::report::Report;
use crate::report::RowId;
use crate::slots;
use crate::slots::Slots;
use crate::workplace::Workplace;

/// The kselftest programs.
const SELFTESTS: [&str; 2] = ["vfio-migration-selftests", "vfio-migration-v2-selftests"];

/// The times after which the VM with the kselftests is ended. A debug kernel is slow.
const SELFTESTS_LIMIT: Duration = Duration::from_secs(600);
const DEBUG_LIMIT: Duration = Duration::from_secs(1800);

/// The time after which the VM with the scenarios is ended. On two emulated processors, beside another VM, the scenarios
/// of the disk took 30 minutes.
const SCENARIOS_LIMIT: Duration = Duration::from_secs(3600);

#[derive(clap::Args)]
pub struct Options {
    /// Run on the debug kernel: KUnit, kselftests, one live migration, and a look for leaks
    #[arg(long)]
    debug: bool,

    /// Run only the parts or scenarios whose name has this in it: policy, kunit, kselftest, ...
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,

    /// Skip the virtual machines that would be started later than this many seconds from now
    #[arg(long, value_name = "SECONDS")]
    budget: Option<u64>,

    /// Run virtual machines that have this many processors in all at once, instead of as many as
    /// there are and memory suffices for
    #[arg(long, value_name = "NUMBER")]
    jobs: Option<usize>,

    /// List the parts and scenarios, and stop
    #[arg(long)]
    list: bool,

    /// Copy the virtual machines' logs here
    #[arg(long, value_name = "DIR")]
    keep_logs: Option<PathBuf>,

    /// Print the results as one JSON value instead of a table
    #[arg(long)]
    json: bool,
}

/// A part of the test that one VM runs.
struct Part {
    name: String,
    stages: Vec<Stage>,
    kunit: bool,
    /// The mdev type of the scenarios. A VM with scenarios carries a guest.
    device: Option<&'static str>,
    programs: Vec<String>,
    limit: Duration,
}

fn parts(options: &Options) -> Vec<Part> {
    let scenarios = |part: &str, list: &[Scenario], qemu: Qemu| {
        let wanted = |scenario: &&Scenario| {
            options.only.as_ref().is_none_or(|only| {
                part.contains(only.as_str()) || scenario.title().contains(only.as_str())
            })
        };
        let stage = |&scenario: &Scenario| Stage::Scenario { scenario, qemu };
        list.iter().filter(wanted).map(stage).collect::<Vec<_>>()
    };
    let wanted = |name: &str| {
        options
            .only
            .as_ref()
            .is_none_or(|only| name.contains(only.as_str()))
    };
    let selftests = SELFTESTS.map(|program| Stage::Kselftest {
        program: format!("{}/{program}", lab_host::job::PROGRAMS),
    });
    let mut parts = Vec::new();
    if options.debug {
        if wanted("kunit") || wanted("kselftest") {
            let mut stages = Vec::new();
            if wanted("kselftest") {
                stages.extend(selftests);
            }
            stages.push(Stage::Kmemleak);
            parts.push(Part {
                name: "kunit and kselftest".to_owned(),
                stages,
                kunit: wanted("kunit"),
                device: None,
                programs: SELFTESTS.map(str::to_owned).to_vec(),
                limit: DEBUG_LIMIT,
            });
        }
        // The device's dirty log needs iommufd, which the stock kernel does not have.
        let with_log = (Scenario::DeviceLog, matrix::QEMU_WITH_DEVICE_LOG);
        for (scenario, qemu) in [(Scenario::LiveMigration, Qemu::default()), with_log] {
            for device in matrix::DEVICES {
                let name = matrix::part(device, qemu);
                let mut stages = scenarios(&name, &[scenario], qemu);
                if stages.is_empty() {
                    continue;
                }
                stages.push(Stage::Kmemleak);
                parts.push(Part {
                    name,
                    stages,
                    kunit: false,
                    device: Some(device),
                    programs: Vec::new(),
                    limit: DEBUG_LIMIT,
                });
            }
        }
        return parts;
    }
    if wanted("kselftest") {
        parts.push(Part {
            name: "kselftest".to_owned(),
            stages: selftests.to_vec(),
            kunit: false,
            device: None,
            programs: SELFTESTS.map(str::to_owned).to_vec(),
            limit: SELFTESTS_LIMIT,
        });
    }
    let with_each = |qemu: Qemu| matrix::DEVICES.map(|device| (device, qemu));
    for (device, qemu) in Qemu::ALL.into_iter().flat_map(with_each) {
        let name = matrix::part(device, qemu);
        let list = Kind::of(device).map(|kind| Scenario::of(kind, qemu));
        let stages = scenarios(&name, &list.unwrap_or_default(), qemu);
        if !stages.is_empty() {
            parts.push(Part {
                name,
                stages,
                kunit: false,
                device: Some(device),
                programs: Vec::new(),
                limit: SCENARIOS_LIMIT,
            });
        }
    }
    parts
}

/// Signs, in the reason of a failure, that the emulation of the host VM broke its guest. No device can cause them.
///
/// KVM finds an exception under way where there is none: TCG leaves the type of the last exception that
/// was injected into a guest in EXITINTINFO, without its valid bit, and KVM looks at the type alone
/// (`svm_handle_exit()`).
///
/// A guest's timer interrupt comes during the handler of the same interrupt: TCG delivered it
/// twice, see `Accelerator::processors()`. Handlers run with interrupts off. The guest either warns of
/// it, or waits for a lock that it holds.
const EMULATION_BROKE: [&str; 3] = [
    "KVM internal error. Suberror: 3",
    "WARNING: kernel/time/hrtimer.c:2101 at __hrtimer_run_queues",
    SPINS,
];

/// The sign of a broken emulation in the reason of a failure.
fn broken_emulation(why: &str) -> Option<&'static str> {
    EMULATION_BROKE.into_iter().find(|sign| why.contains(sign))
}

/// Stages that emulated nested virtualisation kept from being tested.
struct Untested {
    /// For a person.
    why: &'static str,
    stages: Vec<Stage>,
}

/// Runs the VMs of parts.
struct Runner<'a> {
    components: &'a Components,
    options: &'a Options,
    accelerator: Accelerator,
    report: Mutex<Report>,
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
        // run in a second VM. There is no third.
        let first = self.run_stages(row, part, &part.stages, true)?;
        if let Some(Untested { why, stages }) = first {
            self.report().doing(&format!(
                "{}: NOTE: {why}; it runs in a second VM",
                part.name
            ));
            self.run_stages(row, part, &stages, false)?;
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
            device: part.device.map(str::to_owned),
            programs: part.programs.clone(),
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
    fn run(&self, parts: &[Part], began: Instant) -> Result<()> {
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

/// What the virtual machines of `parts` and all other tests need.
fn needs(options: &Options, parts: &[Part]) -> Needs {
    let stages: Vec<_> = parts.iter().flat_map(|part| part.stages.clone()).collect();
    Needs {
        debug: options.debug,
        checks: !options.debug,
        ..Needs::of(&stages)
    }
}

/// Runs the tests; the exit status is 1 when one failed.
pub fn run(workplace: &Workplace, options: &Options) -> Result<ExitCode> {
    let parts = parts(options);
    if options.list {
        for part in &parts {
            println!("{}", part.name);
        }
        for scenario in Scenario::ALL {
            println!("{}", scenario.name());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let prepared = prepare(workplace, &needs(options, &parts))?;
    let began = Instant::now();
    let mut report = Report::new(prepared.stages, options.json)?;
    match prepared.components {
        Ok(components) => report = run_in_machines(&components, options, &parts, report, began)?,
        // A stage that failed is in the table, but a failed download is no stage.
        Err(error) => {
            let row = report.begin("set-up");
            let why = Outcome::Failed(format!("{error:#}"));
            report.add(row, "set-up", why, 0.0);
        }
    }
    Ok(if report.print(&prepared.times)? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Checks the source, and runs the VMs of all parts.
fn run_in_machines(
    components: &Components,
    options: &Options,
    parts: &[Part],
    mut report: Report,
    began: Instant,
) -> Result<Report> {
    let policy_wanted = options
        .only
        .as_ref()
        .is_none_or(|only| "policy".contains(only.as_str()));
    if policy_wanted && !options.debug {
        let began = Instant::now();
        let row = report.begin("policy");
        for (name, outcome) in policy::check(components.source.root()) {
            report.add(row, &format!("policy: {name}"), outcome, 0.0);
        }
        report.end(row, began);
    }
    if parts.is_empty() {
        return Ok(report);
    }
    let accelerator = if options.debug {
        // The debug kernel has KVM only for the processor that QEMU emulates.
        Accelerator::Tcg
    } else {
        Accelerator::probe(components, components.kernel(false)?)?
    };
    report.doing(&format!("host VMs run with {}", accelerator.name()));
    let runner = Runner {
        components,
        options,
        accelerator,
        report: Mutex::new(report),
    };
    runner.run(parts, began)?;
    Ok(runner
        .report
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_device_can_do_counts_as_broken_emulation() {
        for (why, sign) in [
            (
                "A: KVM internal error. Suberror: 3",
                Some(EMULATION_BROKE[0]),
            ),
            (
                "the guest's kernel: WARNING: kernel/time/hrtimer.c:2101 at \
                 __hrtimer_run_queues+0x201/0x240, CPU#0: fio/156",
                Some(EMULATION_BROKE[1]),
            ),
            (
                "B: query-status: {}\nthe guest's only processor waits for a spinlock with \
                 interrupts off\nRAX=0",
                Some(SPINS),
            ),
            ("KVM internal error. Suberror: 1", None),
            (
                "the guest's kernel: WARNING: drivers/nvme/host/pci.c:1",
                None,
            ),
            ("watchdog: BUG: soft lockup - CPU#0 stuck for 27s!", None),
            ("lost 1, doubled 0", None),
        ] {
            assert_eq!(broken_emulation(why), sign, "{why}");
        }
    }
}
