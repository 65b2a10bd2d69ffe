// SPDX-License-Identifier: GPL-2.0

//! Write Uncorrectable, section 6.16: blocks that cannot be read until they are written.

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

fn ready(shift: u8, capacity: u64) -> Driver {
    let parameters = Parameters {
        capacity,
        ..parameters(shift)
    };
    let mut driver = Driver::with_parameters(Setup::default(), parameters);
    driver.create_queues(1, 16);
    driver
}

fn mark(start: u64, count: u32) -> Sqe {
    Sqe::new(CMD_WRITE_UNCOR).nsid(1).blocks(start, count)
}

/// Checks for each block that exactly the `marked` ones cannot be read, compared and verified.
#[track_caller]
fn expect_marked(driver: &mut Driver, first: u64, marked: &[bool]) {
    let buffer = driver.buffer(driver.block(), 0);
    for (block, &marked) in (first..).zip(marked) {
        // What was read compares equal.
        for opcode in [CMD_READ, CMD_VERIFY, CMD_COMPARE] {
            let sqe = Sqe::new(opcode).nsid(1).data(&buffer).blocks(block, 1);
            let seen = driver.call(1, sqe);
            let expected = if marked { READ_ERROR } else { SUCCESS };
            assert_eq!(seen.status, expected, "opcode {opcode:#x} of block {block}");
            assert_eq!(seen.dnr, marked, "a retry would fail as well");
        }
    }
    driver.free(&buffer);
}

#[test]
fn marked_blocks_cannot_be_read_until_they_are_written() {
    for shift in [9, 12] {
        let mut driver = ready(shift, 1 << 20);
        let block = driver.block();
        driver.write(1, 0, &pattern(1, 32 * block));
        driver.good(1, mark(3, 20));
        let mut marked = [false; 32];
        marked[3..23].fill(true);
        expect_marked(&mut driver, 0, &marked);
        // One marked block among those of a command is enough.
        let buffer = driver.filled(&vec![7; 8 * block], 0);
        for (start, count) in [(0, 4), (22, 2), (0, 8)] {
            let sqe = Sqe::new(CMD_READ)
                .nsid(1)
                .data(&buffer)
                .blocks(start, count);
            driver.bad(1, sqe, &[READ_ERROR]);
        }
        assert_eq!(
            driver.content(&buffer),
            vec![7; 8 * block],
            "nothing is read"
        );

        // Whatever writes a block, its neighbours stay as they are.
        driver.write(1, 5, &pattern(2, 2 * block));
        marked[5..7].fill(false);
        let zeroes = Sqe::new(CMD_WRITE_ZEROES).nsid(1).blocks(9, 1);
        driver.good(1, zeroes);
        driver.good(1, zeroes.blocks(10, 1).dword(12, WZ_DEAC));
        marked[9..11].fill(false);
        let mut range = vec![0; 16];
        range[4] = 3;
        range[8] = 14;
        let ranges = driver.filled(&range, 0);
        let sqe = Sqe::new(CMD_DSM).nsid(1).data(&ranges).dword(11, DSM_AD);
        driver.good(1, sqe);
        marked[14..17].fill(false);
        expect_marked(&mut driver, 0, &marked);
        assert_eq!(driver.read(1, 5, 2), pattern(2, 2 * block));
        assert_eq!(driver.read(1, 9, 2), vec![0; 2 * block]);

        // Marks outlive resets and moves, as the content does.
        driver.bench.relocate();
        driver.reset();
        driver.enable();
        driver.create_queues(1, 16);
        expect_marked(&mut driver, 0, &marked);
        let data = pattern(3, 32 * block);
        driver.write(1, 0, &data);
        expect_marked(&mut driver, 0, &[false; 32]);
        assert_eq!(driver.read(1, 0, 32), data);
        assert!(
            driver.bench.disk.marks.iter().all(|&byte| byte == 0),
            "no mark is left"
        );
    }
}

#[test]
fn any_number_of_blocks_can_be_marked() {
    for shift in [9u8, 12] {
        let capacity = 64 << 20;
        let mut driver = ready(shift, capacity);
        let blocks = capacity >> shift;
        for start in (0..blocks).step_by(0x10000) {
            driver.good(1, mark(start, (blocks - start).min(0x10000) as u32));
        }
        // As many holes as there can be.
        let block = pattern(1, driver.block());
        for at in (0..blocks).step_by(blocks as usize / 512) {
            driver.write(1, at, &block);
        }
        for at in (0..blocks).step_by(blocks as usize / 512) {
            expect_marked(&mut driver, at, &[false, true]);
        }
        expect_marked(&mut driver, blocks - 1, &[true]);
        let mut range = vec![0; 16];
        range[4..8].copy_from_slice(&(blocks as u32).to_le_bytes());
        let ranges = driver.filled(&range, 0);
        let sqe = Sqe::new(CMD_DSM).nsid(1).data(&ranges).dword(11, DSM_AD);
        driver.good(1, sqe);
        assert!(
            driver.bench.disk.marks.iter().all(|&byte| byte == 0),
            "no mark is left"
        );
        expect_marked(&mut driver, blocks - 1, &[false]);
    }
}

#[test]
fn without_marks_a_command_asks_the_store_once() {
    let mut driver = ready(9, 1 << 20);
    driver.write(1, 0, &[1; 512]);
    let before = driver.bench.disk.requests;
    driver.write(1, 0, &[2; 512]);
    driver.read(1, 0, 1);
    assert_eq!(driver.bench.disk.requests - before, 2, "a write and a read");
}

#[test]
fn a_store_without_room_for_marks_says_so() {
    let mut driver = ready(9, 1 << 20);
    for (trouble, status) in [
        (Trouble::Full, CAP_EXCEEDED),
        (Trouble::Medium, WRITE_FAULT),
    ] {
        driver.bench.disk.trouble = Some(trouble);
        driver.bad(1, mark(0, 8), &[status]);
        driver.bench.disk.trouble = None;
    }
    expect_marked(&mut driver, 0, &[false; 8]);
}

#[test]
fn a_store_that_keeps_no_marks_has_no_such_command() {
    let parameters = Parameters {
        store: nvme::STORE_ZEROING + 1,
        ..parameters(9)
    };
    let mut driver = Driver::with_parameters(Setup::default(), parameters);
    driver.create_queues(1, 16);
    driver.bad(1, mark(0, 8), &[INVALID_OPCODE]);
    let oncs = u16::from(driver.identify(CNS_CTRL, 0)[520]);
    assert_eq!(oncs & ONCS_WRITE_UNCOR, 0, "ONCS {oncs:#x}");
    let log = driver.log_page(LOG_EFFECTS, 4096, false);
    let at = 1024 + 4 * usize::from(CMD_WRITE_UNCOR);
    assert_eq!(log[at..at + 4], [0; 4], "effects of Write Uncorrectable");

    // A state that says otherwise is none.
    let mut marked = ready(9, 1 << 20);
    marked.good(1, mark(0, 8));
    let state = marked.bench.save();
    let refused = crate::bench::from_state(&parameters, &state).expect_err("there are marks");
    assert_eq!(
        refused.to_string(),
        "blocks are marked, but the store keeps no marks"
    );
}
