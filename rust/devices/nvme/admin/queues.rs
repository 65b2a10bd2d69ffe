// SPDX-License-Identifier: GPL-2.0

//! Creation and deletion of I/O queues, sections 5.3 to 5.6.

use device_model::GuestMemory;

use super::Outcome;
use crate::executor::Executor;
use crate::parameters::PAIRS;
use crate::queue::{
    CompletionQueue,
    SubmissionQueue, //
};
use crate::queues::IO;
use crate::registers::{
    is_aligned,
    QUEUE_ENTRIES_MAX, //
};
use crate::spec::command::{
    high,
    low,
    Command,
    QUEUE_IEN,
    QUEUE_PC, //
};
use crate::spec::status::Status;

impl Executor {
    /// Create I/O Completion Queue, section 5.3.
    pub(super) fn create_completion<M: GuestMemory>(
        &mut self,
        command: &Command,
        memory: &mut M,
    ) -> Outcome {
        let queue = self.io_queue(qid(command))?;
        if self.queues.completion[queue].is_some() {
            return Err(Status::QUEUE_IDENTIFIER);
        }
        let entries = queue_entries(command, self.registers.completion_entries_fit())?;
        // Interrupt Vector (`iv`).
        let vector = high(command.cdw11());
        // The pin stands for vector 0 alone.
        let vectors = if self.msix_enabled { PAIRS } else { 1 };
        if usize::from(vector) >= vectors {
            return Err(Status::INTERRUPT_VECTOR);
        }
        self.check_queue_memory(command)?;

        self.clear_shadow(2 * queue + 1, memory)?;
        let interrupts = command.cdw11() & QUEUE_IEN != 0;
        self.queues.completion[queue] = Some(CompletionQueue::new(
            command.prp1,
            entries,
            interrupts.then_some(vector),
        ));
        Ok(Some(0))
    }

    /// Create I/O Submission Queue, section 5.4.
    pub(super) fn create_submission<M: GuestMemory>(
        &mut self,
        command: &Command,
        memory: &mut M,
    ) -> Outcome {
        let queue = self.io_queue(qid(command))?;
        if self.queues.submission[queue].is_some() {
            return Err(Status::QUEUE_IDENTIFIER);
        }
        // Completion Queue Identifier (`cqid`).
        let completion_queue = self.io_queue(usize::from(high(command.cdw11())))?;
        if self.queues.completion[completion_queue].is_none() {
            return Err(Status::COMPLETION_QUEUE);
        }
        let entries = queue_entries(command, self.registers.submission_entries_fit())?;
        self.check_queue_memory(command)?;

        self.clear_shadow(2 * queue, memory)?;
        self.queues.submission[queue] = Some(SubmissionQueue::new(
            command.prp1,
            entries,
            completion_queue,
        ));
        Ok(Some(0))
    }

    /// Delete I/O Completion Queue, section 5.5.
    pub(super) fn delete_completion(&mut self, command: &Command) -> Outcome {
        let queue = self.io_queue(qid(command))?;
        if self.queues.completion[queue].is_none() {
            return Err(Status::QUEUE_IDENTIFIER);
        }
        let mut submissions = self.queues.submission.iter().flatten();
        if submissions.any(|submission| submission.completion_queue == queue) {
            return Err(Status::QUEUE_DELETION);
        }
        self.queues.completion[queue] = None;
        self.announce_held_back();
        Ok(Some(0))
    }

    /// Delete I/O Submission Queue, section 5.6.
    ///
    /// Each command was completed or not fetched, and the latter is as good as aborted: when the
    /// deletion completes, a host considers the commands that have not completed as aborted.
    pub(super) fn delete_submission(&mut self, command: &Command) -> Outcome {
        let queue = self.io_queue(qid(command))?;
        if self.queues.submission[queue].is_none() {
            return Err(Status::QUEUE_IDENTIFIER);
        }
        self.queues.submission[queue] = None;
        Ok(Some(0))
    }

    /// Clears an earlier queue's shadow doorbell and event index with number `index`, if the guest has
    /// shadow doorbells.
    fn clear_shadow<M: GuestMemory>(&self, index: usize, memory: &mut M) -> Result<(), Status> {
        match self.shadows {
            Some(shadows) => shadows
                .clear(index, memory)
                .map_err(|_| Status::DATA_TRANSFER),
            None => Ok(()),
        }
    }

    /// Checks the address of a queue that a command is to create.
    fn check_queue_memory(&self, command: &Command) -> Result<(), Status> {
        if command.cdw11() & QUEUE_PC == 0 {
            return Err(Status::INVALID_FIELD);
        }
        if !is_aligned(command.prp1, self.registers.page_shift()) {
            return Err(Status::PRP_OFFSET);
        }
        Ok(())
    }

    /// Returns `queue`, if an I/O queue can have this number.
    fn io_queue(&self, queue: usize) -> Result<usize, Status> {
        if !(IO.start..=usize::from(self.parameters.queue_pairs)).contains(&queue) {
            return Err(Status::QUEUE_IDENTIFIER);
        }
        Ok(queue)
    }
}

/// Queue Identifier (`qid`).
fn qid(command: &Command) -> usize {
    low(command.cdw10()).into()
}

/// Returns the entries of a queue that a command is to create: Queue Size (`qsize`), which is one less.
fn queue_entries(command: &Command, entry_size_fits: bool) -> Result<u32, Status> {
    let entries = u32::from(high(command.cdw10())) + 1;
    if !entry_size_fits || !(2..=QUEUE_ENTRIES_MAX).contains(&entries) {
        return Err(Status::QUEUE_SIZE);
    }
    Ok(entries)
}
