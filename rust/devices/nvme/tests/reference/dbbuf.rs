// SPDX-License-Identifier: GPL-2.0

//! Shadow doorbells, sections 5.7 and 7.13.

use nvme::{
    DeviceModel,
    Work, //
};

use crate::driver::{
    pattern,
    Driver,
    Setup,
    Shadow,
    Sqe, //
};
use crate::memory::{
    Direction,
    Moment, //
};
use crate::spec::*;

fn shadowed(pairs: u16, entries: u16) -> Driver {
    let mut driver = Driver::with_queues(Setup::default(), pairs, entries);
    driver.configure_shadow();
    driver
}

fn flush() -> Sqe {
    Sqe::new(CMD_FLUSH).nsid(1)
}

/// The controller has left the pages alone since the log was forgotten: they are the driver's again.
#[track_caller]
fn expect_untouched(driver: &Driver, shadow: &Shadow) {
    for page in [shadow.doorbells, shadow.events] {
        let range = page..page + PAGE as u64;
        for direction in [Direction::Read, Direction::Write] {
            assert_eq!(
                driver.bench.memory.count(direction, range.clone()),
                0,
                "{direction:?} of the page at {page:#x}"
            );
        }
    }
}

#[test]
fn the_buffers_are_whole_pages() {
    let mut driver = Driver::ready();
    let (first, second) = (driver.page(), driver.page());
    for (prp1, prp2) in [
        (first + 8, second),
        (first, second + 8),
        (first + 4092, second),
        (first, second + 2048),
    ] {
        driver.bad(
            0,
            Sqe::new(ADMIN_DBBUF).prp(prp1, prp2),
            &[INVALID_FIELD, PRP_OFFSET_INVALID],
        );
    }
    driver.good(1, flush());
}

#[test]
fn buffers_that_are_not_memory_are_an_invalid_field() {
    let mut driver = Driver::ready();
    let (gone, page) = (driver.page(), driver.page());
    driver.bench.memory.unmap(gone);
    for (prp1, prp2) in [(gone, page), (page, gone)] {
        driver.bad(0, Sqe::new(ADMIN_DBBUF).prp(prp1, prp2), &[INVALID_FIELD]);
    }
    driver.good(1, flush());
}

#[test]
fn a_busy_driver_hardly_ever_writes_a_register() {
    let mut driver = shadowed(2, 32);
    // A flush is nothing to wait for.
    driver.bench.disk.has_to_wait = false;
    driver.traps = 0;
    let mut commands = 0;
    for _ in 0..50 {
        for sq in [1, 2] {
            // The driver keeps ahead of the controller.
            while driver
                .outstanding
                .iter()
                .filter(|(id, _)| *id == sq)
                .count()
                < 20
            {
                driver.submit(sq, flush());
                commands += 1;
            }
        }
        driver.step(3);
    }
    driver.pump();
    assert!(commands > 100, "there were {commands} commands");
    assert!(
        driver.traps < commands / 4,
        "{commands} commands took {} register writes",
        driver.traps
    );
    assert!(driver.outstanding.is_empty(), "every command completes");
}

#[test]
fn buffers_without_io_queues_are_left_alone() {
    // Linux gives the pages to others when it has deleted its queues and shut the controller down.
    for shutdown in [false, true] {
        let mut driver = shadowed(1, 8);
        driver.good(1, flush());
        assert_eq!(driver.delete_sq(1), SUCCESS);
        assert_eq!(driver.delete_cq(1), SUCCESS);
        if shutdown {
            let cc = driver.bench.read32(REG_CC);
            driver.bench.write32(REG_CC, cc | CC_SHN_NORMAL);
            driver.bench.settle();
        }
        let shadow = driver.shadow.expect("they are configured");
        driver.bench.memory.forget();
        driver.bench.write_config16(0x04, 0x0006);
        driver.bench.settle();
        expect_untouched(&driver, &shadow);
    }
}

