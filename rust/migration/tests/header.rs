// SPDX-License-Identifier: GPL-2.0

//! The header: every offset and width, and the fields that are not `device_state`.

use crate::common::errno;
use crate::common::pattern;
use crate::common::reason;
use crate::common::stream_of;
use crate::common::Rig;
use crate::common::Told;
use crate::common::PRE_COPY;
use crate::common::RESUMING;
use crate::common::RUNNING;
use crate::common::STOP;
use crate::common::STOP_COPY;
use crate::common::WINDOW_OFFSET;
use migration::v1::header::decode;
use migration::Reason;
use vfio_uapi::v1::Field;
use vfio_uapi::v1::State;
use vfio_uapi::Errno;

/// The header of the ABI: offset, width, name.
const ABI: [(u64, usize, &str); 5] = [
    (0, 4, "device_state"),
    (4, 4, "reserved"),
    (8, 8, "pending_bytes"),
    (16, 8, "data_offset"),
    (24, 8, "data_size"),
];

#[test]
fn v1_02_the_header_has_the_fields_of_the_abi() {
    let fields = Field::ALL.map(|field| (field.offset(), field.width(), field.name()));
    assert_eq!(fields, ABI);
    assert_eq!(vfio_uapi::v1::HEADER_SIZE, 32);
}

#[test]
fn v1_03_only_a_field_at_its_width_and_alignment_is_an_access() {
    for offset in (0..4200).chain([u64::MAX - 8, u64::MAX]) {
        for len in 0..=64 {
            let expected = ABI
                .iter()
                .find(|(at, width, _)| (*at, *width) == (offset, len));
            let seen = decode(offset, len);
            assert_eq!(
                seen.map(Field::name).ok(),
                expected.map(|(_, _, name)| *name),
                "{len} bytes at {offset}"
            );
        }
    }
}

#[test]
fn v1_03_a_malformed_access_is_refused_and_changes_nothing() {
    for state in [RUNNING, STOP, STOP_COPY, PRE_COPY, RESUMING] {
        let mut rig = Rig::new(&pattern(3000), 1024);
        rig.go(&[state]);
        let pending = rig.pending();
        rig.region.data_mut().bytes[3] = 0x5a;
        rig.unit.calls.clear();
        rig.seen.0.clear();

        let mut refusals = 0;
        for offset in 0..48 {
            for len in 0..=20 {
                if decode(offset, len).is_ok() {
                    continue;
                }
                let mut bytes = vec![0xee; len];
                assert_eq!(
                    reason(rig.read(offset, &mut bytes)),
                    Some(Reason::Access { offset, len })
                );
                assert_eq!(bytes, vec![0xee; len], "what was read");
                assert_eq!(errno(rig.write(offset, &bytes)), Some(Errno::EINVAL));
                refusals += 2;
            }
        }
        let told = rig.seen.0.len();
        assert_eq!(told, refusals, "v1_07: each refusal is told once");
        assert!(rig
            .seen
            .0
            .iter()
            .all(|told| matches!(told, Told::Refused(..))));
        assert!(rig.unit.calls.is_empty(), "calls of the device");
        assert_eq!(rig.word(), state, "device_state");
        assert_eq!(rig.pending(), pending, "pending_bytes");
        assert_eq!(rig.region.data().bytes[3], 0x5a, "the window");
    }
}

#[test]
fn v1_04_reserved_reads_zero_and_ignores_writes() {
    for state in [RUNNING, STOP, STOP_COPY, PRE_COPY, RESUMING] {
        let mut rig = Rig::new(&pattern(100), 1024);
        rig.go(&[state]);
        assert_eq!(rig.write(4, &[0xff; 4]), Ok(()));
        let mut bytes = [0xee; 4];
        assert_eq!(rig.read(4, &mut bytes), Ok(()));
        assert_eq!(bytes, [0; 4], "reserved after a write");
        assert_eq!(rig.word(), state, "device_state");
    }
}

