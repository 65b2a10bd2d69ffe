// SPDX-License-Identifier: GPL-2.0

//! The states, and every arc between two of them.

use std::io::ErrorKind;

use vfio_bindings::bindings::vfio;
use vfio_client::v2::State;
use vfio_client::Errno;
use vfio_drivers::nvme::PAGE;
use vfio_drivers::uart::Uart;

use crate::case::cases;
use crate::case::Case;
use crate::check::denied;
use crate::check::refused;
use crate::check::same;
use crate::check::Outcome;
use crate::check::Stop;
use crate::kind::Kind;
use crate::pins::pinned;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::nvme::pinned::queue_pages;
use crate::v2::device::TestDevice;
use crate::v2::device::Writer;
use crate::v2::device::PIECE;

const NEEDS: &[Requirement] = &[Requirement::V2];

/// Cases of any device.
pub const CASES: &[Case] = cases![
    NEEDS;
    state_is_running_at_first [Driver],
    state_every_arc_is_taken_or_refused [P2p, PreCopy, Driver, Pair],
    state_unknown_ones_are_refused [Driver],
    state_an_incomplete_resume_can_be_completed [Driver, Pair],
    state_a_resume_without_data_cannot_be_left_but_by_a_reset [P2p, PreCopy, Driver],
    state_the_device_answers_in_p2p [P2p, PreCopy, Driver],
    state_a_stopped_device_does_not_change [Driver, Emulated],
    state_shows_in_debugfs [P2p, PreCopy],
];
const STORAGE_NEEDS: &[Requirement] = &[Requirement::V2, Requirement::Nvme];

/// Cases of a device with storage.
pub const STORAGE: &[Case] = cases![
    STORAGE_NEEDS;
    state_no_dma_is_initiated_in_p2p [P2p, PreCopy],
    state_no_memory_is_pinned_in_p2p [P2p, PreCopy],
];

fn state_is_running_at_first(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.expect(State::RUNNING)?;
    device.expect_works()
}

/// Says whether an arc begins a session, which has a data file.
fn begins(from: State, to: State) -> bool {
    from != to && (to == State::RESUMING || to.is_saving() && !from.is_saving())
}

/// Says whether an arc is refused.
fn is_blocked(from: State, to: State) -> bool {
    from == State::STOP_COPY && matches!(to, State::PRE_COPY | State::PRE_COPY_P2P)
}

pub fn state_every_arc_is_taken_or_refused(target: &Target) -> Outcome {
    const SEED: u8 = 9;
    let source = TestDevice::new(target)?;
    source.fill(SEED)?;
    let stream = source.save()?;
    let device = TestDevice::new(target)?;
    for from in State::ALL {
        for to in State::ALL {
            let arc = format!("{from} to {to}");
            device.reset()?;
            let first = device.set(from)?;
            same(
                format_args!("file with {from}"),
                first.is_some(),
                begins(State::RUNNING, from),
            )?;
            if let (State::RESUMING, Some(file)) = (from, &first) {
                file.write_all(&stream, PIECE)?;
            }
            if is_blocked(from, to) {
                refused(&arc, device.migration.set_state(to), Errno::INVAL)?;
                device.expect(from)?;
                continue;
            }
            let second = device
                .set(to)
                .map_err(|stop| Stop::failed(format_args!("{arc}: {stop:?}")))?;
            same(
                format_args!("file with {arc}"),
                second.is_some(),
                begins(from, to),
            )?;
            if from == State::RESUMING && to != State::RESUMING {
                // The device has the state that it received.
                drop(second);
                device.set(State::RUNNING)?;
                device.expect_filled(SEED)?;
            }
        }
    }
    device.reset()?;
    device.expect_works()
}

fn state_unknown_ones_are_refused(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    for from in [State::RUNNING, State::STOP, State::STOP_COPY] {
        device.set(from)?;
        for number in [State::ERROR.0, 8, 9, 1 << 16, 1 << 31, u32::MAX] {
            refused(
                format_args!("state {number} in {from}"),
                device.migration.set_state(State(number)),
                Errno::INVAL,
            )?;
            device.expect(from)?;
        }
    }
    device.set(State::RUNNING)?;
    device.expect_works()
}

fn state_an_incomplete_resume_can_be_completed(target: &Target) -> Outcome {
    const SEED: u8 = 77;
    let source = TestDevice::new(target)?;
    source.fill(SEED)?;
    let stream = source.save()?;
    let device = TestDevice::new(target)?;
    let file = device.begin(State::RESUMING)?;
    let (first, rest) = stream.split_at(stream.len() - 1);
    file.write_all(first, PIECE)?;
    for to in [State::STOP, State::RUNNING, State::STOP_COPY] {
        denied(
            format_args!("{to} without the last byte"),
            device.migration.set_state(to),
        )?;
        device.expect(State::RESUMING)?;
    }
    file.write_all(rest, PIECE)?;
    device.set(State::RUNNING)?;
    device.expect_filled(SEED)
}

