// SPDX-License-Identifier: GPL-2.0

//! The log of pages against one that remembers each address by itself.

use std::collections::BTreeSet;

use proptest::prelude::*;
use vfio_pure::page_log::{
    Fragment,
    Layout,
    PageLog,
    Question,
    Range,
    Runs, //
};

/// Bytes that are told apart here: a quarter of the smallest page.
const CELL: u64 = 1 << 10;
const PAGE: u64 = 4 * CELL;

type Log = PageLog<Vec<Range>, Vec<u64>, Vec<Fragment>>;

/// A log of `ranges`, by first cell and number of cells, and the size of its pages in cells.
fn log(ranges: &[(u64, u64)], page_size: u64, pages_max: u64, fragments: usize) -> (Log, u64) {
    let mut list: Vec<Range> = ranges
        .iter()
        .map(|(cell, count)| {
            let first = cell * CELL;
            Range::new(first, first + count * CELL - 1).expect("it is a range")
        })
        .collect();
    let layout = Layout::new(&mut list, page_size, pages_max).expect("a power of two");
    let log = PageLog::new(
        &layout,
        list,
        vec![0; layout.words()],
        vec![Fragment::default(); fragments],
    );
    (log, layout.page_size() / CELL)
}

/// The cells that the log tells of `count` cells at `cell`. It never says anything about others.
fn report(log: &mut Log, cell: u64, count: u64) -> BTreeSet<u64> {
    let mut cells = BTreeSet::new();
    let mut question = Question::new(cell * CELL, count * CELL).expect("some bytes");
    for _ in 0..100_000 {
        let mut runs = Runs::default();
        let more = log.take(&mut question, &mut runs);
        for (iova, length) in runs.iter() {
            assert_eq!((iova % CELL, length % CELL), (0, 0), "whole cells");
            let reported = iova / CELL..(iova + length) / CELL;
            assert!(
                cell <= reported.start && reported.end <= cell + count,
                "{reported:?} was not asked for"
            );
            cells.extend(reported);
        }
        if !more {
            return cells;
        }
    }
    panic!("a report ends");
}

/// What a log should know, cell by cell.
struct Model {
    ranges: Vec<(u64, u64)>,
    /// In cells.
    page: u64,
    dirty: BTreeSet<u64>,
    /// Cells of pages that were ever written.
    ever: BTreeSet<u64>,
}

impl Model {
    fn write(&mut self, cell: u64, count: u64) {
        for &(first, length) in &self.ranges {
            let (from, to) = (cell.max(first), (cell + count).min(first + length));
            if from >= to {
                continue;
            }
            let start = from / self.page * self.page;
            let end = to.next_multiple_of(self.page);
            let cells = start.max(first)..end.min(first + length);
            self.dirty.extend(cells.clone());
            self.ever.extend(cells);
        }
    }

    fn report(&mut self, cell: u64, count: u64) -> BTreeSet<u64> {
        let asked: BTreeSet<u64> = self.dirty.range(cell..cell + count).copied().collect();
        self.dirty.retain(|cell| !asked.contains(cell));
        asked
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Cells are written: the first of them, and their number.
    Write(u64, u64),
    /// They are asked for.
    Report(u64, u64),
}

/// Cells of the address space of a test.
const SPACE: u64 = 2048;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0..SPACE, 1..40u64).prop_map(|(cell, count)| Step::Write(cell, count)),
        3 => (0..SPACE, 1..200u64).prop_map(|(cell, count)| Step::Report(cell, count)),
        1 => (0..64u64, 100..SPACE).prop_map(|(cell, count)| Step::Report(cell, count)),
    ];
    prop::collection::vec(step, 1..60)
}

/// Ranges that do not overlap, in ascending order, of whole pages of 4 KiB.
fn ranges() -> impl Strategy<Value = Vec<(u64, u64)>> {
    prop::collection::vec((0..40u64, 1..200u64), 1..5).prop_map(|gaps| {
        let mut at = 0;
        gaps.into_iter()
            .map(|(gap, count)| {
                let range = ((at + gap) * 4, count * 4);
                at += gap + count;
                range
            })
            .collect()
    })
}

