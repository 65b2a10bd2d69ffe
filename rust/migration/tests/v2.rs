// SPDX-License-Identifier: GPL-2.0

//! Protocol v2: its states, and the stream through a file.

use crate::common::errno;
use crate::common::pattern;
use crate::common::reason;
use crate::common::stream_of;
use crate::common::wire;
use crate::common::Content;
use crate::common::Faults;
use crate::common::Memory;
use crate::common::Rig;
use crate::common::Told;
use crate::common::FAIL_P2P;
use crate::common::FAIL_STAGE;
use crate::common::PRE_COPY;
use crate::common::RESUMING;
use crate::common::RUNNING;
use crate::common::STATE_SIZE;
use crate::common::STOP_COPY;
use migration::v1::MigrationRegion;
use migration::v2::file::data_size;
use migration::v2::file::Read;
use migration::v2::fsm;
use migration::v2::fsm::engine_state;
use migration::Reason;
use migration::Refusal;
use migration::BLOCK_SIZE;
use proptest::collection::vec;
use proptest::prelude::*;
use vfio_uapi::v1::State;
use vfio_uapi::v2::MigState;
use vfio_uapi::v2::PrecopyInfo;
use vfio_uapi::Errno;

const BLOCK: u64 = BLOCK_SIZE as u64;

/// The states that a user may request.
pub const STATES: [MigState; 7] = [
    MigState::Stop,
    MigState::Running,
    MigState::StopCopy,
    MigState::Resuming,
    MigState::RunningP2p,
    MigState::PreCopy,
    MigState::PreCopyP2p,
];

/// The arcs of the kernel where all features are supported, from the comment of
/// `vfio_mig_get_next_state()`, and the calls of the device on each.
const ARCS: [(MigState, MigState, &[&str]); 15] = [
    (MigState::Resuming, MigState::Stop, &["adopt"]),
    (MigState::Stop, MigState::Resuming, &[]),
    (MigState::Stop, MigState::StopCopy, &["save"]),
    (MigState::StopCopy, MigState::Stop, &[]),
    (MigState::Running, MigState::RunningP2p, &["p2p"]),
    (MigState::RunningP2p, MigState::Running, &["not p2p"]),
    (MigState::RunningP2p, MigState::Stop, &["stop", "not p2p"]),
    (MigState::Stop, MigState::RunningP2p, &["p2p", "start"]),
    (MigState::Running, MigState::PreCopy, &[]),
    (MigState::PreCopy, MigState::Running, &[]),
    (MigState::PreCopy, MigState::PreCopyP2p, &["p2p"]),
    (MigState::PreCopyP2p, MigState::PreCopy, &["not p2p"]),
    (MigState::PreCopyP2p, MigState::RunningP2p, &[]),
    (MigState::RunningP2p, MigState::PreCopyP2p, &[]),
    (
        MigState::PreCopyP2p,
        MigState::StopCopy,
        &["stop", "save", "not p2p"],
    ),
];

/// Bytes of the files' buffer: blocks and state take more than one.
const WINDOW: usize = 2000;

pub fn runs(state: MigState) -> bool {
    matches!(
        state,
        MigState::Running | MigState::RunningP2p | MigState::PreCopy | MigState::PreCopyP2p
    )
}

pub fn saves(state: MigState) -> bool {
    matches!(
        state,
        MigState::StopCopy | MigState::PreCopy | MigState::PreCopyP2p
    )
}

pub fn is_p2p(state: MigState) -> bool {
    matches!(state, MigState::RunningP2p | MigState::PreCopyP2p)
}

fn memory(size: usize) -> Memory {
    Memory {
        bytes: vec![0; size],
    }
}

impl Rig {
    pub fn arc(&mut self, to: MigState) -> Result<(), Refusal> {
        self.with_port(|engine, _, port| fsm::arc(engine, port, to))
    }

