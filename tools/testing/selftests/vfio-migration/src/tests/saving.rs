// SPDX-License-Identifier: GPL-2.0

//! Statements 33 to 42: how a saved state is read.

use vfio_client::v1::Migration;
use vfio_client::v1::State;

use crate::check::holds;
use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::check::Stop;
use crate::stream::Stream;
use crate::stream::END;
use crate::test_device::image;
use crate::test_device::Context;
use crate::test_device::TestDevice;
use crate::tests::cases;
use crate::tests::region::WINDOWS;
use crate::tests::Case;
use vfio_drivers::random::Random;

/// All tests of this file.
pub const CASES: &[Case] = cases![
    v1_33_pending_read_has_no_side_effect,
    v1_34_pending_bytes_is_zero_outside_the_saving_states,
    v1_34_pending_bytes_is_zero_after_a_cancel,
    v1_35_data_offset_after_pending_bytes_prepares_a_chunk,
    v1_35_data_offset_without_pending_bytes_prepares_a_chunk,
    v1_36_offset_size_and_data_stay_until_pending_bytes_is_read,
    v1_37_pending_three_times_then_a_chunk_consumes_one,
    v1_37_a_chunk_read_three_times_is_consumed_once,
    v1_37_without_data_offset_nothing_is_consumed,
    v1_37_any_sequence_of_reads_gives_one_whole_stream,
    v1_38_a_chunk_that_was_taken_before_the_state_changed,
    v1_38_a_chunk_that_was_not_taken_before_the_state_changed,
    v1_39_pending_bytes_never_comes_with_an_empty_chunk,
    v1_40_the_end_of_stop_and_copy_is_final,
    v1_40_the_end_of_pre_copy_is_not_final,
    v1_41_pending_bytes_shrinks_as_data_is_taken,
    v1_41_pending_bytes_is_an_honest_estimate,
    v1_42_the_stream_does_not_grow_with_the_window,
];

fn v1_33_pending_read_has_no_side_effect(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    card.fill(33)?;
    let expected = card.image()?;
    for state in [State::STOP_COPY, State::PRE_COPY] {
        card.set(state)?;
        let pending = card.migration.pending()?;
        for _ in 0..100 {
            same(
                format_args!("{state}: pending_bytes again"),
                card.migration.pending()?,
                pending,
            )?;
        }
        let mut stream = Vec::new();
        loop {
            let pending = card.migration.pending()?;
            for _ in 0..10 {
                same("pending_bytes again", card.migration.pending()?, pending)?;
            }
            if pending == 0 {
                break;
            }
            stream.extend(card.migration.presented()?.1);
        }
        if state == State::STOP_COPY {
            same_bytes("image", &image(&stream)?, &expected)?;
        }
        card.set(State::RUNNING)?;
    }
    Ok(())
}

fn v1_34_pending_bytes_is_zero_outside_the_saving_states(context: &Context) -> Outcome {
    for state in [State::RUNNING, State::STOP, State::RESUMING] {
        let card = TestDevice::new(context)?;
        card.fill(34)?;
        card.set(state)?;
        for _ in 0..3 {
            same(
                format_args!("{state}: pending_bytes"),
                card.migration.pending()?,
                0,
            )?;
        }
        card.expect(state)?;
    }
    Ok(())
}

fn v1_34_pending_bytes_is_zero_after_a_cancel(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    for from in [State::PRE_COPY, State::STOP_COPY] {
        for to in [State::RUNNING, State::STOP] {
            card.set(from)?;
            card.migration.pending()?;
            card.migration.data_offset()?;
            card.set(to)?;
            same(
                format_args!("pending_bytes after {from} to {to}"),
                card.migration.pending()?,
                0,
            )?;
            card.set(State::RUNNING)?;
        }
    }
    Ok(())
}

fn v1_35_data_offset_after_pending_bytes_prepares_a_chunk(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    card.fill(35)?;
    card.set(State::STOP_COPY)?;
    let pending = card.migration.pending()?;
    holds(pending > 0, "expected pending_bytes, seen 0")?;
    let (_, bytes) = card.migration.presented()?;
    // It is all there when the read returns, so it makes sense to a reader.
    Stream::parse(&bytes).map_err(Stop::failed)?;
    holds(
        !bytes.is_empty() && bytes.len() as u64 <= pending,
        format_args!("expected 1..={pending} bytes, seen {}", bytes.len()),
    )
}

