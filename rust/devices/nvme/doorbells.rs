// SPDX-License-Identifier: GPL-2.0

//! Doorbells that were written and did not reach the controller yet, section 3.1.24.

use core::sync::atomic::{
    fence,
    AtomicU32,
    AtomicU64,
    Ordering, //
};

use device_model::PostedWrites;

use crate::function::MSIX_TABLE;
use crate::parameters::PAIRS;
use crate::registers::is_aligned;
use crate::spec::registers::{
    DOORBELLS,
    DOORBELL_SIZE, //
};

/// Where the area of the doorbells ends.
pub(crate) const DOORBELLS_END: u64 = MSIX_TABLE;
/// Number of doorbells: a pair for each pair of queues.
pub(crate) const COUNT: usize = 2 * PAIRS;

/// The bit of the set that stands for all doorbells that do not exist.
const UNKNOWN: u32 = COUNT as u32;

/// No head: no completion queue has as many entries.
const NONE: u32 = u32::MAX;

/// Doorbells that were written and did not reach the controller yet.
///
/// Writing one takes neither a lock nor the controller, so that a virtual processor is back in its
/// guest at once. A doorbell that is written twice before the worker comes has its last value: it is a
/// tail or a head of a queue.
#[derive(Debug)]
pub struct Doorbells {
    /// The set of doorbells that were written, as bits.
    posted: AtomicU64,
    /// For each completion queue the head that the worker does not wait for, or [`NONE`].
    quiet: [AtomicU32; PAIRS],
    /// The values that were written, in the order of the registers.
    values: [AtomicU32; COUNT],
}

/// The doorbells that were taken from [`Doorbells`].
#[derive(Debug)]
pub(crate) struct Posted<'a> {
    doorbells: &'a Doorbells,
    posted: u64,
}

/// One doorbell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doorbell {
    /// Tail of a submission queue.
    SubmissionTail {
        /// Number of the queue.
        queue: usize,
        /// The value that was written.
        value: u32,
    },
    /// Head of a completion queue.
    CompletionHead {
        /// Number of the queue.
        queue: usize,
        /// The value that was written.
        value: u32,
    },
    /// A doorbell that does not exist.
    Unknown,
}

impl Doorbells {
    /// Returns doorbells that were not written.
    pub const fn new() -> Self {
        Self {
            posted: AtomicU64::new(0),
            quiet: [const { AtomicU32::new(NONE) }; PAIRS],
            values: [const { AtomicU32::new(0) }; COUNT],
        }
    }

    /// Takes a write of `bytes` at `offset` of the registers if it lies in the area of the doorbells.
    ///
    /// Returns whether it does. The worker has to run then if it [waits](PostedWrites::is_awaited) for what was written.
    ///
    /// A doorbell takes whole aligned words of 32 bits, and a write of 64 bits is two of them. A write of
    /// another width to the area of the doorbells, which the specification leaves undefined, is taken
    /// and has no effect.
    pub fn post(&self, offset: u64, bytes: &[u8]) -> bool {
        if !(DOORBELLS..DOORBELLS_END).contains(&offset) {
            return false;
        }

        let at = offset - DOORBELLS;
        let words = bytes.chunks_exact(DOORBELL_SIZE as usize);
        if !is_aligned(at, DOORBELL_SIZE.trailing_zeros()) || !words.remainder().is_empty() {
            return true;
        }
        for (index, value) in (at / DOORBELL_SIZE..).zip(words.flat_map(<[u8; 4]>::try_from)) {
            let slot = usize::try_from(index).ok().and_then(|i| self.values.get(i));
            let bit = match slot {
                Some(slot) => {
                    // A thread that sees the value sees what the guest wrote to its queue before: the
                    // value may be a later one than the one whose bit was taken.
                    slot.store(u32::from_le_bytes(value), Ordering::Release);
                    index as u32
                }
                None => UNKNOWN,
            };
            // A thread that sees the bit sees the value.
            self.posted.fetch_or(1 << bit, Ordering::Release);
        }
        true
    }

    /// Says which heads the worker does not wait for: `quiet` has one for each completion queue, or none. Returns
    /// whether another doorbell has been written.
    pub(crate) fn await_others(&self, quiet: [Option<u32>; PAIRS]) -> bool {
        for (slot, head) in self.quiet.iter().zip(quiet) {
            slot.store(head.unwrap_or(NONE), Ordering::Relaxed);
        }
        // Either this thread sees a doorbell, or the thread that writes it sees that it is awaited.
        fence(Ordering::SeqCst);
        self.is_awaited()
    }

    /// Whether the worker waits for a doorbell that has been written.
    fn waits_for(&self, doorbell: Doorbell) -> bool {
        match doorbell {
            Doorbell::CompletionHead { queue, value } => {
                let quiet = self.quiet.get(queue);
                quiet.is_none_or(|quiet| quiet.load(Ordering::Relaxed) != value)
            }
            Doorbell::SubmissionTail { .. } | Doorbell::Unknown => true,
        }
    }

    /// Takes the doorbells that were written, in no order.
    pub(crate) fn take(&self) -> Posted<'_> {
        // Most calls find nothing; a look leaves the cache line where it is.
        let posted = if self.is_posted() {
            self.posted.swap(0, Ordering::Acquire)
        } else {
            0
        };
        Posted {
            doorbells: self,
            posted,
        }
    }
}

impl PostedWrites for Doorbells {
    fn post(&self, bar: u32, offset: u64, bytes: &[u8]) -> bool {
        bar == 0 && self.post(offset, bytes)
    }

    fn is_posted(&self) -> bool {
        self.posted.load(Ordering::Relaxed) != 0
    }

    fn is_awaited(&self) -> bool {
        // After the write of the doorbell, or of what is not waited for.
        fence(Ordering::SeqCst);
        let posted = self.posted.load(Ordering::Acquire);
        let mut doorbells = Posted {
            doorbells: self,
            posted,
        };
        doorbells.any(|doorbell| self.waits_for(doorbell))
    }

    fn clear(&self) {
        self.posted.swap(0, Ordering::Acquire);
    }
}

impl Default for Doorbells {
    fn default() -> Self {
        Self::new()
    }
}

impl Iterator for Posted<'_> {
    type Item = Doorbell;

    fn next(&mut self) -> Option<Doorbell> {
        if self.posted == 0 {
            return None;
        }
        let bit = self.posted.trailing_zeros();
        self.posted &= self.posted - 1;

        let index = bit as usize;
        let Some(value) = self.doorbells.values.get(index) else {
            return Some(Doorbell::Unknown);
        };
        Some(Doorbell::decode(index, value.load(Ordering::Acquire)))
    }
}

impl Doorbell {
    /// Returns the doorbell with number `index`, which was written with `value`.
    pub(crate) fn decode(index: usize, value: u32) -> Self {
        if index >= COUNT {
            return Self::Unknown;
        }
        let queue = index / 2;
        match index % 2 {
            0 => Self::SubmissionTail { queue, value },
            _ => Self::CompletionHead { queue, value },
        }
    }
}

/// Returns the queue position that a doorbell's `value` has; the other bits are reserved.
pub(crate) fn position(value: u32) -> u32 {
    value & u32::from(u16::MAX)
}
