// SPDX-License-Identifier: GPL-2.0

//! The header of a record, 32 bytes, and the types of records.
//!
//! All numbers are little endian. [`crate::stream`] has the whole format.

use crate::{
    crc32c::crc32c,
    refusal::{
        Reason,
        Refusal, //
    },
};

/// Size of a record's header, in bytes.
pub const HEADER_SIZE: usize = 32;

/// Bytes of the header that its checksum covers.
const COVERED_SIZE: usize = 28;

/// The most bytes of payload that a record has: 1 MiB.
pub const PAYLOAD_MAX: u32 = 1 << 20;

/// What every record begins with: "FRRY".
pub const MAGIC: u32 = u32::from_le_bytes(*b"FRRY");

/// Flag: a reader that does not know the type of the record skips it.
pub const OPTIONAL: u16 = 1 << 0;

/// The types of records that this version knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Begins a save: version, type and configuration. The argument is the generation.
    Header,
    /// Voids what came before. The argument is the generation that begins.
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

/// The header of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordHeader {
    /// Number of the type; [`Kind`] has those that are known.
    pub kind: u16,
    /// Flags, of which [`OPTIONAL`] is the only one.
    pub flags: u16,
    /// Length of the payload in bytes, 0 to [`PAYLOAD_MAX`].
    pub length: u32,
    /// How many records came before this one in its generation.
    pub sequence: u32,
    /// What it means depends on the type.
    pub argument: u64,
    /// CRC-32C of the payload.
    pub payload_crc: u32,
}

impl RecordHeader {
    /// Returns the bytes of the header.
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

    /// Reads a header. `expected` is the number of the record as the reader counts, for the reason
    /// of a refusal.
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

/// The payload of END: what the reader must have counted.
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

    /// Returns the bytes of the payload.
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
