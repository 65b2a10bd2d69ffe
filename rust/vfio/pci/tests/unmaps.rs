// SPDX-License-Identifier: GPL-2.0

//! A user who pins what another thread unmaps, against type1's patience.

use proptest::prelude::*;
use vfio_pci_pure::unmaps::Unmaps;

/// Questions after which type1 stops the kernel.
const PATIENCE: u32 = 10;

/// type1's loop of one unmapping: asks as long as the driver pins again. Returns how often it has asked.
fn unmap(
    unmaps: &mut Unmaps,
    task: i32,
    first: u64,
    count: u64,
    mut other: impl FnMut(&mut Unmaps),
) -> u32 {
    let mut asked = 0;
    loop {
        asked += 1;
        unmaps.note(task, first, count);
        other(unmaps);
        // The hostile thread pins whenever it may.
        if unmaps.refuses(first) {
            return asked;
        }
        assert!(asked <= PATIENCE, "type1 has asked {asked} times");
    }
}

#[test]
fn a_range_that_is_pinned_again_and_again_is_refused_in_time() {
    let mut unmaps = Unmaps::default();
    assert!(unmap(&mut unmaps, 1, 100, 16, |_| ()) <= PATIENCE);
    assert!(unmaps.refuses(115));
    assert!(!unmaps.refuses(116));
    assert!(!unmaps.refuses(99));
}

#[test]
fn memory_that_is_unmapped_piece_by_piece_is_not_refused() {
    let mut unmaps = Unmaps::default();
    for round in 0..1000 {
        unmaps.note(1, round % 256, 1);
        assert!(!unmaps.refuses(round % 256));
    }
}

#[test]
fn a_range_that_is_gone_is_forgotten() {
    let mut unmaps = Unmaps::default();
    unmap(&mut unmaps, 1, 0, 1, |_| ());
    unmaps.note(2, 8, 1);
    assert!(unmaps.refuses(0));
    unmaps.note(1, 8, 1);
    assert!(!unmaps.refuses(0));
}

#[test]
fn tasks_without_number_are_refused() {
    let mut unmaps = Unmaps::default();
    for task in 0..1000 {
        unmaps.note(task, 0, 1);
    }
    assert!(unmaps.refuses(5));
}

proptest! {
    #[test]
    fn what_others_unmap_meanwhile_does_not_reset_the_count(
        others in prop::collection::vec((2..80_i32, 0..8_u64, 1..8_u64), 0..400),
        count in 1..8_u64,
    ) {
        let mut unmaps = Unmaps::default();
        let mut others = others.into_iter();
        let asked = unmap(&mut unmaps, 1, 3, count, |unmaps| {
            for (task, first, count) in others.by_ref().take(40) {
                unmaps.note(task, first, count);
            }
        });
        prop_assert!(asked <= PATIENCE);
    }
}