    /// Does arcs that must succeed.
    pub fn arcs(&mut self, states: &[MigState]) {
        for to in states {
            let from = self.mig_state();
            if let Err(refusal) = self.arc(*to) {
                panic!("{from} to {to}: {refusal}");
            }
        }
    }

    /// Reads once, through a buffer of `size` bytes.
    fn read_once(&mut self, size: usize) -> (Read, Vec<u8>) {
        let mut window = memory(size);
        let read = self
            .with_port(|engine, file, port| file.read(engine, port, &mut window))
            .expect("reading the file");
        self.file.keep(0);
        if let Read::Bytes(len) = read {
            window.bytes.truncate(len as usize);
        } else {
            window.bytes.clear();
        }
        (read, window.bytes)
    }

    /// Reads until no more bytes come, with buffers of `sizes` bytes over and over.
    fn read_all(&mut self, sizes: &[usize]) -> Vec<u8> {
        let mut stream = Vec::new();
        for size in sizes.iter().cycle() {
            let (read, bytes) = self.read_once(*size);
            stream.extend(bytes);
            match read {
                Read::Bytes(len) => assert!(len > 0, "bytes, but none"),
                Read::Later | Read::Ended => break,
            }
        }
        stream
    }

    fn write_once(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.with_port(|engine, file, port| file.write(engine, port, bytes))
    }

    /// Writes a stream in pieces of `sizes` bytes over and over.
    fn write_all(&mut self, stream: &[u8], sizes: &[usize]) -> Result<(), Refusal> {
        let mut rest = stream;
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, later) = rest.split_at(rest.len().min(*size));
            self.write_once(piece)?;
            rest = later;
        }
        Ok(())
    }

    fn info(&mut self) -> Result<PrecopyInfo, Refusal> {
        self.with_port(|engine, file, port| file.precopy_info(engine, port, WINDOW, false))
    }

    fn data_size(&mut self) -> u64 {
        self.with_port(|engine, _, port| data_size(engine, port, WINDOW))
    }

    fn has_data(&mut self) -> bool {
        self.with_port(|engine, file, port| file.is_readable(engine, port, WINDOW))
    }
}

fn fill(rig: &mut Rig, index: u64, seed: u8) {
    let mut bytes = pattern(BLOCK_SIZE);
    bytes[0] = seed | 1;
    bytes[8..16].copy_from_slice(&index.to_le_bytes());
    rig.disk().write(index * BLOCK, &bytes);
}

/// A device with storage that has content.
fn source(blocks: u64) -> Rig {
    let mut rig = Rig::with_disk(&pattern(3000), 4096, 64);
    for index in 0..blocks {
        fill(&mut rig, index * 3, 1);
    }
    rig
}

/// Gives a stream to a new device with storage, in pieces of `sizes`; returns state and content.
fn arrives(stream: &[u8], sizes: &[usize]) -> (Vec<u8>, Content) {
    let mut rig = Rig::with_disk(b"what was there", 4096, 64);
    rig.arcs(&[MigState::Stop, MigState::Resuming]);
    rig.write_all(stream, sizes).expect("a good stream");
    rig.arcs(&[MigState::Stop, MigState::RunningP2p, MigState::Running]);
    (rig.unit.live.clone(), rig.disk().content())
}

/// Brings a device to a state; in RESUMING it has a whole stream.
pub fn rig_in(state: MigState, stream: &[u8]) -> Rig {
    let mut rig = source(2);
    rig.arcs(&[state]);
    if state == MigState::Resuming {
        rig.write_all(stream, &[WINDOW]).expect("a good stream");
    }
    rig.unit.calls.clear();
    rig
}

pub fn good_stream() -> Vec<u8> {
    let mut rig = source(2);
    rig.arcs(&[MigState::StopCopy]);
    rig.read_all(&[WINDOW])
}

