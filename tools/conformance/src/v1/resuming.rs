// SPDX-License-Identifier: GPL-2.0

//! Statements 43 to 48: the device loads a saved state, and refuses a bad one.

use vfio_client::stream::identity;
use vfio_client::stream::totals;
use vfio_client::stream::Record;
use vfio_client::stream::Stream;
use vfio_client::stream::BLOCK;
use vfio_client::stream::END;
use vfio_client::stream::HEADER_RECORD;
use vfio_client::stream::OPTIONAL;
use vfio_client::stream::RESTART;
use vfio_client::stream::STATE;
use vfio_client::stream::ZEROES;
use vfio_client::v1::State;
use vfio_client::Errno;
use vfio_drivers::random::Random;

use crate::case::cases;
use crate::case::Case;
use crate::check::denied;
use crate::check::holds;
use crate::check::one_of;
use crate::check::refused;
use crate::check::same;
use crate::check::Outcome;
use crate::check::Stop;
use crate::requirement::Requirement;
use crate::subject::Subject;
use crate::target::Target;
use crate::v1::device::good_stream;
use crate::v1::device::image;
use crate::v1::device::TestDevice;
use crate::v1::region::WINDOWS;

const NEEDS: &[Requirement] = &[Requirement::V1];

pub const CASES: &[Case] = cases![
    NEEDS;
    v1_43_a_chunk_is_consumed_before_data_size_returns [Ferry, Driver],
    v1_44_a_stream_in_single_bytes [Ferry, Driver],
    v1_44_a_stream_in_random_pieces [Ferry, Driver],
    v1_44_windows_of_different_sizes_on_both_sides [Ferry, Driver, Pair],
    v1_45_a_size_beyond_the_window_is_refused [Ferry, Driver],
    v1_45_a_size_of_zero_is_nothing [Ferry, Driver],
    v1_45_data_size_in_another_state_is_refused,
    v1_46_every_flipped_bit_is_refused [Ferry, Driver],
    v1_46_every_truncation_is_refused [Ferry, Driver],
    v1_46_records_missing_doubled_and_reordered_are_refused [Ferry, Driver],
    v1_46_a_wrong_sequence_number_is_refused [Ferry, Driver],
    v1_46_a_stream_twice_is_refused [Ferry, Driver],
    v1_46_data_after_the_end_is_refused [Ferry, Driver],
    v1_46_another_device_type_is_refused [Ferry, Driver],
    v1_46_another_configuration_is_refused [Ferry, Driver],
    v1_46_a_device_of_another_type_refuses [Ferry, Driver, Mdev],
    v1_46_a_newer_major_version_is_refused [Ferry, Driver],
    v1_46_a_newer_minor_version_is_accepted [Ferry, Driver],
    v1_46_an_unknown_mandatory_record_is_refused [Ferry, Driver],
    v1_46_an_unknown_optional_record_is_skipped [Ferry, Driver],
    v1_46_reserved_record_flags_are_refused [Ferry, Driver],
    v1_46_hostile_lengths_are_refused [Ferry, Driver],
    v1_46_hostile_state_offsets_are_refused [Ferry, Driver],
    v1_46_wrong_totals_are_refused [Ferry, Driver],
    v1_46_a_hostile_device_state_does_no_harm [Ferry, Driver],
    v1_46_noise_is_refused [Driver],
    v1_46_after_a_refusal_nothing_more_is_taken [Ferry, Driver],
    v1_46_a_refused_stream_does_not_reach_the_device [Ferry, Driver],
    v1_47_a_restarted_save_in_one_resuming_session [Ferry, Driver, Pair],
    v1_47_what_came_before_a_restart_is_void [Driver, Pair],
    v1_47_a_second_header_without_a_restart_is_refused [Ferry, Driver],
    v1_48_reset_and_a_good_stream_after_a_refusal [Ferry, Driver],
];

const NO_STORAGE_NEEDS: &[Requirement] = &[Requirement::V1, Requirement::Uart];

/// Cases of a device without storage.
pub const NO_STORAGE: &[Case] = cases![
    NO_STORAGE_NEEDS;
    v1_46_a_block_of_a_device_without_blocks_is_refused,
];

