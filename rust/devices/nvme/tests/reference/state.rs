// SPDX-License-Identifier: GPL-2.0

//! The saved state: a move at every point of a command's life, and what hostile states do.

use nvme::{
    DeviceModel,
    Parameters, //
};

use crate::bench::parameters;
use crate::driver::{
    pattern,
    Driver,
    Setup,
    Sqe, //
};
use crate::hostile::{
    some_attacks,
    Guest, //
};
use crate::spec::*;
use crate::whole::Controller;

/// A driver with something in every part of its controller's state: commands in several queues, a
/// full completion queue, requests for events, an event, features, errors, shadow doorbells.
pub fn rich(setup: Setup) -> (Driver, Vec<(u16, u16)>) {
    let mut driver = Driver::new(setup);
    for (cq, entries) in [(1, 4), (2, 16), (5, 3)] {
        assert_eq!(driver.create_cq(cq, entries, Some(cq)), SUCCESS);
    }
    for (sq, entries, cq) in [(1, 16, 1), (2, 8, 2), (3, 8, 2), (7, 5, 5)] {
        assert_eq!(driver.create_sq(sq, entries, cq), SUCCESS);
    }
    driver.configure_shadow();
    assert_eq!(driver.set_feature(FEAT_TEMP_THRESH, 0x155).status, SUCCESS);
    assert_eq!(
        driver.set_feature(FEAT_IRQ_COALESCE, 0x0102).status,
        SUCCESS
    );
    assert_eq!(
        driver
            .set_feature(FEAT_IRQ_CONFIG, 3 | IRQ_CONFIG_CD)
            .status,
        SUCCESS
    );
    driver.bad(2, Sqe::new(0x66).nsid(1), &[INVALID_OPCODE]);
    // Queues that are somewhere in the middle, in their second round.
    for _ in 0..21 {
        driver.good(2, Sqe::new(CMD_FLUSH).nsid(1));
        driver.good(7, Sqe::new(CMD_FLUSH).nsid(1));
    }

    let mut commands = Vec::new();
    for index in 0..10u64 {
        let buffer = driver.filled(&pattern(index as u8, 512), 0);
        let sqe = Sqe::new(CMD_WRITE).nsid(1).data(&buffer).blocks(index, 1);
        commands.push((1, driver.enqueue(1, sqe)));
    }
    for (sq, count) in [(2, 5), (3, 4), (7, 4)] {
        for index in 0..count {
            let block = u64::from(sq) * 100 + index;
            let buffer = driver.filled(&pattern(block as u8, 8192), 512);
            let sqe = Sqe::new(CMD_WRITE)
                .nsid(1)
                .data(&buffer)
                .blocks(block * 2, 16);
            commands.push((sq, driver.enqueue(sq, sqe)));
        }
    }
    for _ in 0..2 {
        driver.enqueue(0, Sqe::new(ADMIN_ASYNC_EVENT));
    }
    commands.push((0, driver.enqueue(0, Sqe::new(ADMIN_KEEP_ALIVE))));
    for sq in [1, 2, 3, 7, 0] {
        driver.ring_sq(sq);
    }
    driver.bench.write32(REG_DBS + 15 * 8, 1);
    (driver, commands)
}

fn setups() -> [Setup; 2] {
    [true, false].map(|msix| Setup {
        msix,
        ..Setup::default()
    })
}

/// Lets the driver of [`rich`] finish and returns its completions, sorted, and its disk.
fn finish(driver: &mut Driver, commands: &[(u16, u16)]) -> (Vec<(u16, u16, Status)>, Vec<u8>) {
    driver.pump();
    let mut seen: Vec<_> = commands
        .iter()
        .map(|&(sq, cid)| {
            let completion = driver.take(sq, cid).unwrap_or_else(|| {
                panic!("command {cid} of queue {sq} completes");
            });
            (sq, cid, completion.status)
        })
        .collect();
    seen.sort_unstable();
    assert_eq!(driver.done.len(), 1, "one event is told of");
    assert_eq!(driver.outstanding.len(), 1, "one request waits on");
    assert_eq!(driver.get_feature(FEAT_TEMP_THRESH, 0).result, 0x155);
    assert_eq!(driver.get_feature(FEAT_IRQ_COALESCE, 0).result, 0x0102);
    for sq in [1, 2, 3, 7] {
        driver.good(sq, Sqe::new(CMD_FLUSH).nsid(1));
    }
    (seen, driver.bench.disk.bytes.clone())
}

