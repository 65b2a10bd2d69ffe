// SPDX-License-Identifier: GPL-2.0

//! Interrupts all the way from a completion to who waits for it: the controller, and the routing that
//! the kernel's side has under its lock.
//!
//! A guest enables MSI-X in configuration space, and the VMM makes `VFIO_DEVICE_SET_IRQS` of that, one
//! step after the other and not always in the same order. Whatever completes before, between or after
//! these steps has to reach the guest.

use std::cell::Cell;

use nvme::{
    DeviceModel,
    Doorbells,
    GuestMemory,
    MemoryError,
    Work, //
};
use vfio_pure::routing::{
    Index,
    Routing,
    Trigger,
    Vector, //
};

use crate::bench::{
    parameters,
    Bench, //
};
use crate::disk::Disk;
use crate::driver::Sqe;
use crate::spec::*;
use crate::whole::{
    Controller,
    Execute, //
};

/// Entries of each queue, more than any test completes.
const ENTRIES: u16 = 32;
/// Queue pairs: the admin queue, and one more with a vector of its own.
const QUEUES: u16 = 2;

/// An eventfd.
#[derive(Clone, Debug, Default)]
struct Event(Cell<u32>);

impl Trigger for Event {
    fn signal(&self) {
        self.0.set(self.0.get() + 1);
    }
}

#[derive(Clone)]
struct Memory(Vec<u8>);

impl Memory {
    fn range(&self, address: u64, length: usize) -> std::ops::Range<usize> {
        address as usize..address as usize + length
    }
}

impl GuestMemory for Memory {
    fn read(&mut self, address: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        into.copy_from_slice(&self.0[self.range(address, into.len())]);
        Ok(())
    }

    fn write(&mut self, address: u64, from: &[u8]) -> Result<(), MemoryError> {
        let range = self.range(address, from.len());
        self.0[range].copy_from_slice(from);
        Ok(())
    }
}

/// A step of the guest, its VMM or the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The guest sets the enable bit of MSI-X, with or without that of the function mask.
    ConfigOn {
        masked: bool,
    },
    ConfigOff,
    /// The VMM sets an eventfd for INTx.
    IntxOn,
    IntxOff,
    /// The VMM sets eventfds for vectors, from the first one on.
    Vectors(usize),
    /// The VMM enables MSI-X without any eventfd: vector 0 has -1.
    NoVector,
    /// The VMM sets the eventfd of a single vector.
    One(usize),
    MsixOff,
    /// A command of a queue completes.
    Complete(u16),
    /// The device becomes one that was saved, as at the end of a migration.
    Move,
}

use Step::*;

const STEPS: [Step; 14] = [
    ConfigOn { masked: false },
    ConfigOn { masked: true },
    ConfigOff,
    IntxOn,
    IntxOff,
    Vectors(1),
    Vectors(2),
    NoVector,
    One(0),
    One(1),
    MsixOff,
    Complete(0),
    Complete(1),
    Move,
];

/// A guest in its VMM, with a controller.
#[derive(Clone)]
struct Machine {
    controller: Controller,
    routing: Routing<Event, Vec<Vector<Event>>>,
    memory: Memory,
    disk: Disk,
    /// Number of entries that the guest has put into each submission queue.
    tails: [u16; QUEUES as usize],
    /// Number of completions that the guest has taken from each queue.
    heads: [u16; QUEUES as usize],
    /// The enable bit, as the guest wrote it.
    config_on: bool,
    /// Where the MSI-X capability is.
    msix: u64,
    /// Where the control and status of power management is.
    power: u64,
}

fn sq(queue: u16) -> u64 {
    u64::from(queue) * 2 * PAGE as u64
}

fn cq(queue: u16) -> u64 {
    sq(queue) + PAGE as u64
}

