// SPDX-License-Identifier: GPL-2.0

//! Format NVM, section 5.23.

use nvme::Parameters;

use crate::bench::parameters;
use crate::disk::Trouble;
use crate::driver::{
    pattern,
    Driver,
    Setup,
    Sqe, //
};
use crate::spec::*;

/// A namespace that takes some rounds to format.
const LARGE: u64 = 64 << 20;

fn in_store(shift: u8, capacity: u64, store: u8) -> Driver {
    let parameters = Parameters {
        capacity,
        store,
        ..parameters(shift)
    };
    let setup = Setup {
        lba_shift: shift,
        ..Setup::default()
    };
    let mut driver = Driver::with_parameters(setup, parameters);
    driver.create_queues(1, 16);
    driver
}

fn in_memory(shift: u8, capacity: u64) -> Driver {
    in_store(shift, capacity, nvme::STORE_ZEROING)
}

/// A format with dword 10.
fn format(cdw10: u32) -> Sqe {
    Sqe::new(ADMIN_FORMAT).nsid(1).dword(10, cdw10)
}

/// Erase user data.
const SES_USER_DATA: u32 = 1 << 9;
/// Erase by forgetting a key.
const SES_CRYPTOGRAPHIC: u32 = 2 << 9;

/// What Identify says about a namespace: blocks, and the bytes of one as a binary logarithm; and the progress of a format.
fn size(driver: &mut Driver) -> (u64, u8, u8) {
    let data = driver.identify(CNS_NS, 1);
    let format = usize::from(data[26] & 0xf);
    assert!(format <= usize::from(data[25]), "the format in use exists");
    let blocks = u64::from_le_bytes(data[..8].try_into().expect("eight bytes"));
    (blocks, data[128 + 4 * format + 2], data[32])
}

#[test]
fn a_format_leaves_zeros_and_no_marks() {
    for store in [nvme::STORE_ZEROING, nvme::STORE_ZEROING + 1] {
        for cdw10 in [0, SES_USER_DATA] {
            for nsid in [1, NSID_ALL] {
                let mut driver = in_store(9, LARGE, store);
                let last = (LARGE >> 9) - 1;
                driver.write(1, 0, &pattern(1, 8192));
                driver.write(1, last, &pattern(2, 512));
                if store == nvme::STORE_ZEROING {
                    let mark = Sqe::new(CMD_WRITE_UNCOR).nsid(1);
                    driver.good(1, mark.blocks(3, 2));
                    driver.good(1, mark.blocks(last, 1));
                }
                let before = size(&mut driver);
                driver.good(0, format(cdw10).nsid(nsid));
                assert_eq!(size(&mut driver), before, "the format is the same");
                assert_eq!(driver.read(1, 0, 16), [0; 8192]);
                assert_eq!(driver.read(1, last, 1), [0; 512]);
                assert!(driver.bench.disk.bytes.iter().all(|&byte| byte == 0));
                assert!(driver.bench.disk.marks.iter().all(|&byte| byte == 0));
                assert_eq!(
                    driver.bench.disk.unflushed, 0,
                    "the zeros are on the medium"
                );
                // As no block is marked, no mark is looked at.
                let before = driver.bench.disk.requests;
                driver.write(1, 3, &pattern(3, 512));
                assert_eq!(driver.read(1, 3, 1), pattern(3, 512));
                assert_eq!(driver.bench.disk.requests - before, 2, "a write and a read");
            }
        }
    }
}

