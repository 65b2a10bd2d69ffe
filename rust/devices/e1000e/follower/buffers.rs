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
}

impl Format {
    /// Reads the format. Section 10.2.5.1 has the sizes.
    pub(super) fn read(registers: &mut dyn Registers) -> Self {
        let control = registers.read32(Register::RCTL.0);

        if control & rctl::DTYP != 0 {
            let split = registers.read32(Register::PSRCTL.0);
            return Self::Split {
                sizes: [
                    // In 128 bytes, and in KiB.
                    (split & 0x7f) << 7,
                    (split >> 8 & 0x3f) << 10,
                    (split >> 16 & 0x3f) << 10,
                    (split >> 24 & 0x3f) << 10,
                ],
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
            Self::Single { .. } => 1,
            Self::Split { .. } => 2,
        }
    }
}

/// The pages of up to four buffers.
#[derive(Clone)]
pub(super) struct Pages {
    buffers: [(u64, u32); 4],
    buffer: usize,
    page: u64,
}

impl Pages {
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
