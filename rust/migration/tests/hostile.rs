// SPDX-License-Identifier: GPL-2.0

//! Streams that must be refused, and leave no trace.

use crate::common::errno;
use crate::common::pattern;
use crate::common::refused_before;
use crate::common::stream_of;
use crate::common::wire;
use crate::common::wire::Record;
use crate::common::Rig;
use crate::common::Told;
use crate::common::RESUMING;
use crate::common::RUNNING;
use crate::common::STATE_SIZE;
use crate::common::STOP_COPY;
use migration::Reason;
use migration::Refusal;
use vfio_uapi::Errno;

const WINDOW: usize = 512;

/// The state of the device before a stream comes.
const BEFORE: &[u8] = b"what was there";

/// Gives `stream` to a new device and leaves RESUMING; returns the device and the first refusal.
fn give(stream: &[u8], size: usize) -> (Rig, Result<(), Refusal>) {
    let mut rig = Rig::new(BEFORE, WINDOW);
    rig.go(&[RESUMING]);
    let result = rig.give(stream, size).and_then(|()| rig.set(RUNNING));
    (rig, result)
}

/// Checks that the stream is refused, that the live device is as before, and that after a reset the device
/// takes a good stream. Returns the refusal.
fn refused(stream: &[u8], size: usize, case: &str) -> Refusal {
    let (mut rig, result) = give(stream, size);
    let refusal = result.expect_err(case);
    assert_eq!(rig.word(), RESUMING, "{case}: device_state");
    assert_eq!(rig.unit.live, BEFORE, "{case}: the live device");
    assert!(
        !rig.unit.calls.contains(&"adopt"),
        "{case}: calls {:?}",
        rig.unit.calls
    );
    let told = rig.seen.0.iter();
    let refusals = told.filter(|told| matches!(told, Told::Refused(..)));
    assert_eq!(refusals.count(), 1, "{case}: how often the refusal is told");

    if refusal.errno != Errno::ENODATA {
        // The session is poisoned: it takes no more data, good or not.
        let good = stream_of(&pattern(10), WINDOW);
        // Nor is the reason reported again, as its line would use up the rate of the log.
        let before = Err(refused_before(refusal));
        assert_eq!(rig.give(&good, WINDOW), before, "{case}: more data");
        assert_eq!(rig.set(RUNNING), before, "{case}: leaving RESUMING");
        assert_eq!(rig.unit.staged, None, "{case}: a staged state");
    }

    rig.reset();
    rig.go(&[RESUMING]);
    let good = stream_of(&pattern(77), WINDOW);
    rig.give(&good, WINDOW)
        .expect("v1_48: a good stream after a reset");
    rig.go(&[RUNNING]);
    assert_eq!(rig.unit.live, pattern(77), "v1_48: the state that arrived");
    refusal
}

/// Streams of all shapes: one piece, several pieces, no state, a resend, a restart.
fn shapes() -> Vec<(&'static str, Vec<u8>)> {
    let mut resent = Rig::new(&pattern(40), WINDOW);
    resent.go(&[crate::common::PRE_COPY]);
    let mut resend = resent.look();
    resent.go(&[STOP_COPY]);
    resend.extend(resent.drain());

    let mut again = Rig::new(&pattern(40), WINDOW);
    again.go(&[STOP_COPY]);
    let mut restart = again.drain();
    again.go(&[RUNNING, STOP_COPY]);
    restart.extend(again.drain());

    vec![
        ("one piece", stream_of(&pattern(50), WINDOW)),
        ("several pieces", stream_of(&pattern(300), 256)),
        ("no state", stream_of(&[], WINDOW)),
        ("a resend", resend),
        ("a restart", restart),
    ]
}

#[test]
fn v1_46_every_single_bit_flip_is_refused() {
    for (shape, stream) in shapes() {
        for bit in 0..stream.len() * 8 {
            let mut flipped = stream.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let refusal = refused(&flipped, 100, &format!("{shape}, bit {bit} flipped"));
            assert_eq!(
                refusal.errno,
                Errno::EBADMSG,
                "v1_30: {shape}, bit {bit} is refused as data comes: {refusal}"
            );
        }
    }
}

