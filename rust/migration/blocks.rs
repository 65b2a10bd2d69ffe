// SPDX-License-Identifier: GPL-2.0

//! Gives the dirty blocks of a storage, record by record.
//!
//! A block is taken, which makes it clean, before its content is looked at, so that a write of the
//! running device that comes after makes it dirty again. Blocks that follow one on the other share a
//! record. Where the window ends, a block is cut, and the next chunk goes on with it: should it have
//! been written in between, it is dirty and will be given once more, whole.

use crate::{
    device::Window,
    migrated_blocks::{
        is_zero,
        Dirty,
        MigratedBlocks,
        BLOCK_SIZE, //
    },
    record::{
        Kind,
        HEADER_SIZE, //
    },
    save::pieces,
    writer::{
        Draft,
        Writer, //
    },
};

/// The most bytes of blocks that one record has. The device may have to wait for as long as it takes
/// to copy and sum them.
const RECORD_MAX: usize = 16 * BLOCK_SIZE;

/// The most blocks of zeros that one record tells of, for the same reason: they are looked through.
const ZEROES_MAX: u64 = 256;

/// Size of the payload of ZEROES, in bytes.
pub(crate) const ZEROES_SIZE: usize = 8;

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

/// A block of which a part has been given.
#[derive(Clone, Copy)]
struct Partial {
    index: u64,
    /// Bytes that have been given: more than none, less than all.
    done: usize,
    /// Whether it is of the initial part.
    initial: bool,
}

impl Partial {
    /// Returns how many bytes of stream the rest comes to at most, if the block has content.
    fn pending(self, piece_max: usize) -> u64 {
        let left = BLOCK_SIZE.saturating_sub(self.done);

        pieces(left, piece_max)
            .saturating_mul(HEADER_SIZE)
            .saturating_add(left) as u64
    }
}

/// An amount of blocks, as the stream has them.
#[derive(Clone, Copy, Default)]
struct Amount {
    /// Blocks that are not empty.
    blocks: u64,
    /// Records that tell of empty blocks.
    zeroes: u64,
}

impl Amount {
    /// Returns the amount for blocks that are dirty, with as many records as it takes at most.
    fn of(dirty: Dirty) -> Self {
        // A run of `n` blocks takes one record, and one more for every `ZEROES_MAX` of `n - 1`.
        let further = dirty.empty.saturating_sub(dirty.runs) / ZEROES_MAX;

        Self {
            blocks: dirty.data,
            zeroes: dirty.runs.saturating_add(further),
        }
    }

    fn at_most(self, other: Self) -> Self {
        Self {
            blocks: self.blocks.min(other.blocks),
            zeroes: self.zeroes.min(other.zeroes),
        }
    }

    /// Returns how many bytes of stream these come to at most.
    fn pending(self, piece_max: usize) -> u64 {
        let zeroes = Writer::size_of(ZEROES_SIZE) as u64;

        block_size(piece_max)
            .saturating_mul(self.blocks)
            .saturating_add(zeroes.saturating_mul(self.zeroes))
    }
}

/// Returns how many bytes of stream a block that is not empty comes to at most, in records with up to
/// `piece_max` bytes of it.
///
/// Where the window ends it is cut, so it has a header of its own and one for each of the pieces that
/// follow the first. Less comes where blocks follow one on the other and share a record.
pub(crate) fn block_size(piece_max: usize) -> u64 {
    let headers = pieces(BLOCK_SIZE.saturating_sub(1), piece_max).saturating_add(1);

    headers
        .saturating_mul(HEADER_SIZE)
        .saturating_add(BLOCK_SIZE) as u64
}

/// What there is to be given of a storage, in bytes of stream; rather too much than too little.
#[derive(Clone, Copy, Default)]
pub(crate) struct Estimate {
    /// Of what there was when the initial part began.
    pub(crate) initial: u64,
    /// All of it.
    pub(crate) all: u64,
}

