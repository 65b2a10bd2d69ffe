// SPDX-License-Identifier: GPL-2.0

//! Configuration space as software sees it, and the refusals.

use pci_config::{
    AccessError,
    Bar,
    Class,
    ConfigSpace,
    Identity,
    ImageError,
    InterruptPin,
    Layout,
    CONFIG_SPACE_SIZE,
    EXTENDED_CONFIG_SPACE_SIZE, //
};
use proptest::prelude::*;

/// A controller with memory.
const CONTROLLER: Identity = Identity {
    vendor: 0x1af4,
    device: 0x10ff,
    revision: 2,
    class: Class {
        base: 0x01,
        sub: 0x08,
        interface: 0x02,
    },
    subsystem_vendor: 0x1af4,
    subsystem: 0x10fe,
};

/// All kinds of base address registers, and MSI.
static RICH: Layout = Layout::new(&CONTROLLER)
    .bar(
        0,
        Bar::Memory64 {
            size: 1 << 14,
            prefetchable: false,
        },
    )
    .bar(2, Bar::Io { size: 32 })
    .bar(
        3,
        Bar::Memory32 {
            size: 1 << 12,
            prefetchable: true,
        },
    )
    .bar(
        4,
        Bar::Memory64 {
            size: 1 << 33,
            prefetchable: true,
        },
    )
    .interrupt_pin(InterruptPin::B)
    .msi();

/// All capabilities.
static CAPABLE: Layout = Layout::new(&CONTROLLER)
    .bar(
        0,
        Bar::Memory64 {
            size: 1 << 14,
            prefetchable: false,
        },
    )
    .bar(
        2,
        Bar::Memory32 {
            size: 1 << 12,
            prefetchable: false,
        },
    )
    .msi()
    .power_management()
    .msix(17, 0, 0x2000, 2, 0xff8)
    .express();

/// Nothing but an identity.
static BARE: Layout = Layout::new(&CONTROLLER);

/// I/O ports only.
static PORTS: Layout = Layout::new(&CONTROLLER).bar(5, Bar::Io { size: 256 });

const COMMAND: u64 = 0x04;
const COMMAND_IO: u16 = 0x0001;
const COMMAND_MEMORY: u16 = 0x0002;
const COMMAND_MASTER: u16 = 0x0004;
const COMMAND_INTX_DISABLE: u16 = 0x0400;
const STATUS: u64 = 0x06;
const STATUS_INTERRUPT: u16 = 0x0008;
const STATUS_CAP_LIST: u16 = 0x0010;
const BASE_ADDRESS_0: u64 = 0x10;
const CAPABILITY_LIST: u64 = 0x34;
const CAP_ID_MSI: u8 = 0x05;
const MSI: u64 = 0x40;
const MSI_FLAGS: u64 = MSI + 2;
const MSI_FLAGS_ENABLE: u16 = 0x0001;

const CAP_ID_PM: u8 = 0x01;
const CAP_ID_EXP: u8 = 0x10;
const CAP_ID_MSIX: u8 = 0x11;
const MSIX_FLAGS_MASKALL: u16 = 0x4000;
const MSIX_FLAGS_ENABLE: u16 = 0x8000;
const EXP_DEVCTL: u64 = 8;
const EXP_DEVCTL_BCR_FLR: u16 = 0x8000;

/// Capabilities in the order of the list, and where they are.
fn capabilities(space: &ConfigSpace) -> Vec<(u8, u64)> {
    let mut found = Vec::new();
    let mut next = u8_at(space, CAPABILITY_LIST);
    while next != 0 && found.len() < CONFIG_SPACE_SIZE {
        assert_eq!(next % 4, 0, "capabilities are aligned");
        found.push((u8_at(space, next.into()), next.into()));
        next = u8_at(space, u64::from(next) + 1);
    }
    found
}

#[track_caller]
fn capability(space: &ConfigSpace, id: u8) -> u64 {
    capabilities(space)
        .into_iter()
        .find(|(found, _)| *found == id)
        .map(|(_, at)| at)
        .expect("the capability is there")
}

fn u8_at(space: &ConfigSpace, offset: u64) -> u8 {
    let mut bytes = [0];
    space
        .read(offset, &mut bytes, false)
        .expect("a byte is readable");
    bytes[0]
}

fn u16_at(space: &ConfigSpace, offset: u64) -> u16 {
    let mut bytes = [0; 2];
    space
        .read(offset, &mut bytes, false)
        .expect("a word is readable");
    u16::from_le_bytes(bytes)
}

fn u32_at(space: &ConfigSpace, offset: u64) -> u32 {
    let mut bytes = [0; 4];
    space
        .read(offset, &mut bytes, false)
        .expect("a dword is readable");
    u32::from_le_bytes(bytes)
}

fn all(space: &ConfigSpace) -> [u8; CONFIG_SPACE_SIZE] {
    let mut bytes = [0; CONFIG_SPACE_SIZE];
    space
        .read(0, &mut bytes, false)
        .expect("all of it is readable");
    bytes
}

/// Returns the function that `image` is of.
fn restored(image: &[u8; CONFIG_SPACE_SIZE]) -> Result<ConfigSpace, ImageError> {
    let mut space = ConfigSpace::new(&RICH);
    space.restore(image).map(|()| space)
}

fn write(space: &mut ConfigSpace, offset: u64, bytes: &[u8]) {
    space.write(offset, bytes).expect("it is writable");
}

