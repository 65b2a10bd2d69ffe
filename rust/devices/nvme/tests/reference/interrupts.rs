// SPDX-License-Identifier: GPL-2.0

//! Interrupts, sections 3.1.3, 3.1.4 and 7.5.

use nvme::DeviceModel;

use crate::driver::{
    Driver,
    Setup,
    Sqe, //
};
use crate::spec::*;
use crate::whole::Execute;

fn flush() -> Sqe {
    Sqe::new(CMD_FLUSH).nsid(1)
}

fn pin() -> Setup {
    Setup {
        msix: false,
        ..Setup::default()
    }
}

#[test]
fn each_queue_raises_its_own_vector() {
    let mut driver = Driver::new(Setup::default());
    // Vectors need not be in the order of the queues, nor differ.
    let vectors = [3, 16, 1, 1, 0];
    for (queue, vector) in (1..).zip(vectors) {
        assert_eq!(driver.create_cq(queue, 8, Some(vector)), SUCCESS);
        assert_eq!(driver.create_sq(queue, 8, queue), SUCCESS);
    }
    for (queue, vector) in (1..).zip(vectors) {
        driver.bench.raised = 0;
        driver.submit(queue, flush());
        driver.bench.settle();
        assert_eq!(
            driver.bench.raised,
            1 << vector,
            "vectors that queue {queue} raises"
        );
        assert!(
            !driver.bench.controller.intx_asserted(),
            "the pin is quiet with MSI-X"
        );
        driver.pump();
    }
    driver.bench.raised = 0;
    let cid = driver.submit(0, Sqe::new(ADMIN_KEEP_ALIVE));
    driver.bench.settle();
    assert_eq!(driver.bench.raised, 1, "the admin queue has vector 0");
    driver.pump();
    assert!(driver.take(0, cid).is_some());
}

#[test]
fn messages_are_sent_without_the_enable_bit_once_somebody_listens() {
    let mut driver = Driver::with_queues(pin(), 1, 8);
    driver.submit(1, flush());
    driver.bench.settle();
    assert!(driver.bench.controller.intx_asserted(), "the pin, before");
    driver.bench.controller.set_msix(true);
    assert!(
        !driver.bench.controller.intx_asserted(),
        "the pin gives way to messages"
    );
    assert_eq!(
        driver.bench.controller.take_raised(),
        1,
        "a message for what waits, by the vector of the pin"
    );
    driver.pump();
    driver.msix = true;
    assert_eq!(driver.create_cq(2, 8, Some(5)), SUCCESS);
    assert_eq!(driver.create_sq(2, 8, 2), SUCCESS);
    driver.bench.raised = 0;
    driver.submit(2, flush());
    driver.bench.settle();
    assert_eq!(driver.bench.raised, 1 << 5, "a message");
    driver.pump();
    driver.msix = false;
    driver.bench.controller.set_msix(false);
    driver.submit(1, flush());
    driver.bench.settle();
    assert!(driver.bench.controller.intx_asserted(), "the pin, after");
}

#[test]
fn a_controller_that_failed_does_not_hold_the_pin() {
    let mut driver = Driver::with_queues(pin(), 1, 8);
    driver.submit(1, flush());
    driver.bench.settle();
    assert!(driver.bench.controller.intx_asserted(), "a completion");
    driver.bench.controller.fail();
    assert!(
        !driver.bench.controller.intx_asserted(),
        "no doorbell would take it down"
    );
}

#[test]
fn a_write_of_64_bits_is_two_doorbells() {
    let mut driver = Driver::with_queues(Setup::default(), 1, 8);
    let cid = driver.enqueue(1, flush());
    let (tail, head) = (driver.sqs[&1].tail, driver.cqs[&1].head);
    driver
        .bench
        .write64(REG_DBS + 8, u64::from(tail) | u64::from(head) << 32);
    driver.pump();
    assert!(driver.take(1, cid).is_some(), "the command completes");
}

