// SPDX-License-Identifier: GPL-2.0

//! Storage that migrates block by block while the device runs.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::common::errno;
use crate::common::pattern;
use crate::common::reason;
use crate::common::refused_before;
use crate::common::wire;
use crate::common::wire::Record;
use crate::common::Content;
use crate::common::Memory;
use crate::common::Recorder;
use crate::common::Rig;
use crate::common::Unit;
use crate::common::UnitPort;
use crate::common::FAIL_PUT;
use crate::common::FAIL_SAVE;
use crate::common::FAIL_STAGED_STORAGE;
use crate::common::FAIL_TRACK;
use crate::common::PRE_COPY;
use crate::common::RESUMING;
use crate::common::RUNNING;
use crate::common::STATE_SIZE;
use crate::common::STOP;
use crate::common::STOP_COPY;
use migration::v1::DataSection;
use migration::v1::MigrationRegion;
use migration::Dirty;
use migration::DirtyBlocks;
use migration::Engine;
use migration::MigratedBlocks;
use migration::Port;
use migration::Reason;
use migration::Refusal;
use migration::Sink;
use migration::Source;
use migration::StepError;
use migration::BLOCK_SIZE;
use proptest::collection::vec;
use proptest::prelude::*;
use vfio_uapi::Errno;

const BLOCK: u64 = BLOCK_SIZE as u64;

/// A device with `blocks` blocks; those in `written` have content.
fn source(window: usize, blocks: u64, written: impl IntoIterator<Item = u64>) -> Rig {
    let mut rig = Rig::with_disk(&pattern(100), window, blocks);
    for index in written {
        fill(&mut rig, index);
    }
    rig
}

/// Writes a block whose content is unlike that of all others.
fn fill(rig: &mut Rig, index: u64) {
    let mut bytes = pattern(BLOCK_SIZE);
    bytes[..8].copy_from_slice(&(index + 1).to_le_bytes());
    rig.disk().write(index * BLOCK, &bytes);
}

/// Gives `stream` to a new device and returns the content of its storage.
fn arrives(stream: &[u8], window: usize, blocks: u64) -> Content {
    let mut rig = Rig::with_disk(b"what was there", window, blocks);
    rig.disk().write(0, b"what was there");
    rig.go(&[RESUMING]);
    rig.give(stream, window).expect("a good stream");
    rig.go(&[RUNNING]);
    assert_eq!(rig.unit.live, pattern(100), "the state that arrived");
    rig.disk().content()
}

/// Returns the types of the records, with the arguments that are offsets in the storage.
fn outline(stream: &[u8]) -> Vec<(u16, u64, usize)> {
    let records = wire::parse(stream).into_iter();
    let outline = records.map(|record| match record.kind {
        wire::BLOCK => (record.kind, record.argument, record.payload.len()),
        wire::ZEROES => {
            let len = u64::from_le_bytes(record.payload.try_into().expect("eight bytes"));
            (record.kind, record.argument, len as usize)
        }
        kind => (kind, 0, 0),
    });
    outline.collect()
}

/// As above, of BLOCK and ZEROES only.
fn blocks_of(stream: &[u8]) -> Vec<(u16, u64, usize)> {
    let mut outline = outline(stream);
    outline.retain(|(kind, ..)| matches!(*kind, wire::BLOCK | wire::ZEROES));
    outline
}

#[test]
fn blocks_go_in_pre_copy_and_the_rest_in_stop_and_copy() {
    let mut rig = source(1 << 20, 100, 0..100);
    rig.go(&[PRE_COPY]);
    let mut stream = rig.drain();
    let first = stream.len();
    assert!(first > 100 * BLOCK_SIZE, "pre-copy gave {first} bytes");

    fill(&mut rig, 42);
    rig.go(&[STOP_COPY]);
    stream.extend(rig.drain());
    assert_eq!(
        outline(&stream[first..]),
        [
            (wire::BLOCK, 42 * BLOCK, BLOCK_SIZE),
            (wire::STATE, 0, 0),
            (wire::END, 0, 0)
        ],
        "stop-and-copy"
    );
    assert_eq!(arrives(&stream, 1 << 20, 100), rig.disk().content());
}

#[test]
fn v1_42_stop_and_copy_depends_on_what_is_dirty_and_not_on_the_size() {
    let sizes = [64, 1000, 20_000].map(|blocks| {
        let mut rig = source(1 << 20, blocks, 0..blocks);
        rig.go(&[PRE_COPY]);
        rig.drain();
        for index in (0..40).step_by(2) {
            fill(&mut rig, index);
        }
        rig.go(&[STOP_COPY]);
        rig.drain().len()
    });
    assert_eq!(sizes[0], sizes[1], "bytes in stop-and-copy");
    assert_eq!(sizes[1], sizes[2], "bytes in stop-and-copy");
    let least = 20 * BLOCK_SIZE;
    assert!(
        (least..least + 2000).contains(&sizes[0]),
        "bytes for 20 dirty blocks: {sizes:?}"
    );
}

#[test]
fn pre_copy_has_more_when_the_device_writes_after_nothing_was_pending() {
    let mut rig = source(1 << 16, 10, [3]);
    rig.go(&[PRE_COPY]);
    let mut stream = rig.drain();
    for index in [0, 9, 3] {
        assert_eq!(rig.pending(), 0, "v1_40: nothing pending for now");
        fill(&mut rig, index);
        assert!(rig.pending() > BLOCK, "pending after a write");
        stream.extend(rig.drain());
    }
    rig.go(&[STOP_COPY]);
    stream.extend(rig.drain());
    assert_eq!(arrives(&stream, 4096, 10), rig.disk().content());
}

#[test]
fn blocks_that_were_never_written_are_not_sent() {
    let mut rig = source(1 << 16, 1 << 40, [7, (1 << 33) + 5]);
    rig.unit.disk = None;
    // Too many for the disk of the tests to track: the engine must not go through them.
    rig.unit.disk = Some(crate::common::Disk::new(1 << 24));
    fill(&mut rig, 7);
    fill(&mut rig, (1 << 24) - 1);
    rig.go(&[STOP_COPY]);
    let stream = rig.drain();
    assert_eq!(
        blocks_of(&stream),
        [
            (wire::BLOCK, 7 * BLOCK, BLOCK_SIZE),
            (wire::BLOCK, ((1 << 24) - 1) * BLOCK, BLOCK_SIZE)
        ]
    );
}

