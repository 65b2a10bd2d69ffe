// SPDX-License-Identifier: GPL-2.0

//! Checks of the migration engine that need no standard library and no heap.
//!
//! The host tests run them with cargo, and KUnit runs them in the kernel, so that what the kernel's
//! compiler made of the engine is checked as well.

use migration::{
    stream::crc32c::{
        crc32c,
        Crc32c, //
    },
    v1::{
        DataSection,
        MigrationRegion, //
    },
    Dirty,
    DirtyBlocks,
    Engine,
    MigratedBlocks,
    Port,
    Refusal,
    Sink,
    Source,
    StepError,
    BLOCK_SIZE,
    CONFIGURATION_MAX, //
};
use vfio_uapi::Errno;

/// The result of a check: an error says what was expected.
pub(crate) type Outcome = Result<(), &'static str>;

pub(crate) type Check = fn() -> Outcome;

/// All checks with their names.
pub(crate) const CHECKS: &[(&str, Check)] = &[
    ("crc32c_of_known_bytes", crc32c_of_known_bytes),
    ("crc32c_of_long_pieces", crc32c_of_long_pieces),
    ("dirty_blocks", dirty_blocks),
    ("v1_03_malformed_accesses", v1_03_malformed_accesses),
    ("v1_04_reserved_field", v1_04_reserved_field),
    ("v1_05_read_only_fields", v1_05_read_only_fields),
    ("v1_15_window_is_cleared", v1_15_window_is_cleared),
    ("v1_16_reserved_bits", v1_16_reserved_bits),
    ("v1_17_running_at_open", v1_17_running_at_open),
    ("v1_18_invalid_states", v1_18_invalid_states),
    ("v1_20_failed_save_unwinds", v1_20_failed_save_unwinds),
    ("v1_21_error_until_reset", v1_21_error_until_reset),
    ("v1_25_every_arc", v1_25_every_arc),
    ("v1_26_same_state", v1_26_same_state),
    ("v1_28_cancel", v1_28_cancel),
    ("v1_30_incomplete_stream", v1_30_incomplete_stream),
    (
        "v1_33_pending_has_no_side_effect",
        v1_33_pending_has_no_side_effect,
    ),
    ("v1_34_pending_outside_saving", v1_34_pending_outside_saving),
    ("v1_36_chunk_stays", v1_36_chunk_stays),
    ("v1_37_what_consumes", v1_37_what_consumes),
    ("v1_38_chunk_in_doubt", v1_38_chunk_in_doubt),
    ("v1_38_blocks_in_doubt", v1_38_blocks_in_doubt),
    ("v1_42_blocks_in_pre_copy", v1_42_blocks_in_pre_copy),
    ("v1_44_every_split", v1_44_every_split),
    ("v1_45_data_size", v1_45_data_size),
    ("v1_46_every_bit_flip", v1_46_every_bit_flip),
    ("v1_46_every_truncation", v1_46_every_truncation),
    ("v1_46_other_configuration", v1_46_other_configuration),
    ("v1_46_blocks_without_storage", v1_46_blocks_without_storage),
    ("v1_47_restart", v1_47_restart),
    ("v1_47_blocks_anew", v1_47_blocks_anew),
    ("v1_48_good_after_bad", v1_48_good_after_bad),
];

const STOP: u32 = 0b000;
const RUNNING: u32 = 0b001;
const STOP_COPY: u32 = 0b010;
const PRE_COPY: u32 = 0b011;
const RESUMING: u32 = 0b100;
const ERROR: u32 = 0b110;

const DEVICE_STATE: u64 = 0;
const RESERVED: u64 = 4;
const PENDING_BYTES: u64 = 8;
const DATA_OFFSET: u64 = 16;
const DATA_SIZE: u64 = 24;

const STATE_SIZE: usize = 40;
const WINDOW_SIZE: usize = 256;
/// Room for two saves.
const STREAM_SIZE: usize = 512;

/// The data section.
struct Memory([u8; WINDOW_SIZE]);

impl Sink for Memory {
    fn room(&self) -> usize {
        WINDOW_SIZE
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        for (place, byte) in self.0.iter_mut().skip(offset).zip(bytes) {
            *place = *byte;
        }
    }
}

impl Source for Memory {
    fn read(&self, offset: usize, into: &mut [u8]) {
        for (place, byte) in into.iter_mut().zip(self.0.iter().skip(offset)) {
            *place = *byte;
        }
    }
}

impl DataSection for Memory {
    fn clear(&mut self) {
        self.0.fill(0);
    }
}

/// Blocks of a storage.
const BLOCKS: usize = 8;

