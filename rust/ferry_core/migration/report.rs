// SPDX-License-Identifier: GPL-2.0

//! The engine's reports: tracepoints, statistics and log lines.

use crate::{
    driver::Driver,
    migration::port::EnginePort, //
};
use ::migration::{
    Reason,
    Refusal, //
};
use core::fmt::Display;
use kernel::prelude::*;
use kernel_ext::refusal::{
    Refuse,
    Subject, //
};
use vfio::trace;
use vfio_uapi::v1::State;

/// Returns the error that a system call returns for `refusal`.
pub(super) fn error(refusal: &Refusal) -> Error {
    Error::from_errno(refusal.errno.to_errno())
}

impl<D: Driver> EnginePort<'_, D> {
    fn name(&self) -> &CStr {
        let device: &kernel::device::Device = self.0.as_ref();

        device.name()
    }

    /// A transition was tried, or a reset was done.
    pub(super) fn report_transition(&self, from: State, to: State, result: Result<(), &Refusal>) {
        let errno = result.map_or_else(|refusal| refusal.errno.to_errno(), |()| 0);

        self.0.statistics.transition(from, to, result);
        trace::state(self.name(), from.bits(), to.bits(), errno);
    }

    /// A user was told that `pending` bytes are left to save.
    pub(super) fn report_pending(&self, state: State, pending: u64) {
        trace::pending(self.name(), state.bits(), pending);
    }

    /// A chunk was given or taken.
    pub(super) fn report_chunk(&self, state: State, size: u64, total: u64) {
        self.0.statistics.chunk(state, size);
        trace::chunk(self.name(), state.bits(), size, total);
    }

    /// A request was refused.
    pub(super) fn report_refusal(&self, state: State, refusal: &Refusal) {
        self.0.statistics.refused(refusal.errno);
        let subject = match refusal.reason.subject() {
            ::migration::Subject::Access => Subject::Access,
            ::migration::Subject::Transition => Subject::Transition,
            ::migration::Subject::Stream => Subject::Stream,
        };
        let report = |reason: &dyn Display| {
            let errno = refusal.errno.to_errno();

            trace::refusal(self.name(), state.bits(), errno, reason);
            self.0.refused(subject, "migration", reason, error(refusal));
        };

        // The engine knows that the model refused the state, and the model knows why.
        let reported = self
            .0
            .with_open_model(|live| match (&refusal.reason, &live.load_error) {
                (Reason::StateRefused { .. }, Some(error)) => {
                    report(&format_args!("{refusal}: {error}"));
                }
                _ => report(refusal),
            });
        if reported.is_err() {
            report(refusal);
        }
    }
}
