// SPDX-License-Identifier: GPL-2.0

//! Helpers of all tests: a device that can be made to fail, its storage, memory for the data section, a
//! user of both protocols, and an encoder and decoder of the stream that share no code with those under test.

use std::cell::Cell;
use std::collections::BTreeMap;

use migration::v1::DataSection;
use migration::v1::MigrationRegion;
use migration::v2::file::File;
use migration::v2::fsm;
use migration::Dirty;
use migration::DirtyBlocks;
use migration::Engine;
use migration::MigratedBlocks;
use migration::Port;
use migration::Reason;
use migration::Refusal;
use migration::Sink;
use migration::Source;
use migration::StepError;
use migration::BLOCK_SIZE;
use vfio_uapi::v1::Field;
use vfio_uapi::v1::State;
use vfio_uapi::v2::MigState;
use vfio_uapi::Errno;

/// The bound of the state of a [`Unit`], in bytes.
pub const STATE_SIZE: usize = 6000;

/// Offset of the data section.
pub const WINDOW_OFFSET: u64 = 4096;

/// The words of the states, spelled out so that they are not those of the code under test.
pub const STOP: u32 = 0b000;
pub const RUNNING: u32 = 0b001;
pub const STOP_COPY: u32 = 0b010;
pub const PRE_COPY: u32 = 0b011;
pub const RESUMING: u32 = 0b100;
pub const ERROR: u32 = 0b110;

/// Memory that the user writes whenever it likes.
pub struct Memory {
    pub bytes: Vec<u8>,
}

impl Sink for Memory {
    fn room(&self) -> usize {
        self.bytes.len()
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
}

impl Source for Memory {
    fn read(&self, offset: usize, into: &mut [u8]) {
        into.copy_from_slice(&self.bytes[offset..offset + into.len()]);
    }
}

impl DataSection for Memory {
    fn clear(&mut self) {
        self.bytes.fill(0);
    }
}

/// The calls of a [`Unit`] that fail.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub struct Faults {
    pub stop: bool,
    pub start: bool,
    pub save: bool,
    /// `configuration` gives more than it may.
    pub configuration: bool,
    /// `save` returns a length above the bound.
    pub excess: bool,
    /// `stage` refuses the state.
    pub stage: bool,
    /// The storage cannot be tracked.
    pub track: bool,
    /// The staged storage cannot be made.
    pub staged_storage: bool,
    /// Nothing can be put into the staged storage.
    pub put: bool,
    /// The staged storage takes one byte less than it is offered.
    pub short_put: bool,
    /// P2P can be neither set nor left.
    pub p2p: bool,
    /// The staged state cannot be adopted.
    pub adopt: bool,
    /// The calls of a step that fail do so half way, and cannot be taken back.
    pub irreversible: bool,
}

impl Faults {
    /// Returns the error of a step that fails.
    fn fail<T>(self, errno: Errno) -> Result<T, StepError<Errno>> {
        Err(match self.irreversible {
            true => StepError::Irreversible(errno),
            false => StepError::Unchanged(errno),
        })
    }
}

/// The content of a storage: every block that is not all zeros.
pub type Content = BTreeMap<u64, Vec<u8>>;

/// Numbers of calls of the methods of a [`Disk`].
#[derive(Default)]
pub struct Calls {
    pub take_dirty: usize,
    pub mark_dirty: usize,
    pub block: Cell<usize>,
}

/// Storage of a [`Unit`]. It asserts that the engine calls its methods as it may.
pub struct Disk {
    /// The blocks that were written.
    written: BTreeMap<u64, Box<[u8; BLOCK_SIZE]>>,
    blocks: u64,
    pub dirty: Option<DirtyBlocks<Vec<u64>>>,
    pub calls: Calls,
    fail_track: bool,
    fail_put: bool,
    short_put: bool,
}

impl Disk {
    pub fn new(blocks: u64) -> Self {
        Self {
            written: BTreeMap::new(),
            blocks,
            dirty: None,
            calls: Calls::default(),
            fail_track: false,
            fail_put: false,
            short_put: false,
        }
    }

    /// The device writes.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset.checked_add(bytes.len() as u64).expect("no overflow");
        assert!(!bytes.is_empty(), "a write of nothing");
        assert!(
            end <= self.blocks * BLOCK_SIZE as u64,
            "a write at {offset}"
        );

