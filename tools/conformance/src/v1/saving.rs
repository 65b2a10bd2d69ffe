// SPDX-License-Identifier: GPL-2.0

//! Statements 33 to 42: the user reads a saved state.

use vfio_client::stream::Stream;
use vfio_client::stream::END;
use vfio_client::v1::Migration;
use vfio_client::v1::State;
use vfio_drivers::random::Random;

use crate::case::cases;
use crate::case::Case;
use crate::check::holds;
use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::check::Stop;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::device::image;
use crate::v1::device::TestDevice;
use crate::v1::region::WINDOWS;

const NEEDS: &[Requirement] = &[Requirement::V1];

pub const CASES: &[Case] = cases![
    NEEDS;
    v1_33_pending_read_has_no_side_effect [Ferry, Driver],
    v1_34_pending_bytes_is_zero_outside_the_saving_states [Driver],
    v1_34_pending_bytes_is_zero_after_a_cancel,
    v1_35_data_offset_after_pending_bytes_prepares_a_chunk [Ferry, Driver],
    v1_35_data_offset_without_pending_bytes_prepares_a_chunk [Ferry, Driver],
    v1_36_offset_size_and_data_stay_until_pending_bytes_is_read [Ferry, Driver],
    v1_37_pending_three_times_then_a_chunk_consumes_one [Ferry, Driver],
    v1_37_a_chunk_read_three_times_is_consumed_once [Ferry, Driver],
    v1_37_without_data_offset_nothing_is_consumed [Ferry, Driver],
    v1_37_any_sequence_of_reads_gives_one_whole_stream [Ferry, Driver],
    v1_38_a_chunk_that_was_taken_before_the_state_changed [Driver, Pair],
    v1_38_a_chunk_that_was_not_taken_before_the_state_changed [Driver, Pair],
    v1_39_pending_bytes_never_comes_with_an_empty_chunk [Ferry, Driver],
    v1_40_the_end_of_stop_and_copy_is_final [Ferry, Driver],
    v1_40_the_end_of_pre_copy_is_not_final [Driver, Pair],
    v1_41_pending_bytes_shrinks_as_data_is_taken [Ferry, Driver],
    v1_41_pending_bytes_is_an_honest_estimate [Driver],
    v1_42_the_stream_does_not_grow_with_the_window [Ferry, Driver],
];

fn v1_33_pending_read_has_no_side_effect(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(33)?;
    let expected = device.image()?;
    for state in [State::STOP_COPY, State::PRE_COPY] {
        device.set(state)?;
        let pending = device.migration.pending()?;
        for _ in 0..100 {
            same(
                format_args!("{state}: pending_bytes again"),
                device.migration.pending()?,
                pending,
            )?;
        }
        let mut stream = Vec::new();
        loop {
            let pending = device.migration.pending()?;
            for _ in 0..10 {
                same("pending_bytes again", device.migration.pending()?, pending)?;
            }
            if pending == 0 {
                break;
            }
            stream.extend(device.migration.presented()?.1);
        }
        if state == State::STOP_COPY {
            same_bytes("image", &image(&stream)?, &expected)?;
        }
        device.set(State::RUNNING)?;
    }
    Ok(())
}

fn v1_34_pending_bytes_is_zero_outside_the_saving_states(target: &Target) -> Outcome {
    for state in [State::RUNNING, State::STOP, State::RESUMING] {
        let device = TestDevice::new(target)?;
        device.fill(34)?;
        device.set(state)?;
        for _ in 0..3 {
            same(
                format_args!("{state}: pending_bytes"),
                device.migration.pending()?,
                0,
            )?;
        }
        device.expect(state)?;
    }
    Ok(())
}

fn v1_34_pending_bytes_is_zero_after_a_cancel(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    for from in [State::PRE_COPY, State::STOP_COPY] {
        for to in [State::RUNNING, State::STOP] {
            device.set(from)?;
            device.migration.pending()?;
            device.migration.data_offset()?;
            device.set(to)?;
            same(
                format_args!("pending_bytes after {from} to {to}"),
                device.migration.pending()?,
                0,
            )?;
            device.set(State::RUNNING)?;
        }
    }
    Ok(())
}

