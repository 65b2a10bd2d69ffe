// SPDX-License-Identifier: GPL-2.0

//! The dirty log as the VFIO core uses it.

use crate::device::{
    Device,
    Operations, //
};
use kernel::prelude::*;

/// A log of the memory that a device writes. Its methods are called while the device is open, in any order
/// that a user likes, and are concurrent with each other. They may sleep.
pub trait DirtyLog {
    /// Starts to log writes of the `count` ranges in `ranges`, each by its first and its last
    /// address, in pages of about `page_size` bytes. Returns the size of the pages.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the log has been started, if `page_size` is not a power of two, or if a range is
    /// empty; `ENOMEM`.
    fn start(
        &self,
        ranges: impl Iterator<Item = (u64, u64)>,
        count: usize,
        page_size: u64,
    ) -> Result<u64>;

    /// Stops the log and forgets the writes in it.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the log has not been started.
    fn stop(&self) -> Result;

    /// Calls `report` with first address and length of each part of the `length` bytes at `iova` that was
    /// written since the last report of it. No lock may be held during that call: the report goes to
    /// memory of the user, whose page faults take as long as the user likes.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the log has not been started.
    fn read_and_clear(&self, iova: u64, length: u64, report: impl FnMut(u64, u64)) -> Result;
}

/// Callbacks of a device that logs the memory that it writes.
pub trait LogOperations: Operations {
    /// The log.
    type Log: DirtyLog;

    /// The log of the device, which the driver stops when the device is closed.
    fn dirty_log(device: &Device<Self>) -> &Self::Log;

    /// The log has been started. A device that does DMA by itself begins to tell what it writes.
    ///
    /// # Errors
    ///
    /// What the user gets. The log is stopped.
    fn log_started(_device: &Device<Self>) -> Result {
        Ok(())
    }

    /// The log is about to be reported. A device that does DMA by itself marks what it may have written.
    ///
    /// # Errors
    ///
    /// What the user gets. Nothing is reported, and nothing forgotten.
    fn log_is_read(_device: &Device<Self>) -> Result {
        Ok(())
    }
}
