// SPDX-License-Identifier: GPL-2.0

//! The content of a namespace in a file or on a block device of the host.
//!
//! It may be one that other hosts reach as well, and a migration does not move it. So the store works
//! only between [`FileBackend::acquire`], which takes a lock on the whole file and forgets what the
//! host has cached of it, and [`FileBackend::release`], which writes everything back before it drops
//! the lock. Whoever holds the lock is alone: not even the other end of the migration has it, which
//! may well have the file open already, on the same host too.
//!
//! # What is cached
//!
//! Data goes through the host's page cache, which is charged to the memory cgroup of the process
//! that opened the device. The guest is told of a volatile write cache, which a flush command
//! empties.
//!
//! What is read is copied once, from the page cache to the guest, unless it is little. What is written
//! is copied twice, by way of a buffer: the guest's pages would have to be pinned for it to be once,
//! which costs more than the copy.
//!
//! Where another host can write to the file, the cache may be out of date when the lock has been
//! taken. NFS forgets it then by itself. Block devices and other file systems without a disk of
//! their own do not, so they are told to. The file systems of this host's disks are always up to
//! date, and those that hosts share by a disk keep their caches coherent.

use device_model::{
    BackendError,
    BlockBackend,
    MemoryError,
    Place,
    ReadStraight, //
};
use ferry_core::dma_memory::DmaMemory;
use kernel::prelude::*;
use kernel_ext::{
    file::{
        Access,
        File,
        FileName, //
    },
    memcg::MemoryCgroup, //
};
use nvme::{
    CAPACITY_MIN,
    CAPACITY_UNIT, //
};

/// Bytes that are transferred at once between the page cache and the guest, where they do not go
/// straight.
const BUFFER_SIZE: usize = 128 << 10;
/// Bytes from which on a read goes straight to the guest: for fewer it costs more to have a page lent
/// than to copy a part of it once more.
const STRAIGHT_MIN: usize = 4096;

/// Capacity in bytes of a namespace in `file`, which does not change when the file does.
fn capacity(file: &File) -> Result<u64> {
    let size = file.size();
    let capacity = size - size % CAPACITY_UNIT;

    if capacity < CAPACITY_MIN {
        return Err(EINVAL);
    }
    Ok(capacity)
}

/// Capacity in bytes that a store in the file `name` would have now.
///
/// # Errors
///
/// As for [`FileBackend::open`].
pub(crate) fn measure(name: &FileName) -> Result<u64> {
    capacity(&File::open(name, Access::ReadOnly)?)
}

/// A file or block device, and the right to use it.
pub(crate) struct FileBackend {
    file: File,
    capacity: u64,
    /// The lock is held.
    acquired: bool,
    /// The file system has not said that it cannot punch holes.
    punches_holes: bool,
    /// The file system has not said that it cannot zero ranges.
    zeroes_ranges: bool,
    buffer: KVVec<u8>,
    group: MemoryCgroup,
}

impl FileBackend {
    /// Opens the file for the current process, without the right to use it yet.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is neither a regular file nor a block device, or smaller than
    /// [`CAPACITY_MIN`]; `ENOMEM`; or what opening it returns.
    pub(crate) fn open(name: &FileName) -> Result<Self> {
        let file = File::open(name, Access::ReadWrite)?;

        Ok(Self {
            capacity: capacity(&file)?,
            file,
            acquired: false,
            punches_holes: true,
            zeroes_ranges: true,
            buffer: KVVec::from_elem(0, BUFFER_SIZE, GFP_KERNEL_ACCOUNT)?,
            group: MemoryCgroup::of_current(),
        })
    }

    /// Capacity in bytes.
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Gets the right to use the file, if it is not there already. May sleep for long.
    ///
    /// # Errors
    ///
    /// `EBUSY` if somebody else uses the file, or what locking it returns, such as `ENOLCK` where
    /// that is not possible. What is cached of it could not be forgotten: the lock is not held then.
    pub(crate) fn acquire(&mut self) -> Result {
        if self.acquired {
            return Ok(());
        }

        self.file
            .lock()
            .map_err(|error| if error == EAGAIN { EBUSY } else { error })?;
        // Not before: whoever had the lock might have written since.
        self.file.drop_cache().inspect_err(|_| self.file.unlock())?;
        self.acquired = true;

        Ok(())
    }

    /// Writes everything back and gives up the right to use the file, if it is there. May sleep for
    /// long.
    ///
    /// # Errors
    ///
    /// What was written may not be in the file. The right is kept, so that nobody takes for the
    /// content what is not.
    pub(crate) fn release(&mut self) -> Result {
        if !self.acquired {
            return Ok(());
        }

        self.file.sync()?;
        self.file.unlock();
        self.acquired = false;

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
        self.punches_holes && try_once(&mut self.punches_holes, self.file.punch_hole(offset, len))
    }

    /// Tries to have the file system write zeros. Returns whether that worked.
    fn zero_range(&mut self, offset: u64, len: u64) -> bool {
        self.zeroes_ranges && try_once(&mut self.zeroes_ranges, self.file.zero_range(offset, len))
    }
}

/// Returns whether `result` is a success, and notes in `supported` if there will never be one.
fn try_once(supported: &mut bool, result: Result) -> bool {
    if result == Err(EOPNOTSUPP) {
        *supported = false;
    }
    result.is_ok()
}

impl Drop for FileBackend {
    fn drop(&mut self) {
        // If it fails there is nobody left to tell; the lock goes with the file.
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

/// Splits the bytes `[offset, offset + len)` into parts that fit into the buffer: offset and length
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
        self.group.charge(|| self.file.read_ahead(offset, len));
    }

    fn read(
        &mut self,
        offset: u64,
        len: usize,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), MemoryError>,
    ) -> Result<(), BackendError> {
        self.check_acquired()?;

        for (at, len) in parts(offset, len as u64) {
            let bytes = self.buffer.get_mut(..len).ok_or(BackendError::Medium)?;
            self.group
                .charge(|| self.file.read_at(at, bytes))
                .map_err(store_error)?;
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

        for (at, len) in parts(offset, len as u64) {
            let bytes = self.buffer.get_mut(..len).ok_or(BackendError::Medium)?;
            source(bytes)?;
            self.group
                .charge(|| self.file.write_at(at, bytes))
                .map_err(store_error)?;
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

        self.buffer.fill(0);
        for (at, len) in parts(offset, len) {
            let zeroes = self.buffer.get(..len).ok_or(BackendError::Medium)?;
            self.group
                .charge(|| self.file.write_at(at, zeroes))
                .map_err(store_error)?;
        }

        Ok(())
    }

    fn deallocate(&mut self, offset: u64, len: u64) -> Result<(), BackendError> {
        self.check_acquired()?;
        // It is a hint, and can be for the whole namespace: where the file system cannot do it at
        // once, the blocks stay allocated, with what is in them.
        self.punch_hole(offset, len);

        Ok(())
    }

    fn flush(&mut self) -> Result<(), BackendError> {
        // Without the lock there is nothing left to write back: giving it up does that first.
        if !self.acquired {
            return Ok(());
        }

        self.file.sync().map_err(store_error)
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
        if len < STRAIGHT_MIN {
            return Ok(0);
        }

        let moved = self.group.charge(|| {
            self.file.lend(offset, len, |mut bytes| {
                while !bytes.is_empty() {
                    let (address, len) = place(memory, bytes.len())?;
                    memory.write_cached(address, bytes.take(len))?;
                }
                Ok::<(), MemoryError>(())
            })
        })?;
        Ok(moved)
    }
}
