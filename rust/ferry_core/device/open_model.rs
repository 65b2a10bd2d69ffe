// SPDX-License-Identifier: GPL-2.0

//! The device model of an open device, with the state that a resume has staged for it.

use crate::model::Model;

/// The model of an open device, and what a resume has staged for it.
pub(crate) struct OpenModel<M: Model> {
    pub(crate) model: M,
    /// Becomes the model when the device leaves RESUMING.
    pub(crate) staged: Option<M>,
    /// Blocks of the staged model, kept apart until all of its state has arrived.
    pub(crate) staged_storage: Option<M::MigratedBlocks>,
    /// Why the last state that arrived was refused.
    pub(crate) load_error: Option<M::LoadError>,
    /// Whether the model's state may advance.
    pub(crate) running: bool,
    /// Whether the device is in P2P: it initiates no DMA.
    pub(crate) p2p: bool,
}

impl<M: Model> OpenModel<M> {
    pub(crate) fn new(model: M) -> Self {
        Self {
            model,
            staged: None,
            staged_storage: None,
            load_error: None,
            running: true,
            p2p: false,
        }
    }

    /// Resets the device as `VFIO_DEVICE_RESET` does.
    pub(crate) fn reset(&mut self) {
        self.model.reset();
        self.staged = None;
        self.staged_storage = None;
        self.load_error = None;
        self.running = true;
        self.p2p = false;
    }
}
