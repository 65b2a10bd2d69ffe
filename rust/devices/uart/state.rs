// SPDX-License-Identifier: GPL-2.0

//! The card's state as bytes: the table of offsets, the order, and the checks.
//!
//! # Version 1
//!
//! Numbers are little endian. The state has 4 + 256 + 64 × ports bytes:
//!
//! | offset | bytes | content                                                      |
//! |-------:|------:|--------------------------------------------------------------|
//! |      0 |     1 | version, 1                                                   |
//! |      1 |     1 | number of ports: 1, 2 or 4                                   |
//! |      2 |     2 | 0                                                            |
//! |      4 |   256 | configuration space; interrupt status is 0                   |
//! |    260 |    64 | first port, followed by the others                           |
//!
//! A port:
//!
//! | offset | bytes | content                                                      |
//! |-------:|------:|--------------------------------------------------------------|
//! |      0 |     1 | IER                                                          |
//! |      1 |     1 | FCR without the bits that clear themselves; 0 without FIFOs  |
//! |      2 |     1 | LCR                                                          |
//! |      3 |     1 | MCR                                                          |
//! |      4 |     1 | LSR: error bits 1 to 4 that were not read yet                |
//! |      5 |     1 | MSR: delta bits 0 to 3 that were not read yet                |
//! |      6 |     1 | SCR                                                          |
//! |      7 |     1 | bit 0: the transmitter became empty, and IIR was not read    |
//! |        |       | bit 1: the shift register has a character                    |
//! |      8 |     2 | divisor                                                      |
//! |     10 |     1 | character in the shift register, else 0                      |
//! |     11 |     1 | number of characters in the transmitter                      |
//! |     12 |     1 | number of characters in the receiver                         |
//! |     13 |     3 | 0                                                            |
//! |     16 |    16 | characters in the transmitter, oldest first, then 0          |
//! |     32 |    16 | characters in the receiver, oldest first, then 0             |
//! |     48 |    16 | their errors, as bits 2 to 4 of LSR; 0 for the oldest, whose |
//! |        |       | errors LSR has                                               |
//!
//! The state has nothing that follows from these: the rest of LSR, the modem inputs, IIR, the interrupt.
//! A state that no sequence of accesses leads to, or that a port would not have written, is refused.

use core::fmt;

use device_model::saved_state::{
    check_bits,
    check_unused,
    check_version,
    StateError,
    StateReader,
    StateWriter, //
};
use pci_config::{
    ImageError,
    CONFIG_SPACE_SIZE, //
};

use crate::card::{
    Card,
    PortCount, //
};
use crate::fifo::DEPTH;
use crate::plug::Line;
use crate::port::{
    Port,
    Received, //
};
use crate::registers::{
    FifoControl,
    InterruptEnable,
    LineControl,
    LineStatus,
    ModemControl,
    ModemStatus, //
};

/// The version that this code writes, and the only one that it reads.
const VERSION: u8 = 1;

/// Version, number of ports, and two reserved bytes.
const HEADER_SIZE: usize = 4;
/// Offset of the number of ports.
const HEADER_PORTS: usize = 1;

/// Bytes of a port.
const PORT_SIZE: usize = 16 + 3 * DEPTH;

/// Port flags: the transmitter became empty, and IIR was not read since.
const FLAG_TRANSMITTER_EMPTY: u8 = 1 << 0;
/// Port flags: the shift register has a character.
const FLAG_SHIFT: u8 = 1 << 1;

/// A state that no card of the configuration can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// The state, or its header, has a form that no card writes.
    State(StateError),
    /// The state is one of a card with another number of ports.
    Ports {
        /// Number of ports of this card.
        expected: usize,
        /// Number of ports of the state.
        found: u8,
    },
    /// The configuration space is not one of the card.
    Config(ImageError),
    /// A port's state is impossible.
    Port {
        /// Number of the port, from 0.
        index: usize,
        /// Why the port's state is impossible.
        error: PortError,
    },
}

