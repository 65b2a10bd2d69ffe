// SPDX-License-Identifier: GPL-2.0

//! Log lines that say why an access, a transition or a stream was refused, at a limited rate.
//!
//! Each device has a limit for each [`Subject`]: a user who floods the log with malformed accesses hides
//! neither another device's lines nor the reason why a stream was refused. A line says how many lines of
//! its subject were suppressed before it.

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

/// The kind of event that was refused, or that failed.
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
    /// A use of the backend that keeps the device's data.
    Backend,
    /// An access of the user's memory.
    Dma,
}

impl Subject {
    const COUNT: usize = Self::Dma as usize + 1;
}

/// The limit of one subject.
#[pin_data]
struct Limit {
    #[pin]
    rate: RateLimit,
    /// Lines suppressed since the last line that was printed.
    suppressed: Atomic<u32>,
}

impl Limit {
    fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            rate <- RateLimit::new(),
            suppressed: Atomic::new(0),
        })
    }

    /// Returns the number of lines suppressed before this one, or [`None`] if this line is suppressed.
    fn allows(&self) -> Option<u32> {
        if self.rate.allows() {
            return Some(self.suppressed.xchg(0, Relaxed));
        }
        // A count of 2^32 lines may wrap around: the log has no room for as many.
        self.suppressed.fetch_add(1, Relaxed);
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
    /// The limits of a device that has refused nothing.
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

        if let Some(suppressed) = limit.allows() {
            dev_warn!(
                device,
                "{}: {} ({}){}\n",
                what,
                format_args!("{reason}"),
                error.to_errno(),
                format_args!("{}", Suppressed(suppressed)),
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

/// The end of a log line, with the number of lines suppressed before it.
struct Suppressed(u32);

impl Display for Suppressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, "; {count} lines of this kind before it were suppressed"),
        }
    }
}
