// SPDX-License-Identifier: GPL-2.0

//! The work: the executor takes doorbells, fetches commands, executes them, and posts completions.

use device_model::{
    GuestMemory,
    Link,
    MemoryError,
    ReadStraight,
    Stores,
    Work, //
};

use crate::admin::Formatting;
use crate::concurrent::Beginning;
use crate::doorbells::Doorbells;
use crate::error_log::ErrorEntry;
use crate::executor::Executor;
use crate::parameters::{
    NAMESPACES_MAX,
    PAIRS, //
};
use crate::queues::{
    ADMIN,
    IO, //
};
use crate::spec::command::{
    Command,
    ENTRY_SIZE, //
};
use crate::spec::completion::{
    self,
    CompletionEntry,
    LAST_DWORD,
    LAST_DWORD_SIZE,
    PHASE_BIT,
    PHASE_BYTE, //
};
use crate::spec::event::Event;
use crate::spec::opcode::NvmOpcode;
use crate::spec::registers::ShutdownStatus;
use crate::spec::status::Status;

/// Commands that are fetched at once, if they are next to each other.
const BURST: usize = 16;

impl Executor {
    /// Does the work that software started: enables the controller, completes a shutdown, and executes at
    /// most `budget` commands.
    ///
    /// A command that may take long is executed only as the first of a call and ends the call, so that
    /// finished commands are not held back behind it.
    ///
    /// One thread at a time calls it, as [`Worker::work`](device_model::Worker::work) describes, after an exchange,
    /// and another exchange follows. Ends early when `link` says so.
    ///
    /// Before [`Work::Idle`], event indexes tell a guest with shadow doorbells that it has to ring. Before [`Work::Poll`],
    /// which is returned only if `link` says so, they are left as they are.
    ///
    /// A part of a format comes after the commands of each call.
    pub fn serve<M: GuestMemory, S: Stores<M> + ?Sized>(
        &mut self,
        link: &dyn Link<Self>,
        doorbells: &Doorbells,
        memory: &mut M,
        stores: &mut S,
        budget: u32,
    ) -> Work {
        self.may_hold_back = link.has_timer();
        if !self.held_back.is_empty() && link.is_due() {
            self.announce_held_back();
        }
        let work = self.serve_queues(link, doorbells, memory, stores, budget);
        if !self.held_back.is_empty() {
            link.wake_in(self.features.coalescing_time());
        }
        if !link.is_current() {
            return Work::More;
        }
        if self.serve_format(memory, stores) == Work::More || work == Work::More {
            return Work::More;
        }
        if work == Work::Poll {
            return Work::Poll;
        }
        // A doorbell that was written meanwhile may have called nobody.
        match doorbells.await_others(self.quiet_heads()) {
            true => Work::More,
            false => Work::Idle,
        }
    }

    /// For each completion queue the head that makes no difference before the next command, if there is one: the one of a
    /// guest that has consumed all. The interrupt line follows every head, though, a request for an event that of the admin
    /// queue, and a command that waits for room its own.
    fn quiet_heads(&self) -> [Option<u32>; PAIRS] {
        let mut quiet = [None; PAIRS];
        if !self.msix_enabled {
            return quiet;
        }
        for queue in IO {
            let completion = self.queues.completion.get(queue);
            if let (Some(head), Some(Some(completion))) = (quiet.get_mut(queue), completion) {
                *head = Some(completion.tail());
            }
        }
        for submission in self.queues.submission.iter().flatten() {
            if !submission.is_empty() {
                if let Some(head) = quiet.get_mut(submission.completion_queue) {
                    *head = None;
                }
            }
        }
        quiet
    }

