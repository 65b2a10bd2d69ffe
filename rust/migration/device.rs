// SPDX-License-Identifier: GPL-2.0

//! What a device gives the engine, and what it is given.

use crate::{
    migrated_blocks::MigratedBlocks, //
    refusal::{
        Reason,
        Refusal, //
    },
};
use vfio_uapi::Errno;

/// The most bytes that a device's configuration has.
pub const CONFIGURATION_MAX: usize = 64;

/// The most bytes that a device's state has: 1 GiB, so that no count of bytes or records can
/// overflow.
pub const STATE_MAX: usize = 1 << 30;

/// A device that migrates. This is what the author of a driver writes.
///
/// The engine never calls two methods at once. The methods may sleep.
pub trait Device {
    /// The type of the device: 1 to 16 bytes of ASCII that never change. A stream of another type
    /// is refused.
    const TYPE: &'static str;

    /// The most bytes that [`save`](Self::save) gives; at most [`STATE_MAX`].
    const STATE_SIZE: usize;

    /// Writes what must be equal at both ends of a migration to `out`, such as a number of ports,
    /// and returns its length in bytes. Must not change during a session.
    fn configuration(&self, out: &mut [u8; CONFIGURATION_MAX]) -> usize;

    /// Stops the device. After a successful return there is no DMA, no interrupt and no advance of
    /// the state until [`start`](Self::start).
    ///
    /// # Errors
    ///
    /// The device still runs as before.
    fn stop(&mut self) -> Result<(), Errno>;

    /// Lets the stopped device run from the state that it has.
    ///
    /// # Errors
    ///
    /// The device is still stopped.
    fn start(&mut self) -> Result<(), Errno>;

    /// Has the device initiate no DMA from the return of this on, or initiate DMA again; in the former
    /// case it answers accesses as before. The device may run or be stopped, and a reset ends it.
    fn set_p2p(&mut self, p2p: bool) {
        let _ = p2p;
    }

    /// Writes the whole state of the stopped device to `out`, which has
    /// [`STATE_SIZE`](Self::STATE_SIZE) bytes, and returns its length in bytes. All that is in
    /// flight is part of the state.
    ///
    /// # Errors
    ///
    /// The device is as before.
    fn save(&mut self, out: &mut [u8]) -> Result<usize, Errno>;

    /// Checks `state`, which whoever wrote the stream made up, and keeps it aside. The live device
    /// must not change. Forgets the state that was staged before, but not the staged storage.
    ///
    /// # Errors
    ///
    /// The state is not one that this device can have; no state is staged.
    fn stage(&mut self, state: &[u8]) -> Result<(), Errno>;

    /// Makes the staged state that of the live device, which is stopped, and the staged storage its
    /// storage.
    ///
    /// By then a user may have restored what is theirs to restore, such as PCI configuration space
    /// and interrupts (statement 31 of the protocol); adopting must not undo that.
    fn adopt(&mut self);

    /// Forgets the staged state and the staged storage, as far as there are any.
    fn unstage(&mut self);

    /// Resets the device from whatever state it is in and lets it run. Nothing is staged then.
    fn reset(&mut self);

    /// Calls `f` with the storage of the live device and returns what it returns; [`None`] if the
    /// device has no storage that moves, which must be the same for as long as it is open.
    ///
    /// In pre-copy the device runs. Whoever keeps it from its storage does so for one call, which
    /// copies no more than some 64 KiB.
    fn with_storage<R>(&mut self, f: impl FnOnce(&mut dyn MigratedBlocks) -> R) -> Option<R> {
        let _ = f;
        None
    }

    /// Calls `f` with the storage that is staged, which is all zeros when it is first asked for
    /// since the device was opened, or since the last [`adopt`](Self::adopt),
    /// [`unstage`](Self::unstage) or [`reset`](Self::reset). The live device must not change.
    /// [`None`] exactly where [`with_storage`](Self::with_storage) has it.
    ///
    /// # Errors
    ///
    /// There is no memory for it.
    fn with_staged_storage<R>(
        &mut self,
        f: impl FnOnce(&mut dyn MigratedBlocks) -> R,
    ) -> Result<Option<R>, Errno> {
        let _ = f;
        Ok(None)
    }
}

/// The data section of the migration region: memory that the user reads and writes at any time.
///
/// Nothing in it can be relied upon, not even for the time of two looks. So there is no access to
/// it but copying. Offsets are in bytes from the start of the window, and the engine keeps
/// `offset + length` within [`size`](Self::size), which never changes.
pub trait Window {
    /// Returns the size in bytes.
    fn size(&self) -> usize;

    /// Copies `bytes` into the window.
    fn write(&mut self, offset: usize, bytes: &[u8]);

    /// Copies a part of the window out.
    fn read(&self, offset: usize, into: &mut [u8]);

    /// Fills the window with zeros.
    fn clear(&mut self);
}

/// Returns the part of the state buffer that the state of a `D` may take.
///
/// # Errors
///
/// [`Reason::BufferTooSmall`] if the buffer has less.
pub(crate) fn state_buffer<D: Device>(buffer: &mut [u8]) -> Result<&mut [u8], Refusal> {
    let too_small = Reason::BufferTooSmall {
        size: buffer.len(),
        least: D::STATE_SIZE,
    };

    buffer
        .get_mut(..D::STATE_SIZE)
        .ok_or_else(|| too_small.into())
}
