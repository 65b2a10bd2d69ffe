// SPDX-License-Identifier: GPL-2.0

//! Which pages the function may write to, told from the trapped page with RDT.
//!
//! The function writes to its descriptor rings and to the receive buffers that the guest has posted. A
//! buffer is posted by a write of RDT, which is trapped: the follower reads the new descriptors, pins the
//! pages of their buffers, unpins those that the same descriptors had before, and then lets the
//! function have the write. A completed descriptor has lost its buffer's address, so the follower keeps
//! a copy of each descriptor as it was posted, until it is posted again.
//!
//! # What makes it exact
//!
//! - The tail before the write is read from the function. A reset through CTRL, which is not trapped,
//!   empties the ring in the function without a write of RDT.
//! - How large buffers are is in RCTL, which is not trapped. It must not change while the receiver is
//!   enabled. What is posted before is pinned as large as it can become. The follower compares RCTL each
//!   time it runs and at the stop, and pins all buffers anew if the format has changed. A page is dirty from
//!   the moment it is pinned, so pages pinned late, but before the bitmap is read for the last time, are
//!   reported.
//! - A page where nothing is mapped is tried again each time all buffers are pinned, at the stop, and before its
//!   descriptor is posted again or its ring moves: the function may have written to it once it was mapped.
//! - The transmit rings, to which status is written back, are looked at when a receive ring changes and
//!   at the stop. A guest that replaces a transmit ring twice in between, and neither resets the function
//!   nor touches a receive ring, is followed with their page trapped as well.
//!
//! The data sheet forbids to change a descriptor that the function owns, and a ring that is enabled. A
//! guest that does so may find pages at the destination as they were before. So may one that enables the
//! receiver with larger buffers, and then with the former size again, without a write of RDT in between.

mod buffers;
mod error;
mod queue;
mod region;

use core::ops::DerefMut;

use device_model::hardware::{
    Pins,
    Registers, //
};
use device_model::GuestMemory;

use crate::registers::QUEUES;
use crate::ring::{
    position,
    Direction,
    Place, //
};

use buffers::Format;
use queue::Queue;
use region::Region;

pub use error::FollowError;
pub use queue::Slot;

/// Follows the function's DMA writes. `S` has room for the descriptors of a receive ring.
pub struct Follower<S> {
    queues: [Queue<S>; QUEUES],
    transmit: [Region; QUEUES],
    format: Format,
    following: bool,
    lost: Option<FollowError>,
}

/// What the follower needs of its context.
pub(crate) struct View<'a> {
    pub(crate) registers: &'a mut dyn Registers,
    pub(crate) memory: &'a mut dyn GuestMemory,
    pub(crate) pins: &'a mut dyn Pins,
}

impl<S: DerefMut<Target = [Slot]>> Follower<S> {
    /// Returns a follower of rings with up to as many descriptors as there are slots for each.
    pub fn new(slots: [S; QUEUES]) -> Self {
        Self {
            queues: slots.map(|slots| Queue {
                region: Region::EMPTY,
                parity: 0,
                unsettled: false,
                slots,
            }),
            transmit: [Region::EMPTY; QUEUES],
            format: Format::Single { size: 0 },
            following: false,
            lost: None,
        }
    }

    /// Whether pages are pinned.
    pub(crate) fn is_following(&self) -> bool {
        self.following
    }

    /// Why pages may have been missed, since following began.
    pub(crate) fn lost(&self) -> Option<&FollowError> {
        self.lost.as_ref()
    }

    /// Pins the rings and the buffers that the function owns now.
    ///
    /// The head is read first: a descriptor that is completed meanwhile is taken for a posted one, and
    /// what it has instead of an address may pin a page in vain.
    pub(crate) fn start(&mut self, view: &mut View<'_>) -> Result<(), FollowError> {
        self.following = true;
        self.lost = None;
        self.format = Format::read(view.registers, false);
        for queue in &mut self.queues {
            queue.forget();
        }
        self.transmit = [Region::EMPTY; QUEUES];

        let started = (0..QUEUES)
            .try_for_each(|index| self.begin(index, None, view))
            .and_then(|()| self.look_at_transmit(view));
        if started.is_err() {
            self.stop(view.pins);
        }
        started
    }

    /// Unpins all pages.
    pub(crate) fn stop(&mut self, pins: &mut dyn Pins) {
        let format = self.format;

        for queue in &mut self.queues {
            queue.release(format, pins);
            queue.region.release(pins);
        }
        for region in &mut self.transmit {
            region.release(pins);
        }
        self.following = false;
    }

    /// Forgets the pins of pages whose memory is being unmapped.
    pub(crate) fn unmapped(&mut self, first: u64, count: u64) {
        let gone = |page: u64| page.wrapping_sub(first) < count;
        let format = self.format;

        for queue in &mut self.queues {
            queue.unmapped(format, gone);
        }
        for region in &mut self.transmit {
            region.unmapped(gone);
        }
    }

    /// Pins what is not pinned yet: the function has stopped. The receiver was `enabled` before.
    pub(crate) fn look(&mut self, view: &mut View<'_>, enabled: bool) {
        if !self.following {
            return;
        }
        let looked = self
            .repin(view, enabled, true)
            .and_then(|()| (0..QUEUES).try_for_each(|index| self.look_at(index, view)))
            .and_then(|()| match enabled {
                true => self.check_settled(view.registers),
                false => Ok(()),
            });
        let transmit = self.look_at_transmit(view);
        self.note(looked.and(transmit));
    }

