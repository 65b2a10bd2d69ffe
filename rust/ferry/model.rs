// SPDX-License-Identifier: GPL-2.0

//! What the author of a vendor driver writes: the device.

use core::fmt::Display;
use migration::CONFIGURATION_MAX;

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

    /// Names the kind of device in the stream, in at most 16 ASCII characters.
    const TYPE: &'static str;
    /// The most bytes that [`Self::save`] writes.
    const STATE_SIZE: usize;
    /// Size of the configuration space in bytes.
    const CONFIG_SIZE: u64;
    /// How many MSI vectors the device has.
    const MSI_VECTORS: u32;

    /// Writes what must be the same on both ends of a migration into `out`, and returns how many
    /// bytes that are.
    fn configuration(&self, out: &mut [u8; CONFIGURATION_MAX]) -> usize;

    /// Size of BAR `bar`, which is 0 to 5, in bytes; 0 if there is no such BAR. It never changes, and
    /// only a BAR with a size is accessed.
    fn bar_size(&self, bar: u32) -> u64;

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

    /// Whether the device asserts its interrupt pin.
    fn intx_asserted(&self) -> bool;

    /// Whether the device has a reason to interrupt; vector 0 is sent when that becomes true.
    fn interrupt(&self) -> bool;

    /// To the state after power-on.
    fn reset(&mut self);

    /// Writes the complete state, with everything in flight, into `out`. Returns how many bytes,
    /// or [`None`] if there is not enough room, which [`Self::STATE_SIZE`] rules out.
    fn save(&self, out: &mut [u8]) -> Option<usize>;

    /// Returns a device of the configuration of this one with the state that [`Self::save`] wrote.
    /// `state` is hostile: whatever is in it leads to a device that works, or to an error.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    fn load(&self, state: &[u8]) -> Result<Self, Self::LoadError>;
}
