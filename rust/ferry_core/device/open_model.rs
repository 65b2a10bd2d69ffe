// SPDX-License-Identifier: GPL-2.0

//! The model and the backend of an open device, with the state that a resume has staged for them.

use device_model::{
    Backend,
    DeviceModel, //
};
use kernel::prelude::*;
use vfio_uapi::Errno;

/// The model and the backend of an open device, and what a resume has staged for them.
///
/// Models are large and stay in their boxes, as they do not fit onto the stack.
pub(crate) struct OpenModel<M: DeviceModel, B: Backend> {
    pub(crate) model: KBox<M>,
    /// Loads the state of a resume, for which nothing can be allocated.
    spare: KBox<M>,
    /// Whether `spare` has loaded a state, and becomes the model when the device leaves RESUMING.
    is_staged: bool,
    pub(crate) backend: B,
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
    pub(crate) fn new(model: KBox<M>, spare: KBox<M>, backend: B) -> Self {
        Self {
            model,
            spare,
            is_staged: false,
            backend,
            staged_blocks: None,
            load_error: None,
            running: true,
            p2p: false,
        }
    }

    /// Resets the device as `VFIO_DEVICE_RESET` does.
    pub(crate) fn reset(&mut self) {
        self.model.reset();
        self.is_staged = false;
        self.staged_blocks = None;
        self.load_error = None;
        self.running = true;
        self.p2p = false;
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
    pub(crate) fn stage(&mut self, state: &[u8]) -> Result<(), Errno> {
        self.is_staged = false;
        self.load_error = self.spare.load(state).err();
        if self.load_error.is_some() {
            return Err(Errno::EINVAL);
        }
        self.staged_blocks()?;
        self.is_staged = true;
        Ok(())
    }

    /// Returns the staged blocks, which begin as zeros; [`None`] if the device has no blocks.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn staged_blocks(&mut self) -> Result<Option<&mut B::Blocks>, Errno> {
        if self.staged_blocks.is_none() {
            self.staged_blocks = self.backend.new_blocks()?;
        }
        Ok(self.staged_blocks.as_mut())
    }

    /// Makes the staged model the model, and the staged blocks those of the backend. Returns the former
    /// blocks, or [`None`] without effect if no state was staged.
    pub(crate) fn adopt(&mut self) -> Option<Option<B::Blocks>> {
        if !self.is_staged {
            return None;
        }

        self.is_staged = false;
        core::mem::swap(&mut self.model, &mut self.spare);
        let blocks = self.staged_blocks.take();
        Some(blocks.map(|blocks| self.backend.replace_blocks(blocks)))
    }

    /// Drops the staged state, and returns the staged blocks.
    pub(crate) fn unstage(&mut self) -> Option<B::Blocks> {
        self.is_staged = false;
        self.staged_blocks.take()
    }
}