#[test]
fn a_move_at_any_point_changes_nothing() {
    for setup in setups() {
        let (mut driver, commands) = rich(setup);
        driver.bench.budget = 1;
        let before = driver.bench.rounds;
        let expected = finish(&mut driver, &commands);
        let rounds = driver.bench.rounds - before;
        assert!(rounds > 24, "there are {rounds} rounds to move in");
        for round in 1..=rounds {
            let (mut driver, commands) = rich(setup);
            driver.bench.budget = 1;
            driver.bench.move_before = Some(driver.bench.rounds + round);
            let seen = finish(&mut driver, &commands);
            assert_eq!(seen.0, expected.0, "completions, moved in round {round}");
            assert!(seen.1 == expected.1, "data, moved in round {round}");
        }
    }
}

#[test]
fn moving_all_the_time_changes_nothing() {
    for setup in setups() {
        for budget in [1, 2, 100] {
            let (mut driver, commands) = rich(setup);
            let expected = finish(&mut driver, &commands);
            let (mut driver, commands) = rich(setup);
            driver.bench.budget = budget;
            driver.bench.moving = true;
            let seen = finish(&mut driver, &commands);
            assert_eq!(seen.0, expected.0, "completions with budget {budget}");
            assert!(seen.1 == expected.1, "data with budget {budget}");
        }
    }
}

#[test]
fn a_source_that_goes_on_after_saving_is_unharmed() {
    let (mut driver, commands) = rich(Setup::default());
    let expected = finish(&mut driver, &commands);
    let (mut driver, commands) = rich(Setup::default());
    for _ in 0..10 {
        driver.bench.save();
        driver.bench.work(1);
    }
    assert_eq!(finish(&mut driver, &commands), expected);
}

#[test]
fn a_loaded_state_saves_as_the_same_bytes() {
    for setup in setups() {
        let (mut driver, _) = rich(setup);
        for round in 0..30 {
            let state = driver.bench.save();
            let loaded = crate::bench::from_state(driver.bench.controller.parameters(), &state)
                .expect("what was saved can be loaded");
            // Vectors that are raised once more are not a part of the state.
            let mut loaded = loaded;
            let raised = loaded.take_raised();
            let mut again = vec![0; nvme::Controller::STATE_SIZE];
            let size = loaded.save(&mut again).expect("there is room");
            again.truncate(size);
            assert!(again == state, "round {round}, with raised {raised:#x}");
            driver.bench.work(1);
        }
    }
}

#[test]
fn the_state_fits_and_needs_its_room() {
    let (mut driver, _) = rich(Setup::default());
    let state = driver.bench.save();
    assert_eq!(
        state.len(),
        nvme::Controller::STATE_SIZE,
        "all of it is used"
    );
    let mut small = vec![0; nvme::Controller::STATE_SIZE - 1];
    assert_eq!(
        driver.bench.controller.save(&mut small),
        None,
        "a byte less is not enough"
    );
    let mut large = vec![0x5a; nvme::Controller::STATE_SIZE + 9];
    assert_eq!(
        driver.bench.controller.save(&mut large),
        Some(nvme::Controller::STATE_SIZE),
        "more is more than enough"
    );
    assert_eq!(
        large[nvme::Controller::STATE_SIZE..],
        [0x5a; 9],
        "and untouched"
    );
}

#[test]
fn a_state_of_another_length_is_refused() {
    let (mut driver, _) = rich(Setup::default());
    let state = driver.bench.save();
    let parameters = *driver.bench.controller.parameters();
    for length in 0..state.len() {
        assert!(
            crate::bench::from_state(&parameters, &state[..length]).is_err(),
            "{length} bytes of {} are refused",
            state.len()
        );
    }
    let mut longer = state;
    longer.push(0);
    assert!(
        crate::bench::from_state(&parameters, &longer).is_err(),
        "a byte too many is refused"
    );
}

#[test]
fn a_refused_state_does_not_spoil_the_next_one() {
    let (mut driver, commands) = rich(Setup::default());
    let expected = finish(&mut driver, &commands);

    let (mut driver, commands) = rich(Setup::default());
    let state = driver.bench.save();
    let mut broken = state.clone();
    let last = broken.len() - 1;
    broken[last] ^= 0xff;
    let mut spoiled = Controller::power_on(&parameters(9)).expect("the parameters are good");
    assert!(spoiled.load(&broken).is_err(), "it is refused");
    assert_eq!(spoiled.load(&state), Ok(()));
    driver.bench.controller = spoiled;
    driver.bench.kicked = true;
    assert_eq!(finish(&mut driver, &commands), expected);
}

