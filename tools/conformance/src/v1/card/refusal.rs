// SPDX-License-Identifier: GPL-2.0

//! States that the device itself refuses: their framing and checksums are right.

use vfio_client::v1::State;
use vfio_client::Errno;

use crate::case::cases;
use crate::case::Case;
use crate::check::denied;
use crate::check::refused;
use crate::check::same;
use crate::check::Outcome;
use crate::check::Stop;
use crate::kmsg::expect_line;
use crate::network::card;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::card::registers;
use crate::v1::device::good_stream;
use crate::v1::device::TestDevice;

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::E1000e];

pub const CASES: &[Case] = cases![
    NEEDS;
    card_a_refused_state_leaves_the_registers,
];

/// Where the registers begin in a state: behind a header of 4 bytes and an identity of 36. CTRL is the first.
const REGISTERS: usize = 40;
/// Rings have a RDBAL for each queue, then a RDBAH for each, and so on.
const QUEUES: usize = 2;

fn word(state: &[u8], at: usize) -> u32 {
    state
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// Finds RDBAL of queue 0 by its value.
#[track_caller]
fn receive_ring(state: &[u8], address: u64) -> Outcome<usize> {
    (REGISTERS..state.len())
        .step_by(4)
        .find(|at| word(state, *at) == address as u32 && word(state, at + 4) == 0)
        .ok_or_else(|| Stop::failed("expected the receive ring in the state, seen none"))
}

fn card_a_refused_state_leaves_the_registers(target: &Target) -> Outcome {
    const RESET: u32 = 1 << 26;
    const PHY_RESET: u32 = 1 << 31;
    let good = good_stream(target, 90)?;
    let state = good.device_state().map_err(Stop::failed)?;
    let device = TestDevice::new(target)?;
    device.fill(91)?;
    let address = device.memory()?.start();
    let ring = receive_ring(&state, address)?;
    let length = ring + 2 * QUEUES * 4;
    let head = ring + 3 * QUEUES * 4;
    let ctrl = word(&state, REGISTERS);
    let subsystem = word(&state, 4);
    for (what, at, value, why) in [
        ("CTRL.RST", REGISTERS, ctrl | RESET, "CTRL is"),
        ("CTRL.PHY_RST", REGISTERS, ctrl | PHY_RESET, "CTRL is"),
        ("a ring of 0x88 bytes", length, 0x88, "multiple of 128"),
        (
            "a ring that is not aligned",
            ring,
            address as u32 | 8,
            "multiple of 16",
        ),
        ("a head outside the ring", head, 0x1000, "has head 4096"),
        ("another function", 4, !subsystem, "state is of"),
    ] {
        let mut bad = state.clone();
        bad[at..at + 4].copy_from_slice(&value.to_le_bytes());
        let stream = good.with_state(&bad).bytes();
        expect_line(&[device.subject.name(), why], || {
            device.set(State::STOP)?;
            let before = registers(&card(&device)?)?;
            device.set(State::RESUMING)?;
            refused(
                what,
                device.migration.feed(&stream, usize::MAX),
                Errno::INVAL,
            )?;
            denied(
                format_args!("RUNNING after {what}"),
                device.migration.set_state(State::RUNNING),
            )?;
            same(what, registers(&card(&device)?)?, before)?;
            device.reset()?;
            device.fill(91)
        })?;
    }
    device.expect_works()
}