#[test]
fn a_controller_that_was_shut_down_leaves_memory_alone() {
    let mut driver = shadowed(1, 8);
    driver.good(1, flush());
    let cc = driver.bench.read32(REG_CC);
    driver.bench.write32(REG_CC, cc | CC_SHN_NORMAL);
    driver.bench.settle();
    driver.bench.memory.forget();
    driver.submit(1, flush());
    driver.submit(0, Sqe::new(ADMIN_KEEP_ALIVE));
    driver.bench.settle();
    let accesses = driver.bench.memory.log().len();
    assert_eq!(accesses, 0, "its queues are somebody else's");
    driver.reset();
    driver.enable();
    driver.create_queues(1, 8);
    driver.good(1, flush());
}

#[test]
fn a_driver_that_stops_in_between_is_heard_again() {
    let mut driver = shadowed(1, 4);
    for _ in 0..100 {
        driver.good(1, flush());
        driver.bench.settle();
    }
    driver.bench.relocate();
    for _ in 0..100 {
        driver.good(1, flush());
        driver.bench.relocate();
    }
}

#[test]
fn idle_means_that_the_event_indexes_are_up_to_date() {
    let mut driver = shadowed(3, 8);
    let shadow = driver.shadow.expect("they are configured");
    for sq in 1..=3u16 {
        for _ in 0..sq {
            driver.submit(sq, flush());
        }
    }
    driver.pump();
    driver.bench.settle();
    for sq in 1..=3u64 {
        assert_eq!(
            u64::from(driver.bench.memory.get_u32(shadow.events + sq * 8)),
            sq,
            "the controller wants to hear of the next command of queue {sq}"
        );
    }
}

#[test]
fn a_command_in_the_moment_of_going_idle_is_not_lost() {
    // The driver sees the event index from before and therefore writes no register.
    for queue in 1..=2u16 {
        for moved in [false, true] {
            let mut driver = shadowed(2, 8);
            let shadow = driver.shadow.expect("they are configured");
            driver.good(queue, flush());
            driver.bench.settle();

            let first = driver.submit(queue, flush());
            let second = driver.enqueue(queue, flush());
            let sq = driver.sqs.get_mut(&queue).expect("it exists");
            sq.rung = sq.tail;
            let tail = u32::from(sq.tail);
            let at = u64::from(queue) * 8;
            let event = shadow.events + at;
            driver.bench.memory.ambush(
                Moment::BeforeWrite,
                event..event + 4,
                vec![(shadow.doorbells + at, tail.to_le_bytes().to_vec())],
            );
            driver.bench.moving = moved;
            driver.pump();
            assert_eq!(
                driver.bench.memory.ambushes(),
                0,
                "the event index was written"
            );
            assert!(driver.take(queue, first).is_some(), "the first command");
            assert!(
                driver.take(queue, second).is_some(),
                "the second command, which no register told of"
            );
        }
    }
}

#[test]
fn the_pin_goes_down_although_a_head_moved_in_the_moment_of_going_idle() {
    let setup = Setup {
        msix: false,
        ..Setup::default()
    };
    let mut driver = Driver::with_queues(setup, 1, 8);
    driver.configure_shadow();
    let shadow = driver.shadow.expect("they are configured");
    driver.enqueue(1, flush());
    driver.enqueue(1, flush());
    driver.ring_sq(1);
    // The driver consumes the first completion while the controller still writes that it wants to
    // hear of it, and does not ring: it reads what the controller wrote before.
    driver.bench.memory.ambush(
        Moment::BeforeWrite,
        shadow.events + 12..shadow.events + 16,
        vec![(shadow.doorbells + 12, 1u32.to_le_bytes().to_vec())],
    );
    driver.bench.settle();
    assert_eq!(driver.bench.memory.ambushes(), 0, "the index was written");
    assert_eq!(driver.peel(1, 1), 1, "the first completion");
    assert!(
        driver.bench.controller.intx_asserted(),
        "there is another completion"
    );
    assert_eq!(driver.peel(1, 1), 1, "the second completion");
    driver.ring(1, true, 1, 2);
    driver.bench.settle();
    assert!(
        !driver.bench.controller.intx_asserted(),
        "the controller was told of the second head"
    );
}

