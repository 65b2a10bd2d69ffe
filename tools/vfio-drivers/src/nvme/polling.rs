// SPDX-License-Identifier: GPL-2.0

//! A client of an I/O queue that polls, or waits for interrupts: a load of equal commands, for measurements.
//!
//! As many commands are under way as the load says. Each look at the completion queue takes all that is there and rings the
//! doorbell once, and the commands that take their place are announced by one doorbell, too.

use core::fmt;
use core::sync::atomic::fence;
use core::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use vfio_client::Error;
use vfio_client::GuestMemory;
use vfio_client::Result;

use super::controller::Controller;
use super::entry::Command;
use super::entry::Completion;
use super::prp::prps;
use super::prp::PAGE;
use super::queue::head_doorbell;
use super::queue::tail_doorbell;
use super::queue::Pair;
use super::queue::DATA;
use super::spec::admin;
use super::spec::Status;

/// The most bytes of a command.
pub const MAX_SIZE: u64 = 128 << 10;
/// The most commands under way.
pub const MAX_UNDER_WAY: u16 = 32;

/// A part of a namespace that is in the caches of no processor, and small.
pub const RANGE: u64 = 16 << 20;

/// The offsets in the memory for data: buffers, PRP lists, and both pages of shadow doorbells of each queue.
const LISTS: u64 = MAX_SIZE * MAX_UNDER_WAY as u64;
const SHADOWS: u64 = LISTS + PAGE * MAX_UNDER_WAY as u64;

/// The bytes of the guest's memory that a client needs.
pub const MEMORY_SIZE: usize = (DATA + SHADOWS + 2 * PAGE) as usize;

/// How long to wait for a completion. Emulated machines are slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many looks at an empty queue there are before the clock is asked: a question costs more than a look.
const LOOKS: u64 = 4096;

/// A load on a queue.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Read or Write.
    pub opcode: u8,
    /// The bytes of each command, a power of two and at least a page.
    pub size: u64,
    /// How many commands are under way.
    pub under_way: u16,
    /// How many commands there are in all.
    pub commands: u64,
    /// The part of the namespace, from its start on, that the commands go to: a power of two of bytes.
    pub range: u64,
    /// How many commands' sizes are from one command's place to that of the next. An odd number has the commands go to all places
    /// of the range.
    pub step: u64,
}

/// What a load took.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Took {
    /// The time of the monotonic clock.
    pub time: Duration,
    /// Writes to doorbell registers, each of which is an exit of a guest.
    pub exits: u64,
    /// Looks at the completion queue that found nothing.
    pub looks: u64,
}

/// Writes a doorbell register.
type Ring<'a> = &'a mut dyn FnMut(u64, u32) -> Result<()>;

/// A client of an I/O queue.
#[derive(Clone, Debug)]
pub struct Polling {
    memory: GuestMemory,
    pair: Pair,
    /// The size of a logical block, as a power of two of bytes.
    shift: u8,
    has_shadows: bool,
    submitted: u64,
}

impl Polling {
    /// Returns a client of a queue pair of a controller that nobody else uses. Logical blocks have `1 << shift` bytes.
    pub fn new(controller: &Controller, queue: u16, shift: u8) -> Self {
        Polling {
            memory: controller.memory().clone(),
            pair: controller.pair(queue).clone(),
            shift,
            has_shadows: false,
            submitted: 0,
        }
    }

    /// Uses shadow doorbells from now on, whether the controller knows them or not.
    pub fn use_shadows(&mut self) {
        self.has_shadows = true;
    }

    /// Returns the command that tells the controller of the shadow doorbells.
    pub fn doorbell_buffer_config(memory: &GuestMemory) -> Command {
        let doorbells = memory.start() + DATA + SHADOWS;
        Command::new(admin::DOORBELL_BUFFER).prp(doorbells, doorbells + PAGE)
    }

    /// Returns the address of a buffer.
    pub fn buffer(memory: &GuestMemory, slot: u16) -> u64 {
        memory.start() + DATA + u64::from(slot) * MAX_SIZE
    }

    /// Returns the commands of a load by their place among those that are under way.
    fn commands(&self, load: &Load) -> Vec<Command> {
        let command = |slot| {
            let list = self.memory.start() + DATA + LISTS + u64::from(slot) * PAGE;
            let buffer = Polling::buffer(&self.memory, slot);
            let (first, second) = prps(&self.memory, buffer, load.size, list);
            Command::new(load.opcode).namespace(1).prp(first, second)
        };
        (0..load.under_way).map(command).collect()
    }

    fn malformed(&self, why: impl fmt::Display) -> Error {
        Error::malformed(format!("NVMe queue {}", self.pair.number), format!("{why}"))
    }

    fn shadow(&self, page: u64, register: u64) -> u64 {
        self.memory.start() + DATA + SHADOWS + page * PAGE + register - tail_doorbell(0)
    }