/// The two bytes that a block that is not all zeros may be full of.
const FILLS: [u8; 2] = [0xa1, 0xb2];
static BLOCKS_FULL: [[u8; BLOCK_SIZE]; 2] = [[FILLS[0]; BLOCK_SIZE], [FILLS[1]; BLOCK_SIZE]];

/// A storage each of whose blocks is full of one byte.
struct Disk {
    fills: [u8; BLOCKS],
    /// Bytes of a block that came.
    done: usize,
    dirty: Option<DirtyBlocks<[u64; 2]>>,
}

impl Disk {
    fn new() -> Self {
        Self {
            fills: [0; BLOCKS],
            done: 0,
            dirty: None,
        }
    }

    /// The device writes a block.
    fn fill(&mut self, index: usize, byte: u8) {
        if let Some(fill) = self.fills.get_mut(index) {
            *fill = byte;
        }
        self.mark_dirty(index as u64);
    }

    /// Takes the next bytes of a stream, which come at `offset`.
    fn take(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        for (at, byte) in (offset..).zip(bytes) {
            let block = usize::try_from(at).unwrap_or(usize::MAX) / BLOCK_SIZE;
            let start = usize::try_from(at).unwrap_or(usize::MAX) % BLOCK_SIZE;
            let fill = self.fills.get_mut(block).ok_or(Errno::EINVAL)?;
            if start == 0 {
                *fill = *byte;
                self.done = 0;
            }
            if self.done != start || fill != byte {
                return Err(Errno::EINVAL);
            }
            self.done = self.done.saturating_add(1);
        }
        Ok(())
    }
}

impl MigratedBlocks for Disk {
    fn blocks(&self) -> u64 {
        BLOCKS as u64
    }

    fn track(&mut self) -> Result<(), Errno> {
        self.dirty = DirtyBlocks::new([u64::MAX; 2], self.blocks());
        for index in 0..self.blocks() {
            if self.block(index).is_some() {
                self.mark_dirty(index);
            }
        }
        Ok(())
    }

    fn untrack(&mut self) {
        self.dirty = None;
    }

    fn dirty(&self, from: u64) -> Dirty {
        let dirty = self.dirty.as_ref();
        dirty.map_or(Dirty::default(), |dirty| dirty.dirty(from))
    }

    fn take_dirty(&mut self, from: u64) -> Option<u64> {
        self.dirty.as_mut()?.take_next(from)
    }

    fn mark_dirty(&mut self, index: u64) {
        let is_empty = self.block(index).is_none();
        match &mut self.dirty {
            Some(dirty) if is_empty => dirty.mark_empty(index),
            Some(dirty) => dirty.mark_data(index),
            None => {}
        }
    }

    fn block(&self, index: u64) -> Option<&[u8; BLOCK_SIZE]> {
        let fill = self.fills.get(usize::try_from(index).ok()?)?;
        let full = FILLS.iter().position(|byte| byte == fill)?;
        BLOCKS_FULL.get(full)
    }

    /// Takes the content of another such storage: one byte over and over, each block from its beginning on.
    fn put(
        &mut self,
        offset: u64,
        len: usize,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Errno> {
        let mut piece = [0; 64];
        let mut done = 0;
        while done < len {
            let here = piece.len().min(len.saturating_sub(done));
            let bytes = piece.get_mut(..here).ok_or(Errno::EINVAL)?;
            fill(bytes);
            self.take(offset.saturating_add(done as u64), bytes)?;
            done = done.saturating_add(here);
        }
        Ok(())
    }

    fn put_zeroes(&mut self, offset: u64, len: u64) -> Result<(), Errno> {
        let size = BLOCK_SIZE as u64;
        for (start, fill) in (0u64..).step_by(BLOCK_SIZE).zip(&mut self.fills) {
            if offset <= start && start.saturating_add(size) <= offset.saturating_add(len) {
                *fill = 0;
            }
        }
        Ok(())
    }
}

/// A device whose state is a string of bytes.
struct Unit {
    live: [u8; STATE_SIZE],
    staged: Option<[u8; STATE_SIZE]>,
    disk: Option<Disk>,
    staged_disk: Option<Disk>,
    running: bool,
    configuration: u8,
    start_fails: bool,
    save_fails: bool,
}

impl Port for Unit {
    const TYPE: &'static str = "check";

    fn state_size(&self) -> usize {
        STATE_SIZE
    }

    fn configuration(&self, out: &mut [u8; CONFIGURATION_MAX]) -> usize {
        let [first, ..] = out;
        *first = self.configuration;
        1
    }

    fn stop(&mut self) -> Result<(), StepError<Errno>> {
        self.running = false;
        Ok(())
    }

