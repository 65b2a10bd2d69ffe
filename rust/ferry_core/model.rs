// SPDX-License-Identifier: GPL-2.0

//! What the author of a vendor driver writes: the device.

use ::migration::{
    Dirty,
    MigratedBlocks,
    BLOCK_SIZE,
    CONFIGURATION_MAX, //
};
use core::fmt::Display;
use kernel::prelude::*;
use vfio::dma::Dma;

pub use vfio::irq::VectorCounts;
use vfio_uapi::Errno;

/// Registers that are written without the device's lock, such as doorbells: a write only leaves a
/// note for [`Model::work`].
pub trait PostedWrites: Default + Send + Sync + 'static {
    /// Notes a write of `bytes` at `offset` of BAR `bar`. Returns whether the registers there are of
    /// this kind. Several threads may call it at once.
    fn post(&self, bar: u32, offset: u64, bytes: &[u8]) -> bool;

    /// Whether there is a note that [`Model::work`] has not taken.
    fn is_posted(&self) -> bool;

    /// Forgets all notes.
    fn clear(&self);
}

/// A device without posted writes.
impl PostedWrites for () {
    fn post(&self, _bar: u32, _offset: u64, _bytes: &[u8]) -> bool {
        false
    }

    fn is_posted(&self) -> bool {
        false
    }

    fn clear(&self) {}
}

/// The storage of a device that has none.
pub enum NoMigratedBlocks {}

impl MigratedBlocks for NoMigratedBlocks {
    fn blocks(&self) -> u64 {
        match *self {}
    }

    fn track(&mut self) -> Result<(), Errno> {
        match *self {}
    }

    fn untrack(&mut self) {
        match *self {}
    }

    fn dirty(&self, _from: u64) -> Dirty {
        match *self {}
    }

    fn take_dirty(&mut self, _from: u64) -> Option<u64> {
        match *self {}
    }

    fn mark_dirty(&mut self, _index: u64) {
        match *self {}
    }

    fn block(&self, _index: u64) -> Option<&[u8; BLOCK_SIZE]> {
        match *self {}
    }

    fn put(&mut self, _offset: u64, _bytes: &[u8]) -> Result<(), Errno> {
        match *self {}
    }

    fn put_zeroes(&mut self, _offset: u64, _len: u64) -> Result<(), Errno> {
        match *self {}
    }
}

/// Whether there is something left to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Work {
    /// Nothing, until the device is written to.
    Done,
    /// Something.
    More,
}

/// Says in the kernel's log what was refused, why, and with which error.
pub type Log<'a> = &'a dyn Fn(&str, &dyn Display, Error);

