// SPDX-License-Identifier: GPL-2.0

//! One 16550A with its plug.

use crate::fifo::{
    Fifo,
    DEPTH, //
};
use crate::plug::{
    modem_inputs,
    Line, //
};
use crate::registers::{
    set_if,
    FifoControl,
    Interrupt,
    InterruptEnable,
    LineControl,
    LineStatus,
    ModemControl,
    ModemStatus,
    Register, //
};

/// A character in the receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) data: u8,
    /// Errors of the character, until the line status shows them.
    pub(crate) errors: LineStatus,
}

/// One 16550A.
///
/// # Invariants
///
/// These hold between accesses, and [`crate::state`] refuses a state that breaks one:
///
/// - Without FIFOs `fifo_control` is empty, and receiver and transmitter hold at most one character.
/// - The oldest character in the receiver has no errors left: the line status took them.
/// - The transmitter holds characters only while the shift register has one.
/// - The shift register has a character only while the plug waits for room in the receiver.
/// - `transmitter_empty` is set only while its interrupt is enabled and the transmitter is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) interrupt_enable: InterruptEnable,
    pub(crate) fifo_control: FifoControl,
    pub(crate) line_control: LineControl,
    pub(crate) modem_control: ModemControl,
    /// Errors that the line status shows until it is read.
    pub(crate) line_errors: LineStatus,
    /// Deltas that the modem status shows until it is read.
    pub(crate) modem_deltas: ModemStatus,
    pub(crate) scratch: u8,
    pub(crate) divisor: u16,
    /// The transmitter has become empty, and IIR has not reported it yet.
    pub(crate) transmitter_empty: bool,
    pub(crate) receiver: Fifo<Received>,
    pub(crate) transmitter: Fifo<u8>,
    /// The character that leaves next.
    pub(crate) shift: Option<u8>,
}

impl Port {
    /// Divisor for 9600 baud from the usual 1.8432 MHz. A chip powers on with any divisor.
    const POWER_ON_DIVISOR: u16 = 12;

    /// Returns a port after power-on.
    pub(crate) fn new() -> Self {
        Self {
            interrupt_enable: InterruptEnable::default(),
            fifo_control: FifoControl::default(),
            line_control: LineControl::default(),
            modem_control: ModemControl::default(),
            line_errors: LineStatus::default(),
            modem_deltas: ModemStatus::default(),
            scratch: 0,
            divisor: Self::POWER_ON_DIVISOR,
            transmitter_empty: false,
            receiver: Fifo::default(),
            transmitter: Fifo::default(),
            shift: None,
        }
    }

    /// Returns whether the port asserts its interrupt.
    pub(crate) fn interrupt(&self) -> bool {
        self.pending().is_some()
    }

    /// Reads a register, with the side effects on the chip.
    pub(crate) fn read(&mut self, register: Register) -> u8 {
        match register {
            Register::Data if self.divisor_access() => self.divisor.to_le_bytes()[0],
            Register::Data => self.read_receiver(),
            Register::InterruptEnable if self.divisor_access() => self.divisor.to_le_bytes()[1],
            Register::InterruptEnable => self.interrupt_enable.bits(),
            Register::InterruptIdentification => self.read_identification(),
            Register::LineControl => self.line_control.bits(),
            Register::ModemControl => self.modem_control.bits(),
            Register::LineStatus => self.read_line_status(),
            Register::ModemStatus => self.read_modem_status(),
            Register::Scratch => self.scratch,
        }
    }