#[test]
fn the_identity_is_where_the_header_has_it() {
    let space = ConfigSpace::new(&RICH);
    assert_eq!(u16_at(&space, 0x00), 0x1af4, "vendor");
    assert_eq!(u16_at(&space, 0x02), 0x10ff, "device");
    assert_eq!(u8_at(&space, 0x08), 2, "revision");
    assert_eq!(u32_at(&space, 0x08) >> 8, 0x010802, "class code");
    assert_eq!(u8_at(&space, 0x0e), 0, "header type 0, one function");
    assert_eq!(u16_at(&space, 0x2c), 0x1af4, "subsystem vendor");
    assert_eq!(u16_at(&space, 0x2e), 0x10fe, "subsystem");
    assert_eq!(u8_at(&space, 0x3d), 2, "INTB#");
}

#[test]
fn an_all_ones_write_reads_back_the_size_of_each_base_address() {
    let mut space = ConfigSpace::new(&RICH);
    for (index, idle, sized) in [
        (0, 0x0000_0004, 0xffff_c004),
        (1, 0x0000_0000, 0xffff_ffff),
        (2, 0x0000_0001, 0xffff_ffe1),
        (3, 0x0000_0008, 0xffff_f008),
        (4, 0x0000_000c, 0x0000_000c),
        (5, 0x0000_0000, 0xffff_fffe),
    ] {
        let offset = BASE_ADDRESS_0 + 4 * index;
        assert_eq!(u32_at(&space, offset), idle, "base address {index}");
        write(&mut space, offset, &u32::MAX.to_le_bytes());
        assert_eq!(
            u32_at(&space, offset),
            sized,
            "size of base address {index}"
        );
    }
}

#[test]
fn a_base_address_keeps_its_address_and_drops_the_bits_below_its_size() {
    let mut space = ConfigSpace::new(&RICH);
    write(
        &mut space,
        BASE_ADDRESS_0 + 8,
        &0x0000_c0bfu32.to_le_bytes(),
    );
    assert_eq!(u32_at(&space, BASE_ADDRESS_0 + 8), 0x0000_c0a1, "32 ports");
    write(&mut space, BASE_ADDRESS_0 + 8, &0u32.to_le_bytes());
    assert_eq!(
        u32_at(&space, BASE_ADDRESS_0 + 8),
        0x0000_0001,
        "no address"
    );
}

#[test]
fn a_base_address_that_is_not_there_reads_0() {
    for layout in [&BARE, &PORTS] {
        let mut space = ConfigSpace::new(layout);
        write(&mut space, BASE_ADDRESS_0, &[0xff; 16]);
        assert_eq!(
            all(&space)[0x10..0x20],
            [0; 16],
            "base addresses 0 to 3 after an all-ones write"
        );
    }
}

#[test]
fn the_command_register_has_bits_for_what_is_there() {
    let basic = COMMAND_MASTER | COMMAND_INTX_DISABLE;
    for (layout, expected) in [
        (&BARE, basic),
        (&PORTS, basic | COMMAND_IO),
        (&RICH, basic | COMMAND_IO | COMMAND_MEMORY),
    ] {
        let mut space = ConfigSpace::new(layout);
        assert_eq!(u16_at(&space, COMMAND), 0, "after power-on");
        write(&mut space, COMMAND, &[0xff, 0xff]);
        assert_eq!(u16_at(&space, COMMAND), expected, "after all ones");
        write(&mut space, COMMAND, &[0, 0]);
        assert_eq!(u16_at(&space, COMMAND), 0, "after zeros");
    }
}

#[test]
fn the_capability_chain_ends_after_msi() {
    let space = ConfigSpace::new(&RICH);
    assert_eq!(u16_at(&space, STATUS), STATUS_CAP_LIST, "there is a list");

    assert_eq!(
        capabilities(&space),
        [(CAP_ID_MSI, MSI)],
        "capabilities in the chain"
    );

    let bare = ConfigSpace::new(&BARE);
    assert_eq!(u16_at(&bare, STATUS), 0, "no list");
    assert_eq!(u8_at(&bare, CAPABILITY_LIST), 0, "no first capability");
}

#[test]
fn msi_has_one_vector_and_a_64_bit_address() {
    let mut space = ConfigSpace::new(&RICH);
    assert_eq!(u16_at(&space, MSI_FLAGS), 0x0080, "message control");
    write(&mut space, MSI, &[0xff; 16]);
    assert_eq!(
        all(&space)[0x40..0x50],
        [
            0x05, 0x00, 0x81, 0x00, 0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0,
            0
        ],
        "the capability after an all-ones write"
    );
}

#[test]
fn msi_enable_and_intx_disable_are_seen() {
    let mut space = ConfigSpace::new(&RICH);
    assert!(!space.msi_enabled(), "MSI after power-on");
    assert!(!space.intx_disabled(), "INTx after power-on");

    write(&mut space, MSI_FLAGS, &MSI_FLAGS_ENABLE.to_le_bytes());
    assert!(space.msi_enabled(), "MSI was enabled");
    write(&mut space, COMMAND, &COMMAND_INTX_DISABLE.to_le_bytes());
    assert!(space.intx_disabled(), "INTx was disabled");

    assert!(!space.may_access_memory(), "no bus master yet");
    write(&mut space, COMMAND, &COMMAND_MASTER.to_le_bytes());
    assert!(space.may_access_memory(), "bus mastering was enabled");
    write(&mut space, COMMAND, &COMMAND_INTX_DISABLE.to_le_bytes());

    space.function_level_reset();
    assert!(!space.msi_enabled(), "MSI after a reset");
    assert!(!space.intx_disabled(), "INTx after a reset");

    let mut bare = ConfigSpace::new(&BARE);
    write(&mut bare, MSI_FLAGS, &MSI_FLAGS_ENABLE.to_le_bytes());
    assert!(!bare.msi_enabled(), "a function without MSI");
}

