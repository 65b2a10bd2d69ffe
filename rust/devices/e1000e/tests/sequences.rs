// SPDX-License-Identifier: GPL-2.0

//! The order of what is written, and what happens when a step fails.

use device_model::hardware::{
    Failure,
    Hardware, //
};
use e1000e::Error;

use crate::bench::{
    identity,
    packet,
    Format,
    Guest,
    Host,
    MEMORY, //
};
use crate::model::{
    Memory,
    Model, //
};
use crate::spec::*;
use e1000e::Following;

fn set_up() -> (Host, Guest) {
    let memory = Memory::new(MEMORY);
    let mut host = Host::new(memory.clone());
    let mut guest = Guest::new(memory);
    guest.set_up(&mut host, Format::Legacy(0), 16, 0);
    guest.post(&mut host, 0, 15, 0);
    guest.post(&mut host, 1, 15, 0);
    (host, guest)
}

/// Positions in the log of the writes to `offset` that `which` takes.
fn writes(model: &Model, offset: u32, which: impl Fn(u32) -> bool) -> Vec<usize> {
    model
        .log
        .iter()
        .enumerate()
        .filter(|(_, &(at, value))| at == offset && which(value))
        .map(|(position, _)| position)
        .collect()
}

#[test]
fn heads_are_written_between_reset_and_enable_and_causes_come_last() {
    let (mut source, mut guest) = set_up();
    guest.send(&mut source, 0, 200, 2, true);
    source.model.arrive(&packet(1, 0, 100));
    source.model.run(1_000);
    source.quiesce().unwrap();
    let state = source.save().unwrap();

    // A card that another guest has used.
    let mut host = Host::new(source.memory.clone());
    host.write(RCTL, RCTL_EN);
    host.quiesce().unwrap();
    host.model.log.clear();
    host.apply(&state).unwrap();
    host.resume().unwrap();
    host.expect_no_faults();

    let model = &host.model;
    let reset = writes(model, CTRL, |value| value & CTRL_RST != 0);
    assert_eq!(reset.len(), 1, "one reset");
    let receive = writes(model, RCTL, |value| value & RCTL_EN != 0);
    let transmit = writes(model, TCTL, |value| value & TCTL_EN != 0);
    assert_eq!((receive.len(), transmit.len()), (1, 1), "enabled once each");
    for (register, enable) in [
        (RDH, receive[0]),
        (RDT, receive[0]),
        (TDH, transmit[0]),
        (TDT, transmit[0]),
    ] {
        for queue in 0..2 {
            let at = writes(model, register + QUEUE * queue, |_| true);
            assert_eq!(
                at.len(),
                1,
                "{register:#x} of queue {queue} is written once"
            );
            assert!(
                reset[0] < at[0] && at[0] < enable,
                "{register:#x} is written between the reset and the enable"
            );
        }
    }
    let masters = writes(model, CTRL, |value| value & CTRL_GIO_MASTER_DISABLE == 0);
    let masters = masters
        .last()
        .expect("requests on PCIe are allowed at last");
    let mask = writes(model, IMS, |_| true);
    let causes = writes(model, ICS, |_| true);
    assert!(receive[0] < *masters && transmit[0] < *masters && *masters < mask[0]);
    assert_eq!(mask.len(), 1, "IMS is written once");
    assert_eq!(causes, [model.log.len() - 1], "ICS is written last of all");
}

#[test]
fn a_card_as_the_last_reset_left_it_is_not_reset_again() {
    let (mut source, _) = set_up();
    source.quiesce().unwrap();
    let state = source.save().unwrap();

    type Use = fn(&mut Host);
    let used: [(&str, Use); 6] = [
        ("nothing", |_| {}),
        ("filters", |host| host.write(MTA, 1)),
        ("an enabled receiver", |host| host.write(RCTL, RCTL_EN)),
        ("a ring", |host| host.write(TDBAL + QUEUE, 0x1000)),
        ("a mask", |host| host.write(IMS, 1)),
        ("a state", |host| {
            let state = {
                host.quiesce().unwrap();
                host.save().unwrap()
            };
            host.apply(&state).unwrap();
        }),
    ];
    for (what, make) in used {
        let mut host = Host::new(source.memory.clone());
        let resets = host.model.resets;
        make(&mut host);
        host.quiesce().unwrap();
        host.apply(&state).unwrap();
        host.resume().unwrap();
        let expected = !matches!(what, "nothing" | "filters");
        assert_eq!(
            host.model.resets - resets,
            u32::from(expected),
            "used: {what}"
        );
        host.expect_no_faults();
    }
}

