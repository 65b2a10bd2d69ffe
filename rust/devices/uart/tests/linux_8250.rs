// SPDX-License-Identifier: GPL-2.0

//! What Linux' 8250 driver does with a port, access by access.
//!
//! The functions are named after those of `drivers/tty/serial/8250` that they follow. They go the
//! longest way: with the probing for variants of the 16550A, which a kernel may leave out.

use std::collections::VecDeque;

use proptest::prelude::*;
use uart::{
    Card,
    DeviceModel,
    PortCount, //
};

use crate::bench::Serial;
use crate::serial_reg::*;

/// What `autoconfig()` takes a port for.
#[derive(Debug, PartialEq, Eq)]
enum PortType {
    /// Nothing is there, for this reason.
    None(&'static str),
    Unknown,
    Before16550,
    Variant(&'static str),
    P16550A,
}

fn serial_dl_read(port: &mut Serial) -> u16 {
    u16::from_le_bytes([port.read(DLL), port.read(DLM)])
}

fn serial_dl_write(port: &mut Serial, divisor: u16) {
    let [low, high] = divisor.to_le_bytes();
    port.write(DLL, low);
    port.write(DLM, high);
}

fn size_fifo(port: &mut Serial) -> usize {
    const CHARACTERS: usize = 256;

    let old_lcr = port.read(LCR);
    port.write(LCR, 0);
    let old_fcr = port.read(FCR);
    let old_mcr = port.read(MCR);
    port.write(FCR, FCR_ENABLE_FIFO | FCR_CLEAR_RCVR | FCR_CLEAR_XMIT);
    port.write(MCR, MCR_LOOP);
    port.write(LCR, LCR_CONF_MODE_A);
    let old_dl = serial_dl_read(port);
    serial_dl_write(port, 1);
    port.write(LCR, LCR_WLEN8);
    for count in 0..CHARACTERS {
        port.write(TX, count as u8);
    }
    let mut count = 0;
    while port.read(LSR) & LSR_DR != 0 && count < CHARACTERS {
        port.read(RX);
        count += 1;
    }
    port.write(FCR, old_fcr);
    port.write(MCR, old_mcr);
    port.write(LCR, LCR_CONF_MODE_A);
    serial_dl_write(port, old_dl);
    port.write(LCR, old_lcr);
    count
}

fn autoconfig_16550a(port: &mut Serial) -> PortType {
    port.write(LCR, LCR_CONF_MODE_A);
    if port.read(EFR) == 0 {
        return PortType::Variant("EFR behind DLAB");
    }
    port.write(LCR, LCR_CONF_MODE_B);
    if port.read(EFR) == 0 {
        return PortType::Variant("EFR behind 0xbf");
    }

    port.write(LCR, 0);
    let status1 = port.read(MCR);
    port.write(LCR, 0xe0);
    let status2 = port.read(EFR);
    if (status2 ^ status1) & MCR_LOOP == 0 {
        port.write(LCR, 0);
        port.write(MCR, status1 ^ MCR_LOOP);
        port.write(LCR, 0xe0);
        let status2 = port.read(EFR);
        port.write(LCR, 0);
        port.write(MCR, status1);
        if (status2 ^ status1) & MCR_LOOP != 0 {
            return PortType::Variant("NS16550A");
        }
    }

    port.write(LCR, 0);
    port.write(FCR, FCR_ENABLE_FIFO | FCR7_64BYTE);
    let status1 = port.read(IIR) & IIR_FIFO_ENABLED_16750;
    port.write(FCR, FCR_ENABLE_FIFO);
    port.write(LCR, LCR_CONF_MODE_A);
    port.write(FCR, FCR_ENABLE_FIFO | FCR7_64BYTE);
    let status2 = port.read(IIR) & IIR_FIFO_ENABLED_16750;
    port.write(FCR, FCR_ENABLE_FIFO);
    port.write(LCR, 0);
    if status1 == IIR_FIFO_ENABLED && status2 == IIR_FIFO_ENABLED_16750 {
        return PortType::Variant("16750");
    }

    let iersave = port.read(IER);
    port.write(IER, iersave & !IER_UUE);
    if port.read(IER) & IER_UUE == 0 {
        port.write(IER, iersave | IER_UUE);
        if port.read(IER) & IER_UUE != 0 {
            return PortType::Variant("XScale");
        }
    }
    port.write(IER, iersave);

    match size_fifo(port) {
        FIFO_DEPTH => PortType::P16550A,
        64 => PortType::Variant("U6 16550A"),
        _ => PortType::Variant("FIFO of another size"),
    }
}

fn clear_fifos(port: &mut Serial) {
    port.write(FCR, FCR_ENABLE_FIFO);
    port.write(FCR, FCR_ENABLE_FIFO | FCR_CLEAR_RCVR | FCR_CLEAR_XMIT);
    port.write(FCR, 0);
}

fn autoconfig(port: &mut Serial) -> PortType {
    let scratch = port.read(IER);
    port.write(IER, 0);
    let scratch2 = port.read(IER) & IER_ALL_INTR;
    port.write(IER, IER_ALL_INTR);
    let scratch3 = port.read(IER) & IER_ALL_INTR;
    port.write(IER, scratch);
    if scratch2 != 0 || scratch3 != IER_ALL_INTR {
        return PortType::None("IER");
    }

    let save_mcr = port.read(MCR);
    let save_lcr = port.read(LCR);
    port.write(MCR, MCR_LOOP | MCR_OUT2 | MCR_RTS);
    let status1 = port.read(MSR) & MSR_STATUS_BITS;
    port.write(MCR, save_mcr);
    if status1 != MSR_DCD | MSR_CTS {
        return PortType::None("loop-back");
    }

    port.write(LCR, LCR_CONF_MODE_B);
    port.write(EFR, 0);
    port.write(LCR, 0);
    port.write(FCR, FCR_ENABLE_FIFO);
    let kind = match port.read(IIR) & IIR_FIFO_ENABLED {
        IIR_FIFO_ENABLED => autoconfig_16550a(port),
        0 => PortType::Before16550,
        _ => PortType::Unknown,
    };
    port.write(LCR, save_lcr);
    port.write(MCR, save_mcr);
    clear_fifos(port);
    port.read(RX);
    port.write(IER, 0);
    kind
}

/// The part of `serial8250_do_startup()` that looks for faults of the chip.
fn startup(port: &mut Serial) -> Result<(), &'static str> {
    fn clear_interrupts(port: &mut Serial) {
        port.read(LSR);
        port.read(RX);
        port.read(IIR);
        port.read(MSR);
    }

    clear_fifos(port);
    clear_interrupts(port);
    if port.read(LSR) == 0xff {
        return Err("LSR safety check engaged");
    }

    // serial8250_THRE_test()
    port.write(IER, IER_THRI);
    let iir_noint1 = port.read(IIR) & IIR_NO_INT != 0;
    port.write(IER, 0);
    port.write(IER, IER_THRI);
    let iir_noint2 = port.read(IIR) & IIR_NO_INT != 0;
    port.write(IER, 0);
    if !iir_noint1 && iir_noint2 {
        return Err("UART_BUG_THRE");
    }

    // serial8250_initialize() and serial8250_iir_txen_test()
    port.write(LCR, LCR_WLEN8);
    port.write(MCR, MCR_OUT2 | MCR_DTR | MCR_RTS);
    port.write(IER, IER_THRI);
    let lsr_temt = port.read(LSR) & LSR_TEMT != 0;
    let iir_noint = port.read(IIR) & IIR_NO_INT != 0;
    port.write(IER, 0);
    if lsr_temt && iir_noint {
        return Err("UART_BUG_TXEN");
    }
    clear_interrupts(port);

    // serial8250_do_set_termios(): 8 bits, no parity, 115200 baud, trigger level 8.
    port.write(LCR, LCR_WLEN8 | LCR_DLAB);
    serial_dl_write(port, 1);
    port.write(LCR, LCR_WLEN8);
    port.write(FCR, FCR_ENABLE_FIFO);
    port.write(FCR, FCR_ENABLE_FIFO | FCR_TRIGGER_8);
    port.write(IER, IER_RLSI | IER_RDI | IER_MSI);
    Ok(())
}

/// The driver's side of an open port.
struct Driver {
    /// The driver's shadow of IER.
    ier: u8,
    /// Characters that the program wrote and the driver has not sent yet.
    xmit: VecDeque<u8>,
    /// Characters that the driver received.
    received: Vec<u8>,
}

impl Driver {
    /// Number of characters that the driver sends when the transmitter is empty.
    const TX_LOADSZ: usize = FIFO_DEPTH;

