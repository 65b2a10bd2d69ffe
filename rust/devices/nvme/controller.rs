// SPDX-License-Identifier: GPL-2.0

//! The controller: what software reaches of it by accesses, and the worker's entry.

use pci_config::{
    AccessError,
    Bar,
    Class,
    ConfigSpace,
    Identity,
    InterruptPin,
    Layout,
    EXTENDED_CONFIG_SPACE_SIZE, //
};

use crate::backend::BlockBackend;
use crate::doorbells::{
    Doorbell,
    PAIRS, //
};
use crate::events::Events;
use crate::features::Features;
use crate::identify::Names;
use crate::io::flush;
use crate::log::{
    ErrorLog,
    Health, //
};
use crate::parameters::{
    ParameterError,
    Parameters,
    CONFIGURATION_MAX, //
};
use crate::queue::{
    CompletionQueue,
    SubmissionQueue, //
};
use crate::registers::{
    self as regs,
    Registers, //
};
use crate::shadow::Shadows;
use crate::worker::ADMIN;

/// Bytes of the words that registers take.
const WORD_SIZE: usize = 4;

/// Bytes of a vector in the MSI-X table.
const MSIX_ENTRY_SIZE: usize = 16;
/// Bytes of the MSI-X table.
pub(crate) const MSIX_TABLE_SIZE: usize = PAIRS * MSIX_ENTRY_SIZE;
/// Where a vector of the MSI-X table has its control word, of which bit 0 masks it.
const MSIX_ENTRY_CONTROL: usize = 12;
const MSIX_ENTRY_MASKED: u8 = 1 << 0;

/// Red Hat, whose device numbers 0x10f0 to 0x10ff anybody may use for experiments, as
/// `docs/specs/pci-ids.rst` of QEMU has it.
pub(crate) const VENDOR_REDHAT_QUMRANET: u16 = 0x1af4;

/// What the controller is to the PCI bus.
static LAYOUT: Layout = {
    /// A number of the range for experiments.
    const DEVICE_FERRY_NVME: u16 = 0x10f0;
    /// Mass storage, non-volatile memory, NVM Express I/O controller.
    const NVM_EXPRESS: Class = Class {
        base: 0x01,
        sub: 0x08,
        interface: 0x02,
    };

    Layout::new(&Identity {
        vendor: VENDOR_REDHAT_QUMRANET,
        device: DEVICE_FERRY_NVME,
        revision: 1,
        class: NVM_EXPRESS,
        subsystem_vendor: VENDOR_REDHAT_QUMRANET,
        subsystem: DEVICE_FERRY_NVME,
    })
    .bar(
        0,
        Bar::Memory64 {
            size: Controller::BAR0_SIZE,
            prefetchable: false,
        },
    )
    .interrupt_pin(InterruptPin::A)
    .power_management()
    .msix(
        PAIRS as u16,
        0,
        regs::MSIX_TABLE as u32,
        0,
        regs::MSIX_PENDING as u32,
    )
    .express()
};

/// The interrupt vector of the admin queue.
pub(crate) const ADMIN_VECTOR: u16 = 0;

/// Whether the worker has to come again by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Nothing is left to do until software writes to the controller or rings a doorbell.
    Idle,
    /// The budget was not enough; there is more to do.
    More,
}

/// An NVMe controller with one namespace.
///
/// # Invariants
///
/// - Each submission queue has a completion queue. While the controller is ready, that is so for the
///   admin queue, which has number 0, too.
/// - I/O queues have numbers from 1 to the number of queue pairs.
/// - There are queues, requests for events and shadow doorbells only while the controller is ready.
/// - Completion queues have vectors less than [`Controller::VECTORS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    pub(crate) parameters: Parameters,
    pub(crate) names: Names,
    pub(crate) config: ConfigSpace,
    pub(crate) registers: Registers,
    pub(crate) msix_table: [u8; MSIX_TABLE_SIZE],
    pub(crate) submission: [Option<SubmissionQueue>; PAIRS],
    pub(crate) completion: [Option<CompletionQueue>; PAIRS],
    pub(crate) shadows: Option<Shadows>,
    /// The submission queue that is served next.
    pub(crate) next_queue: usize,
    pub(crate) features: Features,
    pub(crate) events: Events,
    pub(crate) errors: ErrorLog,
    pub(crate) health: Health,
    /// MSI-X vectors to send a message for.
    pub(crate) raised: u32,
    /// Messages are sent even if the enable bit is not set. That is no state of the controller, but of
    /// how it is connected.
    msix_connected: bool,
}

impl Controller {
    /// Number of bytes of memory behind base address register 0.
    pub const BAR0_SIZE: u64 = 0x4000;