#[test]
fn v1_46_every_truncation_is_refused() {
    for (shape, stream) in shapes() {
        let records = wire::parse(&stream);
        let ends = records.iter().filter(|record| record.kind == wire::END);
        let saves = ends.count();
        // A stream of two saves that is cut between them is complete: the first save.
        let first_save = records
            .split_inclusive(|record| record.kind == wire::END)
            .map(|save| wire::encode(save).len())
            .next();

        for len in 0..stream.len() {
            let case = format!("{shape}, cut after {len} of {} bytes", stream.len());
            if saves > 1 && first_save == Some(len) {
                let (_, result) = give(&stream[..len], 100);
                assert_eq!(result, Ok(()), "{case}");
                continue;
            }
            let refusal = refused(&stream[..len], 100, &case);
            assert_eq!(refusal.errno, Errno::ENODATA, "{case}: {refusal}");
            let incomplete =
                matches!(refusal.reason, Reason::Incomplete { bytes, .. } if bytes == len as u64);
            assert!(incomplete, "{case}: {refusal}");
        }
    }
}

#[test]
fn v1_46_a_truncated_stream_can_be_completed() {
    let stream = stream_of(&pattern(300), 256);
    for len in 0..stream.len() {
        let mut rig = Rig::new(BEFORE, WINDOW);
        rig.go(&[RESUMING]);
        rig.give(&stream[..len], WINDOW)
            .expect("a part of a good stream");
        assert_eq!(errno(rig.set(RUNNING)), Some(Errno::ENODATA), "{len} bytes");
        rig.give(&stream[len..], WINDOW).expect("the rest");
        rig.go(&[RUNNING]);
        assert_eq!(rig.unit.live, pattern(300));
    }
}

#[test]
fn v1_46_every_record_lost_doubled_or_swapped_is_refused() {
    for (shape, stream) in shapes() {
        let records = wire::parse(&stream);
        for at in 0..records.len() {
            let mut doubled = records.clone();
            doubled.insert(at, records[at].clone());
            let restarted = at > 0 && records[at].kind == wire::RESTART;
            let refusal = refused(
                &wire::encode(&doubled),
                WINDOW,
                &format!("{shape}, {at} doubled"),
            );
            assert_eq!(
                refusal.errno,
                Errno::EBADMSG,
                "{shape}, record {at} doubled: {refusal}"
            );
            let generation = matches!(refusal.reason, Reason::Generation { .. });
            assert_eq!(
                generation, restarted,
                "{shape}, record {at} doubled: {refusal}"
            );

            let mut lost = records.clone();
            lost.remove(at);
            let case = format!("{shape}, record {at} lost");
            // A RESEND may come without the unacknowledged chunk, and a RESTART without the records
            // that it voids.
            let covered = matches!((shape, at), ("a resend", 0) | ("a restart", 0..=2));
            if !covered {
                let expected = if at + 1 == records.len() {
                    Errno::ENODATA
                } else {
                    Errno::EBADMSG
                };
                let refusal = refused(&wire::encode(&lost), WINDOW, &case);
                assert_eq!(refusal.errno, expected, "{case}: {refusal}");
            }

            if at > 0 {
                let mut swapped = records.clone();
                swapped.swap(at - 1, at);
                let case = format!("{shape}, records {} and {at} swapped", at - 1);
                let refusal = refused(&wire::encode(&swapped), WINDOW, &case);
                assert_eq!(refusal.errno, Errno::EBADMSG, "{case}: {refusal}");
            }
        }
    }
}

/// A good stream that `change` has changed, with right checksums.
fn changed(change: impl FnOnce(&mut Vec<Record>)) -> Vec<u8> {
    let mut records = wire::generation(1, &pattern(100), 60);
    change(&mut records);
    wire::encode(&records)
}

