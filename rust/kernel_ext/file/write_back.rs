// SPDX-License-Identifier: GPL-2.0

//! Writing a file back while nobody waits for it.
//!
//! C header: [`include/linux/pagemap.h`](srctree/include/linux/pagemap.h), `filemap_flush()`

use super::File;
use kernel::{
    prelude::*,
    types::Opaque, //
};

/// Writes the page cache of a file back when it is asked to. Errors are those of the next [`File::sync`].
///
/// # Invariants
///
/// The structure is initialised, with a file that it has a reference to.
#[pin_data(PinnedDrop)]
pub struct WriteBack {
    #[pin]
    inner: Opaque<vfio_bindings::ferry_write_back>,
}

// SAFETY: The C functions lock what they share.
unsafe impl Send for WriteBack {}

// SAFETY: As above.
unsafe impl Sync for WriteBack {}

impl WriteBack {
    /// Write-back of `file`, which stays open as long.
    pub fn new(file: &File) -> impl PinInit<Self> + use<'_> {
        pin_init!(Self {
            // INVARIANT: The function initialises the structure.
            inner <- Opaque::ffi_init(|slot| {
                // SAFETY: `slot` is valid for writes and pinned; the file is open.
                unsafe { vfio_bindings::ferry_write_back_init(slot, file.as_ptr()) }
            }),
        })
    }

    /// Begins to write back what is dirty. Does not sleep. The caller has seen that it is not [busy](Self::is_busy);
    /// one thread at a time calls this.
    pub fn begin(&self) {
        // SAFETY: By the type invariants the structure is initialised.
        unsafe { vfio_bindings::ferry_write_back_begin(self.inner.get()) };
    }

    /// Returns whether what was dirty at the last [`Self::begin`] may not have been written back.
    pub fn is_busy(&self) -> bool {
        // SAFETY: By the type invariants the structure is initialised.
        unsafe { vfio_bindings::ferry_write_back_is_busy(self.inner.get()) }
    }
}

#[pinned_drop]
impl PinnedDrop for WriteBack {
    /// Waits until nothing is being written back. May sleep for long.
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariants the structure is initialised; nobody uses it any more.
        unsafe { vfio_bindings::ferry_write_back_end(self.inner.get()) };
    }
}
