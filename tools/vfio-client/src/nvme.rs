// SPDX-License-Identifier: GPL-2.0

//! A driver for an NVMe controller behind BAR0, and all that is needed to be a bad one.
//!
//! Names and numbers are those of the NVM Express Base Specification, revision 1.4. The driver keeps
//! its queues in a [`GuestMemory`], and waits for completions at an eventfd or by looking at the
//! queue. It is itself a part of the guest: [`Driver::moved_to`] goes on with another controller
//! exactly where it was, as a guest does that was migrated.

use core::fmt;
use core::sync::atomic::fence;
use core::sync::atomic::Ordering;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use vfio_bindings::bindings::vfio;

use crate::irq::Action;
use crate::irq::Data;
use crate::irq::Index;
use crate::Device;
use crate::Error;
use crate::EventFd;
use crate::GuestMemory;
use crate::Region;
use crate::Result;

/// Offsets of the controller's registers in BAR0 (section 3.1).
pub mod register {
    /// Capabilities, 8 bytes.
    pub const CAP: u64 = 0x00;
    /// Version, 4 bytes.
    pub const VS: u64 = 0x08;
    /// Interrupt mask set, 4 bytes.
    pub const INTMS: u64 = 0x0c;
    /// Interrupt mask clear, 4 bytes.
    pub const INTMC: u64 = 0x10;
    /// Configuration, 4 bytes.
    pub const CC: u64 = 0x14;
    /// Status, 4 bytes.
    pub const CSTS: u64 = 0x1c;
    /// Subsystem reset, 4 bytes.
    pub const NSSR: u64 = 0x20;
    /// Admin queue attributes, 4 bytes.
    pub const AQA: u64 = 0x24;
    /// Admin submission queue base address, 8 bytes.
    pub const ASQ: u64 = 0x28;
    /// Admin completion queue base address, 8 bytes.
    pub const ACQ: u64 = 0x30;
    /// The first doorbell.
    pub const DOORBELLS: u64 = 0x1000;
}

/// CC: enable.
pub const CC_ENABLE: u32 = 1;
/// CC: a normal shutdown.
pub const CC_SHUTDOWN: u32 = 1 << 14;
/// CC: entries of 64 and 16 bytes, pages of 4 KiB, the NVM command set.
pub const CC_SIZES: u32 = 6 << 16 | 4 << 20;
/// CSTS: ready.
pub const CSTS_READY: u32 = 1;
/// CSTS: controller fatal status.
pub const CSTS_FATAL: u32 = 1 << 1;
/// CSTS: the shutdown status.
pub const CSTS_SHUTDOWN: u32 = 3 << 2;
/// CSTS: the shutdown is complete.
pub const CSTS_SHUTDOWN_COMPLETE: u32 = 2 << 2;

/// Opcodes of admin commands (section 5).
pub mod admin {
    /// Delete I/O submission queue.
    pub const DELETE_SQ: u8 = 0x00;
    /// Create I/O submission queue.
    pub const CREATE_SQ: u8 = 0x01;
    /// Get log page.
    pub const GET_LOG_PAGE: u8 = 0x02;
    /// Delete I/O completion queue.
    pub const DELETE_CQ: u8 = 0x04;
    /// Create I/O completion queue.
    pub const CREATE_CQ: u8 = 0x05;
    /// Identify.
    pub const IDENTIFY: u8 = 0x06;
    /// Abort.
    pub const ABORT: u8 = 0x08;
    /// Set features.
    pub const SET_FEATURES: u8 = 0x09;
    /// Get features.
    pub const GET_FEATURES: u8 = 0x0a;
    /// Asynchronous event request.
    pub const ASYNC_EVENT: u8 = 0x0c;
    /// Keep alive.
    pub const KEEP_ALIVE: u8 = 0x18;
    /// Doorbell buffer config.
    pub const DOORBELL_BUFFER: u8 = 0x7c;
    /// Format NVM.
    pub const FORMAT: u8 = 0x80;
}

