// SPDX-License-Identifier: GPL-2.0

//! Admin commands, section 5.

use crate::backend::BlockBackend;
use crate::command::{
    high,
    low,
    Command,
    NSID,
    NSID_ALL, //
};
use crate::controller::Controller;
use crate::doorbells::PAIRS;
use crate::events::{
    Event,
    Request, //
};
use crate::features::{
    capabilities,
    Feature,
    Features,
    Select, //
};
use crate::identify::{
    self,
    IDENTIFY_SIZE,
    TRANSFER_MAX, //
};
use crate::io::{
    self,
    flush, //
};
use crate::log::{
    commands_supported,
    firmware_slots,
    LogPage, //
};
use crate::memory::GuestMemory;
use crate::prp::Prp;
use crate::queue::{
    CompletionQueue,
    SubmissionQueue, //
};
use crate::registers::{
    is_aligned,
    QUEUE_ENTRIES_MAX, //
};
use crate::shadow::Shadows;
use crate::status::Status;
use crate::window::{
    Window,
    WINDOW_SIZE, //
};
use crate::worker::{
    Outcome,
    ADMIN, //
};

const DELETE_SUBMISSION_QUEUE: u8 = 0x00;
const CREATE_SUBMISSION_QUEUE: u8 = 0x01;
const GET_LOG_PAGE: u8 = 0x02;
const DELETE_COMPLETION_QUEUE: u8 = 0x04;
const CREATE_COMPLETION_QUEUE: u8 = 0x05;
const IDENTIFY: u8 = 0x06;
const ABORT: u8 = 0x08;
const SET_FEATURES: u8 = 0x09;
const GET_FEATURES: u8 = 0x0a;
const ASYNC_EVENT_REQUEST: u8 = 0x0c;
const DOORBELL_BUFFER_CONFIG: u8 = 0x7c;

/// The admin commands. None of them changes content.
const COMMANDS: [u8; 11] = [
    DELETE_SUBMISSION_QUEUE,
    CREATE_SUBMISSION_QUEUE,
    GET_LOG_PAGE,
    DELETE_COMPLETION_QUEUE,
    CREATE_COMPLETION_QUEUE,
    IDENTIFY,
    ABORT,
    SET_FEATURES,
    GET_FEATURES,
    ASYNC_EVENT_REQUEST,
    DOORBELL_BUFFER_CONFIG,
];

/// Dword 11 of a queue's creation: it is contiguous.
const QUEUE_CONTIGUOUS: u32 = 1 << 0;
/// Dword 11 of a completion queue's creation: it has interrupts.
const QUEUE_INTERRUPTS: u32 = 1 << 1;

/// Dword 10 of Identify: what to describe.
const IDENTIFY_CNS: u32 = 0xff;
const CNS_NAMESPACE: u32 = 0x00;
const CNS_CONTROLLER: u32 = 0x01;
const CNS_ACTIVE_NAMESPACES: u32 = 0x02;
const CNS_DESCRIPTORS: u32 = 0x03;
/// The largest namespace identifier after which there can be another one.
const NSID_LAST: u32 = 0xffff_fffd;

/// Dword 10 of Get Log Page: events stay masked.
const RETAIN_EVENT: u32 = 1 << 15;
/// Bytes of a dword.
const DWORD_SIZE: u64 = 4;

/// Dword 10 of Set Features: the value is to be saved.
const FEATURE_SAVE: u32 = 1 << 31;

/// Dword 0 of Abort: the command was not aborted.
const NOT_ABORTED: u32 = 1 << 0;

impl Controller {
    /// Executes a command of the admin queue.
    pub(crate) fn execute_admin<M: GuestMemory, S: BlockBackend>(
        &mut self,
        command: &Command,
        memory: &mut M,
        store: &mut S,
    ) -> Outcome {
        let allowed = || command.check_flags();
        match command.opcode {
            DELETE_SUBMISSION_QUEUE => allowed().and_then(|()| self.delete_submission(command)),
            CREATE_SUBMISSION_QUEUE => {
                allowed().and_then(|()| self.create_submission(command, memory))
            }
            GET_LOG_PAGE => allowed().and_then(|()| self.get_log_page(command, memory)),
            DELETE_COMPLETION_QUEUE => allowed().and_then(|()| self.delete_completion(command)),
            CREATE_COMPLETION_QUEUE => {
                allowed().and_then(|()| self.create_completion(command, memory))
            }
            IDENTIFY => allowed().and_then(|()| self.identify(command, memory)),
            ABORT => allowed().and_then(|()| self.abort(command)),
            SET_FEATURES => allowed().and_then(|()| self.set_features(command, store)),
            GET_FEATURES => allowed().and_then(|()| self.get_features(command)),
            ASYNC_EVENT_REQUEST => allowed().and_then(|()| self.request_event(command)),
            DOORBELL_BUFFER_CONFIG => {
                allowed().and_then(|()| self.configure_doorbell_buffer(command, memory))
            }
            _ => Err(Status::INVALID_OPCODE.unlogged()),
        }
    }

