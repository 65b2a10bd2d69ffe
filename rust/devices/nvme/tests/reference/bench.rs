// SPDX-License-Identifier: GPL-2.0

//! A controller on a bench: what the kernel's side does for it, and moves of it between hosts.

use std::rc::Rc;

use device_model::Link;
use device_model_rig::Undisturbed;
use nvme::{
    DeviceModel,
    Doorbells,
    Executor,
    LoadError,
    Parameters,
    PostedWrites,
    ReadStraight,
    Stores,
    Work, //
};

use crate::disk::Disk;
use crate::memory::Memory;
use crate::whole::{
    Controller,
    Execute,
    Polling,
    Timer, //
};

/// Serial number of the controllers under test.
pub const SERIAL: &[u8; 20] = b"FERRY-TEST-000000001";

/// Accesses to memory that one command may cost at most: its entries, its PRP list, and the largest
/// data in pieces of 512 bytes that may each straddle two pages.
const ACCESSES_PER_COMMAND: usize = 1300;
/// Accesses that a round of work may cost whatever it executes: shadow doorbells and event indexes,
/// and completions of requests for events.
const ACCESSES_PER_ROUND: usize = 16;
/// Bytes that one command may move at most: the largest data and what belongs to it.
const BYTES_PER_COMMAND: usize = 520 << 10;
/// Bytes that a round of work may move whatever it executes.
const BYTES_PER_ROUND: usize = 4096;
/// Rounds of work after which a controller with 17 full queues has nothing left to do.
const ROUNDS: usize = 100_000;

/// Parameters of a small namespace.
pub fn parameters(lba_shift: u8) -> Parameters {
    Parameters {
        capacity: 1 << 20,
        lba_shift,
        queue_pairs: 16,
        serial: *SERIAL,
        store: 0,
        others: [None; nvme::NAMESPACES_MAX - 1],
    }
}

/// A controller with `parameters` that has loaded `state`.
pub fn from_state(parameters: &Parameters, state: &[u8]) -> Result<Controller, LoadError> {
    let mut controller = Controller::power_on(parameters).expect("the parameters are good");
    controller.load(state)?;
    Ok(controller)
}

/// The stores of a controller.
struct Disks<'a> {
    first: &'a mut Disk,
    more: &'a mut [Disk],
}

impl Stores<Memory> for Disks<'_> {
    fn store(&mut self, index: usize) -> Option<&mut dyn ReadStraight<Memory>> {
        let disk = match index {
            0 => &mut *self.first,
            _ => self.more.get_mut(index - 1)?,
        };
        Some(disk)
    }
}

/// A controller with all that it works with.
pub struct Bench {
    pub controller: Controller,
    pub doorbells: Rc<Doorbells>,
    pub memory: Memory,
    /// The store of namespace 1.
    pub disk: Disk,
    /// Those of the others.
    pub more: Vec<Disk>,
    /// MSI-X vectors that were raised and not looked at yet.
    pub raised: u32,
    /// Save and load the controller before each round of work.
    pub moving: bool,
    /// Commands that one round of work may execute.
    pub budget: u32,
    /// The worker looks for more work when none is left.
    pub polls: bool,
    /// The timer, if the worker has one.
    pub timer: Option<Timer>,
    /// The worker has to run: somebody kicked it, or it was not done.
    pub kicked: bool,
    /// Rounds of work so far.
    pub rounds: usize,
    /// Save and load the controller once, before this round.
    pub move_before: Option<usize>,
}

impl Bench {
    pub fn new(parameters: Parameters) -> Self {
        let doorbells = Rc::new(Doorbells::new());
        let mut disks = parameters.namespaces();
        let mut disk = || {
            let namespace = disks.next()?;
            Some(Disk::new(namespace.capacity, 1 << namespace.lba_shift))
        };
        let first = disk().expect("there is a namespace 1");
        let more = std::iter::from_fn(disk).collect();
        let mut controller = Controller::power_on(&parameters).expect("the parameters are good");
        // A user who opens a function finds memory space enabled.
        controller
            .write_config(0x04, &[0x02])
            .expect("there is a command register");
        Self {
            controller,
            memory: Memory::new(&doorbells),
            doorbells,
            disk: first,
            more,
            raised: 0,
            moving: false,
            budget: 7,
            polls: false,
            timer: None,
            kicked: false,
            rounds: 0,
            move_before: None,
        }
    }

    /// Saves the controller and goes on with one loaded from that.
    pub fn relocate(&mut self) {
        let state = self.save();
        let parameters = *self.controller.parameters();
        self.load(&parameters, &state);
    }

    /// The source's part of a migration: stops the controller and saves it.
    pub fn save(&mut self) -> Vec<u8> {
        let mut disks = Disks {
            first: &mut self.disk,
            more: &mut self.more,
        };
        let memory = &mut self.memory;
        self.controller
            .work(|executor| assert!(executor.drain_commands(memory, &mut disks), "all are done"));
        self.controller.settle(&self.doorbells);
        self.raised |= self.controller.take_raised();
        let mut state = vec![0; nvme::Controller::STATE_SIZE];
        let size = self
            .controller
            .save(&mut state)
            .expect("there is room for the state");
        state.truncate(size);
        state
    }

