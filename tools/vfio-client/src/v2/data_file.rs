// SPDX-License-Identifier: GPL-2.0

//! The data file of a migration session, and `VFIO_MIG_GET_PRECOPY_INFO`.

use core::mem::offset_of;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::poll;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::fs::fcntl_getfl;
use rustix::fs::fcntl_setfl;
use rustix::fs::OFlags;
use rustix::io::Errno;
use vfio_bindings::bindings::vfio;

use crate::capability::u32_at;
use crate::capability::u64_at;
use crate::error::Context as _;
use crate::sys;
use crate::sys::Request;
use crate::Error;
use crate::Result;

/// The bytes that can be read in pre-copy, `struct vfio_precopy_info`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PrecopyInfo {
    /// `VFIO_PRECOPY_INFO_*` with the opt-in, else the user's own value.
    pub flags: u32,
    /// Unread bytes of the data at the begin of pre-copy.
    pub initial_bytes: u64,
    /// Bytes of the data that has changed since.
    pub dirty_bytes: u64,
}

impl PrecopyInfo {
    /// Returns the sum of both.
    pub fn bytes(self) -> u64 {
        self.initial_bytes.saturating_add(self.dirty_bytes)
    }
}

/// The data file of a session.
#[derive(Debug)]
pub struct DataFile {
    fd: OwnedFd,
    name: String,
}

impl DataFile {
    pub(super) fn new(fd: OwnedFd, name: &str) -> Self {
        DataFile {
            fd,
            name: name.to_string(),
        }
    }

    fn what(&self, call: &str) -> String {
        format!("{}: {call} of the data file", self.name)
    }

    /// Reads once. Returns 0 at the end of the stream.
    ///
    /// # Errors
    ///
    /// What the kernel answers; `ENOMSG` in pre-copy at the end of the present data.
    pub fn read(&self, into: &mut [u8]) -> Result<usize> {
        rustix::io::read(&self.fd, &mut *into).what(|| self.what("read"))
    }

    /// Reads up to `piece` bytes at a time, until the end of the stream or of the present data.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn read_all(&self, piece: usize) -> Result<Vec<u8>> {
        let mut stream = Vec::new();
        let mut bytes = vec![0; piece];
        loop {
            match self.read(&mut bytes) {
                Ok(0) => return Ok(stream),
                Ok(len) => stream.extend(&bytes[..len]),
                Err(error) if error.errno() == Some(Errno::NOMSG) => return Ok(stream),
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes once. Returns the number of bytes that the device took.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn write(&self, bytes: &[u8]) -> Result<usize> {
        rustix::io::write(&self.fd, bytes).what(|| self.what("write"))
    }

    /// Writes a stream, up to `piece` bytes at a time.
    ///
    /// # Errors
    ///
    /// What the kernel answers; [`Error::Short`] when it takes nothing and reports no error.
    pub fn write_all(&self, stream: &[u8], piece: usize) -> Result<()> {
        for mut bytes in stream.chunks(piece.max(1)) {
            while !bytes.is_empty() {
                let done = self.write(bytes)?;
                if done == 0 {
                    return Err(Error::Short {
                        what: self.what("write"),
                        done,
                        wanted: bytes.len(),
                    });
                }
                bytes = bytes.get(done..).unwrap_or_default();
            }
        }
        Ok(())
    }

    /// Waits for one of `events`, up to `limit`; `None` does not wait. Returns the events.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn poll(&self, events: PollFlags, limit: Option<Duration>) -> Result<PollFlags> {
        let limit = limit.unwrap_or_default();
        let limit = Timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(&self.fd, events)];
        poll(&mut fds, Some(&limit)).what(|| self.what("poll"))?;
        Ok(fds[0].revents())
    }

    /// Sets or clears `O_NONBLOCK`.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn set_nonblocking(&self, nonblocking: bool) -> Result<()> {
        let flags = fcntl_getfl(&self.fd).what(|| self.what("F_GETFL"))?;
        let mut new = flags;
        new.set(OFlags::NONBLOCK, nonblocking);
        fcntl_setfl(&self.fd, new).what(|| self.what("F_SETFL"))
    }

    /// Does `VFIO_MIG_GET_PRECOPY_INFO`.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn precopy_info(&self) -> Result<PrecopyInfo> {
        let size = size_of::<vfio::vfio_precopy_info>() as u32;
        self.precopy_info_with(size, 0)
            .what(|| self.what("VFIO_MIG_GET_PRECOPY_INFO"))
    }

    /// Does `VFIO_MIG_GET_PRECOPY_INFO` with any `argsz` and flags.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn precopy_info_with(
        &self,
        argsz: u32,
        flags: u32,
    ) -> core::result::Result<PrecopyInfo, Errno> {
        let mut info = [0; size_of::<vfio::vfio_precopy_info>()];
        info[..4].copy_from_slice(&argsz.to_ne_bytes());
        info[4..8].copy_from_slice(&flags.to_ne_bytes());
        sys::ioctl(&self.fd, Request::GET_PRECOPY_INFO, &mut info)?;
        let long = |offset| u64_at(&info, offset).ok_or(Errno::PROTO);
        Ok(PrecopyInfo {
            flags: u32_at(&info, offset_of!(vfio::vfio_precopy_info, flags)).ok_or(Errno::PROTO)?,
            initial_bytes: long(offset_of!(vfio::vfio_precopy_info, initial_bytes))?,
            dirty_bytes: long(offset_of!(vfio::vfio_precopy_info, dirty_bytes))?,
        })
    }
}

impl AsFd for DataFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
