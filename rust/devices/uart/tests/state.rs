// SPDX-License-Identifier: GPL-2.0

//! The saved state: its layout byte for byte, and the refusals of hostile states.

use uart::{
    Card,
    DeviceModel,
    ImageError,
    LoadError,
    PortCount,
    PortError,
    StateError, //
};

use crate::bench::{
    load,
    save,
    Serial, //
};
use crate::serial_reg::*;

/// Where the configuration space is.
const CONFIG: usize = 4;
/// Where the first port is.
const PORT: usize = 260;
/// Bytes of a port.
const PORT_SIZE: usize = 64;

const COUNTS: [PortCount; 3] = [PortCount::One, PortCount::Two, PortCount::Four];

/// A port with something in every field of its state.
fn rich() -> Serial {
    let mut serial = Serial::new();
    serial.write(LCR, LCR_WLEN8 | LCR_DLAB);
    serial.write(DLL, 0x34);
    serial.write(DLM, 0x12);
    serial.write(LCR, LCR_WLEN8);
    serial.write(FCR, FCR_ENABLE_FIFO | FCR_DMA_SELECT | FCR_TRIGGER_14);
    serial.write(IER, IER_ALL_INTR);
    serial.write(SCR, 0x5a);
    serial.write(MCR, MCR_DTR | MCR_RTS);
    // An overrun; the FIFO keeps 16 characters, and the plug gets a few of them back.
    serial.write(MCR, MCR_DTR | MCR_RTS | MCR_LOOP);
    serial.send(&[0xee; FIFO_DEPTH + 1]);
    serial.write(MCR, MCR_DTR | MCR_RTS);
    for _ in 0..14 {
        serial.read(RX);
    }
    // A break in the middle, and the rest full.
    serial.write(LCR, LCR_WLEN8 | LCR_SBC);
    serial.write(LCR, LCR_WLEN8);
    serial.send(b"abcdefghijklm");
    serial.send(b"SXYZ");
    serial
}

/// Cards in states that differ in kind.
pub fn cards() -> Vec<(&'static str, Card)> {
    let mut told = Serial::with_fifos();
    told.write(IER, IER_THRI);

    let mut looped = Serial::with_fifos();
    looped.write(MCR, MCR_LOOP | MCR_OUT1);
    looped.send(&[7; 5]);

    let mut waiting = Serial::new();
    waiting.write(LCR, LCR_WLEN8);
    waiting.send(&[1, 2, 3]);

    let mut configured = Serial::of(rich().card, 0);
    configured
        .card
        .write_config(0, &[0xff; 256])
        .expect("configuration space is writable");

    vec![
        ("power-on", Card::new(PortCount::One)),
        ("all fields in use", rich().card),
        ("empty transmitter to tell", told.card),
        ("loop-back", looped.card),
        ("16450 with all places taken", waiting.card),
        ("all of configuration space written", configured.card),
    ]
}

