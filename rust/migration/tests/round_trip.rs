// SPDX-License-Identifier: GPL-2.0

//! Streams that go from a source to a destination: any data sections, any chunks, restarts, and
//! unacknowledged chunks.

use crate::common::errno;
use crate::common::pattern;
use crate::common::stream_of;
use crate::common::wire;
use crate::common::Rig;
use crate::common::PRE_COPY;
use crate::common::RESUMING;
use crate::common::RUNNING;
use crate::common::STATE_SIZE;
use crate::common::STOP;
use crate::common::STOP_COPY;
use proptest::collection::vec;
use proptest::prelude::*;
use vfio_uapi::Errno;

/// Gives `stream` to a new device in chunks whose sizes are `splits` over and over, and returns the
/// device's state.
fn arrives(stream: &[u8], window: usize, splits: &[usize]) -> Vec<u8> {
    let mut rig = Rig::new(b"what was there", window);
    rig.go(&[RESUMING]);
    let mut rest = stream;
    for size in splits.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, later) = rest.split_at(rest.len().min(*size).min(window));
        rig.give_chunk(chunk).expect("a part of a good stream");
        rest = later;
    }
    rig.go(&[RUNNING]);
    rig.unit.live
}

fn kinds(stream: &[u8]) -> Vec<u16> {
    let records = wire::parse(stream);
    records.iter().map(|record| record.kind).collect()
}

#[test]
fn v1_44_every_split_of_a_stream_arrives() {
    let stream = stream_of(&pattern(300), 256);
    for size in 1..=stream.len() {
        assert_eq!(
            arrives(&stream, 4096, &[size]),
            pattern(300),
            "chunks of {size} bytes"
        );
    }
    for at in 1..stream.len() {
        let seen = arrives(&stream, 4096, &[at, stream.len()]);
        assert_eq!(seen, pattern(300), "cut at {at}");
    }
}

#[test]
fn v1_44_every_length_of_state_arrives_through_every_window() {
    for window in [256, 257, 300, 511, 4096, 8192] {
        for len in (0..=600).step_by(7).chain([STATE_SIZE - 1, STATE_SIZE]) {
            let stream = stream_of(&pattern(len), window);
            let seen = arrives(&stream, 256, &[256]);
            assert!(
                seen == pattern(len),
                "{len} bytes through a window of {window}"
            );
        }
    }
}

#[test]
fn v1_38_a_chunk_in_doubt_is_covered_whether_it_was_taken_or_not() {
    for taken in [false, true] {
        let mut source = Rig::new(&pattern(500), 512);
        source.go(&[PRE_COPY]);
        source.pending();
        let unacknowledged = source.look();
        assert_eq!(
            kinds(&unacknowledged),
            [wire::HEADER],
            "the chunk of pre-copy"
        );
        source.go(&[STOP_COPY]);
        let rest = source.drain();
        assert_eq!(
            kinds(&rest)[..2],
            [wire::RESEND, wire::HEADER],
            "what follows"
        );

        let mut stream = if taken { unacknowledged } else { Vec::new() };
        stream.extend(rest);
        assert_eq!(
            arrives(&stream, 512, &[512]),
            pattern(500),
            "taken: {taken}"
        );
    }
}

#[test]
fn v1_38_a_chunk_that_was_taken_is_not_sent_again() {
    let mut source = Rig::new(&pattern(500), 512);
    source.go(&[PRE_COPY]);
    let mut stream = source.drain();
    source.go(&[STOP_COPY]);
    stream.extend(source.drain());
    let kinds = kinds(&stream);
    assert_eq!(kinds, [wire::HEADER, wire::STATE, wire::STATE, wire::END]);
}

#[test]
fn v1_38_a_chunk_in_doubt_that_begins_with_a_restart_is_covered_by_another() {
    for taken in [false, true] {
        let mut source = Rig::new(&pattern(500), 512);
        // A save that ends after HEADER.
        source.go(&[PRE_COPY]);
        let mut stream = source.drain();
        source.go(&[RUNNING, PRE_COPY]);
        source.pending();
        let unacknowledged = source.look();
        assert_eq!(kinds(&unacknowledged), [wire::RESTART, wire::HEADER]);
        source.go(&[STOP_COPY]);
        let rest = source.drain();
        assert_eq!(kinds(&rest)[..2], [wire::RESTART, wire::HEADER]);

        if taken {
            stream.extend(unacknowledged);
        }
        stream.extend(rest);
        assert_eq!(
            arrives(&stream, 512, &[512]),
            pattern(500),
            "taken: {taken}"
        );
    }
}

#[test]
fn v1_38_an_unread_header_is_still_to_come_in_stop_and_copy() {
    let mut source = Rig::new(&pattern(500), 1024);
    source.go(&[PRE_COPY]);
    source.pending();
    source.go(&[STOP_COPY]);
    let stream = source.drain();
    assert_eq!(kinds(&stream), [wire::HEADER, wire::STATE, wire::END]);
    assert_eq!(arrives(&stream, 512, &[512]), pattern(500));
}

#[test]
fn v1_47_stop_and_cont_during_pre_copy_restarts_the_stream() {
    // The number of chunks of the first stop-and-copy that are taken before the device runs on.
    for chunks in 0..=4 {
        let mut source = Rig::new(&pattern(2000), 1024);
        source.go(&[PRE_COPY]);
        let mut stream = source.drain();
        source.go(&[STOP_COPY]);
        for _ in 0..chunks {
            source.pending();
            stream.extend(source.look());
        }
        source.go(&[RUNNING]);
        source.unit.live = pattern(1500);
        source.go(&[STOP, STOP_COPY]);
        stream.extend(source.drain());

        let seen = arrives(&stream, 1024, &[1024]);
        assert_eq!(
            seen,
            pattern(1500),
            "after {chunks} chunks of the first save"
        );
    }
}

