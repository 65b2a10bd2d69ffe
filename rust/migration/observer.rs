// SPDX-License-Identifier: GPL-2.0

//! Who is told what the engine does, for traces and logs.

use crate::refusal::Refusal;
use vfio_uapi::v1::State;

/// Is told what the engine does.
pub trait Observer {
    /// A transition was tried, or a reset was done. `to` is the state asked for, or ERROR where the
    /// device broke.
    fn state(&mut self, from: State, to: State, result: Result<(), &Refusal>) {
        let _ = (from, to, result);
    }

    /// `pending_bytes` was read.
    fn pending(&mut self, state: State, pending: u64) {
        let _ = (state, pending);
    }

    /// A chunk of `size` bytes was presented (saving) or consumed (resuming); `total` counts the
    /// bytes of the session with this chunk.
    fn chunk(&mut self, state: State, size: u64, total: u64) {
        let _ = (state, size, total);
    }

    /// An access was refused; `state` is the one that it came in. Called once for each refusal.
    fn refused(&mut self, state: State, refusal: &Refusal) {
        let _ = (state, refusal);
    }
}

/// The observer that does not look.
impl Observer for () {}
