// SPDX-License-Identifier: GPL-2.0

//! Gives the dirty blocks of a device, record by record.
//!
//! A block is taken, which makes it clean, before its content is looked at, so that a write of the
//! running device that comes after makes it dirty again. Adjacent blocks share a record. A block is cut
//! where the chunk ends, and the next chunk goes on with it: should it have been written in between, it is
//! dirty and will be given once more, whole.

use super::amount::{
    in_pieces,
    Amount,
    Estimate,
    ZEROES_MAX, //
};
use crate::{
    migrated_blocks::{
        is_zero,
        MigratedBlocks,
        BLOCK_SIZE, //
    },
    port::Sink,
    stream::{
        format::{
            Kind,
            ZEROES_SIZE, //
        },
        writer::{
            Draft,
            Writer, //
        }, //
    },
};

/// The most bytes of blocks that one record has. The device may have to wait for as long as it takes
/// to copy and sum them.
const RECORD_MAX: usize = 16 * BLOCK_SIZE;

/// Size of a note about blocks of a chunk, in bytes.
const NOTE_SIZE: usize = 16;

/// A run of blocks.
#[derive(Clone, Copy)]
struct Run {
    first: u64,
    count: u64,
}

impl Run {
    fn encode(self) -> [u8; NOTE_SIZE] {
        let note = u128::from(self.first) | (u128::from(self.count) << u64::BITS);

        note.to_le_bytes()
    }

    fn decode(note: [u8; NOTE_SIZE]) -> Self {
        let note = u128::from_le_bytes(note);

        Self {
            first: note as u64,
            count: (note >> u64::BITS) as u64,
        }
    }
}

/// A block whose first part has been given.
#[derive(Clone, Copy)]
struct Partial {
    index: u64,
    /// Bytes that have been given: more than none, less than all.
    done: usize,
    /// Whether it is of the initial part.
    initial: bool,
}

impl Partial {
    /// Returns the most bytes of stream that the rest takes, if the block has content.
    fn pending(self, piece_max: usize) -> u64 {
        in_pieces(BLOCK_SIZE.saturating_sub(self.done), piece_max) as u64
    }
}

/// What [`BlockSave::put`] has put into the chunk.
pub(super) enum Given {
    /// A record, with the length of its payload.
    Record {
        /// Length of the payload, in bytes.
        payload: usize,
    },
    /// Nothing: the chunk has no room for another record.
    Full,
    /// Nothing: no block is dirty.
    Nothing,
}

/// How far a save session is with the blocks of the device.
#[derive(Clone, Copy)]
pub(super) struct BlockSave {
    /// Where to look for the next dirty block.
    cursor: u64,
    partial: Option<Partial>,
    /// The rest of the initial part: the blocks that were dirty when it began and have not been given.
    ///
    /// As long as it is not empty, every block that is given counts as one of it, also a block that was
    /// changed since. So the initial part ends however busy the device is.
    initial: Amount,
    /// Whether the blocks of the chunk are noted.
    noting: bool,
    /// How many runs of blocks of the last chunk are in the notes.
    noted: usize,
    /// The run of blocks after those.
    run: Option<Run>,
}

impl BlockSave {
    /// Begins at the first block. There is no initial part yet.
    pub(super) const fn new() -> Self {
        Self {
            cursor: 0,
            partial: None,
            initial: Amount::NONE,
            noting: false,
            noted: 0,
            run: None,
        }
    }

    /// Returns how many bytes of stream are left to give of `migrated`, in records with up to `piece_max`
    /// bytes of blocks.
    pub(super) fn estimate(&self, migrated: &dyn MigratedBlocks, piece_max: usize) -> Estimate {
        let dirty = Amount::of(migrated.dirty(self.cursor));
        let mut estimate = Estimate {
            initial: self.initial.at_most(dirty).pending(piece_max),
            all: dirty.pending(piece_max),
        };

        if let Some(partial) = self.partial {
            let left = partial.pending(piece_max);
            if partial.initial {
                estimate.initial = estimate.initial.saturating_add(left);
            }
            // The device may have emptied the block since, which takes a record of its own.
            let least = match migrated.block(partial.index) {
                Some(_) => 0,
                None => Writer::size_of(ZEROES_SIZE) as u64,
            };
            estimate.all = estimate.all.saturating_add(left.max(least));
        }
        estimate
    }

