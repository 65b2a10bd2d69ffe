// SPDX-License-Identifier: GPL-2.0

//! What the worker does: it takes doorbells, fetches commands, and posts completions.

use crate::backend::BlockBackend;
use crate::command::{
    Command,
    ENTRY_SIZE, //
};
use crate::controller::{
    Controller,
    Work, //
};
use crate::doorbells::{
    Doorbell,
    Doorbells,
    PAIRS, //
};
use crate::events::Event;
use crate::io::has_blocks;
use crate::log::ErrorEntry;
use crate::memory::GuestMemory;
use crate::queue::{
    CompletionQueue,
    InvalidValue, //
};
use crate::registers as regs;
use crate::status::Status;

/// The admin queue.
pub(crate) const ADMIN: usize = 0;

/// Commands that are fetched at once, if they are there and next to each other.
const BURST: usize = 16;

/// Where the phase is in the last dword of a completion, in front of the status field.
const PHASE_SHIFT: u32 = 16;
const STATUS_SHIFT: u32 = 17;

/// Where the last dword of a completion is, with the phase.
const LAST_DWORD: usize = COMPLETION_SIZE - LAST_DWORD_SIZE;
const LAST_DWORD_SIZE: usize = 4;
const PHASE_BYTE: usize = LAST_DWORD + PHASE_SHIFT as usize / 8;
const PHASE_BIT: u8 = 1 << (PHASE_SHIFT % 8);

/// Bytes of a completion queue entry.
const COMPLETION_SIZE: usize = 1 << regs::CQES;

/// What a command leads to: dword 0 of its completion, or no completion for now, or a failure.
pub(crate) type Outcome = Result<Option<u32>, Status>;

impl Controller {
    /// Does what software started: enables the controller, completes a shutdown, and executes
    /// commands, at most `budget` of them, and none after one that can take as long as many others.
    /// Such a one comes first, so that nobody waits with it who could have been told before.
    ///
    /// One thread at a time calls it, whenever [`Doorbells::post`] took a doorbell, after every
    /// [`Controller::write_bar0`] and [`Controller::write_config`], after [`Controller::load`], and
    /// again as long as it returns [`Work::More`].
    ///
    /// Before [`Work::Idle`], event indexes tell a guest with shadow doorbells that it has to ring.
    pub fn work<M: GuestMemory, S: BlockBackend>(
        &mut self,
        doorbells: &Doorbells,
        memory: &mut M,
        store: &mut S,
        budget: u32,
    ) -> Work {
        let mut left = budget;

        // What was written before the controller is ready is not for this life of its queues.
        self.drain(doorbells);
        if self.registers.enabling() {
            self.enable();
        }
        if self.registers.shutting_down() {
            if left == 0 {
                return Work::More;
            }
            left -= 1;
            self.shut_down(store);
        }

        // A function that is not a bus master or not in D0 leaves memory alone until it is again, and one
        // that was shut down does until a reset: its queues may be somebody else's.
        if !self.config.may_access_memory() || self.registers.is_shut_down() {
            return Work::Idle;
        }

        // Whether the event indexes are up to date, so that a guest rings for what it adds.
        let mut published = false;
        loop {
            self.drain(doorbells);
            let heard = self.take_shadows(memory);
            self.deliver_events(memory);
            if !self.registers.running() {
                return Work::Idle;
            }

            if self.has_runnable_queue() {
                if left == 0 {
                    return Work::More;
                }
                let executed = self.execute_round(memory, store, left, left == budget);
                left = left.saturating_sub(executed);
                // A guest with one command at a time does not give another one before this one is
                // complete; one that is busy is better looked after once more without being told to
                // ring.
                published = executed <= 1 && !self.has_runnable_queue();
                if published {
                    self.publish_event_indexes(memory);
                }
            } else if !self.has_shadows() || published && !heard {
                return Work::Idle;
            } else {
                if published {
                    // A guest that keeps ringing without a command to execute has no end.
                    if left == 0 {
                        return Work::More;
                    }
                    left -= 1;
                }
                self.publish_event_indexes(memory);
                published = true;
            }
        }
    }

    /// Makes doorbells that were written a part of the state, and executes nothing.
    pub fn drain(&mut self, doorbells: &Doorbells) {
        for doorbell in doorbells.take() {
            self.ring(doorbell);
        }
    }

