// SPDX-License-Identifier: GPL-2.0

//! The content of a namespace in a file or on a block device of the host.
//!
//! Other hosts may reach the file as well, and a migration does not move it. So the backend works only
//! between [`FileBackend::acquire`], which locks the whole file and drops the host's cache of it, and
//! [`FileBackend::release`], which writes everything back before it unlocks the file. The lock excludes
//! every other user: also the other end of the migration, which may have the file open already, on the
//! same host too.
//!
//! # Cache
//!
//! With [`Cache::WriteBack`] data goes through the host's page cache. The cache and the I/O are charged to the cgroups of the process that
//! uses the device, whose thread the worker is. The guest is told of a volatile write cache, which a flush
//! command empties.
//!
//! A read is copied once, from the page cache to the guest, unless it is short. A write is copied twice,
//! by way of a buffer: to copy it once, the guest's pages would have to be pinned, which costs more than
//! the copy.
//!
//! With [`Cache::None`] data goes past the page cache, by way of buffers of the kernel, and the disk executes the
//! commands of a queue at once, see [`requests`]. The disk's own write cache is left to flushes.
//!
//! Where another host can write to the file, the cache may be out of date when the lock has been
//! taken. NFS drops its cache at the lock by itself. Block devices and other file systems without a disk
//! of their own do not, so the backend drops their cache. File systems on disks of this host are always
//! up to date, and those on disks that hosts share keep their caches coherent.

mod requests;

use super::write_back::FileWriteBack;
use crate::settings::{
    Cache,
    NamespaceSettings, //
};
use device_model::{
    BackendError,
    Begun,
    BlockBackend,
    Done,
    MemoryError,
    Place,
    ReadStraight,
    Request,
    Tag,
    Untold,
    Unwritten, //
};
use ferry_core::{
    dma_memory::DmaMemory,
    driver::Waker, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};
use kernel_ext::file::{
    Access,
    Claim,
    File,
    FileName, //
};
use nvme::{
    CAPACITY_MIN,
    CAPACITY_UNIT, //
};
use requests::{
    Finished,
    Kind,
    Requests, //
};

/// Bytes that are transferred at once between the page cache and the guest by way of the buffer.
const BUFFER_SIZE: usize = 128 << 10;
/// The fewest bytes of a read that goes straight to the guest: for a shorter read, lending a page costs
/// more than a second copy.
const STRAIGHT_MIN: usize = 4096;

/// Returns the capacity in bytes of a namespace in `file`, which is fixed at the open.
fn capacity(file: &File) -> Result<u64> {
    let size = file.size();
    let capacity = size - size % CAPACITY_UNIT;

    if capacity < CAPACITY_MIN {
        return Err(EINVAL);
    }
    Ok(capacity)
}

/// Returns the capacity in bytes that a namespace in the file `name` would have now.
///
/// # Errors
///
/// As for [`FileBackend::open`].
pub(crate) fn measure(name: &FileName) -> Result<u64> {
    capacity(&File::open(name, Access::ReadOnly)?)
}

/// A file or block device, and the lock on it.
pub(crate) struct FileBackend {
    name: Arc<FileName>,
    file: File,
    /// What is in the cache. A hole, or zeros that the file system keeps note of, are not.
    unwritten: Arc<Unwritten>,
    capacity: u64,
    /// The lock is held.
    acquired: bool,
    /// The exclusive use of a block device, while the lock is held: its nodes have locks of their own.
    claim: Option<Claim>,
    /// Something may have been written since everything was written back.
    dirty: bool,
    /// Written data that was lost.
    untold: Untold<Error>,
    /// The file system has not said that it cannot punch holes.
    punches_holes: bool,
    /// The file system has not said that it cannot zero ranges.
    zeroes_ranges: bool,
    buffer: KVVec<u8>,
    /// Those that go past the page cache, if all do.
    requests: Option<KBox<Requests>>,
}

impl FileBackend {
    /// Opens the file for the current process, without locking it. Requests that are done wake `waker`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is neither a regular file nor a block device, or smaller than
    /// [`CAPACITY_MIN`], or cannot be used without the page cache as `settings` demand; `ENOMEM`; or what opening it
    /// returns.
    pub(crate) fn open(
        name: &Arc<FileName>,
        settings: &NamespaceSettings,
        waker: &Waker,
    ) -> Result<Self> {
        let access = match settings.cache {
            Cache::WriteBack => Access::ReadWrite,
            Cache::None => Access::Direct,
        };
        let file = File::open(name, access)?;
        let requests = match settings.cache {
            Cache::WriteBack => None,
            Cache::None => {
                let requests = Requests::new(&file, 1 << settings.lba_shift, waker.clone())?;
                Some(KBox::new(requests, GFP_KERNEL_ACCOUNT)?)
            }
        };

        Ok(Self {
            requests,
            name: name.clone(),
            capacity: capacity(&file)?,
            unwritten: Arc::new(Unwritten::default(), GFP_KERNEL_ACCOUNT)?,
            file,
            acquired: false,
            claim: None,
            dirty: false,
            untold: Untold::default(),
            punches_holes: true,
            zeroes_ranges: true,
            buffer: KVVec::from_elem(0, BUFFER_SIZE, GFP_KERNEL_ACCOUNT)?,
        })
    }