#[test]
fn a_register_that_is_older_than_its_shadow_does_no_harm() {
    // The driver rings for one command and, before the controller took that, adds another one
    // without ringing. The controller sees the shadow first.
    for moved in [false, true] {
        let mut driver = shadowed(1, 8);
        let shadow = driver.shadow.expect("they are configured");
        for _ in 0..5 {
            driver.good(1, flush());
        }
        driver.bench.settle();
        driver.bench.disk.flushes = 0;

        let cids = [driver.enqueue(1, flush()), driver.enqueue(1, flush())];
        let sq = driver.sqs.get_mut(&1).expect("it exists");
        sq.rung = sq.tail;
        let tail = u32::from(sq.tail);
        let at = shadow.doorbells + 8;
        driver.bench.memory.ambush_and_ring(
            Moment::BeforeRead,
            at..at + 4,
            vec![(at, tail.to_le_bytes().to_vec())],
            (REG_DBS + 8, tail - 1),
        );
        driver.bench.moving = moved;
        // The worker is still at it from before.
        driver.bench.kicked = true;
        driver.pump();
        assert_eq!(driver.bench.memory.ambushes(), 0, "the shadow was read");
        assert_eq!(
            driver.bench.disk.flushes, 2,
            "each command is executed once"
        );
        for cid in cids {
            assert!(driver.take(1, cid).is_some(), "command {cid} completes");
        }
        // Nor was the older register taken for an error.
        let request = driver.submit(0, Sqe::new(ADMIN_ASYNC_EVENT));
        driver.pump();
        assert!(driver.take(0, request).is_none(), "there is no event");
    }
}

#[test]
fn a_head_in_the_moment_of_going_idle_is_not_lost() {
    // A completion queue is full; the driver frees it in the moment that the controller gives up.
    let mut driver = Driver::new(Setup::default());
    assert_eq!(driver.create_cq(1, 4, Some(1)), SUCCESS);
    assert_eq!(driver.create_sq(1, 16, 1), SUCCESS);
    driver.configure_shadow();
    let shadow = driver.shadow.expect("they are configured");
    for _ in 0..8 {
        driver.enqueue(1, flush());
    }
    driver.ring_sq(1);
    let event = shadow.events + 12;
    driver.bench.memory.ambush(
        Moment::BeforeWrite,
        event..event + 4,
        vec![(shadow.doorbells + 12, 3u32.to_le_bytes().to_vec())],
    );
    driver.bench.settle();
    assert_eq!(
        driver.bench.memory.ambushes(),
        0,
        "the event index was written"
    );
    // Three completions more; the first is in the last place of the first round.
    let cq = driver.cqs[&1].base;
    for (slot, phase) in [(3, 1), (0, 0), (1, 0), (2, 1)] {
        let cqe = driver
            .bench
            .memory
            .get(cq + slot * CQE_SIZE as u64, CQE_SIZE);
        assert_eq!(cqe[14] & 1, phase, "phase in place {slot}");
    }
}

#[test]
fn a_full_completion_queue_is_freed_through_its_shadow() {
    let mut driver = Driver::new(Setup::default());
    assert_eq!(driver.create_cq(1, 3, Some(1)), SUCCESS);
    assert_eq!(driver.create_sq(1, 16, 1), SUCCESS);
    driver.configure_shadow();
    for _ in 0..30 {
        for _ in 0..9 {
            driver.enqueue(1, flush());
        }
        driver.ring_sq(1);
        driver.pump();
        assert!(driver.outstanding.is_empty(), "every command completes");
    }
}

