// SPDX-License-Identifier: GPL-2.0

//! The uses of a function, none of which outlasts the open function.

use kernel::{
    prelude::*,
    sync::{
        CondVar,
        Mutex, //
    },
};
use kernel_ext::new_lock;

struct State {
    open: bool,
    count: usize,
}

/// Counts the uses of a function. A leaf in the order of locks.
#[pin_data]
pub(crate) struct Uses {
    #[pin]
    state: Mutex<State>,
    /// Notified when the last use of a function that is being closed has ended.
    #[pin]
    ended: CondVar,
}

impl Uses {
    /// Of a function that is closed.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            state <- new_lock!(Mutex, c"Uses::state", State { open: false, count: 0 }),
            ended <- new_lock!(CondVar, c"Uses::ended"),
        })
    }

    /// Lets uses begin.
    pub(crate) fn open(&self) {
        self.state.lock().open = true;
    }

    /// Lets no use begin any more, and waits for the end of those that have begun. May sleep.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();

        state.open = false;
        while state.count > 0 {
            self.ended.wait(&mut state);
        }
    }

    /// Begins a use, which [`Self::end`] ends.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the function is closed.
    pub(crate) fn begin(&self) -> Result {
        let mut state = self.state.lock();

        if !state.open {
            return Err(ENODEV);
        }
        state.count = state.count.checked_add(1).ok_or(EOVERFLOW)?;
        Ok(())
    }

    /// Begins a use of a function that is being disabled, which only who disables it may do.
    pub(crate) fn begin_last(&self) {
        let mut state = self.state.lock();

        state.count = state.count.saturating_add(1);
    }

    /// Ends a use.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock();

        state.count = state.count.saturating_sub(1);
        if state.count == 0 && !state.open {
            self.ended.notify_all();
        }
    }
}
