// SPDX-License-Identifier: GPL-2.0

//! Checks of the serial card that need no standard library and no heap.
//!
//! The host tests run them with cargo, and KUnit runs them in the kernel, so that what the kernel's
//! compiler made of the card is checked as well.

use uart::{
    Card,
    DeviceModel,
    LoadError,
    PortCount, //
};

/// Outcome of a check: nothing, or the expectation that failed.
pub(crate) type Outcome = Result<(), &'static str>;

/// A check.
pub(crate) type Check = fn() -> Outcome;

/// All checks with their names.
pub(crate) const CHECKS: &[(&str, Check)] = &[
    ("power_on_values", power_on_values),
    ("identity", identity),
    ("bar0_sizing", bar0_sizing),
    ("out_of_range_is_refused", out_of_range_is_refused),
    ("divisor_is_behind_dlab", divisor_is_behind_dlab),
    ("fifo_holds_16_characters", fifo_holds_16_characters),
    ("plug_loses_nothing", plug_loses_nothing),
    ("trigger_level", trigger_level),
    ("interrupt_priority", interrupt_priority),
    (
        "empty_transmitter_is_told_once",
        empty_transmitter_is_told_once,
    ),
    ("overrun_in_loop_back", overrun_in_loop_back),
    ("break_character", break_character),
    ("modem_lines", modem_lines),
    ("intx_and_msi", intx_and_msi),
    ("peek_has_no_effect", peek_has_no_effect),
    ("reset", reset),
    ("state_moves", state_moves),
    ("state_moves_with_four_ports", state_moves_with_four_ports),
    ("truncated_state_is_refused", truncated_state_is_refused),
    ("hostile_state_is_refused", hostile_state_is_refused),
];

/// A card with `ports` ports that has loaded `state`.
fn from_state(ports: PortCount, state: &[u8]) -> Result<Card, LoadError> {
    let mut card = Card::new(ports);
    card.load(&mut (), state)?;
    Ok(card)
}

// Registers and bits, with the names of `include/uapi/linux/serial_reg.h`.
const DATA: u64 = 0;
const DLM: u64 = 1;
const IER: u64 = 1;
const IIR: u64 = 2;
const FCR: u64 = 2;
const LCR: u64 = 3;
const MCR: u64 = 4;
const LSR: u64 = 5;
const MSR: u64 = 6;
const SCR: u64 = 7;
const REGISTERS: usize = 8;

const IER_RDI: u8 = 0x01;
const IER_THRI: u8 = 0x02;
const IER_ALL: u8 = 0x0f;
const IIR_NO_INT: u8 = 0x01;
const IIR_MSI: u8 = 0xc0;
const IIR_THRI: u8 = 0xc2;
const IIR_RDI: u8 = 0xc4;
const IIR_RLSI: u8 = 0xc6;
const IIR_RX_TIMEOUT: u8 = 0xcc;
const IIR_NONE_WITH_FIFOS: u8 = 0xc1;
const FCR_ENABLE_FIFO: u8 = 0x01;
const FCR_TRIGGER_4: u8 = 0x40;
const LCR_WLEN8: u8 = 0x03;
const LCR_SBC: u8 = 0x40;
const LCR_DLAB: u8 = 0x80;
const MCR_DTR: u8 = 0x01;
const MCR_RTS: u8 = 0x02;
const MCR_LOOP: u8 = 0x10;
const LSR_DR: u8 = 0x01;
const LSR_OE: u8 = 0x02;
const LSR_FE: u8 = 0x08;
const LSR_BI: u8 = 0x10;
const LSR_THRE: u8 = 0x20;
const LSR_TEMT: u8 = 0x40;
const LSR_FIFOE: u8 = 0x80;
const MSR_DCTS: u8 = 0x01;
const MSR_DDSR: u8 = 0x02;
const MSR_DDCD: u8 = 0x08;
const MSR_CTS: u8 = 0x10;
const MSR_DSR: u8 = 0x20;
const MSR_DCD: u8 = 0x80;
const FIFO_DEPTH: u8 = 16;

const CONFIG_COMMAND_HIGH: u64 = 0x05;
const CONFIG_BASE_ADDRESS_0: u64 = 0x10;
const CONFIG_MSI_FLAGS: u64 = 0x42;
const COMMAND_HIGH_INTX_DISABLE: u8 = 0x04;
const MSI_FLAGS_ENABLE: u8 = 0x01;

/// Where the first port is in a saved state, and a few of its fields.
const STATE_PORT: usize = 260;
const STATE_FLAGS: usize = STATE_PORT + 7;
const STATE_RECEIVER_LENGTH: usize = STATE_PORT + 12;
const STATE_RESERVED: usize = STATE_PORT + 13;

