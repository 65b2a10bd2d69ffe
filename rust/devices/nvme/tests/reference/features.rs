// SPDX-License-Identifier: GPL-2.0

//! Get Features and Set Features, sections 5.13 and 5.21.

use crate::driver::{
    Driver,
    Setup,
    Sqe, //
};
use crate::spec::*;

/// The features that every I/O controller has, and a value other than 0 that each may have.
const MANDATORY: [(u8, u32); 8] = [
    (FEAT_ARBITRATION, 0x0302_0102),
    (FEAT_POWER_MGMT, 0),
    (FEAT_TEMP_THRESH, 0x0150),
    (FEAT_ERR_RECOVERY, 0x0000_0007),
    (FEAT_VOLATILE_WC, 0),
    (FEAT_IRQ_COALESCE, 0x0305),
    (FEAT_WRITE_ATOMIC, 1),
    (FEAT_ASYNC_EVENT, 0x1f),
];

#[test]
fn every_mandatory_feature_can_be_read() {
    let mut driver = Driver::new(Setup::default());
    for (id, _) in MANDATORY {
        let completion = driver.get_feature(id, 0);
        assert_eq!(completion.status, SUCCESS, "feature {id:#x}");
    }
    for id in [FEAT_NUM_QUEUES, FEAT_IRQ_CONFIG] {
        let completion = driver.get_feature(id, 0);
        assert_eq!(completion.status, SUCCESS, "feature {id:#x}");
    }
}

#[test]
fn what_is_set_is_read_back_after_a_move_and_gone_after_a_reset() {
    let mut driver = Driver::new(Setup::default());
    for (id, value) in MANDATORY {
        let default = driver.get_feature(id, 0).result;
        let completion = driver.set_feature(id, value);
        if completion.status == FEATURE_NOT_CHANGEABLE {
            assert_eq!(
                driver.get_feature(id, 0).result,
                default,
                "feature {id:#x} did not change"
            );
            continue;
        }
        assert_eq!(completion.status, SUCCESS, "feature {id:#x}");
        assert_eq!(
            driver.get_feature(id, 0).result,
            value,
            "feature {id:#x} reads back"
        );
        driver.bench.relocate();
        assert_eq!(
            driver.get_feature(id, 0).result,
            value,
            "feature {id:#x} reads back after a move"
        );
        driver.reset();
        driver.enable();
        assert_eq!(
            driver.get_feature(id, 0).result,
            default,
            "feature {id:#x} has its default after a reset"
        );
    }
}

#[test]
fn features_that_are_not_there_are_refused() {
    let mut driver = Driver::new(Setup::default());
    for id in [
        0x00,
        FEAT_HOST_MEM_BUF,
        FEAT_KATO,
        0x10,
        0x11,
        0x14,
        0x77,
        0x82,
        0xc0,
        0xff,
    ] {
        assert_eq!(
            driver.get_feature(id, 0).status,
            INVALID_FIELD,
            "get feature {id:#x}"
        );
        assert_eq!(
            driver.set_feature(id, 0).status,
            INVALID_FIELD,
            "set feature {id:#x}"
        );
    }
}

#[test]
fn nothing_is_saved_that_cannot_be() {
    let mut driver = Driver::new(Setup::default());
    for (id, value) in MANDATORY {
        let before = driver.get_feature(id, 0).result;
        let sqe = Sqe::new(ADMIN_SET_FEATURES)
            .nsid(u32::from(id == FEAT_ERR_RECOVERY))
            .dword(10, u32::from(id) | FEATURE_SAVE)
            .dword(11, value);
        driver.bad(0, sqe, &[FEATURE_NOT_SAVEABLE, INVALID_FIELD]);
        assert_eq!(
            driver.get_feature(id, 0).result,
            before,
            "feature {id:#x} did not change"
        );
    }
}