/// What came of an attempt to give blocks.
pub(crate) enum Given {
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

/// How far a save session is with a storage.
#[derive(Clone, Copy)]
pub(crate) struct Blocks {
    /// Where to look for the next dirty block.
    cursor: u64,
    partial: Option<Partial>,
    /// What has not been given of the initial part: the blocks that were dirty when it began.
    ///
    /// Any block that is given counts as one of them, as long as there are some, be it that or one
    /// that was changed since. So the initial part comes to an end however busy the device is.
    initial: Amount,
    /// Whether it is noted which blocks a chunk has.
    noting: bool,
    /// How many runs of blocks of the last chunk are in the notes, and the run after those.
    noted: usize,
    run: Option<Run>,
}

impl Blocks {
    /// Begins at the first block. There is no initial part yet.
    pub(crate) const fn new() -> Self {
        Self {
            cursor: 0,
            partial: None,
            initial: Amount {
                blocks: 0,
                zeroes: 0,
            },
            noting: false,
            noted: 0,
            run: None,
        }
    }

    /// Returns what there is to be given of `storage`, in records with up to `piece_max` bytes of
    /// blocks.
    pub(crate) fn estimate(&self, storage: &dyn MigratedBlocks, piece_max: usize) -> Estimate {
        let dirty = Amount::of(storage.dirty(self.cursor));
        let mut estimate = Estimate {
            initial: self.initial.at_most(dirty).pending(piece_max),
            all: dirty.pending(piece_max),
        };

        if let Some(partial) = self.partial {
            let left = partial.pending(piece_max);
            if partial.initial {
                estimate.initial = estimate.initial.saturating_add(left);
            }
            // It may have been emptied since, which takes a record of its own.
            let least = match storage.block(partial.index) {
                Some(_) => 0,
                None => Writer::size_of(ZEROES_SIZE) as u64,
            };
            estimate.all = estimate.all.saturating_add(left.max(least));
        }
        estimate
    }

    /// Forgets what cannot be left of the initial part, as less than that is dirty. So it does not
    /// become more when the device writes again what it has emptied.
    pub(crate) fn settle_initial(&mut self, storage: &dyn MigratedBlocks) {
        let dirty = Amount::of(storage.dirty(self.cursor));

        self.initial = self.initial.at_most(dirty);
    }

    /// Makes all that is to be given of `storage` the initial part.
    pub(crate) fn begin_initial(&mut self, storage: &dyn MigratedBlocks) {
        self.initial = Amount::of(storage.dirty(self.cursor));
        if let Some(partial) = &mut self.partial {
            partial.initial = true;
        }
    }

    /// Begins a chunk: the one before it is not in doubt. `noting` tells whether this one may be.
    pub(crate) fn begin_chunk(&mut self, noting: bool) {
        self.noting = noting;
        self.noted = 0;
        self.run = None;
    }

