// SPDX-License-Identifier: GPL-2.0

//! Controller registers: their values, enable, reset and shutdown. Sections 3.1, 7.3 and 7.6.

use nvme::{
    DeviceModel,
    PostedWrites, //
};

use crate::bench::{
    parameters,
    Bench, //
};
use crate::driver::{
    pattern,
    Driver,
    Setup,
    Sqe, //
};
use crate::spec::*;

/// A bench with queue memory for an admin queue.
fn prepared() -> (Bench, u64, u64) {
    let mut driver = Driver::disabled(Setup::default(), parameters(9));
    let sq = driver.ring_memory(32, SQE_SIZE);
    let cq = driver.ring_memory(32, CQE_SIZE);
    (driver.bench, sq, cq)
}

/// Enables a controller with these values and returns CSTS.
fn enabled_with(cc: u32, aqa: u32, offset_sq: u64, offset_cq: u64) -> u32 {
    let (mut bench, sq, cq) = prepared();
    bench.write32(REG_AQA, aqa);
    bench.write64(REG_ASQ, sq + offset_sq);
    bench.write64(REG_ACQ, cq + offset_cq);
    bench.write32(REG_CC, cc);
    bench.settle();
    bench.read32(REG_CSTS)
}

const AQA_32: u32 = 31 << 16 | 31;

#[test]
fn capabilities_are_those_of_a_small_controller() {
    let mut bench = Bench::new(parameters(9));
    let cap = bench.read64(REG_CAP);

    assert!(
        cap & CAP_MQES_MASK >= 127,
        "a queue can have at least 128 entries, CAP is {cap:#x}"
    );
    assert_eq!(
        cap >> CAP_STRIDE_SHIFT & 0xf,
        0,
        "doorbells are next to each other, CAP is {cap:#x}"
    );
    assert_ne!(cap & CAP_CSS_NVM, 0, "the NVM command set is there");
    assert_ne!(cap >> CAP_TIMEOUT_SHIFT & 0xff, 0, "there is a timeout");
    assert_eq!(
        cap >> CAP_MPSMIN_SHIFT & 0xf,
        0,
        "memory pages can have 4 KiB, CAP is {cap:#x}"
    );
    assert_eq!(bench.read32(REG_VS), VS_1_4, "the version is 1.4");
    assert_eq!(bench.read32(REG_CC), 0, "CC after power-on");
    assert_eq!(bench.read32(REG_CSTS), 0, "CSTS after power-on");
    for register in [REG_INTMS, REG_INTMC, REG_NSSR, REG_AQA] {
        assert_eq!(bench.read32(register), 0, "{register:#x} after power-on");
    }
    for register in [REG_ASQ, REG_ACQ] {
        assert_eq!(bench.read64(register), 0, "{register:#x} after power-on");
    }
}

#[test]
fn a_64_bit_register_takes_halves_in_any_order() {
    let mut bench = Bench::new(parameters(9));
    for register in [REG_ASQ, REG_ACQ] {
        bench.write32(register + 4, 0x1234_5678);
        bench.write32(register, 0x9abc_d000);
        assert_eq!(
            bench.read64(register),
            0x1234_5678_9abc_d000,
            "register {register:#x} in halves"
        );
        assert_eq!(bench.read32(register), 0x9abc_d000, "the lower half");
        assert_eq!(bench.read32(register + 4), 0x1234_5678, "the upper half");
        bench.write64(register, 0x1111_2222_3333_4000);
        assert_eq!(
            bench.read64(register),
            0x1111_2222_3333_4000,
            "register {register:#x} at once"
        );
    }
}

#[test]
fn what_is_read_only_stays() {
    let mut bench = Bench::new(parameters(9));
    let cap = bench.read64(REG_CAP);
    bench.write64(REG_CAP, !cap);
    bench.write32(REG_VS, 0);
    bench.write32(REG_CSTS, CSTS_RDY | CSTS_CFS);
    assert_eq!(bench.read64(REG_CAP), cap, "CAP after a write");
    assert_eq!(bench.read32(REG_VS), VS_1_4, "VS after a write");
    assert_eq!(bench.read32(REG_CSTS), 0, "CSTS after a write");
}

