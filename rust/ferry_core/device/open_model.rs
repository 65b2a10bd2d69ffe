// SPDX-License-Identifier: GPL-2.0

//! The registers of an open device, and the state that a resume has staged for it.

use crate::device::execution::Execution;
use device_model::{
    Backend,
    DeviceModel, //
};
use kernel::prelude::*;
use vfio_uapi::Errno;

/// The registers of an open device, and what a resume has staged for it. Nobody waits with the lock held.
///
/// Models are large and stay in their boxes, as they do not fit onto the stack.
pub(crate) struct OpenModel<M: DeviceModel, B: Backend> {
    pub(crate) model: KBox<M>,
    /// Loads the state of a resume, for which nothing can be allocated.
    spare: KBox<M>,
    spare_executor: KBox<M::Executor>,
    /// Whether `spare` has loaded a state, and becomes the model when the device leaves RESUMING.
    is_staged: bool,
    /// Whether the backend has blocks that migrate.
    pub(crate) has_blocks: bool,
    /// Writes the backend back while the device goes on.
    pub(crate) write_back: B::WriteBack,
    /// Blocks for the backend, kept apart until all of the state has arrived.
    staged_blocks: Option<B::Blocks>,
    /// Why the last state that arrived was refused.
    pub(crate) load_error: Option<M::LoadError>,
    /// Whether the model's state may advance.
    pub(crate) running: bool,
    /// Whether the device is in P2P: it initiates no DMA.
    pub(crate) p2p: bool,
}

impl<M: DeviceModel, B: Backend> OpenModel<M, B> {
    /// Returns the open device; `model` and `spare` have the same parameters.
    pub(crate) fn new(
        model: KBox<M>,
        spare: KBox<M>,
        spare_executor: KBox<M::Executor>,
        has_blocks: bool,
        write_back: B::WriteBack,
    ) -> Self {
        Self {
            model,
            spare,
            spare_executor,
            is_staged: false,
            has_blocks,
            write_back,
            staged_blocks: None,
            load_error: None,
            running: true,
            p2p: false,
        }
    }

    /// Returns whether the executor may work.
    pub(crate) fn works(&self) -> bool {
        self.running && !self.p2p
    }

    /// Resets the device as `VFIO_DEVICE_RESET` does. Returns the blocks that were staged.
    pub(crate) fn reset(&mut self) -> Option<B::Blocks> {
        self.model.reset();
        self.load_error = None;
        self.running = true;
        self.p2p = false;
        self.unstage()
    }

    /// Returns the model that runs when the device is started: the staged one, if a state was staged.
    pub(crate) fn next_model(&self) -> &M {
        if self.is_staged {
            &self.spare
        } else {
            &self.model
        }
    }

    /// Returns the staged model, if a state was staged.
    pub(crate) fn staged(&mut self) -> Option<&mut M> {
        self.is_staged.then_some(&mut *self.spare)
    }

    /// Stages `state`, and blocks if the device has any.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the model refuses the state, see [`Self::load_error`], or `ENOMEM`.
    pub(crate) fn stage(&mut self, backend: &B, state: &[u8]) -> Result<(), Errno> {
        self.is_staged = false;
        self.load_error = self.spare.load(&mut self.spare_executor, state).err();
        if self.load_error.is_some() {
            return Err(Errno::EINVAL);
        }
        self.staged_blocks(backend)?;
        self.is_staged = true;
        Ok(())
    }

    /// Returns the staged blocks for `backend`, which begin as zeros; [`None`] if the device has no blocks.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn staged_blocks(&mut self, backend: &B) -> Result<Option<&mut B::Blocks>, Errno> {
        if self.staged_blocks.is_none() {
            self.staged_blocks = backend.new_blocks()?;
        }
        Ok(self.staged_blocks.as_mut())
    }

    /// Makes the staged halves those of the device, and the staged blocks those of the backend. Returns the former
    /// blocks, or [`None`] without effect if no state was staged.
    pub(crate) fn adopt(&mut self, execution: &mut Execution<M, B>) -> Option<Option<B::Blocks>> {
        if !self.is_staged {
            return None;
        }

        self.is_staged = false;
        core::mem::swap(&mut self.model, &mut self.spare);
        core::mem::swap(&mut execution.executor, &mut self.spare_executor);
        let blocks = self.staged_blocks.take();
        Some(blocks.map(|blocks| execution.backend.replace_blocks(blocks)))
    }

    /// Drops the staged state, and returns the staged blocks.
    pub(crate) fn unstage(&mut self) -> Option<B::Blocks> {
        self.is_staged = false;
        self.staged_blocks.take()
    }
}
