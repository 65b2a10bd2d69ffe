// SPDX-License-Identifier: GPL-2.0

//! Which pages a device wrote, and which of them a user has not been told of yet.
//!
//! A bit for each page of the ranges that are logged. Where the user asks for a part of a page, the rest
//! of it is still to be told: it becomes a [`Fragment`], and the page is clean until it is written
//! again. So a page whose parts are asked for one by one does not stay dirty for ever.
//!
//! No lock and no allocation is in here, so that it runs in host tests. [`dma_log`](crate::dma_log) has
//! it under a mutex.

#![forbid(unsafe_code)]

use core::ops::DerefMut;

/// The least size of a page that is logged, in bytes as a power of two: what a user may ask for.
const PAGE_SHIFT_MIN: u32 = 12;

/// Bits in a word of the bitmap.
const WORD_BITS: u64 = u64::BITS as u64;

/// Addresses that are logged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Range {
    first: u64,
    last: u64,
    /// Place of the first page's bit in the bitmap.
    bit: u64,
}

impl Range {
    /// The addresses from `first` to `last`, if they are any. The last address of all is the one that
    /// there cannot be.
    pub fn new(first: u64, last: u64) -> Option<Self> {
        let possible = first <= last && last < u64::MAX;
        possible.then_some(Self {
            first,
            last,
            bit: 0,
        })
    }
}

/// A part of a page that was written, and that the user is still to be told of; the rest of the page is
/// clean. By its first and its last address.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Fragment {
    first: u64,
    last: u64,
}

/// How a log of some ranges looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Layout {
    page_shift: u32,
    words: usize,
}

impl Layout {
    /// Returns the layout for `ranges`, which get their place in it, in pages of about `page_size`
    /// bytes: larger ones if there would be more than `pages_max`. That many there are at least two
    /// for each range. [`None`] if `page_size` is no power of two.
    pub fn new(ranges: &mut [Range], page_size: u64, pages_max: u64) -> Option<Self> {
        if !page_size.is_power_of_two() {
            return None;
        }

        let count = |page_shift| {
            ranges.iter().fold(0u64, |sum, range| {
                sum.saturating_add(pages(range.first, range.last, page_shift))
            })
        };
        // With the largest pages there are no more than two for each of the few ranges.
        let page_shift = (page_size.trailing_zeros().max(PAGE_SHIFT_MIN)..u64::BITS)
            .find(|page_shift| count(*page_shift) <= pages_max)?;
        let words = count(page_shift).div_ceil(WORD_BITS) as usize;
        let mut bit = 0u64;
        for range in ranges.iter_mut() {
            range.bit = bit;
            bit = bit.saturating_add(pages(range.first, range.last, page_shift));
        }

        Some(Self { page_shift, words })
    }

    /// Bytes of a page.
    pub fn page_size(&self) -> u64 {
        1u64.wrapping_shl(self.page_shift)
    }

    /// Words of the bitmap.
    pub fn words(&self) -> usize {
        self.words
    }
}

// Shifts are written so that there is no panic for a bad distance: objtool does not know that such
// a function ends there.

/// The number of the page that an address is in.
fn page_of(address: u64, page_shift: u32) -> u64 {
    address.wrapping_shr(page_shift)
}

/// How many pages `[first, last]` has a part in.
fn pages(first: u64, last: u64, page_shift: u32) -> u64 {
    page_of(last, page_shift)
        .saturating_sub(page_of(first, page_shift))
        .saturating_add(1)
}

/// The word that a bit is in, and its mask there.
fn place(bit: u64) -> (usize, u64) {
    (
        (bit / WORD_BITS) as usize,
        1u64.wrapping_shl((bit % WORD_BITS) as u32),
    )
}