    fn read_shadow(&self, page: u64, register: u64) -> u16 {
        // The words are pairs, and a pair is read at once.
        let at = self.shadow(page, register);
        (self.memory.read_u64(at & !7) >> ((at & 4) * 8)) as u16
    }

    /// Announces a value of a doorbell.
    fn announce(&self, register: u64, value: u16, took: &mut Took, ring: Ring<'_>) -> Result<()> {
        if self.has_shadows {
            let old = self.read_shadow(0, register);
            let at = self.shadow(0, register);
            self.memory.write(at, &u32::from(value).to_le_bytes());
            fence(Ordering::SeqCst);
            if !passes(self.read_shadow(1, register), old, value) {
                return Ok(());
            }
        }
        fence(Ordering::SeqCst);
        took.exits += 1;
        ring(register, value.into())
    }

    fn post(&mut self, command: Command) {
        let pair = &mut self.pair;
        let at = pair.submissions + u64::from(pair.tail) * Command::SIZE as u64;
        self.memory.write(at, &command.id(pair.next_id).bytes());
        pair.next_id = pair.next_id.wrapping_add(1);
        pair.tail = (pair.tail + 1) % pair.depth;
    }

    fn take(&mut self) -> Result<bool> {
        const PHASE: u64 = 1 << 48;
        let pair = &mut self.pair;
        let at = pair.completion(pair.head);
        // The controller writes the phase last, so it is read first.
        let high = self.memory.read_u64(at + 8);
        if (high & PHASE != 0) != pair.phase {
            return Ok(false);
        }
        let completion = Completion::parse(self.memory.read_u64(at), high);
        pair.head = (pair.head + 1) % pair.depth;
        pair.phase ^= pair.head == 0;
        if completion.status == Status::SUCCESS {
            return Ok(true);
        }
        Err(self.malformed(format_args!("a command ended with {:?}", completion.status)))
    }

    fn run(&mut self, load: &Load, commands: &[Command], ring: Ring<'_>) -> Result<Took> {
        let mut took = Took::default();
        let began = Instant::now();
        let (mut submitted, mut completed, mut idle) = (0, 0, 0);
        let mut last = began;
        while completed < load.commands {
            let room = u64::from(load.under_way) - (submitted - completed);
            let new = room.min(load.commands - submitted);
            for _ in 0..new {
                let slot = self.submitted % u64::from(load.under_way);
                let at = self.submitted.wrapping_mul(load.step * load.size);
                let first = (at % load.range) >> self.shift;
                let blocks = (load.size >> self.shift) as u32;
                self.post(commands[slot as usize].blocks(first, blocks));
                self.submitted += 1;
            }
            submitted += new;
            if new > 0 {
                let register = tail_doorbell(self.pair.number);
                self.announce(register, self.pair.tail, &mut took, ring)?;
            }
            let before = completed;
            while completed < submitted && self.take()? {
                completed += 1;
            }
            if completed > before {
                let register = head_doorbell(self.pair.number);
                self.announce(register, self.pair.head, &mut took, ring)?;
                idle = 0;
                continue;
            }
            took.looks += 1;
            idle += 1;
            if idle % LOOKS == 0 {
                if idle == LOOKS {
                    last = Instant::now();
                } else if last.elapsed() > PATIENCE {
                    return Err(self.malformed(format_args!("no completion after {PATIENCE:?}")));
                }
            }
            match &self.pair.event {
                Some(event) => {
                    if event.wait(PATIENCE)? == 0 {
                        return Err(self.malformed(format_args!("no interrupt after {PATIENCE:?}")));
                    }
                }
                None => thread::yield_now(),
            }
        }
        took.time = began.elapsed();
        Ok(took)
    }

    /// Runs a load.
    ///
    /// # Errors
    ///
    /// As [`Controller::write`], and [`Error::Malformed`] when a command fails or nothing is completed for a minute.
    pub fn measure(&mut self, controller: &Controller, load: &Load) -> Result<Took> {
        let commands = self.commands(load);
        self.run(load, &commands, &mut |register, value| {
            controller.write(register, value)
        })
    }

    /// Does alone what a client does for a load, with completions that are there beforehand and doorbells that nobody hears. The
    /// queue pair cannot be used afterwards.
    ///
    /// # Errors
    ///
    /// None that is expected.
    pub fn rehearse(&mut self, load: &Load) -> Result<Took> {
        let commands = self.commands(load);
        let mut all = Took::default();
        let mut left = load.commands;
        while left > 0 {
            let pass = Load {
                commands: left.min(self.pair.depth.into()),
                ..*load
            };
            self.complete_beforehand();
            let took = self.run(&pass, &commands, &mut |_, _| Ok(()))?;
            all.time += took.time;
            all.exits += took.exits;
            all.looks += took.looks;
            left -= pass.commands;
        }
        Ok(all)
    }

