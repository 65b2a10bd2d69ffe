// SPDX-License-Identifier: GPL-2.0

//! Statements 16 to 32: the device state.

use std::process::Stdio;

use vfio_client::irq::Index;
use vfio_client::stream::Stream;
use vfio_client::stream::HEADER_RECORD;
use vfio_client::v1::Migration;
use vfio_client::v1::State;
use vfio_client::Address;
use vfio_client::Backend;
use vfio_client::Errno;
use vfio_client::EventFd;
use vfio_client::Group;

use crate::case::cases;
use crate::case::Case;
use crate::check::denied;
use crate::check::one_of;
use crate::check::refused;
use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::check::Stop;
use crate::requirement::Requirement;
use crate::second_process;
use crate::target::Target;
use crate::v1::config;
use crate::v1::device::good_stream;
use crate::v1::device::image;
use crate::v1::device::TestDevice;
use crate::v1::device::DEVICE_STATE;
use crate::v1::device::PATIENCE;
use crate::v1::device::WINDOW_SIZE;

const NEEDS: &[Requirement] = &[Requirement::V1];

pub const CASES: &[Case] = cases![
    NEEDS;
    v1_16_reserved_bits_read_back_as_written,
    v1_16_reserved_bits_survive_a_refused_write,
    v1_17_an_open_device_runs [Ferry, Driver],
    v1_17_every_open_runs_whatever_state_it_was_closed_in [Ferry, Driver],
    v1_18_the_five_valid_states_are_accepted [Ferry],
    v1_18_the_three_invalid_states_change_nothing [Driver],
    v1_19_no_interrupt_after_stop [Driver, Intx],
    v1_19_no_state_advance_after_stop [Ferry, Driver],
    v1_19_an_interrupt_due_while_stopped_comes_when_it_runs [Driver, Intx],
    v1_20_after_a_failed_write_the_previous_state_is_read [Ferry],
    v1_21_reset_works_from_any_state [Ferry, Driver],
    v1_21_reset_ends_a_saving_session [Ferry, Driver],
    v1_21_reset_ends_a_resuming_session [Ferry, Driver],
    v1_22_nothing_else_changes_the_state [Driver, Intx],
    v1_23_running_stop [Driver],
    v1_23_running_stop_copy_stop [Driver, Pair],
    v1_23_running_pre_copy_stop_copy_stop [Driver, Pair],
    v1_23_running_resuming_running [Ferry, Driver],
    v1_24_running_to_stop_copy_and_back_as_savevm_does [Driver, Pair],
    v1_24_stop_to_stop_copy_as_a_paused_migration_does [Driver, Pair],
    v1_24_stop_to_resuming_as_loadvm_does [Ferry, Driver],
    v1_24_cancel_from_any_state_to_running [Driver],
    v1_24_saving_and_resuming_to_stop [Ferry, Driver],
    v1_24_stop_and_continue_during_pre_copy [Driver, Pair],
    v1_25_every_pair_of_valid_states [Driver],
    v1_25_every_state_after_a_complete_resume [Ferry, Driver],
    v1_26_a_same_state_write_has_no_side_effect [Driver],
    v1_26_a_second_stop_copy_does_not_restart_it [Ferry, Driver, Pair],
    v1_26_a_second_resuming_does_not_restart_it [Ferry, Driver],
    v1_27_stop_is_supported [Driver],
    v1_27_pre_copy_is_accepted_with_nothing_to_send [Driver],
    v1_28_a_saving_state_may_be_left_with_data_unread [Driver],
    v1_28_a_cancelled_stream_is_discarded [Driver, Pair],
    v1_29_munmap_comes_before_the_cancelling_state [Driver],
    v1_30_an_empty_session_cannot_leave_resuming,
    v1_30_an_incomplete_stream_cannot_leave_resuming [Ferry, Driver],
    v1_30_a_bad_stream_is_refused_at_data_size [Ferry, Driver],
    v1_31_config_writes_and_interrupt_set_up_while_resuming [Driver, Intx, Pair],
    v1_31_config_writes_and_interrupt_set_up_while_stopped [Driver, Intx],
    v1_32_close_in_any_state_and_the_next_open_is_fresh [Ferry, Driver, Intx],
    v1_32_a_duplicate_descriptor_keeps_the_session [Driver],
    v1_32_a_mapping_keeps_the_device_open [Ferry],
    v1_32_a_killed_user_leaves_a_fresh_device [Ferry],
];

