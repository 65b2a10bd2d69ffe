// SPDX-License-Identifier: GPL-2.0

//! The format of the stream, version 1.1: records, their order, versions.
//!
//! `Documentation/stream.rst` is the specification; it suffices to write another reader or writer.
//!
//! # Records
//!
//! A stream is a sequence of records. The borders of chunks have no meaning to the reader, as a chunk may be
//! split again on its way; the writer never lets a record straddle two chunks. All numbers are little endian.
//! A record is a header and a payload:
//!
//! ```text
//! 0   u32  magic 0x59525246, which is "FRRY"
//! 4   u16  type
//! 6   u16  flags
//! 8   u32  length of the payload in bytes, 0 to 1 MiB
//! 12  u32  sequence: the number of records before this one in its generation
//! 16  u64  argument
//! 24  u32  CRC-32C of the payload
//! 28  u32  CRC-32C of bytes 0 to 27
//! 32       payload
//! ```
//!
//! Flag bit 0, OPTIONAL, lets a reader that does not know the type skip the record. Of the types below, WAIT has the flag.
//! There are no other flags. A reader refuses a record of an unknown type without OPTIONAL.
//!
//! | type       | argument                          | payload                    |
//! |------------|-----------------------------------|----------------------------|
//! | 1 HEADER   | generation, 32 bits               | see below                  |
//! | 2 RESTART  | generation, 32 bits               | none                       |
//! | 3 RESEND   | sequence of the first unacknowledged record | none             |
//! | 4 STATE    | offset of the piece in bytes      | a piece of the device state, not empty |
//! | 5 BLOCK    | offset in the storage in bytes    | a piece of the storage, not empty |
//! | 6 ZEROES   | offset in the storage in bytes    | u64 length of a part that is all zeros |
//! | 7 WAIT     | zero                              | none                       |
//! | 16 END     | zero                              | totals, see below          |
//!
//! HEADER: u16 major version (1), u16 minor version (0 or 1), 16 bytes of device type padded with
//! zeros, u16 length of the configuration, the configuration. END: u32 records of the generation
//! before it, u64 bytes of payload in BLOCK, ZEROES and STATE records since the generation's RESEND
//! or, if it has none, since its beginning; u32 CRC-32C of the whole device state.
//!
//! The storage of a device is its blocks that migrate. BLOCK and ZEROES are pieces of the storage, ZEROES of 1 MiB at
//! most, and in any order; a later piece overwrites an earlier one. The storage is all zeros at the
//! beginning of each generation.
//!
//! # Order
//!
//! Each save of an open device, and each stop-and-copy after a return to pre-copy, is a generation.
//! Generations are counted from 1 for as long as the device is open; a save from which nothing was read
//! has a number, too. A generation is:
//!
//! ```text
//! [RESTART] HEADER [BLOCK | ZEROES]... [RESEND [HEADER] [BLOCK | ZEROES]...] STATE... END
//! ```
//!
//! - RESTART begins every generation but the first of an open, with sequence 0. HEADER with the same
//!   generation follows. RESTART voids all records before it, and may come after any record, END as
//!   well. Its generation is greater than all before it.
//! - RESEND says that the user left pre-copy with the last chunk unacknowledged. The argument is the
//!   sequence `n` of the first record of that chunk. The sequence of RESEND is `n + k`, where `k` is the
//!   number of records of the chunk. The reader expects `n` if the chunk never came, and `n + k` if it came;
//!   RESEND is right in both cases. The content of the chunk follows again: HEADER, if the chunk had it, is
//!   identical, and the blocks have their present content. If the chunk never came and was the first, the
//!   stream begins with RESEND. A chunk that begins with RESTART has no blocks, and a new generation covers
//!   it instead of RESEND.
//! - The pieces of STATE come in order and without gaps.
//! - After END comes nothing, or RESTART.
//!
//! OPTIONAL records, such as WAIT, may come after HEADER and before END; they count.
//!
//! # Versions
//!
//! A reader takes every minor version of its major version: a later one may add OPTIONAL records,
//! and fields at the end of HEADER and END. A reader refuses other major versions; the headers of
//! records and the first four bytes of HEADER are the same in all major versions.
//!
//! BLOCK and ZEROES came with 1.1, and are unknown in a stream of version 1.0. A device without storage
//! gives a stream of version 1.0: a stream has the first version that has all that it needs.
//!
//! # Refusals
//!
//! A stream with a wrong checksum, a wrong length, a record missing, doubled or out of order is
//! refused with EBADMSG; one that needs a newer reader with EPROTONOSUPPORT; one of another type of
//! device with ENODEV, of another configuration with EXDEV; one that is not complete when RESUMING
//! is left with ENODATA. Nothing of a stream reaches the live device before END was found right and
//! the device has accepted the state.

