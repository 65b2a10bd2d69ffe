// SPDX-License-Identifier: GPL-2.0

//! The checks that every device model has to pass, on cards of all kinds.

use device_model_rig as rig;
use uart::{
    Card,
    PortCount, //
};

use crate::state::cards;

#[test]
fn new_cards_pass() {
    for ports in PortCount::ALL {
        rig::check(&ports, &Card::new(ports).into());
        rig::check_peek(&Card::new(ports).into(), 0, ports.bar_size(0));
    }
}

#[test]
fn used_cards_pass() {
    for (_, card) in cards() {
        let card = card.into();
        rig::check(&PortCount::One, &card);
        rig::check_peek(&card, 0, PortCount::One.bar_size(0));
    }
}

#[test]
fn a_load_leaves_nothing_of_the_card_that_it_replaces() {
    for (_, used) in cards() {
        for (_, card) in cards() {
            rig::check_load_replaces(&PortCount::One, &used.clone().into(), &card.into());
        }
    }
}

#[test]
fn hostile_states_of_four_ports_are_refused_or_used_wholly() {
    let card = Card::new(PortCount::Four).into();
    let accepted = rig::check_hostile(&PortCount::Four, &card, &[0x01, 0x80, 0xff], |loaded| {
        rig::check_round_trip(&PortCount::Four, &loaded);
    });
    // SCR and both halves of the divisor of each port keep any value.
    assert!(accepted > 4 * 3 * 3, "only {accepted} states are accepted");
}