        let (mut offset, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let index = offset / BLOCK_SIZE as u64;
            let start = (offset % BLOCK_SIZE as u64) as usize;
            let (here, later) = rest.split_at(rest.len().min(BLOCK_SIZE - start));
            let block = self.written.entry(index);
            let block = block.or_insert_with(|| Box::new([0; BLOCK_SIZE]));
            block[start..start + here.len()].copy_from_slice(here);
            if let Some(dirty) = &mut self.dirty {
                dirty.mark_data(index);
            }
            offset += here.len() as u64;
            rest = later;
        }
    }

    /// The device drops a block, which is empty from then on.
    pub fn discard(&mut self, index: u64) {
        if self.written.remove(&index).is_some() {
            if let Some(dirty) = &mut self.dirty {
                dirty.mark_empty(index);
            }
        }
    }

    pub fn content(&self) -> Content {
        let written = self.written.iter();
        let blocks = written.filter(|(_, block)| block.iter().any(|byte| *byte != 0));
        blocks
            .map(|(index, block)| (*index, block.to_vec()))
            .collect()
    }

    /// Returns the number of dirty blocks, empty or not.
    pub fn dirty_count(&self) -> u64 {
        let dirty = self.dirty(0);
        dirty.data + dirty.empty
    }
}

impl MigratedBlocks for Disk {
    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn track(&mut self) -> Result<(), Errno> {
        if self.fail_track {
            return Err(FAIL_TRACK);
        }
        let words = DirtyBlocks::words(self.blocks).expect("a small disk");
        let mut dirty = DirtyBlocks::new(vec![!0; words], self.blocks).expect("enough words");
        self.written
            .keys()
            .for_each(|index| dirty.mark_data(*index));
        self.dirty = Some(dirty);
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
        self.calls.take_dirty += 1;
        let dirty = self.dirty.as_mut().expect("taking without tracking");
        dirty.take_next(from)
    }

    fn mark_dirty(&mut self, index: u64) {
        self.calls.mark_dirty += 1;
        assert!(index < self.blocks, "block {index} does not exist");
        let is_empty = !self.written.contains_key(&index);
        let dirty = self.dirty.as_mut().expect("tracking");
        match is_empty {
            true => dirty.mark_empty(index),
            false => dirty.mark_data(index),
        }
    }

    fn block(&self, index: u64) -> Option<&[u8; BLOCK_SIZE]> {
        self.calls.block.set(self.calls.block.get() + 1);
        assert!(self.dirty.is_some(), "looking without tracking");
        self.written.get(&index).map(|block| &**block)
    }

    fn put(
        &mut self,
        offset: u64,
        len: usize,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Errno> {
        if self.fail_put {
            return Err(FAIL_PUT);
        }
        let mut bytes = vec![0; len - usize::from(self.short_put)];
        // One piece after the other, no piece being more than the rest of a block.
        let mut rest = &mut *bytes;
        let mut at = offset;
        while !rest.is_empty() {
            let left = BLOCK_SIZE - (at % BLOCK_SIZE as u64) as usize;
            let (here, later) = rest.split_at_mut(left.min(rest.len()));
            at += here.len() as u64;
            fill(here);
            rest = later;
        }
        self.write(offset, &bytes);
        Ok(())
    }

    fn put_zeroes(&mut self, offset: u64, len: u64) -> Result<(), Errno> {
        if self.fail_put {
            return Err(FAIL_PUT);
        }
        assert!(len > 0, "no zeros");
        let end = offset.checked_add(len).expect("no overflow");
        assert!(end <= self.blocks * BLOCK_SIZE as u64, "zeros at {offset}");
        for (index, block) in &mut self.written {
            let start = index * BLOCK_SIZE as u64;
            for (at, byte) in (start..).zip(block.iter_mut()) {
                if (offset..end).contains(&at) {
                    *byte = 0;
                }
            }
        }
        Ok(())
    }
}

/// A device whose state is a string of bytes. Its port asserts that the engine calls in a valid order.
pub struct Unit {
    pub live: Vec<u8>,
    pub staged: Option<Vec<u8>>,
    pub disk: Option<Disk>,
    pub staged_disk: Option<Disk>,
    pub running: bool,
    /// Whether it initiates no DMA.
    pub p2p: bool,
    /// Bytes that it has to write back before it can stop.
    pub unwritten: u64,
    pub configuration: Vec<u8>,
    pub faults: Faults,
    pub calls: Vec<&'static str>,
}

pub const FAIL_STOP: Errno = Errno::EBUSY;
pub const FAIL_START: Errno = Errno::ENOMEM;
pub const FAIL_SAVE: Errno = Errno::ENODEV;
pub const FAIL_STAGE: Errno = Errno::EPERM;
pub const FAIL_TRACK: Errno = Errno::EINVAL;
pub const FAIL_STAGED_STORAGE: Errno = Errno::ENOMEM;
pub const FAIL_PUT: Errno = Errno::EBUSY;
pub const FAIL_P2P: Errno = Errno::EXDEV;
pub const FAIL_ADOPT: Errno = Errno::ENODATA;

impl Unit {
    pub fn new(live: &[u8]) -> Self {
        Self {
            live: live.to_vec(),
            staged: None,
            disk: None,
            staged_disk: None,
            running: true,
            p2p: false,
            unwritten: 0,
            configuration: b"two ports".to_vec(),
            faults: Faults::default(),
            calls: Vec::new(),
        }
    }