#[test]
fn queues_that_come_later_have_shadows_too() {
    let mut driver = Driver::new(Setup::default());
    driver.configure_shadow();
    driver.create_queues(3, 8);
    let shadow = driver.shadow.expect("they are configured");
    // Linux clears its half of the page for a new queue and does not tell anybody.
    for sq in 1..=3u16 {
        for _ in 0..20 {
            driver.good(sq, flush());
        }
        assert_eq!(driver.delete_sq(sq), SUCCESS);
        assert_eq!(driver.delete_cq(sq), SUCCESS);
        let at = u64::from(sq) * 8;
        driver.bench.memory.put(shadow.doorbells + at, &[0; 8]);
        driver.bench.memory.put(shadow.events + at, &[0; 8]);
        assert_eq!(driver.create_cq(sq, 5, Some(sq)), SUCCESS);
        assert_eq!(driver.create_sq(sq, 5, sq), SUCCESS);
        for _ in 0..20 {
            driver.good(sq, flush());
        }
    }
}

#[test]
fn a_reset_ends_the_shadows() {
    let mut driver = shadowed(1, 8);
    driver.good(1, flush());
    let shadow = driver.shadow.expect("they are configured");
    driver.reset();
    driver.enable();
    driver.create_queues(1, 8);
    driver.bench.memory.forget();
    for _ in 0..10 {
        driver.good(1, flush());
    }
    expect_untouched(&driver, &shadow);
}

#[test]
fn a_shadow_with_a_wrong_value_harms_nobody() {
    for value in [8, 9, 0xffff, 0x1_0000, 0x1_0001, 0xffff_ffff] {
        for doorbell in [2, 3] {
            let mut driver = shadowed(2, 8);
            let shadow = driver.shadow.expect("they are configured");
            let cid = driver.submit(0, Sqe::new(ADMIN_ASYNC_EVENT));
            driver.pump();
            // If the upper half is ignored, there is something to execute.
            driver.enqueue(1, flush());
            driver
                .bench
                .memory
                .put(shadow.doorbells + doorbell * 4, &u32::to_le_bytes(value));
            driver.bench.write32(REG_DBS + 8, 1);
            driver.pump_admin();
            if let Some(completion) = driver.take(0, cid) {
                assert_eq!(completion.result & 7, AER_ERROR, "{value:#x} is an error");
            }
            driver.good(2, flush());
            driver.revive();
        }
    }
}

#[test]
fn shadows_that_are_not_there_are_no_hang() {
    let mut driver = shadowed(1, 8);
    let shadow = driver.shadow.take().expect("they were configured");
    driver.bench.memory.unmap(shadow.doorbells);
    driver.enqueue(1, flush());
    driver.ring_sq(1);
    driver.bench.settle();
    driver.bench.memory.unmap(shadow.events);
    driver.bench.settle();
    driver.revive();
}

#[test]
fn a_failed_controller_leaves_its_shadows_alone() {
    let mut driver = shadowed(2, 8);
    driver.bench.controller.fail();
    driver.submit(1, flush());
    driver.bench.write32(REG_DBS + 8, 1);
    driver.bench.memory.forget();
    driver.bench.settle();
    assert_eq!(driver.bench.memory.log(), &[], "accesses of memory");
    driver.revive();
}

#[test]
fn a_controller_with_shadows_that_moves_forgets_no_command() {
    for round in 0..40 {
        let mut driver = shadowed(2, 8);
        driver.bench.rounds = 0;
        driver.bench.move_before = Some(round);
        driver.bench.budget = 1;
        for index in 0..24u64 {
            let sq = 1 + (index % 2) as u16;
            let buffer = driver.filled(&pattern(index as u8, 512), 0);
            let sqe = Sqe::new(CMD_WRITE).nsid(1).data(&buffer).blocks(index, 1);
            driver.submit(sq, sqe);
            if driver.sqs[&sq].full() {
                driver.pump();
            } else if index % 3 == 0 {
                driver.step(1);
            }
        }
        driver.pump();
        assert!(
            driver.outstanding.is_empty(),
            "every command completes with a move before round {round}"
        );
        for index in 0..24u64 {
            assert_eq!(driver.read(1, index, 1), pattern(index as u8, 512));
        }
    }
}

