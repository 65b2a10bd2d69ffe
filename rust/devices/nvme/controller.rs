// SPDX-License-Identifier: GPL-2.0

//! The controller: its parts, the accesses that software makes, and its resets.

use pci_config::{
    AccessError,
    ConfigSpace, //
};

use crate::doorbells::{
    position,
    Doorbell,
    Doorbells,
    DOORBELLS_END, //
};
use crate::error_log::{
    ErrorEntry,
    ErrorLog, //
};
use crate::events::Events;
use crate::features::Features;
use crate::function::{
    BAR0_SIZE,
    CONFIG_SIZE,
    LAYOUT,
    MSIX_TABLE,
    VECTORS, //
};
use crate::health::Health;
use crate::msix_table::MsixTable;
use crate::names::Names;
use crate::parameters::{
    ParameterError,
    Parameters,
    CONFIGURATION_MAX, //
};
use crate::queue::InvalidValue;
use crate::queues::{
    Queues,
    ADMIN, //
};
use crate::registers::Registers;
use crate::shadow::Shadows;
use crate::spec::event::Event;
use crate::spec::registers::{
    Aqa,
    Cc,
    Csts,
    Register,
    ShutdownStatus,
    DOORBELLS,
    NSSR_RESET, //
};
use crate::spec::status::Status;

/// Bytes of the words that registers take.
const WORD_SIZE: usize = 4;

/// An NVMe controller with one namespace.
///
/// # Invariants
///
/// - While the controller is ready, the admin queue exists.
/// - I/O queues have numbers from 1 to the number of queue pairs.
/// - Queues, requests for events and shadow doorbells exist only while the controller is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    pub(crate) parameters: Parameters,
    pub(crate) names: Names,
    pub(crate) config: ConfigSpace,
    pub(crate) registers: Registers,
    pub(crate) msix_table: MsixTable,
    pub(crate) queues: Queues,
    pub(crate) shadows: Option<Shadows>,
    /// The submission queue that is served next.
    pub(crate) next_queue: usize,
    pub(crate) features: Features,
    pub(crate) events: Events,
    pub(crate) errors: ErrorLog,
    pub(crate) health: Health,
    /// MSI-X vectors to send a message for.
    pub(crate) raised: u32,
    /// Messages are sent even if the enable bit is not set. This is a property of the connection, not a
    /// part of the state.
    msix_connected: bool,
}

impl Controller {
    /// Number of bytes of memory behind base address register 0.
    pub const BAR0_SIZE: u64 = BAR0_SIZE;

    /// Number of bytes of configuration space.
    pub const CONFIG_SIZE: usize = CONFIG_SIZE;

    /// Number of MSI-X vectors: one for the admin queue, and one for each pair of I/O queues.
    pub const VECTORS: u32 = VECTORS;

    /// Returns a controller as it is after power-on.
    ///
    /// # Errors
    ///
    /// A controller cannot have these parameters.
    pub fn new(parameters: Parameters) -> Result<Self, ParameterError> {
        parameters.check()?;
        Ok(Self::power_on(parameters))
    }

