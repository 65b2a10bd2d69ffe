// SPDX-License-Identifier: GPL-2.0

//! Submission queue entries, section 4.2.

use crate::registers::SQES;
use crate::status::Status;

/// Bytes of a submission queue entry.
pub(crate) const ENTRY_SIZE: usize = 1 << SQES;

/// Flags: the command is a part of a fused operation.
const FLAGS_FUSE: u8 = 0x3;
/// Flags: the data is described by SGLs instead of PRPs.
const FLAGS_PSDT: u8 = 0xc0;

const NAMESPACE: usize = 4;
const PRP1: usize = 24;
const PRP2: usize = 32;
const DWORD_10: usize = 40;
/// Dwords that depend on the command: 10 to 15.
const DWORDS: usize = 6;

/// Names all namespaces.
pub(crate) const NSID_ALL: u32 = u32::MAX;
/// The only namespace.
pub(crate) const NSID: u32 = 1;

/// A command as the guest wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    /// What to do.
    pub(crate) opcode: u8,
    flags: u8,
    /// Command identifier.
    pub(crate) cid: u16,
    /// Namespace identifier.
    pub(crate) nsid: u32,
    /// First PRP entry.
    pub(crate) prp1: u64,
    /// Second PRP entry, or where a list of them is.
    pub(crate) prp2: u64,
    dwords: [u32; DWORDS],
}

impl Command {
    /// Takes an entry apart.
    pub(crate) fn decode(entry: &[u8; ENTRY_SIZE]) -> Self {
        let u32_at = |at: usize| {
            u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
        };
        let u64_at = |at| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << u32::BITS;

        Self {
            opcode: entry[0],
            flags: entry[1],
            cid: u16::from_le_bytes([entry[2], entry[3]]),
            nsid: u32_at(NAMESPACE),
            prp1: u64_at(PRP1),
            prp2: u64_at(PRP2),
            dwords: core::array::from_fn(|index| u32_at(DWORD_10 + 4 * index)),
        }
    }

    /// Checks that the command is by itself and has PRPs.
    pub(crate) fn check_flags(&self) -> Result<(), Status> {
        if self.flags & (FLAGS_FUSE | FLAGS_PSDT) != 0 {
            return Err(Status::INVALID_FIELD);
        }
        Ok(())
    }

    /// Command dword 10.
    pub(crate) fn cdw10(&self) -> u32 {
        self.dwords[0]
    }

    /// Command dword 11.
    pub(crate) fn cdw11(&self) -> u32 {
        self.dwords[1]
    }

    /// Command dword 12.
    pub(crate) fn cdw12(&self) -> u32 {
        self.dwords[2]
    }

    /// Command dword 13.
    pub(crate) fn cdw13(&self) -> u32 {
        self.dwords[3]
    }

    /// Command dwords 10 and 11, which have a logical block address in many commands.
    pub(crate) fn cdw10_11(&self) -> u64 {
        u64::from(self.cdw10()) | u64::from(self.cdw11()) << u32::BITS
    }
}

/// Lower half of a dword.
pub(crate) fn low(dword: u32) -> u16 {
    (dword & u32::from(u16::MAX)) as u16
}

/// Upper half of a dword.
pub(crate) fn high(dword: u32) -> u16 {
    (dword >> u16::BITS) as u16
}