    fn start(&mut self) -> Result<(), StepError<Errno>> {
        if self.start_fails {
            return Err(Errno::EBUSY.into());
        }
        self.running = true;
        Ok(())
    }

    fn save(&mut self, out: &mut [u8]) -> Result<usize, StepError<Errno>> {
        if self.save_fails {
            return Err(Errno::ENOMEM.into());
        }
        for (place, byte) in out.iter_mut().zip(&self.live) {
            *place = *byte;
        }
        Ok(STATE_SIZE)
    }

    fn stage(&mut self, state: &[u8]) -> Result<(), Errno> {
        let state = state.try_into().map_err(|_| Errno::EBADMSG)?;
        self.staged = Some(state);
        Ok(())
    }

    fn adopt(&mut self) -> Result<(), StepError<Errno>> {
        if let Some(state) = self.staged.take() {
            self.live = state;
        }
        if self.disk.is_some() {
            self.disk = self.staged_disk.take();
        }
        Ok(())
    }

    fn unstage(&mut self) {
        self.staged = None;
        self.staged_disk = None;
    }

    fn reset(&mut self) {
        self.live = [0; STATE_SIZE];
        self.running = true;
    }

    fn with_blocks<R>(&mut self, f: impl FnOnce(&mut dyn MigratedBlocks) -> R) -> Option<R> {
        self.disk.as_mut().map(|disk| f(disk))
    }

    fn with_staged_blocks<R>(
        &mut self,
        f: impl FnOnce(&mut dyn MigratedBlocks) -> R,
    ) -> Result<Option<R>, Errno> {
        let has_storage = self.disk.is_some();
        let staged = &mut self.staged_disk;

        Ok(has_storage.then(|| f(staged.get_or_insert_with(Disk::new))))
    }
}

/// A state: `first` and the numbers after it.
fn live(first: u8) -> [u8; STATE_SIZE] {
    let mut live = [0; STATE_SIZE];
    for (byte, value) in live.iter_mut().zip(first..) {
        *byte = value;
    }
    live
}

/// A stream that was read.
struct Stream {
    bytes: [u8; STREAM_SIZE],
    len: usize,
}

impl Stream {
    fn new() -> Self {
        Self {
            bytes: [0; STREAM_SIZE],
            len: 0,
        }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }

    fn append(&mut self, bytes: &[u8]) {
        for (place, byte) in self.bytes.iter_mut().skip(self.len).zip(bytes) {
            *place = *byte;
        }
        self.len = self.len.saturating_add(bytes.len());
    }
}

/// A device with its region, and a user who has it open.
struct Rig {
    engine: Engine<[u8; STATE_SIZE]>,
    region: MigrationRegion<Memory>,
    unit: Unit,
}

impl Rig {
    /// A device that has just been opened, with the state `live(first)`.
    fn new(first: u8) -> Self {
        Self {
            engine: Engine::new([0; STATE_SIZE]),
            region: MigrationRegion::new(Memory([0; WINDOW_SIZE])),
            unit: Unit {
                live: live(first),
                staged: None,
                disk: None,
                staged_disk: None,
                running: true,
                configuration: 1,
                start_fails: false,
                save_fails: false,
            },
        }
    }

    /// As [`new`](Self::new), with a storage whose blocks in `full` are written.
    fn with_disk(first: u8, full: &[usize]) -> Self {
        let mut disk = Disk::new();
        for index in full {
            disk.fill(*index, FILLS[0]);
        }
        let mut rig = Self::new(first);
        rig.unit.disk = Some(disk);
        rig
    }

    fn fill(&mut self, index: usize, byte: u8) {
        if let Some(disk) = &mut self.unit.disk {
            disk.fill(index, byte);
        }
    }

    fn fills(&self) -> [u8; BLOCKS] {
        let disk = self.unit.disk.as_ref();
        disk.map_or([0; BLOCKS], |disk| disk.fills)
    }

