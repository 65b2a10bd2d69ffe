// SPDX-License-Identifier: GPL-2.0

//! Admin commands, section 5.

mod features;
mod format;
mod identify;
mod log_page;
mod queues;

pub(crate) use format::Formatting;

use device_model::{
    GuestMemory,
    Stores, //
};

use crate::events::Request;
use crate::executor::Executor;
use crate::prp::Prp;
use crate::queues::ADMIN;
use crate::registers::is_aligned;
use crate::shadow::Shadows;
use crate::spec::command::{
    high,
    low,
    Command,
    NOT_ABORTED, //
};
use crate::spec::opcode::AdminOpcode;
use crate::spec::status::Status;
use crate::window::{
    Window,
    WINDOW_SIZE, //
};

/// The outcome of a command: dword 0 of its completion, or no completion for now, or a failure.
pub(crate) type Outcome = Result<Option<u32>, Status>;

impl Executor {
    /// Executes a command of the admin queue.
    pub(crate) fn execute_admin<M: GuestMemory, S: Stores<M> + ?Sized>(
        &mut self,
        command: &Command,
        memory: &mut M,
        stores: &mut S,
    ) -> Outcome {
        let opcode =
            AdminOpcode::decode(command.opcode).ok_or(Status::INVALID_OPCODE.unlogged())?;
        command.check_flags()?;
        match opcode {
            AdminOpcode::DeleteSubmissionQueue => self.delete_submission(command),
            AdminOpcode::CreateSubmissionQueue => self.create_submission(command, memory),
            AdminOpcode::GetLogPage => self.get_log_page(command, memory),
            AdminOpcode::DeleteCompletionQueue => self.delete_completion(command),
            AdminOpcode::CreateCompletionQueue => self.create_completion(command, memory),
            AdminOpcode::Identify => self.identify(command, memory),
            AdminOpcode::Abort => self.abort(command),
            AdminOpcode::SetFeatures => self.set_features(command, stores),
            AdminOpcode::GetFeatures => self.get_features(command),
            AdminOpcode::AsyncEventRequest => self.request_event(command),
            AdminOpcode::DoorbellBufferConfig => self.configure_doorbell_buffer(command, memory),
            AdminOpcode::FormatNvm => self.format(command),
        }
    }

    /// Abort, section 5.1.
    ///
    /// A command that was fetched has completed and cannot be aborted, unless it is a request for an
    /// event.
    fn abort(&mut self, command: &Command) -> Outcome {
        // Submission Queue Identifier (`sqid`) and Command Identifier (`cid`).
        let queue = usize::from(low(command.cdw10()));
        let cid = high(command.cdw10());
        if !matches!(self.queues.submission.get(queue), Some(Some(_))) {
            return Err(Status::INVALID_FIELD);
        }
        let aborted = queue == ADMIN && self.events.abort(cid);
        Ok(Some(if aborted { 0 } else { NOT_ABORTED }))
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
        shadows
            .begin(&mut self.queues, memory)
            .map_err(|_| Status::INVALID_FIELD)?;
        self.shadows = Some(shadows);
        Ok(Some(0))
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
        let mut list = None;
        let mut prp = Prp::new(command, length, self.registers.page_shift(), &mut list)?;
        let mut bytes = [0; WINDOW_SIZE];
        for start in (0..length).step_by(WINDOW_SIZE) {
            let bytes = &mut bytes[..WINDOW_SIZE.min(length - start)];
            describe(&mut Window::new(offset + start, bytes));
            prp.write(memory, bytes).map_err(|_| prp.failure())?;
        }
        Ok(())
    }
}
