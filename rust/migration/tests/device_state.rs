// SPDX-License-Identifier: GPL-2.0

//! The `device_state` field: the complete enumeration of states, requests and faults of the device
//! against a plain model, and the statements 16 to 32 of the protocol one by one.

use crate::common::errno;
use crate::common::pattern;
use crate::common::refused_before;
use crate::common::stream_of;
use crate::common::Disk;
use crate::common::Faults;
use crate::common::Rig;
use crate::common::Told;
use crate::common::ERROR;
use crate::common::FAIL_ADOPT;
use crate::common::FAIL_SAVE;
use crate::common::FAIL_START;
use crate::common::FAIL_STOP;
use crate::common::FAIL_TRACK;
use crate::common::PRE_COPY;
use crate::common::RESUMING;
use crate::common::RUNNING;
use crate::common::STOP;
use crate::common::STOP_COPY;
use migration::transition::Step;
use migration::Reason;
use vfio_uapi::v1::State;
use vfio_uapi::Errno;

const WINDOW: usize = 4096;

/// Values of bits 3 to 31.
const RESERVED: [u32; 3] = [0, 0xffff_fff8, 0xa5a5_a5a0];

/// All words that can be read.
const STATES: [u32; 6] = [STOP, RUNNING, STOP_COPY, PRE_COPY, RESUMING, ERROR];

/// Blocks that a device with storage has.
const BLOCKS: u64 = 5;

/// Returns a rig in the state `word`; in RESUMING with a whole stream if it is to be `complete`.
fn arrive(word: u32, complete: bool) -> Rig {
    bring(Rig::new(&pattern(100), WINDOW), word, complete)
}

/// As [`arrive`], of a device with storage.
fn arrive_with_storage(word: u32, complete: bool) -> Rig {
    let mut rig = Rig::with_disk(&pattern(100), WINDOW, BLOCKS);
    rig.disk().write(4096, &pattern(6000));
    bring(rig, word, complete)
}

/// The stream that completes a resume of `rig`.
fn complete_stream(rig: &Rig) -> Vec<u8> {
    if rig.unit.disk.is_none() {
        return stream_of(&pattern(200), WINDOW);
    }

    let mut source = Rig::with_disk(&pattern(200), WINDOW, BLOCKS);
    source.disk().write(0, &pattern(9000));
    source.go(&[STOP_COPY]);
    source.drain()
}

fn bring(mut rig: Rig, word: u32, complete: bool) -> Rig {
    let reserved = word & !7;

    match word & 7 {
        ERROR => {
            rig.go(&[PRE_COPY | reserved]);
            rig.unit.faults.save = true;
            rig.unit.faults.start = true;
            assert_eq!(errno(rig.set(STOP_COPY)), Some(Errno::EIO), "breaking");
            rig.unit.faults = Faults::default();
        }
        RESUMING => {
            rig.go(&[word]);
            if complete {
                let stream = complete_stream(&rig);
                rig.give(&stream, 999).expect("a good stream");
            }
        }
        _ => rig.go(&[word]),
    }
    assert_eq!(rig.word(), word, "arriving");

    rig.unit.calls.clear();
    rig.seen.0.clear();
    rig
}

/// The outcome of a write of `device_state`.
#[derive(Debug, PartialEq)]
struct Outcome {
    errno: Option<Errno>,
    word: u32,
    running: bool,
    /// Whether the device has storage that is tracked.
    tracked: bool,
    calls: Vec<&'static str>,
}

