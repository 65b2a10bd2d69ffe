// SPDX-License-Identifier: GPL-2.0

//! The reset that the PCI core has reported and the driver has yet to act on.

use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};

/// Whether the function was reset since the driver took the reset last.
pub struct ResetFlag(Atomic<u32>);

impl ResetFlag {
    /// No reset.
    pub const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Whether the function was reset since the last [`Self::take`].
    pub fn is_set(&self) -> bool {
        self.0.load(Relaxed) != 0
    }

    /// Returns whether the function was reset since the last call.
    pub fn take(&self) -> bool {
        self.is_set() && self.0.xchg(0, Relaxed) != 0
    }

    /// Notes a reset. Called with `memory_lock` held.
    pub(crate) fn set(&self) {
        self.0.store(1, Relaxed);
    }
}

impl Default for ResetFlag {
    fn default() -> Self {
        Self::new()
    }
}