#[test]
fn the_serial_number_moves() {
    let (mut driver, _) = rich(Setup::default());
    let state = driver.bench.save();
    let parameters = Parameters {
        serial: *b"ANOTHER SERIAL      ",
        ..parameters(9)
    };
    driver.bench.load(&parameters, &state);
    driver.bench.raised = u32::MAX;
    let data = driver.identify(CNS_CTRL, 0);
    assert_eq!(
        &data[4..24],
        crate::bench::SERIAL,
        "the guest sees the serial number from before"
    );
}

#[test]
fn a_fatal_status_moves_and_is_left_by_a_reset() {
    let mut driver = Driver::ready();
    driver.bench.controller.fail();
    driver.submit(1, Sqe::new(CMD_FLUSH).nsid(1));
    let csts = driver.bench.read32(REG_CSTS);
    assert_ne!(csts & CSTS_CFS, 0, "it has failed");
    driver.bench.relocate();
    assert_eq!(driver.bench.read32(REG_CSTS), csts, "it has failed here");
    driver.bench.memory.forget();
    driver.bench.settle();
    assert_eq!(driver.bench.memory.log(), &[], "it leaves memory alone");
    driver.revive();
}

#[test]
fn a_controller_that_is_being_enabled_gets_ready_where_it_is_moved_to() {
    let mut driver = Driver::disabled(Setup::default(), parameters(9));
    let sq = driver.ring_memory(32, SQE_SIZE);
    let cq = driver.ring_memory(32, CQE_SIZE);
    for moved in 0..4 {
        let registers: [(u64, u64, usize); 4] = [
            (REG_AQA, 31 << 16 | 31, 4),
            (REG_ASQ, sq, 8),
            (REG_ACQ, cq, 8),
            (REG_CC, u64::from(CC_USUAL), 4),
        ];
        for (index, (register, value, size)) in registers.into_iter().enumerate() {
            driver.bench.write(register, &value.to_le_bytes()[..size]);
            if index == moved {
                driver.bench.relocate();
            }
        }
        driver.bench.settle();
        assert_eq!(
            driver.bench.read32(REG_CSTS),
            CSTS_RDY,
            "moved after register {moved} was written"
        );
        driver.know_cq(0, cq, 32, Some(0));
        driver.know_sq(0, sq, 32, 0);
        driver.identify(CNS_CTRL, 0);
        driver.reset();
    }
}

#[test]
fn a_controller_that_is_being_disabled_is_so_where_it_is_moved_to() {
    let mut driver = Driver::ready();
    driver.write(1, 0, &pattern(2, 512));
    driver.bench.write32(REG_CC, CC_USUAL & !CC_ENABLE);
    driver.bench.relocate();
    driver.bench.settle();
    assert_eq!(driver.bench.read32(REG_CSTS), 0, "it is not ready");
    driver.bench.memory.forget();
    driver.bench.write32(REG_DBS, 1);
    driver.bench.settle();
    assert_eq!(driver.bench.memory.log(), &[], "it leaves memory alone");
    driver.revive();
}

#[test]
fn queues_that_the_destination_does_not_have_are_refused() {
    let (mut driver, _) = rich(Setup::default());
    let state = driver.bench.save();
    let parameters = Parameters {
        queue_pairs: 6,
        ..parameters(9)
    };
    assert!(
        crate::bench::from_state(&parameters, &state).is_err(),
        "queue 7 does not fit into 6 pairs"
    );
}

#[test]
fn a_state_with_any_byte_changed_is_refused_or_survivable() {
    let (mut driver, _) = rich(Setup::default());
    // Some work done, some left.
    for _ in 0..8 {
        driver.bench.work(1);
    }
    let state = driver.bench.save();
    let used = Guest::new().driver.bench.controller;
    let attacks = some_attacks(12);
    let mut accepted = 0;
    for at in 0..state.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut state = state.clone();
            state[at] ^= change;
            accepted += usize::from(survive(&used, &state, at, &attacks));
        }
    }
    assert!(accepted > 0, "some numbers can have any value");
    assert!(accepted < state.len() * 3, "some numbers cannot");
}

#[test]
fn a_state_with_any_word_replaced_is_refused_or_survivable() {
    let (mut driver, _) = rich(Setup::default());
    for _ in 0..8 {
        driver.bench.work(1);
    }
    let state = driver.bench.save();
    let used = Guest::new().driver.bench.controller;
    let attacks = some_attacks(6);
    for at in (0..state.len() - 3).step_by(2) {
        for value in [0u32, 0xffff_ffff, 0x0001_0000, 0x7fff_fffe] {
            let mut state = state.clone();
            state[at..at + 4].copy_from_slice(&value.to_le_bytes());
            survive(&used, &state, at, &attacks);
        }
    }
}