    /// Takes a doorbell. It does nothing while the controller is not ready.
    pub(crate) fn ring(&mut self, doorbell: Doorbell) {
        if !self.registers.running() {
            return;
        }
        // With shadow doorbells, a doorbell only calls to look at them.
        let known = match doorbell {
            Doorbell::SubmissionTail { queue, value } => match self.submission.get_mut(queue) {
                Some(Some(_)) if self.shadows.is_some() && queue != ADMIN => Ok(Ok(())),
                Some(Some(ring)) => Ok(ring.set_tail(position(value))),
                _ => Err(()),
            },
            Doorbell::CompletionHead { queue, value } => match self.completion.get_mut(queue) {
                Some(Some(_)) if self.shadows.is_some() && queue != ADMIN => Ok(Ok(())),
                Some(Some(ring)) => Ok(ring.set_head(position(value))),
                _ => Err(()),
            },
            Doorbell::Unknown => Err(()),
        };
        match known {
            Ok(Ok(())) => {}
            Ok(Err(InvalidValue)) => self.raise_doorbell_error(Event::InvalidDoorbellValue),
            Err(()) => self.raise_doorbell_error(Event::InvalidDoorbell),
        }
    }

    /// Reports a doorbell that was written wrong.
    pub(crate) fn raise_doorbell_error(&mut self, event: Event) {
        self.errors
            .add(ErrorEntry::without_command(Status::INVALID_FIELD));
        self.events.raise(event);
    }

    /// Whether some command can be executed: its completion has room.
    fn has_runnable_queue(&self) -> bool {
        (0..PAIRS).any(|queue| self.runnable(queue) > 0)
    }

    /// Number of commands of a queue that can be executed one after the other.
    fn runnable(&self, queue: usize) -> u32 {
        let Some(Some(submission)) = self.submission.get(queue) else {
            return 0;
        };
        match self.completion.get(submission.completion_queue) {
            Some(Some(completion)) => submission.contiguous().min(completion.room()),
            _ => 0,
        }
    }

    /// Executes some commands of each queue that has any, at most `budget` altogether, and returns how
    /// much of the budget they used up.
    ///
    /// It goes on after the queue that was served last, so that none starves whatever the budget is.
    /// `first` says that nothing was executed before.
    fn execute_round<M: GuestMemory, S: BlockBackend>(
        &mut self,
        memory: &mut M,
        store: &mut S,
        budget: u32,
        first: bool,
    ) -> u32 {
        let mut executed = 0;
        for _ in 0..PAIRS {
            if executed == budget || !self.registers.running() {
                break;
            }
            let queue = self.next_queue;
            self.next_queue = (queue + 1) % PAIRS;
            let first = first && executed == 0;
            executed += self.execute_burst(queue, memory, store, budget - executed, first);
        }
        executed
    }

    /// Executes commands of one queue, at most `budget`, and returns how much of the budget they used
    /// up: one that can take long takes the rest, and is executed only if nothing was before.
    fn execute_burst<M: GuestMemory, S: BlockBackend>(
        &mut self,
        queue: usize,
        memory: &mut M,
        store: &mut S,
        budget: u32,
        mut first: bool,
    ) -> u32 {
        // An admin command can take the room of the next one's completion for an event.
        let burst = if queue == ADMIN { 1 } else { BURST };
        let count = (self.runnable(queue).min(budget) as usize).min(burst);
        let Some(Some(submission)) = self.submission.get(queue) else {
            return 0;
        };
        if count == 0 {
            return 0;
        }

        let mut entries = [[0; ENTRY_SIZE]; BURST];
        let entries = &mut entries[..count];
        if memory
            .read(submission.address(), entries.as_flattened_mut())
            .is_err()
        {
            self.fail();
            return 0;
        }
        let commands = entries.iter().map(Command::decode);
        if queue != ADMIN && store.has_to_wait() {
            // The first one is next anyway.
            for command in commands.clone().skip(1) {
                self.announce_read(&command, store);
            }
        }
        let mut posts = Posts::new();
        let mut used = count as u32;
        // What was fetched and is not executed stays in its queue and is fetched anew.
        for command in commands {
            let long = queue != ADMIN && self.takes_long(&command, store);
            if long && !first {
                self.next_queue = queue;
                used = budget;
                break;
            }
            self.execute(queue, &command, memory, store, &mut posts);
            first = false;
            if long {
                used = budget;
                break;
            }
        }
        self.post(&mut posts, memory);
        used
    }

    /// Executes a command and completes it.
    fn execute<M: GuestMemory, S: BlockBackend>(
        &mut self,
        queue: usize,
        command: &Command,
        memory: &mut M,
        store: &mut S,
        posts: &mut Posts,
    ) {
        if let Some(Some(submission)) = self.submission.get_mut(queue) {
            submission.advance();
        }

        let outcome = if queue == ADMIN {
            let outcome = self.execute_admin(command, memory, store);
            // A host that sees an abort complete looks for what was aborted.
            self.complete_aborted(1, memory);
            outcome
        } else {
            self.execute_io(command, memory, store).map(|()| Some(0))
        };
        match outcome {
            Ok(None) => {}
            Ok(Some(result)) => self.complete(queue, command.cid, result, None, posts, memory),
            Err(status) => {
                self.log_failure(queue, command, status);
                self.complete(queue, command.cid, 0, Some(status), posts, memory);
            }
        }
    }

