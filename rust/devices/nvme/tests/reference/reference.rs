// SPDX-License-Identifier: GPL-2.0

//! The expected content of a namespace after commands, right and wrong ones, and the expected statuses.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::driver::{
    pattern,
    Buffer,
    Completion,
    Driver,
    Sqe, //
};
use crate::memory::CANARY;
use crate::spec::*;

/// Kind of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Read,
    Write,
    /// Compare with what should be there, or with something else.
    Compare {
        equal: bool,
    },
    WriteZeroes {
        deallocate: bool,
    },
    /// Dataset Management of ranges: how many blocks each has, and how far it is behind the one before.
    Deallocate(Vec<(u8, u8)>),
    Flush,
    Unknown,
}

/// Flaw of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    Namespace(u32),
    Flags(u8),
    /// It reaches this number of blocks past the end.
    PastEnd(u64),
    /// A block far away from everything.
    FarAway(u64),
    /// More than what one transfer moves.
    TooLong,
    /// A PRP entry other than the first has an offset.
    Misaligned(u8),
    /// A PRP entry names an address where nothing is.
    Unmapped(u8),
    /// The PRP list is not there.
    ListUnmapped,
}

/// A command to be.
#[derive(Clone, Debug)]
pub struct Command {
    pub kind: Kind,
    pub start: u16,
    pub count: u8,
    /// Where data begins in its first page, in dwords.
    pub offset: u16,
    /// Where the PRP list begins in its page, in entries.
    pub list_offset: u16,
    pub seed: u8,
    pub flaw: Option<Flaw>,
}

/// A command that the controller has.
#[derive(Clone, Debug)]
struct Pending {
    sqe: Sqe,
    kind: Kind,
    /// Blocks that it reads or writes.
    blocks: Vec<Range<u64>>,
    buffer: Buffer,
    /// Statuses that the command may get.
    expected: Vec<Status>,
    /// Data that the command writes.
    data: Vec<u8>,
}

impl Pending {
    fn writes(&self) -> bool {
        matches!(
            self.kind,
            Kind::Write | Kind::WriteZeroes { .. } | Kind::Deallocate(_)
        )
    }
}

/// The expected content of a namespace, and the commands that are under way.
#[derive(Clone, Debug)]
pub struct Reference {
    block: usize,
    blocks: u64,
    bytes: Vec<u8>,
    /// Blocks whose write failed: each byte is the old one, or one of these.
    doubtful: BTreeMap<u64, Vec<Vec<u8>>>,
    pending: BTreeMap<(u16, u16), Pending>,
    /// Number of commands by status.
    pub seen: BTreeMap<Status, usize>,
}

/// An address where nothing is mapped.
const NOWHERE: u64 = 0x7f00_0000_0000;

impl Reference {
    pub fn new(driver: &Driver) -> Self {
        let block = driver.block();
        let bytes = driver.bench.disk.bytes.clone();
        Self {
            block,
            blocks: (bytes.len() / block) as u64,
            bytes,
            doubtful: BTreeMap::new(),
            pending: BTreeMap::new(),
            seen: BTreeMap::new(),
        }
    }

    fn slice(&self, blocks: &Range<u64>) -> &[u8] {
        &self.bytes[blocks.start as usize * self.block..blocks.end as usize * self.block]
    }

    fn is_doubtful(&self, blocks: &Range<u64>) -> bool {
        self.doubtful.range(blocks.clone()).next().is_some()
    }

    /// Enqueues a command without ringing the doorbell. Commands that conflict with it are completed
    /// first, so the order among queues does not matter.
    pub fn enqueue(&mut self, driver: &mut Driver, sq: u16, command: &Command) {
        let pending = self.prepare(driver, command);
        let conflict = self.pending.values().any(|other| {
            (other.writes() || pending.writes())
                && other.blocks.iter().any(|one| {
                    pending
                        .blocks
                        .iter()
                        .any(|two| one.start < two.end && two.start < one.end)
                })
        });
        if conflict || driver.sqs[&sq].full() {
            driver.ring_all();
            driver.pump();
            self.collect(driver);
            // The blocks that the command compares may be different now.
            driver.free(&pending.buffer);
            let pending = self.prepare(driver, command);
            let cid = driver.enqueue(sq, pending.sqe);
            self.pending.insert((sq, cid), pending);
            return;
        }
        let cid = driver.enqueue(sq, pending.sqe);
        self.pending.insert((sq, cid), pending);
    }

