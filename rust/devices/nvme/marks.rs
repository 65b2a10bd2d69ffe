// SPDX-License-Identifier: GPL-2.0

//! Blocks that Write Uncorrectable has marked, section 6.16: reading them fails until they are written.
//!
//! A store that keeps marks has a bit for each 512 bytes of content, whatever the size of a logical block is, behind the
//! capacity. So marks are not limited in number, move with the content, and take space only near marked blocks.

use device_model::{
    BackendError,
    BlockBackend, //
};

use crate::io::Extent;

/// Binary logarithm of the bytes of content that a bit is about.
const SECTOR_SHIFT: u32 = 9;
/// Bytes of marks that are read and written at once: those of 2 MiB of content.
const UNIT: usize = 512;
/// Marks in a unit.
const UNIT_MARKS: u64 = UNIT as u64 * u8::BITS as u64;

/// Returns the bytes of a store that keeps marks of a namespace of `capacity` bytes: its content, and the marks behind
/// it. Both are multiples of 4096.
pub const fn storage_size(capacity: u64) -> u64 {
    capacity + marks_size(capacity).next_multiple_of(crate::CAPACITY_UNIT)
}

const fn marks_size(capacity: u64) -> u64 {
    capacity.div_ceil((u8::BITS as u64) << SECTOR_SHIFT)
}

/// The marks of a part of the content that are in one unit.
struct Unit {
    /// Offset of the unit in the store.
    offset: u64,
    /// The marks, counted from the unit's beginning.
    marks: core::ops::Range<usize>,
}

/// The marks of a namespace of `capacity` bytes.
pub(crate) struct Marks<'a, B: ?Sized> {
    capacity: u64,
    backend: &'a mut B,
}

impl<'a, B: BlockBackend + ?Sized> Marks<'a, B> {
    /// Returns the marks that `backend` keeps.
    pub(crate) fn new(capacity: u64, backend: &'a mut B) -> Self {
        Self { capacity, backend }
    }

    /// Returns whether any of some blocks is marked.
    ///
    /// # Errors
    ///
    /// The store failed.
    pub(crate) fn any(&mut self, extent: Extent) -> Result<bool, BackendError> {
        for unit in self.units(extent) {
            let bytes = self.load(&unit)?;
            let mut marks = unit.marks;
            if marks.any(|mark| bytes[mark / 8] & 1 << (mark % 8) != 0) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Marks some blocks, or removes their marks.
    ///
    /// # Errors
    ///
    /// The store failed or is full. Some of the blocks may be as before.
    pub(crate) fn set(&mut self, extent: Extent, marked: bool) -> Result<(), BackendError> {
        for unit in self.units(extent) {
            if !marked && unit.marks.len() as u64 == UNIT_MARKS {
                self.backend.deallocate(unit.offset, UNIT as u64)?;
                continue;
            }
            let before = self.load(&unit)?;
            let mut bytes = before;
            for mark in unit.marks.clone() {
                let bit = 1 << (mark % 8);
                if marked {
                    bytes[mark / 8] |= bit;
                } else {
                    bytes[mark / 8] &= !bit;
                }
            }
            if bytes != before {
                self.store(&unit, &bytes)?;
            }
        }
        Ok(())
    }

    /// Removes the marks of all blocks.
    ///
    /// # Errors
    ///
    /// The store failed.
    pub(crate) fn clear(&mut self) -> Result<(), BackendError> {
        let length = storage_size(self.capacity) - self.capacity;
        self.backend.deallocate(self.capacity, length)
    }

    fn units(&self, extent: Extent) -> impl Iterator<Item = Unit> {
        let capacity = self.capacity;
        let end = (extent.offset + extent.length) >> SECTOR_SHIFT;
        let mut at = extent.offset >> SECTOR_SHIFT;

        core::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let (unit, start) = (at / UNIT_MARKS, at % UNIT_MARKS);
            let count = (UNIT_MARKS - start).min(end - at);
            at += count;
            Some(Unit {
                offset: capacity + unit * UNIT as u64,
                // These are at most the marks of a unit.
                marks: start as usize..(start + count) as usize,
            })
        })
    }

    fn load(&mut self, unit: &Unit) -> Result<[u8; UNIT], BackendError> {
        let mut bytes = [0; UNIT];
        let mut rest = &mut bytes[..];
        self.backend.read(unit.offset, UNIT, &mut |piece| {
            let whole = core::mem::take(&mut rest);
            if let Some((into, behind)) = whole.split_at_mut_checked(piece.len()) {
                into.copy_from_slice(piece);
                rest = behind;
            }
            Ok(())
        })?;
        Ok(bytes)
    }

    fn store(&mut self, unit: &Unit, bytes: &[u8; UNIT]) -> Result<(), BackendError> {
        let mut rest = &bytes[..];
        self.backend.write(unit.offset, UNIT, &mut |piece| {
            if let Some((from, behind)) = rest.split_at_checked(piece.len()) {
                piece.copy_from_slice(from);
                rest = behind;
            }
            Ok(())
        })
    }
}
