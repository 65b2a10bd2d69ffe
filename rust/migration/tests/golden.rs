// SPDX-License-Identifier: GPL-2.0

//! The stream as it was released: what the writer gives and what the reader takes, byte for byte.
//!
//! A file in `golden/` never changes once its version is released. Every later reader takes it.

use crate::common::wire;
use crate::common::Rig;
use crate::common::PRE_COPY;
use crate::common::RESUMING;
use crate::common::RUNNING;
use crate::common::STOP_COPY;

const STREAM_1_0: &str = include_str!("golden/stream-1.0.hex");

/// Returns the bytes of a file of hexadecimal numbers with comments.
fn bytes(text: &str) -> Vec<u8> {
    let numbers = text.lines().flat_map(|line| {
        let (numbers, _) = line.split_once('#').unwrap_or((line, ""));
        numbers.split_whitespace()
    });
    numbers
        .map(|number| u8::from_str_radix(number, 16).expect("a hexadecimal number"))
        .collect()
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
    // The first save by itself, the same without the chunk in doubt, and all of it.
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