use device_model::{
    BLOCK_SIZE,
    CONFIGURATION_MAX, //
};

/// Size of a record's header, in bytes.
pub const HEADER_SIZE: usize = 32;

/// The most bytes of payload that a record has: 1 MiB.
pub const PAYLOAD_MAX: u32 = 1 << 20;

/// The first four bytes of every record: "FRRY".
pub const MAGIC: u32 = u32::from_le_bytes(*b"FRRY");

/// Flag: a reader that does not know the type of the record skips it.
pub const OPTIONAL: u16 = 1 << 0;

/// Type of WAIT, which is OPTIONAL and which every reader skips: the device had nothing to give, and something to write
/// back before it can stop.
pub const WAIT: u16 = 7;

/// The types of records that this version knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Begins a save: version, type and configuration. The argument is the generation.
    Header,
    /// Voids the records before it. The argument is the generation that begins.
    Restart,
    /// The records from the argument on may not have arrived and follow again.
    Resend,
    /// A piece of the device state. The argument is its offset in bytes.
    State,
    /// A piece of the device's storage. The argument is its offset in bytes.
    Block,
    /// A part of the device's storage that is all zeros. The argument is its offset in bytes, the
    /// payload its length.
    Zeroes,
    /// Completes a save, with totals.
    End,
}

impl Kind {
    /// All types.
    pub const ALL: [Kind; 7] = [
        Self::Header,
        Self::Restart,
        Self::Resend,
        Self::State,
        Self::Block,
        Self::Zeroes,
        Self::End,
    ];

    /// Returns the number of the type.
    pub const fn number(self) -> u16 {
        match self {
            Self::Header => 1,
            Self::Restart => 2,
            Self::Resend => 3,
            Self::State => 4,
            Self::Block => 5,
            Self::Zeroes => 6,
            Self::End => 16,
        }
    }

    /// Returns the first minor version of the stream that has the type.
    pub const fn since(self) -> u16 {
        match self {
            Self::Header | Self::Restart | Self::Resend | Self::State | Self::End => 0,
            Self::Block | Self::Zeroes => 1,
        }
    }

    /// Returns the type that has the number, if this version knows it.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

/// Size of the payload of ZEROES, in bytes.
pub const ZEROES_SIZE: usize = 8;

/// The most bytes of zeros that a ZEROES record tells of.
pub const ZEROES_MAX: u64 = 256 * BLOCK_SIZE as u64;

/// Major version of the stream. A reader refuses every other major version.
pub const MAJOR: u16 = 1;
/// Minor version of the stream. A reader takes every minor version of its major version. A writer writes the
/// first minor version that has all the records that it needs.
pub const MINOR: u16 = 1;

/// Size of the name of a device's type, in bytes; shorter ones are padded with zeros.
pub const TYPE_SIZE: usize = 16;

/// Bytes of the payload of HEADER before the configuration: two versions, the type, a length.
const IDENTITY_FIXED: usize = 2 + 2 + TYPE_SIZE + 2;

/// The most bytes of a payload of HEADER of this version.
pub const IDENTITY_MAX: usize = IDENTITY_FIXED + CONFIGURATION_MAX;
