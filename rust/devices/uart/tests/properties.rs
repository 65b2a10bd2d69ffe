// SPDX-License-Identifier: GPL-2.0

//! What holds for any sequence of accesses.

use proptest::prelude::*;
use uart::{
    Card,
    DeviceModel,
    PortCount, //
};

use crate::bench::{
    load,
    save,
    Serial, //
};
use crate::model::Model;
use crate::serial_reg::*;

/// An access to a register, or a move of the card.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Read(u64),
    Write(u64, u8),
    /// Writes a number of characters in a row, beginning with this one.
    Burst(u8, u8),
    Move,
}

/// Steps that reach FIFOs of any filling, all modes and all interrupt sources often.
pub fn step() -> impl Strategy<Value = Step> {
    let line_control = prop_oneof![
        8 => Just(LCR_WLEN8),
        1 => Just(LCR_WLEN8 | LCR_SBC),
        1 => Just(LCR_WLEN8 | LCR_DLAB),
        2 => any::<u8>(),
    ];
    let modem_control = prop_oneof![
        6 => 0..MCR_LOOP,
        3 => MCR_LOOP..=0x1fu8,
        1 => any::<u8>(),
    ];
    let fifo_control = prop_oneof![
        6 => (0..4u8).prop_map(|trigger| FCR_ENABLE_FIFO | trigger << 6),
        3 => any::<u8>(),
        1 => Just(0),
    ];
    prop_oneof![
        8 => Just(Step::Read(RX)),
        12 => (0..REGISTERS).prop_map(Step::Read),
        8 => any::<u8>().prop_map(|character| Step::Write(TX, character)),
        4 => (any::<u8>(), 1..36u8).prop_map(|(first, count)| Step::Burst(first, count)),
        6 => any::<u8>().prop_map(|value| Step::Write(IER, value)),
        4 => fifo_control.prop_map(|value| Step::Write(FCR, value)),
        3 => line_control.prop_map(|value| Step::Write(LCR, value)),
        3 => modem_control.prop_map(|value| Step::Write(MCR, value)),
        1 => (LSR..=SCR, any::<u8>()).prop_map(|(register, value)| Step::Write(register, value)),
        3 => Just(Step::Move),
    ]
}

/// Accesses, as a step is one or several of.
fn accesses(step: Step) -> Vec<Step> {
    match step {
        Step::Burst(first, count) => (0..count)
            .map(|index| Step::Write(TX, first.wrapping_add(index)))
            .collect(),
        step => vec![step],
    }
}

/// Takes a step, and returns the value that was read.
pub fn take(serial: &mut Serial, step: Step) -> Vec<u8> {
    let mut seen = Vec::new();
    for access in accesses(step) {
        match access {
            Step::Read(register) => seen.push(serial.read(register)),
            Step::Write(register, value) => serial.write(register, value),
            Step::Move => serial.relocate(),
            Step::Burst(..) => unreachable!("a burst is made of writes"),
        }
    }
    seen
}

/// Values that a driver could read from a port now, and whether the card asserts its interrupt.
fn outlook(serial: &Serial) -> ([u8; REGISTERS as usize], bool) {
    let registers = std::array::from_fn(|register| serial.peek(register as u64));
    (registers, serial.card.interrupt())
}

fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_port_does_what_a_second_model_does(steps in prop::collection::vec(step(), 1..250)) {
        let mut serial = Serial::new();
        let mut model = Model::new();

        for (number, step) in steps.into_iter().enumerate() {
            for access in accesses(step) {
                match access {
                    Step::Read(register) => {
                        let expected = model.read(register);
                        let peeked = serial.peek(register);
                        let seen = serial.read(register);
                        prop_assert_eq!(
                            seen, expected,
                            "step {}: register {} should read {:#04x}, not {:#04x}",
                            number, register, expected, seen
                        );
                        prop_assert_eq!(peeked, seen, "step {}: peeking is reading", number);
                    }
                    Step::Write(register, value) => {
                        model.write(register, value);
                        serial.write(register, value);
                    }
                    Step::Move => serial.relocate(),
                    Step::Burst(..) => unreachable!("a burst is made of writes"),
                }
                prop_assert_eq!(
                    serial.peek(IIR), model.iir(),
                    "step {}: IIR after {:?}", number, access
                );
                prop_assert_eq!(
                    serial.card.interrupt(), model.interrupt(),
                    "step {}: interrupt after {:?}", number, access
                );
            }
        }
    }

    #[test]
    fn a_moved_card_is_the_same_and_does_the_same(
        before in prop::collection::vec(step(), 0..150),
        after in prop::collection::vec(step(), 1..100),
    ) {
        let mut source = Serial::new();
        for step in before {
            take(&mut source, step);
        }

        let state = save(&source.card);
        let mut destination = Serial::of(load(PortCount::One, &state), 0);
        prop_assert_eq!(&destination.card, &source.card, "the moved card");
        prop_assert_eq!(save(&destination.card), state, "its state");
        prop_assert_eq!(outlook(&destination), outlook(&source), "what it shows");

        for step in after {
            prop_assert_eq!(
                take(&mut destination, step), take(&mut source, step),
                "reads of {:?} after the move", step
            );
            prop_assert_eq!(outlook(&destination), outlook(&source), "after {:?}", step);
        }
    }

    #[test]
    fn nothing_is_lost_by_who_waits_for_an_empty_transmitter(
        fifos in any::<bool>(),
        steps in prop::collection::vec(patient_step(), 1..300),
    ) {
        let mut serial = Serial::new();
        serial.write(LCR, LCR_WLEN8);
        serial.write(FCR, if fifos { FCR_ENABLE_FIFO } else { 0 });
        let depth = if fifos { FIFO_DEPTH } else { 1 };
        let mut sent = Vec::new();
        let mut received = Vec::new();

        for step in steps {
            match step {
                Patient::Send(count) => {
                    // A driver that sees an empty transmitter may fill it.
                    if serial.read(LSR) & LSR_THRE != 0 {
                        for _ in 0..depth.min(count) {
                            let character = sent.len() as u8;
                            serial.write(TX, character);
                            sent.push(character);
                        }
                    }
                }
                Patient::Receive(count) => {
                    for _ in 0..count {
                        let status = serial.read(LSR);
                        prop_assert_eq!(status & LSR_BRK_ERROR_BITS, 0, "LSR {:#04x}", status);
                        if status & LSR_DR != 0 {
                            received.push(serial.read(RX));
                        }
                    }
                }
                Patient::Trigger(trigger) if fifos => {
                    serial.write(FCR, FCR_ENABLE_FIFO | trigger << 6);
                }
                Patient::Trigger(_) => {}
                Patient::Divisor(divisor) => {
                    serial.write(LCR, LCR_WLEN8 | LCR_DLAB);
                    serial.write(DLL, divisor);
                    serial.write(DLM, divisor);
                    serial.write(LCR, LCR_WLEN8);
                }
                Patient::Other(Step::Read(RX)) | Patient::Other(Step::Burst(..)) => {
                    unreachable!("these are for Send and Receive")
                }
                Patient::Other(step) => {
                    take(&mut serial, step);
                }
            }
        }

        received.extend(serial.drain());
        prop_assert_eq!(received, sent, "what was sent");
    }

    #[test]
    fn a_card_with_more_ports_is_as_many_cards_with_one(
        steps in prop::collection::vec((0..4u64, step()), 1..200),
    ) {
        let mut card = Card::new(PortCount::Four);
        let mut singles: Vec<Serial> = (0..4).map(|_| Serial::new()).collect();

        for (index, step) in steps {
            let mut port = Serial::of(card, index);
            let seen = take(&mut port, step);
            card = port.card;

            let single = &mut singles[index as usize];
            prop_assert_eq!(seen, take(single, step), "port {} after {:?}", index, step);
            prop_assert_eq!(
                card.interrupt(),
                singles.iter().any(|single| single.card.interrupt()),
                "the shared interrupt after {:?}", step
            );
        }
        for (index, single) in singles.iter().enumerate() {
            let port = Serial::of(card.clone(), index as u64);
            prop_assert_eq!(outlook(&port).0, outlook(single).0, "port {}", index);
        }
    }
}

/// What somebody does who never writes to a transmitter that is not empty.
#[derive(Clone, Copy, Debug)]
enum Patient {
    Send(usize),
    Receive(usize),
    Trigger(u8),
    Divisor(u8),
    Other(Step),
}

fn patient_step() -> impl Strategy<Value = Patient> {
    prop_oneof![
        6 => (1..=FIFO_DEPTH).prop_map(Patient::Send),
        4 => (1..40usize).prop_map(Patient::Receive),
        1 => (0..4u8).prop_map(Patient::Trigger),
        1 => any::<u8>().prop_map(Patient::Divisor),
        3 => (IER..REGISTERS).prop_map(|register| Patient::Other(Step::Read(register))),
        3 => any::<u8>().prop_map(|value| Patient::Other(Step::Write(IER, value))),
        2 => (0..MCR_LOOP).prop_map(|value| Patient::Other(Step::Write(MCR, value))),
        1 => any::<u8>().prop_map(|value| Patient::Other(Step::Write(SCR, value))),
        3 => Just(Patient::Other(Step::Move)),
    ]
}
