// SPDX-License-Identifier: GPL-2.0

//! Gives the dirty blocks of a storage, record by record.
//!
//! A block is taken, which makes it clean, before its content is looked at, so that a write of the
//! running device that comes after makes it dirty again. Blocks that follow one on the other share a
//! record. Where the window ends, a block is cut, and the next chunk goes on with it: should it have
//! been written in between, it is dirty and will be given once more, whole.

use crate::{
    device::Window,
    record::{
        Kind,
        HEADER_SIZE, //
    },
    save::pieces,
    storage::{
        Storage,
        BLOCK_SIZE, //
    },
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
}

/// What came of an attempt to give blocks.
pub(crate) enum Given {
    /// A record with a payload of so many bytes.
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
    /// How many blocks have been given.
    given: u64,
    /// Whether it is noted which blocks a chunk has.
    noting: bool,
    /// How many runs of blocks of the last chunk are in the notes, and the run after those.
    noted: usize,
    run: Option<Run>,
}

impl Blocks {
    /// Begins at the first block.
    pub(crate) const fn new() -> Self {
        Self {
            cursor: 0,
            partial: None,
            given: 0,
            noting: false,
            noted: 0,
            run: None,
        }
    }

    /// Returns how many bytes of stream `dirty` blocks come to, with a header for each of the pieces
    /// of up to `piece_max` bytes.
    ///
    /// Less of it will come where blocks follow one on the other or are all zeros. Where the end of
    /// a chunk cuts a block there is one header more.
    pub(crate) fn pending(&self, dirty: u64, piece_max: usize) -> u64 {
        let pieces = pieces(BLOCK_SIZE, piece_max);
        let size = pieces
            .saturating_mul(HEADER_SIZE)
            .saturating_add(BLOCK_SIZE);
        let left = self.partial.map_or(0, |partial| {
            Writer::size_of(BLOCK_SIZE.saturating_sub(partial.done))
        });

        dirty
            .saturating_mul(size as u64)
            .saturating_add(left as u64)
    }

    /// Returns how many blocks have been given, those twice that were dirty again.
    pub(crate) const fn given(&self) -> u64 {
        self.given
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
        storage: &mut dyn Storage,
        writer: &mut Writer,
        window: &mut W,
        offset: usize,
        room: usize,
        notes: &mut [u8],
    ) -> Given {
        let next = match self.partial {
            Some(partial) => Some((partial.index, partial.done)),
            None => self.take(storage, self.cursor).map(|index| (index, 0)),
        };
        let Some((index, done)) = next else {
            return Given::Nothing;
        };

        let zeros = content(storage, index).is_none();
        let least = Writer::size_of(if zeros { ZEROES_SIZE } else { 1 });
        if room < least || !self.note(index, notes) {
            if self.partial.is_none() {
                self.put_back(storage, index);
            }
            return Given::Full;
        }

        self.partial = None;
        let argument = index
            .saturating_mul(BLOCK_SIZE as u64)
            .saturating_add(done as u64);
        if zeros {
            let len = self
                .take_zeros(storage, index, notes)
                .saturating_mul(BLOCK_SIZE as u64)
                .saturating_sub(done as u64);
            writer.put(window, offset, Kind::Zeroes, argument, &len.to_le_bytes());
            Given::Record {
                payload: ZEROES_SIZE,
            }
        } else {
            let mut draft = Draft::new(window, offset, Kind::Block, argument);
            self.append_blocks(storage, &mut draft, room, (index, done), notes);
            let payload = draft.payload_len();
            writer.complete(draft);
            Given::Record { payload }
        }
    }

    /// Takes the blocks of zeros that follow on block `first`, which has been taken, and returns how
    /// many they are with it.
    fn take_zeros(&mut self, storage: &mut dyn Storage, first: u64, notes: &mut [u8]) -> u64 {
        let mut count: u64 = 1;
        let mut last = first;

        while count < ZEROES_MAX {
            match self.take_after(storage, last, notes) {
                Some(index) if content(storage, index).is_none() => last = index,
                Some(index) => {
                    self.put_back(storage, index);
                    return count;
                }
                None => return count,
            }
            count = count.saturating_add(1);
        }

        self.cursor = last.saturating_add(1);
        count
    }

    /// Appends block `next.0` from byte `next.1` on, and the blocks that follow on it, as far as
    /// they fit into `room` bytes.
    fn append_blocks<W: Window>(
        &mut self,
        storage: &mut dyn Storage,
        draft: &mut Draft<'_, W>,
        room: usize,
        next: (u64, usize),
        notes: &mut [u8],
    ) {
        let (mut index, mut done) = next;

        while let Some(block) = content(storage, index) {
            let left = BLOCK_SIZE.saturating_sub(done);
            let len = left.min(room.saturating_sub(draft.size()));
            let until = done.saturating_add(len);
            draft.append(block.get(done..until).unwrap_or_default());
            if len < left {
                self.partial = Some(Partial { index, done: until });
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
        storage: &mut dyn Storage,
        index: u64,
        notes: &mut [u8],
    ) -> Option<u64> {
        let wanted = index.saturating_add(1);
        self.cursor = wanted;
        let next = self.take(storage, wanted)?;

        if next != wanted || !self.note(next, notes) {
            self.put_back(storage, next);
            return None;
        }
        Some(next)
    }

    fn take(&mut self, storage: &mut dyn Storage, from: u64) -> Option<u64> {
        let index = storage.take_dirty(from)?;
        self.given = self.given.saturating_add(1);
        Some(index)
    }

    /// Makes a block dirty again that was taken and not given, and goes on with it.
    fn put_back(&mut self, storage: &mut dyn Storage, index: u64) {
        self.given = self.given.saturating_sub(1);
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
    pub(crate) fn doubt(&mut self, storage: &mut dyn Storage, notes: &[u8]) {
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
fn content(storage: &dyn Storage, index: u64) -> Option<&[u8; BLOCK_SIZE]> {
    storage.block(index).filter(|block| !is_zero(block))
}

/// Returns whether all bytes are zeros.
fn is_zero(block: &[u8; BLOCK_SIZE]) -> bool {
    /// So many bytes are looked at before it is decided whether to look on.
    const STEP: usize = 64;

    let mut steps = block.chunks_exact(STEP);
    steps.all(|step| step.iter().fold(0, |seen, byte| seen | byte) == 0)
}