#[test]
fn blocks_of_zeros_cost_next_to_nothing() {
    let mut rig = source(1 << 16, 3000, []);
    rig.disk().write(0, &vec![0; 3000 * BLOCK_SIZE]);
    fill(&mut rig, 1500);
    rig.go(&[STOP_COPY]);
    let stream = rig.drain();
    let zeros: usize = blocks_of(&stream)
        .iter()
        .filter(|(kind, ..)| *kind == wire::ZEROES)
        .map(|(.., len)| *len)
        .sum();
    assert_eq!(zeros, 2999 * BLOCK_SIZE, "bytes told to be zeros");
    assert!(
        stream.len() < 2 * BLOCK_SIZE,
        "{} bytes for a block and zeros",
        stream.len()
    );
    assert_eq!(arrives(&stream, 1 << 16, 3000), rig.disk().content());
}

#[test]
fn a_block_that_was_discarded_arrives_as_zeros() {
    let mut rig = source(1 << 16, 10, 0..10);
    rig.go(&[PRE_COPY]);
    let mut stream = rig.drain();
    for index in [0, 4, 5, 9] {
        rig.disk().discard(index);
    }
    rig.go(&[STOP_COPY]);
    let rest = rig.drain();
    assert_eq!(
        blocks_of(&rest),
        [
            (wire::ZEROES, 0, BLOCK_SIZE),
            (wire::ZEROES, 4 * BLOCK, 2 * BLOCK_SIZE),
            (wire::ZEROES, 9 * BLOCK, BLOCK_SIZE),
        ]
    );
    stream.extend(rest);
    assert_eq!(arrives(&stream, 1 << 16, 10), rig.disk().content());
}

#[test]
fn neighbours_share_a_record_of_up_to_64_kib() {
    let mut rig = source(1 << 20, 100, (3..40).chain([41, 42, 99]));
    rig.go(&[STOP_COPY]);
    assert_eq!(
        blocks_of(&rig.drain()),
        [
            (wire::BLOCK, 3 * BLOCK, 16 * BLOCK_SIZE),
            (wire::BLOCK, 19 * BLOCK, 16 * BLOCK_SIZE),
            (wire::BLOCK, 35 * BLOCK, 5 * BLOCK_SIZE),
            (wire::BLOCK, 41 * BLOCK, 2 * BLOCK_SIZE),
            (wire::BLOCK, 99 * BLOCK, BLOCK_SIZE),
        ]
    );
}

#[test]
fn every_window_carries_every_block() {
    for window in [256, 257, 300, 4096, 4127, 4128, 4129, 8192, 10_000, 1 << 16] {
        let mut rig = source(window, 40, (0..20).chain([22, 30, 39]));
        rig.disk().write(25 * BLOCK, &[0; BLOCK_SIZE]);
        rig.go(&[PRE_COPY]);
        let mut stream = rig.drain();
        fill(&mut rig, 10);
        rig.go(&[STOP_COPY]);
        stream.extend(rig.drain());
        for other in [256, 5000] {
            assert_eq!(
                arrives(&stream, other, 40),
                rig.disk().content(),
                "windows of {window} and {other} bytes"
            );
        }
    }
}

#[test]
fn a_chunk_is_as_full_as_the_window_allows() {
    for window in [4096, 8192, 1 << 16] {
        let mut rig = source(window, 100, 0..100);
        rig.go(&[PRE_COPY]);
        let sizes: Vec<_> = std::iter::from_fn(|| (rig.pending() > 0).then(|| rig.look().len()))
            .take(5)
            .collect();
        assert!(
            sizes.iter().all(|size| *size + 40 > window),
            "chunks of {sizes:?} bytes in a window of {window}"
        );
    }
}

#[test]
fn a_block_that_is_cut_and_written_in_between_arrives_as_it_is_at_the_end() {
    // The chunks of the cut block that a write follows, and the block that is written.
    for write in 0..4 {
        for zero in [false, true] {
            let mut rig = source(1024, 3, [1]);
            rig.go(&[PRE_COPY]);
            let mut stream = Vec::new();
            for chunk in 0.. {
                if rig.pending() == 0 {
                    break;
                }
                stream.extend(rig.look());
                if chunk == write {
                    match zero {
                        false => rig.disk().write(BLOCK, &[0x5a; BLOCK_SIZE]),
                        true => rig.disk().discard(1),
                    }
                }
            }
            rig.go(&[STOP_COPY]);
            stream.extend(rig.drain());
            assert_eq!(
                arrives(&stream, 1024, 3),
                rig.disk().content(),
                "written after chunk {write}, zeros: {zero}"
            );
        }
    }
}

#[test]
fn a_block_that_is_cut_goes_on_in_stop_and_copy() {
    let mut rig = source(1024, 3, [1]);
    rig.go(&[PRE_COPY]);
    let mut stream = rig.look();
    rig.pending();
    stream.extend(rig.look());
    assert!(rig.pending() > 0, "half a block is pending");
    rig.go(&[STOP_COPY]);
    stream.extend(rig.drain());
    let given: usize = blocks_of(&stream).iter().map(|(.., len)| len).sum();
    assert_eq!(given, BLOCK_SIZE, "bytes of the one block");
    assert_eq!(arrives(&stream, 1024, 3), rig.disk().content());
}

#[test]
fn v1_38_what_a_chunk_in_doubt_has_is_sent_again_and_nothing_else() {
    // Chunks taken before the unacknowledged one, so that it begins with HEADER, or not.
    for before in 0..6 {
        for taken in [false, true] {
            let mut rig = source(3 * BLOCK_SIZE, 60, (0..20).chain((20..60).step_by(3)));
            rig.go(&[PRE_COPY]);
            let mut stream = Vec::new();
            for _ in 0..before {
                rig.pending();
                stream.extend(rig.look());
            }
            rig.pending();
            let unacknowledged = rig.look();
            let dirty = rig.disk().dirty_count();
            if taken {
                stream.extend(&unacknowledged);
            }
            rig.go(&[STOP_COPY]);
            let again = rig.disk().dirty_count() - dirty;
            assert!(
                (1..=4).contains(&again),
                "{again} blocks are to be sent again"
            );
            let rest = rig.drain();
            assert_eq!(outline(&rest)[0].0, wire::RESEND);
            let header = outline(&rest)[1].0 == wire::HEADER;
            assert_eq!(header, before == 0, "HEADER once more, after {before}");
            stream.extend(rest);
            assert_eq!(
                arrives(&stream, BLOCK_SIZE, 60),
                rig.disk().content(),
                "after {before} chunks, taken: {taken}"
            );
        }
    }
}

#[test]
fn v1_38_a_chunk_in_doubt_with_as_many_runs_as_can_be_noted() {
    // More runs of zeros than the notes have room for.
    let blocks = 3000;
    for taken in [false, true] {
        let mut rig = source(1 << 16, blocks, []);
        for index in (0..blocks).step_by(2) {
            rig.disk().write(index * BLOCK, &[0]);
        }
        rig.disk().write((blocks - 1) * BLOCK, &[0x5a]);
        rig.go(&[PRE_COPY]);
        rig.pending();
        let unacknowledged = rig.look();
        let runs = blocks_of(&unacknowledged).len();
        assert_eq!(runs, crate::common::STATE_SIZE / 16 + 1, "runs in a chunk");
        let mut stream = if taken { unacknowledged } else { Vec::new() };
        rig.go(&[STOP_COPY]);
        assert_eq!(rig.disk().dirty_count(), 1501, "dirty blocks, all again");
        stream.extend(rig.drain());
        assert_eq!(arrives(&stream, 4096, blocks), rig.disk().content());
    }
}

