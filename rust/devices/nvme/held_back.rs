// SPDX-License-Identifier: GPL-2.0

//! Interrupts that are held back, sections 5.21.1.8 and 7.5: a guest may have several completions be announced by one
//! message, once there are as many as it wants or a time is over.

use crate::parameters::PAIRS;

/// The completions that were posted and not announced, for each vector.
///
/// No state has any: they are announced before the controller stops.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeldBack {
    counts: [u32; PAIRS],
}

impl HeldBack {
    /// Whether every completion was announced.
    pub(crate) fn is_empty(&self) -> bool {
        self.counts.iter().all(|&count| count == 0)
    }

    /// Counts a completion of a vector, and returns whether it is to be announced now, with those before it:
    /// `threshold` of them are enough.
    pub(crate) fn add(&mut self, vector: u16, threshold: u32) -> bool {
        let Some(count) = self.counts.get_mut(usize::from(vector)) else {
            return true;
        };
        *count += 1;
        let enough = *count >= threshold;
        if enough {
            *count = 0;
        }
        enough
    }

    /// Takes the completions of a vector away, which is announced for another reason.
    pub(crate) fn take_vector(&mut self, vector: u16) {
        if let Some(count) = self.counts.get_mut(usize::from(vector)) {
            *count = 0;
        }
    }

    /// Takes all away, and returns their vectors as a set of bits.
    pub(crate) fn take(&mut self) -> u32 {
        let vectors = self
            .counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .fold(0, |set, (vector, _)| set | 1 << vector);
        self.counts.fill(0);
        vectors
    }
}
