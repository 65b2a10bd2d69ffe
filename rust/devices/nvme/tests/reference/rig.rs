// SPDX-License-Identifier: GPL-2.0

//! The checks that every device model has to pass, on controllers that are new, in use, and stopped.

use device_model_rig as rig;

use crate::bench::parameters;
use crate::driver::{
    Driver,
    Setup, //
};
use crate::state::rich;
use crate::whole::Controller;

#[test]
fn a_new_controller_passes() {
    let parameters = parameters(9);
    let controller = Controller::power_on(&parameters).expect("the parameters are good");
    rig::check(&parameters, &controller);
    rig::check_peek(&controller, 0, nvme::Controller::BAR0_SIZE);
}

#[test]
fn a_controller_in_use_passes() {
    let (mut driver, _) = rich(Setup::default());
    for _ in 0..4 {
        driver.bench.save();
        let controller = &driver.bench.controller;
        rig::check(controller.parameters(), controller);
        rig::check_peek(controller, 0, nvme::Controller::BAR0_SIZE);
        driver.bench.work(1);
    }
}

#[test]
fn a_controller_that_failed_passes() {
    let mut driver = Driver::ready();
    driver.bench.controller.fail();
    let controller = &driver.bench.controller;
    rig::check(controller.parameters(), controller);
}

#[test]
fn a_load_leaves_nothing_of_the_controller_that_it_replaces() {
    let (mut driver, _) = rich(Setup::default());
    driver.bench.save();
    let used = driver.bench.controller.clone();
    let parameters = *used.parameters();
    let new = Controller::power_on(&parameters).expect("the parameters are good");
    for model in [&new, &used] {
        rig::check_load_replaces(&parameters, &used, model);
        rig::check_load_replaces(&parameters, &new, model);
    }
}

#[test]
fn hostile_states_are_refused_or_used_wholly() {
    let (mut driver, _) = rich(Setup::default());
    driver.bench.save();
    let controller = &driver.bench.controller;
    let parameters = *controller.parameters();
    let accepted = rig::check_hostile(&parameters, controller, &[0x01, 0x80], |loaded| {
        rig::check_room(&loaded);
    });
    assert!(accepted > 100, "only {accepted} states are accepted");
}
