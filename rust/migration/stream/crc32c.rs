// SPDX-License-Identifier: GPL-2.0

//! CRC-32C (Castagnoli), the checksum of the stream.
//!
//! Polynomial 0x1edc6f41 reflected, initial value and final exclusive-or all ones, as in iSCSI
//! (RFC 3720, B.4). It finds every error burst of up to 32 bits. Eight bytes are taken at a time
//! with eight tables.

/// The polynomial, bits reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// How many bytes are taken at a time.
const SLICES: usize = 8;

/// `TABLES[n][byte]` is the checksum of `byte` followed by `n` zeros.
static TABLES: [[u32; 256]; SLICES] = tables();

#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "evaluated at compile time, where a fault is an error of the build"
)]
const fn tables() -> [[u32; 256]; SLICES] {
    let mut tables = [[0; 256]; SLICES];

    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (POLYNOMIAL * (crc & 1));
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }

    let mut slice = 1;
    while slice < SLICES {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[slice - 1][byte];
            tables[slice][byte] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        slice += 1;
    }

    tables
}

/// Returns the checksum of `byte` followed by `ZEROS` zeros.
#[inline(always)]
#[expect(
    clippy::indexing_slicing,
    reason = "an `u8` is a valid index of 256 entries, and the slice is checked at compile time"
)]
fn table<const ZEROS: usize>(byte: u8) -> u32 {
    const { assert!(ZEROS < SLICES) };

    TABLES[ZEROS][byte as usize]
}

/// A checksum that is being computed over bytes which come in pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Crc32c(u32);

impl Crc32c {
    /// Begins a checksum.
    pub const fn new() -> Self {
        Self(!0)
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        let mut crc = self.0;

        let mut blocks = bytes.chunks_exact(SLICES);
        for block in &mut blocks {
            if let &[b0, b1, b2, b3, b4, b5, b6, b7] = block {
                let [c0, c1, c2, c3] = crc.to_le_bytes();
                crc = table::<7>(b0 ^ c0)
                    ^ table::<6>(b1 ^ c1)
                    ^ table::<5>(b2 ^ c2)
                    ^ table::<4>(b3 ^ c3)
                    ^ table::<3>(b4)
                    ^ table::<2>(b5)
                    ^ table::<1>(b6)
                    ^ table::<0>(b7);
            }
        }
        for byte in blocks.remainder() {
            let [low, ..] = crc.to_le_bytes();
            crc = (crc >> 8) ^ table::<0>(low ^ byte);
        }

        self.0 = crc;
    }

    /// Returns the checksum of the bytes added so far.
    pub const fn value(self) -> u32 {
        !self.0
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns the checksum of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(bytes);
    crc.value()
}