#[test]
fn v1_38_a_failed_stop_and_copy_keeps_a_chunk_in_doubt() {
    for taken in [false, true] {
        let mut rig = source(3 * BLOCK_SIZE, 20, 0..20);
        rig.go(&[PRE_COPY]);
        rig.pending();
        let mut stream = rig.look();
        rig.pending();
        let unacknowledged = rig.look();
        rig.unit.faults.save = true;
        assert_eq!(errno(rig.set(STOP_COPY)), Some(FAIL_SAVE));
        rig.unit.faults.save = false;
        assert_eq!(rig.look(), unacknowledged, "the chunk that was presented");
        if taken {
            stream.extend(unacknowledged);
        }
        rig.go(&[STOP_COPY]);
        stream.extend(rig.drain());
        assert_eq!(arrives(&stream, BLOCK_SIZE, 20), rig.disk().content());
    }
}

#[test]
fn v1_47_a_chunk_with_restart_has_no_blocks() {
    let mut rig = source(1 << 16, 5, 0..5);
    rig.go(&[PRE_COPY, RUNNING, PRE_COPY]);
    let chunk = rig.look();
    assert_eq!(
        outline(&chunk),
        [(wire::RESTART, 0, 0), (wire::HEADER, 0, 0)]
    );
    assert!(rig.pending() > 5 * BLOCK, "v1_40: the blocks are pending");

    // Were the chunk unacknowledged, a new generation would cover it, and no block be lost.
    let mut rig = source(1 << 16, 5, 0..5);
    rig.go(&[PRE_COPY, RUNNING, PRE_COPY]);
    rig.look();
    rig.go(&[STOP_COPY]);
    let stream = rig.drain();
    assert_eq!(outline(&stream)[0].0, wire::RESTART);
    assert_eq!(arrives(&stream, 1 << 16, 5), rig.disk().content());
}

#[test]
fn v1_47_after_a_return_to_pre_copy_everything_is_sent_anew() {
    let mut rig = source(1 << 16, 20, 0..20);
    rig.go(&[PRE_COPY]);
    let mut stream = rig.drain();
    rig.go(&[STOP_COPY]);
    stream.extend(rig.drain());
    rig.go(&[PRE_COPY]);
    assert_eq!(rig.disk().dirty_count(), 20, "dirty blocks");
    fill(&mut rig, 3);
    rig.disk().discard(4);
    stream.extend(rig.drain());
    rig.go(&[STOP_COPY]);
    stream.extend(rig.drain());
    assert_eq!(arrives(&stream, 5000, 20), rig.disk().content());
}

#[test]
fn v1_47_what_a_restart_voids_does_not_arrive() {
    let mut rig = source(1 << 16, 20, [2, 3]);
    rig.go(&[PRE_COPY]);
    let mut stream = rig.drain();
    // Not tracked for a while.
    rig.go(&[RUNNING]);
    rig.disk().discard(2);
    rig.go(&[PRE_COPY, STOP_COPY]);
    stream.extend(rig.drain());
    let content = arrives(&stream, 1 << 16, 20);
    assert_eq!(content.keys().collect::<Vec<_>>(), [&3], "written blocks");
}

#[test]
fn a_storage_is_tracked_for_as_long_as_a_save_goes_on() {
    for path in [&[PRE_COPY][..], &[STOP_COPY], &[PRE_COPY, STOP_COPY]] {
        let start = || {
            let mut rig = source(1 << 16, 20, 0..20);
            rig.go(path);
            rig.look();
            assert!(rig.disk().dirty.is_some(), "tracked while saving");
            rig
        };
        for target in [STOP, RUNNING, RESUMING] {
            let mut rig = start();
            rig.unit.faults.start = true;
            if target == RUNNING && path.last() == Some(&STOP_COPY) {
                rig.set(RUNNING).expect_err("a failing start");
                assert!(rig.disk().dirty.is_some(), "tracked after a failure");
            }
            rig.unit.faults.start = false;
            rig.go(&[target]);
            assert!(rig.disk().dirty.is_none(), "tracked in {target:#05b}");
        }
        let mut rig = start();
        rig.reset();
        assert!(rig.disk().dirty.is_none(), "tracked after a reset");
    }

    let mut rig = source(1 << 16, 20, 0..20);
    rig.go(&[PRE_COPY]);
    rig.unit.faults.save = true;
    rig.unit.faults.start = true;
    assert_eq!(errno(rig.set(STOP_COPY)), Some(Errno::EIO), "breaking");
    assert!(rig.disk().dirty.is_none(), "tracked in the ERROR state");

    let mut rig = source(1 << 16, 20, 0..20);
    rig.unit.faults.save = true;
    assert_eq!(errno(rig.set(STOP_COPY)), Some(FAIL_SAVE));
    assert!(rig.disk().dirty.is_none(), "tracked after a failed begin");
}

#[test]
fn a_save_goes_on_unchanged_after_a_failed_start() {
    let mut rig = source(3 * BLOCK_SIZE, 20, 0..20);
    rig.go(&[PRE_COPY]);
    let mut stream = rig.look();
    rig.pending();
    stream.extend(rig.look());
    rig.pending();
    rig.go(&[STOP_COPY]);
    stream.extend(rig.look());
    let pending = rig.pending();
    rig.unit.faults.start = true;
    for request in [RUNNING, PRE_COPY] {
        assert!(rig.set(request).is_err(), "a failing start");
        assert_eq!(rig.pending(), pending, "pending after it");
    }
    stream.extend(rig.drain());
    assert_eq!(arrives(&stream, BLOCK_SIZE, 20), rig.disk().content());
}

#[test]
fn a_storage_that_cannot_be_tracked_anew_fails_the_next_chunk() {
    let mut rig = source(1 << 16, 20, 0..20);
    rig.go(&[STOP_COPY]);
    let mut stream = rig.drain();
    rig.unit.faults.track = true;
    rig.go(&[PRE_COPY]);
    for _ in 0..2 {
        let expected = Reason::StorageFailed { errno: FAIL_TRACK };
        assert_eq!(reason(rig.try_offset()), Some(expected));
        assert_eq!(rig.size(), 0, "data_size after that");
    }
    rig.unit.faults.track = false;
    stream.extend(rig.drain());
    rig.go(&[STOP_COPY]);
    stream.extend(rig.drain());
    assert_eq!(arrives(&stream, 1 << 16, 20), rig.disk().content());
}