/// Opcodes of NVM commands (section 6).
pub mod nvm {
    /// Flush.
    pub const FLUSH: u8 = 0x00;
    /// Write.
    pub const WRITE: u8 = 0x01;
    /// Read.
    pub const READ: u8 = 0x02;
    /// Compare.
    pub const COMPARE: u8 = 0x05;
    /// Write zeroes.
    pub const WRITE_ZEROES: u8 = 0x08;
    /// Dataset management.
    pub const DATASET: u8 = 0x09;
}

/// Features (section 5.21).
pub mod feature {
    /// Arbitration.
    pub const ARBITRATION: u8 = 0x01;
    /// Temperature threshold.
    pub const TEMPERATURE: u8 = 0x04;
    /// Number of queues.
    pub const QUEUES: u8 = 0x07;
    /// Interrupt coalescing.
    pub const COALESCING: u8 = 0x08;
    /// Asynchronous event configuration.
    pub const ASYNC_EVENTS: u8 = 0x0b;
}

/// The status of a completion: type and code, without the hints (section 4.6.1).
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Status(pub u16);

impl Status {
    /// Successful completion.
    pub const SUCCESS: Status = Status(0x000);
    /// Invalid command opcode.
    pub const INVALID_OPCODE: Status = Status(0x001);
    /// Invalid field in command.
    pub const INVALID_FIELD: Status = Status(0x002);
    /// Data transfer error.
    pub const TRANSFER_ERROR: Status = Status(0x004);
    /// Internal error.
    pub const INTERNAL: Status = Status(0x006);
    /// Invalid namespace or format.
    pub const INVALID_NAMESPACE: Status = Status(0x00b);
    /// PRP offset invalid.
    pub const INVALID_PRP: Status = Status(0x013);
    /// LBA out of range.
    pub const LBA_RANGE: Status = Status(0x080);
    /// Capacity exceeded.
    pub const CAPACITY: Status = Status(0x081);
    /// Completion queue invalid.
    pub const INVALID_CQ: Status = Status(0x100);
    /// Invalid queue identifier.
    pub const INVALID_QUEUE: Status = Status(0x101);
    /// Invalid queue size.
    pub const INVALID_QUEUE_SIZE: Status = Status(0x102);
    /// Asynchronous event request limit exceeded.
    pub const EVENT_LIMIT: Status = Status(0x105);
    /// Invalid interrupt vector.
    pub const INVALID_VECTOR: Status = Status(0x108);
    /// Invalid queue deletion.
    pub const INVALID_DELETION: Status = Status(0x10c);
    /// Compare failure.
    pub const COMPARE_FAILURE: Status = Status(0x285);
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {:#05x}", self.0)
    }
}

/// A submission queue entry.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Command {
    /// The sixteen words.
    pub words: [u32; 16],
}

impl Command {
    /// The size in bytes.
    pub const SIZE: usize = 64;

    /// Makes a command with an opcode and nothing else.
    pub fn new(opcode: u8) -> Self {
        Command::default().word(0, opcode.into())
    }

    /// Sets the namespace.
    pub fn namespace(self, id: u32) -> Self {
        self.word(1, id)
    }

    /// Sets both PRP entries.
    pub fn prp(self, first: u64, second: u64) -> Self {
        self.word(6, first as u32)
            .word(7, (first >> 32) as u32)
            .word(8, second as u32)
            .word(9, (second >> 32) as u32)
    }

    /// Sets one of the sixteen words.
    pub fn word(mut self, index: usize, value: u32) -> Self {
        self.words[index] = value;
        self
    }

    /// Sets the range of logical blocks, of which there is at least one.
    pub fn blocks(self, first: u64, count: u32) -> Self {
        let control = self.words[12] & 0xffff_0000;
        self.word(10, first as u32)
            .word(11, (first >> 32) as u32)
            .word(12, control | (count.wrapping_sub(1) & 0xffff))
    }

