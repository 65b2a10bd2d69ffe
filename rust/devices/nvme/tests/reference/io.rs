// SPDX-License-Identifier: GPL-2.0

//! Commands of the NVM command set, and each status that a wrong one gets. Section 6.

use crate::disk::Trouble;
use crate::driver::{
    pattern,
    Driver,
    Setup,
    Sqe, //
};
use crate::memory::{
    Direction,
    Moment, //
};
use crate::spec::*;

const SHIFTS: [u8; 2] = [9, 12];

fn ready(lba_shift: u8) -> Driver {
    let setup = Setup {
        lba_shift,
        ..Setup::default()
    };
    Driver::with_queues(setup, 1, 16)
}

fn blocks(driver: &Driver) -> u64 {
    (driver.bench.disk.bytes.len() / driver.block()) as u64
}

/// A Dataset Management command with these ranges.
fn dsm(driver: &mut Driver, ranges: &[(u64, u32)], attributes: u32) -> Sqe {
    let mut bytes = Vec::new();
    for &(start, count) in ranges {
        bytes.extend(0u32.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        bytes.extend(start.to_le_bytes());
    }
    let buffer = driver.filled(&bytes, 0);
    Sqe::new(CMD_DSM)
        .nsid(1)
        .data(&buffer)
        .dword(10, ranges.len() as u32 - 1)
        .dword(11, attributes)
}

#[test]
fn what_is_written_is_read() {
    for shift in SHIFTS {
        let mut driver = ready(shift);
        let block = driver.block();
        let last = blocks(&driver) - 1;
        for (start, count) in [(0, 1), (1, 2), (5, 7), (last, 1), (last - 15, 16)] {
            let bytes = pattern(start as u8, count * block);
            driver.write(1, start, &bytes);
            assert_eq!(
                driver.read(1, start, count as u32),
                bytes,
                "{count} blocks of {block} bytes at {start}"
            );
            let at = start as usize * block;
            assert_eq!(
                driver.bench.disk.bytes[at..at + bytes.len()],
                bytes,
                "they are on the disk"
            );
        }
    }
}

#[test]
fn blocks_that_were_never_written_are_zeros() {
    for shift in SHIFTS {
        let mut driver = ready(shift);
        assert_eq!(driver.read(1, 3, 4), vec![0; 4 * driver.block()]);
    }
}

#[test]
fn blocks_outside_of_the_namespace_are_refused() {
    for shift in SHIFTS {
        let mut driver = ready(shift);
        let end = blocks(&driver);
        let buffer = driver.buffer(8 * driver.block(), 0);
        for (start, count) in [
            (end, 1),
            (end - 1, 2),
            (end - 7, 8),
            (u64::MAX, 1),
            (u64::MAX, 2),
            (u64::MAX - 7, 8),
            (1 << 32, 1),
            (u64::MAX >> shift, 1),
            ((u64::MAX >> shift) + 1, 1),
            (1 << (64 - u32::from(shift)), 1),
        ] {
            for opcode in [
                CMD_READ,
                CMD_WRITE,
                CMD_WRITE_UNCOR,
                CMD_COMPARE,
                CMD_WRITE_ZEROES,
                CMD_VERIFY,
            ] {
                let sqe = Sqe::new(opcode).nsid(1).data(&buffer).blocks(start, count);
                driver.bad(1, sqe, &[LBA_RANGE]);
            }
        }
        assert!(
            driver.bench.disk.bytes.iter().all(|&byte| byte == 0),
            "nothing was written"
        );
        assert!(
            driver.content(&buffer).iter().all(|&byte| byte == 0xc5),
            "nothing was read"
        );
    }
}

#[test]
fn a_namespace_that_is_not_there_is_refused() {
    let mut driver = ready(9);
    let buffer = driver.buffer(512, 0);
    for nsid in [0, 2, 0xffff_fffe, NSID_ALL] {
        for opcode in [
            CMD_READ,
            CMD_WRITE,
            CMD_WRITE_UNCOR,
            CMD_COMPARE,
            CMD_WRITE_ZEROES,
            CMD_DSM,
            CMD_VERIFY,
        ] {
            let sqe = Sqe::new(opcode).nsid(nsid).data(&buffer).blocks(0, 1);
            driver.bad(1, sqe, &[INVALID_NS]);
        }
    }
    for nsid in [0, 2, 0xffff_fffe] {
        driver.bad(1, Sqe::new(CMD_FLUSH).nsid(nsid), &[INVALID_NS]);
    }
}

#[test]
fn flushing_all_namespaces_is_what_identify_says() {
    let mut driver = ready(9);
    let cache = driver.identify(CNS_CTRL, 0)[525];
    let status = driver.call(1, Sqe::new(CMD_FLUSH).nsid(NSID_ALL)).status;
    match cache >> 1 & 3 {
        2 => assert_eq!(status, INVALID_NS, "it is not supported"),
        3 => assert_eq!(status, SUCCESS, "it is supported"),
        other => panic!("a controller of NVMe 1.4 says which it is, not {other}"),
    }
}

#[test]
fn a_flush_makes_safe_what_was_written() {
    let mut driver = ready(9);
    driver.write(1, 0, &pattern(1, 4096));
    assert_ne!(driver.bench.disk.unflushed, 0, "there is a cache");
    driver.good(1, Sqe::new(CMD_FLUSH).nsid(1));
    assert_eq!(driver.bench.disk.unflushed, 0, "all data is safe");
}

#[test]
fn forced_unit_access_makes_a_write_safe() {
    let mut driver = ready(9);
    let buffer = driver.filled(&pattern(1, 1024), 0);
    for opcode in [CMD_WRITE, CMD_WRITE_ZEROES] {
        let sqe = Sqe::new(opcode).nsid(1).data(&buffer).blocks(4, 2);
        driver.good(1, sqe.dword(12, RW_FUA | 1));
        assert_eq!(driver.bench.disk.unflushed, 0, "{opcode} is safe");
    }
}

#[test]
fn hints_change_nothing() {
    let mut driver = ready(9);
    let buffer = driver.filled(&pattern(1, 1024), 0);
    // Dataset management hints, limited retry, and a directive that is not enabled.
    let sqe = Sqe::new(CMD_WRITE).nsid(1).data(&buffer).blocks(4, 2);
    driver.good(1, sqe.dword(12, RW_LR | 1).dword(13, 0xff));
    let sqe = Sqe::new(CMD_READ).nsid(1).data(&buffer).blocks(4, 2);
    driver.good(1, sqe.dword(12, RW_LR | RW_FUA | 1).dword(13, 0x7f));
    assert_eq!(driver.content(&buffer), pattern(1, 1024));
    let sqe = dsm(&mut driver, &[(4, 2)], DSM_IDR | DSM_IDW);
    driver.good(1, sqe);
    assert_eq!(driver.read(1, 4, 2), pattern(1, 1024));
}

#[test]
fn compare_finds_any_difference() {
    for shift in SHIFTS {
        let mut driver = ready(shift);
        let block = driver.block();
        let length = 6 * block;
        let mut bytes = pattern(5, length);
        driver.write(1, 10, &bytes);
        for offset in [0, 4, 2048, 4092] {
            let buffer = driver.filled(&bytes, offset);
            let sqe = Sqe::new(CMD_COMPARE).nsid(1).data(&buffer).blocks(10, 6);
            driver.good(1, sqe);
            assert_eq!(driver.content(&buffer), bytes, "comparing changes nothing");
        }
        for at in [0, 1, 511, 512, length / 2, length - 1] {
            bytes[at] ^= 0x10;
            let buffer = driver.filled(&bytes, 0);
            let sqe = Sqe::new(CMD_COMPARE).nsid(1).data(&buffer).blocks(10, 6);
            driver.bad(1, sqe, &[COMPARE_FAILED]);
            bytes[at] ^= 0x10;
        }
        assert_eq!(driver.read(1, 10, 6), bytes, "comparing changes nothing");
    }
}

#[test]
fn zeroes_are_written_without_data() {
    for shift in SHIFTS {
        let mut driver = ready(shift);
        let block = driver.block();
        for deallocate in [0, WZ_DEAC] {
            let bytes = pattern(6, 8 * block);
            driver.write(1, 20, &bytes);
            let sqe = Sqe::new(CMD_WRITE_ZEROES)
                .nsid(1)
                .prp(0xdead_beef_0001, 0x1234_5677)
                .blocks(22, 3);
            let before = driver.bench.disk.deallocated;
            driver.good(1, sqe.dword(12, 2 | deallocate));
            if deallocate == 0 {
                assert_eq!(
                    driver.bench.disk.deallocated, before,
                    "blocks are deallocated only when that is asked for"
                );
            }
            let mut expected = bytes;
            expected[2 * block..5 * block].fill(0);
            assert_eq!(driver.read(1, 20, 8), expected);
        }
    }
}

#[test]
fn zeroes_may_be_many_more_than_one_transfer_moves() {
    let mut driver = ready(9);
    let total = blocks(&driver);
    driver.write(1, 0, &pattern(1, 512));
    driver.write(1, total - 1, &pattern(1, 512));
    let sqe = Sqe::new(CMD_WRITE_ZEROES)
        .nsid(1)
        .blocks(0, total.min(0x10000) as u32);
    driver.good(1, sqe);
    assert!(
        driver.bench.disk.bytes.iter().all(|&byte| byte == 0),
        "all of the namespace is zeros"
    );
}

#[test]
fn ranges_are_deallocated_and_read_as_zeros() {
    for shift in SHIFTS {
        let mut driver = ready(shift);
        let block = driver.block();
        let mut expected = pattern(7, 32 * block);
        driver.write(1, 0, &expected);
        let ranges = [(0, 1), (3, 2), (16, 8), (30, 2), (9, 0)];
        let sqe = dsm(&mut driver, &ranges, DSM_AD);
        driver.good(1, sqe);
        for (start, count) in ranges {
            let at = start as usize * block;
            expected[at..at + count as usize * block].fill(0);
        }
        assert_eq!(driver.read(1, 0, 32), expected);
    }
}

#[test]
fn ranges_that_overlap_are_not_deallocated_for_ever() {
    let mut driver = ready(9);
    let capacity = driver.bench.disk.bytes.len() as u64;
    let whole = (0, blocks(&driver) as u32);
    let sqe = dsm(&mut driver, &[whole; 256], DSM_AD);
    driver.good(1, sqe);
    assert_eq!(driver.bench.disk.deallocated, capacity);
    // Whatever was left out, it has to be there.
    let sqe = dsm(
        &mut driver,
        &[whole, whole, (u64::from(whole.1), 1)],
        DSM_AD,
    );
    driver.bad(1, sqe, &[LBA_RANGE]);
}

#[test]
fn as_many_ranges_as_there_can_be() {
    let mut driver = ready(9);
    driver.write(1, 0, &vec![0xff; 256 << 10]);
    let ranges: Vec<(u64, u32)> = (0..256).map(|index| (index * 2, 1)).collect();
    let sqe = dsm(&mut driver, &ranges, DSM_AD);
    driver.good(1, sqe);
    for block in 0..512usize {
        let expected = if block % 2 == 0 { 0 } else { 0xff };
        assert_eq!(
            driver.bench.disk.bytes[block * 512..][..512],
            [expected; 512],
            "block {block}"
        );
    }
}

#[test]
fn ranges_may_straddle_pages() {
    let mut driver = ready(9);
    driver.write(1, 0, &vec![0xff; 16 << 10]);
    let mut bytes = Vec::new();
    for index in 0..20u64 {
        bytes.extend(0u32.to_le_bytes());
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(index.to_le_bytes());
    }
    for offset in [4, 4092, 4096 - 24, 4096 - 16] {
        let buffer = driver.filled(&bytes, offset);
        let sqe = Sqe::new(CMD_DSM)
            .nsid(1)
            .data(&buffer)
            .dword(10, 19)
            .dword(11, DSM_AD);
        driver.good(1, sqe);
    }
    assert_eq!(driver.read(1, 0, 20), vec![0; 20 * 512]);
    assert_eq!(driver.read(1, 20, 12), vec![0xff; 12 * 512]);
}

#[test]
fn ranges_outside_of_the_namespace_are_refused() {
    for shift in SHIFTS {
        let mut driver = ready(shift);
        let end = blocks(&driver);
        for range in [
            (end, 1),
            (end - 1, 2),
            (u64::MAX, 1),
            (0, u32::MAX),
            (u64::MAX, u32::MAX),
            (1 << (64 - u32::from(shift)), 1),
        ] {
            let sqe = dsm(&mut driver, &[(0, 1), range], DSM_AD);
            driver.bad(1, sqe, &[LBA_RANGE]);
        }
        let sqe = dsm(&mut driver, &[(0, end as u32)], DSM_AD);
        driver.good(1, sqe);
    }
}

#[test]
fn ranges_that_cannot_be_read_are_a_transfer_error() {
    let mut driver = ready(9);
    driver.write(1, 0, &vec![0xff; 4096]);
    let sqe = dsm(&mut driver, &[(0, 8)], DSM_AD).prp(0x7f00_0000_0000, 0);
    driver.bad(1, sqe, &[DATA_XFER_ERROR]);
    assert_eq!(driver.read(1, 0, 8), vec![0xff; 4096], "nothing happened");
}

#[test]
fn ranges_are_read_once() {
    let mut driver = ready(9);
    driver.write(1, 0, &vec![0xff; 16 << 10]);
    let sqe = dsm(&mut driver, &[(0, 1), (2, 1), (4, 1)], DSM_AD);
    let at = u64::from(sqe.get_dword(6)) | u64::from(sqe.get_dword(7)) << 32;
    let range = at..at + 48;
    driver
        .bench
        .memory
        .ambush(Moment::AfterRead, range.clone(), vec![(at, vec![0xff; 48])]);
    driver.bench.memory.forget();
    driver.good(1, sqe);
    assert_eq!(
        driver.bench.memory.count(Direction::Read, range),
        1,
        "each range is read once"
    );
    for block in [0usize, 2, 4] {
        assert_eq!(driver.bench.disk.bytes[block * 512], 0, "block {block}");
    }
}

#[test]
fn data_moves_once() {
    let mut driver = ready(9);
    let buffer = driver.filled(&pattern(8, 8192), 0);
    for (opcode, direction) in [
        (CMD_WRITE, Direction::Read),
        (CMD_READ, Direction::Write),
        (CMD_COMPARE, Direction::Read),
    ] {
        driver.bench.memory.forget();
        let sqe = Sqe::new(opcode).nsid(1).data(&buffer).blocks(0, 16);
        driver.good(1, sqe);
        let moved: usize = driver
            .bench
            .memory
            .log()
            .iter()
            .filter(|access| access.direction == direction)
            .filter(|access| buffer.pages.contains(&(access.address & !0xfff)))
            .map(|access| access.length)
            .sum();
        assert_eq!(moved, 8192, "each byte of {opcode} moves once");
    }
}

#[test]
fn the_largest_transfer_works_and_a_larger_one_is_refused() {
    for shift in SHIFTS {
        let mut driver = ready(shift);
        let most = 512usize << 10;
        for offset in [0, 512, 4092] {
            let bytes = pattern(offset as u8, most);
            let count = (most >> shift) as u32;
            let buffer = driver.filled(&bytes, offset);
            let sqe = |opcode| Sqe::new(opcode).nsid(1).data(&buffer).blocks(2, count);
            driver.good(1, sqe(CMD_WRITE));
            driver.good(1, sqe(CMD_COMPARE));
            let back = driver.buffer(most, 4096 - offset.max(4));
            driver.good(1, Sqe::new(CMD_READ).nsid(1).data(&back).blocks(2, count));
            assert_eq!(driver.content(&back), bytes, "at offset {offset}");
        }
        let block = driver.block();
        let buffer = driver.buffer(most + block, 0);
        for opcode in [CMD_READ, CMD_WRITE, CMD_COMPARE] {
            let count = (most >> shift) as u32 + 1;
            let sqe = Sqe::new(opcode).nsid(1).data(&buffer).blocks(0, count);
            driver.bad(1, sqe, &[INVALID_FIELD]);
        }
    }
}

#[test]
fn trouble_of_the_medium_is_reported_as_such() {
    let mut driver = ready(9);
    let buffer = driver.buffer(4096, 0);
    let ranges = dsm(&mut driver, &[(0, 1)], DSM_AD);
    let sqe = |opcode| Sqe::new(opcode).nsid(1).data(&buffer).blocks(0, 8);

    driver.bench.disk.trouble = Some(Trouble::Medium);
    driver.bad(1, sqe(CMD_READ), &[READ_ERROR]);
    driver.bad(1, sqe(CMD_COMPARE), &[READ_ERROR]);
    driver.bad(1, sqe(CMD_WRITE), &[WRITE_FAULT]);
    driver.bad(1, sqe(CMD_WRITE_ZEROES), &[WRITE_FAULT]);
    driver.bad(1, ranges, &[WRITE_FAULT, INTERNAL]);
    driver.bad(1, Sqe::new(CMD_FLUSH).nsid(1), &[WRITE_FAULT, INTERNAL]);

    driver.bench.disk.trouble = Some(Trouble::Full);
    driver.bad(1, sqe(CMD_WRITE), &[CAP_EXCEEDED]);
    driver.bad(1, sqe(CMD_WRITE_ZEROES), &[CAP_EXCEEDED]);

    driver.bench.disk.trouble = None;
    driver.good(1, sqe(CMD_WRITE));
}

#[test]
fn a_transfer_that_fails_anywhere_is_an_error_and_the_next_one_works() {
    let mut driver = ready(9);
    let bytes = pattern(3, 16 << 10);
    let buffer = driver.filled(&bytes, 512);
    for opcode in [CMD_WRITE, CMD_READ, CMD_COMPARE] {
        for page in 0..buffer.pages.len() {
            let at = buffer.pages[page];
            driver.bench.memory.break_down(at..at + 4096);
            let sqe = Sqe::new(opcode).nsid(1).data(&buffer).blocks(0, 32);
            driver.bad(1, sqe, &[DATA_XFER_ERROR]);
            driver.bench.memory.repair();
        }
        driver.fill(&buffer, &bytes);
        let sqe = Sqe::new(CMD_WRITE).nsid(1).data(&buffer).blocks(0, 32);
        driver.good(1, sqe);
        assert_eq!(driver.read(1, 0, 32), bytes);
    }
}

#[test]
fn blocks_around_a_write_stay() {
    let mut driver = ready(9);
    driver.write(1, 0, &vec![0xee; 32 << 10]);
    for (start, count) in [(1usize, 1usize), (7, 2), (15, 17), (40, 8)] {
        let bytes = pattern(start as u8, count * 512);
        let before = driver.bench.disk.bytes.clone();
        driver.write(1, start as u64, &bytes);
        let mut expected = before;
        expected[start * 512..(start + count) * 512].copy_from_slice(&bytes);
        assert_eq!(
            driver.bench.disk.bytes, expected,
            "{count} blocks at {start}"
        );
    }
}

#[test]
fn the_store_is_told_of_reads_that_wait_for_others() {
    let mut driver = ready(9);
    let buffer = driver.buffer(4096, 0);
    let sqe = |opcode, start| Sqe::new(opcode).nsid(1).data(&buffer).blocks(start, 8);
    driver.bench.budget = 100;
    let before = driver.bench.disk.requests;
    let commands = [
        sqe(CMD_READ, 0),
        sqe(CMD_WRITE, 8),
        sqe(CMD_READ, 16),
        sqe(CMD_COMPARE, 32),
        sqe(CMD_READ, u64::MAX / 2),
        sqe(CMD_READ, 48),
    ];
    let cids: Vec<u16> = commands.map(|sqe| driver.enqueue(1, sqe)).to_vec();
    driver.ring_sq(1);
    driver.pump();
    let expected = [16, 32, 48].map(|block| (block * 512, 4096, before));
    assert_eq!(
        driver.bench.disk.expected, expected,
        "offset, length, and requests before that"
    );
    for (index, cid) in cids.into_iter().enumerate() {
        let completion = driver.take(1, cid).expect("it completes");
        let good = if index == 4 { LBA_RANGE } else { SUCCESS };
        assert_eq!(completion.status, good, "command {index}");
    }

    driver.bench.disk.expected.clear();
    driver.good(1, sqe(CMD_READ, 0));
    assert_eq!(driver.bench.disk.expected, [], "one by itself is just read");

    driver.bench.disk.has_to_wait = false;
    for block in [0, 16] {
        driver.enqueue(1, sqe(CMD_READ, block));
    }
    driver.ring_sq(1);
    driver.pump();
    assert_eq!(driver.bench.disk.expected, [], "a store that does not care");
}