/// A PCI device as a value.
///
/// Its methods are called with the device's lock held. Offsets and lengths are the user's: an
/// access that does not lie in the region is to be refused and to change nothing. An access is 1, 2,
/// 4 or 8 bytes at a multiple of its size.
pub trait Model: Sized + Send + Unpin + 'static {
    /// Why an access is refused.
    type AccessError: Display;
    /// Why a state is refused.
    type LoadError: Display + Send + Unpin + 'static;
    /// What is written without the lock, `()` if nothing is.
    type Posted: PostedWrites;
    /// What moves block by block while the device runs, [`NoMigratedBlocks`] if nothing does.
    type MigratedBlocks: MigratedBlocks + Send + Unpin + 'static;

    /// Names the kind of device in the stream, in at most 16 ASCII characters.
    const TYPE: &'static str;
    /// The most bytes that [`Self::save`] writes.
    const STATE_SIZE: usize;
    /// Size of the configuration space in bytes.
    const CONFIG_SIZE: u64;
    /// How many vectors the device has.
    const VECTORS: VectorCounts;

    /// Writes what must be the same on both ends of a migration into `out`, and returns how many
    /// bytes that are.
    fn configuration(&self, out: &mut [u8; CONFIGURATION_MAX]) -> usize;

    /// Whether the device answers accesses of BAR `bar`: its command register enables that kind of
    /// address, and it is in the power state D0. Otherwise reads of the BAR return all ones and writes
    /// are lost, as on a bus, without that the device sees them.
    fn decodes(&self, bar: u32) -> bool;

    /// Reads registers of a BAR.
    ///
    /// # Errors
    ///
    /// The access is not one that the BAR has.
    fn read_bar(
        &mut self,
        bar: u32,
        offset: u64,
        bytes: &mut [u8],
    ) -> Result<(), Self::AccessError>;

    /// Returns what [`Self::read_bar`] would, without its side effects: the device is stopped.
    ///
    /// # Errors
    ///
    /// As for [`Self::read_bar`].
    fn peek_bar(&self, bar: u32, offset: u64, bytes: &mut [u8]) -> Result<(), Self::AccessError>;

    /// Writes registers of a BAR.
    ///
    /// # Errors
    ///
    /// As for [`Self::read_bar`].
    fn write_bar(&mut self, bar: u32, offset: u64, bytes: &[u8]) -> Result<(), Self::AccessError>;

    /// Writes registers of a BAR while the device is stopped. It takes those that tell where its
    /// interrupts go, such as an MSI-X table, and no other.
    ///
    /// # Errors
    ///
    /// As for [`Self::read_bar`].
    fn write_bar_stopped(
        &mut self,
        _bar: u32,
        _offset: u64,
        _bytes: &[u8],
    ) -> Result<(), Self::AccessError> {
        Ok(())
    }

    /// Reads configuration space.
    ///
    /// # Errors
    ///
    /// The access is not one that configuration space has.
    fn read_config(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Self::AccessError>;

    /// Writes configuration space.
    ///
    /// # Errors
    ///
    /// As for [`Self::read_config`].
    fn write_config(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Self::AccessError>;

    /// Whether the device may send messages, which it may not in a power state other than D0, nor without
    /// the bus master bit. Messages that nobody has been given yet wait until it may.
    fn may_send_messages(&self) -> bool {
        true
    }

    /// Whether the device asserts its interrupt pin.
    fn intx_asserted(&self) -> bool;

    /// Whether the device has a reason to interrupt; MSI vector 0 is sent when that becomes true.
    fn interrupt(&self) -> bool;

    /// The user has enabled MSI-X by `VFIO_DEVICE_SET_IRQS`, or has not. While it has, messages are sent
    /// whatever the enable bit in configuration space says, which a user of vfio-pci cannot set. A
    /// new device starts without, and a reset leaves it as it is.
    fn set_msix(&mut self, _enabled: bool) {}

    /// As [`Self::set_msix`], for MSI.
    fn set_msi(&mut self, _enabled: bool) {}

    /// The MSI-X vectors that are to be sent, one bit for each, since the last call.
    fn take_raised(&mut self) -> u32 {
        0
    }

    /// Whether [`Self::work`] shall be called. Asked after each access that writes.
    fn has_work(&self) -> bool {
        false
    }

    /// Does a part of what there is to do, a few milliseconds of it: whoever accesses the device
    /// waits so long. Called in a kernel worker while the device runs, after a posted write, when
    /// [`Self::has_work`] says so, when the device starts, and as long as there is more.
    fn work(&mut self, _posted: &Self::Posted, _dma: &Dma<'_>, _log: Log<'_>) -> Work {
        Work::Done
    }

    /// The device is about to run, for the first time or again.
    ///
    /// # Errors
    ///
    /// It cannot: the transition to a running state fails.
    fn start(&mut self, _log: Log<'_>) -> Result {
        Ok(())
    }

    /// The device is about to be stopped. Posted writes become part of its state. After a successful
    /// return nobody calls [`Self::work`].
    ///
    /// # Errors
    ///
    /// It cannot be stopped, and goes on.
    fn stop(&mut self, _posted: &Self::Posted, _log: Log<'_>) -> Result {
        Ok(())
    }

    /// To the state after power-on, as `VFIO_DEVICE_RESET` has it: of configuration space stays what
    /// vfio-pci restores around it, which is the header, and of the PCI Express capability device
    /// control, link control and device control 2. Storage keeps its content.
    fn reset(&mut self);

    /// Writes the complete state, with everything in flight, into `out`. Returns how many bytes,
    /// or [`None`] if there is not enough room, which [`Self::STATE_SIZE`] rules out.
    fn save(&self, out: &mut [u8]) -> Option<usize>;

    /// Returns a device of the configuration of this one with the state that [`Self::save`] wrote.
    /// `state` is hostile: whatever is in it leads to a device that works, or to an error. Its
    /// storage, if that is of the kind that moves, is all zeros until [`Self::set_storage`].
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    fn load(&self, state: &[u8]) -> Result<Self, Self::LoadError>;

    /// The storage, if it is of the kind that moves.
    fn storage(&mut self) -> Option<&mut Self::MigratedBlocks> {
        None
    }

    /// Makes storage as large as this device's, all zeros; [`None`] if it is not of the kind that
    /// moves.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    fn new_storage(&self) -> Result<Option<Self::MigratedBlocks>> {
        Ok(None)
    }

    /// Becomes `staged`, which is from [`Self::load`], and returns what it was.
    fn adopt(&mut self, staged: Self) -> Self {
        core::mem::replace(self, staged)
    }

    /// Takes `storage`, which is from [`Self::new_storage`] and has been filled, for its own.
    fn set_storage(&mut self, _storage: Self::MigratedBlocks) {}
}
