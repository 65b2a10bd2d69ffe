// SPDX-License-Identifier: GPL-2.0

//! The card's state as bytes, to be moved to another host.
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
//! |      7 |     1 | bit 0: the transmitter became empty, and IIR did not tell yet|
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
//! Whatever follows from these is not there: the rest of LSR, the modem inputs, IIR, the interrupt.
//! A state that no sequence of accesses leads to, or that a port would not have written so, is
//! refused.

use core::fmt;

use pci_config::{
    ImageError,
    CONFIG_SPACE_SIZE, //
};

use crate::card::{
    Card,
    PortCount,
    PORTS_MAX, //
};
use crate::fifo::{
    Fifo,
    DEPTH, //
};
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

/// Version, number of ports, and two bytes that are 0.
const HEADER_SIZE: usize = 4;
const HEADER_VERSION: usize = 0;
const HEADER_PORTS: usize = 1;

const PORT_IER: usize = 0;
const PORT_FCR: usize = 1;
const PORT_LCR: usize = 2;
const PORT_MCR: usize = 3;
const PORT_LSR: usize = 4;
const PORT_MSR: usize = 5;
const PORT_SCR: usize = 6;
const PORT_FLAGS: usize = 7;
const PORT_DIVISOR: usize = 8;
const PORT_SHIFT: usize = 10;
const PORT_TRANSMITTER_LENGTH: usize = 11;
const PORT_RECEIVER_LENGTH: usize = 12;
const PORT_TRANSMITTER: usize = 16;
const PORT_RECEIVER: usize = PORT_TRANSMITTER + DEPTH;
const PORT_RECEIVER_ERRORS: usize = PORT_RECEIVER + DEPTH;
const PORT_SIZE: usize = PORT_RECEIVER_ERRORS + DEPTH;

/// Port flags: the transmitter became empty, and IIR did not tell yet.
const FLAG_TRANSMITTER_EMPTY: u8 = 1 << 0;
/// Port flags: the shift register has a character.
const FLAG_SHIFT: u8 = 1 << 1;

/// A state that no card of the configuration can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// The state is not as long as one of the card is.
    Length {
        /// How many bytes it should have.
        expected: usize,
        /// How many bytes it has.
        found: usize,
    },
    /// The state has a version that this code does not know.
    Version {
        /// Its version.
        found: u8,
    },
    /// The state is one of a card with another number of ports.
    Ports {
        /// How many ports this card has.
        expected: usize,
        /// What the state says.
        found: u8,
    },
    /// A byte that has to be 0 is not.
    Reserved {
        /// Where it is in the state.
        offset: usize,
        /// What it is.
        found: u8,
    },
    /// The configuration space is not one of the card.
    Config(ImageError),
    /// A port's state is impossible.
    Port {
        /// Which port, from 0.
        index: usize,
        /// What is wrong with it.
        error: PortError,
    },
}

/// A state that no port can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortError {
    /// Bits are set that the field does not have.
    Bits {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        found: u8,
        /// The bits that it has.
        allowed: u8,
    },
    /// There are more characters than there is room.
    Length {
        /// Where the characters are.
        field: &'static str,
        /// How many there are.
        found: u8,
        /// How many can be there.
        depth: usize,
    },
    /// The trigger level or DMA mode of FIFOs that are not in use is set.
    FifoControl {
        /// The value of FCR.
        found: u8,
    },
    /// The transmitter has characters that an idle shift register would have taken.
    ShiftRegisterIdle {
        /// How many characters there are.
        characters: usize,
    },
    /// The shift register has a character that nothing hinders to leave.
    ShiftRegisterFree,
    /// An empty transmitter is to be reported, but its interrupt is disabled or it is not empty.
    TransmitterEmpty {
        /// The value of IER.
        interrupt_enable: u8,
        /// How many characters the transmitter has.
        characters: usize,
    },
    /// The oldest character in the receiver has errors that LSR would have taken.
    OldestErrors {
        /// The errors, as bits of LSR.
        found: u8,
    },
    /// A byte that is reserved or without a character is not 0.
    Unused {
        /// Where it is in the port's state.
        offset: usize,
        /// What it is.
        found: u8,
    },
}

impl Card {
    /// The most bytes that a card's state has.
    pub const STATE_SIZE: usize = state_size(PORTS_MAX);