#[test]
fn a_vector_is_raised_once_per_completion_at_most() {
    let mut driver = Driver::ready();
    driver.good(1, flush());
    driver.bench.settle();
    driver.bench.raised = 0;
    for _ in 0..10 {
        driver.bench.settle();
        assert_eq!(driver.bench.raised, 0, "nothing happens on its own");
    }
    driver.submit(1, flush());
    driver.bench.settle();
    assert_eq!(driver.bench.raised, 2, "one completion");
    assert_eq!(
        driver.bench.controller.take_raised(),
        0,
        "taking the vectors takes them away"
    );
    driver.pump();
}

#[test]
fn a_queue_without_interrupts_raises_none() {
    for setup in [Setup::default(), pin()] {
        let mut driver = Driver::new(setup);
        assert_eq!(driver.create_cq(1, 8, None), SUCCESS);
        assert_eq!(driver.create_sq(1, 8, 1), SUCCESS);
        driver.bench.raised = 0;
        let cid = driver.submit(1, flush());
        driver.bench.settle();
        assert_eq!(driver.bench.raised, 0, "no vector");
        assert!(!driver.bench.controller.intx_asserted(), "no pin");
        driver.bench.relocate();
        driver.bench.settle();
        assert!(!driver.bench.controller.intx_asserted(), "no pin");
        driver.pump();
        assert!(driver.take(1, cid).is_some(), "but a completion");
    }
}

#[test]
fn the_pin_is_asserted_until_all_completions_are_consumed() {
    let mut driver = Driver::with_queues(pin(), 2, 8);
    assert!(!driver.bench.controller.intx_asserted(), "quiet");
    for queue in [1, 1, 2] {
        driver.submit(queue, flush());
    }
    driver.bench.settle();
    assert!(driver.bench.controller.intx_asserted(), "three completions");
    assert_eq!(driver.bench.raised, 0, "no messages");
    for (queue, left) in [(1, 2), (2, 1), (1, 0)] {
        let old = driver.cqs[&queue].head;
        assert_eq!(driver.peel(queue, 1), 1);
        let new = driver.cqs[&queue].head;
        driver.ring(queue, true, old, new);
        driver.bench.settle();
        assert_eq!(
            driver.bench.controller.intx_asserted(),
            left > 0,
            "{left} completions are left"
        );
    }
}

#[test]
fn the_pin_shows_in_the_status_of_configuration_space() {
    const STATUS_INTERRUPT: u16 = 1 << 3;
    const COMMAND_INTX_DISABLE: u16 = 1 << 10;
    let mut driver = Driver::with_queues(pin(), 1, 8);
    assert_eq!(driver.bench.config16(6) & STATUS_INTERRUPT, 0, "quiet");
    driver.submit(1, flush());
    driver.bench.settle();
    assert_ne!(driver.bench.config16(6) & STATUS_INTERRUPT, 0, "pending");
    let command = driver.bench.config16(4);
    driver
        .bench
        .write_config16(4, command | COMMAND_INTX_DISABLE);
    assert!(
        !driver.bench.controller.intx_asserted(),
        "a disabled pin is not asserted"
    );
    driver.bench.write_config16(4, command);
    assert!(driver.bench.controller.intx_asserted(), "enabled again");
    driver.pump();
}

#[test]
fn the_pin_can_be_masked() {
    let mut driver = Driver::with_queues(pin(), 1, 8);
    driver.submit(1, flush());
    driver.bench.settle();
    for round in 0..2 {
        driver.bench.write32(REG_INTMS, 1);
        assert!(
            !driver.bench.controller.intx_asserted(),
            "masked in round {round}"
        );
        assert_eq!(driver.bench.read32(REG_INTMS) & 1, 1, "INTMS shows it");
        assert_eq!(driver.bench.read32(REG_INTMC) & 1, 1, "INTMC shows it");
        driver.bench.relocate();
        assert!(
            !driver.bench.controller.intx_asserted(),
            "masked after a move"
        );
        // Writing zeros changes nothing.
        driver.bench.write32(REG_INTMC, 0);
        driver.bench.write32(REG_INTMS, 0);
        assert!(!driver.bench.controller.intx_asserted(), "still masked");
        driver.bench.write32(REG_INTMC, 1);
        assert_eq!(driver.bench.read32(REG_INTMS) & 1, 0, "INTMS shows it");
        assert!(
            driver.bench.controller.intx_asserted(),
            "unmasked in round {round}, it is still due"
        );
        driver.bench.relocate();
        assert!(
            driver.bench.controller.intx_asserted(),
            "it is still due after a move"
        );
    }
    driver.pump();
    assert!(!driver.bench.controller.intx_asserted(), "all is consumed");
}

