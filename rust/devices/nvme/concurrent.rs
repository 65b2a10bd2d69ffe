// SPDX-License-Identifier: GPL-2.0

//! Commands that stores execute while the controller goes on with others.
//!
//! Reads, writes and flushes are begun when they are fetched and completed when the store is done with them, in any
//! order: section 4.1.1 has commands in flight be independent of each other. The others are executed at once.

use device_model::{
    BackendError,
    Begun,
    Done,
    GuestMemory,
    Request,
    Stores, //
};

use crate::executor::Executor;
use crate::in_flight::Pending;
use crate::io::failure;
use crate::parameters::NAMESPACES_MAX;
use crate::prp::Prp;
use crate::queues::ADMIN;
use crate::spec::command::{
    Command,
    ENTRY_SIZE,
    FUA, //
};
use crate::spec::opcode::{
    AdminOpcode,
    NvmOpcode, //
};
use crate::spec::status::Status;
use crate::worker::Posts;

/// What came of beginning a command.
pub(crate) enum Beginning {
    /// A store executes it.
    UnderWay,
    /// It stays in its queue until another command is done.
    NoRoom,
    /// It has completed with this status.
    Failed(Status),
    /// It is to be executed at once.
    AtOnce,
}

impl Executor {
    /// Begins the command that I/O queue `queue` has in `entry`, if its store executes it while the controller goes on.
    pub(crate) fn begin<M: GuestMemory, S: Stores<M> + ?Sized>(
        &mut self,
        queue: usize,
        entry: &[u8; ENTRY_SIZE],
        memory: &mut M,
        stores: &mut S,
    ) -> Beginning {
        let command = &Command::decode(entry);
        let Some(opcode @ (NvmOpcode::Read | NvmOpcode::Write | NvmOpcode::Flush)) =
            NvmOpcode::decode(command.opcode)
        else {
            return Beginning::AtOnce;
        };
        // What a read of the medium, or of marked blocks, takes is done at once; a flush of all namespaces is, too.
        let unit_access = command.cdw12() & FUA != 0;
        let Some(namespace) = self
            .namespace(command.nsid)
            .filter(|namespace| !namespace.state.marked)
            .filter(|_| opcode != NvmOpcode::Read || !unit_access)
        else {
            return Beginning::AtOnce;
        };
        let Some(backend) = stores
            .store(namespace.index)
            .filter(|store| store.is_concurrent())
        else {
            return Beginning::AtOnce;
        };
        if !self.in_flight.has_room() {
            return Beginning::NoRoom;
        }
        let tag = &self.in_flight.tag(queue, entry);

        let mut list = None;
        let ready = command
            .check_flags()
            .and_then(|()| self.check_not_formatting(command.nsid));
        let begun = match (ready, opcode) {
            (Err(status), _) => Err(status),
            (Ok(()), NvmOpcode::Flush) => backend
                .begin(tag, Request::Flush)
                .map_err(|error| failure(error, None, Status::WRITE_FAULT)),
            (Ok(()), _) => self
                .transfer(command, &namespace, &mut list)
                .and_then(|transfer| {
                    let (extent, len, mut prp) = transfer;
                    let begun = match opcode {
                        NvmOpcode::Read => backend.begin(
                            tag,
                            Request::Read {
                                offset: extent.offset,
                                len,
                            },
                        ),
                        _ => backend.begin(
                            tag,
                            Request::Write {
                                offset: extent.offset,
                                len,
                                durable: unit_access || !self.features.write_cache,
                                source: &mut |bytes| prp.read(memory, bytes),
                            },
                        ),
                    };
                    self.health.count_data_written(prp.moved());
                    begun.map_err(|error| failure(error, Some(&prp), medium_error(opcode)))
                }),
        };
        if begun == Ok(Begun::NoRoom) {
            return Beginning::NoRoom;
        }
        self.count(opcode);
        match begun {
            Ok(_) => {
                self.in_flight.add();
                self.queues.reserve(queue);
                Beginning::UnderWay
            }
            Err(status) => Beginning::Failed(status),
        }
    }

