// SPDX-License-Identifier: GPL-2.0

//! Statements 16 to 32: the device state.

use std::process::Stdio;

use vfio_client::irq::Index;
use vfio_client::v1::Migration;
use vfio_client::v1::State;
use vfio_client::Errno;
use vfio_client::EventFd;
use vfio_client::Group;

use crate::check::denied;
use crate::check::one_of;
use crate::check::refused;
use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::check::Stop;
use crate::second;
use crate::stream::Stream;
use crate::stream::HEADER_RECORD;
use crate::test_device::good_stream;
use crate::test_device::image;
use crate::test_device::Context;
use crate::test_device::TestDevice;
use crate::test_device::DEVICE_STATE;
use crate::test_device::PATIENCE;
use crate::test_device::WINDOW_SIZE;
use crate::tests::cases;
use crate::tests::config;
use crate::tests::Case;

/// All tests of this file.
pub const CASES: &[Case] = cases![
    v1_16_reserved_bits_read_back_as_written,
    v1_16_reserved_bits_survive_a_refused_write,
    v1_17_an_open_device_runs,
    v1_17_every_open_runs_whatever_state_it_was_closed_in,
    v1_18_the_five_valid_states_are_accepted,
    v1_18_the_three_invalid_states_change_nothing,
    v1_19_no_interrupt_after_stop,
    v1_19_no_state_advance_after_stop,
    v1_19_an_interrupt_due_while_stopped_comes_when_it_runs,
    v1_20_after_a_failed_write_the_previous_state_is_read,
    v1_21_reset_works_from_any_state,
    v1_21_reset_ends_a_saving_session,
    v1_21_reset_ends_a_resuming_session,
    v1_22_nothing_else_changes_the_state,
    v1_23_running_stop,
    v1_23_running_stop_copy_stop,
    v1_23_running_pre_copy_stop_copy_stop,
    v1_23_running_resuming_running,
    v1_24_running_to_stop_copy_and_back_as_savevm_does,
    v1_24_stop_to_stop_copy_as_a_paused_migration_does,
    v1_24_stop_to_resuming_as_loadvm_does,
    v1_24_cancel_from_any_state_to_running,
    v1_24_saving_and_resuming_to_stop,
    v1_24_stop_and_continue_during_pre_copy,
    v1_25_every_pair_of_valid_states,
    v1_25_every_state_after_a_complete_resume,
    v1_26_a_same_state_write_has_no_side_effect,
    v1_26_a_second_stop_copy_does_not_restart_it,
    v1_26_a_second_resuming_does_not_restart_it,
    v1_27_stop_is_supported,
    v1_27_pre_copy_is_accepted_with_nothing_to_send,
    v1_28_a_saving_state_may_be_left_with_data_unread,
    v1_28_a_cancelled_stream_is_discarded,
    v1_29_munmap_comes_before_the_cancelling_state,
    v1_30_an_empty_session_cannot_leave_resuming,
    v1_30_an_incomplete_stream_cannot_leave_resuming,
    v1_30_a_bad_stream_is_refused_at_data_size,
    v1_31_config_writes_and_interrupt_set_up_while_resuming,
    v1_31_config_writes_and_interrupt_set_up_while_stopped,
    v1_32_close_in_any_state_and_the_next_open_is_fresh,
    v1_32_a_duplicate_descriptor_keeps_the_session,
    v1_32_a_mapping_keeps_the_device_open,
    v1_32_a_killed_user_leaves_a_fresh_device,
];

fn v1_16_reserved_bits_read_back_as_written(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    for state in State::VALID {
        for reserved in [0xffff_fff8, 0x8, 0x8000_0000, 0x1234_5670] {
            // Reserved bits come with every state, also with a change of it.
            card.set(State(state.0 | reserved))?;
            card.set(State(state.0))?;
        }
        if state == State::RESUMING {
            card.reset()?;
        }
    }
    Ok(())
}

