// SPDX-License-Identifier: GPL-2.0

//! The reset that the PCI core has reported and the driver has yet to act on.

use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};

/// Whether the function was reset since the driver took the reset last.
pub struct ResetFlag {
    was_reset: Atomic<u32>,
    /// The link was frozen by an error, and the PCI core resets it.
    is_frozen: Atomic<u32>,
}

impl ResetFlag {
    /// No reset.
    pub const fn new() -> Self {
        Self {
            was_reset: Atomic::new(0),
            is_frozen: Atomic::new(0),
        }
    }

    /// Whether the function was reset since the last [`Self::take`].
    pub fn is_set(&self) -> bool {
        self.was_reset.load(Relaxed) != 0
    }

    /// Returns whether the function was reset since the last call.
    pub fn take(&self) -> bool {
        self.is_set() && self.was_reset.xchg(0, Relaxed) != 0
    }

    /// Notes a reset. Called with `memory_lock` held.
    pub(crate) fn set(&self) {
        self.was_reset.store(1, Relaxed);
    }

    /// Notes that the function has lost its link, or is about to lose its state by a reset of the link. No `reset_done`
    /// follows.
    pub(crate) fn expect_link_reset(&self) {
        self.is_frozen.store(1, Relaxed);
        self.set();
    }

    /// Notes that an error leaves the function as it is, so far. A recovery that failed before is over.
    pub(crate) fn expect_none(&self) {
        self.is_frozen.store(0, Relaxed);
    }

    /// Notes that the PCI core has recovered from an error. A driver that has taken the reset meanwhile takes it again: the
    /// link may have been reset later.
    pub(crate) fn link_recovered(&self) {
        if self.is_frozen.xchg(0, Relaxed) != 0 {
            self.set();
        }
    }
}

impl Default for ResetFlag {
    fn default() -> Self {
        Self::new()
    }
}
