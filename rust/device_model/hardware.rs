// SPDX-License-Identifier: GPL-2.0

//! The interface between a real PCI function that migrates and the variant driver that binds it.
//!
//! An emulated device *is* its state. A real function has its state in registers, does DMA on its
//! own, and can refuse to stop. [`Hardware`] is what the author of a variant driver writes: which
//! registers are to be read, in which order they are written, and which pages of its BARs the user
//! must not map. It knows neither kernel nor VFIO, so it is tested on the host against a model of
//! the registers.
//!
//! # Life of a migration
//!
//! ```text
//! source:       quiesce, save, and resume if the migration is cancelled
//! destination:  parse; apply, resume on the way to RUNNING
//! ```
//!
//! The user restores PCI configuration space after the device's data, so the command register is
//! the guest's only on the way to RUNNING. The framework keeps the parsed bytes until then and
//! answers a save in between with these bytes.
//!
//! The framework calls one method at a time, with memory decoding of the function enabled and the
//! function in D0.

use core::fmt::Display;

use crate::guest_memory::GuestMemory;
use crate::model::CONFIGURATION_MAX;

/// Bytes of a page, the unit in which BARs are mapped and memory is pinned.
pub const PAGE_SIZE: u64 = 4096;

/// The registers of the function, in the BAR that has them.
pub trait Registers {
    /// Reads the 32-bit register at byte `offset`. A function that is gone reads as all ones.
    fn read32(&mut self, offset: u32) -> u32;

    /// Writes the 32-bit register at byte `offset`.
    fn write32(&mut self, offset: u32, value: u32);

    /// Waits for at least `microseconds`. May sleep.
    fn delay(&mut self, microseconds: u32);
}

/// What became of a page that was to be pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// The page is pinned, and dirty from now on in each reading of the dirty bitmap.
    Pinned,
    /// No memory is mapped there. DMA to it fails, and the page is tried again later.
    NotMapped,
}

/// A page could not be pinned although memory is mapped there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinError;

/// Pages that the function may write to, which the dirty bitmap reports.
///
/// A page is pinned once for each call of [`pin`](Self::pin), and stays so until it has been unpinned
/// as often. A page that was pinned at any time since the bitmap was read last is reported.
pub trait Pins {
    /// Pins the page with the bus address `page * PAGE_SIZE`.
    ///
    /// # Errors
    ///
    /// The page cannot be pinned. Its tracking is lost.
    fn pin(&mut self, page: u64) -> Result<Pin, PinError>;

    /// Unpins a page that [`pin`](Self::pin) answered with [`Pin::Pinned`].
    fn unpin(&mut self, page: u64);
}

/// What an access or a sequence may use.
pub struct Context<'a> {
    /// The function's registers.
    pub registers: &'a mut dyn Registers,
    /// The guest's memory.
    pub memory: &'a mut dyn GuestMemory,
    /// The pages that are pinned for the dirty bitmap.
    pub pins: &'a mut dyn Pins,
    /// Whether the guest's command register has the bus master bit.
    pub bus_master: bool,
}

/// A part of a BAR that the user must not map: accesses to it come to [`Hardware::read`] and
/// [`Hardware::write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trap {
    /// Index of the BAR.
    pub bar: u32,
    /// First byte, at a multiple of [`PAGE_SIZE`].
    pub offset: u64,
    /// Number of bytes, a multiple of [`PAGE_SIZE`] in a BAR of memory.
    pub len: u64,
}

/// An access that does not lie in a [`Trap`], or not within one register or two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessError;

/// A sequence that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure<E> {
    /// The function is as it was before the sequence.
    Undone(E),
    /// The sequence has changed the function and cannot be taken back: the device state is ERROR until
    /// a reset.
    Broken(E),
}

impl<E> Failure<E> {
    /// Why the sequence failed.
    pub fn reason(&self) -> &E {
        match self {
            Self::Undone(reason) | Self::Broken(reason) => reason,
        }
    }
}

/// A PCI function that migrates.
pub trait Hardware {
    /// Names the type of device in the stream, in 1 to 16 bytes of ASCII that never change.
    const TYPE: &'static str;

    /// A saved state that has been checked. Borrows the bytes: a state may be larger than a stack.
    type State<'a>;

    /// Why a sequence failed.
    type Error: Display;

    /// Why a state is refused.
    type StateError: Display;

    /// Writes what must be equal at both ends of a migration to `out`, and returns its length in
    /// bytes. Does not change while the device is open.
    fn configuration(&self, out: &mut [u8; CONFIGURATION_MAX]) -> usize;