#[track_caller]
fn refused_as(stream: &[u8], expected: Errno, check: impl FnOnce(&Reason) -> bool) {
    let refusal = refused(stream, WINDOW, "a stream that must be refused");
    assert_eq!(refusal.errno, expected, "{refusal}");
    assert!(
        check(&refusal.reason),
        "unexpected reason: {:?}",
        refusal.reason
    );
}

#[test]
fn the_unchanged_stream_is_taken() {
    let (rig, result) = give(&changed(|_| {}), WINDOW);
    assert_eq!(result, Ok(()));
    assert_eq!(rig.unit.live, pattern(100));
}

#[test]
fn v1_46_another_type_of_device_is_refused() {
    for name in [
        "test-unit2",
        "test-uni",
        "Test-unit",
        "",
        "sixteen-letters!",
    ] {
        let header = wire::header(1, 0, name, b"two ports");
        let stream = changed(|records| records[0] = Record::new(wire::HEADER, 0, 1, &header));
        refused_as(&stream, Errno::ENODEV, |reason| {
            matches!(reason, Reason::DeviceType { .. })
        });
    }
}

#[test]
fn v1_46_another_configuration_is_refused() {
    let long = [7; 65];
    for configuration in [&b"two portz"[..], b"two port", b"two ports!", b"", &long] {
        let header = wire::header(1, 0, "test-unit", configuration);
        let stream = changed(|records| records[0] = Record::new(wire::HEADER, 0, 1, &header));
        refused_as(&stream, Errno::EXDEV, |reason| match reason {
            Reason::Configuration {
                offset: 8,
                expected: b's',
                found: b'z',
            } => configuration.len() == 9,
            Reason::ConfigurationLength { expected: 9, found } => {
                usize::from(*found) == configuration.len()
            }
            _ => false,
        });
    }
}

#[test]
fn v1_46_another_major_version_is_refused() {
    for major in [0, 2, 3, 0xffff] {
        for minor in [0, 1] {
            // The fields of a newer version after its number.
            for rest in [&b""[..], b"a different header", &[0xff; 300]] {
                let mut header = Vec::new();
                header.extend(u16::to_le_bytes(major));
                header.extend(u16::to_le_bytes(minor));
                header.extend(rest);
                let record = Record::new(wire::HEADER, 0, 1, &header);
                let stream = changed(|records| records[0] = record);
                refused_as(&stream, Errno::EPROTONOSUPPORT, |reason| {
                    *reason == Reason::Version { major, minor }
                });
            }
        }
    }
}

#[test]
fn a_later_minor_version_is_taken() {
    for minor in [2, 3, 0xffff] {
        let mut header = wire::header(1, minor, "test-unit", b"two ports");
        header.extend([0xab; 200]);
        let stream = changed(|records| {
            records[0] = Record::new(wire::HEADER, 0, 1, &header);
            let end = records.last_mut().expect("END");
            let mut totals = end.payload.clone();
            totals.extend([0xcd; 100]);
            *end = Record::new(wire::END, end.sequence, 0, &totals);
        });
        for size in [1, 33, WINDOW] {
            let (rig, result) = give(&stream, size);
            assert_eq!(result, Ok(()), "version 1.{minor}, chunks of {size} bytes");
            assert_eq!(rig.unit.live, pattern(100));
        }
    }
}

#[test]
fn unknown_optional_records_are_skipped() {
    for (place, len) in [(1, 0), (1, 1), (2, 63), (3, 64), (3, 1000), (2, 70_000)] {
        let stream = changed(|records| {
            let mut record = Record::new(77, place as u32, 5, &pattern(len));
            record.flags = 1;
            records.insert(place, record);
            renumber(records);
        });
        for size in [1, 31, WINDOW] {
            let (rig, result) = give(&stream, size);
            assert_eq!(
                result,
                Ok(()),
                "{len} bytes at {place}, chunks of {size} bytes"
            );
            assert_eq!(rig.unit.live, pattern(100));
        }
    }
}

