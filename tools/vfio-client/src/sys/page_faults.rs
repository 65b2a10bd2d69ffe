// SPDX-License-Identifier: GPL-2.0

//! userfaultfd, with which tests have the kernel wait for memory.

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::mm::userfaultfd;
use rustix::mm::UserfaultfdFlags;

use super::ioctl::answer;
use super::Mapping;

/// A userfaultfd whose page faults nobody serves: an access of a page that has not been touched waits until
/// this object is dropped.
#[derive(Debug)]
pub struct PageFaults(OwnedFd);

impl PageFaults {
    /// Makes a userfaultfd without mappings.
    ///
    /// # Errors
    ///
    /// What the kernel answers; `EPERM` to a process that may not handle faults of the kernel.
    pub fn new() -> Result<Self, Errno> {
        /// `UFFDIO_API`, with a `struct uffdio_api` of API version 0xaa.
        const API: libc::c_ulong = 0xc018_aa3f;
        let mut api = [0xaa_u64, 0, 0];

        // SAFETY: What the file can do to memory is up to who registers it.
        let fd = unsafe { userfaultfd(UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK) }?;
        // SAFETY: The structure is as large as the kernel takes it to be.
        answer(unsafe { libc::ioctl(fd.as_raw_fd(), API, api.as_mut_ptr()) })?;
        Ok(PageFaults(fd))
    }

    /// Registers the faults of a mapping.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn of(&self, mapping: &Mapping) -> Result<(), Errno> {
        /// `UFFDIO_REGISTER`, with a `struct uffdio_register`.
        const REGISTER: libc::c_ulong = 0xc020_aa00;
        /// `UFFDIO_REGISTER_MODE_MISSING`.
        const MISSING: u64 = 1;
        let start = mapping.start() as u64;
        let mut register = [start, mapping.len() as u64, MISSING, 0];

        // SAFETY: As in `new()`. The bytes of the mapping are zeros until somebody touches them, as
        // they would be without this; an access that waits is none.
        answer(unsafe { libc::ioctl(self.0.as_raw_fd(), REGISTER, register.as_mut_ptr()) })?;
        Ok(())
    }

    /// Provides zeros for all of a mapping that nobody has touched yet: accesses that wait go on.
    ///
    /// # Errors
    ///
    /// What the kernel answers; `EEXIST` if a page is there already.
    pub fn provide_zeroes(&self, mapping: &Mapping) -> Result<(), Errno> {
        /// `UFFDIO_ZEROPAGE`, with a `struct uffdio_zeropage`.
        const ZEROPAGE: libc::c_ulong = 0xc020_aa04;
        let start = mapping.start() as u64;
        let mut zeropage = [start, mapping.len() as u64, 0, 0];

        // SAFETY: As in `of()`: the bytes of the mapping are the zeros that they would be without this.
        answer(unsafe { libc::ioctl(self.0.as_raw_fd(), ZEROPAGE, zeropage.as_mut_ptr()) })?;
        Ok(())
    }
}

impl AsFd for PageFaults {
    /// The file is readable once an access waits.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
