// SPDX-License-Identifier: GPL-2.0

//! The layout of a function's configuration space, which must be equal at both ends of a migration.
//!
//! A VMM restores configuration space after the device's state, and gives up where a byte differs that the guest cannot
//! write. By then the source has stopped. The hash of the layout goes with the device's state, so that the destination
//! refuses another layout early and with a reason.
//!
//! The layout has the ids, the capabilities with their places, and their registers without what differs between
//! slots, between hosts and in time: addresses, status, control, port numbers and serial numbers.

/// First capability, PCI 6.7.
const CAPABILITIES: u16 = 0x34;
/// First extended capability, PCI Express 7.6.
const EXTENDED: u16 = 0x100;
/// Bytes of conventional configuration space.
const CONVENTIONAL_END: u16 = 0x100;
/// First byte behind the header.
const HEADER_END: u16 = 0x40;
/// More capabilities than a list without a circle can have.
const MOST: usize = (0x1000 - 0x100) / 4;

/// Registers of the header: offset and bits.
const HEADER: [(u16, u32); 5] = [
    // Vendor and device.
    (0x00, !0),
    // Revision and class.
    (0x08, !0),
    // Header type.
    (0x0c, 0x00ff_0000),
    // Subsystem.
    (0x2c, !0),
    // Interrupt pin.
    (0x3c, 0x0000_ff00),
];

/// Registers of a capability: offset and bits. Each has its id, and no pointer.
const fn registers(id: u8) -> &'static [(u16, u32)] {
    const ID: u32 = 0xff;

    match id {
        // Power management: what the function can do.
        0x01 => &[(0, 0xffff_0000 | ID)],
        // MSI: number of messages, 64-bit addresses, masking.
        0x05 => &[(0, 0x018e_0000 | ID)],
        // PCI Express: version and type; payload, phantom functions, tag field, latencies, function level reset;
        // speed, width, active state power management.
        0x10 => &[(0, 0x00ff_0000 | ID), (4, 0x1000_8fff), (12, 0x0000_0fff)],
        // MSI-X: number of messages, place of table and pending bits.
        0x11 => &[(0, 0x07ff_0000 | ID), (4, !0), (8, !0)],
        _ => &[(0, ID)],
    }
}

/// FNV-1a, of 32 bits.
struct Hash(u32);

impl Hash {
    fn add(&mut self, value: u32) {
        for byte in value.to_le_bytes() {
            self.0 = (self.0 ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
    }
}

/// Returns the hash of the layout of the function whose aligned double words `read` gives.
pub fn hash(mut read: impl FnMut(u16) -> u32) -> u32 {
    let mut hash = Hash(0x811c_9dc5);

    for (offset, bits) in HEADER {
        hash.add(read(offset) & bits);
    }

    let mut at = read(CAPABILITIES) as u16 & 0xfc;
    for _ in 0..MOST {
        if at < HEADER_END {
            break;
        }
        let head = read(at);
        hash.add(at.into());
        for (offset, bits) in registers(head as u8) {
            // A capability that does not fit ends where conventional configuration space does.
            let place = at.saturating_add(*offset);
            if place < CONVENTIONAL_END {
                hash.add(read(place) & bits);
            }
        }
        at = (head >> 8) as u16 & 0xfc;
    }

    let mut at = EXTENDED;
    for _ in 0..MOST {
        let head = read(at);
        if at < EXTENDED || head == 0 || head == u32::MAX {
            break;
        }
        hash.add(at.into());
        // Id and version.
        hash.add(head & 0x000f_ffff);
        at = (head >> 20) as u16 & 0xffc;
    }
    hash.0
}