/// Numbers the records anew and lets END count them.
fn renumber(records: &mut [Record]) {
    for (sequence, record) in records.iter_mut().enumerate() {
        record.sequence = sequence as u32;
        if record.kind == wire::END {
            record.payload[..4].copy_from_slice(&(sequence as u32).to_le_bytes());
        }
    }
}

#[test]
fn v1_46_a_corrupt_optional_record_is_refused() {
    let mut stream = changed(|records| {
        let mut record = Record::new(77, 1, 5, &pattern(40));
        record.flags = 1;
        records.insert(1, record);
        renumber(records);
    });
    let at = 32 + wire::unit_header().len() + 32 + 20;
    stream[at] ^= 1;
    refused_as(&stream, Errno::EBADMSG, |reason| {
        matches!(reason, Reason::PayloadChecksum { sequence: 1, .. })
    });
}

#[test]
fn v1_46_unknown_mandatory_records_are_refused() {
    for kind in [0, wire::BLOCK, 6, 15, 17, 77, 0xffff] {
        for place in 0..4 {
            let stream = changed(|records| {
                records.insert(place, Record::new(kind, place as u32, 0, b"something"));
                renumber(records);
            });
            let sequence = place as u32;
            refused_as(&stream, Errno::EPROTONOSUPPORT, |reason| {
                *reason == Reason::UnknownRecord { kind, sequence }
            });
        }
    }
}

#[test]
fn v1_46_flags_that_do_not_exist_are_refused() {
    for record in 0..4 {
        for bit in 1..16 {
            let flags = 1 << bit;
            let stream = changed(|records| records[record].flags = flags);
            refused_as(
                &stream,
                Errno::EPROTONOSUPPORT,
                |reason| matches!(reason, Reason::Flags { flags: seen, .. } if *seen == flags),
            );
        }
        let stream = changed(|records| records[record].flags = 1);
        refused_as(&stream, Errno::EBADMSG, |reason| {
            matches!(reason, Reason::Flags { flags: 1, .. })
        });
    }
}

#[test]
fn v1_46_lengths_are_bounded_before_they_are_used() {
    // A payload that is longer than the maximum, of every type and of unknown ones.
    for kind in [1, 2, 3, 4, 16, 77] {
        for length in [(1 << 20) + 1, 1 << 31, u32::MAX] {
            for flags in [0, 1] {
                let stream = changed(|records| {
                    records[1].kind = kind;
                    records[1].flags = flags;
                    records[1].length = length;
                });
                refused_as(&stream, Errno::EBADMSG, |reason| {
                    *reason == Reason::PayloadLength { kind, len: length }
                });
            }
        }
    }

    // Types whose payloads have a length of their own.
    for (kind, length) in [(wire::RESTART, 1), (wire::RESEND, 1), (wire::STATE, 0)] {
        let argument = if kind == wire::RESTART { 2 } else { 0 };
        let sequence = if kind == wire::RESTART { 0 } else { 1 };
        let stream = changed(|records| {
            records[1] = Record::new(kind, sequence, argument, &pattern(length));
        });
        refused_as(&stream, Errno::EBADMSG, |reason| {
            matches!(reason, Reason::PayloadLength { .. })
        });
    }
    for length in [0, 1, 15, 17, 100] {
        let stream = changed(|records| {
            let end = records.last_mut().expect("END");
            let mut payload = end.payload.clone();
            payload.resize(length, 0);
            *end = Record::new(wire::END, end.sequence, 0, &payload);
        });
        refused_as(&stream, Errno::EBADMSG, |reason| {
            matches!(reason, Reason::PayloadLength { kind: 16, .. })
        });
    }
    let header = wire::unit_header();
    for length in (0..header.len()).chain([header.len() + 1, 86, 87, 1000]) {
        let mut payload = header.clone();
        payload.resize(length, 0);
        let stream = changed(|records| records[0] = Record::new(wire::HEADER, 0, 1, &payload));
        refused_as(&stream, Errno::EBADMSG, |reason| {
            matches!(reason, Reason::PayloadLength { kind: 1, .. })
        });
    }
}

