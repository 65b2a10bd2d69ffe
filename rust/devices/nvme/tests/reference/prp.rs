// SPDX-License-Identifier: GPL-2.0

//! PRP entries and lists, section 4.3.

use crate::driver::{
    pattern,
    Buffer,
    Driver,
    Setup,
    Sqe, //
};
use crate::memory::{
    Direction,
    Moment, //
};
use crate::spec::*;

/// An address where nothing is mapped.
const NOWHERE: u64 = 0x7f00_0000_0000;
/// Statuses for a PRP entry of 0, which is an address like any other where nothing is mapped.
const NO_ENTRY: [Status; 3] = [INVALID_FIELD, PRP_OFFSET_INVALID, DATA_XFER_ERROR];

fn transfer(opcode: u8, buffer: &Buffer) -> Sqe {
    Sqe::new(opcode)
        .nsid(1)
        .data(buffer)
        .blocks(0, (buffer.length / 512) as u32)
}

/// Writes from one buffer and reads into a like one.
fn round_trip(driver: &mut Driver, length: usize, offset: usize, list_offset: usize) {
    let bytes = pattern((offset / 4 + list_offset) as u8, length);
    let from = driver.buffer_with_list(length, offset, list_offset);
    driver.fill(&from, &bytes);
    driver.good(1, transfer(CMD_WRITE, &from));
    assert_eq!(
        driver.bench.disk.bytes[..length],
        bytes,
        "{length} bytes at offset {offset} with a list at {list_offset} are written"
    );
    let into = driver.buffer_with_list(length, offset, list_offset);
    driver.good(1, transfer(CMD_READ, &into));
    assert_eq!(
        driver.content(&into),
        bytes,
        "{length} bytes at offset {offset} with a list at {list_offset} are read"
    );
    driver.free(&from);
    driver.free(&into);
}

#[test]
fn data_may_begin_at_any_dword() {
    let mut driver = Driver::ready();
    for length in [512, 1024, 4096, 4608, 8192, 12 << 10] {
        for offset in [0, 4, 8, 508, 512, 2048, 3584, 3588, 4088, 4092] {
            round_trip(&mut driver, length, offset, 0);
        }
    }
}

#[test]
fn a_list_may_begin_anywhere_in_its_page() {
    let mut driver = Driver::ready();
    for list_offset in [0, 8, 16, 2048, 4072, 4080, 4088] {
        for pages in [3, 4, 5, 6, 9] {
            round_trip(&mut driver, pages * 4096, 0, list_offset);
            round_trip(&mut driver, pages * 4096 - 512, 1024, list_offset);
        }
    }
}

#[test]
fn the_last_place_of_a_page_is_an_entry_if_no_other_follows() {
    let mut driver = Driver::ready();
    // The first page is not in the list.
    for (pages, list_offset, lists) in [(3, 4080, 1), (4, 4080, 2), (3, 4088, 2)] {
        let buffer = driver.buffer_with_list(pages * 4096, 0, list_offset);
        assert_eq!(buffer.lists.len(), lists, "pages of the list");
        round_trip(&mut driver, pages * 4096, 0, list_offset);
    }
}

#[test]
fn the_largest_transfers_have_chained_lists() {
    let mut driver = Driver::ready();
    for (offset, list_offset) in [(0, 0), (4, 4088), (4092, 4080), (2048, 3072 + 8)] {
        round_trip(&mut driver, 512 << 10, offset, list_offset);
    }
}

#[test]
fn the_second_entry_is_only_looked_at_when_it_is_needed() {
    let mut driver = Driver::ready();
    driver.write(1, 0, &pattern(1, 4096));
    for (length, offset) in [(512, 0), (512, 3584), (4096, 0)] {
        let buffer = driver.buffer(length, offset);
        for junk in [0, 1, NOWHERE, u64::MAX] {
            let sqe = transfer(CMD_READ, &buffer).prp(buffer.prp1, junk);
            driver.good(1, sqe);
            assert_eq!(driver.content(&buffer), pattern(1, 4096)[..length]);
        }
    }
}

#[test]
fn entries_after_the_first_have_no_offset() {
    let mut driver = Driver::ready();
    for opcode in [CMD_READ, CMD_WRITE, CMD_COMPARE] {
        for wrong in [4, 8, 512, 4092] {
            // The second of two.
            let buffer = driver.buffer(8192, 0);
            let sqe = transfer(opcode, &buffer).prp(buffer.prp1, buffer.prp2 + wrong);
            driver.bad(1, sqe, &[PRP_OFFSET_INVALID]);

            // Each one of a list.
            let buffer = driver.buffer_with_list(5 * 4096, 0, 4072);
            for &entry in &buffer.entries {
                let good = driver.bench.memory.get(entry, 8);
                let address = u64::from_le_bytes(good.clone().try_into().expect("8 bytes"));
                driver
                    .bench
                    .memory
                    .put(entry, &(address + wrong).to_le_bytes());
                driver.bad(1, transfer(opcode, &buffer), &[PRP_OFFSET_INVALID]);
                driver.bench.memory.put(entry, &good);
            }
            driver.free(&buffer);
        }
    }
}