fn v1_35_data_offset_without_pending_bytes_prepares_a_chunk(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    card.fill(53)?;
    let expected = card.image()?;
    card.set(State::STOP_COPY)?;
    let (_, mut stream) = card.migration.presented()?;
    holds(!stream.is_empty(), "expected a chunk, seen none")?;
    stream.extend(card.migration.save()?);
    same_bytes("image", &image(&stream)?, &expected)
}

fn v1_36_offset_size_and_data_stay_until_pending_bytes_is_read(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    card.fill(36)?;
    let mut stream = Vec::new();
    for state in [State::PRE_COPY, State::STOP_COPY] {
        card.set(state)?;
        while card.migration.pending()? != 0 {
            let first = card.migration.presented()?;
            for _ in 0..10 {
                same(
                    format_args!("{state}: the chunk again"),
                    card.migration.presented()?,
                    first.clone(),
                )?;
                same(
                    format_args!("{state}: data_size alone"),
                    card.migration.data_size()?,
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

/// Plays the user who takes a chunk where the protocol says that it is one: at the `pending_bytes`
/// read that follows a `data_offset` read. Returns the bytes of the chunks so taken.
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

/// Checks that some reads in stop-and-copy consume just one chunk, or none: with what comes after
/// them, the stream is whole and every record is there once.
#[track_caller]
fn consumes(context: &Context, reads: &[Read], chunks: usize) -> Outcome {
    let card = TestDevice::new(context)?;
    card.fill(37)?;
    card.set(State::STOP_COPY)?;
    let before = card.migration.pending()?;
    let mut stream = play(&card.migration, reads)?;
    let after = card.migration.pending()?;
    if chunks == 0 {
        same(format_args!("{reads:?}: pending_bytes"), after, before)?;
    } else {
        holds(
            after < before,
            format_args!("{reads:?}: expected less than {before} pending, seen {after}"),
        )?;
    }
    stream.extend(card.migration.save()?);
    // The last chunk was consumed as well, so it is not presented again.
    card.migration.data_offset()?;
    same(
        format_args!("{reads:?}: data_size at the end"),
        card.migration.data_size()?,
        0,
    )?;
    // The parser counts: a chunk lost or given twice is a gap or a step back in the sequence.
    let seen = image(&stream)?;
    card.set(State::RUNNING)?;
    same_bytes(format_args!("{reads:?}: image"), &seen, &card.image()?)
}

fn v1_37_pending_three_times_then_a_chunk_consumes_one(context: &Context) -> Outcome {
    consumes(
        context,
        &[Pending, Pending, Pending, Offset, Size, Pending],
        1,
    )
}

fn v1_37_a_chunk_read_three_times_is_consumed_once(context: &Context) -> Outcome {
    consumes(
        context,
        &[Pending, Offset, Size, Offset, Size, Offset, Size, Pending],
        1,
    )?;
    consumes(
        context,
        &[Pending, Offset, Offset, Offset, Pending, Pending],
        1,
    )
}

fn v1_37_without_data_offset_nothing_is_consumed(context: &Context) -> Outcome {
    consumes(context, &[Pending, Size, Pending], 0)?;
    consumes(
        context,
        &[Size, Pending, Size, Size, Pending, Pending, Size, Pending],
        0,
    )
}

fn v1_37_any_sequence_of_reads_gives_one_whole_stream(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    card.fill(73)?;
    let expected = card.image()?;
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
            card.set(*state)?;
            let mut reads: Vec<Read> = (0..random.below(12))
                .map(|_| [Pending, Offset, Size][random.below(3)])
                .collect();
            // The chunk that is presented at the end of these is taken, and the device told so.
            reads.push(Pending);
            stream.extend(play(&card.migration, &reads)?);
            all.push(reads);
            if state.is_saving() {
                stream.extend(card.migration.save()?);
            }
        }
        let seen = image(&stream)
            .map_err(|why| Stop::failed(format_args!("round {round}, {all:?}: {why:?}")))?;
        same_bytes(
            format_args!("round {round}, {all:?}: image"),
            &seen,
            &expected,
        )?;
        card.set(State::RUNNING)?;
    }
    Ok(())
}

/// The state changes between two saving states.
const CHANGES: [[State; 2]; 2] = [
    [State::PRE_COPY, State::STOP_COPY],
    [State::STOP_COPY, State::PRE_COPY],
];

/// Has a chunk presented, changes the saving state without a word on whether it was taken, and
/// finishes. `taken` says whether the user did take it. What he has must make a destination whole.
fn change_in_the_middle(context: &Context, taken: bool) -> Outcome {
    for [from, to] in CHANGES {
        let card = TestDevice::new(context)?;
        card.fill(38)?;
        card.set(from)?;
        let mut stream = Vec::new();
        card.migration.pending()?;
        let (_, bytes) = card.migration.presented()?;
        if taken {
            stream.extend(bytes);
        }
        card.set(to)?;
        stream.extend(card.migration.save()?);
        if to == State::PRE_COPY {
            card.set(State::STOP_COPY)?;
            stream.extend(card.migration.save()?);
        }
        let destination = TestDevice::new(context)?;
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

fn v1_38_a_chunk_that_was_taken_before_the_state_changed(context: &Context) -> Outcome {
    change_in_the_middle(context, true)
}

fn v1_38_a_chunk_that_was_not_taken_before_the_state_changed(context: &Context) -> Outcome {
    change_in_the_middle(context, false)
}

fn v1_39_pending_bytes_never_comes_with_an_empty_chunk(context: &Context) -> Outcome {
    for window in WINDOWS {
        let card = TestDevice::with_window(context, window)?;
        for round in 0..4 {
            if round % 2 == 1 {
                card.empty()?;
                card.fill(round)?;
            }
            for state in [State::PRE_COPY, State::STOP_COPY] {
                card.set(state)?;
                loop {
                    let pending = card.migration.pending()?;
                    card.migration.data_offset()?;
                    let size = card.migration.data_size()?;
                    holds(
                        (pending > 0) == (size > 0),
                        format_args!("{state}: {pending} bytes pending, but data_size {size}"),
                    )?;
                    if pending == 0 {
                        break;
                    }
                }
            }
            card.set(State::RUNNING)?;
        }
    }
    Ok(())
}

fn v1_40_the_end_of_stop_and_copy_is_final(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    card.fill(40)?;
    let stream = card.save()?;
    let records = Stream::parse(&stream).map_err(Stop::failed)?.0;
    same(
        "type of the last record",
        records.last().map(|record| record.kind),
        Some(END),
    )?;
    for _ in 0..5 {
        same("pending_bytes at the end", card.migration.pending()?, 0)?;
        card.migration.data_offset()?;
        same("data_size at the end", card.migration.data_size()?, 0)?;
    }
    card.expect(State::STOP_COPY)
}

fn v1_40_the_end_of_pre_copy_is_not_final(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    card.fill(41)?;
    card.set(State::PRE_COPY)?;
    let mut stream = card.migration.save()?;
    same("pending_bytes of pre-copy", card.migration.pending()?, 0)?;
    // Changed after the end of pre-copy, so it is still to come.
    card.empty()?;
    card.fill(42)?;
    card.set(State::STOP_COPY)?;
    holds(
        card.migration.pending()? > 0,
        "expected pending_bytes in stop-and-copy, seen 0",
    )?;
    stream.extend(card.migration.save()?);
    let destination = TestDevice::new(context)?;
    destination.resume(&stream)?;
    destination.expect_filled(42)
}

fn v1_41_pending_bytes_shrinks_as_data_is_taken(context: &Context) -> Outcome {
    let card = TestDevice::with_window(context, 4096)?;
    card.fill(41)?;
    for state in [State::PRE_COPY, State::STOP_COPY] {
        card.set(state)?;
        let mut last: Option<u64> = None;
        for chunk in card.migration.drain()? {
            holds(
                last.is_none_or(|last| chunk.pending < last),
                format_args!("{state}: {} pending after {last:?}", chunk.pending),
            )?;
            last = Some(chunk.pending);
        }
    }
    Ok(())
}

fn v1_41_pending_bytes_is_an_honest_estimate(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    card.fill(14)?;
    for state in [State::PRE_COPY, State::STOP_COPY] {
        card.set(state)?;
        let chunks = card.migration.drain()?;
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

fn v1_42_the_stream_does_not_grow_with_the_window(context: &Context) -> Outcome {
    let mut first: Option<(usize, usize)> = None;
    for window in WINDOWS {
        let card = TestDevice::with_window(context, window)?;
        card.fill(42)?;
        card.set(State::STOP_COPY)?;
        let chunks = card.migration.drain()?;
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
