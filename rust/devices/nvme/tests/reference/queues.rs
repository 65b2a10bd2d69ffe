// SPDX-License-Identifier: GPL-2.0

//! Creation, deletion and use of queues. Sections 4.1, 5.3 to 5.6.

use std::iter;
use std::rc::Rc;
use std::sync::atomic::{
    AtomicU16,
    Ordering, //
};
use std::sync::Barrier;
use std::thread;

use nvme::{
    Doorbells,
    Work, //
};

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
use crate::whole::Execute;

fn create_cq(base: u64, id: u32, entries: u32, dword11: u32) -> Sqe {
    Sqe::new(ADMIN_CREATE_CQ)
        .prp(base, 0)
        .dword(10, entries.wrapping_sub(1) << 16 | id)
        .dword(11, dword11)
}

fn create_sq(base: u64, id: u32, entries: u32, dword11: u32) -> Sqe {
    Sqe::new(ADMIN_CREATE_SQ)
        .prp(base, 0)
        .dword(10, entries.wrapping_sub(1) << 16 | id)
        .dword(11, dword11)
}

#[test]
fn a_completion_queue_is_created_only_from_good_parameters() {
    let mut driver = Driver::new(Setup::default());
    let base = driver.ring_memory(64, CQE_SIZE);
    let most = (driver.bench.read64(REG_CAP) & CAP_MQES_MASK) as u32 + 1;
    let good = QUEUE_PHYS_CONTIG | CQ_IRQ_ENABLED;

    for id in [0, 17, 18, 0xffff] {
        driver.bad(0, create_cq(base, id, 8, good), &[QID_INVALID]);
    }
    driver.bad(0, create_cq(base, 1, 1, good), &[QUEUE_SIZE]);
    if most < 0x10000 {
        driver.bad(0, create_cq(base, 1, most + 1, good), &[QUEUE_SIZE]);
        driver.bad(0, create_cq(base, 1, 0x10000, good), &[QUEUE_SIZE]);
    }
    for vector in [17, 18, 0xffff] {
        driver.bad(
            0,
            create_cq(base, 1, 8, good | vector << 16),
            &[INVALID_VECTOR],
        );
    }
    for offset in [8, 64, 2048, 4092] {
        driver.bad(
            0,
            create_cq(base + offset, 1, 8, good),
            &[PRP_OFFSET_INVALID, INVALID_FIELD],
        );
    }
    if driver.bench.read64(REG_CAP) & CAP_CQR != 0 {
        driver.bad(
            0,
            create_cq(base, 1, 8, good & !QUEUE_PHYS_CONTIG),
            &[INVALID_FIELD],
        );
    }

    assert_eq!(driver.create_cq(1, 8, Some(1)), SUCCESS, "a good queue");
    driver.bad(0, create_cq(base, 1, 8, good), &[QID_INVALID]);
    assert_eq!(
        driver.create_cq(16, 2, Some(16)),
        SUCCESS,
        "the smallest queue with the largest identifier"
    );
}

