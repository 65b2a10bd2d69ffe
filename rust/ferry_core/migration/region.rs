// SPDX-License-Identifier: GPL-2.0

//! The migration region's memory: its data section, which the user maps.

use ::migration::{
    v1::{
        DataSection,
        MigrationRegion, //
    },
    Sink,
    Source, //
};
use kernel::sync::Arc;
use kernel_ext::shared_pages::SharedPages;

/// The migration region of an open device.
pub(crate) type Region = MigrationRegion<DataPages>;

/// The data section, in memory that the user maps.
pub(crate) struct DataPages(pub(crate) Arc<SharedPages>);

impl Sink for DataPages {
    fn room(&self) -> usize {
        self.0.size()
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let copied = self.0.copy_in(offset, bytes);

        debug_assert!(copied.is_ok(), "the engine keeps within the room");
    }
}

impl Source for DataPages {
    fn read(&self, offset: usize, into: &mut [u8]) {
        let copied = self.0.copy_out(offset, into);

        debug_assert!(copied.is_ok(), "the engine stays within the chunk");
    }
}

impl DataSection for DataPages {
    fn clear(&mut self) {
        self.0.clear();
    }
}
