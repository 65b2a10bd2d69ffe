// SPDX-License-Identifier: GPL-2.0

//! Power states, memory space and resets of the PCI function: sections 2.1.2, 2.1.3, 2.2.3 and 7.3.

use nvme::{
    DeviceModel,
    PostedWrites, //
};

use crate::driver::{
    pattern,
    Driver,
    Setup,
    Sqe, //
};
use crate::spec::*;
use crate::whole::Execute;

/// Capability numbers.
const POWER_MANAGEMENT: u8 = 0x01;
const EXPRESS: u8 = 0x10;
const MSIX: u8 = 0x11;

const COMMAND: u64 = 0x04;
const COMMAND_MEMORY: u16 = 0x0002;
const COMMAND_MASTER: u16 = 0x0004;
const STATUS: u64 = 0x06;
const STATUS_INTERRUPT: u16 = 0x0008;

const D0: u16 = 0;
const D3HOT: u16 = 3;

fn flush() -> Sqe {
    Sqe::new(CMD_FLUSH).nsid(1)
}

fn setups() -> [Setup; 2] {
    [true, false].map(|msix| Setup {
        msix,
        ..Setup::default()
    })
}

fn set_power(driver: &mut Driver, state: u16) {
    let at = driver
        .bench
        .capability(POWER_MANAGEMENT)
        .expect("there is power management");
    driver.bench.write_config16(at + 4, state);
    assert_eq!(driver.bench.config16(at + 4) & 3, state, "PMCS.PS");
}

/// Returns the interrupt status bit.
fn interrupt_status(driver: &mut Driver) -> bool {
    driver.bench.config16(STATUS) & STATUS_INTERRUPT != 0
}

#[test]
fn a_doorbell_that_was_rung_before_d3hot_counts_after_it() {
    for setup in setups() {
        for shadowed in [false, true] {
            for moved in [false, true] {
                let mut driver = Driver::with_queues(setup, 1, 8);
                if shadowed {
                    driver.configure_shadow();
                }
                driver.good(1, flush());
                driver.bench.settle();
                let cid = driver.submit(1, flush());
                let admin = driver.submit(0, Sqe::new(ADMIN_KEEP_ALIVE));
                set_power(&mut driver, D3HOT);
                driver.bench.memory.forget();
                driver.bench.raised = 0;
                if moved {
                    driver.bench.relocate();
                }
                driver.bench.settle();
                let case = format!("{setup:?}, shadowed: {shadowed}, moved: {moved}");
                assert_eq!(driver.bench.memory.log().len(), 0, "accesses, {case}");
                assert_eq!(driver.bench.raised, 0, "messages, {case}");
                assert!(!driver.bench.controller.intx_asserted(), "pin, {case}");
                assert!(!interrupt_status(&mut driver), "status, {case}");

                set_power(&mut driver, D0);
                driver.pump();
                for (queue, cid) in [(1, cid), (0, admin)] {
                    assert!(
                        driver.take(queue, cid).is_some(),
                        "the command of queue {queue} completes, {case}"
                    );
                }
            }
        }
    }
}

#[test]
fn in_d3hot_registers_are_out_of_reach_and_a_doorbell_is_lost() {
    let mut driver = Driver::with_queues(Setup::default(), 1, 8);
    set_power(&mut driver, D3HOT);
    for register in [REG_CC, REG_CSTS, REG_AQA, REG_INTMS, 0x1000, 0x2000] {
        assert_eq!(driver.bench.read32(register), u32::MAX, "{register:#x}");
    }
    driver.bench.write32(REG_CC, 0);
    let cid = driver.submit(1, flush());
    set_power(&mut driver, D0);
    driver.bench.settle();
    assert_eq!(
        driver.bench.read32(REG_CSTS),
        CSTS_RDY,
        "CC was not written"
    );
    driver.pump();
    assert!(driver.take(1, cid).is_none(), "nobody heard the doorbell");
    // The driver's next doorbell tells of both.
    driver.good(1, flush());
    assert!(driver.take(1, cid).is_some(), "it completes with the next");
}

