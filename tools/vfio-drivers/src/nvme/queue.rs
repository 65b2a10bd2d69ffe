// SPDX-License-Identifier: GPL-2.0

//! A submission queue and its completion queue, in the guest's memory.

use std::sync::Arc;

use vfio_client::EventFd;
use vfio_client::GuestMemory;

use super::entry::Completion;
use super::spec::register;

/// The bytes of a queue pair in the guest's memory: the most entries, and a page for a PRP list.
const PAIR_SIZE: u64 = 0x6000;
/// The offset of the completion queue in a queue pair.
const COMPLETIONS: u64 = 0x4000;
/// The offset of the PRP list in a queue pair.
pub(super) const LIST: u64 = 0x5000;
/// The most entries a queue of this driver may have.
pub const MAX_DEPTH: u16 = 256;
/// The offset of the memory for data in the guest's memory.
pub(super) const DATA: u64 = 0x8_0000;
/// The most queue pairs, with the admin queues.
const MAX_PAIRS: u16 = (DATA / PAIR_SIZE) as u16;

/// A submission queue and the completion queue of the same number.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Its number; 0 are the admin queues.
    pub number: u16,
    /// How many entries both have.
    pub depth: u16,
    /// The address of the submission queue.
    pub submissions: u64,
    /// The address of the completion queue.
    pub completions: u64,
    /// The index of the next command in the submission queue.
    pub tail: u16,
    /// The index of the next completion in the completion queue.
    pub head: u16,
    /// The phase bit of the next completion.
    pub phase: bool,
    pub(super) next_id: u16,
    pub(super) event: Option<Arc<EventFd>>,
}

impl Pair {
    pub(super) fn new(
        memory: &GuestMemory,
        number: u16,
        depth: u16,
        event: Option<Arc<EventFd>>,
    ) -> Self {
        assert!(
            number < MAX_PAIRS && (2..=MAX_DEPTH).contains(&depth),
            "queue {number} with {depth} entries"
        );
        let start = memory.start() + u64::from(number) * PAIR_SIZE;
        // Old completions would look like new ones.
        memory.write(start, &[0; PAIR_SIZE as usize]);
        Pair {
            number,
            depth,
            submissions: start,
            completions: start + COMPLETIONS,
            tail: 0,
            head: 0,
            phase: true,
            next_id: 0,
            event,
        }
    }

    /// Returns the address of an entry of the completion queue.
    pub(super) fn completion(&self, index: u16) -> u64 {
        self.completions + u64::from(index) * Completion::SIZE as u64
    }
}

/// Returns the offset of a submission queue's doorbell in BAR0, with a `dstrd` of 0.
pub fn tail_doorbell(queue: u16) -> u64 {
    register::DOORBELLS + u64::from(queue) * 8
}

/// Returns the offset of a completion queue's doorbell in BAR0, with a `dstrd` of 0.
pub fn head_doorbell(queue: u16) -> u64 {
    tail_doorbell(queue) + 4
}