    /// Capacity in bytes.
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Returns what writes the file back while the guest goes on.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn write_back(&self) -> Result<FileWriteBack> {
        FileWriteBack::new(&self.file, &self.unwritten, self.capacity)
    }

    /// Locks the file, and claims a block device, unless that is done already. May sleep for long.
    ///
    /// # Errors
    ///
    /// `EBUSY` if another user has locked the file or claimed the block device, as a mount does, the error of
    /// opening it once more or of locking it, such as `ENOLCK` where that is not possible, or the error of
    /// dropping its cache. The file is neither locked nor claimed then.
    pub(crate) fn acquire(&mut self) -> Result {
        if self.acquired {
            return Ok(());
        }

        let claim = self
            .file
            .is_block_device()
            .then(|| Claim::new(&self.name))
            .transpose()?;
        self.file
            .lock()
            .map_err(|error| if error == EAGAIN { EBUSY } else { error })?;
        // Not before the lock: its former owner may have written until then.
        self.file.drop_cache().inspect_err(|_| self.file.unlock())?;
        self.claim = claim;
        self.acquired = true;

        Ok(())
    }

    /// Writes everything back and unlocks the file, if it is locked. May sleep for long.
    ///
    /// # Errors
    ///
    /// Written data may not be in the file, and the guest has not been told. The lock is kept, so that no other user
    /// takes stale data for the content.
    pub(crate) fn release(&mut self) -> Result {
        if !self.acquired {
            return Ok(());
        }

        self.finish_requests();
        self.write_dirty()?;
        self.file.unlock();
        self.claim = None;
        self.acquired = false;

        Ok(())
    }

    /// Writes everything back, where the guest cannot be told of an error, which is kept. May sleep for long.
    ///
    /// # Errors
    ///
    /// Written data may not be in the file, and the guest has not been told.
    pub(crate) fn settle(&mut self) -> Result {
        if self.acquired {
            self.write_dirty()
        } else {
            Ok(())
        }
    }

    fn write_dirty(&mut self) -> Result {
        let synced = if self.dirty { self.sync() } else { Ok(()) };
        self.untold.keep(synced)
    }

    /// Waits for requests whose results nobody takes, as the process of the worker was killed. May sleep for long.
    fn finish_requests(&mut self) {
        if let Some(requests) = &self.requests {
            requests.await_all();
        }
        while self.take_done(&mut |_| false) {}
    }

    /// Writes everything back.
    fn sync(&mut self) -> Result {
        let mark = self.unwritten.mark();
        self.file.sync()?;
        self.unwritten.written_back(mark);
        self.dirty = false;
        Ok(())
    }

    fn check_acquired(&self) -> Result<(), BackendError> {
        if self.acquired {
            Ok(())
        } else {
            Err(BackendError::Medium)
        }
    }

    /// Tries to make `[offset, offset + len)` a hole. Returns whether that worked.
    fn punch_hole(&mut self, offset: u64, len: u64) -> bool {
        self.dirty = true;
        self.punches_holes && try_once(&mut self.punches_holes, self.file.punch_hole(offset, len))
    }

    /// Tries to have the file system write zeros. Returns whether that worked.
    fn zero_range(&mut self, offset: u64, len: u64) -> bool {
        self.dirty = true;
        self.zeroes_ranges && try_once(&mut self.zeroes_ranges, self.file.zero_range(offset, len))
    }
}

/// Returns whether `result` is a success, and clears `supported` if the file system cannot do it.
fn try_once(supported: &mut bool, result: Result) -> bool {
    if result == Err(EOPNOTSUPP) {
        *supported = false;
    }
    result.is_ok()
}

impl Drop for FileBackend {
    fn drop(&mut self) {
        // A failure cannot be reported any more; the lock goes with the file.
        let _ = self.release();
    }
}

fn store_error(error: Error) -> BackendError {
    if [ENOSPC, EDQUOT, EFBIG].contains(&error) {
        BackendError::Full
    } else {
        BackendError::Medium
    }
}

/// Splits the bytes `[offset, offset + len)` into parts that fit into the buffer. Yields offset and length
/// of each.
fn parts(offset: u64, len: u64) -> impl Iterator<Item = (u64, usize)> {
    (0..len).step_by(BUFFER_SIZE).map(move |done| {
        let len = (len - done).min(BUFFER_SIZE as u64);
        (offset.saturating_add(done), len as usize)
    })
}

impl BlockBackend for FileBackend {
    fn has_to_wait(&self) -> bool {
        self.acquired
    }

    fn expect_read(&mut self, offset: u64, len: u64) {
        if self.requests.is_none() {
            self.file.read_ahead(offset, len);
        }
    }