fn v1_16_reserved_bits_survive_a_refused_write(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    let state = State(State::STOP.0 | 0x1234_5670);
    card.set(state)?;
    refused(
        "write of an invalid state",
        card.migration
            .set_state(State(0xabcd_ef00 | State::ERROR.0)),
        Errno::INVAL,
    )?;
    card.expect(state)
}

fn v1_17_an_open_device_runs(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    card.expect(State::RUNNING)?;
    same(
        "device_state in sysfs",
        card.mdev.attribute(DEVICE_STATE)?,
        "RUNNING".to_string(),
    )?;
    card.expect_works()
}

fn v1_17_every_open_runs_whatever_state_it_was_closed_in(context: &Context) -> Outcome {
    let mut card = TestDevice::new(context)?;
    let fresh = card.image()?;
    for state in State::VALID {
        card = card.reopen()?;
        card.fill(17)?;
        card.set(State(state.0 | 0x100))?;
        card = card.reopen()?;
        card.expect(State::RUNNING)?;
        same_bytes(
            format_args!("image after a close in {state}"),
            &card.image()?,
            &fresh,
        )?;
    }
    Ok(())
}

fn v1_18_the_five_valid_states_are_accepted(context: &Context) -> Outcome {
    for state in State::VALID {
        let card = TestDevice::new(context)?;
        card.set(state)?;
        same(
            "device_state in sysfs",
            card.mdev.attribute(DEVICE_STATE)?,
            state.name().to_string(),
        )?;
    }
    Ok(())
}

fn v1_18_the_three_invalid_states_change_nothing(context: &Context) -> Outcome {
    for state in State::VALID {
        let card = TestDevice::new(context)?;
        card.fill(18)?;
        card.set(state)?;
        let before = if state.is_saving() {
            card.migration.pending()?;
            Some(card.migration.presented()?)
        } else {
            None
        };
        for invalid in State::INVALID {
            for reserved in [0, 0xffff_fff8] {
                let word = State(invalid.0 | reserved);
                refused(
                    format_args!("{state}: write of {word}"),
                    card.migration.set_state(word),
                    Errno::INVAL,
                )?;
                card.expect(state)?;
            }
        }
        if let Some(before) = before {
            same(
                format_args!("{state}: the presented chunk"),
                card.migration.presented()?,
                before,
            )?;
        }
        card.reset()?;
    }
    Ok(())
}

/// Connects an eventfd to INTx and has the device ask for attention.
fn raise(card: &TestDevice) -> Outcome<EventFd> {
    let event = EventFd::new()?;
    card.device().set_trigger(Index::Intx, Some(&event))?;
    card.raise()?;
    same("interrupts", event.wait(PATIENCE)?, 1)?;
    Ok(event)
}

fn v1_19_no_interrupt_after_stop(context: &Context) -> Outcome {
    for state in [State::STOP, State::STOP_COPY, State::RESUMING] {
        let card = TestDevice::new(context)?;
        let event = raise(&card)?;
        card.set(state)?;
        // The line is still up, so in RUNNING this would signal at once.
        card.device().unmask(Index::Intx)?;
        same(
            format_args!("{state}: interrupts after unmask"),
            event.take()?,
            0,
        )?;
        for _ in 0..4 {
            card.poke()?;
        }
        same(
            format_args!("{state}: interrupts after MMIO"),
            event.take()?,
            0,
        )?;
        card.expect(state)?;
    }
    Ok(())
}

fn v1_19_no_state_advance_after_stop(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    card.fill(19)?;
    let expected = card.image()?;
    for state in [State::STOP, State::STOP_COPY] {
        card.set(state)?;
        card.poke()?;
        card.set(State::RUNNING)?;
        same_bytes(
            format_args!("image after MMIO in {state}"),
            &card.image()?,
            &expected,
        )?;
    }
    card.expect_filled(19)
}

fn v1_19_an_interrupt_due_while_stopped_comes_when_it_runs(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    let event = raise(&card)?;
    card.set(State::STOP)?;
    card.device().unmask(Index::Intx)?;
    same("interrupts while stopped", event.take()?, 0)?;
    card.set(State::RUNNING)?;
    same("interrupts once it runs", event.wait(PATIENCE)?, 1)
}