    /// Does the next part of a format, if one is under way, and completes it after the last part.
    fn serve_format<M: GuestMemory, S: Stores<M> + ?Sized>(
        &mut self,
        memory: &mut M,
        stores: &mut S,
    ) -> Work {
        // Without room, the guest's next doorbell is waited for.
        if !self.may_work() || !self.registers.running() || self.queues.admin_room() == 0 {
            return Work::Idle;
        }
        let Some(Formatting { cid, nsid, .. }) = self.formatting else {
            return Work::Idle;
        };
        let Some(outcome) = self.format_part(stores) else {
            return Work::More;
        };
        let status = outcome.err();
        if let Some(status) = status {
            let entry = ErrorEntry {
                queue: ADMIN as u16,
                cid,
                status: status.field(),
                nsid,
                lba: 0,
            };
            self.log_error(status, entry);
        }
        let mut posts = Posts::new();
        self.complete(ADMIN, cid, 0, status, &mut posts, memory);
        self.post(&mut posts, memory);
        Work::Idle
    }

    /// Whether memory may be accessed: a function that is not a bus master or not in D0 leaves memory alone until it is
    /// again. One that was shut down does so until a reset: the memory of its queues may have another owner.
    pub(crate) fn may_work(&self) -> bool {
        self.may_access_memory && !self.registers.is_shut_down()
    }

