// SPDX-License-Identifier: GPL-2.0

//! Runs tests, each within a time limit, and reports them in KTAP, `Documentation/dev-tools/ktap.rst`,
//! with the totals and exit statuses of `kselftest.h`.

use std::fmt;
use std::io;
use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::sync::mpsc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::check::Outcome;
use crate::check::Stop;

/// A test to run and report.
#[derive(Clone)]
pub struct Job {
    /// The name in the report.
    pub name: String,
    /// The test.
    pub run: Arc<dyn Fn() -> Outcome + Send + Sync>,
}

/// kselftest's exit statuses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// Every test passed or was skipped.
    Pass = 0,
    /// A test failed.
    Fail = 1,
    /// Nothing could be tested.
    Skip = 4,
}

/// How one test ended.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Pass,
    Fail(String),
    Skip(String),
    /// It did not end. Its thread cannot be stopped, so nothing may run after it.
    Hang(Duration),
}

/// A test's result line with its diagnostics before it.
struct Line<'a> {
    number: usize,
    name: &'a str,
    verdict: &'a Verdict,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line {
            number,
            name,
            verdict,
        } = self;
        match verdict {
            Verdict::Pass => writeln!(f, "ok {number} {name}"),
            // A new line in the reason would end the result line.
            Verdict::Skip(reason) => {
                writeln!(f, "ok {number} {name} # SKIP {}", reason.replace('\n', " "))
            }
            Verdict::Fail(message) => {
                for line in message.lines() {
                    writeln!(f, "# {line}")?;
                }
                writeln!(f, "not ok {number} {name}")
            }
            Verdict::Hang(limit) => {
                writeln!(f, "# expected an end within {limit:?}, seen none")?;
                writeln!(f, "not ok {number} {name}")?;
                writeln!(f, "Bail out! a test that hangs holds its device")
            }
        }
    }
}

fn run_one(job: &Job, limit: Duration) -> Verdict {
    let (send, receive) = mpsc::channel();
    let run = job.run.clone();
    let spawned = thread::Builder::new()
        .name(job.name.clone())
        .spawn(move || {
            let result = std::panic::catch_unwind(AssertUnwindSafe(|| run()));
            // After the limit the receiver is gone, and the result is not needed.
            let _ = send.send(result);
        });
    if let Err(error) = spawned {
        return Verdict::Fail(format!("no thread: {error}"));
    }
    match receive.recv_timeout(limit) {
        Ok(Ok(Ok(()))) => Verdict::Pass,
        Ok(Ok(Err(Stop::Failed(message)))) => Verdict::Fail(message),
        Ok(Ok(Err(Stop::Skipped(reason)))) => Verdict::Skip(reason),
        Ok(Err(panic)) => {
            let message = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Verdict::Fail(format!("the test panicked: {message}"))
        }
        Err(_) => Verdict::Hang(limit),
    }
}

/// Runs tests in order, each within `limit`, and reports them.
///
/// # Errors
///
/// When the report cannot be written.
pub fn run(jobs: &[Job], limit: Duration, out: &mut impl Write) -> io::Result<Exit> {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    writeln!(out, "TAP version 13\n1..{}", jobs.len())?;
    for (i, job) in jobs.iter().enumerate() {
        let verdict = run_one(job, limit);
        write!(
            out,
            "{}",
            Line {
                number: i + 1,
                name: &job.name,
                verdict: &verdict,
            }
        )?;
        // A reader at the other end of a serial line sees each result at once.
        out.flush()?;
        match verdict {
            Verdict::Pass => passed += 1,
            Verdict::Skip(_) => skipped += 1,
            Verdict::Fail(_) => failed += 1,
            Verdict::Hang(_) => {
                failed += 1;
                break;
            }
        }
    }
    writeln!(
        out,
        "# Totals: pass:{passed} fail:{failed} xfail:0 xpass:0 skip:{skipped} error:0"
    )?;
    out.flush()?;
    Ok(match (passed, failed) {
        (_, 1..) => Exit::Fail,
        (0, 0) if !jobs.is_empty() => Exit::Skip,
        _ => Exit::Pass,
    })
}

#[cfg(test)]
mod tests {
    use super::run;
    use super::Exit;
    use super::Job;
    use crate::check::same;
    use crate::check::Outcome;
    use crate::check::Stop;
    use std::sync::Arc;
    use std::time::Duration;

    const LIMIT: Duration = Duration::from_secs(20);

    fn good() -> Outcome {
        Ok(())
    }
    fn bad() -> Outcome {
        same("answer", 41, 42)
    }
    fn cannot() -> Outcome {
        Err(Stop::Skipped("no such\nthing".into()))
    }
    fn panics() -> Outcome {
        panic!("oh {}", "dear")
    }
    fn hangs() -> Outcome {
        loop {
            std::thread::park();
        }
    }

    type Test = (&'static str, fn() -> Outcome);

    const GOOD: Test = ("good", good);
    const BAD: Test = ("bad", bad);
    const CANNOT: Test = ("cannot", cannot);
    const PANICS: Test = ("panics", panics);
    const HANGS: Test = ("hangs", hangs);

    fn report(tests: &[Test], limit: Duration) -> (Exit, String) {
        let mut out = Vec::new();
        let jobs: Vec<Job> = tests
            .iter()
            .map(|(name, run)| Job {
                name: name.to_string(),
                run: Arc::new(*run),
            })
            .collect();
        let exit = run(&jobs, limit, &mut out).expect("a vector takes all");
        (exit, String::from_utf8(out).expect("text"))
    }

    #[test]
    fn a_report_has_version_plan_results_diagnostics_and_totals() {
        let (exit, text) = report(&[GOOD, BAD, CANNOT, PANICS], LIMIT);
        assert_eq!(exit, Exit::Fail);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..3], ["TAP version 13", "1..4", "ok 1 good"]);
        assert!(
            lines[3].starts_with("# ktap.rs:")
                && lines[3].ends_with("answer: expected 42, seen 41"),
            "{}",
            lines[3]
        );
        assert_eq!(
            lines[4..],
            [
                "not ok 2 bad",
                "ok 3 cannot # SKIP no such thing",
                "# the test panicked: oh dear",
                "not ok 4 panics",
                "# Totals: pass:1 fail:2 xfail:0 xpass:0 skip:1 error:0",
            ]
        );
    }

    #[test]
    fn exit_is_skip_only_when_nothing_at_all_was_tested() {
        assert_eq!(report(&[CANNOT], LIMIT).0, Exit::Skip);
        assert_eq!(report(&[CANNOT, GOOD], LIMIT).0, Exit::Pass);
    }

    #[test]
    fn nothing_runs_after_a_test_that_hangs() {
        let (exit, text) = report(&[HANGS, GOOD], Duration::from_millis(20));
        assert_eq!(exit, Exit::Fail);
        assert!(text.contains("not ok 1 hangs\nBail out!"), "{text}");
        assert!(!text.contains("2 good"), "{text}");
    }
}
