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

/// Returns the card of an open device.
#[track_caller]
fn card(device: &TestDevice) -> Outcome<Card> {
    Ok(Card::new(device.vfio(), device.memory()?)?)
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
