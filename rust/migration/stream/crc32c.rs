// SPDX-License-Identifier: GPL-2.0

//! CRC-32C (Castagnoli), the checksum of the stream.
//!
//! Polynomial 0x1edc6f41 reflected, initial value and final exclusive-or all ones, as in iSCSI
//! (RFC 3720, B.4). It finds every error burst of up to 32 bits. In the kernel the checksum is the
//! kernel's `crc32c()`, on the host that of a crate: both use what instructions the processor has for it.

#[cfg(MODULE)]
use kernel_ext::crc32c::append;

/// Returns the checksum of more bytes, without initial value and final exclusive-or, as the kernel's
/// `crc32c()` does.
#[cfg(not(MODULE))]
fn append(crc: u32, bytes: &[u8]) -> u32 {
    use crc_fast::{
        CrcAlgorithm,
        Digest, //
    };

    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(crc));
    digest.update(bytes);
    // The checksum is 32 bits wide.
    digest.get_state() as u32
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
        self.0 = append(self.0, bytes);
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
