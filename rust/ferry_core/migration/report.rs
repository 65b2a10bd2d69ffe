// SPDX-License-Identifier: GPL-2.0

//! The engine's reports: tracepoints, statistics and log lines.

use crate::migration::migrating::Migrating;
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
use vfio::{
    trace,
    Device, //
};
use vfio_uapi::v1::State;

/// Returns the error that a system call returns for `refusal`.
pub(super) fn error(refusal: &Refusal) -> Error {
    Error::from_errno(refusal.errno.to_errno())
}

fn name<T: Migrating>(device: &Device<T>) -> &CStr {
    let device: &kernel::device::Device = device.as_ref();

    device.name()
}

/// A transition was tried, or a reset was done.
pub(crate) fn transition<T: Migrating>(
    device: &Device<T>,
    from: State,
    to: State,
    result: Result<(), &Refusal>,
) {
    let errno = result.map_or_else(|refusal| refusal.errno.to_errno(), |()| 0);

    device.statistics().transition(from, to, result);
    trace::state(name(device), from.bits(), to.bits(), errno);
}

/// A user was told that `pending` bytes are left to save.
pub(crate) fn pending<T: Migrating>(device: &Device<T>, state: State, pending: u64) {
    trace::pending(name(device), state.bits(), pending);
}

/// A chunk was given or taken.
pub(crate) fn chunk<T: Migrating>(device: &Device<T>, state: State, size: u64, total: u64) {
    device.statistics().chunk(state, size);
    trace::chunk(name(device), state.bits(), size, total);
}

/// A request was refused.
pub(crate) fn refusal<T: Migrating>(device: &Device<T>, state: State, refusal: &Refusal) {
    device.statistics().refused(refusal.errno);
    let subject = match refusal.reason.subject() {
        ::migration::Subject::Access => Subject::Access,
        ::migration::Subject::Transition => Subject::Transition,
        ::migration::Subject::Stream => Subject::Stream,
    };
    let report = |reason: &dyn Display| {
        let errno = refusal.errno.to_errno();

        trace::refusal(name(device), state.bits(), errno, reason);
        device.refused(subject, "migration", reason, error(refusal));
    };

    // The engine knows that the device refused the state, and the device knows why.
    device.with_load_error(&mut |load_error| match (&refusal.reason, load_error) {
        (Reason::StateRefused { .. }, Some(error)) => {
            report(&format_args!("{refusal}: {error}"));
        }
        _ => report(refusal),
    });
}
