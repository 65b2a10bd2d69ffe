// SPDX-License-Identifier: GPL-2.0

//! Commands that a store executes while the controller goes on. Section 4.1.1: commands in flight are independent, and
//! complete in any order.

use nvme::{
    NamespaceParameters,
    Parameters, //
};

use crate::bench::parameters;
use crate::disk::{
    Concurrent,
    Trouble, //
};
use crate::driver::{
    pattern,
    Driver,
    Setup,
    Sqe, //
};
use crate::spec::*;

/// A driver with two queue pairs, whose disk executes `room` requests while the controller goes on.
fn concurrent(room: usize) -> Driver {
    let mut driver = Driver::with_queues(Setup::default(), 2, 64);
    driver.bench.disk.concurrent = Some(Concurrent::new(room, 5));
    driver
}

/// Lets the controller work while the disk is done with nothing.
fn work(driver: &mut Driver) {
    while driver.bench.kicked {
        driver.bench.work(7);
    }
}

/// Number of requests that the disk executes.
fn under_way(driver: &Driver) -> usize {
    let concurrent = driver.bench.disk.concurrent.as_ref();
    concurrent.map_or(0, |concurrent| concurrent.under_way.len())
}

/// Reads of one block each, of block 0 and those that follow.
fn submit_reads(driver: &mut Driver, queue: u16, count: u64) -> Vec<(u16, crate::driver::Buffer)> {
    let reads = (0..count)
        .map(|start| {
            let target = driver.buffer(driver.block(), 0);
            let read = Sqe::new(CMD_READ).nsid(1).blocks(start, 1).data(&target);
            (driver.enqueue(queue, read), target)
        })
        .collect();
    driver.ring_sq(queue);
    reads
}

#[test]
fn commands_of_a_queue_complete_in_the_order_in_which_the_store_is_done() {
    let mut driver = concurrent(64);
    let block = driver.block();
    let content = pattern(3, 20 * block);
    driver.write(1, 0, &content);

    let reads = submit_reads(&mut driver, 1, 20);
    work(&mut driver);
    assert_eq!(under_way(&driver), 20, "all are under way");
    assert_eq!(driver.reap(1), 0, "none is complete");

    let mut order = Vec::new();
    while driver.bench.advance() {
        work(&mut driver);
        assert_eq!(driver.reap(1), 1, "one more is complete");
        let index = reads
            .iter()
            .position(|(cid, _)| driver.done.contains_key(&(1, *cid)))
            .expect("it is one of the reads");
        let (cid, target) = &reads[index];
        assert_eq!(driver.take(1, *cid).expect("it completed").status, SUCCESS);
        let expected = &content[index * block..][..block];
        assert_eq!(driver.content(target), expected, "block {index}");
        order.push(index);
    }
    assert_eq!(order.len(), 20);
    assert!(!order.is_sorted(), "another order than that of the queue");
}

#[test]
fn more_commands_than_the_store_takes_wait_in_their_queue() {
    for room in [1, 3, 100] {
        let mut driver = concurrent(room);
        // More than there are tags, too.
        let first = submit_reads(&mut driver, 1, 63);
        let second = submit_reads(&mut driver, 2, 63);
        work(&mut driver);
        assert_eq!(under_way(&driver), room.min(64));
        driver.pump();
        for (queue, reads) in [(1, first), (2, second)] {
            for (cid, _) in reads {
                let completion = driver.take(queue, cid).expect("it completed");
                assert_eq!(completion.status, SUCCESS);
            }
        }
    }
}

#[test]
fn a_store_without_room_holds_no_other_queue_up() {
    let parameters = Parameters {
        others: [
            Some(NamespaceParameters {
                capacity: 2 << 20,
                lba_shift: 9,
                store: nvme::STORE_ZEROING,
            }),
            None,
            None,
        ],
        ..parameters(9)
    };
    let mut driver = Driver::with_parameters(Setup::default(), parameters);
    driver.create_queues(2, 16);
    driver.bench.disk.concurrent = Some(Concurrent::new(2, 5));
    let waiting = submit_reads(&mut driver, 1, 5);
    work(&mut driver);

    let target = driver.buffer(512, 0);
    let other = Sqe::new(CMD_READ).nsid(2).blocks(0, 1).data(&target);
    let cid = driver.submit(2, other);
    work(&mut driver);
    driver.interrupts();
    assert!(driver.take(2, cid).is_some(), "it completed");
    assert!(driver.done.is_empty(), "the others did not");
    driver.pump();
    assert_eq!(driver.done.len(), waiting.len());
}

