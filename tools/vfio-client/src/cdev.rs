// SPDX-License-Identifier: GPL-2.0

//! The character device of a VFIO device, by which newer VMMs open the device without its group.
//!
//! Mirrors the ioctls of `include/uapi/linux/vfio.h` that only a character device has.

use core::mem::offset_of;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::open;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use vfio_bindings::bindings::vfio;

use crate::capability::u32_at;
use crate::error::Context as _;
use crate::iommufd::argument;
use crate::sys::Request;
use crate::sysfs::SysfsDevice;
use crate::Device;
use crate::Error;
use crate::Ioas;
use crate::Iommufd;
use crate::Result;

/// The directory of the character devices.
pub const CDEVS: &str = "/dev/vfio/devices";

/// An open character device. Only [`Cdev::bind`] opens the VFIO device behind it.
#[derive(Clone, Debug)]
pub struct Cdev(Device);

impl Cdev {
    /// Says whether a device has a character device.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn exists(device: &SysfsDevice) -> Result<bool> {
        device.cdev().map(|name| name.is_some())
    }

    /// Opens the character device of a device, which can be opened many times.
    ///
    /// # Errors
    ///
    /// What the kernel answers; `ENOENT` without a character device.
    pub fn open(device: &SysfsDevice) -> Result<Self> {
        let name = device
            .cdev()?
            .ok_or(Errno::NOENT)
            .what(|| format!("character device of {}", device.name()))?;
        let path = Path::new(CDEVS).join(name);
        open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .what(|| format!("open {}", path.display()))
            .map(|fd| Cdev(Device::new(fd, device.name())))
    }

    /// Returns the device.
    pub fn device(&self) -> &Device {
        &self.0
    }

    /// Binds the device to an iommufd, which opens the device. Returns the device's id in the iommufd.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn bind(&self, iommufd: &Iommufd) -> Result<u32> {
        let what = || format!("{}: VFIO_DEVICE_BIND_IOMMUFD", self.0.name());
        let mut bind = argument::<{ size_of::<vfio::vfio_device_bind_iommufd>() }>(&[(
            offset_of!(vfio::vfio_device_bind_iommufd, iommufd),
            iommufd.as_fd().as_raw_fd() as u32,
        )]);
        self.0
            .ioctl(Request::DEVICE_BIND_IOMMUFD, &mut bind)
            .what(what)?;
        u32_at(&bind, offset_of!(vfio::vfio_device_bind_iommufd, out_devid))
            .ok_or_else(|| Error::malformed(what(), "answer too short"))
    }

    /// Attaches the device to an IOAS of the iommufd to which it is bound. A device that is attached
    /// already moves from its IOAS to this one.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn attach(&self, ioas: &Ioas) -> Result<()> {
        self.attach_id(ioas.id())
    }

    /// Attaches the device to the object with this id in the iommufd.
    ///
    /// # Errors
    ///
    /// What the kernel answers; `ENOENT` for an object that is no IOAS.
    pub fn attach_id(&self, id: u32) -> Result<()> {
        let mut attach =
            argument::<{ offset_of!(vfio::vfio_device_attach_iommufd_pt, pasid) }>(&[(
                offset_of!(vfio::vfio_device_attach_iommufd_pt, pt_id),
                id,
            )]);
        self.0
            .ioctl(Request::DEVICE_ATTACH_IOMMUFD_PT, &mut attach)
            .what(|| format!("{}: VFIO_DEVICE_ATTACH_IOMMUFD_PT", self.0.name()))
            .map(drop)
    }

    /// Detaches the device, if it is attached.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn detach(&self) -> Result<()> {
        let mut detach =
            argument::<{ offset_of!(vfio::vfio_device_detach_iommufd_pt, pasid) }>(&[]);
        self.0
            .ioctl(Request::DEVICE_DETACH_IOMMUFD_PT, &mut detach)
            .what(|| format!("{}: VFIO_DEVICE_DETACH_IOMMUFD_PT", self.0.name()))
            .map(drop)
    }
}