#[test]
fn a_message_that_was_not_sent_before_d3hot_is_sent_after_it() {
    for moved in [false, true] {
        let mut driver = Driver::with_queues(Setup::default(), 2, 8);
        driver.submit(2, flush());
        driver.bench.controller.serve(
            &driver.bench.doorbells,
            &mut driver.bench.memory,
            &mut driver.bench.disk,
            16,
        );
        set_power(&mut driver, D3HOT);
        if moved {
            driver.bench.relocate();
        }
        driver.bench.raised |= driver.bench.controller.take_raised();
        assert_eq!(driver.bench.raised, 0, "in D3hot, moved: {moved}");
        assert!(!driver.bench.controller.may_interrupt(), "in D3hot");
        set_power(&mut driver, D0);
        assert!(driver.bench.controller.may_interrupt(), "in D0");
        assert_eq!(driver.bench.raised, 1 << 2, "in D0, moved: {moved}");
    }
}

#[test]
fn messages_wait_for_the_bus_master_bit() {
    for moved in [false, true] {
        let mut driver = Driver::with_queues(Setup::default(), 1, 8);
        driver.good(1, flush());
        driver.bench.raised = 0;
        // A completion that the guest has not taken, announced when MSI-X is enabled anew.
        driver.submit(1, flush());
        driver.bench.settle();
        driver.bench.raised = 0;
        let msix = driver.bench.capability(MSIX).expect("there is MSI-X");
        let command = driver.bench.config16(COMMAND);
        driver
            .bench
            .write_config16(COMMAND, command & !COMMAND_MASTER);
        driver.bench.write_config16(msix + 2, 0);
        driver.bench.write_config16(msix + 2, 0x8000);
        if moved {
            driver.bench.relocate();
        }
        driver.bench.raised |= driver.bench.controller.take_raised();
        assert_eq!(driver.bench.raised, 0, "no bus master, moved: {moved}");
        driver.bench.write_config16(COMMAND, command);
        driver.bench.raised |= driver.bench.controller.take_raised();
        let vectors = driver.bench.raised & 1 << 1;
        assert_eq!(vectors, 1 << 1, "bus master again, moved: {moved}");
    }
}

#[test]
fn the_pin_is_quiet_in_d3hot_and_asserted_again_in_d0() {
    let mut driver = Driver::with_queues(setups()[1], 1, 8);
    driver.submit(1, flush());
    driver.bench.settle();
    for round in 0..2 {
        assert!(driver.bench.controller.intx_asserted(), "in D0");
        assert!(interrupt_status(&mut driver), "in D0");
        set_power(&mut driver, D3HOT);
        assert!(!driver.bench.controller.intx_asserted(), "in D3hot");
        assert!(!interrupt_status(&mut driver), "in D3hot");
        if round == 0 {
            driver.bench.relocate();
            assert!(!driver.bench.controller.intx_asserted(), "after a move");
        }
        set_power(&mut driver, D0);
    }
    driver.pump();
    assert!(!driver.bench.controller.intx_asserted(), "all is consumed");
}

#[test]
fn a_shutdown_before_d3hot_stays_complete() {
    // As a driver suspends: it shuts the controller down, then chooses D3hot; it enables it in D0.
    let mut driver = Driver::with_queues(Setup::default(), 1, 8);
    driver.write(1, 3, &pattern(9, 512));
    let cc = driver.bench.read32(REG_CC);
    driver.bench.write32(REG_CC, cc | CC_SHN_NORMAL);
    driver.bench.settle();
    let csts = driver.bench.read32(REG_CSTS);
    set_power(&mut driver, D3HOT);
    driver.bench.relocate();
    driver.bench.settle();
    set_power(&mut driver, D0);
    driver.bench.settle();
    assert_eq!(driver.bench.read32(REG_CSTS), csts, "CSTS after D3hot");
    driver.reset();
    driver.enable();
    driver.create_queues(1, 8);
    assert_eq!(driver.read(1, 3, 1), pattern(9, 512), "the content");
}

