// SPDX-License-Identifier: GPL-2.0

//! A driver of an NVMe controller behind BAR0. Tests may use it wrongly.
//!
//! The driver keeps its queues in a [`GuestMemory`], and waits for completions at an eventfd or by
//! reading the queue. It is a part of the guest: [`Controller::moved_to`] goes on with another
//! controller exactly where it was, as a guest does that was migrated.

use core::sync::atomic::fence;
use core::sync::atomic::Ordering;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use vfio_bindings::bindings::vfio;
use vfio_client::irq::Action;
use vfio_client::irq::Data;
use vfio_client::irq::Index;
use vfio_client::Device;
use vfio_client::Error;
use vfio_client::EventFd;
use vfio_client::GuestMemory;
use vfio_client::Region;
use vfio_client::Result;

use super::entry::Command;
use super::entry::Completion;
use super::prp::prps;
use super::prp::PAGE;
use super::queue::head_doorbell;
use super::queue::tail_doorbell;
use super::queue::Pair;
use super::queue::DATA;
use super::queue::LIST;
use super::spec::admin;
use super::spec::register;
use super::spec::Status;
use super::spec::CC_ENABLE;
use super::spec::CC_SIZES;
use super::spec::CSTS_FATAL;
use super::spec::CSTS_READY;
use super::spec::MSIX_ENABLE;
use super::spec::MSIX_MASKED;

/// How long to wait for what must come. Emulated machines are slow.
const PATIENCE: Duration = Duration::from_secs(20);
/// A controller in the hands of its driver.
#[derive(Clone, Debug)]
pub struct Controller {
    bar: Region,
    config: Region,
    memory: GuestMemory,
    pairs: Vec<Pair>,
    events: Vec<Arc<EventFd>>,
}

impl Controller {
    /// Takes a controller. Its commands fail unless the memory is attached to its address space.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn new(device: &Device, memory: &GuestMemory) -> Result<Self> {
        Ok(Controller {
            bar: device.region(vfio::VFIO_PCI_BAR0_REGION_INDEX)?,
            config: device.region(vfio::VFIO_PCI_CONFIG_REGION_INDEX)?,
            memory: memory.clone(),
            pairs: Vec::new(),
            events: Vec::new(),
        })
    }

    /// Goes on with another controller in the same memory, as the driver of a migrated guest does. The
    /// interrupts have to be signalled anew, see [`Controller::signal`].
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn moved_to(&self, device: &Device) -> Result<Self> {
        Ok(Controller {
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

    /// Returns an address in the data part of the guest's memory, `offset` bytes past its start.
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

    /// Returns a queue pair that was made, for a test that corrupts it.
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

    /// Sets COMMAND.MEMORY and COMMAND.MASTER.
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
    /// [`Error::Malformed`] when CSTS.RDY does not become 0.
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
    /// [`Error::Malformed`] when CSTS.RDY does not become 1.
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
    /// As [`Controller::disable`] and [`Controller::enable`].
    pub fn restart(&mut self, depth: u16) -> Result<()> {
        self.disable()?;
        self.enable(depth)
    }

    /// Enables MSI-X with eventfds for the first `vectors`. Queues that are made later wait at these.
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

    /// Waits for completions by polling the queues from now on.
    pub fn disconnect(&mut self) {
        self.events.clear();
        for pair in &mut self.pairs {
            pair.event = None;
        }
    }

    /// Does `VFIO_DEVICE_SET_IRQS` for the connected eventfds, if there are any.
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

    /// Returns the offset of the MSI-X capability in configuration space.
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

    /// Writes a command into a submission queue under the queue's next `cid`, which is returned. The doorbell
    /// is not rung.
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

    /// Returns the next completion without taking it.
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

    /// Takes the next completion without ringing the doorbell.
    pub fn take_quietly(&mut self, queue: u16) -> Option<Completion> {
        let completion = self.peek(queue)?;
        let pair = self.pair_mut(queue);
        pair.head = (pair.head + 1) % pair.depth;
        pair.phase ^= pair.head == 0;
        Some(completion)
    }

    /// Rings the doorbell of a completion queue.
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

    /// Waits for a completion without taking it.
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
    /// As [`Controller::await_completion`].
    pub fn wait(&mut self, queue: u16) -> Result<Completion> {
        self.await_completion(queue)?;
        self.take(queue)?
            .ok_or_else(|| self.malformed("a completion that went away".into()))
    }

    /// Submits a command and waits for its completion.
    ///
    /// # Errors
    ///
    /// As [`Controller::wait`], and [`Error::Malformed`] when another command was completed.
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
    /// As [`Controller::execute`], and [`Error::Malformed`] when it failed.
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
    /// As [`Controller::succeed`].
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
    /// As [`Controller::succeed`].
    pub fn delete_pair(&mut self) -> Result<()> {
        let number = u32::from(self.pairs.len() as u16 - 1);
        self.succeed(0, Command::new(admin::DELETE_SQ).word(10, number))?;
        self.succeed(0, Command::new(admin::DELETE_CQ).word(10, number))?;
        self.pairs.pop();
        Ok(())
    }

    /// Does Identify with a `cns` (section 5.15), and returns its page.
    ///
    /// # Errors
    ///
    /// As [`Controller::succeed`].
    pub fn identify(&mut self, cns: u32, namespace: u32) -> Result<Vec<u8>> {
        let page = self.data(0);
        let command = Command::new(admin::IDENTIFY)
            .namespace(namespace)
            .prp(page, 0)
            .word(10, cns);
        self.succeed(0, command)?;
        Ok(self.memory.bytes(page, PAGE as usize))
    }

    /// Returns the size of a namespace's logical blocks as a power of two of bytes: `lbads` of the format
    /// that `flbas` names.
    ///
    /// # Errors
    ///
    /// As [`Controller::succeed`], and [`Error::Malformed`] for a size that no page is a multiple of.
    pub fn block_shift(&mut self, namespace: u32) -> Result<u8> {
        const FLBAS: usize = 26;
        const LBAF: usize = 128;
        let data = self.identify(0, namespace)?;
        let format = usize::from(data[FLBAS] & 0xf);
        let shift = data[LBAF + format * 4 + 2];
        if (9..=12).contains(&shift) {
            return Ok(shift);
        }
        Err(self.malformed(format!("logical blocks of 1 << {shift} bytes")))
    }

    /// Sets a feature; returns the command's result.
    ///
    /// # Errors
    ///
    /// As [`Controller::succeed`].
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
    /// As [`Controller::succeed`].
    pub fn feature(&mut self, feature: u8) -> Result<u32> {
        let command = Command::new(admin::GET_FEATURES).word(10, feature.into());
        self.succeed(0, command)
    }

    /// Returns both PRP entries for `len` bytes at an address. The list for more than two pages is written to
    /// `list`.
    pub fn prps(&self, address: u64, len: u64, list: u64) -> (u64, u64) {
        prps(&self.memory, address, len, list)
    }

    /// Makes a command that moves `count` blocks of `1 << shift` bytes between namespace 1 and an address.
    /// The queue has one page for a PRP list, so only one such command may be under way.
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
