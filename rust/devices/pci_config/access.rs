// SPDX-License-Identifier: GPL-2.0

//! Bounds checks of accesses.

use core::fmt;
use core::ops::Range;

/// An access that ends past the region that it addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessError {
    /// Offset of the access from the start of the region, in bytes.
    pub offset: u64,
    /// Length of the access in bytes.
    pub length: usize,
    /// Size of the region in bytes.
    pub size: usize,
}

impl AccessError {
    /// Returns the bytes of a region of `size` bytes that an access of `length` bytes at `offset`
    /// addresses.
    ///
    /// # Errors
    ///
    /// The access ends past the region, or its end overflows.
    pub fn check(offset: u64, length: usize, size: usize) -> Result<Range<usize>, Self> {
        let refused = Self {
            offset,
            length,
            size,
        };

        let start = usize::try_from(offset).map_err(|_| refused)?;
        let end = start.checked_add(length).ok_or(refused)?;

        if end > size {
            return Err(refused);
        }
        Ok(start..end)
    }
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "access of {} bytes at {:#x} is outside of a region of {} bytes",
            self.length, self.offset, self.size
        )
    }
}