#[test]
fn v1_46_pieces_of_state_must_follow_one_on_the_other() {
    for offset in [0, 59, 61, 100, 1 << 32, u64::MAX] {
        let stream = changed(|records| records[2].argument = offset);
        refused_as(&stream, Errno::EBADMSG, |reason| {
            *reason
                == Reason::StateOffset {
                    expected: 60,
                    found: offset,
                }
        });
    }
}

#[test]
fn v1_46_more_state_than_the_device_can_have_is_refused() {
    let (rig, result) = give(
        &wire::encode(&wire::generation(1, &pattern(STATE_SIZE), 500)),
        WINDOW,
    );
    assert_eq!(result, Ok(()), "as much state as there may be");
    assert_eq!(rig.unit.live, pattern(STATE_SIZE));

    let stream = wire::encode(&wire::generation(1, &pattern(STATE_SIZE + 1), 500));
    refused_as(&stream, Errno::EBADMSG, |reason| {
        *reason
            == Reason::StateOverflow {
                end: STATE_SIZE as u64 + 1,
                most: STATE_SIZE,
            }
    });
    let stream = changed(|records| records[1].length = 1 << 20);
    refused_as(&stream, Errno::EBADMSG, |reason| {
        matches!(reason, Reason::StateOverflow { end: 0x10_0000, .. })
    });
}

#[test]
fn v1_46_every_record_must_be_the_next_one() {
    for at in 0u32..4 {
        for found in [at + 1, at.wrapping_sub(1), 0x100 | at, u32::MAX] {
            let stream = changed(|records| records[at as usize].sequence = found);
            refused_as(&stream, Errno::EBADMSG, |reason| {
                *reason
                    == Reason::Sequence {
                        expected: at,
                        found,
                    }
            });
        }
    }
}

#[test]
fn v1_46_an_optional_record_that_is_lost_is_missed() {
    let stream = changed(|records| {
        let mut record = Record::new(77, 2, 5, b"something");
        record.flags = 1;
        records.insert(2, record);
        renumber(records);
        records.remove(2);
    });
    refused_as(&stream, Errno::EBADMSG, |reason| {
        matches!(
            reason,
            Reason::Sequence {
                expected: 2,
                found: 3
            }
        )
    });
}

#[test]
fn v1_46_totals_must_be_right() {
    let state = pattern(100);
    let with =
        |payload: Vec<u8>| changed(|records| records[3] = Record::new(wire::END, 3, 0, &payload));

    refused_as(
        &with(wire::totals(4, 100, &state)),
        Errno::EBADMSG,
        |reason| {
            matches!(
                reason,
                Reason::TotalRecords {
                    expected: 3,
                    found: 4
                }
            )
        },
    );
    refused_as(
        &with(wire::totals(3, 99, &state)),
        Errno::EBADMSG,
        |reason| {
            matches!(
                reason,
                Reason::TotalBytes {
                    expected: 100,
                    found: 99
                }
            )
        },
    );
    refused_as(
        &with(wire::totals(3, 100, &state[1..])),
        Errno::EBADMSG,
        |reason| matches!(reason, Reason::TotalChecksum { .. }),
    );
    let stream = changed(|records| records[3].argument = 1);
    refused_as(&stream, Errno::EBADMSG, |reason| {
        matches!(
            reason,
            Reason::Argument {
                kind: 16,
                argument: 1
            }
        )
    });
}