#[test]
fn version_1_of_the_state_is_as_documented() {
    let serial = rich();
    let state = save(&serial.card);

    assert_eq!(&state[..CONFIG], [1, 1, 0, 0], "version 1, one port");
    let mut config = [0; 256];
    serial
        .card
        .read_config(0, &mut config)
        .expect("configuration space is readable");
    // The interrupt status follows from the port.
    config[6] &= !0x08;
    assert_eq!(state[CONFIG..PORT], config, "configuration space");

    let mut expected = Vec::new();
    expected.extend([
        IER_ALL_INTR,
        FCR_ENABLE_FIFO | FCR_DMA_SELECT | FCR_TRIGGER_14,
    ]);
    expected.extend([LCR_WLEN8, MCR_DTR | MCR_RTS]);
    expected.extend([LSR_OE, MSR_DCTS | MSR_DDSR | MSR_DDCD, 0x5a]);
    expected.extend([2, 0x34, 0x12, b'S', 3, 16, 0, 0, 0]);
    expected.extend(b"XYZ\0\0\0\0\0\0\0\0\0\0\0\0\0");
    expected.extend(b"\xee\xee\0abcdefghijklm");
    expected.extend([0, 0, LSR_BI | LSR_FE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(state[PORT..], expected, "the port");
}

#[test]
fn the_latched_empty_transmitter_is_saved() {
    let mut serial = Serial::with_fifos();
    serial.write(IER, IER_THRI);
    assert_eq!(save(&serial.card)[PORT + 7], 1, "it is to be told");
    serial.read(IIR);
    assert_eq!(save(&serial.card)[PORT + 7], 0, "it was told");
}

#[test]
fn the_size_goes_with_the_number_of_ports() {
    for (count, expected) in COUNTS.into_iter().zip([324, 388, 516]) {
        let card = Card::new(count);
        assert_eq!(save(&card).len(), expected, "size for {count:?}");
        assert_eq!(
            card.save(&(), &mut vec![0; expected]),
            Some(expected),
            "a buffer that just fits"
        );
        let mut small = vec![0xa5; expected - 1];
        assert_eq!(
            card.save(&(), &mut small),
            None,
            "a buffer too small by one"
        );
        assert!(
            small.iter().all(|&byte| byte == 0xa5),
            "nothing is written to it"
        );
    }
    assert_eq!(Card::STATE_SIZE, 516, "the largest");
}

#[test]
fn saving_overwrites_whatever_the_buffer_had() {
    let mut dirty = vec![0xff; Card::STATE_SIZE];
    let size = rich().card.save(&(), &mut dirty);
    assert_eq!(size, Some(324), "size");
    assert_eq!(dirty[..324], save(&rich().card), "the state");
}

#[test]
fn every_truncation_and_extension_is_refused() {
    for count in COUNTS {
        let mut state = save(&Card::new(count));
        for length in 0..state.len() {
            assert_eq!(
                crate::bench::from_state(count, &state[..length]),
                Err(LoadError::State(StateError::Length {
                    expected: state.len(),
                    found: length
                })),
                "truncated to {length}"
            );
        }
        let expected = state.len();
        state.push(0);
        assert_eq!(
            crate::bench::from_state(count, &state),
            Err(LoadError::State(StateError::Length {
                expected,
                found: expected + 1
            })),
            "extended by one"
        );
    }
}

#[test]
fn a_state_of_another_card_is_refused() {
    for saved in COUNTS {
        for loaded in COUNTS.into_iter().filter(|&loaded| loaded != saved) {
            assert_eq!(
                crate::bench::from_state(loaded, &save(&Card::new(saved))),
                Err(LoadError::Ports {
                    expected: loaded.count(),
                    found: saved.count() as u8
                }),
                "{saved:?} loaded as {loaded:?}"
            );
        }
    }
}

/// Uses a card in all the ways there are; it has to hold what a port promises.
fn use_card(card: Card, why: &str) {
    for index in 0..card.ports().count() as u64 {
        let mut port = Serial::of(card.clone(), index);

        // The divisor may be where the characters are.
        let format = port.read(LCR);
        port.write(LCR, format & !LCR_DLAB);
        let mut characters = 0;
        while port.read(LSR) & LSR_DR != 0 {
            port.read(RX);
            characters += 1;
            assert!(
                characters <= 33,
                "{why}: a port holds at most 33 characters"
            );
        }
        port.expect_bits(LSR, LSR_BRK_ERROR_BITS, 0, why);
        port.read(MSR);
        port.expect_bits(MSR, MSR_ANY_DELTA, 0, why);
        port.read(IIR);
        port.expect_bits(IIR, IIR_NO_INT, IIR_NO_INT, why);

        port.write(IER, 0);
        port.write(FCR, 0);
        port.write(LCR, LCR_WLEN8);
        port.write(MCR, MCR_LOOP | MCR_OUT2);
        port.expect_bits(MSR, MSR_STATUS_BITS, MSR_DCD, why);
        port.write(MCR, 0);
        port.drain();
        port.write(FCR, FCR_ENABLE_FIFO | FCR_TRIGGER_4);
        port.read(LSR);
        port.send(b"test");
        port.write(IER, IER_RDI);
        port.expect(IIR, IIR_FIFO_ENABLED | IIR_RDI, why);
        assert_eq!(port.drain(), b"test", "{why}: the port works");
        port.relocate();
    }
}

#[test]
fn every_value_of_every_byte_is_refused_or_gives_a_working_card() {
    for (name, card) in cards() {
        let good = save(&card);
        let mut accepted = 0;
        for offset in 0..good.len() {
            for value in 0..=u8::MAX {
                let mut state = good.clone();
                state[offset] = value;
                let why = format!("{name}: byte {offset} changed to {value:#04x}");
                match crate::bench::from_state(PortCount::One, &state) {
                    Ok(loaded) => {
                        assert_eq!(save(&loaded), state, "{why}: accepted, so it is all used");
                        use_card(loaded, &why);
                        accepted += 1;
                    }
                    Err(error) => {
                        assert_ne!(value, good[offset], "{why}: refused: {error}");
                        assert!(!error.to_string().is_empty(), "{why}: an error has a text");
                    }
                }
            }
        }
        // The bytes that keep any value are SCR and both halves of the divisor, at least.
        assert!(
            accepted > 3 * 256,
            "{name}: only {accepted} states accepted"
        );
    }
}

/// Loads the state of `card` after a change to its first port.
fn change(card: &Card, change: impl FnOnce(&mut [u8])) -> Result<Card, LoadError> {
    let mut state = save(card);
    change(&mut state[PORT..][..PORT_SIZE]);
    crate::bench::from_state(PortCount::One, &state)
}

#[track_caller]
fn expect_refusal(loaded: Result<Card, LoadError>, expected: PortError) {
    assert_eq!(
        loaded,
        Err(LoadError::Port {
            index: 0,
            error: expected
        })
    );
}

#[test]
fn the_header_is_checked() {
    let good = save(&Card::new(PortCount::One));
    let changed = |offset: usize, value| {
        let mut state = good.clone();
        state[offset] = value;
        crate::bench::from_state(PortCount::One, &state)
    };
    assert_eq!(
        changed(0, 2),
        Err(LoadError::State(StateError::Version { known: 1, found: 2 })),
        "version"
    );
    assert_eq!(
        changed(0, 0),
        Err(LoadError::State(StateError::Version { known: 1, found: 0 })),
        "version"
    );
    assert_eq!(
        changed(3, 1),
        Err(LoadError::State(StateError::Unused {
            offset: 3,
            found: 1
        })),
        "reserved"
    );
    assert!(
        matches!(
            changed(CONFIG, 0),
            Err(LoadError::Config(ImageError::Identity { .. }))
        ),
        "vendor"
    );
}

#[test]
fn bits_that_a_register_does_not_have_are_refused() {
    let card = Card::new(PortCount::One);
    for (offset, field, found, allowed) in [
        (0, "IER", 0x10, 0x0f),
        (1, "FCR", FCR_ENABLE_FIFO | FCR_CLEAR_RCVR, 0xc9),
        (3, "MCR", 0x20, 0x1f),
        (4, "LSR", LSR_DR, 0x1e),
        (5, "MSR", MSR_CTS, 0x0f),
        (7, "flags", 0x04, 0x03),
    ] {
        expect_refusal(
            change(&card, |port| port[offset] = found),
            PortError::State(StateError::Bits {
                field,
                found: found.into(),
                allowed,
            }),
        );
    }
}

#[test]
fn more_characters_than_room_are_refused() {
    let card = Serial::with_fifos().card;
    expect_refusal(
        change(&card, |port| port[12] = 17),
        PortError::Length {
            field: "receiver",
            found: 17,
            depth: 16,
        },
    );
    expect_refusal(
        change(&card, |port| port[11] = 255),
        PortError::Length {
            field: "transmitter",
            found: 255,
            depth: 16,
        },
    );
    expect_refusal(
        change(&Card::new(PortCount::One), |port| port[12] = 2),
        PortError::Length {
            field: "receiver",
            found: 2,
            depth: 1,
        },
    );
}

#[test]
fn what_no_accesses_lead_to_is_refused() {
    let idle = Serial::with_fifos().card;

    expect_refusal(
        change(&idle, |port| port[1] = FCR_TRIGGER_8),
        PortError::FifoControl {
            found: FCR_TRIGGER_8,
        },
    );
    expect_refusal(
        change(&idle, |port| {
            port[11] = 1;
            port[16] = b'x';
        }),
        PortError::ShiftRegisterIdle { characters: 1 },
    );
    expect_refusal(
        change(&idle, |port| port[7] = 2),
        PortError::ShiftRegisterFree,
    );
    expect_refusal(
        change(&rich().card, |port| port[3] |= MCR_LOOP),
        PortError::ShiftRegisterFree,
    );
    expect_refusal(
        change(&rich().card, |port| port[2] |= LCR_SBC),
        PortError::ShiftRegisterFree,
    );
    expect_refusal(
        change(&idle, |port| port[7] = 1),
        PortError::TransmitterEmpty {
            interrupt_enable: 0,
            characters: 0,
        },
    );
    expect_refusal(
        change(&rich().card, |port| port[7] |= 1),
        PortError::TransmitterEmpty {
            interrupt_enable: IER_ALL_INTR,
            characters: 3,
        },
    );
    expect_refusal(
        change(&rich().card, |port| port[48] = LSR_PE),
        PortError::OldestErrors { found: LSR_PE },
    );
}

#[test]
fn reserved_and_unused_bytes_must_be_0() {
    let card = Card::new(PortCount::One);
    // The character without its flag, reserved bytes, and places without a character.
    for offset in [10, 13, 14, 15, 16, 31, 32, 47, 48, 63] {
        expect_refusal(
            change(&card, |port| port[offset] = 1),
            PortError::State(StateError::Unused { offset, found: 1 }),
        );
    }
}

#[test]
fn a_refusal_names_the_port() {
    let mut state = save(&Card::new(PortCount::Four));
    state[PORT + 2 * PORT_SIZE] = 0xff;
    let error = crate::bench::from_state(PortCount::Four, &state).expect_err("IER has four bits");
    assert_eq!(
        error.to_string(),
        "port 2: IER is 0xff, but has only the bits 0x0f"
    );
}

#[test]
fn a_saved_card_is_untouched() {
    let card = rich().card;
    let before = card.clone();
    save(&card);
    assert_eq!(card, before, "saving changes nothing");
    assert_eq!(load(PortCount::One, &save(&card)), before, "the moved card");
}