/// How many bytes of a stream or a state are tried in one test, evenly spread.
const MOST_BYTES: usize = 600;

/// Returns how far apart the bytes are that are tried of `len`. A real function is reset for each, which takes long: of
/// its bytes fewer are tried, and as the distance is odd, each byte of a register has its turn.
fn distance(target: &Target, len: usize) -> usize {
    if target.kind.is_emulated() {
        len.div_ceil(MOST_BYTES)
    } else {
        len.div_ceil(MOST_BYTES / 8) | 1
    }
}

/// The errnos with which a bad stream may be refused.
const CORRUPT: [Errno; 2] = [Errno::BADMSG, Errno::INVAL];

/// Checks that a device refuses a stream, stays in RESUMING, and works after a reset.
#[track_caller]
fn refuses(device: &TestDevice, what: &str, stream: &[u8], expected: &[Errno]) -> Outcome {
    device.set(State::RESUMING)?;
    one_of(what, device.migration.feed(stream, usize::MAX), expected)?;
    device.expect(State::RESUMING)?;
    denied(
        format_args!("{what}: leaving RESUMING after the refusal"),
        device.migration.set_state(State::RUNNING),
    )?;
    device.expect(State::RESUMING)?;
    device.reset()
}

/// As [`refuses`], with any errno.
#[track_caller]
fn refuses_somehow(device: &TestDevice, what: &str, stream: &[u8]) -> Outcome {
    device.set(State::RESUMING)?;
    denied(what, device.migration.feed(stream, usize::MAX))?;
    device.expect(State::RESUMING)?;
    device.reset()
}

/// Checks that a device accepts a stream, and has then the state that `fill` gave the source.
#[track_caller]
fn accepts(device: &TestDevice, stream: &[u8], seed: u8) -> Outcome {
    device.resume(stream)?;
    device.expect_filled(seed)?;
    device.reset()
}

/// Returns the place of the first record of a type.
#[track_caller]
fn place(stream: &Stream, kind: u16) -> Outcome<usize> {
    stream
        .0
        .iter()
        .position(|record| record.kind == kind)
        .ok_or_else(|| Stop::failed(format_args!("expected a record of type {kind}, seen none")))
}

/// Changes the first record of a type.
#[track_caller]
fn changed(good: &Stream, kind: u16, change: impl FnOnce(&mut Record)) -> Outcome<Vec<u8>> {
    let mut stream = good.clone();
    let record = stream
        .find_mut(kind)
        .ok_or_else(|| Stop::failed(format_args!("expected a record of type {kind}, seen none")))?;
    change(record);
    Ok(stream.bytes())
}

fn v1_43_a_chunk_is_consumed_before_data_size_returns(target: &Target) -> Outcome {
    let good = good_stream(target, 43)?.bytes();
    let device = TestDevice::new(target)?;
    device.set(State::RESUMING)?;
    let window = device.migration.window().offset;
    for chunk in good.chunks(61) {
        let offset = device.migration.data_offset()?;
        device.migration.region().write(offset, chunk)?;
        device.migration.set_data_size(chunk.len() as u64)?;
        device.migration.region().write(window, &[0x43; 128])?;
    }
    device.set(State::RUNNING)?;
    device.expect_filled(43)
}

fn v1_44_a_stream_in_single_bytes(target: &Target) -> Outcome {
    let good = good_stream(target, 44)?.bytes();
    let device = TestDevice::new(target)?;
    device.set(State::RESUMING)?;
    device.migration.feed(&good, 1)?;
    device.set(State::RUNNING)?;
    device.expect_filled(44)
}

fn v1_44_a_stream_in_random_pieces(target: &Target) -> Outcome {
    let good = good_stream(target, 45)?.bytes();
    let device = TestDevice::new(target)?;
    let mut random = Random::new(44);
    for _ in 0..40 {
        let most = 1 + random.below(200);
        device.set(State::RESUMING)?;
        let mut rest = good.as_slice();
        while !rest.is_empty() {
            let (piece, others) = rest.split_at((1 + random.below(most)).min(rest.len()));
            device.migration.feed_chunk(piece)?;
            rest = others;
        }
        device.set(State::RUNNING)?;
        device.expect_filled(45)?;
        device.reset()?;
    }
    Ok(())
}