    /// Create I/O Completion Queue, section 5.3.
    fn create_completion<M: GuestMemory>(&mut self, command: &Command, memory: &mut M) -> Outcome {
        let queue = self.new_queue(command)?;
        if self.completion[queue].is_some() {
            return Err(Status::QUEUE_IDENTIFIER);
        }
        let entries = queue_entries(command, self.registers.completion_entries_fit())?;
        let vector = high(command.cdw11());
        // The pin stands for vector 0 alone.
        let vectors = if self.msix_enabled() { PAIRS } else { 1 };
        if usize::from(vector) >= vectors {
            return Err(Status::INTERRUPT_VECTOR);
        }
        self.check_queue_memory(command)?;

        self.clear_shadow(2 * queue + 1, memory)
            .map_err(|_| Status::DATA_TRANSFER)?;
        let interrupts = command.cdw11() & QUEUE_INTERRUPTS != 0;
        self.completion[queue] = Some(CompletionQueue::new(
            command.prp1,
            entries,
            interrupts.then_some(vector),
        ));
        Ok(Some(0))
    }

    /// Create I/O Submission Queue, section 5.4.
    fn create_submission<M: GuestMemory>(&mut self, command: &Command, memory: &mut M) -> Outcome {
        let queue = self.new_queue(command)?;
        if self.submission[queue].is_some() {
            return Err(Status::QUEUE_IDENTIFIER);
        }
        let completion_queue = usize::from(high(command.cdw11()));
        if !self.is_io_queue(completion_queue) {
            return Err(Status::QUEUE_IDENTIFIER);
        }
        if self.completion[completion_queue].is_none() {
            return Err(Status::COMPLETION_QUEUE);
        }
        let entries = queue_entries(command, self.registers.submission_entries_fit())?;
        self.check_queue_memory(command)?;

        self.clear_shadow(2 * queue, memory)
            .map_err(|_| Status::DATA_TRANSFER)?;
        self.submission[queue] = Some(SubmissionQueue::new(
            command.prp1,
            entries,
            completion_queue,
        ));
        Ok(Some(0))
    }

    /// Delete I/O Completion Queue, section 5.5.
    fn delete_completion(&mut self, command: &Command) -> Outcome {
        let queue = usize::from(low(command.cdw10()));
        if !self.is_io_queue(queue) || self.completion[queue].is_none() {
            return Err(Status::QUEUE_IDENTIFIER);
        }
        let mut submissions = self.submission.iter().flatten();
        if submissions.any(|submission| submission.completion_queue == queue) {
            return Err(Status::QUEUE_DELETION);
        }
        self.completion[queue] = None;
        Ok(Some(0))
    }

    /// Delete I/O Submission Queue, section 5.6.
    ///
    /// Each command was completed or not fetched, and the latter is as good as aborted: a host
    /// considers what has not completed when the deletion does as aborted.
    fn delete_submission(&mut self, command: &Command) -> Outcome {
        let queue = usize::from(low(command.cdw10()));
        if !self.is_io_queue(queue) || self.submission[queue].is_none() {
            return Err(Status::QUEUE_IDENTIFIER);
        }
        self.submission[queue] = None;
        Ok(Some(0))
    }

    /// Doorbell Buffer Config, section 5.7.
    fn configure_doorbell_buffer<M: GuestMemory>(
        &mut self,
        command: &Command,
        memory: &mut M,
    ) -> Outcome {
        let page_shift = self.registers.page_shift();
        if !is_aligned(command.prp1, page_shift) || !is_aligned(command.prp2, page_shift) {
            return Err(Status::INVALID_FIELD);
        }
        let shadows = Shadows {
            doorbells: command.prp1,
            event_indexes: command.prp2,
        };
        self.set_shadows(shadows, memory)
            .map_err(|_| Status::INVALID_FIELD)?;
        Ok(Some(0))
    }

