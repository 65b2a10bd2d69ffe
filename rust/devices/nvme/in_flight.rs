// SPDX-License-Identifier: GPL-2.0

//! Commands that stores execute while the controller goes on.
//!
//! Such a command has left its submission queue, and its completion queue keeps room for it. The store keeps the command
//! and gives it back. No state has any: the controller stops when all are done.

use device_model::{
    Tag,
    CONTEXT_SIZE, //
};

use crate::spec::command::{
    Command,
    ENTRY_SIZE, //
};

/// The most commands in flight.
const COMMANDS_MAX: u32 = 64;

/// A command in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    /// Its submission queue, which exists as long.
    pub(crate) queue: usize,
    pub(crate) command: Command,
}

/// The number of commands in flight.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InFlight {
    /// All that stores execute.
    total: u32,
    /// Those that no reset has ended.
    current: u32,
    /// The number of resets before the commands that no reset has ended.
    generation: u32,
}

impl InFlight {
    /// Whether no store executes anything, also nothing that a reset has ended.
    pub(crate) fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Whether stores execute something, and all of it was ended by a reset.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.total > 0 && self.current == 0
    }

    /// Whether another command may be begun.
    pub(crate) fn has_room(&self) -> bool {
        self.total < COMMANDS_MAX
    }

    /// Returns the name for a store of the command that submission queue `queue` has in `entry`.
    pub(crate) fn tag(&self, queue: usize, entry: &[u8; ENTRY_SIZE]) -> Tag {
        const {
            assert!(ENTRY_SIZE == CONTEXT_SIZE);
        }
        Tag {
            generation: self.generation,
            // There are 17 queues.
            queue: queue as u16,
            context: *entry,
        }
    }

    /// Counts a command that a store executes.
    pub(crate) fn add(&mut self) {
        self.total += 1;
        self.current += 1;
    }

    /// Counts a command that is done, and returns it unless a reset has ended it.
    pub(crate) fn take(&mut self, tag: &Tag) -> Option<Pending> {
        self.total = self.total.saturating_sub(1);
        if tag.generation != self.generation {
            return None;
        }
        self.current = self.current.saturating_sub(1);
        Some(Pending {
            queue: tag.queue.into(),
            command: Command::decode(&tag.context),
        })
    }

    /// Ends all commands: nothing comes of them any more.
    pub(crate) fn forget(&mut self) {
        self.current = 0;
        self.generation = self.generation.wrapping_add(1);
    }
}