#[test]
fn bits_that_are_reserved_read_as_zero() {
    let mut bench = Bench::new(parameters(9));
    bench.write32(REG_AQA, u32::MAX);
    assert_eq!(
        bench.read32(REG_AQA) & 0xf000_f000,
        0,
        "reserved bits of AQA"
    );
    bench.write64(REG_ASQ, u64::MAX);
    bench.write64(REG_ACQ, u64::MAX);
    assert_eq!(bench.read64(REG_ASQ) & 0xfff, 0, "reserved bits of ASQ");
    assert_eq!(bench.read64(REG_ACQ) & 0xfff, 0, "reserved bits of ACQ");
}

#[test]
fn peeking_is_reading_without_effect() {
    let mut driver = Driver::ready();
    for offset in (0..REG_DBS).step_by(4) {
        let mut peeked = [0; 4];
        driver
            .bench
            .controller
            .peek_bar(0, offset, &mut peeked)
            .expect("a register can be peeked at");
        assert_eq!(
            u32::from_le_bytes(peeked),
            driver.bench.read32(offset),
            "register {offset:#x}"
        );
    }
}

#[test]
fn accesses_past_the_end_are_refused_and_others_are_not() {
    let mut bench = Bench::new(parameters(9));
    let end = nvme::Controller::BAR0_SIZE;
    for (offset, length) in [
        (end, 1),
        (end - 1, 2),
        (end - 4, 8),
        (u64::MAX, 1),
        (u64::MAX, 8),
    ] {
        let mut bytes = vec![0; length];
        assert!(
            bench.controller.read_bar(0, offset, &mut bytes).is_err(),
            "{length} bytes at {offset:#x} cannot be read"
        );
        assert!(
            bench.controller.write_bar(0, offset, &bytes).is_err(),
            "{length} bytes at {offset:#x} cannot be written"
        );
        assert!(
            bench.controller.peek_bar(0, offset, &mut bytes).is_err(),
            "{length} bytes at {offset:#x} cannot be peeked at"
        );
        assert!(
            !bench.doorbells.post(offset, &bytes),
            "there is no doorbell at {offset:#x}"
        );
    }
    for length in [1, 2, 3, 4, 5, 7, 8, 16, 64] {
        let mut bytes = vec![0; length];
        for offset in (0..64).chain(end - 80..=end - length as u64) {
            bench
                .controller
                .read_bar(0, offset, &mut bytes)
                .expect("any read inside of the BAR is answered");
        }
    }
}

#[test]
fn reading_byte_by_byte_gives_the_same() {
    let mut driver = Driver::ready();
    for offset in 0..0x40 {
        let whole = driver.bench.read32(offset & !3).to_le_bytes()[offset as usize % 4];
        let mut byte = [0];
        driver
            .bench
            .controller
            .read_bar(0, offset, &mut byte)
            .expect("a byte is readable");
        assert_eq!(byte[0], whole, "byte {offset:#x}");
    }
}

#[test]
fn an_enabled_controller_is_ready() {
    assert_eq!(enabled_with(CC_USUAL, AQA_32, 0, 0), CSTS_RDY);
    assert_eq!(
        enabled_with(CC_USUAL, 1 << 16 | 1, 0, 0),
        CSTS_RDY,
        "with the smallest admin queues"
    );
}

#[test]
fn sizes_of_io_queue_entries_may_be_set_before_the_first_io_queue() {
    let (mut bench, sq, cq) = prepared();
    bench.write32(REG_AQA, AQA_32);
    bench.write64(REG_ASQ, sq);
    bench.write64(REG_ACQ, cq);
    bench.write32(REG_CC, CC_ENABLE);
    bench.settle();
    if bench.read32(REG_CSTS) == CSTS_RDY {
        bench.write32(REG_CC, CC_USUAL);
        bench.settle();
        assert_eq!(bench.read32(REG_CSTS), CSTS_RDY, "still ready");
        assert_eq!(bench.read32(REG_CC), CC_USUAL, "the sizes are there");
    } else {
        assert_eq!(bench.read32(REG_CSTS), CSTS_CFS, "or that is refused");
    }
}