    /// Identify, section 5.15.
    fn identify<M: GuestMemory>(&mut self, command: &Command, memory: &mut M) -> Outcome {
        let nsid = command.nsid;
        let parameters = &self.parameters;
        let cns = command.cdw10() & IDENTIFY_CNS;
        match cns {
            CNS_NAMESPACE | CNS_DESCRIPTORS if nsid != NSID => {
                return Err(Status::INVALID_NAMESPACE);
            }
            CNS_ACTIVE_NAMESPACES if nsid > NSID_LAST => return Err(Status::INVALID_NAMESPACE),
            CNS_NAMESPACE | CNS_CONTROLLER | CNS_ACTIVE_NAMESPACES | CNS_DESCRIPTORS => {}
            _ => return Err(Status::INVALID_FIELD.unlogged()),
        }
        self.give(command, 0, IDENTIFY_SIZE, memory, |window| match cns {
            CNS_NAMESPACE => identify::namespace(window, parameters),
            CNS_CONTROLLER => identify::controller(window, parameters, &self.names),
            CNS_ACTIVE_NAMESPACES => identify::active_namespaces(window, nsid),
            _ => identify::descriptors(window, parameters),
        })?;
        Ok(Some(0))
    }

    /// Get Log Page, section 5.14.
    fn get_log_page<M: GuestMemory>(&mut self, command: &Command, memory: &mut M) -> Outcome {
        let page = LogPage::decode(command.cdw10())?;
        if ![0, NSID_ALL].contains(&command.nsid) {
            // No log is about one namespace.
            return Err(Status::INVALID_FIELD);
        }
        let dwords =
            u64::from(high(command.cdw10())) | u64::from(low(command.cdw11())) << u16::BITS;
        let length = usize::try_from((dwords + 1) * DWORD_SIZE)
            .ok()
            .filter(|length| *length <= TRANSFER_MAX)
            .ok_or(Status::INVALID_FIELD)?;
        let offset = u64::from(command.cdw12()) | u64::from(command.cdw13()) << u32::BITS;
        if offset % DWORD_SIZE != 0 || offset > page.size() {
            return Err(Status::INVALID_FIELD);
        }

        // It is at most the size of the page.
        self.give(
            command,
            offset as usize,
            length,
            memory,
            |window| match page {
                LogPage::Error => self.errors.describe(window),
                LogPage::Health => {
                    let warnings = self.features.warnings();
                    self.health.describe(window, warnings, self.errors.count);
                }
                LogPage::FirmwareSlot => firmware_slots(window, &self.names.firmware),
                LogPage::CommandsSupported => commands_supported(window, &COMMANDS, &io::COMMANDS),
            },
        )?;
        if command.cdw10() & RETAIN_EVENT == 0 {
            self.events.clear(page);
        }
        Ok(Some(0))
    }

    /// Abort, section 5.1.
    ///
    /// A command that was fetched has completed, and there is nothing left of it to abort, unless it
    /// is a request for an event.
    fn abort(&mut self, command: &Command) -> Outcome {
        let queue = usize::from(low(command.cdw10()));
        let cid = high(command.cdw10());
        if !matches!(self.submission.get(queue), Some(Some(_))) {
            return Err(Status::INVALID_FIELD);
        }
        let aborted = queue == ADMIN && self.events.abort(cid);
        Ok(Some(if aborted { 0 } else { NOT_ABORTED }))
    }

    /// Set Features, section 5.21.
    fn set_features<S: BlockBackend>(&mut self, command: &Command, store: &mut S) -> Outcome {
        let feature = Feature::decode(command.cdw10())?;
        if command.cdw10() & FEATURE_SAVE != 0 {
            return Err(Status::NOT_SAVEABLE);
        }
        self.check_feature_namespace(command, feature)?;
        if feature == Feature::QueueCount && self.has_io_queues() {
            return Err(Status::SEQUENCE);
        }

        let pairs = self.parameters.queue_pairs;
        let mut features = self.features.clone();
        let result = features.set(feature, command.cdw11(), pairs)?;
        if self.features.write_cache && !features.write_cache {
            flush(store)?;
        }
        self.features = features;
        // A warning is told of as long as there is reason for it, once until its log is read.
        let concerns_warnings = [Feature::TemperatureThreshold, Feature::AsyncEvents];
        if concerns_warnings.contains(&feature) && self.features.reports(self.features.warnings()) {
            self.events.raise(Event::Temperature);
        }
        Ok(Some(result))
    }