    /// Sets the command's id.
    pub fn id(self, id: u16) -> Self {
        let rest = self.words[0] & 0xffff;
        self.word(0, rest | u32::from(id) << 16)
    }

    /// Returns the entry's bytes.
    pub fn bytes(&self) -> [u8; Command::SIZE] {
        let mut bytes = [0; Command::SIZE];
        for (piece, word) in bytes.chunks_exact_mut(4).zip(self.words) {
            piece.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// A completion queue entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Completion {
    /// The command's own result.
    pub result: u32,
    /// Where the head of the submission queue is.
    pub head: u16,
    /// The submission queue.
    pub queue: u16,
    /// The command's id.
    pub id: u16,
    /// How it ended.
    pub status: Status,
}

impl Completion {
    /// The size in bytes.
    pub const SIZE: usize = 16;

    fn parse(low: u64, high: u64) -> Self {
        Completion {
            result: low as u32,
            head: high as u16,
            queue: (high >> 16) as u16,
            id: (high >> 32) as u16,
            status: Status((high >> 49) as u16 & 0x7ff),
        }
    }
}

/// The size of a memory page, which is what PRP entries count in.
pub const PAGE: u64 = 4096;

/// How many bytes a queue pair takes in the guest's memory: the most entries it may have here, and
/// a page for a PRP list.
const PAIR_SIZE: u64 = 0x6000;
/// Where the completion queue is in it.
const COMPLETIONS: u64 = 0x4000;
/// Where the PRP list is in it.
const LIST: u64 = 0x5000;
/// The most entries a queue of this driver may have.
pub const MAX_DEPTH: u16 = 256;
/// Where the memory for data starts, from the start of the memory.
const DATA: u64 = 0x8_0000;
/// The most queue pairs, with the admin queues.
const MAX_PAIRS: u16 = (DATA / PAIR_SIZE) as u16;

/// How long to wait for what must come. Emulated machines are slow.
const PATIENCE: Duration = Duration::from_secs(20);

/// A submission queue and the completion queue of the same number.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Its number; 0 are the admin queues.
    pub number: u16,
    /// How many entries both have.
    pub depth: u16,
    /// Where the submission queue is.
    pub submissions: u64,
    /// Where the completion queue is.
    pub completions: u64,
    /// Where the next command goes.
    pub tail: u16,
    /// Where the next completion comes.
    pub head: u16,
    /// The phase bit of the next completion.
    pub phase: bool,
    next_id: u16,
    event: Option<Arc<EventFd>>,
}

impl Pair {
    fn new(memory: &GuestMemory, number: u16, depth: u16, event: Option<Arc<EventFd>>) -> Self {
        assert!(
            number < MAX_PAIRS && (2..=MAX_DEPTH).contains(&depth),
            "queue {number} with {depth} entries"
        );
        let start = memory.start() + u64::from(number) * PAIR_SIZE;
        // Completions of before would look like new ones.
        memory.write(start, &[0; PAIR_SIZE as usize]);
        Pair {
            number,
            depth,
            submissions: start,
            completions: start + COMPLETIONS,
            tail: 0,
            head: 0,
            phase: true,
            next_id: 0,
            event,
        }
    }

    /// Returns where an entry of the completion queue is.
    fn completion(&self, index: u16) -> u64 {
        self.completions + u64::from(index) * Completion::SIZE as u64
    }
}

/// Returns where the doorbell of a submission queue's tail is in BAR0.
pub fn tail_doorbell(queue: u16) -> u64 {
    register::DOORBELLS + u64::from(queue) * 8
}

/// Returns where the doorbell of a completion queue's head is in BAR0.
pub fn head_doorbell(queue: u16) -> u64 {
    tail_doorbell(queue) + 4
}

/// A controller in the hands of its driver.
#[derive(Clone, Debug)]
pub struct Driver {
    bar: Region,
    config: Region,
    memory: GuestMemory,
    pairs: Vec<Pair>,
    events: Vec<Arc<EventFd>>,
}

impl Driver {
    /// Takes a controller. The memory has to be attached to its container for it to be of use.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn new(device: &Device, memory: &GuestMemory) -> Result<Self> {
        Ok(Driver {
            bar: device.region(vfio::VFIO_PCI_BAR0_REGION_INDEX)?,
            config: device.region(vfio::VFIO_PCI_CONFIG_REGION_INDEX)?,
            memory: memory.clone(),
            pairs: Vec::new(),
            events: Vec::new(),
        })
    }