fn v1_44_windows_of_different_sizes_on_both_sides(target: &Target) -> Outcome {
    for from in WINDOWS {
        let source = TestDevice::with_window(target, from)?;
        source.fill(46)?;
        let stream = source.save()?;
        drop(source);
        for to in WINDOWS {
            let destination = TestDevice::with_window(target, to)?;
            destination.resume(&stream)?;
            destination.expect_filled(46)?;
        }
    }
    Ok(())
}

fn v1_45_a_size_beyond_the_window_is_refused(target: &Target) -> Outcome {
    let good = good_stream(target, 47)?.bytes();
    let device = TestDevice::with_window(target, 8192)?;
    device.set(State::RESUMING)?;
    let (first, second) = good.split_at(good.len() / 3);
    device.migration.feed_chunk(first)?;
    for size in [
        8193,
        8192 + 4096,
        1 << 31,
        1 << 32,
        (1 << 63) + 1,
        u64::MAX,
        u64::MAX - 4095,
    ] {
        refused(
            format_args!("data_size of {size:#x}"),
            device.migration.set_data_size(size),
            Errno::MSGSIZE,
        )?;
        device.expect(State::RESUMING)?;
    }
    // The refused sizes consumed nothing, so the stream goes on.
    device.migration.feed(second, usize::MAX)?;
    device.set(State::RUNNING)?;
    device.expect_filled(47)
}

fn v1_45_a_size_of_zero_is_nothing(target: &Target) -> Outcome {
    let good = good_stream(target, 48)?.bytes();
    let device = TestDevice::new(target)?;
    device.set(State::RESUMING)?;
    device.migration.set_data_size(0)?;
    for chunk in good.chunks(99) {
        device.migration.feed_chunk(chunk)?;
        device.migration.set_data_size(0)?;
        device.migration.set_data_size(0)?;
    }
    device.set(State::RUNNING)?;
    device.expect_filled(48)
}

fn v1_45_data_size_in_another_state_is_refused(target: &Target) -> Outcome {
    for state in [
        State::RUNNING,
        State::STOP,
        State::PRE_COPY,
        State::STOP_COPY,
    ] {
        let device = TestDevice::new(target)?;
        device.set(state)?;
        if state.is_saving() {
            device.migration.pending()?;
        }
        let before = device.migration.presented()?;
        for size in [1, 64, 4096, u64::MAX] {
            denied(
                format_args!("{state}: data_size of {size}"),
                device.migration.set_data_size(size),
            )?;
        }
        device.expect(state)?;
        same(
            format_args!("{state}: the presented chunk"),
            device.migration.presented()?,
            before,
        )?;
    }
    Ok(())
}

fn v1_46_every_flipped_bit_is_refused(target: &Target) -> Outcome {
    let good = good_stream(target, 46)?.bytes();
    let device = TestDevice::new(target)?;
    // A flipped bit in each byte, another one each time; the host tests do all of them.
    for at in (0..good.len()).step_by(distance(target, good.len())) {
        let mut bad = good.clone();
        bad[at] ^= 1 << ((at * 5 + at / 8) % 8);
        device.set(State::RESUMING)?;
        denied(
            format_args!("byte {at} with a flipped bit"),
            device.migration.feed(&bad, usize::MAX),
        )?;
        device.expect(State::RESUMING)?;
        device.reset()?;
    }
    accepts(&device, &good, 46)
}

fn v1_46_every_truncation_is_refused(target: &Target) -> Outcome {
    let good = good_stream(target, 64)?.bytes();
    let device = TestDevice::new(target)?;
    device.set(State::RESUMING)?;
    // The session takes it byte by byte, and at every byte it is not the end yet.
    for (at, byte) in good.iter().enumerate() {
        refused(
            format_args!("leaving RESUMING after {at} of {} bytes", good.len()),
            device.migration.set_state(State::RUNNING),
            Errno::NODATA,
        )?;
        device.migration.feed_chunk(&[*byte])?;
    }
    device.set(State::RUNNING)?;
    device.expect_filled(64)
}

