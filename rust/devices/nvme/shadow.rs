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
//!   is used, which has to go down in time; else to the position that the guest reaches last.
//!
//! The doorbells of the admin queue stay registers, as in SPDK and as Linux expects it. Linux frees the
//! pages when its I/O queues are gone, so without I/O queues the controller does not look at them.

use core::sync::atomic::{
    fence,
    Ordering, //
};

use device_model::saved_state::{
    StateError,
    StateReader,
    StateWriter, //
};
use device_model::{
    GuestMemory,
    MemoryError, //
};

use crate::doorbells::{
    position,
    COUNT, //
};
use crate::load_error::LoadError;
use crate::parameters::PAIRS;
use crate::queue::{
    CompletionQueue,
    InvalidValue,
    SubmissionQueue, //
};
use crate::queues::{
    Queues,
    IO, //
};
use crate::registers::is_aligned;
use crate::spec::registers::DOORBELL_SIZE;

/// Bytes of a doorbell.
const SIZE: usize = DOORBELL_SIZE as usize;

/// Number of the first doorbell of an I/O queue.
const FIRST_IO: usize = 2 * IO.start;
/// Offset of the first doorbell of an I/O queue in a page of doorbells.
const FIRST_IO_OFFSET: u64 = (FIRST_IO * SIZE) as u64;

/// The shadow doorbells and event indexes of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shadows {
    /// Bus address of the page with doorbells.
    pub(crate) doorbells: u64,
    /// Bus address of the page with event indexes.
    pub(crate) event_indexes: u64,
}

/// Doorbells of all queues or their event indexes, as a guest has them in memory.
type Buffer = [[u8; SIZE]; COUNT];

/// Shadow doorbells that were taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// A doorbell has changed since the last time.
    pub(crate) changed: bool,
    /// Number of doorbells that changed to a value that their queue cannot have.
    pub(crate) invalid: usize,
}

impl Taken {
    fn add_submission(&mut self, submission: &mut SubmissionQueue, value: u32) {
        if submission.shadow != value {
            submission.shadow = value;
            self.add(submission.set_tail(position(value)));
        }
    }

    fn add_completion(&mut self, completion: &mut CompletionQueue, value: u32) {
        if completion.shadow != value {
            completion.shadow = value;
            self.add(completion.set_head(position(value)));
        }
    }

    fn add(&mut self, changed: Result<(), InvalidValue>) {
        self.changed = true;
        if let Err(InvalidValue) = changed {
            self.invalid += 1;
        }
    }
}

impl Shadows {
    /// Bytes of the saved pages, without the bytes before them.
    pub(crate) const STATE_SIZE: usize = 16;

    /// Moves the queues to the shadow doorbells.
    pub(crate) fn take<M: GuestMemory>(
        self,
        queues: &mut Queues,
        memory: &mut M,
    ) -> Result<Taken, MemoryError> {
        let mut taken = Taken::default();
        let Some(used) = queues.used() else {
            return Ok(taken);
        };

        let mut buffer: Buffer = [[0; SIZE]; COUNT];
        memory.read_often(
            self.doorbells.wrapping_add(FIRST_IO_OFFSET),
            buffer[FIRST_IO..2 * used].as_flattened_mut(),
        )?;
        // The commands that a tail tells of are read after it.
        fence(Ordering::Acquire);

        for queue in IO {
            let [tail, head] = [buffer[2 * queue], buffer[2 * queue + 1]].map(u32::from_le_bytes);
            if let Some(submission) = &mut queues.submission[queue] {
                taken.add_submission(submission, tail);
            }
            if let Some(completion) = &mut queues.completion[queue] {
                taken.add_completion(completion, head);
            }
        }
        Ok(taken)
    }

    /// Writes the event indexes, which tell the guest when to ring the doorbells in the registers.
    /// `intx` is whether the controller uses its interrupt pin.
    ///
    /// A call of [`Self::take`] that comes after it sees what a guest wrote that did not ring.
    pub(crate) fn publish<M: GuestMemory>(
        self,
        queues: &Queues,
        intx: bool,
        memory: &mut M,
    ) -> Result<(), MemoryError> {
        let Some(used) = queues.used() else {
            return Ok(());
        };

        let mut waiting = [false; PAIRS];
        for submission in queues.submission.iter().flatten() {
            waiting[submission.completion_queue] |= !submission.is_empty();
        }

        let mut buffer: Buffer = [[0; SIZE]; COUNT];
        for queue in IO {
            if let Some(submission) = &queues.submission[queue] {
                buffer[2 * queue] = submission.tail().to_le_bytes();
            }
            if let Some(completion) = &queues.completion[queue] {
                let index = if intx || waiting[queue] {
                    completion.head()
                } else {
                    completion.before_head()
                };
                buffer[2 * queue + 1] = index.to_le_bytes();
            }
        }
        let written = memory.write_often(
            self.event_indexes.wrapping_add(FIRST_IO_OFFSET),
            buffer[FIRST_IO..2 * used].as_flattened(),
        );
        // The guest writes a doorbell, then reads the event index; this is the other half.
        fence(Ordering::SeqCst);
        written
    }

    /// Begins to use shadow doorbells, which get the current values of the doorbells.
    pub(crate) fn begin<M: GuestMemory>(
        self,
        queues: &mut Queues,
        memory: &mut M,
    ) -> Result<(), MemoryError> {
        let mut buffer: Buffer = [[0; SIZE]; COUNT];
        for (queue, doorbells) in buffer.chunks_exact_mut(2).enumerate() {
            if let Some(submission) = &queues.submission[queue] {
                doorbells[0] = submission.tail().to_le_bytes();
            }
            if let Some(completion) = &queues.completion[queue] {
                doorbells[1] = completion.head().to_le_bytes();
            }
        }
        memory.write(self.doorbells, buffer.as_flattened())?;
        memory.write(self.event_indexes, buffer.as_flattened())?;

        for submission in queues.submission.iter_mut().flatten() {
            submission.shadow = submission.tail();
        }
        for completion in queues.completion.iter_mut().flatten() {
            completion.shadow = completion.head();
        }
        Ok(())
    }

    /// Clears what an earlier queue left in the shadow doorbell and event index with number `index`.
    pub(crate) fn clear<M: GuestMemory>(
        self,
        index: usize,
        memory: &mut M,
    ) -> Result<(), MemoryError> {
        let offset = (index * SIZE) as u64;
        memory.write(self.doorbells.wrapping_add(offset), &[0; SIZE])?;
        memory.write(self.event_indexes.wrapping_add(offset), &[0; SIZE])
    }

    /// Saves the pages, or zeros if there are none.
    pub(crate) fn save(shadows: Option<Self>, state: &mut StateWriter<'_>) {
        state.u64(shadows.map_or(0, |shadows| shadows.doorbells));
        state.u64(shadows.map_or(0, |shadows| shadows.event_indexes));
    }

    /// Loads what [`Self::save`] saved.
    pub(crate) fn load(state: &mut StateReader<'_>) -> Result<Self, StateError> {
        Ok(Self {
            doorbells: state.u64()?,
            event_indexes: state.u64()?,
        })
    }

    /// Checks that both are at the beginning of a page of 2 to the power of `page_shift` bytes.
    pub(crate) fn check(self, page_shift: u32) -> Result<(), LoadError> {
        for (field, found) in [
            ("shadow doorbells", self.doorbells),
            ("event indexes", self.event_indexes),
        ] {
            if !is_aligned(found, page_shift) {
                return Err(LoadError::Alignment { field, found });
            }
        }
        Ok(())
    }
}