    /// Goes on with another controller, in the same memory, and knows nothing of the move. The
    /// interrupts have to be connected anew; see [`Driver::connect`].
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn moved_to(&self, device: &Device) -> Result<Self> {
        Ok(Driver {
            bar: device.region(vfio::VFIO_PCI_BAR0_REGION_INDEX)?,
            config: device.region(vfio::VFIO_PCI_CONFIG_REGION_INDEX)?,
            ..self.clone()
        })
    }

    /// Returns BAR0.
    pub fn bar(&self) -> &Region {
        &self.bar
    }

    /// Returns the guest's memory.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// Returns an address in the guest's memory that no queue is at: `offset` bytes past the first
    /// of these.
    pub fn data(&self, offset: u64) -> u64 {
        self.memory.start() + DATA + offset
    }

    /// Returns a queue pair that was made.
    ///
    /// # Panics
    ///
    /// When it was not; also in the other methods.
    pub fn pair(&self, queue: u16) -> &Pair {
        &self.pairs[usize::from(queue)]
    }

    /// Returns a queue pair that was made, to be put into disorder.
    pub fn pair_mut(&mut self, queue: u16) -> &mut Pair {
        &mut self.pairs[usize::from(queue)]
    }

    /// Reads the status register.
    ///
    /// # Errors
    ///
    /// As [`Region::read`].
    pub fn status(&self) -> Result<u32> {
        self.bar.read_u32(register::CSTS)
    }

    /// Writes a register of four bytes.
    ///
    /// # Errors
    ///
    /// As [`Region::write`].
    pub fn write(&self, register: u64, value: u32) -> Result<()> {
        self.bar.write(register, &value.to_le_bytes())
    }

    /// Writes a register of eight bytes.
    ///
    /// # Errors
    ///
    /// As [`Region::write`].
    pub fn write_long(&self, register: u64, value: u64) -> Result<()> {
        self.bar.write(register, &value.to_le_bytes())
    }

    /// Waits until some bits of the status register have a value, or the controller has failed.
    /// Returns the register.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when that does not happen.
    pub fn wait_status(&self, mask: u32, value: u32) -> Result<u32> {
        let start = Instant::now();
        loop {
            let status = self.status()?;
            if status & mask == value || status & CSTS_FATAL != 0 {
                return Ok(status);
            }
            if start.elapsed() > PATIENCE {
                return Err(self.malformed(format!(
                    "CSTS & {mask:#x} is not {value:#x} after {PATIENCE:?}: {status:#x}"
                )));
            }
            thread::yield_now();
        }
    }

    fn malformed(&self, why: String) -> Error {
        Error::malformed(format!("{}: NVMe", self.bar.device().name()), why)
    }

    /// Has the function answer accesses of its registers and be a bus master.
    fn enable_function(&self) -> Result<()> {
        const COMMAND: u64 = 0x04;
        const MEMORY_AND_MASTER: u16 = 0x0006;
        let command = self.config.read_u16(COMMAND)? | MEMORY_AND_MASTER;
        self.config.write(COMMAND, &command.to_le_bytes())
    }

    /// Disables the controller, which resets it.
    ///
    /// # Errors
    ///
    /// When it does not become not ready.
    pub fn disable(&mut self) -> Result<()> {
        self.pairs.clear();
        self.enable_function()?;
        self.write(register::CC, 0)?;
        let status = self.wait_status(CSTS_READY, 0)?;
        if status & (CSTS_READY | CSTS_FATAL) == 0 {
            return Ok(());
        }
        Err(self.malformed(format!("CSTS after a reset is {status:#x}")))
    }

