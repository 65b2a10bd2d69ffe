// SPDX-License-Identifier: GPL-2.0

//! Asynchronous events and Abort. Sections 5.1 and 5.2.

use crate::driver::{
    Completion,
    Driver,
    Setup,
    Sqe, //
};
use crate::spec::*;

/// Writes a doorbell that belongs to no queue.
fn ring_nowhere(driver: &mut Driver) {
    driver.bench.write32(REG_DBS + 9 * 8, 1);
}

/// The most requests that may wait.
fn limit(driver: &mut Driver) -> usize {
    usize::from(driver.identify(CNS_CTRL, 0)[259]) + 1
}

fn request(driver: &mut Driver) -> u16 {
    driver.submit(0, Sqe::new(ADMIN_ASYNC_EVENT))
}

/// The event that the completion of a request tells of: type, information and log page.
fn event(completion: Completion) -> (u32, u32, u32) {
    assert_eq!(completion.status, SUCCESS, "{completion:?} is an event");
    let result = completion.result;
    (result & 7, result >> 8 & 0xff, result >> 16 & 0xff)
}

const INVALID_REGISTER: (u32, u32, u32) = (AER_ERROR, AER_ERROR_INVALID_DB_REG, LOG_ERROR as u32);
const INVALID_VALUE: (u32, u32, u32) = (AER_ERROR, AER_ERROR_INVALID_DB_VALUE, LOG_ERROR as u32);

#[test]
fn requests_wait_up_to_the_limit() {
    let mut driver = Driver::new(Setup::default());
    let limit = limit(&mut driver);
    assert!(limit >= 4, "at least four requests can wait: {limit}");
    for _ in 0..limit {
        request(&mut driver);
    }
    driver.pump();
    assert_eq!(driver.outstanding.len(), limit, "all of them wait");
    driver.bad(0, Sqe::new(ADMIN_ASYNC_EVENT), &[ASYNC_LIMIT]);
    driver.bench.relocate();
    driver.bad(0, Sqe::new(ADMIN_ASYNC_EVENT), &[ASYNC_LIMIT]);
    assert_eq!(driver.outstanding.len(), limit, "they wait on");

    ring_nowhere(&mut driver);
    driver.pump();
    assert_eq!(driver.outstanding.len(), limit - 1, "one is answered");
    request(&mut driver);
    driver.pump();
    assert_eq!(driver.outstanding.len(), limit, "there is room for another");
}

#[test]
fn an_invalid_doorbell_is_an_event() {
    for (register, value, expected) in [
        (REG_DBS + 9 * 8, 1, INVALID_REGISTER),
        (REG_DBS + 9 * 8 + 4, 1, INVALID_REGISTER),
        (REG_DBS + 0x200, 1, INVALID_REGISTER),
        (REG_DBS + 8, 16, INVALID_VALUE),
        (REG_DBS + 8, 0xffff_ffff, INVALID_VALUE),
        (REG_DBS + 12, 16, INVALID_VALUE),
        (REG_DBS + 12, 0xffff, INVALID_VALUE),
        (REG_DBS, 32, INVALID_VALUE),
        (REG_DBS + 4, 32, INVALID_VALUE),
    ] {
        let mut driver = Driver::ready();
        let cid = request(&mut driver);
        driver.pump();
        driver.bench.write32(register, value);
        driver.pump();
        let completion = driver
            .take(0, cid)
            .unwrap_or_else(|| panic!("{value:#x} in {register:#x} is an event"));
        assert_eq!(event(completion), expected, "{value:#x} in {register:#x}");
        assert_eq!(
            driver.bench.read32(REG_CSTS),
            CSTS_RDY,
            "{value:#x} in {register:#x} is not fatal"
        );
        driver.good(1, Sqe::new(CMD_FLUSH).nsid(1));
        driver.identify(CNS_CTRL, 0);
    }
}