    /// The destination's part of a migration.
    pub fn load(&mut self, parameters: &Parameters, state: &[u8]) {
        self.controller = from_state(parameters, state).expect("what was saved can be loaded");
        // Posted doorbells are a part of the state.
        self.doorbells.clear();
        self.kicked = true;
        self.raised |= self.controller.take_raised();
    }

    /// Reads from BAR 0 as a guest does: without an answer, the read returns all ones.
    fn read<const N: usize>(&mut self, register: u64) -> [u8; N] {
        let mut bytes = [0xff; N];
        if self.controller.decodes(0) {
            self.controller
                .read_bar(0, register, &mut bytes)
                .expect("a register is readable");
        }
        bytes
    }

    pub fn read32(&mut self, register: u64) -> u32 {
        u32::from_le_bytes(self.read(register))
    }

    pub fn read64(&mut self, register: u64) -> u64 {
        u64::from_le_bytes(self.read(register))
    }

    /// Writes to BAR 0 as a guest does: writes of doorbells are posted, all others go to the registers,
    /// and without an answer a write is lost.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        if !self.controller.decodes(0) {
            return;
        }
        if self.doorbells.post(offset, bytes) {
            self.kicked |= self.doorbells.is_awaited();
            return;
        }
        self.kicked = true;
        self.controller
            .write_bar(0, offset, bytes)
            .expect("a register is writable");
        self.raised |= self.controller.take_raised();
    }

    pub fn write32(&mut self, register: u64, value: u32) {
        self.write(register, &value.to_le_bytes());
    }

    pub fn write64(&mut self, register: u64, value: u64) {
        self.write(register, &value.to_le_bytes());
    }

    pub fn config16(&mut self, offset: u64) -> u16 {
        let mut bytes = [0; 2];
        self.controller
            .read_config(offset, &mut bytes)
            .expect("configuration space is readable");
        u16::from_le_bytes(bytes)
    }

    pub fn read_config32(&mut self, offset: u64) -> u32 {
        u32::from(self.config16(offset)) | u32::from(self.config16(offset + 2)) << 16
    }

    pub fn write_config16(&mut self, offset: u64, value: u16) {
        self.controller
            .write_config(offset, &value.to_le_bytes())
            .expect("configuration space is writable");
        self.kicked = true;
        self.raised |= self.controller.take_raised();
    }

    /// Offset of a capability in configuration space.
    pub fn capability(&mut self, id: u8) -> Option<u64> {
        let mut at = self.config16(0x34) & 0xfc;
        for _ in 0..48 {
            if at == 0 {
                return None;
            }
            let [found, next] = self.config16(u64::from(at)).to_le_bytes();
            if found == id {
                return Some(u64::from(at));
            }
            at = u16::from(next & 0xfc);
        }
        panic!("the list of capabilities ends");
    }

    /// One round of work, which may not do more than the budget allows.
    pub fn work(&mut self, budget: u32) -> Work {
        self.rounds += 1;
        if self.moving || self.move_before == Some(self.rounds) {
            self.relocate();
        }

        let before = self.memory.log().len();
        let mut disks = Disks {
            first: &mut self.disk,
            more: &mut self.more,
        };
        let link: &dyn Link<Executor> = match &self.timer {
            Some(timer) => timer,
            None if self.polls => &Polling,
            None => &Undisturbed,
        };
        let work =
            self.controller
                .serve_by(link, &self.doorbells, &mut self.memory, &mut disks, budget);
        let log = &self.memory.log()[before..];
        let commands = budget as usize;
        let most = commands * ACCESSES_PER_COMMAND + ACCESSES_PER_ROUND;
        assert!(
            log.len() <= most,
            "{budget} commands cost at most {most} accesses, not {}",
            log.len()
        );
        let moved: usize = log.iter().map(|access| access.length).sum();
        let most = commands * BYTES_PER_COMMAND + BYTES_PER_ROUND;
        assert!(
            moved <= most,
            "{budget} commands move at most {most} bytes, not {moved}"
        );

        self.raised |= self.controller.take_raised();
        self.kicked = work == Work::More || self.doorbells.is_awaited();
        work
    }

    /// Lets the time be over that the worker has asked for, which kicks it. Returns whether it has.
    pub fn pass_time(&mut self) -> bool {
        let fired = self.timer.as_ref().is_some_and(Timer::fire);
        self.kicked |= fired;
        fired
    }

    /// Has a request be done that a disk executes, which kicks the worker. Returns whether there was one.
    pub fn advance(&mut self) -> bool {
        let mut disks = std::iter::once(&mut self.disk).chain(&mut self.more);
        let advanced = disks.any(|disk| {
            disk.concurrent
                .as_mut()
                .is_some_and(|concurrent| concurrent.advance())
        });
        self.kicked |= advanced;
        advanced
    }

    /// Lets the controller work until it has nothing left to do. Without a reason to, it does not
    /// work at all: what the controller is not told of is lost.
    pub fn settle(&mut self) {
        for _ in 0..ROUNDS {
            if !self.kicked && !self.advance() && !self.pass_time() {
                return;
            }
            self.work(self.budget);
        }
        panic!("a controller has nothing left to do after {ROUNDS} rounds");
    }
}