    /// Enables a controller that is disabled, with admin queues of `depth` entries.
    ///
    /// # Errors
    ///
    /// When it does not become ready.
    pub fn enable(&mut self, depth: u16) -> Result<()> {
        self.enable_function()?;
        let pair = Pair::new(&self.memory, 0, depth, self.events.first().cloned());
        let size = u32::from(depth - 1);
        self.write(register::AQA, size << 16 | size)?;
        self.write_long(register::ASQ, pair.submissions)?;
        self.write_long(register::ACQ, pair.completions)?;
        self.pairs = vec![pair];
        self.write(register::CC, CC_SIZES | CC_ENABLE)?;
        let status = self.wait_status(CSTS_READY, CSTS_READY)?;
        if status & (CSTS_READY | CSTS_FATAL) == CSTS_READY {
            return Ok(());
        }
        Err(self.malformed(format!("CSTS once enabled is {status:#x}")))
    }

    /// Disables and enables the controller.
    ///
    /// # Errors
    ///
    /// As [`Driver::disable`] and [`Driver::enable`].
    pub fn restart(&mut self, depth: u16) -> Result<()> {
        self.disable()?;
        self.enable(depth)
    }

    /// Turns MSI-X on with eventfds for the first `vectors`. Queues that are made from now on wait
    /// at these.
    ///
    /// # Errors
    ///
    /// What the kernel answers, and [`Error::Malformed`] when there is no MSI-X capability.
    pub fn connect(&mut self, vectors: u32) -> Result<()> {
        let events = (0..vectors).map(|_| EventFd::new().map(Arc::new));
        self.events = events.collect::<Result<Vec<_>>>()?;
        self.signal()?;
        let control = self.msix()? + 2;
        let value = self.config.read_u16(control)? & !MSIX_MASKED | MSIX_ENABLE;
        self.config.write(control, &value.to_le_bytes())?;
        for pair in &mut self.pairs {
            pair.event = self.events.get(usize::from(pair.number)).cloned();
        }
        Ok(())
    }

    /// Waits for completions by looking at the queues from now on.
    pub fn disconnect(&mut self) {
        self.events.clear();
        for pair in &mut self.pairs {
            pair.event = None;
        }
    }