    /// Takes chunks until nothing is pending, each straight to `destination`. Returns the number of
    /// bytes.
    fn drain_to(&mut self, destination: &mut Rig) -> Result<usize, &'static str> {
        let mut bytes: usize = 0;
        while self.pending()? > 0 {
            let chunk = self.look()?;
            expect(!chunk.is_empty(), "v1_39: data where bytes are pending")?;
            bytes = bytes.saturating_add(chunk.len());
            destination
                .give(chunk, WINDOW_SIZE)
                .map_err(|_| "a good stream to be taken")?;
        }
        Ok(bytes)
    }

    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), Refusal> {
        self.region
            .read_header(&mut self.engine, &mut self.unit, offset, bytes)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Refusal> {
        self.region
            .write_header(&mut self.engine, &mut self.unit, offset, bytes)
    }

    fn reset(&mut self) {
        self.region.reset();
        self.engine.reset(&mut self.unit);
    }

    fn word(&mut self) -> u32 {
        let mut bytes = [0xee; 4];
        match self.read(DEVICE_STATE, &mut bytes) {
            Ok(()) => u32::from_ne_bytes(bytes),
            Err(_) => u32::MAX,
        }
    }

    fn set(&mut self, word: u32) -> Result<(), Refusal> {
        self.write(DEVICE_STATE, &word.to_ne_bytes())
    }

    fn go(&mut self, words: &[u32]) -> Outcome {
        words
            .iter()
            .try_for_each(|word| self.set(*word))
            .map_err(|_| "valid transitions to succeed")
    }

    fn number(&mut self, field: u64) -> Result<u64, &'static str> {
        let mut bytes = [0xee; 8];
        self.read(field, &mut bytes)
            .map_err(|_| "a field to be readable")?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn pending(&mut self) -> Result<u64, &'static str> {
        self.number(PENDING_BYTES)
    }

    /// Reads `data_offset` and `data_size`; returns the chunk.
    fn look(&mut self) -> Result<&[u8], &'static str> {
        expect(
            self.number(DATA_OFFSET)? == 4096,
            "data_offset to be a page",
        )?;
        let size = usize::try_from(self.number(DATA_SIZE)?).unwrap_or(usize::MAX);
        let window = &self.region.data().0;
        window.get(..size).ok_or("a chunk within the window")
    }

    /// Takes chunks until nothing is pending.
    fn drain(&mut self, stream: &mut Stream) -> Outcome {
        while self.pending()? > 0 {
            let chunk = self.look()?;
            expect(!chunk.is_empty(), "v1_39: data where bytes are pending")?;
            stream.append(chunk);
        }
        Ok(())
    }

    fn commit(&mut self, size: u64) -> Result<(), Refusal> {
        self.write(DATA_SIZE, &size.to_ne_bytes())
    }

    /// Gives a stream in chunks of up to `size` bytes.
    fn give(&mut self, stream: &[u8], size: usize) -> Result<(), Refusal> {
        for chunk in stream.chunks(size) {
            self.region.data_mut().write(0, chunk);
            self.commit(chunk.len() as u64)?;
        }
        Ok(())
    }
}

fn expect(seen: bool, expected: &'static str) -> Outcome {
    if seen {
        Ok(())
    } else {
        Err(expected)
    }
}

fn errno<T>(result: Result<T, Refusal>) -> Option<Errno> {
    result.err().map(|refusal| refusal.errno)
}

/// The stream of a device whose state begins with `first`.
fn stream_of(first: u8) -> Result<Stream, &'static str> {
    let mut source = Rig::new(first);
    let mut stream = Stream::new();
    source.go(&[PRE_COPY])?;
    source.drain(&mut stream)?;
    source.go(&[STOP_COPY])?;
    source.drain(&mut stream)?;
    Ok(stream)
}

/// Gives `stream` to a new device, whose state must then begin with `first`.
fn arrives(stream: &[u8], size: usize, first: u8) -> Outcome {
    let mut rig = Rig::new(99);
    rig.go(&[RESUMING])?;
    rig.give(stream, size)
        .map_err(|_| "a good stream to be taken")?;
    rig.go(&[RUNNING])?;
    expect(rig.unit.live == live(first), "the source's state to arrive")
}

fn crc32c_of_known_bytes() -> Outcome {
    expect(crc32c(b"") == 0, "the checksum of nothing")?;
    expect(crc32c(b"123456789") == 0xe306_9283, "the check value")?;
    expect(crc32c(&[0; 32]) == 0x8a91_36aa, "the checksum of 32 zeros")?;
    expect(
        crc32c(&[0xff; 32]) == 0x62a8_ab43,
        "the checksum of 32 ones",
    )?;
    let mut counted = [0; 32];
    for (place, byte) in counted.iter_mut().zip(0..) {
        *place = byte;
    }
    expect(
        crc32c(&counted) == 0x46dd_794e,
        "the checksum of 32 bytes that ascend",
    )?;
    counted.reverse();
    expect(
        crc32c(&counted) == 0x113f_db5c,
        "the checksum of 32 bytes that descend",
    )
}

/// The checksum by its definition, bit by bit.
fn slow_crc32c(bytes: &[u8]) -> u32 {
    let mut crc: u32 = !0;

    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
        }
    }
    !crc
}