#[test]
fn an_arc_of_the_kernel_tells_the_device_what_it_should_and_no_more() {
    let stream = good_stream();
    for (from, to, calls) in ARCS {
        let mut rig = rig_in(from, &stream);
        assert_eq!(rig.arc(to), Ok(()), "{from} to {to}");
        assert_eq!(rig.mig_state(), to, "{from} to {to}");
        assert_eq!(rig.unit.calls, calls, "{from} to {to}");
    }
}

#[test]
fn a_state_is_entered_from_every_other_though_the_kernel_does_not_ask() {
    let stream = good_stream();
    for from in STATES {
        for to in STATES {
            let mut rig = rig_in(from, &stream);
            assert_eq!(rig.arc(to), Ok(()), "{from} to {to}");
            assert_eq!(rig.mig_state(), to, "{from} to {to}");
            assert_eq!(rig.unit.running, runs(to), "{from} to {to}: running");
            assert_eq!(rig.unit.p2p, is_p2p(to), "{from} to {to}: P2P");
        }
    }
}

#[test]
fn whatever_steps_fail_the_device_is_where_it_was_or_in_error() {
    let stream = good_stream();
    for (from, to) in STATES
        .into_iter()
        .flat_map(|from| STATES.map(|to| (from, to)))
    {
        for bits in 0..16 {
            let faults = Faults {
                stop: bits & 1 != 0,
                start: bits & 2 != 0,
                save: bits & 4 != 0,
                track: bits & 8 != 0,
                ..Faults::default()
            };
            let arc = format!("{from} to {to} with {faults:?}");
            let mut rig = rig_in(from, &stream);
            rig.unit.faults = faults;
            rig.seen.0.clear();

            // In the order of the steps.
            let stops = runs(from) && !runs(to);
            let tracks = !saves(from) && saves(to);
            let captures = from != MigState::StopCopy && to == MigState::StopCopy;
            let starts = !runs(from) && runs(to);
            let after_stop = tracks && faults.track || captures && faults.save;
            let fails = stops && faults.stop || after_stop || starts && faults.start;
            let breaks = stops && !faults.stop && after_stop && faults.start;

            let result = rig.arc(to);
            assert_eq!(result.is_err(), fails, "{arc}: {result:?}");
            let expected = match (fails, breaks) {
                (false, _) => to,
                (true, false) => from,
                (true, true) => MigState::Error,
            };
            assert_eq!(rig.mig_state(), expected, "{arc}");
            assert_eq!(rig.unit.p2p, is_p2p(expected), "{arc}: P2P");
            if !breaks {
                assert_eq!(rig.unit.running, runs(expected), "{arc}: running");
            }
            let told = rig.seen.0.iter();
            let refusals = told
                .filter(|told| matches!(told, Told::Refused(..)))
                .count();
            assert_eq!(refusals, usize::from(fails), "{arc}: refusals told");

            rig.unit.faults = Faults::default();
            if breaks {
                for to in STATES {
                    assert_eq!(reason(rig.arc(to)), Some(Reason::InErrorState), "{arc}");
                }
                rig.reset();
                assert_eq!(rig.mig_state(), MigState::Running, "{arc}: reset");
                assert!(!rig.unit.p2p, "{arc}: p2p after a reset");
            }
            // The arc succeeds when nothing fails. A resume that has just begun cannot be left.
            if !fails && to == MigState::Resuming && from != to {
                rig.reset();
            }
            assert_eq!(rig.arc(MigState::Running), Ok(()), "{arc}");
            assert_eq!(rig.arc(MigState::PreCopy), Ok(()), "{arc}");
        }
    }
}

#[test]
fn error_is_neither_entered_nor_left_by_an_arc() {
    for from in STATES {
        let mut rig = rig_in(from, &good_stream());
        assert_eq!(
            reason(rig.arc(MigState::Error)),
            Some(Reason::InErrorState),
            "{from} to ERROR"
        );
        assert_eq!(rig.mig_state(), from, "after {from} to ERROR");
        assert_eq!(rig.unit.calls, [""; 0], "{from} to ERROR");
    }
}