fn v1_20_after_a_failed_write_the_previous_state_is_read(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    for state in [
        State::RUNNING,
        State::STOP,
        State::PRE_COPY,
        State::STOP_COPY,
        State::RESUMING,
    ] {
        card.set(state)?;
        refused(
            format_args!("{state}: write of 111b"),
            card.migration.set_state(State::INVALID[2]),
            Errno::INVAL,
        )?;
        card.expect(state)?;
    }
    for state in [State::RUNNING, State::STOP] {
        refused(
            format_args!("RESUMING to {state} without a stream"),
            card.migration.set_state(state),
            Errno::NODATA,
        )?;
        card.expect(State::RESUMING)?;
        same(
            "device_state in sysfs",
            card.mdev.attribute(DEVICE_STATE)?,
            "RESUMING".to_string(),
        )?;
    }
    Ok(())
}

fn v1_21_reset_works_from_any_state(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    let fresh = card.image()?;
    for state in State::VALID {
        card.fill(21)?;
        card.set(state)?;
        card.reset()?;
        same(
            "device_state in sysfs",
            card.mdev.attribute(DEVICE_STATE)?,
            "RUNNING".to_string(),
        )?;
        card.expect_reset(format_args!("image after a reset in {state}"), &fresh)?;
    }
    Ok(())
}

fn v1_21_reset_ends_a_saving_session(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    card.fill(21)?;
    for state in [State::PRE_COPY, State::STOP_COPY] {
        for presented in [false, true] {
            card.set(state)?;
            card.migration.pending()?;
            if presented {
                card.migration.data_offset()?;
            }
            card.reset()?;
            same("pending_bytes", card.migration.pending()?, 0)?;
            card.migration.data_offset()?;
            same("data_size", card.migration.data_size()?, 0)?;
            // The next session starts from the beginning: its first chunk stands on its own.
            image(&card.save()?)?;
            card.reset()?;
        }
    }
    Ok(())
}

fn v1_21_reset_ends_a_resuming_session(context: &Context) -> Outcome {
    let good = good_stream(context, 21)?.bytes();
    let card = TestDevice::new(context)?;
    let fresh = card.image()?;
    for part in [good.len() / 2, good.len()] {
        card.set(State::RESUMING)?;
        card.migration.feed(&good[..part], usize::MAX)?;
        card.reset()?;
        denied(
            "more of the stream after the reset",
            card.migration.feed_chunk(&good[part - 1..]),
        )?;
        card.expect_reset(
            format_args!("image after a reset {part} bytes into the stream"),
            &fresh,
        )?;
        // Nothing of the first session is left that the second could take for its own.
        card.set(State::RESUMING)?;
        refused(
            "leaving RESUMING without a stream",
            card.migration.set_state(State::RUNNING),
            Errno::NODATA,
        )?;
        card.reset()?;
        card.resume(&good)?;
        card.reset()?;
    }
    Ok(())
}

fn v1_22_nothing_else_changes_the_state(context: &Context) -> Outcome {
    for state in State::VALID {
        let card = TestDevice::new(context)?;
        let event = EventFd::new()?;
        card.set(state)?;
        let region = card.migration.region();
        let window = card.migration.window();
        region.read_u32(4)?;
        card.migration.pending()?;
        card.migration.data_offset()?;
        card.migration.data_size()?;
        let _ = card.migration.set_data_size(0);
        let _ = card.migration.set_data_size(u64::MAX);
        if state == State::RESUMING {
            let _ = card.migration.feed_chunk(&[0xff; 100]);
        }
        region.write(window.offset, &[1; 16])?;
        card.migration.map_window()?.write(0, &[2; 16]);
        card.poke()?;
        config::space(&card)?.write(config::INTERRUPT_LINE, &[11])?;
        card.device().set_trigger(Index::Intx, Some(&event))?;
        card.device().disable_irqs(Index::Intx)?;
        card.device().info()?;
        card.device().duplicate()?;
        card.migration.drain()?;
        card.expect(state)?;
    }
    Ok(())
}