fn v1_16_reserved_bits_read_back_as_written(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    for state in State::VALID {
        for reserved in [0xffff_fff8, 0x8, 0x8000_0000, 0x1234_5670] {
            // Reserved bits come with every state, also with a change of it.
            device.set(State(state.0 | reserved))?;
            device.set(State(state.0))?;
        }
        if state == State::RESUMING {
            device.reset()?;
        }
    }
    Ok(())
}

fn v1_16_reserved_bits_survive_a_refused_write(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let state = State(State::STOP.0 | 0x1234_5670);
    device.set(state)?;
    refused(
        "write of an invalid state",
        device
            .migration
            .set_state(State(0xabcd_ef00 | State::ERROR.0)),
        Errno::INVAL,
    )?;
    device.expect(state)
}

fn v1_17_an_open_device_runs(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.expect(State::RUNNING)?;
    same(
        "device_state in sysfs",
        device.subject.attribute(DEVICE_STATE)?,
        "RUNNING".to_string(),
    )?;
    device.expect_works()
}

fn v1_17_every_open_runs_whatever_state_it_was_closed_in(target: &Target) -> Outcome {
    let mut device = TestDevice::new(target)?;
    let fresh = device.image()?;
    for state in State::VALID {
        device = device.reopen()?;
        device.fill(17)?;
        device.set(State(state.0 | 0x100))?;
        device = device.reopen()?;
        device.expect(State::RUNNING)?;
        same_bytes(
            format_args!("image after a close in {state}"),
            &device.image()?,
            &fresh,
        )?;
    }
    Ok(())
}

fn v1_18_the_five_valid_states_are_accepted(target: &Target) -> Outcome {
    for state in State::VALID {
        let device = TestDevice::new(target)?;
        device.set(state)?;
        same(
            "device_state in sysfs",
            device.subject.attribute(DEVICE_STATE)?,
            state.name().to_string(),
        )?;
    }
    Ok(())
}

fn v1_18_the_three_invalid_states_change_nothing(target: &Target) -> Outcome {
    for state in State::VALID {
        let device = TestDevice::new(target)?;
        device.fill(18)?;
        device.set(state)?;
        let before = if state.is_saving() {
            device.migration.pending()?;
            Some(device.migration.presented()?)
        } else {
            None
        };
        for invalid in State::INVALID {
            for reserved in [0, 0xffff_fff8] {
                let word = State(invalid.0 | reserved);
                refused(
                    format_args!("{state}: write of {word}"),
                    device.migration.set_state(word),
                    Errno::INVAL,
                )?;
                device.expect(state)?;
            }
        }
        if let Some(before) = before {
            same(
                format_args!("{state}: the presented chunk"),
                device.migration.presented()?,
                before,
            )?;
        }
        device.reset()?;
    }
    Ok(())
}

/// Connects an eventfd to INTx and has the device assert it.
fn raise(device: &TestDevice) -> Outcome<EventFd> {
    let event = EventFd::new()?;
    device.vfio().set_trigger(Index::Intx, Some(&event))?;
    device.raise()?;
    same("interrupts", event.wait(PATIENCE)?, 1)?;
    Ok(event)
}

fn v1_19_no_interrupt_after_stop(target: &Target) -> Outcome {
    for state in [State::STOP, State::STOP_COPY, State::RESUMING] {
        let device = TestDevice::new(target)?;
        let event = raise(&device)?;
        device.set(state)?;
        // The line is still up, so in RUNNING this would signal at once.
        device.vfio().unmask(Index::Intx)?;
        same(
            format_args!("{state}: interrupts after unmask"),
            event.take()?,
            0,
        )?;
        for _ in 0..4 {
            device.poke()?;
        }
        same(
            format_args!("{state}: interrupts after MMIO"),
            event.take()?,
            0,
        )?;
        device.expect(state)?;
    }
    Ok(())
}