#[test]
fn a_migration_of_an_idle_card_waits_for_less_than_20_milliseconds() {
    let (mut source, _) = set_up();
    let before = source.model.now();
    source.model.accesses = 0;
    source.quiesce().unwrap();
    let state = source.save().unwrap();
    let stop = source.model.now() - before;

    let mut host = Host::new(source.memory.clone());
    host.quiesce().unwrap();
    let before = host.model.now();
    host.model.accesses = 0;
    host.apply(&state).unwrap();
    host.resume().unwrap();
    let start = host.model.now() - before;
    println!("stop and save {stop} us, apply and start {start} us");
    let (stops, starts) = (source.model.accesses, host.model.accesses);
    println!("{stops} and {starts} accesses, {} bytes", state.len());
    assert!(stop + start < 20_000, "microseconds of waiting");
    assert!(stops + starts < 2_500, "accesses to registers");
}

#[test]
fn the_stop_waits_for_what_was_fetched() {
    let (mut host, mut guest) = set_up();
    for _ in 0..6 {
        guest.send(&mut host, 0, 300, 2, false);
        guest.send(&mut host, 1, 300, 1, true);
    }
    host.quiesce().unwrap();
    assert_eq!(host.model.wire.len(), 12, "all that was posted is sent");
    assert_eq!(host.read(TDH), host.read(TDT));
    host.expect_no_faults();
}

#[test]
fn descriptors_that_wait_to_be_written_back_are_written_back() {
    let (mut host, mut guest) = set_up();
    let done = |guest: &Guest| guest.memory.get(guest.tx[0].base + 12, 1).unwrap()[0] & TX_DONE;
    // TXDCTL.WTHRESH is 2.
    guest.send(&mut host, 0, 300, 1, false);
    host.model.run(1_000);
    assert_eq!(done(&guest), 0, "one descriptor waits");
    host.quiesce().unwrap();
    assert_eq!(done(&guest), TX_DONE, "it is written back by the stop");
    host.expect_no_faults();
}

#[test]
fn a_paused_transmitter_makes_the_stop_fail_and_goes_on() {
    let (mut host, mut guest) = set_up();
    guest.send(&mut host, 0, 300, 1, false);
    host.model.nature.paused = true;
    host.model.run(100);

    let error = host.quiesce().unwrap_err();
    assert!(
        matches!(error, Failure::Undone(Error::TransmitFifo { packets: 1 })),
        "{error:?}"
    );
    assert_eq!(host.read(IMS), 0x01f0_0085, "the mask is the guest's");
    assert_ne!(host.read(RCTL) & RCTL_EN, 0, "the receiver is enabled");
    host.model.nature.paused = false;
    host.model.run(1_000);
    assert_eq!(host.model.wire.len(), 1, "the packet is sent");
    host.quiesce().expect("and the device can be stopped");
    host.expect_no_faults();
}

#[test]
fn a_queue_out_of_the_arbitration_is_not_waited_for_and_moves_as_it_is() {
    let (mut source, mut guest) = set_up();
    let arbitration = source.read(TARC + QUEUE);
    source.write(TARC + QUEUE, arbitration & !TARC_ENABLE);
    guest.send(&mut source, 1, 300, 2, true);
    let mut host = source.migrate();
    host.resume().unwrap();
    host.model.run(1_000);
    assert!(host.model.wire.is_empty());
    host.write(TARC + QUEUE, arbitration);
    host.model.run(1_000);
    assert_eq!(host.model.wire, guest.sent[1], "once it takes part again");
    host.expect_no_faults();
}

#[test]
fn requests_that_do_not_end_make_the_stop_fail() {
    let (mut host, _) = set_up();
    host.model.nature.master_stuck = true;
    let control = host.read(CTRL);
    assert_eq!(host.quiesce(), Err(Failure::Undone(Error::Master)));
    assert_eq!(host.read(CTRL), control);
    assert_ne!(host.read(TCTL) & TCTL_EN, 0);
    assert_ne!(host.read(RCTL) & RCTL_EN, 0);
    host.expect_no_faults();
}

