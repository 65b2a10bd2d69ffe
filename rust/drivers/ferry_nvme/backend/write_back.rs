// SPDX-License-Identifier: GPL-2.0

//! Writing a file back while the device goes on, and how much of it there is left.

use device_model::{
    Mark,
    Unwritten, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
};
use kernel_ext::file::{
    File,
    WriteBack, //
};

/// The write-back of a file. Calls are serialised by the lock of the registers.
pub(crate) struct FileWriteBack {
    file: Arc<WriteBack>,
    unwritten: Arc<Unwritten>,
    /// What the write-back that was begun last writes.
    begun: Atomic<u64>,
    capacity: u64,
}

impl FileWriteBack {
    /// Write-back of `file`, of which `unwritten` counts what is written to the first `capacity` bytes.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(file: &File, unwritten: &Arc<Unwritten>, capacity: u64) -> Result<Self> {
        Ok(Self {
            file: Arc::pin_init(WriteBack::new(file), GFP_KERNEL_ACCOUNT)?,
            unwritten: unwritten.clone(),
            begun: Atomic::new(0),
            capacity,
        })
    }

    /// Begins to write back, unless that has begun and not ended.
    pub(super) fn begin(&self) {
        if self.is_busy() {
            return;
        }
        let Mark(mark) = self.unwritten.mark();
        self.begun.store(mark, Relaxed);
        self.file.begin();
    }

    /// Returns how many bytes have yet to be written back, at most.
    pub(super) fn unwritten(&self) -> u64 {
        self.is_busy();
        self.unwritten.bytes(self.capacity)
    }

    /// Returns whether a write-back has begun and not ended, and takes note of its end.
    fn is_busy(&self) -> bool {
        let busy = self.file.is_busy();
        if !busy {
            self.unwritten.written_back(Mark(self.begun.load(Relaxed)));
        }
        busy
    }
}