#[test]
fn v1_41_pending_is_an_honest_estimate_that_shrinks() {
    for window in [256, 4096, 1 << 16] {
        let mut rig = source(window, 400, (0..100).chain((100..300).step_by(2)));
        rig.go(&[PRE_COPY]);
        let mut left = rig.pending();
        let bytes = 200 * BLOCK;
        assert!(
            (bytes..bytes + bytes / 6).contains(&left),
            "{left} bytes pending for {bytes} bytes of blocks, window {window}"
        );
        let (mut taken, first) = (0, left);
        while left > 0 {
            taken += rig.look().len() as u64;
            let now = rig.pending();
            assert!(now < left, "{now} bytes are pending after {left}");
            left = now;
        }
        assert!(
            taken.abs_diff(first) < first / 50,
            "{taken} bytes came where {first} were pending, window {window}"
        );
    }
}

#[test]
fn v1_33_pending_looks_at_no_block() {
    let mut rig = source(1 << 16, 400, 0..400);
    rig.go(&[PRE_COPY]);
    rig.disk().calls = Default::default();
    let pending = rig.pending();
    for _ in 0..100 {
        assert_eq!(rig.pending(), pending, "pending_bytes");
    }
    let calls = &rig.disk().calls;
    assert_eq!(
        (calls.take_dirty, calls.mark_dirty, calls.block.get()),
        (0, 0, 0),
        "calls of the storage by a read of pending_bytes"
    );
}

#[test]
fn the_work_of_a_save_grows_with_what_is_dirty() {
    for (blocks, step) in [(8000, 1), (8000, 2), (1 << 22, 1000)] {
        let mut rig = source(1 << 16, blocks, (0..blocks).step_by(step));
        rig.go(&[PRE_COPY]);
        rig.drain();
        let written = blocks as usize / step + 1;
        let calls = &rig.disk().calls;
        for (what, calls) in [
            ("take_dirty", calls.take_dirty),
            ("mark_dirty", calls.mark_dirty),
            ("block", calls.block.get()),
        ] {
            assert!(
                calls < 4 * written + 100,
                "{calls} calls of {what} for {written} blocks"
            );
        }
    }
}

#[test]
fn a_device_without_storage_gives_version_1_0_and_one_with_storage_1_1() {
    for (blocks, minor) in [(None, 0), (Some(0), 1), (Some(9), 1)] {
        let mut rig = Rig::new(&pattern(100), 4096);
        rig.unit.disk = blocks.map(crate::common::Disk::new);
        rig.go(&[STOP_COPY]);
        let records = wire::parse(&rig.drain());
        let expected = wire::header(1, minor, "test-unit", b"two ports");
        assert_eq!(records[0].payload, expected, "HEADER");
    }
}

#[test]
fn an_empty_storage_replaces_what_is_there() {
    let mut rig = source(4096, 5, []);
    rig.go(&[STOP_COPY]);
    let stream = rig.drain();
    assert_eq!(blocks_of(&stream), []);
    assert_eq!(arrives(&stream, 4096, 5), Content::new());
}

/// The stream of a storage with content, and that content.
fn stream_of_storage() -> (Vec<u8>, Content) {
    let mut rig = source(4096, 9, [2, 3]);
    rig.disk().write(5 * BLOCK, &[0]);
    rig.go(&[PRE_COPY]);
    let mut stream = rig.drain();
    rig.go(&[STOP_COPY]);
    stream.extend(rig.drain());
    let content = rig.disk().content();
    (stream, content)
}

#[test]
fn v1_30_nothing_reaches_the_live_storage_before_resuming_is_left() {
    let (stream, content) = stream_of_storage();
    let mut rig = source(4096, 9, [0]);
    let before = rig.disk().content();
    rig.go(&[RESUMING]);
    for chunk in stream.chunks(1000) {
        rig.give_chunk(chunk).expect("a part of a good stream");
        assert_eq!(rig.disk().content(), before, "the live storage");
    }
    rig.unit.faults.start = true;
    rig.set(RUNNING).expect_err("a failing start");
    rig.unit.faults.start = false;
    rig.go(&[RUNNING]);
    assert_eq!(rig.disk().content(), content);
    assert!(rig.unit.staged_disk.is_none(), "a staged storage is left");
}

#[test]
fn v1_30_a_resume_that_was_put_back_takes_another_storage() {
    let (stream, _) = stream_of_storage();
    let mut rig = source(4096, 9, [0]);
    rig.go(&[RESUMING]);
    rig.give(&stream, 4096).expect("a good stream");
    rig.unit.faults.start = true;
    rig.set(RUNNING).expect_err("a failing start");
    rig.unit.faults.start = false;

    let mut source = source(4096, 9, [6]);
    source.go(&[STOP_COPY, RUNNING, STOP_COPY]);
    rig.give(&source.drain(), 4096).expect("a good stream");
    rig.go(&[RUNNING]);
    assert_eq!(rig.disk().content(), source.disk().content());
}

#[test]
fn v1_32_nothing_stays_staged() {
    let (stream, _) = stream_of_storage();
    for len in (0..stream.len()).step_by(500).chain([stream.len()]) {
        let mut rig = source(4096, 9, [0]);
        rig.go(&[RESUMING]);
        rig.give(&stream[..len], 4096)
            .expect("a part of a good stream");
        rig.reset();
        assert!(rig.unit.staged_disk.is_none(), "after {len} bytes");
        rig.go(&[RESUMING]);
        rig.give(&stream, 4096).expect("the stream once more");
        rig.go(&[STOP]);
        assert!(rig.unit.staged_disk.is_none(), "after all");
    }
}

#[test]
fn a_storage_that_fails_refuses_the_stream() {
    let (stream, _) = stream_of_storage();
    let records = wire::parse(&stream);
    let header = records[0].encode().len();

    let mut rig = source(4096, 9, [0]);
    rig.unit.faults.staged_storage = true;
    rig.go(&[RESUMING]);
    let refusal = rig.give_chunk(&stream[..header]).expect_err("no memory");
    let errno = FAIL_STAGED_STORAGE;
    assert_eq!(refusal.reason, Reason::StorageFailed { errno });
    assert_eq!(refusal.errno, errno, "at the first record");
    rig.unit.faults.staged_storage = false;
    assert_eq!(
        rig.give(&stream, 4096),
        Err(refused_before(refusal)),
        "more data"
    );
    rig.reset();

    rig.unit.faults.put = true;
    rig.go(&[RESUMING]);
    let refusal = rig.give(&stream, 4096).expect_err("a failing write");
    let errno = FAIL_PUT;
    assert_eq!(refusal.reason, Reason::StorageFailed { errno });
    assert!(rig.unit.staged_disk.is_none(), "a staged storage is left");
    rig.reset();

    rig.unit.faults.put = false;
    rig.unit.faults.short_put = true;
    rig.go(&[RESUMING]);
    let refusal = rig.give(&stream, 4096).expect_err("bytes that nobody took");
    let errno = Errno::EIO;
    assert_eq!(refusal.reason, Reason::StorageFailed { errno });
    assert!(rig.unit.staged_disk.is_none(), "a staged storage is left");
}