#[test]
fn selecting_defaults_and_capabilities_works_where_it_is_promised() {
    let mut driver = Driver::new(Setup::default());
    let oncs = driver.identify(CNS_CTRL, 0)[520];
    let default = driver.get_feature(FEAT_TEMP_THRESH, 0).result;
    driver.set_feature(FEAT_TEMP_THRESH, 0x150);
    let get = |select: u32| {
        Sqe::new(ADMIN_GET_FEATURES).dword(10, u32::from(FEAT_TEMP_THRESH) | select << 8)
    };
    if u16::from(oncs) & ONCS_SAVE_SELECT == 0 {
        driver.bad(0, get(1), &[INVALID_FIELD]);
        return;
    }
    assert_eq!(driver.good(0, get(0)), 0x150, "the current value");
    assert_eq!(driver.good(0, get(1)), default, "the default");
    assert_eq!(
        driver.good(0, get(2)),
        default,
        "the saved value of what cannot be saved is the default"
    );
    let capabilities = driver.good(0, get(3));
    assert_eq!(
        capabilities & 0b101,
        0b100,
        "changeable and not saveable: {capabilities:#x}"
    );
    driver.bad(0, get(5), &[INVALID_FIELD]);
}

#[test]
fn the_number_of_queues_is_what_both_sides_can() {
    let mut driver = Driver::new(Setup::default());
    for (asked, expected) in [
        (0x0000_0000, 0x0000_0000),
        (0x0003_0001, 0x0003_0001),
        (0x000f_000f, 0x000f_000f),
        (0x003f_0010, 0x000f_000f),
        (0xfffe_fffe, 0x000f_000f),
    ] {
        let completion = driver.set_feature(FEAT_NUM_QUEUES, asked);
        assert_eq!(completion.status, SUCCESS, "ask for {asked:#x}");
        // A controller may give more queues than it was asked for.
        let (given_cq, given_sq) = (completion.result >> 16, completion.result & 0xffff);
        assert!(
            given_cq >= expected >> 16 && given_sq >= expected & 0xffff,
            "{asked:#x} should give at least {expected:#x}, not {:#x}",
            completion.result
        );
        assert!(given_cq < 16 && given_sq < 16, "there are 16 pairs");
        assert_eq!(
            driver.get_feature(FEAT_NUM_QUEUES, 0).result,
            completion.result,
            "it reads back"
        );
    }
    for asked in [0xffff_0000, 0x0000_ffff, 0xffff_ffff] {
        assert_eq!(
            driver.set_feature(FEAT_NUM_QUEUES, asked).status,
            INVALID_FIELD,
            "{asked:#x} is one too many"
        );
    }
    assert_eq!(driver.create_cq(1, 8, Some(1)), SUCCESS);
    assert_eq!(
        driver.set_feature(FEAT_NUM_QUEUES, 3 << 16 | 3).status,
        CMD_SEQ_ERROR,
        "it is too late once there is a queue"
    );
}

#[test]
fn power_states_that_are_not_there_are_refused() {
    let mut driver = Driver::new(Setup::default());
    let states = u32::from(driver.identify(CNS_CTRL, 0)[263]) + 1;
    for state in states..32 {
        assert_eq!(
            driver.set_feature(FEAT_POWER_MGMT, state).status,
            INVALID_FIELD,
            "power state {state}"
        );
    }
}

#[test]
fn the_write_cache_can_be_turned_off_and_on() {
    let mut driver = Driver::ready();
    assert_eq!(
        driver.get_feature(FEAT_VOLATILE_WC, 0).result,
        1,
        "it is on"
    );
    assert_eq!(driver.set_feature(FEAT_VOLATILE_WC, 0).status, SUCCESS);
    driver.write(1, 0, &[1; 512]);
    assert_eq!(
        driver.bench.disk.unflushed, 0,
        "without a cache, what is written is safe"
    );
    driver.bench.relocate();
    driver.write(1, 0, &[2; 512]);
    assert_eq!(driver.bench.disk.unflushed, 0, "also after a move");
    assert_eq!(driver.set_feature(FEAT_VOLATILE_WC, 1).status, SUCCESS);
    driver.write(1, 0, &[3; 512]);
    assert_ne!(
        driver.bench.disk.unflushed, 0,
        "with a cache, it is safe after a flush"
    );
    driver.good(1, Sqe::new(CMD_FLUSH).nsid(1));
    assert_eq!(driver.bench.disk.unflushed, 0, "which is this");
}