/// What is left of `[first, last]` before `from` and behind `to`, which are in there.
fn around(first: u64, last: u64, from: u64, to: u64) -> [Option<Fragment>; 2] {
    let before = from.checked_sub(1).filter(|_| from > first);
    let behind = to.checked_add(1).filter(|_| to < last);
    [
        before.map(|last| Fragment { first, last }),
        behind.map(|first| Fragment { first, last }),
    ]
}

/// How many runs of addresses are taken from a log at once.
const RUNS: usize = 32;

/// Runs of addresses, each by its first and its last.
pub struct Runs {
    runs: [(u64, u64); RUNS],
    len: usize,
}

impl Default for Runs {
    fn default() -> Self {
        Self {
            runs: [(0, 0); RUNS],
            len: 0,
        }
    }
}

impl Runs {
    /// Adds `[first, last]`. Returns whether there was room.
    fn add(&mut self, first: u64, last: u64) -> bool {
        let added = self.runs.get_mut(..self.len);
        if let Some((_, end)) = added.and_then(<[_]>::last_mut) {
            if end.checked_add(1) == Some(first) {
                *end = last;
                return true;
            }
        }
        match self.runs.get_mut(self.len) {
            Some(run) => {
                *run = (first, last);
                self.len = self.len.saturating_add(1);
                true
            }
            None => false,
        }
    }

    /// First address and length of each.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.runs
            .iter()
            .take(self.len)
            .map(|(first, last)| (*first, last.saturating_sub(*first).saturating_add(1)))
    }
}

/// A user's question for what was written of some addresses, and how far it is answered.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    first: u64,
    last: u64,
    /// How many fragments have not been looked at yet.
    fragments: usize,
}

impl Question {
    /// What was written of `length` bytes at `iova`? [`None`] if they are none.
    pub fn new(iova: u64, length: u64) -> Option<Self> {
        Some(Self {
            first: iova,
            last: iova.saturating_add(length.checked_sub(1)?),
            fragments: usize::MAX,
        })
    }
}

/// What was written and not told of, since the log was started.
pub struct PageLog<R, B, F> {
    page_shift: u32,
    ranges: R,
    bits: B,
    fragments: F,
    /// How many fragments there are.
    count: usize,
}