#[test]
fn v1_46_records_in_places_where_they_may_not_be_are_refused() {
    let header = |sequence| Record::new(wire::HEADER, sequence, 1, &wire::unit_header());
    let end = Record::new(wire::END, 4, 0, &wire::totals(4, 100, &pattern(100)));
    let mut optional = Record::new(77, 0, 0, b"");
    optional.flags = 1;
    let cases: Vec<(&str, Vec<Record>)> = vec![
        ("state first", vec![Record::new(wire::STATE, 0, 0, b"x")]),
        (
            "end first",
            vec![Record::new(wire::END, 0, 0, &wire::totals(0, 0, b""))],
        ),
        ("an optional record first", vec![optional.clone()]),
        ("a second header", vec![header(0), header(1)]),
        (
            "a header after state",
            vec![header(0), Record::new(wire::STATE, 1, 0, b"x"), header(2)],
        ),
        (
            "state after a restart",
            vec![
                Record::new(wire::RESTART, 0, 1, b""),
                Record::new(wire::STATE, 1, 0, b"x"),
            ],
        ),
        (
            "a resend after a restart",
            vec![
                Record::new(wire::RESTART, 0, 1, b""),
                Record::new(wire::RESEND, 1, 0, b""),
            ],
        ),
        (
            "a resend after state",
            vec![
                header(0),
                Record::new(wire::STATE, 1, 0, b"x"),
                Record::new(wire::RESEND, 2, 1, b""),
            ],
        ),
        (
            "two resends",
            vec![
                header(0),
                Record::new(wire::RESEND, 1, 0, b""),
                header(2),
                Record::new(wire::RESEND, 3, 2, b""),
            ],
        ),
        (
            "state after a resend of the header",
            vec![
                header(0),
                Record::new(wire::RESEND, 1, 0, b""),
                Record::new(wire::STATE, 2, 0, b"x"),
            ],
        ),
    ];
    for (case, records) in cases {
        let refusal = refused(&wire::encode(&records), WINDOW, case);
        let misplaced = matches!(refusal.reason, Reason::Misplaced { .. });
        assert!(misplaced, "{case}: {refusal:?}");
        assert_eq!(refusal.errno, Errno::EBADMSG, "{case}");
    }

    for record in [
        Record {
            sequence: 4,
            ..optional
        },
        end,
        header(4),
    ] {
        let stream = changed(|records| records.push(record));
        refused_as(&stream, Errno::EBADMSG, |reason| {
            matches!(reason, Reason::Misplaced { sequence: 4, .. })
        });
    }
}

#[test]
fn v1_46_a_generation_that_was_there_is_refused() {
    let good = wire::generation(5, &pattern(10), 60);
    for generation in [0, 1, 4, 5, 1 << 32, (1 << 32) + 6] {
        let mut records = good.clone();
        records.push(Record::new(wire::RESTART, 0, generation, b""));
        refused_as(&wire::encode(&records), Errno::EBADMSG, |reason| {
            *reason
                == Reason::Generation {
                    found: generation,
                    last: 5,
                }
        });
    }
    for generation in [0, 1 << 32] {
        let stream = changed(|records| records[0].argument = generation);
        refused_as(&stream, Errno::EBADMSG, |reason| {
            *reason
                == Reason::Generation {
                    found: generation,
                    last: 0,
                }
        });
    }
    let mut records = good;
    records[1].argument = 6;
    refused_as(&wire::encode(&records), Errno::EBADMSG, |reason| {
        matches!(
            reason,
            Reason::Argument {
                kind: 1,
                argument: 6
            }
        )
    });
}

#[test]
fn each_generation_may_have_a_resend_of_what_comes_after_header() {
    let mut optional = Record::new(77, 2, 0, b"a later version's pre-copy");
    optional.flags = 1;
    for came in [false, true] {
        let mut records = vec![
            Record::new(wire::HEADER, 0, 1, &wire::unit_header()),
            Record::new(wire::RESEND, 1, 0, b""),
            Record::new(wire::HEADER, 2, 1, &wire::unit_header()),
            Record::new(wire::RESTART, 0, 2, b""),
            Record::new(wire::HEADER, 1, 2, &wire::unit_header()),
        ];
        if came {
            records.push(optional.clone());
        }
        records.extend([
            Record::new(wire::RESEND, 3, 2, b""),
            Record::new(wire::STATE, 4, 0, &pattern(9)),
            Record::new(wire::END, 5, 0, &wire::totals(5, 9, &pattern(9))),
        ]);
        let (rig, result) = give(&wire::encode(&records), WINDOW);
        assert_eq!(result, Ok(()), "came: {came}");
        assert_eq!(rig.unit.live, pattern(9));
    }
}

