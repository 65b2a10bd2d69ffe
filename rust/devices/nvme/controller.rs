// SPDX-License-Identifier: GPL-2.0

//! The controller: its parts, the writes of registers, and its resets.

use pci_config::ConfigSpace;

use crate::admin::Formatting;
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
    LAYOUT,
    MSIX_TABLE, //
};
use crate::health::Health;
use crate::msix_table::MsixTable;
use crate::names::Names;
use crate::namespace::Namespace;
use crate::parameters::{
    ParameterError,
    Parameters, //
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
pub(crate) const WORD_SIZE: usize = 4;

/// An NVMe controller with one namespace.
///
/// # Invariants
///
/// - While the controller is ready, the admin queue exists.
/// - I/O queues have numbers from 1 to the number of queue pairs.
/// - Queues, requests for events, shadow doorbells and a format exist only while the controller is ready.
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
    pub(crate) namespace: Namespace,
    /// A format that is under way.
    pub(crate) formatting: Option<Formatting>,
    /// MSI-X vectors to send a message for.
    pub(crate) raised: u32,
    /// Messages are sent even if the enable bit is not set. This is a property of the connection, not a
    /// part of the state.
    pub(crate) msix_connected: bool,
}

impl Controller {
    /// Bytes of memory behind base address register 0.
    pub const BAR0_SIZE: u64 = BAR0_SIZE;

    /// Returns a controller after power-on.
    ///
    /// # Errors
    ///
    /// A controller cannot have the parameters.
    pub fn new(parameters: Parameters) -> Result<Self, ParameterError> {
        parameters.check()?;
        Ok(Self {
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
            namespace: Namespace::default(),
            formatting: None,
            raised: 0,
            msix_connected: false,
        })
    }

    /// Returns the parameters of the controller; the serial number may have come from another host.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Binary logarithm of the bytes of a logical block, as the namespace is formatted.
    pub(crate) fn lba_shift(&self) -> u8 {
        self.parameters.lba_shift_of(self.namespace.format)
    }

    /// Number of logical blocks of the namespace.
    pub(crate) fn blocks(&self) -> u64 {
        self.parameters.capacity >> self.lba_shift()
    }

    /// Returns whether the controller may interrupt: the function is in D0, section 2.2.3.
    pub fn may_interrupt(&self) -> bool {
        self.config.is_in_d0()
    }

    /// Returns whether software made the controller send messages instead of asserting its pin.
    pub fn msix_enabled(&self) -> bool {
        self.msix_connected || self.config.msix_enabled()
    }

    /// Returns whether software has enabled the controller, CC.EN.
    pub fn is_enabled(&self) -> bool {
        self.registers.enabled()
    }

    /// Returns whether the controller has failed for good, CSTS.CFS.
    pub fn has_failed(&self) -> bool {
        self.registers.csts.intersects(Csts::CFS)
    }

    /// The part of every reset of the function other than configuration space.
    pub(crate) fn reset_function(&mut self) {
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
    pub(crate) fn write_word(&mut self, address: usize, word: [u8; WORD_SIZE]) {
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
        self.formatting = None;
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
    pub(crate) fn interrupt_status(&self) -> bool {
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