#[test]
fn what_cannot_be_enabled_is_a_fatal_status() {
    for (cc, aqa, why) in [
        (CC_USUAL | 15 << CC_MPS_SHIFT, AQA_32, "huge memory pages"),
        (CC_USUAL | 3 << CC_CSS_SHIFT, AQA_32, "unknown command set"),
        (CC_USUAL | 5 << CC_AMS_SHIFT, AQA_32, "unknown arbitration"),
        (CC_USUAL, 0, "admin queues of one entry"),
        (CC_USUAL, 31 << 16, "an admin submission queue of one entry"),
        (CC_USUAL, 31, "an admin completion queue of one entry"),
    ] {
        let csts = enabled_with(cc, aqa, 0, 0);
        assert_eq!(csts, CSTS_CFS, "{why} should give a fatal status");
    }
}

#[test]
fn a_controller_recovers_from_a_fatal_status() {
    let mut driver = Driver::disabled(Setup::default(), parameters(9));
    driver.bench.write32(REG_CC, CC_USUAL);
    driver.bench.settle();
    assert_eq!(driver.bench.read32(REG_CSTS), CSTS_CFS, "no admin queues");
    driver.revive();
}

#[test]
fn admin_queues_that_are_not_there_are_a_fatal_status() {
    let mut driver = Driver::new(Setup::default());
    let sq = driver.sqs[&0].base;
    driver.bench.memory.unmap(sq);
    driver.bench.write32(REG_DBS, 1);
    driver.bench.settle();
    assert_ne!(
        driver.bench.read32(REG_CSTS) & CSTS_CFS,
        0,
        "a submission queue that cannot be read"
    );
    driver.bench.memory.map(sq);
    driver.revive();

    let cq = driver.cqs[&0].base;
    driver.bench.memory.unmap(cq);
    driver.submit(0, Sqe::new(ADMIN_KEEP_ALIVE));
    driver.bench.settle();
    assert_ne!(
        driver.bench.read32(REG_CSTS) & CSTS_CFS,
        0,
        "a completion queue that cannot be written"
    );
    driver.bench.memory.map(cq);
    driver.revive();
}

#[test]
fn a_failed_controller_executes_nothing_until_it_is_reset() {
    let mut driver = Driver::ready();
    driver.bench.controller.fail();
    assert_ne!(
        driver.bench.read32(REG_CSTS) & CSTS_CFS,
        0,
        "a fatal status"
    );
    driver.submit(1, Sqe::new(CMD_FLUSH).nsid(1));
    driver.bench.memory.forget();
    driver.bench.settle();
    assert_eq!(
        driver.bench.memory.log(),
        &[],
        "a failed controller leaves memory alone"
    );
    driver.revive();
}

