// SPDX-License-Identifier: GPL-2.0

//! The stop: no interrupt, no packet and no request on PCIe after it, and nothing lost that was sent.
//!
//! [`super`] has the sequence and its reasons.

use device_model::hardware::{
    poll,
    Context,
    Registers, //
};

use crate::error::Error;
use crate::registers::{
    cause,
    ctrl,
    delay,
    rctl,
    status,
    tarc,
    tctl,
    Register,
    QUEUES, //
};
use crate::ring::{
    packet_start,
    position,
    Direction,
    Place, //
};

/// Microseconds between two looks.
const STEP: u32 = 100;
/// Microseconds for the receive FIFO to empty.
const RECEIVE: u32 = 10_000;
/// Microseconds for the transmitter to send what is posted. A ring of 256 packets of 1,514 bytes takes 3 ms
/// at 1 Gbit/s and 0.3 s at 10 Mbit/s.
const TRANSMIT: u32 = 500_000;
/// Microseconds for a transmitter that cannot send to prove the contrary.
const STUCK: u32 = 1_000;
/// Microseconds for transactions that were under way when receiver and transmitter were disabled.
pub(super) const SETTLE: u32 = 10_000;
/// Microseconds for the last request on PCIe.
const MASTER: u32 = 80_000;

/// Steps 2 to 6 of the stop, and the beginnings of the packets that are to be sent next.
pub(super) fn stop(context: &mut Context<'_>, control: u32) -> Result<(u32, [u32; QUEUES]), Error> {
    let registers = &mut *context.registers;
    let receive = registers.read32(Register::RCTL.0);
    let transmit = registers.read32(Register::TCTL.0);
    let may_master = context.bus_master && control & ctrl::GIO_MASTER_DISABLE == 0;

    registers.write32(Register::RCTL.0, receive & !rctl::EN);
    if may_master && receive & rctl::EN != 0 {
        // What finds no buffer stays in the FIFO and is lost.
        poll(registers, RECEIVE, STEP, |registers| {
            registers.read32(Register::RDFPC.0) == 0 || !has_buffers(registers)
        });
    }

    let link = registers.read32(Register::STATUS.0) & status::LU != 0 || receive & rctl::LBM != 0;
    let can_send = may_master && link && transmit & tctl::EN != 0;
    let limit = if can_send { TRANSMIT } else { STUCK };
    let drained = poll(registers, limit, STEP, |registers| {
        undrained(registers).is_none()
    });
    if can_send && !drained {
        if let Some(error) = undrained(registers) {
            return Err(error);
        }
    }

    // The flush may miss a descriptor that is being completed, so it is done twice.
    for _ in 0..2 {
        for register in [Register::TIDV, Register::RDTR] {
            let value = registers.read32(register.0) & delay::ALL;
            registers.write32(register.0, value | delay::FPD);
        }
        registers.read32(Register::STATUS.0);
    }

    registers.write32(Register::TCTL.0, transmit & !tctl::EN);
    registers.read32(Register::STATUS.0);
    if receive & rctl::EN != 0 || transmit & tctl::EN != 0 {
        registers.delay(SETTLE);
    }
    registers.write32(Register::CTRL.0, control | ctrl::GIO_MASTER_DISABLE);
    if !masters_ended(registers) {
        return Err(Error::Master);
    }

    let mut heads = [0; QUEUES];
    for (queue, first) in heads.iter_mut().enumerate() {
        let place = Place::read(registers, Direction::Transmit, queue);
        let head = position(registers, Direction::Transmit.head(queue));
        let tail = position(registers, Direction::Transmit.tail(queue));
        let inside = head < place.units() && tail < place.units();

        *first = head;
        if head != tail && inside {
            *first = packet_start(context.memory, &place, head, tail)
                .ok()
                .flatten()
                .ok_or(Error::Packet { queue, head })?;
        }
    }
    Ok((registers.read32(Register::ICR.0) & cause::ALL, heads))
}

/// Takes back what a stop that failed has done.
pub(super) fn go_on(
    registers: &mut dyn Registers,
    control: u32,
    receive: u32,
    transmit: u32,
    mask: u32,
) {
    registers.write32(Register::CTRL.0, control);
    registers.write32(Register::TCTL.0, transmit);
    registers.write32(Register::RCTL.0, receive);
    registers.write32(Register::IMS.0, mask);
}

/// Whether the guest has posted a receive buffer that has not been filled.
fn has_buffers(registers: &mut dyn Registers) -> bool {
    (0..QUEUES).any(|queue| {
        position(registers, Direction::Receive.head(queue))
            != position(registers, Direction::Receive.tail(queue))
    })
}

/// What the transmitter has not sent yet, of the queues that take part in the arbitration.
fn undrained(registers: &mut dyn Registers) -> Option<Error> {
    for queue in 0..QUEUES {
        let head = position(registers, Direction::Transmit.head(queue));
        let tail = position(registers, Direction::Transmit.tail(queue));
        let arbitration = registers.read32(Register::TARC.of_queue(queue).0);
        let used = arbitration & tarc::ENABLE != 0
            && registers.read32(Direction::Transmit.length(queue).0) != 0;

        if used && head != tail {
            return Some(Error::Transmit { queue, head, tail });
        }
    }
    match registers.read32(Register::TDFPC.0) {
        0 => None,
        packets => Some(Error::TransmitFifo { packets }),
    }
}

/// Waits until no request of the function on PCIe is under way.
pub(super) fn masters_ended(registers: &mut dyn Registers) -> bool {
    poll(registers, MASTER, STEP, |registers| {
        registers.read32(Register::STATUS.0) & status::GIO_MASTER_ENABLE == 0
    })
}