#[test]
fn v1_05_read_only_fields_refuse_writes() {
    for field in [Field::PendingBytes, Field::DataOffset] {
        let mut rig = Rig::new(&pattern(3000), 1024);
        rig.go(&[STOP_COPY]);
        let pending = rig.pending();
        let refusal = rig
            .write(field.offset(), &[0xff; 8])
            .expect_err("read-only");
        assert_eq!(refusal.errno, Errno::EPERM, "{field}");
        assert_eq!(refusal.reason, Reason::ReadOnly { field });
        assert_eq!(rig.pending(), pending, "pending_bytes");

        let chunk = rig.look();
        assert!(rig.write(field.offset(), &[0; 8]).is_err());
        assert_eq!(rig.look(), chunk, "the chunk that was presented");
    }
}

#[test]
fn v1_08_the_data_section_is_a_page_after_the_header() {
    let mut rig = Rig::new(&pattern(3000), 1024);
    for state in [RUNNING, STOP, STOP_COPY, PRE_COPY] {
        rig.go(&[state]);
        assert_eq!(rig.offset(), 4096, "v1_13: data_offset in {state:#05b}");
        assert_eq!(rig.offset(), 4096, "v1_36: data_offset, read again");
    }
    rig.go(&[RESUMING]);
    assert_eq!(rig.offset(), 4096, "data_offset in RESUMING");
    assert_eq!(rig.size(), 0, "data_size in RESUMING");
    assert_eq!(rig.region.size(), 4096 + 1024, "size of the region");
}

#[test]
fn v1_12_a_chunk_ends_within_the_region() {
    for window in [256, 257, 1000, 4096, 8192] {
        for path in [vec![STOP_COPY], vec![PRE_COPY, STOP_COPY]] {
            let mut rig = Rig::new(&pattern(crate::common::STATE_SIZE), window);
            rig.go(&path);
            while rig.pending() > 0 {
                let end = rig.offset() + rig.size();
                assert!(
                    end <= rig.region.size(),
                    "{end} in a region of {}",
                    rig.region.size()
                );
            }
        }
    }
}

#[test]
fn v1_14_what_the_user_writes_to_the_window_does_not_harm_the_save() {
    let mut plain = Rig::new(&pattern(3000), 1024);
    let mut scribbled = Rig::new(&pattern(3000), 1024);
    for rig in [&mut plain, &mut scribbled] {
        rig.go(&[STOP_COPY]);
    }
    loop {
        scribbled.region.data_mut().bytes.fill(0xff);
        let pending = plain.pending();
        assert_eq!(scribbled.pending(), pending, "pending_bytes");
        scribbled.region.data_mut().bytes.fill(0xee);
        assert_eq!(scribbled.look(), plain.look(), "the chunk");
        if pending == 0 {
            break;
        }
    }
}

#[test]
fn v1_15_a_window_never_shows_another_sessions_bytes() {
    let blank = |rig: &Rig| rig.region.data().bytes.iter().all(|byte| *byte == 0);

    for end in [RUNNING, STOP, RESUMING] {
        let mut rig = Rig::new(&pattern(3000), 1024);
        rig.go(&[STOP_COPY]);
        rig.look();
        assert!(!blank(&rig), "there is a chunk");
        rig.go(&[end]);
        assert!(blank(&rig), "the window after the save");
    }

    let mut rig = Rig::new(&pattern(3000), 1024);
    rig.region.data_mut().bytes.fill(0x5a);
    rig.go(&[PRE_COPY]);
    assert!(blank(&rig), "the window as a save begins");

    let stream = stream_of(&pattern(300), 1024);
    for end in [RUNNING, STOP, STOP_COPY] {
        let mut rig = Rig::new(&[], 1024);
        rig.region.data_mut().bytes.fill(0x5a);
        rig.go(&[RESUMING]);
        assert!(blank(&rig), "the window as a resume begins");
        rig.give(&stream, 1024).expect("a good stream");
        rig.go(&[end]);
        assert!(blank(&rig), "the window after the resume");
    }
}