fn v1_46_records_missing_doubled_and_reordered_are_refused(target: &Target) -> Outcome {
    let good = good_stream(target, 65)?;
    let device = TestDevice::new(target)?;
    for at in 0..good.0.len() {
        let mut missing = good.clone();
        missing.0.remove(at);
        // A stream without its end is incomplete, not wrong.
        if at + 1 < good.0.len() {
            refuses(
                &device,
                &format!("record {at} missing"),
                &missing.bytes(),
                // Without the header the version of the next record is unknown.
                &[Errno::BADMSG, Errno::INVAL, Errno::PROTONOSUPPORT],
            )?;
        }
        let mut doubled = good.clone();
        doubled.0.insert(at, good.0[at].clone());
        refuses(
            &device,
            &format!("record {at} doubled"),
            &doubled.bytes(),
            &CORRUPT,
        )?;
        for other in at + 1..good.0.len() {
            let mut reordered = good.clone();
            reordered.0.swap(at, other);
            refuses(
                &device,
                &format!("records {at} and {other} swapped"),
                &reordered.bytes(),
                &[Errno::BADMSG, Errno::INVAL, Errno::PROTONOSUPPORT],
            )?;
        }
    }
    accepts(&device, &good.bytes(), 65)
}

fn v1_46_a_wrong_sequence_number_is_refused(target: &Target) -> Outcome {
    let good = good_stream(target, 66)?;
    let device = TestDevice::new(target)?;
    for at in 0..good.0.len() {
        for difference in [1, 2, u32::MAX, 0x8000_0000] {
            let mut other = good.clone();
            let sequence = other.0[at].sequence.wrapping_add(difference);
            other.0[at].sequence = sequence;
            refuses(
                &device,
                &format!("record {at} with the number {sequence}"),
                &other.bytes(),
                &CORRUPT,
            )?;
        }
    }
    Ok(())
}

fn v1_46_a_stream_twice_is_refused(target: &Target) -> Outcome {
    let good = good_stream(target, 66)?.bytes();
    let device = TestDevice::new(target)?;
    let twice = [good.clone(), good.clone()].concat();
    refuses(&device, "a stream twice", &twice, &CORRUPT)?;
    // Also when the second comes in a chunk of its own.
    device.set(State::RESUMING)?;
    device.migration.feed_chunk(&good)?;
    one_of(
        "a stream again",
        device.migration.feed_chunk(&good),
        &CORRUPT,
    )?;
    device.reset()?;
    accepts(&device, &good, 66)
}

fn v1_46_data_after_the_end_is_refused(target: &Target) -> Outcome {
    let good = good_stream(target, 67)?;
    let device = TestDevice::new(target)?;
    let mut trailing = good.bytes();
    trailing.push(0);
    trailing.extend([0; 31]);
    refuses(&device, "zeros after the end", &trailing, &CORRUPT)?;
    let mut more = good.clone();
    let mut state = good.0[place(&good, STATE)?].clone();
    state.sequence = more.0.len() as u32;
    more.0.push(state);
    refuses(&device, "state after the end", &more.bytes(), &CORRUPT)
}

fn v1_46_another_device_type_is_refused(target: &Target) -> Outcome {
    let good = good_stream(target, 68)?;
    let device = TestDevice::new(target)?;
    for name in [
        *b"ferry-nvme\0\0\0\0\0\0",
        *b"ferry-uart\0\0\0\0\0\0",
        *b"ferry-nvme2\0\0\0\0\0",
        *b"ferry-uart2\0\0\0\0\0",
        [0; 16],
        [0xff; 16],
    ] {
        if name.strip_prefix(target.kind.stream_type()) == Some(&[0; 6]) {
            continue;
        }
        let other = changed(&good, HEADER_RECORD, |record| {
            record.payload[identity::NAME..identity::CONFIGURATION_LENGTH].copy_from_slice(&name);
        })?;
        refuses(
            &device,
            &format!("the device type {name:02x?}"),
            &other,
            &[Errno::NODEV],
        )?;
    }
    accepts(&device, &good.bytes(), 68)
}