#[test]
fn turning_the_cache_off_leaves_nothing_in_it() {
    let mut driver = Driver::ready();
    driver.write(1, 0, &[1; 512]);
    assert_eq!(driver.set_feature(FEAT_VOLATILE_WC, 0).status, SUCCESS);
    assert_eq!(driver.bench.disk.unflushed, 0, "all data is safe");
}

#[test]
fn interrupt_vectors_are_configured_one_by_one() {
    let mut driver = Driver::with_queues(Setup::default(), 3, 8);
    for vector in 0..17u32 {
        let value = driver.get_feature(FEAT_IRQ_CONFIG, vector);
        assert_eq!(value.status, SUCCESS, "vector {vector}");
        assert_eq!(value.result & 0xffff, vector, "the vector is named");
    }
    for vector in [17, 100, 0xffff] {
        assert_eq!(
            driver.get_feature(FEAT_IRQ_CONFIG, vector).status,
            INVALID_FIELD,
            "get vector {vector}"
        );
        assert_eq!(
            driver.set_feature(FEAT_IRQ_CONFIG, vector).status,
            INVALID_FIELD,
            "set vector {vector}"
        );
    }
    let completion = driver.set_feature(FEAT_IRQ_CONFIG, 2 | IRQ_CONFIG_CD);
    assert_eq!(completion.status, SUCCESS, "coalescing off on vector 2");
    driver.bench.relocate();
    assert_eq!(
        driver.get_feature(FEAT_IRQ_CONFIG, 2).result,
        2 | IRQ_CONFIG_CD,
        "it reads back"
    );
    assert_eq!(
        driver.get_feature(FEAT_IRQ_CONFIG, 3).result & 0xffff,
        3,
        "another vector is another vector"
    );
}

#[test]
fn a_feature_of_the_controller_is_not_one_of_a_namespace() {
    let mut driver = Driver::new(Setup::default());
    for nsid in [1, 2] {
        let sqe = Sqe::new(ADMIN_SET_FEATURES)
            .nsid(nsid)
            .dword(10, FEAT_ARBITRATION.into())
            .dword(11, 3);
        driver.bad(
            0,
            sqe,
            &[FEATURE_NOT_PER_NS, INVALID_NS, INVALID_FIELD, SUCCESS],
        );
    }
    // Linux names no namespace, nvme-cli may name all.
    for nsid in [0, NSID_ALL] {
        driver.good(
            0,
            Sqe::new(ADMIN_SET_FEATURES)
                .nsid(nsid)
                .dword(10, FEAT_ARBITRATION.into())
                .dword(11, 3),
        );
    }
}

#[test]
fn a_feature_of_a_namespace_is_one_of_a_namespace_that_is_there() {
    let mut driver = Driver::new(Setup::default());
    let sqe = |opcode, nsid| {
        Sqe::new(opcode)
            .nsid(nsid)
            .dword(10, FEAT_ERR_RECOVERY.into())
            .dword(11, 7)
    };
    for nsid in [1, NSID_ALL] {
        driver.good(0, sqe(ADMIN_SET_FEATURES, nsid));
    }
    assert_eq!(driver.good(0, sqe(ADMIN_GET_FEATURES, 1)), 7);
    for nsid in [0, 2, NSID_ALL - 1] {
        driver.bad(0, sqe(ADMIN_SET_FEATURES, nsid), &[INVALID_NS]);
    }
    // All namespaces together have no one value.
    for nsid in [0, 2, NSID_ALL - 1, NSID_ALL] {
        driver.bad(0, sqe(ADMIN_GET_FEATURES, nsid), &[INVALID_NS]);
    }
}