impl Machine {
    /// A guest that has one I/O queue and no interrupts yet.
    fn new() -> Self {
        let msix = Bench::new(parameters(9)).capability(0x11);
        let power = Bench::new(parameters(9)).capability(0x01);
        // No test looks at its content.
        let mut disk = Disk::new(1 << 20, 512);
        disk.bytes = Vec::new();
        let mut machine = Self {
            controller: Controller::power_on(&parameters(9)).expect("the parameters are good"),
            routing: Routing::new(vec![Vector::default(); 17]),
            memory: Memory(vec![0; usize::from(QUEUES) * 2 * PAGE]),
            disk,
            tails: [0; QUEUES as usize],
            heads: [0; QUEUES as usize],
            config_on: false,
            msix: msix.expect("there is MSI-X"),
            power: power.expect("there is power management") + 4,
        };
        let last = u32::from(ENTRIES - 1);
        machine.write_config(0x04, 0x0006);
        machine.write(REG_AQA, last << 16 | last);
        machine.write(REG_ASQ, sq(0) as u32);
        machine.write(REG_ACQ, cq(0) as u32);
        machine.write(REG_CC, CC_USUAL);
        // A queue with a vector of its own gets the vector before it is created.
        machine.set_config(true, false);
        for (opcode, base, flags) in [
            (ADMIN_CREATE_CQ, cq(1), 1 << 16 | CQ_IRQ_ENABLED),
            (ADMIN_CREATE_SQ, sq(1), 1 << 16),
        ] {
            machine.submit(
                0,
                Sqe::new(opcode)
                    .prp(base, 0)
                    .dword(10, last << 16 | 1)
                    .dword(11, flags | QUEUE_PHYS_CONTIG),
            );
        }
        machine.set_config(false, false);
        for queue in 0..QUEUES {
            machine.take(queue);
        }
        // None of that is pending.
        machine.routing.forget();
        machine.drive();
        machine
    }

    /// The same once the VMM has enabled INTx, as QEMU does at once.
    fn with_intx() -> Self {
        let mut machine = Self::new();
        assert!(machine.step(IntxOn));
        machine
    }

    /// The part of the kernel's side after each access.
    fn drive(&mut self) {
        self.routing
            .set_asleep(!self.controller.may_send_messages());
        self.routing
            .set_line(self.controller.intx_asserted(), false);
        self.routing.deliver_intx();
        let raised = self.controller.take_raised();
        for vector in (0..32).filter(|vector| raised & 1 << vector != 0) {
            self.routing.raise(vector);
        }
    }

    fn work(&mut self) {
        let doorbells = Doorbells::new();
        while self
            .controller
            .serve(&doorbells, &mut self.memory, &mut self.disk, 16)
            == Work::More
        {}
        self.drive();
    }

    fn write(&mut self, register: u64, value: u32) {
        self.controller
            .write_bar(0, register, &value.to_le_bytes())
            .expect("a register is writable");
        self.drive();
        self.work();
    }

    fn write_config(&mut self, offset: u64, value: u16) {
        self.controller
            .write_config(offset, &value.to_le_bytes())
            .expect("configuration space is writable");
        self.drive();
        self.work();
    }

    fn set_config(&mut self, on: bool, masked: bool) {
        self.config_on = on;
        let control = u16::from(on) << 15 | u16::from(masked) << 14;
        self.write_config(self.msix + 2, control);
    }

    fn submit(&mut self, queue: u16, sqe: Sqe) {
        let tail = &mut self.tails[usize::from(queue)];
        let at = sq(queue) + u64::from(*tail) * SQE_SIZE as u64;
        *tail += 1;
        assert!(*tail < ENTRIES, "there is room for the test's commands");
        let value = u32::from(*tail);
        self.memory.write(at, &sqe.0).expect("the queue is there");
        self.write(REG_DBS + 8 * u64::from(queue), value);
    }

    /// Number of completions of a queue that wait for the guest.
    fn waiting(&self, queue: u16) -> u16 {
        let head = self.heads[usize::from(queue)];
        let phase = |entry: u16| {
            let at = cq(queue) as usize + usize::from(entry) * CQE_SIZE + 14;
            self.memory.0[at] & 1 != 0
        };
        (head..ENTRIES).take_while(|entry| phase(*entry)).count() as u16
    }

    /// The guest takes all completions of a queue.
    fn take(&mut self, queue: u16) {
        let waiting = self.waiting(queue);
        if waiting > 0 {
            self.heads[usize::from(queue)] += waiting;
            let head = self.heads[usize::from(queue)].into();
            self.write(REG_DBS + 8 * u64::from(queue) + 4, head);
        }
    }

    /// Whether the trigger of an interrupt of the index that is enabled was signalled.
    fn signalled(&self, index: Index, number: usize) -> bool {
        let event = self.routing.trigger(number);
        self.routing.enabled() == Some(index) && event.is_some_and(|event| event.0.take() > 0)
    }