#[test]
fn v1_47_a_return_to_pre_copy_restarts_the_stream() {
    let mut source = Rig::new(&pattern(2000), 1024);
    source.go(&[PRE_COPY, STOP_COPY]);
    let mut stream = source.drain();
    source.go(&[PRE_COPY]);
    source.unit.live = pattern(700);
    stream.extend(source.drain());
    source.go(&[STOP_COPY]);
    stream.extend(source.drain());

    let records = wire::parse(&stream);
    let restart = records.iter().find(|record| record.kind == wire::RESTART);
    assert_eq!(
        restart.map(|record| record.argument),
        Some(2),
        "the second generation"
    );
    assert_eq!(arrives(&stream, 1024, &[1024]), pattern(700));
}

#[test]
fn v1_47_a_restart_takes_a_complete_save_back() {
    let mut source = Rig::new(&pattern(200), 1024);
    source.go(&[STOP_COPY]);
    let first = source.drain();
    source.go(&[STOP, STOP_COPY]);
    let second = source.drain();

    let mut rig = Rig::new(&[], 1024);
    rig.go(&[RESUMING]);
    rig.give(&first, 1024).expect("a good stream");
    assert!(rig.unit.staged.is_some(), "a complete save is staged");
    rig.give(&second[..32], 1024).expect("the restart");
    assert_eq!(rig.unit.staged, None, "what is staged after a restart");
    assert_eq!(
        errno(rig.set(RUNNING)),
        Some(Errno::ENODATA),
        "half a stream"
    );
    rig.give(&second[32..], 1024).expect("the rest");
    rig.go(&[RUNNING]);
}

#[test]
fn v1_28_a_cancelled_save_is_followed_by_a_good_one() {
    let mut source = Rig::new(&pattern(2000), 1024);
    for cancelled in 0..5 {
        source.go(&[PRE_COPY]);
        source.look();
        source.go(&[STOP_COPY]);
        source.look();
        source.go(&[RUNNING]);
        assert!(
            source.unit.running,
            "the device runs on after cancel {cancelled}"
        );
    }
    source.go(&[PRE_COPY, STOP_COPY]);
    let stream = source.drain();
    assert_eq!(
        kinds(&stream)[0],
        wire::RESTART,
        "the first record of a later save"
    );
    assert_eq!(arrives(&stream, 1024, &[1024]), pattern(2000));
}

#[test]
fn generations_go_on_over_a_reset() {
    let mut source = Rig::new(&pattern(200), 1024);
    source.go(&[STOP_COPY]);
    let mut stream = source.drain();
    source.reset();
    source.unit.live = pattern(333);
    source.go(&[STOP_COPY]);
    stream.extend(source.drain());
    assert_eq!(arrives(&stream, 1024, &[1024]), pattern(333));
}

#[test]
fn a_device_migrates_there_and_back() {
    let mut one = Rig::new(&pattern(1234), 512);
    let mut other = Rig::new(&[], 300);
    for _ in 0..3 {
        one.go(&[PRE_COPY]);
        let mut stream = one.drain();
        one.go(&[STOP_COPY]);
        stream.extend(one.drain());
        one.go(&[STOP]);

        other.go(&[RESUMING]);
        other.give(&stream, 300).expect("a good stream");
        other.go(&[RUNNING]);
        assert_eq!(other.unit.live, pattern(1234));
        one.unit.live.clear();
        std::mem::swap(&mut one, &mut other);
        // Like a user that opens its device again for the way back.
        other = Rig::new(&[], 300);
    }
}

/// A step of a user on the way; it may find the device in any state.
#[derive(Clone, Debug)]
enum Act {
    Go {
        word: u32,
    },
    /// Takes a chunk; `told`: reads `pending_bytes` afterwards.
    Take {
        told: bool,
    },
    /// Presents a chunk and drops it, without reading `pending_bytes`.
    Drop,
    /// The device changes its state.
    Live {
        len: usize,
    },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => prop_oneof![Just(STOP), Just(RUNNING), Just(STOP_COPY), Just(PRE_COPY)]
            .prop_map(|word| Act::Go { word }),
        4 => any::<bool>().prop_map(|told| Act::Take { told }),
        1 => Just(Act::Drop),
        1 => (0..STATE_SIZE).prop_map(|len| Act::Live { len }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn v1_38_v1_47_any_way_through_the_saving_states_gives_a_valid_stream(
        acts in vec(act(), 0..30),
        source_window in 256..5000usize,
        destination_window in 1..5000usize,
        splits in vec(1..5000usize, 1..10),
    ) {
        let mut source = Rig::new(&pattern(1000), source_window);
        let mut stream = Vec::new();
        // A presented chunk that was dropped is unacknowledged until it is presented again.
        for act in acts {
            match act {
                Act::Go { word } => source.go(&[word]),
                Act::Take { told } => {
                    if source.engine.state().is_saving() && source.pending() > 0 {
                        stream.extend(source.look());
                        if told {
                            source.pending();
                        }
                    }
                }
                Act::Drop => {
                    // The chunk is dropped for good: the user enters another saving state at once.
                    if source.word() == PRE_COPY && source.pending() > 0 {
                        source.look();
                        source.go(&[STOP_COPY]);
                    }
                }
                Act::Live { len } => {
                    if source.unit.running {
                        source.unit.live = pattern(len);
                    }
                }
            }
        }
        if source.word() != STOP_COPY {
            source.go(&[STOP_COPY]);
        }
        stream.extend(source.drain());

        let seen = arrives(&stream, destination_window.max(256), &splits);
        prop_assert!(seen == source.unit.live, "the state that arrived differs");
    }
}