#[test]
fn a_completion_queue_keeps_room_for_each_command_in_flight() {
    let mut driver = concurrent(64);
    assert_eq!(driver.create_cq(3, 4, Some(3)), SUCCESS);
    assert_eq!(driver.create_sq(3, 16, 3), SUCCESS);
    assert_eq!(driver.create_sq(4, 16, 3), SUCCESS);
    submit_reads(&mut driver, 3, 10);
    submit_reads(&mut driver, 4, 10);
    work(&mut driver);
    assert_eq!(under_way(&driver), 3, "as many as completions fit");
    let mut reaped = 0;
    while reaped < 20 {
        assert!(driver.bench.advance(), "one is under way");
        work(&mut driver);
        reaped += driver.reap(3);
        work(&mut driver);
    }
}

#[test]
fn a_queue_is_deleted_when_its_commands_have_completed() {
    let mut driver = concurrent(64);
    let block = driver.block();
    let source = driver.filled(&pattern(8, block), 0);
    let write = Sqe::new(CMD_WRITE).nsid(1).blocks(9, 1).data(&source);
    let cids = [driver.submit(1, write), driver.submit(1, write)];
    work(&mut driver);
    let deletion = driver.submit(0, Sqe::new(ADMIN_DELETE_SQ).dword(10, 1));
    // What comes after it does not begin before, so that the wait ends.
    let later = submit_reads(&mut driver, 2, 1);
    work(&mut driver);
    assert_eq!(under_way(&driver), 2);
    assert_eq!(driver.reap(0), 0, "the deletion waits");

    assert!(driver.bench.advance());
    work(&mut driver);
    assert_eq!(driver.reap(0), 0, "for all commands");
    assert!(driver.bench.advance());
    work(&mut driver);
    assert_eq!(driver.reap(0), 1, "the deletion completes");
    assert_eq!(driver.reap(1), 2, "after the commands");
    for cid in cids {
        assert_eq!(driver.take(1, cid).expect("a completion").status, SUCCESS);
    }
    assert_eq!(driver.take(0, deletion).expect("one").status, SUCCESS);
    driver.pump();
    assert!(driver.take(2, later[0].0).is_some(), "others go on");
}

#[test]
fn an_admin_command_that_waits_comes_before_more_io() {
    let mut driver = concurrent(64);
    // The budget ends behind queue 1, so that queue 2 is the next one.
    submit_reads(&mut driver, 1, 1);
    driver.bench.work(1);
    submit_reads(&mut driver, 2, 2);
    let threshold = Sqe::new(ADMIN_SET_FEATURES)
        .dword(10, FEAT_TEMP_THRESH.into())
        .dword(11, 0x150);
    let cid = driver.submit(0, threshold);
    let mut rounds = 0;
    while driver.take(0, cid).is_none() {
        rounds += 1;
        assert!(
            rounds < 100,
            "a guest that always has I/O starves the admin queue"
        );
        // Each time the disk is done with all, more commands are there.
        work(&mut driver);
        while driver
            .bench
            .disk
            .concurrent
            .as_mut()
            .is_some_and(Concurrent::advance)
        {}
        submit_reads(&mut driver, 2, 2);
        work(&mut driver);
        for queue in 0..=2 {
            driver.reap(queue);
        }
    }
}

#[test]
fn a_format_waits_for_the_commands_in_flight() {
    let mut driver = concurrent(64);
    let block = driver.block();
    let source = driver.filled(&pattern(8, block), 0);
    driver.submit(1, Sqe::new(CMD_WRITE).nsid(1).blocks(9, 1).data(&source));
    work(&mut driver);
    let format = driver.submit(0, Sqe::new(ADMIN_FORMAT).nsid(1));
    work(&mut driver);
    assert_eq!(driver.reap(0), 0);
    driver.pump();
    assert_eq!(driver.take(0, format).expect("it ends").status, SUCCESS);
    assert_eq!(driver.read(1, 9, 1), vec![0; block]);
}

