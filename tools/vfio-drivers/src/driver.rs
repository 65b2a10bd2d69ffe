// SPDX-License-Identifier: GPL-2.0

//! What every driver does with its device.

use core::fmt::Debug;

use vfio_client::GuestMemory;

/// Why a driver's step failed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Error {
    /// The kernel or the device refused.
    #[error(transparent)]
    Client(#[from] vfio_client::Error),
    /// The device does not have what it was given: what was expected, and what was seen.
    #[error("{0}")]
    Differs(String),
}

/// The result of a driver's step.
pub type Result<T = ()> = core::result::Result<T, Error>;

/// A driver of an open device.
///
/// A driver keeps nothing between two steps, so one driver may [verify](Driver::verify) what the driver of
/// another device did, whose state has moved here.
pub trait Driver: Debug + Send + Sync {
    /// Returns what the device is, for reports.
    fn name(&self) -> String;

    /// Returns how many bytes of memory the driver needs for the device's DMA; 0 for a device without
    /// DMA.
    fn memory_size(&self) -> usize;

    /// Gives the driver memory, which is attached to the device's address space. A driver whose
    /// [`memory_size`](Driver::memory_size) is 0 ignores it.
    fn use_memory(&mut self, memory: &GuestMemory);

    /// Resets and starts the function, as the driver of an operating system does.
    ///
    /// # Errors
    ///
    /// What the kernel answers, also in the other methods.
    fn init(&self) -> Result;

    /// Gives the device a state, and storage a content, that no fresh device has, different by `seed`.
    ///
    /// # Errors
    ///
    /// As [`Driver::init`].
    fn work(&self, seed: u8) -> Result;

    /// Checks that the device has what [`Driver::work`] gave it. The check may consume it.
    ///
    /// # Errors
    ///
    /// [`Error::Differs`] if it does not.
    fn verify(&self, seed: u8) -> Result;

    /// Takes data out of the device to which another [`Driver::work`] would only add.
    ///
    /// # Errors
    ///
    /// As [`Driver::init`].
    fn discard(&self) -> Result;

    /// Checks that the registers show nothing of a [`Driver::work`]. The device need not run.
    ///
    /// # Errors
    ///
    /// [`Error::Differs`] if they do.
    fn verify_fresh(&self) -> Result;

    /// Checks that the device works, whatever was done to it before.
    ///
    /// # Errors
    ///
    /// [`Error::Differs`] if it does not.
    fn exercise(&self) -> Result;

    /// Has the device assert INTx and leave it asserted.
    ///
    /// # Errors
    ///
    /// As [`Driver::init`].
    fn raise_intx(&self) -> Result;

    /// Reads and writes registers. A device that does not run may ignore or refuse these accesses.
    ///
    /// # Errors
    ///
    /// As [`Driver::init`], for what must not be refused.
    fn poke(&self) -> Result;

    /// Writes a register that a running device keeps. A device that does not run may refuse it.
    ///
    /// # Errors
    ///
    /// As [`Driver::init`].
    fn scribble(&self, value: u8) -> Result;
}