#[test]
fn an_idle_controller_does_not_spin() {
    let mut driver = shadowed(16, 8);
    driver.good(16, flush());
    driver.bench.settle();
    driver.bench.memory.forget();
    assert_eq!(driver.bench.work(64), Work::Idle, "nothing to do");
    let accesses = driver.bench.memory.log().len();
    assert!(
        accesses <= 16 * 2 * 3,
        "a look at all shadow doorbells costs {accesses} accesses"
    );
}

/// Has the worker look for work until there is none, and the driver at the completions.
#[track_caller]
fn poll(driver: &mut Driver) {
    driver.bench.kicked = true;
    driver.pump();
}

#[track_caller]
fn event_index(driver: &Driver, at: u64) -> u32 {
    let shadow = driver.shadow.expect("they are configured");
    driver.bench.memory.get_u32(shadow.events + at * 4)
}

#[test]
fn a_driver_need_not_ring_for_a_worker_that_polls() {
    for moving in [false, true] {
        let mut driver = shadowed(1, 64);
        driver.good(1, flush());
        driver.bench.polls = true;
        driver.bench.moving = moving;
        driver.bench.disk.has_to_wait = false;
        driver.good(1, flush());
        driver.traps = 0;
        for index in 2..50 {
            let cid = driver.submit(1, flush());
            poll(&mut driver);
            let completion = driver.take(1, cid);
            assert_eq!(
                completion.map(|completion| completion.status),
                Some(SUCCESS),
                "command {index} is executed, whether the state moves ({moving}) or not"
            );
        }
        assert_eq!(driver.traps, 0, "writes of registers");
    }
}

#[test]
fn the_time_of_polling_begins_after_a_command() {
    let mut driver = shadowed(1, 8);
    driver.bench.polls = true;
    driver.submit(1, flush());
    assert_eq!(driver.bench.work(64), Work::More, "with a command");
    for _ in 0..3 {
        assert_eq!(driver.bench.work(64), Work::Poll, "without one");
    }
    driver.submit(1, flush());
    assert_eq!(driver.bench.work(64), Work::More, "with another command");
    assert_eq!(driver.bench.work(64), Work::Poll, "without one again");
}

#[test]
fn a_worker_that_ends_its_polling_has_the_driver_ring() {
    let mut driver = shadowed(1, 8);
    driver.good(1, flush());
    driver.bench.polls = true;
    // A command that is waited for is not alone in its round.
    driver.bench.disk.has_to_wait = false;
    driver.good(1, flush());
    driver.submit(1, flush());
    poll(&mut driver);
    assert_eq!(event_index(&driver, 2), 1, "nobody has to ring");
    driver.bench.polls = false;
    assert_eq!(driver.bench.work(64), Work::Idle, "at the end of the time");
    assert_eq!(event_index(&driver, 2), 3, "the next command is rung for");
    driver.traps = 0;
    driver.good(1, flush());
    assert!(driver.traps > 0, "the driver rings");
}

#[test]
fn a_command_in_the_last_moment_of_polling_is_not_lost() {
    let mut driver = shadowed(1, 8);
    driver.bench.polls = true;
    driver.good(1, flush());
    assert_eq!(driver.bench.work(64), Work::Poll);
    let cid = driver.submit(1, flush());
    driver.bench.polls = false;
    poll(&mut driver);
    assert!(driver.take(1, cid).is_some(), "it completes");
}

#[test]
fn nothing_is_polled_without_shadows_or_without_queues() {
    let mut driver = Driver::with_queues(Setup::default(), 1, 8);
    driver.bench.polls = true;
    driver.good(1, flush());
    assert_eq!(driver.bench.work(64), Work::Idle, "without shadows");

    let mut driver = shadowed(1, 8);
    driver.bench.polls = true;
    driver.good(1, flush());
    assert_eq!(driver.delete_sq(1), SUCCESS);
    assert_eq!(driver.delete_cq(1), SUCCESS);
    assert_eq!(driver.bench.work(64), Work::Idle, "without queues");
}
