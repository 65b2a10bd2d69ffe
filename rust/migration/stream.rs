// SPDX-License-Identifier: GPL-2.0

//! The stream, version 1.1: what a device's state and storage look like on their way.
//!
//! # Records
//!
//! A stream is a sequence of records. Where a chunk of the migration region begins or ends has no
//! meaning to the reader, for a chunk may be split again on its way; the writer never lets a record
//! straddle two chunks. All numbers are little endian. A record is a header and a payload:
//!
//! ```text
//! 0   u32  magic 0x59525246, which is "FRRY"
//! 4   u16  type
//! 6   u16  flags
//! 8   u32  length of the payload in bytes, 0 to 1 MiB
//! 12  u32  sequence: how many records came before it in its generation
//! 16  u64  argument
//! 24  u32  CRC-32C of the payload
//! 28  u32  CRC-32C of bytes 0 to 27
//! 32       payload
//! ```
//!
//! Flag bit 0, OPTIONAL, lets a reader that does not know the type skip the record; types that are
//! known do not have it. Other flags do not exist. A record of an unknown type that is not OPTIONAL
//! is refused.
//!
//! | type       | argument                          | payload                    |
//! |------------|-----------------------------------|----------------------------|
//! | 1 HEADER   | generation, 32 bits               | see below                  |
//! | 2 RESTART  | generation, 32 bits               | none                       |
//! | 3 RESEND   | sequence of the first unacknowledged record | none                   |
//! | 4 STATE    | offset of the piece in bytes      | a piece of the device state, not empty |
//! | 5 BLOCK    | offset in the storage in bytes    | a piece of the storage, not empty |
//! | 6 ZEROES   | offset in the storage in bytes    | u64 length of a part that is all zeros |
//! | 16 END     | zero                              | totals, see below          |
//!
//! HEADER: u16 major version (1), u16 minor version (0 or 1), 16 bytes of device type padded with
//! zeros, u16 length of the configuration, the configuration. END: u32 records of the generation
//! before it, u64 bytes of payload in BLOCK, ZEROES and STATE records since the generation's RESEND
//! or, if it has none, since its beginning; u32 CRC-32C of the whole device state.
//!
//! BLOCK and ZEROES are pieces of the device's storage, of any length and in any order, and what
//! comes later counts. The storage begins with zeros in each generation.
//!
//! # Order
//!
//! Each save of an open device, and each stop-and-copy after a return to pre-copy, is a generation.
//! Generations are counted from 1 for as long as the device is open; a save that was given up
//! before anything of it was read has a number, too. A generation is:
//!
//! ```text
//! [RESTART] HEADER [BLOCK | ZEROES]... [RESEND [HEADER] [BLOCK | ZEROES]...] STATE... END
//! ```
//!
//! - RESTART begins every generation but the first of an open, with sequence 0, followed by HEADER
//!   with the same generation. All that came before is void. It may come after any record, END as
//!   well. Its generation is greater than all before it.
//! - RESEND tells that the user left pre-copy without having told whether it took the last chunk.
//!   The argument is the sequence `n` of the first record of that chunk and its own sequence is
//!   `n + k`, where `k` is the number of records in it. The reader expects `n` if the chunk never
//!   came, and `n + k` if it came; both are right. What was in the chunk follows again: HEADER, if it
//!   was, is identical, and the blocks are as they are by then. If the chunk never came and was the
//!   first, the stream begins with RESEND. There is no RESEND for a chunk that begins with RESTART,
//!   which has no blocks: a new generation covers it.
//! - The pieces of STATE come in order and without gaps.
//! - After END comes nothing, or RESTART.
//!
//! OPTIONAL records of other types may come after HEADER and before END; they count.
//!
//! # Versions
//!
//! A reader takes every minor version of its major version: a later one may add OPTIONAL records,
//! and fields at the end of HEADER and END. Other major versions are refused; the headers of
//! records and the first four bytes of HEADER are the same in all of them.
//!
//! BLOCK and ZEROES came with 1.1, and are unknown in a stream of version 1.0. That is what a device
//! without storage gives: a stream has the first version that has all that it needs.
//!
//! # Refusals
//!
//! A stream with a wrong checksum, a wrong length, a record missing, doubled or out of order is
//! refused with EBADMSG; one that needs a newer reader with EPROTONOSUPPORT; one of another type of
//! device with ENODEV, of another configuration with EXDEV; one that is not complete when RESUMING
//! is left with ENODATA. Nothing of a stream reaches the live device before END was found right and
//! the device has accepted the state.

pub use crate::{
    crc32c::{
        crc32c,
        Crc32c, //
    },
    identity::{
        Identity,
        MAJOR,
        MINOR, //
    },
    reader::{
        Event,
        Limits,
        Reader,
        Span, //
    },
    record::{
        Kind,
        RecordHeader,
        Totals,
        HEADER_SIZE,
        MAGIC,
        OPTIONAL,
        PAYLOAD_MAX, //
    },
    writer::Writer,
};