fn v1_35_data_offset_after_pending_bytes_prepares_a_chunk(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(35)?;
    device.set(State::STOP_COPY)?;
    let pending = device.migration.pending()?;
    holds(pending > 0, "expected pending_bytes, seen 0")?;
    let (_, bytes) = device.migration.presented()?;
    // The chunk is complete when the read returns, so it can be parsed.
    Stream::parse(&bytes).map_err(Stop::failed)?;
    holds(
        !bytes.is_empty() && bytes.len() as u64 <= pending,
        format_args!("expected 1..={pending} bytes, seen {}", bytes.len()),
    )
}

fn v1_35_data_offset_without_pending_bytes_prepares_a_chunk(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(53)?;
    let expected = device.image()?;
    device.set(State::STOP_COPY)?;
    let (_, mut stream) = device.migration.presented()?;
    holds(!stream.is_empty(), "expected a chunk, seen none")?;
    stream.extend(device.migration.save()?);
    same_bytes("image", &image(&stream)?, &expected)
}

fn v1_36_offset_size_and_data_stay_until_pending_bytes_is_read(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(36)?;
    let mut stream = Vec::new();
    for state in [State::PRE_COPY, State::STOP_COPY] {
        device.set(state)?;
        while device.migration.pending()? != 0 {
            let first = device.migration.presented()?;
            for _ in 0..10 {
                same(
                    format_args!("{state}: the chunk again"),
                    device.migration.presented()?,
                    first.clone(),
                )?;
                same(
                    format_args!("{state}: data_size alone"),
                    device.migration.data_size()?,
                    first.1.len() as u64,
                )?;
            }
            stream.extend(first.1);
        }
    }
    image(&stream).map(drop)
}

/// One read of the header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Read {
    Pending,
    Offset,
    Size,
}

use Read::Offset;
use Read::Pending;
use Read::Size;

/// Takes chunks as the protocol counts them: at the read of `pending_bytes` that follows a read of
/// `data_offset`. Returns the bytes of the chunks.
fn play(migration: &Migration, reads: &[Read]) -> vfio_client::Result<Vec<u8>> {
    let mut taken = Vec::new();
    let mut presented: Option<Vec<u8>> = None;
    for read in reads {
        match read {
            Read::Pending => {
                taken.extend(presented.take().unwrap_or_default());
                migration.pending()?;
            }
            Read::Offset => {
                let offset = migration.data_offset()?;
                let mut bytes = vec![0; migration.data_size()? as usize];
                migration.read_data(offset, &mut bytes)?;
                presented = Some(bytes);
            }
            Read::Size => {
                migration.data_size()?;
            }
        }
    }
    taken.extend(presented.unwrap_or_default());
    Ok(taken)
}

/// Checks that some reads in stop-and-copy consume one chunk, or none: the stream is then whole, with every
/// record once.
#[track_caller]
fn consumes(target: &Target, reads: &[Read], chunks: usize) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(37)?;
    device.set(State::STOP_COPY)?;
    let before = device.migration.pending()?;
    let mut stream = play(&device.migration, reads)?;
    let after = device.migration.pending()?;
    if chunks == 0 {
        same(format_args!("{reads:?}: pending_bytes"), after, before)?;
    } else {
        holds(
            after < before,
            format_args!("{reads:?}: expected less than {before} pending, seen {after}"),
        )?;
    }
    stream.extend(device.migration.save()?);
    // The last chunk was consumed as well, so it is not presented again.
    device.migration.data_offset()?;
    same(
        format_args!("{reads:?}: data_size at the end"),
        device.migration.data_size()?,
        0,
    )?;
    // The parser counts: a chunk lost or given twice is a gap or a step back in the sequence.
    let seen = image(&stream)?;
    device.set(State::RUNNING)?;
    same_bytes(format_args!("{reads:?}: image"), &seen, &device.image()?)
}