#[test]
fn a_reset_makes_the_pin_quiet() {
    let mut driver = Driver::with_queues(pin(), 1, 8);
    driver.submit(1, flush());
    driver.bench.settle();
    assert!(driver.bench.controller.intx_asserted());
    driver.bench.write32(REG_CC, 0);
    driver.bench.settle();
    assert!(!driver.bench.controller.intx_asserted(), "after the reset");
}

#[test]
fn the_pin_is_vector_0() {
    let mut driver = Driver::new(pin());
    let base = driver.ring_memory(8, CQE_SIZE);
    for vector in [1, 16] {
        driver.bad(
            0,
            Sqe::new(ADMIN_CREATE_CQ)
                .prp(base, 0)
                .dword(10, 7 << 16 | 1)
                .dword(11, vector << 16 | QUEUE_PHYS_CONTIG | CQ_IRQ_ENABLED),
            &[INVALID_VECTOR],
        );
    }
}

#[test]
fn completions_that_wait_are_announced_again_after_a_move() {
    let mut driver = Driver::with_queues(Setup::default(), 3, 8);
    driver.submit(1, flush());
    driver.submit(3, flush());
    driver.bench.settle();
    // The interrupts got lost on the way.
    driver.bench.raised = 0;
    driver.bench.relocate();
    assert_eq!(
        driver.bench.raised & 0b1010,
        0b1010,
        "both queues are announced"
    );
    driver.pump();
    assert!(driver.outstanding.is_empty(), "every command completes");
}

#[test]
fn vectors_that_were_raised_and_not_taken_move() {
    let mut driver = Driver::with_queues(Setup::default(), 2, 8);
    driver.submit(2, flush());
    let work = driver.bench.controller.serve(
        &driver.bench.doorbells,
        &mut driver.bench.memory,
        &mut driver.bench.disk,
        16,
    );
    let _ = work;
    // The message was not sent before the source stopped.
    driver.bench.relocate();
    driver.pump();
    assert!(driver.outstanding.is_empty(), "every command completes");
}

#[test]
fn switching_to_msix_later_works() {
    let mut driver = Driver::with_queues(pin(), 1, 8);
    let at = driver.bench.capability(0x11).expect("there is MSI-X");
    driver.bench.write_config16(at + 2, 1 << 15);
    assert!(driver.bench.controller.msix_enabled(), "it is on");
    driver.msix = true;
    for _ in 0..3 {
        driver.good(1, flush());
    }
    driver.bench.relocate();
    assert!(
        driver.bench.controller.msix_enabled(),
        "it is on after a move"
    );
    driver.good(1, flush());
}

#[test]
fn the_msix_capability_has_17_vectors_in_bar_0() {
    let mut driver = Driver::disabled(Setup::default(), crate::bench::parameters(9));
    let at = driver.bench.capability(0x11).expect("there is MSI-X");
    assert_eq!(driver.bench.config16(at + 2) & 0x7ff, 16, "17 vectors");
    assert_eq!(driver.bench.config16(at + 4), 0x2000, "table in BAR 0");
    assert_eq!(
        driver.bench.config16(at + 8),
        0x3000,
        "pending bits in BAR 0"
    );
    assert!(driver.bench.capability(0x05).is_none(), "there is no MSI");
}
