// SPDX-License-Identifier: GPL-2.0

//! States that a hostile user has written.

use std::collections::BTreeMap;

use device_model::hardware::{
    Failure,
    FollowDma,
    Hardware, //
};
use e1000e::{
    Direction,
    Error,
    Following,
    Identity,
    StateError, //
};
use proptest::prelude::*;

use crate::bench::{
    identity,
    Format,
    Guest,
    Host,
    MEMORY, //
};
use crate::model::Memory;
use crate::spec::*;

/// The state of a card that a guest uses.
fn good() -> (Host, Vec<u8>) {
    let memory = Memory::new(MEMORY);
    let mut host = Host::new(memory.clone());
    let mut guest = Guest::new(memory);
    guest.set_up(&mut host, Format::Extended(0), 16, 0);
    guest.post(&mut host, 0, 15, 0);
    host.quiesce().unwrap();
    let state = host.save().unwrap();
    (host, state)
}

/// Finds where a state has a register: the place that changes with it.
fn place_of(register: u32, values: [u32; 2]) -> usize {
    let memory = Memory::new(MEMORY);
    let states = values.map(|value| {
        let mut host = Host::new(memory.clone());
        host.write(register, value);
        host.quiesce().unwrap();
        host.save().unwrap()
    });
    let at = states[0]
        .iter()
        .zip(&states[1])
        .position(|(a, b)| a != b)
        .unwrap_or_else(|| panic!("a state has register {register:#x}"));
    at & !3
}

fn parse(host: &Host, state: &[u8]) -> Result<(), StateError> {
    host.controller.parse(state).map(|_| ())
}

/// A state with another value in one of its words.
fn with(state: &[u8], at: usize, value: u32) -> Vec<u8> {
    let mut state = state.to_vec();
    state[at..at + 4].copy_from_slice(&value.to_le_bytes());
    state
}

#[test]
fn rings_that_the_data_sheet_forbids_are_refused() {
    let (host, state) = good();
    let length = place_of(RDLEN, [128, 256]);
    let base = place_of(TDBAL + QUEUE, [0x10, 0x20]);
    let tail = place_of(RDT, [1, 2]);
    let head = place_of(RDH, [1, 2]);
    let transmit = place_of(TDT, [1, 2]);

    for found in [1, 64, 129, 0x0010_0000, u32::MAX] {
        assert_eq!(
            parse(&host, &with(&state, length, found)),
            Err(StateError::RingLength {
                direction: Direction::Receive,
                queue: 0,
                found
            })
        );
    }
    for found in [1, 8, 0x1008] {
        assert_eq!(
            parse(&host, &with(&state, base, found)),
            Err(StateError::Base {
                direction: Direction::Transmit,
                queue: 1,
                found
            })
        );
    }
    for (at, value) in [(tail, 16), (head, 0xffff), (transmit, 16)] {
        let error = parse(&host, &with(&state, at, value)).unwrap_err();
        assert!(
            matches!(
                error,
                StateError::Position {
                    queue: 0,
                    descriptors: 16,
                    ..
                }
            ),
            "{error}"
        );
    }
    assert!(matches!(
        parse(&host, &with(&state, tail, 0x1_0000)),
        Err(StateError::Position { .. })
    ));
}

#[test]
fn bits_that_start_operations_are_refused() {
    let (host, state) = good();
    let control = place_of(CTRL, [CTRL_ONE, CTRL_ONE | CTRL_SLU]);
    let extended = place_of(CTRL_EXT, [0, 1 << 17]);
    let transmit = place_of(TCTL, [0, 8]);
    let delay = place_of(TIDV, [0, 1]);
    for (at, bit, name) in [
        (control, 26, "CTRL"),
        (control, 31, "CTRL"),
        (control, 3, "CTRL"),
        (control, 29, "CTRL"),
        (extended, 12, "CTRL_EXT"),
        (extended, 13, "CTRL_EXT"),
        (transmit, 22, "TCTL"),
        (delay, 31, "TIDV"),
    ] {
        let old = u32::from_le_bytes(state[at..at + 4].try_into().unwrap());
        let error = parse(&host, &with(&state, at, old | 1 << bit)).unwrap_err();
        assert!(
            matches!(error, StateError::Bits { register, .. } if register == name),
            "{error}"
        );
    }
}