#[test]
fn capabilities_follow_each_other_without_overlap() {
    let space = ConfigSpace::new(&CAPABLE);
    assert_eq!(u16_at(&space, STATUS), STATUS_CAP_LIST, "there is a list");
    assert_eq!(
        capabilities(&space),
        [
            (CAP_ID_MSI, 0x40),
            (CAP_ID_PM, 0x50),
            (CAP_ID_MSIX, 0x58),
            (CAP_ID_EXP, 0x64),
        ],
        "14, 8, 12 and 60 bytes from 0x40 on, aligned"
    );
}

#[test]
fn msix_says_where_its_table_is_and_can_be_enabled_and_masked() {
    let mut space = ConfigSpace::new(&CAPABLE);
    let at = capability(&space, CAP_ID_MSIX);
    assert_eq!(u16_at(&space, at + 2), 16, "17 vectors, less one");
    assert_eq!(u32_at(&space, at + 4), 0x2000, "the table, in BAR 0");
    assert_eq!(u32_at(&space, at + 8), 0xffa, "pending bits, in BAR 2");
    assert!(!space.msix_enabled(), "MSI-X after power-on");

    write(&mut space, at + 2, &[0xff; 10]);
    assert_eq!(
        u16_at(&space, at + 2),
        MSIX_FLAGS_ENABLE | MSIX_FLAGS_MASKALL | 16,
        "message control after an all-ones write"
    );
    assert_eq!(u32_at(&space, at + 4), 0x2000, "the table stays");
    assert_eq!(u32_at(&space, at + 8), 0xffa, "pending bits stay");
    assert!(space.msix_enabled(), "MSI-X was enabled");

    write(&mut space, at + 2, &MSIX_FLAGS_MASKALL.to_le_bytes());
    assert!(!space.msix_enabled(), "MSI-X was disabled");
    write(&mut space, at + 2, &MSIX_FLAGS_ENABLE.to_le_bytes());
    space.function_level_reset();
    assert!(!space.msix_enabled(), "MSI-X after a reset");

    let mut other = ConfigSpace::new(&RICH);
    write(&mut other, 0, &[0xff; CONFIG_SPACE_SIZE]);
    assert!(!other.msix_enabled(), "a function without MSI-X");
}

#[test]
fn msix_can_fill_its_memory_and_has_up_to_2048_vectors() {
    let table = |vectors| {
        let memory = Bar::Memory32 {
            size: 1 << 16,
            prefetchable: false,
        };
        Layout::new(&CONTROLLER)
            .bar(0, memory)
            .msix(vectors, 0, 0, 0, 0x8000)
    };
    for vectors in [1, 2, 2048] {
        let space = ConfigSpace::new(Box::leak(Box::new(table(vectors))));
        assert_eq!(
            u16_at(&space, capability(&space, CAP_ID_MSIX) + 2),
            vectors - 1,
            "message control of {vectors} vectors"
        );
    }
}

/// Attribute of a register's bit, as section 2.5 of NVM Express 1.4 calls it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Read only.
    Ro,
    /// Read and write.
    Rw,
}
use Kind::Ro;
use Kind::Rw;