/// The reference model: the bits of the states, and the first fault on the way.
fn model(word: u32, request: u32, faults: Faults, complete: bool, storage: bool) -> Outcome {
    let old = word & 7;
    let new = request & 7;
    let goes = |bit: u32| old & bit != 0 && new & bit == 0;
    let comes = |bit: u32| old & bit == 0 && new & bit != 0;
    let mut calls = Vec::new();

    let refused = |errno, calls| Outcome {
        errno: Some(errno),
        word,
        running: old != ERROR && old & 1 != 0,
        tracked: storage && old != ERROR && old & 2 != 0,
        calls,
    };
    let broken = |calls| Outcome {
        errno: Some(Errno::EIO),
        word: (word & !7) | ERROR,
        running: false,
        tracked: false,
        calls,
    };
    // A fault after the device was stopped: it is started again, or it is broken.
    let back = |errno, mut calls: Vec<_>| {
        if !goes(1) {
            return refused(errno, calls);
        }
        calls.push("start");
        if faults.start {
            return broken(calls);
        }
        refused(errno, calls)
    };

    if old == ERROR {
        return refused(Errno::EIO, calls);
    }
    if new >= 5 {
        return refused(Errno::EINVAL, calls);
    }
    if goes(1) {
        calls.push("stop");
        if faults.stop {
            return match faults.irreversible {
                true => broken(calls),
                false => refused(FAIL_STOP, calls),
            };
        }
    }
    if goes(4) {
        if !complete {
            return back(Errno::ENODATA, calls);
        }
        calls.push("adopt");
        if faults.adopt {
            if !faults.irreversible {
                return back(FAIL_ADOPT, calls);
            }
            calls.push("unstage");
            return broken(calls);
        }
    }
    if (comes(4) || comes(2)) && faults.configuration {
        return back(Errno::EIO, calls);
    }
    if comes(2) && storage && faults.track {
        return back(FAIL_TRACK, calls);
    }
    if new == STOP_COPY && old != STOP_COPY {
        calls.push("save");
        if faults.save {
            return match faults.irreversible {
                true => broken(calls),
                false => back(FAIL_SAVE, calls),
            };
        }
    }
    if comes(1) {
        calls.push("start");
        if faults.start {
            return match faults.irreversible {
                true => broken(calls),
                false => refused(FAIL_START, calls),
            };
        }
    }
    Outcome {
        errno: None,
        word: request,
        running: new & 1 != 0,
        tracked: storage && new & 2 != 0,
        calls,
    }
}

fn each_fault() -> impl Iterator<Item = Faults> {
    (0..32).map(|bits| Faults {
        stop: bits & 1 != 0,
        start: bits & 2 != 0,
        save: bits & 4 != 0,
        configuration: bits & 8 != 0,
        track: bits & 16 != 0,
        ..Faults::default()
    })
}

/// Checks that the session of the rig goes on as if nothing had happened.
fn goes_on(rig: &mut Rig, complete: bool) {
    let live = rig.unit.live.clone();
    let content = |rig: &Rig| rig.unit.disk.as_ref().map(Disk::content);
    let before = content(rig);
    let state = rig.word() & 7;
    if state & STOP_COPY == 0 || state == ERROR {
        assert_eq!(rig.pending(), 0, "v1_34: pending_bytes in {state:#05b}");
    }
    if state != RESUMING {
        assert!(rig.commit(0).is_err(), "v1_45: data_size in {state:#05b}");
    }
    match state {
        STOP_COPY | PRE_COPY => {
            rig.go(&[STOP_COPY]);
            let stream = rig.drain();
            let mut destination = Rig::new(&[], WINDOW);
            if rig.unit.disk.is_some() {
                destination = Rig::with_disk(&[], WINDOW, BLOCKS);
            }
            destination.go(&[RESUMING]);
            destination.give(&stream, WINDOW).expect("a good stream");
            destination.go(&[RUNNING]);
            assert_eq!(destination.unit.live, live, "the state that arrived");
            assert_eq!(content(&destination), before, "the storage that arrived");
        }
        RESUMING => {
            if !complete {
                let stream = complete_stream(rig);
                rig.give(&stream, WINDOW).expect("a good stream");
            }
            rig.go(&[RUNNING]);
            assert_eq!(rig.unit.live, pattern(200), "the state that arrived");
            if let Some(content) = content(rig) {
                let blocks: Vec<_> = content.keys().collect();
                assert_eq!(blocks, [&0, &1, &2], "the storage that arrived");
            }
        }
        ERROR => {
            rig.reset();
            assert_eq!(rig.word(), RUNNING, "after a reset");
            assert!(rig.unit.running, "after a reset");
        }
        _ => rig.go(&[STOP, RUNNING, RESUMING]),
    }
}

