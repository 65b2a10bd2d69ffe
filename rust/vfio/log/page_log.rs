// SPDX-License-Identifier: GPL-2.0

//! The pages that a device wrote and that have not been reported to the user.
//!
//! The log has a bit for each page of its ranges. When the user asks for a part of a dirty page, the rest of
//! the page is still to be reported: it becomes a [`Fragment`], and the page is clean until it is written
//! again. So a page whose parts are asked for one by one does not stay dirty for ever.
//!
//! The module has no lock and allocates nothing, so that it runs in host tests. `DmaLog` keeps the log under
//! a mutex.

#![forbid(unsafe_code)]

use core::ops::DerefMut;

/// Smallest page of a log, as a power of two in bytes: the smallest that a user may ask for.
const PAGE_SHIFT_MIN: u32 = 12;

/// Bits in a word of the bitmap.
const WORD_BITS: u64 = u64::BITS as u64;

/// A range of addresses that is logged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Range {
    first: u64,
    last: u64,
    /// Index of the first page's bit in the bitmap.
    bit: u64,
}

impl Range {
    /// The addresses from `first` to `last`. Returns [`None`] if the range is empty or includes the last
    /// address of all, which is no valid IOVA.
    pub fn new(first: u64, last: u64) -> Option<Self> {
        let possible = first <= last && last < u64::MAX;
        possible.then_some(Self {
            first,
            last,
            bit: 0,
        })
    }
}

/// A part of a page that was written and is still to be reported, by its first and its last address. The
/// rest of the page is clean.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Fragment {
    first: u64,
    last: u64,
}

/// The page size and the size of the bitmap of a log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Layout {
    page_shift: u32,
    words: usize,
}

impl Layout {
    /// Returns the layout for `ranges`, and assigns each range its bits. Pages have `page_size` bytes, or
    /// more if there would be more than `pages_max` pages; `pages_max` must be at least twice the number of
    /// ranges. Returns [`None`] if `page_size` is not a power of two.
    pub fn new(ranges: &mut [Range], page_size: u64, pages_max: u64) -> Option<Self> {
        if !page_size.is_power_of_two() {
            return None;
        }

        let count = |page_shift| {
            ranges.iter().fold(0u64, |sum, range| {
                sum.saturating_add(pages(range.first, range.last, page_shift))
            })
        };
        // With the largest pages a range has at most two.
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

// The shifts cannot panic for a bad distance: objtool does not know that a panic ends a function.

/// The number of the page of an address.
fn page_of(address: u64, page_shift: u32) -> u64 {
    address.wrapping_shr(page_shift)
}

/// Number of pages that `[first, last]` touches.
fn pages(first: u64, last: u64, page_shift: u32) -> u64 {
    page_of(last, page_shift)
        .saturating_sub(page_of(first, page_shift))
        .saturating_add(1)
}

/// The index of the word of a bit, and the mask of the bit.
fn place(bit: u64) -> (usize, u64) {
    (
        (bit / WORD_BITS) as usize,
        1u64.wrapping_shl((bit % WORD_BITS) as u32),
    )
}

/// The parts of `[first, last]` before `from` and behind `to`, which lie in it.
fn around(first: u64, last: u64, from: u64, to: u64) -> [Option<Fragment>; 2] {
    let before = from.checked_sub(1).filter(|_| from > first);
    let behind = to.checked_add(1).filter(|_| to < last);
    [
        before.map(|last| Fragment { first, last }),
        behind.map(|first| Fragment { first, last }),
    ]
}

/// Runs of addresses that are taken from a log at once.
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

/// A user's question for the dirty parts of a range, and the progress of its answer.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    first: u64,
    last: u64,
    /// Number of fragments that have not been looked at.
    fragments: usize,
}

impl Question {
    /// The question for `length` bytes at `iova`. Returns [`None`] if `length` is 0.
    pub fn new(iova: u64, length: u64) -> Option<Self> {
        Some(Self {
            first: iova,
            last: iova.saturating_add(length.checked_sub(1)?),
            fragments: usize::MAX,
        })
    }
}

/// The writes since the log was started that have not been reported.
pub struct PageLog<R, B, F> {
    page_shift: u32,
    ranges: R,
    bits: B,
    fragments: F,
    /// Number of fragments in use.
    count: usize,
}

impl<R, B, F> PageLog<R, B, F>
where
    R: DerefMut<Target = [Range]>,
    B: DerefMut<Target = [u64]>,
    F: DerefMut<Target = [Fragment]>,
{
    /// A clean log. `layout` is that of `ranges`; `bits` are [`Layout::words`] words of zeros. `fragments` is
    /// the room for parts of pages that are still to be reported. A page for whose parts there is no room
    /// stays dirty until the user asks for the whole page.
    pub fn new(layout: &Layout, ranges: R, bits: B, fragments: F) -> Self {
        Self {
            page_shift: layout.page_shift,
            ranges,
            bits,
            fragments,
            count: 0,
        }
    }

    /// Number of ranges.
    pub fn ranges(&self) -> usize {
        self.ranges.len()
    }

    /// Marks `[first, last]`, which was written.
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

    /// Moves dirty parts that answer `question` to `runs`. Returns whether `runs` is full and there is more.
    pub fn take(&mut self, question: &mut Question, runs: &mut Runs) -> bool {
        self.take_fragments(question, runs) || self.take_pages(question, runs)
    }

    fn take_fragments(&mut self, question: &mut Question, runs: &mut Runs) -> bool {
        // From the last to the first: a fragment that is removed is replaced by the last one, which was
        // looked at.
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
                    // Most words are zero.
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

    /// Records that only `rest` of the page `[start, stop]` is still to be reported. Returns whether there
    /// was room for the fragments.
    fn leave(&mut self, start: u64, stop: u64, rest: [Option<Fragment>; 2]) -> bool {
        if rest == [None, None] {
            return true;
        }
        // The page was written again, so its older fragments lie in the part reported now or in `rest`.
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

    /// Replaces a fragment by the parts of it that are left, or keeps it if there is no room for both.
    fn cut(&mut self, index: usize, rest: [Option<Fragment>; 2]) {
        let room = self.fragments.len() > self.count;
        match rest {
            [None, None] => {
                // The last fragment takes its place.
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
