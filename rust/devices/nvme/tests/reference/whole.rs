// SPDX-License-Identifier: GPL-2.0

//! Both halves of a controller, which nobody accesses while it executes commands.

use std::cell::Cell;

use device_model::Link;
use device_model_rig::{
    Undisturbed,
    Whole, //
};
use nvme::{
    Doorbells,
    Executor,
    GuestMemory,
    Stores,
    Work, //
};

/// A controller with its executor.
pub type Controller = Whole<nvme::Controller>;

/// What an executor does for a controller.
pub trait Execute {
    /// Takes doorbells, and executes nothing.
    fn drain(&mut self, doorbells: &Doorbells);

    /// What comes before a save.
    fn settle(&mut self, doorbells: &Doorbells);

    /// Does a part of the work.
    fn serve<M: GuestMemory, S: Stores<M>>(
        &mut self,
        doorbells: &Doorbells,
        memory: &mut M,
        stores: &mut S,
        budget: u32,
    ) -> Work {
        self.serve_by(&Undisturbed, doorbells, memory, stores, budget)
    }

    /// As [`Execute::serve`], with a link that may have the executor poll.
    fn serve_by<M: GuestMemory, S: Stores<M>>(
        &mut self,
        link: &dyn Link<Executor>,
        doorbells: &Doorbells,
        memory: &mut M,
        stores: &mut S,
        budget: u32,
    ) -> Work;
}

/// A link to registers that nobody accesses, and of a worker that looks for more work.
pub struct Polling;

impl Link<Executor> for Polling {
    fn exchange(&mut self, _executor: &mut Executor) -> bool {
        true
    }

    fn is_current(&self) -> bool {
        true
    }

    fn may_poll(&self) -> bool {
        true
    }
}

/// A link to registers that nobody accesses, and to a timer that a test lets end.
#[derive(Debug, Default)]
pub struct Timer {
    /// The microseconds of the time that is under way.
    pub asked: Cell<Option<u32>>,
    /// A time is over.
    pub due: Cell<bool>,
}

impl Timer {
    /// Lets the time be over, if one is under way. Returns whether one was.
    pub fn fire(&self) -> bool {
        let asked = self.asked.take().is_some();
        self.due.set(self.due.get() || asked);
        asked
    }
}

impl Link<Executor> for Timer {
    fn exchange(&mut self, _executor: &mut Executor) -> bool {
        true
    }

    fn is_current(&self) -> bool {
        true
    }

    fn has_timer(&self) -> bool {
        true
    }

    fn wake_in(&self, microseconds: u32) {
        assert!(microseconds > 0, "a time that is none");
        self.asked.set(self.asked.get().or(Some(microseconds)));
    }

    fn is_due(&self) -> bool {
        self.due.take()
    }
}

impl Execute for Controller {
    fn drain(&mut self, doorbells: &Doorbells) {
        self.work(|executor| executor.drain(doorbells));
    }

    fn settle(&mut self, doorbells: &Doorbells) {
        self.work(|executor| executor.settle(doorbells));
    }

    fn serve_by<M: GuestMemory, S: Stores<M>>(
        &mut self,
        link: &dyn Link<Executor>,
        doorbells: &Doorbells,
        memory: &mut M,
        stores: &mut S,
        budget: u32,
    ) -> Work {
        self.work(|executor| executor.serve(link, doorbells, memory, stores, budget))
    }
}