/// Long pieces take another path through the processor than short ones: the kernel's `crc32c()` has its limit
/// at 512 bytes.
fn crc32c_of_long_pieces() -> Outcome {
    let mut bytes = [0; 1536];
    for (place, number) in bytes.iter_mut().zip(0u32..) {
        *place = number.wrapping_mul(2_654_435_761).to_be_bytes()[0];
    }

    for until in 500..bytes.len() {
        let expected = slow_crc32c(&bytes[..until]);
        expect(
            crc32c(&bytes[..until]) == expected,
            "the checksum by its definition",
        )?;
        for cut in [1, 7, until / 3, until - 3] {
            let mut crc = Crc32c::new();
            crc.update(&bytes[..cut]);
            crc.update(&bytes[cut..until]);
            expect(
                crc.value() == expected,
                "pieces to have the checksum of the whole",
            )?;
        }
    }
    Ok(())
}

fn dirty_blocks() -> Outcome {
    let Some(mut dirty) = DirtyBlocks::new([u64::MAX; 4], 100) else {
        return Err("four words to be enough for 100 blocks");
    };
    for index in [0, 64, 99, 100, u64::MAX] {
        dirty.mark_data(index);
    }
    for index in [63, 64, 63, 100, u64::MAX] {
        dirty.mark_empty(index);
    }
    for (from, runs) in [(0, 1), (63, 1), (64, 2), (65, 1), (u64::MAX, 1)] {
        let expected = Dirty {
            data: 2,
            empty: 2,
            runs,
        };
        expect(dirty.dirty(from) == expected, "two blocks and a run of two")?;
    }
    for (from, expected) in [(64, 64), (65, 99), (65, 0), (u64::MAX, 63)] {
        let seen = dirty.take_next(from);
        expect(seen == Some(expected), "the next dirty block, or the first")?;
    }
    expect(dirty.take_next(0).is_none(), "no more dirty blocks")?;
    expect(
        DirtyBlocks::new([0; 3], 65).is_none(),
        "three words to be too few for 65 blocks",
    )
}

fn v1_03_malformed_accesses() -> Outcome {
    const FIELDS: [(u64, usize); 5] = [(0, 4), (4, 4), (8, 8), (16, 8), (24, 8)];

    let mut rig = Rig::new(0);
    let mut bytes = [0; 17];
    for offset in 0..40 {
        for len in 0..bytes.len() {
            if FIELDS.contains(&(offset, len)) {
                continue;
            }
            let bytes = bytes.get_mut(..len).unwrap_or_default();
            let read = errno(rig.read(offset, bytes));
            expect(
                read == Some(Errno::EINVAL),
                "a malformed read to be refused",
            )?;
            let write = errno(rig.write(offset, bytes));
            expect(
                write == Some(Errno::EINVAL),
                "a malformed write to be refused",
            )?;
        }
    }
    expect(
        rig.word() == RUNNING,
        "malformed accesses to change nothing",
    )
}

fn v1_04_reserved_field() -> Outcome {
    let mut rig = Rig::new(0);
    let mut bytes = [0xee; 4];
    let written = rig.write(RESERVED, &[0xff; 4]);
    let read = rig.read(RESERVED, &mut bytes);
    expect(written.is_ok() && read.is_ok(), "reserved to be accessible")?;
    expect(bytes == [0; 4], "reserved to read as zero")
}

fn v1_05_read_only_fields() -> Outcome {
    let mut rig = Rig::new(0);
    for field in [PENDING_BYTES, DATA_OFFSET] {
        let seen = errno(rig.write(field, &[0; 8]));
        expect(
            seen == Some(Errno::EPERM),
            "a write of a read-only field to fail",
        )?;
    }
    Ok(())
}

fn v1_15_window_is_cleared() -> Outcome {
    let mut rig = Rig::new(1);
    rig.region.data_mut().0.fill(0x5a);
    rig.go(&[PRE_COPY])?;
    expect(
        rig.region.data().0 == [0; WINDOW_SIZE],
        "a clear window for a save",
    )?;
    rig.go(&[STOP_COPY])?;
    rig.look()?;
    rig.go(&[STOP])?;
    expect(
        rig.region.data().0 == [0; WINDOW_SIZE],
        "a clear window after a save",
    )?;
    rig.region.data_mut().0.fill(0x5a);
    rig.reset();
    expect(
        rig.region.data().0 == [0; WINDOW_SIZE],
        "a clear window after a reset",
    )
}

fn v1_16_reserved_bits() -> Outcome {
    let mut rig = Rig::new(0);
    for word in [PRE_COPY | 0xf0, STOP_COPY | 0x8000_0000, STOP, STOP | 8] {
        rig.go(&[word])?;
        expect(rig.word() == word, "reserved bits to read as written")?;
    }
    Ok(())
}

fn v1_17_running_at_open() -> Outcome {
    let mut rig = Rig::new(0);
    expect(
        rig.word() == RUNNING && rig.engine.state().is_running(),
        "a running device",
    )
}

