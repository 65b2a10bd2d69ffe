// SPDX-License-Identifier: GPL-2.0

//! Reads KTAP, the kernel's form of test results (`Documentation/dev-tools/ktap.rst`).

use lab_host::event::Outcome;

/// Lines of diagnostics that are kept for a failure.
const DIAGNOSTICS: usize = 30;

/// Reads a report line by line.
#[derive(Default)]
pub struct Reader {
    diagnostics: Vec<String>,
    planned: Option<usize>,
    seen: usize,
}

impl Reader {
    /// Takes a line and returns a test's name and result when the line has one.
    pub fn take(&mut self, line: &str) -> Option<(String, Outcome)> {
        let line = line.trim();
        if let Some(diagnostic) = line.strip_prefix('#') {
            if self.diagnostics.len() < DIAGNOSTICS {
                self.diagnostics.push(diagnostic.trim().to_owned());
            }
            return None;
        }
        if let Some(planned) = line
            .strip_prefix("1..")
            .and_then(|number| number.parse().ok())
        {
            self.planned = Some(planned);
            return None;
        }
        let (passed, rest) = match line.strip_prefix("ok ") {
            Some(rest) => (true, rest),
            None => (false, line.strip_prefix("not ok ")?),
        };
        let (number, rest) = rest.split_once(' ')?;
        number.parse::<usize>().ok()?;
        let rest = rest.trim_start_matches("- ");
        let (name, directive) = rest.split_once('#').unwrap_or((rest, ""));
        let directive = directive.trim();
        self.seen += 1;
        let diagnostics = std::mem::take(&mut self.diagnostics);
        let outcome = if let Some(why) = directive.strip_prefix("SKIP") {
            Outcome::Skipped(why.trim().to_owned())
        } else if passed {
            Outcome::Passed
        } else {
            Outcome::Failed(
                [vec![directive.to_owned()], diagnostics]
                    .concat()
                    .join("\n"),
            )
        };
        Some((name.trim().to_owned(), outcome))
    }

    /// A fault of the report as a whole.
    pub fn complaint(&self) -> Option<String> {
        match self.planned {
            None => Some(format!("no plan in the report, {} results", self.seen)),
            Some(planned) if planned != self.seen => {
                Some(format!("expected {planned} results, saw {}", self.seen))
            }
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_told_apart() {
        let mut reader = Reader::default();
        let report = "TAP version 13\n1..3\nok 1 good\n# expected 1, saw 2\nnot ok 2 bad\n\
                      ok 3 absent # SKIP no such device\n";
        let results: Vec<_> = report
            .lines()
            .filter_map(|line| reader.take(line))
            .collect();
        assert_eq!(
            results,
            [
                ("good".to_owned(), Outcome::Passed),
                (
                    "bad".to_owned(),
                    Outcome::Failed("\nexpected 1, saw 2".to_owned())
                ),
                (
                    "absent".to_owned(),
                    Outcome::Skipped("no such device".to_owned())
                ),
            ]
        );
        assert_eq!(reader.complaint(), None);
    }

    #[test]
    fn a_report_that_breaks_off_is_complained_of() {
        let mut reader = Reader::default();
        reader.take("1..2");
        reader.take("ok 1 good");
        assert!(reader.complaint().is_some());
        assert!(Reader::default().complaint().is_some());
    }
}