/// The size that the user asks for, and how many pages there may be: what makes them larger.
fn pages() -> impl Strategy<Value = (u64, u64)> {
    (
        prop::sample::select(vec![PAGE, 2 * PAGE, 8 * PAGE, 64 * PAGE]),
        prop::sample::select(vec![1 << 26, 256, 64, 16, 10]),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// With room for what is left of pages the log knows of every cell whether it is to be told.
    #[test]
    fn every_write_is_told_once_wherever_the_reports_are_cut(
        ranges in ranges(), (page_size, most) in pages(), steps in steps(),
    ) {
        let (mut log, page) = log(&ranges, page_size, most, 1000);
        let mut model = Model { ranges, page, dirty: BTreeSet::new(), ever: BTreeSet::new() };
        for step in steps {
            match step {
                Step::Write(cell, count) => {
                    log.mark(cell * CELL, (cell + count) * CELL - 1);
                    model.write(cell, count);
                }
                Step::Report(cell, count) => {
                    prop_assert_eq!(
                        report(&mut log, cell, count),
                        model.report(cell, count),
                        "{} cells at {}", count, cell
                    );
                }
            }
        }
    }

    /// Without enough room it may tell things twice, and forgets nothing.
    #[test]
    fn no_write_is_forgotten_when_there_is_little_room(
        ranges in ranges(), (page_size, most) in pages(), steps in steps(), room in 0..4usize,
    ) {
        let (mut log, page) = log(&ranges, page_size, most, room);
        let mut model = Model { ranges, page, dirty: BTreeSet::new(), ever: BTreeSet::new() };
        for step in steps {
            match step {
                Step::Write(cell, count) => {
                    log.mark(cell * CELL, (cell + count) * CELL - 1);
                    model.write(cell, count);
                }
                Step::Report(cell, count) => {
                    let seen = report(&mut log, cell, count);
                    let expected = model.report(cell, count);
                    prop_assert!(
                        expected.is_subset(&seen),
                        "{} cells at {}: {:?} is missing", count, cell, expected.difference(&seen)
                    );
                    prop_assert!(seen.is_subset(&model.ever), "{:?}", seen.difference(&model.ever));
                }
            }
        }
    }

    /// Pieces that follow each other tell everything, and then nothing, in whatever pieces one asks.
    #[test]
    fn a_report_in_pieces_leaves_nothing(
        ranges in ranges(), (page_size, most) in pages(),
        writes in prop::collection::vec((0..SPACE, 1..40u64), 1..40),
        cuts in prop::collection::btree_set(1..4 * SPACE, 0..100),
        again in prop::collection::btree_set(1..4 * SPACE, 0..100),
    ) {
        // One for each range that begins inside a page would do.
        let (mut log, page) = log(&ranges, page_size, most, 1);
        let mut model = Model { ranges, page, dirty: BTreeSet::new(), ever: BTreeSet::new() };
        for (cell, count) in writes {
            log.mark(cell * CELL, (cell + count) * CELL - 1);
            model.write(cell, count);
        }
        for (cuts, expected) in [(cuts, model.dirty), (again, BTreeSet::new())] {
            let mut seen = BTreeSet::new();
            let mut start = 0;
            for end in cuts.into_iter().chain([4 * SPACE + 1]) {
                seen.append(&mut report(&mut log, start, end - start));
                start = end;
            }
            prop_assert_eq!(seen, expected);
        }
    }
}

#[test]
fn a_layout_has_as_many_pages_as_it_may() {
    const MOST: u64 = 1 << 26;
    let size = |ranges: &[(u64, u64)], page_size| {
        let mut list: Vec<Range> = ranges
            .iter()
            .map(|(first, length)| Range::new(*first, first + (length - 1)).expect("a range"))
            .collect();
        Layout::new(&mut list, page_size, MOST).map(|layout| (layout.page_size(), layout.words()))
    };
    assert_eq!(size(&[(0, 1 << 38)], PAGE), Some((PAGE, 1 << 20)));
    assert_eq!(size(&[(0, 1 << 39)], PAGE), Some((2 * PAGE, 1 << 20)));
    assert_eq!(size(&[(0, 1 << 52)], PAGE), Some((1 << 26, 1 << 20)));
    assert_eq!(size(&[(0, 1 << 63)], PAGE), Some((1 << 37, 1 << 20)));
    assert_eq!(size(&[(0, u64::MAX)], PAGE), Some((1 << 38, 1 << 20)));
    assert_eq!(size(&[(PAGE, 1)], 1), Some((PAGE, 1)), "the least is 4 KiB");
    assert_eq!(size(&[(0, PAGE)], 3 * PAGE), None);
    assert_eq!(size(&[(0, PAGE)], 0), None);
    assert_eq!(size(&[(0, u64::MAX)], 1 << 63), Some((1 << 63, 1)));
    assert_eq!(size(&[], PAGE), Some((PAGE, 0)));
}

#[test]
fn a_range_has_a_first_and_a_last_address() {
    for (first, last, possible) in [
        (0, 0, true),
        (1, 0, false),
        (PAGE, PAGE - 1, false),
        (0, u64::MAX - 1, true),
        (0, u64::MAX, false),
        (u64::MAX, u64::MAX, false),
    ] {
        let range = Range::new(first, last);
        assert_eq!(range.is_some(), possible, "{first:#x} to {last:#x}");
    }
}

#[test]
fn the_end_of_all_addresses_is_logged_as_well() {
    let last = u64::MAX - 1;
    let mut ranges = [Range::new(0, last).expect("a range")];
    let layout = Layout::new(&mut ranges, PAGE, 1 << 26).expect("a power of two");
    let mut log = PageLog::new(
        &layout,
        ranges.to_vec(),
        vec![0; layout.words()],
        vec![Fragment::default(); 4],
    );
    log.mark(last, u64::MAX);
    let mut ask = |iova, length| {
        let mut runs = Runs::default();
        let mut question = Question::new(iova, length).expect("some bytes");
        assert!(!log.take(&mut question, &mut runs), "there is room");
        runs.iter().collect::<Vec<_>>()
    };
    let page = layout.page_size();
    let start = u64::MAX - (page - 1);
    assert_eq!(ask(0, start), [], "not before");
    assert_eq!(ask(start, 1), [(start, 1)], "its first byte");
    assert_eq!(ask(start, u64::MAX), [(start + 1, page - 2)], "the rest");
    assert_eq!(ask(0, u64::MAX), [], "nothing any more");
    assert!(Question::new(0, 0).is_none(), "nothing was asked");
}