#[test]
fn a_submission_queue_is_created_only_from_good_parameters() {
    let mut driver = Driver::new(Setup::default());
    let base = driver.ring_memory(64, SQE_SIZE);
    let most = (driver.bench.read64(REG_CAP) & CAP_MQES_MASK) as u32 + 1;
    let good = QUEUE_PHYS_CONTIG | 1 << 16;

    driver.bad(0, create_sq(base, 1, 8, good), &[CQ_INVALID]);
    assert_eq!(driver.create_cq(1, 8, Some(1)), SUCCESS);

    for id in [0, 17, 18, 0xffff] {
        driver.bad(0, create_sq(base, id, 8, good), &[QID_INVALID]);
    }
    driver.bad(0, create_sq(base, 1, 1, good), &[QUEUE_SIZE]);
    if most < 0x10000 {
        driver.bad(0, create_sq(base, 1, most + 1, good), &[QUEUE_SIZE]);
    }
    // A queue that does not exist, and identifiers that no queue can have.
    driver.bad(
        0,
        create_sq(base, 1, 8, QUEUE_PHYS_CONTIG | 2 << 16),
        &[CQ_INVALID],
    );
    for cq in [0, 17, 0xffff] {
        driver.bad(
            0,
            create_sq(base, 1, 8, QUEUE_PHYS_CONTIG | cq << 16),
            &[CQ_INVALID, QID_INVALID],
        );
    }
    for offset in [16, 64, 2048] {
        driver.bad(
            0,
            create_sq(base + offset, 1, 8, good),
            &[PRP_OFFSET_INVALID, INVALID_FIELD],
        );
    }
    if driver.bench.read64(REG_CAP) & CAP_CQR != 0 {
        driver.bad(
            0,
            create_sq(base, 1, 8, good & !QUEUE_PHYS_CONTIG),
            &[INVALID_FIELD],
        );
    }

    assert_eq!(driver.create_sq(1, 8, 1), SUCCESS, "a good queue");
    driver.bad(0, create_sq(base, 1, 8, good), &[QID_INVALID]);
    assert_eq!(
        driver.create_sq(16, 2, 1),
        SUCCESS,
        "a second queue for the same completion queue"
    );
    driver.good(16, Sqe::new(CMD_FLUSH).nsid(1));
    driver.good(1, Sqe::new(CMD_FLUSH).nsid(1));
}

#[test]
fn the_number_of_queue_pairs_is_a_limit() {
    let mut parameters = crate::bench::parameters(9);
    parameters.queue_pairs = 2;
    let mut driver = Driver::with_parameters(Setup::default(), parameters);
    let asked = driver.set_feature(FEAT_NUM_QUEUES, 15 << 16 | 15);
    assert_eq!(asked.status, SUCCESS);
    assert_eq!(asked.result, 1 << 16 | 1, "two pairs, counted from zero");
    assert_eq!(driver.create_cq(2, 8, Some(2)), SUCCESS, "the second");
    assert_eq!(driver.create_cq(3, 8, Some(3)), QID_INVALID, "the third");
    assert_eq!(driver.create_sq(3, 8, 2), QID_INVALID, "the third");
}

#[test]
fn queues_are_deleted_in_order_only() {
    let mut driver = Driver::with_queues(Setup::default(), 2, 8);
    for id in [0, 3, 17, 0xffff] {
        assert_eq!(driver.delete_sq(id), QID_INVALID, "submission queue {id}");
        assert_eq!(driver.delete_cq(id), QID_INVALID, "completion queue {id}");
    }
    assert_eq!(
        driver.delete_cq(1),
        INVALID_QUEUE_DELETION,
        "a completion queue that is in use"
    );
    assert_eq!(driver.delete_sq(1), SUCCESS, "the submission queue");
    assert_eq!(driver.delete_sq(1), QID_INVALID, "a second time");
    assert_eq!(driver.delete_cq(1), SUCCESS, "the completion queue");
    assert_eq!(driver.delete_cq(1), QID_INVALID, "a second time");
    driver.good(2, Sqe::new(CMD_FLUSH).nsid(1));

    assert_eq!(driver.create_cq(1, 16, Some(5)), SUCCESS, "again");
    assert_eq!(driver.create_sq(1, 4, 1), SUCCESS, "again");
    for _ in 0..40 {
        driver.good(1, Sqe::new(CMD_FLUSH).nsid(1));
    }
}

#[test]
fn commands_of_a_deleted_queue_are_completed_or_gone_before_the_deletion_is() {
    for rounds in 0..6 {
        let mut driver = Driver::with_queues(Setup::default(), 1, 8);
        for _ in 0..4 {
            driver.submit(1, Sqe::new(CMD_FLUSH).nsid(1));
        }
        for _ in 0..rounds {
            driver.bench.work(1);
        }
        assert_eq!(driver.delete_sq(1), SUCCESS, "after {rounds} rounds");
        driver.outstanding.retain(|&(sq, _)| sq != 1);
        driver.bench.memory.forget();
        driver.pump();
        assert_eq!(
            driver.bench.memory.log(),
            &[],
            "a deleted queue is left alone"
        );
        for completion in driver.done.values() {
            assert!(
                [SUCCESS, ABORT_QUEUE].contains(&completion.status),
                "{completion:?} is done or aborted"
            );
        }
        assert_eq!(driver.delete_cq(1), SUCCESS, "after {rounds} rounds");
    }
}