    /// Fills the completion queue.
    fn complete_beforehand(&self) {
        let Pair {
            depth, head, phase, ..
        } = self.pair;
        for index in 0..depth {
            // Entries before the head are those of the next pass.
            let phase = phase ^ (index < head);
            let high = u64::from(phase) << 48;
            let at = self.pair.completion(index) + 8;
            self.memory.write(at, &high.to_le_bytes());
        }
    }
}

/// Whether a shadow doorbell that went from `old` to `new` passed the event index, so that the register has to be written.
fn passes(event: u16, old: u16, new: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvme::nvm;

    const START: u64 = 0x10_0000;

    fn polling(depth: u16) -> Polling {
        let memory = GuestMemory::new(START, MEMORY_SIZE).expect("memory");
        Polling {
            pair: Pair::new(&memory, 1, depth, None),
            memory,
            shift: 9,
            has_shadows: false,
            submitted: 0,
        }
    }

    fn load(size: u64, under_way: u16, commands: u64) -> Load {
        Load {
            opcode: nvm::READ,
            size,
            under_way,
            commands,
            range: RANGE,
            step: 1,
        }
    }

    /// A controller that completes what a tail doorbell announces, and notes the commands.
    fn serve(memory: &GuestMemory, pair: &mut Pair, tail: u32, seen: &mut Vec<Command>) {
        while u32::from(pair.head) != tail {
            let mut bytes = [0; Command::SIZE];
            let at = pair.submissions + u64::from(pair.head) * Command::SIZE as u64;
            memory.read(at, &mut bytes);
            let mut words = [0; 16];
            for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
                *word = u32::from_le_bytes(bytes.try_into().expect("four bytes"));
            }
            seen.push(Command { words });
            let high = u64::from(pair.phase) << 48;
            memory.write(pair.completion(pair.head) + 8, &high.to_le_bytes());
            pair.head = (pair.head + 1) % pair.depth;
            pair.phase ^= pair.head == 0;
        }
    }

    #[test]
    fn each_command_is_announced_once_and_a_batch_has_two_doorbells() {
        let mut polling = polling(5);
        let (memory, mut served) = (polling.memory.clone(), polling.pair.clone());
        let (load, mut seen) = (load(8192, 4, 10), Vec::new());
        let commands = polling.commands(&load);
        let took = polling.run(&load, &commands, &mut |register, value| {
            if register == tail_doorbell(1) {
                serve(&memory, &mut served, value, &mut seen);
            }
            Ok(())
        });
        let took = took.expect("completions");
        assert_eq!((took.exits, took.looks), (6, 0), "4 + 4 + 2 commands");
        let first: Vec<_> = seen.iter().map(|command| command.words[10]).collect();
        assert_eq!(first, [0, 16, 32, 48, 64, 80, 96, 112, 128, 144]);
        let ids = seen.iter().map(|command| command.words[0] >> 16);
        assert_eq!(ids.collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        let buffer = |slot| Polling::buffer(&memory, slot) as u32;
        assert_eq!(seen[5].words[6], buffer(1), "the second of four buffers");
        assert_eq!(seen[5].words[8], buffer(1) + PAGE as u32);
    }

    #[test]
    fn a_command_that_failed_ends_the_load() {
        let mut polling = polling(4);
        let memory = polling.memory.clone();
        let at = polling.pair.completion(0) + 8;
        let load = load(4096, 1, 2);
        let commands = polling.commands(&load);
        let ended = polling.run(&load, &commands, &mut |_, _| {
            memory.write(at, &(0x5_u64 << 48).to_le_bytes());
            Ok(())
        });
        let error = ended.expect_err("a status").to_string();
        assert!(error.contains("queue 1") && error.contains("2"), "{error}");
    }

    #[test]
    fn a_rehearsal_needs_nobody_and_counts_the_same_doorbells() {
        for shadows in [false, true] {
            let mut polling = polling(8);
            if shadows {
                polling.use_shadows();
            }
            let took = polling.rehearse(&load(4096, 4, 37)).expect("completions");
            assert_eq!(polling.submitted, 37);
            if !shadows {
                assert_eq!((took.exits, took.looks), (20, 0));
            } else {
                assert!(took.exits < 20, "event indexes that stay 0: {took:?}");
            }
        }
    }

    #[test]
    fn a_register_is_written_when_its_event_index_is_passed() {
        for (event, old, new, expected) in [
            (0, 0, 1, true),
            (1, 0, 1, false),
            (4, 3, 5, true),
            (5, 3, 5, false),
            (2, 3, 5, false),
            (254, 254, 1, true),
        ] {
            assert_eq!(passes(event, old, new), expected, "{event} {old} {new}");
        }
    }
}
