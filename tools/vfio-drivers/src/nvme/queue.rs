// SPDX-License-Identifier: GPL-2.0

//! A submission queue and its completion queue, in the guest's memory.

use std::sync::Arc;

use vfio_client::EventFd;
use vfio_client::GuestMemory;

use super::entry::Completion;
use super::spec::register;

/// How many bytes a queue pair takes in the guest's memory: the most entries it may have here, and
/// a page for a PRP list.
const PAIR_SIZE: u64 = 0x6000;
/// Where the completion queue is in it.
const COMPLETIONS: u64 = 0x4000;
/// Where the PRP list is in it.
pub(super) const LIST: u64 = 0x5000;
/// The most entries a queue of this driver may have.
pub const MAX_DEPTH: u16 = 256;
/// Where the memory for data starts, from the start of the memory.
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
    /// Where the submission queue is.
    pub submissions: u64,
    /// Where the completion queue is.
    pub completions: u64,
    /// Where the next command goes.
    pub tail: u16,
    /// Where the next completion comes.
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
        // Completions of before would look like new ones.
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

    /// Returns where an entry of the completion queue is.
    pub(super) fn completion(&self, index: u16) -> u64 {
        self.completions + u64::from(index) * Completion::SIZE as u64
    }
}

/// Returns where the doorbell of a submission queue's tail is in BAR0.
pub fn tail_doorbell(queue: u16) -> u64 {
    register::DOORBELLS + u64::from(queue) * 8
}

/// Returns where the doorbell of a completion queue's head is in BAR0.
pub fn head_doorbell(queue: u16) -> u64 {
    tail_doorbell(queue) + 4
}