    /// The number of bytes that [`save`](Self::save) writes. Does not change while the device is open.
    fn state_size(&self) -> usize;

    /// The parts of BARs that the user must not map, in ascending order in each BAR and apart from each other. Does not
    /// change while the device is open.
    fn traps(&self) -> &[Trap];

    /// Reads a trapped part of a BAR.
    ///
    /// # Errors
    ///
    /// Nothing is read.
    fn read(
        &mut self,
        context: &mut Context<'_>,
        bar: u32,
        offset: u64,
        bytes: &mut [u8],
    ) -> Result<(), AccessError>;

    /// Writes a trapped part of a BAR.
    ///
    /// # Errors
    ///
    /// Nothing is written.
    fn write(
        &mut self,
        context: &mut Context<'_>,
        bar: u32,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), AccessError>;

    /// Stops the function: after a successful return it does no DMA and asserts no interrupt until
    /// [`resume`](Self::resume), and answers accesses as before. May sleep.
    ///
    /// # Errors
    ///
    /// [`Failure::Undone`] leaves the function running.
    fn quiesce(&mut self, context: &mut Context<'_>) -> Result<(), Failure<Self::Error>>;

    /// Lets the stopped function run, and raises the interrupts that were pending. A function whose
    /// guest has not enabled bus mastering is held back from DMA; the framework calls this again when
    /// the guest enables bus mastering, and at any other time it does nothing.
    ///
    /// # Errors
    ///
    /// [`Failure::Undone`] leaves the function stopped.
    fn resume(&mut self, context: &mut Context<'_>) -> Result<(), Failure<Self::Error>>;

    /// Writes the state of the stopped function to the front of `out` and returns its length in bytes.
    /// The function can still be resumed, and has lost nothing.
    ///
    /// # Errors
    ///
    /// `out` is too small, the function is not stopped, or it does not answer.
    fn save(&mut self, context: &mut Context<'_>, out: &mut [u8]) -> Result<usize, Self::Error>;

    /// Checks a state, which a hostile user may have written.
    ///
    /// # Errors
    ///
    /// The state is not one of this function, or has bits that start operations.
    fn parse<'a>(&self, state: &'a [u8]) -> Result<Self::State<'a>, Self::StateError>;

    /// Gives the stopped function the state, and leaves it stopped. May sleep.
    ///
    /// # Errors
    ///
    /// [`Failure::Broken`] as soon as the function has been reset.
    fn apply(
        &mut self,
        context: &mut Context<'_>,
        state: &Self::State<'_>,
    ) -> Result<(), Failure<Self::Error>>;

    /// Resets the function: it does no DMA, and no register has anything of its last user. May sleep.
    /// The framework calls this at each open, reset and close.
    ///
    /// # Errors
    ///
    /// The function does not answer, or cannot be reset.
    fn reset(&mut self, context: &mut Context<'_>) -> Result<(), Self::Error>;
}

/// A function whose DMA writes can be told in advance, from its trapped registers.
pub trait FollowDma: Hardware {
    /// Why the writes cannot be told any longer.
    type Lost: Display;

    /// Whether the writes can be told at all. Does not change while the device is open.
    fn can_follow(&self) -> bool;

    /// Whether pages are pinned.
    fn is_following(&self) -> bool;

    /// Pins from now on what the function may write to. Called before the user has read anything of
    /// the guest's memory.
    ///
    /// # Errors
    ///
    /// Nothing is pinned, and nothing followed.
    fn follow(&mut self, context: &mut Context<'_>) -> Result<(), Self::Lost>;

    /// Unpins all pages and follows no longer.
    fn unfollow(&mut self, context: &mut Context<'_>);

    /// The framework has unpinned `count` pages from `first` on, as their memory is being unmapped.
    fn unmapped(&mut self, first: u64, count: u64);

    /// Why pages have been missed since [`follow`](Self::follow). The migration must fail then, as the
    /// dirty bitmap is not complete.
    fn lost(&self) -> Option<&Self::Lost>;
}

/// Waits until `done` holds, looking every `step` microseconds and giving up after `limit`.
pub fn poll(
    registers: &mut dyn Registers,
    limit: u32,
    step: u32,
    mut done: impl FnMut(&mut dyn Registers) -> bool,
) -> bool {
    let mut waited = 0_u32;

    loop {
        if done(registers) {
            return true;
        }
        if waited >= limit {
            return false;
        }
        registers.delay(step);
        waited = waited.saturating_add(step.max(1));
    }
}
