// SPDX-License-Identifier: GPL-2.0

//! All queues of a controller, by number: the admin queue and the I/O queues.

use device_model::saved_state::{
    StateReader,
    StateWriter, //
};

use crate::function::VECTORS;
use crate::load_error::LoadError;
use crate::parameters::{
    Parameters,
    PAIRS, //
};
use crate::queue::{
    self,
    CompletionQueue,
    SavedSubmission,
    SubmissionQueue, //
};
use crate::registers::{
    is_aligned,
    Registers,
    QUEUE_ENTRIES_MAX, //
};
use crate::spec::registers::Aqa;

/// Number of the admin submission queue and of the admin completion queue.
pub(crate) const ADMIN: usize = 0;
/// The interrupt vector of the admin queue.
pub(crate) const ADMIN_VECTOR: u16 = 0;
/// Numbers of I/O queues.
pub(crate) const IO: core::ops::Range<usize> = ADMIN + 1..PAIRS;

/// The queues that exist.
///
/// # Invariants
///
/// - Each submission queue has a completion queue, which is the admin queue for the admin queue only.
/// - Completion queues have vectors less than [`VECTORS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Queues {
    pub(crate) submission: [Option<SubmissionQueue>; PAIRS],
    pub(crate) completion: [Option<CompletionQueue>; PAIRS],
}

impl Queues {
    /// Bytes of the saved queues.
    pub(crate) const STATE_SIZE: usize = 2 * PAIRS * queue::STATE_SIZE;

    /// Returns no queues.
    pub(crate) fn new() -> Self {
        Self {
            submission: [const { None }; PAIRS],
            completion: [const { None }; PAIRS],
        }
    }

    /// Deletes all queues.
    pub(crate) fn clear(&mut self) {
        self.submission.iter_mut().for_each(|queue| *queue = None);
        self.completion.iter_mut().for_each(|queue| *queue = None);
    }

    /// Creates the admin queues that the registers describe.
    pub(crate) fn create_admin(&mut self, registers: &Registers) {
        self.submission[ADMIN] = Some(SubmissionQueue::new(
            registers.asq.bits(),
            registers.aqa.submission_entries(),
            ADMIN,
        ));
        self.completion[ADMIN] = Some(CompletionQueue::new(
            registers.acq.bits(),
            registers.aqa.completion_entries(),
            Some(ADMIN_VECTOR),
        ));
    }

    /// Returns whether the admin queues are those that the registers describe.
    pub(crate) fn has_admin(&self, registers: &Registers) -> bool {
        let (Some(submission), Some(completion)) =
            (&self.submission[ADMIN], &self.completion[ADMIN])
        else {
            return false;
        };
        submission.base() == registers.asq.bits()
            && submission.entries() == registers.aqa.submission_entries()
            && completion.base() == registers.acq.bits()
            && completion.entries() == registers.aqa.completion_entries()
            && completion.vector == Some(ADMIN_VECTOR)
    }

    /// Returns whether any I/O queue exists.
    pub(crate) fn has_io(&self) -> bool {
        self.used().is_some()
    }

    /// Number of queues up to the last I/O queue, if there is one.
    pub(crate) fn used(&self) -> Option<usize> {
        IO.rev()
            .find(|queue| self.has_pair(*queue))
            .map(|last| last + 1)
    }

    fn has_pair(&self, queue: usize) -> bool {
        self.submission[queue].is_some() || self.completion[queue].is_some()
    }

    /// Number of commands of a queue that can be executed one after the other.
    pub(crate) fn runnable(&self, queue: usize) -> u32 {
        let Some(Some(submission)) = self.submission.get(queue) else {
            return 0;
        };
        match self.completion.get(submission.completion_queue) {
            Some(Some(completion)) => submission.contiguous().min(completion.room()),
            _ => 0,
        }
    }

    /// Keeps room for the completion of a command of submission queue `queue` that is in flight.
    pub(crate) fn reserve(&mut self, queue: usize) {
        if let Some(completion) = self.completion_of(queue) {
            completion.reserve();
        }
    }

    /// Undoes one [`Self::reserve`]: the command completes.
    pub(crate) fn release(&mut self, queue: usize) {
        if let Some(completion) = self.completion_of(queue) {
            completion.release();
        }
    }

    /// The completion queue of submission queue `queue`.
    fn completion_of(&mut self, queue: usize) -> Option<&mut CompletionQueue> {
        let submission = self.submission.get(queue)?.as_ref()?;
        self.completion
            .get_mut(submission.completion_queue)?
            .as_mut()
    }

    /// Number of admin commands whose completions have room.
    pub(crate) fn admin_room(&self) -> u32 {
        self.completion[ADMIN]
            .as_ref()
            .map_or(0, CompletionQueue::room)
    }

    /// Returns the vectors of completion queues with completions that the guest has not consumed, as a
    /// set of bits.
    pub(crate) fn unconsumed(&self) -> u32 {
        self.completion
            .iter()
            .flatten()
            .filter(|completion| !completion.is_empty())
            .filter_map(|completion| completion.vector)
            .fold(0, |vectors, vector| vectors | 1 << vector)
    }

    /// Saves the queues.
    pub(crate) fn save(&self, state: &mut StateWriter<'_>) {
        for queue in &self.submission {
            SubmissionQueue::save(queue.as_ref(), state);
        }
        for queue in &self.completion {
            CompletionQueue::save(queue.as_ref(), state);
        }
    }

    /// Loads what [`Self::save`] saved, and checks it against the registers, which were loaded before.
    pub(crate) fn load(
        &mut self,
        parameters: &Parameters,
        registers: &Registers,
        state: &mut StateReader<'_>,
    ) -> Result<(), LoadError> {
        let can_exist = |index: usize, base, entries| {
            let most = if index == ADMIN {
                // The registers describe it.
                Aqa::ENTRIES_MAX
            } else {
                QUEUE_ENTRIES_MAX
            };
            index <= parameters.queue_pairs.into()
                && entries <= most
                && is_aligned(base, registers.page_shift())
        };

        for (index, slot) in self.submission.iter_mut().enumerate() {
            let saved = SubmissionQueue::load(state)?;
            let exists = saved.is_some();
            *slot = saved
                .filter(|queue| can_exist(index, queue.base(), queue.entries()))
                .and_then(SavedSubmission::check);
            if exists && slot.is_none() {
                return Err(LoadError::SubmissionQueue { index });
            }
        }
        for (index, slot) in self.completion.iter_mut().enumerate() {
            let saved = CompletionQueue::load(state)?;
            let exists = saved.is_some();
            *slot = saved
                .filter(|queue| can_exist(index, queue.base(), queue.entries()))
                .and_then(|queue| queue.check(VECTORS));
            if exists && slot.is_none() {
                return Err(LoadError::CompletionQueue { index });
            }
        }
        self.check_pairing()
    }

    /// Checks that each submission queue has a completion queue.
    fn check_pairing(&self) -> Result<(), LoadError> {
        for (index, queue) in self.submission.iter().enumerate() {
            let Some(queue) = queue else {
                continue;
            };
            let completion = self.completion.get(queue.completion_queue);
            let is_admin = |queue| queue == ADMIN;
            if !matches!(completion, Some(Some(_)))
                || is_admin(index) != is_admin(queue.completion_queue)
            {
                return Err(LoadError::SubmissionQueue { index });
            }
        }
        Ok(())
    }
}