#[test]
fn every_queue_size_wraps_and_flips_its_phase() {
    for (entries, rounds) in [(2u16, 21), (3, 30), (7, 50), (8, 50), (64, 200), (65, 140)] {
        let mut driver = Driver::new(Setup::default());
        assert_eq!(driver.create_cq(1, entries, Some(1)), SUCCESS);
        assert_eq!(driver.create_sq(1, entries, 1), SUCCESS);
        for _ in 0..rounds {
            driver.good(1, Sqe::new(CMD_FLUSH).nsid(1));
        }
        let sq = &driver.sqs[&1];
        assert_eq!(
            sq.head, sq.tail,
            "all commands of a queue of {entries} were fetched"
        );
    }
}

#[test]
fn queues_of_different_sizes_wrap_independently() {
    let mut driver = Driver::new(Setup::default());
    assert_eq!(driver.create_cq(1, 5, Some(1)), SUCCESS);
    assert_eq!(driver.create_sq(1, 3, 1), SUCCESS);
    assert_eq!(driver.create_sq(2, 11, 1), SUCCESS);
    let mut wanted = 0;
    for round in 0..60 {
        for sq in [1, 2] {
            while !driver.sqs[&sq].full() && (round + wanted) % 4 != 3 {
                driver.submit(sq, Sqe::new(CMD_FLUSH).nsid(1));
                wanted += 1;
            }
            wanted += 1;
        }
        driver.pump();
    }
    driver.pump();
    assert!(driver.outstanding.is_empty(), "every command completes");
}

#[test]
fn the_largest_queue_works() {
    let mut driver = Driver::new(Setup::default());
    let most = driver.bench.read64(REG_CAP) & CAP_MQES_MASK;
    let entries = u16::try_from(most.min(0x7fff)).expect("it fits") + 1;
    assert_eq!(driver.create_cq(1, entries, Some(1)), SUCCESS);
    assert_eq!(driver.create_sq(1, entries, 1), SUCCESS);
    for _ in 0..entries - 1 {
        driver.enqueue(1, Sqe::new(CMD_FLUSH).nsid(1));
    }
    driver.ring_sq(1);
    driver.pump();
    assert_eq!(
        driver.done.len(),
        usize::from(entries) - 1,
        "all commands of the largest queue complete"
    );
}

#[test]
fn a_full_completion_queue_stops_its_commands_only() {
    let mut driver = Driver::new(Setup::default());
    for (cq, entries) in [(1, 4), (2, 4)] {
        assert_eq!(driver.create_cq(cq, entries, Some(cq)), SUCCESS);
        assert_eq!(driver.create_sq(cq, 16, cq), SUCCESS);
    }
    for _ in 0..10 {
        driver.enqueue(1, Sqe::new(CMD_FLUSH).nsid(1));
    }
    driver.ring_sq(1);
    driver.bench.settle();
    driver.bench.settle();

    // The driver is slow to look at its queue.
    driver.bench.raised &= !(1 << 1);
    // One entry stays free: a full queue has head and tail next to each other.
    let base = driver.cqs[&1].base;
    let last = driver
        .bench
        .memory
        .get(base + 3 * CQE_SIZE as u64, CQE_SIZE);
    assert_eq!(last, vec![0; CQE_SIZE], "the last free entry stays free");
    driver.good(2, Sqe::new(CMD_FLUSH).nsid(1));
    driver.identify(CNS_CTRL, 0);

    // One place at a time.
    let mut seen = 0;
    while seen < 10 {
        let old = driver.cqs[&1].head;
        let taken = driver.peel(1, 1);
        assert_eq!(taken, 1, "after {seen} completions there is another one");
        seen += taken;
        let new = driver.cqs[&1].head;
        driver.ring(1, true, old, new);
        driver.bench.settle();
    }
    assert_eq!(driver.peel(1, 1), 0, "there are ten");
}