#[test]
fn nothing_of_a_reset_controller_reaches_memory_and_the_next_waits_for_the_store() {
    let mut driver = concurrent(64);
    let block = driver.block();
    let source = driver.filled(&pattern(8, block), 0);
    submit_reads(&mut driver, 1, 5);
    driver.submit(1, Sqe::new(CMD_WRITE).nsid(1).blocks(9, 1).data(&source));
    work(&mut driver);
    assert_eq!(under_way(&driver), 6);

    let cc = driver.bench.read32(REG_CC);
    driver.bench.write32(REG_CC, cc & !CC_ENABLE);
    work(&mut driver);
    assert_eq!(
        driver.bench.read32(REG_CSTS),
        0,
        "the reset is done at once"
    );
    let accesses = driver.bench.memory.log().len();
    driver.bench.write32(REG_CC, cc);
    work(&mut driver);
    for left in (0..6).rev() {
        assert_eq!(driver.bench.read32(REG_CSTS), 0, "not ready yet");
        assert!(driver.bench.advance());
        work(&mut driver);
        assert_eq!(under_way(&driver), left);
    }
    assert_eq!(driver.bench.read32(REG_CSTS), CSTS_RDY, "ready");
    assert_eq!(
        driver.bench.memory.log().len(),
        accesses,
        "memory is left alone"
    );
    let disk = driver.bench.disk.concurrent.as_ref();
    assert_eq!(disk.expect("it is").untold, 6, "the guest is told nothing");
    driver.revive();
}

#[test]
fn a_shutdown_ends_when_the_commands_in_flight_have_completed() {
    let mut driver = concurrent(64);
    let reads = submit_reads(&mut driver, 1, 2);
    work(&mut driver);
    let cc = driver.bench.read32(REG_CC);
    driver.bench.write32(REG_CC, cc | CC_SHN_NORMAL);
    work(&mut driver);
    let status = |driver: &mut Driver| driver.bench.read32(REG_CSTS) & CSTS_SHST_MASK;
    assert_ne!(status(&mut driver), CSTS_SHST_COMPLETE);
    driver.pump();
    assert_eq!(status(&mut driver), CSTS_SHST_COMPLETE);
    driver.reap(1);
    for (cid, _) in reads {
        assert_eq!(driver.take(1, cid).expect("a completion").status, SUCCESS);
    }
    driver.revive();
}

#[test]
fn a_shutdown_does_not_wait_for_commands_that_cannot_complete() {
    let mut driver = concurrent(64);
    submit_reads(&mut driver, 1, 2);
    work(&mut driver);
    // No completion can be delivered without bus mastering.
    driver.bench.write_config16(0x04, 0x0002);
    let cc = driver.bench.read32(REG_CC);
    driver.bench.write32(REG_CC, cc | CC_SHN_NORMAL);
    driver.bench.settle();
    assert_eq!(
        driver.bench.read32(REG_CSTS) & CSTS_SHST_MASK,
        CSTS_SHST_COMPLETE
    );
    driver.bench.write_config16(0x04, 0x0006);
    driver.revive();
}

#[test]
fn what_a_store_is_done_with_waits_until_the_function_is_a_bus_master_again() {
    let mut driver = concurrent(64);
    let reads = submit_reads(&mut driver, 1, 3);
    work(&mut driver);
    driver.bench.write_config16(0x04, 0x0002);
    let accesses = driver.bench.memory.log().len();
    driver.bench.settle();
    assert_eq!(driver.bench.memory.log().len(), accesses);
    driver.bench.write_config16(0x04, 0x0006);
    driver.pump();
    for (cid, _) in reads {
        assert_eq!(driver.take(1, cid).expect("a completion").status, SUCCESS);
    }
}

