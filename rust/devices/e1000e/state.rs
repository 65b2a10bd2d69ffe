// SPDX-License-Identifier: GPL-2.0

//! The state of an 82574 as bytes, to be moved to another host.
//!
//! # Version 1
//!
//! Numbers are little endian.
//!
//! | bytes     | content                                                              |
//! |----------:|----------------------------------------------------------------------|
//! |         1 | version, 1                                                           |
//! |         3 | 0                                                                    |
//! |        36 | [`Identity`] of the function                                         |
//! | 4 × words | the registers of the table in `table.rs`, in its order               |
//! |         4 | interrupt causes that are pending                                    |
//! |         4 | IOADDR                                                               |
//! |         4 | MDIC: the register of the PHY that was accessed last                 |
//! |         4 | EERD: the word of the EEPROM that was read last                      |
//! |         4 | bit 0: EERD was used, 1: the guest owns MDIO, 4 to 7: the lower half |
//! |           | of GORC, GOTC, TOR, TOT has been read                                |
//! |        14 | settings of the PHY, and the page that is selected                   |
//! |         2 | 0                                                                    |
//! |   4 × 59  | statistics of 32 bits that the guest has not read                    |
//! |    8 × 4  | those of 64 bits: GORC, GOTC, TOR, TOT                               |
//! |    8 × 4  | values whose lower half the guest has read, else 0                   |
//!
//! RCTL and TCTL have the enable bits, and IMS the mask, that the guest has set; TDH is the beginning
//! of the packet that is to be sent next.
//!
//! Nothing in a state is taken for granted. It is refused if it is one of another function, or of
//! another stepping, has a bit that no register in it has, or a ring that the data sheet forbids.

mod identity;
mod refusal;

use device_model::saved_state;

use crate::phy::{
    BadSetting,
    Settings,
    VALUES, //
};
use crate::registers::{
    cause,
    eerd,
    mdic,
    psrctl,
    rctl,
    tctl,
    Register,
    QUEUES, //
};
use crate::ring::{
    Direction,
    UNIT, //
};
use crate::statistics::{
    Statistics,
    NARROWS,
    WIDES, //
};
use crate::table::{
    Entry,
    Word,
    BASE_ALIGNMENT,
    LENGTH,
    TABLE,
    WORDS, //
};

pub use identity::Identity;
pub use refusal::StateError;

/// The version that this code writes, and the only one that it reads.
const VERSION: u8 = 1;

const HEADER_SIZE: usize = 4;
const IDENTITY_AT: usize = HEADER_SIZE;
const WORDS_AT: usize = IDENTITY_AT + Identity::SIZE;
const CAUSES_AT: usize = WORDS_AT + 4 * WORDS;
const IO_ADDRESS_AT: usize = CAUSES_AT + 4;
const MDIC_AT: usize = IO_ADDRESS_AT + 4;
const EERD_AT: usize = MDIC_AT + 4;
const FLAGS_AT: usize = EERD_AT + 4;
const PHY_AT: usize = FLAGS_AT + 4;
const NARROW_AT: usize = PHY_AT + 2 * VALUES + 2;
const WIDE_AT: usize = NARROW_AT + 4 * NARROWS;
const HALVED_AT: usize = WIDE_AT + 8 * WIDES;
/// Number of bytes of a state.
pub(crate) const STATE_SIZE: usize = HALVED_AT + 8 * WIDES;

/// Flags: EERD was used.
pub(crate) const FLAG_EERD: u32 = 1 << 0;
/// Flags: the guest owns MDIO.
pub(crate) const FLAG_MDIO_OWNED: u32 = 1 << 1;
/// Flags: the guest has read the lower half of the first pair of statistics.
const FLAG_HALVED_SHIFT: u32 = 4;
const FLAGS: u32 = FLAG_EERD | FLAG_MDIO_OWNED | ((1 << WIDES) - 1) << FLAG_HALVED_SHIFT;

/// The largest IOADDR that leads anywhere.
const IO_ADDRESS_MAX: u32 = 0x000f_ffff;

/// A state that has been checked.
#[derive(Clone, Copy, Debug)]
pub struct State<'a>(&'a [u8]);

/// What a state has besides the registers of the table.
#[derive(Clone, Debug)]
pub(crate) struct Extra {
    pub(crate) causes: u32,
    pub(crate) io_address: u32,
    pub(crate) mdic: u32,
    pub(crate) eerd: u32,
    pub(crate) flags: u32,
    pub(crate) phy: Settings,
}