    /// Returns the storage of a device that has one.
    pub fn disk(&mut self) -> &mut Disk {
        self.disk.as_mut().expect("a device with storage")
    }
}

/// The port of a [`Unit`], which records the reports of the engine.
pub struct UnitPort<'a> {
    pub unit: &'a mut Unit,
    pub seen: &'a mut Recorder,
}

impl Port for UnitPort<'_> {
    const TYPE: &'static str = "test-unit";

    fn state_size(&self) -> usize {
        STATE_SIZE
    }

    fn configuration(&self, out: &mut [u8; 64]) -> usize {
        if self.unit.faults.configuration {
            return 65;
        }
        out[..self.unit.configuration.len()].copy_from_slice(&self.unit.configuration);
        self.unit.configuration.len()
    }

    fn stop(&mut self) -> Result<(), StepError<Errno>> {
        assert!(self.unit.running, "stop of a device that does not run");
        self.unit.calls.push("stop");
        if self.unit.faults.stop {
            // Half way the device does not run any more, and is not stopped either.
            self.unit.running = !self.unit.faults.irreversible;
            return self.unit.faults.fail(FAIL_STOP);
        }
        self.unit.running = false;
        Ok(())
    }

    fn unwritten(&mut self) -> u64 {
        assert!(
            self.unit.running,
            "a device that is stopped has written back"
        );
        self.unit.unwritten
    }

    fn start(&mut self) -> Result<(), StepError<Errno>> {
        assert!(!self.unit.running, "start of a device that runs");
        self.unit.calls.push("start");
        if self.unit.faults.start {
            return self.unit.faults.fail(FAIL_START);
        }
        self.unit.running = true;
        Ok(())
    }

    fn set_p2p(&mut self, p2p: bool) -> Result<(), StepError<Errno>> {
        assert_ne!(self.unit.p2p, p2p, "P2P set or left for the second time");
        self.unit.calls.push(if p2p { "p2p" } else { "not p2p" });
        if self.unit.faults.p2p {
            return self.unit.faults.fail(FAIL_P2P);
        }
        self.unit.p2p = p2p;
        Ok(())
    }

    fn save(&mut self, out: &mut [u8]) -> Result<usize, StepError<Errno>> {
        assert!(!self.unit.running, "save of a device that runs");
        assert_eq!(out.len(), STATE_SIZE, "save got a buffer of another size");
        self.unit.calls.push("save");
        if self.unit.faults.save {
            return self.unit.faults.fail(FAIL_SAVE);
        }
        if self.unit.faults.excess {
            return Ok(STATE_SIZE + 1);
        }
        out[..self.unit.live.len()].copy_from_slice(&self.unit.live);
        Ok(self.unit.live.len())
    }

    fn stage(&mut self, state: &[u8]) -> Result<(), Errno> {
        self.unit.calls.push("stage");
        self.unit.staged = None;
        if self.unit.faults.stage {
            return Err(FAIL_STAGE);
        }
        self.unit.staged = Some(state.to_vec());
        Ok(())
    }

    fn adopt(&mut self) -> Result<(), StepError<Errno>> {
        assert!(!self.unit.running, "adopt of a device that runs");
        self.unit.calls.push("adopt");
        if self.unit.faults.adopt {
            return self.unit.faults.fail(FAIL_ADOPT);
        }
        self.unit.live = self
            .unit
            .staged
            .take()
            .expect("adopt without a staged state");
        if self.unit.disk.is_some() {
            self.unit.disk = self.unit.staged_disk.take();
            assert!(self.unit.disk.is_some(), "adopt without a staged storage");
        }
        Ok(())
    }

    fn unstage(&mut self) {
        self.unit.calls.push("unstage");
        let staged = (self.unit.staged.take(), self.unit.staged_disk.take());
        assert!(
            staged.0.is_some() || staged.1.is_some(),
            "unstage with nothing staged"
        );
    }

    fn reset(&mut self) {
        self.unit.calls.push("reset");
        assert!(self.unit.staged.is_none(), "reset with a staged state");
        assert!(
            self.unit.staged_disk.is_none(),
            "reset with a staged storage"
        );
        let dirty = self.unit.disk.as_ref().and_then(|disk| disk.dirty.as_ref());
        assert!(dirty.is_none(), "reset with a storage that is tracked");
        self.unit.live.clear();
        self.unit.running = true;
        self.unit.p2p = false;
    }

    fn with_blocks<R>(&mut self, f: impl FnOnce(&mut dyn MigratedBlocks) -> R) -> Option<R> {
        let disk = self.unit.disk.as_mut()?;
        disk.fail_track = self.unit.faults.track;
        Some(f(disk))
    }

    fn with_staged_blocks<R>(
        &mut self,
        f: impl FnOnce(&mut dyn MigratedBlocks) -> R,
    ) -> Result<Option<R>, Errno> {
        let Some(disk) = &self.unit.disk else {
            return Ok(None);
        };
        if self.unit.faults.staged_storage {
            return Err(FAIL_STAGED_STORAGE);
        }
        let staged = &mut self.unit.staged_disk;
        let staged = staged.get_or_insert_with(|| Disk::new(disk.blocks));
        staged.fail_put = self.unit.faults.put;
        staged.short_put = self.unit.faults.short_put;
        Ok(Some(f(staged)))
    }

    fn on_transition(&mut self, from: State, to: State, result: Result<(), &Refusal>) {
        let result = result.map_err(|refusal| refusal.errno);
        self.seen.0.push(Told::State(from, to, result));
    }

    fn on_pending(&mut self, state: State, pending: u64) {
        self.seen.0.push(Told::Pending(state, pending));
    }

    fn on_chunk(&mut self, state: State, size: u64, total: u64) {
        self.seen.0.push(Told::Chunk(state, size, total));
    }

    fn on_refusal(&mut self, state: State, refusal: &Refusal) {
        self.seen.0.push(Told::Refused(state, *refusal));
    }
}