    fn open(port: &mut Serial) -> Self {
        startup(port).expect("the driver should find no fault in the chip");
        Self {
            ier: IER_RLSI | IER_RDI | IER_MSI,
            xmit: VecDeque::new(),
            received: Vec::new(),
        }
    }

    /// `serial8250_start_tx()`
    fn write(&mut self, port: &mut Serial, bytes: &[u8]) {
        self.xmit.extend(bytes);
        if self.ier & IER_THRI == 0 {
            self.ier |= IER_THRI;
            port.write(IER, self.ier);
        }
    }

    /// `serial8250_tx_chars()`
    fn tx_chars(&mut self, port: &mut Serial) {
        for _ in 0..Self::TX_LOADSZ {
            let Some(character) = self.xmit.pop_front() else {
                break;
            };
            port.write(TX, character);
        }
        if self.xmit.is_empty() {
            self.ier &= !IER_THRI;
            port.write(IER, self.ier);
        }
    }

    /// `serial8250_handle_irq()`; returns whether the port had an interrupt.
    fn handle_irq(&mut self, port: &mut Serial) -> bool {
        if port.read(IIR) & IIR_NO_INT != 0 {
            return false;
        }

        let mut status = port.read(LSR);
        assert!(
            status & LSR_DR != 0 || status & LSR_FIFOE == 0,
            "the driver resets FIFOs with an error and without data, LSR {status:#04x}"
        );
        let mut max_count = 256;
        while status & (LSR_DR | LSR_BI) != 0 && max_count > 0 {
            assert_eq!(status & LSR_BRK_ERROR_BITS, 0, "the line has no errors");
            self.received.push(port.read(RX));
            status = port.read(LSR);
            max_count -= 1;
        }
        port.read(MSR);
        if status & LSR_THRE != 0 && self.ier & IER_THRI != 0 {
            self.tx_chars(port);
        }
        true
    }