    /// Adds a command that failed to the error log, if its status belongs there.
    fn log_failure(&mut self, queue: usize, command: &Command, status: Status) {
        if status.is_medium_error() {
            self.health.count_media_error();
        }
        if !status.is_logged() {
            return;
        }
        let block = queue != ADMIN && has_blocks(command);
        self.errors.add(ErrorEntry {
            queue: queue as u16,
            cid: command.cid,
            status: status.field(),
            nsid: command.nsid,
            lba: if block { command.cdw10_11() } else { 0 },
        });
    }

    /// Completes requests for events that can be completed, as far as there is room.
    fn deliver_events<M: GuestMemory>(&mut self, memory: &mut M) {
        self.complete_aborted(0, memory);

        let mut posts = Posts::new();
        while self.registers.running() && self.admin_room() > 0 {
            let Some((cid, result)) = self.events.answer() else {
                return;
            };
            self.complete(ADMIN, cid, result, None, &mut posts, memory);
            self.post(&mut posts, memory);
        }
    }

    /// Completes requests for events that were aborted, as far as there is room for them and `more`
    /// completions.
    fn complete_aborted<M: GuestMemory>(&mut self, more: u32, memory: &mut M) {
        let mut posts = Posts::new();
        while self.registers.running() && self.admin_room() > more {
            let Some(cid) = self.events.take_aborted() else {
                return;
            };
            let status = Some(Status::ABORT_REQUESTED);
            self.complete(ADMIN, cid, 0, status, &mut posts, memory);
            self.post(&mut posts, memory);
        }
    }

    /// Number of admin commands whose completions there is room for.
    fn admin_room(&self) -> u32 {
        self.completion[ADMIN]
            .as_ref()
            .map_or(0, CompletionQueue::room)
    }

    /// Completes a command of submission queue `queue`. There is room for that, and `posts` have
    /// nothing of another queue.
    fn complete<M: GuestMemory>(
        &mut self,
        queue: usize,
        cid: u16,
        result: u32,
        status: Option<Status>,
        posts: &mut Posts,
        memory: &mut M,
    ) {
        let Some(Some(submission)) = self.submission.get(queue) else {
            return;
        };
        let Some(Some(completion)) = self.completion.get_mut(submission.completion_queue) else {
            return;
        };

        let field = u32::from(status.map_or(0, Status::field));
        let dwords = [
            result,
            0,
            submission.head() | (queue as u32) << u16::BITS,
            u32::from(cid) | u32::from(completion.phase()) << PHASE_SHIFT | field << STATUS_SHIFT,
        ];
        let mut entry = [0; COMPLETION_SIZE];
        for (bytes, dword) in entry.chunks_exact_mut(4).zip(dwords) {
            bytes.copy_from_slice(&dword.to_le_bytes());
        }
        posts.add(completion.address(), entry);
        completion.advance();
        let wrapped = completion.at_start();
        if let Some(vector) = completion.vector {
            self.raised |= 1 << vector;
        }
        if wrapped {
            self.post(posts, memory);
        }
    }

    /// Writes completions to the guest's memory.
    ///
    /// A guest may see the bytes of one write in any order, and takes a completion for valid as soon
    /// as it sees its phase. It takes completions in order. So the first one comes without its phase,
    /// together with those that nobody looks at before it, and its phase comes last.
    fn post<M: GuestMemory>(&mut self, posts: &mut Posts, memory: &mut M) {
        let entries = &mut posts.entries[..posts.count];
        let Some(first) = entries.first_mut() else {
            return;
        };
        first[PHASE_BYTE] ^= PHASE_BIT;
        let mut last = [0; LAST_DWORD_SIZE];
        last.copy_from_slice(&first[LAST_DWORD..]);
        last[PHASE_BYTE - LAST_DWORD] ^= PHASE_BIT;

        let posted = memory
            .write(posts.address, entries.as_flattened())
            .and_then(|()| memory.write(posts.address.wrapping_add(LAST_DWORD as u64), &last));
        if posted.is_err() {
            self.fail();
        }
        posts.count = 0;
    }
}

/// Completions that follow each other in their queue and are written at once: an access of the guest's
/// memory costs much more than its bytes.
struct Posts {
    /// Where the first one belongs.
    address: u64,
    entries: [[u8; COMPLETION_SIZE]; BURST],
    count: usize,
}

impl Posts {
    fn new() -> Self {
        Self {
            address: 0,
            entries: [[0; COMPLETION_SIZE]; BURST],
            count: 0,
        }
    }

    /// Adds a completion, of which no more come together than commands are fetched at once.
    fn add(&mut self, address: u64, entry: [u8; COMPLETION_SIZE]) {
        if self.count == 0 {
            self.address = address;
        }
        if let Some(slot) = self.entries.get_mut(self.count) {
            *slot = entry;
            self.count += 1;
        }
    }
}

/// The position that a doorbell has; its other bits are reserved.
pub(crate) fn position(value: u32) -> u32 {
    value & u32::from(u16::MAX)
}