fn state_a_resume_without_data_cannot_be_left_but_by_a_reset(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let file = device.begin(State::RESUMING)?;
    for to in State::ALL {
        if to != State::RESUMING {
            denied(format_args!("{to}"), device.migration.set_state(to))?;
            device.expect(State::RESUMING)?;
        }
    }
    drop(file);
    device.reset()?;
    device.expect_works()
}

fn state_the_device_answers_in_p2p(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    for state in [State::RUNNING_P2P, State::PRE_COPY_P2P] {
        let file = device.set(state)?;
        match target.kind {
            Kind::Uart { .. } | Kind::Mtty | Kind::Other => device.expect_works()?,
            Kind::E1000e => {
                let bar = device.vfio().region(vfio::VFIO_PCI_BAR0_REGION_INDEX)?;
                let status = bar.read_u32(vfio_drivers::e1000e::register::STATUS)?;
                let up = vfio_drivers::e1000e::STATUS_LINK_UP;
                same("STATUS.LU", status & up, up)?;
            }
            Kind::Nvme { .. } => {
                let bar = device.vfio().region(0)?;
                let capabilities = bar.read_u64(vfio_drivers::nvme::register::CAP)?;
                same("CAP is there", capabilities != 0, true)?;
            }
        }
        drop(file);
        device.set(State::RUNNING)?;
        device.expect_works()?;
    }
    Ok(())
}

fn state_a_stopped_device_does_not_change(target: &Target) -> Outcome {
    const SEED: u8 = 31;
    let device = TestDevice::new(target)?;
    device.fill(SEED)?;
    device.set(State::STOP)?;
    device.scribble(!SEED)?;
    if !matches!(target.kind, Kind::Nvme { .. }) {
        Uart::new(device.vfio(), 0)?.receive()?;
    }
    device.set(State::RUNNING)?;
    device.expect_filled(SEED)
}

fn state_shows_in_debugfs(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let path = format!(
        "/sys/kernel/debug/vfio/{}/migration/state",
        device.subject.name()
    );
    let shown = || {
        std::fs::read_to_string(&path)
            .map(|text| text.trim().to_string())
            .map_err(|error| match error.kind() {
                ErrorKind::NotFound => {
                    Stop::Skipped("the core shows no state (CONFIG_VFIO_DEBUGFS)".into())
                }
                _ => Stop::failed(format_args!("{path}: {error}")),
            })
    };
    shown()?;
    for state in [
        State::STOP,
        State::RUNNING_P2P,
        State::PRE_COPY,
        State::PRE_COPY_P2P,
        State::STOP_COPY,
        State::RESUMING,
    ] {
        device.set(state)?;
        same("state in debugfs", shown()?, state.name().to_string())?;
    }
    device.reset()?;
    same(
        "state in debugfs",
        shown()?,
        State::RUNNING.name().to_string(),
    )
}

pub fn state_no_memory_is_pinned_in_p2p(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let mut writer = Writer::new(&device)?;
    let queues = queue_pages(&writer.driver).len() as u64 * PAGE / 1024;
    for (state, page) in [
        (State::RUNNING_P2P, 1),
        (State::PRE_COPY_P2P, 2),
        (State::STOP, 3),
    ] {
        writer.driver.identify(1, 0)?;
        writer.write(page, 1)?;
        same("pinned KiB while it works", pinned(target)?, queues)?;
        let file = device.set(state)?;
        same(format_args!("pinned KiB in {state}"), pinned(target)?, 0)?;
        drop(file);
        device.set(State::RUNNING)?;
    }
    writer.write(4, 4)
}

pub fn state_no_dma_is_initiated_in_p2p(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let mut writer = Writer::new(&device)?;
    for (state, page) in [(State::RUNNING_P2P, 1), (State::PRE_COPY_P2P, 2)] {
        let file = device.set(state)?;
        writer.submit(page)?;
        // A worker that runs would have the time for it meanwhile.
        for _ in 0..50 {
            same(
                "CSTS",
                writer.driver.status()?,
                vfio_drivers::nvme::CSTS_READY,
            )?;
            device.expect(state)?;
        }
        same("completion in P2P", writer.has_completion(), false)?;
        drop(file);
        device.set(State::RUNNING)?;
        writer.wait()?;
    }
    writer.write(3, 3)
}
