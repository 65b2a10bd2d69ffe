// SPDX-License-Identifier: GPL-2.0

//! The log lines that tell why something was refused, at a limited rate.
//!
//! Each device has limits of its own, and among them each [`Subject`] has one: a user who floods the
//! log with malformed accesses hides neither another device's lines nor why a stream was refused. How
//! many lines a limit swallowed is in the next line of the same subject.

use crate::ratelimit::RateLimit;
use core::fmt::{
    self,
    Display, //
};
use kernel::{
    dev_warn, device,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

/// What was refused, or failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Subject {
    /// A read or write of a region.
    Access,
    /// A mapping of a region.
    Mapping,
    /// An ioctl.
    Ioctl,
    /// A write of a sysfs attribute.
    Attribute,
    /// A change of the migration state.
    Transition,
    /// A migration stream.
    Stream,
    /// The use of what keeps the device's data.
    Backend,
    /// An access of the user's memory.
    Dma,
}

impl Subject {
    const COUNT: usize = Self::Dma as usize + 1;
}

/// One limit.
#[pin_data]
struct Limit {
    #[pin]
    rate: RateLimit,
    /// How many lines were not printed since the last one that was.
    swallowed: Atomic<u32>,
}

impl Limit {
    fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            rate <- RateLimit::new(),
            swallowed: Atomic::new(0),
        })
    }

    /// How many lines were swallowed before this one, or [`None`] if this one is to be.
    fn allows(&self) -> Option<u32> {
        if self.rate.allows() {
            return Some(self.swallowed.xchg(0, Relaxed));
        }
        // A number that wraps around has long lost its meaning.
        self.swallowed.fetch_add(1, Relaxed);
        None
    }
}

/// The refusals of one device.
#[pin_data]
pub struct Refusals {
    #[pin]
    limits: [Limit; Subject::COUNT],
}

impl Refusals {
    /// With nothing refused yet.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            limits <- pin_init::pin_init_array_from_fn(|_| Limit::new()),
        })
    }

    /// Logs that `what`, of `device`, was refused with `error` because of `reason`. Can be called in any
    /// context.
    pub fn log(
        &self,
        device: &device::Device,
        subject: Subject,
        what: &str,
        reason: &dyn Display,
        error: Error,
    ) {
        let Some(limit) = self.limits.get(subject as usize) else {
            return;
        };

        if let Some(swallowed) = limit.allows() {
            dev_warn!(
                device,
                "{}: {} ({}){}\n",
                what,
                format_args!("{reason}"),
                error.to_errno(),
                format_args!("{}", Swallowed(swallowed)),
            );
        }
    }
}

/// A device whose refusals are logged.
pub trait Refuse: AsRef<device::Device> {
    /// The refusals of the device.
    fn refusals(&self) -> &Refusals;

    /// Logs, at a limited rate, that `what` was refused with `error` because of `reason`, and returns
    /// `error`.
    fn refused(&self, subject: Subject, what: &str, reason: &dyn Display, error: Error) -> Error {
        self.refusals()
            .log(self.as_ref(), subject, what, reason, error);
        error
    }
}

/// The end of a line before which others were swallowed.
struct Swallowed(u32);

impl Display for Swallowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, "; {count} lines of this kind before it were suppressed"),
        }
    }
}