fn v1_19_no_state_advance_after_stop(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(19)?;
    let expected = device.image()?;
    for state in [State::STOP, State::STOP_COPY] {
        device.set(state)?;
        device.poke()?;
        device.set(State::RUNNING)?;
        same_bytes(
            format_args!("image after MMIO in {state}"),
            &device.image()?,
            &expected,
        )?;
    }
    device.expect_filled(19)
}

fn v1_19_an_interrupt_due_while_stopped_comes_when_it_runs(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let event = raise(&device)?;
    device.set(State::STOP)?;
    device.vfio().unmask(Index::Intx)?;
    same("interrupts while stopped", event.take()?, 0)?;
    device.set(State::RUNNING)?;
    same("interrupts once it runs", event.wait(PATIENCE)?, 1)
}

fn v1_20_after_a_failed_write_the_previous_state_is_read(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    for state in [
        State::RUNNING,
        State::STOP,
        State::PRE_COPY,
        State::STOP_COPY,
        State::RESUMING,
    ] {
        device.set(state)?;
        refused(
            format_args!("{state}: write of 111b"),
            device.migration.set_state(State::INVALID[2]),
            Errno::INVAL,
        )?;
        device.expect(state)?;
    }
    for state in [State::RUNNING, State::STOP] {
        refused(
            format_args!("RESUMING to {state} without a stream"),
            device.migration.set_state(state),
            Errno::NODATA,
        )?;
        device.expect(State::RESUMING)?;
        same(
            "device_state in sysfs",
            device.subject.attribute(DEVICE_STATE)?,
            "RESUMING".to_string(),
        )?;
    }
    Ok(())
}

fn v1_21_reset_works_from_any_state(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let fresh = device.image()?;
    for state in State::VALID {
        device.fill(21)?;
        device.set(state)?;
        device.reset()?;
        same(
            "device_state in sysfs",
            device.subject.attribute(DEVICE_STATE)?,
            "RUNNING".to_string(),
        )?;
        device.expect_reset(format_args!("image after a reset in {state}"), &fresh)?;
    }
    Ok(())
}

fn v1_21_reset_ends_a_saving_session(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(21)?;
    for state in [State::PRE_COPY, State::STOP_COPY] {
        for presented in [false, true] {
            device.set(state)?;
            device.migration.pending()?;
            if presented {
                device.migration.data_offset()?;
            }
            device.reset()?;
            same("pending_bytes", device.migration.pending()?, 0)?;
            device.migration.data_offset()?;
            same("data_size", device.migration.data_size()?, 0)?;
            // The next session starts from the beginning: its first chunk stands on its own.
            image(&device.save()?)?;
            device.reset()?;
        }
    }
    Ok(())
}

fn v1_21_reset_ends_a_resuming_session(target: &Target) -> Outcome {
    let good = good_stream(target, 21)?.bytes();
    let device = TestDevice::new(target)?;
    let fresh = device.image()?;
    for part in [good.len() / 2, good.len()] {
        device.set(State::RESUMING)?;
        device.migration.feed(&good[..part], usize::MAX)?;
        device.reset()?;
        denied(
            "more of the stream after the reset",
            device.migration.feed_chunk(&good[part - 1..]),
        )?;
        device.expect_reset(
            format_args!("image after a reset {part} bytes into the stream"),
            &fresh,
        )?;
        // The second session finds no bytes of the first one.
        device.set(State::RESUMING)?;
        refused(
            "leaving RESUMING without a stream",
            device.migration.set_state(State::RUNNING),
            Errno::NODATA,
        )?;
        device.reset()?;
        device.resume(&good)?;
        device.reset()?;
    }
    Ok(())
}