#[test]
fn bits_that_start_operations_of_the_phy_are_refused() {
    let (host, state) = good();
    // PHY control is 0x1140, behind specific control 2, which is 0x0c60.
    let settings = [0x60, 0x0c, 0x40, 0x11];
    let at = state
        .windows(4)
        .position(|bytes| bytes == settings)
        .expect("a state has the PHY's settings");
    for (bit, name) in [(15, "reset"), (9, "restart of the negotiation")] {
        let control = 0x1140_u16 | 1 << bit;
        let mut state = state.clone();
        state[at + 2..at + 4].copy_from_slice(&control.to_le_bytes());
        assert_eq!(
            parse(&host, &state),
            Err(StateError::Phy {
                register: "PHY control",
                found: control,
                allowed: 0x7dc0
            }),
            "{name}"
        );
    }
}

#[test]
fn reserved_values_are_refused() {
    let (host, state) = good();
    let control = place_of(RCTL, [0, 4]);
    for value in [0x0000_0080, 0x0000_0800, 0x0000_0c00] {
        assert_eq!(
            parse(&host, &with(&state, control, value)),
            Err(StateError::Value {
                register: "RCTL",
                found: value
            })
        );
    }
    // Packet split without a header buffer, and without a buffer.
    let sizes = place_of(PSRCTL, [0x0001_0101, 0x0001_0102]);
    let split = with(&state, control, RCTL_EN | RCTL_DTYP_SPLIT);
    assert_eq!(parse(&host, &split), Ok(()));
    for value in [0x0001_0100, 0x0001_0001] {
        assert_eq!(
            parse(&host, &with(&split, sizes, value)),
            Err(StateError::Value {
                register: "PSRCTL",
                found: value
            })
        );
    }
}

#[test]
fn states_of_other_functions_are_refused_with_the_reason() {
    let (_, state) = good();
    let others = [
        Identity {
            device: 0x10f6,
            ..identity()
        },
        Identity {
            subsystem: 1,
            ..identity()
        },
        Identity {
            revision: 1,
            ..identity()
        },
        Identity {
            bars: [0x2_0000, 0x8_0000, 0x20, 0x4000, 0, 0],
            ..identity()
        },
        Identity {
            config_space: 1,
            ..identity()
        },
    ];
    let errors = others.map(|identity| {
        let host = Host::with(Memory::new(MEMORY), identity, Following::Off);
        let mut configurations = [[0; 64]; 2];
        host.controller.configuration(&mut configurations[0]);
        good().0.controller.configuration(&mut configurations[1]);
        assert_ne!(
            configurations[0], configurations[1],
            "the engine refuses it, too"
        );
        parse(&host, &state).unwrap_err().to_string()
    });
    assert_eq!(
        errors,
        [
            "state is of device 10d3 (subsystem 8086:a01f), this one is 10f6 (8086:a01f)",
            "state is of device 10d3 (subsystem 8086:a01f), this one is 10d3 (8086:0001)",
            "state is of revision 0x00, this device has revision 0x01",
            "state is of a device whose BAR 1 has 0x20000 bytes instead of 0x80000",
            "state is of a device with another configuration space",
        ]
    );
}