/// Fields of the PCI Express capability, in the words of section 2.5: register, highest and lowest bit,
/// name, what it is, and its value after a reset. Where the section leaves the choice ("RW/RO", "Impl
/// Spec"), or names the PCI Express base specification, the reason for what is expected is beside it.
const PXCAP: [(u64, u32, u32, &str, Kind, u32); 77] = [
    (0x02, 3, 0, "PXCAP.VER", Ro, 2),
    (0x02, 7, 4, "PXCAP.DPT, an endpoint", Ro, 0),
    (0x02, 8, 8, "PXCAP.SI", Ro, 0),
    (0x02, 13, 9, "PXCAP.IMN", Ro, 0),
    (0x02, 15, 14, "PXCAP reserved", Ro, 0),
    (0x04, 2, 0, "PXDCAP.MPS, 128 bytes", Ro, 0),
    (0x04, 4, 3, "PXDCAP.PFS", Ro, 0),
    (0x04, 5, 5, "PXDCAP.ETFS, tags have 5 bits", Ro, 0),
    (0x04, 8, 6, "PXDCAP.L0SL", Ro, 0),
    (0x04, 11, 9, "PXDCAP.L1L", Ro, 0),
    (0x04, 14, 12, "PXDCAP reserved", Ro, 0),
    (0x04, 15, 15, "PXDCAP.RER", Ro, 1),
    (0x04, 17, 16, "PXDCAP reserved", Ro, 0),
    (0x04, 25, 18, "PXDCAP.CSPLV", Ro, 0),
    (0x04, 27, 26, "PXDCAP.CSPLS", Ro, 0),
    (0x04, 28, 28, "PXDCAP.FLRC", Ro, 1),
    (0x04, 31, 29, "PXDCAP reserved", Ro, 0),
    (0x08, 0, 0, "PXDC.CERE", Rw, 0),
    (0x08, 1, 1, "PXDC.NFERE", Rw, 0),
    (0x08, 2, 2, "PXDC.FERE", Rw, 0),
    (0x08, 3, 3, "PXDC.URRE", Rw, 0),
    (0x08, 4, 4, "PXDC.ERO, set as PCI Express has it", Rw, 1),
    // "Functions that support only the 128-byte max payload size are permitted to hardwire this field".
    (0x08, 7, 5, "PXDC.MPS", Ro, 0),
    (0x08, 8, 8, "PXDC.ETE, as PXDCAP.ETFS is 0", Ro, 0),
    (0x08, 9, 9, "PXDC.PFE, as PXDCAP.PFS is 0", Ro, 0),
    (0x08, 10, 10, "PXDC.APPME, without AUX power", Ro, 0),
    (0x08, 11, 11, "PXDC.ENS, set as PCI Express has it", Rw, 1),
    // PXDC.MRRS, whose encodings 6 and 7 are reserved, and PXDC's function level reset: see below.
    (0x0a, 0, 0, "PXDS.CED, no error ever", Ro, 0),
    (0x0a, 1, 1, "PXDS.NFED", Ro, 0),
    (0x0a, 2, 2, "PXDS.FED", Ro, 0),
    (0x0a, 3, 3, "PXDS.URD", Ro, 0),
    (0x0a, 4, 4, "PXDS.APD", Ro, 0),
    (0x0a, 5, 5, "PXDS.TP", Ro, 0),
    (0x0a, 15, 6, "PXDS reserved", Ro, 0),
    (0x0c, 3, 0, "PXLCAP.SLS, up to 8 GT/s", Ro, 3),
    (0x0c, 9, 4, "PXLCAP.MLW", Ro, 4),
    // PXLC.ASPMC is read-write: software may choose each of the four encodings if the link has them.
    (0x0c, 11, 10, "PXLCAP.ASPMS, L0s and L1", Ro, 3),
    (0x0c, 14, 12, "PXLCAP.L0SEL", Ro, 0),
    (0x0c, 17, 15, "PXLCAP.L1EL", Ro, 0),
    // PXLC.ECPM is read-write, which PCI Express wants hard-wired without this.
    (0x0c, 18, 18, "PXLCAP.CPM", Ro, 1),
    (0x0c, 19, 19, "PXLCAP.SDERC", Ro, 0),
    (0x0c, 20, 20, "PXLCAP.DLLLA", Ro, 0),
    (0x0c, 21, 21, "PXLCAP.LBNC", Ro, 0),
    // Set in all functions of PCI Express 3.0.
    (0x0c, 22, 22, "PXLCAP.AOC", Ro, 1),
    (0x0c, 23, 23, "PXLCAP reserved", Ro, 0),
    (0x0c, 31, 24, "PXLCAP.PN", Ro, 0),
    (0x10, 0, 0, "PXLC.ASPMC, L0s", Rw, 0),
    (0x10, 1, 1, "PXLC.ASPMC, L1", Rw, 0),
    (0x10, 2, 2, "PXLC reserved", Ro, 0),
    (0x10, 3, 3, "PXLC.RCB", Rw, 0),
    (0x10, 5, 4, "PXLC reserved", Ro, 0),
    (0x10, 6, 6, "PXLC.CCC", Rw, 0),
    (0x10, 7, 7, "PXLC.ES", Rw, 0),
    (0x10, 8, 8, "PXLC.ECPM", Rw, 0),
    // "Components that do not implement the ability ... are permitted to hardwire this bit".
    (0x10, 9, 9, "PXLC.HAWD", Ro, 0),
    (0x10, 15, 10, "PXLC reserved", Ro, 0),
    (0x12, 3, 0, "PXLS.CLS", Ro, 3),
    (0x12, 9, 4, "PXLS.NLW", Ro, 4),
    (0x12, 11, 10, "PXLS reserved", Ro, 0),
    (0x12, 12, 12, "PXLS.SCC", Ro, 0),
    (0x12, 15, 13, "PXLS reserved", Ro, 0),
    (0x24, 3, 0, "PXDCAP2.CTRS", Ro, 0),
    (0x24, 4, 4, "PXDCAP2.CTDS", Ro, 1),
    (0x24, 6, 5, "PXDCAP2.ARIFS, AORS", Ro, 0),
    (0x24, 9, 7, "PXDCAP2.32AOCS, 64AOCS, 128CCS", Ro, 0),
    (0x24, 10, 10, "PXDCAP2.NPRPR", Ro, 0),
    (0x24, 11, 11, "PXDCAP2.LTRS", Ro, 0),
    (0x24, 13, 12, "PXDCAP2.TPHCS", Ro, 0),
    (0x24, 17, 14, "PXDCAP2 reserved", Ro, 0),
    (0x24, 19, 18, "PXDCAP2.OBFFS", Ro, 0),
    (0x24, 21, 20, "PXDCAP2.EFFS, EETPS", Ro, 0),
    (0x24, 23, 22, "PXDCAP2.MEETP", Ro, 0),
    (0x24, 31, 24, "PXDCAP2 reserved", Ro, 0),
    // "If this feature is not supported in PXDCAP2, then this field is read-only".
    (0x28, 3, 0, "PXDC2.CTV", Ro, 0),
    (0x28, 4, 4, "PXDC2.CTD", Rw, 0),
    // Without PXDCAP2.LTRS and OBFFS, PCI Express permits to hard-wire LTRME (bit 10) and OBFFE (bits
    // 13 and 14); the others are reserved.
    (0x28, 15, 5, "PXDC2 LTRME, OBFFE and reserved", Ro, 0),
    (0x2a, 15, 0, "PXDC2 reserved, and device status 2", Ro, 0),
];

#[test]
fn each_bit_of_the_pci_express_capability_is_as_nvm_express_has_it() {
    for (register, high, low, name, kind, reset) in PXCAP {
        let mut space = ConfigSpace::new(&CAPABLE);
        let at = capability(&space, CAP_ID_EXP) + register;
        let ones = ((1u64 << (high - low + 1)) - 1) as u32;
        let wide = matches!(register, 0x04 | 0x0c | 0x24);
        let get = |space: &ConfigSpace| {
            let value = if wide {
                u32_at(space, at)
            } else {
                u16_at(space, at).into()
            };
            value >> low & ones
        };
        let mut put = |bits: u32| {
            if wide {
                write(&mut space, at, &(bits << low).to_le_bytes());
            } else {
                write(&mut space, at, &((bits << low) as u16).to_le_bytes());
            }
            get(&space)
        };

        assert_eq!(
            get(&ConfigSpace::new(&CAPABLE)),
            reset,
            "{name} after a reset"
        );
        let (set, cleared) = match kind {
            Ro => (reset, reset),
            Rw => (ones, 0),
        };
        assert_eq!(put(ones), set, "{name} after ones");
        assert_eq!(put(0), cleared, "{name} after zeros");
        assert_eq!(put(ones), set, "{name} after ones again");
    }
}

