// SPDX-License-Identifier: GPL-2.0

//! A store in a `Vec`, which checks what the controller asks of it.

use nvme::{
    BackendError,
    Begun,
    BlockBackend,
    Done,
    MemoryError,
    ReadStraight,
    Request,
    Tag,
    Untold, //
};

use crate::spec::PAGE;

/// The bytes at the end of a larger disk that are kept.
const KEPT: u64 = 1 << 30;

/// The error that a store returns on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    Full,
    Medium,
}

/// A store that gives out its bytes page by page, as a store in RAM does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The content: of a disk that is larger than the host's memory its end, which is all that can be
    /// read and written.
    pub bytes: Vec<u8>,
    /// Where the content begins.
    pub start: u64,
    /// What a store keeps behind its capacity: the marks of Write Uncorrectable.
    pub marks: Vec<u8>,
    /// Bytes of a logical block: everything is asked for in units of it.
    pub block: usize,
    /// How often something was flushed.
    pub flushes: usize,
    /// Bytes that were written and not flushed since.
    pub unflushed: u64,
    /// Losses that the guest has not been told of.
    pub untold: Untold<BackendError>,
    /// Bytes that may have been deallocated.
    pub deallocated: u64,
    /// Refuse everything from now on.
    pub trouble: Option<Trouble>,
    /// Number of requests so far.
    pub requests: usize,
    /// Offset and length of the reads that were announced, and after how many requests.
    pub expected: Vec<(u64, u64, usize)>,
    /// It has a medium to wait for.
    pub has_to_wait: bool,
    /// It executes requests while the controller goes on.
    pub concurrent: Option<Concurrent>,
}

/// The requests that a disk executes while the controller goes on. Each has its effect as it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concurrent {
    /// The most requests under way.
    pub room: usize,
    /// Those under way, with their results.
    pub under_way: Vec<(Tag, Result<Vec<u8>, BackendError>)>,
    /// Those that are done.
    done: Vec<(Tag, Result<Vec<u8>, BackendError>)>,
    /// Decides which is done next.
    seed: u64,
    /// Results of writes that the guest was not told.
    pub untold: usize,
}

impl Concurrent {
    pub fn new(room: usize, seed: u64) -> Self {
        Self {
            room,
            under_way: Vec::new(),
            done: Vec::new(),
            seed,
            untold: 0,
        }
    }

    /// Has one of the requests under way be done. Returns whether there was one.
    pub fn advance(&mut self) -> bool {
        if self.under_way.is_empty() {
            return false;
        }
        self.seed = self
            .seed
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(1);
        let index = (self.seed >> 33) as usize % self.under_way.len();
        self.done.push(self.under_way.remove(index));
        true
    }
}

impl Disk {
    /// A disk of zeros.
    pub fn new(capacity: u64, block: usize) -> Self {
        let start = if capacity > KEPT {
            capacity - (1 << 20)
        } else {
            0
        };
        Self {
            bytes: vec![0; (capacity - start) as usize],
            start,
            // No larger disk keeps marks.
            marks: match start {
                0 => vec![0; (nvme::storage_size(capacity) - capacity) as usize],
                _ => Vec::new(),
            },
            block,
            flushes: 0,
            unflushed: 0,
            untold: Untold::default(),
            deallocated: 0,
            trouble: None,
            requests: 0,
            expected: Vec::new(),
            has_to_wait: true,
            concurrent: None,
        }
    }

    pub fn capacity(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Where some bytes are among the marks, if they are there.
    fn marks_at(&self, offset: u64, length: u64) -> Option<std::ops::Range<usize>> {
        let at = offset.checked_sub(self.capacity())? as usize;
        Some(at..at + length as usize)
    }

    fn check_range(&self, offset: u64, length: u64) {
        let end = offset.checked_add(length).expect("a range ends");
        let capacity = self.capacity();
        if let Some(marks) = self.marks_at(offset, length) {
            let most = self.marks.len();
            assert!(marks.end <= most, "marks {marks:?} are among {most}");
            return;
        }
        assert!(
            end <= capacity,
            "bytes {offset}..{end} are on a disk of {capacity}"
        );
        assert_eq!(offset % self.block as u64, 0, "{offset} begins a block");
        assert_eq!(length % self.block as u64, 0, "{length} are whole blocks");
    }

    fn check(&mut self, offset: u64, length: u64) -> Result<(), BackendError> {
        self.check_range(offset, length);
        self.requests += 1;
        self.trouble()
    }

    fn trouble(&self) -> Result<(), BackendError> {
        match self.trouble {
            Some(Trouble::Full) => Err(BackendError::Full),
            Some(Trouble::Medium) => Err(BackendError::Medium),
            None => Ok(()),
        }
    }

    /// Zeroes the kept part of some bytes.
    fn zero(&mut self, offset: u64, length: u64) {
        if let Some(marks) = self.marks_at(offset, length) {
            self.marks[marks].fill(0);
            return;
        }
        let kept = |at: u64| at.saturating_sub(self.start) as usize;
        let (from, to) = (kept(offset), kept(offset + length));
        self.bytes[from..to].fill(0);
    }

    /// Splits bytes as the pages of a store in RAM do.
    fn pieces(&self, offset: u64, length: usize) -> Vec<std::ops::Range<usize>> {
        let mut at = offset.checked_sub(self.start).expect("it is kept") as usize;
        let end = at + length;
        let mut pieces = Vec::new();
        while at < end {
            let next = ((at / PAGE + 1) * PAGE).min(end);
            pieces.push(at..next);
            at = next;
        }
        pieces
    }
}

impl BlockBackend for Disk {
    fn has_to_wait(&self) -> bool {
        self.has_to_wait
    }

