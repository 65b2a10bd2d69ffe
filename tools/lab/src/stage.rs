// SPDX-License-Identifier: GPL-2.0

//! Stages: what is built and checked before the first virtual machine. Each runs quietly into a log.

use std::process::Command;
use std::process::Stdio;
use std::time::Instant;

use anyhow::Result;

use crate::console::Console;
use crate::file_lock::FileLock;
use crate::job::Job;
use crate::job::Log;
use crate::source::Source;

/// Lines of the log that a failure shows.
const TAIL_LINES: usize = 30;

/// What came of a stage, for the table that a test run ends with.
#[derive(Clone, Debug, PartialEq)]
pub struct StageResult {
    pub name: String,
    pub seconds: f64,
    pub passed: usize,
    pub failed: usize,
    pub failures: Vec<Failure>,
}

/// A test of cargo that failed, and what it said.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub name: String,
    pub why: String,
}

/// Runs `commands` one after the other, as long as they succeed, with `lock` if they need one.
pub fn run(
    source: &Source,
    console: &Console,
    name: &str,
    commands: Vec<Command>,
    lock: Option<&FileLock>,
) -> Result<StageResult> {
    let slug = name.replace(' ', "-");
    let log = Log::create(source.build().join("logs").join(format!("{slug}.log")))?;
    let task = console.task(name);
    task.say("started");
    let began = Instant::now();
    let mut success = true;
    for mut command in commands {
        log.receive(&mut command)?;
        command.stdin(match lock {
            Some(lock) => lock.stdin()?,
            None => Stdio::null(),
        });
        let status = Job::start(&mut command)?.wait(|| task.note(|| log.last_line()))?;
        success = status.success();
        if !success {
            let seconds = task.elapsed().as_secs();
            task.say(&format!(
                "FAILED after {seconds} s ({status}); the last lines of its log:\n{}",
                log.tail(TAIL_LINES)
            ));
            task.say(&format!("the log is {}", log.path().display()));
            break;
        }
    }
    if success {
        task.say(&format!("passed in {} s", task.elapsed().as_secs()));
    }
    let text = log.text();
    let (passed, failed) = count_tests(&text, success);
    Ok(StageResult {
        name: slug,
        seconds: began.elapsed().as_secs_f64(),
        passed,
        failed,
        failures: failed_tests(&text),
    })
}

/// The tests that failed by cargo's "... FAILED" lines, each with the first lines of its panic.
fn failed_tests(log: &str) -> Vec<Failure> {
    let lines: Vec<&str> = log.lines().collect();
    let names = lines.iter().filter_map(|line| {
        let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
        Some(name.to_owned())
    });
    let why = |name: &str| {
        let header = format!("---- {name} stdout ----");
        let section = lines.iter().position(|line| **line == header)?;
        let mut said = lines.iter().skip(section + 1);
        let place = said.find_map(|line| line.split_once("panicked at "))?.1;
        let message = said.next().unwrap_or(&"");
        Some(format!("{place} {message}"))
    };
    names
        .map(|name| Failure {
            why: why(&name).unwrap_or_else(|| "see its output above".to_owned()),
            name,
        })
        .collect()
}

/// Adds up the numbers of cargo's "test result" lines, as passed and failed; without any, the stage itself is the test.
fn count_tests(log: &str, success: bool) -> (usize, usize) {
    let (mut passed, mut failed) = (0, 0);
    for line in log.lines().filter(|line| line.starts_with("test result:")) {
        // test result: ok. 22 passed; 0 failed; ...
        let words: Vec<_> = line.split_whitespace().collect();
        let number = |word: &str| {
            let before = words
                .iter()
                .position(|it| it.trim_end_matches(';') == word)?
                .checked_sub(1)?;
            words.get(before)?.parse::<usize>().ok()
        };
        passed += number("passed").unwrap_or(0);
        failed += number("failed").unwrap_or(0);
    }
    match (passed + failed, success) {
        (0, true) => (1, 0),
        (0, false) => (0, 1),
        (_, false) => (passed, failed.max(1)),
        (_, true) => (passed, failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_counted_by_cargos_results() {
        let log = "running 2 tests\ntest result: ok. 22 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n\
                   x\ntest result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n";
        for (log, success, expected) in [
            (log, false, (25, 2)),
            ("test result: ok. 4 passed; 0 failed;\n", true, (4, 0)),
            (
                "test result: ok. 4 passed; 0 failed;\nerror: no such crate\n",
                false,
                (4, 1),
            ),
            ("Finished\n", true, (1, 0)),
            ("", false, (0, 1)),
        ] {
            assert_eq!(count_tests(log, success), expected, "{log}");
        }
    }

    #[test]
    fn a_test_that_fails_is_named_with_the_place_and_the_message_of_its_panic() {
        let log = "test a::b ... ok\ntest a::c ... FAILED\ntest d ... FAILED\n\nfailures:\n\n---- a::c stdout ----\n\n\
                   thread 'a::c' (7) panicked at rust/x.rs:3:5:\nnot so\nnote: more\n\n\nfailures:\n    a::c\n    d\n";
        let failure = |name: &str, why: &str| Failure {
            name: name.to_owned(),
            why: why.to_owned(),
        };
        assert_eq!(
            failed_tests(log),
            [
                failure("a::c", "rust/x.rs:3:5: not so"),
                failure("d", "see its output above"),
            ]
        );
    }

    #[test]
    fn a_stage_ends_with_the_first_command_that_fails() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(directory.path().join("scripts")).expect("a directory");
        std::fs::write(directory.path().join("scripts/versions.lock"), "").expect("write");
        let source = Source::find(Some(directory.path())).expect("a source tree");
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        let commands = vec![
            shell("echo one"),
            shell("echo two; exit 1"),
            shell("echo three"),
        ];
        let console = Console::new().expect("a console");
        let result = run(&source, &console, "some stage", commands, None).expect("a result");
        assert_eq!(
            (&*result.name, result.passed, result.failed),
            ("some-stage", 0, 1)
        );
        let log = std::fs::read_to_string(source.build().join("logs/some-stage.log"));
        assert_eq!(log.expect("the log"), "one\ntwo\n");
    }
}