#[test]
fn the_rest_of_the_pci_express_capability_is_for_reading() {
    let mut space = ConfigSpace::new(&CAPABLE);
    let at = capability(&space, CAP_ID_EXP);
    for (from, to) in [(0x00, 0x02), (0x14, 0x24), (0x2c, 0x3c)] {
        let before = all(&space);
        for offset in from..to {
            write(&mut space, at + offset, &[0xff]);
        }
        assert_eq!(all(&space), before, "{from:#x} to {to:#x} after ones");
    }
}

/// Checks which values of a field a write leaves in it. `bits` are those of the register with 16 bits at
/// `at`.
#[track_caller]
fn expect_values(at: u64, bits: u16, taken: &[u16]) {
    let shift = bits.trailing_zeros();
    for before in taken {
        for value in 0..=bits >> shift {
            for width in [2, 1] {
                let mut space = ConfigSpace::new(&CAPABLE);
                let fresh = u16_at(&space, at) & !bits;
                write(&mut space, at, &(fresh | before << shift).to_le_bytes());
                let written = (fresh | value << shift).to_le_bytes();
                if width == 2 {
                    write(&mut space, at, &written);
                } else {
                    let byte = usize::from(bits > 0xff);
                    write(&mut space, at + byte as u64, &written[byte..=byte]);
                }
                let expected = if taken.contains(&value) {
                    value
                } else {
                    *before
                };
                assert_eq!(
                    u16_at(&space, at),
                    fresh | expected << shift,
                    "register {at:#x} with {before} after {value} in {width} bytes"
                );
            }
        }
    }
}

#[test]
fn a_value_that_is_reserved_or_not_announced_is_discarded() {
    let space = ConfigSpace::new(&CAPABLE);
    let power = capability(&space, CAP_ID_PM);
    assert_eq!(u16_at(&space, power + 2) >> 9 & 3, 0, "neither D1 nor D2");
    expect_values(power + 4, 0x0003, &[0, 3]);

    let control = capability(&space, CAP_ID_EXP) + EXP_DEVCTL;
    expect_values(control, 0x7000, &[0, 1, 2, 3, 4, 5]);
    expect_values(control, 0x00e0, &[0]);
}

#[test]
fn a_discarded_value_takes_nothing_else_of_its_write_along() {
    let mut space = ConfigSpace::new(&CAPABLE);
    let control = capability(&space, CAP_ID_EXP) + EXP_DEVCTL;
    write(&mut space, control, &0x0000u16.to_le_bytes());
    // A reserved read request size, together with all that may be set.
    write(&mut space, control, &0x681fu16.to_le_bytes());
    assert_eq!(u16_at(&space, control), 0x081f, "the size stays 128 bytes");
}

#[test]
fn an_image_with_a_value_that_cannot_be_is_refused() {
    let mut space = ConfigSpace::new(&CAPABLE);
    let power = capability(&space, CAP_ID_PM) + 4;
    let control = capability(&space, CAP_ID_EXP) + EXP_DEVCTL + 1;
    for (at, mask, reserved, name) in [
        (power, 0x03, &[1, 2][..], "PMCSR.PowerState"),
        (control, 0x70, &[6, 7], "DEVCTL.Max_Read_Request_Size"),
    ] {
        for value in 0..=mask >> u8::trailing_zeros(mask) {
            let mut image = *ConfigSpace::new(&CAPABLE).image();
            let byte = &mut image[at as usize];
            *byte = *byte & !mask | value << mask.trailing_zeros();
            let before = space.clone();
            let restored = space.restore(&image);
            if reserved.contains(&value) {
                let error = ImageError::Value {
                    field: name,
                    found: value,
                };
                assert_eq!(restored, Err(error), "{name} of {value}");
                assert_eq!(space, before, "the function after a refused image");
                assert_eq!(
                    error.to_string(),
                    format!("{name} is {value}, which it cannot be")
                );
            } else {
                assert_eq!(restored, Ok(()), "{name} of {value}");
                assert_eq!(all(&space), image, "{name} of {value}");
            }
        }
    }
}

#[test]
fn an_image_of_another_device_is_refused_by_its_numbers() {
    let mut image = *ConfigSpace::new(&RICH).image();
    image[..4].copy_from_slice(&[0x36, 0x1b, 0xf1, 0x00]);
    let error = restored(&image).expect_err("another device");
    assert_eq!(
        error,
        ImageError::Identity {
            expected: (0x1af4, 0x10ff),
            found: (0x1b36, 0x00f1),
        }
    );
    assert_eq!(
        error.to_string(),
        "configuration space is that of PCI device 1b36:00f1 instead of 1af4:10ff"
    );
}

