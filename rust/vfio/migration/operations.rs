// SPDX-License-Identifier: GPL-2.0

//! The callbacks of a device that migrates by protocol v2.
//!
//! C header: [`include/linux/vfio.h`](srctree/include/linux/vfio.h), `struct vfio_migration_ops`

use super::{
    data::{
        Available,
        Direction, //
    },
    file::DataFile,
};
use crate::device::{
    Device,
    Operations, //
};
use kernel::{
    error::to_result,
    prelude::*, //
};
use vfio_uapi::v2::{
    Flags,
    MigState,
    PrecopyInfo, //
};

/// Callbacks of a device that migrates by protocol v2, `struct vfio_migration_ops`.
///
/// A driver registers such a device with [`Support::of`](super::Support::of).
pub trait MigrationOperations: Operations {
    /// The optional parts of the protocol that the device has.
    const FLAGS: Flags;

    /// Brings the device to state `new`, by all arcs on the way. Returns the data file of the session that
    /// began with an arc, from [`Device::data_file`].
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no way to `new`, or the error of the arc that failed. The device is in its former
    /// state then, or in the state before that arc if there is no way back.
    fn set_state(device: &Device<Self>, new: MigState) -> Result<Option<DataFile>>;

    /// The present state. The core's debugfs file asks a closed device as well.
    fn state(data: &Self) -> MigState;

    /// Estimates the bytes that would have to be read in STOP_COPY.
    ///
    /// # Errors
    ///
    /// What the user's ioctl gets.
    fn data_size(device: &Device<Self>) -> Result<u64>;

    /// Puts the next bytes of the saving session `session` into `into`. The bytes wait in the file until the
    /// user reads them, see [`Self::buffered`].
    ///
    /// # Errors
    ///
    /// What the user's `read()` gets; `ENODEV` if the session is over.
    fn read_data(device: &Device<Self>, session: u64, into: &mut [u8]) -> Result<Available>;

    /// Takes the next bytes of the resuming session `session`. All of `bytes` are taken.
    ///
    /// # Errors
    ///
    /// What the user's `write()` gets; `ENODEV` if the session is over.
    fn write_data(device: &Device<Self>, session: u64, bytes: &[u8]) -> Result;

    /// Whether a read of the saving session `session` would return: bytes wait in the file, or
    /// [`Self::read_data`] would return something other than [`Available::Later`].
    ///
    /// # Errors
    ///
    /// `ENODEV` if the session is over.
    fn is_readable(device: &Device<Self>, session: u64) -> Result<bool>;

    /// Whether the resuming session `session` still takes data.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the session is over.
    fn is_writable(device: &Device<Self>, session: u64) -> Result<bool>;

    /// Estimates the bytes that the user has yet to read in pre-copy. `may_reinit` says whether the user has
    /// opted in to [`PrecopyInfo::reinit`], which must not be set otherwise.
    ///
    /// # Errors
    ///
    /// `EINVAL` outside of pre-copy, `ENODEV` if the session is over.
    fn precopy_info(device: &Device<Self>, session: u64, may_reinit: bool) -> Result<PrecopyInfo>;

    /// Tells the driver how many bytes of the last [`Self::read_data`] still wait in the file. Before the
    /// first call all of them wait.
    fn buffered(device: &Device<Self>, session: u64, bytes: usize);
}

impl<T: MigrationOperations> Device<T> {
    /// Makes the data file of `session`. `session` may be any number that no other session of this open has.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENFILE`.
    pub fn data_file(&self, session: u64, direction: Direction) -> Result<DataFile> {
        DataFile::new(self.revocable().ok_or(ENODEV)?.clone(), session, direction)
    }

    /// Wakes the pollers of data files, for there may be more to read. Can be called with any lock held, and
    /// in any context.
    pub fn notify_data(&self) {
        if let Some(revocable) = self.revocable() {
            revocable.notify();
        }
    }

    /// The next state on the way from `current` to `new`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no way.
    pub fn next_state(&self, current: MigState, new: MigState) -> Result<MigState> {
        // The core would warn, for it takes this for an error of the driver.
        if current == MigState::Error {
            return Err(EINVAL);
        }
        let mut next = 0;

        // SAFETY: The device is registered, and `next` valid for writes.
        to_result(unsafe {
            vfio_bindings::vfio_mig_get_next_state(
                self.as_vfio_device(),
                current.raw(),
                new.raw(),
                &mut next,
            )
        })?;
        MigState::from_raw(next).ok_or(EINVAL)
    }
}