#[test]
fn v1_46_a_restart_has_number_zero() {
    for sequence in [1, 4, u32::MAX] {
        let stream = changed(|records| {
            records.push(Record::new(wire::RESTART, sequence, 2, b""));
        });
        refused_as(&stream, Errno::EBADMSG, |reason| {
            *reason
                == Reason::Sequence {
                    expected: 0,
                    found: sequence,
                }
        });
    }
}

#[test]
fn v1_45_zero_is_accepted_after_a_refusal_too() {
    let (mut rig, result) = give(&[0x5a; 40], WINDOW);
    assert!(result.is_err(), "noise");
    rig.seen.0.clear();
    assert_eq!(rig.commit(0), Ok(()), "zero bytes");
    assert!(rig.seen.0.is_empty(), "told: {:?}", rig.seen.0);
}

#[test]
fn v1_46_a_resend_that_fits_neither_case_is_refused() {
    let header = Record::new(wire::HEADER, 0, 1, &wire::unit_header());
    // Sequence and argument of the RESEND after record 0.
    for (sequence, first) in [(3, 2), (2, 0), (0, 0), (1, 1), (1, 1 << 32), (5, 3)] {
        let records = [
            header.clone(),
            Record::new(wire::RESEND, sequence, first, b""),
        ];
        refused_as(&wire::encode(&records), Errno::EBADMSG, |reason| {
            matches!(reason, Reason::Sequence { .. } | Reason::Argument { .. })
        });
    }
    // And of a RESEND that comes first.
    for (sequence, first) in [(2, 1), (0, 0), (1, 5)] {
        let records = [Record::new(wire::RESEND, sequence, first, b"")];
        refused_as(&wire::encode(&records), Errno::EBADMSG, |reason| {
            matches!(reason, Reason::Sequence { .. } | Reason::Argument { .. })
        });
    }
}

#[test]
fn v1_46_a_header_sent_again_must_be_the_same() {
    let first = Record::new(wire::HEADER, 0, 1, &wire::unit_header());
    let resend = Record::new(wire::RESEND, 1, 0, b"");
    let longer = {
        let mut payload = wire::header(1, 3, "test-unit", b"two ports");
        payload.push(0);
        payload
    };
    for again in [
        Record::new(wire::HEADER, 2, 2, &wire::unit_header()),
        Record::new(
            wire::HEADER,
            2,
            1,
            &wire::header(1, 3, "test-unit", b"two ports"),
        ),
        Record::new(wire::HEADER, 2, 1, &longer),
    ] {
        let stream = wire::encode(&[first.clone(), resend.clone(), again]);
        refused_as(&stream, Errno::EBADMSG, |reason| {
            *reason == Reason::HeaderChanged { sequence: 2 }
        });
    }
}

#[test]
fn v1_46_the_last_sequence_number_is_refused() {
    let records = [Record::new(wire::RESEND, u32::MAX, 0, b"")];
    refused_as(&wire::encode(&records), Errno::EBADMSG, |reason| {
        matches!(
            reason,
            Reason::Misplaced {
                sequence: u32::MAX,
                ..
            }
        )
    });
}

#[test]
fn v1_46_noise_is_refused() {
    for seed in 0..200 {
        let noise = pattern(1000 + seed)[seed..].to_vec();
        let refusal = refused(&noise, WINDOW, "noise");
        assert!(
            matches!(refusal.reason, Reason::Magic { sequence: 0, .. }),
            "{refusal}"
        );
    }
}

#[test]
fn v1_46_data_after_the_end_takes_the_complete_save_back() {
    let mut stream = changed(|_| {});
    stream.extend([0; 32]);
    refused_as(&stream, Errno::EBADMSG, |reason| {
        matches!(
            reason,
            Reason::Magic {
                found: 0,
                sequence: 4
            }
        )
    });

    let mut stream = changed(|_| {});
    stream.push(0);
    let refusal = refused(&stream, WINDOW, "one byte after the end");
    assert_eq!(refusal.errno, Errno::ENODATA, "{refusal}");
}