#[test]
fn a_base_address_is_decoded_in_d0_while_its_kind_is_enabled() {
    let decoded = |space: &ConfigSpace| {
        (0..8)
            .filter(|bar| space.decodes(*bar))
            .collect::<Vec<usize>>()
    };
    let mut space = ConfigSpace::new(&RICH);
    for (command, expected) in [
        (0, &[][..]),
        (COMMAND_IO, &[2]),
        (COMMAND_MEMORY, &[0, 1, 3, 4, 5]),
        (COMMAND_IO | COMMAND_MEMORY, &[0, 1, 2, 3, 4, 5]),
        (COMMAND_MASTER | COMMAND_INTX_DISABLE, &[]),
    ] {
        write(&mut space, COMMAND, &command.to_le_bytes());
        assert_eq!(decoded(&space), expected, "with a command of {command:#x}");
    }

    let mut space = ConfigSpace::new(&CAPABLE);
    let power = capability(&space, CAP_ID_PM) + 4;
    let command = COMMAND_MEMORY | COMMAND_MASTER;
    write(&mut space, COMMAND, &command.to_le_bytes());
    assert_eq!(decoded(&space), [0, 1, 2], "in D0");
    assert!(space.may_access_memory(), "in D0");
    write(&mut space, power, &[3]);
    assert!(!space.is_in_d0(), "in D3hot");
    assert_eq!(decoded(&space), [], "in D3hot");
    assert!(!space.may_access_memory(), "in D3hot");
    assert_eq!(u16_at(&space, COMMAND), command, "the command in D3hot");

    let mut moved = ConfigSpace::new(&CAPABLE);
    moved.restore(space.image()).expect("it is an image");
    assert!(!moved.is_in_d0(), "in D3hot after a move");
    write(&mut moved, power, &[0]);
    assert_eq!(decoded(&moved), [0, 1, 2], "in D0 again");
    assert!(moved.may_access_memory(), "in D0 again");
    assert!(ConfigSpace::new(&RICH).is_in_d0(), "without the capability");
}

#[test]
fn extended_configuration_space_has_no_capability() {
    let mut space = ConfigSpace::new(&CAPABLE);
    assert_eq!(space.size(), EXTENDED_CONFIG_SPACE_SIZE);
    assert_eq!(space.size(), 4096);
    let before = space.clone();
    for (offset, len) in [(256, 1), (256, 4), (256, 3840), (4095, 1), (0x7fd, 3)] {
        let mut bytes = vec![0xa5; len];
        assert_eq!(space.read(offset, &mut bytes, true), Ok(()));
        assert!(bytes.iter().all(|byte| *byte == 0), "{len} at {offset:#x}");
        assert_eq!(space.write(offset, &vec![0xff; len]), Ok(()));
        assert_eq!(space, before, "after a write of {len} at {offset:#x}");
    }

    // One access on both sides.
    let mut bytes = [0xa5; 8];
    assert_eq!(space.read(252, &mut bytes, false), Ok(()));
    assert_eq!(bytes, [0; 8], "8 bytes at 252");
    let mut whole = [0xa5; 4096];
    assert_eq!(space.read(0, &mut whole, false), Ok(()));
    assert_eq!(whole[..256], all(&space), "the conventional part");
    assert_eq!(whole[256..], [0; 3840], "the extended part");

    for (offset, length) in [(4096, 1), (4095, 2), (0, 4097), (u64::MAX, 1)] {
        let refused = Err(AccessError {
            offset,
            length,
            size: 4096,
        });
        assert_eq!(space.read(offset, &mut vec![0; length], false), refused);
        assert_eq!(space.write(offset, &vec![0; length]), refused);
    }
    assert_eq!(
        ConfigSpace::new(&RICH).size(),
        CONFIG_SPACE_SIZE,
        "a function without PCI Express"
    );
}

/// A function after software has changed every bit that it can.
fn used() -> ConfigSpace {
    let mut space = ConfigSpace::new(&CAPABLE);
    write(&mut space, 0, &[0xff; CONFIG_SPACE_SIZE]);
    // Without the reserved read request size.
    let control = capability(&space, CAP_ID_EXP) + EXP_DEVCTL;
    write(&mut space, control, &0x581fu16.to_le_bytes());
    assert!(!space.is_in_d0(), "it is in D3hot");
    space
}

#[test]
fn a_function_level_reset_leaves_what_pci_express_exempts() {
    let idle = ConfigSpace::new(&CAPABLE);
    let link_control = capability(&idle, CAP_ID_EXP) as usize + 0x10;
    let mut expected = all(&idle);
    // ASPM, read completion boundary, common clock, extended synch, clock power management.
    expected[link_control..link_control + 2].copy_from_slice(&0x01cbu16.to_le_bytes());

    let mut space = used();
    space.function_level_reset();
    assert_eq!(all(&space), expected, "after the reset");
    assert!(space.is_in_d0(), "after the reset");
    assert_eq!(
        ConfigSpace::new(&CAPABLE).restore(space.image()),
        Ok(()),
        "the image after the reset"
    );
}

#[test]
fn a_reset_by_the_bus_driver_leaves_what_that_restores() {
    let before = all(&used());
    let idle = ConfigSpace::new(&CAPABLE);
    let express = capability(&idle, CAP_ID_EXP) as usize;
    let mut expected = all(&idle);
    // The header; device control, link control, device control 2.
    for kept in [
        0x00..0x40,
        express + 0x08..express + 0x0a,
        express + 0x10..express + 0x12,
        express + 0x28..express + 0x2a,
    ] {
        expected[kept.clone()].copy_from_slice(&before[kept]);
    }

    let mut space = used();
    space.bus_driver_reset();
    assert_eq!(all(&space), expected, "after the reset");
    assert!(space.is_in_d0(), "in D0 after the reset");
    assert!(!space.msi_enabled(), "MSI after the reset");
    assert!(!space.msix_enabled(), "MSI-X after the reset");
    assert_eq!(
        ConfigSpace::new(&CAPABLE).restore(space.image()),
        Ok(()),
        "the image after the reset"
    );
}

