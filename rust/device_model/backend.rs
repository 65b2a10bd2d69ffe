// SPDX-License-Identifier: GPL-2.0

//! The backend of a device: its content on the host, outside of the device model.

use crate::log::Log;
use crate::migrated_blocks::{
    MigratedBlocks,
    NoMigratedBlocks, //
};
use vfio_uapi::Errno;

/// Writes the content of a device back while the device goes on, so that a stop has less to write.
pub trait WriteBack: Send + Sync + Unpin + 'static {
    /// Begins to write back what is written. Does not sleep. An error is that of the next command or release that
    /// writes back.
    fn begin(&self);

    /// Returns how many bytes have yet to be written back, at most. Does not sleep. It is 0 once a write-back has ended
    /// that began after the last write.
    fn unwritten(&self) -> u64;
}

impl WriteBack for () {
    fn begin(&self) {}

    fn unwritten(&self) -> u64 {
        0
    }
}

/// The content of a device on the host. `()` is the backend of a device without content.
///
/// The content of some backends migrates as blocks; the others are reachable from both hosts, such as a
/// file, and are used by one host at a time.
pub trait Backend: Send + Unpin + 'static {
    /// The blocks that migrate, [`NoMigratedBlocks`] if none do.
    type Blocks: MigratedBlocks + Send + Unpin + 'static;

    /// Writes content back while the device goes on, `()` if nothing has to be.
    type WriteBack: WriteBack;

    /// Returns what writes this content back.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    fn write_back(&self) -> Result<Self::WriteBack, Errno>;

    /// Gets the right to use the content, if it is not there already: at the first use of it, or before the device begins
    /// to run. May sleep for long.
    ///
    /// # Errors
    ///
    /// `EBUSY` if another device uses the content, or why it cannot be used. The backend logs the error.
    fn acquire(&mut self, _log: Log<'_>) -> Result<(), Errno> {
        Ok(())
    }

    /// Writes everything back and gives up the right to use the content, if it is there. May sleep for
    /// long.
    ///
    /// # Errors
    ///
    /// The content may be incomplete, and the right is kept, as long as the guest has not been told by a command that
    /// flushes. The backend logs the error.
    fn release(&mut self, _log: Log<'_>) -> Result<(), Errno> {
        Ok(())
    }

    /// Writes everything back before the device stops, so that [`Self::release`], which follows when it has stopped, has
    /// nothing left to write. May sleep for long.
    ///
    /// # Errors
    ///
    /// The content may be incomplete, and the guest has not been told by a command that flushes. The device goes on. The
    /// backend logs the error.
    fn settle(&mut self, _log: Log<'_>) -> Result<(), Errno> {
        Ok(())
    }

    /// Returns the blocks that migrate, if any do.
    fn blocks(&mut self) -> Option<&mut Self::Blocks> {
        None
    }

    /// Makes blocks of the same number, all zeros; [`None`] if no blocks migrate.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    fn new_blocks(&self) -> Result<Option<Self::Blocks>, Errno> {
        Ok(None)
    }

    /// Takes `blocks`, which are from [`Self::new_blocks`] and have been filled, for its content. Returns
    /// the former ones.
    fn replace_blocks(&mut self, blocks: Self::Blocks) -> Self::Blocks;
}

impl Backend for () {
    type Blocks = NoMigratedBlocks;
    type WriteBack = ();

    fn write_back(&self) -> Result<(), Errno> {
        Ok(())
    }

    fn replace_blocks(&mut self, blocks: NoMigratedBlocks) -> NoMigratedBlocks {
        blocks
    }
}