/// Writes a state to the front of `out`, and returns its length if there is room. `words` gives the values of
/// the table's registers in turn.
pub(crate) fn write(
    out: &mut [u8],
    identity: &Identity,
    mut words: impl FnMut(&Entry, Register) -> u32,
    extra: &Extra,
    statistics: &Statistics,
) -> Option<usize> {
    let mut flags = extra.flags;
    for (index, halved) in statistics.halved.iter().enumerate() {
        if halved.is_some() {
            flags |= flag_halved(index);
        }
    }

    saved_state::save(out, STATE_SIZE, |writer| {
        writer.u8(VERSION);
        writer.reserved::<3>();
        writer.bytes(&identity.bytes());
        for entry in TABLE {
            for register in entry.registers() {
                writer.u32(words(entry, register) & entry.mask);
            }
        }
        for value in [
            extra.causes,
            extra.io_address,
            extra.mdic,
            extra.eerd,
            flags,
        ] {
            writer.u32(value);
        }
        for &value in &extra.phy.0 {
            writer.u16(value);
        }
        writer.reserved::<2>();
        for &sum in &statistics.narrow {
            writer.u32(sum);
        }
        for &sum in &statistics.wide {
            writer.u64(sum);
        }
        for halved in &statistics.halved {
            writer.u64(halved.unwrap_or(0));
        }
    })
}

impl<'a> State<'a> {
    /// Checks `state`.
    pub(crate) fn parse(identity: &Identity, state: &'a [u8]) -> Result<Self, StateError> {
        // The version comes first: it tells how long the rest is.
        match state.first() {
            Some(&found) if found != VERSION => return Err(StateError::Version { found }),
            _ => {}
        }
        if state.len() != STATE_SIZE {
            return Err(StateError::Length {
                expected: STATE_SIZE,
                found: state.len(),
            });
        }
        let padding = (1..HEADER_SIZE).chain([
            IDENTITY_AT + 7,
            PHY_AT + 2 * VALUES,
            PHY_AT + 2 * VALUES + 1,
        ]);
        for offset in padding {
            let [found] = array(state, offset);
            if found != 0 {
                return Err(StateError::Reserved { offset, found });
            }
        }
        let theirs = Identity::read(state.get(IDENTITY_AT..).unwrap_or_default());
        identity::check(identity, &theirs)?;

        let state = Self(state);
        for direction in [Direction::Receive, Direction::Transmit] {
            for queue in 0..QUEUES {
                state.check_ring(direction, queue)?;
            }
        }
        for (entry, _, found) in state.words() {
            check_bits(entry.name, found, entry.mask)?;
        }
        state.check_values()?;
        state.check_extra()?;
        Ok(state)
    }