/// A report of the engine.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    State(State, State, Result<(), Errno>),
    Pending(State, u64),
    Chunk(State, u64, u64),
    Refused(State, Refusal),
}

#[derive(Default)]
pub struct Recorder(pub Vec<Told>);

/// A device with its engine and region, and a user who has it open.
pub struct Rig {
    pub engine: Engine<Vec<u8>>,
    pub region: MigrationRegion<Memory>,
    pub unit: Unit,
    pub seen: Recorder,
    /// The data file of protocol v2.
    pub file: File,
}

impl Rig {
    pub fn new(live: &[u8], window_size: usize) -> Self {
        let memory = Memory {
            bytes: vec![0; window_size],
        };
        Self {
            engine: Engine::new(vec![0; STATE_SIZE]),
            region: MigrationRegion::new(memory),
            unit: Unit::new(live),
            seen: Recorder::default(),
            file: File::new(),
        }
    }

    /// A device with a storage of `blocks` blocks.
    pub fn with_disk(live: &[u8], window_size: usize, blocks: u64) -> Self {
        let mut rig = Self::new(live, window_size);
        rig.unit.disk = Some(Disk::new(blocks));
        rig
    }

    /// The storage of the device.
    pub fn disk(&mut self) -> &mut Disk {
        self.unit.disk()
    }

