// SPDX-License-Identifier: GPL-2.0

//! The card around its ports: identity, interrupt, bounds, reset.

use uart::{
    AccessError,
    Card,
    DeviceModel,
    PortCount, //
};

use crate::bench::{
    load,
    save,
    Serial, //
};
use crate::serial_reg::*;

const COUNTS: [PortCount; 3] = [PortCount::One, PortCount::Two, PortCount::Four];

const COMMAND: u64 = 0x04;
const COMMAND_INTX_DISABLE: u8 = 0x04;
const STATUS: u64 = 0x06;
const STATUS_INTERRUPT: u8 = 0x08;
const STATUS_CAP_LIST: u8 = 0x10;
const BASE_ADDRESS_0: u64 = 0x10;
const CAPABILITY_LIST: u64 = 0x34;
const INTERRUPT_LINE: u64 = 0x3c;
const MSI: u64 = 0x40;
const MSI_FLAGS: u64 = MSI + 2;

fn config<const N: usize>(card: &Card, offset: u64) -> [u8; N] {
    let mut bytes = [0; N];
    card.read_config(offset, &mut bytes)
        .expect("configuration space is readable");
    bytes
}

fn set_config(card: &mut Card, offset: u64, bytes: &[u8]) {
    card.write_config(offset, bytes)
        .expect("configuration space is writable");
}

#[test]
fn the_identity_is_of_the_range_for_experiments() {
    for (count, device) in COUNTS.into_iter().zip([0xf1, 0xf2, 0xf3]) {
        let card = Card::new(count);
        // Red Hat lends 1af4:10f0 to 1af4:10ff to everybody. QEMU's card, 1b36:0002 to 1b36:0004, has no
        // MSI.
        let numbers = [0xf4, 0x1a, device, 0x10];
        assert_eq!(
            config(&card, 0x00),
            numbers,
            "vendor and device of {count:?}"
        );
        assert_eq!(
            config(&card, 0x08),
            [0x01, 0x02, 0x00, 0x07],
            "revision 1, a 16550-compatible serial controller"
        );
        assert_eq!(config(&card, 0x0e), [0x00], "one function, type 0 header");
        assert_eq!(config(&card, 0x2c), numbers, "subsystem of {count:?}");
        assert_eq!(config(&card, 0x3d), [0x01], "INTA#");
    }
}

#[test]
fn bar0_has_8_ports_per_uart() {
    for (count, size) in COUNTS.into_iter().zip([8u32, 16, 32]) {
        let mut card = Card::new(count);
        assert_eq!(
            card.ports().bar_size(0),
            u64::from(size),
            "size of {count:?}"
        );
        assert_eq!(
            u32::from_le_bytes(config(&card, BASE_ADDRESS_0)),
            0x1,
            "I/O ports, no address yet"
        );

        set_config(&mut card, BASE_ADDRESS_0, &[0xff; 4]);
        assert_eq!(
            u32::from_le_bytes(config(&card, BASE_ADDRESS_0)),
            !(size - 1) | 1,
            "size mask of {count:?}"
        );
        for bar in 1..6 {
            let offset = BASE_ADDRESS_0 + 4 * bar;
            set_config(&mut card, offset, &[0xff; 4]);
            assert_eq!(config(&card, offset), [0; 4], "base address {bar} is none");
        }
    }
}

#[test]
fn the_only_capability_is_msi() {
    let card = Card::new(PortCount::Two);

    let [status] = config(&card, STATUS);
    assert_ne!(status & STATUS_CAP_LIST, 0, "the capability list is valid");
    assert_eq!(
        config(&card, CAPABILITY_LIST),
        [MSI as u8],
        "first capability"
    );
    assert_eq!(
        config(&card, MSI),
        [0x05, 0x00, 0x80, 0x00],
        "MSI, the last one; 64-bit, one vector, disabled"
    );
}

#[test]
fn accesses_outside_of_bar0_are_refused_and_do_nothing() {
    for count in COUNTS {
        let size = count.bar_size(0);
        for (offset, length) in [
            (size, 1),
            (size - 1, 2),
            (0, size as usize + 1),
            (u64::MAX, 1),
            (u64::MAX, 2),
            (u64::MAX - 7, 8),
        ] {
            let mut card = Card::new(count);
            let refused = Err(AccessError {
                offset,
                length,
                size: size as usize,
            });
            let mut bytes = vec![0xa5; length];
            assert_eq!(card.write_bar(0, offset, &bytes), refused, "write");
            assert_eq!(card.read_bar(0, offset, &mut bytes), refused, "read");
            assert_eq!(card.peek_bar(0, offset, &mut bytes), refused, "peek");
            assert!(
                bytes.iter().all(|&byte| byte == 0xa5),
                "a refused read gives nothing"
            );
            assert_eq!(card, Card::new(count), "a refused access changes nothing");
        }
    }
}

