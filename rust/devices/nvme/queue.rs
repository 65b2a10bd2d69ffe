// SPDX-License-Identifier: GPL-2.0

//! Submission and completion queues, section 4.1: rings in the guest's memory.

use device_model::saved_state::{
    StateError,
    StateReader,
    StateWriter, //
};

use crate::spec::command::SQES;
use crate::spec::completion::CQES;

/// Bytes of a saved queue, of either kind.
pub(crate) const STATE_SIZE: usize = 32;

/// Flags of a saved queue: the queue exists.
const EXISTS: u8 = 1 << 0;
/// Flags of a saved completion queue: completions interrupt.
const INTERRUPTS: u8 = 1 << 1;
/// Flags of a saved completion queue: phase tag of the next completion.
const PHASE: u8 = 1 << 2;

/// The positions of a ring of `entries` entries; at most `entries - 1` of them are occupied.
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

    /// Number of entries from `from` to `to`, forward.
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

    /// Bus address of an entry of 2 to the power of `shift` bytes. The guest may give a base that leaves
    /// no room for the ring; its memory refuses such an access.
    fn address(&self, position: u32, shift: u32) -> u64 {
        self.base.wrapping_add(u64::from(position) << shift)
    }
}

/// A submission queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SubmissionQueue {
    ring: Ring,
    /// The completion queue (`cqid`).
    pub(crate) completion_queue: usize,
    /// The value of the shadow doorbell when it was read last.
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
    /// The value of the shadow doorbell when it was read last.
    pub(crate) shadow: u32,
    /// Entries that commands in flight will take.
    reserved: u32,
}

/// A doorbell was written with a value that its queue cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidValue;

/// A submission queue as it was saved. Nothing about it was checked.
pub(crate) struct SavedSubmission {
    ring: Ring,
    shadow: u32,
    completion_queue: usize,
}

/// A completion queue as it was saved. Nothing about it was checked.
pub(crate) struct SavedCompletion {
    ring: Ring,
    shadow: u32,
    vector: u16,
    interrupts: bool,
    phase: bool,
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

    /// Whether there is no command to fetch.
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

    /// Position of the oldest command (`sqhd`).
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

    /// Bus address of the ring.
    pub(crate) fn base(&self) -> u64 {
        self.ring.base
    }

    /// Entries of the ring.
    pub(crate) fn entries(&self) -> u32 {
        self.ring.entries
    }

    /// Saves a queue, or zeros if it does not exist.
    pub(crate) fn save(queue: Option<&Self>, state: &mut StateWriter<'_>) {
        let Some(queue) = queue else {
            return state.reserved::<STATE_SIZE>();
        };
        queue.ring.save(state);
        state.u32(queue.shadow);
        // There are 17 queues.
        state.u16(queue.completion_queue as u16);
        state.u8(EXISTS);
        state.reserved::<5>();
    }

    /// Loads what [`Self::save`] saved; [`None`] is a queue that does not exist.
    pub(crate) fn load(state: &mut StateReader<'_>) -> Result<Option<SavedSubmission>, StateError> {
        let ring = Ring::load(state)?;
        let shadow = state.u32()?;
        let completion_queue = state.u16()?.into();
        let flags = state.u8_of("queue flags", EXISTS)?;
        state.reserved::<5>()?;
        Ok((flags & EXISTS != 0).then_some(SavedSubmission {
            ring,
            shadow,
            completion_queue,
        }))
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
            reserved: 0,
        }
    }

    /// Number of completions that fit, besides those of the commands in flight.
    pub(crate) fn room(&self) -> u32 {
        self.ring.free().saturating_sub(self.reserved)
    }

    /// Keeps room for the completion of a command in flight.
    pub(crate) fn reserve(&mut self) {
        self.reserved += 1;
    }

    /// Undoes one [`Self::reserve`]: the command completes.
    pub(crate) fn release(&mut self) {
        self.reserved = self.reserved.saturating_sub(1);
    }

    /// Whether the guest has consumed every completion.
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

    /// Position behind the newest completion.
    pub(crate) fn tail(&self) -> u32 {
        self.ring.tail
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

    /// Bus address of the ring.
    pub(crate) fn base(&self) -> u64 {
        self.ring.base
    }

    /// Entries of the ring.
    pub(crate) fn entries(&self) -> u32 {
        self.ring.entries
    }

    /// Saves a queue, or zeros if it does not exist.
    pub(crate) fn save(queue: Option<&Self>, state: &mut StateWriter<'_>) {
        let Some(queue) = queue else {
            return state.reserved::<STATE_SIZE>();
        };
        let mut flags = EXISTS;
        if queue.vector.is_some() {
            flags |= INTERRUPTS;
        }
        if queue.phase {
            flags |= PHASE;
        }
        queue.ring.save(state);
        state.u32(queue.shadow);
        state.u16(queue.vector.unwrap_or(0));
        state.u8(flags);
        state.reserved::<5>();
    }

    /// Loads what [`Self::save`] saved; [`None`] is a queue that does not exist.
    pub(crate) fn load(state: &mut StateReader<'_>) -> Result<Option<SavedCompletion>, StateError> {
        let ring = Ring::load(state)?;
        let shadow = state.u32()?;
        let vector = state.u16()?;
        let flags = state.u8_of("queue flags", EXISTS | INTERRUPTS | PHASE)?;
        state.reserved::<5>()?;
        Ok((flags & EXISTS != 0).then_some(SavedCompletion {
            ring,
            shadow,
            vector,
            interrupts: flags & INTERRUPTS != 0,
            phase: flags & PHASE != 0,
        }))
    }
}

impl SavedSubmission {
    /// Bus address of the ring.
    pub(crate) fn base(&self) -> u64 {
        self.ring.base
    }

    /// Entries of the ring.
    pub(crate) fn entries(&self) -> u32 {
        self.ring.entries
    }

    /// Returns the queue, if its ring is possible.
    pub(crate) fn check(self) -> Option<SubmissionQueue> {
        Some(SubmissionQueue {
            ring: self.ring.check()?,
            completion_queue: self.completion_queue,
            shadow: self.shadow,
        })
    }
}

impl SavedCompletion {
    /// Bus address of the ring.
    pub(crate) fn base(&self) -> u64 {
        self.ring.base
    }

    /// Entries of the ring.
    pub(crate) fn entries(&self) -> u32 {
        self.ring.entries
    }

    /// Returns the queue, if its ring is possible and its vector, if any, is less than `vectors`.
    pub(crate) fn check(self, vectors: u32) -> Option<CompletionQueue> {
        if u32::from(self.vector) >= vectors {
            return None;
        }
        Some(CompletionQueue {
            ring: self.ring.check()?,
            phase: self.phase,
            vector: self.interrupts.then_some(self.vector),
            shadow: self.shadow,
            reserved: 0,
        })
    }
}

impl Ring {
    fn save(&self, state: &mut StateWriter<'_>) {
        state.u64(self.base);
        state.u32(self.entries);
        state.u32(self.head);
        state.u32(self.tail);
    }

    /// Loads a ring whose invariants [`Self::check`] checks.
    fn load(state: &mut StateReader<'_>) -> Result<Self, StateError> {
        Ok(Self {
            base: state.u64()?,
            entries: state.u32()?,
            head: state.u32()?,
            tail: state.u32()?,
        })
    }

    fn check(self) -> Option<Self> {
        let possible = (2..=1 << u16::BITS).contains(&self.entries)
            && self.head < self.entries
            && self.tail < self.entries;
        possible.then_some(self)
    }
}
