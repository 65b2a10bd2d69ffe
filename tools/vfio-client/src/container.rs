// SPDX-License-Identifier: GPL-2.0

//! A VFIO container with a type1 IOMMU: the address space of devices that are opened by group.

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::open;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use vfio_bindings::bindings::vfio;

use crate::address_space::Access;
use crate::address_space::AddressSpace;
use crate::address_space::Mapped;
use crate::capability::capabilities;
use crate::capability::u32_at;
use crate::capability::u64_at;
use crate::dirty::DirtyPages;
use crate::dirty::DIRTY_PAGE;
use crate::error::Context as _;
use crate::iommufd::IOMMUFD;
use crate::sys;
use crate::sys::Mapping;
use crate::sys::Request;
use crate::Error;
use crate::Result;

pub(crate) const CONTAINER: &str = "/dev/vfio/vfio";

/// `VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION`, the id of the capability of a type1 IOMMU that tracks dirty
/// pages.
pub const TYPE1_CAP_MIGRATION: u16 = 2;

/// A VFIO container.
#[derive(Debug)]
pub struct Container {
    fd: OwnedFd,
    mapped: Mapped,
}

impl Container {
    /// Opens a new container.
    ///
    /// # Errors
    ///
    /// What the kernel answers; [`Error::Malformed`] for another version of the interface.
    pub fn open() -> Result<Self> {
        Container::open_at(CONTAINER)
    }

    /// Opens a new iommufd, whose compatibility ioctls are those of a container.
    ///
    /// # Errors
    ///
    /// As [`Container::open`].
    pub fn open_iommufd() -> Result<Self> {
        Container::open_at(IOMMUFD)
    }

    fn open_at(path: &str) -> Result<Self> {
        let fd = open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .what(|| format!("open {path}"))?;
        let version = sys::ioctl_value(&fd, Request::GET_API_VERSION, 0)
            .what(|| "VFIO_GET_API_VERSION".into())?;
        if version != vfio::VFIO_API_VERSION {
            return Err(Error::malformed(
                "VFIO_GET_API_VERSION",
                format!("version {version}"),
            ));
        }
        Ok(Container {
            fd,
            mapped: Mapped::default(),
        })
    }

    /// Makes the container a type1 IOMMU, version 2. The container must have a group.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn set_type1(&self) -> Result<()> {
        sys::ioctl_value(
            &self.fd,
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
        sys::ioctl(&self.fd, Request::IOMMU_GET_INFO, &mut info).what(what)?;
        let cap_offset = u32_at(
            &info,
            core::mem::offset_of!(vfio::vfio_iommu_type1_info, cap_offset),
        );
        let chain = capabilities(&info, cap_offset.unwrap_or(0))
            .map_err(|why| Error::malformed(what(), why))?;
        Ok(chain.iter().any(|cap| cap.id == TYPE1_CAP_MIGRATION))
    }

    fn unmap_with(&self, iova: u64, size: u64, flags: u32) -> core::result::Result<u64, Errno> {
        let mut argument = [0; size_of::<vfio::vfio_iommu_type1_dma_unmap>()];
        let argsz = argument.len() as u32;
        argument[..4].copy_from_slice(&argsz.to_ne_bytes());
        argument[4..8].copy_from_slice(&flags.to_ne_bytes());
        argument[8..16].copy_from_slice(&iova.to_ne_bytes());
        argument[16..24].copy_from_slice(&size.to_ne_bytes());
        sys::ioctl(&self.fd, Request::IOMMU_UNMAP_DMA, &mut argument)?;
        u64_at(&argument, 16).ok_or(Errno::PROTO)
    }

    fn dirty_pages(&self, flag: u32, what: &str) -> Result<()> {
        let mut argument = [0; size_of::<vfio::vfio_iommu_type1_dirty_bitmap>()];
        let argsz = argument.len() as u32;
        argument[..4].copy_from_slice(&argsz.to_ne_bytes());
        argument[4..8].copy_from_slice(&flag.to_ne_bytes());
        sys::ioctl(&self.fd, Request::IOMMU_DIRTY_PAGES, &mut argument)
            .what(|| format!("VFIO_IOMMU_DIRTY_PAGES {what}"))
            .map(drop)
    }

    /// Starts the log of written pages. A pinned page counts as written all the time.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn start_logging(&self) -> Result<()> {
        self.dirty_pages(vfio::VFIO_IOMMU_DIRTY_PAGES_FLAG_START, "START")
    }

    /// Stops the log and discards its content.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn stop_logging(&self) -> Result<()> {
        self.dirty_pages(vfio::VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP, "STOP")
    }

    /// Returns the pages of a range that were written since the last call, and clears them in the log.
    /// The range has to consist of whole mappings.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn take_dirty(&self, iova: u64, size: u64) -> Result<DirtyPages> {
        sys::dirty_bitmap(&self.fd, iova, size, DIRTY_PAGE)
            .what(|| format!("VFIO_IOMMU_DIRTY_PAGES GET_BITMAP of {size} bytes at {iova:#x}"))
            .map(|words| DirtyPages::new(iova, words))
    }
}

impl AddressSpace for Container {
    fn map_for(&self, iova: u64, memory: &Arc<Mapping>, access: Access) -> Result<()> {
        let flags = match access {
            Access::Both => vfio::VFIO_DMA_MAP_FLAG_READ | vfio::VFIO_DMA_MAP_FLAG_WRITE,
            Access::ReadOnly => vfio::VFIO_DMA_MAP_FLAG_READ,
            Access::WriteOnly => vfio::VFIO_DMA_MAP_FLAG_WRITE,
        };
        self.mapped.add(iova, memory, || {
            sys::map_dma(&self.fd, iova, memory, flags)
                .what(|| format!("VFIO_IOMMU_MAP_DMA of {} bytes at {iova:#x}", memory.len()))
        })
    }

    fn unmap(&self, iova: u64, size: u64) -> Result<u64> {
        self.mapped.remove(iova, size, || {
            self.unmap_with(iova, size, 0)
                .what(|| format!("VFIO_IOMMU_UNMAP_DMA of {size} bytes at {iova:#x}"))
        })
    }
}

impl Drop for Container {
    /// Unmaps everything first: an open device must not reach memory that is freed.
    fn drop(&mut self) {
        self.mapped.remove_all(|| {
            match self.unmap_with(0, 0, vfio::VFIO_DMA_UNMAP_FLAG_ALL) {
                // `EINVAL` comes from a container without a group, which has no mappings either.
                Ok(_) | Err(Errno::INVAL) => Ok(()),
                Err(errno) => Err(errno).what(|| "VFIO_IOMMU_UNMAP_DMA of everything".into()),
            }
        });
    }
}

impl From<OwnedFd> for Container {
    /// Takes a container that is open, and that another process may have as well. What that process has mapped is
    /// unmapped with this container, too.
    fn from(fd: OwnedFd) -> Self {
        Container {
            fd,
            mapped: Mapped::default(),
        }
    }
}

impl AsFd for Container {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