#[test]
fn a_controller_reset_takes_everything_but_the_admin_queue_registers() {
    let mut driver = Driver::ready();
    driver.write(1, 0, &pattern(1, 512));
    let aqa = driver.bench.read32(REG_AQA);
    let asq = driver.bench.read64(REG_ASQ);
    let acq = driver.bench.read64(REG_ACQ);
    // Entries that the controller did not look at yet must not be executed in its next life.
    for _ in 0..3 {
        driver.submit(0, Sqe::new(ADMIN_KEEP_ALIVE));
    }
    driver.submit(1, Sqe::new(CMD_FLUSH).nsid(1));
    driver.bench.write32(REG_CC, CC_USUAL & !CC_ENABLE);
    driver.bench.memory.forget();
    assert_eq!(
        driver.bench.read32(REG_CSTS) & CSTS_RDY,
        0,
        "not ready at once"
    );
    driver.bench.settle();

    assert_eq!(driver.bench.read32(REG_AQA), aqa, "AQA after a reset");
    assert_eq!(driver.bench.read64(REG_ASQ), asq, "ASQ after a reset");
    assert_eq!(driver.bench.read64(REG_ACQ), acq, "ACQ after a reset");
    assert_eq!(
        driver.bench.memory.log(),
        &[],
        "a disabled controller leaves memory alone"
    );

    driver.forget();
    driver.bench.write32(REG_CC, CC_USUAL);
    driver.bench.settle();
    assert_eq!(driver.bench.read32(REG_CSTS), CSTS_RDY, "ready again");
    assert_eq!(
        driver.bench.memory.log(),
        &[],
        "doorbells of the life before are forgotten"
    );
    driver.know_cq(0, acq, 32, Some(0));
    driver.know_sq(0, asq, 32, 0);
    driver.bench.memory.put(acq, &[0; 32 * CQE_SIZE]);
    driver.create_queues(1, 8);
    assert_eq!(
        driver.read(1, 0, 1),
        pattern(1, 512),
        "the namespace keeps its content"
    );
}

#[test]
fn a_doorbell_from_before_a_reset_is_not_one_of_after() {
    // The worker sees neither the doorbell nor the reset before the controller is enabled again.
    for id in [0u16, 1] {
        let mut driver = Driver::ready();
        driver.submit(id, Sqe::new(CMD_FLUSH).nsid(1));
        driver.submit(id, Sqe::new(CMD_FLUSH).nsid(1));
        driver.bench.write32(REG_CC, CC_USUAL & !CC_ENABLE);
        driver.bench.write32(REG_CC, CC_USUAL);
        driver.bench.memory.forget();
        driver.bench.settle();
        assert_eq!(
            driver.bench.memory.log(),
            &[],
            "nothing is fetched from queue {id}"
        );
        driver.forget();
        driver.revive();
    }
}

#[test]
fn doorbells_before_ready_do_nothing() {
    let mut driver = Driver::disabled(Setup::default(), parameters(9));
    driver.bench.write32(REG_DBS, 5);
    driver.bench.write32(REG_DBS + 8, 5);
    driver.bench.settle();
    assert_eq!(driver.bench.memory.log(), &[], "nothing is fetched");
    assert_eq!(driver.bench.read32(REG_CSTS), 0, "nothing failed");
    driver.revive();
}

fn shut_down(kind: u32) -> Driver {
    let mut driver = Driver::ready();
    driver.write(1, 0, &pattern(2, 512));
    driver.bench.write32(REG_CC, CC_USUAL | kind);
    driver.bench.settle();
    assert_eq!(
        driver.bench.read32(REG_CSTS) & CSTS_SHST_MASK,
        CSTS_SHST_COMPLETE,
        "the shutdown is complete"
    );
    driver
}

#[test]
fn a_normal_shutdown_flushes_and_is_over_with_the_next_reset() {
    let mut driver = shut_down(CC_SHN_NORMAL);
    assert_eq!(driver.bench.disk.unflushed, 0, "all data is safe");
    driver.bench.write32(REG_CC, 0);
    driver.bench.settle();
    assert_eq!(
        driver.bench.read32(REG_CSTS) & (CSTS_SHST_MASK | CSTS_RDY),
        CSTS_SHST_NORMAL,
        "a reset ends the shutdown"
    );
    driver.revive();
}

#[test]
fn an_abrupt_shutdown_completes() {
    let mut driver = shut_down(CC_SHN_ABRUPT);
    driver.revive();
}