#[test]
fn a_packet_fetched_in_part_without_link_is_sent_as_a_whole_by_the_destination() {
    for context in [false, true] {
        let (mut source, mut guest) = set_up();
        guest.send(&mut source, 0, 100, 1, false);
        source.model.run(1_000);
        source.model.nature.link = false;
        // Four fill the FIFO, and the fifth waits before its last descriptor.
        for _ in 0..4 {
            guest.send(&mut source, 0, 100, 1, false);
        }
        source.model.run(1_000);
        guest.send(&mut source, 0, 333, 3, context);
        source.model.fetch_partly();
        let packet = guest.sent[0].last().unwrap().clone();

        let mut host = source.migrate();
        host.resume().unwrap();
        host.model.run(10_000);
        assert_eq!(
            host.model.wire,
            [packet],
            "context {context}: the packet that was fetched in part"
        );
        source.expect_no_faults();
        host.expect_no_faults();
    }
}

#[test]
fn without_bus_mastering_nothing_is_started() {
    let (mut source, mut guest) = set_up();
    source.bus_master = false;
    guest.send(&mut source, 0, 300, 1, false);
    source.model.arrive(&packet(1, 0, 100));

    let mut host = source.migrate();
    // The host's own function has the bit nevertheless.
    host.resume().unwrap();
    host.model.bus_master = true;
    host.model.run(10_000);
    assert!(host.model.wire.is_empty(), "no packet is sent");
    assert_eq!(host.read(RDH), 0, "no packet is received");
    assert_ne!(
        host.read(RCTL) & RCTL_EN,
        0,
        "the guest finds its receiver enabled"
    );

    // And moves on like that.
    let mut host = host.migrate();
    host.resume().unwrap();
    host.bus_master = true;
    host.resume().unwrap();
    assert_eq!(host.read(CTRL) & CTRL_GIO_MASTER_DISABLE, 0);
    host.model.run(10_000);
    assert_eq!(
        host.model.wire.len(),
        1,
        "the packet is sent once the guest allows it"
    );
    host.expect_no_faults();
}

#[test]
fn a_guest_that_has_disabled_masters_finds_them_disabled() {
    let (mut source, _) = set_up();
    let control = source.read(CTRL);
    source.write(CTRL, control | CTRL_GIO_MASTER_DISABLE);
    let mut host = source.migrate();
    host.resume().unwrap();
    assert_ne!(host.read(CTRL) & CTRL_GIO_MASTER_DISABLE, 0);
    host.expect_no_faults();
}

#[test]
fn a_cancelled_migration_leaves_the_source_as_it_was() {
    let (mut host, mut guest) = set_up();
    host.write(ICS, CAUSE_MDAC);
    host.write(EXTCNF_CTRL, EXTCNF_MDIO_SOFTWARE);
    host.write(EXTCNF_CTRL, EXTCNF_MDIO_SOFTWARE);
    host.write(EXTCNF_CTRL, EXTCNF_MDIO_SOFTWARE);
    host.write(MDIC, 0x0822_0000);
    host.model.run(100);
    let before: Vec<_> = (0..REGISTER_SPACE)
        .step_by(4)
        .filter(|&offset| offset != ICR)
        .map(|offset| (offset, host.model.peek(offset)))
        .collect();

    host.quiesce().unwrap();
    host.save().unwrap();
    host.resume().unwrap();
    for (offset, value) in before {
        let now = host.model.peek(offset);
        let now = if offset == MDIC {
            now & !MDIC_READY
        } else {
            now
        };
        assert_eq!(
            now,
            value & if offset == MDIC { !MDIC_READY } else { !0 },
            "register {offset:#x}"
        );
    }
    assert_ne!(host.model.peek(ICR) & CAUSE_MDAC, 0, "the pending cause");
    guest.send(&mut host, 0, 300, 1, false);
    host.model.run(1_000);
    assert_eq!(host.model.wire.len(), 1);
    host.expect_no_faults();
}

#[test]
fn operations_of_phy_and_eeprom_that_the_guest_waits_for_are_done() {
    let (mut source, _) = set_up();
    for _ in 0..4 {
        source.write(EXTCNF_CTRL, EXTCNF_MDIO_SOFTWARE);
    }
    // Register 2 of the PHY, and word 5 of the EEPROM.
    source.write(MDIC, 0x0822_0000);
    source.write(EERD, 5 << 2 | 1);

    let mut host = source.migrate();
    host.resume().unwrap();
    let mdic = host.read(MDIC);
    assert_eq!(mdic & (MDIC_READY | MDIC_ERROR), MDIC_READY);
    assert_eq!(mdic & 0xffff, 0x0141, "what register 2 has");
    let eerd = host.read(EERD);
    assert_eq!(eerd & 3, 2, "done");
    assert_eq!(eerd >> 16, 5 ^ 0xbaba, "what word 5 has");
    assert_ne!(
        host.read(EXTCNF_CTRL) & EXTCNF_MDIO_SOFTWARE,
        0,
        "MDIO is the guest's"
    );
    host.expect_no_faults();
    source.expect_no_faults();
}