#[test]
fn v1_25_every_state_request_and_fault_comes_to_what_the_model_says() {
    let mut cases = 0;
    for state in STATES {
        for complete in [false, true] {
            if complete && state != RESUMING {
                continue;
            }
            for word in RESERVED.map(|reserved| state | reserved) {
                for request in (0..8).flat_map(|bits| RESERVED.map(|reserved| bits | reserved)) {
                    for faults in each_fault() {
                        for storage in [false, true] {
                            check(word, request, faults, complete, storage);
                            cases += 1;
                        }
                    }
                }
            }
        }
    }
    assert_eq!(cases, 7 * 3 * 24 * 32 * 2, "cases checked");
}

/// A step of real hardware may fail half way: there is no way back, and the engine calls nothing after it but
/// `unstage`. Adopting may fail, too, and leaves the received state staged.
#[test]
fn v1_20_every_step_that_cannot_be_taken_back_is_the_error_state() {
    for state in STATES {
        for complete in [false, state == RESUMING] {
            for request in 0..8 {
                for bits in 0..32 {
                    let faults = Faults {
                        stop: bits & 1 != 0,
                        start: bits & 2 != 0,
                        save: bits & 4 != 0,
                        adopt: bits & 8 != 0,
                        irreversible: bits & 16 != 0,
                        ..Faults::default()
                    };
                    for storage in [false, true] {
                        check(state, request, faults, complete, storage);
                    }
                }
            }
        }
    }
}

#[test]
fn the_refusal_of_a_step_that_cannot_be_taken_back_says_so() {
    let mut rig = arrive(RUNNING, false);
    rig.unit.faults = Faults {
        stop: true,
        irreversible: true,
        ..Faults::default()
    };
    let refusal = rig.set(STOP).expect_err("a stop that fails half way");
    let (step, errno) = (Step::Stop, FAIL_STOP);
    assert_eq!(refusal.reason, Reason::Irreversible { step, errno });
    assert_eq!(rig.unit.calls, ["stop"], "nothing is undone");
}

fn check(word: u32, request: u32, faults: Faults, complete: bool, storage: bool) {
    let case =
        format!("{word:#x} to {request:#x}, {faults:?}, complete: {complete}, storage: {storage}");
    let expected = model(word, request, faults, complete, storage);

    let mut rig = match storage {
        false => arrive(word, complete),
        true => arrive_with_storage(word, complete),
    };
    rig.unit.faults = faults;
    let result = rig.set(request);
    let told = std::mem::take(&mut rig.seen.0);
    let seen = Outcome {
        errno: errno(result),
        word: rig.word(),
        running: rig.unit.running,
        tracked: rig
            .unit
            .disk
            .as_ref()
            .is_some_and(|disk| disk.dirty.is_some()),
        calls: rig.unit.calls.clone(),
    };
    assert_eq!(seen, expected, "{case}");
    assert_eq!(rig.engine.state().is_running(), expected.running, "{case}");
    assert_eq!(rig.engine.state().bits(), expected.word & 7, "{case}");

    // The engine reports valid requests for another state as transitions, every refusal as a refusal.
    let state_of = |bits| {
        let mut states = State::VALID.into_iter().chain([State::Error]);
        states.find(|state| state.bits() == bits).expect("a state")
    };
    let from = state_of(word & 7);
    let mut expected_told = Vec::new();
    let (old, new) = (word & 7, request & 7);
    if old != ERROR && new < 5 && old != new {
        let reached = if expected.word & 7 == ERROR {
            ERROR
        } else {
            new
        };
        let result = expected.errno.map_or(Ok(()), Err);
        expected_told.push(Told::State(from, state_of(reached), result));
    }
    if let Err(refusal) = result {
        expected_told.push(Told::Refused(from, refusal));
    }
    assert_eq!(told, expected_told, "{case}");

    rig.unit.faults = Faults::default();
    goes_on(&mut rig, complete);
}

