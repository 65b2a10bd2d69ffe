// SPDX-License-Identifier: GPL-2.0

//! The tests of an Intel 82574L with Ferry's variant driver, a file per part of it.

mod access;
mod dirty;
mod irq;
mod moving;
mod power;
mod refusal;
mod reset;

use vfio_drivers::e1000e::register;
use vfio_drivers::e1000e::Card;

use crate::case::Case;
use crate::check::Outcome;
use crate::check::Stop;
use crate::v1::device::TestDevice;

/// All of them, in the order in which they run.
pub const CASES: [&[Case]; 7] = [
    access::CASES,
    reset::CASES,
    power::CASES,
    refusal::CASES,
    moving::CASES,
    irq::CASES,
    dirty::CASES,
];

/// The attribute that says whether DMA is followed.
const TRACKING: &str = "migration/dirty_tracking";

/// Says whether DMA can be followed. By the parameter of the module it cannot, and then no page is trapped: a client
/// may map BAR 0 whole, and what the statistics have counted stays with the card.
#[track_caller]
fn has_tracking(device: &TestDevice) -> Outcome<bool> {
    Ok(device.subject.attribute(TRACKING)? != "off")
}

/// Skips the case unless DMA can be followed, or cannot.
#[track_caller]
fn needs_tracking(device: &TestDevice, wanted: bool) -> Outcome {
    if has_tracking(device)? == wanted {
        return Ok(());
    }
    let off = if wanted { "off" } else { "on" };
    Err(Stop::Skipped(format!(
        "the parameter dirty_tracking of ferry_e1000e is {off}"
    )))
}

/// Registers that a state has and that a read does not change, and that a stop leaves alone.
const STATIC: [u64; 16] = [
    register::VET,
    register::ITR,
    register::FCTTV,
    register::TIPG,
    register::RDBAL,
    register::RDBAH,
    register::RDLEN,
    register::RDH,
    register::RDT,
    register::TDBAL,
    register::TDLEN,
    register::TDH,
    register::TDT,
    register::MTA + 4 * 127,
    register::RAL + 8 * 3,
    register::RETA,
];

/// Returns the values of registers.
#[track_caller]
fn registers(card: &Card) -> Outcome<Vec<u32>> {
    let mut values = Vec::new();
    for offset in STATIC {
        values.push(card.read(offset)?);
    }
    Ok(values)
}
