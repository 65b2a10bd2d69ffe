// SPDX-License-Identifier: GPL-2.0

//! Completion queue entries, section 4.6.

/// CQES: binary logarithm of the bytes of an entry.
pub(crate) const CQES: u32 = 4;
/// Bytes of an entry.
pub(crate) const ENTRY_SIZE: usize = 1 << CQES;

/// Where the last dword of an entry is, which has the phase tag.
pub(crate) const LAST_DWORD: usize = ENTRY_SIZE - LAST_DWORD_SIZE;
/// Bytes of that dword.
pub(crate) const LAST_DWORD_SIZE: usize = 4;
/// The byte of an entry that has the phase tag.
pub(crate) const PHASE_BYTE: usize = LAST_DWORD + (PHASE_SHIFT / u8::BITS) as usize;
/// The phase tag in that byte.
pub(crate) const PHASE_BIT: u8 = 1 << (PHASE_SHIFT % u8::BITS);

/// The phase tag in the last dword.
const PHASE_SHIFT: u32 = 16;
/// The status field in the last dword.
const STATUS_SHIFT: u32 = 17;

/// An entry of a completion queue, figure 124.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CompletionEntry {
    /// Dword 0: the result, which depends on the command.
    pub(crate) result: u32,
    /// SQ Head Pointer (`sqhd`).
    pub(crate) sqhd: u16,
    /// SQ Identifier (`sqid`).
    pub(crate) sqid: u16,
    /// Command Identifier (`cid`).
    pub(crate) cid: u16,
    /// Phase Tag (`p`).
    pub(crate) phase: bool,
    /// Status Field, without the phase tag.
    pub(crate) status: u16,
}

impl CompletionEntry {
    /// Returns the bytes of the entry.
    pub(crate) fn encode(&self) -> [u8; ENTRY_SIZE] {
        let dwords = [
            self.result,
            0,
            u32::from(self.sqhd) | u32::from(self.sqid) << u16::BITS,
            u32::from(self.cid)
                | u32::from(self.phase) << PHASE_SHIFT
                | u32::from(self.status) << STATUS_SHIFT,
        ];
        let mut entry = [0; ENTRY_SIZE];
        for (bytes, dword) in entry.chunks_exact_mut(size_of::<u32>()).zip(dwords) {
            bytes.copy_from_slice(&dword.to_le_bytes());
        }
        entry
    }
}
