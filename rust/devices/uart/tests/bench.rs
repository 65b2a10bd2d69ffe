// SPDX-License-Identifier: GPL-2.0

//! A card on the bench: the accesses of a driver to one port, and moves of the card between them.

use uart::{
    Card,
    DeviceModel,
    LoadError,
    PortCount, //
};

use crate::serial_reg::*;

/// A card with `ports` ports that has loaded `state`.
pub fn from_state(ports: PortCount, state: &[u8]) -> Result<Card, LoadError> {
    let mut card = Card::new(ports);
    card.load(&mut (), state)?;
    Ok(card)
}

/// The registers of one port of a card.
pub struct Serial {
    pub card: Card,
    port: u64,
    /// Save and load the card before each access.
    moving: bool,
}

impl Serial {
    /// The only port of a new card.
    pub fn new() -> Self {
        Self::of(Card::new(PortCount::One), 0)
    }

    /// Port `port` of `card`, counted from 0.
    pub fn of(card: Card, port: u64) -> Self {
        Self {
            card,
            port,
            moving: false,
        }
    }

    /// The only port of a new card that has its FIFOs enabled.
    pub fn with_fifos() -> Self {
        let mut serial = Self::new();
        serial.write(LCR, LCR_WLEN8);
        serial.write(FCR, FCR_ENABLE_FIFO);
        serial
    }

    /// Makes the card move before each access from now on.
    pub fn moving(mut self) -> Self {
        self.moving = true;
        self
    }

    /// Saves the card and goes on with one loaded from that.
    pub fn relocate(&mut self) {
        self.card = load(self.card.ports(), &save(&self.card));
    }

    pub fn read(&mut self, register: u64) -> u8 {
        if self.moving {
            self.relocate();
        }
        let mut value = [0];
        self.card
            .read_bar(0, self.port * REGISTERS + register, &mut value)
            .expect("a register is readable");
        value[0]
    }

    pub fn peek(&self, register: u64) -> u8 {
        let mut value = [0];
        self.card
            .peek_bar(0, self.port * REGISTERS + register, &mut value)
            .expect("a register can be peeked at");
        value[0]
    }

    pub fn write(&mut self, register: u64, value: u8) {
        if self.moving {
            self.relocate();
        }
        self.card
            .write_bar(0, self.port * REGISTERS + register, &[value])
            .expect("a register is writable");
    }

    pub fn send(&mut self, characters: &[u8]) {
        for &character in characters {
            self.write(TX, character);
        }
    }

    /// Reads characters as long as there are any.
    pub fn drain(&mut self) -> Vec<u8> {
        let mut characters = Vec::new();
        while self.peek(LSR) & LSR_DR != 0 {
            characters.push(self.read(RX));
            assert!(
                characters.len() <= 2 * FIFO_DEPTH + 1,
                "receiver, shift register and transmitter hold at most 33 characters"
            );
        }
        characters
    }

    /// Checks what a read of a register gives.
    #[track_caller]
    pub fn expect(&mut self, register: u64, expected: u8, why: &str) {
        let seen = self.read(register);
        assert_eq!(
            seen, expected,
            "{why}: register {register} should read {expected:#04x}, not {seen:#04x}"
        );
    }

    /// Checks some bits of what a read of a register gives.
    #[track_caller]
    pub fn expect_bits(&mut self, register: u64, mask: u8, expected: u8, why: &str) {
        let seen = self.read(register);
        assert_eq!(
            seen & mask,
            expected,
            "{why}: bits {mask:#04x} of register {register} should be {expected:#04x} in {seen:#04x}"
        );
    }

    /// Checks whether the card asserts its interrupt.
    #[track_caller]
    pub fn expect_interrupt(&self, expected: bool, why: &str) {
        assert_eq!(
            self.card.interrupt(),
            expected,
            "{why}: the interrupt should be {expected}"
        );
    }
}

/// Returns the state of a card.
pub fn save(card: &Card) -> Vec<u8> {
    let mut state = vec![0; Card::STATE_SIZE];
    let size = card
        .save(&(), &mut state)
        .expect("a card fits into STATE_SIZE bytes");
    state.truncate(size);
    state
}

/// Returns the card of a state that has to be a good one.
#[track_caller]
pub fn load(ports: PortCount, state: &[u8]) -> Card {
    match from_state(ports, state) {
        Ok(card) => card,
        Err(error) => panic!("a saved state should load, but: {error}"),
    }
}