fn v1_22_nothing_else_changes_the_state(target: &Target) -> Outcome {
    for state in State::VALID {
        let device = TestDevice::new(target)?;
        let event = EventFd::new()?;
        device.set(state)?;
        let region = device.migration.region();
        let window = device.migration.window();
        region.read_u32(4)?;
        device.migration.pending()?;
        device.migration.data_offset()?;
        device.migration.data_size()?;
        let _ = device.migration.set_data_size(0);
        let _ = device.migration.set_data_size(u64::MAX);
        if state == State::RESUMING {
            let _ = device.migration.feed_chunk(&[0xff; 100]);
        }
        region.write(window.offset, &[1; 16])?;
        device.migration.map_window()?.write(0, &[2; 16]);
        device.poke()?;
        config::space(&device)?.write(config::INTERRUPT_LINE, &[11])?;
        device.vfio().set_trigger(Index::Intx, Some(&event))?;
        device.vfio().disable_irqs(Index::Intx)?;
        device.vfio().info()?;
        device.vfio().duplicate()?;
        device.migration.drain()?;
        device.expect(state)?;
    }
    Ok(())
}

fn v1_23_running_stop(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(23)?;
    device.set(State::STOP)?;
    same("pending_bytes", device.migration.pending()?, 0)?;
    device.set(State::RUNNING)?;
    device.expect_filled(23)
}

/// Checks that a stream makes a fresh device what `fill` made of the source.
#[track_caller]
fn expect_arrives(target: &Target, stream: &[u8], seed: u8) -> Outcome {
    let destination = TestDevice::new(target)?;
    destination.resume(stream)?;
    destination.expect_filled(seed)
}

fn v1_23_running_stop_copy_stop(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(123)?;
    let stream = device.save()?;
    device.set(State::STOP)?;
    expect_arrives(target, &stream, 123)
}

fn v1_23_running_pre_copy_stop_copy_stop(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(124)?;
    device.set(State::PRE_COPY)?;
    let mut stream = device.migration.save()?;
    // The device runs on during pre-copy, and what it does then is in the stream as well.
    device.empty()?;
    device.fill(126)?;
    device.set(State::STOP_COPY)?;
    stream.extend(device.migration.save()?);
    device.set(State::STOP)?;
    expect_arrives(target, &stream, 126)
}

fn v1_23_running_resuming_running(target: &Target) -> Outcome {
    let stream = good_stream(target, 32)?.bytes();
    let device = TestDevice::new(target)?;
    device.set(State::RESUMING)?;
    device.migration.feed(&stream, usize::MAX)?;
    device.set(State::RUNNING)?;
    device.expect_filled(32)
}

fn v1_24_running_to_stop_copy_and_back_as_savevm_does(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(24)?;
    let stream = device.save()?;
    device.set(State::STOP)?;
    device.set(State::RUNNING)?;
    device.expect_filled(24)?;
    expect_arrives(target, &stream, 24)?;
    // And loadvm into the same device, which has gone on meanwhile.
    device.resume(&stream)?;
    device.expect_filled(24)
}

fn v1_24_stop_to_stop_copy_as_a_paused_migration_does(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(25)?;
    device.set(State::STOP)?;
    device.set(State::STOP_COPY)?;
    let stream = device.migration.save()?;
    device.set(State::STOP)?;
    let destination = TestDevice::new(target)?;
    destination.set(State::RESUMING)?;
    destination.migration.feed(&stream, usize::MAX)?;
    // The destination stays paused, too, and is continued later.
    destination.set(State::STOP)?;
    destination.set(State::RUNNING)?;
    destination.expect_filled(25)
}

fn v1_24_stop_to_resuming_as_loadvm_does(target: &Target) -> Outcome {
    let stream = good_stream(target, 26)?.bytes();
    let device = TestDevice::new(target)?;
    device.fill(99)?;
    device.set(State::STOP)?;
    device.set(State::RESUMING)?;
    device.migration.feed(&stream, usize::MAX)?;
    device.set(State::STOP)?;
    device.set(State::RUNNING)?;
    device.expect_filled(26)
}