#[test]
fn accesses_outside_of_configuration_space_are_refused() {
    let mut card = Card::new(PortCount::One);
    for (offset, length) in [(256, 1), (255, 2), (0, 257), (u64::MAX, 1)] {
        let mut bytes = vec![0xff; length];
        assert!(
            card.read_config(offset, &mut bytes).is_err(),
            "{length} bytes at {offset} are not readable"
        );
        assert!(
            card.write_config(offset, &bytes).is_err(),
            "{length} bytes at {offset} are not writable"
        );
        assert_eq!(
            card,
            Card::new(PortCount::One),
            "a refused access changes nothing"
        );
    }
}

#[test]
fn a_wide_access_is_one_access_per_register_in_order() {
    let mut card = Card::new(PortCount::One);
    let values = [b'x', IER_THRI, 0, LCR_WLEN8, MCR_RTS, 0, 0, 0x5a];
    card.write_bar(0, 0, &values)
        .expect("eight bytes are writable");

    let mut read = [0; 8];
    card.read_bar(0, 0, &mut read)
        .expect("eight bytes are readable");
    assert_eq!(
        read,
        [
            b'x',
            IER_THRI,
            IIR_THRI,
            LCR_WLEN8,
            MCR_RTS,
            LSR_THRE | LSR_TEMT,
            MSR_CTS | MSR_DCTS,
            0x5a
        ],
        "what eight registers hold"
    );
    assert!(!card.interrupt(), "reading the second byte cleared THRE");
}

#[test]
fn ports_are_independent() {
    for count in [PortCount::Two, PortCount::Four] {
        for busy in 0..count.count() as u64 {
            let mut port = Serial::of(Card::new(count), busy);
            port.write(FCR, FCR_ENABLE_FIFO);
            port.write(IER, IER_ALL_INTR);
            port.write(MCR, MCR_DTR);
            port.write(SCR, 0x77);
            port.send(&[1, 2, 3]);
            let card = port.card;
            for idle in (0..count.count() as u64).filter(|&idle| idle != busy) {
                let mut registers = [0; 8];
                card.peek_bar(0, idle * REGISTERS, &mut registers)
                    .expect("registers can be peeked at");
                assert_eq!(
                    registers,
                    [0, 0, IIR_NO_INT, 0, 0, LSR_THRE | LSR_TEMT, 0, 0],
                    "port {idle} while port {busy} is busy"
                );
            }
        }
    }
}

#[test]
fn the_interrupt_is_that_of_any_port() {
    let mut card = Card::new(PortCount::Four);
    for index in 0..4 {
        let mut port = Serial::of(card, index);
        port.write(IER, IER_THRI);
        port.expect_interrupt(true, "one port has an interrupt");
        port.read(IIR);
        port.expect_interrupt(false, "no port has one any more");
        card = port.card;
    }
}

#[test]
fn interrupt_status_follows_the_level_and_ignores_intx_disable() {
    let mut serial = Serial::new();
    let status = |serial: &Serial| config::<1>(&serial.card, STATUS)[0] & STATUS_INTERRUPT;

    assert_eq!(status(&serial), 0, "no interrupt");
    set_config(&mut serial.card, COMMAND + 1, &[COMMAND_INTX_DISABLE]);
    serial.write(IER, IER_THRI);
    assert_eq!(status(&serial), STATUS_INTERRUPT, "an interrupt");
    set_config(&mut serial.card, STATUS, &[0xff, 0xff]);
    set_config(&mut serial.card, STATUS, &[0, 0]);
    assert_eq!(
        status(&serial),
        STATUS_INTERRUPT,
        "software cannot change it"
    );
    serial.relocate();
    assert_eq!(
        status(&serial),
        STATUS_INTERRUPT,
        "it is there after a move"
    );
    serial.read(IIR);
    assert_eq!(status(&serial), 0, "no interrupt any more");
}

