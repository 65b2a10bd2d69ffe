// SPDX-License-Identifier: GPL-2.0

//! Both halves of a controller, which nobody accesses while it executes commands.

use device_model_rig::{
    Undisturbed,
    Whole, //
};
use nvme::{
    Doorbells,
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

    /// Does a part of the work.
    fn serve<M: GuestMemory, S: Stores<M>>(
        &mut self,
        doorbells: &Doorbells,
        memory: &mut M,
        stores: &mut S,
        budget: u32,
    ) -> Work;
}

impl Execute for Controller {
    fn drain(&mut self, doorbells: &Doorbells) {
        self.work(|executor| executor.drain(doorbells));
    }

    fn serve<M: GuestMemory, S: Stores<M>>(
        &mut self,
        doorbells: &Doorbells,
        memory: &mut M,
        stores: &mut S,
        budget: u32,
    ) -> Work {
        self.work(|executor| executor.serve(&Undisturbed, doorbells, memory, stores, budget))
    }
}