fn v1_24_cancel_from_any_state_to_running(target: &Target) -> Outcome {
    for state in [State::PRE_COPY, State::STOP_COPY, State::STOP] {
        let device = TestDevice::new(target)?;
        device.fill(27)?;
        device.set(state)?;
        device.migration.pending()?;
        device.migration.data_offset()?;
        device.set(State::RUNNING)?;
        same(
            format_args!("pending_bytes after a cancel in {state}"),
            device.migration.pending()?,
            0,
        )?;
        device.expect_filled(27)?;
        device.expect_works()?;
    }
    Ok(())
}

fn v1_24_saving_and_resuming_to_stop(target: &Target) -> Outcome {
    for state in [State::PRE_COPY, State::STOP_COPY] {
        let device = TestDevice::new(target)?;
        device.fill(28)?;
        device.set(state)?;
        device.set(State::STOP)?;
        device.set(State::RUNNING)?;
        device.expect_filled(28)?;
    }
    let stream = good_stream(target, 29)?.bytes();
    let device = TestDevice::new(target)?;
    device.set(State::RESUMING)?;
    device.migration.feed(&stream, usize::MAX)?;
    device.set(State::STOP)?;
    device.set(State::RUNNING)?;
    device.expect_filled(29)
}

fn v1_24_stop_and_continue_during_pre_copy(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(30)?;
    device.set(State::PRE_COPY)?;
    let mut stream = device.migration.save()?;
    device.set(State::STOP_COPY)?;
    stream.extend(device.migration.save()?);
    device.set(State::RUNNING)?;
    device.empty()?;
    device.fill(31)?;
    device.set(State::STOP)?;
    device.set(State::STOP_COPY)?;
    stream.extend(device.migration.save()?);
    device.set(State::STOP)?;
    expect_arrives(target, &stream, 31)
}

fn v1_25_every_pair_of_valid_states(target: &Target) -> Outcome {
    for from in State::VALID {
        for to in State::VALID {
            let device = TestDevice::new(target)?;
            device.fill(25)?;
            device.set(from)?;
            if from == State::RESUMING && to != State::RESUMING {
                // Finishing the resume is the step that fails; the stop before it is undone.
                refused(
                    format_args!("{from} to {to} without a stream"),
                    device.migration.set_state(to),
                    Errno::NODATA,
                )?;
                device.expect(State::RESUMING)?;
                continue;
            }
            device.set(to)?;
            if to == State::RESUMING {
                continue;
            }
            device.set(State::RUNNING)?;
            device.expect_filled(25)?;
        }
    }
    Ok(())
}

fn v1_25_every_state_after_a_complete_resume(target: &Target) -> Outcome {
    let stream = good_stream(target, 52)?.bytes();
    for to in State::VALID {
        let device = TestDevice::new(target)?;
        device.set(State::RESUMING)?;
        device.migration.feed(&stream, usize::MAX)?;
        device.set(to)?;
        if to.is_saving() {
            let mut saved = device.migration.save()?;
            if to == State::PRE_COPY {
                device.set(State::STOP_COPY)?;
                saved.extend(device.migration.save()?);
            }
            same_bytes(
                format_args!("image saved in {to}"),
                &image(&saved)?,
                &image(&stream)?,
            )?;
        }
        device.set(State::RUNNING)?;
        device.expect_filled(52)?;
    }
    Ok(())
}

fn v1_26_a_same_state_write_has_no_side_effect(target: &Target) -> Outcome {
    for state in State::VALID {
        let device = TestDevice::new(target)?;
        device.fill(26)?;
        device.set(state)?;
        for reserved in [0, 0x70, 0] {
            device.set(State(state.0 | reserved))?;
        }
        if state == State::RESUMING {
            continue;
        }
        device.set(State::RUNNING)?;
        device.expect_filled(26)?;
    }
    Ok(())
}