#[test]
fn a_session_begins_and_ends_where_the_state_does_to_be_moved() {
    for from in STATES {
        for to in STATES {
            if from == to {
                continue;
            }
            let expected = to == MigState::Resuming || saves(to) && !saves(from);
            assert_eq!(from.begins_session(to), expected, "{from} to {to}");
            let expected = from == MigState::Resuming || saves(from) && !saves(to);
            assert_eq!(from.ends_session(to), expected, "{from} to {to}");
        }
    }
}

#[test]
fn protocol_v1_sees_the_states_as_its_own() {
    for (state, word) in STATES.into_iter().zip([0, 1, 2, 4, 1, 3, 3]) {
        let mut rig = rig_in(state, &good_stream());
        assert_eq!(rig.word(), word, "{state}");
    }
    assert_eq!(engine_state(MigState::Error), State::Error);
}

#[test]
fn a_device_is_quiet_before_it_starts_and_until_it_has_stopped() {
    let stream = good_stream();
    for (from, to) in STATES
        .into_iter()
        .flat_map(|from| STATES.map(|to| (from, to)))
    {
        let mut rig = rig_in(from, &stream);
        rig.arcs(&[to]);
        let place = |call| rig.unit.calls.iter().position(|seen| *seen == call);
        if let (Some(start), true) = (place("start"), is_p2p(to)) {
            assert!(place("p2p") < Some(start), "{from} to {to}");
        }
        if let (Some(stop), Some(not_p2p)) = (place("stop"), place("not p2p")) {
            assert!(stop < not_p2p, "{from} to {to}");
        }
    }
}

#[test]
fn a_reset_ends_quiet() {
    for state in STATES {
        let mut rig = rig_in(state, &good_stream());
        rig.reset();
        assert_eq!(rig.mig_state(), MigState::Running, "reset in {state}");
        rig.arcs(&[MigState::RunningP2p]);
        assert!(rig.unit.p2p, "p2p after a reset in {state}");
    }
}

#[test]
fn reads_tell_a_pause_from_the_end() {
    let mut rig = source(1);
    rig.arcs(&[MigState::PreCopy]);
    assert!(rig.has_data(), "at first");
    rig.read_all(&[WINDOW]);
    for _ in 0..3 {
        assert_eq!(rig.read_once(WINDOW).0, Read::Later);
        assert!(!rig.has_data(), "at the end of what there is");
    }
    fill(&mut rig, 40, 1);
    assert!(rig.has_data(), "after a write of the device");
    assert!(matches!(rig.read_once(WINDOW).0, Read::Bytes(_)));
    rig.read_all(&[WINDOW]);
    rig.arcs(&[MigState::PreCopyP2p]);
    assert_eq!(rig.read_once(WINDOW).0, Read::Later);
    rig.arcs(&[MigState::StopCopy]);
    assert!(rig.has_data(), "in STOP_COPY");
    rig.read_all(&[WINDOW]);
    for _ in 0..3 {
        assert_eq!(rig.read_once(WINDOW).0, Read::Ended);
        assert!(rig.has_data(), "the end is something to be read");
    }
}

#[test]
fn files_of_other_states_are_refused() {
    for state in STATES {
        let mut rig = rig_in(state, &good_stream());
        let mut window = memory(WINDOW);
        let read = rig.with_port(|engine, file, port| file.read(engine, port, &mut window));
        assert_eq!(read.is_ok(), saves(state), "read in {state}");
        if !saves(state) {
            let state = engine_state(state);
            assert_eq!(reason(read), Some(Reason::NotSaving { state }));
        }
        let write = rig.write_once(b"");
        assert_eq!(
            write.is_ok(),
            state == MigState::Resuming,
            "write in {state}"
        );
        let info = rig.info();
        let pre_copy = saves(state) && runs(state);
        assert_eq!(info.is_ok(), pre_copy, "precopy info in {state}");
    }
}