#[test]
fn v1_33_pending_read_has_no_side_effect() {
    let mut rig = Rig::new(&pattern(3000), 1024);
    rig.go(&[STOP_COPY]);
    let pending = rig.pending();
    for _ in 0..5 {
        assert_eq!(rig.pending(), pending, "pending_bytes, read again");
    }
    assert_eq!(rig.drain(), drained(3000, 1024), "the stream");
}

fn drained(len: usize, window: usize) -> Vec<u8> {
    let mut rig = Rig::new(&pattern(len), window);
    rig.go(&[STOP_COPY]);
    rig.drain()
}

#[test]
fn v1_34_pending_is_zero_outside_the_saving_states() {
    let mut rig = Rig::new(&pattern(3000), 1024);
    assert_eq!(rig.pending(), 0, "RUNNING");
    rig.go(&[PRE_COPY]);
    assert!(rig.pending() > 0, "PRE_COPY");
    rig.go(&[RUNNING]);
    assert_eq!(rig.pending(), 0, "after a cancel");
    rig.go(&[STOP]);
    assert_eq!(rig.pending(), 0, "STOP");
    rig.go(&[RESUMING]);
    assert_eq!(rig.pending(), 0, "RESUMING");
}

#[test]
fn v1_35_data_offset_presents_a_chunk_with_and_without_a_pending_read() {
    for pending_first in [false, true] {
        let mut rig = Rig::new(&pattern(3000), 1024);
        rig.go(&[STOP_COPY]);
        if pending_first {
            rig.pending();
        }
        assert_eq!(rig.size(), 0, "data_size before data_offset was read");
        assert_eq!(rig.offset(), WINDOW_OFFSET);
        let size = rig.size() as usize;
        assert!(size > 0, "data_size after data_offset was read");
        assert_eq!(
            rig.region.data().bytes[..size],
            drained(3000, 1024)[..size],
            "the data is there"
        );
    }
}

#[test]
fn v1_36_a_chunk_stays_until_pending_is_read() {
    let mut rig = Rig::new(&pattern(3000), 1024);
    rig.go(&[STOP_COPY]);
    rig.pending();
    let chunk = rig.look();
    for _ in 0..4 {
        assert_eq!(rig.look(), chunk, "the chunk, looked at again");
        assert_eq!(rig.size(), chunk.len() as u64, "data_size, read again");
    }
}

#[test]
fn v1_37_only_pending_after_data_offset_consumes() {
    let mut rig = Rig::new(&pattern(3000), 1024);
    rig.go(&[STOP_COPY]);
    let mut chunks = Vec::new();
    while rig.pending() > 0 {
        chunks.push(rig.look());
    }

    // Accesses (P: pending_bytes, O: data_offset, S: data_size) and the number of chunks that they consume.
    let sequences = [
        ("PPPOSP", 1),
        ("POSOSOSP", 1),
        ("PSP", 0),
        ("P", 0),
        ("OP", 1),
        ("O", 0),
        ("OSPOSP", 2),
        ("POOPSSPOP", 2),
    ];
    for (sequence, consumed) in sequences {
        let mut rig = Rig::new(&pattern(3000), 1024);
        rig.go(&[STOP_COPY]);
        for access in sequence.chars() {
            match access {
                'P' => drop(rig.pending()),
                'O' => drop(rig.offset()),
                _ => drop(rig.size()),
            }
        }

        assert_eq!(rig.look(), chunks[consumed], "the chunk after {sequence}");
        let left: usize = chunks[consumed + 1..].iter().map(Vec::len).sum();
        assert_eq!(
            rig.pending(),
            left as u64,
            "pending_bytes after {sequence} and a chunk"
        );
    }
}