#[test]
fn the_pin_obeys_intx_disable_and_msi_enable() {
    let mut serial = Serial::new();
    serial.write(IER, IER_THRI);
    assert!(serial.card.intx_asserted(), "the pin is asserted");

    set_config(&mut serial.card, COMMAND + 1, &[COMMAND_INTX_DISABLE]);
    assert!(!serial.card.intx_asserted(), "the pin is disabled");
    assert!(serial.card.interrupt(), "the level stays");

    set_config(&mut serial.card, COMMAND + 1, &[0]);
    assert!(serial.card.intx_asserted(), "the pin is enabled again");

    set_config(&mut serial.card, MSI_FLAGS, &[1]);
    assert!(serial.card.msi_enabled(), "MSI is enabled");
    assert!(!serial.card.intx_asserted(), "messages replace the pin");
    assert!(serial.card.interrupt(), "the level stays");

    serial.relocate();
    assert!(serial.card.msi_enabled(), "MSI is enabled after a move");
}

#[test]
fn interrupt_status_is_of_the_pin_and_0_while_messages_replace_it() {
    let mut serial = Serial::new();
    let status = |serial: &Serial| config::<1>(&serial.card, STATUS)[0] & STATUS_INTERRUPT;

    serial.write(IER, IER_THRI);
    assert_eq!(status(&serial), STATUS_INTERRUPT, "for the pin");
    set_config(&mut serial.card, MSI_FLAGS, &[1]);
    assert_eq!(status(&serial), 0, "MSI is enabled in configuration space");
    serial.relocate();
    assert_eq!(status(&serial), 0, "and after a move");
    set_config(&mut serial.card, MSI_FLAGS, &[0]);
    assert_eq!(status(&serial), STATUS_INTERRUPT, "for the pin again");

    // As a user of vfio-pci does it, who cannot set the bit.
    serial.card.set_msi(true);
    assert!(serial.card.msi_enabled(), "MSI is enabled by its user");
    assert!(!serial.card.intx_asserted(), "messages replace the pin");
    assert!(serial.card.interrupt(), "the level stays");
    assert_eq!(status(&serial), 0, "MSI is enabled by its user");
    serial.card.reset();
    assert!(serial.card.msi_enabled(), "how it is connected stays");
    serial.card.set_msi(false);
    serial.write(IER, IER_THRI);
    assert_eq!(status(&serial), STATUS_INTERRUPT, "for the pin again");
}

#[test]
fn the_ports_answer_while_io_space_is_enabled() {
    for count in COUNTS {
        let mut card = Card::new(count);
        assert!(!card.decodes(0), "after power-on");
        set_config(&mut card, COMMAND, &[0x06]);
        assert!(!card.decodes(0), "memory space is not what it has");
        set_config(&mut card, COMMAND, &[0x01]);
        assert!(card.decodes(0), "I/O space is enabled");
        assert!(!card.decodes(1), "there is one base address register");
        assert!(load(count, &save(&card)).decodes(0), "and after a move");
        set_config(&mut card, COMMAND, &[0x00]);
        assert!(
            !load(count, &save(&card)).decodes(0),
            "disabled after a move"
        );
    }
}

#[test]
fn a_reset_brings_all_back_to_power_on_but_the_header() {
    for count in COUNTS {
        let mut serial = Serial::of(Card::new(count), 0);
        set_config(&mut serial.card, COMMAND, &[0x05, 0x04]);
        set_config(&mut serial.card, INTERRUPT_LINE, &[11]);
        set_config(&mut serial.card, BASE_ADDRESS_0, &[0, 0xc0, 0, 0]);
        let mut expected = Card::new(count);
        for offset in 0..0x40 {
            set_config(&mut expected, offset, &config::<1>(&serial.card, offset));
        }
        set_config(&mut serial.card, MSI_FLAGS, &[1]);
        serial.write(FCR, FCR_ENABLE_FIFO);
        serial.write(IER, IER_ALL_INTR);
        serial.send(&[1; 40]);
        serial.card.reset();
        assert_eq!(
            config::<256>(&serial.card, 0),
            config::<256>(&expected, 0),
            "configuration space after a reset"
        );
        assert!(serial.card == expected, "a card of {count:?} after a reset");
    }
}

#[test]
fn configuration_space_moves_with_the_card() {
    let mut card = Card::new(PortCount::Two);
    set_config(&mut card, COMMAND, &[0x05, 0x04]);
    set_config(&mut card, INTERRUPT_LINE, &[11]);
    set_config(&mut card, BASE_ADDRESS_0, &[0, 0xc0, 0, 0]);
    set_config(
        &mut card,
        MSI,
        &[0, 0, 1, 0, 0, 0, 0xe0, 0xfe, 0, 0, 0, 0, 0x41, 0x40],
    );

    let moved = load(PortCount::Two, &save(&card));
    assert_eq!(
        config::<256>(&moved, 0),
        config::<256>(&card, 0),
        "configuration space after a move"
    );
}
