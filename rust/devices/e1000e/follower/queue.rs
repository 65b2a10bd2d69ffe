// SPDX-License-Identifier: GPL-2.0

//! A receive ring, with a copy of each descriptor as the guest posted it.

use core::ops::DerefMut;

use device_model::hardware::Pins;
use device_model::GuestMemory;

use crate::ring::UNIT;

use super::buffers::{
    Format,
    Pages, //
};
use super::error::FollowError;
use super::region::{
    pin,
    Region, //
};
use super::View;

/// Units that are read from the guest's memory at once.
const CHUNK: u32 = 16;

/// A descriptor, or half of one in packet split, as the guest posted it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slot {
    words: [u64; 2],
    /// The pages that are pinned, as a set of their positions among the pages of the descriptor. It has at
    /// most 56: 5 of a header of up to 16,256 bytes, and 17 of each of three buffers of up to 64,512 bytes.
    pinned: u64,
    /// The guest has posted the descriptor since the ring was set up.
    posted: bool,
}

/// A receive ring.
pub(super) struct Queue<S> {
    pub(super) region: Region,
    /// The unit at which a packet split descriptor begins, modulo 2.
    pub(super) parity: u32,
    /// Head or tail is not in the ring, which is about to be set up. What the function owns is looked at
    /// again.
    pub(super) unsettled: bool,
    pub(super) slots: S,
}

impl<S: DerefMut<Target = [Slot]>> Queue<S> {
    /// Number of units that are followed.
    pub(super) fn units(&self) -> u32 {
        let room = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.region.place.units().min(room)
    }

    pub(super) fn slot(&mut self, unit: u32) -> Option<&mut Slot> {
        self.slots.get_mut(unit as usize)
    }

    /// The first unit at which a descriptor begins.
    pub(super) fn first_unit(&self, format: Format) -> u32 {
        match format {
            Format::Single { .. } | Format::Undecided { .. } => 0,
            Format::Split { .. } => self.parity,
        }
    }

    /// Forgets the descriptors, which must have no pins.
    pub(super) fn forget(&mut self) {
        for slot in self.slots.iter_mut() {
            *slot = Slot::default();
        }
    }

    /// Unpins the pages of all buffers.
    pub(super) fn release(&mut self, format: Format, pins: &mut dyn Pins) {
        for unit in 0..self.units() {
            self.unpin(format, unit, pins);
        }
    }

    /// Pins the pages of ring and buffers that are not pinned yet: memory may have been mapped there since
    /// the last attempt.
    pub(super) fn pin_all(
        &mut self,
        format: Format,
        pins: &mut dyn Pins,
    ) -> Result<(), FollowError> {
        let step = format.units();
        let mut unit = self.first_unit(format);

        while unit < self.units() {
            self.pin(format, unit, pins)?;
            unit = unit.saturating_add(step);
        }
        self.region.pin(pins)
    }

    /// Forgets the pins of the pages that are `gone`.
    pub(super) fn unmapped(&mut self, format: Format, gone: impl Fn(u64) -> bool) {
        self.region.unmapped(&gone);
        for unit in 0..self.units() {
            let pages = self.pages(format, unit);
            if let Some(slot) = self.slot(unit) {
                for (bit, page) in bits().zip(pages) {
                    if gone(page) {
                        slot.pinned &= !bit;
                    }
                }
            }
        }
    }

    /// The pages of the buffers of the descriptor at `unit`.
    pub(super) fn pages(&self, format: Format, unit: u32) -> Pages {
        let words = |unit: u32| {
            self.slots
                .get(unit as usize)
                .filter(|slot| slot.posted)
                .map(|slot| slot.words)
        };

        let Some([first, second]) = words(unit) else {
            return Pages::NONE;
        };
        match format {
            // The function stores nothing for a descriptor with a null address.
            Format::Single { .. } if first == 0 => Pages::NONE,
            Format::Single { size } => Pages::of([(first, size), (0, 0), (0, 0), (0, 0)]),
            Format::Undecided { split } => Pages::of_either([first, second], split),
            Format::Split {
                sizes: [a, b, c, d],
            } => {
                let Some([third, fourth]) = words(self.region.place.after(unit)) else {
                    return Pages::NONE;
                };
                Pages::of([(first, a), (second, b), (third, c), (fourth, d)])
            }
        }
    }