    /// Puts the next record at `offset` of the window, where there is room for `room` bytes. `notes`
    /// is where it is noted which blocks the chunk has; it has no more runs of them than fit in there
    /// and one.
    pub(crate) fn put<W: Window>(
        &mut self,
        storage: &mut dyn MigratedBlocks,
        writer: &mut Writer,
        window: &mut W,
        offset: usize,
        room: usize,
        notes: &mut [u8],
    ) -> Given {
        let next = self.partial.or_else(|| {
            let index = storage.take_dirty(self.cursor)?;
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

        let zeros = content(storage, index).is_none();
        let least = Writer::size_of(if zeros { ZEROES_SIZE } else { 1 });
        if room < least || !self.note(index, notes) {
            if self.partial.is_none() {
                self.put_back(storage, index);
            }
            return Given::Full;
        }

        let begins = self.partial.take().is_none();
        let argument = index
            .saturating_mul(BLOCK_SIZE as u64)
            .saturating_add(done as u64);
        if zeros {
            let len = self
                .take_zeros(storage, index, begins, notes)
                .saturating_mul(BLOCK_SIZE as u64)
                .saturating_sub(done as u64);
            writer.put(window, offset, Kind::Zeroes, argument, &len.to_le_bytes());
            Given::Record {
                payload: ZEROES_SIZE,
            }
        } else {
            let mut draft = Draft::new(window, offset, Kind::Block, argument);
            self.append_blocks(storage, &mut draft, room, next, notes);
            let payload = draft.payload_len();
            writer.complete(draft);
            Given::Record { payload }
        }
    }

    /// Takes the blocks of zeros that follow on block `first`, which has been taken, and returns how
    /// many they are with it. `begins` tells whether nothing of `first` has been given.
    fn take_zeros(
        &mut self,
        storage: &mut dyn MigratedBlocks,
        first: u64,
        begins: bool,
        notes: &mut [u8],
    ) -> u64 {
        let mut count: u64 = 1;
        let mut last = first;
        // Blocks that have content and are all zeros all the same are not counted as empty.
        let mut blocks = u64::from(begins && storage.block(first).is_some());

        while count < ZEROES_MAX {
            let Some(index) = self.take_after(storage, last, notes) else {
                break;
            };
            if content(storage, index).is_some() {
                self.put_back(storage, index);
                break;
            }
            blocks = blocks.saturating_add(u64::from(storage.block(index).is_some()));
            last = index;
            count = count.saturating_add(1);
        }

        self.initial.blocks = self.initial.blocks.saturating_sub(blocks);
        if begins && blocks == 0 {
            self.initial.zeroes = self.initial.zeroes.saturating_sub(1);
        }
        if count == ZEROES_MAX {
            self.cursor = last.saturating_add(1);
        }
        count
    }

    /// Appends what is left of block `next`, and the blocks that follow on it, as far as they fit into
    /// `room` bytes.
    fn append_blocks<W: Window>(
        &mut self,
        storage: &mut dyn MigratedBlocks,
        draft: &mut Draft<'_, W>,
        room: usize,
        next: Partial,
        notes: &mut [u8],
    ) {
        let Partial {
            mut index,
            mut done,
            mut initial,
        } = next;

        while let Some(block) = content(storage, index) {
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
            match self.take_after(storage, index, notes) {
                Some(next) => (index, done) = (next, 0),
                None => return,
            }
        }

        // All zeros, which is another record.
        self.put_back(storage, index);
    }

    /// Takes the block after `index` if it is dirty.
    fn take_after(
        &mut self,
        storage: &mut dyn MigratedBlocks,
        index: u64,
        notes: &mut [u8],
    ) -> Option<u64> {
        let wanted = index.saturating_add(1);
        self.cursor = wanted;
        let next = storage.take_dirty(wanted)?;

        if next != wanted || !self.note(next, notes) {
            self.put_back(storage, next);
            return None;
        }
        Some(next)
    }

    /// Makes a block dirty again that was taken and not given, and goes on with it.
    fn put_back(&mut self, storage: &mut dyn MigratedBlocks, index: u64) {
        storage.mark_dirty(index);
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

    /// Makes the blocks of the last chunk dirty again, for nobody knows whether it was taken.
    pub(crate) fn resend_unacknowledged(&mut self, storage: &mut dyn MigratedBlocks, notes: &[u8]) {
        let noted = notes
            .chunks_exact(NOTE_SIZE)
            .take(self.noted)
            .filter_map(|note| note.try_into().ok())
            .map(Run::decode);

        for run in noted.chain(self.run) {
            for place in 0..run.count {
                storage.mark_dirty(run.first.saturating_add(place));
            }
        }
        // A block of which a part was given is among them, for that part was in this chunk.
        self.partial = None;
        self.begin_chunk(false);
    }
}

/// Returns the content of a block that is not all zeros.
fn content(storage: &dyn MigratedBlocks, index: u64) -> Option<&[u8; BLOCK_SIZE]> {
    storage.block(index).filter(|block| !is_zero(&block[..]))
}