#[test]
fn a_page_of_the_phy_that_the_guest_has_selected_stays_selected() {
    let (mut source, _) = set_up();
    for _ in 0..4 {
        source.write(EXTCNF_CTRL, EXTCNF_MDIO_SOFTWARE);
    }
    // Register 22 of the PHY gets 3.
    source.write(MDIC, 0x0436_0003);
    source.model.run(100);
    source.model.phy[18] = 0x1234;
    let mut host = source.migrate();
    host.resume().unwrap();
    assert_eq!(host.model.phy[18], 0x1234, "settings are on page 0");
    for host in [&mut source, &mut host] {
        host.write(MDIC, 0x0836_0000);
        host.model.run(100);
        assert_eq!(host.read(MDIC) & 0xffff, 3, "the page");
        host.expect_no_faults();
    }
}

#[test]
fn the_phy_is_written_only_if_it_differs() {
    let (mut source, _) = set_up();
    let mut host = source.migrate();
    host.resume().unwrap();
    assert_eq!(host.model.phy_resets, 0, "the link stays");
    assert!(
        !host
            .model
            .log
            .iter()
            .any(|&(at, value)| at == MDIC && value >> 26 & 3 == 1),
        "no register of the PHY is written"
    );

    // What is not negotiated does not cost the link.
    host.model.phy[20] = 0x0123;
    let mut host = host.migrate();
    host.resume().unwrap();
    assert_eq!(host.model.phy[20], 0x0123);
    assert_eq!(host.model.phy_resets, 0, "the link stays");

    host.model.phy[4] = 0x0061;
    host.model.phy[0] = 0x1940;
    let mut other = host.migrate();
    other.resume().unwrap();
    assert_eq!(other.model.phy[4], 0x0061, "what is advertised");
    assert_eq!(other.model.phy[0], 0x1940, "control, without the reset");
    assert_eq!(other.model.phy_resets, 1, "the PHY takes them by a reset");

    other
        .run(|controller, context| controller.reset(context))
        .unwrap();
    assert_eq!(
        other.model.phy[4], 0x0de1,
        "a reset takes them away from the next user"
    );
    other.expect_no_faults();
}

#[test]
fn a_reset_leaves_nothing_of_the_user() {
    let (mut host, mut guest) = set_up();
    guest.send(&mut host, 0, 200, 1, false);
    for index in 0..128 {
        host.write(MTA + 4 * index, 0xffff_ffff);
        host.write(VFTA + 4 * index, 0x5555_5555);
    }
    for index in 0..10 {
        host.write(RSSRK + 4 * index, 0x1111_1111);
    }
    host.write(RAL + 8, 0x1234_5678);
    host.write(RAH + 8, 0x8000_1234);
    host.model.arrive(&packet(1, 0, 100));
    host.write_bar(2, 0, 0x1000);

    host.run(|controller, context| controller.reset(context))
        .unwrap();
    let fresh = Host::new(Memory::new(MEMORY));
    for offset in (0..REGISTER_SPACE).step_by(4) {
        // A PHY register was read to see whether it is as before.
        if offset != MDIC {
            assert_eq!(
                host.model.peek(offset),
                fresh.model.peek(offset),
                "register {offset:#x}"
            );
        }
    }
    assert_eq!(host.read_bar(2, 0), 0, "IOADDR");
    assert_eq!(host.read(GPRC), 0, "statistics");
    host.expect_no_faults();
}

#[test]
fn after_a_reset_that_failed_half_way_a_stop_stops_the_function() {
    let (mut host, mut guest) = set_up();
    host.quiesce().unwrap();
    host.model.nature.phy_dead = true;
    let error = host.run(|controller, context| controller.reset(context));
    assert_eq!(error, Err(Error::Phy));
    host.model.nature.phy_dead = false;

    // A guest that goes on sets the card up anew.
    guest.set_up(&mut host, Format::Legacy(0), 16, 0);
    guest.post(&mut host, 0, 15, 0);
    host.quiesce().unwrap();
    assert_eq!(host.read(RCTL) & RCTL_EN, 0, "the receiver is disabled");
    assert_ne!(
        host.read(CTRL) & CTRL_GIO_MASTER_DISABLE,
        0,
        "requests on PCIe are disabled"
    );
    host.resume().unwrap();
    assert_ne!(host.read(RCTL) & RCTL_EN, 0, "the receiver is enabled");
}