fn require(condition: bool, expected: &'static str) -> Outcome {
    if condition {
        Ok(())
    } else {
        Err(expected)
    }
}

fn get(card: &mut Card, register: u64) -> Result<u8, &'static str> {
    let mut value = [0];
    card.read_bar(0, register, &mut value)
        .map_err(|_| "a register is readable")?;
    Ok(value[0])
}

fn put(card: &mut Card, register: u64, value: u8) -> Outcome {
    card.write_bar(0, register, &[value])
        .map_err(|_| "a register is writable")
}

fn set_config(card: &mut Card, offset: u64, value: u8) -> Outcome {
    card.write_config(offset, &[value])
        .map_err(|_| "configuration space is writable")
}

fn with_fifos() -> Result<Card, &'static str> {
    let mut card = Card::new(PortCount::One);
    put(&mut card, LCR, LCR_WLEN8)?;
    put(&mut card, FCR, FCR_ENABLE_FIFO)?;
    Ok(card)
}

fn save<'a>(
    card: &Card,
    state: &'a mut [u8; Card::STATE_SIZE],
) -> Result<&'a mut [u8], &'static str> {
    let size = card
        .save(&(), state)
        .ok_or("a card's state fits into STATE_SIZE bytes")?;
    state.get_mut(..size).ok_or("a size within the buffer")
}

fn power_on_values() -> Outcome {
    let mut card = Card::new(PortCount::One);
    let expected = [0, 0, IIR_NO_INT, 0, 0, LSR_THRE | LSR_TEMT, 0, 0];
    for (register, expected) in (0..).zip(expected) {
        let seen = get(&mut card, register)?;
        require(seen == expected, "registers have their power-on values")?;
    }
    require(!card.interrupt(), "no interrupt after power-on")
}

fn identity() -> Outcome {
    for (count, device) in [
        (PortCount::One, 0xf1),
        (PortCount::Two, 0xf2),
        (PortCount::Four, 0xf3),
    ] {
        let card = Card::new(count);
        let mut bytes = [0; 12];
        card.read_config(0, &mut bytes)
            .map_err(|_| "configuration space is readable")?;
        require(
            bytes[..4] == [0xf4, 0x1a, device, 0x10],
            "vendor 1af4, device 10f1 to 10f3",
        )?;
        require(
            bytes[8..] == [0x01, 0x02, 0x00, 0x07],
            "revision 1, class 070002",
        )?;
    }
    Ok(())
}

fn bar0_sizing() -> Outcome {
    let mut card = Card::new(PortCount::Two);
    let mut bytes = [0xff; 4];
    card.write_config(CONFIG_BASE_ADDRESS_0, &bytes)
        .map_err(|_| "configuration space is writable")?;
    card.read_config(CONFIG_BASE_ADDRESS_0, &mut bytes)
        .map_err(|_| "configuration space is readable")?;
    require(
        bytes == [0xf1, 0xff, 0xff, 0xff] && card.ports().bar_size(0) == 16,
        "two ports have 16 bytes of I/O ports",
    )
}

fn out_of_range_is_refused() -> Outcome {
    let mut card = Card::new(PortCount::One);
    let idle = card.clone();
    for offset in [8, u64::MAX] {
        let mut byte = [0xa5];
        let refused = card.write_bar(0, offset, &byte).is_err()
            && card.read_bar(0, offset, &mut byte).is_err()
            && card.peek_bar(0, offset, &mut byte).is_err();
        require(refused, "an access past the I/O ports is refused")?;
        require(byte == [0xa5], "a refused read gives nothing")?;
    }
    let mut wide = [0; REGISTERS + 1];
    require(
        card.read_bar(0, 0, &mut wide).is_err(),
        "an access that ends past the I/O ports is refused",
    )?;
    require(card == idle, "a refused access changes nothing")
}

fn divisor_is_behind_dlab() -> Outcome {
    let mut card = Card::new(PortCount::One);
    put(&mut card, LCR, LCR_DLAB | LCR_WLEN8)?;
    put(&mut card, DATA, 0x34)?;
    put(&mut card, DLM, 0x12)?;
    require(
        get(&mut card, DATA)? == 0x34 && get(&mut card, DLM)? == 0x12,
        "the divisor reads as written",
    )?;
    put(&mut card, LCR, LCR_WLEN8)?;
    require(
        get(&mut card, IER)? == 0 && get(&mut card, LSR)? & LSR_DR == 0,
        "the divisor is neither IER nor transmitted",
    )
}

