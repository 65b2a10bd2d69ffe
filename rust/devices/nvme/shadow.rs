// SPDX-License-Identifier: GPL-2.0

//! Shadow doorbells and event indexes: Doorbell Buffer Config, sections 5.7 and 7.13.
//!
//! A guest writes the doorbells of its I/O queues to a page of its memory, and to the registers only
//! if the value passes the event index that the controller wrote to a second page. The controller
//! looks at the first page while it works anyway, and moves an event index to where it wants to be
//! called:
//!
//! - for a submission queue, to its tail when everything was fetched;
//! - for a completion queue, to its head while commands wait for its room, or while the interrupt pin
//!   is used, which has to go down in time; else to where the guest comes last.
//!
//! The doorbells of the admin queue stay registers, as in SPDK and as Linux has it, which gives the
//! pages to others when its I/O queues are gone: without I/O queues nobody looks at them.

use core::sync::atomic::{
    fence,
    Ordering, //
};

use crate::controller::Controller;
use crate::doorbells::{
    COUNT,
    PAIRS, //
};
use crate::events::Event;
use crate::memory::{
    GuestMemory,
    MemoryError, //
};
use crate::queue::InvalidValue;
use crate::registers::DOORBELL_SIZE;
use crate::worker::{
    position,
    ADMIN, //
};

/// Bytes of a doorbell.
const SIZE: usize = DOORBELL_SIZE as usize;

/// Where a guest has its shadow doorbells and event indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shadows {
    /// Bus address of the page with doorbells.
    pub(crate) doorbells: u64,
    /// Bus address of the page with event indexes.
    pub(crate) event_indexes: u64,
}

/// Doorbells of all queues or their event indexes, as a guest has them in memory.
type Buffer = [[u8; SIZE]; COUNT];

impl Controller {
    /// Whether the guest has shadow doorbells.
    pub(crate) fn has_shadows(&self) -> bool {
        self.shadows.is_some()
    }

    /// Takes the shadow doorbells, unless the controller has failed. Returns whether any has changed
    /// since the last time.
    pub(crate) fn take_shadows<M: GuestMemory>(&mut self, memory: &mut M) -> bool {
        if !self.registers.running() {
            return false;
        }
        let Some(shadows) = self.shadows else {
            return false;
        };
        let Some(used) = self.used_doorbells() else {
            return false;
        };

        let mut buffer: Buffer = [[0; SIZE]; COUNT];
        let doorbells = &mut buffer[FIRST_IO..used];
        if memory
            .read(
                shadows.doorbells.wrapping_add(FIRST_IO_OFFSET),
                doorbells.as_flattened_mut(),
            )
            .is_err()
        {
            self.fail();
            return false;
        }
        // The commands that a tail tells of are read after it.
        fence(Ordering::Acquire);

        let mut changed = false;
        for queue in IO_QUEUES {
            changed |= self.take_submission_shadow(queue, u32::from_le_bytes(buffer[2 * queue]));
            changed |=
                self.take_completion_shadow(queue, u32::from_le_bytes(buffer[2 * queue + 1]));
        }
        changed
    }

    fn take_submission_shadow(&mut self, queue: usize, value: u32) -> bool {
        let Some(submission) = &mut self.submission[queue] else {
            return false;
        };
        if submission.shadow == value {
            return false;
        }
        submission.shadow = value;
        if let Err(InvalidValue) = submission.set_tail(position(value)) {
            self.raise_doorbell_error(Event::InvalidDoorbellValue);
        }
        true
    }

    fn take_completion_shadow(&mut self, queue: usize, value: u32) -> bool {
        let Some(completion) = &mut self.completion[queue] else {
            return false;
        };
        if completion.shadow == value {
            return false;
        }
        completion.shadow = value;
        if let Err(InvalidValue) = completion.set_head(position(value)) {
            self.raise_doorbell_error(Event::InvalidDoorbellValue);
        }
        true
    }

    /// Tells the guest when to ring the doorbells in the registers.
    ///
    /// Whoever takes the shadow doorbells afterwards sees what a guest wrote that did not ring.
    pub(crate) fn publish_event_indexes<M: GuestMemory>(&mut self, memory: &mut M) {
        let (Some(shadows), Some(used)) = (self.shadows, self.used_doorbells()) else {
            return;
        };

        let mut waiting = [false; PAIRS];
        for submission in self.submission.iter().flatten() {
            waiting[submission.completion_queue] |= !submission.is_empty();
        }
        let pin = !self.msix_enabled();

        let mut buffer: Buffer = [[0; SIZE]; COUNT];
        for queue in IO_QUEUES {
            if let Some(submission) = &self.submission[queue] {
                buffer[2 * queue] = submission.tail().to_le_bytes();
            }
            if let Some(completion) = &self.completion[queue] {
                let index = if pin || waiting[queue] {
                    completion.head()
                } else {
                    completion.before_head()
                };
                buffer[2 * queue + 1] = index.to_le_bytes();
            }
        }
        let indexes = &buffer[FIRST_IO..used];
        if memory
            .write(
                shadows.event_indexes.wrapping_add(FIRST_IO_OFFSET),
                indexes.as_flattened(),
            )
            .is_err()
        {
            self.fail();
        }
        // The guest writes a doorbell, then reads the event index; this is the other half.
        fence(Ordering::SeqCst);
    }

    /// Begins to use shadow doorbells, which get the current values of the doorbells.
    pub(crate) fn set_shadows<M: GuestMemory>(
        &mut self,
        shadows: Shadows,
        memory: &mut M,
    ) -> Result<(), MemoryError> {
        let mut buffer: Buffer = [[0; SIZE]; COUNT];
        for (queue, doorbells) in buffer.chunks_exact_mut(2).enumerate() {
            if let Some(submission) = &self.submission[queue] {
                doorbells[0] = submission.tail().to_le_bytes();
            }
            if let Some(completion) = &self.completion[queue] {
                doorbells[1] = completion.head().to_le_bytes();
            }
        }
        memory.write(shadows.doorbells, buffer.as_flattened())?;
        memory.write(shadows.event_indexes, buffer.as_flattened())?;

        for submission in self.submission.iter_mut().flatten() {
            submission.shadow = submission.tail();
        }
        for completion in self.completion.iter_mut().flatten() {
            completion.shadow = completion.head();
        }
        self.shadows = Some(shadows);
        Ok(())
    }

    /// Clears what an earlier queue left in the shadow doorbell and event index with number `index`.
    pub(crate) fn clear_shadow<M: GuestMemory>(
        &mut self,
        index: usize,
        memory: &mut M,
    ) -> Result<(), MemoryError> {
        if let Some(shadows) = self.shadows {
            let offset = (index * SIZE) as u64;
            memory.write(shadows.doorbells.wrapping_add(offset), &[0; SIZE])?;
            memory.write(shadows.event_indexes.wrapping_add(offset), &[0; SIZE])?;
        }
        Ok(())
    }

    /// Number of doorbells up to that of the last I/O queue, if there is one.
    fn used_doorbells(&self) -> Option<usize> {
        IO_QUEUES
            .rev()
            .find(|queue| self.submission[*queue].is_some() || self.completion[*queue].is_some())
            .map(|queue| 2 * queue + 2)
    }
}

/// Number of the first doorbell of an I/O queue.
const FIRST_IO: usize = 2 * (ADMIN + 1);
/// Where the first doorbell of an I/O queue is in a page of them.
const FIRST_IO_OFFSET: u64 = (FIRST_IO * SIZE) as u64;
const IO_QUEUES: core::ops::Range<usize> = ADMIN + 1..PAIRS;