    fn expect_read(&mut self, offset: u64, len: u64) {
        self.check_range(offset, len);
        self.expected.push((offset, len, self.requests));
    }

    fn read(
        &mut self,
        offset: u64,
        len: usize,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), MemoryError>,
    ) -> Result<(), BackendError> {
        self.check(offset, len as u64)?;
        if let Some(marks) = self.marks_at(offset, len as u64) {
            return sink(&self.marks[marks]).map_err(BackendError::Memory);
        }
        for piece in self.pieces(offset, len) {
            sink(&self.bytes[piece]).map_err(BackendError::Memory)?;
        }
        Ok(())
    }

    fn write(
        &mut self,
        offset: u64,
        len: usize,
        source: &mut dyn FnMut(&mut [u8]) -> Result<(), MemoryError>,
    ) -> Result<(), BackendError> {
        self.check(offset, len as u64)?;
        if let Some(marks) = self.marks_at(offset, len as u64) {
            // A store may hand out other bytes than those that are there.
            let into = &mut self.marks[marks];
            into.fill(0xa5);
            return source(into).map_err(BackendError::Memory);
        }
        for piece in self.pieces(offset, len) {
            self.unflushed += piece.len() as u64;
            source(&mut self.bytes[piece]).map_err(BackendError::Memory)?;
        }
        Ok(())
    }

    fn write_zeroes(
        &mut self,
        offset: u64,
        len: u64,
        may_deallocate: bool,
    ) -> Result<(), BackendError> {
        self.check(offset, len)?;
        self.unflushed += len;
        if may_deallocate {
            self.deallocated += len;
        }
        self.zero(offset, len);
        Ok(())
    }

    fn deallocate(&mut self, offset: u64, len: u64) -> Result<(), BackendError> {
        self.check(offset, len)?;
        if self.marks_at(offset, len).is_none() {
            self.deallocated += len;
        }
        self.zero(offset, len);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BackendError> {
        self.requests += 1;
        self.trouble()?;
        self.flushes += 1;
        self.unflushed = 0;
        self.untold.tell(Ok(()))
    }

    fn write_back(&mut self) -> Result<(), BackendError> {
        self.requests += 1;
        self.flushes += 1;
        let result = self.trouble();
        if result.is_ok() {
            self.unflushed = 0;
        }
        self.untold.keep(result)
    }

    fn is_concurrent(&self) -> bool {
        self.concurrent.is_some()
    }

    fn begin(&mut self, tag: &Tag, request: Request<'_>) -> Result<Begun, BackendError> {
        let concurrent = self.concurrent.as_ref().expect("the disk is concurrent");
        let mut tags = concurrent.under_way.iter().chain(&concurrent.done);
        assert!(tags.all(|(other, _)| other != tag), "{tag:?} is used once");
        if concurrent.under_way.len() + concurrent.done.len() >= concurrent.room {
            return Ok(Begun::NoRoom);
        }

        let result = match request {
            Request::Read { offset, len } => {
                let mut bytes = Vec::new();
                let read = self.read(offset, len, &mut |piece| {
                    bytes.extend(piece);
                    Ok(())
                });
                read.map(|()| bytes)
            }
            Request::Write {
                offset,
                len,
                durable,
                source,
            } => {
                let mut bytes = vec![0; len];
                source(&mut bytes)?;
                let mut left = &bytes[..];
                let written = self.write(offset, len, &mut |into| {
                    let (now, later) = left.split_at(into.len());
                    into.copy_from_slice(now);
                    left = later;
                    Ok(())
                });
                let flushed = if durable { self.flush() } else { Ok(()) };
                written.and(flushed).map(|()| Vec::new())
            }
            Request::Flush => self.flush().map(|()| Vec::new()),
        };
        let concurrent = self.concurrent.as_mut().expect("the disk is concurrent");
        concurrent.under_way.push((*tag, result));
        Ok(Begun::UnderWay)
    }

    fn take_done(&mut self, take: &mut dyn FnMut(Done<'_>) -> bool) -> bool {
        let Some(concurrent) = &mut self.concurrent else {
            return false;
        };
        let Some((tag, result)) = concurrent.done.pop() else {
            return false;
        };
        let told = take(Done {
            tag: &tag,
            result: match &result {
                Ok(bytes) => Ok(bytes),
                Err(error) => Err(*error),
            },
        });
        concurrent.untold += usize::from(!told);
        true
    }

    fn await_done(&mut self) -> bool {
        self.concurrent
            .as_mut()
            .is_some_and(|concurrent| !concurrent.done.is_empty() || concurrent.advance())
    }
}

impl<M> ReadStraight<M> for Disk {}
