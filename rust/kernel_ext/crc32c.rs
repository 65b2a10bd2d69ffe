// SPDX-License-Identifier: GPL-2.0

//! CRC-32C by the processor's instructions, where it has them.
//!
//! C header: [`include/linux/crc32.h`](srctree/include/linux/crc32.h)

/// Returns the checksum of `bytes` behind those of which `crc` is the checksum; all ones for the first bytes.
/// The result is not inverted.
pub fn append(crc: u32, bytes: &[u8]) -> u32 {
    // SAFETY: The function reads `bytes.len()` bytes, which `bytes` has, and keeps no pointer. It can be called
    // in any context.
    unsafe { vfio_bindings::crc32c(crc, bytes.as_ptr().cast(), bytes.len()) }
}
