// SPDX-License-Identifier: GPL-2.0

//! The released streams: the writer gives them and the reader takes them, byte for byte.
//!
//! A file in `golden/` never changes once its version is released. Every later reader takes it.

use crate::common::wire;
use crate::common::Content;
use crate::common::Rig;
use crate::common::PRE_COPY;
use crate::common::RESUMING;
use crate::common::RUNNING;
use crate::common::STOP_COPY;
use migration::BLOCK_SIZE;

const STREAM_1_0: &str = include_str!("golden/stream-1.0.hex");
const STREAM_1_1: &str = include_str!("golden/stream-1.1.hex");

/// Returns the bytes of a file of hexadecimal numbers with comments. `5a*10` is ten times 5a.
fn bytes(text: &str) -> Vec<u8> {
    let numbers = text.lines().flat_map(|line| {
        let (numbers, _) = line.split_once('#').unwrap_or((line, ""));
        numbers.split_whitespace()
    });
    let runs = numbers.map(|number| {
        let (byte, count) = number.split_once('*').unwrap_or((number, "1"));
        let byte = u8::from_str_radix(byte, 16).expect("a hexadecimal number");
        vec![byte; count.parse().expect("a count")]
    });
    runs.flatten().collect()
}

fn state(len: usize) -> Vec<u8> {
    (0..len).map(|index| (7 * index + 3) as u8).collect()
}

#[test]
fn the_writer_gives_stream_1_0() {
    let mut source = Rig::new(&state(40), 256);
    source.go(&[PRE_COPY]);
    let mut stream = source.look();
    source.go(&[STOP_COPY]);
    stream.extend(source.drain());
    source.go(&[RUNNING]);
    source.unit.live = state(230);
    source.go(&[STOP_COPY]);
    stream.extend(source.drain());

    let expected = bytes(STREAM_1_0);
    let records = (wire::parse(&stream), wire::parse(&expected));
    assert_eq!(records.0, records.1, "the records");
    assert_eq!(stream, expected, "the bytes");
}

#[test]
fn the_reader_takes_stream_1_0() {
    let stream = bytes(STREAM_1_0);
    // The first save by itself, the same without the unacknowledged chunk, and the whole stream.
    let records = wire::parse(&stream);
    let cases = [
        (0, 5, 40),
        (1, 5, 40),
        (0, 10, 230),
        (1, 10, 230),
        (5, 10, 230),
    ];
    for (from, until, len) in cases {
        let part = wire::encode(&records[from..until]);
        for size in [1, 13, 256] {
            let mut rig = Rig::new(&[], 256);
            rig.go(&[RESUMING]);
            rig.give(&part, size).expect("a released stream");
            rig.go(&[RUNNING]);
            assert_eq!(rig.unit.live, state(len), "records {from}..{until}");
        }
    }
}

/// Blocks of the device of version 1.1.
const BLOCKS: u64 = 8;

fn write(rig: &mut Rig, index: u64, byte: u8) {
    rig.disk()
        .write(index * BLOCK_SIZE as u64, &[byte; BLOCK_SIZE]);
}

fn content(blocks: &[(u64, u8)]) -> Content {
    let blocks = blocks.iter();
    blocks
        .map(|(index, byte)| (*index, vec![*byte; BLOCK_SIZE]))
        .collect()
}

#[test]
fn the_writer_gives_stream_1_1() {
    let mut source = Rig::with_disk(&state(40), 4096, BLOCKS);
    for (index, byte) in [(1, 0xa1), (2, 0), (3, 0), (6, 0xa6)] {
        write(&mut source, index, byte);
    }
    source.go(&[PRE_COPY]);
    let mut stream = source.look();
    source.pending();
    stream.extend(source.look());
    write(&mut source, 1, 0xb1);
    source.go(&[STOP_COPY]);
    stream.extend(source.drain());
    source.go(&[RUNNING]);
    source.unit.live = state(50);
    source.disk().discard(1);
    source.go(&[STOP_COPY]);
    stream.extend(source.drain());

    let expected = bytes(STREAM_1_1);
    let records = (wire::parse(&stream), wire::parse(&expected));
    assert_eq!(records.0, records.1, "the records");
    assert_eq!(stream, expected, "the bytes");
}

#[test]
fn the_reader_takes_stream_1_1() {
    let stream = bytes(STREAM_1_1);
    let records = wire::parse(&stream);
    let first = content(&[(1, 0xb1), (6, 0xa6)]);
    let last = content(&[(6, 0xa6)]);
    // The first save, the same without the unacknowledged chunk, the second after either or after a part
    // of the first, and the second by itself.
    let cases = [
        (0..13, 0..0, 40, &first),
        (0..13, 2..5, 40, &first),
        (0..20, 0..0, 50, &last),
        (0..20, 2..5, 50, &last),
        (0..20, 7..13, 50, &last),
        (13..20, 0..0, 50, &last),
    ];
    for (range, missing, len, content) in cases {
        let case = format!("records {range:?} without {missing:?}");
        let part = range.filter(|at| !missing.contains(at));
        let part: Vec<_> = part.flat_map(|at| records[at].encode()).collect();
        for size in [1, 13, 4096] {
            let mut rig = Rig::with_disk(&[], 4096, BLOCKS);
            write(&mut rig, 0, 0x5a);
            rig.go(&[RESUMING]);
            rig.give(&part, size).expect("a released stream");
            rig.go(&[RUNNING]);
            assert_eq!(rig.unit.live, state(len), "{case}");
            assert_eq!(rig.disk().content(), *content, "{case}");
        }
    }
}