    pub fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), Refusal> {
        let mut port = UnitPort {
            unit: &mut self.unit,
            seen: &mut self.seen,
        };
        self.region
            .read_header(&mut self.engine, &mut port, offset, bytes)
    }

    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Refusal> {
        let mut port = UnitPort {
            unit: &mut self.unit,
            seen: &mut self.seen,
        };
        self.region
            .write_header(&mut self.engine, &mut port, offset, bytes)
    }

    pub fn reset(&mut self) {
        self.region.reset();
        self.with_port(|engine, _, port| engine.reset(port));
    }

    /// Calls `f` with engine, data file and port.
    pub fn with_port<R>(
        &mut self,
        f: impl FnOnce(&mut Engine<Vec<u8>>, &mut File, &mut UnitPort<'_>) -> R,
    ) -> R {
        let mut port = UnitPort {
            unit: &mut self.unit,
            seen: &mut self.seen,
        };
        f(&mut self.engine, &mut self.file, &mut port)
    }

    /// The state of protocol v2.
    pub fn mig_state(&self) -> MigState {
        fsm::state(&self.engine)
    }

    fn read64(&mut self, field: Field) -> Result<u64, Refusal> {
        let mut bytes = [0; 8];
        self.read(field.offset(), &mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    /// Reads `device_state`.
    pub fn word(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.read(0, &mut bytes).expect("reading device_state");
        u32::from_ne_bytes(bytes)
    }

    /// Writes `device_state`.
    pub fn set(&mut self, word: u32) -> Result<(), Refusal> {
        self.write(0, &word.to_ne_bytes())
    }

    /// Writes `device_state` one after the other; all must succeed.
    pub fn go(&mut self, words: &[u32]) {
        for word in words {
            if let Err(refusal) = self.set(*word) {
                panic!("{:#05b} to {word:#05b}: {refusal}", self.word());
            }
        }
    }

    /// Reads `pending_bytes`.
    pub fn pending(&mut self) -> u64 {
        self.read64(Field::PendingBytes)
            .expect("reading pending_bytes")
    }

    /// Reads `data_offset`.
    pub fn offset(&mut self) -> u64 {
        self.read64(Field::DataOffset).expect("reading data_offset")
    }

    /// Reads `data_size`.
    pub fn size(&mut self) -> u64 {
        self.read64(Field::DataSize).expect("reading data_size")
    }

    pub fn try_offset(&mut self) -> Result<u64, Refusal> {
        self.read64(Field::DataOffset)
    }

    pub fn try_size(&mut self) -> Result<u64, Refusal> {
        self.read64(Field::DataSize)
    }

    /// Reads `data_offset`, `data_size` and the data: an unacknowledged chunk.
    pub fn look(&mut self) -> Vec<u8> {
        assert_eq!(self.offset(), WINDOW_OFFSET, "data_offset");
        let size = self.size() as usize;
        self.region.data().bytes[..size].to_vec()
    }

    /// Takes chunks until nothing is pending, as a user does.
    pub fn drain(&mut self) -> Vec<u8> {
        let mut stream = Vec::new();
        while self.pending() > 0 {
            let chunk = self.look();
            assert!(
                !chunk.is_empty(),
                "v1_39: bytes are pending, but the chunk is empty"
            );
            stream.extend(chunk);
        }
        stream
    }

    /// Writes `data_size`.
    pub fn commit(&mut self, size: u64) -> Result<(), Refusal> {
        self.write(Field::DataSize.offset(), &size.to_ne_bytes())
    }

    /// Writes `bytes` to the data section and their number to `data_size`.
    pub fn give_chunk(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.region.data_mut().bytes[..bytes.len()].copy_from_slice(bytes);
        self.commit(bytes.len() as u64)
    }

    /// Gives a stream in chunks of up to `size` bytes.
    pub fn give(&mut self, stream: &[u8], size: usize) -> Result<(), Refusal> {
        stream
            .chunks(size)
            .try_for_each(|chunk| self.give_chunk(chunk))
    }
}

/// Returns a stream of a device that has the state `live`, and went through pre-copy.
pub fn stream_of(live: &[u8], window_size: usize) -> Vec<u8> {
    let mut source = Rig::new(live, window_size);
    source.go(&[PRE_COPY]);
    let mut stream = source.drain();
    source.go(&[STOP_COPY]);
    stream.extend(source.drain());
    stream
}

/// Returns a state of `len` bytes that has no pattern.
pub fn pattern(len: usize) -> Vec<u8> {
    let mut state: u32 = 0x2545_f491;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 11) as u8
        })
        .collect()
}

/// Returns the answer of a session whose stream was refused with `refusal`.
pub fn refused_before(refusal: Refusal) -> Refusal {
    let errno = refusal.errno;
    Reason::RefusedBefore { errno }.into()
}

pub fn errno<T>(result: Result<T, Refusal>) -> Option<Errno> {
    result.err().map(|refusal| refusal.errno)
}