/// Records of a good stream of version 1.1 that `change` has changed.
fn changed(change: impl FnOnce(&mut Vec<Record>)) -> Vec<u8> {
    let mut records = vec![
        Record::new(
            wire::HEADER,
            0,
            1,
            &wire::header(1, 1, "test-unit", b"two ports"),
        ),
        Record::new(wire::BLOCK, 1, BLOCK, &pattern(5000)),
        Record::new(wire::ZEROES, 2, 3 * BLOCK, &BLOCK.to_le_bytes()),
        Record::new(wire::STATE, 3, 0, &pattern(60)),
        Record::new(wire::STATE, 4, 60, &pattern(100)[60..]),
        Record::new(wire::END, 5, 0, &[]),
    ];
    change(&mut records);

    let mut bytes = 0;
    for (sequence, record) in records.iter_mut().enumerate() {
        record.sequence = sequence as u32;
        match record.kind {
            wire::END if record.payload.is_empty() => {
                let totals = wire::totals(sequence as u32, bytes, &pattern(100));
                *record = Record::new(wire::END, sequence as u32, 0, &totals);
            }
            wire::BLOCK | wire::ZEROES | wire::STATE => bytes += u64::from(record.length),
            _ => {}
        }
    }
    wire::encode(&records)
}

/// Checks that the stream is refused at `data_size`, that nothing of it stays, and that the device works on.
#[track_caller]
fn refused_as(rig: &mut Rig, stream: &[u8], expected: Errno, check: impl FnOnce(&Reason) -> bool) {
    let before = rig.unit.disk.as_ref().map(|disk| disk.content());
    rig.go(&[RESUMING]);
    let refusal = rig.give(stream, 4096).expect_err("a stream to be refused");
    assert_eq!(refusal.errno, expected, "{refusal}");
    assert!(check(&refusal.reason), "unexpected reason: {refusal:?}");
    assert_eq!(
        rig.set(RUNNING),
        Err(refused_before(refusal)),
        "leaving RESUMING"
    );
    assert!(rig.unit.staged.is_none(), "a staged state is left");
    assert!(rig.unit.staged_disk.is_none(), "a staged storage is left");
    let after = rig.unit.disk.as_ref().map(|disk| disk.content());
    assert_eq!(after, before, "the live storage");

    rig.reset();
    if rig.unit.disk.is_some() {
        rig.go(&[RESUMING]);
        rig.give(&changed(|_| {}), 4096)
            .expect("v1_48: a good stream");
        rig.go(&[RUNNING]);
    }
}

fn hostile(stream: &[u8], expected: Errno, check: impl FnOnce(&Reason) -> bool) {
    refused_as(&mut source(4096, 9, [0]), stream, expected, check);
}

#[test]
fn the_unchanged_stream_is_taken() {
    let mut content = Content::new();
    let mut bytes = pattern(5000);
    bytes.resize(2 * BLOCK_SIZE, 0);
    content.insert(1, bytes[..BLOCK_SIZE].to_vec());
    content.insert(2, bytes[BLOCK_SIZE..].to_vec());
    assert_eq!(arrives(&changed(|_| {}), 4096, 9), content);
    // The zeros end at the end of the storage.
    assert_eq!(arrives(&changed(|_| {}), 1000, 4), content);
}

#[test]
fn v1_46_blocks_for_a_device_without_storage_are_refused() {
    let mut rig = Rig::new(&pattern(10), 4096);
    refused_as(&mut rig, &changed(|_| {}), Errno::EXDEV, |reason| {
        *reason == Reason::NoMigratedBlocks { sequence: 1 }
    });
    let stream = changed(|records| drop(records.remove(1)));
    refused_as(&mut rig, &stream, Errno::EXDEV, |reason| {
        *reason == Reason::NoMigratedBlocks { sequence: 1 }
    });
}

#[test]
fn a_stream_without_blocks_is_taken_by_a_device_without_storage() {
    let stream = changed(|records| drop(records.drain(1..3)));
    let mut rig = Rig::new(&pattern(10), 4096);
    rig.go(&[RESUMING]);
    rig.give(&stream, 4096).expect("a stream of version 1.1");
    rig.go(&[RUNNING]);
    assert_eq!(rig.unit.live, pattern(100));
}

#[test]
fn v1_46_blocks_in_a_stream_of_version_1_0_are_unknown() {
    for (at, kind) in [(1, wire::BLOCK), (2, wire::ZEROES)] {
        let stream = changed(|records| {
            let header = wire::header(1, 0, "test-unit", b"two ports");
            records[0] = Record::new(wire::HEADER, 0, 1, &header);
            if kind == wire::ZEROES {
                records.remove(1);
            }
        });
        hostile(
            &stream,
            Errno::EPROTONOSUPPORT,
            |reason| matches!(reason, Reason::UnknownRecord { kind: seen, sequence: 1 } if *seen == kind),
        );
        // And before HEADER.
        let stream = changed(|records| {
            let record = records.remove(at);
            records.insert(0, record);
        });
        hostile(
            &stream,
            Errno::EPROTONOSUPPORT,
            |reason| matches!(reason, Reason::UnknownRecord { kind: seen, sequence: 0 } if *seen == kind),
        );
    }
}

#[test]
fn v1_46_blocks_outside_the_storage_are_refused() {
    let size = 9 * BLOCK;
    for (offset, len) in [
        (size, 1),
        (size - 1, 2),
        (size - 4999, 5000),
        (1 << 40, 100),
        (u64::MAX, 1),
        (u64::MAX - 99, 100),
        (u64::MAX - 98, 100),
    ] {
        let stream = changed(|records| {
            records[1] = Record::new(wire::BLOCK, 1, offset, &pattern(len as usize));
        });
        hostile(&stream, Errno::EBADMSG, |reason| {
            *reason == Reason::OutsideStorage { offset, len, size }
        });
    }
    for (offset, len) in [
        (0, 0),
        (0, size + 1),
        (0, u64::MAX),
        (size, 1),
        (size, 0),
        (1, u64::MAX),
        (u64::MAX, 1),
        (u64::MAX, u64::MAX),
        (size - 1, 2),
    ] {
        let stream = changed(|records| {
            records[2] = Record::new(wire::ZEROES, 2, offset, &len.to_le_bytes());
        });
        hostile(&stream, Errno::EBADMSG, |reason| {
            *reason == Reason::OutsideStorage { offset, len, size }
        });
    }
}