#[test]
fn a_shutdown_that_cannot_flush_still_ends() {
    let mut driver = Driver::ready();
    driver.write(1, 0, &pattern(2, 512));
    driver.bench.disk.trouble = Some(crate::disk::Trouble::Medium);
    driver.bench.write32(REG_CC, CC_USUAL | CC_SHN_NORMAL);
    driver.bench.settle();
    assert_eq!(
        driver.bench.read32(REG_CSTS) & CSTS_SHST_MASK,
        CSTS_SHST_COMPLETE,
        "the shutdown is complete"
    );
    driver.revive();
    // The guest could not be told at the shutdown, nor is it by a read.
    let buffer = driver.buffer(512, 0);
    let read = Sqe::new(CMD_READ).nsid(1).data(&buffer).blocks(0, 1);
    driver.bad(1, read.dword(12, RW_FUA), &[READ_ERROR]);
    driver.bad(1, Sqe::new(CMD_FLUSH).nsid(1), &[WRITE_FAULT]);
    driver.good(1, Sqe::new(CMD_FLUSH).nsid(1));
}

#[test]
fn a_shutdown_survives_a_move() {
    let mut driver = Driver::ready();
    driver.write(1, 0, &pattern(2, 512));
    driver.bench.write32(REG_CC, CC_USUAL | CC_SHN_NORMAL);
    driver.bench.relocate();
    driver.bench.settle();
    assert_eq!(
        driver.bench.read32(REG_CSTS) & CSTS_SHST_MASK,
        CSTS_SHST_COMPLETE,
        "the shutdown is complete"
    );
    assert_eq!(driver.bench.disk.unflushed, 0, "all data is safe");
    driver.bench.relocate();
    assert_eq!(
        driver.bench.read32(REG_CSTS) & CSTS_SHST_MASK,
        CSTS_SHST_COMPLETE,
        "it is still complete after another move"
    );
}

#[test]
fn a_subsystem_reset_needs_the_magic_word() {
    let mut driver = Driver::ready();
    if driver.bench.read64(REG_CAP) & CAP_NSSRC == 0 {
        driver.bench.write32(REG_NSSR, NSSR_MAGIC);
        driver.bench.settle();
        assert_eq!(
            driver.bench.read32(REG_CSTS),
            CSTS_RDY,
            "without the capability it does nothing"
        );
        return;
    }
    driver.bench.write32(REG_NSSR, NSSR_MAGIC ^ 1);
    driver.bench.settle();
    assert_eq!(
        driver.bench.read32(REG_CSTS),
        CSTS_RDY,
        "another word does nothing"
    );

    driver.bench.write32(REG_NSSR, NSSR_MAGIC);
    driver.bench.settle();
    assert_eq!(driver.bench.read32(REG_NSSR), 0, "NSSR reads as 0");
    assert_eq!(driver.bench.read32(REG_CC), 0, "CC after the reset");
    assert_eq!(
        driver.bench.read32(REG_CSTS) & CSTS_NSSRO,
        CSTS_NSSRO,
        "CSTS says that it happened"
    );
    driver.bench.relocate();
    assert_eq!(
        driver.bench.read32(REG_CSTS) & CSTS_NSSRO,
        CSTS_NSSRO,
        "CSTS says so after a move"
    );
    driver.bench.write32(REG_CSTS, CSTS_NSSRO);
    assert_eq!(
        driver.bench.read32(REG_CSTS),
        0,
        "writing the bit clears it"
    );
    driver.forget();
    driver.revive();
}

#[test]
fn a_function_reset_leaves_only_the_namespace() {
    let mut driver = Driver::ready();
    driver.write(1, 7, &pattern(3, 512));
    driver.bench.controller.reset();
    driver.bench.doorbells.clear();
    driver.forget();

    for register in [REG_CC, REG_CSTS, REG_AQA, REG_INTMS] {
        assert_eq!(
            driver.bench.read32(register),
            0,
            "{register:#x} after a function reset"
        );
    }
    assert_eq!(
        driver.bench.read64(REG_ASQ),
        0,
        "ASQ after a function reset"
    );
    assert!(
        !driver.bench.controller.msix_enabled(),
        "MSI-X is off after a function reset"
    );
    driver.msix = false;
    driver.bench.write_config16(0x04, 0x0006);
    driver.enable();
    driver.create_queues(1, 8);
    assert_eq!(
        driver.read(1, 7, 1),
        pattern(3, 512),
        "the namespace keeps its content"
    );
}
