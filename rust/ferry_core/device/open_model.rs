// SPDX-License-Identifier: GPL-2.0

//! The device model of an open device, with the state that a resume has staged for it.

use crate::model::Model;

/// The open device as it is now.
pub(crate) struct OpenModel<M: Model> {
    pub(crate) model: M,
    /// What it becomes when RESUMING is left.
    pub(crate) staged: Option<M>,
    /// The storage that this will have, until all of the state is there.
    pub(crate) staged_storage: Option<M::MigratedBlocks>,
    /// Why the state that was received last could not be staged.
    pub(crate) load_error: Option<M::LoadError>,
    /// Its state may advance.
    pub(crate) running: bool,
    /// It initiates no DMA.
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
