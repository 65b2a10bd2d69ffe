// SPDX-License-Identifier: GPL-2.0

//! The header of a record, and the payload of END.
//!
//! All numbers are little endian; [`format`](super::format) has the layout.

use super::{
    crc32c::crc32c,
    format::{
        HEADER_SIZE,
        MAGIC,
        OPTIONAL,
        PAYLOAD_MAX, //
    },
};
use crate::refusal::{
    Reason,
    Refusal, //
};

/// Bytes of the header that its checksum covers.
const COVERED_SIZE: usize = 28;

/// The header of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordHeader {
    /// Number of the type; [`Kind`](super::format::Kind) has the known types.
    pub kind: u16,
    /// Flags; [`OPTIONAL`] is the only one.
    pub flags: u16,
    /// Length of the payload in bytes, 0 to [`PAYLOAD_MAX`].
    pub length: u32,
    /// The number of records before this one in its generation.
    pub sequence: u32,
    /// The argument, whose meaning depends on the type.
    pub argument: u64,
    /// CRC-32C of the payload.
    pub payload_crc: u32,
}

impl RecordHeader {
    /// Returns the header as the stream has it.
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let [m0, m1, m2, m3] = MAGIC.to_le_bytes();
        let [k0, k1] = self.kind.to_le_bytes();
        let [f0, f1] = self.flags.to_le_bytes();
        let [l0, l1, l2, l3] = self.length.to_le_bytes();
        let [s0, s1, s2, s3] = self.sequence.to_le_bytes();
        let [a0, a1, a2, a3, a4, a5, a6, a7] = self.argument.to_le_bytes();
        let [p0, p1, p2, p3] = self.payload_crc.to_le_bytes();
        #[rustfmt::skip]
        let covered: [u8; COVERED_SIZE] = [
            m0, m1, m2, m3,
            k0, k1,
            f0, f1,
            l0, l1, l2, l3,
            s0, s1, s2, s3,
            a0, a1, a2, a3, a4, a5, a6, a7,
            p0, p1, p2, p3,
        ];

        let mut bytes = [0; HEADER_SIZE];
        let crc = crc32c(&covered).to_le_bytes();
        for (place, byte) in bytes.iter_mut().zip(covered.iter().chain(&crc)) {
            *place = *byte;
        }
        bytes
    }

    /// Reads a header. `expected` is the number of the record as the reader counts; a refusal names it.
    ///
    /// # Errors
    ///
    /// [`Reason::Magic`], [`Reason::HeaderChecksum`], [`Reason::Flags`] or
    /// [`Reason::PayloadLength`].
    pub fn decode(bytes: &[u8; HEADER_SIZE], expected: u32) -> Result<Self, Refusal> {
        #[rustfmt::skip]
        let &[
            m0, m1, m2, m3,
            k0, k1,
            f0, f1,
            l0, l1, l2, l3,
            s0, s1, s2, s3,
            a0, a1, a2, a3, a4, a5, a6, a7,
            p0, p1, p2, p3,
            c0, c1, c2, c3,
        ] = bytes;

        let found = u32::from_le_bytes([m0, m1, m2, m3]);
        if found != MAGIC {
            return Err(Reason::Magic {
                found,
                sequence: expected,
            }
            .into());
        }

        let stored = u32::from_le_bytes([c0, c1, c2, c3]);
        let (covered, _) = bytes.split_at(COVERED_SIZE);
        let computed = crc32c(covered);
        if stored != computed {
            return Err(Reason::HeaderChecksum {
                stored,
                computed,
                sequence: expected,
            }
            .into());
        }

        let header = Self {
            kind: u16::from_le_bytes([k0, k1]),
            flags: u16::from_le_bytes([f0, f1]),
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            sequence: u32::from_le_bytes([s0, s1, s2, s3]),
            argument: u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]),
            payload_crc: u32::from_le_bytes([p0, p1, p2, p3]),
        };
        if header.flags & !OPTIONAL != 0 {
            return Err(header.bad_flags());
        }
        if header.length > PAYLOAD_MAX {
            return Err(header.bad_length());
        }
        Ok(header)
    }

    /// Returns the refusal of the record for its flags.
    pub(crate) fn bad_flags(&self) -> Refusal {
        Reason::Flags {
            kind: self.kind,
            flags: self.flags,
        }
        .into()
    }

    /// Returns the refusal of the record for the length of its payload.
    pub(crate) fn bad_length(&self) -> Refusal {
        Reason::PayloadLength {
            kind: self.kind,
            len: self.length,
        }
        .into()
    }

    /// Returns the refusal of the record for its argument.
    pub(crate) fn bad_argument(&self) -> Refusal {
        Reason::Argument {
            kind: self.kind,
            argument: self.argument,
        }
        .into()
    }

    /// Returns the refusal of the record for the place at which it comes.
    pub(crate) fn misplaced(&self) -> Refusal {
        Reason::Misplaced {
            kind: self.kind,
            sequence: self.sequence,
        }
        .into()
    }
}

/// The payload of END: the totals that the reader must have counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Totals {
    /// Records of the generation before END.
    pub records: u32,
    /// Bytes of payload in BLOCK, ZEROES and STATE records since the generation's RESEND, or since
    /// its beginning if it has none.
    pub bytes: u64,
    /// CRC-32C of the whole device state.
    pub state_crc: u32,
}

impl Totals {
    /// Size in bytes.
    pub const SIZE: usize = 16;

    /// Returns the payload as the stream has it.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let [r0, r1, r2, r3] = self.records.to_le_bytes();
        let [b0, b1, b2, b3, b4, b5, b6, b7] = self.bytes.to_le_bytes();
        let [c0, c1, c2, c3] = self.state_crc.to_le_bytes();

        [
            r0, r1, r2, r3, b0, b1, b2, b3, b4, b5, b6, b7, c0, c1, c2, c3,
        ]
    }

    /// Reads a payload.
    pub fn decode(bytes: &[u8; Self::SIZE]) -> Self {
        let &[r0, r1, r2, r3, b0, b1, b2, b3, b4, b5, b6, b7, c0, c1, c2, c3] = bytes;

        Self {
            records: u32::from_le_bytes([r0, r1, r2, r3]),
            bytes: u64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7]),
            state_crc: u32::from_le_bytes([c0, c1, c2, c3]),
        }
    }
}