    /// The guest handles its interrupts.
    fn handle(&mut self) {
        loop {
            let mut quiet = true;
            for queue in 0..QUEUES {
                if self.signalled(Index::Msix, queue.into()) {
                    self.take(queue);
                    quiet = false;
                }
            }
            if self.signalled(Index::Intx, 0) {
                assert!(!self.config_on, "the pin is quiet while MSI-X is enabled");
                for queue in 0..QUEUES {
                    self.take(queue);
                }
                self.routing.mask_intx(false);
                self.routing.deliver_intx();
                quiet = false;
            }
            if quiet {
                return;
            }
        }
    }

    /// `VFIO_DEVICE_SET_IRQS` with eventfds, and whether it was accepted.
    fn set(&mut self, index: Index, start: usize, events: Vec<Option<Event>>) -> bool {
        let Ok(enabled) = self.routing.set_triggers(index, start, events.into_iter()) else {
            return false;
        };
        self.routing.deliver_intx();
        if enabled {
            self.tell();
        }
        true
    }

    fn disable(&mut self, index: Index) {
        if self.routing.enabled() == Some(index) {
            self.routing.disable();
            self.tell();
        }
    }

    /// The part of the kernel's side after an index was enabled or disabled.
    fn tell(&mut self) {
        let connected = self.routing.enabled() == Some(Index::Msix);
        self.controller.set_msix(connected);
        self.drive();
    }

    /// Does a step, and lets the guest handle its interrupts. Returns whether it is a step that
    /// can be done: two indexes are not enabled at once.
    fn step(&mut self, step: Step) -> bool {
        let some = |count| vec![Some(Event::default()); count];
        let done = match step {
            ConfigOn { masked } => {
                self.set_config(true, masked);
                true
            }
            ConfigOff => {
                self.set_config(false, false);
                true
            }
            IntxOn => self.set(Index::Intx, 0, some(1)),
            IntxOff => {
                self.disable(Index::Intx);
                true
            }
            Vectors(count) => self.set(Index::Msix, 0, some(count)),
            NoVector => self.set(Index::Msix, 0, vec![None]),
            One(vector) => self.set(Index::Msix, vector, some(1)),
            MsixOff => {
                self.disable(Index::Msix);
                true
            }
            Move => {
                let mut state = vec![0; nvme::Controller::STATE_SIZE];
                assert!(self.controller.save(&mut state).is_some(), "it is saved");
                self.controller = crate::bench::from_state(self.controller.parameters(), &state)
                    .expect("what was saved can be loaded");
                let connected = self.routing.enabled() == Some(Index::Msix);
                self.controller.set_msix(connected);
                self.routing.forget();
                self.drive();
                true
            }
            Complete(0) => {
                let sqe = Sqe::new(ADMIN_GET_FEATURES).dword(10, 1);
                self.submit(0, sqe);
                true
            }
            Complete(queue) => {
                self.submit(queue, Sqe::new(CMD_FLUSH).nsid(1));
                true
            }
        };
        self.handle();
        done
    }

    /// Checks that nothing waits whose interrupt could have been delivered.
    #[track_caller]
    fn expect_delivered(&self, history: &[Step]) {
        for queue in 0..QUEUES {
            let deliverable = match self.routing.enabled() {
                Some(Index::Msix) => self.routing.trigger(queue.into()).is_some(),
                Some(Index::Intx) => !self.config_on,
                _ => false,
            };
            let waiting = self.waiting(queue);
            assert!(
                !deliverable || waiting == 0,
                "{waiting} completions of queue {queue} wait without an interrupt after {history:?}"
            );
        }
    }

    /// Does steps one after the other, and checks after each. Returns whether all can be done.
    #[track_caller]
    fn steps(&mut self, steps: &[Step], history: &mut Vec<Step>) -> bool {
        for step in steps {
            history.push(*step);
            if !self.step(*step) {
                return false;
            }
            self.expect_delivered(history);
        }
        true
    }

    /// Checks that the guest gets everything however it goes on.
    #[track_caller]
    fn expect_ends_well(&self, history: &[Step]) {
        let by_messages = [ConfigOn { masked: false }, IntxOff, Vectors(2)];
        let at_last_by_messages = [IntxOff, Vectors(2)];
        let by_pin = [ConfigOff, MsixOff, IntxOn];
        for end in [&by_messages[..], &at_last_by_messages, &by_pin] {
            let mut history = history.to_vec();
            assert!(
                self.clone().steps(end, &mut history),
                "{history:?} can be done"
            );
        }
    }
}