fn v1_37_pending_three_times_then_a_chunk_consumes_one(target: &Target) -> Outcome {
    consumes(
        target,
        &[Pending, Pending, Pending, Offset, Size, Pending],
        1,
    )
}

fn v1_37_a_chunk_read_three_times_is_consumed_once(target: &Target) -> Outcome {
    consumes(
        target,
        &[Pending, Offset, Size, Offset, Size, Offset, Size, Pending],
        1,
    )?;
    consumes(
        target,
        &[Pending, Offset, Offset, Offset, Pending, Pending],
        1,
    )
}

fn v1_37_without_data_offset_nothing_is_consumed(target: &Target) -> Outcome {
    consumes(target, &[Pending, Size, Pending], 0)?;
    consumes(
        target,
        &[Size, Pending, Size, Size, Pending, Pending, Size, Pending],
        0,
    )
}

fn v1_37_any_sequence_of_reads_gives_one_whole_stream(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(73)?;
    let expected = device.image()?;
    let mut random = Random::new(37);
    for round in 0..60 {
        let mut stream = Vec::new();
        let mut all = Vec::new();
        let states: &[State] = match round % 3 {
            0 => &[State::STOP_COPY],
            1 => &[State::PRE_COPY, State::STOP_COPY],
            _ => &[State::STOP, State::STOP_COPY],
        };
        for state in states {
            device.set(*state)?;
            let mut reads: Vec<Read> = (0..random.below(12))
                .map(|_| [Pending, Offset, Size][random.below(3)])
                .collect();
            // The chunk that is presented at the end of these is taken, and the device told so.
            reads.push(Pending);
            stream.extend(play(&device.migration, &reads)?);
            all.push(reads);
            if state.is_saving() {
                stream.extend(device.migration.save()?);
            }
        }
        let seen = image(&stream)
            .map_err(|why| Stop::failed(format_args!("round {round}, {all:?}: {why:?}")))?;
        same_bytes(
            format_args!("round {round}, {all:?}: image"),
            &seen,
            &expected,
        )?;
        device.set(State::RUNNING)?;
    }
    Ok(())
}

/// The state changes between two saving states.
const CHANGES: [[State; 2]; 2] = [
    [State::PRE_COPY, State::STOP_COPY],
    [State::STOP_COPY, State::PRE_COPY],
];

/// Has a chunk presented, changes the saving state before the device is told whether the chunk was taken, and
/// finishes. `taken` says whether the user took the chunk. The user's bytes must make a whole stream.
fn change_in_the_middle(target: &Target, taken: bool) -> Outcome {
    for [from, to] in CHANGES {
        let device = TestDevice::new(target)?;
        device.fill(38)?;
        device.set(from)?;
        let mut stream = Vec::new();
        device.migration.pending()?;
        let (_, bytes) = device.migration.presented()?;
        if taken {
            stream.extend(bytes);
        }
        device.set(to)?;
        stream.extend(device.migration.save()?);
        if to == State::PRE_COPY {
            device.set(State::STOP_COPY)?;
            stream.extend(device.migration.save()?);
        }
        let destination = TestDevice::new(target)?;
        destination.set(State::RESUMING)?;
        destination
            .migration
            .feed(&stream, usize::MAX)
            .map_err(|error| Stop::failed(format_args!("{from} to {to}: {error}")))?;
        destination.set(State::RUNNING)?;
        destination.expect_filled(38)?;
    }
    Ok(())
}

fn v1_38_a_chunk_that_was_taken_before_the_state_changed(target: &Target) -> Outcome {
    change_in_the_middle(target, true)
}

fn v1_38_a_chunk_that_was_not_taken_before_the_state_changed(target: &Target) -> Outcome {
    change_in_the_middle(target, false)
}