fn v1_46_another_configuration_is_refused(target: &Target) -> Outcome {
    let good = good_stream(target, 69)?;
    let device = TestDevice::new(target)?;
    let other = changed(&good, HEADER_RECORD, |record| {
        if let Some(byte) = record.payload.get_mut(identity::CONFIGURATION) {
            *byte ^= 0x10;
        }
    })?;
    refuses(&device, "another configuration", &other, &[Errno::XDEV])?;
    let longer = changed(&good, HEADER_RECORD, |record| {
        record.payload.push(0);
        let length = (record.payload.len() - identity::CONFIGURATION) as u16;
        record.payload[identity::CONFIGURATION_LENGTH..identity::CONFIGURATION]
            .copy_from_slice(&length.to_le_bytes());
    })?;
    refuses(&device, "a longer configuration", &longer, &[Errno::XDEV])?;
    let lying = changed(&good, HEADER_RECORD, |record| {
        record.payload[identity::CONFIGURATION_LENGTH..identity::CONFIGURATION]
            .copy_from_slice(&u16::MAX.to_le_bytes());
    })?;
    refuses_somehow(&device, "a configuration that is not there", &lying)
}

fn v1_46_a_device_of_another_type_refuses(target: &Target) -> Outcome {
    let others = target.other_types()?;
    if others.is_empty() {
        return Err(Stop::Skipped("the parent has no other type".into()));
    }
    let own = good_stream(target, 70)?.bytes();
    for other in others {
        let source = TestDevice::open(Subject::new(other.create()?)?)?;
        source.fill(70)?;
        let stream = source.save()?;
        drop(source);
        let device = TestDevice::new(target)?;
        refuses(
            &device,
            &format!("the stream of {}", other.name()),
            &stream,
            &[Errno::XDEV],
        )?;
        accepts(&device, &own, 70)?;
        let destination = TestDevice::open(Subject::new(other.create()?)?)?;
        refuses(
            &destination,
            &format!("our stream to {}", other.name()),
            &own,
            &[Errno::XDEV],
        )?;
    }
    Ok(())
}

fn v1_46_a_newer_major_version_is_refused(target: &Target) -> Outcome {
    let good = good_stream(target, 71)?;
    let device = TestDevice::new(target)?;
    for major in [2u16, 0, u16::MAX] {
        let other = changed(&good, HEADER_RECORD, |record| {
            record.payload[identity::MAJOR..identity::MINOR].copy_from_slice(&major.to_le_bytes());
        })?;
        refuses(
            &device,
            &format!("major version {major}"),
            &other,
            &[Errno::PROTONOSUPPORT],
        )?;
    }
    Ok(())
}

fn v1_46_a_newer_minor_version_is_accepted(target: &Target) -> Outcome {
    let good = good_stream(target, 72)?;
    let device = TestDevice::new(target)?;
    for minor in [1u16, u16::MAX] {
        let other = changed(&good, HEADER_RECORD, |record| {
            record.payload[identity::MINOR..identity::NAME].copy_from_slice(&minor.to_le_bytes());
        })?;
        accepts(&device, &other, 72)?;
    }
    Ok(())
}

fn unknown(kind: u16, flags: u16) -> Record {
    Record {
        kind,
        flags,
        sequence: 0,
        argument: 0xfeed,
        payload: b"from the future".to_vec(),
    }
}

fn v1_46_an_unknown_mandatory_record_is_refused(target: &Target) -> Outcome {
    let good = good_stream(target, 73)?;
    let device = TestDevice::new(target)?;
    let before_end = place(&good, END)?;
    for kind in [0, 7, 15, 17, u16::MAX] {
        for at in [1, before_end] {
            refuses(
                &device,
                &format!("a mandatory record of type {kind} as number {at}"),
                &good.with_record(at, unknown(kind, 0)).bytes(),
                &[Errno::PROTONOSUPPORT],
            )?;
        }
    }
    Ok(())
}

fn v1_46_an_unknown_optional_record_is_skipped(target: &Target) -> Outcome {
    let good = good_stream(target, 74)?;
    let device = TestDevice::new(target)?;
    let before_end = place(&good, END)?;
    for kind in [7, 17, u16::MAX] {
        for at in [1, before_end] {
            let stream = good.with_record(at, unknown(kind, OPTIONAL)).bytes();
            accepts(&device, &stream, 74)?;
            // In small pieces, too, so that the skipping goes over borders of chunks.
            device.set(State::RESUMING)?;
            device.migration.feed(&stream, 7)?;
            device.set(State::RUNNING)?;
            device.expect_filled(74)?;
            device.reset()?;
        }
    }
    Ok(())
}