fn fifo_holds_16_characters() -> Outcome {
    let mut card = with_fifos()?;
    for character in 0..FIFO_DEPTH {
        put(&mut card, DATA, character)?;
    }
    for character in 0..FIFO_DEPTH {
        require(
            get(&mut card, DATA)? == character,
            "16 characters come back in order",
        )?;
    }
    require(
        get(&mut card, LSR)? == LSR_THRE | LSR_TEMT,
        "nothing is left",
    )
}

fn plug_loses_nothing() -> Outcome {
    const CHARACTERS: u8 = 250;

    let mut card = with_fifos()?;
    let (mut sent, mut received) = (0, 0);
    while received < CHARACTERS {
        if get(&mut card, LSR)? & LSR_THRE != 0 {
            for _ in 0..FIFO_DEPTH {
                if sent < CHARACTERS {
                    put(&mut card, DATA, sent)?;
                    sent += 1;
                }
            }
        }
        // The reader is slower than the writer.
        for _ in 0..3 {
            let status = get(&mut card, LSR)?;
            require(status & LSR_OE == 0, "the plug waits for the receiver")?;
            if status & LSR_DR != 0 {
                require(
                    get(&mut card, DATA)? == received,
                    "no character is lost, doubled or reordered",
                )?;
                received += 1;
            }
        }
    }
    Ok(())
}

fn trigger_level() -> Outcome {
    let mut card = with_fifos()?;
    put(&mut card, FCR, FCR_ENABLE_FIFO | FCR_TRIGGER_4)?;
    put(&mut card, IER, IER_RDI)?;
    for count in 1..=5 {
        put(&mut card, DATA, count)?;
        let expected = if count < 4 { IIR_RX_TIMEOUT } else { IIR_RDI };
        require(
            get(&mut card, IIR)? == expected,
            "timeout below the trigger level, data from it on",
        )?;
    }
    Ok(())
}

fn interrupt_priority() -> Outcome {
    let mut card = with_fifos()?;
    put(&mut card, IER, IER_ALL)?;
    put(&mut card, MCR, MCR_LOOP | MCR_RTS)?;
    for character in 0..=FIFO_DEPTH {
        put(&mut card, DATA, character)?;
    }
    require(get(&mut card, IIR)? == IIR_RLSI, "line status is first")?;
    get(&mut card, LSR)?;
    require(get(&mut card, IIR)? == IIR_RDI, "received data is second")?;
    for _ in 0..FIFO_DEPTH {
        get(&mut card, DATA)?;
    }
    require(get(&mut card, IIR)? == IIR_THRI, "transmitter is third")?;
    require(get(&mut card, IIR)? == IIR_MSI, "modem status is fourth")?;
    get(&mut card, MSR)?;
    require(get(&mut card, IIR)? == IIR_NONE_WITH_FIFOS, "none is left")?;
    require(!card.interrupt(), "none is asserted")
}

fn empty_transmitter_is_told_once() -> Outcome {
    let mut card = with_fifos()?;
    put(&mut card, IER, IER_THRI)?;
    require(card.interrupt(), "enabling it while empty asserts it")?;
    require(get(&mut card, IIR)? == IIR_THRI, "IIR reports it")?;
    require(!card.interrupt(), "reading IIR clears it")?;
    put(&mut card, DATA, 0)?;
    require(card.interrupt(), "emptying asserts it again")?;
    put(&mut card, IER, 0)?;
    require(!card.interrupt(), "disabling it clears it")
}

fn overrun_in_loop_back() -> Outcome {
    let mut card = with_fifos()?;
    put(&mut card, MCR, MCR_LOOP)?;
    for character in 0..=FIFO_DEPTH {
        put(&mut card, DATA, character)?;
    }
    require(get(&mut card, LSR)? & LSR_OE != 0, "the 17th overruns")?;
    require(get(&mut card, LSR)? & LSR_OE == 0, "reading LSR clears it")?;
    require(get(&mut card, DATA)? == 0, "the FIFO keeps its content")
}

fn break_character() -> Outcome {
    let mut card = with_fifos()?;
    put(&mut card, LCR, LCR_WLEN8 | LCR_SBC)?;
    put(&mut card, LCR, LCR_WLEN8)?;
    let errors = LSR_BI | LSR_FE | LSR_FIFOE;
    require(
        get(&mut card, LSR)? & (errors | LSR_DR) == errors | LSR_DR,
        "a break is a character with an error",
    )?;
    require(get(&mut card, LSR)? & errors == 0, "reading LSR clears it")?;
    require(get(&mut card, DATA)? == 0, "the character is 0")
}