    fn prepare(&self, driver: &mut Driver, command: &Command) -> Pending {
        let count = u64::from(command.count.max(1));
        let start = u64::from(command.start) % (self.blocks - count);
        let blocks = start..start + count;
        // A list that does not begin a page is in its last 4 KiB.
        let in_page = |offset: usize| match offset {
            0 => 0,
            _ => driver.page_size() - PAGE + offset,
        };
        let data_offset = in_page(usize::from(command.offset) % 1024 * 4);
        let list_offset = in_page(usize::from(command.list_offset) % 512 * 8);
        let mut length = count as usize * self.block;
        let mut expected = vec![SUCCESS];
        let mut touched = vec![blocks.clone()];
        let mut data = Vec::new();

        let too_long = command.flaw == Some(Flaw::TooLong) && command.transfers();
        if too_long {
            length = (512 << 10) + self.block;
            expected = vec![INVALID_FIELD, LBA_RANGE];
        }

        let (opcode, buffer) = match &command.kind {
            Kind::Read => {
                let buffer = driver.buffer_with_list(length, data_offset, list_offset);
                (CMD_READ, buffer)
            }
            Kind::Write => {
                data = pattern(command.seed, length);
                let buffer = driver.buffer_with_list(length, data_offset, list_offset);
                driver.fill(&buffer, &data);
                (CMD_WRITE, buffer)
            }
            Kind::Compare { equal } => {
                let buffer = driver.buffer_with_list(length, data_offset, list_offset);
                if !too_long {
                    let mut bytes = self.slice(&blocks).to_vec();
                    if !equal {
                        let at = usize::from(command.seed) * 977 % length;
                        bytes[at] ^= 1 << (command.seed % 8);
                    }
                    driver.fill(&buffer, &bytes);
                    if self.is_doubtful(&blocks) {
                        expected = vec![SUCCESS, COMPARE_FAILED];
                    } else if !equal {
                        expected = vec![COMPARE_FAILED];
                    }
                }
                (CMD_COMPARE, buffer)
            }
            Kind::WriteZeroes { .. } => {
                data = vec![0; length];
                (CMD_WRITE_ZEROES, driver.buffer(512, 0))
            }
            Kind::Deallocate(ranges) => {
                touched.clear();
                let mut bytes = Vec::new();
                let mut at = start;
                for &(distance, count) in ranges {
                    at = (at + u64::from(distance)).min(self.blocks);
                    let end = (at + u64::from(count)).min(self.blocks);
                    bytes.extend(0u32.to_le_bytes());
                    bytes.extend(((end - at) as u32).to_le_bytes());
                    bytes.extend(at.to_le_bytes());
                    touched.push(at..end);
                    at = end;
                }
                if let Some(Flaw::PastEnd(_) | Flaw::FarAway(_)) = command.flaw {
                    let far = self.far(command.flaw, 1);
                    let last = bytes.len() - DSM_RANGE_SIZE;
                    bytes[last + 4..last + 8].copy_from_slice(&2u32.to_le_bytes());
                    bytes[last + 8..].copy_from_slice(&far.to_le_bytes());
                    touched.pop();
                    expected = vec![LBA_RANGE];
                }
                let buffer = driver.buffer_with_list(bytes.len(), data_offset, list_offset);
                driver.fill(&buffer, &bytes);
                (CMD_DSM, buffer)
            }
            Kind::Flush => {
                touched.clear();
                (CMD_FLUSH, driver.buffer(512, 0))
            }
            Kind::Unknown => {
                touched.clear();
                expected = vec![INVALID_OPCODE];
                (0x60 | command.seed, driver.buffer(512, 0))
            }
        };

        let mut sqe = Sqe::new(opcode).nsid(1).data(&buffer);
        sqe = match &command.kind {
            Kind::Read | Kind::Write | Kind::Compare { .. } => {
                let count = (length / self.block) as u32;
                // It must not be out of range on top of being too long.
                sqe.blocks(if too_long { 0 } else { start }, count)
            }
            Kind::WriteZeroes { deallocate } => sqe.blocks(start, count as u32).dword(
                12,
                (count as u32 - 1) | if *deallocate { WZ_DEAC } else { 0 },
            ),
            Kind::Deallocate(ranges) => sqe
                .dword(10, ranges.len() as u32 - 1)
                .dword(11, DSM_AD | u32::from(command.seed) & 3),
            Kind::Flush | Kind::Unknown => sqe,
        };

        if let Some(flaw) = command.flaw {
            let has_blocks = !touched.is_empty() && !matches!(command.kind, Kind::Deallocate(_));
            let mut spoil = |status: Status| {
                expected.retain(|&other| other != SUCCESS);
                // A difference may be found before the flaw of an entry is.
                if ![PRP_OFFSET_INVALID, DATA_XFER_ERROR].contains(&status) {
                    expected.retain(|&other| other != COMPARE_FAILED);
                }
                expected.push(status);
            };
            match flaw {
                Flaw::Namespace(nsid) => {
                    // Flushing all namespaces may be allowed.
                    if nsid == NSID_ALL && command.kind == Kind::Flush {
                        expected.push(INVALID_NS);
                    } else {
                        spoil(INVALID_NS);
                        touched.clear();
                    }
                    sqe = sqe.nsid(nsid);
                }
                Flaw::Flags(flags) => {
                    sqe = sqe.flags(flags);
                    spoil(INVALID_FIELD);
                    touched.clear();
                }
                Flaw::PastEnd(_) | Flaw::FarAway(_) if has_blocks => {
                    let far = self.far(command.flaw, count);
                    sqe = sqe.dword(10, far as u32).dword(11, (far >> 32) as u32);
                    spoil(LBA_RANGE);
                    touched.clear();
                }
                Flaw::TooLong if too_long => touched.clear(),
                Flaw::Misaligned(entry) if command.transfers() && buffer.pages.len() > 1 => {
                    sqe = Self::bend(driver, sqe, &buffer, entry, |address| address + 8);
                    spoil(PRP_OFFSET_INVALID);
                }
                Flaw::Unmapped(entry) if command.transfers() && buffer.pages.len() > 1 => {
                    sqe = Self::bend(driver, sqe, &buffer, entry, |_| NOWHERE);
                    spoil(DATA_XFER_ERROR);
                }
                Flaw::ListUnmapped if command.transfers() && buffer.pages.len() > 2 => {
                    sqe = sqe.prp(buffer.prp1, NOWHERE);
                    spoil(DATA_XFER_ERROR);
                }
                _ => {}
            }
        }

        Pending {
            sqe,
            kind: command.kind.clone(),
            blocks: touched,
            buffer,
            expected,
            data,
        }
    }

