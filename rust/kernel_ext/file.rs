// SPDX-License-Identifier: GPL-2.0

//! Files of the host that a device keeps its data in.
//!
//! C headers: [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`include/linux/filelock.h`](srctree/include/linux/filelock.h)

mod cached;
mod claim;
mod direct;
mod name;
mod write_back;

pub use self::{
    cached::Cached,
    claim::Claim,
    direct::{
        Direct,
        Notify,
        Transfer, //
    },
    name::FileName,
    write_back::WriteBack, //
};

use self::cached::Loan;
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::{
        from_err_ptr,
        to_result, //
    },
    fs,
    prelude::*,
    sync::aref::ARef, //
};

/// The access that a file is opened for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// The file is read.
    ReadOnly,
    /// The file is read and written.
    ReadWrite,
    /// The file is read and written by a [`Direct`].
    Direct,
}

/// An open regular file or block device.
pub struct File(ARef<fs::File>);

impl File {
    /// Opens the file of `name`. May sleep for as long as its file system takes; call it with
    /// no lock held.
    ///
    /// # Errors
    ///
    /// `ENXIO` if the node of the block device has been removed, else what `open()` returns, such as `EINVAL` for
    /// [`Access::Direct`] if the file system has no such access.
    pub fn open(name: &FileName, access: Access) -> Result<Self> {
        let flags = match access {
            Access::ReadOnly => bindings::O_RDONLY,
            Access::ReadWrite => bindings::O_RDWR,
            Access::Direct => bindings::O_RDWR | bindings::O_DIRECT,
        } | bindings::O_LARGEFILE
            | bindings::O_NOCTTY;

        // SAFETY: By their type invariants the path and the credentials are valid.
        let file = from_err_ptr(unsafe {
            vfio_bindings::ferry_file_open(
                &raw const name.path.0,
                name.credential.as_ptr(),
                // A handful of low bits.
                flags as i32,
            )
        })?;
        // SAFETY: The file is open, the reference is ours, and no file descriptor leads to the file, let
        // alone one that is being used.
        Ok(Self(unsafe {
            ARef::from_raw(NonNull::from(fs::File::from_raw_file(file)))
        }))
    }

    /// The kind of the file, `S_IF*`.
    fn kind(&self) -> u32 {
        // SAFETY: The file is open; the kind of its inode does not change.
        let mode = u32::from(unsafe { (*(*self.as_ptr()).f_inode).i_mode });

        mode & bindings::S_IFMT
    }

    fn as_ptr(&self) -> *mut bindings::file {
        self.0.as_ptr()
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        // SAFETY: The file is open.
        unsafe { vfio_bindings::ferry_file_size(self.as_ptr()) }
    }

