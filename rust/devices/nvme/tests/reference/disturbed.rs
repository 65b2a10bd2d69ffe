// SPDX-License-Identifier: GPL-2.0

//! Software that resets the controller, or takes its memory away, in the middle of a command. Section 7.3: a reset
//! stops all commands. PCI Express 6.2: a function that is no bus master initiates no access.

use std::cell::{
    Cell,
    RefCell, //
};

use device_model_rig::Whole;
use nvme::{
    BackendError,
    Begun,
    BlockBackend,
    Controller,
    DeviceModel,
    Done,
    Executor,
    GuestMemory,
    Link,
    MemoryError,
    ReadStraight,
    Request,
    Tag,
    Work, //
};

use crate::disk::{
    Concurrent,
    Disk, //
};
use crate::driver::{
    pattern,
    Driver,
    Setup,
    Sqe, //
};
use crate::memory::Memory;
use crate::spec::{
    CMD_COMPARE,
    CMD_DSM,
    CMD_FLUSH,
    CMD_READ,
    CMD_WRITE,
    CMD_WRITE_ZEROES,
    REG_CC,
    REG_CSTS, //
};

/// What software does to the registers.
type Disturbance = fn(&mut Controller);

/// A controller whose software strikes at one of the executor's steps: an access of memory, or a request to the store.
struct Stage<'a> {
    controller: RefCell<&'a mut Controller>,
    disturbance: Disturbance,
    steps: Cell<usize>,
    at: usize,
    /// Accesses of memory have to fail: the driver's part of [`DeviceModel::take_dma_end`].
    ended: Cell<bool>,
}

impl Stage<'_> {
    fn step(&self) {
        let step = self.steps.get();
        self.steps.set(step + 1);
        if step == self.at {
            let mut controller = self.controller.borrow_mut();
            (self.disturbance)(&mut controller);
            assert!(controller.take_dma_end(), "DMA ends");
            self.ended.set(true);
        }
    }
}

impl Link<Executor> for &Stage<'_> {
    fn exchange(&mut self, executor: &mut Executor) -> bool {
        self.controller.borrow_mut().exchange(executor);
        self.ended.set(false);
        true
    }

    fn is_current(&self) -> bool {
        !self.ended.get()
    }
}

struct StagedMemory<'a>(&'a mut Memory, &'a Stage<'a>);

impl GuestMemory for StagedMemory<'_> {
    fn read(&mut self, address: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        self.1.step();
        if self.1.ended.get() {
            return Err(MemoryError);
        }
        self.0.read(address, into)
    }

    fn write(&mut self, address: u64, from: &[u8]) -> Result<(), MemoryError> {
        self.1.step();
        if self.1.ended.get() {
            return Err(MemoryError);
        }
        self.0.write(address, from)
    }
}

struct StagedDisk<'a>(&'a mut Disk, &'a Stage<'a>);

impl StagedDisk<'_> {
    /// A request that changes content: none begins after the disturbance.
    fn strike(&self) {
        assert!(
            !self.1.ended.get(),
            "a command began after the controller was stopped"
        );
        self.1.step();
    }
}

impl BlockBackend for StagedDisk<'_> {
    fn read(
        &mut self,
        offset: u64,
        len: usize,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), MemoryError>,
    ) -> Result<(), BackendError> {
        self.strike();
        self.0.read(offset, len, sink)
    }

    fn write(
        &mut self,
        offset: u64,
        len: usize,
        source: &mut dyn FnMut(&mut [u8]) -> Result<(), MemoryError>,
    ) -> Result<(), BackendError> {
        self.strike();
        self.0.write(offset, len, source)
    }

    fn write_zeroes(
        &mut self,
        offset: u64,
        len: u64,
        may_deallocate: bool,
    ) -> Result<(), BackendError> {
        self.strike();
        self.0.write_zeroes(offset, len, may_deallocate)
    }

    fn deallocate(&mut self, offset: u64, len: u64) -> Result<(), BackendError> {
        self.strike();
        self.0.deallocate(offset, len)
    }

    fn flush(&mut self) -> Result<(), BackendError> {
        // The second half of a write that was under way does no harm.
        self.1.step();
        self.0.flush()
    }

    fn write_back(&mut self) -> Result<(), BackendError> {
        self.1.step();
        self.0.write_back()
    }

    fn is_concurrent(&self) -> bool {
        self.0.is_concurrent()
    }

    fn begin(&mut self, tag: &Tag, request: Request<'_>) -> Result<Begun, BackendError> {
        self.strike();
        self.0.begin(tag, request)
    }

    fn take_done(&mut self, take: &mut dyn FnMut(Done<'_>) -> bool) -> bool {
        // A store may be done with requests at any time.
        if let Some(concurrent) = &mut self.0.concurrent {
            concurrent.advance();
        }
        self.0.take_done(take)
    }

    fn await_done(&mut self) -> bool {
        self.0.await_done()
    }
}

impl<M> ReadStraight<M> for StagedDisk<'_> {}

/// Lets the executor of `driver` work, with the disturbance at step `at`. Returns whether it happened.
fn work(driver: &mut Driver, at: usize, disturbance: Disturbance) -> bool {
    let bench = &mut driver.bench;
    let Whole { model, executor } = &mut bench.controller;
    let stage = Stage {
        controller: RefCell::new(model),
        disturbance,
        steps: Cell::new(0),
        at,
        ended: Cell::new(false),
    };
    let mut memory = StagedMemory(&mut bench.memory, &stage);
    let mut disk = StagedDisk(&mut bench.disk, &stage);

    let mut link = &stage;
    loop {
        link.exchange(executor);
        let work = executor.serve(&link, &bench.doorbells, &mut memory, &mut disk, 32);
        let happened = stage.steps.get() > at;
        link.exchange(executor);
        if happened || work == Work::Idle {
            bench.kicked = true;
            return happened;
        }
    }
}