fn modem_lines() -> Outcome {
    let mut card = Card::new(PortCount::One);
    put(&mut card, MCR, MCR_RTS)?;
    require(get(&mut card, MSR)? == MSR_CTS | MSR_DCTS, "RTS is CTS")?;
    require(get(&mut card, MSR)? == MSR_CTS, "reading MSR clears deltas")?;
    put(&mut card, MCR, MCR_DTR)?;
    require(
        get(&mut card, MSR)? == MSR_DSR | MSR_DCD | MSR_DCTS | MSR_DDSR | MSR_DDCD,
        "DTR is DSR and DCD",
    )
}

fn intx_and_msi() -> Outcome {
    let mut card = Card::new(PortCount::One);
    put(&mut card, IER, IER_THRI)?;
    require(card.intx_asserted(), "the pin is asserted")?;
    set_config(&mut card, CONFIG_COMMAND_HIGH, COMMAND_HIGH_INTX_DISABLE)?;
    require(!card.intx_asserted(), "a disabled pin is not asserted")?;
    set_config(&mut card, CONFIG_COMMAND_HIGH, 0)?;
    set_config(&mut card, CONFIG_MSI_FLAGS, MSI_FLAGS_ENABLE)?;
    require(
        card.msi_enabled() && card.interrupt() && !card.intx_asserted(),
        "messages replace the pin",
    )
}

fn peek_has_no_effect() -> Outcome {
    let mut card = with_fifos()?;
    put(&mut card, IER, IER_ALL)?;
    put(&mut card, DATA, 1)?;
    let before = card.clone();
    let (mut peeked, mut read) = ([0; REGISTERS], [0; REGISTERS]);
    card.peek_bar(0, 0, &mut peeked)
        .map_err(|_| "registers can be peeked at")?;
    require(card == before, "peeking changes nothing")?;
    card.read_bar(0, 0, &mut read)
        .map_err(|_| "registers are readable")?;
    require(peeked == read, "peeking gives what reading does")
}

fn reset() -> Outcome {
    let mut card = with_fifos()?;
    put(&mut card, IER, IER_ALL)?;
    put(&mut card, DATA, 1)?;
    put(&mut card, SCR, 0x5a)?;
    set_config(&mut card, CONFIG_MSI_FLAGS, MSI_FLAGS_ENABLE)?;
    card.reset();
    require(
        card == Card::new(PortCount::One),
        "a reset card is a new one",
    )
}

fn state_moves() -> Outcome {
    const CHARACTERS: u8 = 30;

    let mut card = with_fifos()?;
    put(&mut card, IER, IER_ALL)?;
    put(&mut card, MCR, MCR_RTS)?;
    for character in 0..CHARACTERS {
        put(&mut card, DATA, character)?;
    }

    let mut state = [0; Card::STATE_SIZE];
    let mut moved =
        from_state(PortCount::One, save(&card, &mut state)?).map_err(|_| "a saved state loads")?;
    require(moved == card, "the moved card is the same")?;
    for character in 0..CHARACTERS {
        require(
            get(&mut moved, DATA)? == character,
            "what was in flight arrives after the move",
        )?;
    }
    Ok(())
}

fn state_moves_with_four_ports() -> Outcome {
    let mut card = Card::new(PortCount::Four);
    for port in 0..4 {
        put(&mut card, port * REGISTERS as u64 + SCR, port as u8 + 1)?;
    }

    let mut state = [0; Card::STATE_SIZE];
    let moved =
        from_state(PortCount::Four, save(&card, &mut state)?).map_err(|_| "a saved state loads")?;
    require(moved == card, "the moved card is the same")
}

fn truncated_state_is_refused() -> Outcome {
    let mut state = [0; Card::STATE_SIZE];
    let state = save(&Card::new(PortCount::One), &mut state)?;
    for length in 0..state.len() {
        require(
            from_state(PortCount::One, &state[..length]).is_err(),
            "a truncated state is refused",
        )?;
    }
    Ok(())
}

fn hostile_state_is_refused() -> Outcome {
    let mut state = [0; Card::STATE_SIZE];
    let state = save(&with_fifos()?, &mut state)?;
    // Version, number of ports, vendor, IER, flags, FIFO length, and a reserved byte.
    for (offset, value) in [
        (0, 2),
        (1, 2),
        (4, 0),
        (STATE_PORT, 0xff),
        (STATE_FLAGS, 1),
        (STATE_RECEIVER_LENGTH, FIFO_DEPTH + 1),
        (STATE_RESERVED, 1),
    ] {
        let good = state[offset];
        state[offset] = value;
        require(
            from_state(PortCount::One, state).is_err(),
            "a hostile state is refused",
        )?;
        state[offset] = good;
    }
    require(
        from_state(PortCount::One, state).is_ok(),
        "the good state loads",
    )
}