/// Loads a state, if that works, lets a hostile guest use the controller and resets it. Returns
/// whether the state was accepted.
fn survive(used: &Controller, state: &[u8], at: usize, attacks: &[crate::hostile::Attack]) -> bool {
    let Ok(controller) = crate::bench::from_state(&parameters(9), state) else {
        return false;
    };
    // In the place of another one it is the same.
    let mut other = used.clone();
    assert_eq!(other.load(state), Ok(()), "byte {at} was changed");
    assert_eq!(other, controller, "byte {at} was changed");

    let check = std::panic::AssertUnwindSafe(|| {
        // An accepted state can be saved and loaded.
        let mut saved = vec![0; nvme::Controller::STATE_SIZE];
        controller.clone().save(&mut saved).expect("there is room");
        crate::bench::from_state(&parameters(9), &saved).expect("what was saved can be loaded");

        let mut guest = Guest::new();
        guest.driver.bench.controller = controller;
        guest.driver.bench.raised = 0;
        guest.driver.bench.settle();
        guest.survive(attacks);
    });
    if let Err(panic) = std::panic::catch_unwind(check) {
        eprintln!("byte {at} of the state was changed");
        std::panic::resume_unwind(panic);
    }
    true
}

/// The state of a controller of version 1, see the file.
const STATE_1: &str = include_str!("../golden/state-1.hex");

/// Bytes of version 1, which the later versions begin with.
const STATE_1_SIZE: usize = 2228;

/// Returns the bytes of a file of hexadecimal numbers with comments.
fn golden(text: &str) -> Vec<u8> {
    let numbers = text.lines().flat_map(|line| {
        let (numbers, _) = line.split_once('#').unwrap_or((line, ""));
        numbers.split_whitespace()
    });
    let runs = numbers.flat_map(|number| {
        let (byte, count) = number.split_once('*').unwrap_or((number, "1"));
        let byte = u8::from_str_radix(byte, 16).expect("a hexadecimal number");
        vec![byte; count.parse().expect("a count")]
    });
    runs.collect()
}

/// Returns a state as version 1 had it.
fn as_version_1(mut state: Vec<u8>) -> Vec<u8> {
    assert_eq!(state[0], 2, "the version that is saved");
    state[0] = 1;
    let behind = state.split_off(STATE_1_SIZE);
    assert!(
        behind.iter().all(|&byte| byte == 0),
        "version 1 can say all of it"
    );
    state
}

#[test]
fn a_state_of_version_1_is_loaded() {
    let state = golden(STATE_1);
    assert_eq!(state.len(), STATE_1_SIZE, "bytes of version 1");
    let mut controller =
        crate::bench::from_state(&parameters(9), &state).expect("it was saved by a release");
    let mut again = vec![0; nvme::Controller::STATE_SIZE];
    controller.save(&mut again).expect("there is room");
    assert_eq!(as_version_1(again), state, "nothing is lost");

    // Neither version has the length of the other one.
    let mut longer = state.clone();
    longer.resize(nvme::Controller::STATE_SIZE, 0);
    assert!(
        crate::bench::from_state(&parameters(9), &longer).is_err(),
        "version 1 is as short as it was"
    );
    let mut shorter = state;
    shorter[0] = 2;
    assert!(
        crate::bench::from_state(&parameters(9), &shorter).is_err(),
        "version 2 is longer"
    );
}

#[test]
fn a_controller_goes_on_from_a_state_of_version_1() {
    let (mut driver, commands) = rich(Setup::default());
    let expected = finish(&mut driver, &commands);
    for rounds in 0..12 {
        let (mut driver, commands) = rich(Setup::default());
        for _ in 0..rounds {
            driver.bench.work(1);
        }
        let state = as_version_1(driver.bench.save());
        driver.bench.load(&parameters(9), &state);
        assert_eq!(
            finish(&mut driver, &commands),
            expected,
            "moved after {rounds} rounds"
        );
    }
}

#[test]
fn a_state_of_version_1_with_any_byte_changed_is_refused_or_survivable() {
    let used = Guest::new().driver.bench.controller;
    let attacks = some_attacks(6);
    let state = golden(STATE_1);
    let mut accepted = 0;
    for at in 0..state.len() {
        let mut state = state.clone();
        state[at] ^= 0x81;
        accepted += usize::from(survive(&used, &state, at, &attacks));
    }
    assert!(accepted > 0, "some numbers can have any value");
    assert!(accepted < state.len(), "some numbers cannot");
}
