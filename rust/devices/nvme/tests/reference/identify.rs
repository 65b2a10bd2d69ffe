// SPDX-License-Identifier: GPL-2.0

//! Identify, section 5.15.

use nvme::Parameters;

use crate::bench::{
    parameters,
    SERIAL, //
};
use crate::driver::{
    Driver,
    Setup,
    Sqe, //
};
use crate::spec::*;

fn u16_at(data: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([data[at], data[at + 1]])
}

fn u32_at(data: &[u8], at: usize) -> u32 {
    u32::from(u16_at(data, at)) | u32::from(u16_at(data, at + 2)) << 16
}

fn u64_at(data: &[u8], at: usize) -> u64 {
    u64::from(u32_at(data, at)) | u64::from(u32_at(data, at + 4)) << 32
}

#[test]
fn the_controller_says_what_it_is() {
    let mut driver = Driver::new(Setup::default());
    let data = driver.identify(CNS_CTRL, 0);

    let vendor = driver.bench.config16(0x00);
    let subsystem_vendor = driver.bench.config16(0x2c);
    assert_eq!(u16_at(&data, 0), vendor, "PCI vendor");
    assert_eq!(u16_at(&data, 2), subsystem_vendor, "PCI subsystem vendor");
    assert_eq!(&data[4..24], SERIAL, "serial number");
    for (what, range) in [("model number", 24..64), ("firmware revision", 64..72)] {
        let text = &data[range];
        assert!(
            text.iter().all(|byte| (0x20..0x7f).contains(byte)),
            "the {what} is padded ASCII: {text:x?}"
        );
        assert_ne!(text[0], b' ', "the {what} begins at the left");
    }
    assert_eq!(data[76], 0, "one port, one controller, no sharing");
    assert_eq!(data[77], 7, "MDTS is 512 KiB in pages of 4 KiB");
    assert_eq!(u32_at(&data, 80), VS_1_4, "version");
    for (what, at) in [("resume", 84), ("entry", 88)] {
        assert_eq!(u32_at(&data, at), 0, "RTD3 {what} latency is not told");
    }
    assert_eq!(data[111], 1, "an I/O controller");

    let oacs = u16_at(&data, 256);
    assert_eq!(
        oacs,
        OACS_FORMAT | OACS_DBBUF,
        "the optional admin commands are Format NVM and Doorbell Buffer Config"
    );
    assert_eq!(data[524], 0, "a format is about one namespace, FNA");
    assert_eq!(data[512], 0x66, "submission queue entries have 64 bytes");
    assert_eq!(data[513], 0x44, "completion queue entries have 16 bytes");
    assert_eq!(u32_at(&data, 516), 1, "one namespace");
    let oncs = u16_at(&data, 520);
    let wanted = ONCS_COMPARE
        | ONCS_WRITE_UNCOR
        | ONCS_DSM
        | ONCS_WRITE_ZEROES
        | ONCS_SAVE_SELECT
        | ONCS_VERIFY;
    assert_eq!(
        oncs, wanted,
        "what is there is promised, and what is not there is not: {oncs:#x}"
    );
    assert_eq!(u16_at(&data, 522), 0, "no fused commands");
    assert_eq!(data[525] & 1, 1, "there is a volatile write cache");
    assert_eq!(u16_at(&data, 526), 0xffff, "every command is atomic, AWUN");
    assert_eq!(u16_at(&data, 528), 0, "one block survives, AWUPF");
    assert_eq!(u16_at(&data, 532), 0, "no fused commands, ACWU");
    assert_eq!(u32_at(&data, 536), 0, "no SGLs");
    let name = &data[768..1024];
    let end = name
        .iter()
        .position(|&byte| byte == 0)
        .expect("SUBNQN ends");
    let name = std::str::from_utf8(&name[..end]).expect("SUBNQN is UTF-8");
    assert!(
        name.starts_with("nqn."),
        "SUBNQN is a qualified name: {name:?}"
    );
}