fn v1_26_a_second_stop_copy_does_not_restart_it(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(62)?;
    device.set(State::STOP_COPY)?;
    let mut stream = Vec::new();
    device.migration.set_state(State::STOP_COPY)?;
    while device.migration.pending()? != 0 {
        device.set(State::STOP_COPY)?;
        let first = device.migration.presented()?;
        device.set(State::STOP_COPY)?;
        same(
            "the presented chunk after a same-state write",
            device.migration.presented()?,
            first.clone(),
        )?;
        stream.extend(first.1);
    }
    device.set(State::STOP_COPY)?;
    same(
        "pending_bytes at the end, after a same-state write",
        device.migration.pending()?,
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
    expect_arrives(target, &stream, 62)
}

fn v1_26_a_second_resuming_does_not_restart_it(target: &Target) -> Outcome {
    let stream = good_stream(target, 63)?.bytes();
    let device = TestDevice::new(target)?;
    device.set(State::RESUMING)?;
    for chunk in stream.chunks(97) {
        device.migration.feed_chunk(chunk)?;
        device.set(State(State::RESUMING.0 | 0x100))?;
        device.set(State::RESUMING)?;
    }
    device.set(State::RUNNING)?;
    device.expect_filled(63)
}

fn v1_27_stop_is_supported(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.set(State::STOP)?;
    device.set(State::RUNNING)?;
    device.expect_works()
}

fn v1_27_pre_copy_is_accepted_with_nothing_to_send(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.set(State::PRE_COPY)?;
    // The data has an end, and then nothing is pending.
    device.migration.drain()?;
    same("pending_bytes", device.migration.pending()?, 0)?;
    device.expect_works()?;
    device.expect(State::PRE_COPY)?;
    device.set(State::RUNNING)?;
    device.set(State::PRE_COPY)
}

fn v1_28_a_saving_state_may_be_left_with_data_unread(target: &Target) -> Outcome {
    let reads: [fn(&Migration) -> vfio_client::Result<()>; 4] = [
        |_| Ok(()),
        |migration| migration.pending().map(drop),
        |migration| migration.pending().and(migration.data_offset()).map(drop),
        |migration| migration.next_chunk().map(drop),
    ];
    for from in [State::PRE_COPY, State::STOP_COPY] {
        for to in [State::RUNNING, State::STOP] {
            for (i, read) in reads.iter().enumerate() {
                let device = TestDevice::new(target)?;
                device.fill(82)?;
                device.set(from)?;
                read(&device.migration)?;
                device.set(to)?;
                same(
                    format_args!("pending_bytes after {from} to {to}, {i}"),
                    device.migration.pending()?,
                    0,
                )?;
                device.set(State::RUNNING)?;
                device.expect_filled(82)?;
            }
        }
    }
    Ok(())
}

fn v1_28_a_cancelled_stream_is_discarded(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(83)?;
    for state in [State::PRE_COPY, State::STOP_COPY] {
        device.set(state)?;
        device.migration.next_chunk()?;
        device.set(State::RUNNING)?;
        // The next migration has another destination.
        let stream = device.save()?;
        device.set(State::RUNNING)?;
        expect_arrives(target, &stream, 83)?;
    }
    device.expect_filled(83)
}

fn v1_29_munmap_comes_before_the_cancelling_state(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(92)?;
    for state in [State::PRE_COPY, State::STOP_COPY] {
        let mapping = device.migration.map_window()?;
        device.set(state)?;
        device.migration.pending()?;
        device.migration.data_offset()?;
        drop(mapping);
        device.set(State::RUNNING)?;
        same("pending_bytes", device.migration.pending()?, 0)?;
    }
    device.expect_filled(92)
}

fn v1_30_an_empty_session_cannot_leave_resuming(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.set(State::RESUMING)?;
    for state in [State::RUNNING, State::STOP] {
        refused(
            format_args!("RESUMING to {state}"),
            device.migration.set_state(state),
            Errno::NODATA,
        )?;
        device.expect(State::RESUMING)?;
    }
    Ok(())
}

fn v1_30_an_incomplete_stream_cannot_leave_resuming(target: &Target) -> Outcome {
    let stream = good_stream(target, 30)?.bytes();
    let device = TestDevice::new(target)?;
    for part in [1, 31, 32, 33, stream.len() / 2, stream.len() - 1] {
        device.set(State::RESUMING)?;
        device.migration.feed(&stream[..part], usize::MAX)?;
        for state in [State::RUNNING, State::STOP] {
            refused(
                format_args!("RESUMING to {state} after {part} bytes"),
                device.migration.set_state(state),
                Errno::NODATA,
            )?;
            device.expect(State::RESUMING)?;
        }
        // The session goes on: the rest of the stream completes it.
        device.migration.feed(&stream[part..], usize::MAX)?;
        device.set(State::RUNNING)?;
        device.expect_filled(30)?;
        device.reset()?;
    }
    Ok(())
}

fn v1_30_a_bad_stream_is_refused_at_data_size(target: &Target) -> Outcome {
    let good = good_stream(target, 33)?;
    let state = good.device_state().map_err(Stop::failed)?;
    // A state that no device can be in, in a stream that is otherwise faultless.
    let bad = good.with_state(&vec![0xff; state.len()]).bytes();
    let short = good.with_state(&state[..state.len() - 1]).bytes();
    let device = TestDevice::new(target)?;
    for (what, stream) in [("all ones", bad), ("a byte short", short)] {
        device.set(State::RESUMING)?;
        one_of(
            format_args!("a device state of {what}"),
            device.migration.feed(&stream, usize::MAX),
            &[Errno::BADMSG, Errno::INVAL],
        )?;
        device.expect(State::RESUMING)?;
        device.reset()?;
    }
    Ok(())
}

fn v1_31_config_writes_and_interrupt_set_up_while_resuming(target: &Target) -> Outcome {
    let source = TestDevice::new(target)?;
    source.raise()?;
    let stream = source.save()?;

    let device = TestDevice::new(target)?;
    device.set(State::RESUMING)?;
    device.migration.feed(&stream, usize::MAX)?;
    // The order of QEMU's vfio_load_state: device data, then config space, then interrupts.
    let space = config::space(&device)?;
    let command = config::COMMAND_IO_OR_MEMORY | config::COMMAND_MASTER;
    let bar = config::bar(target.kind);
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
    device.vfio().set_trigger(Index::Intx, Some(&event))?;
    same("interrupts while resuming", event.take()?, 0)?;
    device.set(State::RUNNING)?;
    expect("after resuming")?;
    same("interrupts once it runs", event.wait(PATIENCE)?, 1)
}

fn v1_31_config_writes_and_interrupt_set_up_while_stopped(target: &Target) -> Outcome {
    for state in [State::STOP, State::STOP_COPY] {
        let device = TestDevice::new(target)?;
        device.raise()?;
        device.set(state)?;
        let space = config::space(&device)?;
        space.write(config::INTERRUPT_LINE, &[7])?;
        same("interrupt line", space.read_u8(config::INTERRUPT_LINE)?, 7)?;
        let event = EventFd::new()?;
        device.vfio().set_trigger(Index::Intx, Some(&event))?;
        device.vfio().mask(Index::Intx)?;
        device.vfio().unmask(Index::Intx)?;
        same(format_args!("interrupts in {state}"), event.take()?, 0)?;
        device.set(State::RUNNING)?;
        same("interrupts once it runs", event.wait(PATIENCE)?, 1)?;
        same(
            "interrupt line once it runs",
            space.read_u8(config::INTERRUPT_LINE)?,
            7,
        )?;
    }
    Ok(())
}

fn v1_32_close_in_any_state_and_the_next_open_is_fresh(target: &Target) -> Outcome {
    let stream = good_stream(target, 23)?.bytes();
    let mut device = TestDevice::new(target)?;
    let fresh = device.image()?;
    for state in State::VALID {
        device = device.reopen()?;
        device.fill(33)?;
        let event = EventFd::new()?;
        device.vfio().set_trigger(Index::Intx, Some(&event))?;
        device.set(state)?;
        let mapping = device.migration.map_window()?;
        let duplicate = device.vfio().duplicate()?;
        if state.is_saving() {
            device.migration.pending()?;
            device.migration.data_offset()?;
        }
        if state == State::RESUMING {
            device
                .migration
                .feed(&stream[..stream.len() - 1], usize::MAX)?;
        }
        let mdev = device.close();
        drop(duplicate);
        drop(mapping);
        device = TestDevice::open(mdev)?;
        device.expect(State::RUNNING)?;
        same("pending_bytes", device.migration.pending()?, 0)?;
        same_bytes(
            format_args!("image after a close in {state}"),
            &device.image()?,
            &fresh,
        )?;
        // An eventfd of the last open must not be signalled by this one.
        device.raise()?;
        same("interrupts for the last user", event.take()?, 0)?;
    }
    Ok(())
}

fn v1_32_a_duplicate_descriptor_keeps_the_session(target: &Target) -> Outcome {
    // Goes last, because it waits for all users.
    let mdev;
    let device = TestDevice::new(target)?;
    device.fill(34)?;
    device.set(State::STOP_COPY)?;
    let duplicate = device.vfio().duplicate()?;
    mdev = device.close();
    let migration = Migration::find(&duplicate)?
        .ok_or_else(|| Stop::failed("expected a migration region, seen none"))?;
    same("device_state", migration.state()?, State::STOP_COPY)?;
    let stream = migration.save()?;
    drop(migration);
    drop(duplicate);
    drop(mdev);
    expect_arrives(target, &stream, 34)
}

fn v1_32_a_mapping_keeps_the_device_open(target: &Target) -> Outcome {
    // Goes last, because it waits for all users.
    let mdev;
    let device = TestDevice::new(target)?;
    let mapping = device.migration.map_window()?;
    device.set(State::STOP_COPY)?;
    mdev = device.close();
    mapping.write(0, b"still here");
    let mut bytes = [0; 10];
    mapping.read(0, &mut bytes);
    same_bytes("the mapping", &bytes, b"still here")?;
    // The device is still open: it refuses the next user, and another size of the window.
    refused("a second open", Group::open(mdev.group()?), Errno::BUSY)?;
    refused(
        "a new window size",
        mdev.set_attribute(WINDOW_SIZE, b"4096"),
        Errno::BUSY,
    )?;
    drop(mapping);
    let device = TestDevice::open(mdev)?;
    device.expect(State::RUNNING)?;
    let mut bytes = [0xff; 10];
    device
        .migration
        .read_data(device.migration.window().offset, &mut bytes)?;
    same_bytes("the next user's window", &bytes, &[0; 10])
}

fn v1_32_a_killed_user_leaves_a_fresh_device(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let fresh = device.image()?;
    let mut mdev = device.close();
    for state in State::VALID {
        let hold = ["--hold", mdev.name(), &state.0.to_string()];
        let mut child = second_process::start(&hold, Stdio::piped(), HELD)?;
        let killed = child.kill().and_then(|()| child.wait());
        killed.map_err(Stop::failed)?;
        let device = TestDevice::open(mdev)?;
        device.expect(State::RUNNING)?;
        same_bytes(
            format_args!("image after a kill in {state}"),
            &device.image()?,
            &fresh,
        )?;
        mdev = device.close();
    }
    Ok(())
}

/// The word that a process prints once it [`hold`]s a device.
pub const HELD: &str = "held";

/// Opens a device, fills it, brings it to a state and waits: a VMM that is about to be killed.
///
/// # Errors
///
/// What the kernel answers.
pub fn hold(address: &str, state: u32) -> Outcome {
    let address: Address = address.parse().map_err(Stop::failed)?;
    let target = Target::at(&[address], Backend::Type1)?;
    let mut device = TestDevice::new(&target)?;
    let event = EventFd::new()?;
    device.vfio().set_trigger(Index::Intx, Some(&event))?;
    device.fill(0x77)?;
    device.raise()?;
    device.migration.map()?;
    device.migration.set_state(State(state))?;
    device.migration.next_chunk()?;
    println!("{HELD}");
    // Until the pipe breaks or the signal comes.
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
    Ok(())
}