#[test]
fn a_list_begins_at_a_multiple_of_eight() {
    let mut driver = Driver::ready();
    let buffer = driver.buffer(3 * 4096, 0);
    for wrong in [1, 2, 4, 7] {
        let sqe = transfer(CMD_READ, &buffer).prp(buffer.prp1, buffer.prp2 + wrong);
        driver.bad(1, sqe, &[PRP_OFFSET_INVALID, INVALID_FIELD]);
    }
}

#[test]
fn a_chained_list_begins_with_its_page() {
    let mut driver = Driver::ready();
    let buffer = driver.buffer_with_list(4 * 4096, 0, 4080);
    assert_eq!(buffer.lists.len(), 2);
    let chain = buffer.lists[0] + 4088;
    for wrong in [1, 4, 8, 2048] {
        driver
            .bench
            .memory
            .put(chain, &(buffer.lists[1] + wrong).to_le_bytes());
        driver.bad(
            1,
            transfer(CMD_READ, &buffer),
            &[PRP_OFFSET_INVALID, INVALID_FIELD],
        );
    }
}

#[test]
fn the_first_entry_is_refused_or_rounded_to_a_dword() {
    let mut driver = Driver::ready();
    driver.write(1, 0, &pattern(2, 512));
    for offset in [1u64, 2, 3] {
        let buffer = driver.buffer(512, 64);
        let sqe = transfer(CMD_READ, &buffer).prp(buffer.prp1 + offset, 0);
        let status = driver.call(1, sqe).status;
        if status == SUCCESS {
            assert_eq!(driver.content(&buffer), pattern(2, 512), "rounded down");
        } else {
            assert!(
                [PRP_OFFSET_INVALID, INVALID_FIELD].contains(&status),
                "offset {offset} gives {status:?}"
            );
        }
    }
}

#[test]
fn an_entry_of_zero_is_an_error() {
    let mut driver = Driver::ready();
    for opcode in [CMD_READ, CMD_WRITE, CMD_COMPARE] {
        let one = driver.buffer(512, 0);
        driver.bad(1, transfer(opcode, &one).prp(0, 0), &NO_ENTRY);
        let two = driver.buffer(8192, 0);
        driver.bad(1, transfer(opcode, &two).prp(two.prp1, 0), &NO_ENTRY);
        let many = driver.buffer(5 * 4096, 0);
        driver.bad(1, transfer(opcode, &many).prp(many.prp1, 0), &NO_ENTRY);
        for &entry in &many.entries {
            let good = driver.bench.memory.get(entry, 8);
            driver.bench.memory.put(entry, &[0; 8]);
            driver.bad(1, transfer(opcode, &many), &NO_ENTRY);
            driver.bench.memory.put(entry, &good);
        }
    }
}

#[test]
fn a_list_that_cannot_be_read_is_a_transfer_error() {
    let mut driver = Driver::ready();
    for opcode in [CMD_READ, CMD_WRITE, CMD_COMPARE] {
        let buffer = driver.buffer_with_list(6 * 4096, 0, 4072);
        for &list in &buffer.lists {
            driver.bench.memory.break_down(list..list + 4096);
            driver.bad(1, transfer(opcode, &buffer), &[DATA_XFER_ERROR]);
            driver.bench.memory.repair();
        }
        let sqe = transfer(opcode, &buffer).prp(buffer.prp1, NOWHERE);
        driver.bad(1, sqe, &[DATA_XFER_ERROR]);
        let sqe = transfer(opcode, &buffer).prp(buffer.prp1, !7);
        driver.bad(1, sqe, &[DATA_XFER_ERROR]);
    }
}

#[test]
fn addresses_at_the_end_of_memory_do_not_wrap() {
    let mut driver = Driver::ready();
    driver.bench.memory.map(0);
    for opcode in [CMD_READ, CMD_WRITE] {
        for prp1 in [!3, !0xfff, u64::MAX - 511] {
            let sqe = Sqe::new(opcode).nsid(1).prp(prp1, 0).blocks(0, 1);
            let status = driver.call(1, sqe).status;
            assert_ne!(status, SUCCESS, "{prp1:#x} is not memory");
        }
    }
    assert_eq!(
        driver.bench.memory.get(0, 4096),
        vec![0xc5; 4096],
        "the first page is left alone"
    );
}

#[test]
fn a_list_that_points_to_itself_ends() {
    let mut driver = Driver::ready();
    let page = driver.page();
    // Each place is a pointer to the list, be it as data or as a chain.
    driver
        .bench
        .memory
        .put(page, &page.to_le_bytes().repeat(512));
    for list_offset in [0, 8, 4088] {
        for opcode in [CMD_WRITE, CMD_COMPARE, CMD_READ] {
            let sqe = Sqe::new(opcode)
                .nsid(1)
                .prp(page, page + list_offset)
                .blocks(0, 1024);
            driver.call(1, sqe);
        }
    }
    driver.revive();
}

