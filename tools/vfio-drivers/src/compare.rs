// SPDX-License-Identifier: GPL-2.0

//! Comparisons of what a device has with what it should have.

use core::fmt::Debug;
use core::fmt::Display;

use crate::Error;
use crate::Result;

/// Returns an error unless `seen` is `expected`.
///
/// # Errors
///
/// [`Error::Differs`].
pub fn same<T: Debug + PartialEq>(what: impl Display, seen: T, expected: T) -> Result {
    if seen == expected {
        return Ok(());
    }
    Err(Error::Differs(format!(
        "{what}: expected {expected:?}, seen {seen:?}"
    )))
}

/// Returns an error, with the first difference, unless two runs of bytes are equal.
///
/// # Errors
///
/// [`Error::Differs`].
pub fn same_bytes(what: impl Display, seen: &[u8], expected: &[u8]) -> Result {
    match difference(seen, expected) {
        None => Ok(()),
        Some(difference) => Err(Error::Differs(format!("{what}: {difference}"))),
    }
}

/// Says where two runs of bytes first differ. `None` if they are equal.
pub fn difference(seen: &[u8], expected: &[u8]) -> Option<String> {
    if seen == expected {
        return None;
    }
    let at = seen
        .iter()
        .zip(expected)
        .position(|(seen, expected)| seen != expected)
        .unwrap_or(seen.len().min(expected.len()));
    let around = |bytes: &[u8]| {
        let end = bytes.len().min(at + 8);
        format!("{:02x?}", &bytes[at.min(end)..end])
    };
    Some(format!(
        "expected {} bytes, seen {}; at {at} expected {}, seen {}",
        expected.len(),
        seen.len(),
        around(expected),
        around(seen)
    ))
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn the_first_difference_is_shown() {
        assert_eq!(difference(b"same", b"same"), None);
        let expected = "expected 4 bytes, seen 4; at 2 expected [63, 64], seen [78, 64]";
        assert_eq!(difference(b"abxd", b"abcd"), Some(expected.to_string()));
        let expected = "expected 2 bytes, seen 1; at 1 expected [62], seen []";
        assert_eq!(difference(b"a", b"ab"), Some(expected.to_string()));
    }
}