    /// Cuts the rest of the initial part to what is dirty, so that the rest does not grow when the device
    /// writes again the blocks that it has emptied.
    pub(super) fn settle_initial(&mut self, migrated: &dyn MigratedBlocks) {
        let dirty = Amount::of(migrated.dirty(self.cursor));

        self.initial = self.initial.at_most(dirty);
    }

    /// Makes all dirty blocks of `migrated` the initial part.
    pub(super) fn begin_initial(&mut self, migrated: &dyn MigratedBlocks) {
        self.initial = Amount::of(migrated.dirty(self.cursor));
        if let Some(partial) = &mut self.partial {
            partial.initial = true;
        }
    }

    /// Begins a chunk: the user has the one before it. `noting` tells whether this one may be left
    /// unacknowledged.
    pub(super) fn begin_chunk(&mut self, noting: bool) {
        self.noting = noting;
        self.noted = 0;
        self.run = None;
    }

    /// Puts the next record at `offset` of the chunk, where there is room for `room` bytes. The runs of
    /// blocks of the chunk are noted in `notes`; a chunk has at most one run more than fits there.
    pub(super) fn put<S: Sink + ?Sized>(
        &mut self,
        migrated: &mut dyn MigratedBlocks,
        writer: &mut Writer,
        sink: &mut S,
        offset: usize,
        room: usize,
        notes: &mut [u8],
    ) -> Given {
        let next = self.partial.or_else(|| {
            let index = migrated.take_dirty(self.cursor)?;
            Some(Partial {
                index,
                done: 0,
                initial: false,
            })
        });
        let Some(next) = next else {
            return Given::Nothing;
        };
        let Partial { index, done, .. } = next;

        let zeros = content(migrated, index).is_none();
        let least = Writer::size_of(if zeros { ZEROES_SIZE } else { 1 });
        if room < least || !self.note(index, notes) {
            if self.partial.is_none() {
                self.put_back(migrated, index);
            }
            return Given::Full;
        }

        let begins = self.partial.take().is_none();
        let argument = index
            .saturating_mul(BLOCK_SIZE as u64)
            .saturating_add(done as u64);
        if zeros {
            let len = self
                .take_zeros(migrated, index, begins, notes)
                .saturating_mul(BLOCK_SIZE as u64)
                .saturating_sub(done as u64);
            writer.put(sink, offset, Kind::Zeroes, argument, &len.to_le_bytes());
            Given::Record {
                payload: ZEROES_SIZE,
            }
        } else {
            let mut draft = Draft::new(sink, offset, Kind::Block, argument);
            self.append_blocks(migrated, &mut draft, room, next, notes);
            let payload = draft.payload_len();
            writer.complete(draft);
            Given::Record { payload }
        }
    }

    /// Takes the blocks of zeros that follow on block `first`, which has been taken, and returns how
    /// many they are with it. `begins` tells whether nothing of `first` has been given.
    fn take_zeros(
        &mut self,
        migrated: &mut dyn MigratedBlocks,
        first: u64,
        begins: bool,
        notes: &mut [u8],
    ) -> u64 {
        let mut count: u64 = 1;
        let mut last = first;
        // Blocks whose content is all zeros are not empty to the device, and not counted as such.
        let mut counted = u64::from(begins && migrated.block(first).is_some());

        while count < ZEROES_MAX {
            let Some(index) = self.take_after(migrated, last, notes) else {
                break;
            };
            if content(migrated, index).is_some() {
                self.put_back(migrated, index);
                break;
            }
            counted = counted.saturating_add(u64::from(migrated.block(index).is_some()));
            last = index;
            count = count.saturating_add(1);
        }

        self.initial.blocks = self.initial.blocks.saturating_sub(counted);
        if begins && counted == 0 {
            self.initial.zeroes = self.initial.zeroes.saturating_sub(1);
        }
        if count == ZEROES_MAX {
            self.cursor = last.saturating_add(1);
        }
        count
    }