fn v1_23_running_stop(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    card.fill(23)?;
    card.set(State::STOP)?;
    same("pending_bytes", card.migration.pending()?, 0)?;
    card.set(State::RUNNING)?;
    card.expect_filled(23)
}

/// Checks that a stream makes a fresh card what `fill` made of the source.
#[track_caller]
fn expect_arrives(context: &Context, stream: &[u8], seed: u8) -> Outcome {
    let destination = TestDevice::new(context)?;
    destination.resume(stream)?;
    destination.expect_filled(seed)
}

fn v1_23_running_stop_copy_stop(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    card.fill(123)?;
    let stream = card.save()?;
    card.set(State::STOP)?;
    expect_arrives(context, &stream, 123)
}

fn v1_23_running_pre_copy_stop_copy_stop(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    card.fill(124)?;
    card.set(State::PRE_COPY)?;
    let mut stream = card.migration.save()?;
    // The device runs on during pre-copy, and what it does then is in the stream as well.
    card.empty()?;
    card.fill(126)?;
    card.set(State::STOP_COPY)?;
    stream.extend(card.migration.save()?);
    card.set(State::STOP)?;
    expect_arrives(context, &stream, 126)
}

fn v1_23_running_resuming_running(context: &Context) -> Outcome {
    let stream = good_stream(context, 32)?.bytes();
    let card = TestDevice::new(context)?;
    card.set(State::RESUMING)?;
    card.migration.feed(&stream, usize::MAX)?;
    card.set(State::RUNNING)?;
    card.expect_filled(32)
}

fn v1_24_running_to_stop_copy_and_back_as_savevm_does(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    card.fill(24)?;
    let stream = card.save()?;
    card.set(State::STOP)?;
    card.set(State::RUNNING)?;
    card.expect_filled(24)?;
    expect_arrives(context, &stream, 24)?;
    // And loadvm into the same device, which has gone on meanwhile.
    card.resume(&stream)?;
    card.expect_filled(24)
}

fn v1_24_stop_to_stop_copy_as_a_paused_migration_does(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    card.fill(25)?;
    card.set(State::STOP)?;
    card.set(State::STOP_COPY)?;
    let stream = card.migration.save()?;
    card.set(State::STOP)?;
    let destination = TestDevice::new(context)?;
    destination.set(State::RESUMING)?;
    destination.migration.feed(&stream, usize::MAX)?;
    // The destination stays paused, too, and is continued later.
    destination.set(State::STOP)?;
    destination.set(State::RUNNING)?;
    destination.expect_filled(25)
}

fn v1_24_stop_to_resuming_as_loadvm_does(context: &Context) -> Outcome {
    let stream = good_stream(context, 26)?.bytes();
    let card = TestDevice::new(context)?;
    card.fill(99)?;
    card.set(State::STOP)?;
    card.set(State::RESUMING)?;
    card.migration.feed(&stream, usize::MAX)?;
    card.set(State::STOP)?;
    card.set(State::RUNNING)?;
    card.expect_filled(26)
}

fn v1_24_cancel_from_any_state_to_running(context: &Context) -> Outcome {
    for state in [State::PRE_COPY, State::STOP_COPY, State::STOP] {
        let card = TestDevice::new(context)?;
        card.fill(27)?;
        card.set(state)?;
        card.migration.pending()?;
        card.migration.data_offset()?;
        card.set(State::RUNNING)?;
        same(
            format_args!("pending_bytes after a cancel in {state}"),
            card.migration.pending()?,
            0,
        )?;
        card.expect_filled(27)?;
        card.expect_works()?;
    }
    Ok(())
}

fn v1_24_saving_and_resuming_to_stop(context: &Context) -> Outcome {
    for state in [State::PRE_COPY, State::STOP_COPY] {
        let card = TestDevice::new(context)?;
        card.fill(28)?;
        card.set(state)?;
        card.set(State::STOP)?;
        card.set(State::RUNNING)?;
        card.expect_filled(28)?;
    }
    let stream = good_stream(context, 29)?.bytes();
    let card = TestDevice::new(context)?;
    card.set(State::RESUMING)?;
    card.migration.feed(&stream, usize::MAX)?;
    card.set(State::STOP)?;
    card.set(State::RUNNING)?;
    card.expect_filled(29)
}