    /// Writes the complete state of the card to the front of `out`.
    ///
    /// Returns the number of bytes written, or [`None`] if `out` is too small.
    /// [`Card::STATE_SIZE`] bytes are always enough.
    pub fn save(&self, out: &mut [u8]) -> Option<usize> {
        let size = state_size(self.ports().count());
        let (header, rest) = out.get_mut(..size)?.split_at_mut(HEADER_SIZE);
        let (config, ports) = rest.split_at_mut(CONFIG_SPACE_SIZE);

        header.fill(0);
        header[HEADER_VERSION] = VERSION;
        // A card has at most four ports.
        header[HEADER_PORTS] = self.ports().count() as u8;

        config.copy_from_slice(self.config.image());

        for (record, port) in ports.chunks_exact_mut(PORT_SIZE).zip(self.active_ports()) {
            record.copy_from_slice(&encode(port));
        }
        Some(size)
    }

    /// Returns the card with `ports` ports of which [`Card::save`] wrote `state`.
    ///
    /// # Errors
    ///
    /// A card of this configuration cannot have that state, or a version of this code wrote it
    /// that is not known here. Nothing in `state` is taken for granted.
    pub fn load(ports: PortCount, state: &[u8]) -> Result<Self, LoadError> {
        // The version comes first: it tells how long the rest is.
        if let Some(&found) = state.get(HEADER_VERSION) {
            if found != VERSION {
                return Err(LoadError::Version { found });
            }
        }
        if let Some(&found) = state.get(HEADER_PORTS) {
            if usize::from(found) != ports.count() {
                return Err(LoadError::Ports {
                    expected: ports.count(),
                    found,
                });
            }
        }
        let expected = state_size(ports.count());
        let wrong_length = LoadError::Length {
            expected,
            found: state.len(),
        };
        if state.len() != expected {
            return Err(wrong_length);
        }

        let (header, rest) = state.split_at(HEADER_SIZE);
        for (offset, &found) in header.iter().enumerate().skip(HEADER_PORTS + 1) {
            if found != 0 {
                return Err(LoadError::Reserved { offset, found });
            }
        }

        let (image, records) = rest
            .split_first_chunk::<CONFIG_SPACE_SIZE>()
            .ok_or(wrong_length)?;

        let mut card = Self::new(ports);
        card.config.restore(image).map_err(LoadError::Config)?;
        for (index, (port, record)) in card
            .active_ports_mut()
            .iter_mut()
            .zip(records.chunks_exact(PORT_SIZE))
            .enumerate()
        {
            let record = record.first_chunk::<PORT_SIZE>().ok_or(wrong_length)?;
            *port = decode(record).map_err(|error| LoadError::Port { index, error })?;
        }
        Ok(card)
    }
}

/// Number of bytes of the state of a card with `ports` ports.
const fn state_size(ports: usize) -> usize {
    HEADER_SIZE + CONFIG_SPACE_SIZE + ports * PORT_SIZE
}

fn encode(port: &Port) -> [u8; PORT_SIZE] {
    let mut record = [0; PORT_SIZE];

    record[PORT_IER] = port.interrupt_enable.bits();
    record[PORT_FCR] = port.fifo_control.bits();
    record[PORT_LCR] = port.line_control.bits();
    record[PORT_MCR] = port.modem_control.bits();
    record[PORT_LSR] = port.line_errors.bits();
    record[PORT_MSR] = port.modem_deltas.bits();
    record[PORT_SCR] = port.scratch;
    if port.transmitter_empty {
        record[PORT_FLAGS] |= FLAG_TRANSMITTER_EMPTY;
    }
    if let Some(character) = port.shift {
        record[PORT_FLAGS] |= FLAG_SHIFT;
        record[PORT_SHIFT] = character;
    }
    let [low, high] = port.divisor.to_le_bytes();
    record[PORT_DIVISOR] = low;
    record[PORT_DIVISOR + 1] = high;

    // A FIFO has at most 16 characters.
    record[PORT_TRANSMITTER_LENGTH] = port.transmitter.len() as u8;
    record[PORT_RECEIVER_LENGTH] = port.receiver.len() as u8;
    for (slot, &character) in record[PORT_TRANSMITTER..]
        .iter_mut()
        .zip(port.transmitter.content())
    {
        *slot = character;
    }
    for (index, received) in port.receiver.content().iter().enumerate() {
        record[PORT_RECEIVER + index] = received.data;
        record[PORT_RECEIVER_ERRORS + index] = received.errors.bits();
    }
    record
}

