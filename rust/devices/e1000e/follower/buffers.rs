// SPDX-License-Identifier: GPL-2.0

//! Receive buffers: how descriptors describe them, and which pages they have.
//!
//! Mirrors sections 7.1.4 to 7.1.6 of the data sheet.

use device_model::hardware::{
    Registers,
    PAGE_SIZE, //
};

use crate::registers::{
    rctl,
    Register, //
};

/// The address of a packet split buffer that does not exist.
const NULL: u64 = u64::MAX;

/// How descriptors describe buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// One buffer each, in the first word.
    Single {
        /// Bytes of a buffer.
        size: u32,
    },
    /// Packet split: a descriptor of two units has four buffers.
    Split {
        /// Bytes of the buffers, 0 for one that is not used.
        sizes: [u32; 4],
    },
    /// The receiver is disabled, so a guest may still set another format for what it has posted: any
    /// buffer of both formats.
    Undecided {
        /// Bytes of the largest buffer in packet split.
        split: u32,
    },
}

/// Bytes of the largest buffer of a format with one buffer.
const SINGLE_MAX: u32 = 16 << 10;

impl Format {
    /// Reads the format of a receiver that is as RCTL.EN says, or was `enabled` when it was stopped.
    /// Section 10.2.5.1 has the sizes.
    pub(super) fn read(registers: &mut dyn Registers, enabled: bool) -> Self {
        let control = registers.read32(Register::RCTL.0);

        if !enabled && control & rctl::EN == 0 {
            let split = split_sizes(registers).into_iter().max().unwrap_or(0);
            return Self::Undecided { split };
        }
        if control & rctl::DTYP != 0 {
            return Self::Split {
                sizes: split_sizes(registers),
            };
        }

        let flexible = (control & rctl::FLXBUF) >> rctl::FLXBUF_SHIFT;
        if flexible != 0 {
            return Self::Single {
                size: flexible << 10,
            };
        }
        let size = 2048_u32 >> ((control & rctl::BSIZE) >> rctl::BSIZE_SHIFT);
        Self::Single {
            size: if control & rctl::BSEX != 0 {
                size << 4
            } else {
                size
            },
        }
    }

    /// Units of a descriptor.
    pub(super) const fn units(self) -> u32 {
        match self {
            Self::Single { .. } | Self::Undecided { .. } => 1,
            Self::Split { .. } => 2,
        }
    }
}

/// Bytes of the buffers in packet split.
fn split_sizes(registers: &mut dyn Registers) -> [u32; 4] {
    let sizes = registers.read32(Register::PSRCTL.0);

    [
        // In 128 bytes, and in KiB.
        (sizes & 0x7f) << 7,
        (sizes >> 8 & 0x3f) << 10,
        (sizes >> 16 & 0x3f) << 10,
        (sizes >> 24 & 0x3f) << 10,
    ]
}

/// The pages of up to four buffers.
#[derive(Clone)]
pub(super) struct Pages {
    buffers: [(u64, u32); 4],
    buffer: usize,
    page: u64,
}

impl Pages {
    /// The pages of a unit with these words in a format that may still change.
    pub(super) fn of_either([first, second]: [u64; 2], split: u32) -> Self {
        // The second word of a descriptor with one buffer is 0.
        let size = |word: u64, size: u32| if word == 0 { 0 } else { size };

        Self::of([
            (first, size(first, split.max(SINGLE_MAX))),
            (second, size(second, split)),
            (0, 0),
            (0, 0),
        ])
    }

    pub(super) const NONE: Self = Self {
        buffers: [(0, 0); 4],
        buffer: 0,
        page: 0,
    };

    pub(super) fn of(buffers: [(u64, u32); 4]) -> Self {
        Self {
            buffers,
            buffer: 0,
            page: 0,
        }
    }
}

impl Iterator for Pages {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        loop {
            let &(address, size) = self.buffers.get(self.buffer)?;
            let pages = if size == 0 || address == NULL {
                0
            } else {
                // A buffer at the end of the address space ends there.
                let last = address.saturating_add(u64::from(size).saturating_sub(1));
                (last / PAGE_SIZE)
                    .saturating_sub(address / PAGE_SIZE)
                    .saturating_add(1)
            };

            if self.page < pages {
                let page = (address / PAGE_SIZE).saturating_add(self.page);
                self.page = self.page.saturating_add(1);
                return Some(page);
            }
            self.buffer = self.buffer.saturating_add(1);
            self.page = 0;
        }
    }
}
