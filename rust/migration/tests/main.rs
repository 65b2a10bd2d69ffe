// SPDX-License-Identifier: GPL-2.0

//! Host tests of the migration engine. `v1_NN` in a name is the number of the statement of the
//! protocol that the test proves.

mod common;
mod crc32c;
mod device_state;
mod estimate;
mod golden;
mod handshake;
mod header;
mod hostile;
mod migrated_blocks;
mod refusal;
mod request;
mod round_trip;
mod shared;
mod transition;
mod v2;

#[test]
fn the_checks_that_run_in_the_kernel_pass() {
    for (name, check) in shared::CHECKS {
        assert_eq!(check(), Ok(()), "{name}");
    }
}