#[test]
fn v1_46_blocks_of_a_wrong_length_are_refused() {
    let stream = changed(|records| records[1] = Record::new(wire::BLOCK, 1, 0, &[]));
    hostile(&stream, Errno::EBADMSG, |reason| {
        *reason == Reason::PayloadLength { kind: 5, len: 0 }
    });
    for len in (0..20).filter(|len| *len != 8) {
        let stream = changed(|records| {
            records[2] = Record::new(wire::ZEROES, 2, 0, &[1; 20][..len as usize]);
        });
        hostile(&stream, Errno::EBADMSG, |reason| {
            *reason == Reason::PayloadLength { kind: 6, len }
        });
    }
    for kind in [wire::BLOCK, wire::ZEROES] {
        let stream = changed(|records| {
            records[1].kind = kind;
            records[1].length = (1 << 20) + 1;
        });
        hostile(&stream, Errno::EBADMSG, |reason| {
            matches!(reason, Reason::PayloadLength { .. })
        });
    }
}

#[test]
fn v1_46_blocks_with_flags_are_refused() {
    for at in [1, 2] {
        let stream = changed(|records| records[at].flags = 1);
        hostile(&stream, Errno::EBADMSG, |reason| {
            matches!(reason, Reason::Flags { flags: 1, .. })
        });
    }
}

#[test]
fn v1_46_blocks_where_they_may_not_be_are_refused() {
    // After the state has begun, between its pieces, after END, after a RESEND of HEADER, and after
    // RESTART.
    for from in [1, 2] {
        for to in [3, 4, 5] {
            let stream = changed(|records| {
                let record = records.remove(from);
                records.insert(to, record);
            });
            hostile(&stream, Errno::EBADMSG, |reason| {
                matches!(reason, Reason::Misplaced { .. })
            });
        }
        let stream = changed(|records| {
            let record = records[from].clone();
            records.truncate(1);
            records.push(Record::new(wire::RESEND, 1, 0, b""));
            records.push(record);
        });
        hostile(&stream, Errno::EBADMSG, |reason| {
            matches!(reason, Reason::Misplaced { sequence: 2, .. })
        });
    }
    let mut stream = changed(|_| {});
    stream.extend(Record::new(wire::RESTART, 0, 2, b"").encode());
    stream.extend(Record::new(wire::BLOCK, 1, 0, b"x").encode());
    hostile(&stream, Errno::EPROTONOSUPPORT, |reason| {
        matches!(reason, Reason::UnknownRecord { .. })
    });
}

#[test]
fn v1_46_more_zeros_than_a_source_writes_are_refused() {
    const BLOCKS: u64 = 1000;
    const MOST: u64 = 256 * BLOCK;
    let zeroes = |len: u64| {
        changed(|records| records[2] = Record::new(wire::ZEROES, 2, 0, &len.to_le_bytes()))
    };
    assert_eq!(arrives(&zeroes(MOST), 4096, BLOCKS), Content::new());
    for len in [MOST + 1, BLOCKS * BLOCK] {
        refused_as(
            &mut source(4096, BLOCKS, [0]),
            &zeroes(len),
            Errno::EBADMSG,
            |reason| *reason == Reason::ZeroesLength { len, most: MOST },
        );
    }
}

#[test]
fn v1_46_overlapping_blocks_are_taken_in_their_order() {
    let stream = changed(|records| {
        records[1] = Record::new(wire::BLOCK, 1, 100, &[1; 10_000]);
        records[2] = Record::new(wire::ZEROES, 2, 150, &20u64.to_le_bytes());
        records.insert(3, Record::new(wire::BLOCK, 3, 160, &[2; 5]));
    });
    let mut expected = vec![0; 9 * BLOCK_SIZE];
    expected[100..10_100].fill(1);
    expected[150..170].fill(0);
    expected[160..165].fill(2);
    let content = arrives(&stream, 700, 9);
    for (index, block) in expected.chunks(BLOCK_SIZE).enumerate().take(3) {
        assert_eq!(content[&(index as u64)], block, "block {index}");
    }
    assert_eq!(content.len(), 3, "blocks written");
}

#[test]
fn v1_46_every_bit_flip_and_truncation_of_a_stream_with_blocks_is_refused() {
    let (stream, _) = stream_of_storage();
    let mut rig = source(4096, 9, [0]);
    // Every bit of headers and small payloads, some of the blocks.
    let records = wire::parse(&stream);
    let mut at = 0;
    let mut bits = Vec::new();
    for record in &records {
        let size = record.encode().len();
        bits.extend((at * 8..(at + size.min(100)) * 8).chain([(at + size) * 8 - 1]));
        at += size;
    }
    for bit in bits {
        let mut flipped = stream.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        rig.go(&[RESUMING]);
        let refusal = rig.give(&flipped, 4096).expect_err("a flipped bit");
        assert_eq!(refusal.errno, Errno::EBADMSG, "bit {bit}: {refusal}");
        assert!(rig.unit.staged_disk.is_none(), "bit {bit}: staged storage");
        rig.reset();
    }
    for len in (0..stream.len()).step_by(37) {
        rig.go(&[RESUMING]);
        rig.give(&stream[..len], 4096)
            .expect("a part of a good stream");
        assert_eq!(errno(rig.set(RUNNING)), Some(Errno::ENODATA), "{len} bytes");
        rig.reset();
    }
}

#[test]
fn v1_46_blocks_lost_doubled_or_swapped_are_refused() {
    let (stream, _) = stream_of_storage();
    let records = wire::parse(&stream);
    for at in 1..records.len() - 1 {
        let mut lost = records.clone();
        lost.remove(at);
        let mut doubled = records.clone();
        doubled.insert(at, records[at].clone());
        let mut swapped = records.clone();
        swapped.swap(at, at + 1);
        for records in [lost, doubled, swapped] {
            hostile(&wire::encode(&records), Errno::EBADMSG, |reason| {
                matches!(reason, Reason::Sequence { .. })
            });
        }
    }
}

#[test]
fn v1_46_totals_count_blocks() {
    let bytes = 5000 + 8 + 100;
    for found in [bytes - 1, bytes + 1, 100] {
        let stream = changed(|records| {
            let totals = wire::totals(5, found, &pattern(100));
            records[5] = Record::new(wire::END, 5, 0, &totals);
        });
        hostile(
            &stream,
            Errno::EBADMSG,
            |reason| matches!(reason, Reason::TotalBytes { expected, .. } if *expected == bytes),
        );
    }
}