    /// Number of bytes of configuration space.
    pub const CONFIG_SIZE: usize = EXTENDED_CONFIG_SPACE_SIZE;

    /// Number of MSI-X vectors: one for the admin queue, and one for each pair of I/O queues.
    pub const VECTORS: u32 = PAIRS as u32;

    /// Returns a controller as it is after power-on.
    ///
    /// # Errors
    ///
    /// A controller cannot have these parameters.
    pub fn new(parameters: Parameters) -> Result<Self, ParameterError> {
        parameters.check()?;
        Ok(Self::power_on(parameters))
    }

    /// Returns a controller with parameters that were checked.
    pub(crate) fn power_on(parameters: Parameters) -> Self {
        Self {
            parameters,
            names: Names::default(),
            config: ConfigSpace::new(&LAYOUT),
            registers: Registers::default(),
            msix_table: masked_vectors(),
            submission: [const { None }; PAIRS],
            completion: [const { None }; PAIRS],
            shadows: None,
            next_queue: ADMIN,
            features: Features::default(),
            events: Events::default(),
            errors: ErrorLog::default(),
            health: Health::default(),
            raised: 0,
            msix_connected: false,
        }
    }

    /// Returns what the controller was made with; the serial number may have come from another host.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Writes what source and destination of a migration must have in common, see
    /// [`Parameters::configuration`].
    pub fn configuration(&self, out: &mut [u8; CONFIGURATION_MAX]) -> usize {
        self.parameters.configuration(out)
    }

    /// Reads from base address register 0. Doorbells and pending bits read as 0.
    ///
    /// # Errors
    ///
    /// The access ends past the controller's memory; nothing is read.
    pub fn read_bar0(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
        // No register changes by being read.
        self.peek_bar0(offset, bytes)
    }

    /// Returns what [`Controller::read_bar0`] would, and leaves the controller as it is.
    ///
    /// # Errors
    ///
    /// As for [`Controller::read_bar0`].
    pub fn peek_bar0(&self, offset: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
        let range = AccessError::check(offset, bytes.len(), Self::BAR0_SIZE as usize)?;

        let registers = self.registers.image();
        let table = regs::MSIX_TABLE as usize;
        for (address, byte) in range.zip(bytes) {
            *byte = match address.checked_sub(table) {
                None => registers.get(address),
                Some(index) => self.msix_table.get(index),
            }
            .copied()
            .unwrap_or(0);
        }
        Ok(())
    }

    /// Writes to base address register 0.
    ///
    /// Registers take aligned words of 32 or 64 bits; of the latter, the lower half comes first.
    /// Section 3.1 leaves other accesses undefined; they have no effect here. Doorbells are better
    /// left to [`Doorbells::post`](crate::Doorbells::post).
    ///
    /// # Errors
    ///
    /// The access ends past the controller's memory; nothing is written.
    pub fn write_bar0(&mut self, offset: u64, bytes: &[u8]) -> Result<(), AccessError> {
        let range = AccessError::check(offset, bytes.len(), Self::BAR0_SIZE as usize)?;

        let words = bytes.chunks_exact(WORD_SIZE);
        if range.start % WORD_SIZE == 0 && words.remainder().is_empty() {
            for (address, word) in range.step_by(WORD_SIZE).zip(words) {
                if let Ok(word) = word.try_into() {
                    self.write_word(address, word);
                }
            }
        }
        Ok(())
    }

    /// Writes to base address register 0 what lies in the MSI-X table, and nothing else, for a
    /// controller that is stopped.
    ///
    /// # Errors
    ///
    /// As for [`Controller::write_bar0`].
    pub fn write_msix_table(&mut self, offset: u64, bytes: &[u8]) -> Result<(), AccessError> {
        let end = regs::MSIX_TABLE + MSIX_TABLE_SIZE as u64;
        if (regs::MSIX_TABLE..end).contains(&offset) {
            return self.write_bar0(offset, bytes);
        }
        AccessError::check(offset, bytes.len(), Self::BAR0_SIZE as usize).map(|_| ())
    }

    /// Reads configuration space.
    ///
    /// # Errors
    ///
    /// The access ends past configuration space; nothing is read.
    pub fn read_config(&self, offset: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
        self.config.read(offset, bytes, self.interrupt_status())
    }

    /// Writes configuration space; bits that software cannot change stay. A function level reset is
    /// done at once. What waits to be consumed when software enables MSI-X is announced once more.
    ///
    /// # Errors
    ///
    /// The access ends past configuration space; nothing is written.
    pub fn write_config(&mut self, offset: u64, bytes: &[u8]) -> Result<(), AccessError> {
        let enabled = self.msix_enabled();
        self.config.write(offset, bytes)?;
        if !enabled && self.msix_enabled() {
            self.raise_unconsumed();
        }
        if self.config.requests_reset(offset, bytes) {
            self.config.function_level_reset();
            self.reset_function();
        }
        Ok(())
    }

