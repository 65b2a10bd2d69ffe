// SPDX-License-Identifier: GPL-2.0

//! eventfds: the kernel signals interrupts on them, and unmasks INTx when one is written.

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::poll;
use rustix::event::EventfdFlags;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::io::Errno;

use crate::error::Context as _;
use crate::Result;

/// An eventfd.
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    /// Makes an eventfd whose counter is 0.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn new() -> Result<Self> {
        rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .what(|| "eventfd".into())
            .map(EventFd)
    }

    /// Takes the counter without waiting.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn take(&self) -> Result<u64> {
        let mut count = [0; size_of::<u64>()];
        match rustix::io::read(&self.0, &mut count) {
            Ok(_) => Ok(u64::from_ne_bytes(count)),
            Err(Errno::AGAIN) => Ok(0),
            Err(errno) => Err(errno).what(|| "read of an eventfd".into()),
        }
    }

    /// Waits for a signal and takes the counter, which is 0 when none came within `limit`.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn wait(&self, limit: Duration) -> Result<u64> {
        let limit = Timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        poll(&mut fds, Some(&limit)).what(|| "poll of an eventfd".into())?;
        self.take()
    }

    /// Signals the eventfd, as KVM does to unmask INTx.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn signal(&self) -> Result<()> {
        rustix::io::write(&self.0, &1u64.to_ne_bytes())
            .what(|| "write of an eventfd".into())
            .map(drop)
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
