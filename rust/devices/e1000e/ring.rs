// SPDX-License-Identifier: GPL-2.0

//! Descriptor rings, as the registers describe them.
//!
//! Mirrors sections 7.1 (receive) and 7.2 (transmit) of the data sheet. Head and tail count units of
//! 16 bytes. The function owns the units from the head up to the tail.

use core::fmt;

use device_model::hardware::Registers;
use device_model::{
    GuestMemory,
    MemoryError, //
};

use crate::registers::Register;
use crate::table::{
    BASE_ALIGNMENT,
    LENGTH, //
};

/// Bytes of a unit of a ring: of a legacy or extended descriptor, and of half a packet split one.
pub(crate) const UNIT: u32 = 16;

/// Which way the packets of a ring go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the wire to the guest.
    Receive,
    /// From the guest to the wire.
    Transmit,
}

/// Where a ring is in the guest's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Bus address.
    pub(crate) base: u64,
    /// Length in bytes, a multiple of 128.
    pub(crate) length: u32,
}

impl Direction {
    /// The register of queue `queue` that is at `offset` from the base address register.
    const fn register(self, queue: usize, offset: u32) -> Register {
        let first = match self {
            Self::Receive => Register::RDBAL,
            Self::Transmit => Register::TDBAL,
        };
        Register(first.0.wrapping_add(offset)).of_queue(queue)
    }

    /// RDBAL or TDBAL.
    pub(crate) const fn base_low(self, queue: usize) -> Register {
        self.register(queue, 0)
    }

    /// RDBAH or TDBAH.
    pub(crate) const fn base_high(self, queue: usize) -> Register {
        self.register(queue, 4)
    }

    /// RDLEN or TDLEN.
    pub(crate) const fn length(self, queue: usize) -> Register {
        self.register(queue, 8)
    }

    /// RDH or TDH.
    pub(crate) const fn head(self, queue: usize) -> Register {
        self.register(queue, 0x10)
    }

    /// RDT or TDT.
    pub(crate) const fn tail(self, queue: usize) -> Register {
        self.register(queue, 0x18)
    }

    /// Base low, base high, length, head and tail.
    pub(crate) const fn ring(self, queue: usize) -> [Register; 5] {
        [
            self.base_low(queue),
            self.base_high(queue),
            self.length(queue),
            self.head(queue),
            self.tail(queue),
        ]
    }
}

impl Place {
    /// Reads where the ring is.
    pub(crate) fn read(registers: &mut dyn Registers, direction: Direction, queue: usize) -> Self {
        let low = registers.read32(direction.base_low(queue).0) & !BASE_ALIGNMENT;
        let high = registers.read32(direction.base_high(queue).0);

        Self {
            base: u64::from(high) << 32 | u64::from(low),
            length: registers.read32(direction.length(queue).0) & LENGTH,
        }
    }

    /// Number of units.
    pub(crate) const fn units(&self) -> u32 {
        self.length / UNIT
    }

    /// Bus address of a unit.
    pub(crate) const fn address(&self, unit: u32) -> u64 {
        // A guest may put a ring at the end of the address space, where the function wraps as well.
        self.base
            .wrapping_add((unit as u64).wrapping_mul(UNIT as u64))
    }

    /// The unit behind `unit`.
    pub(crate) const fn after(&self, unit: u32) -> u32 {
        let next = unit.saturating_add(1);
        if next >= self.units() {
            0
        } else {
            next
        }
    }

    /// The unit before `unit`.
    const fn before(&self, unit: u32) -> u32 {
        match unit.checked_sub(1) {
            Some(unit) => unit,
            None => self.units().saturating_sub(1),
        }
    }
}

/// Reads head or tail.
pub(crate) fn position(registers: &mut dyn Registers, register: Register) -> u32 {
    registers.read32(register.0) & 0xffff
}

/// The first unit of the packet that the transmit descriptor at `head` belongs to.
///
/// The transmitter may have fetched the packet's first descriptors and not the last. The packet has not
/// been sent then, and the destination has to fetch it as a whole, with the context descriptor that
/// belongs to it. The packet begins behind the last descriptor with EOP, or in a ring that has not been
/// round yet behind a descriptor that is all zeros. [`None`] if there is neither.
pub(crate) fn packet_start(
    memory: &mut dyn GuestMemory,
    place: &Place,
    head: u32,
    tail: u32,
) -> Result<Option<u32>, MemoryError> {
    let mut start = head;

    // Units from the head to the tail belong to packets behind this one.
    while start != tail {
        let mut unit = [0; UNIT as usize];
        let previous = place.before(start);

        memory.read(place.address(previous), &mut unit)?;
        if unit == [0; UNIT as usize] || ends_packet(&unit) {
            return Ok(Some(start));
        }
        start = previous;
    }
    Ok(None)
}

/// Whether a transmit descriptor is the last of its packet.
fn ends_packet(descriptor: &[u8; UNIT as usize]) -> bool {
    const EOP: u32 = 1 << 24;
    const DEXT: u32 = 1 << 29;
    const DTYP: u32 = 0xf << 20;

    let [.., a, b, c, d, _, _, _, _] = *descriptor;
    let command = u32::from_le_bytes([a, b, c, d]);
    // Bit 24 of a context descriptor tells TCP from UDP.
    let context = command & DEXT != 0 && command & DTYP == 0;

    command & EOP != 0 && !context
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Receive => "receive",
            Self::Transmit => "transmit",
        })
    }
}
