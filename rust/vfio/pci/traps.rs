// SPDX-License-Identifier: GPL-2.0

//! The parts of BARs that a user must not map.

/// A part of a BAR whose accesses come to the driver.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Trap {
    /// Index of the BAR.
    pub bar: u32,
    /// First byte, at a multiple of the page size.
    pub offset: u64,
    /// Number of bytes, a multiple of the page size in a BAR of memory.
    pub len: u64,
}

impl Trap {
    fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}

/// The most traps that a device can have.
const MOST: usize = 8;

/// The traps of a device, in ascending order and apart from each other in each BAR.
#[derive(Clone, Copy)]
pub struct Traps {
    traps: [Option<Trap>; MOST],
}

/// How an access lies to the traps of its BAR.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Overlap {
    /// Outside of all traps.
    None,
    /// Within one trap.
    Within,
    /// In part within a trap.
    Partial,
}

impl Traps {
    /// No trap.
    pub const NONE: Self = Self {
        traps: [None; MOST],
    };

    /// The traps `traps`, or `None` if they are more than eight, or not in order.
    pub fn new(traps: impl Iterator<Item = Trap>) -> Option<Self> {
        let mut these = Self::NONE;

        for (index, trap) in traps.enumerate() {
            if these.of(trap.bar).any(|other| other.end() > trap.offset) {
                return None;
            }
            *these.traps.get_mut(index)? = Some(trap);
        }
        Some(these)
    }

    /// The traps of a BAR.
    pub fn of(&self, bar: u32) -> impl Iterator<Item = &Trap> + Clone {
        self.traps
            .iter()
            .flatten()
            .filter(move |trap| trap.bar == bar)
    }

    /// How `len` bytes at `offset` of a BAR lie to its traps.
    pub fn overlap(&self, bar: u32, offset: u64, len: u64) -> Overlap {
        let end = offset.saturating_add(len);

        for trap in self.of(bar) {
            if offset >= trap.offset && end <= trap.end() {
                return Overlap::Within;
            }
            if offset < trap.end() && end > trap.offset {
                return Overlap::Partial;
            }
        }
        Overlap::None
    }

    /// The parts of a BAR of `size` bytes between the traps, as offset and size.
    pub fn gaps(&self, bar: u32, size: u64) -> impl Iterator<Item = (u64, u64)> + Clone + '_ {
        let ends = core::iter::once(0).chain(self.of(bar).map(Trap::end));
        let starts = self
            .of(bar)
            .map(|trap| trap.offset)
            .chain(core::iter::once(size));

        ends.zip(starts)
            .filter(|(start, end)| start < end)
            .map(|(start, end)| (start, end - start))
    }
}
