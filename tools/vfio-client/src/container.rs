// SPDX-License-Identifier: GPL-2.0

//! Container and group: how a device comes to be opened the legacy way, as QEMU 7.2 does it.

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::fs::open;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use vfio_bindings::bindings::vfio;

use crate::error::Context as _;
use crate::region::capabilities;
use crate::region::u32_at;
use crate::sys;
use crate::sys::Mapping;
use crate::sys::Request;
use crate::Device;
use crate::Error;
use crate::Mdev;
use crate::Result;

const CONTAINER: &str = "/dev/vfio/vfio";

/// The id of the capability by which type1 says that it tracks dirty pages:
/// `VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION`.
pub const TYPE1_CAP_MIGRATION: u16 = 2;

/// A VFIO container.
#[derive(Debug)]
pub struct Container(OwnedFd);

impl Container {
    /// Opens a new container.
    ///
    /// # Errors
    ///
    /// What the kernel answers; [`Error::Malformed`] for another version of the interface.
    pub fn open() -> Result<Self> {
        let fd = open(CONTAINER, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .what(|| format!("open {CONTAINER}"))?;
        let version = sys::ioctl_value(&fd, Request::GET_API_VERSION, 0)
            .what(|| "VFIO_GET_API_VERSION".into())?;
        if version != vfio::VFIO_API_VERSION {
            return Err(Error::malformed(
                "VFIO_GET_API_VERSION",
                format!("version {version}"),
            ));
        }
        Ok(Container(fd))
    }

    /// Says whether the kernel has an extension, for example `VFIO_TYPE1v2_IOMMU`.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn has_extension(&self, extension: u16) -> Result<bool> {
        sys::ioctl_value(&self.0, Request::CHECK_EXTENSION, extension.into())
            .what(|| format!("VFIO_CHECK_EXTENSION of {extension}"))
            .map(|answer| answer != 0)
    }

    /// Makes the container a type1 IOMMU, version 2. A group must be in it already.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn set_type1(&self) -> Result<()> {
        sys::ioctl_value(
            &self.0,
            Request::SET_IOMMU,
            vfio::VFIO_TYPE1v2_IOMMU as usize,
        )
        .what(|| "VFIO_SET_IOMMU to type1 version 2".into())
        .map(drop)
    }

    /// Says whether the type1 IOMMU reports dirty pages, which QEMU 7.2 asks for.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn tracks_dirty_pages(&self) -> Result<bool> {
        let what = || "VFIO_IOMMU_GET_INFO".to_string();
        let mut info = vec![0; 4096];
        let size = info.len() as u32;
        info[..4].copy_from_slice(&size.to_ne_bytes());
        sys::ioctl(&self.0, Request::IOMMU_GET_INFO, &mut info).what(what)?;
        let cap_offset = u32_at(
            &info,
            core::mem::offset_of!(vfio::vfio_iommu_type1_info, cap_offset),
        );
        let chain = capabilities(&info, cap_offset.unwrap_or(0))
            .map_err(|why| Error::malformed(what(), why))?;
        Ok(chain.iter().any(|cap| cap.id == TYPE1_CAP_MIGRATION))
    }

    /// Maps memory at an I/O virtual address.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn map(&self, iova: u64, memory: &Mapping) -> Result<()> {
        sys::map_dma(&self.0, iova, memory)
            .what(|| format!("VFIO_IOMMU_MAP_DMA of {} bytes at {iova:#x}", memory.len()))
    }

    /// Unmaps what was mapped at an I/O virtual address; returns how many bytes that was.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn unmap(&self, iova: u64, size: u64) -> Result<u64> {
        let what = || format!("VFIO_IOMMU_UNMAP_DMA of {size} bytes at {iova:#x}");
        let mut argument = [0; size_of::<vfio::vfio_iommu_type1_dma_unmap>()];
        let argsz = argument.len() as u32;
        argument[..4].copy_from_slice(&argsz.to_ne_bytes());
        argument[8..16].copy_from_slice(&iova.to_ne_bytes());
        argument[16..24].copy_from_slice(&size.to_ne_bytes());
        sys::ioctl(&self.0, Request::IOMMU_UNMAP_DMA, &mut argument).what(what)?;
        crate::region::u64_at(&argument, 16)
            .ok_or_else(|| Error::malformed(what(), "no size in the answer"))
    }
}

impl AsFd for Container {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A VFIO group.
#[derive(Debug)]
pub struct Group(OwnedFd);

impl Group {
    /// Opens a group by its number. A group can be opened once at a time.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn open(number: u32) -> Result<Self> {
        let path = format!("/dev/vfio/{number}");
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

/// A device open in a container of its own, as a VMM with one device has it.
#[derive(Debug)]
pub struct Session {
    /// The device. Clones of it keep the device open when the session is gone.
    pub device: Device,
    /// The group.
    pub group: Group,
    /// The container.
    pub container: Container,
}

impl Session {
    /// Opens a mediated device.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn open(mdev: &Mdev) -> Result<Self> {
        let container = Container::open()?;
        let group = Group::open(mdev.group()?)?;
        group.set_container(&container)?;
        container.set_type1()?;
        let device = group.device(mdev.uuid())?;
        Ok(Session {
            device,
            group,
            container,
        })
    }
}