#[test]
fn a_full_admin_completion_queue_stops_admin_commands() {
    let setup = Setup {
        admin_entries: 16,
        admin_completions: 4,
        ..Setup::default()
    };
    let mut driver = Driver::new(setup);
    for round in 0..5 {
        for _ in 0..7 {
            driver.enqueue(0, Sqe::new(ADMIN_KEEP_ALIVE));
        }
        driver.ring_sq(0);
        driver.bench.settle();
        assert_eq!(
            driver.peel(0, 16),
            3,
            "three completions fit into the queue of four"
        );
        // The driver took the first ones without saying so yet.
        assert_eq!(driver.peel(0, 16), 0, "no other one appears");
        let head = driver.cqs[&0].head;
        driver.ring(0, true, 0, head);
        driver.pump();
        assert_eq!(
            driver.done.len(),
            7 * (round + 1),
            "every command completes once"
        );
    }
}

#[test]
fn several_submission_queues_share_a_completion_queue() {
    let mut driver = Driver::new(Setup::default());
    assert_eq!(driver.create_cq(1, 6, Some(1)), SUCCESS);
    for sq in 1..=16 {
        assert_eq!(driver.create_sq(sq, 5, 1), SUCCESS);
    }
    for round in 0..5u8 {
        let mut commands = Vec::new();
        for sq in 1..=16u16 {
            for slot in 0..4u16 {
                let block = u64::from(sq * 4 + slot);
                let buffer = driver.filled(&pattern(round ^ block as u8, 512), 0);
                let sqe = Sqe::new(CMD_WRITE).nsid(1).data(&buffer).blocks(block, 1);
                commands.push((sq, driver.enqueue(sq, sqe)));
            }
            driver.ring_sq(sq);
        }
        driver.pump();
        for (sq, cid) in commands {
            let completion = driver.take(sq, cid).expect("the command completes");
            assert_eq!(completion.status, SUCCESS);
        }
    }
    for block in 4..68 {
        assert_eq!(
            driver.read(1, block, 1),
            pattern(4 ^ block as u8, 512),
            "block {block}"
        );
    }
}

#[test]
fn no_queue_starves_another() {
    let mut driver = Driver::with_queues(Setup::default(), 2, 64);
    for _ in 0..60 {
        driver.enqueue(1, Sqe::new(CMD_FLUSH).nsid(1));
    }
    driver.ring_sq(1);
    let cid = driver.submit(2, Sqe::new(CMD_FLUSH).nsid(1));
    let admin = driver.submit(0, Sqe::new(ADMIN_KEEP_ALIVE));
    for _ in 0..40 {
        driver.step(1);
    }
    assert!(
        driver.take(2, cid).is_some(),
        "queue 2 gets its turn while queue 1 is busy"
    );
    assert!(
        driver.take(0, admin).is_some(),
        "the admin queue gets its turn while queue 1 is busy"
    );
}

#[test]
fn the_budget_is_kept() {
    let mut driver = Driver::with_queues(Setup::default(), 1, 64);
    for _ in 0..20 {
        driver.enqueue(1, Sqe::new(CMD_FLUSH).nsid(1));
    }
    driver.ring_sq(1);
    let mut done = 0;
    for budget in [0, 1, 2, 3, 5, 9] {
        let flushes = driver.bench.disk.flushes;
        driver.bench.work(budget);
        assert!(
            driver.bench.disk.flushes - flushes <= budget as usize,
            "at most {budget} commands are executed"
        );
        done += driver.bench.disk.flushes - flushes;
    }
    assert!(done > 0, "some commands were executed");
    driver.pump();
    assert_eq!(driver.bench.disk.flushes, 20, "all commands are executed");
}

/// Executes the enqueued commands and returns the number that each round completes.
fn rounds(driver: &mut Driver) -> Vec<usize> {
    driver.ring_all();
    let mut rounds = Vec::new();
    loop {
        let before = driver.done.len();
        let work = driver.bench.work(16);
        driver.interrupts();
        rounds.push(driver.done.len() - before);
        if work == Work::Idle {
            return rounds;
        }
    }
}