#[test]
fn v1_39_pending_bytes_always_come_with_data() {
    for window in [256, 300, 1024, 4096] {
        for len in [0, 1, 100, 223, 224, 225, 2999, crate::common::STATE_SIZE] {
            let mut rig = Rig::new(&pattern(len), window);
            for state in [PRE_COPY, STOP_COPY] {
                rig.go(&[state]);
                loop {
                    let pending = rig.pending();
                    rig.offset();
                    let size = rig.size();
                    assert_eq!(size > 0, pending > 0, "{pending} pending, data_size {size}");
                    if pending == 0 {
                        break;
                    }
                }
            }
        }
    }
}

#[test]
fn v1_39_what_the_device_has_to_write_back_is_pending_with_data() {
    for window in [256, 1024] {
        let mut rig = Rig::new(&pattern(3000), window);
        let mut stream = Vec::new();
        rig.go(&[PRE_COPY]);
        stream.extend(rig.drain());
        for unwritten in [1, 40, 1 << 40, 4096] {
            rig.unit.unwritten = unwritten;
            let pending = rig.pending();
            assert!(
                pending > unwritten,
                "{unwritten} to be written back, {pending} pending"
            );
            // The write-back ends before the user asks for the data, which comes as it was told.
            rig.unit.unwritten = 0;
            let chunk = rig.look();
            assert!(!chunk.is_empty(), "{pending} pending, and no data");
            assert!(pending >= chunk.len() as u64, "{pending} pending");
            stream.extend(chunk);
            assert_eq!(rig.pending(), 0, "all was written back");
        }
        // One that the user does not acknowledge, and may have sent.
        rig.unit.unwritten = 1;
        assert!(rig.pending() > 0);
        let unacknowledged = rig.look();
        rig.go(&[STOP_COPY]);
        let rest = rig.drain();
        for chunk in [&[][..], &unacknowledged] {
            let mut stream = stream.clone();
            stream.extend(chunk);
            stream.extend(&rest);
            let mut destination = Rig::new(b"what was there", window);
            destination.go(&[RESUMING]);
            destination.give(&stream, window).expect("a good stream");
            destination.go(&[RUNNING]);
            assert_eq!(
                destination.unit.live,
                pattern(3000),
                "the state that arrived"
            );
        }
    }
}

#[test]
fn a_save_of_a_device_that_is_stopped_ends_whatever_was_to_be_written_back() {
    let mut rig = Rig::new(&pattern(300), 1024);
    rig.unit.unwritten = 1 << 30;
    rig.go(&[STOP_COPY]);
    assert!(!rig.drain().is_empty());
    assert_eq!(rig.pending(), 0);
    rig.go(&[RUNNING]);
    assert_eq!(rig.pending(), 0, "outside of a save");
}

#[test]
fn v1_40_pending_is_zero_in_stop_and_copy_at_the_end_and_not_before() {
    let mut rig = Rig::new(&pattern(3000), 1024);
    rig.go(&[PRE_COPY]);
    rig.drain();
    assert_eq!(rig.pending(), 0, "nothing is left in pre-copy");
    rig.go(&[STOP_COPY]);
    let mut pending = rig.pending();
    assert!(
        pending > 3000,
        "pending_bytes rises again in stop-and-copy: {pending}"
    );
    while pending > 0 {
        let chunk = rig.look().len() as u64;
        let left = rig.pending();
        assert_eq!(
            left,
            pending - chunk,
            "v1_41: pending_bytes shrinks by what was taken"
        );
        pending = left;
    }
}

#[test]
fn v1_41_pending_is_exactly_what_comes() {
    for window in [256, 257, 1000, 4096, 8192] {
        for len in (0..=600).chain([crate::common::STATE_SIZE]) {
            let mut rig = Rig::new(&pattern(len), window);
            for state in [PRE_COPY, STOP_COPY] {
                rig.go(&[state]);
                let pending = rig.pending();
                let seen = rig.drain().len() as u64;
                assert_eq!(
                    seen, pending,
                    "{state:#05b}, {len} bytes, window of {window}"
                );
            }
        }
    }
}