fn v1_18_invalid_states() -> Outcome {
    for state in [STOP, RUNNING, STOP_COPY, PRE_COPY, RESUMING] {
        let mut rig = Rig::new(0);
        rig.go(&[state])?;
        for request in [0b101, 0b110, 0b111] {
            let seen = errno(rig.set(request));
            expect(
                seen == Some(Errno::EINVAL),
                "an invalid state to be refused",
            )?;
            expect(rig.word() == state, "an invalid state to change nothing")?;
        }
    }
    Ok(())
}

fn v1_20_failed_save_unwinds() -> Outcome {
    for from in [RUNNING, PRE_COPY] {
        let mut rig = Rig::new(0);
        rig.go(&[from])?;
        rig.unit.save_fails = true;
        let seen = errno(rig.set(STOP_COPY));
        expect(seen == Some(Errno::ENOMEM), "the device's error")?;
        expect(rig.word() == from, "the previous state")?;
        expect(rig.unit.running, "the device to run on")?;
    }
    Ok(())
}

fn v1_21_error_until_reset() -> Outcome {
    let mut rig = Rig::new(0);
    rig.unit.save_fails = true;
    rig.unit.start_fails = true;
    expect(
        errno(rig.set(STOP_COPY)) == Some(Errno::EIO),
        "a broken device",
    )?;
    for request in [STOP, RUNNING, STOP_COPY, PRE_COPY, RESUMING, 0b101] {
        expect(rig.word() == ERROR, "the ERROR state")?;
        expect(errno(rig.set(request)) == Some(Errno::EIO), "ERROR to stay")?;
    }
    rig.reset();
    expect(
        rig.word() == RUNNING && rig.unit.running,
        "a reset to repair",
    )
}

fn v1_25_every_arc() -> Outcome {
    let stream = stream_of(7)?;
    for from in [STOP, RUNNING, STOP_COPY, PRE_COPY, RESUMING] {
        for to in [STOP, RUNNING, STOP_COPY, PRE_COPY, RESUMING] {
            let mut rig = Rig::new(0);
            rig.go(&[from])?;
            if from == RESUMING {
                let given = rig.give(stream.bytes(), WINDOW_SIZE);
                given.map_err(|_| "a good stream to be taken")?;
            }
            rig.go(&[to])?;
            expect(rig.word() == to, "the state that was asked for")?;
            expect(
                rig.unit.running == (to & RUNNING != 0),
                "the device to run or not",
            )?;
        }
    }
    Ok(())
}

fn v1_26_same_state() -> Outcome {
    let mut rig = Rig::new(0);
    rig.go(&[STOP_COPY])?;
    let pending = rig.pending()?;
    let first = crc32c(rig.look()?);
    rig.go(&[STOP_COPY, STOP_COPY | 8])?;
    expect(crc32c(rig.look()?) == first, "the chunk to stay")?;
    expect(rig.pending()? < pending, "the save to go on")
}

fn v1_28_cancel() -> Outcome {
    let mut rig = Rig::new(5);
    rig.go(&[PRE_COPY, STOP_COPY])?;
    rig.look()?;
    rig.go(&[RUNNING])?;
    expect(rig.pending()? == 0, "nothing pending after a cancel")?;
    expect(
        rig.unit.running && rig.unit.live == live(5),
        "an unharmed device",
    )?;

    let mut stream = Stream::new();
    rig.go(&[STOP_COPY])?;
    rig.drain(&mut stream)?;
    arrives(stream.bytes(), WINDOW_SIZE, 5)
}

fn v1_30_incomplete_stream() -> Outcome {
    let mut rig = Rig::new(0);
    rig.go(&[RESUMING])?;
    for target in [STOP, RUNNING, STOP_COPY, PRE_COPY] {
        let seen = errno(rig.set(target));
        expect(seen == Some(Errno::ENODATA), "RESUMING not to be left")?;
        expect(rig.word() == RESUMING, "RESUMING to stay")?;
    }
    Ok(())
}

fn v1_33_pending_has_no_side_effect() -> Outcome {
    let mut rig = Rig::new(0);
    let mut stream = Stream::new();
    rig.go(&[STOP_COPY])?;
    let pending = rig.pending()?;
    for _ in 0..3 {
        expect(rig.pending()? == pending, "the same number once more")?;
    }
    rig.drain(&mut stream)?;
    expect(stream.len as u64 == pending, "all that was pending to come")
}

fn v1_34_pending_outside_saving() -> Outcome {
    let mut rig = Rig::new(0);
    for state in [RUNNING, STOP, RESUMING] {
        rig.go(&[state])?;
        expect(rig.pending()? == 0, "nothing to be pending")?;
    }
    Ok(())
}