    /// A starting block with which a command of `count` blocks leaves the namespace.
    fn far(&self, flaw: Option<Flaw>, count: u64) -> u64 {
        match flaw {
            Some(Flaw::PastEnd(by)) => self.blocks - count + 1 + by % count,
            Some(Flaw::FarAway(at)) => at.max(self.blocks),
            _ => 0,
        }
    }

    /// Changes a PRP entry other than the first.
    fn bend(
        driver: &mut Driver,
        sqe: Sqe,
        buffer: &Buffer,
        entry: u8,
        change: impl Fn(u64) -> u64,
    ) -> Sqe {
        if buffer.entries.is_empty() {
            return sqe.prp(buffer.prp1, change(buffer.prp2));
        }
        let entry = buffer.entries[usize::from(entry) % buffer.entries.len()];
        let bytes = driver.bench.memory.get(entry, 8);
        let address = u64::from_le_bytes(bytes.try_into().expect("8 bytes"));
        driver
            .bench
            .memory
            .put(entry, &change(address).to_le_bytes());
        sqe
    }

    /// An outstanding command, to be aborted: it may be, from now on.
    pub fn condemn(&mut self, number: usize) -> Option<(u16, u16)> {
        let count = self.pending.len().max(1);
        let (&key, pending) = self.pending.iter_mut().nth(number % count)?;
        pending.expected.push(ABORT_REQ);
        Some(key)
    }