#[test]
fn no_chunk_is_in_doubt_when_pre_copy_is_left() {
    let mut rig = source(3);
    rig.arcs(&[MigState::PreCopy]);
    let mut stream = rig.read_once(WINDOW).1;
    rig.arcs(&[MigState::PreCopyP2p, MigState::StopCopy]);
    stream.extend(rig.read_all(&[WINDOW]));
    let records = wire::parse(&stream);
    assert!(
        records
            .iter()
            .all(|record| !matches!(record.kind, wire::RESEND | wire::RESTART)),
        "{records:?}"
    );
    assert_eq!(arrives(&stream, &[WINDOW]).1, rig.disk().content());
}

#[test]
fn the_next_save_of_an_open_is_a_generation_of_its_own() {
    let mut rig = source(3);
    let mut stream = Vec::new();
    // A user may keep the stream of cancelled saves and append the next one.
    for part in [0, 1, 2] {
        rig.arcs(&[MigState::PreCopy]);
        for _ in 0..part {
            stream.extend(rig.read_once(WINDOW).1);
        }
        rig.arcs(&[MigState::Running]);
        assert!(rig.disk().dirty.is_none(), "tracked after a cancel");
    }
    rig.arcs(&[MigState::PreCopy]);
    let last = rig.read_all(&[WINDOW]);
    rig.arcs(&[MigState::PreCopyP2p, MigState::StopCopy]);
    let end = rig.read_all(&[WINDOW]);
    let alone = [last.clone(), end.clone()].concat();
    assert_eq!(wire::parse(&alone)[0].kind, wire::RESTART);
    for whole in [alone, [stream, last, end].concat()] {
        let (live, content) = arrives(&whole, &[777]);
        assert_eq!(live, pattern(3000));
        assert_eq!(content, rig.disk().content());
    }
}

#[test]
fn initial_bytes_come_to_nothing_however_busy_the_device_is() {
    let mut rig = source(10);
    rig.arcs(&[MigState::PreCopy]);
    let first = rig.info().expect("in pre-copy");
    assert!(first.initial_bytes >= 10 * BLOCK, "{first:?}");
    assert_eq!(first.dirty_bytes, 0);
    let mut last = first.initial_bytes;
    let mut rounds = 0;
    while last > 0 {
        // The whole storage is dirty again before a fifth of it is read.
        for index in 0..10 {
            fill(&mut rig, index * 3, rounds as u8);
        }
        for _ in 0..4 {
            rig.read_once(WINDOW);
        }
        let info = rig.info().expect("in pre-copy");
        assert!(info.initial_bytes <= last, "{info:?} after {last}");
        last = info.initial_bytes;
        rounds += 1;
        assert!(
            rounds < 100,
            "initial bytes never come to nothing: {info:?}"
        );
    }
    for index in 0..20 {
        fill(&mut rig, index * 3, 9);
        let info = rig.info().expect("in pre-copy");
        assert_eq!(info.initial_bytes, 0, "new blocks are dirty ones");
        assert!(info.dirty_bytes >= BLOCK, "{info:?}");
    }
}

#[test]
fn without_storage_initial_bytes_are_all_that_pre_copy_gives() {
    let mut rig = Rig::new(&pattern(50), 4096);
    rig.arcs(&[MigState::PreCopy]);
    let info = rig.info().expect("in pre-copy");
    let read = rig.read_all(&[WINDOW]);
    assert_eq!(info.initial_bytes, read.len() as u64);
    assert_eq!(info.dirty_bytes, 0);
    assert_eq!(rig.info(), Ok(PrecopyInfo::default()));
}