#[test]
fn what_the_controller_says_does_not_depend_on_its_past() {
    let mut driver = Driver::new(Setup::default());
    let before = driver.identify(CNS_CTRL, 0);
    driver.create_queues(3, 8);
    driver.bench.relocate();
    assert_eq!(
        driver.identify(CNS_CTRL, 0),
        before,
        "after queues and a move"
    );
    driver.revive();
    assert_eq!(driver.identify(CNS_CTRL, 0), before, "after a reset");
}

#[test]
fn the_namespace_has_its_size_and_format() {
    for (shift, capacity) in [
        (9u8, 2u64 << 20),
        (12, 2 << 20),
        (9, 64 << 30),
        (12, 64 << 30),
    ] {
        let mut driver = Driver::disabled(
            Setup::default(),
            Parameters {
                // The store behind stays small, as it is not read.
                ..parameters(shift)
            },
        );
        driver.bench.controller = crate::whole::Controller::power_on(&Parameters {
            capacity,
            ..parameters(shift)
        })
        .expect("the parameters are good");
        driver.msix = false;
        driver.bench.write_config16(0x04, 0x0006);
        driver.enable();

        let data = driver.identify(CNS_NS, 1);
        let blocks = capacity >> shift;
        assert_eq!(u64_at(&data, 0), blocks, "NSZE");
        assert_eq!(u64_at(&data, 8), blocks, "NCAP");
        assert!(u64_at(&data, 16) <= blocks, "NUSE is at most NCAP");
        let formats = usize::from(data[25]) + 1;
        let format = usize::from(data[26] & 0xf);
        assert!(format < formats, "the format in use exists");
        let lbaf = u32_at(&data, 128 + 4 * format);
        assert_eq!(lbaf & 0xffff, 0, "no metadata");
        assert_eq!(lbaf >> 16 & 0xff, u32::from(shift), "size of a block");
        assert_eq!((data[28], data[29]), (0, 0), "no protection information");
        assert_eq!(data[30], 0, "the namespace is private");
        assert_eq!(data[31], 0, "no reservations");
        assert_eq!(data[33] & 7, 1, "deallocated blocks read as zeros");
    }
}

#[test]
fn a_store_that_may_not_zero_promises_no_zeros() {
    let mut driver = Driver::disabled(
        Setup::default(),
        Parameters {
            store: nvme::STORE_ZEROING + 1,
            ..parameters(9)
        },
    );
    driver.enable();

    let dlfeat = driver.identify(CNS_NS, 1)[33];
    assert_eq!(dlfeat & 7, 0, "what deallocated blocks read as is not told");
    let data = driver.identify(CNS_CTRL, 0);
    for (what, at) in [("resume", 84), ("entry", 88)] {
        let timeout = u32::from(driver.bench.read64(REG_CAP).to_le_bytes()[3]) * 500_000;
        assert_eq!(
            u32_at(&data, at),
            timeout,
            "RTD3 {what} latency is as long as enabling may take"
        );
    }
}

