// SPDX-License-Identifier: GPL-2.0

//! The change from one device state to another, as an ordered list of steps.
//!
//! Any valid state may be left for any other. What that means is one rule for all twenty arcs
//! (statement 25 of the protocol): the bits that go are cleared in the order RUNNING, SAVING,
//! RESUMING; then the bits that come are set in the order RESUMING, SAVING, RUNNING. Each change of
//! a bit is one [`Step`]. One step more, [`Step::Capture`], takes the state of the stopped device
//! where stop-and-copy is entered: by then every bit has its new value, and as a step of its own it
//! can fail and be unwound like the others.
//!
//! A step that fails has changed nothing. The steps before it are then undone in reverse, so that
//! the device is where it began. Should that fail too, the device cannot be trusted any more: it is
//! in the ERROR state. A step of real hardware may also fail half way, where there is no way back: then
//! nothing is undone, and the device is in the ERROR state as well.

use core::fmt;

use vfio_uapi::v1::State;

/// One step of a [`Transition`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// RUNNING is cleared: the device stops.
    Stop,
    /// SAVING is cleared: the save session ends.
    EndSave,
    /// RESUMING is cleared: the device takes over the state that it received.
    FinishResume,
    /// RESUMING is set: a resume session begins.
    BeginResume,
    /// SAVING is set: a save session begins.
    BeginSave,
    /// Stop-and-copy is entered: the state of the stopped device is taken.
    Capture,
    /// RUNNING is set: the device runs.
    Start,
}

impl Step {
    /// All steps, in the order in which a transition takes them.
    pub const ORDER: [Step; 7] = [
        Self::Stop,
        Self::EndSave,
        Self::FinishResume,
        Self::BeginResume,
        Self::BeginSave,
        Self::Capture,
        Self::Start,
    ];

    /// Returns whether a session begins or ends with this step.
    pub const fn is_of_session(self) -> bool {
        matches!(
            self,
            Self::EndSave | Self::FinishResume | Self::BeginResume | Self::BeginSave
        )
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stop => "stop",
            Self::EndSave => "end the save",
            Self::FinishResume => "finish the resume",
            Self::BeginResume => "begin a resume",
            Self::BeginSave => "begin a save",
            Self::Capture => "save its state",
            Self::Start => "start",
        })
    }
}

/// A change from one valid state to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transition {
    from: State,
    to: State,
}

impl Transition {
    /// Returns the change from `from` to `to`, or `None` if one of them is the ERROR state, which
    /// is neither entered nor left by steps.
    pub const fn new(from: State, to: State) -> Option<Self> {
        if matches!(from, State::Error) || matches!(to, State::Error) {
            return None;
        }

        Some(Self { from, to })
    }

    /// Returns the state that is left.
    pub const fn from(self) -> State {
        self.from
    }

    /// Returns the state that is entered.
    pub const fn to(self) -> State {
        self.to
    }

    /// Returns the steps of this change, in order; none where a state is entered from itself.
    pub fn steps(self) -> impl Iterator<Item = Step> {
        Step::ORDER
            .into_iter()
            .filter(move |step| self.includes(*step))
    }

    fn includes(self, step: Step) -> bool {
        let (from, to) = (self.from, self.to);

        match step {
            Step::Stop => from.is_running() && !to.is_running(),
            Step::EndSave => from.is_saving() && !to.is_saving(),
            Step::FinishResume => from.is_resuming() && !to.is_resuming(),
            Step::BeginResume => !from.is_resuming() && to.is_resuming(),
            Step::BeginSave => !from.is_saving() && to.is_saving(),
            Step::Capture => from != State::StopCopy && to == State::StopCopy,
            Step::Start => !from.is_running() && to.is_running(),
        }
    }
}

/// Why a step could not be performed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StepError<R> {
    /// The step was not done and everything is as before it.
    Unchanged(R),
    /// The step was done in part and cannot be taken back: the device is broken.
    Irreversible(R),
}

impl<R> StepError<R> {
    /// Returns the same error for the reason that `f` makes of this one's.
    pub fn map<S>(self, f: impl FnOnce(R) -> S) -> StepError<S> {
        match self {
            Self::Unchanged(reason) => StepError::Unchanged(f(reason)),
            Self::Irreversible(reason) => StepError::Irreversible(f(reason)),
        }
    }

    /// Returns the reason.
    pub fn into_reason(self) -> R {
        match self {
            Self::Unchanged(reason) | Self::Irreversible(reason) => reason,
        }
    }
}

impl<R> From<R> for StepError<R> {
    fn from(reason: R) -> Self {
        Self::Unchanged(reason)
    }
}

/// What carries the steps out.
pub trait Steps {
    /// Why a step fails.
    type Refusal;

    /// Does the step.
    ///
    /// # Errors
    ///
    /// The step was not done and everything is as before it, or it cannot be taken back.
    fn perform(&mut self, step: Step) -> Result<(), StepError<Self::Refusal>>;

    /// Takes the step back. Only called for steps that were performed and not committed, the last
    /// one first.
    ///
    /// # Errors
    ///
    /// The step could not be taken back: the device is broken.
    fn undo(&mut self, step: Step) -> Result<(), Self::Refusal>;

    /// Makes the step final. Called for each step in order when all were performed; what a step
    /// gives up, it gives up here, for it cannot be undone any more.
    fn commit(&mut self, step: Step);
}

/// How a [`Transition`] failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure<R> {
    /// A step failed and all is as it was before.
    Unwound {
        /// Why the step failed.
        refusal: R,
    },
    /// A step failed half way, and nothing was undone.
    Irreversible {
        /// The step that failed.
        step: Step,
        /// Why it failed.
        refusal: R,
    },
    /// A step failed, and then a step before it could not be undone.
    Broken {
        /// The step that failed.
        step: Step,
        /// Why it failed.
        refusal: R,
        /// The step that could not be undone.
        undo: Step,
        /// Why it could not be undone.
        undo_refusal: R,
    },
}

/// Carries the steps of `transition` out.
///
/// # Errors
///
/// A [`Failure`] that tells whether everything is as before.
pub fn run<S: Steps>(transition: Transition, steps: &mut S) -> Result<(), Failure<S::Refusal>> {
    for (place, step) in Step::ORDER.into_iter().enumerate() {
        if !transition.includes(step) {
            continue;
        }
        let refusal = match steps.perform(step) {
            Ok(()) => continue,
            Err(StepError::Irreversible(refusal)) => {
                return Err(Failure::Irreversible { step, refusal });
            }
            Err(StepError::Unchanged(refusal)) => refusal,
        };

        for undo in Step::ORDER.into_iter().take(place).rev() {
            if !transition.includes(undo) {
                continue;
            }
            if let Err(undo_refusal) = steps.undo(undo) {
                return Err(Failure::Broken {
                    step,
                    refusal,
                    undo,
                    undo_refusal,
                });
            }
        }

        return Err(Failure::Unwound { refusal });
    }

    for step in transition.steps() {
        steps.commit(step);
    }

    Ok(())
}