    /// Does all of [`Self::serve`] but for formats.
    fn serve_queues<M: GuestMemory, S: Stores<M> + ?Sized>(
        &mut self,
        link: &dyn Link<Self>,
        doorbells: &Doorbells,
        memory: &mut M,
        stores: &mut S,
        budget: u32,
    ) -> Work {
        let mut left = budget;

        // Doorbells that were written before the controller is ready are not for the queues to come.
        self.drain(doorbells);
        if self.in_flight.is_forgotten() {
            // What comes of commands that a reset has ended concerns nobody.
            self.take_done(memory, stores, u32::MAX);
        }
        // A command before the reset must not change what one after it has written.
        if self.registers.enabling() && self.in_flight.is_empty() {
            self.enable();
        }
        if self.registers.shutting_down() && !(self.may_work() && self.registers.running()) {
            // What comes of commands in flight cannot be told, and nothing is to wait for.
            self.take_done(memory, stores, u32::MAX);
        }
        if self.registers.shutting_down() && !self.in_flight.is_empty() {
            self.waiting = true;
        } else if self.registers.shutting_down() {
            if left == 0 {
                return Work::More;
            }
            left -= 1;
            self.shut_down(stores);
        }

        if !self.may_work() {
            return Work::Idle;
        }

        // Whether the event indexes are up to date, so that a guest rings for new commands.
        let mut published = false;
        loop {
            if !link.is_current() {
                return Work::More;
            }
            self.drain(doorbells);
            let heard = self.take_shadows(memory);
            self.deliver_events(memory);
            if !self.registers.running() {
                return Work::Idle;
            }
            left -= self.take_done(memory, stores, left);
            if self.registers.shutting_down() && self.in_flight.is_empty() {
                return Work::More;
            }

            if self.any_executable() {
                if left == 0 {
                    return Work::More;
                }
                let executed = self.execute_round(link, memory, stores, left, left == budget);
                left = left.saturating_sub(executed);
                // A guest with one command at a time gives no other command before this one completes.
                // A busy guest is cheaper to look after once more than to have it ring.
                published = executed <= 1 && !self.any_executable() && !self.may_poll(link);
                if published {
                    self.publish_event_indexes(memory);
                }
            } else if self.shadows.is_none() || published && !heard {
                // Stores may be done with more commands than the budget had room for.
                return match left {
                    0 if !self.in_flight.is_empty() => Work::More,
                    _ => Work::Idle,
                };
            } else if !published && self.may_poll(link) {
                // The time to look for more begins after the last command.
                return if left < budget {
                    Work::More
                } else {
                    Work::Poll
                };
            } else {
                if published {
                    // Without this, a guest could keep the loop going by ringing without commands.
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

    /// Number of commands of a queue that can be executed one after the other: their completions have room, and none
    /// has to wait for commands in flight.
    fn executable(&self, queue: usize) -> u32 {
        if self.waiting || self.no_room & 1 << queue != 0 {
            return 0;
        }
        self.queues.runnable(queue)
    }

    fn any_executable(&self) -> bool {
        (0..PAIRS).any(|queue| self.executable(queue) > 0)
    }

    /// Whether the shadow doorbells may be looked at again and again, rather than the guest be told to ring.
    fn may_poll(&self, link: &dyn Link<Self>) -> bool {
        self.shadows.is_some() && self.queues.has_io() && link.may_poll()
    }

    /// Completes a shutdown. Software waits for the end, and is told that the medium failed when it flushes next.
    fn shut_down<M, S: Stores<M> + ?Sized>(&mut self, stores: &mut S) {
        for index in 0..NAMESPACES_MAX {
            let store = stores.store(index);
            if store.is_some_and(|store| store.write_back().is_err()) {
                self.health.count_media_error();
            }
        }
        self.registers.csts = self.registers.csts.with_shutdown(ShutdownStatus::Complete);
        self.shut_down = true;
    }

    /// Takes the shadow doorbells, unless the controller has failed. Returns whether any has changed
    /// since the last time.
    fn take_shadows<M: GuestMemory>(&mut self, memory: &mut M) -> bool {
        let Some(shadows) = self.shadows.filter(|_| self.registers.running()) else {
            return false;
        };
        match shadows.take(&mut self.queues, memory) {
            Ok(taken) => {
                for _ in 0..taken.invalid {
                    self.raise_doorbell_error(Event::InvalidDoorbellValue);
                }
                taken.changed
            }
            Err(MemoryError) => {
                self.fail();
                false
            }
        }
    }

    /// Tells a guest with shadow doorbells when to ring the doorbells in the registers.
    fn publish_event_indexes<M: GuestMemory>(&mut self, memory: &mut M) {
        let Some(shadows) = self.shadows else {
            return;
        };
        if let Err(MemoryError) = shadows.publish(&self.queues, !self.msix_enabled, memory) {
            self.fail();
        }
    }

    /// Executes some commands of each queue, at most `budget` altogether, and returns how much of the
    /// budget they used up.
    ///
    /// The round goes on after the queue that was served last, so that no queue starves whatever the
    /// budget is. `first` says that no command was executed before in the call of the worker.
    fn execute_round<M: GuestMemory, S: Stores<M> + ?Sized>(
        &mut self,
        link: &dyn Link<Self>,
        memory: &mut M,
        stores: &mut S,
        budget: u32,
        first: bool,
    ) -> u32 {
        let mut executed = 0;
        for _ in 0..PAIRS {
            if executed == budget || !self.registers.running() || !link.is_current() {
                break;
            }
            let queue = self.next_queue;
            self.next_queue = (queue + 1) % PAIRS;
            let first = first && executed == 0;
            executed += self.execute_burst(queue, link, memory, stores, budget - executed, first);
        }
        executed
    }

    /// Executes commands of one queue, at most `budget`, and returns how much of the budget they used up.
    /// A command that can take long uses up all of it, and is executed only as the `first` one.
    fn execute_burst<M: GuestMemory, S: Stores<M> + ?Sized>(
        &mut self,
        queue: usize,
        link: &dyn Link<Self>,
        memory: &mut M,
        stores: &mut S,
        budget: u32,
        mut first: bool,
    ) -> u32 {
        // An admin command can take the room of the next one's completion for an event.
        let burst = if queue == ADMIN { 1 } else { BURST };
        let count = (self.executable(queue).min(budget) as usize).min(burst);
        let Some(Some(submission)) = self.queues.submission.get(queue) else {
            return 0;
        };
        if count == 0 {
            return 0;
        }

        let mut entries = [[0; ENTRY_SIZE]; BURST];
        let entries = &mut entries[..count];
        if memory
            .read_often(submission.address(), entries.as_flattened_mut())
            .is_err()
        {
            self.fail();
            return 0;
        }
        let commands = entries.iter().map(|entry| (entry, Command::decode(entry)));
        let mut of_any = |f: fn(&mut dyn ReadStraight<M>) -> bool| {
            (0..NAMESPACES_MAX).any(|index| stores.store(index).is_some_and(f))
        };
        let any_waits = queue != ADMIN && of_any(|store| store.has_to_wait());
        let any_concurrent = queue != ADMIN && of_any(|store| store.is_concurrent());
        if any_waits {
            // The first command is executed next anyway.
            for (_, command) in commands.clone().skip(1) {
                self.announce_read(&command, stores);
            }
        }
        let mut posts = Posts::new();
        let mut used = count as u32;
        // Commands that were fetched and not executed stay in their queue and are fetched anew.
        for (entry, command) in commands {
            if queue == ADMIN && Self::waits_for_commands(&command) && !self.in_flight.is_empty() {
                self.waiting = true;
                break;
            }
            if any_concurrent {
                match self.begin(queue, entry, memory, stores) {
                    Beginning::AtOnce => {}
                    Beginning::NoRoom => {
                        self.no_room |= 1 << queue;
                        break;
                    }
                    Beginning::UnderWay => {
                        self.advance(queue);
                        first = false;
                        // The commands behind it must not have an effect after a reset.
                        if !link.is_current() {
                            break;
                        }
                        continue;
                    }
                    Beginning::Failed(status) => {
                        self.advance(queue);
                        self.log_failure(queue, &command, status);
                        self.complete(queue, command.cid, 0, Some(status), &mut posts, memory);
                        first = false;
                        if !link.is_current() {
                            break;
                        }
                        continue;
                    }
                }
            }
            let long = queue != ADMIN && self.takes_long(&command, stores, any_waits);
            if long && !first {
                self.next_queue = queue;
                used = budget;
                break;
            }
            self.execute(queue, &command, memory, stores, &mut posts);
            first = false;
            if long {
                used = budget;
                break;
            }
            // The commands behind it must not have an effect after a reset.
            if !link.is_current() {
                break;
            }
        }
        self.post(&mut posts, memory);
        used
    }

    /// Executes a command and completes it.
    fn execute<M: GuestMemory, S: Stores<M> + ?Sized>(
        &mut self,
        queue: usize,
        command: &Command,
        memory: &mut M,
        stores: &mut S,
        posts: &mut Posts,
    ) {
        self.advance(queue);

        let outcome = if queue == ADMIN {
            let outcome = self.execute_admin(command, memory, stores);
            // A host that sees an abort complete looks for the aborted command.
            self.complete_aborted(1, memory);
            outcome
        } else {
            self.execute_io(command, memory, stores).map(|()| Some(0))
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

    /// Takes the oldest command of a queue away.
    fn advance(&mut self, queue: usize) {
        if let Some(Some(submission)) = self.queues.submission.get_mut(queue) {
            submission.advance();
        }
    }

    /// Adds a command that failed to the error log, if its status is logged.
    pub(crate) fn log_failure(&mut self, queue: usize, command: &Command, status: Status) {
        let has_slba =
            queue != ADMIN && NvmOpcode::decode(command.opcode).is_some_and(NvmOpcode::has_slba);
        let entry = ErrorEntry {
            queue: queue as u16,
            cid: command.cid,
            status: status.field(),
            nsid: command.nsid,
            lba: if has_slba { command.slba() } else { 0 },
        };
        self.log_error(status, entry);
    }

    /// Counts an error of the medium, and adds an error to the log if its status is logged.
    fn log_error(&mut self, status: Status, entry: ErrorEntry) {
        if status.is_medium_error() {
            self.health.count_media_error();
        }
        if status.is_logged() {
            self.errors.add(entry);
        }
    }

    /// Completes requests for events with the events that wait, as far as the completions have room.
    fn deliver_events<M: GuestMemory>(&mut self, memory: &mut M) {
        self.complete_aborted(0, memory);

        let mut posts = Posts::new();
        while self.registers.running() && self.queues.admin_room() > 0 {
            let Some((cid, result)) = self.events.answer() else {
                return;
            };
            self.complete(ADMIN, cid, result, None, &mut posts, memory);
            self.post(&mut posts, memory);
        }
    }

    /// Completes requests for events that were aborted, and leaves room for `more` completions.
    fn complete_aborted<M: GuestMemory>(&mut self, more: u32, memory: &mut M) {
        let mut posts = Posts::new();
        while self.registers.running() && self.queues.admin_room() > more {
            let Some(cid) = self.events.take_aborted() else {
                return;
            };
            let status = Some(Status::ABORT_REQUESTED);
            self.complete(ADMIN, cid, 0, status, &mut posts, memory);
            self.post(&mut posts, memory);
        }
    }

    /// Completes a command of submission queue `queue`. The completion queue has room.
    pub(crate) fn complete<M: GuestMemory>(
        &mut self,
        queue: usize,
        cid: u16,
        result: u32,
        status: Option<Status>,
        posts: &mut Posts,
        memory: &mut M,
    ) {
        let Some(Some(submission)) = self.queues.submission.get(queue) else {
            return;
        };
        let Some(Some(completion)) = self.queues.completion.get_mut(submission.completion_queue)
        else {
            return;
        };

        let entry = CompletionEntry {
            result,
            // Positions in a queue, and numbers of queues, have 16 bits.
            sqhd: submission.head() as u16,
            sqid: queue as u16,
            cid,
            phase: completion.phase(),
            status: status.map_or(0, Status::field),
        };
        let address = completion.address();
        completion.advance();
        let wrapped = completion.at_start();
        let vector = completion.vector;
        if let Some(vector) = vector {
            self.announce(queue, vector);
        }
        if !posts.is_followed_by(address) {
            self.post(posts, memory);
        }
        posts.add(address, entry.encode());
        if wrapped {
            self.post(posts, memory);
        }
    }

    /// Announces a completion of a submission queue by a vector, now or together with others.
    fn announce(&mut self, queue: usize, vector: u16) {
        // The pin is level-triggered, and coalescing is for I/O queues.
        let threshold = self
            .features
            .coalescing_threshold(vector)
            .filter(|_| queue != ADMIN && self.msix_enabled && self.may_hold_back);
        if threshold.is_none_or(|threshold| self.held_back.add(vector, threshold)) {
            self.held_back.take_vector(vector);
            self.raised |= 1 << vector;
        }
    }

    /// Writes completions to the guest's memory.
    ///
    /// A guest may see the bytes of one write in any order, and takes a completion for valid as soon as it
    /// sees the phase tag. The guest takes completions in order. So the first completion is written with
    /// the wrong phase tag, together with those behind it, and its phase tag is written last.
    pub(crate) fn post<M: GuestMemory>(&mut self, posts: &mut Posts, memory: &mut M) {
        let entries = &mut posts.entries[..posts.count];
        let Some(first) = entries.first_mut() else {
            return;
        };
        first[PHASE_BYTE] ^= PHASE_BIT;
        let mut last = [0; LAST_DWORD_SIZE];
        last.copy_from_slice(&first[LAST_DWORD..]);
        last[PHASE_BYTE - LAST_DWORD] ^= PHASE_BIT;

        let posted = memory
            .write_often(posts.address, entries.as_flattened())
            .and_then(|()| {
                memory.write_often(posts.address.wrapping_add(LAST_DWORD as u64), &last)
            });
        if posted.is_err() {
            self.fail();
        }
        posts.count = 0;
    }
}

/// Completions that follow each other in their queue. They are written at once, as an access of the
/// guest's memory costs much more than its bytes.
pub(crate) struct Posts {
    /// Bus address of the first entry.
    address: u64,
    entries: [[u8; completion::ENTRY_SIZE]; BURST],
    count: usize,
}

impl Posts {
    pub(crate) fn new() -> Self {
        Self {
            address: 0,
            entries: [[0; completion::ENTRY_SIZE]; BURST],
            count: 0,
        }
    }

    /// Whether a completion at `address` can be added.
    fn is_followed_by(&self, address: u64) -> bool {
        let behind = (self.count * completion::ENTRY_SIZE) as u64;
        self.count == 0
            || self.count < self.entries.len() && self.address.wrapping_add(behind) == address
    }

    /// Adds a completion, which [follows](Self::is_followed_by) the others.
    fn add(&mut self, address: u64, entry: [u8; completion::ENTRY_SIZE]) {
        if self.count == 0 {
            self.address = address;
        }
        if let Some(slot) = self.entries.get_mut(self.count) {
            *slot = entry;
            self.count += 1;
        }
    }
}