#[test]
fn a_head_past_the_tail_is_an_event() {
    let mut driver = Driver::ready();
    let cid = request(&mut driver);
    driver.pump();
    // Nothing has been posted to the queue.
    driver.bench.write32(REG_DBS + 12, 3);
    driver.pump();
    let completion = driver.take(0, cid).expect("there is an event");
    assert_eq!(event(completion), INVALID_VALUE);
    for _ in 0..20 {
        driver.good(1, Sqe::new(CMD_FLUSH).nsid(1));
    }
}

#[test]
fn a_tail_that_goes_back_is_an_event() {
    let mut driver = Driver::ready();
    let request = request(&mut driver);
    driver.pump();
    let cids: Vec<u16> = (0..5)
        .map(|_| driver.submit(1, Sqe::new(CMD_FLUSH).nsid(1)))
        .collect();
    // The controller hears of five commands, and then of three.
    driver.bench.work(0);
    driver.bench.write32(REG_DBS + 8, 3);
    driver.pump();
    let completion = driver.take(0, request).expect("there is an event");
    assert_eq!(event(completion), INVALID_VALUE);
    for cid in cids {
        assert!(driver.take(1, cid).is_some(), "command {cid} completes");
    }
}

#[test]
fn an_event_waits_for_a_request_and_for_a_move() {
    let mut driver = Driver::ready();
    ring_nowhere(&mut driver);
    driver.pump();
    driver.bench.relocate();
    let cid = request(&mut driver);
    driver.pump();
    let completion = driver.take(0, cid).expect("the event waited");
    assert_eq!(event(completion), INVALID_REGISTER);
}

#[test]
fn a_request_outlives_a_move() {
    let mut driver = Driver::ready();
    let cids: Vec<u16> = (0..3).map(|_| request(&mut driver)).collect();
    driver.pump();
    for cid in cids {
        driver.bench.relocate();
        ring_nowhere(&mut driver);
        driver.bench.relocate();
        driver.pump();
        let completion = driver.take(0, cid).expect("the oldest request is answered");
        assert_eq!(event(completion), INVALID_REGISTER);
        driver.log_page(LOG_ERROR, 64, false);
    }
    assert!(driver.outstanding.is_empty(), "all were answered");
}

#[test]
fn an_event_masks_its_kind_until_the_log_is_read() {
    let mut driver = Driver::ready();
    let first = request(&mut driver);
    let second = request(&mut driver);
    driver.pump();
    ring_nowhere(&mut driver);
    driver.pump();
    assert!(driver.take(0, first).is_some(), "the first event");

    ring_nowhere(&mut driver);
    driver.pump();
    assert!(
        driver.take(0, second).is_none(),
        "another error is masked until the log is read"
    );
    driver.bench.relocate();
    driver.log_page(LOG_ERROR, 64, true);
    ring_nowhere(&mut driver);
    driver.pump();
    assert!(
        driver.take(0, second).is_none(),
        "it stays masked when the log is read with Retain Asynchronous Event"
    );
    driver.log_page(LOG_ERROR, 64, false);
    ring_nowhere(&mut driver);
    driver.pump();
    assert!(
        driver.take(0, second).is_some(),
        "reading the log ends the masking"
    );
}

#[test]
fn an_event_that_the_log_told_of_is_not_reported_any_more() {
    // No request waits for the event, or one waits behind an event of the same type.
    for waiting in [0, 2] {
        for retain in [true, false] {
            let mut driver = Driver::ready();
            for _ in 0..waiting {
                request(&mut driver);
            }
            driver.pump();
            ring_nowhere(&mut driver);
            driver.bench.write32(REG_DBS + 8, 0xffff);
            driver.pump();
            driver.bench.relocate();
            driver.done.clear();
            driver.log_page(LOG_ERROR, 64, true);
            driver.log_page(LOG_SMART, 512, false);
            if !retain {
                driver.log_page(LOG_ERROR, 64, false);
            }
            if waiting == 0 {
                request(&mut driver);
                driver.pump();
            }
            let expected = usize::from(waiting == 0 && retain);
            assert_eq!(
                driver.done.len(),
                expected,
                "events after the log was read with {waiting} requests and retention {retain}"
            );
            driver.log_page(LOG_ERROR, 64, false);
            if expected == 0 {
                ring_nowhere(&mut driver);
                driver.pump();
                assert_eq!(driver.done.len(), 1, "a new event");
            }
        }
    }
}