    /// Has the kernel signal the vectors at the eventfds, if any are connected.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn signal(&self) -> Result<()> {
        let events: Vec<_> = self.events.iter().map(|event| Some(&**event)).collect();
        if events.is_empty() {
            return Ok(());
        }
        self.bar.device().set_irqs(
            Index::Msix,
            Action::Trigger,
            0,
            events.len() as u32,
            Data::EventFd(&events),
        )
    }

    /// Returns the eventfd of a vector that is connected.
    pub fn event(&self, vector: usize) -> &EventFd {
        &self.events[vector]
    }

    /// Returns where the MSI-X capability is in the configuration space.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when there is none.
    pub fn msix(&self) -> Result<u64> {
        const POINTER: u64 = 0x34;
        const MSIX: u8 = 0x11;
        let mut at = u64::from(self.config.read_u8(POINTER)?);
        for _ in 0..48 {
            if at == 0 {
                break;
            }
            if self.config.read_u8(at)? == MSIX {
                return Ok(at);
            }
            at = self.config.read_u8(at + 1)?.into();
        }
        Err(self.malformed("no MSI-X capability".into()))
    }

    /// Puts a command into a submission queue under the queue's next id, which is returned. The
    /// controller does not know of it yet.
    pub fn post(&mut self, queue: u16, command: Command) -> u16 {
        let memory = self.memory.clone();
        let pair = self.pair_mut(queue);
        let id = pair.next_id;
        pair.next_id = pair.next_id.wrapping_add(1);
        let at = pair.submissions + u64::from(pair.tail) * Command::SIZE as u64;
        memory.write(at, &command.id(id).bytes());
        pair.tail = (pair.tail + 1) % pair.depth;
        id
    }

    /// Rings the doorbell of a submission queue.
    ///
    /// # Errors
    ///
    /// As [`Region::write`].
    pub fn ring(&self, queue: u16) -> Result<()> {
        fence(Ordering::SeqCst);
        self.write(tail_doorbell(queue), self.pair(queue).tail.into())
    }

    /// Submits a command; returns its id.
    ///
    /// # Errors
    ///
    /// As [`Region::write`].
    pub fn submit(&mut self, queue: u16, command: Command) -> Result<u16> {
        let id = self.post(queue, command);
        self.ring(queue)?;
        Ok(id)
    }

    /// Returns the next completion and leaves it where it is.
    pub fn peek(&self, queue: u16) -> Option<Completion> {
        const PHASE: u64 = 1 << 48;
        let pair = self.pair(queue);
        let at = pair.completion(pair.head);
        // The controller writes the phase last, so it is read first.
        let high = self.memory.read_u64(at + 8);
        if (high & PHASE != 0) != pair.phase {
            return None;
        }
        Some(Completion::parse(self.memory.read_u64(at), high))
    }

    /// Takes the next completion, without telling the controller.
    pub fn take_quietly(&mut self, queue: u16) -> Option<Completion> {
        let completion = self.peek(queue)?;
        let pair = self.pair_mut(queue);
        pair.head = (pair.head + 1) % pair.depth;
        pair.phase ^= pair.head == 0;
        Some(completion)
    }

    /// Tells the controller which completions were taken.
    ///
    /// # Errors
    ///
    /// As [`Region::write`].
    pub fn acknowledge(&self, queue: u16) -> Result<()> {
        self.write(head_doorbell(queue), self.pair(queue).head.into())
    }

    /// Takes the next completion, `None` when there is none.
    ///
    /// # Errors
    ///
    /// As [`Region::write`].
    pub fn take(&mut self, queue: u16) -> Result<Option<Completion>> {
        let completion = self.take_quietly(queue);
        if completion.is_some() {
            self.acknowledge(queue)?;
        }
        Ok(completion)
    }

    /// Waits until there is a completion and leaves it where it is.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when none comes, or one without its interrupt.
    pub fn await_completion(&self, queue: u16) -> Result<Completion> {
        let start = Instant::now();
        loop {
            if let Some(completion) = self.peek(queue) {
                return Ok(completion);
            }
            let left = PATIENCE.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(self.malformed(format!(
                    "no completion in queue {queue} after {PATIENCE:?}, CSTS {:#x}",
                    self.status()?
                )));
            }
            match &self.pair(queue).event {
                Some(event) => {
                    let signals = event.wait(left)?;
                    if signals == 0 && self.peek(queue).is_some() {
                        return Err(self.malformed(format!(
                            "a completion in queue {queue}, but no interrupt after {PATIENCE:?}"
                        )));
                    }
                }
                None => thread::yield_now(),
            }
        }
    }

    /// Waits for the next completion and takes it.
    ///
    /// # Errors
    ///
    /// As [`Driver::await_completion`].
    pub fn wait(&mut self, queue: u16) -> Result<Completion> {
        self.await_completion(queue)?;
        self.take(queue)?
            .ok_or_else(|| self.malformed("a completion that went away".into()))
    }

    /// Submits a command and waits for its completion.
    ///
    /// # Errors
    ///
    /// As [`Driver::wait`], and [`Error::Malformed`] when another command was completed.
    pub fn execute(&mut self, queue: u16, command: Command) -> Result<Completion> {
        let id = self.submit(queue, command)?;
        let completion = self.wait(queue)?;
        if (completion.id, completion.queue) == (id, queue) {
            return Ok(completion);
        }
        Err(self.malformed(format!(
            "command {id} of queue {queue} was submitted, this came: {completion:?}"
        )))
    }

    /// Submits a command and waits for its success; returns its result.
    ///
    /// # Errors
    ///
    /// As [`Driver::execute`], and [`Error::Malformed`] when it failed.
    pub fn succeed(&mut self, queue: u16, command: Command) -> Result<u32> {
        let completion = self.execute(queue, command)?;
        if completion.status == Status::SUCCESS {
            return Ok(completion.result);
        }
        Err(self.malformed(format!("{command:x?} ended with {:?}", completion.status)))
    }

    /// Makes an I/O queue pair, of the next free number, with an interrupt vector or none.
    ///
    /// # Errors
    ///
    /// As [`Driver::succeed`].
    pub fn create_pair(&mut self, depth: u16, vector: Option<u16>) -> Result<u16> {
        let number = self.pairs.len() as u16;
        let event = vector.and_then(|vector| self.events.get(usize::from(vector)).cloned());
        let pair = Pair::new(&self.memory, number, depth, event);
        let size_and_id = u32::from(depth - 1) << 16 | u32::from(number);
        const CONTIGUOUS: u32 = 1;
        let interrupt = vector.map_or(0, |vector| u32::from(vector) << 16 | 1 << 1);
        let cq = Command::new(admin::CREATE_CQ)
            .prp(pair.completions, 0)
            .word(10, size_and_id)
            .word(11, interrupt | CONTIGUOUS);
        let sq = Command::new(admin::CREATE_SQ)
            .prp(pair.submissions, 0)
            .word(10, size_and_id)
            .word(11, u32::from(number) << 16 | CONTIGUOUS);
        self.succeed(0, cq)?;
        self.succeed(0, sq)?;
        self.pairs.push(pair);
        Ok(number)
    }

    /// Deletes the I/O queue pair of the highest number.
    ///
    /// # Errors
    ///
    /// As [`Driver::succeed`].
    pub fn delete_pair(&mut self) -> Result<()> {
        let number = u32::from(self.pairs.len() as u16 - 1);
        self.succeed(0, Command::new(admin::DELETE_SQ).word(10, number))?;
        self.succeed(0, Command::new(admin::DELETE_CQ).word(10, number))?;
        self.pairs.pop();
        Ok(())
    }

    /// Asks the controller what it is, or what is in it (section 5.15).
    ///
    /// # Errors
    ///
    /// As [`Driver::succeed`].
    pub fn identify(&mut self, cns: u32, namespace: u32) -> Result<Vec<u8>> {
        let page = self.data(0);
        let command = Command::new(admin::IDENTIFY)
            .namespace(namespace)
            .prp(page, 0)
            .word(10, cns);
        self.succeed(0, command)?;
        Ok(self.memory.bytes(page, PAGE as usize))
    }

    /// Sets a feature; returns the command's result.
    ///
    /// # Errors
    ///
    /// As [`Driver::succeed`].
    pub fn set_feature(&mut self, feature: u8, value: u32) -> Result<u32> {
        let command = Command::new(admin::SET_FEATURES)
            .word(10, feature.into())
            .word(11, value);
        self.succeed(0, command)
    }

    /// Gets a feature.
    ///
    /// # Errors
    ///
    /// As [`Driver::succeed`].
    pub fn feature(&mut self, feature: u8) -> Result<u32> {
        let command = Command::new(admin::GET_FEATURES).word(10, feature.into());
        self.succeed(0, command)
    }

    /// Returns both PRP entries for `len` bytes at an address; the list that is needed for more than
    /// two pages goes to `list`.
    pub fn prps(&self, address: u64, len: u64, list: u64) -> (u64, u64) {
        prps(&self.memory, address, len, list)
    }

    /// Makes a command that moves `count` blocks of `1 << shift` bytes between namespace 1 and an
    /// address. The PRP list is in the queue's own page, so there is room for one at a time.
    pub fn transfer(
        &self,
        queue: u16,
        opcode: u8,
        shift: u8,
        first: u64,
        count: u32,
        address: u64,
    ) -> Command {
        let list = self.pair(queue).submissions + LIST;
        let (one, two) = self.prps(address, u64::from(count) << shift, list);
        Command::new(opcode)
            .namespace(1)
            .prp(one, two)
            .blocks(first, count)
    }
}