#[test]
fn v1_16_reserved_bits_read_as_last_written() {
    let mut rig = Rig::new(&[], WINDOW);
    for word in [
        PRE_COPY | 0xf0,
        STOP_COPY | 0xf8,
        STOP,
        STOP | 0x8000_0000,
        RUNNING | 8,
    ] {
        rig.go(&[word]);
        assert_eq!(rig.word(), word, "device_state after it was written");
    }
    rig.reset();
    assert_eq!(rig.word(), RUNNING, "device_state after a reset");
}

#[test]
fn v1_17_the_default_is_running() {
    let mut rig = Rig::new(&[], WINDOW);
    assert_eq!(rig.word(), RUNNING, "device_state after open");
    assert!(rig.engine.state().is_running());
    assert!(rig.unit.calls.is_empty(), "calls of the device by an open");
}

#[test]
fn v1_18_states_that_do_not_exist_are_refused() {
    for state in [STOP, RUNNING, STOP_COPY, PRE_COPY, RESUMING] {
        for request in [0b101, 0b110, 0b111] {
            let mut rig = arrive(state, false);
            let refusal = rig.set(request).expect_err("an invalid state");
            assert_eq!(refusal.errno, Errno::EINVAL, "{request:#05b}");
            assert_eq!(refusal.reason, Reason::InvalidState { word: request });
            assert_eq!(rig.word(), state, "device_state after {request:#05b}");
            assert!(rig.unit.calls.is_empty(), "calls of the device");
        }
    }
}

#[test]
fn v1_19_the_device_is_stopped_when_the_write_returns() {
    for state in [STOP, STOP_COPY, RESUMING] {
        for from in [RUNNING, PRE_COPY] {
            let mut rig = arrive(from, false);
            rig.go(&[state]);
            assert!(!rig.unit.running, "{from:#05b} to {state:#05b}");
        }
    }
}

#[test]
fn v1_20_a_failed_write_leaves_the_previous_state() {
    let mut rig = arrive(PRE_COPY, false);
    rig.unit.faults.save = true;
    assert_eq!(errno(rig.set(STOP_COPY)), Some(FAIL_SAVE));
    assert_eq!(rig.word(), PRE_COPY, "device_state");
    assert!(rig.unit.running, "the device runs on");
}

#[test]
fn v1_20_what_cannot_be_unwound_is_the_error_state() {
    let mut rig = arrive(PRE_COPY, false);
    rig.unit.faults.save = true;
    rig.unit.faults.start = true;
    let refusal = rig.set(STOP_COPY).expect_err("a broken device");
    assert_eq!(refusal.errno, Errno::EIO);
    assert!(
        matches!(
            refusal.reason,
            Reason::NotUnwound {
                errno: FAIL_SAVE,
                undo_errno: FAIL_START,
                ..
            }
        ),
        "{refusal:?}"
    );
    assert_eq!(rig.word(), ERROR, "device_state");
}

#[test]
fn v1_21_a_reset_works_from_any_state_and_gives_running() {
    for state in STATES {
        for complete in [false, true] {
            let mut rig = arrive(state | 0xf0, complete);
            rig.region.data_mut().bytes.fill(0x5a);
            rig.reset();
            assert_eq!(
                rig.word(),
                RUNNING,
                "device_state after a reset in {state:#05b}"
            );
            assert!(rig.unit.running, "the device runs");
            assert_eq!(rig.unit.staged, None, "a staged state");
            assert_eq!(rig.pending(), 0, "pending_bytes");
            assert_eq!(rig.size(), 0, "data_size");
            assert!(
                rig.region.data().bytes.iter().all(|byte| *byte == 0),
                "v1_15: the window"
            );
        }
    }
}

