// SPDX-License-Identifier: GPL-2.0

//! Commands that stores execute while the controller goes on.
//!
//! Such a command has left its submission queue, and its completion queue keeps room for it. No state has any: the
//! controller stops when all are done.

use device_model::Tag;

use crate::spec::command::Command;

/// The most commands in flight.
const TAGS: usize = u64::BITS as usize;

/// A command in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    /// Its submission queue, which exists as long.
    pub(crate) queue: usize,
    pub(crate) command: Command,
}

/// The commands in flight.
///
/// # Invariants
///
/// There is a command for a tag only if the tag is used. Without one, a reset has ended the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InFlight {
    used: u64,
    commands: [Option<Pending>; TAGS],
}

impl InFlight {
    /// Returns no commands.
    pub(crate) const fn new() -> Self {
        Self {
            used: 0,
            commands: [None; TAGS],
        }
    }

    /// Whether no store executes anything, also nothing that a reset has ended.
    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Whether stores execute something, and all of it was ended by a reset.
    pub(crate) fn is_forgotten(&self) -> bool {
        !self.is_empty() && self.commands.iter().all(Option::is_none)
    }

    /// Returns a tag for another command, if there is one.
    pub(crate) fn vacant(&self) -> Option<Tag> {
        let tag = self.used.trailing_ones();
        // There are 64 tags.
        (tag < u64::BITS).then_some(Tag(tag as u16))
    }

    /// Adds a command, under a tag that was [vacant](Self::vacant).
    pub(crate) fn add(&mut self, Tag(tag): Tag, pending: Pending) {
        if let Some(slot) = self.commands.get_mut(usize::from(tag)) {
            self.used |= 1 << tag;
            *slot = Some(pending);
        }
    }

    /// Takes a command away that is done, unless a reset has ended it.
    pub(crate) fn take(&mut self, Tag(tag): Tag) -> Option<Pending> {
        let slot = self.commands.get_mut(usize::from(tag))?;
        self.used &= !(1 << tag);
        slot.take()
    }

    /// Ends all commands: nothing comes of them any more. Their tags stay used until stores are done with them.
    pub(crate) fn forget(&mut self) {
        self.commands.fill(None);
    }
}