#[test]
fn a_storm_of_events_is_bounded() {
    let mut driver = Driver::ready();
    for _ in 0..300 {
        ring_nowhere(&mut driver);
        driver.bench.write32(REG_DBS + 8, 0xffff);
        driver.bench.write32(REG_DBS + 12, 0xffff);
        driver.bench.settle();
    }
    let mut answered = 0;
    for _ in 0..40 {
        let cid = request(&mut driver);
        driver.pump();
        if driver.take(0, cid).is_none() {
            break;
        }
        answered += 1;
        driver.log_page(LOG_ERROR, 64, false);
    }
    assert!(
        (1..32).contains(&answered),
        "a few events are kept, not {answered}"
    );
    driver.good(1, Sqe::new(CMD_FLUSH).nsid(1));
}

#[test]
fn a_smart_event_comes_when_it_is_configured() {
    let mut driver = Driver::ready();
    let cid = request(&mut driver);
    driver.pump();
    assert_eq!(driver.set_feature(FEAT_ASYNC_EVENT, 0).status, SUCCESS);
    // Every temperature is above 0 K.
    assert_eq!(driver.set_feature(FEAT_TEMP_THRESH, 0).status, SUCCESS);
    driver.pump();
    assert!(
        driver.take(0, cid).is_none(),
        "temperature events are not enabled"
    );
    driver.set_feature(FEAT_TEMP_THRESH, 0x1ff);
    assert_eq!(driver.set_feature(FEAT_ASYNC_EVENT, 1 << 1).status, SUCCESS);
    driver.set_feature(FEAT_TEMP_THRESH, 0);
    driver.pump();
    // A model without a temperature has no such event, but must not have another one.
    if let Some(completion) = driver.take(0, cid) {
        assert_eq!(
            event(completion),
            (AER_SMART, AER_SMART_TEMPERATURE, u32::from(LOG_SMART))
        );
        assert_ne!(
            driver.log_page(LOG_SMART, 512, false)[0] & 2,
            0,
            "the critical warning says so, too"
        );
    }
}

#[test]
fn a_smart_event_comes_as_long_as_there_is_reason_for_it() {
    let mut driver = Driver::ready();
    let expect_event = |driver: &mut Driver, why: &str| {
        let cid = request(driver);
        driver.pump();
        let completion = driver.take(0, cid).unwrap_or_else(|| panic!("{why}"));
        assert_eq!(
            event(completion),
            (AER_SMART, AER_SMART_TEMPERATURE, u32::from(LOG_SMART))
        );
        driver.log_page(LOG_SMART, 512, false);
    };
    driver.set_feature(FEAT_ASYNC_EVENT, 0);
    driver.set_feature(FEAT_TEMP_THRESH, 0);
    driver.set_feature(FEAT_ASYNC_EVENT, 1 << 1);
    expect_event(&mut driver, "it is warm when events are enabled");
    driver.set_feature(FEAT_TEMP_THRESH, 1);
    expect_event(&mut driver, "it is still warm by another threshold");

    let cid = request(&mut driver);
    driver.pump();
    assert!(driver.take(0, cid).is_none(), "nothing was set since");
    driver.set_feature(FEAT_ARBITRATION, 0);
    driver.pump();
    assert!(driver.take(0, cid).is_none(), "another feature");
}

#[test]
fn a_reset_forgets_requests_and_events() {
    let mut driver = Driver::ready();
    request(&mut driver);
    driver.pump();
    driver.reset();
    driver.enable();
    ring_nowhere(&mut driver);
    driver.pump();
    assert!(driver.outstanding.is_empty(), "nobody waits for an event");
    driver.reset();
    driver.enable();
    request(&mut driver);
    driver.pump();
    assert_eq!(driver.done.len(), 0, "the event of the life before is gone");
}