    /// The registers of the table, each with its value.
    pub(crate) fn words(&self) -> impl Iterator<Item = (&'static Entry, Register, u32)> + 'a {
        let bytes = self.0;
        let words = TABLE
            .iter()
            .flat_map(|entry| entry.registers().map(move |register| (entry, register)));
        (WORDS_AT..CAUSES_AT)
            .step_by(4)
            .zip(words)
            .map(move |(at, (entry, register))| (entry, register, dword(bytes, at)))
    }

    /// The word at position `index`.
    pub(crate) fn word(&self, index: usize) -> u32 {
        dword(self.0, place(WORDS_AT, 4, index))
    }

    /// Base low, base high, length, head and tail of a ring.
    pub(crate) fn ring(&self, direction: Direction, queue: usize) -> [u32; 5] {
        let words = match direction {
            Direction::Receive => [
                Word::<{ Register::RDBAL.0 }>::AT,
                Word::<{ Register::RDBAH.0 }>::AT,
                Word::<{ Register::RDLEN.0 }>::AT,
                Word::<{ Register::RDH.0 }>::AT,
                Word::<{ Register::RDT.0 }>::AT,
            ],
            Direction::Transmit => [
                Word::<{ Register::TDBAL.0 }>::AT,
                Word::<{ Register::TDBAH.0 }>::AT,
                Word::<{ Register::TDLEN.0 }>::AT,
                Word::<{ Register::TDH.0 }>::AT,
                Word::<{ Register::TDT.0 }>::AT,
            ],
        };
        words.map(|index| self.word(index.saturating_add(queue)))
    }

    /// What the state has besides the table.
    pub(crate) fn extra(&self) -> Extra {
        Extra {
            causes: dword(self.0, CAUSES_AT),
            io_address: dword(self.0, IO_ADDRESS_AT),
            mdic: dword(self.0, MDIC_AT),
            eerd: dword(self.0, EERD_AT),
            flags: dword(self.0, FLAGS_AT),
            phy: Settings(core::array::from_fn(|index| {
                u16::from_le_bytes(array(self.0, place(PHY_AT, 2, index)))
            })),
        }
    }

    /// The statistics, put into `statistics`.
    pub(crate) fn read_statistics(&self, statistics: &mut Statistics) {
        let flags = dword(self.0, FLAGS_AT);

        for (index, sum) in statistics.narrow.iter_mut().enumerate() {
            *sum = dword(self.0, place(NARROW_AT, 4, index));
        }
        for (index, sum) in statistics.wide.iter_mut().enumerate() {
            *sum = u64::from_le_bytes(array(self.0, place(WIDE_AT, 8, index)));
        }
        for (index, halved) in statistics.halved.iter_mut().enumerate() {
            let value = u64::from_le_bytes(array(self.0, place(HALVED_AT, 8, index)));
            *halved = (flags & flag_halved(index) != 0).then_some(value);
        }
    }

    fn check_ring(&self, direction: Direction, queue: usize) -> Result<(), StateError> {
        let [base, _, length, head, tail] = self.ring(direction, queue);
        let enabled = match direction {
            Direction::Receive => self.word(Word::<{ Register::RCTL.0 }>::AT) & rctl::EN,
            Direction::Transmit => self.word(Word::<{ Register::TCTL.0 }>::AT) & tctl::EN,
        };

        if base & BASE_ALIGNMENT != 0 {
            return Err(StateError::Base {
                direction,
                queue,
                found: base,
            });
        }
        if length & !LENGTH != 0 {
            return Err(StateError::RingLength {
                direction,
                queue,
                found: length,
            });
        }
        // A ring without length is not used. A ring that is not enabled may be half set up.
        let descriptors = length / UNIT;
        let inside = |position: u32| position < descriptors.max(1);
        if enabled != 0 && !(inside(head) && inside(tail)) {
            return Err(StateError::Position {
                direction,
                queue,
                head,
                tail,
                descriptors,
            });
        }
        Ok(())
    }

    /// Checks the fields that have fewer values than bits.
    fn check_values(&self) -> Result<(), StateError> {
        const LBM_RESERVED: u32 = 2 << rctl::LBM_SHIFT;
        let control = self.word(Word::<{ Register::RCTL.0 }>::AT);

        if control & rctl::LBM == LBM_RESERVED || control & rctl::DTYP > 1 << rctl::DTYP_SHIFT {
            return Err(StateError::Value {
                register: "RCTL",
                found: control,
            });
        }
        // Packet split has a header and at least one buffer.
        let sizes = self.word(Word::<{ Register::PSRCTL.0 }>::AT);
        let split = control & rctl::EN != 0 && control & rctl::DTYP != 0;
        if split && (sizes & psrctl::BSIZE0 == 0 || sizes & psrctl::BSIZE1 == 0) {
            return Err(StateError::Value {
                register: "PSRCTL",
                found: sizes,
            });
        }
        Ok(())
    }

    fn check_extra(&self) -> Result<(), StateError> {
        let extra = self.extra();

        check_bits("pending causes", extra.causes, cause::ALL)?;
        check_bits("IOADDR", extra.io_address, IO_ADDRESS_MAX)?;
        check_bits("flags", extra.flags, FLAGS)?;
        check_bits("MDIC", extra.mdic, mdic::REGISTER)?;
        let address = if extra.flags & FLAG_EERD != 0 {
            eerd::ADDRESS
        } else {
            0
        };
        check_bits("EERD", extra.eerd, address)?;
        extra.phy.check().map_err(
            |BadSetting {
                 name,
                 found,
                 allowed,
             }| StateError::Phy {
                register: name,
                found,
                allowed,
            },
        )?;
        for pair in 0..WIDES {
            let value = u64::from_le_bytes(array(self.0, place(HALVED_AT, 8, pair)));
            if value != 0 && extra.flags & flag_halved(pair) == 0 {
                return Err(StateError::Unused { pair });
            }
        }
        Ok(())
    }
}

fn check_bits(register: &'static str, found: u32, allowed: u32) -> Result<(), StateError> {
    if found & !allowed != 0 {
        return Err(StateError::Bits {
            register,
            found,
            allowed,
        });
    }
    Ok(())
}

/// The place of field `index` of the fields of `size` bytes at `first`.
const fn place(first: usize, size: usize, index: usize) -> usize {
    first.saturating_add(size.saturating_mul(index))
}

/// The flag of a pair of statistics whose lower half the guest has read.
const fn flag_halved(pair: usize) -> u32 {
    1_u32
        .wrapping_shl(FLAG_HALVED_SHIFT)
        .wrapping_shl(pair as u32)
}

/// The `N` bytes at `at`, of a state whose length has been checked.
fn array<const N: usize>(state: &[u8], at: usize) -> [u8; N] {
    state
        .get(at..)
        .and_then(|bytes| bytes.first_chunk())
        .copied()
        .unwrap_or([0; N])
}

fn dword(state: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(state, at))
}