fn v1_36_chunk_stays() -> Outcome {
    let mut rig = Rig::new(0);
    rig.go(&[STOP_COPY])?;
    let first = crc32c(rig.look()?);
    for _ in 0..3 {
        expect(crc32c(rig.look()?) == first, "the same chunk once more")?;
    }
    Ok(())
}

fn v1_37_what_consumes() -> Outcome {
    // Accesses, and whether they consume the one pending chunk.
    for (accesses, consumes) in [
        (&b"PPPOSP"[..], true),
        (b"POSOSOSP", true),
        (b"OP", true),
        (b"PSP", false),
        (b"POS", false),
        (b"P", false),
    ] {
        let mut rig = Rig::new(0);
        rig.go(&[PRE_COPY])?;
        for access in accesses {
            rig.number(match access {
                b'P' => PENDING_BYTES,
                b'O' => DATA_OFFSET,
                _ => DATA_SIZE,
            })?;
        }
        expect(
            rig.look()?.is_empty() == consumes,
            "only P after O to consume",
        )?;
    }
    Ok(())
}

fn v1_38_chunk_in_doubt() -> Outcome {
    for taken in [false, true] {
        let mut source = Rig::new(3);
        let mut stream = Stream::new();
        source.go(&[PRE_COPY])?;
        source.pending()?;
        let chunk = source.look()?;
        if taken {
            stream.append(chunk);
        }
        source.go(&[STOP_COPY])?;
        source.drain(&mut stream)?;
        arrives(stream.bytes(), WINDOW_SIZE, 3)?;
    }
    Ok(())
}

fn v1_38_blocks_in_doubt() -> Outcome {
    // The number of chunks before the unacknowledged one. Blocks are cut, as no data section of these tests
    // holds a whole block.
    for unacknowledged in 0..24 {
        for taken in [false, true] {
            let mut source = Rig::with_disk(3, &[1]);
            let mut destination = Rig::with_disk(99, &[0]);
            source.go(&[PRE_COPY])?;
            destination.go(&[RESUMING])?;
            for chunk in 0..=unacknowledged {
                source.pending()?;
                let bytes = source.look()?;
                if chunk < unacknowledged || taken {
                    let given = destination.give(bytes, WINDOW_SIZE);
                    given.map_err(|_| "a good stream to be taken")?;
                }
            }
            source.fill(5, FILLS[1]);
            source.go(&[STOP_COPY])?;
            source.drain_to(&mut destination)?;
            destination.go(&[RUNNING])?;
            let seen = destination.fills();
            expect(seen == source.fills(), "the source's storage to arrive")?;
        }
    }
    Ok(())
}

fn v1_42_blocks_in_pre_copy() -> Outcome {
    let mut source = Rig::with_disk(3, &[0, 1, 2, 6]);
    let mut destination = Rig::with_disk(99, &[0, 7]);
    source.go(&[PRE_COPY])?;
    destination.go(&[RESUMING])?;
    let bytes = source.drain_to(&mut destination)?;
    expect(bytes > 4 * BLOCK_SIZE, "all blocks in pre-copy")?;

    source.fill(2, FILLS[1]);
    source.fill(6, 0);
    expect(source.pending()? > 0, "pending blocks after a write")?;
    source.go(&[STOP_COPY])?;
    let bytes = source.drain_to(&mut destination)?;
    expect(bytes < 2 * BLOCK_SIZE, "only what is dirty")?;
    expect(
        destination.fills() == [FILLS[0], 0, 0, 0, 0, 0, 0, FILLS[0]],
        "the live storage as it was",
    )?;
    destination.go(&[RUNNING])?;
    expect(
        destination.fills() == source.fills() && destination.unit.live == live(3),
        "the source's storage and state to arrive",
    )
}

fn v1_44_every_split() -> Outcome {
    let stream = stream_of(3)?;
    for size in 1..=WINDOW_SIZE {
        arrives(stream.bytes(), size, 3)?;
    }
    Ok(())
}

fn v1_45_data_size() -> Outcome {
    let mut rig = Rig::new(0);
    for state in [RUNNING, PRE_COPY, STOP_COPY, STOP] {
        rig.go(&[state])?;
        for size in [0, 1] {
            let seen = errno(rig.commit(size));
            expect(seen == Some(Errno::EINVAL), "data_size to be refused")?;
        }
    }
    rig.go(&[RESUMING])?;
    expect(rig.commit(0).is_ok(), "zero to be accepted")?;
    for size in [WINDOW_SIZE as u64 + 1, u64::MAX] {
        let seen = errno(rig.commit(size));
        expect(
            seen == Some(Errno::EMSGSIZE),
            "too large a size to be refused",
        )?;
    }
    Ok(())
}