    /// Writes a register, with the side effects on the chip.
    pub(crate) fn write(&mut self, register: Register, value: u8) {
        match register {
            Register::Data if self.divisor_access() => {
                let [_, high] = self.divisor.to_le_bytes();
                self.divisor = u16::from_le_bytes([value, high]);
            }
            Register::Data => self.write_transmitter(value),
            Register::InterruptEnable if self.divisor_access() => {
                let [low, _] = self.divisor.to_le_bytes();
                self.divisor = u16::from_le_bytes([low, value]);
            }
            Register::InterruptEnable => self.write_interrupt_enable(value),
            Register::InterruptIdentification => self.write_fifo_control(value),
            Register::LineControl => {
                let written = LineControl::from_written(value, LineControl::ALL);
                self.control(written, self.modem_control);
            }
            Register::ModemControl => {
                let written = ModemControl::from_written(value, ModemControl::ALL);
                self.control(self.line_control, written);
            }
            // Both registers are read-only; the chip's factory test writes them.
            Register::LineStatus | Register::ModemStatus => {}
            Register::Scratch => self.scratch = value,
        }
    }

    /// The most characters that receiver and transmitter hold.
    pub(crate) fn depth(&self) -> usize {
        if self.fifo_enabled() {
            DEPTH
        } else {
            1
        }
    }

    /// The line that takes the characters of the transmitter.
    pub(crate) fn line(&self) -> Line {
        Line::select(self.line_control, self.modem_control)
    }

    /// Whether the receiver has room for a character.
    pub(crate) fn has_room(&self) -> bool {
        self.receiver.len() < self.depth()
    }

    pub(crate) fn fifo_enabled(&self) -> bool {
        self.fifo_control.intersects(FifoControl::ENABLE_FIFO)
    }

    fn divisor_access(&self) -> bool {
        self.line_control.intersects(LineControl::DLAB)
    }

    /// The interrupt of the highest priority that is enabled and has a cause.
    fn pending(&self) -> Option<Interrupt> {
        let enabled = |source| self.interrupt_enable.intersects(source);

        if enabled(InterruptEnable::RLSI) && self.line_errors.intersects(LineStatus::ERRORS) {
            Some(Interrupt::LineStatus)
        } else if enabled(InterruptEnable::RDI) && !self.receiver.is_empty() {
            if self.receiver.len() >= self.fifo_control.trigger_level() {
                Some(Interrupt::ReceivedData)
            } else {
                Some(Interrupt::CharacterTimeout)
            }
        } else if enabled(InterruptEnable::THRI) && self.transmitter_empty {
            Some(Interrupt::TransmitterEmpty)
        } else if enabled(InterruptEnable::MSI)
            && self.modem_deltas.intersects(ModemStatus::ANY_DELTA)
        {
            Some(Interrupt::ModemStatus)
        } else {
            None
        }
    }

    fn read_receiver(&mut self) -> u8 {
        let received = self.receiver.pop().unwrap_or_default();

        self.reveal_errors();
        self.transmit();
        received.data
    }

    fn read_identification(&mut self) -> u8 {
        let pending = self.pending();

        // A read that reports another source leaves the empty transmitter to be reported.
        if pending == Some(Interrupt::TransmitterEmpty) {
            self.transmitter_empty = false;
        }
        Interrupt::identification(pending, self.fifo_enabled())
    }

    fn read_line_status(&mut self) -> u8 {
        let queued_error = self
            .receiver
            .content()
            .iter()
            .any(|received| received.errors.intersects(LineStatus::CHARACTER_ERRORS));
        let shown_error = self.line_errors.intersects(LineStatus::CHARACTER_ERRORS);

        let idle = self.transmitter.is_empty();

        let status = self.line_errors
            | set_if(LineStatus::DR, !self.receiver.is_empty())
            | set_if(LineStatus::THRE, idle)
            | set_if(LineStatus::TEMT, idle && self.shift.is_none())
            | set_if(
                LineStatus::FIFOE,
                self.fifo_enabled() && (queued_error || shown_error),
            );

        self.line_errors = LineStatus::default();
        status.bits()
    }

    fn read_modem_status(&mut self) -> u8 {
        let status = modem_inputs(self.modem_control) | self.modem_deltas;

        self.modem_deltas = ModemStatus::default();
        status.bits()
    }

    fn write_transmitter(&mut self, character: u8) {
        self.transmitter_empty = false;

        if !self.fifo_enabled() {
            // The new character replaces the one in the only holding register.
            self.transmitter.clear();
        }
        // A full FIFO loses the character: software did not wait for an empty transmitter.
        self.transmitter.push(character);
        self.transmit();
    }