/// A state that no port can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortError {
    /// A field by itself has a form that no port writes; offsets are those in the port.
    State(StateError),
    /// A FIFO has more characters than fit.
    Length {
        /// Name of the FIFO.
        field: &'static str,
        /// Number of characters.
        found: u8,
        /// The most characters that fit.
        depth: usize,
    },
    /// The trigger level or DMA mode of FIFOs that are not in use is set.
    FifoControl {
        /// The value of FCR.
        found: u8,
    },
    /// The transmitter has characters that an idle shift register would have taken.
    ShiftRegisterIdle {
        /// Number of characters.
        characters: usize,
    },
    /// The shift register has a character that nothing holds back.
    ShiftRegisterFree,
    /// An empty transmitter is to be reported, but its interrupt is disabled or it is not empty.
    TransmitterEmpty {
        /// The value of IER.
        interrupt_enable: u8,
        /// Number of characters in the transmitter.
        characters: usize,
    },
    /// The oldest character in the receiver has errors that LSR would have taken.
    OldestErrors {
        /// The errors, as bits of LSR.
        found: u8,
    },
}

impl From<StateError> for LoadError {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

impl From<StateError> for PortError {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

/// Returns the number of bytes of the state of a card with `ports` ports.
pub(crate) const fn state_size(ports: PortCount) -> usize {
    HEADER_SIZE + CONFIG_SPACE_SIZE + ports.count() * PORT_SIZE
}

impl Card {
    /// The most bytes that a card's state has.
    pub const STATE_SIZE: usize = state_size(PortCount::Four);

    pub(crate) fn save_parts(&self, state: &mut StateWriter<'_>) {
        self.save_header(state);
        state.bytes(self.config.image());
        for port in self.active_ports() {
            port.save(state);
        }
    }

    fn save_header(&self, state: &mut StateWriter<'_>) {
        state.u8(VERSION);
        // A card has at most four ports.
        state.u8(self.ports().count() as u8);
        state.reserved::<2>();
    }

    /// Loads a state. Nothing in `state` is taken for granted.
    pub(crate) fn load_state(&mut self, state: &[u8]) -> Result<(), LoadError> {
        let ports = self.ports().count();

        // The connection is no part of the state.
        self.msi_connected = false;
        check_version(state, VERSION)?;
        // The length depends on the number of ports.
        if let Some(&found) = state.get(HEADER_PORTS) {
            if usize::from(found) != ports {
                return Err(LoadError::Ports {
                    expected: ports,
                    found,
                });
            }
        }
        let mut reader = StateReader::new(state, state_size(self.ports()))?;
        check_unused(reader.array::<HEADER_SIZE>()?, |state| {
            self.save_header(state);
        })?;
        self.config
            .restore(reader.array()?)
            .map_err(LoadError::Config)?;
        for (index, port) in self.active_ports_mut().iter_mut().enumerate() {
            let record = reader.array::<PORT_SIZE>()?;
            port.restore(record)
                .map_err(|error| LoadError::Port { index, error })?;
        }
        Ok(())
    }
}

impl Port {
    fn save(&self, state: &mut StateWriter<'_>) {
        let mut flags = 0;
        if self.transmitter_empty {
            flags |= FLAG_TRANSMITTER_EMPTY;
        }
        if self.shift.is_some() {
            flags |= FLAG_SHIFT;
        }

        state.u8(self.interrupt_enable.bits());
        state.u8(self.fifo_control.bits());
        state.u8(self.line_control.bits());
        state.u8(self.modem_control.bits());
        state.u8(self.line_errors.bits());
        state.u8(self.modem_deltas.bits());
        state.u8(self.scratch);
        state.u8(flags);
        state.u16(self.divisor);
        state.u8(self.shift.unwrap_or(0));
        // A FIFO has at most 16 characters.
        state.u8(self.transmitter.len() as u8);
        state.u8(self.receiver.len() as u8);
        state.reserved::<3>();

        let received = self.receiver.slots();
        state.bytes(self.transmitter.slots());
        for character in received {
            state.u8(character.data);
        }
        for character in received {
            state.u8(character.errors.bits());
        }
    }