    /// Fills `into` with the bytes at `offset`. May sleep.
    ///
    /// # Errors
    ///
    /// `EIO` if the file ends before `into` is full, else what the file system returns. The content of
    /// `into` is unspecified then.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result {
        self.transfer(offset, into.len(), |done, position| {
            let piece = &mut into[done..];

            // SAFETY: The file is open for reading; `piece` is ours and `len()` bytes long.
            unsafe {
                bindings::kernel_read(
                    self.as_ptr(),
                    piece.as_mut_ptr().cast(),
                    piece.len(),
                    position,
                )
            }
        })
    }

    /// Begins to read `len` bytes at `offset` into the page cache, and does not wait for them. May sleep
    /// for memory. An error shows when the bytes are read.
    pub fn read_ahead(&self, offset: u64, len: u64) {
        let (Ok(position), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else {
            return;
        };

        // SAFETY: The file is open for reading.
        unsafe { vfio_bindings::ferry_file_read_ahead(self.as_ptr(), position, len) };
    }

    /// Lends `len` bytes at `offset` of the page cache to `borrower`, one piece after the other. Returns
    /// the number of bytes that were taken. May sleep.
    ///
    /// Fewer than `len` bytes are taken if the file ends before, if it cannot be read, or if its file
    /// system cannot lend: [`Self::read_at`] finds out which.
    ///
    /// # Errors
    ///
    /// The error of `borrower`, which ends the loan.
    pub fn lend<E>(
        &self,
        offset: u64,
        len: usize,
        borrower: impl FnMut(Cached<'_>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let Ok(position) = i64::try_from(offset) else {
            return Ok(0);
        };
        let mut loan = Loan {
            borrower,
            error: None,
        };

        // SAFETY: The file is open for reading; the function calls `Loan::take()` during the call
        // only, and with what that asks for.
        let ret = unsafe {
            vfio_bindings::ferry_file_lend(
                self.as_ptr(),
                position,
                len,
                Some(loan.callback()),
                (&raw mut loan).cast(),
            )
        };
        match loan.error {
            Some(error) => Err(error),
            None => Ok(usize::try_from(ret).unwrap_or(0)),
        }
    }

    /// Writes all `bytes` at `offset`. May sleep.
    ///
    /// # Errors
    ///
    /// `EBADF` if the file was opened [`Access::ReadOnly`], else what the file system returns, such
    /// as `ENOSPC`. A prefix of `bytes` may have been written then.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result {
        self.check_writable()?;
        self.transfer(offset, bytes.len(), |done, position| {
            let piece = &bytes[done..];

            // SAFETY: The file is open for writing; the function reads `piece`, `len()` bytes.
            unsafe {
                bindings::kernel_write(self.as_ptr(), piece.as_ptr().cast(), piece.len(), position)
            }
        })
    }

    /// Calls `step` with the number of bytes that are transferred and the position in the file, until
    /// `len` bytes are. `step` returns the number of bytes that it transferred, or an error code.
    fn transfer(
        &self,
        offset: u64,
        len: usize,
        mut step: impl FnMut(usize, &mut bindings::loff_t) -> isize,
    ) -> Result {
        let mut position = i64::try_from(offset).map_err(|_| EINVAL)?;
        let mut done = 0;

        while done < len {
            let ret = step(done, &mut position);
            match usize::try_from(ret) {
                Ok(0) => return Err(EIO),
                Ok(transferred) => done = done.saturating_add(transferred),
                // An error code fits.
                Err(_) => return Err(Error::from_errno(ret as i32)),
            }
        }

        Ok(())
    }

    fn check_writable(&self) -> Result {
        match self.0.flags() & bindings::O_ACCMODE {
            bindings::O_RDWR => Ok(()),
            _ => Err(EBADF),
        }
    }

    /// Makes earlier writes survive a crash of the host. May sleep for long.
    ///
    /// # Errors
    ///
    /// What the file system returns, also for earlier writes that did not reach the disk.
    pub fn sync(&self) -> Result {
        // SAFETY: The file is open. Only the data is synchronised, since the size does not matter to us.
        to_result(unsafe { bindings::vfs_fsync(self.as_ptr(), 1) })
    }

    /// Returns whether the file is a block device.
    pub fn is_block_device(&self) -> bool {
        self.kind() == bindings::S_IFBLK
    }

    /// Makes `[offset, offset + len)` read as zeroes and frees its space. May sleep.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if the file system or the disk cannot do it, `EBADF` if the file was opened
    /// [`Access::ReadOnly`], else what the file system returns. Each byte is unchanged or zero then.
    pub fn punch_hole(&self, offset: u64, len: u64) -> Result {
        if self.is_block_device() {
            // A block device drops its cache before it finds out whether the disk can punch holes. If the
            // disk cannot, cached data that had not been written would be lost.
            self.write_back(offset, len)?;
        }

        self.allocate(vfio_bindings::FALLOC_FL_PUNCH_HOLE, offset, len)
    }

    /// Makes `[offset, offset + len)` read as zeroes and keeps, or allocates, space for it. May sleep.
    ///
    /// # Errors
    ///
    /// As for [`Self::punch_hole`], but a byte may have an older content then.
    pub fn zero_range(&self, offset: u64, len: u64) -> Result {
        self.allocate(vfio_bindings::FALLOC_FL_ZERO_RANGE, offset, len)
    }

    /// Writes the dirty pages of `[offset, offset + len)` to the disk.
    fn write_back(&self, offset: u64, len: u64) -> Result {
        let end = offset.checked_add(len).ok_or(EINVAL)?;
        let start = i64::try_from(offset).map_err(|_| EINVAL)?;
        let end = i64::try_from(end).map_err(|_| EINVAL)?;

        // SAFETY: The file is open, and its mapping does not change. The range includes its last
        // byte, and is empty if that is before the first.
        to_result(unsafe {
            let mapping = (*self.as_ptr()).f_mapping;
            bindings::filemap_write_and_wait_range(mapping, start, end - 1)
        })
    }

    fn allocate(&self, mode: u32, offset: u64, len: u64) -> Result {
        let offset = i64::try_from(offset).map_err(|_| EINVAL)?;
        let len = i64::try_from(len).map_err(|_| EINVAL)?;
        // A handful of low bits.
        let mode = (mode | vfio_bindings::FALLOC_FL_KEEP_SIZE) as i32;

        if len == 0 {
            return Ok(());
        }
        // SAFETY: The file is open; the function checks the rest.
        to_result(unsafe { bindings::vfs_fallocate(self.as_ptr(), mode, offset, len) })
    }

    /// Takes a write lock on all of the file, without waiting for it.
    ///
    /// The lock is that of `fcntl(F_OFD_SETLK)`: it conflicts with the POSIX and OFD locks of other
    /// processes, so with those of QEMU on its images, and with those of other hosts if the file system
    /// shares locks. The lock ends with [`Self::unlock`] or when the file is closed.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if a part of the file is locked, `EBADF` if the file was opened
    /// [`Access::ReadOnly`], `ENOLCK` if there are no locks left.
    pub fn lock(&self) -> Result {
        self.check_writable()?;

        // SAFETY: The file is open.
        to_result(unsafe { vfio_bindings::ferry_file_lock(self.as_ptr()) })
    }

    /// Drops the lock that [`Self::lock`] took, if the file is locked.
    pub fn unlock(&self) {
        // SAFETY: The file is open.
        unsafe { vfio_bindings::ferry_file_unlock(self.as_ptr()) };
    }

    /// Drops the cache of a block device or of a file in a network file system, which another host may
    /// have written, so that the next read gets the new content. Dirty pages are written first. May sleep
    /// for long.
    ///
    /// # Errors
    ///
    /// What the file system returns, `EBUSY` if the file is written at the same time.
    pub fn drop_cache(&self) -> Result {
        // SAFETY: The file is open.
        to_result(unsafe { vfio_bindings::ferry_file_drop_cache(self.as_ptr()) })
    }
}
