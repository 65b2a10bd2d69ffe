// SPDX-License-Identifier: GPL-2.0

//! What software sees of a configuration space, and what is refused.

use pci_config::{
    AccessError,
    Bar,
    Class,
    ConfigSpace,
    Identity,
    ImageError,
    InterruptPin,
    Layout,
    CONFIG_SPACE_SIZE, //
};
use proptest::prelude::*;

/// A controller with memory, as the next device has it.
const CONTROLLER: Identity = Identity {
    vendor: 0x1b36,
    device: 0x0010,
    revision: 2,
    class: Class {
        base: 0x01,
        sub: 0x08,
        interface: 0x02,
    },
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
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
    space.read(offset, &mut bytes).expect("a byte is readable");
    bytes[0]
}

fn u16_at(space: &ConfigSpace, offset: u64) -> u16 {
    let mut bytes = [0; 2];
    space.read(offset, &mut bytes).expect("a word is readable");
    u16::from_le_bytes(bytes)
}

fn u32_at(space: &ConfigSpace, offset: u64) -> u32 {
    let mut bytes = [0; 4];
    space.read(offset, &mut bytes).expect("a dword is readable");
    u32::from_le_bytes(bytes)
}

fn all(space: &ConfigSpace) -> [u8; CONFIG_SPACE_SIZE] {
    let mut bytes = [0; CONFIG_SPACE_SIZE];
    space.read(0, &mut bytes).expect("all of it is readable");
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
    assert_eq!(u16_at(&space, 0x00), 0x1b36, "vendor");
    assert_eq!(u16_at(&space, 0x02), 0x0010, "device");
    assert_eq!(u8_at(&space, 0x08), 2, "revision");
    assert_eq!(u32_at(&space, 0x08) >> 8, 0x010802, "class code");
    assert_eq!(u8_at(&space, 0x0e), 0, "header type 0, one function");
    assert_eq!(u16_at(&space, 0x2c), 0x1af4, "subsystem vendor");
    assert_eq!(u16_at(&space, 0x2e), 0x1100, "subsystem");
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

    assert!(!space.bus_master_enabled(), "no bus master yet");
    write(&mut space, COMMAND, &COMMAND_MASTER.to_le_bytes());
    assert!(space.bus_master_enabled(), "bus mastering was enabled");
    write(&mut space, COMMAND, &COMMAND_INTX_DISABLE.to_le_bytes());

    space.reset();
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
    space.reset();
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

#[test]
fn the_endpoint_is_one_that_can_be_reset() {
    let mut space = ConfigSpace::new(&CAPABLE);
    let at = capability(&space, CAP_ID_EXP);
    assert_eq!(u16_at(&space, at + 0x02), 0x0002, "version 2, an endpoint");
    assert_eq!(
        u32_at(&space, at + 0x04),
        0x1000_8000,
        "function level reset and role-based errors"
    );
    assert_eq!(
        u16_at(&space, at + 0x12) & 0x3ff,
        u32_at(&space, at + 0x0c) as u16 & 0x3ff,
        "the link has all the speed and width that it can have"
    );
    let before = all(&space);
    write(&mut space, at, &[0xff; 0x3c]);
    let changed: Vec<(u64, u16)> = (0..0x3c)
        .step_by(2)
        .map(|offset| {
            let idle = u16::from_le_bytes([
                before[(at + offset) as usize],
                before[(at + offset) as usize + 1],
            ]);
            (offset, u16_at(&space, at + offset) ^ idle)
        })
        .filter(|(_, bits)| *bits != 0)
        .collect();
    assert_eq!(
        changed,
        [(0x08, 0x50ef), (0x10, 0x0048)],
        "bits of device and link control that were 0 and can be 1"
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
    space.set_interrupt_status(true);
    assert_eq!(
        u16_at(&space, STATUS),
        STATUS_CAP_LIST | STATUS_INTERRUPT,
        "an interrupt"
    );
    write(&mut space, STATUS, &[0xff, 0xff]);
    write(&mut space, STATUS, &[0, 0]);
    assert_eq!(
        u16_at(&space, STATUS),
        STATUS_CAP_LIST | STATUS_INTERRUPT,
        "software cannot change the status"
    );
    space.set_interrupt_status(false);
    assert_eq!(u16_at(&space, STATUS), STATUS_CAP_LIST, "no interrupt");
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
        assert_eq!(space.read(offset, &mut bytes), refused, "read");
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
    let mut image = ConfigSpace::new(&RICH).image();
    image[0] = 0x37;
    let error = restored(&image).expect_err("the vendor cannot change");
    assert_eq!(
        error.to_string(),
        "configuration space byte 0x00 is 0x37, but only the bits 0x00 of 0x36 can change"
    );
}

#[test]
fn an_access_may_end_at_the_end_and_may_be_empty() {
    assert_eq!(AccessError::check(255, 1, 256), Ok(255..256), "last byte");
    assert_eq!(AccessError::check(0, 256, 256), Ok(0..256), "all bytes");
    assert_eq!(AccessError::check(256, 0, 256), Ok(256..256), "no bytes");
}

#[test]
fn an_image_leaves_out_the_interrupt_status() {
    let mut space = ConfigSpace::new(&RICH);
    space.set_interrupt_status(true);
    assert_eq!(
        space.image(),
        all(&ConfigSpace::new(&RICH)),
        "the image of a function with an interrupt"
    );
}

#[test]
fn a_refused_image_restores_nothing() {
    let mut space = ConfigSpace::new(&RICH);
    write(&mut space, COMMAND, &[0xff, 0xff]);
    let before = space.clone();

    let mut image = ConfigSpace::new(&RICH).image();
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

    let good = ConfigSpace::new(&RICH).image();
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
                    assert_eq!(
                        error,
                        ImageError {
                            offset,
                            found: image[offset],
                            power_on: good[offset],
                            writable: writable[offset],
                        }
                    );
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

        prop_assert_eq!(restored(&space.image()), Ok(space.clone()), "the restored function");
        space.reset();
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