fn v1_24_stop_and_continue_during_pre_copy(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    card.fill(30)?;
    card.set(State::PRE_COPY)?;
    let mut stream = card.migration.save()?;
    card.set(State::STOP_COPY)?;
    stream.extend(card.migration.save()?);
    card.set(State::RUNNING)?;
    card.empty()?;
    card.fill(31)?;
    card.set(State::STOP)?;
    card.set(State::STOP_COPY)?;
    stream.extend(card.migration.save()?);
    card.set(State::STOP)?;
    expect_arrives(context, &stream, 31)
}

fn v1_25_every_pair_of_valid_states(context: &Context) -> Outcome {
    for from in State::VALID {
        for to in State::VALID {
            let card = TestDevice::new(context)?;
            card.fill(25)?;
            card.set(from)?;
            if from == State::RESUMING && to != State::RESUMING {
                // Finishing the resume is the step that fails; the stop before it is undone.
                refused(
                    format_args!("{from} to {to} without a stream"),
                    card.migration.set_state(to),
                    Errno::NODATA,
                )?;
                card.expect(State::RESUMING)?;
                continue;
            }
            card.set(to)?;
            if to == State::RESUMING {
                continue;
            }
            card.set(State::RUNNING)?;
            card.expect_filled(25)?;
        }
    }
    Ok(())
}

fn v1_25_every_state_after_a_complete_resume(context: &Context) -> Outcome {
    let stream = good_stream(context, 52)?.bytes();
    for to in State::VALID {
        let card = TestDevice::new(context)?;
        card.set(State::RESUMING)?;
        card.migration.feed(&stream, usize::MAX)?;
        card.set(to)?;
        if to.is_saving() {
            let mut saved = card.migration.save()?;
            if to == State::PRE_COPY {
                card.set(State::STOP_COPY)?;
                saved.extend(card.migration.save()?);
            }
            same_bytes(
                format_args!("image saved in {to}"),
                &image(&saved)?,
                &image(&stream)?,
            )?;
        }
        card.set(State::RUNNING)?;
        card.expect_filled(52)?;
    }
    Ok(())
}

fn v1_26_a_same_state_write_has_no_side_effect(context: &Context) -> Outcome {
    for state in State::VALID {
        let card = TestDevice::new(context)?;
        card.fill(26)?;
        card.set(state)?;
        for reserved in [0, 0x70, 0] {
            card.set(State(state.0 | reserved))?;
        }
        if state == State::RESUMING {
            continue;
        }
        card.set(State::RUNNING)?;
        card.expect_filled(26)?;
    }
    Ok(())
}

fn v1_26_a_second_stop_copy_does_not_restart_it(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    card.fill(62)?;
    card.set(State::STOP_COPY)?;
    let mut stream = Vec::new();
    card.migration.set_state(State::STOP_COPY)?;
    while card.migration.pending()? != 0 {
        card.set(State::STOP_COPY)?;
        let first = card.migration.presented()?;
        card.set(State::STOP_COPY)?;
        same(
            "the presented chunk after a same-state write",
            card.migration.presented()?,
            first.clone(),
        )?;
        stream.extend(first.1);
    }
    card.set(State::STOP_COPY)?;
    same(
        "pending_bytes at the end, after a same-state write",
        card.migration.pending()?,
        0,
    )?;
    let headers = Stream::parse(&stream)
        .map_err(Stop::failed)?
        .0
        .iter()
        .filter(|record| record.kind == HEADER_RECORD)
        .count();
    same("headers in the stream", headers, 1)?;
    image(&stream)?;
    expect_arrives(context, &stream, 62)
}