fn v1_39_pending_bytes_never_comes_with_an_empty_chunk(target: &Target) -> Outcome {
    for window in WINDOWS {
        let device = TestDevice::with_window(target, window)?;
        for round in 0..4 {
            if round % 2 == 1 {
                device.empty()?;
                device.fill(round)?;
            }
            for state in [State::PRE_COPY, State::STOP_COPY] {
                device.set(state)?;
                loop {
                    let pending = device.migration.pending()?;
                    device.migration.data_offset()?;
                    let size = device.migration.data_size()?;
                    holds(
                        (pending > 0) == (size > 0),
                        format_args!("{state}: {pending} bytes pending, but data_size {size}"),
                    )?;
                    if pending == 0 {
                        break;
                    }
                }
            }
            device.set(State::RUNNING)?;
        }
    }
    Ok(())
}

fn v1_40_the_end_of_stop_and_copy_is_final(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(40)?;
    let stream = device.save()?;
    let records = Stream::parse(&stream).map_err(Stop::failed)?.0;
    same(
        "type of the last record",
        records.last().map(|record| record.kind),
        Some(END),
    )?;
    for _ in 0..5 {
        same("pending_bytes at the end", device.migration.pending()?, 0)?;
        device.migration.data_offset()?;
        same("data_size at the end", device.migration.data_size()?, 0)?;
    }
    device.expect(State::STOP_COPY)
}

fn v1_40_the_end_of_pre_copy_is_not_final(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(41)?;
    device.set(State::PRE_COPY)?;
    let mut stream = device.migration.save()?;
    same("pending_bytes of pre-copy", device.migration.pending()?, 0)?;
    // A change after the end of pre-copy is still to come.
    device.empty()?;
    device.fill(42)?;
    device.set(State::STOP_COPY)?;
    holds(
        device.migration.pending()? > 0,
        "expected pending_bytes in stop-and-copy, seen 0",
    )?;
    stream.extend(device.migration.save()?);
    let destination = TestDevice::new(target)?;
    destination.resume(&stream)?;
    destination.expect_filled(42)
}

fn v1_41_pending_bytes_shrinks_as_data_is_taken(target: &Target) -> Outcome {
    let device = TestDevice::with_window(target, 4096)?;
    device.fill(41)?;
    for state in [State::PRE_COPY, State::STOP_COPY] {
        device.set(state)?;
        let mut last: Option<u64> = None;
        for chunk in device.migration.drain()? {
            holds(
                last.is_none_or(|last| chunk.pending < last),
                format_args!("{state}: {} pending after {last:?}", chunk.pending),
            )?;
            last = Some(chunk.pending);
        }
    }
    Ok(())
}

fn v1_41_pending_bytes_is_an_honest_estimate(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(14)?;
    for state in [State::PRE_COPY, State::STOP_COPY] {
        device.set(state)?;
        let chunks = device.migration.drain()?;
        let moved: u64 = chunks.iter().map(|chunk| chunk.bytes.len() as u64).sum();
        let first = chunks.first().map_or(0, |chunk| chunk.pending);
        // The device may round up to what it could have to send, but not beyond a page or twice.
        holds(
            first >= moved && first <= 2 * moved + 4096,
            format_args!("{state}: {first} bytes promised, {moved} came"),
        )?;
    }
    Ok(())
}

fn v1_42_the_stream_does_not_grow_with_the_window(target: &Target) -> Outcome {
    let mut first: Option<(usize, usize)> = None;
    for window in WINDOWS {
        let device = TestDevice::with_window(target, window)?;
        device.fill(42)?;
        device.set(State::STOP_COPY)?;
        let chunks = device.migration.drain()?;
        let bytes: usize = chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        // The smallest window comes first; what it cuts in pieces has a few headers more.
        let (most, count) = *first.get_or_insert((bytes, chunks.len()));
        holds(
            bytes <= most,
            format_args!("a window of {window} needs {bytes} bytes, one of 4096 {most}"),
        )?;
        holds(
            chunks.len() <= count,
            format_args!(
                "a window of {window} needs {} chunks, one of 4096 {count}",
                chunks.len()
            ),
        )?;
    }
    Ok(())
}
