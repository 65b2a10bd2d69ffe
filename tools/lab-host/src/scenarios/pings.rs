// SPDX-License-Identifier: GPL-2.0

//! Pings of a guest that go on while it moves.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::ops::Range;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;
use std::thread::JoinHandle;

use anyhow::bail;
use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use lab_guest::network::GUEST;

use super::running::STEP_LIMIT;
use crate::diagnosis;
use crate::program::SEARCH_PATH;
use crate::report::doing;

/// The time between two pings in seconds.
const PAUSE: &str = "0.2";

/// Answers that have to come before and after a move.
const ENOUGH: usize = 10;

/// A ping that runs in the host until this is dropped.
pub struct Pings {
    child: Child,
    reader: Option<JoinHandle<()>>,
    answers: Arc<Answers>,
}

/// The numbers of the answers, in the order in which they came.
#[derive(Default)]
struct Answers {
    numbers: Mutex<Vec<u64>>,
    changed: Condvar,
}

impl Pings {
    /// Begins to ping the guest. Returns when it has answered for a while.
    pub fn begin() -> Result<Self> {
        let mut child = Command::new("/bin/ping")
            .args(["-i", PAUSE, &GUEST.to_string()])
            .env("PATH", SEARCH_PATH)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting ping")?;
        let output = child.stdout.take().context("the output of ping")?;
        let answers = Arc::new(Answers::default());
        let reader = thread::spawn({
            let answers = answers.clone();
            move || answers.read(output)
        });
        let pings = Self {
            child,
            reader: Some(reader),
            answers,
        };
        pings.wait_more()?;
        Ok(pings)
    }

    /// Waits for answers from now on.
    fn wait_more(&self) -> Result<()> {
        let numbers = self.answers.lock();
        let before = numbers.len();
        let (numbers, waited) = self
            .answers
            .changed
            .wait_timeout_while(numbers, STEP_LIMIT, |numbers| {
                numbers.len() < before + ENOUGH
            })
            .unwrap_or_else(PoisonError::into_inner);
        let seen = numbers.len() - before;
        // The reader of answers goes on meanwhile.
        drop(numbers);
        if waited.timed_out() {
            diagnosis::look("answers to pings");
            bail!(
                "pings of the guest: expected {ENOUGH} answers within {STEP_LIMIT:?}, saw {seen}"
            );
        }
        Ok(())
    }

    /// Ends the pings of a guest that has stood still `standstills` times, and checks the answers.
    pub fn end(mut self, standstills: usize) -> Result<()> {
        self.wait_more()?;
        self.stop();
        let numbers = self.answers.lock();
        let gaps = gaps(&numbers)?;
        doing(format!("pings: {} answers, lost: {gaps:?}", numbers.len()));
        ensure!(
            gaps.len() <= standstills,
            "pings of the guest: expected losses in {standstills} standstills at most, saw {gaps:?}"
        );
        Ok(())
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Drop for Pings {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Answers {
    fn lock(&self) -> MutexGuard<'_, Vec<u64>> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the lines of ping until it ends.
    fn read(&self, output: impl Read) {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Some(number) = number(&line) {
                self.lock().push(number);
                self.changed.notify_all();
            }
        }
    }
}

/// The number of the answer that a line of ping tells of.
fn number(line: &str) -> Option<u64> {
    line.split(' ')
        .find_map(|word| word.strip_prefix("seq="))?
        .parse()
        .ok()
}

/// The ranges of the numbers that are missing. Each number may come once, and in order.
fn gaps(numbers: &[u64]) -> Result<Vec<Range<u64>>> {
    let mut next = 0;
    let mut gaps = Vec::new();
    for &number in numbers {
        ensure!(
            number >= next,
            "pings of the guest: expected each answer once and in order, saw {number} where {next} was \
             due: {numbers:?}"
        );
        if number > next {
            gaps.push(next..number);
        }
        next = number + 1;
    }
    Ok(gaps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_its_number() {
        let line = "64 bytes from 10.42.0.2: seq=17 ttl=64 time=3.042 ms";
        assert_eq!(number(line), Some(17));
        assert_eq!(number(&format!("{line} (DUP!)")), Some(17));
        assert_eq!(number("PING 10.42.0.2 (10.42.0.2): 56 data bytes"), None);
    }

    #[test]
    fn a_lost_answer_is_a_gap() {
        let gaps = |numbers: &[u64]| gaps(numbers).expect("no number came twice");
        assert!(gaps(&[]).is_empty());
        assert!(gaps(&[0, 1, 2]).is_empty());
        assert_eq!(gaps(&[0, 1, 5, 6, 8]), [2..5, 7..8]);
        assert_eq!(gaps(&[1, 3]), [0..1, 2..3]);
    }

    #[test]
    fn an_answer_that_came_twice_or_late_is_an_error() {
        assert!(gaps(&[0, 1, 1]).is_err());
        assert!(gaps(&[0, 2, 1]).is_err());
    }
}
