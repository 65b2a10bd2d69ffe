// SPDX-License-Identifier: GPL-2.0

//! `ferry test`: every test that needs a virtual machine, and the table of all tests.
//!
//! `make test` has run the checks that need none, and tells of them through two files of plain
//! lines, the stages and the set-up's timings; they are part of the table, too.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use ferry_host::device::Kind;
use ferry_host::event::Outcome;
use ferry_host::event::What;
use ferry_host::job::Stage;
use ferry_host::scenario::Scenario;
use ferry_host::vmm::Qemu;
use serde::Serialize;

use crate::components::Components;
use crate::machine::Accelerator;
use crate::machine::Machine;
use crate::machine::Plan;
use crate::machine::TripleFault;
use crate::matrix;
use crate::policy;
use crate::progress::Progress;

/// The kselftest programs.
const SELFTESTS: [&str; 2] = ["vfio-migration-selftests", "vfio-migration-v2-selftests"];

/// When the VM with the kselftests is ended. A debug kernel takes its time.
const SELFTESTS_LIMIT: Duration = Duration::from_secs(600);
const DEBUG_LIMIT: Duration = Duration::from_secs(1800);

/// When the VM with the scenarios is ended.
const SCENARIOS_LIMIT: Duration = Duration::from_secs(1800);

/// Options of `ferry test`.
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

    /// List the parts and scenarios, and stop
    #[arg(long)]
    list: bool,

    /// Copy the virtual machines' logs here
    #[arg(long, value_name = "DIR")]
    keep_logs: Option<PathBuf>,

    /// Print the results as one JSON value instead of a table
    #[arg(long)]
    json: bool,

    /// Lines of "STAGE SECONDS PASSED FAILED": what was checked before
    #[arg(long, env = "FERRY_STAGES", value_name = "FILE")]
    stages: Option<PathBuf>,

    /// Lines of "COMPONENT SECONDS built|cached": what the set-up took
    #[arg(long, env = "FERRY_TIMINGS", value_name = "FILE")]
    timings: Option<PathBuf>,
}

/// A test's result.
#[derive(Serialize)]
struct TestResult {
    part: String,
    name: String,
    #[serde(flatten)]
    outcome: Outcome,
    seconds: f64,
}

/// A row of the table.
#[derive(Default, Serialize)]
struct Row {
    name: String,
    seconds: f64,
    passed: usize,
    failed: usize,
    skipped: usize,
}

/// Everything that is known so far.
struct Report {
    rows: Vec<Row>,
    results: Vec<TestResult>,
    progress: Progress,
    json: bool,
}

impl Report {
    fn say(&self, text: &str) {
        if self.json {
            self.progress.remark(text);
        } else {
            self.progress.say(text);
        }
    }

    fn begin(&mut self, name: &str) {
        self.rows.push(Row {
            name: name.to_owned(),
            ..Row::default()
        });
        self.progress.doing(name);
    }

    /// Adds a result to the row that was begun last.
    fn add(&mut self, name: &str, outcome: Outcome, seconds: f64) {
        if let Some(row) = self.rows.last_mut() {
            match &outcome {
                Outcome::Passed => row.passed += 1,
                Outcome::Failed(_) => row.failed += 1,
                Outcome::Skipped(_) => row.skipped += 1,
            }
        }
        let word = match &outcome {
            Outcome::Passed => "passed",
            Outcome::Failed(_) => "FAILED",
            Outcome::Skipped(_) => "skipped",
        };
        // Most tests take no time worth telling.
        let time = if seconds >= 0.1 {
            format!(" ({seconds:.1} s)")
        } else {
            String::new()
        };
        self.say(&format!("  {word:8} {name}{time}"));
        if let Outcome::Failed(why) | Outcome::Skipped(why) = &outcome {
            for line in why.lines().filter(|line| !line.trim().is_empty()) {
                self.say(&format!("           {line}"));
            }
        }
        let part = self.rows.last().map(|row| row.name.clone());
        self.results.push(TestResult {
            part: part.unwrap_or_default(),
            name: name.to_owned(),
            outcome,
            seconds,
        });
    }

    fn end(&mut self, began: Instant) {
        if let Some(row) = self.rows.last_mut() {
            row.seconds = began.elapsed().as_secs_f64();
        }
    }
}

/// The words of each line of a file that may be missing.
fn lines_of_words(path: &Option<PathBuf>) -> Result<Vec<Vec<String>>> {
    let Some(path) = path else {
        return Ok(Vec::new());
    };
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(text
        .lines()
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect())
}

/// The stages that were run before.
fn earlier_stages(path: &Option<PathBuf>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for words in lines_of_words(path)? {
        let [name, seconds, passed, failed] = words.as_slice() else {
            continue;
        };
        let number = |text: &str| text.parse::<usize>().context("reading the stages' file");
        rows.push(Row {
            name: name.clone(),
            seconds: number(seconds)? as f64,
            passed: number(passed)?,
            failed: number(failed)?,
            skipped: 0,
        });
    }
    Ok(rows)
}

