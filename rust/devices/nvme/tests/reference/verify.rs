// SPDX-License-Identifier: GPL-2.0

//! Verify, section 6.14: blocks are read and not transferred.

use nvme::Parameters;

use crate::bench::parameters;
use crate::disk::Trouble;
use crate::driver::{
    pattern,
    Driver,
    Setup,
    Sqe, //
};
use crate::spec::*;

fn verify(start: u64, count: u32) -> Sqe {
    // The addresses are none.
    Sqe::new(CMD_VERIFY)
        .nsid(1)
        .prp(0xdead_beef_0001, 0x1234_5677)
        .blocks(start, count)
}

fn in_store(shift: u8, store: u8) -> Driver {
    let parameters = Parameters {
        store,
        ..parameters(shift)
    };
    let mut driver = Driver::with_parameters(Setup::default(), parameters);
    driver.create_queues(1, 16);
    driver
}

#[test]
fn verify_reads_the_medium_and_touches_no_memory() {
    for store in [nvme::STORE_ZEROING, nvme::STORE_ZEROING + 1] {
        for shift in [9, 12] {
            let mut driver = in_store(shift, store);
            let oncs = driver.identify(CNS_CTRL, 0);
            assert_ne!(u16::from(oncs[520]) & ONCS_VERIFY, 0, "ONCS has Verify");
            let blocks = driver.bench.disk.capacity() >> shift;
            driver.write(1, 0, &pattern(1, 8192));
            for (start, count) in [(0, 1), (0, blocks), (blocks - 1, 1)] {
                driver.good(1, verify(start, count as u32));
            }

            driver.bench.disk.trouble = Some(Trouble::Medium);
            let completion = driver.call(1, verify(0, 1));
            assert_eq!(completion.status, READ_ERROR, "the medium is asked");
            driver.bench.disk.trouble = None;
            driver.good(1, verify(0, 1));
        }
    }
}

#[test]
fn verify_with_forced_unit_access_has_everything_on_the_medium_first() {
    let mut driver = in_store(9, nvme::STORE_ZEROING + 1);
    driver.write(1, 0, &pattern(1, 8192));
    driver.good(1, verify(0, 16));
    assert_ne!(
        driver.bench.disk.unflushed, 0,
        "without FUA nothing is flushed"
    );
    driver.good(1, verify(0, 16).dword(12, RW_FUA | 15));
    assert_eq!(driver.bench.disk.unflushed, 0, "with FUA all is flushed");
}
