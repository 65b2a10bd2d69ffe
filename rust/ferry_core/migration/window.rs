// SPDX-License-Identifier: GPL-2.0

//! The memory of the migration region: its data section, and the buffer for the device's state.

use ::migration::{
    MigrationRegion,
    Window, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};
use kernel_ext::shared_pages::SharedPages;

/// The migration region of an open device.
pub(crate) type Region = MigrationRegion<DataWindow, StateBuffer>;

/// Where the state of the device is on its way from or to the window.
pub(crate) struct StateBuffer(pub(crate) KVVec<u8>);

impl AsRef<[u8]> for StateBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsMut<[u8]> for StateBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// The data section, in memory that the user maps.
pub(crate) struct DataWindow(pub(crate) Arc<SharedPages>);

impl Window for DataWindow {
    fn size(&self) -> usize {
        self.0.size()
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let copied = self.0.copy_in(offset, bytes);

        debug_assert!(copied.is_ok(), "the engine keeps within the window");
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        let copied = self.0.copy_out(offset, into);

        debug_assert!(copied.is_ok(), "the engine keeps within the window");
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}