    /// Get Features, section 5.13.
    fn get_features(&mut self, command: &Command) -> Outcome {
        let feature = Feature::decode(command.cdw10())?;
        // All namespaces together have no value, even if there is only one.
        if feature.is_of_namespace() && command.nsid != NSID {
            return Err(Status::INVALID_NAMESPACE);
        }
        let pairs = self.parameters.queue_pairs;
        let value = match Select::decode(command.cdw10())? {
            Select::Current => self.features.get(feature, command.cdw11(), pairs)?,
            Select::Default => Features::default().get(feature, command.cdw11(), pairs)?,
            Select::Capabilities => capabilities(feature),
        };
        Ok(Some(value))
    }

    /// Asynchronous Event Request, section 5.2.
    fn request_event(&mut self, command: &Command) -> Outcome {
        let request = Request {
            cid: command.cid,
            aborted: false,
        };
        if self.events.request(request) {
            Ok(None)
        } else {
            Err(Status::EVENT_LIMIT)
        }
    }

    /// Checks that Set Features names a namespace if the feature has a value for each, and none if not.
    fn check_feature_namespace(&self, command: &Command, feature: Feature) -> Result<(), Status> {
        match command.nsid {
            NSID_ALL => Ok(()),
            NSID if feature.is_of_namespace() => Ok(()),
            NSID => Err(Status::NOT_NAMESPACE_SPECIFIC),
            0 if !feature.is_of_namespace() => Ok(()),
            _ => Err(Status::INVALID_NAMESPACE),
        }
    }

    /// Gives `length` bytes from `offset` on of a data structure to the guest.
    fn give<M: GuestMemory>(
        &self,
        command: &Command,
        offset: usize,
        length: usize,
        memory: &mut M,
        describe: impl Fn(&mut Window<'_>),
    ) -> Result<(), Status> {
        let mut prp = Prp::new(command, length, self.registers.page_shift())?;
        let mut bytes = [0; WINDOW_SIZE];
        for start in (0..length).step_by(WINDOW_SIZE) {
            let bytes = &mut bytes[..WINDOW_SIZE.min(length - start)];
            describe(&mut Window::new(offset + start, bytes));
            prp.write(memory, bytes).map_err(|_| prp.failure())?;
        }
        Ok(())
    }

    /// Returns the number of the queue that a command is to create.
    fn new_queue(&self, command: &Command) -> Result<usize, Status> {
        let queue = usize::from(low(command.cdw10()));
        if !self.is_io_queue(queue) {
            return Err(Status::QUEUE_IDENTIFIER);
        }
        Ok(queue)
    }

    /// Checks where a queue is to be.
    fn check_queue_memory(&self, command: &Command) -> Result<(), Status> {
        if command.cdw11() & QUEUE_CONTIGUOUS == 0 {
            return Err(Status::INVALID_FIELD);
        }
        if !is_aligned(command.prp1, self.registers.page_shift()) {
            return Err(Status::PRP_OFFSET);
        }
        Ok(())
    }

    /// Whether an I/O queue can have this number.
    fn is_io_queue(&self, queue: usize) -> bool {
        (ADMIN + 1..=usize::from(self.parameters.queue_pairs)).contains(&queue)
    }

    fn has_io_queues(&self) -> bool {
        let created =
            |queue: usize| self.submission[queue].is_some() || self.completion[queue].is_some();
        (ADMIN + 1..PAIRS).any(created)
    }
}

/// Returns the number of entries of a queue that a command is to create.
fn queue_entries(command: &Command, entry_size_fits: bool) -> Result<u32, Status> {
    let entries = u32::from(high(command.cdw10())) + 1;
    if !entry_size_fits || !(2..=QUEUE_ENTRIES_MAX).contains(&entries) {
        return Err(Status::QUEUE_SIZE);
    }
    Ok(entries)
}
