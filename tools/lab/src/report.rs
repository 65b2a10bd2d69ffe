// SPDX-License-Identifier: GPL-2.0

//! The results of a test run: each when its test ends, and all as a table in the end.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;
use lab_host::event::Outcome;
use serde::Serialize;

use crate::matrix;
use crate::progress::Progress;
use crate::setup::How;
use crate::setup::SetupTime;
use crate::stage::Failure;
use crate::stage::StageResult;

/// The number of slow tests that the table lists.
const SLOWEST: usize = 5;

/// A test's result.
#[derive(Serialize)]
struct TestResult {
    part: String,
    name: String,
    #[serde(flatten)]
    outcome: Outcome,
    seconds: f64,
}

impl TestResult {
    /// The test's name. A scenario's has the part's name, too, because all devices and QEMUs go through the same
    /// scenarios.
    fn full_name(&self) -> String {
        match self.name.strip_prefix("scenario: ") {
            Some(scenario) => format!("{}: {scenario}", self.part),
            None => self.name.clone(),
        }
    }
}

/// A row of the table.
#[derive(Default, Serialize)]
pub struct Row {
    pub name: String,
    pub seconds: f64,
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
}

impl From<StageResult> for Row {
    fn from(stage: StageResult) -> Self {
        let StageResult {
            name,
            seconds,
            passed,
            failed,
            failures: _,
        } = stage;
        Self {
            name,
            seconds,
            passed,
            failed,
            skipped: 0,
        }
    }
}

/// All results so far.
pub struct Report {
    rows: Vec<Row>,
    results: Vec<TestResult>,
    progress: Progress,
    json: bool,
}

/// Names a row of the table while its part runs.
#[derive(Clone, Copy)]
pub struct RowId(usize);

impl Report {
    /// A report that begins with the results of `stages`.
    pub fn new(stages: Vec<StageResult>, json: bool) -> Result<Self> {
        // Failed stages are listed with the failed tests, by the tests of theirs that failed if these have names.
        let results = stages.iter().filter(|stage| stage.failed > 0);
        let results = results.flat_map(|stage| {
            let result = |name: String, why: &str| TestResult {
                part: stage.name.clone(),
                name,
                outcome: Outcome::Failed(why.to_owned()),
                seconds: stage.seconds,
            };
            if stage.failures.is_empty() {
                return vec![result(stage.name.clone(), "see its output above")];
            }
            let of_test = |failure: &Failure| {
                result(format!("{}: {}", stage.name, failure.name), &failure.why)
            };
            stage.failures.iter().map(of_test).collect()
        });
        Ok(Self {
            results: results.collect(),
            rows: stages.into_iter().map(Row::from).collect(),
            progress: Progress::new()?,
            json,
        })
    }

    fn say(&self, text: &str) {
        if self.json {
            self.progress.remark(text);
        } else {
            self.progress.say(text);
        }
    }

    /// Shows the present step.
    pub fn doing(&self, text: &str) {
        self.progress.doing(text);
    }

    /// Begins a row. Several rows may be open at once.
    pub fn begin(&mut self, name: &str) -> RowId {
        self.rows.push(Row {
            name: name.to_owned(),
            ..Row::default()
        });
        self.progress.doing(name);
        RowId(self.rows.len() - 1)
    }

    /// Adds a result to a row.
    pub fn add(&mut self, RowId(row): RowId, name: &str, outcome: Outcome, seconds: f64) {
        let row = &mut self.rows[row];
        let (word, why) = match &outcome {
            Outcome::Passed => {
                row.passed += 1;
                ("passed", "")
            }
            Outcome::Failed(why) => {
                row.failed += 1;
                ("FAILED", why.as_str())
            }
            Outcome::Skipped(why) => {
                row.skipped += 1;
                ("skipped", why.as_str())
            }
        };
        let lines: Vec<_> = why
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| format!("           {line}"))
            .collect();
        let result = TestResult {
            part: row.name.clone(),
            name: name.to_owned(),
            outcome,
            seconds,
        };
        // The time of a fast test is not printed.
        let time = if seconds >= 0.1 {
            format!(" ({seconds:.1} s)")
        } else {
            String::new()
        };
        self.say(&format!("  {word:8} {}{time}", result.full_name()));
        for line in lines {
            self.say(&line);
        }
        self.results.push(result);
    }

    /// Ends a row.
    pub fn end(&mut self, RowId(row): RowId, began: Instant) {
        self.rows[row].seconds = began.elapsed().as_secs_f64();
    }

    /// Prints all results as a table or as JSON. Returns whether tests passed and none failed.
    pub fn print(&self, times: &[SetupTime]) -> Result<bool> {
        self.progress.finish();
        if self.json {
            let rows = serde_json::to_value(&self.rows)?;
            let results = serde_json::to_value(&self.results)?;
            println!(
                "{}",
                serde_json::json!({ "stages": rows, "results": results })
            );
        } else {
            self.print_table(times);
        }
        let failed: usize = self.rows.iter().map(|row| row.failed).sum();
        let passed: usize = self.rows.iter().map(|row| row.passed).sum();
        Ok(failed == 0 && passed > 0)
    }

    /// Prints the table, the slowest tests, the reasons of skips and failures, and the totals.
    fn print_table(&self, times: &[SetupTime]) {
        let (mut passed, mut failed, mut skipped) = (0, 0, 0);
        println!();
        println!(
            "{:24} {:>8} {:>8} {:>8} {:>9}",
            "stage", "passed", "failed", "skipped", "time"
        );
        println!("{}", "-".repeat(61));
        for row in &self.rows {
            println!(
                "{:24} {:>8} {:>8} {:>8} {:>7.1} s",
                row.name, row.passed, row.failed, row.skipped, row.seconds
            );
            passed += row.passed;
            failed += row.failed;
            skipped += row.skipped;
        }
        for SetupTime { name, seconds, how } in times {
            let how = match how {
                How::Built => "built",
                How::Cached => "cached",
            };
            println!("{:51} {seconds:>7.0} s", format!("set-up: {name} ({how})"));
        }
        println!("{}", "-".repeat(61));
        let mut slowest: Vec<_> = self
            .results
            .iter()
            .filter(|result| result.seconds >= 1.0)
            .collect();
        slowest.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        if !slowest.is_empty() {
            println!("the slowest tests:");
            for result in slowest.iter().take(SLOWEST) {
                println!("  {:49} {:>7.1} s", result.full_name(), result.seconds);
            }
        }
        let of_scenarios: Vec<matrix::Seen<'_>> = self
            .results
            .iter()
            .map(|result| (&*result.part, &*result.name, &result.outcome))
            .collect();
        print!("{}", matrix::seen(&of_scenarios));
        let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for result in &self.results {
            if let Outcome::Skipped(why) = &result.outcome {
                reasons.entry(why).or_default().push(result.full_name());
            }
        }
        for (why, names) in reasons {
            println!("skipped, {why}: {}", names.join(", "));
        }
        for result in &self.results {
            if let Outcome::Failed(why) = &result.outcome {
                println!(
                    "failed: {}: {}",
                    result.full_name(),
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
}
