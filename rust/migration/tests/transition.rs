// SPDX-License-Identifier: GPL-2.0

//! Transitions: every arc, with every step and every undo failing, against a table typed by hand.

use migration::transition::run;
use migration::transition::Failure;
use migration::transition::Step;
use migration::transition::Steps;
use migration::transition::Transition;
use migration::Reason;
use migration::Refusal;
use migration::StepError;
use vfio_uapi::v1::State;
use vfio_uapi::Errno;

/// The steps of every arc by statement 25. Rows and columns: STOP, RUNNING, STOP_COPY,
/// PRE_COPY, RESUMING. `x`: stop, `-s`: end save, `-r`: finish resume, `+r`: begin resume, `+s`:
/// begin save, `c`: capture, `>`: start.
const ARCS: [[&str; 5]; 5] = [
    ["", ">", "+s c", "+s >", "+r"],
    ["x", "", "x +s c", "+s", "x +r"],
    ["-s", "-s >", "", ">", "-s +r"],
    ["x -s", "-s", "x c", "", "x -s +r"],
    ["-r", "-r >", "-r +s c", "-r +s >", ""],
];

fn mark(step: Step) -> &'static str {
    match step {
        Step::Stop => "x",
        Step::EndSave => "-s",
        Step::FinishResume => "-r",
        Step::BeginResume => "+r",
        Step::BeginSave => "+s",
        Step::Capture => "c",
        Step::Start => ">",
    }
}

fn refusal(errno: Errno) -> Refusal {
    Refusal {
        errno,
        reason: Reason::InErrorState,
    }
}

/// Records the calls, and fails at one of them.
#[derive(Default)]
struct Log {
    lines: Vec<String>,
    fail_perform: Option<&'static str>,
    /// The step that fails does so half way.
    irreversible: bool,
    fail_undo: Option<&'static str>,
}

impl Steps for Log {
    type Refusal = Refusal;

    fn perform(&mut self, step: Step) -> Result<(), StepError<Refusal>> {
        self.lines.push(format!("perform {}", mark(step)));
        if self.fail_perform == Some(mark(step)) {
            let refusal = refusal(Errno::EBUSY);
            return Err(match self.irreversible {
                true => StepError::Irreversible(refusal),
                false => StepError::Unchanged(refusal),
            });
        }
        Ok(())
    }

    fn undo(&mut self, step: Step) -> Result<(), Refusal> {
        self.lines.push(format!("undo {}", mark(step)));
        if self.fail_undo == Some(mark(step)) {
            return Err(refusal(Errno::ENOMEM));
        }
        Ok(())
    }

    fn commit(&mut self, step: Step) {
        self.lines.push(format!("commit {}", mark(step)));
    }
}

fn arcs() -> impl Iterator<Item = (Transition, Vec<&'static str>)> {
    let indexes = (0..5).flat_map(|from| (0..5).map(move |to| (from, to)));
    indexes.map(|(from, to)| {
        let transition = Transition::new(State::VALID[from], State::VALID[to])
            .expect("a transition between valid states");
        (transition, ARCS[from][to].split_whitespace().collect())
    })
}

#[test]
fn v1_25_every_arc_has_its_steps_in_order() {
    for (transition, expected) in arcs() {
        let seen: Vec<_> = transition.steps().map(mark).collect();
        assert_eq!(
            seen,
            expected,
            "{} to {}",
            transition.from(),
            transition.to()
        );
    }
}

#[test]
fn v1_25_every_step_is_performed_then_committed() {
    for (transition, steps) in arcs() {
        let mut log = Log::default();
        assert_eq!(run(transition, &mut log), Ok(()));

        let performed = steps.iter().map(|step| format!("perform {step}"));
        let committed = steps.iter().map(|step| format!("commit {step}"));
        let expected: Vec<_> = performed.chain(committed).collect();
        assert_eq!(
            log.lines,
            expected,
            "{} to {}",
            transition.from(),
            transition.to()
        );
    }
}

#[test]
fn v1_25_every_failing_step_unwinds_those_before_it() {
    for (transition, steps) in arcs() {
        for failing in 0..steps.len() {
            let mut log = Log {
                fail_perform: Some(steps[failing]),
                ..Log::default()
            };
            let result = run(transition, &mut log);

            let performed = steps[..=failing]
                .iter()
                .map(|step| format!("perform {step}"));
            let undone = steps[..failing]
                .iter()
                .rev()
                .map(|step| format!("undo {step}"));
            let expected: Vec<_> = performed.chain(undone).collect();
            assert_eq!(
                log.lines,
                expected,
                "{} to {}",
                transition.from(),
                transition.to()
            );
            let refusal = refusal(Errno::EBUSY);
            assert_eq!(result, Err(Failure::Unwound { refusal }));
        }
    }
}

#[test]
fn v1_20_nothing_is_undone_after_a_step_that_cannot_be_taken_back() {
    for (transition, steps) in arcs() {
        for failing in 0..steps.len() {
            let mut log = Log {
                fail_perform: Some(steps[failing]),
                irreversible: true,
                ..Log::default()
            };
            let result = run(transition, &mut log);

            let performed = steps[..=failing]
                .iter()
                .map(|step| format!("perform {step}"));
            let expected: Vec<_> = performed.collect();
            assert_eq!(
                log.lines,
                expected,
                "{} to {}",
                transition.from(),
                transition.to()
            );
            match result {
                Err(Failure::Irreversible { step, refusal }) => assert_eq!(
                    (mark(step), refusal.errno),
                    (steps[failing], Errno::EBUSY),
                    "the step that broke the device"
                ),
                other => panic!("expected a broken device, seen {other:?}"),
            }
        }
    }
}

#[test]
fn v1_20_every_failing_undo_is_told_and_ends_the_unwinding() {
    for (transition, steps) in arcs() {
        for failing in 0..steps.len() {
            for stuck in 0..failing {
                let mut log = Log {
                    fail_perform: Some(steps[failing]),
                    fail_undo: Some(steps[stuck]),
                    ..Log::default()
                };
                let result = run(transition, &mut log);

                let performed = steps[..=failing]
                    .iter()
                    .map(|step| format!("perform {step}"));
                let undone = steps[stuck..failing]
                    .iter()
                    .rev()
                    .map(|step| format!("undo {step}"));
                let expected: Vec<_> = performed.chain(undone).collect();
                assert_eq!(
                    log.lines,
                    expected,
                    "{} to {}",
                    transition.from(),
                    transition.to()
                );
                match result {
                    Err(Failure::Broken {
                        step,
                        refusal,
                        undo,
                        undo_refusal,
                    }) => assert_eq!(
                        (mark(step), refusal.errno, mark(undo), undo_refusal.errno),
                        (steps[failing], Errno::EBUSY, steps[stuck], Errno::ENOMEM),
                    ),
                    other => panic!("expected a broken device, seen {other:?}"),
                }
            }
        }
    }
}

#[test]
fn v1_21_no_steps_lead_to_the_error_state_or_out_of_it() {
    for state in State::VALID {
        assert_eq!(
            Transition::new(state, State::Error),
            None,
            "{state} to ERROR"
        );
        assert_eq!(
            Transition::new(State::Error, state),
            None,
            "ERROR to {state}"
        );
    }
}
