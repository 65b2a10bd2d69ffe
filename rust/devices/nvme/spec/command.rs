// SPDX-License-Identifier: GPL-2.0

//! Submission queue entries, section 4.2, and the fields of their command dwords.

use crate::spec::status::Status;

/// SQES: binary logarithm of the bytes of an entry.
pub(crate) const SQES: u32 = 6;
/// Bytes of an entry.
pub(crate) const ENTRY_SIZE: usize = 1 << SQES;

/// CDW0: the command is a part of a fused operation (`fuse`).
const FLAGS_FUSE: u8 = 0x3;
/// CDW0: the data is described by SGLs instead of PRPs (`psdt`).
const FLAGS_PSDT: u8 = 0xc0;

const NSID_OFFSET: usize = 4;
const PRP1: usize = 24;
const PRP2: usize = 32;
const CDW10: usize = 40;
/// Dwords that depend on the command: 10 to 15.
const DWORDS: usize = 6;

/// NSID of all namespaces together.
pub(crate) const NSID_ALL: u32 = u32::MAX;

/// A command as the guest wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    /// Opcode (`opc`).
    pub(crate) opcode: u8,
    flags: u8,
    /// Command Identifier (`cid`).
    pub(crate) cid: u16,
    /// Namespace Identifier (`nsid`).
    pub(crate) nsid: u32,
    /// PRP Entry 1.
    pub(crate) prp1: u64,
    /// PRP Entry 2: a page, or the address of a list.
    pub(crate) prp2: u64,
    dwords: [u32; DWORDS],
}

impl Command {
    /// Returns the command that an entry has.
    pub(crate) fn decode(entry: &[u8; ENTRY_SIZE]) -> Self {
        let u32_at = |at: usize| {
            u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
        };
        let u64_at = |at| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << u32::BITS;

        Self {
            opcode: entry[0],
            flags: entry[1],
            cid: u16::from_le_bytes([entry[2], entry[3]]),
            nsid: u32_at(NSID_OFFSET),
            prp1: u64_at(PRP1),
            prp2: u64_at(PRP2),
            dwords: core::array::from_fn(|index| u32_at(CDW10 + 4 * index)),
        }
    }

    /// Checks that the command is not fused and has PRPs.
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

    /// Starting LBA (`slba`) of commands that have one: dwords 10 and 11.
    pub(crate) fn slba(&self) -> u64 {
        u64::from(self.cdw10()) | u64::from(self.cdw11()) << u32::BITS
    }

    /// Number of logical blocks of commands that have `nlb`, one less, in dword 12.
    pub(crate) fn block_count(&self) -> u64 {
        u64::from(low(self.cdw12())) + 1
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

/// Dword 11 of Create I/O Queue: Physically Contiguous (`pc`).
pub(crate) const QUEUE_PC: u32 = 1 << 0;
/// Dword 11 of Create I/O Completion Queue: Interrupts Enabled (`ien`).
pub(crate) const QUEUE_IEN: u32 = 1 << 1;

/// Dword 0 of Abort's completion: the command was not aborted.
pub(crate) const NOT_ABORTED: u32 = 1 << 0;

/// Dword 12 of Read, Write, Write Zeroes and Verify: Force Unit Access (`fua`).
pub(crate) const FUA: u32 = 1 << 30;
/// Dword 12 of Write Zeroes: Deallocate (`deac`).
pub(crate) const WRITE_ZEROES_DEAC: u32 = 1 << 25;

/// Dword 11 of Dataset Management: Attribute - Deallocate (`ad`).
pub(crate) const DATASET_AD: u32 = 1 << 2;
/// Dword 10 of Dataset Management: Number of Ranges (`nr`), less one.
pub(crate) const DATASET_NR: u32 = 0xff;

/// Bytes of a range of Dataset Management.
pub(crate) const RANGE_SIZE: usize = 16;

/// A range of Dataset Management, figure 360.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DatasetRange {
    /// Starting LBA.
    pub(crate) slba: u64,
    /// Length in logical blocks.
    pub(crate) blocks: u32,
}

impl DatasetRange {
    /// Returns the range that `bytes` have; the context attributes are hints, and dropped.
    pub(crate) fn decode(bytes: &[u8; RANGE_SIZE]) -> Self {
        let [_, _, _, _, b0, b1, b2, b3, slba @ ..] = *bytes;
        Self {
            slba: u64::from_le_bytes(slba),
            blocks: u32::from_le_bytes([b0, b1, b2, b3]),
        }
    }
}

/// Dword 10 of Format NVM, figure 328.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// LBA Format (`lbaf`).
    pub(crate) lba_format: u8,
    /// Protection Information (`pi`): its type, 0 for none.
    pub(crate) protection: u8,
    /// Secure Erase Settings (`ses`).
    pub(crate) erase: u8,
}

impl Format {
    /// Secure Erase Settings: none.
    pub(crate) const ERASE_NONE: u8 = 0;
    /// Secure Erase Settings: user data erase.
    pub(crate) const ERASE_USER_DATA: u8 = 1;

    /// Returns the fields. Those about metadata (`mset`, `pil`) mean nothing without metadata.
    pub(crate) fn decode(cdw10: u32) -> Self {
        let field = |shift: u32, mask: u8| (cdw10 >> shift) as u8 & mask;
        Self {
            lba_format: field(0, 0xf),
            protection: field(5, 0x7),
            erase: field(9, 0x7),
        }
    }
}