#[test]
fn requests_use_up_neither_queue_nor_budget() {
    let setup = Setup {
        admin_entries: 4,
        ..Setup::default()
    };
    let mut driver = Driver::new(setup);
    for _ in 0..3 {
        request(&mut driver);
        driver.pump();
        // The request waits outside of its queue, which only the next completion tells.
        driver.identify(CNS_CTRL, 0);
    }
    assert_eq!(driver.outstanding.len(), 3, "three requests wait");
    driver.identify(CNS_CTRL, 0);
}

fn abort(sq: u16, cid: u16) -> Sqe {
    Sqe::new(ADMIN_ABORT).dword(10, u32::from(cid) << 16 | u32::from(sq))
}

#[test]
fn what_is_not_there_is_not_aborted() {
    let mut driver = Driver::ready();
    for (sq, cid) in [(1, 77), (0, 0xeeee), (0, 0xffff)] {
        let result = driver.good(0, abort(sq, cid));
        assert_eq!(result & 1, 1, "command {cid} of queue {sq} was not aborted");
    }
    for sq in [2, 17, 0xffff] {
        let completion = driver.admin(abort(sq, 1));
        assert!(
            completion.status == SUCCESS && completion.result & 1 == 1
                || [INVALID_FIELD, QID_INVALID].contains(&completion.status),
            "queue {sq} does not exist: {completion:?}"
        );
    }
}

#[test]
fn an_aborted_request_completes_and_another_one_does_not() {
    let mut driver = Driver::ready();
    let first = request(&mut driver);
    let second = request(&mut driver);
    driver.pump();
    driver.bench.relocate();
    let result = driver.good(0, abort(0, first));
    driver.pump();
    match driver.take(0, first) {
        Some(completion) => {
            assert_eq!(result & 1, 0, "the result says that it was aborted");
            assert_eq!(completion.status, ABORT_REQ);
        }
        None => assert_eq!(result & 1, 1, "the result says that it was not aborted"),
    }
    assert!(
        driver.outstanding.contains(&(0, second)),
        "the other request waits on"
    );
}

#[test]
fn an_aborted_request_completes_before_its_abort() {
    let mut driver = Driver::ready();
    let request = request(&mut driver);
    driver.pump();
    let cid = driver.submit(0, abort(0, request));
    driver.bench.settle();
    // The driver looks at one completion at a time.
    assert_eq!(driver.peel(0, 1), 1, "there is a completion");
    let aborted = driver.take(0, request).expect("it is that of the request");
    assert_eq!(aborted.status, ABORT_REQ, "status of the request");
    driver.pump();
    let completion = driver.take(0, cid).expect("then the abort completes");
    assert_eq!(completion.result & 1, 0, "it says that it was aborted");
}

#[test]
fn an_abort_completes_when_there_is_no_room_for_what_it_aborts() {
    let setup = Setup {
        admin_completions: 2,
        ..Setup::default()
    };
    let mut driver = Driver::new(setup);
    let request = request(&mut driver);
    driver.pump();
    assert_eq!(driver.good(0, abort(0, request)) & 1, 0, "it was aborted");
    driver.pump();
    let aborted = driver.take(0, request).expect("the request completes");
    assert_eq!(aborted.status, ABORT_REQ, "status of the request");
}

#[test]
fn a_command_that_waits_is_executed_or_aborted_but_completes_once() {
    for rounds in 0..8 {
        let mut driver = Driver::with_queues(Setup::default(), 1, 16);
        let cids: Vec<u16> = (0..10)
            .map(|_| driver.enqueue(1, Sqe::new(CMD_FLUSH).nsid(1)))
            .collect();
        driver.ring_sq(1);
        for _ in 0..rounds {
            driver.bench.work(1);
        }
        let victim = cids[6];
        let result = driver.good(0, abort(1, victim));
        driver.pump();
        for cid in cids {
            let completion = driver.take(1, cid).expect("every command completes");
            let expected = if cid == victim && result & 1 == 0 {
                ABORT_REQ
            } else {
                SUCCESS
            };
            assert_eq!(
                completion.status, expected,
                "command {cid} after {rounds} rounds, Abort said {result}"
            );
        }
    }
}
