// SPDX-License-Identifier: GPL-2.0

//! Requests that a store executes while the device goes on, several at once.

use crate::block_backend::BackendError;
use crate::guest_memory::MemoryError;

/// Bytes that a device keeps with a request.
pub const CONTEXT_SIZE: usize = 64;

/// Names a request that is under way. The store keeps it, and gives it back when the request is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Tells requests of before a reset from those after it.
    pub generation: u32,
    /// The queue that the request came from.
    pub queue: u16,
    /// What the device needs to go on with the request.
    pub context: [u8; CONTEXT_SIZE],
}

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
    pub tag: &'a Tag,
    /// The bytes that a read has, none of another request, or the error.
    pub result: Result<&'a [u8], BackendError>,
}