#[test]
fn a_refused_state_is_told_at_the_write() {
    let stream = stream_of(&pattern(300), 4096);
    let mut rig = Rig::new(b"live", 4096);
    rig.arcs(&[MigState::Stop, MigState::Resuming]);
    rig.unit.faults.stage = true;
    assert_eq!(errno(rig.write_all(&stream, &[WINDOW])), Some(FAIL_STAGE));
    rig.unit.faults.stage = false;
    assert_eq!(errno(rig.write_once(&[0])), Some(FAIL_STAGE), "it stays so");
    assert_eq!(errno(rig.arc(MigState::Stop)), Some(FAIL_STAGE));
    assert_eq!(rig.mig_state(), MigState::Resuming);
    assert_eq!(rig.unit.live, b"live");
}

#[test]
fn an_incomplete_stream_can_be_completed() {
    let stream = stream_of(&pattern(300), 4096);
    let mut rig = Rig::new(b"live", 4096);
    rig.arcs(&[MigState::Stop, MigState::Resuming]);
    for byte in &stream {
        assert_eq!(errno(rig.arc(MigState::Stop)), Some(Errno::ENODATA));
        assert_eq!(rig.mig_state(), MigState::Resuming);
        rig.write_once(&[*byte]).expect("a good stream");
    }
    rig.arcs(&[MigState::Stop]);
    assert_eq!(rig.unit.live, pattern(300));
}