#[test]
fn memory_can_be_formatted_with_either_size_of_block() {
    for shift in [9u8, 12] {
        let other = 9 + 12 - shift;
        let mut driver = in_memory(shift, LARGE);
        assert_eq!(size(&mut driver), (LARGE >> shift, shift, 0x80));
        assert_eq!(driver.identify(CNS_NS, 1)[25], 1, "there are two formats");
        driver.write(1, 8, &pattern(1, 4096));

        driver.good(0, format(1));
        driver.bench.disk.block = 1 << other;
        assert_eq!(size(&mut driver), (LARGE >> other, other, 0x80));
        let data = driver.identify(CNS_NS, 1);
        let nawupf = u16::from_le_bytes([data[36], data[37]]);
        assert_eq!(usize::from(nawupf) + 1, (512 << 10) >> other, "NAWUPF");
        // The block size of this driver's reads and writes is that of the disk.
        let last = (LARGE >> other) - 1;
        let block = pattern(2, 1 << other);
        for at in [0, 7, last] {
            driver.write(1, at, &block);
            assert_eq!(driver.read(1, at, 1), block, "block {at}");
        }
        let sqe = Sqe::new(CMD_WRITE_ZEROES).nsid(1).blocks(last, 2);
        driver.bad(1, sqe, &[LBA_RANGE]);

        // It outlives whatever the content outlives.
        driver.bench.relocate();
        driver.reset();
        driver.enable();
        driver.create_queues(1, 16);
        assert_eq!(size(&mut driver), (LARGE >> other, other, 0x80));
        assert_eq!(driver.read(1, last, 1), block);

        driver.good(0, format(SES_USER_DATA));
        driver.bench.disk.block = 1 << shift;
        assert_eq!(size(&mut driver), (LARGE >> shift, shift, 0x80));
        assert_eq!(driver.read(1, 0, 1), vec![0; 1 << shift]);
    }
}

#[test]
fn what_cannot_be_formatted_is_refused_and_unchanged() {
    for store in [nvme::STORE_ZEROING, nvme::STORE_ZEROING + 1] {
        let mut driver = in_store(9, 1 << 20, store);
        driver.write(1, 0, &pattern(1, 8192));
        let formats = u32::from(driver.identify(CNS_NS, 1)[25]) + 1;
        assert_eq!(formats, if store == nvme::STORE_ZEROING { 2 } else { 1 });
        for nsid in [0, 2, 0xffff_fffe] {
            driver.bad(0, format(0).nsid(nsid), &[INVALID_NS]);
        }
        for lba_format in formats..16 {
            driver.bad(0, format(lba_format), &[INVALID_FORMAT]);
        }
        for protection in 1..8 {
            driver.bad(0, format(protection << 5), &[INVALID_FORMAT]);
        }
        for erase in 2..8 {
            driver.bad(0, format(erase << 9), &[INVALID_FIELD]);
        }
        assert_eq!(SES_CRYPTOGRAPHIC, 2 << 9, "it is among them");
        assert_eq!(driver.read(1, 0, 16), pattern(1, 8192));
        // Metadata settings mean nothing without metadata.
        driver.good(0, format(1 << 4 | 1 << 8));
    }
}

#[test]
fn commands_meanwhile_are_told_of_the_format() {
    let mut driver = in_memory(9, LARGE);
    let buffer = driver.filled(&[7; 512], 0);
    let cid = driver.submit(0, format(0));
    driver.bench.work(7);
    let (_, _, progress) = size_meanwhile(&mut driver);
    assert!((0x81..0x80 + 100).contains(&progress), "FPI {progress:#x}");
    for opcode in [
        CMD_FLUSH,
        CMD_READ,
        CMD_WRITE,
        CMD_COMPARE,
        CMD_WRITE_UNCOR,
        CMD_WRITE_ZEROES,
        CMD_DSM,
        CMD_VERIFY,
    ] {
        let mut driver = in_memory(9, LARGE);
        driver.submit(0, format(0));
        driver.bench.work(7);
        let buffer = driver.filled(&[7; 512], 0);
        let sqe = Sqe::new(opcode).nsid(1).data(&buffer).blocks(0, 1);
        let other = driver.submit(1, sqe);
        driver.step(7);
        let seen = driver
            .take(1, other)
            .expect("it completes before the format");
        assert_eq!(seen.status, FORMAT_IN_PROGRESS, "opcode {opcode:#x}");
        assert!(!seen.dnr, "a retry can succeed");
    }
    let again = driver.submit(0, format(0));
    driver.pump();
    let first = driver.take(0, cid).expect("the format completes");
    assert_eq!(first.status, SUCCESS);
    let second = driver.take(0, again).expect("the other one completes");
    assert_eq!(second.status, FORMAT_IN_PROGRESS);
    let sqe = Sqe::new(CMD_WRITE).nsid(1).data(&buffer).blocks(0, 1);
    driver.good(1, sqe);
}