/// A driver that has rung for one command of each kind in queue 1, and more than are fetched at once.
fn busy(concurrent: bool) -> Driver {
    let mut driver = Driver::with_queues(Setup::default(), 2, 32);
    let block = driver.block();
    driver.write(1, 0, &pattern(7, 8 * block));
    for round in 0..3 {
        let start = 8 * round;
        let target = driver.buffer(8 * block, 0);
        let source = driver.filled(&pattern(7, 8 * block), 0);
        let range: Vec<u8> = [0u32, 4, start as u32, 0]
            .iter()
            .flat_map(|dword| dword.to_le_bytes())
            .collect();
        let ranges = driver.filled(&range, 0);
        for sqe in [
            Sqe::new(CMD_READ).nsid(1).blocks(0, 8).data(&target),
            Sqe::new(CMD_COMPARE).nsid(1).blocks(0, 8).data(&source),
            Sqe::new(CMD_WRITE).nsid(1).blocks(start, 8).data(&source),
            Sqe::new(CMD_WRITE_ZEROES).nsid(1).blocks(start, 8),
            Sqe::new(CMD_DSM).nsid(1).dword(11, 1 << 2).data(&ranges),
            Sqe::new(CMD_FLUSH).nsid(1),
        ] {
            driver.enqueue(1, sqe);
        }
    }
    // A flush that can take long would end a call of the executor.
    driver.bench.disk.has_to_wait = false;
    driver.bench.disk.concurrent = concurrent.then(|| Concurrent::new(5, 1));
    driver.ring_sq(1);
    driver
}

/// The steps at which `disturbance` happens, of a disk that executes requests at once and of one that goes on with them.
fn steps(disturbance: Disturbance) -> impl Iterator<Item = (usize, bool)> {
    [false, true].into_iter().flat_map(move |concurrent| {
        let count = (0..)
            .find(|&at| !work(&mut busy(concurrent), at, disturbance))
            .expect("the work ends");
        assert!(count > 50, "{count} steps are too few to be all");
        (0..count).map(move |at| (at, concurrent))
    })
}

fn controller_reset(controller: &mut Controller) {
    let disabled = [0; 4];
    controller
        .write_bar(0, REG_CC, &disabled)
        .expect("CC is writable");
}

fn function_reset(controller: &mut Controller) {
    controller.reset();
    // A user who resets a function finds memory space disabled, as the kernel restores the command register.
    let memory_and_master = [0x06];
    controller
        .write_config(0x04, &memory_and_master)
        .expect("there is a command register");
}

fn no_bus_master(controller: &mut Controller) {
    let memory = [0x02];
    controller
        .write_config(0x04, &memory)
        .expect("there is a command register");
}

#[test]
fn nothing_happens_after_a_reset_in_the_middle_of_a_command() {
    let resets = [controller_reset as Disturbance, function_reset];
    for disturbance in resets {
        for (at, concurrent) in steps(disturbance) {
            let mut driver = busy(concurrent);
            work(&mut driver, at, disturbance);
            assert_eq!(driver.bench.read32(REG_CSTS), 0, "CSTS, step {at}");
            assert_eq!(driver.bench.controller.take_raised(), 0, "messages");
            assert!(!driver.bench.controller.intx_asserted(), "the pin");

            let memory = driver.bench.memory.log().len();
            let requests = driver.bench.disk.requests;
            driver.bench.settle();
            assert_eq!(driver.bench.memory.log().len(), memory, "memory, step {at}");
            assert_eq!(driver.bench.disk.requests, requests, "store, step {at}");

            // A reset of the function disables MSI-X.
            driver.bench.controller.set_msix(true);
            driver.revive();
        }
    }
}

#[test]
fn software_that_enables_the_controller_at_once_again_gets_a_new_one() {
    fn reset_and_enable(controller: &mut Controller) {
        let mut cc = [0; 4];
        controller
            .read_bar(0, REG_CC, &mut cc)
            .expect("CC is readable");
        controller_reset(controller);
        controller
            .write_bar(0, REG_CC, &cc)
            .expect("CC is writable");
    }

    for (at, concurrent) in steps(reset_and_enable) {
        let mut driver = busy(concurrent);
        work(&mut driver, at, reset_and_enable);
        assert_eq!(
            driver.bench.read32(REG_CSTS),
            0,
            "the controller of before is not ready, step {at}"
        );
        driver.bench.settle();
        assert_eq!(driver.bench.read32(REG_CSTS), 1, "CSTS, step {at}");
        driver.revive();
    }
}

#[test]
fn a_function_that_is_no_bus_master_any_more_leaves_memory_alone() {
    for (at, concurrent) in steps(no_bus_master) {
        let mut driver = busy(concurrent);
        work(&mut driver, at, no_bus_master);
        let memory = driver.bench.memory.log().len();
        driver.bench.settle();
        assert_eq!(driver.bench.memory.log().len(), memory, "step {at}");

        // The command that was under way is lost, which software is told.
        driver.bench.write_config16(0x04, 0x0006);
        driver.bench.settle();
        driver.revive();
    }
}