#[test]
fn an_empty_stream_leaves_resuming_only_by_a_reset() {
    let mut rig = Rig::new(b"live", 4096);
    rig.arcs(&[MigState::Stop, MigState::Resuming]);
    assert_eq!(errno(rig.arc(MigState::Stop)), Some(Errno::ENODATA));
    rig.reset();
    assert_eq!(rig.mig_state(), MigState::Running);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_stream_is_the_same_device_through_windows_of_any_size(
        live in vec(any::<u8>(), 1..STATE_SIZE),
        reads in vec(256usize..20_000, 1..6),
        writes in vec(1usize..20_000, 1..6),
        writing in vec((0u64..64, any::<u8>()), 0..20),
        pre_copy in any::<bool>(),
    ) {
        let mut rig = source(4);
        rig.unit.live = live.clone();
        let mut stream = Vec::new();
        if pre_copy {
            rig.arcs(&[MigState::PreCopy]);
            for (index, seed) in &writing {
                stream.extend(rig.read_once(reads[0]).1);
                fill(&mut rig, *index, *seed);
            }
            rig.arcs(&[MigState::PreCopyP2p]);
        } else {
            rig.arcs(&[MigState::RunningP2p, MigState::Stop]);
        }
        rig.arcs(&[MigState::StopCopy]);
        stream.extend(rig.read_all(&reads));
        let (seen, content) = arrives(&stream, &writes);
        prop_assert_eq!(seen, live);
        prop_assert_eq!(content, rig.disk().content());
    }

    #[test]
    fn the_size_is_no_less_than_what_is_read_and_not_much_more(
        len in 1usize..STATE_SIZE,
        written in vec(0u64..64, 0..30),
        reads in 0usize..20,
    ) {
        let mut rig = Rig::with_disk(&pattern(len), 4096, 64);
        for index in &written {
            fill(&mut rig, *index, 1);
        }
        let running = rig.data_size();
        rig.arcs(&[MigState::PreCopy]);
        let pre_copy = rig.data_size();
        for _ in 0..reads {
            rig.read_once(WINDOW);
        }
        let later = rig.data_size();
        rig.arcs(&[MigState::PreCopyP2p, MigState::StopCopy]);
        let stopped = rig.data_size();
        let read = rig.read_all(&[WINDOW]).len() as u64;
        for size in [running, pre_copy, later] {
            prop_assert!(read <= size, "{} read, {} said", read, size);
        }
        // One more header where a chunk cuts a block: a buffer in about three records.
        let headers = 32 * (1 + read / WINDOW as u64);
        prop_assert!(read <= stopped + headers, "{} read, {} said", read, stopped);
        prop_assert!(stopped <= read + read / 20 + 200, "{} read, {} said", read, stopped);
        prop_assert_eq!(rig.data_size(), 0);
    }

    #[test]
    fn a_stream_of_either_protocol_is_taken_by_the_other(
        len in 1usize..STATE_SIZE,
        window in 256usize..9000,
        pieces in vec(1usize..9000, 1..5),
    ) {
        // From v1 to v2.
        let stream = stream_of(&pattern(len), window);
        let mut rig = Rig::new(b"live", 4096);
        rig.arcs(&[MigState::Stop, MigState::Resuming]);
        rig.write_all(&stream, &pieces).expect("a good stream");
        rig.arcs(&[MigState::Stop]);
        prop_assert_eq!(&rig.unit.live, &pattern(len));

        // From v2 to v1.
        let mut rig = Rig::new(&pattern(len), 4096);
        rig.arcs(&[MigState::PreCopy]);
        let mut stream = rig.read_all(&[window]);
        rig.arcs(&[MigState::PreCopyP2p, MigState::StopCopy]);
        stream.extend(rig.read_all(&[window]));
        let mut rig = Rig::new(b"live", window);
        rig.go(&[RESUMING]);
        rig.give(&stream, pieces[0].min(window)).expect("a good stream");
        rig.go(&[RUNNING]);
        prop_assert_eq!(&rig.unit.live, &pattern(len));
    }

    #[test]
    fn a_device_with_storage_saved_by_v1_is_resumed_by_v2(window in 256usize..20_000) {
        let mut rig = Rig::with_disk(&pattern(3000), window, 64);
        for index in 0..5 {
            fill(&mut rig, index * 7, 3);
        }
        rig.go(&[PRE_COPY]);
        let mut stream = rig.drain();
        fill(&mut rig, 7, 5);
        rig.go(&[STOP_COPY]);
        stream.extend(rig.drain());
        let (live, content) = arrives(&stream, &[window]);
        prop_assert_eq!(live, pattern(3000));
        prop_assert_eq!(content, rig.disk().content());
    }

    #[test]
    fn a_flipped_bit_never_reaches_the_device(
        bit in any::<prop::sample::Index>(),
        pieces in vec(1usize..5000, 1..4),
    ) {
        let mut stream = good_stream();
        let bit = bit.index(stream.len() * 8);
        stream[bit / 8] ^= 1 << (bit % 8);
        let mut rig = Rig::with_disk(b"live", 4096, 64);
        fill(&mut rig, 1, 1);
        let before = rig.disk().content();
        rig.arcs(&[MigState::Stop, MigState::Resuming]);
        let written = rig.write_all(&stream, &pieces);
        let left = rig.arc(MigState::Stop);
        prop_assert!(written.is_err() || left.is_err(), "bit {}", bit);
        prop_assert_eq!(&rig.unit.live[..], &b"live"[..]);
        prop_assert_eq!(rig.disk().content(), before);
        rig.reset();
        prop_assert!(rig.unit.staged_disk.is_none());
    }

    #[test]
    fn noise_is_refused_and_does_no_harm(noise in vec(any::<u8>(), 32..3000)) {
        let mut rig = Rig::with_disk(b"live", 4096, 64);
        rig.arcs(&[MigState::Stop, MigState::Resuming]);
        prop_assert!(rig.write_once(&noise).is_err());
        prop_assert!(rig.arc(MigState::Stop).is_err());
        prop_assert_eq!(&rig.unit.live[..], &b"live"[..]);
    }
}

/// The arcs that enter P2P, and those on which a device that runs leaves it.
const P2P_ARCS: [(MigState, MigState); 5] = [
    (MigState::Running, MigState::RunningP2p),
    (MigState::PreCopy, MigState::PreCopyP2p),
    (MigState::Stop, MigState::RunningP2p),
    (MigState::RunningP2p, MigState::Running),
    (MigState::PreCopyP2p, MigState::PreCopy),
];