/// Goes through all sequences of `depth` more steps.
fn explore(machine: &Machine, history: &mut Vec<Step>, depth: usize) {
    machine.expect_ends_well(history);
    if depth == 0 {
        return;
    }
    for step in STEPS {
        let mut machine = machine.clone();
        if machine.step(step) {
            history.push(step);
            machine.expect_delivered(history);
            explore(&machine, history, depth - 1);
            history.pop();
        }
    }
}

#[test]
fn no_interrupt_is_lost_in_any_sequence_of_steps() {
    for machine in [Machine::new(), Machine::with_intx()] {
        explore(&machine, &mut Vec::new(), 4);
    }
}

#[test]
fn in_d3hot_nothing_is_signalled_and_in_d0_nothing_is_lost() {
    // A doorbell that is rung in D3hot does not reach the controller.
    let quiet = STEPS.map(|step| (!matches!(step, Complete(_))).then_some(step));
    for start in [Machine::new(), Machine::with_intx()] {
        for before in STEPS {
            for completions in [
                &[Complete(0)][..],
                &[Complete(1)],
                &[Complete(1), Complete(0)],
            ] {
                let mut asleep = start.clone();
                if !asleep.step(before) {
                    continue;
                }
                for completion in completions {
                    asleep.step(*completion);
                }
                let waiting = [asleep.waiting(0), asleep.waiting(1)];
                asleep.write_config(asleep.power, 3);
                for first in quiet.into_iter().flatten() {
                    for second in quiet.into_iter().flatten() {
                        let history = [&[before][..], completions, &[first, second]].concat();
                        let mut machine = asleep.clone();
                        // The VMM may be refused, and goes on.
                        machine.step(first);
                        machine.step(second);
                        assert_eq!(
                            [machine.waiting(0), machine.waiting(1)],
                            waiting,
                            "completions that wait in D3hot after {history:?}"
                        );
                        machine.write_config(machine.power, 0);
                        machine.handle();
                        machine.expect_delivered(&history);
                        machine.expect_ends_well(&history);
                    }
                }
            }
        }
    }
}

/// All orders of some steps.
fn orders(steps: &[Step]) -> Vec<Vec<Step>> {
    if steps.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for at in 0..steps.len() {
        let mut rest = steps.to_vec();
        let first = rest.remove(at);
        for mut order in orders(&rest) {
            order.insert(0, first);
            all.push(order);
        }
    }
    all
}

/// Does `script` with completions of both queues at each place, and at each two places.
#[track_caller]
fn expect_delivers(start: &Machine, script: &[Step]) {
    for first in 0..=script.len() {
        for second in first..=script.len() {
            let mut steps = script.to_vec();
            for place in [second, first] {
                steps.splice(place..place, [Complete(1), Complete(0)]);
            }
            let mut history = Vec::new();
            let mut machine = start.clone();
            // A VMM that enables one index while the other is enabled gets an error and goes on.
            for step in steps {
                history.push(step);
                machine.step(step);
                machine.expect_delivered(&history);
            }
            machine.expect_ends_well(&history);
        }
    }
}

#[test]
fn no_interrupt_is_lost_whatever_the_order_of_enabling_is() {
    let start = Machine::with_intx();
    for order in orders(&[
        ConfigOn { masked: true },
        ConfigOn { masked: false },
        IntxOff,
        NoVector,
        One(1),
        Vectors(1),
    ]) {
        expect_delivers(&start, &order);
    }
}

/// The steps of QEMU 7.2 (`vfio_msix_enable()`, `vfio_msix_vector_do_use()`, `vfio_msix_disable()`)
/// for a Linux guest: vector 0 alone at first, and everything anew when a vector is added.
const QEMU_7_2: [Step; 12] = [
    ConfigOn { masked: true },
    IntxOff,
    MsixOff,
    Vectors(1),
    ConfigOn { masked: false },
    One(0),
    MsixOff,
    Vectors(2),
    // And back: the driver is unbound.
    ConfigOff,
    MsixOff,
    IntxOn,
    Complete(1),
];

/// Those of QEMU 8.2 and later: no vector at first, and then one after the other.
const QEMU_11: [Step; 10] = [
    ConfigOn { masked: true },
    IntxOff,
    NoVector,
    ConfigOn { masked: false },
    One(0),
    One(1),
    ConfigOff,
    MsixOff,
    IntxOn,
    Complete(1),
];

#[test]
fn no_interrupt_is_lost_when_qemu_enables_msix() {
    for machine in [Machine::new(), Machine::with_intx()] {
        for script in [&QEMU_7_2[..], &QEMU_11] {
            expect_delivers(&machine, script);
        }
    }
}