    /// Appends what is left of block `next`, and the blocks that follow on it, as far as they fit into
    /// `room` bytes.
    fn append_blocks<S: Sink + ?Sized>(
        &mut self,
        migrated: &mut dyn MigratedBlocks,
        draft: &mut Draft<'_, S>,
        room: usize,
        next: Partial,
        notes: &mut [u8],
    ) {
        let Partial {
            mut index,
            mut done,
            mut initial,
        } = next;

        while let Some(block) = content(migrated, index) {
            if done == 0 {
                initial = self.initial.blocks > 0;
                self.initial.blocks = self.initial.blocks.saturating_sub(1);
            }
            let left = BLOCK_SIZE.saturating_sub(done);
            let len = left.min(room.saturating_sub(draft.size()));
            let until = done.saturating_add(len);
            draft.append(block.get(done..until).unwrap_or_default());
            if len < left {
                self.partial = Some(Partial {
                    index,
                    done: until,
                    initial,
                });
                return;
            }

            self.cursor = index.saturating_add(1);
            if draft.payload_len() >= RECORD_MAX || draft.size() >= room {
                return;
            }
            match self.take_after(migrated, index, notes) {
                Some(next) => (index, done) = (next, 0),
                None => return,
            }
        }

        // All zeros, which takes a record of another type.
        self.put_back(migrated, index);
    }

    /// Takes the block after `index` if it is dirty.
    fn take_after(
        &mut self,
        migrated: &mut dyn MigratedBlocks,
        index: u64,
        notes: &mut [u8],
    ) -> Option<u64> {
        let wanted = index.saturating_add(1);
        self.cursor = wanted;
        let next = migrated.take_dirty(wanted)?;

        if next != wanted || !self.note(next, notes) {
            self.put_back(migrated, next);
            return None;
        }
        Some(next)
    }

    /// Makes a block dirty again that was taken and not given, and goes on with it.
    fn put_back(&mut self, migrated: &mut dyn MigratedBlocks, index: u64) {
        migrated.mark_dirty(index);
        self.cursor = index;
    }

    /// Notes that a block is in the chunk. Returns whether there was room for the note.
    fn note(&mut self, index: u64, notes: &mut [u8]) -> bool {
        if !self.noting {
            return true;
        }

        let new = Run {
            first: index,
            count: 1,
        };
        let Some(run) = &mut self.run else {
            self.run = Some(new);
            return true;
        };

        match index.checked_sub(run.first) {
            Some(place) if place < run.count => {}
            Some(place) if place == run.count => run.count = run.count.saturating_add(1),
            _ => {
                let Some(note) = notes.chunks_exact_mut(NOTE_SIZE).nth(self.noted) else {
                    return false;
                };
                note.copy_from_slice(&run.encode());
                self.noted = self.noted.saturating_add(1);
                *run = new;
            }
        }
        true
    }

    /// Makes the blocks of the last chunk dirty again, as the user did not acknowledge it.
    pub(super) fn resend_unacknowledged(
        &mut self,
        migrated: &mut dyn MigratedBlocks,
        notes: &[u8],
    ) {
        let noted = notes
            .chunks_exact(NOTE_SIZE)
            .take(self.noted)
            .filter_map(|note| note.try_into().ok())
            .map(Run::decode);

        for run in noted.chain(self.run) {
            for place in 0..run.count {
                migrated.mark_dirty(run.first.saturating_add(place));
            }
        }
        // The partial block is among them, as its first part was in this chunk.
        self.partial = None;
        self.begin_chunk(false);
    }
}

/// Returns the content of a block that is not all zeros.
fn content(migrated: &dyn MigratedBlocks, index: u64) -> Option<&[u8; BLOCK_SIZE]> {
    migrated.block(index).filter(|block| !is_zero(&block[..]))
}
