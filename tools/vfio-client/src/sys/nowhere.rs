// SPDX-License-Identifier: GPL-2.0

//! Reads and writes whose buffer is at an address that is never mapped. `EFAULT` is the right answer.

use core::ptr;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;

use rustix::io::Errno;

use super::ioctl::answer;

/// Reads `length` bytes at `offset` of a file into a buffer that is not mapped.
///
/// # Errors
///
/// What the kernel answers; `EFAULT` is right.
pub fn pread_nowhere(fd: impl AsFd, length: usize, offset: u64) -> Result<u32, Errno> {
    // SAFETY: The null page is never mapped, so the kernel writes nothing anywhere.
    answer(unsafe {
        libc::pread(
            fd.as_fd().as_raw_fd(),
            ptr::null_mut(),
            length,
            offset as i64,
        )
    } as i32)
}

/// Writes `length` bytes to `offset` of a file from a buffer that is not mapped.
///
/// # Errors
///
/// What the kernel answers; `EFAULT` is right.
pub fn pwrite_nowhere(fd: impl AsFd, length: usize, offset: u64) -> Result<u32, Errno> {
    // SAFETY: The kernel only ever reads through the pointer, and the null page is never mapped.
    answer(
        unsafe { libc::pwrite(fd.as_fd().as_raw_fd(), ptr::null(), length, offset as i64) } as i32,
    )
}

/// Reads `length` bytes of a file without positions into a buffer that is not mapped.
///
/// # Errors
///
/// What the kernel answers; `EFAULT` is right.
pub fn read_nowhere(fd: impl AsFd, length: usize) -> Result<u32, Errno> {
    // SAFETY: The null page is never mapped, so the kernel writes nothing anywhere.
    answer(unsafe { libc::read(fd.as_fd().as_raw_fd(), ptr::null_mut(), length) } as i32)
}

/// Writes `length` bytes to a file without positions from a buffer that is not mapped.
///
/// # Errors
///
/// What the kernel answers; `EFAULT` is right.
pub fn write_nowhere(fd: impl AsFd, length: usize) -> Result<u32, Errno> {
    // SAFETY: The kernel only ever reads through the pointer, and the null page is never mapped.
    answer(unsafe { libc::write(fd.as_fd().as_raw_fd(), ptr::null(), length) } as i32)
}
