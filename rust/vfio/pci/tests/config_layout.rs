// SPDX-License-Identifier: GPL-2.0

//! Which differences of configuration space change the hash of its layout.

use proptest::prelude::*;
use vfio_pci_pure::config_layout::hash;

/// Configuration space.
struct Space([u8; 4096]);

impl Space {
    /// A function as an 82574L has it: power management, MSI, PCI Express, MSI-X, AER and a serial number.
    fn new() -> Self {
        let mut space = Self([0; 4096]);
        for (offset, value) in [
            (0x00, 0x10d3_8086),
            (0x08, 0x0200_0000),
            (0x2c, 0xa01f_8086),
            (0x34, 0xc8),
            (0x3c, 0x0100),
            (0xc8, 0xc823_d001),
            (0xd0, 0x0080_e005),
            (0xe0, 0x0001_a010),
            (0xe4, 0x0000_8cc0),
            (0xec, 0x0003_1c11),
            (0xa0, 0x8004_0011),
            (0xa4, 0x0000_0003),
            (0xa8, 0x0000_2003),
            (0x100, 0x1401_0001),
            (0x140, 0x0001_0003),
            (0x144, 0xff12_3456),
        ] {
            space.set(offset, value);
        }
        space
    }

    fn set(&mut self, offset: usize, value: u32) {
        self.0[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn get(&self, offset: u16) -> u32 {
        let offset = usize::from(offset);
        u32::from_le_bytes(self.0[offset..offset + 4].try_into().expect("four bytes"))
    }

    fn hash(&self) -> u32 {
        hash(|offset| self.get(offset))
    }

    /// Whether a change of the bits `bits` at `offset` changes the hash.
    fn tells(&self, offset: u16, bits: u32) -> bool {
        let mut other = Self(self.0);
        other.set(offset.into(), self.get(offset) ^ bits);
        other.hash() != self.hash()
    }
}

#[test]
fn what_slots_hosts_and_time_change_is_not_told() {
    let space = Space::new();

    for (offset, bits, what) in [
        (0x04, !0, "command and status"),
        (0x0c, 0xff00_ffff, "cache line, latency, self test"),
        (0x10, !0, "BAR 0"),
        (0x3c, 0xff, "interrupt line"),
        (0xcc, !0, "power state"),
        (
            0xd0,
            0x0071_0000,
            "MSI enable and number of enabled messages",
        ),
        (0xd4, !0, "MSI address"),
        (0xe4, 0x0ffc_0000, "slot power limit"),
        (0xe8, !0, "device control and status"),
        (0xec, 0xff00_0000, "port number"),
        (0xf0, !0, "link control and status"),
        (0xa0, 0xc000_0000, "MSI-X enable and function mask"),
        (0x104, !0, "AER status"),
        (0x144, !0, "serial number"),
    ] {
        assert!(!space.tells(offset, bits), "{what}");
    }
}

#[test]
fn what_a_guest_sees_of_the_layout_is_told() {
    let space = Space::new();

    for (offset, bits, what) in [
        (0x00, 1, "vendor"),
        (0x00, 1 << 16, "device"),
        (0x08, 1, "revision"),
        (0x08, 1 << 24, "class"),
        (0x0c, 1 << 16, "header type"),
        (0x2c, 1, "subsystem vendor"),
        (0x3c, 1 << 8, "interrupt pin"),
        (0x34, 0x18, "place of the first capability"),
        (0xc8, 1, "a capability's id"),
        (0xc8, 1 << 27, "power management events"),
        (0xd0, 1 << 23, "64-bit messages"),
        (0xd0, 1 << 17, "number of messages"),
        (0xe0, 1 << 20, "type of the PCI Express function"),
        (0xe4, 1, "payload"),
        (0xe4, 1 << 28, "function level reset"),
        (0xec, 1, "link speed"),
        (0xec, 1 << 4, "link width"),
        (0xa0, 1 << 16, "number of MSI-X messages"),
        (0xa4, 8, "place of the MSI-X table"),
        (0xa8, 8, "place of the pending bits"),
        (0x100, 1, "an extended capability's id"),
        (0x100, 1 << 16, "an extended capability's version"),
        (0x100, 1 << 22, "place of an extended capability"),
    ] {
        assert!(space.tells(offset, bits), "{what}");
    }
}

#[test]
fn a_circle_of_capabilities_ends() {
    let mut space = Space::new();

    space.set(0xa0, 0x8004_c811);
    space.set(0x140, 0x1001_0003);
    let _ = space.hash();
}

proptest! {
    #[test]
    fn any_configuration_space_is_read_within_its_bounds(bytes in prop::collection::vec(any::<u8>(), 4096)) {
        let space = Space(bytes.try_into().expect("4096 bytes"));
        // `get()` panics outside.
        let _ = space.hash();
    }
}