pub fn reason<T>(result: Result<T, Refusal>) -> Option<Reason> {
    result.err().map(|refusal| refusal.reason)
}

/// Another implementation of the stream, from its specification.
pub mod wire {
    use ::crc32c::crc32c as crc;

    pub const HEADER: u16 = 1;
    pub const RESTART: u16 = 2;
    pub const RESEND: u16 = 3;
    pub const STATE: u16 = 4;
    pub const BLOCK: u16 = 5;
    pub const ZEROES: u16 = 6;
    pub const END: u16 = 16;

    #[derive(Clone, Debug, PartialEq)]
    pub struct Record {
        pub magic: u32,
        pub kind: u16,
        pub flags: u16,
        pub length: u32,
        pub sequence: u32,
        pub argument: u64,
        pub payload: Vec<u8>,
    }

    impl Record {
        pub fn new(kind: u16, sequence: u32, argument: u64, payload: &[u8]) -> Self {
            Self {
                magic: 0x5952_5246,
                kind,
                flags: 0,
                length: payload.len() as u32,
                sequence,
                argument,
                payload: payload.to_vec(),
            }
        }

        pub fn encode(&self) -> Vec<u8> {
            let mut bytes = Vec::new();
            bytes.extend(self.magic.to_le_bytes());
            bytes.extend(self.kind.to_le_bytes());
            bytes.extend(self.flags.to_le_bytes());
            bytes.extend(self.length.to_le_bytes());
            bytes.extend(self.sequence.to_le_bytes());
            bytes.extend(self.argument.to_le_bytes());
            bytes.extend(crc(&self.payload).to_le_bytes());
            bytes.extend(crc(&bytes).to_le_bytes());
            bytes.extend(&self.payload);
            bytes
        }
    }

    /// Takes a stream apart; it must be whole records with right checksums.
    pub fn parse(mut stream: &[u8]) -> Vec<Record> {
        let mut records = Vec::new();
        while !stream.is_empty() {
            let (head, rest) = stream.split_at(32);
            let u16_at = |at: usize| u16::from_le_bytes(head[at..at + 2].try_into().unwrap());
            let u32_at = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
            let length = u32_at(8);
            let (payload, rest) = rest.split_at(length as usize);
            assert_eq!(u32_at(24), crc(payload), "checksum of a payload");
            assert_eq!(u32_at(28), crc(&head[..28]), "checksum of a header");
            records.push(Record {
                magic: u32_at(0),
                kind: u16_at(4),
                flags: u16_at(6),
                length,
                sequence: u32_at(12),
                argument: u64::from_le_bytes(head[16..24].try_into().unwrap()),
                payload: payload.to_vec(),
            });
            stream = rest;
        }
        records
    }

    pub fn encode(records: &[Record]) -> Vec<u8> {
        records.iter().flat_map(Record::encode).collect()
    }

    /// The payload of HEADER.
    pub fn header(major: u16, minor: u16, name: &str, configuration: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(major.to_le_bytes());
        bytes.extend(minor.to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.resize(20, 0);
        bytes.extend((configuration.len() as u16).to_le_bytes());
        bytes.extend(configuration);
        bytes
    }

    /// The payload of END.
    pub fn totals(records: u32, bytes: u64, state: &[u8]) -> Vec<u8> {
        let mut payload = Vec::new();
        payload.extend(records.to_le_bytes());
        payload.extend(bytes.to_le_bytes());
        payload.extend(crc(state).to_le_bytes());
        payload
    }

    /// The payload of the HEADER of a `Unit`.
    pub fn unit_header() -> Vec<u8> {
        header(1, 0, "test-unit", b"two ports")
    }

    /// A whole generation of a `Unit` with the state `live` in pieces of `piece` bytes.
    pub fn generation(generation: u64, live: &[u8], piece: usize) -> Vec<Record> {
        let mut records = Vec::new();
        if generation > 1 {
            records.push(Record::new(RESTART, 0, generation, &[]));
        }
        records.push(Record::new(
            HEADER,
            records.len() as u32,
            generation,
            &unit_header(),
        ));
        for (index, bytes) in live.chunks(piece).enumerate() {
            let sequence = records.len() as u32;
            records.push(Record::new(STATE, sequence, (index * piece) as u64, bytes));
        }
        let sequence = records.len() as u32;
        records.push(Record::new(
            END,
            sequence,
            0,
            &totals(sequence, live.len() as u64, live),
        ));
        records
    }
}