#[test]
fn a_command_that_may_take_long_has_a_round_of_its_own() {
    let mut driver = Driver::with_queues(Setup::default(), 2, 16);
    // A flush is nothing to wait for.
    driver.bench.disk.has_to_wait = false;
    let buffer = driver.filled(&[0; 16], 0);
    let flush = Sqe::new(CMD_FLUSH).nsid(1);
    // More than any command transfers, and a range that may be the whole namespace.
    let zeroes = Sqe::new(CMD_WRITE_ZEROES).nsid(1).blocks(0, 1025);
    let deallocate = Sqe::new(CMD_DSM).nsid(1).data(&buffer).dword(11, 1 << 2);
    for sqe in [flush, flush, zeroes, flush, deallocate, zeroes, flush] {
        driver.enqueue(1, sqe);
    }
    driver.enqueue(2, zeroes);
    // Completions are posted before the long command begins, and the other queue has its turn after it.
    assert_eq!(rounds(&mut driver), [2, 1, 1, 1, 1, 1, 1]);
}

#[test]
fn what_has_to_reach_a_slow_medium_has_a_round_of_its_own() {
    let mut driver = Driver::with_queues(Setup::default(), 1, 16);
    let buffer = driver.filled(&pattern(1, 4096), 0);
    let write = Sqe::new(CMD_WRITE).nsid(1).data(&buffer).blocks(0, 8);
    let forced = write.dword(12, 7 | 1 << 30);
    let flush = Sqe::new(CMD_FLUSH).nsid(1);
    let read = Sqe::new(CMD_READ).nsid(1).data(&buffer);
    let forced_read = read.dword(12, 7 | 1 << 30);
    for sqe in [write, read, flush, write, forced, forced_read, write] {
        driver.enqueue(1, sqe);
    }
    assert_eq!(rounds(&mut driver), [2, 1, 1, 1, 1, 1]);

    driver.good(
        0,
        Sqe::new(ADMIN_SET_FEATURES).dword(10, FEAT_VOLATILE_WC.into()),
    );
    for sqe in [write, write] {
        driver.enqueue(1, sqe);
    }
    assert_eq!(rounds(&mut driver), [1, 1], "without a cache");
}

#[test]
fn an_entry_is_fetched_once_and_in_one_piece() {
    let mut driver = Driver::with_queues(Setup::default(), 1, 8);
    let buffer = driver.filled(&pattern(9, 4096), 0);
    let at = driver.sqs[&1].base;
    let range = at..at + SQE_SIZE as u64;
    // The entry turns into another command as soon as the controller has read any of it.
    let evil = Sqe::new(CMD_READ)
        .nsid(7)
        .prp(0xdead_0000, 0xdead_0001)
        .blocks(u64::MAX, 0x10000)
        .cid(0xbeef);
    let sqe = Sqe::new(CMD_WRITE).nsid(1).data(&buffer).blocks(8, 8);
    let cid = driver.enqueue(1, sqe);
    driver.bench.memory.ambush(
        Moment::AfterRead,
        range.clone(),
        vec![(at, evil.0.to_vec())],
    );
    driver.bench.memory.forget();
    driver.ring_sq(1);
    driver.pump();
    assert_eq!(
        driver.take(1, cid).map(|completion| completion.status),
        Some(SUCCESS),
        "the command as it was is executed"
    );
    assert_eq!(
        driver.bench.memory.count(Direction::Read, range),
        1,
        "the entry is read once"
    );
    assert_eq!(driver.read(1, 8, 8), pattern(9, 4096));
}

#[test]
fn unknown_commands_are_refused() {
    let mut driver = Driver::ready();
    for opcode in [
        ADMIN_NS_MANAGEMENT,
        ADMIN_FIRMWARE_COMMIT,
        0x11,
        ADMIN_SELF_TEST,
        0x15,
        ADMIN_KEEP_ALIVE,
        0x19,
        0x1a,
        0x1c,
        0x1d,
        0x1e,
        ADMIN_SECURITY_SEND,
        0x82,
        0x84,
        0x86,
        0x03,
        0x07,
        0x7f,
        ADMIN_VENDOR,
        0xff,
    ] {
        driver.bad(0, Sqe::new(opcode).nsid(1), &[INVALID_OPCODE]);
    }
    for opcode in [
        0x06,
        0x0a,
        CMD_RESERVATION_REGISTER,
        0x0e,
        0x11,
        0x15,
        0x03,
        0x7f,
        0x80,
        0xff,
    ] {
        driver.bad(1, Sqe::new(opcode).nsid(1), &[INVALID_OPCODE]);
    }
}