    /// Pins the pages of the descriptor at `unit` that are not pinned yet.
    pub(super) fn pin(
        &mut self,
        format: Format,
        unit: u32,
        pins: &mut dyn Pins,
    ) -> Result<(), FollowError> {
        let pages = self.pages(format, unit);
        let Some(slot) = self.slot(unit) else {
            return Ok(());
        };
        for (bit, page) in bits().zip(pages) {
            if slot.pinned & bit == 0 && pin(pins, page)? {
                slot.pinned |= bit;
            }
        }
        Ok(())
    }

    /// Unpins the pages of the descriptor at `unit`.
    pub(super) fn unpin(&mut self, format: Format, unit: u32, pins: &mut dyn Pins) {
        let pages = self.pages(format, unit);
        let Some(slot) = self.slot(unit) else {
            return;
        };
        let pinned = core::mem::take(&mut slot.pinned);
        for (bit, page) in bits().zip(pages) {
            if pinned & bit != 0 {
                pins.unpin(page);
            }
        }
    }

    /// Reads the descriptors from `from` up to `to` and pins their pages.
    pub(super) fn post(
        &mut self,
        index: usize,
        format: Format,
        from: u32,
        to: u32,
        view: &mut View<'_>,
    ) -> Result<(), FollowError> {
        if from == to {
            return Ok(());
        }
        let place = self.region.place;
        if place.units() as usize > self.slots.len() {
            return Err(FollowError::TooLong {
                queue: index,
                descriptors: place.units(),
                room: self.slots.len(),
            });
        }
        if from >= place.units() || to >= place.units() {
            self.unsettled = true;
            return Ok(());
        }
        let step = format.units();
        if step == 2 && (from ^ to) & 1 != 0 {
            return Err(FollowError::HalfDescriptor { queue: index });
        }

        // The function may have written to pages that were mapped only after they were posted.
        self.pin_from(format, from, to, view.pins)?;
        // A page that is unpinned for a moment is dirty all the same: once from before, and once it is
        // pinned again.
        let mut unit = from;
        while unit != to {
            self.unpin(format, unit, view.pins);
            unit = place.after(unit);
        }
        self.fetch(from, to, view.memory)?;
        self.pin_from(format, from, to, view.pins)
    }

    /// Pins the pages of the descriptors from `from` up to `to` that are not pinned yet.
    fn pin_from(
        &mut self,
        format: Format,
        from: u32,
        to: u32,
        pins: &mut dyn Pins,
    ) -> Result<(), FollowError> {
        let place = self.region.place;
        let mut unit = from;

        while unit != to {
            self.pin(format, unit, pins)?;
            unit = place.after(unit);
            if format.units() == 2 {
                unit = place.after(unit);
            }
        }
        Ok(())
    }

    /// Copies the descriptors from `from` up to `to`.
    pub(super) fn fetch(
        &mut self,
        from: u32,
        to: u32,
        memory: &mut dyn GuestMemory,
    ) -> Result<(), FollowError> {
        let place = self.region.place;
        let mut unit = from;

        while unit != to {
            let end = if unit < to { to } else { place.units() };
            let count = end.saturating_sub(unit).min(CHUNK);
            let mut bytes = [0; (CHUNK * UNIT) as usize];
            let address = place.address(unit);

            let bytes = bytes
                .get_mut(..count.saturating_mul(UNIT) as usize)
                .unwrap_or_default();
            memory
                .read(address, bytes)
                .map_err(|_| FollowError::Descriptors { address })?;
            for descriptor in bytes.chunks_exact(UNIT as usize) {
                let word = |at: usize| {
                    descriptor
                        .get(at..)
                        .and_then(|bytes| bytes.first_chunk())
                        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
                };
                if let Some(slot) = self.slot(unit) {
                    *slot = Slot {
                        words: [word(0), word(8)],
                        pinned: 0,
                        posted: true,
                    };
                }
                unit = place.after(unit);
            }
        }
        Ok(())
    }
}

/// The bits of a set, in turn.
fn bits() -> impl Iterator<Item = u64> {
    (0..u64::BITS).map(|bit| 1_u64.wrapping_shl(bit))
}