#[test]
fn entries_are_read_once() {
    let mut driver = Driver::ready();
    let bytes = pattern(4, 24 << 10);
    driver.write(1, 0, &bytes);
    let buffer = driver.buffer_with_list(bytes.len(), 0, 4072);
    for &list in &buffer.lists {
        // An entry that is good at first points nowhere later.
        driver.bench.memory.ambush(
            Moment::AfterRead,
            list..list + 4096,
            vec![(list, vec![0xff; 4096])],
        );
    }
    driver.bench.memory.forget();
    driver.good(1, transfer(CMD_READ, &buffer));
    assert_eq!(driver.content(&buffer), bytes);
    for &entry in &buffer.entries {
        assert_eq!(
            driver.bench.memory.count(Direction::Read, entry..entry + 8),
            1,
            "the entry at {entry:#x} is read once"
        );
    }
}

#[test]
fn the_same_page_may_be_named_twice() {
    let mut driver = Driver::ready();
    let buffer = driver.filled(&pattern(5, 4096), 0);
    let sqe = Sqe::new(CMD_WRITE)
        .nsid(1)
        .prp(buffer.pages[0], buffer.pages[0])
        .blocks(0, 16);
    driver.good(1, sqe);
    assert_eq!(driver.read(1, 0, 8), pattern(5, 4096));
    assert_eq!(driver.read(1, 8, 8), pattern(5, 4096));
}

#[test]
fn blocks_of_4096_bytes_may_straddle_pages() {
    let setup = Setup {
        lba_shift: 12,
        ..Setup::default()
    };
    let mut driver = Driver::with_queues(setup, 1, 8);
    for (count, offset) in [
        (1, 0),
        (1, 4),
        (1, 2048),
        (1, 4092),
        (2, 4),
        (3, 512),
        (9, 4088),
    ] {
        let bytes = pattern(count as u8, count * 4096);
        let from = driver.filled(&bytes, offset);
        let sqe = |opcode, buffer: &Buffer| {
            Sqe::new(opcode)
                .nsid(1)
                .data(buffer)
                .blocks(7, count as u32)
        };
        driver.good(1, sqe(CMD_WRITE, &from));
        driver.good(1, sqe(CMD_COMPARE, &from));
        let into = driver.buffer(bytes.len(), 4096 - 4 - offset / 4 * 4);
        driver.good(1, sqe(CMD_READ, &into));
        assert_eq!(
            driver.content(&into),
            bytes,
            "{count} blocks at offset {offset}"
        );
    }
}

#[test]
fn memory_pages_may_be_larger() {
    let largest = {
        let mut driver = Driver::ready();
        (driver.bench.read64(REG_CAP) >> CAP_MPSMAX_SHIFT & 0xf) as u32
    };
    for page_shift in 1..=largest {
        let setup = Setup {
            page_shift,
            ..Setup::default()
        };
        let mut driver = Driver::with_queues(setup, 1, 8);
        let page = driver.page_size();
        driver.identify(CNS_CTRL, 0);
        for (length, offset, list_offset) in [
            (512, 0, 0),
            (512, 4096, 0),
            (4096, page - 512, 0),
            (8192, page - 4, 0),
            (page, 0, 0),
            (page + 512, 0, 0),
            (2 * page, 4, 0),
            (3 * page, page - 4, page - 8),
            (4 * page, 4096, page - 16),
            (4 * page, 0, 4096 - 8),
            (512 << 10, 4, page - 8),
        ] {
            round_trip(&mut driver, length, offset, list_offset);
        }

        // An address in the middle of a page is not one of a page.
        let buffer = driver.buffer(2 * page, 0);
        let sqe = transfer(CMD_READ, &buffer).prp(buffer.prp1, buffer.prp2 + 4096);
        driver.bad(1, sqe, &[PRP_OFFSET_INVALID]);
        let base = driver.page() + 4096;
        for opcode in [ADMIN_CREATE_CQ, ADMIN_CREATE_SQ] {
            let sqe = Sqe::new(opcode)
                .prp(base, 0)
                .dword(10, 1 << 16 | 2)
                .dword(11, QUEUE_PHYS_CONTIG | 1 << 16);
            driver.bad(0, sqe, &[PRP_OFFSET_INVALID, INVALID_FIELD]);
        }
        let good = driver.page();
        for (prp1, prp2) in [(base, good), (good, base)] {
            let sqe = Sqe::new(ADMIN_DBBUF).prp(prp1, prp2);
            driver.bad(0, sqe, &[PRP_OFFSET_INVALID, INVALID_FIELD]);
        }
        driver.revive();
    }
}
