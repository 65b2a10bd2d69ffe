// SPDX-License-Identifier: GPL-2.0

//! A VFIO group, by which QEMU 7.2 opens a device.

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::fs::open;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::error::Context as _;
use crate::sys;
use crate::sys::Request;
use crate::Container;
use crate::Device;
use crate::Result;

/// The directory of the files of all groups.
pub(crate) const GROUPS: &str = "/dev/vfio";

/// A VFIO group.
#[derive(Debug)]
pub struct Group(OwnedFd);

impl Group {
    /// Opens a group by its number. A group has one open file at a time.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn open(number: u32) -> Result<Self> {
        let path = format!("{GROUPS}/{number}");
        open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .what(|| format!("open {path}"))
            .map(Group)
    }

    /// Puts the group into a container.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn set_container(&self, container: &Container) -> Result<()> {
        let mut fd = container.as_fd().as_raw_fd().to_ne_bytes();
        sys::ioctl(&self.0, Request::GROUP_SET_CONTAINER, &mut fd)
            .what(|| "VFIO_GROUP_SET_CONTAINER".into())
            .map(drop)
    }

    /// Opens a device of the group.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn device(&self, name: &str) -> Result<Device> {
        sys::device_fd(&self.0, name.as_bytes())
            .what(|| format!("VFIO_GROUP_GET_DEVICE_FD of {name}"))
            .map(|fd| Device::new(fd, name))
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