#[test]
fn a_function_level_reset_is_seen_in_any_write_that_has_its_bit() {
    let space = ConfigSpace::new(&CAPABLE);
    let control = capability(&space, CAP_ID_EXP) + EXP_DEVCTL;
    let reset = EXP_DEVCTL_BCR_FLR.to_le_bytes();
    let all_but = (!EXP_DEVCTL_BCR_FLR).to_le_bytes();

    assert!(space.requests_reset(control, &reset), "in two bytes");
    assert!(
        space.requests_reset(control + 1, &reset[1..]),
        "in one byte"
    );
    assert!(
        space.requests_reset(control - 3, &[0, 0, 0, 0, 0x80, 0]),
        "in the middle"
    );
    assert!(!space.requests_reset(control, &all_but), "all other bits");
    for (offset, bytes) in [
        (control, &[0xff][..]),
        (control + 2, &[0xff; 4]),
        (control - 4, &[0xff; 4]),
        (control, &[]),
        (u64::MAX, &[0xff; 4]),
        (0, &[0xff; 4]),
    ] {
        assert!(
            !space.requests_reset(offset, bytes),
            "{} bytes at {offset:#x} are elsewhere",
            bytes.len()
        );
    }

    let other = ConfigSpace::new(&RICH);
    assert!(
        !other.requests_reset(0, &[0xff; CONFIG_SPACE_SIZE]),
        "a function without the capability"
    );
}

#[test]
fn a_function_level_reset_leaves_no_trace() {
    let mut space = ConfigSpace::new(&CAPABLE);
    let control = capability(&space, CAP_ID_EXP) + EXP_DEVCTL;
    let value = u16_at(&space, control) | EXP_DEVCTL_BCR_FLR;
    write(&mut space, control, &value.to_le_bytes());
    assert_eq!(space, ConfigSpace::new(&CAPABLE));
}

#[test]
fn the_power_state_is_software_to_choose_and_resets_nothing() {
    let mut space = ConfigSpace::new(&CAPABLE);
    let at = capability(&space, CAP_ID_PM);
    assert_eq!(u16_at(&space, at + 2), 3, "revision 1.2, D0 and D3hot only");
    assert_eq!(u16_at(&space, at + 4), 0x0008, "D0, no soft reset");
    write(&mut space, at, &[0xff; 8]);
    assert_eq!(u16_at(&space, at + 2), 3, "capabilities after all ones");
    assert_eq!(u16_at(&space, at + 4), 0x000b, "D3hot after all ones");
}

#[test]
fn interrupt_status_is_the_devices_alone() {
    let mut space = ConfigSpace::new(&RICH);
    write(&mut space, STATUS, &[0xff, 0xff]);
    for (interrupt, expected) in [
        (false, STATUS_CAP_LIST),
        (true, STATUS_CAP_LIST | STATUS_INTERRUPT),
    ] {
        let mut bytes = [0; 4];
        space
            .read(COMMAND, &mut bytes, interrupt)
            .expect("both are readable");
        assert_eq!(
            bytes[2..],
            expected.to_le_bytes(),
            "status, interrupt: {interrupt}"
        );
        assert_eq!(bytes[..2], [0, 0], "command, interrupt: {interrupt}");
    }
}

#[test]
fn interrupt_line_and_cache_line_size_belong_to_software() {
    let mut space = ConfigSpace::new(&RICH);
    write(&mut space, 0x3c, &[11]);
    assert_eq!(u8_at(&space, 0x3c), 11, "interrupt line");
    write(&mut space, 0x0c, &[16]);
    assert_eq!(u8_at(&space, 0x0c), 16, "cache line size");
}

#[test]
fn accesses_past_the_end_are_refused_and_do_nothing() {
    for (offset, length) in [
        (256, 1),
        (255, 2),
        (253, 4),
        (0, 257),
        (u64::MAX, 1),
        (u64::MAX, 4),
        (u64::MAX - 3, 4),
        (1 << 32, 4),
    ] {
        let refused = Err(AccessError {
            offset,
            length,
            size: CONFIG_SPACE_SIZE,
        });
        let mut space = ConfigSpace::new(&RICH);
        let mut bytes = vec![0xa5; length];
        assert_eq!(space.write(offset, &bytes), refused, "write");
        assert_eq!(space.read(offset, &mut bytes, false), refused, "read");
        assert!(
            bytes.iter().all(|&byte| byte == 0xa5),
            "a refused read of {length} bytes at {offset} gives nothing"
        );
        assert_eq!(
            space,
            ConfigSpace::new(&RICH),
            "a refused write of {length} bytes at {offset} changes nothing"
        );
    }
}

#[test]
fn a_refusal_tells_the_numbers() {
    let error = AccessError::check(0xff, 2, CONFIG_SPACE_SIZE).expect_err("it ends past the end");
    assert_eq!(
        error.to_string(),
        "access of 2 bytes at 0xff is outside of a region of 256 bytes"
    );
    let mut image = *ConfigSpace::new(&RICH).image();
    image[8] = 0x37;
    let error = restored(&image).expect_err("the revision cannot change");
    assert_eq!(
        error.to_string(),
        "configuration space byte 0x08 is 0x37, but only the bits 0x00 of 0x02 can change"
    );
}

#[test]
fn an_access_may_end_at_the_end_and_may_be_empty() {
    assert_eq!(AccessError::check(255, 1, 256), Ok(255..256), "last byte");
    assert_eq!(AccessError::check(0, 256, 256), Ok(0..256), "all bytes");
    assert_eq!(AccessError::check(256, 0, 256), Ok(256..256), "no bytes");
}

#[test]
fn a_refused_image_restores_nothing() {
    let mut space = ConfigSpace::new(&RICH);
    write(&mut space, COMMAND, &[0xff, 0xff]);
    let before = space.clone();

    let mut image = *ConfigSpace::new(&RICH).image();
    image[CONFIG_SPACE_SIZE - 1] = 1;
    assert!(
        space.restore(&image).is_err(),
        "the last byte cannot change"
    );
    assert_eq!(space, before, "the function after a refused image");
}

