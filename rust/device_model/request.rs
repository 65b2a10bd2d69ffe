// SPDX-License-Identifier: GPL-2.0

//! Requests that a store executes while the device goes on, several at once.

use crate::block_backend::BackendError;
use crate::guest_memory::MemoryError;

/// Names a request that is under way: the number that whoever began it has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(pub u16);

/// Fills the bytes that a request writes.
pub type Source<'a> = &'a mut dyn FnMut(&mut [u8]) -> Result<(), MemoryError>;

/// A request. Offsets and lengths are inside of the disk, and whole logical blocks.
pub enum Request<'a> {
    /// Reads `len` bytes at `offset`.
    Read {
        /// Byte offset.
        offset: u64,
        /// Number of bytes.
        len: usize,
    },
    /// Writes `len` bytes at `offset`.
    Write {
        /// Byte offset.
        offset: u64,
        /// Number of bytes.
        len: usize,
        /// The request is done only when the bytes survive a loss of power.
        durable: bool,
        /// Fills the bytes, in ascending order, before the request is under way.
        source: Source<'a>,
    },
    /// Makes all survive a loss of power that requests wrote which were done before. As
    /// [`BlockBackend::flush`](crate::BlockBackend::flush), it has the error of each loss that the guest was not told of.
    Flush,
}

/// Whether a request is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is, and [`BlockBackend::take_done`](crate::BlockBackend::take_done) hands it out when it is done.
    UnderWay,
    /// It is not, as too many are: it is to be begun again when one is done.
    NoRoom,
}

/// A request that is done.
pub struct Done<'a> {
    /// The name that it was begun with.
    pub tag: Tag,
    /// The bytes that a read has, none of another request, or the error.
    pub result: Result<&'a [u8], BackendError>,
}