fn v1_26_a_second_resuming_does_not_restart_it(context: &Context) -> Outcome {
    let stream = good_stream(context, 63)?.bytes();
    let card = TestDevice::new(context)?;
    card.set(State::RESUMING)?;
    for chunk in stream.chunks(97) {
        card.migration.feed_chunk(chunk)?;
        card.set(State(State::RESUMING.0 | 0x100))?;
        card.set(State::RESUMING)?;
    }
    card.set(State::RUNNING)?;
    card.expect_filled(63)
}

fn v1_27_stop_is_supported(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    card.set(State::STOP)?;
    card.set(State::RUNNING)?;
    card.expect_works()
}

fn v1_27_pre_copy_is_accepted_with_nothing_to_send(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    card.set(State::PRE_COPY)?;
    // Whatever there may be, there is an end to it, and then there is nothing.
    card.migration.drain()?;
    same("pending_bytes", card.migration.pending()?, 0)?;
    card.expect_works()?;
    card.expect(State::PRE_COPY)?;
    card.set(State::RUNNING)?;
    card.set(State::PRE_COPY)
}

fn v1_28_a_saving_state_may_be_left_with_data_unread(context: &Context) -> Outcome {
    let reads: [fn(&Migration) -> vfio_client::Result<()>; 4] = [
        |_| Ok(()),
        |migration| migration.pending().map(drop),
        |migration| migration.pending().and(migration.data_offset()).map(drop),
        |migration| migration.next_chunk().map(drop),
    ];
    for from in [State::PRE_COPY, State::STOP_COPY] {
        for to in [State::RUNNING, State::STOP] {
            for (i, read) in reads.iter().enumerate() {
                let card = TestDevice::new(context)?;
                card.fill(82)?;
                card.set(from)?;
                read(&card.migration)?;
                card.set(to)?;
                same(
                    format_args!("pending_bytes after {from} to {to}, {i}"),
                    card.migration.pending()?,
                    0,
                )?;
                card.set(State::RUNNING)?;
                card.expect_filled(82)?;
            }
        }
    }
    Ok(())
}

fn v1_28_a_cancelled_stream_is_discarded(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    card.fill(83)?;
    for state in [State::PRE_COPY, State::STOP_COPY] {
        card.set(state)?;
        card.migration.next_chunk()?;
        card.set(State::RUNNING)?;
        // The next migration goes to somebody who never saw the first.
        let stream = card.save()?;
        card.set(State::RUNNING)?;
        expect_arrives(context, &stream, 83)?;
    }
    card.expect_filled(83)
}

fn v1_29_munmap_comes_before_the_cancelling_state(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    card.fill(92)?;
    for state in [State::PRE_COPY, State::STOP_COPY] {
        let mapping = card.migration.map_window()?;
        card.set(state)?;
        card.migration.pending()?;
        card.migration.data_offset()?;
        drop(mapping);
        card.set(State::RUNNING)?;
        same("pending_bytes", card.migration.pending()?, 0)?;
    }
    card.expect_filled(92)
}

fn v1_30_an_empty_session_cannot_leave_resuming(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    card.set(State::RESUMING)?;
    for state in [State::RUNNING, State::STOP] {
        refused(
            format_args!("RESUMING to {state}"),
            card.migration.set_state(state),
            Errno::NODATA,
        )?;
        card.expect(State::RESUMING)?;
    }
    Ok(())
}

fn v1_30_an_incomplete_stream_cannot_leave_resuming(context: &Context) -> Outcome {
    let stream = good_stream(context, 30)?.bytes();
    let card = TestDevice::new(context)?;
    for part in [1, 31, 32, 33, stream.len() / 2, stream.len() - 1] {
        card.set(State::RESUMING)?;
        card.migration.feed(&stream[..part], usize::MAX)?;
        for state in [State::RUNNING, State::STOP] {
            refused(
                format_args!("RESUMING to {state} after {part} bytes"),
                card.migration.set_state(state),
                Errno::NODATA,
            )?;
            card.expect(State::RESUMING)?;
        }
        // The session is as it was: the rest makes it whole.
        card.migration.feed(&stream[part..], usize::MAX)?;
        card.set(State::RUNNING)?;
        card.expect_filled(30)?;
        card.reset()?;
    }
    Ok(())
}