/// MSI-X: the control word's enable bit.
pub const MSIX_ENABLE: u16 = 1 << 15;
/// MSI-X: the control word's bit that masks all vectors.
pub const MSIX_MASKED: u16 = 1 << 14;

fn prps(memory: &GuestMemory, address: u64, len: u64, list: u64) -> (u64, u64) {
    const ENTRY: u64 = size_of::<u64>() as u64;
    let end = address + len;
    let mut pages: Vec<u64> = Vec::new();
    let mut page = address / PAGE * PAGE + PAGE;
    while page < end {
        pages.push(page);
        page += PAGE;
    }
    if let [] | [_] = pages[..] {
        return (address, pages.first().copied().unwrap_or(0));
    }
    let mut at = list;
    for (i, page) in pages.iter().enumerate() {
        if at % PAGE == PAGE - ENTRY && i + 1 < pages.len() {
            // The last entry of a page leads to the next page of the list.
            let next = at + ENTRY;
            memory.write(at, &next.to_le_bytes());
            at = next;
        }
        memory.write(at, &page.to_le_bytes());
        at += ENTRY;
    }
    (address, list)
}

#[cfg(test)]
mod tests {
    use super::prps;
    use super::Command;
    use super::Completion;
    use super::Status;
    use super::PAGE;
    use crate::GuestMemory;