    fn write_interrupt_enable(&mut self, value: u8) {
        let before = self.interrupt_enable.intersects(InterruptEnable::THRI);

        self.interrupt_enable = InterruptEnable::from_written(value, InterruptEnable::ALL);

        // Enabling the interrupt while the transmitter is empty reports it once more. Drivers rely on
        // that to start a transmission.
        let after = self.interrupt_enable.intersects(InterruptEnable::THRI);
        if after != before {
            self.transmitter_empty = after && self.transmitter.is_empty();
        }
    }

    fn write_fifo_control(&mut self, value: u8) {
        let written = FifoControl::from_written(value, FifoControl::ALL);
        let enable = written.intersects(FifoControl::ENABLE_FIFO);
        let switched = enable != self.fifo_enabled();

        // The chip takes the other bits only together with the enable bit.
        self.fifo_control = set_if(written & FifoControl::KEPT, enable);

        // Switching between a 16450 and a 16550A empties both sides. The shift register is no part
        // of the FIFO.
        if switched || (enable && written.intersects(FifoControl::CLEAR_RCVR)) {
            self.clear_receiver();
        }
        if switched || (enable && written.intersects(FifoControl::CLEAR_XMIT)) {
            let held = !self.transmitter.is_empty();
            self.transmitter.clear();
            if held {
                self.transmitter_emptied();
            }
        }
        self.transmit();
    }

    /// Drops the characters in the receiver with their errors. An overrun is no error of a character in the
    /// receiver, and stays to be read.
    fn clear_receiver(&mut self) {
        self.receiver.clear();
        self.line_errors = self.line_errors & LineStatus::OE;
    }

    /// Changes the control registers, and with them the line and the modem inputs.
    fn control(&mut self, line_control: LineControl, modem_control: ModemControl) {
        let line = self.line();
        let inputs = modem_inputs(self.modem_control);

        self.line_control = line_control;
        self.modem_control = modem_control;

        let change = ModemStatus::deltas(inputs, modem_inputs(modem_control));
        self.modem_deltas = self.modem_deltas | change;

        if self.line() == Line::Break && line != Line::Break {
            let parity = set_if(LineStatus::PE, line_control.spacing_fails_parity());

            self.receive(Received {
                data: 0,
                errors: LineStatus::BI | LineStatus::FE | parity,
            });
        }
        self.transmit();
    }

    /// Moves all characters that can move, from the transmitter to the line.
    fn transmit(&mut self) {
        loop {
            if self.shift.is_none() {
                self.shift = self.transmitter.pop();
                if self.shift.is_some() && self.transmitter.is_empty() {
                    self.transmitter_emptied();
                }
            }

            let Some(character) = self.shift else {
                return;
            };
            match self.line() {
                Line::Plug if !self.has_room() => return,
                Line::Plug | Line::Loop => self.receive(Received {
                    data: character,
                    errors: LineStatus::default(),
                }),
                Line::Break => {}
            }
            self.shift = None;
        }
    }

    /// Takes a character from the line; an overrun loses one.
    fn receive(&mut self, received: Received) {
        if !self.has_room() {
            self.line_errors = self.line_errors | LineStatus::OE;

            if self.fifo_enabled() {
                // The FIFO keeps its characters.
                return;
            }
            // The new character replaces the one in the only receiver buffer.
            self.receiver.clear();
        }

        self.receiver.push(received);
        self.reveal_errors();
    }

    /// Shows in the line status the errors of the character that software reads next.
    fn reveal_errors(&mut self) {
        if let Some(received) = self.receiver.front_mut() {
            self.line_errors = self.line_errors | received.errors;
            received.errors = LineStatus::default();
        }
    }

    fn transmitter_emptied(&mut self) {
        // A disabled interrupt reports nothing; enabling it looks at the transmitter again.
        self.transmitter_empty = self.interrupt_enable.intersects(InterruptEnable::THRI);
    }
}
