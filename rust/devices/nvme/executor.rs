// SPDX-License-Identifier: GPL-2.0

//! The executor: the half of the controller that executes commands, and its resets.
//!
//! It may wait for the guest's memory and for the backend, so software accesses the registers meanwhile. The executor
//! works on a copy of them, and the halves exchange what changed between commands, see
//! [`DeviceModel::exchange`](device_model::DeviceModel::exchange).

use crate::admin::Formatting;
use crate::controller::Controller;
use crate::doorbells::{
    position,
    Doorbell,
    Doorbells, //
};
use crate::error_log::{
    ErrorEntry,
    ErrorLog, //
};
use crate::events::Events;
use crate::features::Features;
use crate::health::Health;
use crate::held_back::HeldBack;
use crate::in_flight::InFlight;
use crate::names::Names;
use crate::namespace::{
    Namespace,
    Selected, //
};
use crate::parameters::{
    Parameters,
    NAMESPACES_MAX, //
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
    Csts,
    ShutdownStatus, //
};
use crate::spec::status::Status;

/// The half of an NVMe controller that executes commands.
///
/// # Invariants
///
/// - While the controller is ready, the admin queue exists.
/// - I/O queues have numbers from 1 to the number of queue pairs.
/// - Queues, requests for events, shadow doorbells and a format exist only while the controller is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executor {
    pub(crate) parameters: Parameters,
    pub(crate) names: Names,
    /// The registers as of the last exchange, with the executor's own answers since.
    pub(crate) registers: Registers,
    /// As of the last exchange, the function may access memory.
    pub(crate) may_access_memory: bool,
    /// As of the last exchange, the controller sends messages.
    pub(crate) msix_enabled: bool,
    pub(crate) queues: Queues,
    pub(crate) shadows: Option<Shadows>,
    /// The submission queue that is served next.
    pub(crate) next_queue: usize,
    pub(crate) features: Features,
    pub(crate) events: Events,
    pub(crate) errors: ErrorLog,
    pub(crate) health: Health,
    /// Those that the parameters have; the others are as they were made.
    pub(crate) namespaces: [Namespace; NAMESPACES_MAX],
    /// A format that is under way.
    pub(crate) formatting: Option<Formatting>,
    /// Commands that stores execute.
    pub(crate) in_flight: InFlight,
    /// No I/O command begins until none is in flight, which an admin command or a shutdown waits for.
    pub(crate) waiting: bool,
    /// Submission queues, as a set of bits, whose next command waits until another command is done.
    pub(crate) no_room: u32,
    /// Completions that wait to be announced together.
    pub(crate) held_back: HeldBack,
    /// Completions may wait to be announced: somebody looks at the time.
    pub(crate) may_hold_back: bool,
    /// MSI-X vectors to send a message for, since the last exchange.
    pub(crate) raised: u32,
    /// A shutdown was completed since the last exchange.
    pub(crate) shut_down: bool,
}

impl Executor {
    /// Returns the executor of a controller after power-on.
    pub(crate) fn new(parameters: Parameters) -> Self {
        Self {
            parameters,
            names: Names::default(),
            registers: Registers::default(),
            may_access_memory: false,
            msix_enabled: false,
            queues: Queues::new(),
            shadows: None,
            next_queue: ADMIN,
            features: Features::default(),
            events: Events::default(),
            errors: ErrorLog::default(),
            health: Health::default(),
            namespaces: [Namespace::default(); NAMESPACES_MAX],
            formatting: None,
            in_flight: InFlight::default(),
            waiting: false,
            no_room: 0,
            held_back: HeldBack::default(),
            may_hold_back: false,
            raised: 0,
            shut_down: false,
        }
    }

    /// Returns the namespace that has the identifier `nsid`, if there is one.
    pub(crate) fn namespace(&self, nsid: u32) -> Option<Selected> {
        let index = usize::try_from(nsid).ok()?.checked_sub(1)?;
        Some(Selected {
            index,
            parameters: self.parameters.namespace(index)?,
            state: *self.namespaces.get(index)?,
        })
    }

    /// The part of every reset of the controller, section 7.3.2, other than the registers. The logs stay, as they
    /// outlive a loss of power.
    pub(crate) fn reset(&mut self) {
        self.queues.clear();
        self.shadows = None;
        self.formatting = None;
        self.in_flight.forget();
        self.waiting = false;
        self.no_room = 0;
        self.held_back = HeldBack::default();
        self.next_queue = ADMIN;
        self.features = Features::default();
        self.events = Events::default();
        self.raised = 0;
        self.shut_down = false;
    }

    /// Returns whether the controller has failed for good, CSTS.CFS.
    pub(crate) fn has_failed(&self) -> bool {
        self.registers.csts.intersects(Csts::CFS)
    }

    /// Tells software that the controller failed for good, and stops it until the next reset.
    pub(crate) fn fail(&mut self) {
        self.registers.csts = self.registers.csts.set(Csts::CFS);
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

    /// Announces the completions that wait to be announced together.
    pub(crate) fn announce_held_back(&mut self) {
        self.raised |= self.held_back.take();
    }

    /// Makes what waits for the next call a part of the state, and executes nothing: doorbells that were written, and
    /// completions that were not announced.
    pub fn settle(&mut self, doorbells: &Doorbells) {
        self.drain(doorbells);
        self.announce_held_back();
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
}

impl Controller {
    /// See [`DeviceModel::exchange`](device_model::DeviceModel::exchange).
    pub(crate) fn exchange_with(&mut self, executor: &mut Executor) {
        if core::mem::take(&mut self.owes_reset) {
            executor.reset();
        } else {
            self.take_answers(executor);
        }
        self.unconsumed = executor.queues.unconsumed();
        executor.registers = self.registers.clone();
        executor.may_access_memory = self.config.may_access_memory();
        executor.msix_enabled = self.msix_enabled();
    }

    /// Takes what the executor did since the last exchange.
    fn take_answers(&mut self, executor: &mut Executor) {
        let answers = executor.registers.csts.only(Csts::RDY.set(Csts::CFS));

        self.registers.csts = self.registers.csts.set(answers);
        if core::mem::take(&mut executor.shut_down) && self.registers.shutting_down() {
            self.registers.csts = self.registers.csts.with_shutdown(ShutdownStatus::Complete);
        }
        self.raised |= core::mem::take(&mut executor.raised);
    }
}