fn decode(record: &[u8; PORT_SIZE]) -> Result<Port, PortError> {
    let field = |name, offset: usize, allowed| check_bits(name, record[offset], allowed);

    let flags = field("flags", PORT_FLAGS, FLAG_TRANSMITTER_EMPTY | FLAG_SHIFT)?;
    let mut port = Port {
        interrupt_enable: InterruptEnable::from_written(
            field("IER", PORT_IER, InterruptEnable::ALL.bits())?,
            InterruptEnable::ALL,
        ),
        fifo_control: FifoControl::from_written(
            field("FCR", PORT_FCR, FifoControl::KEPT.bits())?,
            FifoControl::KEPT,
        ),
        line_control: LineControl::from_written(record[PORT_LCR], LineControl::ALL),
        modem_control: ModemControl::from_written(
            field("MCR", PORT_MCR, ModemControl::ALL.bits())?,
            ModemControl::ALL,
        ),
        line_errors: LineStatus::from_written(
            field("LSR", PORT_LSR, LineStatus::ERRORS.bits())?,
            LineStatus::ERRORS,
        ),
        modem_deltas: ModemStatus::from_written(
            field("MSR", PORT_MSR, ModemStatus::ANY_DELTA.bits())?,
            ModemStatus::ANY_DELTA,
        ),
        scratch: record[PORT_SCR],
        divisor: u16::from_le_bytes([record[PORT_DIVISOR], record[PORT_DIVISOR + 1]]),
        transmitter_empty: flags & FLAG_TRANSMITTER_EMPTY != 0,
        receiver: Fifo::default(),
        transmitter: Fifo::default(),
        shift: (flags & FLAG_SHIFT != 0).then_some(record[PORT_SHIFT]),
    };
    if !port.fifo_enabled() && record[PORT_FCR] != 0 {
        return Err(PortError::FifoControl {
            found: record[PORT_FCR],
        });
    }

    let depth = port.depth();
    let held = check_length("transmitter", record[PORT_TRANSMITTER_LENGTH], depth)?;
    for &character in &record[PORT_TRANSMITTER..PORT_TRANSMITTER + held] {
        port.transmitter.push(character);
    }
    let held = check_length("receiver", record[PORT_RECEIVER_LENGTH], depth)?;
    for index in 0..held {
        let errors = field(
            "receiver errors",
            PORT_RECEIVER_ERRORS + index,
            LineStatus::CHARACTER_ERRORS.bits(),
        )?;
        port.receiver.push(Received {
            data: record[PORT_RECEIVER + index],
            errors: LineStatus::from_written(errors, LineStatus::CHARACTER_ERRORS),
        });
    }

    check_invariants(&port)?;

    // What the port would not have written this way was not read above: it is reserved or unused.
    let written = encode(&port);
    match record.iter().zip(written).position(|(&a, b)| a != b) {
        Some(offset) => Err(PortError::Unused {
            offset,
            found: record[offset],
        }),
        None => Ok(port),
    }
}

fn check_bits(field: &'static str, found: u8, allowed: u8) -> Result<u8, PortError> {
    if found & !allowed != 0 {
        return Err(PortError::Bits {
            field,
            found,
            allowed,
        });
    }
    Ok(found)
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

/// Checks what [`Port`] promises between accesses.
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
            Self::Length { expected, found } => {
                write!(f, "state has {found} bytes instead of {expected}")
            }
            Self::Version { found } => {
                write!(f, "state has version {found}, known is {VERSION}")
            }
            Self::Ports { expected, found } => {
                write!(f, "state has {found} ports, the card {expected}")
            }
            Self::Reserved { offset, found } => {
                write!(f, "state byte {offset} is reserved, but {found:#04x}")
            }
            Self::Config(error) => error.fmt(f),
            Self::Port { index, error } => write!(f, "port {index}: {error}"),
        }
    }
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bits {
                field,
                found,
                allowed,
            } => write!(
                f,
                "{field} is {found:#04x}, but has only the bits {allowed:#04x}"
            ),
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
            Self::Unused { offset, found } => {
                write!(f, "byte {offset} is unused, but {found:#04x}")
            }
        }
    }
}