fn v1_46_every_bit_flip() -> Outcome {
    let mut stream = stream_of(3)?;
    let mut rig = Rig::new(99);
    for at in 0..stream.len {
        for bit in 0..8 {
            flip(&mut stream, at, bit);
            rig.go(&[RESUMING])?;
            let refusal = rig.give(stream.bytes(), WINDOW_SIZE);
            expect(
                errno(refusal) == Some(Errno::EBADMSG),
                "a flipped bit to be found",
            )?;
            expect(
                errno(rig.set(RUNNING)) == errno(refusal),
                "RESUMING not to be left",
            )?;
            expect(rig.unit.staged.is_none(), "nothing to be staged")?;
            rig.reset();
            flip(&mut stream, at, bit);
        }
    }
    Ok(())
}

fn flip(stream: &mut Stream, at: usize, bit: u32) {
    if let Some(byte) = stream.bytes.get_mut(at) {
        *byte ^= 1u8.wrapping_shl(bit);
    }
}

fn v1_46_every_truncation() -> Outcome {
    let stream = stream_of(3)?;
    for len in 0..stream.len {
        let mut rig = Rig::new(99);
        rig.go(&[RESUMING])?;
        let part = stream.bytes().get(..len).unwrap_or_default();
        rig.give(part, WINDOW_SIZE)
            .map_err(|_| "a part of a good stream to be taken")?;
        let seen = errno(rig.set(RUNNING));
        expect(
            seen == Some(Errno::ENODATA),
            "a truncated stream to be refused",
        )?;
        expect(rig.unit.live == live(99), "the live device as it was")?;
    }
    Ok(())
}

fn v1_46_other_configuration() -> Outcome {
    let stream = stream_of(3)?;
    let mut rig = Rig::new(99);
    rig.unit.configuration = 2;
    rig.go(&[RESUMING])?;
    let seen = errno(rig.give(stream.bytes(), WINDOW_SIZE));
    expect(
        seen == Some(Errno::EXDEV),
        "another configuration to be refused",
    )
}

fn v1_46_blocks_without_storage() -> Outcome {
    let mut source = Rig::with_disk(3, &[1]);
    let mut destination = Rig::new(99);
    source.go(&[PRE_COPY])?;
    destination.go(&[RESUMING])?;
    let seen = errno(destination.give(source.look()?, WINDOW_SIZE));
    expect(
        seen == Some(Errno::EXDEV),
        "blocks for a device without storage to be refused",
    )
}

fn v1_47_blocks_anew() -> Outcome {
    let mut source = Rig::with_disk(3, &[1, 4]);
    let mut destination = Rig::with_disk(99, &[]);
    source.go(&[PRE_COPY])?;
    destination.go(&[RESUMING])?;
    source.drain_to(&mut destination)?;
    source.go(&[STOP_COPY])?;
    source.drain_to(&mut destination)?;
    source.go(&[RUNNING])?;
    source.fill(1, 0);
    source.go(&[PRE_COPY])?;
    source.drain_to(&mut destination)?;
    source.go(&[STOP_COPY])?;
    source.drain_to(&mut destination)?;
    destination.go(&[RUNNING])?;
    expect(
        destination.fills() == [0, 0, 0, 0, FILLS[0], 0, 0, 0],
        "the source's storage to arrive",
    )
}

fn v1_47_restart() -> Outcome {
    let mut source = Rig::new(3);
    let mut stream = Stream::new();
    source.go(&[PRE_COPY, STOP_COPY])?;
    source.drain(&mut stream)?;
    source.go(&[RUNNING])?;
    source.unit.live = live(4);
    source.go(&[STOP, STOP_COPY])?;
    source.drain(&mut stream)?;
    arrives(stream.bytes(), WINDOW_SIZE, 4)
}

fn v1_48_good_after_bad() -> Outcome {
    let stream = stream_of(3)?;
    let mut rig = Rig::new(99);
    rig.go(&[RESUMING])?;
    let seen = errno(rig.give(&[0x5a; 64], WINDOW_SIZE));
    expect(seen == Some(Errno::EBADMSG), "noise to be refused")?;
    let seen = errno(rig.give(stream.bytes(), WINDOW_SIZE));
    expect(seen == Some(Errno::EBADMSG), "a refused session to stay so")?;

    rig.reset();
    rig.go(&[RESUMING])?;
    rig.give(stream.bytes(), WINDOW_SIZE)
        .map_err(|_| "a good stream to be taken after a reset")?;
    rig.go(&[RUNNING])?;
    expect(rig.unit.live == live(3), "the source's state to arrive")
}