#[test]
fn a_stop_waits_for_the_commands_in_flight_and_completes_them() {
    let mut driver = concurrent(64);
    let block = driver.block();
    driver.write(1, 0, &pattern(3, 4 * block));
    let reads = submit_reads(&mut driver, 1, 4);
    work(&mut driver);
    driver.bench.relocate();
    assert_eq!(under_way(&driver), 0);
    driver.interrupts();
    for (index, (cid, target)) in reads.into_iter().enumerate() {
        assert_eq!(driver.take(1, cid).expect("a completion").status, SUCCESS);
        let expected = &pattern(3, 4 * block)[index * block..][..block];
        assert_eq!(driver.content(&target), expected);
    }
}

#[test]
fn a_controller_that_stops_with_commands_that_it_cannot_complete_has_failed() {
    let mut driver = concurrent(64);
    submit_reads(&mut driver, 1, 2);
    work(&mut driver);
    driver.bench.write_config16(0x04, 0x0002);
    driver.bench.relocate();
    let status = driver.bench.read32(REG_CSTS);
    assert_eq!(status & CSTS_CFS, CSTS_CFS, "software is told of the loss");
    let disk = driver.bench.disk.concurrent.as_ref();
    assert_eq!(disk.expect("it is").untold, 2, "though not by a command");
    driver.bench.write_config16(0x04, 0x0006);
    driver.revive();
}

#[test]
fn all_that_the_store_is_done_with_completes_however_small_the_budget() {
    let mut driver = concurrent(64);
    submit_reads(&mut driver, 1, 5);
    work(&mut driver);
    for _ in 0..5 {
        assert!(driver.bench.advance());
    }
    while driver.bench.kicked {
        driver.bench.work(1);
    }
    assert_eq!(driver.reap(1), 5);
}

#[test]
fn a_write_that_has_to_reach_the_medium_is_there_when_it_completes() {
    const FUA: u32 = 1 << 30;
    for (cache, unit_access) in [(true, FUA), (false, 0), (true, 0)] {
        let mut driver = concurrent(64);
        let block = driver.block();
        let feature = driver.set_feature(FEAT_VOLATILE_WC, cache.into());
        assert_eq!(feature.status, SUCCESS);
        let source = driver.filled(&pattern(8, block), 0);
        let write = Sqe::new(CMD_WRITE).nsid(1).blocks(9, 1).data(&source);
        let words = write.get_dword(12) | unit_access;
        driver.good(1, write.dword(12, words));
        let expected = if cache && unit_access == 0 { block } else { 0 };
        assert_eq!(
            driver.bench.disk.unflushed, expected as u64,
            "{cache} {unit_access}"
        );
    }
}

#[test]
fn a_failure_of_the_medium_is_the_commands_own() {
    let mut driver = concurrent(64);
    let block = driver.block();
    let source = driver.filled(&pattern(8, block), 0);
    let target = driver.buffer(block, 0);
    driver.bench.disk.trouble = Some(Trouble::Medium);
    let errors = [
        (CMD_READ, &target, READ_ERROR),
        (CMD_WRITE, &source, WRITE_FAULT),
    ];
    for (opcode, data, status) in errors {
        let command = Sqe::new(opcode).nsid(1).blocks(0, 1).data(data);
        driver.bad(1, command, &[status]);
    }
    driver.bad(1, Sqe::new(CMD_FLUSH).nsid(1), &[WRITE_FAULT]);
    driver.bench.disk.trouble = None;
    driver.good(1, Sqe::new(CMD_FLUSH).nsid(1));
}

#[test]
fn data_that_memory_does_not_take_fails_one_command() {
    let mut driver = concurrent(64);
    let nowhere = Sqe::new(CMD_READ)
        .nsid(1)
        .blocks(0, 1)
        .prp(u64::MAX << 12, 0);
    driver.bad(1, nowhere, &[DATA_XFER_ERROR]);
    let nowhere = Sqe::new(CMD_WRITE)
        .nsid(1)
        .blocks(0, 1)
        .prp(u64::MAX << 12, 0);
    driver.bad(1, nowhere, &[DATA_XFER_ERROR]);
    let block = driver.block();
    assert_eq!(driver.read(1, 0, 1), vec![0; block]);
}