fn v1_46_reserved_record_flags_are_refused(target: &Target) -> Outcome {
    let good = good_stream(target, 75)?;
    let device = TestDevice::new(target)?;
    for flags in [2, 0x8000, u16::MAX] {
        let other = changed(&good, STATE, |record| record.flags = flags)?;
        refuses_somehow(&device, &format!("record flags of {flags:#x}"), &other)?;
    }
    Ok(())
}

fn v1_46_hostile_lengths_are_refused(target: &Target) -> Outcome {
    let good = good_stream(target, 76)?;
    let device = TestDevice::new(target)?;
    for at in 0..good.0.len() {
        for length in [
            u32::MAX,
            u32::MAX - 31,
            0x8000_0000,
            0x0100_0000,
            (1 << 20) + 1,
        ] {
            let mut bytes = Stream(good.0[..at].to_vec()).bytes();
            bytes.extend(good.0[at].bytes_with_length(length));
            refuses_somehow(
                &device,
                &format!("record {at} that claims {length:#x} bytes"),
                &bytes,
            )?;
        }
        // Lengths that a header may have, but not this one: the checksum or the content shows that the
        // length is wrong, or the stream is incomplete.
        for length in [1 << 20, 0, 1] {
            let mut bytes = Stream(good.0[..at].to_vec()).bytes();
            bytes.extend(good.0[at].bytes_with_length(length));
            bytes.extend(Stream(good.0[at + 1..].to_vec()).bytes());
            device.set(State::RESUMING)?;
            let fed = device.migration.feed(&bytes, usize::MAX);
            if fed.is_ok() {
                denied(
                    format_args!("leaving RESUMING, record {at} claims {length:#x} bytes"),
                    device.migration.set_state(State::RUNNING),
                )?;
            }
            device.reset()?;
        }
    }
    accepts(&device, &good.bytes(), 76)
}

fn v1_46_hostile_state_offsets_are_refused(target: &Target) -> Outcome {
    let good = good_stream(target, 77)?;
    let device = TestDevice::new(target)?;
    for offset in [1, 0x1000, 1 << 32, 1 << 63, u64::MAX, u64::MAX - 15] {
        let other = changed(&good, STATE, |record| record.argument = offset)?;
        refuses_somehow(&device, &format!("state at offset {offset:#x}"), &other)?;
    }
    // More state than any device has, in a faultless stream.
    let state = good.device_state().map_err(Stop::failed)?;
    for len in [state.len() + 1, 4096, 65536, 1 << 20] {
        let mut large = state.clone();
        large.resize(len, 0);
        refuses_somehow(
            &device,
            &format!("{len} bytes of state"),
            &good.with_state(&large).bytes(),
        )?;
    }
    // And the same in very many pieces.
    let at = place(&good, STATE)?;
    let mut flood = Stream(good.0[..at].to_vec());
    for i in 0..4096u32 {
        flood.0.push(Record {
            kind: STATE,
            flags: 0,
            sequence: at as u32 + i,
            argument: u64::from(i) * 16,
            payload: vec![0; 16],
        });
    }
    refuses_somehow(&device, "a flood of state", &flood.bytes())?;
    accepts(&device, &good.bytes(), 77)
}

fn v1_46_a_block_of_a_device_without_blocks_is_refused(target: &Target) -> Outcome {
    let good = good_stream(target, 78)?;
    let device = TestDevice::new(target)?;
    for kind in [BLOCK, ZEROES] {
        for before in [STATE, END] {
            let mut record = unknown(kind, 0);
            record.argument = 0;
            record.payload = vec![0; 8];
            let stream = good.with_record(place(&good, before)?, record).bytes();
            refuses_somehow(&device, &format!("a record of type {kind}"), &stream)?;
        }
    }
    Ok(())
}