#[test]
fn a_device_that_does_not_change_to_p2p_stays_where_it_is() {
    for (from, to) in P2P_ARCS {
        let mut rig = rig_in(from, &[]);
        rig.unit.faults.p2p = true;
        let refusal = rig.arc(to).expect_err("a change of P2P that fails");
        let (p2p, errno) = (is_p2p(to), FAIL_P2P);
        assert_eq!(refusal, Reason::P2pFailed { p2p, errno }.into());
        assert_eq!(rig.mig_state(), from, "{from} to {to}");
        assert_eq!(rig.unit.p2p, is_p2p(from), "{from} to {to}");
        assert_eq!(rig.unit.running, runs(from), "{from} to {to}");
        rig.unit.faults = Faults::default();
        rig.arcs(&[to]);
        assert_eq!(rig.unit.p2p, is_p2p(to), "{from} to {to}: a second try");
    }
}

#[test]
fn a_change_of_p2p_that_cannot_be_taken_back_is_error() {
    for (from, to) in P2P_ARCS {
        let mut rig = rig_in(from, &[]);
        rig.seen.0.clear();
        rig.unit.faults.p2p = true;
        rig.unit.faults.irreversible = true;
        assert_eq!(errno(rig.arc(to)), Some(FAIL_P2P), "{from} to {to}");
        assert_eq!(rig.mig_state(), MigState::Error, "{from} to {to}");
        let told = rig.seen.0.first();
        let expected = Told::State(engine_state(from), State::Error, Err(FAIL_P2P));
        assert_eq!(told, Some(&expected), "{from} to {to}");
        assert_eq!(errno(rig.arc(to)), Some(Errno::EIO), "in ERROR");
        rig.reset();
        assert_eq!(rig.mig_state(), MigState::Running, "after a reset");
    }
}

#[test]
fn a_stopped_device_leaves_p2p_before_it_runs_without() {
    for (from, to) in [
        (MigState::RunningP2p, MigState::Stop),
        (MigState::PreCopyP2p, MigState::StopCopy),
    ] {
        let mut rig = rig_in(from, &[]);
        rig.unit.faults.p2p = true;
        rig.arcs(&[to]);
        assert!(rig.unit.p2p, "it could not leave P2P");
        assert!(!rig.unit.running, "it is stopped");
        if to == MigState::StopCopy {
            rig.arcs(&[MigState::Stop]);
        }
        rig.arcs(&[MigState::RunningP2p]);
        assert_eq!(errno(rig.arc(MigState::Running)), Some(FAIL_P2P));
        assert_eq!(rig.mig_state(), MigState::RunningP2p);
        rig.unit.faults.p2p = false;
        rig.arcs(&[MigState::Running]);
        assert!(!rig.unit.p2p, "it runs without P2P");
    }
}

/// A device that offers this protocol alone has an engine, and neither a region nor a data section.
#[test]
fn an_engine_without_a_region_moves_a_device() {
    let mut source = source(20);
    let content = source.disk().content();
    let live = source.unit.live.clone();
    let blocks = migration::MigratedBlocks::blocks(source.disk());
    let mut target = Rig::with_disk(&[], 0, blocks);
    for rig in [&mut source, &mut target] {
        rig.region = MigrationRegion::new(memory(0));
    }

    source.arcs(&[MigState::PreCopy]);
    let mut stream = source.read_all(&[1 << 16]);
    source.arcs(&[MigState::PreCopyP2p, MigState::StopCopy]);
    stream.extend(source.read_all(&[1 << 16]));
    target.arcs(&[MigState::RunningP2p, MigState::Stop, MigState::Resuming]);
    target
        .write_all(&stream, &[1 << 16])
        .expect("a good stream");
    target.arcs(&[MigState::Stop, MigState::RunningP2p, MigState::Running]);
    assert_eq!(target.unit.live, live, "the state that arrived");
    assert!(
        target.disk().content() == content,
        "the blocks that arrived"
    );
}