    /// `serial8250_interrupt()`: until no port has an interrupt.
    fn interrupt(&mut self, port: &mut Serial) {
        const PASS_LIMIT: usize = 512;

        for _ in 0..PASS_LIMIT {
            if !self.handle_irq(port) {
                return;
            }
        }
        panic!("the driver should be done within {PASS_LIMIT} passes");
    }

    /// Serves the interrupt until the pin is no longer asserted.
    fn serve(&mut self, port: &mut Serial) {
        const STORM: usize = 1000;

        for _ in 0..STORM {
            if !port.card.intx_asserted() {
                return;
            }
            self.interrupt(port);
        }
        panic!("the pin should not stay asserted when no port reports an interrupt");
    }
}

/// Line `number` of a stream, with a sum over its text.
fn line(number: usize) -> String {
    let text = format!("line {number:06} of the stream");
    let sum = text
        .bytes()
        .fold(0u16, |sum, byte| sum.rotate_left(1) ^ u16::from(byte));
    format!("{text} {sum:04x}\n")
}

#[track_caller]
fn expect_lines(received: &[u8], count: usize) {
    let expected: String = (0..count).map(line).collect();
    let seen = String::from_utf8_lossy(received);
    if let Some((number, (expected, seen))) = expected
        .lines()
        .zip(seen.lines())
        .enumerate()
        .find(|(_, (expected, seen))| expected != seen)
    {
        panic!("line {number} should be {expected:?}, not {seen:?}");
    }
    assert_eq!(seen.len(), expected.len(), "bytes received");
}

#[test]
fn autoconfig_finds_a_16550a_with_16_characters() {
    for count in [PortCount::One, PortCount::Two, PortCount::Four] {
        for index in 0..count.count() as u64 {
            let mut port = Serial::of(Card::new(count), index);
            assert_eq!(
                autoconfig(&mut port),
                PortType::P16550A,
                "port {index} of {count:?}"
            );
            assert_eq!(startup(&mut port), Ok(()), "port {index} of {count:?}");
        }
    }
}

#[test]
fn autoconfig_finds_a_16550a_that_moves_between_accesses() {
    let mut port = Serial::new().moving();
    assert_eq!(autoconfig(&mut port), PortType::P16550A, "a moving port");
    assert_eq!(startup(&mut port), Ok(()), "a moving port");
}

#[test]
fn autoconfig_leaves_the_port_idle() {
    let mut port = Serial::new();
    autoconfig(&mut port);
    port.expect(IIR, IIR_NO_INT, "IIR after autoconfig");
    port.expect(LSR, LSR_THRE | LSR_TEMT, "LSR after autoconfig");
    port.expect_interrupt(false, "after autoconfig");
}

/// Streams lines through the driver; the interrupt is served as soon as it is asserted.
fn stream(port: &mut Serial, count: usize) -> Vec<u8> {
    let mut driver = Driver::open(port);
    for number in 0..count {
        driver.write(port, line(number).as_bytes());
        driver.serve(port);
    }
    assert!(driver.xmit.is_empty(), "the driver should have sent all");
    driver.received
}

#[test]
fn a_stream_arrives_whole() {
    let mut port = Serial::new();
    expect_lines(&stream(&mut port, 500), 500);
}

#[test]
fn a_stream_arrives_whole_with_a_move_before_every_access() {
    let mut port = Serial::new().moving();
    expect_lines(&stream(&mut port, 100), 100);
}

/// What happens next on the driver's machine.
#[derive(Clone, Debug)]
enum Event {
    /// The program writes this number of further lines.
    Write(usize),
    /// The interrupt is served, if it is asserted.
    Serve,
    /// The driver stops receiving, as it does without a reader: `serial8250_stop_rx()`.
    StopReceiving,
    /// The driver receives again.
    Receive,
    /// The card moves.
    Move,
    /// Software looks at a register in passing, as a console or a diagnostic tool does.
    Look(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (1..4usize).prop_map(Event::Write),
        6 => Just(Event::Serve),
        1 => Just(Event::StopReceiving),
        2 => Just(Event::Receive),
        3 => Just(Event::Move),
        1 => prop_oneof![Just(IER), Just(LCR), Just(MCR), Just(LSR), Just(SCR)].prop_map(Event::Look),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_line_is_lost_however_late_the_driver_is(events in prop::collection::vec(event(), 1..200)) {
        let mut port = Serial::new();
        let mut driver = Driver::open(&mut port);
        let mut written = 0;

        for event in events {
            match event {
                Event::Write(lines) => {
                    for _ in 0..lines {
                        driver.write(&mut port, line(written).as_bytes());
                        written += 1;
                    }
                }
                Event::Serve if driver.ier & IER_RDI == 0 => {
                    // A driver that does not receive still sends when told that it can.
                    if port.card.intx_asserted() && port.read(IIR) == IIR_FIFO_ENABLED | IIR_THRI {
                        driver.tx_chars(&mut port);
                    }
                }
                Event::Serve => {
                    if port.card.intx_asserted() {
                        driver.interrupt(&mut port);
                    }
                }
                Event::StopReceiving => {
                    driver.ier &= !(IER_RLSI | IER_RDI);
                    port.write(IER, driver.ier);
                }
                Event::Receive => {
                    driver.ier |= IER_RLSI | IER_RDI;
                    port.write(IER, driver.ier);
                }
                Event::Move => port.relocate(),
                Event::Look(register) => {
                    port.read(register);
                }
            }
        }

        driver.ier |= IER_RLSI | IER_RDI;
        port.write(IER, driver.ier);
        driver.serve(&mut port);
        prop_assert!(driver.xmit.is_empty(), "the driver should have sent all: an interrupt was lost");
        expect_lines(&driver.received, written);
    }
}

#[test]
fn four_ports_share_the_interrupt() {
    const LINES: usize = 50;

    let mut card = Card::new(PortCount::Four);
    let mut drivers = Vec::new();
    for index in 0..4 {
        let mut port = Serial::of(card, index);
        drivers.push(Driver::open(&mut port));
        card = port.card;
    }

    for number in 0..LINES {
        for (index, driver) in drivers.iter_mut().enumerate() {
            let mut port = Serial::of(card, index as u64).moving();
            driver.write(&mut port, line(number).as_bytes());
            card = port.card;
        }
        for pass in 0.. {
            if !card.intx_asserted() {
                break;
            }
            assert!(pass < 1000, "the shared pin should not stay asserted");
            for (index, driver) in drivers.iter_mut().enumerate() {
                let mut port = Serial::of(card, index as u64);
                driver.handle_irq(&mut port);
                card = port.card;
            }
        }
    }
    for driver in &drivers {
        expect_lines(&driver.received, LINES);
    }
}