#[test]
fn versions_1_0_and_1_1_have_lengths_of_their_own() {
    for minor in [0, 1] {
        let header = wire::header(1, minor, "test-unit", b"two ports");
        let longer = [&header[..], &[0]].concat();
        let stream = changed(|records| {
            records[0] = Record::new(wire::HEADER, 0, 1, &longer);
        });
        hostile(&stream, Errno::EBADMSG, |reason| {
            matches!(reason, Reason::PayloadLength { kind: 1, .. })
        });
        let stream = changed(|records| {
            records.drain(1..3);
            records[0] = Record::new(wire::HEADER, 0, 1, &header);
            let mut totals = wire::totals(3, 100, &pattern(100));
            totals.push(0);
            records[3] = Record::new(wire::END, 3, 0, &totals);
        });
        hostile(&stream, Errno::EBADMSG, |reason| {
            matches!(reason, Reason::PayloadLength { kind: 16, len: 17 })
        });
    }
}

#[test]
fn a_storage_that_is_gone_fails_the_next_chunk() {
    for state in [PRE_COPY, STOP_COPY] {
        let mut rig = source(1 << 16, 20, 0..20);
        rig.go(&[state]);
        rig.unit.disk = None;
        let expected = Reason::StorageFailed { errno: Errno::EIO };
        assert_eq!(reason(rig.try_offset()), Some(expected));
    }
}

/// A device that has a storage and no state.
struct Stateless(Unit);

impl Stateless {
    /// Calls `f` with the port of the device inside.
    fn inner<R>(&mut self, f: impl FnOnce(&mut UnitPort<'_>) -> R) -> R {
        f(&mut UnitPort {
            unit: &mut self.0,
            seen: &mut Recorder::default(),
        })
    }
}

impl Port for Stateless {
    const TYPE: &'static str = UnitPort::TYPE;

    fn state_size(&self) -> usize {
        0
    }

    fn configuration(&self, out: &mut [u8; 64]) -> usize {
        out[..self.0.configuration.len()].copy_from_slice(&self.0.configuration);
        self.0.configuration.len()
    }

    fn stop(&mut self) -> Result<(), StepError<Errno>> {
        self.inner(|unit| unit.stop())
    }

    fn start(&mut self) -> Result<(), StepError<Errno>> {
        self.inner(|unit| unit.start())
    }

    fn save(&mut self, _out: &mut [u8]) -> Result<usize, StepError<Errno>> {
        Ok(0)
    }

    fn stage(&mut self, state: &[u8]) -> Result<(), Errno> {
        self.inner(|unit| unit.stage(state))
    }

    fn adopt(&mut self) -> Result<(), StepError<Errno>> {
        self.inner(|unit| unit.adopt())
    }

    fn unstage(&mut self) {
        self.inner(|unit| unit.unstage());
    }

    fn reset(&mut self) {
        self.inner(|unit| unit.reset());
    }

    fn with_blocks<R>(&mut self, f: impl FnOnce(&mut dyn MigratedBlocks) -> R) -> Option<R> {
        self.inner(|unit| unit.with_blocks(f))
    }