    /// Returns whether the controller answers accesses of what is behind base address register `bar`:
    /// software enabled memory space, and the function is in D0. The caller has the others read as ones
    /// and loses what they write, as a bus does; doorbells that were taken before count.
    pub fn decodes(&self, bar: usize) -> bool {
        self.config.decodes(bar)
    }

    /// Returns whether the controller may interrupt: not before the function is back in D0, section
    /// 2.2.3.
    pub fn may_interrupt(&self) -> bool {
        self.config.is_in_d0()
    }

    /// Returns whether the controller may send messages: they are writes to memory, which take the bus
    /// master bit and D0.
    pub fn may_send_messages(&self) -> bool {
        self.config.may_access_memory()
    }

    /// Returns the MSI-X vectors to send messages for since the last call, as a set of bits.
    ///
    /// It is empty while MSI-X is disabled, and while the controller may not send messages, which are
    /// kept then. Masks are left to whoever owns the vectors: it gets the message, and keeps it pending.
    pub fn take_raised(&mut self) -> u32 {
        if !self.may_send_messages() {
            return 0;
        }
        let raised = core::mem::take(&mut self.raised);
        if self.msix_enabled() {
            raised
        } else {
            0
        }
    }

    /// Returns whether the controller asserts its interrupt pin.
    pub fn intx_asserted(&self) -> bool {
        self.interrupt_status() && !self.config.intx_disabled()
    }

    /// Returns whether software made the controller send messages instead of asserting its pin.
    pub fn msix_enabled(&self) -> bool {
        self.msix_connected || self.config.msix_enabled()
    }

    /// Connects MSI-X, or disconnects it: while it is connected messages are sent whatever the enable
    /// bit in configuration space says. What waits to be consumed by then is announced once more.
    pub fn set_msix(&mut self, connected: bool) {
        if connected && !self.msix_enabled() {
            self.raise_unconsumed();
        }
        self.msix_connected = connected;
    }

    /// Returns whether software has enabled the controller, CC.EN.
    pub fn is_enabled(&self) -> bool {
        self.registers.cc & regs::CC_EN != 0
    }

    /// Returns whether the controller has failed for good, CSTS.CFS.
    pub fn has_failed(&self) -> bool {
        self.registers.csts & regs::CSTS_CFS != 0
    }

    /// Resets the PCI function as its bus driver does: registers and queues are as after power-on, and so
    /// is of configuration space what that one does not restore.
    ///
    /// What outlives a loss of power, such as the logs, stays. Doorbells that were posted before do
    /// no harm: none is taken until software enabled the controller again.
    pub fn reset(&mut self) {
        self.config.bus_driver_reset();
        self.reset_function();
    }

    /// Does what every reset of the function does besides configuration space.
    fn reset_function(&mut self) {
        self.msix_table = masked_vectors();
        self.registers = Registers::default();
        self.reset_controller();
    }

    /// Tells software that the controller failed for good, and stops it until the next reset.
    pub fn fail(&mut self) {
        self.registers.csts |= regs::CSTS_CFS;
    }

    /// Writes a word of 32 bits, which is little endian.
    fn write_word(&mut self, address: usize, word: [u8; WORD_SIZE]) {
        let value = u32::from_le_bytes(word);
        let registers = &mut self.registers;
        match address {
            regs::INTMS => registers.interrupt_mask |= value,
            regs::INTMC => registers.interrupt_mask &= !value,
            regs::CC => self.write_cc(value & regs::CC_ALL),
            regs::CSTS => registers.csts &= !(value & regs::CSTS_NSSRO),
            regs::NSSR if value == regs::NSSR_RESET => self.reset_subsystem(),
            // The admin queues stay where they are while they are in use.
            regs::AQA if !registers.enabled() => registers.aqa = value & regs::AQA_ALL,
            regs::ASQ if !registers.enabled() => set_low(&mut registers.asq, value),
            regs::ASQ_HIGH if !registers.enabled() => set_high(&mut registers.asq, value),
            regs::ACQ if !registers.enabled() => set_low(&mut registers.acq, value),
            regs::ACQ_HIGH if !registers.enabled() => set_high(&mut registers.acq, value),
            _ => self.write_word_beyond(address, word),
        }
    }