fn v1_46_wrong_totals_are_refused(target: &Target) -> Outcome {
    let good = good_stream(target, 79)?;
    let device = TestDevice::new(target)?;
    for (what, at) in [
        ("number of records", totals::RECORDS),
        ("number of bytes", totals::BYTES),
        ("checksum of the state", totals::CRC),
    ] {
        let other = changed(&good, END, |record| record.payload[at] ^= 1)?;
        refuses(&device, &format!("a wrong {what}"), &other, &CORRUPT)?;
    }
    let short = changed(&good, END, |record| record.payload.truncate(8))?;
    refuses(&device, "an end that is cut short", &short, &CORRUPT)
}

fn v1_46_a_hostile_device_state_does_no_harm(target: &Target) -> Outcome {
    let good = good_stream(target, 80)?;
    let state = good.device_state().map_err(Stop::failed)?;
    let device = TestDevice::new(target)?;
    let mut refusals = 0;
    let step = distance(target, state.len());
    // The framing is right, so it is for the device to judge. A byte without meaning of its own,
    // such as one in a FIFO, may be anything; after it the device has to work.
    for at in (0..state.len()).step_by(step) {
        for value in [0xff, 0x80, state[at].wrapping_add(1)] {
            let mut bad = state.clone();
            if bad[at] == value {
                continue;
            }
            bad[at] = value;
            let stream = good.with_state(&bad).bytes();
            device.set(State::RESUMING)?;
            match device.migration.feed(&stream, usize::MAX) {
                Ok(()) => {
                    device.set(State::RUNNING)?;
                    device.poke()?;
                    let stopped = device.migration.set_state(State::STOP_COPY);
                    match stopped {
                        Ok(()) => drop(image(&device.migration.save()?)?),
                        // A card that has a packet to send and cannot is not stopped, and says so.
                        Err(error) if !target.kind.is_emulated() => refused(
                            format_args!("byte {at} of {value:#x}: stop"),
                            Err::<(), _>(error),
                            Errno::IO,
                        )?,
                        Err(error) => return Err(error.into()),
                    }
                }
                Err(error) => {
                    refusals += 1;
                    holds(
                        error.errno().is_some(),
                        format_args!("byte {at} of {value:#x}: {error}"),
                    )?;
                    device.expect(State::RESUMING)?;
                }
            }
            device.reset()?;
        }
    }
    holds(
        refusals > 0,
        "expected the device to refuse some, seen none",
    )?;
    device.expect_works()
}

fn v1_46_noise_is_refused(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let mut random = Random::new(46);
    for _ in 0..50 {
        let len = 32 + random.below(4096);
        let noise = random.bytes(len);
        refuses(&device, "noise", &noise, &CORRUPT)?;
    }
    for byte in [0, 0xff, b'F'] {
        refuses(&device, "one byte over and over", &[byte; 4096], &CORRUPT)?;
    }
    device.expect_works()
}

fn v1_46_after_a_refusal_nothing_more_is_taken(target: &Target) -> Outcome {
    let good = good_stream(target, 81)?.bytes();
    let device = TestDevice::new(target)?;
    device.set(State::RESUMING)?;
    denied("noise", device.migration.feed_chunk(&[0xaa; 64]))?;
    for _ in 0..3 {
        denied(
            "a good stream after noise",
            device.migration.feed_chunk(&good),
        )?;
        denied(
            "leaving RESUMING",
            device.migration.set_state(State::RUNNING),
        )?;
        device.expect(State::RESUMING)?;
    }
    Ok(())
}

fn v1_46_a_refused_stream_does_not_reach_the_device(target: &Target) -> Outcome {
    let good = good_stream(target, 82)?;
    let device = TestDevice::new(target)?;
    device.set(State::RESUMING)?;
    let mut bad = good.clone();
    if let Some(end) = bad.find_mut(END) {
        end.payload[totals::CRC] ^= 1;
    }
    one_of(
        "a wrong checksum at the end",
        device.migration.feed(&bad.bytes(), usize::MAX),
        &CORRUPT,
    )?;
    // A read while the device is stopped shows the live device, which has not changed.
    device.expect_fresh()
}

