// SPDX-License-Identifier: GPL-2.0

//! What is written counts until it was written back.

use device_model::Unwritten;

const CAPACITY: u64 = 1 << 20;

#[test]
fn nothing_is_unwritten_of_a_disk_that_was_not_written() {
    assert_eq!(Unwritten::default().bytes(CAPACITY), 0);
}

#[test]
fn what_was_written_back_no_longer_counts() {
    let unwritten = Unwritten::default();
    unwritten.add(4096);
    unwritten.add(512);
    assert_eq!(unwritten.bytes(CAPACITY), 4608);
    let mark = unwritten.mark();
    assert_eq!(unwritten.bytes(CAPACITY), 4608, "while it is written back");
    unwritten.written_back(mark);
    assert_eq!(unwritten.bytes(CAPACITY), 0);
}

#[test]
fn what_is_written_during_a_write_back_counts_for_the_next_one() {
    let unwritten = Unwritten::default();
    for round in 0..5 {
        unwritten.add(4096);
        let mark = unwritten.mark();
        unwritten.add(512);
        unwritten.written_back(mark);
        assert_eq!(
            unwritten.bytes(CAPACITY),
            512,
            "a steady writer, round {round}"
        );
    }
    let mark = unwritten.mark();
    unwritten.written_back(mark);
    assert_eq!(unwritten.bytes(CAPACITY), 0, "once nothing is written");
}

#[test]
fn a_write_back_that_ends_late_takes_nothing_back() {
    let unwritten = Unwritten::default();
    unwritten.add(4096);
    let early = unwritten.mark();
    unwritten.add(4096);
    unwritten.written_back(unwritten.mark());
    unwritten.written_back(early);
    assert_eq!(unwritten.bytes(CAPACITY), 0);
}

#[test]
fn no_more_is_unwritten_than_the_disk_has() {
    let unwritten = Unwritten::default();
    for _ in 0..3 {
        unwritten.add(CAPACITY);
    }
    assert_eq!(unwritten.bytes(CAPACITY), CAPACITY);
    unwritten.written_back(unwritten.mark());
    assert_eq!(unwritten.bytes(CAPACITY), 0);
}