#[test]
fn fused_commands_and_sgls_are_refused() {
    let mut driver = Driver::ready();
    let buffer = driver.buffer(512, 0);
    let flags = [
        FLAG_FUSE_FIRST,
        FLAG_FUSE_SECOND,
        FLAG_SGL_METABUF,
        FLAG_SGL_METASEG,
    ];
    for flags in flags {
        for opcode in [CMD_READ, CMD_WRITE, CMD_COMPARE] {
            driver.bad(
                1,
                Sqe::new(opcode)
                    .flags(flags)
                    .nsid(1)
                    .data(&buffer)
                    .blocks(0, 1),
                &[INVALID_FIELD],
            );
        }
        driver.bad(
            0,
            Sqe::new(ADMIN_IDENTIFY)
                .flags(flags)
                .data(&buffer)
                .dword(10, CNS_CTRL),
            &[INVALID_FIELD],
        );
    }
}

#[test]
fn a_second_command_with_the_same_identifier_harms_nobody() {
    let mut driver = Driver::ready();
    let first = driver.sqs[&1].base;
    for _ in 0..2 {
        driver.enqueue(1, Sqe::new(CMD_FLUSH).nsid(1));
    }
    let twin = Sqe::new(CMD_FLUSH).nsid(1).cid(9);
    driver.bench.memory.put(first, &twin.0);
    driver.bench.memory.put(first + SQE_SIZE as u64, &twin.0);
    driver.ring_sq(1);
    driver.bench.settle();
    // Both end, well or with a conflict.
    let cq = driver.cqs[&1].base;
    for slot in 0..2 {
        let cqe = driver
            .bench
            .memory
            .get(cq + slot * CQE_SIZE as u64, CQE_SIZE);
        let status = Status::from_cqe(u16::from_le_bytes([cqe[14], cqe[15]]));
        assert_eq!(u16::from_le_bytes([cqe[12], cqe[13]]), 9);
        assert!(
            [SUCCESS, CMDID_CONFLICT].contains(&status),
            "completion {slot} has {status:?}"
        );
    }
}

#[test]
fn a_doorbell_that_is_written_while_others_are_taken_is_not_lost() {
    const ROUNDS: u16 = 300;
    const QUEUES: u16 = 16;

    let mut driver = Driver::with_queues(Setup::default(), QUEUES, ROUNDS + 1);
    for queue in 1..=QUEUES {
        for _ in 0..ROUNDS {
            driver.enqueue(queue, Sqe::new(CMD_FLUSH).nsid(1));
        }
    }
    let doorbells = Rc::clone(&driver.bench.doorbells);
    let doorbells: &Doorbells = &doorbells;
    let begin = &Barrier::new(2);
    let rung = &AtomicU16::new(0);
    thread::scope(|scope| {
        scope.spawn(move || {
            for round in 1..=ROUNDS {
                begin.wait();
                // Repeated writes give the other thread time to be in the middle of one.
                for tail in iter::repeat_n(round - 1, 20).chain([round]) {
                    for queue in 1..=u64::from(QUEUES) {
                        let tail = u32::from(tail).to_le_bytes();
                        doorbells.post(REG_DBS + queue * 8, &tail);
                    }
                }
                rung.store(round, Ordering::SeqCst);
            }
        });
        for round in 1..=ROUNDS {
            begin.wait();
            while rung.load(Ordering::SeqCst) < round {
                driver.bench.controller.drain(doorbells);
            }
            while driver.bench.work(64) == Work::More {}
            // A panic here would leave the other thread at its barrier.
            if driver.bench.disk.flushes != usize::from(round * QUEUES) {
                for _ in round..ROUNDS {
                    begin.wait();
                }
                break;
            }
        }
    });
    assert_eq!(
        driver.bench.disk.flushes,
        usize::from(ROUNDS * QUEUES),
        "each command is executed once"
    );
}
