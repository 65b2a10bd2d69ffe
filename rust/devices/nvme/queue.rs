// SPDX-License-Identifier: GPL-2.0

//! Rings in the guest's memory, section 4.1.

use crate::registers::{
    CQES,
    SQES, //
};

/// The positions of a ring of `entries` entries, of which at most `entries - 1` are occupied.
///
/// # Invariants
///
/// `head` and `tail` are less than `entries`, which is at least 2 and at most 65536.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ring {
    base: u64,
    entries: u32,
    head: u32,
    tail: u32,
}

impl Ring {
    fn new(base: u64, entries: u32) -> Self {
        Self {
            base,
            entries: entries.clamp(2, 1 << u16::BITS),
            head: 0,
            tail: 0,
        }
    }

    /// How far `to` is ahead of `from`.
    fn distance(&self, from: u32, to: u32) -> u32 {
        if to >= from {
            to - from
        } else {
            self.entries - (from - to)
        }
    }

    /// The position after `position`.
    fn after(&self, position: u32) -> u32 {
        if position + 1 == self.entries {
            0
        } else {
            position + 1
        }
    }

    fn occupied(&self) -> u32 {
        self.distance(self.head, self.tail)
    }

    fn free(&self) -> u32 {
        self.entries - 1 - self.occupied()
    }

    /// Bus address of an entry of 2 to the power of `shift` bytes. The guest may give a base from
    /// which on there is no room for the ring; its memory refuses such an access.
    fn address(&self, position: u32, shift: u32) -> u64 {
        self.base.wrapping_add(u64::from(position) << shift)
    }
}

/// A submission queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SubmissionQueue {
    ring: Ring,
    /// The queue that its completions go to.
    pub(crate) completion_queue: usize,
    /// What the shadow doorbell had when it was looked at last.
    pub(crate) shadow: u32,
}

/// A completion queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CompletionQueue {
    ring: Ring,
    /// The phase of the entries that are written until the tail is at the beginning again.
    phase: bool,
    /// The interrupt vector, if completions interrupt.
    pub(crate) vector: Option<u16>,
    /// What the shadow doorbell had when it was looked at last.
    pub(crate) shadow: u32,
}

/// A doorbell was written with a value that its queue cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidValue;

/// Numbers of a queue that a state contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Positions {
    /// Bus address.
    pub(crate) base: u64,
    /// Number of entries.
    pub(crate) entries: u32,
    /// Position of the oldest entry.
    pub(crate) head: u32,
    /// Position of the next entry.
    pub(crate) tail: u32,
}

impl SubmissionQueue {
    /// Returns an empty queue at `base` with `entries` entries.
    pub(crate) fn new(base: u64, entries: u32, completion_queue: usize) -> Self {
        Self {
            ring: Ring::new(base, entries),
            completion_queue,
            shadow: 0,
        }
    }

    /// Number of commands that can be fetched at once: up to the end of the ring's memory.
    pub(crate) fn contiguous(&self) -> u32 {
        let end = self.ring.entries - self.ring.head;
        self.ring.occupied().min(end)
    }

    /// Whether there is nothing to fetch.
    pub(crate) fn is_empty(&self) -> bool {
        self.ring.head == self.ring.tail
    }

    /// Bus address of the oldest command.
    pub(crate) fn address(&self) -> u64 {
        self.ring.address(self.ring.head, SQES)
    }

    /// Takes the oldest command away.
    pub(crate) fn advance(&mut self) {
        self.ring.head = self.ring.after(self.ring.head);
    }

    /// Position of the oldest command.
    pub(crate) fn head(&self) -> u32 {
        self.ring.head
    }

    /// Position behind the newest command.
    pub(crate) fn tail(&self) -> u32 {
        self.ring.tail
    }

    /// Moves the tail: there are more commands.
    pub(crate) fn set_tail(&mut self, tail: u32) -> Result<(), InvalidValue> {
        let added_fit = tail < self.ring.entries
            && self.ring.distance(self.ring.tail, tail) <= self.ring.free();
        if !added_fit {
            return Err(InvalidValue);
        }
        self.ring.tail = tail;
        Ok(())
    }

    /// What a state contains of it.
    pub(crate) fn positions(&self) -> Positions {
        self.ring.positions()
    }

    /// Returns the queue that was saved, if there can be one.
    pub(crate) fn restore(
        positions: &Positions,
        completion_queue: usize,
        shadow: u32,
    ) -> Option<Self> {
        Some(Self {
            ring: Ring::restore(positions)?,
            completion_queue,
            shadow,
        })
    }
}

impl CompletionQueue {
    /// Returns an empty queue at `base` with `entries` entries.
    pub(crate) fn new(base: u64, entries: u32, vector: Option<u16>) -> Self {
        Self {
            ring: Ring::new(base, entries),
            // The guest's memory has zeros at first.
            phase: true,
            vector,
            shadow: 0,
        }
    }

    /// Number of completions that there is room for.
    pub(crate) fn room(&self) -> u32 {
        self.ring.free()
    }

    /// Whether there is nothing that the guest has not consumed.
    pub(crate) fn is_empty(&self) -> bool {
        self.ring.head == self.ring.tail
    }

    /// Bus address of the next completion.
    pub(crate) fn address(&self) -> u64 {
        self.ring.address(self.ring.tail, CQES)
    }

    /// The phase of the next completion.
    pub(crate) fn phase(&self) -> bool {
        self.phase
    }

    /// Counts a completion that was written.
    pub(crate) fn advance(&mut self) {
        self.ring.tail = self.ring.after(self.ring.tail);
        if self.at_start() {
            self.phase = !self.phase;
        }
    }

    /// Whether the next completion goes to the beginning of the ring's memory.
    pub(crate) fn at_start(&self) -> bool {
        self.ring.tail == 0
    }

    /// Position of the oldest completion that the guest has not consumed, as far as is known.
    pub(crate) fn head(&self) -> u32 {
        self.ring.head
    }

    /// The position that the head reaches last.
    pub(crate) fn before_head(&self) -> u32 {
        match self.ring.head {
            0 => self.ring.entries - 1,
            head => head - 1,
        }
    }

    /// Moves the head: the guest consumed completions.
    pub(crate) fn set_head(&mut self, head: u32) -> Result<(), InvalidValue> {
        let consumed_exist = head < self.ring.entries
            && self.ring.distance(self.ring.head, head) <= self.ring.occupied();
        if !consumed_exist {
            return Err(InvalidValue);
        }
        self.ring.head = head;
        Ok(())
    }

    /// What a state contains of it.
    pub(crate) fn positions(&self) -> Positions {
        self.ring.positions()
    }

    /// Returns the queue that was saved, if there can be one.
    pub(crate) fn restore(
        positions: &Positions,
        phase: bool,
        vector: Option<u16>,
        shadow: u32,
    ) -> Option<Self> {
        Some(Self {
            ring: Ring::restore(positions)?,
            phase,
            vector,
            shadow,
        })
    }
}

impl Ring {
    fn positions(&self) -> Positions {
        Positions {
            base: self.base,
            entries: self.entries,
            head: self.head,
            tail: self.tail,
        }
    }

    fn restore(positions: &Positions) -> Option<Self> {
        let Positions {
            base,
            entries,
            head,
            tail,
        } = *positions;
        let possible = (2..=1 << u16::BITS).contains(&entries) && head < entries && tail < entries;
        possible.then_some(Self {
            base,
            entries,
            head,
            tail,
        })
    }
}