fn v1_30_a_bad_stream_is_refused_at_data_size(context: &Context) -> Outcome {
    let good = good_stream(context, 33)?;
    let state = good.device_state().map_err(Stop::failed)?;
    // A state that no device can be in, in a stream that is otherwise faultless.
    let bad = good.with_state(&vec![0xff; state.len()]).bytes();
    let short = good.with_state(&state[..state.len() - 1]).bytes();
    let card = TestDevice::new(context)?;
    for (what, stream) in [("all ones", bad), ("a byte short", short)] {
        card.set(State::RESUMING)?;
        one_of(
            format_args!("a device state of {what}"),
            card.migration.feed(&stream, usize::MAX),
            &[Errno::BADMSG, Errno::INVAL],
        )?;
        card.expect(State::RESUMING)?;
        card.reset()?;
    }
    Ok(())
}

fn v1_31_config_writes_and_interrupt_set_up_while_resuming(context: &Context) -> Outcome {
    let source = TestDevice::new(context)?;
    source.raise()?;
    let stream = source.save()?;

    let card = TestDevice::new(context)?;
    card.set(State::RESUMING)?;
    card.migration.feed(&stream, usize::MAX)?;
    // The order of QEMU's vfio_load_state: device data, then config space, then interrupts.
    let space = config::space(&card)?;
    let command = config::COMMAND_IO_OR_MEMORY | config::COMMAND_MASTER;
    let bar = config::bar(context.kind);
    space.write(config::COMMAND, &command.to_le_bytes())?;
    space.write(config::BAR0, &bar.to_le_bytes())?;
    space.write(config::INTERRUPT_LINE, &[11])?;
    let expect = |when: &str| -> Outcome {
        same(
            format_args!("command {when}"),
            space.read_u16(config::COMMAND)? & config::COMMAND_MASTER,
            config::COMMAND_MASTER,
        )?;
        same(
            format_args!("interrupt line {when}"),
            space.read_u8(config::INTERRUPT_LINE)?,
            11,
        )?;
        same(
            format_args!("BAR0 {when}"),
            space.read_u32(config::BAR0)?,
            bar,
        )
    };
    expect("while resuming")?;
    let event = EventFd::new()?;
    card.device().set_trigger(Index::Intx, Some(&event))?;
    same("interrupts while resuming", event.take()?, 0)?;
    card.set(State::RUNNING)?;
    expect("after resuming")?;
    same("interrupts once it runs", event.wait(PATIENCE)?, 1)
}

fn v1_31_config_writes_and_interrupt_set_up_while_stopped(context: &Context) -> Outcome {
    for state in [State::STOP, State::STOP_COPY] {
        let card = TestDevice::new(context)?;
        card.raise()?;
        card.set(state)?;
        let space = config::space(&card)?;
        space.write(config::INTERRUPT_LINE, &[7])?;
        same("interrupt line", space.read_u8(config::INTERRUPT_LINE)?, 7)?;
        let event = EventFd::new()?;
        card.device().set_trigger(Index::Intx, Some(&event))?;
        card.device().mask(Index::Intx)?;
        card.device().unmask(Index::Intx)?;
        same(format_args!("interrupts in {state}"), event.take()?, 0)?;
        card.set(State::RUNNING)?;
        same("interrupts once it runs", event.wait(PATIENCE)?, 1)?;
        same(
            "interrupt line once it runs",
            space.read_u8(config::INTERRUPT_LINE)?,
            7,
        )?;
    }
    Ok(())
}