#[test]
fn v1_42_stop_and_copy_is_as_long_as_what_is_left() {
    // A device that may have 6000 bytes of state, and a pre-copy that was taken.
    for len in [0, 1, 500, 4000] {
        let mut rig = Rig::new(&pattern(len), 4096);
        rig.go(&[PRE_COPY]);
        rig.drain();
        rig.go(&[STOP_COPY]);
        let pieces = len.div_ceil(4096 - 32);
        let expected = pieces * 32 + len + 48;
        assert_eq!(rig.pending(), expected as u64, "{len} bytes of state");
    }
}

#[test]
fn v1_43_a_chunk_is_consumed_before_the_write_returns() {
    let stream = stream_of(&pattern(3000), 1024);
    let mut rig = Rig::new(&[], 1024);
    rig.go(&[RESUMING]);
    for chunk in stream.chunks(1000) {
        assert_eq!(rig.offset(), WINDOW_OFFSET, "data_offset");
        rig.give_chunk(chunk).expect("a part of a good stream");
        rig.region.data_mut().bytes.fill(0xff);
    }
    rig.go(&[RUNNING]);
    assert_eq!(rig.unit.live, pattern(3000));
}

#[test]
fn v1_45_a_size_that_is_too_large_is_an_error_and_changes_nothing() {
    let stream = stream_of(&pattern(300), 1024);
    for size in [1025, 4096, 1 << 31, 1 << 32, u64::MAX] {
        let mut rig = Rig::new(&[], 1024);
        rig.go(&[RESUMING]);
        let refusal = rig.commit(size).expect_err("a chunk that is too large");
        assert_eq!(refusal.errno, Errno::EMSGSIZE);
        assert_eq!(refusal.reason, Reason::ChunkTooLarge { size, most: 1024 });
        rig.give(&stream, 1024).expect("a good stream afterwards");
        rig.go(&[RUNNING]);
    }
}

#[test]
fn v1_45_zero_is_accepted_as_nothing() {
    let stream = stream_of(&pattern(300), 1024);
    let mut rig = Rig::new(&[], 1024);
    rig.go(&[RESUMING]);
    assert_eq!(rig.commit(0), Ok(()), "before the stream");
    for chunk in stream.chunks(50) {
        rig.give_chunk(chunk).expect("a part of a good stream");
        assert_eq!(rig.commit(0), Ok(()), "within the stream");
    }
    assert_eq!(rig.commit(0), Ok(()), "after the stream");
    rig.go(&[RUNNING]);
    assert_eq!(rig.unit.live, pattern(300));
}

#[test]
fn v1_45_data_size_is_written_in_resuming_only() {
    for state in [RUNNING, STOP, STOP_COPY, PRE_COPY] {
        for size in [0, 1, 1024, u64::MAX] {
            let mut rig = Rig::new(&pattern(100), 1024);
            rig.go(&[state]);
            let refusal = rig.commit(size).expect_err("not resuming");
            assert_eq!(refusal.errno, Errno::EINVAL, "{state:#05b}, {size}");
            assert!(matches!(refusal.reason, Reason::NotResuming { .. }));
        }
    }
}

#[test]
fn the_observer_sees_chunks_with_their_totals() {
    let mut source = Rig::new(&pattern(3000), 1024);
    source.go(&[STOP_COPY]);
    let stream = source.drain();
    let mut total = 0;
    for told in &source.seen.0 {
        if let Told::Chunk(state, size, seen) = told {
            total += size;
            assert_eq!((*state, *seen), (State::StopCopy, total));
        }
    }
    assert_eq!(total, stream.len() as u64, "bytes told of the save");

    let mut destination = Rig::new(&[], 1024);
    destination.go(&[RESUMING]);
    destination.give(&stream, 700).expect("a good stream");
    let sizes: Vec<_> = destination
        .seen
        .0
        .iter()
        .filter_map(|told| match told {
            Told::Chunk(State::Resuming, size, total) => Some((*size, *total)),
            _ => None,
        })
        .collect();
    let mut total = 0;
    for (size, seen) in sizes {
        total += size;
        assert_eq!(seen, total, "bytes told of the resume");
    }
    assert_eq!(total, stream.len() as u64);
}
