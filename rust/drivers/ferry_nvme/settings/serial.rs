// SPDX-License-Identifier: GPL-2.0

//! Serial numbers of controllers.

use core::fmt::{
    self,
    Display, //
};
use kernel::prelude::*;
use nvme::SERIAL_SIZE;

/// Hexadecimal digits of a UUID.
const UUID_DIGITS: usize = 32;

/// A serial number: printable ASCII, padded with spaces.
#[derive(Clone, Copy)]
pub(crate) struct SerialNumber(pub(crate) [u8; SERIAL_SIZE]);

impl SerialNumber {
    /// Returns the serial number of a new mdev, whose name is a UUID: the last digits, with the digits that
    /// do not fit folded over them by exclusive or.
    ///
    /// Controllers of one guest need different serial numbers. The last digits alone are the same for all
    /// UUIDs of version 1 that a host makes within months.
    pub(crate) fn of(name: &CStr) -> Self {
        let mut uuid = [0; UUID_DIGITS];
        let digits = name
            .to_bytes()
            .iter()
            .filter_map(|byte| char::from(*byte).to_digit(16));
        for (slot, digit) in uuid.iter_mut().zip(digits) {
            *slot = digit;
        }

        let (first, last) = uuid.split_at_mut(UUID_DIGITS - SERIAL_SIZE);
        for (digit, folded) in last.iter_mut().rev().zip(first.iter().rev()) {
            *digit ^= *folded;
        }

        let mut serial = [b'0'; SERIAL_SIZE];
        for (byte, digit) in serial.iter_mut().zip(last) {
            if let Some(digit) = char::from_digit(*digit, 16) {
                *byte = digit as u8;
            }
        }
        Self(serial)
    }

    /// Parses a serial number of 1 to 20 printable characters.
    ///
    /// # Errors
    ///
    /// `EINVAL`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let printable = text
            .bytes()
            .all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if text.is_empty() || text.len() > SERIAL_SIZE || !printable {
            return Err(EINVAL);
        }

        let mut serial = [b' '; SERIAL_SIZE];
        for (byte, char) in serial.iter_mut().zip(text.bytes()) {
            *byte = char;
        }
        Ok(Self(serial))
    }
}

impl Display for SerialNumber {
    /// Omits the padding.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = core::str::from_utf8(&self.0).unwrap_or_default();
        f.write_str(text.trim_end_matches(' '))
    }
}
