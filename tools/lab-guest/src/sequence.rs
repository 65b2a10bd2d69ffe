// SPDX-License-Identifier: GPL-2.0

//! The order in which numbered units arrive, and generated content for them.

use std::collections::BTreeSet;

/// The number of missing units that are remembered, to tell a late unit from a doubled one.
const REMEMBERED: usize = 4096;

/// The place of a number among those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The expected one.
    Next,
    /// It follows a gap that begins with the number `from`.
    AfterGap { from: u64 },
    /// It was missing, and others were received before it.
    Late,
    /// It was received before.
    Doubled,
}

/// Numbers that are expected one after the other from 0 on.
#[derive(Debug, Default)]
pub struct Sequence {
    expected: u64,
    missing: BTreeSet<u64>,
}

impl Sequence {
    /// The number after the highest one so far.
    pub fn expected(&self) -> u64 {
        self.expected
    }

    /// Takes the next number.
    pub fn take(&mut self, number: u64) -> Place {
        if number == self.expected {
            self.expected += 1;
            Place::Next
        } else if number > self.expected {
            self.missing
                .extend((self.expected..number).take(REMEMBERED));
            while self.missing.len() > REMEMBERED {
                self.missing.pop_first();
            }
            let from = std::mem::replace(&mut self.expected, number + 1);
            Place::AfterGap { from }
        } else if self.missing.remove(&number) {
            Place::Late
        } else {
            Place::Doubled
        }
    }
}

/// Numbers that follow from `seed` and spread: Marsaglia's xorshift64.
pub fn generator(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed | 1 << 63;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_told() {
        let mut sequence = Sequence::default();
        let places = [0, 1, 4, 2, 2, 5, 3, 5].map(|number| sequence.take(number));
        let expected = [
            Place::Next,
            Place::Next,
            Place::AfterGap { from: 2 },
            Place::Late,
            Place::Doubled,
            Place::Next,
            Place::Late,
            Place::Doubled,
        ];
        assert_eq!(places, expected);
        assert_eq!(sequence.expected(), 6);
    }
}