    fn read(
        &mut self,
        offset: u64,
        len: usize,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), MemoryError>,
    ) -> Result<(), BackendError> {
        self.check_acquired()?;

        for (at, len) in parts(offset, len as u64) {
            if let Some(requests) = &mut self.requests {
                requests.read(at, len, sink)?;
                continue;
            }
            let bytes = self.buffer.get_mut(..len).ok_or(BackendError::Medium)?;
            self.file.read_at(at, bytes).map_err(store_error)?;
            sink(bytes)?;
        }

        Ok(())
    }

    fn write(
        &mut self,
        offset: u64,
        len: usize,
        source: &mut dyn FnMut(&mut [u8]) -> Result<(), MemoryError>,
    ) -> Result<(), BackendError> {
        self.check_acquired()?;
        self.dirty = true;

        for (at, len) in parts(offset, len as u64) {
            if let Some(requests) = &mut self.requests {
                requests.write(at, len, source)?;
                continue;
            }
            let bytes = self.buffer.get_mut(..len).ok_or(BackendError::Medium)?;
            source(bytes)?;
            self.file.write_at(at, bytes).map_err(store_error)?;
            self.unwritten.add(len as u64);
        }

        Ok(())
    }

    fn write_zeroes(
        &mut self,
        offset: u64,
        len: u64,
        may_deallocate: bool,
    ) -> Result<(), BackendError> {
        self.check_acquired()?;
        if may_deallocate && self.punch_hole(offset, len) || self.zero_range(offset, len) {
            return Ok(());
        }

        self.dirty = true;
        self.buffer.fill(0);
        for (at, len) in parts(offset, len) {
            if let Some(requests) = &mut self.requests {
                requests.write(at, len, &mut |bytes| {
                    bytes.fill(0);
                    Ok(())
                })?;
                continue;
            }
            let zeroes = self.buffer.get(..len).ok_or(BackendError::Medium)?;
            self.file.write_at(at, zeroes).map_err(store_error)?;
            self.unwritten.add(len as u64);
        }

        Ok(())
    }

    fn deallocate(&mut self, offset: u64, len: u64) -> Result<(), BackendError> {
        self.check_acquired()?;
        // A deallocation is a hint, and may concern the whole namespace. Where the file system cannot punch a
        // hole at once, the blocks stay allocated, with their content.
        self.punch_hole(offset, len);

        Ok(())
    }

    fn flush(&mut self) -> Result<(), BackendError> {
        // Without the lock nothing is left to write back, as a release does that first.
        if !self.acquired {
            return Ok(());
        }

        let synced = self.sync();
        self.untold.tell(synced).map_err(store_error)
    }

    fn write_back(&mut self) -> Result<(), BackendError> {
        if !self.acquired {
            return Ok(());
        }

        self.write_dirty().map_err(store_error)
    }

    fn is_concurrent(&self) -> bool {
        self.requests.is_some()
    }

    fn begin(&mut self, tag: &Tag, request: Request<'_>) -> Result<Begun, BackendError> {
        self.check_acquired()?;
        self.dirty |= matches!(request, Request::Write { .. });

        let requests = self.requests.as_mut().ok_or(BackendError::Medium)?;
        requests.begin(tag, request)
    }

    fn take_done(&mut self, take: &mut dyn FnMut(Done<'_>) -> bool) -> bool {
        let Some(requests) = &mut self.requests else {
            return false;
        };
        let (untold, dirty) = (&mut self.untold, &mut self.dirty);
        let taken = requests.take_done(|Finished { tag, kind, result }| {
            // Another flush may have begun before it was done, and ended.
            *dirty |= kind == Kind::Write;
            let result = match kind {
                Kind::Flush => untold.tell(result.map(drop)).map(|()| &[][..]),
                Kind::Read | Kind::Write => result,
            };
            let told = take(Done {
                tag,
                result: result.map_err(store_error),
            });
            // Who is told nothing loses nothing by a read.
            if !told && kind != Kind::Read {
                let _ = untold.keep(result.map(drop));
            }
        });
        taken.is_some()
    }

    fn await_done(&mut self) -> bool {
        self.requests
            .as_ref()
            .is_some_and(|requests| requests.await_done())
    }
}

impl<'a> ReadStraight<DmaMemory<'a>> for FileBackend {
    fn read_straight(
        &mut self,
        offset: u64,
        len: usize,
        memory: &mut DmaMemory<'a>,
        place: Place<'_, DmaMemory<'a>>,
    ) -> Result<usize, BackendError> {
        self.check_acquired()?;
        if len < STRAIGHT_MIN || self.requests.is_some() {
            return Ok(0);
        }

        let moved = self.file.lend(offset, len, |mut bytes| {
            while !bytes.is_empty() {
                let (address, len) = place(memory, bytes.len())?;
                memory.write_cached(address, bytes.take(len))?;
            }
            Ok::<(), MemoryError>(())
        })?;
        Ok(moved)
    }
}