#[test]
fn without_memory_space_registers_are_out_of_reach_and_work_goes_on() {
    for moved in [false, true] {
        let mut driver = Driver::with_queues(Setup::default(), 1, 8);
        let cid = driver.submit(1, flush());
        driver.bench.write_config16(COMMAND, COMMAND_MASTER);
        if moved {
            driver.bench.relocate();
        }
        assert_eq!(driver.bench.read32(REG_CSTS), u32::MAX, "CSTS");
        driver.bench.write32(REG_CC, 0);
        driver.bench.raised = 0;
        driver.bench.settle();
        assert_eq!(driver.bench.raised, 1 << 1, "the command was executed");
        let command = COMMAND_MASTER | COMMAND_MEMORY;
        driver.bench.write_config16(COMMAND, command);
        assert_eq!(driver.bench.read32(REG_CSTS), CSTS_RDY, "CC stayed");
        driver.pump();
        assert!(driver.take(1, cid).is_some(), "its completion is there");
    }
}

#[test]
fn interrupt_status_is_0_while_messages_replace_the_pin() {
    // Enabled in configuration space, as a guest does.
    let mut driver = Driver::with_queues(Setup::default(), 1, 8);
    driver.submit(1, flush());
    driver.bench.settle();
    assert!(!interrupt_status(&mut driver), "with the enable bit");
    driver.bench.relocate();
    assert!(!interrupt_status(&mut driver), "and after a move");
    let at = driver.bench.capability(MSIX).expect("there is MSI-X");
    driver.bench.write_config16(at + 2, 0);
    assert!(interrupt_status(&mut driver), "for the pin");

    // Enabled by the listener, as a user of vfio-pci does.
    driver.bench.controller.set_msix(true);
    assert!(!interrupt_status(&mut driver), "with a listener");
    driver.bench.controller.set_msix(false);
    assert!(interrupt_status(&mut driver), "for the pin again");
    driver.msix = false;
    driver.pump();
    assert!(!interrupt_status(&mut driver), "all is consumed");
}

/// Changes what a reset may leave of the PCI Express capability, and returns where it is.
fn set_up_link(driver: &mut Driver) -> u64 {
    let at = driver.bench.capability(EXPRESS).expect("it is there");
    // All but the reset in device control; ASPM, read completion boundary, common clock, extended
    // synch and clock power management in link control; no completion timeout in device control 2.
    driver.bench.write_config16(at + 0x08, 0x580f);
    driver.bench.write_config16(at + 0x10, 0x01cb);
    driver.bench.write_config16(at + 0x28, 0x0010);
    at
}

#[test]
fn a_function_level_reset_leaves_what_concerns_the_link() {
    let mut driver = Driver::with_queues(Setup::default(), 1, 8);
    let at = set_up_link(&mut driver);
    driver.bench.write_config16(at + 0x08, 0x8000);
    driver.forget();
    driver.msix = false;
    assert_eq!(driver.bench.config16(at + 0x08), 0x2810, "device control");
    assert_eq!(driver.bench.config16(at + 0x10), 0x01cb, "link control");
    assert_eq!(driver.bench.config16(at + 0x28), 0, "device control 2");
    assert_eq!(driver.bench.config16(COMMAND), 0, "the command");
    assert_eq!(
        driver.bench.read32(REG_CSTS),
        u32::MAX,
        "memory space is off"
    );
    let command = COMMAND_MASTER | COMMAND_MEMORY;
    driver.bench.write_config16(COMMAND, command);
    assert_eq!(driver.bench.read32(REG_CC), 0, "CC");
    driver.enable();
    driver.create_queues(1, 8);
    driver.good(1, flush());
}

#[test]
fn a_reset_by_the_bus_driver_leaves_what_that_restores_and_ends_in_d0() {
    let mut driver = Driver::with_queues(Setup::default(), 1, 8);
    let at = set_up_link(&mut driver);
    set_power(&mut driver, D3HOT);
    driver.bench.controller.reset();
    driver.bench.doorbells.clear();
    driver.forget();
    driver.msix = false;
    assert_eq!(driver.bench.config16(at + 0x08), 0x580f, "device control");
    assert_eq!(driver.bench.config16(at + 0x10), 0x01cb, "link control");
    assert_eq!(driver.bench.config16(at + 0x28), 0x0010, "device control 2");
    let command = COMMAND_MASTER | COMMAND_MEMORY;
    assert_eq!(driver.bench.config16(COMMAND), command, "the command");
    assert!(!driver.bench.controller.msix_enabled(), "MSI-X");
    assert_eq!(driver.bench.read32(REG_CSTS), 0, "it is in D0");
    driver.enable();
    driver.create_queues(1, 8);
    driver.good(1, flush());
}