    fn restore(&mut self, record: &[u8; PORT_SIZE]) -> Result<(), PortError> {
        let mut state = StateReader::new(record, PORT_SIZE)?;

        self.interrupt_enable = InterruptEnable::from_written(
            state.u8_of("IER", InterruptEnable::ALL.bits())?,
            InterruptEnable::ALL,
        );
        self.fifo_control = FifoControl::from_written(
            state.u8_of("FCR", FifoControl::KEPT.bits())?,
            FifoControl::KEPT,
        );
        self.line_control = LineControl::from_written(state.u8()?, LineControl::ALL);
        self.modem_control = ModemControl::from_written(
            state.u8_of("MCR", ModemControl::ALL.bits())?,
            ModemControl::ALL,
        );
        self.line_errors = LineStatus::from_written(
            state.u8_of("LSR", LineStatus::ERRORS.bits())?,
            LineStatus::ERRORS,
        );
        self.modem_deltas = ModemStatus::from_written(
            state.u8_of("MSR", ModemStatus::ANY_DELTA.bits())?,
            ModemStatus::ANY_DELTA,
        );
        self.scratch = state.u8()?;
        let flags = state.u8_of("flags", FLAG_TRANSMITTER_EMPTY | FLAG_SHIFT)?;
        self.transmitter_empty = flags & FLAG_TRANSMITTER_EMPTY != 0;
        self.divisor = state.u16()?;
        let shift = state.u8()?;
        self.shift = (flags & FLAG_SHIFT != 0).then_some(shift);
        if !self.fifo_enabled() && self.fifo_control != FifoControl::default() {
            return Err(PortError::FifoControl {
                found: self.fifo_control.bits(),
            });
        }

        let transmitted = check_length("transmitter", state.u8()?, self.depth())?;
        let received = check_length("receiver", state.u8()?, self.depth())?;
        state.reserved::<3>()?;
        self.transmitter.clear();
        for &character in state.array::<DEPTH>()?.iter().take(transmitted) {
            self.transmitter.push(character);
        }
        self.receiver.clear();
        let data = state.array::<DEPTH>()?;
        let errors = state.array::<DEPTH>()?;
        for (&data, &errors) in data.iter().zip(errors).take(received) {
            let character_errors = LineStatus::CHARACTER_ERRORS;
            check_bits(
                "receiver errors",
                errors.into(),
                character_errors.bits().into(),
            )?;
            self.receiver.push(Received {
                data,
                errors: LineStatus::from_written(errors, character_errors),
            });
        }

        check_invariants(self)?;
        check_unused(record, |state| self.save(state))?;
        Ok(())
    }
}

fn check_length(field: &'static str, found: u8, depth: usize) -> Result<usize, PortError> {
    let length = usize::from(found);

    if length > depth {
        return Err(PortError::Length {
            field,
            found,
            depth,
        });
    }
    Ok(length)
}

/// Checks the invariants of [`Port`].
fn check_invariants(port: &Port) -> Result<(), PortError> {
    if let Some(oldest) = port.receiver.content().first() {
        if oldest.errors.intersects(LineStatus::CHARACTER_ERRORS) {
            return Err(PortError::OldestErrors {
                found: oldest.errors.bits(),
            });
        }
    }
    if port.shift.is_none() && !port.transmitter.is_empty() {
        return Err(PortError::ShiftRegisterIdle {
            characters: port.transmitter.len(),
        });
    }
    if port.shift.is_some() && (port.line() != Line::Plug || port.has_room()) {
        return Err(PortError::ShiftRegisterFree);
    }
    if port.transmitter_empty
        && !(port.interrupt_enable.intersects(InterruptEnable::THRI) && port.transmitter.is_empty())
    {
        return Err(PortError::TransmitterEmpty {
            interrupt_enable: port.interrupt_enable.bits(),
            characters: port.transmitter.len(),
        });
    }
    Ok(())
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(error) => error.fmt(f),
            Self::Ports { expected, found } => {
                write!(f, "state has {found} ports, the card {expected}")
            }
            Self::Config(error) => error.fmt(f),
            Self::Port { index, error } => write!(f, "port {index}: {error}"),
        }
    }
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(error) => error.fmt(f),
            Self::Length {
                field,
                found,
                depth,
            } => write!(
                f,
                "{field} has {found} characters, but room for only {depth}"
            ),
            Self::FifoControl { found } => {
                write!(f, "FCR is {found:#04x}, but the FIFOs are not enabled")
            }
            Self::ShiftRegisterIdle { characters } => write!(
                f,
                "transmitter has {characters} characters, but the shift register none"
            ),
            Self::ShiftRegisterFree => {
                write!(f, "shift register has a character, but nothing holds it back")
            }
            Self::TransmitterEmpty {
                interrupt_enable,
                characters,
            } => write!(
                f,
                "transmitter has become empty, but has {characters} characters with IER {interrupt_enable:#04x}"
            ),
            Self::OldestErrors { found } => write!(
                f,
                "oldest character in the receiver has errors {found:#04x}, but they belong into LSR"
            ),
        }
    }
}