    /// Writes a word behind the registers.
    fn write_word_beyond(&mut self, address: usize, word: [u8; WORD_SIZE]) {
        let doorbells = regs::DOORBELLS as usize..regs::DOORBELLS_END as usize;
        if doorbells.contains(&address) {
            let index = (address - doorbells.start) / WORD_SIZE;
            self.ring(Doorbell::decode(index, u32::from_le_bytes(word)));
        } else if let Some(slot) = address
            .checked_sub(regs::MSIX_TABLE as usize)
            .and_then(|index| self.msix_table.get_mut(index..index + WORD_SIZE))
        {
            slot.copy_from_slice(&word);
        }
    }

    /// Writes CC.
    fn write_cc(&mut self, value: u32) {
        let before = self.registers.cc;

        if value & regs::CC_EN == 0 {
            let stopped = self.registers.csts & (regs::CSTS_RDY | regs::CSTS_CFS) == 0;
            self.registers.cc = value;
            if before & regs::CC_EN != 0 || !stopped {
                self.reset_controller();
            }
        } else if before & regs::CC_EN != 0 {
            // What the queues depend on can only be chosen before.
            self.registers.cc = before & regs::CC_FIXED | value & !regs::CC_FIXED;
        } else {
            self.registers.cc = value;
        }

        let notified = value & regs::CC_SHN;
        if notified == 0 {
            self.registers.csts &= !regs::CSTS_SHST;
        } else if notified != before & regs::CC_SHN {
            self.registers.csts &= !regs::CSTS_SHST;
            self.registers.csts |= regs::CSTS_SHST_OCCURRING;
        }
    }

    /// Resets the subsystem: the controller is its only one.
    ///
    /// Configuration space stays. On a physical device the link goes down, which software notices;
    /// here there is no link, and nothing would tell software that its base addresses are gone.
    fn reset_subsystem(&mut self) {
        self.registers = Registers {
            csts: regs::CSTS_NSSRO,
            ..Registers::default()
        };
        self.reset_controller();
    }

    /// Does what every reset of the controller does, section 7.3.2.
    fn reset_controller(&mut self) {
        self.registers.interrupt_mask = 0;
        self.registers.csts &= regs::CSTS_NSSRO;
        self.submission = [const { None }; PAIRS];
        self.completion = [const { None }; PAIRS];
        self.shadows = None;
        self.next_queue = ADMIN;
        self.features = Features::default();
        self.events = Events::default();
        self.raised = 0;
    }

    /// Enables the controller with what software wrote to the registers.
    pub(crate) fn enable(&mut self) {
        if !self.registers.can_enable() {
            self.fail();
            return;
        }
        let registers = &self.registers;
        self.submission[ADMIN] = Some(SubmissionQueue::new(
            registers.asq,
            registers.admin_submission_entries(),
            ADMIN,
        ));
        self.completion[ADMIN] = Some(CompletionQueue::new(
            registers.acq,
            registers.admin_completion_entries(),
            Some(ADMIN_VECTOR),
        ));
        self.registers.csts |= regs::CSTS_RDY;
    }

    /// Completes a shutdown. Software cannot be told that the medium failed, and waits for the end.
    pub(crate) fn shut_down<S: BlockBackend>(&mut self, store: &mut S) {
        if flush(store).is_err() {
            self.health.count_media_error();
        }
        self.registers.csts &= !regs::CSTS_SHST;
        self.registers.csts |= regs::CSTS_SHST_COMPLETE;
    }

    /// What the interrupt status bit says: the controller would assert its pin if that were not disabled.
    fn interrupt_status(&self) -> bool {
        self.interrupt() && !self.msix_enabled() && self.may_interrupt()
    }

    /// Whether the controller has something to interrupt for.
    fn interrupt(&self) -> bool {
        // One that failed takes no doorbell: what is consumed would stay announced.
        self.registers.running()
            && self.completion.iter().flatten().any(|completion| {
                completion.vector.is_some_and(|vector| {
                    !completion.is_empty() && self.registers.interrupt_mask & 1 << vector == 0
                })
            })
    }
}

/// An MSI-X table after power-on: every vector is masked.
fn masked_vectors() -> [u8; MSIX_TABLE_SIZE] {
    let mut table = [0; MSIX_TABLE_SIZE];
    for vector in table.chunks_exact_mut(MSIX_ENTRY_SIZE) {
        vector[MSIX_ENTRY_CONTROL] = MSIX_ENTRY_MASKED;
    }
    table
}

/// Writes the lower half of an admin queue's address.
fn set_low(address: &mut u64, value: u32) {
    *address = (*address >> u32::BITS << u32::BITS | u64::from(value)) & regs::ADMIN_BASE_ALL;
}

/// Writes the upper half of an admin queue's address.
fn set_high(address: &mut u64, value: u32) {
    *address = *address & u64::from(u32::MAX) | u64::from(value) << u32::BITS;
}