    const START: u64 = 0x10_0000;
    const LIST: u64 = START + 3 * PAGE;

    fn list(memory: &GuestMemory, at: u64, entries: u64) -> Vec<u64> {
        (0..entries).map(|i| memory.read_u64(at + i * 8)).collect()
    }

    #[test]
    fn up_to_two_pages_need_no_list() {
        let memory = GuestMemory::new(START, 64 * 1024).expect("memory");
        for (address, len, second) in [
            (0x5000, 1, 0),
            (0x5000, PAGE, 0),
            (0x5ffc, 4, 0),
            (0x5ffc, 5, 0x6000),
            (0x5000, 2 * PAGE, 0x6000),
            (0x5200, PAGE, 0x6000),
        ] {
            let seen = prps(&memory, address, len, LIST);
            assert_eq!(seen, (address, second), "{len} bytes at {address:#x}");
        }
        assert_eq!(list(&memory, LIST, 4), [0; 4]);
    }

    #[test]
    fn a_list_goes_on_in_the_next_page() {
        let memory = GuestMemory::new(START, 64 * 1024).expect("memory");
        let tight = LIST + PAGE - 16;
        assert_eq!(prps(&memory, 0x5000, 3 * PAGE, tight), (0x5000, tight));
        assert_eq!(list(&memory, tight, 3), [0x6000, 0x7000, 0]);
        assert_eq!(prps(&memory, 0x5008, 3 * PAGE, tight), (0x5008, tight));
        assert_eq!(
            list(&memory, tight, 4),
            [0x6000, LIST + PAGE, 0x7000, 0x8000]
        );
    }

    #[test]
    fn a_command_has_its_fields_where_the_specification_has_them() {
        let command = Command::new(2)
            .namespace(1)
            .prp(0x1122_3344_5566_7788, 0x99)
            .blocks(0x1_0000_0005, 8)
            .id(0xabcd);
        let bytes = command.bytes();
        assert_eq!(bytes[..8], [2, 0, 0xcd, 0xab, 1, 0, 0, 0]);
        assert_eq!(
            bytes[24..34],
            [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x99, 0]
        );
        assert_eq!(bytes[40..50], [5, 0, 0, 0, 1, 0, 0, 0, 7, 0]);
    }

    #[test]
    fn a_completion_is_taken_apart_without_phase_and_hints() {
        let seen = Completion::parse(0x1111_1111_0000_0042, 0xc285_0007_0001_0003);
        let expected = Completion {
            result: 0x42,
            head: 3,
            queue: 1,
            id: 7,
            status: Status(0x142),
        };
        assert_eq!(seen, expected);
    }
}