impl<R, B, F> PageLog<R, B, F>
where
    R: DerefMut<Target = [Range]>,
    B: DerefMut<Target = [u64]>,
    F: DerefMut<Target = [Fragment]>,
{
    /// A log with nothing written. `layout` is that of the ranges, `bits` are all zeros and as many words
    /// as the layout has. Of the parts of pages that are still to be told as many are remembered as
    /// there are `fragments`; pages that would take more stay dirty until all of them is asked for.
    pub fn new(layout: &Layout, ranges: R, bits: B, fragments: F) -> Self {
        Self {
            page_shift: layout.page_shift,
            ranges,
            bits,
            fragments,
            count: 0,
        }
    }

    /// How many ranges are logged.
    pub fn ranges(&self) -> usize {
        self.ranges.len()
    }

    /// `[first, last]` was written.
    pub fn mark(&mut self, first: u64, last: u64) {
        for range in self.ranges.iter() {
            let (from, to) = (first.max(range.first), last.min(range.last));
            if from > to {
                continue;
            }
            let base = page_of(range.first, self.page_shift);
            for page in page_of(from, self.page_shift)..=page_of(to, self.page_shift) {
                let (word, mask) = place(range.bit.saturating_add(page.saturating_sub(base)));
                if let Some(word) = self.bits.get_mut(word) {
                    *word |= mask;
                }
            }
        }
    }

    /// Moves what answers `question` to `runs`. Returns whether there is more, because they are full.
    pub fn take(&mut self, question: &mut Question, runs: &mut Runs) -> bool {
        self.take_fragments(question, runs) || self.take_pages(question, runs)
    }

    fn take_fragments(&mut self, question: &mut Question, runs: &mut Runs) -> bool {
        // From the last to the first: what takes the place of one that goes was looked at.
        let mut left = question.fragments.min(self.count);
        while let Some(index) = left.checked_sub(1) {
            if let Some(fragment) = self.fragments.get(index).copied() {
                let from = question.first.max(fragment.first);
                let to = question.last.min(fragment.last);
                if from <= to {
                    if !runs.add(from, to) {
                        question.fragments = left;
                        return true;
                    }
                    self.cut(index, around(fragment.first, fragment.last, from, to));
                }
            }
            left = index;
        }
        question.fragments = 0;
        false
    }

    fn take_pages(&mut self, question: &mut Question, runs: &mut Runs) -> bool {
        let page_shift = self.page_shift;

        for index in 0..self.ranges.len() {
            let Some(range) = self.ranges.get(index).copied() else {
                break;
            };
            let from = question.first.max(range.first);
            let to = question.last.min(range.last);
            if from > to {
                continue;
            }
            let base = page_of(range.first, page_shift);
            let end = page_of(to, page_shift);
            let mut page = page_of(from, page_shift);
            while page <= end {
                let bit = range.bit.saturating_add(page.saturating_sub(base));
                let (word, mask) = place(bit);
                let Some(bits) = self.bits.get(word).copied() else {
                    break;
                };
                if bits == 0 {
                    // Most of memory is not written.
                    page = page.saturating_add(WORD_BITS - bit % WORD_BITS);
                    continue;
                }
                if bits & mask != 0 {
                    let start = page.wrapping_shl(page_shift);
                    let more = 1u64.wrapping_shl(page_shift).saturating_sub(1);
                    let (start, stop) = (start.max(range.first), (start | more).min(range.last));
                    let (reported, until) = (start.max(from), stop.min(to));
                    if !runs.add(reported, until) {
                        question.first = reported;
                        return true;
                    }
                    if self.leave(start, stop, around(start, stop, reported, until)) {
                        if let Some(word) = self.bits.get_mut(word) {
                            *word &= !mask;
                        }
                    }
                }
                page = page.saturating_add(1);
            }
        }
        false
    }

    /// Notes that of the page `[start, stop]` no more than `rest` is to be told. Returns whether there
    /// was room for that.
    fn leave(&mut self, start: u64, stop: u64, rest: [Option<Fragment>; 2]) -> bool {
        if rest == [None, None] {
            return true;
        }
        // What was left of the page before it was written once more is in the rest.
        let mut left = self.count;
        while let Some(index) = left.checked_sub(1) {
            let fragment = self.fragments.get(index);
            if fragment.is_some_and(|fragment| (start..=stop).contains(&fragment.first)) {
                self.cut(index, [None, None]);
            }
            left = index;
        }

        let room = self.fragments.len().saturating_sub(self.count);
        if room < rest.iter().flatten().count() {
            return false;
        }
        for fragment in rest.into_iter().flatten() {
            self.add(fragment);
        }
        true
    }

    /// Replaces a fragment by what is left of it, or leaves it as it is if that needs more room than
    /// there is.
    fn cut(&mut self, index: usize, rest: [Option<Fragment>; 2]) {
        let room = self.fragments.len() > self.count;
        match rest {
            [None, None] => {
                // The last one takes its place.
                let last = self.count.saturating_sub(1);
                self.set(index, self.fragments.get(last).copied());
                self.count = last;
            }
            [Some(one), None] | [None, Some(one)] => self.set(index, Some(one)),
            [Some(one), Some(other)] if room => {
                self.set(index, Some(one));
                self.add(other);
            }
            _ => {}
        }
    }

    fn set(&mut self, index: usize, fragment: Option<Fragment>) {
        if let (Some(slot), Some(fragment)) = (self.fragments.get_mut(index), fragment) {
            *slot = fragment;
        }
    }

    /// Adds a fragment, for which there is room.
    fn add(&mut self, fragment: Fragment) {
        self.set(self.count, Some(fragment));
        self.count = self.count.saturating_add(1);
    }
}