    /// Returns a controller after power-on with parameters that were checked.
    pub(crate) fn power_on(parameters: Parameters) -> Self {
        Self {
            parameters,
            names: Names::default(),
            config: ConfigSpace::new(&LAYOUT),
            registers: Registers::default(),
            msix_table: MsixTable::new(),
            queues: Queues::new(),
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

    /// Returns the parameters of the controller; the serial number may have come from another host.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Writes the configuration, which source and destination of a migration must have in common, see
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
        for (address, byte) in range.zip(bytes) {
            *byte = match address.checked_sub(MSIX_TABLE as usize) {
                None => registers.get(address).copied(),
                Some(offset) => self.msix_table.byte(offset),
            }
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

    /// Writes to base address register 0 of a stopped controller: the MSI-X table takes the write, and
    /// everything else drops it.
    ///
    /// # Errors
    ///
    /// As for [`Controller::write_bar0`].
    pub fn write_msix_table(&mut self, offset: u64, bytes: &[u8]) -> Result<(), AccessError> {
        let end = MSIX_TABLE + MsixTable::SIZE as u64;
        if (MSIX_TABLE..end).contains(&offset) {
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
    /// done at once. When software enables MSI-X, completions that wait to be consumed are announced once
    /// more.
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

    /// Returns whether the controller answers accesses of the memory behind base address register `bar`:
    /// software enabled memory space, and the function is in D0. If not, the caller lets reads return all
    /// ones and drops writes, as a bus does; doorbells that were posted before count.
    pub fn decodes(&self, bar: usize) -> bool {
        self.config.decodes(bar)
    }

    /// Returns whether the controller may interrupt: the function is in D0, section 2.2.3.
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
    /// The set is empty while MSI-X is disabled. It is also empty while the controller may not send
    /// messages, which are kept then. Masks are left to the owner of the vectors, who gets the message and
    /// keeps it pending.
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

    /// Connects MSI-X, or disconnects it: while MSI-X is connected, messages are sent whatever the enable
    /// bit in configuration space says. Completions that wait to be consumed are announced once more.
    pub fn set_msix(&mut self, connected: bool) {
        if connected && !self.msix_enabled() {
            self.raise_unconsumed();
        }
        self.msix_connected = connected;
    }

    /// Returns whether software has enabled the controller, CC.EN.
    pub fn is_enabled(&self) -> bool {
        self.registers.enabled()
    }

    /// Returns whether the controller has failed for good, CSTS.CFS.
    pub fn has_failed(&self) -> bool {
        self.registers.csts.intersects(Csts::CFS)
    }

    /// Resets the PCI function as its bus driver does: registers and queues are as after power-on, and so
    /// is the part of configuration space that a bus driver does not restore.
    ///
    /// The logs stay, as they outlive a loss of power. Doorbells that were posted before do no harm: none
    /// is taken until software enabled the controller again.
    pub fn reset(&mut self) {
        self.config.bus_driver_reset();
        self.reset_function();
    }

    /// The part of every reset of the function other than configuration space.
    fn reset_function(&mut self) {
        self.msix_table = MsixTable::new();
        self.registers = Registers::default();
        self.reset_controller();
    }

    /// Tells software that the controller failed for good, and stops it until the next reset.
    pub fn fail(&mut self) {
        self.registers.csts = self.registers.csts.set(Csts::CFS);
    }

    /// Takes a doorbell. It does nothing while the controller is not ready.
    pub(crate) fn ring(&mut self, doorbell: Doorbell) {
        if !self.registers.running() {
            return;
        }
        // With shadow doorbells, a doorbell only calls to look at them.
        let is_shadowed = |queue| self.shadows.is_some() && queue != ADMIN;
        let known = match doorbell {
            Doorbell::SubmissionTail { queue, value } => {
                match self.queues.submission.get_mut(queue) {
                    Some(Some(_)) if is_shadowed(queue) => Ok(Ok(())),
                    Some(Some(ring)) => Ok(ring.set_tail(position(value))),
                    _ => Err(()),
                }
            }
            Doorbell::CompletionHead { queue, value } => {
                match self.queues.completion.get_mut(queue) {
                    Some(Some(_)) if is_shadowed(queue) => Ok(Ok(())),
                    Some(Some(ring)) => Ok(ring.set_head(position(value))),
                    _ => Err(()),
                }
            }
            Doorbell::Unknown => Err(()),
        };
        match known {
            Ok(Ok(())) => {}
            Ok(Err(InvalidValue)) => self.raise_doorbell_error(Event::InvalidDoorbellValue),
            Err(()) => self.raise_doorbell_error(Event::InvalidDoorbell),
        }
    }

    /// Makes doorbells that were written a part of the state, and executes nothing.
    pub fn drain(&mut self, doorbells: &Doorbells) {
        for doorbell in doorbells.take() {
            self.ring(doorbell);
        }
    }

    /// Reports a doorbell that was written wrong.
    pub(crate) fn raise_doorbell_error(&mut self, event: Event) {
        self.errors
            .add(ErrorEntry::without_command(Status::INVALID_FIELD));
        self.events.raise(event);
    }

    /// Raises the vector of every completion queue with completions that the guest has not consumed.
    pub(crate) fn raise_unconsumed(&mut self) {
        self.raised = self.queues.unconsumed();
    }

    /// Writes a little-endian word of 32 bits.
    fn write_word(&mut self, address: usize, word: [u8; WORD_SIZE]) {
        let Some(register) = Register::at(address) else {
            return self.write_word_beyond(address, word);
        };
        let value = u32::from_le_bytes(word);
        let registers = &mut self.registers;
        // The admin queues stay where they are while they are in use.
        let fixed = registers.enabled();
        match register {
            Register::Intms => registers.interrupt_mask |= value,
            Register::Intmc => registers.interrupt_mask &= !value,
            Register::Cc => self.write_cc(Cc::from_bits(value)),
            Register::Csts => {
                let cleared = Csts::from_bits(value).only(Csts::NSSRO);
                registers.csts = registers.csts.clear(cleared);
            }
            Register::Nssr if value == NSSR_RESET => self.reset_subsystem(),
            Register::Aqa if !fixed => registers.aqa = Aqa::from_bits(value),
            Register::Asq if !fixed => registers.asq = registers.asq.with_low(value),
            Register::AsqHigh if !fixed => registers.asq = registers.asq.with_high(value),
            Register::Acq if !fixed => registers.acq = registers.acq.with_low(value),
            Register::AcqHigh if !fixed => registers.acq = registers.acq.with_high(value),
            _ => {}
        }
    }

    /// Writes a word behind the registers: a doorbell or a part of the MSI-X table.
    fn write_word_beyond(&mut self, address: usize, word: [u8; WORD_SIZE]) {
        let doorbells = DOORBELLS as usize..DOORBELLS_END as usize;
        if doorbells.contains(&address) {
            let index = (address - doorbells.start) / WORD_SIZE;
            self.ring(Doorbell::decode(index, u32::from_le_bytes(word)));
        } else if let Some(offset) = address.checked_sub(MSIX_TABLE as usize) {
            self.msix_table.write(offset, word);
        }
    }

    /// Writes CC.
    fn write_cc(&mut self, value: Cc) {
        let before = self.registers.cc;

        if !value.intersects(Cc::EN) {
            let idle = self.registers.is_idle();
            self.registers.cc = value;
            if before.intersects(Cc::EN) || !idle {
                self.reset_controller();
            }
        } else if before.intersects(Cc::EN) {
            // The fields that queues depend on can only be chosen before.
            self.registers.cc = before.only(Cc::FIXED).set(value.clear(Cc::FIXED));
        } else {
            self.registers.cc = value;
        }

        let csts = self.registers.csts;
        let notified = value.field(Cc::SHN);
        if notified == 0 {
            self.registers.csts = csts.with_shutdown(ShutdownStatus::Normal);
        } else if notified != before.field(Cc::SHN) {
            self.registers.csts = csts.with_shutdown(ShutdownStatus::Occurring);
        }
    }

    /// Resets the subsystem, which has no other controller.
    ///
    /// Configuration space stays. On a physical device the link goes down, which software notices. There
    /// is no link here, so nothing would tell software that its base addresses are gone.
    fn reset_subsystem(&mut self) {
        self.registers = Registers {
            csts: Csts::NSSRO,
            ..Registers::default()
        };
        self.reset_controller();
    }

    /// The part that every reset of the controller has, section 7.3.2.
    fn reset_controller(&mut self) {
        self.registers.interrupt_mask = 0;
        self.registers.csts = self.registers.csts.only(Csts::NSSRO);
        self.queues.clear();
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
        self.queues.create_admin(&self.registers);
        self.registers.csts = self.registers.csts.set(Csts::RDY);
    }

    /// The interrupt status bit: the controller would assert its pin if the pin were not disabled.
    fn interrupt_status(&self) -> bool {
        self.interrupt() && !self.msix_enabled() && self.may_interrupt()
    }

    /// Returns whether a completion that is not masked waits to be consumed.
    fn interrupt(&self) -> bool {
        // A controller that failed takes no doorbell: consumed completions would stay announced.
        self.registers.running()
            && self.queues.completion.iter().flatten().any(|completion| {
                completion.vector.is_some_and(|vector| {
                    !completion.is_empty() && self.registers.interrupt_mask & 1 << vector == 0
                })
            })
    }
}
