// SPDX-License-Identifier: GPL-2.0

//! Host tests of the serial card.

mod bench;
mod card;
mod data_sheet;
mod linux_8250;
mod model;
mod properties;
mod rig;
mod serial_reg;
mod shared;
mod state;

#[test]
fn the_checks_that_run_in_the_kernel_pass() {
    for (name, check) in shared::CHECKS {
        assert_eq!(check(), Ok(()), "{name}");
    }
}