    /// Begins anew: the rings have been written by another than the guest. The receiver will be
    /// `enabled`.
    pub(crate) fn restart(&mut self, view: &mut View<'_>, enabled: bool) {
        if !self.following {
            return;
        }
        let looked = self
            .repin(view, enabled, false)
            .and_then(|()| (0..QUEUES).try_for_each(|index| self.begin(index, None, view)));
        let transmit = self.look_at_transmit(view);
        self.note(looked.and(transmit));
    }

    /// Has the function have a write of `value` to the register at `offset` of the page with the receive
    /// rings, in time with the pins.
    pub(crate) fn write(&mut self, view: &mut View<'_>, offset: u32, value: u32) {
        if !self.following {
            view.registers.write32(offset, value);
            return;
        }
        let queue = (0..QUEUES).find(|&queue| Direction::Receive.tail(queue).0 == offset);
        if let Some(index) = queue {
            let posted = self
                .repin(view, false, false)
                .and_then(|()| self.move_tail(index, value & 0xffff, view));
            self.note(posted);
            view.registers.write32(offset, value);
            return;
        }

        view.registers.write32(offset, value);
        // PSRCTL is among these registers.
        let looked = self.repin(view, false, false).and_then(|()| {
            (0..QUEUES).try_for_each(|index| {
                if Direction::Receive.head(index).0 == offset {
                    self.begin(index, None, view)
                } else {
                    self.look_at(index, view)
                }
            })
        });
        let transmit = self.look_at_transmit(view);
        self.note(looked.and(transmit));
    }

    /// Has the function have a write to the page with the transmit rings.
    pub(crate) fn write_transmit(&mut self, view: &mut View<'_>, offset: u32, value: u32) {
        let tail = (0..QUEUES).any(|queue| Direction::Transmit.tail(queue).0 == offset);

        view.registers.write32(offset, value);
        if self.following && !tail {
            let looked = self.look_at_transmit(view);
            self.note(looked);
        }
    }

    fn note(&mut self, outcome: Result<(), FollowError>) {
        if let Err(error) = outcome {
            self.lost.get_or_insert(error);
        }
    }

    /// Pins all buffers anew if their format has changed, or what is not pinned if pages may have been
    /// mapped, which `retry` tells.
    fn repin(
        &mut self,
        view: &mut View<'_>,
        enabled: bool,
        retry: bool,
    ) -> Result<(), FollowError> {
        let format = Format::read(view.registers, enabled);

        if format != self.format {
            for queue in &mut self.queues {
                queue.pin_all(self.format, view.pins)?;
                queue.release(self.format, view.pins);
            }
            self.format = format;
        } else if !retry {
            return Ok(());
        }
        for queue in &mut self.queues {
            queue.pin_all(format, view.pins)?;
        }
        Ok(())
    }

    /// Pins the buffers of the descriptors that a new tail posts.
    fn move_tail(
        &mut self,
        index: usize,
        tail: u32,
        view: &mut View<'_>,
    ) -> Result<(), FollowError> {
        let old = position(view.registers, Direction::Receive.tail(index));
        let format = self.format;
        let Some(queue) = self.queues.get_mut(index) else {
            return Ok(());
        };
        if queue.unsettled {
            return self.begin(index, Some(tail), view);
        }
        queue.post(index, format, old, tail, view)
    }

    /// Looks whether the guest has moved a receive ring, or settled it.
    fn look_at(&mut self, index: usize, view: &mut View<'_>) -> Result<(), FollowError> {
        let place = Place::read(view.registers, Direction::Receive, index);
        let same = self
            .queues
            .get(index)
            .is_none_or(|queue| place == queue.region.place && !queue.unsettled);

        if same {
            return Ok(());
        }
        self.begin(index, None, view)
    }

    /// Begins anew with a receive ring: pins the ring and what the function owns of it, which is up to
    /// `tail`, or to the tail that the function has.
    fn begin(
        &mut self,
        index: usize,
        tail: Option<u32>,
        view: &mut View<'_>,
    ) -> Result<(), FollowError> {
        let format = self.format;
        let Some(queue) = self.queues.get_mut(index) else {
            return Ok(());
        };

        queue.pin_all(format, view.pins)?;
        queue.release(format, view.pins);
        queue.region.release(view.pins);
        queue.forget();
        queue.region.place = Place::read(view.registers, Direction::Receive, index);
        queue.region.pin(view.pins)?;

        let head = position(view.registers, Direction::Receive.head(index));
        let tail = tail.unwrap_or_else(|| position(view.registers, Direction::Receive.tail(index)));
        queue.parity = head & 1;
        queue.unsettled = false;
        queue.post(index, format, head, tail, view)
    }

    /// Checks that no ring has its head or its tail outside.
    fn check_settled(&self, registers: &mut dyn Registers) -> Result<(), FollowError> {
        let unsettled = self.queues.iter().position(|queue| queue.unsettled);

        match unsettled {
            Some(index) => Err(FollowError::Tail {
                queue: index,
                tail: position(registers, Direction::Receive.tail(index)),
                descriptors: self
                    .queues
                    .get(index)
                    .map_or(0, |queue| queue.region.place.units()),
            }),
            None => Ok(()),
        }
    }

    /// Looks whether the guest has moved a transmit ring.
    fn look_at_transmit(&mut self, view: &mut View<'_>) -> Result<(), FollowError> {
        for (index, region) in self.transmit.iter_mut().enumerate() {
            let place = Place::read(view.registers, Direction::Transmit, index);

            if place != region.place {
                region.pin(view.pins)?;
                region.release(view.pins);
                region.place = place;
            }
            region.pin(view.pins)?;
        }
        Ok(())
    }
}