    /// Whether an admin command waits until no command is in flight: it takes away what these need.
    pub(crate) fn waits_for_commands(command: &Command) -> bool {
        matches!(
            AdminOpcode::decode(command.opcode),
            Some(
                AdminOpcode::DeleteSubmissionQueue
                    | AdminOpcode::SetFeatures
                    | AdminOpcode::FormatNvm
            )
        )
    }

    /// Completes commands that stores are done with, at most `most`. Returns their number.
    pub(crate) fn take_done<M: GuestMemory, S: Stores<M> + ?Sized>(
        &mut self,
        memory: &mut M,
        stores: &mut S,
        most: u32,
    ) -> u32 {
        if self.in_flight.is_empty() {
            return 0;
        }
        let mut posts = Posts::new();
        let mut taken = 0;
        for index in 0..NAMESPACES_MAX {
            let Some(store) = stores.store(index) else {
                continue;
            };
            while taken < most && store.take_done(&mut |done| self.finish(done, &mut posts, memory))
            {
                taken += 1;
            }
        }
        self.post(&mut posts, memory);
        if self.in_flight.is_empty() && core::mem::take(&mut self.waiting) {
            // What waited comes first, before I/O queues have commands in flight again.
            self.next_queue = ADMIN;
        }
        taken
    }

    /// Completes a command that a store is done with. Returns whether the guest is told the result.
    fn finish<M: GuestMemory>(
        &mut self,
        done: Done<'_>,
        posts: &mut Posts,
        memory: &mut M,
    ) -> bool {
        self.no_room = 0;
        let Some(Pending { queue, command }) = self.in_flight.take(done.tag) else {
            return false;
        };
        self.queues.release(queue);
        if !self.may_work() {
            // Its queues cannot be accessed any more.
            self.fail();
        }
        if !self.registers.running() {
            return false;
        }

        match self.deliver(&command, done.result, memory) {
            Ok(()) => self.complete(queue, command.cid, 0, None, posts, memory),
            Err(status) => {
                self.log_failure(queue, &command, status);
                self.complete(queue, command.cid, 0, Some(status), posts, memory);
            }
        }
        true
    }

    /// Gives the bytes of a read to the guest.
    fn deliver<M: GuestMemory>(
        &mut self,
        command: &Command,
        result: Result<&[u8], BackendError>,
        memory: &mut M,
    ) -> Result<(), Status> {
        let opcode = NvmOpcode::decode(command.opcode).ok_or(Status::INTERNAL)?;
        let bytes = result.map_err(|error| failure(error, None, medium_error(opcode)))?;
        if opcode != NvmOpcode::Read {
            return Ok(());
        }
        let mut list = None;
        let page_shift = self.registers.page_shift();
        let mut prp = Prp::new(command, bytes.len(), page_shift, &mut list)?;
        let written = prp.write(memory, bytes);
        self.health.count_data_read(prp.moved());
        written.map_err(|_| prp.failure())
    }

    /// Waits until no command is in flight, and completes those that were. Returns whether none is: a thread that has to
    /// end does not wait.
    pub fn drain_commands<M: GuestMemory, S: Stores<M> + ?Sized>(
        &mut self,
        memory: &mut M,
        stores: &mut S,
    ) -> bool {
        for index in 0..NAMESPACES_MAX {
            while stores
                .store(index)
                .is_some_and(|store| store.is_concurrent() && store.await_done())
            {
                self.take_done(memory, stores, u32::MAX);
            }
        }
        self.in_flight.is_empty()
    }
}

/// The status of a command whose medium failed.
fn medium_error(opcode: NvmOpcode) -> Status {
    match opcode {
        NvmOpcode::Read => Status::READ_ERROR,
        _ => Status::WRITE_FAULT,
    }
}