#[test]
fn v1_21_the_error_state_is_left_by_a_reset_only() {
    for request in 0..8 {
        let mut rig = arrive(ERROR | 0xf0, false);
        assert_eq!(
            errno(rig.set(request)),
            Some(Errno::EIO),
            "writing {request:#05b}"
        );
        assert_eq!(rig.word(), ERROR | 0xf0, "device_state");
        assert!(rig.unit.calls.is_empty(), "calls of the device");
        assert_eq!(errno(rig.try_offset()), Some(Errno::EIO), "data_offset");
        assert_eq!(errno(rig.try_size()), Some(Errno::EIO), "data_size");
        assert_eq!(errno(rig.commit(0)), Some(Errno::EIO), "writing data_size");
        assert_eq!(rig.pending(), 0, "v1_34: pending_bytes");
    }
}

#[test]
fn v1_22_nothing_but_writes_and_resets_changes_the_state() {
    for state in STATES {
        let mut rig = arrive(state, true);
        for _ in 0..3 {
            rig.pending();
            let _ = rig.try_offset();
            let _ = rig.try_size();
            let _ = rig.commit(32);
            assert_eq!(
                rig.word(),
                state,
                "device_state after reads and a write of data_size"
            );
        }
    }
}

#[test]
fn v1_23_the_drawn_arcs_work() {
    arrive(RUNNING, false).go(&[STOP]);
    arrive(RUNNING, false).go(&[STOP_COPY, STOP]);
    arrive(RUNNING, false).go(&[PRE_COPY, STOP_COPY, STOP]);
    arrive(RESUMING, true).go(&[RUNNING]);
}

#[test]
fn v1_24_the_arcs_that_qemu_uses_work() {
    arrive(STOP, false).go(&[STOP_COPY, RUNNING]);
    arrive(STOP, false).go(&[RESUMING]);
    arrive(STOP, false).go(&[RUNNING]);
    arrive(PRE_COPY, false).go(&[RUNNING]);
    arrive(PRE_COPY, false).go(&[STOP]);
    arrive(RESUMING, true).go(&[STOP]);
    arrive(PRE_COPY, false).go(&[STOP_COPY, RUNNING, STOP, STOP_COPY]);
}

#[test]
fn v1_25_a_failed_start_goes_back_to_the_save_that_was() {
    let mut rig = Rig::new(&pattern(3000), 1024);
    rig.go(&[STOP_COPY]);
    rig.pending();
    let first = rig.look();
    let pending = rig.pending();

    rig.unit.faults.start = true;
    let second = rig.look();
    for request in [RUNNING, PRE_COPY] {
        assert_eq!(errno(rig.set(request)), Some(FAIL_START));
        assert_eq!(rig.word(), STOP_COPY, "device_state");
        assert_eq!(rig.look(), second, "the chunk that was presented");
    }
    assert_eq!(
        first.len() as u64 + pending,
        stream_of_stop_and_copy(3000, 1024) as u64
    );

    let mut stream = [first, second].concat();
    stream.extend(rig.drain());
    let mut destination = Rig::new(&[], 1024);
    destination.go(&[RESUMING]);
    destination
        .give(&stream, 1024)
        .expect("the stream goes on where it was");
    destination.go(&[RUNNING]);
    assert_eq!(destination.unit.live, pattern(3000));
}

fn stream_of_stop_and_copy(len: usize, window: usize) -> usize {
    let mut rig = Rig::new(&pattern(len), window);
    rig.go(&[STOP_COPY]);
    rig.drain().len()
}

