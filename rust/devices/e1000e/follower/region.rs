// SPDX-License-Identifier: GPL-2.0

//! The pages of a descriptor ring, to which the function writes descriptors back.

use device_model::hardware::{
    Pin,
    Pins,
    PAGE_SIZE, //
};

use crate::ring::Place;

use super::buffers::Pages;
use super::error::FollowError;

/// The most pages that a ring has, rounded up to whole sets: it has less than 1 MiB at an alignment of 16
/// bytes.
const RING_PAGES: usize = 5 * 64;

/// Pages of a ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Region {
    pub(super) place: Place,
    /// The pages that are pinned.
    pinned: [u64; RING_PAGES / 64],
}

impl Region {
    pub(super) const EMPTY: Self = Self {
        place: Place { base: 0, length: 0 },
        pinned: [0; RING_PAGES / 64],
    };

    fn pages(&self) -> Pages {
        let length = self.place.length;
        Pages::of([(self.place.base, length), (0, 0), (0, 0), (0, 0)])
    }

    pub(super) fn pin(&mut self, pins: &mut dyn Pins) -> Result<(), FollowError> {
        for (index, page) in (0..RING_PAGES).zip(self.pages()) {
            if let Some(set) = self.pinned.get_mut(index / 64) {
                if *set & (1 << (index % 64)) == 0 && pin(pins, page)? {
                    *set |= 1 << (index % 64);
                }
            }
        }
        Ok(())
    }

    pub(super) fn release(&mut self, pins: &mut dyn Pins) {
        for (index, page) in (0..RING_PAGES).zip(self.pages()) {
            if let Some(set) = self.pinned.get(index / 64) {
                if *set & (1 << (index % 64)) != 0 {
                    pins.unpin(page);
                }
            }
        }
        self.pinned = [0; RING_PAGES / 64];
    }

    pub(super) fn unmapped(&mut self, gone: impl Fn(u64) -> bool) {
        for (index, page) in (0..RING_PAGES).zip(self.pages()) {
            if let Some(set) = self.pinned.get_mut(index / 64) {
                if gone(page) {
                    *set &= !(1 << (index % 64));
                }
            }
        }
    }
}

/// Pins a page, and returns whether it is pinned.
pub(super) fn pin(pins: &mut dyn Pins, page: u64) -> Result<bool, FollowError> {
    match pins.pin(page) {
        Ok(Pin::Pinned) => Ok(true),
        Ok(Pin::NotMapped) => Ok(false),
        Err(_) => Err(FollowError::Page {
            address: page.wrapping_mul(PAGE_SIZE),
        }),
    }
}