#[test]
fn a_changed_bit_of_an_image_is_kept_or_refused() {
    let mut used = ConfigSpace::new(&RICH);
    write(&mut used, 0, &[0xff; CONFIG_SPACE_SIZE]);
    let writable: Vec<u8> = all(&used)
        .iter()
        .zip(all(&ConfigSpace::new(&RICH)))
        .map(|(used, idle)| used ^ idle)
        .collect();

    let good = *ConfigSpace::new(&RICH).image();
    for offset in 0..CONFIG_SPACE_SIZE {
        for bit in 0..u8::BITS {
            let mut image = good;
            image[offset] ^= 1 << bit;
            match restored(&image) {
                Ok(space) => {
                    assert_ne!(
                        writable[offset] & 1 << bit,
                        0,
                        "bit {bit} of byte {offset:#x} cannot change"
                    );
                    assert_eq!(all(&space), image, "the image is what is read");
                }
                Err(error) => {
                    assert_eq!(
                        writable[offset] & 1 << bit,
                        0,
                        "bit {bit} of byte {offset:#x} can change, but: {error}"
                    );
                    match error {
                        ImageError::Identity { .. } => {
                            assert!(offset < 4, "byte {offset:#x} is no number of the device");
                        }
                        _ => assert_eq!(
                            error,
                            ImageError::Bits {
                                offset,
                                found: image[offset],
                                power_on: good[offset],
                                writable: writable[offset],
                            }
                        ),
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_writes_change_writable_bits_only_byte_by_byte(
        writes in prop::collection::vec((0..300u64, prop::collection::vec(any::<u8>(), 0..12)), 0..40),
    ) {
        let idle = all(&ConfigSpace::new(&RICH));
        let mut ones = ConfigSpace::new(&RICH);
        write(&mut ones, 0, &[0xff; CONFIG_SPACE_SIZE]);
        let ones = all(&ones);

        let mut space = ConfigSpace::new(&RICH);
        let mut expected = idle;
        for (offset, bytes) in writes {
            let fits = offset as usize + bytes.len() <= CONFIG_SPACE_SIZE;
            prop_assert_eq!(space.write(offset, &bytes).is_ok(), fits, "{:#x}: {:x?}", offset, bytes);
            if fits {
                for (index, byte) in bytes.iter().enumerate() {
                    let at = offset as usize + index;
                    let writable = idle[at] ^ ones[at];
                    expected[at] = idle[at] & !writable | byte & writable;
                }
            }
            prop_assert_eq!(all(&space), expected);
        }

        prop_assert_eq!(restored(space.image()), Ok(space.clone()), "the restored function");
        space.function_level_reset();
        prop_assert_eq!(all(&space), idle, "after a reset");
    }
}

/// A layout that breaks a rule does not compile in a `static`; here it is built at run time.
#[track_caller]
fn expect_panic(build: impl FnOnce() -> Layout + std::panic::UnwindSafe, rule: &str) {
    let cause = std::panic::catch_unwind(build).expect_err(rule);
    let message = cause
        .downcast_ref::<&str>()
        .map(|message| message.to_string())
        .or_else(|| cause.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    assert!(
        message.contains(rule),
        "expected {rule:?}, seen {message:?}"
    );
}

#[test]
fn a_layout_that_breaks_a_rule_is_not_built() {
    let new = || Layout::new(&CONTROLLER);
    let memory = |size| Bar::Memory32 {
        size,
        prefetchable: false,
    };
    let wide = Bar::Memory64 {
        size: 16,
        prefetchable: false,
    };
    expect_panic(move || new().bar(0, Bar::Io { size: 12 }), "a power of two");
    expect_panic(move || new().bar(0, Bar::Io { size: 0 }), "a power of two");
    expect_panic(move || new().bar(0, Bar::Io { size: 2 }), "flag bits");
    expect_panic(move || new().bar(0, Bar::Io { size: 512 }), "256 ports");
    expect_panic(move || new().bar(0, memory(8)), "flag bits");
    expect_panic(move || new().bar(6, memory(16)), "six");
    expect_panic(move || new().bar(5, wide), "six");
    expect_panic(move || new().bar(0, wide).bar(1, memory(16)), "is free");
    expect_panic(move || new().bar(1, memory(16)).bar(0, wide), "is free");
    let huge = Bar::Memory64 {
        size: 1 << 40,
        prefetchable: false,
    };
    expect_panic(move || new().bar(2, huge).bar(2, memory(16)), "is free");
    expect_panic(move || new().bar(2, huge).bar(3, memory(16)), "is free");
    expect_panic(move || new().msi().msi(), "one MSI");
    let msix = move |vectors, bar, table, pending| {
        new()
            .bar(0, Bar::Io { size: 256 })
            .bar(1, memory(4096))
            .msix(vectors, bar, table, bar, pending)
    };
    let twice = move || msix(1, 1, 0, 16).msix(1, 1, 0, 1, 16);
    expect_panic(twice, "one MSI-X");
    expect_panic(move || msix(0, 1, 0, 2048), "1 to 2048");
    expect_panic(move || msix(2049, 1, 0, 2048), "1 to 2048");
    expect_panic(move || msix(1, 0, 0, 16), "for memory");
    expect_panic(move || msix(1, 2, 0, 16), "for memory");
    expect_panic(move || msix(1, 6, 0, 16), "six");
    expect_panic(move || msix(1, 1, 4, 16), "multiple of 8");
    expect_panic(move || msix(1, 1, 0, 12), "multiple of 8");
    expect_panic(move || msix(257, 1, 0, 0), "inside");
    expect_panic(move || msix(17, 1, 4096 - 17 * 16 + 8, 0), "inside");
    expect_panic(move || msix(65, 1, 0, 4088), "inside");
    expect_panic(move || msix(1, 1, u32::MAX - 7, 0), "inside");
    expect_panic(move || new().express().express(), "one PCI Express");
    let awake = move || new().power_management().power_management();
    expect_panic(awake, "one power management");
}