/// A part of the test that one VM runs.
struct Part {
    name: String,
    stages: Vec<Stage>,
    kunit: bool,
    /// The mdev type of scenarios; with one, the VM carries a guest.
    device: Option<&'static str>,
    programs: Vec<String>,
    limit: Duration,
}

fn parts(options: &Options) -> Vec<Part> {
    let scenarios = |part: &str, list: &[Scenario], qemu: Qemu| {
        let wanted = |scenario: &&Scenario| {
            options.only.as_ref().is_none_or(|only| {
                part.contains(only.as_str()) || scenario.title(qemu).contains(only.as_str())
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
        program: format!("{}/{program}", ferry_host::job::PROGRAMS),
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
        // The device's own log needs iommufd, which the stock kernel does not have.
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

/// What shows in a scenario's failure that the emulation of the host VM broke its guest, whatever the
/// device does.
///
/// KVM finds an exception under way where there is none: TCG leaves the type of the last exception that
/// was injected into a guest in EXITINTINFO, without its valid bit, and KVM looks at the type alone
/// (`svm_handle_exit()`).
///
/// A guest's timer interrupt comes in the midst of the handler of the same interrupt: TCG delivered it
/// twice, see `Accelerator::processors()`. Handlers run with interrupts off.
const EMULATION_BROKE: [&str; 2] = [
    "KVM internal error. Suberror: 3",
    "WARNING: kernel/time/hrtimer.c:2101 at __hrtimer_run_queues",
];

/// By what the emulation shows in the reason of a failure that it broke the guest.
fn broken_emulation(why: &str) -> Option<&'static str> {
    EMULATION_BROKE.into_iter().find(|sign| why.contains(sign))
}

/// What of a part emulated nested virtualisation kept from being tested.
struct Untested {
    /// For a person.
    why: &'static str,
    stages: Vec<Stage>,
}

/// Runs the VM of a part. That it could not be run is a failed test, too.
fn run_part(
    components: &Components,
    options: &Options,
    accelerator: Accelerator,
    part: &Part,
    report: &mut Report,
) -> Result<()> {
    let began = Instant::now();
    report.begin(&part.name);
    // What emulated nested virtualisation did is not the driver's doing: what is left gets a second
    // VM, and only one.
    let first = run_stages(
        components,
        options,
        accelerator,
        part,
        &part.stages,
        true,
        report,
    )?;
    if let Some(Untested { why, stages }) = first {
        report.progress.doing(&format!(
            "{}: NOTE: {why}; it runs in a second VM",
            part.name
        ));
        run_stages(
            components,
            options,
            accelerator,
            part,
            &stages,
            false,
            report,
        )?;
    }
    report.end(began);
    Ok(())
}

/// Runs `stages` in a VM. Returns those that emulated nested virtualisation kept from being tested, if
/// there is to be an `excuse` for it; otherwise they have failed.
fn run_stages(
    components: &Components,
    options: &Options,
    accelerator: Accelerator,
    part: &Part,
    stages: &[Stage],
    excuse: bool,
    report: &mut Report,
) -> Result<Option<Untested>> {
    let excuse = excuse && part.device.is_some() && matches!(accelerator, Accelerator::Tcg);
    let mut broken = Vec::new();
    let plan = Plan {
        stages: stages.to_vec(),
        debug: options.debug,
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
    let ran = Machine::start(components, &plan, accelerator).and_then(|mut machine| {
        let ran = machine.run(|event| {
            match &event.what {
                What::Booted { kernel } => report
                    .progress
                    .doing(&format!("{}: on {kernel}", part.name)),
                What::Doing { text } => report.progress.doing(&format!("{}: {text}", part.name)),
                What::Started { name } => {
                    last_stage.clone_from(name);
                    report.progress.doing(name);
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
                            report.progress.doing(&format!("{name}: {sign}"));
                            broken.push(stage.clone());
                        }
                        _ => report.add(name, outcome.clone(), *seconds),
                    }
                }
                What::Splat { text } => {
                    splats += 1;
                    let why = format!("{last_stage}:\n{text}");
                    report.add(&kernel_log(&part.name), Outcome::Failed(why), 0.0);
                }
                _ => {}
            }
            Ok(())
        });
        if let Some(directory) = &options.keep_logs {
            machine.keep_logs(directory, &part.name.replace(' ', "-"))?;
        }
        ran
    });
    if let Err(error) = ran {
        if excuse && splats == 0 && error.is::<TripleFault>() {
            broken.extend(stages.iter().skip(done).cloned());
            return Ok(Some(Untested {
                why: "a processor of the emulated host VM took a triple fault without a word from its \
                      kernel, and what is left could not be tested",
                stages: broken,
            }));
        }
        let name = format!("{}: the host VM", part.name);
        report.add(
            &name,
            Outcome::Failed(format!("{last_stage}: {error:#}")),
            0.0,
        );
    } else if splats == 0 {
        report.add(&kernel_log(&part.name), Outcome::Passed, 0.0);
    }
    Ok((!broken.is_empty()).then_some(Untested {
        why: "the emulation of the host VM broke a guest, as the line above shows",
        stages: broken,
    }))
}

fn kernel_log(part: &str) -> String {
    format!("{part}: no warning, bug or leak in the kernel's log")
}

/// Prints where the time went, and the numbers.
fn print_table(report: &Report, timings: &[Vec<String>]) {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    println!();
    println!(
        "{:24} {:>8} {:>8} {:>8} {:>9}",
        "stage", "passed", "failed", "skipped", "time"
    );
    println!("{}", "-".repeat(61));
    for row in &report.rows {
        println!(
            "{:24} {:>8} {:>8} {:>8} {:>7.1} s",
            row.name, row.passed, row.failed, row.skipped, row.seconds
        );
        passed += row.passed;
        failed += row.failed;
        skipped += row.skipped;
    }
    for words in timings {
        if let [name, seconds, how] = words.as_slice() {
            println!("{:51} {seconds:>7} s", format!("set-up: {name} ({how})"));
        }
    }
    println!("{}", "-".repeat(61));
    let mut slowest: Vec<_> = report
        .results
        .iter()
        .filter(|result| result.seconds >= 1.0)
        .collect();
    slowest.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    if !slowest.is_empty() {
        println!("the slowest tests:");
        for result in slowest.iter().take(SLOWEST) {
            println!("  {:49} {:>7.1} s", result.name, result.seconds);
        }
    }
    let of_scenarios: Vec<matrix::Seen<'_>> = report
        .results
        .iter()
        .map(|result| (&*result.part, &*result.name, &result.outcome))
        .collect();
    print!("{}", matrix::seen(&of_scenarios));
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for result in &report.results {
        if let Outcome::Skipped(why) = &result.outcome {
            reasons.entry(why).or_default().push(&result.name);
        }
    }
    for (why, names) in reasons {
        println!("skipped, {why}: {}", names.join(", "));
    }
    for result in &report.results {
        if let Outcome::Failed(why) = &result.outcome {
            println!(
                "failed: {}: {}",
                result.name,
                why.trim().lines().next().unwrap_or("")
            );
        }
    }
    println!();
    let skips = if skipped > 0 {
        format!(", {skipped} skipped")
    } else {
        String::new()
    };
    println!("{passed} passed, {failed} failed{skips}");
}

/// How many of the slowest tests are named.
const SLOWEST: usize = 5;

/// Runs the tests; the exit status is 1 when one failed.
pub fn run(components: &Components, options: &Options) -> Result<ExitCode> {
    let began = Instant::now();
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
    let mut report = Report {
        rows: earlier_stages(&options.stages)?,
        results: Vec::new(),
        progress: Progress::new()?,
        json: options.json,
    };
    // A stage is named when it failed, with those that are run here.
    for row in report.rows.iter().filter(|row| row.failed > 0) {
        report.results.push(TestResult {
            part: row.name.clone(),
            name: row.name.clone(),
            outcome: Outcome::Failed("see its output above".to_owned()),
            seconds: row.seconds,
        });
    }

    let policy_wanted = options
        .only
        .as_ref()
        .is_none_or(|only| "policy".contains(only.as_str()));
    if policy_wanted && !options.debug {
        let began = Instant::now();
        report.begin("policy");
        for (name, outcome) in policy::check(components.source()?)? {
            report.add(&format!("policy: {name}"), outcome, 0.0);
        }
        report.end(began);
    }
    if !parts.is_empty() {
        let accelerator = if options.debug {
            // The debug kernel has KVM only for the processor that translation makes.
            Accelerator::Tcg
        } else {
            Accelerator::probe(components, components.kernel(false)?)?
        };
        report
            .progress
            .doing(&format!("host VMs run with {}", accelerator.name()));
        for part in &parts {
            match options.budget {
                Some(budget) if began.elapsed() > Duration::from_secs(budget) => {
                    let why = format!("{budget} seconds had passed, see --budget");
                    report.begin(&part.name);
                    report.add(&part.name, Outcome::Skipped(why), 0.0);
                }
                _ => run_part(components, options, accelerator, part, &mut report)?,
            }
        }
    }
    report.progress.finish();

    let timings = lines_of_words(&options.timings)?;
    if options.json {
        let rows = serde_json::to_value(&report.rows)?;
        let results = serde_json::to_value(&report.results)?;
        println!(
            "{}",
            serde_json::json!({ "stages": rows, "results": results })
        );
    } else {
        print_table(&report, &timings);
    }
    let failed: usize = report.rows.iter().map(|row| row.failed).sum();
    let passed: usize = report.rows.iter().map(|row| row.passed).sum();
    Ok(if failed == 0 && passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

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

    #[test]
    fn earlier_stages_are_read_as_they_are_written() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path: &Path = &directory.path().join("stages");
        fs::write(path, "host-tests 12 40 1\nclippy 3 1 0\n").expect("write");
        let rows = earlier_stages(&Some(path.to_owned())).expect("stages");
        let seen: Vec<_> = rows
            .iter()
            .map(|row| (&*row.name, row.passed, row.failed))
            .collect();
        assert_eq!(seen, [("host-tests", 40, 1), ("clippy", 1, 0)]);
    }
}