#[test]
fn lengths_and_versions_are_refused() {
    let (host, state) = good();
    for len in [0, 1, 4, 100, state.len() - 1] {
        assert!(
            matches!(
                parse(&host, &state[..len]),
                Err(StateError::Length { found, .. }) if found == len
            ),
            "{len} bytes"
        );
    }
    let mut longer = state.clone();
    longer.push(0);
    assert!(matches!(
        parse(&host, &longer),
        Err(StateError::Length { .. })
    ));
    let mut other = state.clone();
    other[0] = 2;
    assert_eq!(parse(&host, &other), Err(StateError::Version { found: 2 }));
    let mut other = state;
    other[2] = 1;
    assert_eq!(
        parse(&host, &other),
        Err(StateError::Reserved {
            offset: 2,
            found: 1
        })
    );
}

#[test]
fn a_refused_state_changes_nothing() {
    let (mut host, state) = good();
    host.model.log.clear();
    let mut other = state;
    other[0] = 9;
    assert_eq!(
        host.apply(&other),
        Err(Failure::Undone(Error::State(StateError::Version {
            found: 9
        })))
    );
    assert!(host.model.log.is_empty(), "nothing is written");
}

#[test]
fn a_guest_that_programs_what_is_forbidden_is_refused_at_the_source_and_goes_on() {
    let memory = Memory::new(MEMORY);
    let mut host = Host::new(memory.clone());
    let mut guest = Guest::new(memory);
    guest.set_up(&mut host, Format::Extended(0), 16, 0);
    host.write(RDT + QUEUE, 100);
    host.quiesce().unwrap();
    let error = host.save().unwrap_err();
    assert_eq!(
        error.to_string(),
        "receive ring 1 of 16 descriptors has head 0 and tail 100"
    );
    host.resume().unwrap();
    assert_ne!(host.read(RCTL) & RCTL_EN, 0);

    // As long as the receiver is disabled it may stand there: the guest is setting it up.
    host.write(RCTL, 0);
    let mut host = host.migrate();
    assert_eq!(host.read(RDT + QUEUE), 100);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_state_is_refused_or_leads_to_a_function_that_works(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        dense in any::<bool>(),
    ) {
        let (_, mut state) = good();
        for (at, value) in edits {
            // Most of a state is filters: the other half of the cases is about the rest.
            let at = if dense { at.index(400) } else { at.index(state.len()) };
            state[at] = value;
        }
        let mut host = Host::new(Memory::new(MEMORY));
        host.write(RCTL, RCTL_EN);
        host.quiesce().unwrap();
        host.model.log.clear();
        let resets = host.model.resets;
        match host.apply(&state) {
            Err(Failure::Undone(Error::State(_))) => {
                prop_assert!(host.model.log.is_empty(), "nothing is written");
            }
            Err(error) => prop_assert!(false, "{:?}", error),
            Ok(()) => {
                // Nothing that a stream can start was started.
                prop_assert_eq!(host.model.resets, resets + 1);
                let mut seen = BTreeMap::new();
                for &(register, value) in &host.model.log {
                    *seen.entry(register).or_insert(0) |= value;
                }
                for register in [EECD, FLA, EEWR, FLSWCTL, FLSWDATA, SWSM, FWSM, ICR, STATUS] {
                    prop_assert!(!seen.contains_key(&register), "{:#x} is written", register);
                }
                prop_assert_eq!(seen[&CTRL] & CTRL_PHY_RST, 0);
                // What is saved again is the same: nothing of it was lost or made up.
                let again = host.save().unwrap();
                let differs = again.iter().zip(&state).position(|(a, b)| a != b);
                prop_assert_eq!(differs, None, "a byte of the state");
                host.resume().unwrap();
                prop_assert_eq!(&host.model.faults, &Vec::<String>::new());
                // Its DMA can be followed, or is refused to be, wherever its rings are.
                let _ = host.run(|controller, context| controller.follow(context));
                for tail in [RDT, RDT + QUEUE] {
                    host.write(tail, 5);
                }
                let _ = host.quiesce();
                host.run(|controller, context| controller.unfollow(context));
                prop_assert!(host.bitmap.pinned.is_empty(), "all are unpinned");
            }
        }
    }
}