fn v1_32_close_in_any_state_and_the_next_open_is_fresh(context: &Context) -> Outcome {
    let stream = good_stream(context, 23)?.bytes();
    let mut card = TestDevice::new(context)?;
    let fresh = card.image()?;
    for state in State::VALID {
        card = card.reopen()?;
        card.fill(33)?;
        let event = EventFd::new()?;
        card.device().set_trigger(Index::Intx, Some(&event))?;
        card.set(state)?;
        let mapping = card.migration.map_window()?;
        let duplicate = card.device().duplicate()?;
        if state.is_saving() {
            card.migration.pending()?;
            card.migration.data_offset()?;
        }
        if state == State::RESUMING {
            card.migration
                .feed(&stream[..stream.len() - 1], usize::MAX)?;
        }
        let mdev = card.close();
        drop(duplicate);
        drop(mapping);
        card = TestDevice::open(mdev)?;
        card.expect(State::RUNNING)?;
        same("pending_bytes", card.migration.pending()?, 0)?;
        same_bytes(
            format_args!("image after a close in {state}"),
            &card.image()?,
            &fresh,
        )?;
        // An eventfd of the last open must not be signalled by this one.
        card.raise()?;
        same("interrupts for the last user", event.take()?, 0)?;
    }
    Ok(())
}

fn v1_32_a_duplicate_descriptor_keeps_the_session(context: &Context) -> Outcome {
    // Goes last, because it waits for all users.
    let mdev;
    let card = TestDevice::new(context)?;
    card.fill(34)?;
    card.set(State::STOP_COPY)?;
    let duplicate = card.device().duplicate()?;
    mdev = card.close();
    let migration = Migration::find(&duplicate)?
        .ok_or_else(|| Stop::failed("expected a migration region, seen none"))?;
    same("device_state", migration.state()?, State::STOP_COPY)?;
    let stream = migration.save()?;
    drop(migration);
    drop(duplicate);
    drop(mdev);
    expect_arrives(context, &stream, 34)
}

fn v1_32_a_mapping_keeps_the_device_open(context: &Context) -> Outcome {
    // Goes last, because it waits for all users.
    let mdev;
    let card = TestDevice::new(context)?;
    let mapping = card.migration.map_window()?;
    card.set(State::STOP_COPY)?;
    mdev = card.close();
    mapping.write(0, b"still here");
    let mut bytes = [0; 10];
    mapping.read(0, &mut bytes);
    same_bytes("the mapping", &bytes, b"still here")?;
    // Not closed yet, so neither free for the next user nor for another window.
    refused("a second open", Group::open(mdev.group()?), Errno::BUSY)?;
    refused(
        "a new window size",
        mdev.set_attribute(WINDOW_SIZE, b"4096"),
        Errno::BUSY,
    )?;
    drop(mapping);
    let card = TestDevice::open(mdev)?;
    card.expect(State::RUNNING)?;
    let mut bytes = [0xff; 10];
    card.migration
        .read_data(card.migration.window().offset, &mut bytes)?;
    same_bytes("the next user's window", &bytes, &[0; 10])
}

fn v1_32_a_killed_user_leaves_a_fresh_device(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    let fresh = card.image()?;
    let mut mdev = card.close();
    for state in State::VALID {
        let hold = ["--hold", mdev.uuid(), &state.0.to_string()];
        let mut child = second::start(&hold, Stdio::piped(), HELD)?;
        let killed = child.kill().and_then(|()| child.wait());
        killed.map_err(Stop::failed)?;
        let card = TestDevice::open(mdev)?;
        card.expect(State::RUNNING)?;
        same_bytes(
            format_args!("image after a kill in {state}"),
            &card.image()?,
            &fresh,
        )?;
        mdev = card.close();
    }
    Ok(())
}

/// What the process says that [`hold`]s a device.
pub const HELD: &str = "held";

/// Opens a device, changes all there is to change, goes to a state and stays there: the life of a
/// VMM that is about to be killed.
///
/// # Errors
///
/// What the kernel answers.
pub fn hold(uuid: &str, state: u32) -> Outcome {
    let mut card = TestDevice::open(vfio_client::Mdev::existing(uuid))?;
    let event = EventFd::new()?;
    card.device().set_trigger(Index::Intx, Some(&event))?;
    card.fill(0x77)?;
    card.raise()?;
    card.migration.map()?;
    card.migration.set_state(State(state))?;
    card.migration.next_chunk()?;
    println!("{HELD}");
    // Until the pipe breaks or the signal comes.
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
    Ok(())
}