/// Section 6.4: the units of a namespace are those of the controller or larger, and Linux takes a write for atomic that is
/// at most NAWUPF, if NSFEAT says that it is there and there is no NABO.
#[test]
fn memory_takes_each_write_as_a_whole_and_a_file_promises_nothing() {
    for shift in [9u8, 12] {
        for store in [nvme::STORE_ZEROING, nvme::STORE_ZEROING + 1] {
            let parameters = Parameters {
                store,
                ..parameters(shift)
            };
            let mut driver = Driver::with_parameters(Setup::default(), parameters);
            let controller = driver.identify(CNS_CTRL, 0);
            let largest = (4096u32 << controller[77]) >> shift;
            let data = driver.identify(CNS_NS, 1);
            let (nsfeat, nawun, nawupf, nacwu) = (
                data[24],
                u16_at(&data, 34),
                u16_at(&data, 36),
                u16_at(&data, 38),
            );
            let told = nsfeat & NSFEAT_NSABP != 0;
            assert_eq!(
                told,
                store == nvme::STORE_ZEROING,
                "NSFEAT {nsfeat:#x} of store {store}"
            );
            if told {
                assert_eq!(
                    u32::from(nawupf) + 1,
                    largest,
                    "NAWUPF is the largest write"
                );
                assert!(
                    nawun >= u16_at(&controller, 526),
                    "NAWUN {nawun} is at least AWUN"
                );
            } else {
                assert_eq!((nawun, nawupf), (0, 0), "NAWUN and NAWUPF of a file");
            }
            assert_eq!(nacwu, 0, "no fused commands, NACWU");
            assert_eq!(data[40..46], [0; 6], "NABSN, NABO and NABSPF: no boundary");
        }
    }
}

#[test]
fn namespaces_that_are_not_there_are_not_described() {
    let mut driver = Driver::new(Setup::default());
    for nsid in [0, 2, 0xffff_fffe, NSID_ALL] {
        let buffer = driver.buffer(PAGE, 0);
        driver.bad(
            0,
            Sqe::new(ADMIN_IDENTIFY)
                .nsid(nsid)
                .data(&buffer)
                .dword(10, CNS_NS),
            &[INVALID_NS],
        );
        driver.bad(
            0,
            Sqe::new(ADMIN_IDENTIFY)
                .nsid(nsid)
                .data(&buffer)
                .dword(10, CNS_NS_DESC_LIST),
            &[INVALID_NS],
        );
    }
}

#[test]
fn the_active_list_has_the_namespaces_after_the_one_that_is_named() {
    let mut driver = Driver::new(Setup::default());
    let mut expected = vec![0; PAGE];
    assert_eq!(
        driver.identify(CNS_NS_ACTIVE_LIST, 1),
        expected,
        "nothing comes after 1"
    );
    assert_eq!(
        driver.identify(CNS_NS_ACTIVE_LIST, 0xffff_fffd),
        expected,
        "nothing comes after the last possible one"
    );
    expected[0] = 1;
    assert_eq!(
        driver.identify(CNS_NS_ACTIVE_LIST, 0),
        expected,
        "1 comes after 0"
    );
    let buffer = driver.buffer(PAGE, 0);
    for nsid in [0xffff_fffe, NSID_ALL] {
        driver.bad(
            0,
            Sqe::new(ADMIN_IDENTIFY)
                .nsid(nsid)
                .data(&buffer)
                .dword(10, CNS_NS_ACTIVE_LIST),
            &[INVALID_NS],
        );
    }
}

#[test]
fn the_descriptors_are_a_well_formed_list_with_stable_names() {
    let mut driver = Driver::new(Setup::default());
    let data = driver.identify(CNS_NS_DESC_LIST, 1);
    let mut at = 0;
    let mut seen = Vec::new();
    while data[at] != 0 {
        let (kind, length) = (data[at], usize::from(data[at + 1]));
        let expected = match kind {
            1 => 8,
            2 | 3 => 16,
            4 => 1,
            _ => panic!("descriptor type {kind} is not one of NVMe 1.4"),
        };
        assert_eq!(length, expected, "length of descriptor type {kind}");
        assert!(
            !seen.contains(&kind),
            "descriptor type {kind} is there once"
        );
        assert!(
            data[at + 4..at + 4 + length].iter().any(|&byte| byte != 0),
            "descriptor type {kind} is not empty"
        );
        seen.push(kind);
        at += 4 + length;
    }
    assert!(
        seen.iter().any(|kind| (1..=3).contains(kind)),
        "the namespace has a name"
    );
    assert!(
        data[at..].iter().all(|&byte| byte == 0),
        "nothing follows the list"
    );

    driver.bench.relocate();
    assert_eq!(
        driver.identify(CNS_NS_DESC_LIST, 1),
        data,
        "the names survive a move"
    );
}