fn v1_47_a_restarted_save_in_one_resuming_session(target: &Target) -> Outcome {
    let source = TestDevice::new(target)?;
    source.fill(83)?;
    source.set(State::PRE_COPY)?;
    let mut stream = source.migration.save()?;
    source.set(State::STOP_COPY)?;
    if let Some(chunk) = source.migration.next_chunk()? {
        stream.extend(chunk.bytes);
    }
    // The user continues the guest, stops it again and starts over.
    source.set(State::RUNNING)?;
    source.empty()?;
    source.fill(84)?;
    source.set(State::STOP)?;
    source.set(State::STOP_COPY)?;
    let second = source.migration.save()?;
    let records = Stream::parse(&second).map_err(Stop::failed)?;
    same(
        "type of the first record of the second save",
        records.0.first().map(|record| record.kind),
        Some(RESTART),
    )?;
    stream.extend(&second);

    for chunk in [usize::MAX, 50] {
        let destination = TestDevice::new(target)?;
        destination.set(State::RESUMING)?;
        destination.migration.feed(&stream, chunk)?;
        destination.set(State::RUNNING)?;
        destination.expect_filled(84)?;
    }
    // The second save alone is as good.
    let destination = TestDevice::new(target)?;
    destination.resume(&second)?;
    destination.expect_filled(84)
}

fn v1_47_what_came_before_a_restart_is_void(target: &Target) -> Outcome {
    let source = TestDevice::new(target)?;
    source.fill(85)?;
    let first = source.save()?;
    source.set(State::RUNNING)?;
    source.empty()?;
    source.fill(86)?;
    let second = source.save()?;
    let device = TestDevice::new(target)?;
    // A complete first save, then the beginning of another: not complete any more.
    device.set(State::RESUMING)?;
    device.migration.feed(&first, usize::MAX)?;
    device
        .migration
        .feed(&second[..second.len() - 1], usize::MAX)?;
    refused(
        "leaving RESUMING in the middle of the second save",
        device.migration.set_state(State::RUNNING),
        Errno::NODATA,
    )?;
    device.migration.feed_chunk(&second[second.len() - 1..])?;
    device.set(State::RUNNING)?;
    device.expect_filled(86)?;
    device.reset()?;
    // The other way round is old news, and the same once more is a duplicate: also where RESTART
    // may come.
    source.set(State::RUNNING)?;
    let third = source.save()?;
    for (what, saves) in [
        ("the first save after the second", [&second, &first]),
        ("the second save after the third", [&third, &second]),
        ("the second save after the second", [&second, &second]),
    ] {
        refuses(&device, what, &saves.map(Vec::as_slice).concat(), &CORRUPT)?;
    }
    accepts(&device, &[second, third].concat(), 86)
}

fn v1_47_a_second_header_without_a_restart_is_refused(target: &Target) -> Outcome {
    let good = good_stream(target, 87)?;
    let device = TestDevice::new(target)?;
    let fresh = device.image()?;
    let at = place(&good, STATE)?;
    // Two saves with the same begin; the first one was cut off.
    let begun = Stream(good.0[..=at].to_vec()).bytes();
    let both = [begun, good.bytes()].concat();
    refuses(&device, "a second header", &both, &CORRUPT)?;
    device.expect_reset("image after the reset", &fresh)
}

fn v1_48_reset_and_a_good_stream_after_a_refusal(target: &Target) -> Outcome {
    let good = good_stream(target, 88)?;
    let bytes = good.bytes();
    let device = TestDevice::new(target)?;
    let truncated = &bytes[..bytes.len() - 5];
    let mut corrupt = bytes.clone();
    corrupt[bytes.len() / 2] ^= 0x20;
    let newer = changed(&good, HEADER_RECORD, |record| {
        record.payload[identity::MAJOR] = 9;
    })?;
    for bad in [&[0; 64], truncated, &corrupt, &newer] {
        device.set(State::RESUMING)?;
        let fed = device.migration.feed(bad, usize::MAX);
        let left = device.migration.set_state(State::RUNNING);
        denied("a bad stream", fed.and(left))?;
        device.reset()?;
        device.set(State::RESUMING)?;
        device.migration.feed(&bytes, usize::MAX)?;
        device.set(State::RUNNING)?;
        device.expect_filled(88)?;
        device.expect_works()?;
    }
    Ok(())
}