/// As [`size`], while the format goes on.
fn size_meanwhile(driver: &mut Driver) -> (u64, u8, u8) {
    let buffer = driver.buffer(PAGE, 0);
    let sqe = Sqe::new(ADMIN_IDENTIFY)
        .nsid(1)
        .data(&buffer)
        .dword(10, CNS_NS);
    let cid = driver.submit(0, sqe);
    driver.step(7);
    let seen = driver
        .take(0, cid)
        .expect("Identify does not wait for a format");
    assert_eq!(seen.status, SUCCESS);
    let data = driver.content(&buffer);
    let blocks = u64::from_le_bytes(data[..8].try_into().expect("eight bytes"));
    (blocks, data[128 + 2], data[32])
}

#[test]
fn a_format_goes_on_where_it_is_moved_to() {
    let rounds = {
        let mut driver = in_memory(9, LARGE);
        let before = driver.bench.rounds;
        driver.good(0, format(1));
        driver.bench.rounds - before
    };
    assert!(rounds >= 4, "there are {rounds} rounds to move in");
    for round in 1..=rounds {
        let mut driver = in_memory(9, LARGE);
        driver.write(1, 0, &pattern(1, 8192));
        driver.write(1, (LARGE >> 9) - 1, &pattern(2, 512));
        driver.bench.move_before = Some(driver.bench.rounds + round);
        let cid = driver.submit(0, format(1));
        driver.pump();
        let seen = driver.take(0, cid).expect("the format completes");
        assert_eq!(seen.status, SUCCESS, "moved in round {round}");
        assert_eq!(size(&mut driver), (LARGE >> 12, 12, 0x80));
        assert!(driver.bench.disk.bytes.iter().all(|&byte| byte == 0));
    }
    let mut driver = in_memory(9, LARGE);
    driver.bench.moving = true;
    driver.good(0, format(1));
    assert_eq!(size(&mut driver), (LARGE >> 12, 12, 0x80));
}

#[test]
fn a_format_waits_for_room_and_leaves_none_out() {
    let setup = Setup {
        admin_completions: 2,
        ..Setup::default()
    };
    let parameters = Parameters {
        capacity: LARGE,
        ..parameters(9)
    };
    let mut driver = Driver::with_parameters(setup, parameters);
    let cid = driver.submit(0, format(0));
    driver.bench.work(7);
    // The only place of the completion queue is taken by another command.
    let other = driver.submit(0, Sqe::new(ADMIN_ABORT).dword(10, 0));
    driver.bench.settle();
    driver.pump();
    for cid in [cid, other] {
        let seen = driver.take(0, cid).expect("it completes");
        assert_eq!(seen.status, SUCCESS);
    }
}

#[test]
fn a_reset_ends_a_format() {
    let mut driver = in_memory(9, LARGE);
    driver.write(1, (LARGE >> 9) - 1, &pattern(2, 512));
    driver.submit(0, format(1));
    driver.bench.work(7);
    driver.reset();
    driver.enable();
    driver.create_queues(1, 16);
    assert_eq!(
        size(&mut driver),
        (LARGE >> 9, 9, 0x80),
        "the format of before"
    );
    assert_eq!(driver.read(1, 0, 1), [0; 512], "the front is formatted");
    let last = driver.read(1, (LARGE >> 9) - 1, 1);
    assert_eq!(last, pattern(2, 512), "the end is not");
}

#[test]
fn a_format_that_fails_says_so_and_is_in_the_error_log() {
    let mut driver = in_memory(9, LARGE);
    for (trouble, status) in [
        (Trouble::Medium, WRITE_FAULT),
        (Trouble::Full, CAP_EXCEEDED),
    ] {
        driver.bench.disk.trouble = Some(trouble);
        let seen = driver.call(0, format(1));
        assert_eq!(seen.status, status);
        assert!(seen.more, "the error log has an entry");
        driver.bench.disk.trouble = None;
        let log = driver.log_page(LOG_ERROR, ERROR_ENTRY_SIZE, false);
        assert_eq!(log[8..10], [0; 2], "the admin queue");
        assert_eq!(log[10..12], seen.cid.to_le_bytes(), "the command");
        assert_eq!(log[24..28], [1, 0, 0, 0], "the namespace");
        assert_eq!(
            size(&mut driver),
            (LARGE >> 9, 9, 0x80),
            "the format of before"
        );
        driver.write(1, 0, &pattern(1, 512));
    }
}