#[test]
fn no_identity_is_anybody_elses() {
    let mut driver = Driver::new(Setup::default());
    let controller = driver.identify(CNS_CTRL, 0);
    let numbers = driver.bench.read_config32(0x00);
    let subsystem = driver.bench.read_config32(0x2c);
    // Red Hat lends 1af4:10f0 to 1af4:10ff to experiments, and no number of its other range.
    assert_eq!(numbers, 0x10f0_1af4, "device and vendor");
    assert_eq!(subsystem, numbers, "subsystem");
    assert_eq!(controller[0..2], numbers.to_le_bytes()[..2], "VID");
    assert_eq!(controller[2..4], subsystem.to_le_bytes()[..2], "SSVID");
    // The maker has no identifier of the IEEE: IEEE, NGUID, EUI64 are 0.
    assert_eq!(controller[73..76], [0; 3], "IEEE");
    let namespace = driver.identify(CNS_NS, 1);
    assert_eq!(namespace[104..120], [0; 16], "NGUID");
    assert_eq!(namespace[120..128], [0; 8], "EUI64");
    let names = driver.identify(CNS_NS_DESC_LIST, 1);
    assert_eq!(names[..2], [3, 16], "a UUID");
    assert_eq!(names[20], 0, "and no other name");
    let name = String::from_utf8_lossy(&controller[24..72]).into_owned();
    assert!(
        !name.contains("QEMU") && !name.contains("Red Hat"),
        "model and firmware revision: {name}"
    );
    assert!(
        controller[768..1024].starts_with(b"nqn.2014-08.org.nvmexpress:uuid:"),
        "the NQN is of the form that whoever has a UUID may use"
    );
}

#[test]
fn other_structures_are_refused() {
    let mut driver = Driver::new(Setup::default());
    let buffer = driver.buffer(PAGE, 0);
    for cns in [0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x80, 0xff] {
        driver.bad(
            0,
            Sqe::new(ADMIN_IDENTIFY)
                .nsid(1)
                .data(&buffer)
                .dword(10, cns),
            &[INVALID_FIELD],
        );
    }
}

#[test]
fn the_data_may_straddle_two_pages() {
    let mut driver = Driver::new(Setup::default());
    let whole = driver.identify(CNS_CTRL, 0);
    for offset in [4, 256, 2048, 4092] {
        let buffer = driver.buffer(PAGE, offset);
        driver.good(
            0,
            Sqe::new(ADMIN_IDENTIFY).data(&buffer).dword(10, CNS_CTRL),
        );
        assert_eq!(driver.content(&buffer), whole, "data at offset {offset}");
    }
}

#[test]
fn memory_that_is_not_there_is_a_transfer_error() {
    let mut driver = Driver::new(Setup::default());
    let nowhere = 0x7f00_0000_0000;
    driver.bad(
        0,
        Sqe::new(ADMIN_IDENTIFY).prp(nowhere, 0).dword(10, CNS_CTRL),
        &[DATA_XFER_ERROR],
    );
    driver.bad(
        0,
        Sqe::new(ADMIN_IDENTIFY).prp(!0xfff, 0).dword(10, CNS_CTRL),
        &[DATA_XFER_ERROR],
    );
    let buffer = driver.buffer(PAGE, 64);
    driver.bad(
        0,
        Sqe::new(ADMIN_IDENTIFY)
            .prp(buffer.prp1, nowhere)
            .dword(10, CNS_CTRL),
        &[DATA_XFER_ERROR],
    );
    driver.bad(
        0,
        Sqe::new(ADMIN_IDENTIFY)
            .prp(buffer.prp1, buffer.prp2 + 8)
            .dword(10, CNS_CTRL),
        &[PRP_OFFSET_INVALID],
    );
    driver.identify(CNS_CTRL, 0);
}