    fn with_staged_blocks<R>(
        &mut self,
        f: impl FnOnce(&mut dyn MigratedBlocks) -> R,
    ) -> Result<Option<R>, Errno> {
        self.inner(|unit| unit.with_staged_blocks(f))
    }
}

/// Moves the storage of one [`Stateless`] to another, with state buffers of these sizes in bytes.
fn send_stateless(source_buffer: usize, destination_buffer: usize) -> Result<(), Refusal> {
    const WINDOW: usize = 1000;
    let region = || {
        let bytes = vec![0; WINDOW];
        MigrationRegion::new(Memory { bytes })
    };
    let engine = |size| Engine::new(vec![0; size]);
    let (mut from, mut to) = (region(), region());
    let (mut saver, mut taker) = (engine(source_buffer), engine(destination_buffer));
    let mut one = Stateless(source(WINDOW, 9, [1, 2, 5, 8]).unit);
    let mut other = Stateless(source(4096, 9, [0]).unit);

    from.write_header(&mut saver, &mut one, 0, &PRE_COPY.to_ne_bytes())?;
    to.write_header(&mut taker, &mut other, 0, &RESUMING.to_ne_bytes())?;
    for state in [PRE_COPY, STOP_COPY] {
        from.write_header(&mut saver, &mut one, 0, &state.to_ne_bytes())?;
        let mut size = [0; 8];
        loop {
            from.read_header(&mut saver, &mut one, 8, &mut size)?;
            if size == [0; 8] {
                break;
            }
            from.read_header(&mut saver, &mut one, 16, &mut size)?;
            from.read_header(&mut saver, &mut one, 24, &mut size)?;
            to.data_mut().bytes.clone_from(&from.data().bytes);
            to.write_header(&mut taker, &mut other, 24, &size)?;
        }
    }
    to.write_header(&mut taker, &mut other, 0, &RUNNING.to_ne_bytes())?;
    let content = |device: &mut Stateless| device.0.disk().content();
    assert_eq!(content(&mut other), content(&mut one), "the storage");
    Ok(())
}

#[test]
fn a_storage_moves_with_a_buffer_of_any_size() {
    for (source, destination) in [
        (0, 0),
        (0, 1),
        (1, 7),
        (15, 64),
        (16, 4095),
        (40, 4096),
        (0, 20_000),
    ] {
        let result = send_stateless(source, destination);
        assert_eq!(
            result,
            Ok(()),
            "buffers of {source} and {destination} bytes"
        );
    }
}

/// A data section that counts how often each byte of it is copied out.
struct Counting {
    bytes: Vec<u8>,
    reads: RefCell<Vec<u32>>,
}

impl Sink for Counting {
    fn room(&self) -> usize {
        self.bytes.len()
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        panic!("{} bytes written at {offset} in RESUMING", bytes.len());
    }
}

impl Source for Counting {
    fn read(&self, offset: usize, into: &mut [u8]) {
        for count in &mut self.reads.borrow_mut()[offset..offset + into.len()] {
            *count += 1;
        }
        into.copy_from_slice(&self.bytes[offset..offset + into.len()]);
    }
}

impl DataSection for Counting {
    fn clear(&mut self) {
        self.bytes.fill(0);
    }
}

#[test]
fn v1_46_every_byte_of_a_chunk_is_copied_out_once() {
    let stream = changed(|_| {});
    for size in [33, 1000, 4096, 6000] {
        let mut region = MigrationRegion::new(Counting {
            bytes: vec![0; 6000],
            reads: RefCell::new(vec![0; 6000]),
        });
        let mut rig = source(4096, 9, [0]);
        let mut engine = Engine::new(vec![0; STATE_SIZE]);
        let mut port = UnitPort {
            unit: &mut rig.unit,
            seen: &mut rig.seen,
        };
        region
            .write_header(&mut engine, &mut port, 0, &RESUMING.to_ne_bytes())
            .expect("RESUMING");
        for chunk in stream.chunks(size) {
            let data = region.data_mut();
            data.bytes[..chunk.len()].copy_from_slice(chunk);
            data.reads.borrow_mut().fill(0);
            region
                .write_header(&mut engine, &mut port, 24, &chunk.len().to_ne_bytes())
                .expect("a part of a good stream");
            let reads = region.data().reads.borrow();
            let (read, rest) = reads.split_at(chunk.len());
            assert_eq!(read, vec![1; chunk.len()], "chunks of {size} bytes");
            assert_eq!(rest, vec![0; rest.len()], "chunks of {size} bytes");
        }
    }
}

/// An event on the way.
#[derive(Clone, Debug)]
enum Act {
    Go {
        word: u32,
    },
    /// Takes a chunk; `told`: reads `pending_bytes` afterwards.
    Take {
        told: bool,
    },
    /// Presents a chunk and enters stop-and-copy without taking it.
    Drop,
    Write {
        offset: u64,
        len: usize,
        byte: u8,
    },
    Discard {
        index: u64,
    },
    /// A transition fails.
    Fail {
        word: u32,
    },
}

const BLOCKS: u64 = 24;

fn act() -> impl Strategy<Value = Act> {
    let word = || prop_oneof![Just(STOP), Just(RUNNING), Just(STOP_COPY), Just(PRE_COPY)];
    prop_oneof![
        2 => word().prop_map(|word| Act::Go { word }),
        2 => Just(Act::Go { word: PRE_COPY }),
        12 => any::<bool>().prop_map(|told| Act::Take { told }),
        1 => Just(Act::Drop),
        8 => (0..BLOCKS * BLOCK, 1..3 * BLOCK_SIZE, prop_oneof![1 => Just(0), 3 => any::<u8>()])
            .prop_map(|(offset, len, byte)| Act::Write { offset, len, byte }),
        2 => (0..BLOCKS).prop_map(|index| Act::Discard { index }),
        1 => word().prop_map(|word| Act::Fail { word }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn v1_38_v1_42_v1_47_any_way_through_a_save_brings_the_storage_over(
        acts in vec(act(), 0..60),
        source_window in prop_oneof![256..600usize, 600..20_000usize],
        destination_window in 256..20_000usize,
        splits in vec(1..20_000usize, 1..10),
    ) {
        let mut source = source(source_window, BLOCKS, [0, 1, 2, 3, 7, 23]);
        let mut stream = Vec::new();
        for act in acts {
            match act {
                Act::Go { word } => source.go(&[word]),
                Act::Take { told } => {
                    if source.engine.state().is_saving() && source.pending() > 0 {
                        let chunk = source.look();
                        prop_assert!(!chunk.is_empty(), "v1_39: an empty chunk");
                        stream.extend(chunk);
                        if told {
                            source.pending();
                        }
                    }
                }
                Act::Drop => {
                    if source.word() == PRE_COPY && source.pending() > 0 {
                        source.look();
                        source.go(&[STOP_COPY]);
                    }
                }
                Act::Write { offset, len, byte } => {
                    if source.unit.running {
                        let len = len.min((BLOCKS * BLOCK - offset) as usize);
                        source.disk().write(offset, &vec![byte; len]);
                    }
                }
                Act::Discard { index } => {
                    if source.unit.running {
                        source.disk().discard(index);
                    }
                }
                Act::Fail { word } => {
                    // A device that was stopped can be started again, so that it does not break.
                    let before = source.word();
                    source.unit.faults.save = true;
                    source.unit.faults.start = before & RUNNING == 0;
                    if source.set(word).is_err() {
                        prop_assert_eq!(source.word(), before, "device_state");
                    }
                    source.unit.faults = Default::default();
                }
            }
        }
        if source.word() != STOP_COPY {
            source.go(&[STOP_COPY]);
        }
        stream.extend(source.drain());

        let mut rig = Rig::with_disk(&[], destination_window, BLOCKS);
        rig.disk().write(5 * BLOCK, b"what was there");
        rig.go(&[RESUMING]);
        let mut rest = &stream[..];
        for size in splits.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, later) = rest.split_at(rest.len().min(*size).min(destination_window));
            prop_assert_eq!(rig.give_chunk(chunk), Ok(()), "a part of a good stream");
            rest = later;
        }
        rig.go(&[RUNNING]);
        prop_assert!(rig.disk().content() == source.disk().content(), "the storage differs");
    }

    #[test]
    fn dirty_blocks_are_sets_that_are_counted(
        blocks in prop_oneof![0..200u64, 60..70u64],
        acts in vec((0..5, 0..260u64), 0..300),
    ) {
        let words = DirtyBlocks::words(blocks).expect("few blocks");
        prop_assert_eq!(words as u64, 2 * blocks.div_ceil(64));
        let mut dirty = DirtyBlocks::new(vec![!0; words], blocks).expect("enough words");
        // Whether each of the dirty blocks is empty.
        let mut set = BTreeMap::new();
        for (act, index) in acts {
            match act {
                0 | 1 => dirty.mark_data(index),
                2 | 3 => dirty.mark_empty(index),
                _ => {
                    let mut next = set.range(index..).chain(set.iter());
                    let expected = next.next().map(|(index, _)| *index);
                    prop_assert_eq!(dirty.take_next(index), expected, "from {}", index);
                    expected.map(|index| set.remove(&index));
                }
            }
            if act < 4 && index < blocks {
                set.insert(index, act > 1);
            }
            prop_assert_eq!(dirty.is_dirty(index), set.contains_key(&index));
            for from in [0, index, index + 1] {
                prop_assert_eq!(dirty.dirty(from), count(&set, from), "from {}", from);
            }
        }
        dirty.clear();
        prop_assert_eq!((dirty.dirty(0), dirty.take_next(0)), (Dirty::default(), None));
        prop_assert_eq!(dirty.blocks(), blocks);
    }
}

/// Counts dirty blocks, empty and not empty.
fn count(set: &BTreeMap<u64, bool>, from: u64) -> Dirty {
    let mut dirty = Dirty::default();
    let mut before = None;
    for (index, is_empty) in set {
        let goes_on = before == index.checked_sub(1) && before.is_some() && *index != from;
        before = is_empty.then_some(*index);
        match is_empty {
            true => dirty.empty += 1,
            false => dirty.data += 1,
        }
        dirty.runs += u64::from(*is_empty && !goes_on);
    }
    dirty
}

#[test]
fn dirty_blocks_need_enough_words() {
    for (blocks, words) in [(0, 0), (1, 2), (64, 2), (65, 4), (1 << 24, 1 << 19)] {
        assert_eq!(DirtyBlocks::words(blocks), Some(words), "{blocks} blocks");
        assert!(DirtyBlocks::new(vec![0; words], blocks).is_some());
        if words > 0 {
            let few = DirtyBlocks::new(vec![0; words - 1], blocks);
            assert!(few.is_none(), "{blocks} blocks in {} words", words - 1);
        }
    }
}
