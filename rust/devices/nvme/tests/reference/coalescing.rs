// SPDX-License-Identifier: GPL-2.0

//! Interrupt coalescing, sections 5.21.1.8 and 5.21.1.9: an I/O completion may wait to be announced until there are as many as
//! the guest wants, or until the time is over.

use nvme::DeviceModel;

use crate::driver::{
    Driver,
    Setup,
    Sqe, //
};
use crate::spec::*;
use crate::whole::Timer;

/// Four completions, or a millisecond.
const FOUR: u32 = 10 << 8 | 3;
/// Coalescing is disabled for a vector.
const CD: u32 = 1 << 16;

/// A driver of a controller with a timer, which announces as `coalescing` says.
fn coalescing(coalescing: u32) -> Driver {
    let mut driver = Driver::with_queues(Setup::default(), 2, 16);
    driver.bench.timer = Some(Timer::default());
    let set = driver.set_feature(FEAT_IRQ_COALESCE, coalescing);
    assert_eq!(set.status, SUCCESS);
    driver.bench.raised = 0;
    driver
}

/// Has flushes be executed in a queue, and returns the messages since.
fn flush(driver: &mut Driver, queue: u16, count: usize) -> u32 {
    for _ in 0..count {
        driver.submit(queue, Sqe::new(CMD_FLUSH).nsid(1));
    }
    work(driver)
}

/// Lets the controller work without that time goes by, and returns the messages since.
fn work(driver: &mut Driver) -> u32 {
    while driver.bench.kicked {
        driver.bench.work(7);
    }
    std::mem::take(&mut driver.bench.raised)
}

#[test]
fn completions_are_announced_when_there_are_as_many_as_the_guest_wants() {
    let mut driver = coalescing(FOUR);
    assert_eq!(flush(&mut driver, 1, 3), 0);
    assert_eq!(flush(&mut driver, 2, 3), 0, "each vector has its own");
    assert_eq!(flush(&mut driver, 1, 1), 1 << 1);
    assert_eq!(driver.reap(1), 4);
    assert_eq!(flush(&mut driver, 1, 3), 0, "it begins anew");
    assert_eq!(flush(&mut driver, 2, 5), 1 << 2);
}

#[test]
fn completions_are_announced_when_the_time_is_over() {
    let mut driver = coalescing(FOUR);
    assert_eq!(flush(&mut driver, 1, 1), 0);
    let timer = driver.bench.timer.as_ref().expect("there is a timer");
    assert_eq!(timer.asked.get(), Some(1000), "microseconds");
    assert_eq!(flush(&mut driver, 2, 2), 0);
    assert!(driver.bench.pass_time());
    assert_eq!(work(&mut driver), 1 << 1 | 1 << 2);
    assert!(!driver.bench.pass_time(), "nothing waits any more");
    assert_eq!(work(&mut driver), 0);
}

#[test]
fn without_a_number_or_a_time_each_completion_is_announced() {
    for none in [0, 3, 10 << 8] {
        let mut driver = coalescing(none);
        assert_eq!(flush(&mut driver, 1, 1), 1 << 1, "{none:#x}");
    }
}

#[test]
fn a_vector_without_coalescing_is_announced_at_once() {
    let mut driver = coalescing(FOUR);
    assert_eq!(flush(&mut driver, 1, 1), 0);
    // What waits is announced when it may not wait any more.
    driver.set_feature(FEAT_IRQ_CONFIG, CD | 1);
    driver.bench.raised = 0;
    assert_eq!(flush(&mut driver, 1, 1), 1 << 1);
    assert_eq!(flush(&mut driver, 2, 1), 0, "the others wait");
}

#[test]
fn a_change_announces_what_waits() {
    for (feature, value) in [(FEAT_IRQ_COALESCE, 0), (FEAT_IRQ_CONFIG, CD | 1)] {
        let mut driver = coalescing(FOUR);
        assert_eq!(flush(&mut driver, 1, 1), 0);
        let set = Sqe::new(ADMIN_SET_FEATURES)
            .dword(10, feature.into())
            .dword(11, value);
        driver.submit(0, set);
        assert_eq!(work(&mut driver), 1 | 1 << 1);
    }
}

#[test]
fn the_admin_queue_does_not_wait() {
    let mut driver = coalescing(FOUR);
    let buffer = driver.buffer(PAGE, 0);
    let identify = Sqe::new(ADMIN_IDENTIFY).data(&buffer).dword(10, CNS_CTRL);
    driver.submit(0, identify);
    assert_eq!(work(&mut driver), 1);
}

#[test]
fn the_pin_does_not_wait() {
    let setup = Setup {
        msix: false,
        ..Setup::default()
    };
    let mut driver = Driver::with_queues(setup, 1, 16);
    driver.bench.timer = Some(Timer::default());
    driver.set_feature(FEAT_IRQ_COALESCE, FOUR);
    flush(&mut driver, 1, 1);
    assert!(driver.bench.controller.intx_asserted());
}

#[test]
fn a_move_announces_what_waits() {
    let mut driver = coalescing(FOUR);
    assert_eq!(flush(&mut driver, 1, 3), 0);
    driver.bench.relocate();
    assert_eq!(driver.bench.raised & 1 << 1, 1 << 1);
    assert_eq!(driver.reap(1), 3);
    driver.bench.raised = 0;
    assert_eq!(
        flush(&mut driver, 1, 1),
        0,
        "and the destination has them wait"
    );
}

#[test]
fn nothing_of_a_reset_controller_is_announced() {
    let mut driver = coalescing(FOUR);
    assert_eq!(flush(&mut driver, 1, 3), 0);
    let cc = driver.bench.read32(REG_CC);
    driver.bench.write32(REG_CC, cc & !CC_ENABLE);
    assert_eq!(work(&mut driver), 0);
    driver.bench.pass_time();
    assert_eq!(work(&mut driver), 0);
    driver.revive();
}

#[test]
fn the_deletion_of_a_queue_announces_what_waits() {
    let mut driver = coalescing(FOUR);
    assert_eq!(flush(&mut driver, 1, 1), 0);
    assert_eq!(flush(&mut driver, 2, 1), 0);
    driver.reap(1);
    driver.submit(0, Sqe::new(ADMIN_DELETE_SQ).dword(10, 1));
    work(&mut driver);
    driver.submit(0, Sqe::new(ADMIN_DELETE_CQ).dword(10, 1));
    assert_eq!(work(&mut driver) & 1 << 2, 1 << 2);
}