#[test]
fn a_step_that_fails_after_the_reset_cannot_be_undone() {
    let (mut source, _) = set_up();
    source.quiesce().unwrap();
    let state = source.save().unwrap();
    let fresh = || {
        let mut host = Host::new(source.memory.clone());
        host.write(RCTL, RCTL_EN);
        host.quiesce().unwrap();
        host
    };

    let mut host = fresh();
    host.model.nature.broken = Some(RDT);
    let error = host.apply(&state).unwrap_err();
    assert!(
        matches!(error, Failure::Broken(Error::Register { offset: RDT, .. })),
        "{error:?}"
    );

    let mut host = fresh();
    host.model.nature.phy_dead = true;
    assert_eq!(host.apply(&state), Err(Failure::Broken(Error::Phy)));

    let mut host = fresh();
    host.model.nature.reset_stuck = true;
    assert_eq!(host.apply(&state), Err(Failure::Broken(Error::Reset)));

    let mut host = fresh();
    host.model.nature.gone = true;
    assert_eq!(host.apply(&state), Err(Failure::Undone(Error::Gone)));
}

#[test]
fn a_running_function_is_neither_saved_nor_overwritten() {
    let (mut host, _) = set_up();
    assert_eq!(host.save(), Err(Error::Running));
    host.quiesce().unwrap();
    let state = host.save().unwrap();
    host.resume().unwrap();
    assert_eq!(host.apply(&state), Err(Failure::Undone(Error::Running)));
    assert_eq!(host.model.resets, 2, "the driver's reset is the last one");
    let mut short = [0; 10];
    host.quiesce().unwrap();
    let error = host.run(|controller, context| controller.save(context, &mut short));
    assert_eq!(error, Err(Error::Room { found: 10 }));
}

#[test]
fn the_io_window_leads_to_all_registers_and_past_no_trap() {
    let (mut host, mut guest) = set_up();
    host.write_bar(2, 0, STATUS);
    assert_eq!(host.read_bar(2, 0), STATUS);
    assert_ne!(host.read_bar(2, 4) & STATUS_LU, 0);

    // Statistics of the source, through the window of the destination.
    host.model.arrive(&packet(1, 0, 100));
    host.model.run(100);
    host.write_bar(2, 0, GPRC);
    let mut host = host.migrate();
    host.resume().unwrap();
    assert_eq!(
        host.read_bar(2, 4),
        1,
        "IOADDR has moved, and so have the statistics"
    );

    host.follow();
    guest.reap();
    guest.post(&mut host, 0, 1, 0);
    host.write_bar(2, 0, RDT);
    let tail = host.read_bar(2, 4);
    host.write_bar(2, 4, tail);
    host.write_bar(2, 0, 0xffff_ffff);
    assert_eq!(host.read_bar(2, 4), 0, "nothing is there");
    host.expect_no_faults();
}

#[test]
fn accesses_that_are_no_register_are_refused() {
    let (mut host, _) = set_up();
    let mut bytes = [0; 8];
    for (bar, offset, len) in [
        (0, 0x3ffc, 8),
        (0, 0x4ffc, 8),
        (0, 0x4002, 4),
        (0, 0x0, 4),
        (1, 0x4000, 4),
        (2, 32, 4),
        (0, u64::MAX, 1),
        (0, 0x4000, 3),
        (0, 0x4000, 0),
    ] {
        let read = host
            .run(|controller, context| controller.read(context, bar, offset, &mut bytes[..len]));
        assert!(
            read.is_err(),
            "read of {len} bytes at {offset:#x} of BAR {bar}"
        );
        let written =
            host.run(|controller, context| controller.write(context, bar, offset, &bytes[..len]));
        assert!(
            written.is_err(),
            "write of {len} bytes at {offset:#x} of BAR {bar}"
        );
    }
}

#[test]
fn without_following_no_page_is_trapped() {
    let host = Host::with(Memory::new(MEMORY), identity(), Following::Off);
    assert!(host.controller.traps().iter().all(|trap| trap.bar == 2));
}

#[test]
fn traps_are_in_ascending_order_and_apart() {
    for following in [
        Following::Off,
        Following::ReceiveTrapped,
        Following::BothTrapped,
    ] {
        let host = Host::with(Memory::new(MEMORY), identity(), following);
        let traps = host.controller.traps();
        for (index, trap) in traps.iter().enumerate() {
            for later in &traps[index + 1..] {
                assert!(
                    trap.bar != later.bar || trap.offset + trap.len <= later.offset,
                    "{following:?}: {later:?} after {trap:?}"
                );
            }
        }
    }
}