    /// Checks the completions that the driver has.
    #[track_caller]
    pub fn collect(&mut self, driver: &mut Driver) {
        let done: Vec<(u16, u16)> = driver
            .done
            .keys()
            .filter(|(sq, _)| *sq > 0)
            .copied()
            .collect();
        for (sq, cid) in done {
            let completion = driver.take(sq, cid).expect("it is there");
            let pending = self
                .pending
                .remove(&(sq, cid))
                .expect("the command was handed to the controller");
            self.check(driver, &pending, completion);
            driver.free(&pending.buffer);
        }
    }

    #[track_caller]
    fn check(&mut self, driver: &Driver, pending: &Pending, completion: Completion) {
        let status = completion.status;
        assert!(
            pending.expected.contains(&status),
            "{:?} should get one of {:?}, not {status:?}",
            pending.sqe,
            pending.expected
        );
        *self.seen.entry(status).or_default() += 1;

        let content = driver.content(&pending.buffer);
        match pending.kind {
            Kind::Read if status == SUCCESS => {
                for blocks in &pending.blocks {
                    self.check_bytes(blocks.clone(), &content);
                }
            }
            Kind::Write if !pending.blocks.is_empty() => {
                assert_eq!(content, pending.data, "writing leaves the buffer alone");
                self.write(&pending.blocks[0], &pending.data, status);
            }
            Kind::WriteZeroes { .. } if !pending.blocks.is_empty() => {
                self.write(&pending.blocks[0], &pending.data, status);
            }
            Kind::Deallocate(_) => {
                for blocks in &pending.blocks {
                    let length = (blocks.end - blocks.start) as usize * self.block;
                    self.write(blocks, &vec![0; length], status);
                }
            }
            _ => {}
        }
    }

    fn write(&mut self, blocks: &Range<u64>, data: &[u8], status: Status) {
        for (block, bytes) in blocks.clone().zip(data.chunks(self.block)) {
            if status == SUCCESS {
                let at = block as usize * self.block;
                self.bytes[at..at + self.block].copy_from_slice(bytes);
                self.doubtful.remove(&block);
            } else {
                self.doubtful.entry(block).or_default().push(bytes.to_vec());
            }
        }
    }

    /// Checks data that was read from some blocks.
    #[track_caller]
    fn check_bytes(&self, blocks: Range<u64>, seen: &[u8]) {
        for (block, seen) in blocks.zip(seen.chunks(self.block)) {
            let expected = self.slice(&(block..block + 1));
            match self.doubtful.get(&block) {
                None => assert!(seen == expected, "block {block} has what was written"),
                Some(others) => {
                    for (at, byte) in seen.iter().enumerate() {
                        // Where memory failed, the bytes before may be there.
                        assert!(
                            [expected[at], CANARY].contains(byte)
                                || others.iter().any(|other| *byte == other[at]),
                            "byte {at} of block {block} is an old or a new one"
                        );
                    }
                }
            }
        }
    }

    /// Whether the controller has commands.
    pub fn is_busy(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Gives up what the controller had before a reset.
    pub fn abandon(&mut self, driver: &mut Driver) {
        for (_, pending) in std::mem::take(&mut self.pending) {
            for blocks in &pending.blocks {
                if pending.writes() {
                    let length = (blocks.end - blocks.start) as usize * self.block;
                    let mut data = pending.data.clone();
                    data.resize(length, 0);
                    self.write(blocks, &data, ABORT_REQ);
                }
            }
            driver.free(&pending.buffer);
        }
    }

    /// Checks all of the namespace, on the disk and through the controller.
    #[track_caller]
    pub fn check_all(&self, driver: &mut Driver, sq: u16) {
        self.check_bytes(0..self.blocks, &driver.bench.disk.bytes);
        let step = (512 << 10) / self.block as u64;
        for start in (0..self.blocks).step_by(step as usize) {
            let end = (start + step).min(self.blocks);
            let bytes = driver.read(sq, start, (end - start) as u32);
            self.check_bytes(start..end, &bytes);
        }
    }
}

impl Command {
    /// Whether it has data in memory.
    fn transfers(&self) -> bool {
        matches!(
            self.kind,
            Kind::Read | Kind::Write | Kind::Compare { .. } | Kind::Deallocate(_)
        ) && !(self.flaw == Some(Flaw::TooLong) && matches!(self.kind, Kind::Deallocate(_)))
    }
}
