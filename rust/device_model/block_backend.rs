// SPDX-License-Identifier: GPL-2.0

//! The content of a disk, as the commands of a device model access it.

use core::fmt;

use crate::guest_memory::MemoryError;
use crate::request::{
    Begun,
    Done,
    Request,
    Tag, //
};

/// Why a backend did not execute a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendError {
    /// The guest's memory failed, as the closure said.
    Memory(MemoryError),
    /// No space is left for the content.
    Full,
    /// The medium failed.
    Medium,
}

/// The content of a disk, from byte 0 to its capacity. Bytes that were never written read as zeros.
///
/// Data moves in place: a backend lends out slices of its own memory, one after the other in ascending
/// order and `len` bytes altogether. Offsets and lengths are inside of the disk, and whole logical
/// blocks.
pub trait BlockBackend {
    /// Hands `len` bytes at `offset` to `sink`.
    ///
    /// # Errors
    ///
    /// The medium failed, or `sink` did, which ends the reading.
    fn read(
        &mut self,
        offset: u64,
        len: usize,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), MemoryError>,
    ) -> Result<(), BackendError>;

    /// Returns whether requests wait for a medium: then [`Self::expect_read`] is of use, and
    /// [`Self::flush`] can take long.
    fn has_to_wait(&self) -> bool {
        false
    }

    /// Announces that `len` bytes at `offset` will be read soon, after other requests, so that a slow
    /// medium can begin. Does not wait for the bytes.
    fn expect_read(&mut self, _offset: u64, _len: u64) {}

    /// Has `source` fill `len` bytes at `offset`.
    ///
    /// # Errors
    ///
    /// The medium failed or is full, or `source` failed, which ends the writing. The bytes have any
    /// content then; where the guest is told of a namespace that is written as a whole or not at all, as
    /// of memory, they have their old content.
    fn write(
        &mut self,
        offset: u64,
        len: usize,
        source: &mut dyn FnMut(&mut [u8]) -> Result<(), MemoryError>,
    ) -> Result<(), BackendError>;

    /// Makes `len` bytes at `offset` zeros. If `may_deallocate`, they need not take space afterwards.
    ///
    /// # Errors
    ///
    /// The medium failed or is full; the bytes have their old content or are zeros.
    fn write_zeroes(
        &mut self,
        offset: u64,
        len: u64,
        may_deallocate: bool,
    ) -> Result<(), BackendError>;

    /// Makes `len` bytes at `offset` take no space, as far as the backend can. They are zeros then. If the
    /// backend cannot and the guest was promised nothing, they stay as they were.
    ///
    /// # Errors
    ///
    /// The medium failed; the bytes have their old content or are zeros.
    fn deallocate(&mut self, offset: u64, len: u64) -> Result<(), BackendError>;

    /// Makes all that was written survive a loss of power, as far as the backend survives one, for a command of the
    /// guest, which gets the error.
    ///
    /// # Errors
    ///
    /// The medium failed, now or since the last flush: an error that anything but a flush met is kept for the next
    /// one, so that the guest learns of each loss once.
    fn flush(&mut self) -> Result<(), BackendError>;

    /// Does the same as [`Self::flush`] where the guest cannot be told of an error, which is kept.
    ///
    /// # Errors
    ///
    /// The medium failed, and the guest has not been told.
    fn write_back(&mut self) -> Result<(), BackendError>;

    /// Returns whether the store executes requests of [`Self::begin`] while the device goes on. The other methods
    /// execute theirs at once, and concern no request that is under way.
    fn is_concurrent(&self) -> bool {
        false
    }

    /// Begins a request, and keeps `tag` until [`Self::take_done`] has handed the request out. Does not wait for the medium,
    /// if it can be helped. The device is called to work when a request is done.
    ///
    /// # Errors
    ///
    /// The request did not begin: the medium failed, or the closure of a write did.
    fn begin(&mut self, _tag: &Tag, _request: Request<'_>) -> Result<Begun, BackendError> {
        Err(BackendError::Medium)
    }

    /// Hands a request that is done to `take`, each once and in any order. Returns whether there was one.
    ///
    /// `take` returns whether the guest is told the result: the error of a write that it is not told is kept for a flush.
    fn take_done(&mut self, _take: &mut dyn FnMut(Done<'_>) -> bool) -> bool {
        false
    }

    /// Waits until a request that is under way is done and not taken. Returns whether one is: none is if none was under
    /// way, or if the current thread has to end.
    fn await_done(&mut self) -> bool {
        false
    }
}

/// Says where the next bytes belong in the memory `M`: gets the most bytes that the backend has next, at
/// least one, and returns a bus address and the number of bytes, at least one, that belong there.
pub type Place<'a, M> = &'a mut dyn FnMut(&mut M, usize) -> Result<(u64, usize), MemoryError>;

/// A backend that may move content to memory `M` of the guest without lending it.
pub trait ReadStraight<M: ?Sized>: BlockBackend {
    /// Moves bytes from `offset` on, `len` at most, to `memory`, if the backend has a shorter way there
    /// than to lend them. Returns the number of bytes moved.
    ///
    /// The backend calls `place` until all bytes are moved.
    ///
    /// The caller reads the rest by [`BlockBackend::read`], which is the one to report that the medium
    /// failed.
    ///
    /// # Errors
    ///
    /// The guest's memory failed, or `place` did, which ends the reading.
    fn read_straight(
        &mut self,
        _offset: u64,
        _len: usize,
        _memory: &mut M,
        _place: Place<'_, M>,
    ) -> Result<usize, BackendError> {
        Ok(0)
    }
}

/// The contents of a device that has several disks, such as the namespaces of a controller, each with a store of its own. A
/// single backend is that of disk 0.
pub trait Stores<M: ?Sized> {
    /// Returns the content of disk `index`, from 0, if the device has one.
    fn store(&mut self, index: usize) -> Option<&mut dyn ReadStraight<M>>;
}

impl<M: ?Sized, B: ReadStraight<M>> Stores<M> for B {
    fn store(&mut self, index: usize) -> Option<&mut dyn ReadStraight<M>> {
        match index {
            0 => Some(self),
            _ => None,
        }
    }
}

impl From<MemoryError> for BackendError {
    fn from(error: MemoryError) -> Self {
        Self::Memory(error)
    }
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(error) => error.fmt(f),
            Self::Full => f.write_str("the store has no space left"),
            Self::Medium => f.write_str("the store's medium failed"),
        }
    }
}