#[test]
fn v1_25_a_failed_start_goes_back_to_the_resume_that_was() {
    let mut rig = arrive(RESUMING, true);
    rig.unit.faults.start = true;
    assert_eq!(errno(rig.set(RUNNING)), Some(FAIL_START));
    assert_eq!(rig.word(), RESUMING, "device_state");
    assert!(!rig.unit.running, "the device is stopped");

    rig.unit.faults.start = false;
    rig.go(&[RUNNING]);
    assert_eq!(
        rig.unit.calls,
        ["adopt", "start", "start"],
        "the state is adopted once"
    );
    assert_eq!(rig.unit.live, pattern(200));
}

#[test]
fn v1_25_a_resume_that_was_put_back_takes_another_stream() {
    let mut rig = arrive(RESUMING, true);
    rig.unit.faults.start = true;
    assert_eq!(errno(rig.set(RUNNING)), Some(FAIL_START));
    rig.unit.faults.start = false;

    let mut source = Rig::new(&pattern(300), WINDOW);
    source.go(&[STOP_COPY, STOP, STOP_COPY]);
    let second = source.drain();
    rig.give(&second[..40], 40)
        .expect("a part of a good stream");
    assert_eq!(
        errno(rig.set(RUNNING)),
        Some(Errno::ENODATA),
        "half a stream"
    );
    rig.give(&second[40..], WINDOW).expect("the rest");
    rig.go(&[RUNNING]);
    assert_eq!(rig.unit.live, pattern(300));
}

#[test]
fn v1_26_a_write_of_the_same_state_has_no_side_effect() {
    for state in [STOP, RUNNING, STOP_COPY, PRE_COPY, RESUMING] {
        let mut rig = arrive(state, true);
        rig.region.data_mut().bytes[7] = 0x5a;
        rig.go(&[state, state | 0xf0]);
        assert!(rig.unit.calls.is_empty(), "calls of the device");
        assert_eq!(rig.region.data().bytes[7], 0x5a, "the window");
        assert_eq!(rig.word(), state | 0xf0, "v1_16: reserved bits");
        assert!(rig.seen.0.is_empty(), "told: {:?}", rig.seen.0);
    }
}

#[test]
fn v1_26_stop_and_copy_goes_on_after_a_write_of_itself() {
    let mut rig = Rig::new(&pattern(3000), 1024);
    rig.go(&[STOP_COPY]);
    let mut stream = Vec::new();
    while rig.pending() > 0 {
        rig.go(&[STOP_COPY]);
        let chunk = rig.look();
        rig.go(&[STOP_COPY]);
        assert_eq!(
            rig.look(),
            chunk,
            "the chunk after a write of the same state"
        );
        stream.extend(chunk);
    }
    assert_eq!(rig.unit.calls, ["stop", "save"], "the state is taken once");
    assert_eq!(stream.len(), stream_of_stop_and_copy(3000, 1024));
}

#[test]
fn v1_27_running_to_stop_is_supported() {
    let mut rig = arrive(RUNNING, false);
    rig.go(&[STOP, RUNNING]);
    assert_eq!(rig.unit.calls, ["stop", "start"]);
}

#[test]
fn v1_27_pre_copy_is_accepted_with_nothing_to_send() {
    let mut rig = arrive(PRE_COPY, false);
    rig.drain();
    assert_eq!(rig.pending(), 0, "pending_bytes");
    assert_eq!(rig.look(), b"", "a chunk when nothing is pending");
    rig.go(&[STOP_COPY]);
    assert!(rig.pending() > 0, "pending_bytes in stop-and-copy");
}

#[test]
fn v1_28_a_saving_state_is_left_with_data_unread() {
    for path in [vec![STOP_COPY], vec![PRE_COPY], vec![PRE_COPY, STOP_COPY]] {
        for target in [RUNNING, STOP, RESUMING] {
            for look in [false, true] {
                let mut rig = Rig::new(&pattern(3000), 1024);
                rig.go(&path);
                rig.pending();
                if look {
                    rig.look();
                }
                rig.go(&[target]);
                assert_eq!(rig.pending(), 0, "pending_bytes after the save");
                assert_eq!(rig.size(), 0, "data_size after the save");
                assert_eq!(rig.unit.live, pattern(3000), "the device's state");
                assert!(
                    rig.region.data().bytes.iter().all(|byte| *byte == 0),
                    "v1_15: the window after the save"
                );
            }
        }
    }
}

#[test]
fn v1_30_resuming_is_left_with_a_complete_stream_only() {
    for target in [RUNNING, STOP, STOP_COPY, PRE_COPY] {
        let mut rig = arrive(RESUMING, false);
        let refusal = rig.set(target).expect_err("no stream at all");
        assert_eq!(refusal.errno, Errno::ENODATA);
        assert_eq!(rig.word(), RESUMING, "device_state");
        assert!(rig.unit.calls.is_empty(), "calls of the device");

        let mut rig = arrive(RESUMING, true);
        assert_eq!(
            rig.unit.live,
            pattern(100),
            "the live device before RESUMING is left"
        );
        rig.go(&[target]);
        assert_eq!(rig.unit.live, pattern(200), "the live device after it");
    }
}

#[test]
fn v1_30_a_state_that_the_device_refuses_is_refused_at_data_size() {
    let mut rig = arrive(RESUMING, false);
    let stream = stream_of(&pattern(200), WINDOW);
    rig.unit.faults.stage = true;
    let refusal = rig
        .give(&stream, WINDOW)
        .expect_err("a state that is refused");
    assert_eq!(refusal.errno, crate::common::FAIL_STAGE);
    rig.unit.faults.stage = false;
    let before = Err(refused_before(refusal));
    assert_eq!(rig.set(RUNNING), before, "leaving RESUMING");
    assert_eq!(rig.give(&stream, WINDOW), before, "more data");
    assert_eq!(rig.unit.live, pattern(100), "the live device");
}

#[test]
fn v1_32_a_new_open_is_fresh() {
    let mut rig = arrive(STOP_COPY | 0xf0, false);
    rig.look();
    let mut next = Rig::new(&rig.unit.live, WINDOW);
    assert_eq!(next.word(), RUNNING, "device_state");
    assert_eq!(next.pending(), 0, "pending_bytes");
    next.go(&[STOP_COPY]);
    let records = crate::common::wire::parse(&next.drain());
    assert_eq!(
        (records[0].kind, records[0].argument),
        (crate::common::wire::HEADER, 1),
        "the first record of an open and its generation"
    );
}

#[test]
fn a_device_that_saves_more_than_it_may_is_refused() {
    let mut rig = arrive(PRE_COPY, false);
    rig.unit.faults.excess = true;
    let refusal = rig.set(STOP_COPY).expect_err("too long a state");
    let most = crate::common::STATE_SIZE;
    let len = most + 1;
    assert_eq!(refusal.reason, Reason::StateTooLong { len, most });
    assert_eq!(refusal.errno, Errno::EIO);
    assert_eq!(rig.word(), PRE_COPY, "device_state");
    assert!(rig.unit.running, "the device runs on");
}

#[test]
fn sessions_do_not_begin_where_memory_is_too_small() {
    let mut rig = Rig::new(&pattern(10), 255);
    let refusal = rig.set(STOP_COPY).expect_err("a window of 255 bytes");
    let reason = Reason::WindowTooSmall {
        size: 255,
        least: 256,
    };
    assert_eq!((refusal.errno, refusal.reason), (Errno::EIO, reason));
    assert_eq!(rig.word(), RUNNING, "device_state");
    assert!(rig.unit.running, "the device runs on");

    for request in [STOP_COPY, RESUMING] {
        let mut rig = Rig::new(&pattern(10), WINDOW);
        let size = crate::common::STATE_SIZE - 1;
        rig.engine = migration::Engine::new(vec![0; size]);
        let refusal = rig.set(request).expect_err("a small state buffer");
        let least = crate::common::STATE_SIZE;
        assert_eq!(refusal.reason, Reason::BufferTooSmall { size, least });
        assert_eq!(rig.word(), RUNNING, "device_state");
    }
}
