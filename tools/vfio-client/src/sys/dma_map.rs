// SPDX-License-Identifier: GPL-2.0

//! Memory that devices reach: `VFIO_IOMMU_MAP_DMA` of type1, `IOMMU_IOAS_MAP` of iommufd.

use core::ptr;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;

use rustix::io::Errno;
use vfio_bindings::bindings::vfio;

use super::ioctl::answer;
use super::Mapping;
use super::Request;

/// Maps memory of this process for DMA.
///
/// The kernel accesses the memory by its address here until it is unmapped or the container is gone,
/// so the caller keeps the memory for as long. The only caller is [`crate::Container`].
///
/// # Errors
///
/// What the kernel answers.
pub(crate) fn map_dma(
    container: impl AsFd,
    iova: u64,
    memory: &Mapping,
    flags: u32,
) -> Result<(), Errno> {
    let mut argument = vfio::vfio_iommu_type1_dma_map {
        argsz: size_of::<vfio::vfio_iommu_type1_dma_map>() as u32,
        flags,
        vaddr: memory.start() as u64,
        iova,
        size: memory.len() as u64,
    };
    // SAFETY: The structure is alive for the call. The memory it names is only ever accessed with
    // atomic operations, and the container keeps it for as long as it is mapped.
    answer(unsafe {
        libc::ioctl(
            container.as_fd().as_raw_fd(),
            Request::IOMMU_MAP_DMA.number() as _,
            ptr::from_mut(&mut argument),
        )
    })
    .map(drop)
}

/// Maps memory of this process in an IOAS of an iommufd. `flags` are the first of
/// `enum iommufd_ioas_map_flags`.
///
/// As for [`map_dma`], the caller keeps the memory. The only caller is [`crate::Ioas`].
///
/// # Errors
///
/// What the kernel answers.
pub(crate) fn map_ioas(
    iommufd: impl AsFd,
    ioas: u32,
    iova: u64,
    memory: &Mapping,
    flags: u32,
) -> Result<(), Errno> {
    /// `struct iommu_ioas_map`.
    #[repr(C)]
    struct Argument {
        size: u32,
        flags: u32,
        ioas_id: u32,
        reserved: u32,
        user_va: u64,
        length: u64,
        iova: u64,
    }
    const { assert!(size_of::<Argument>() == 40) };

    let mut argument = Argument {
        size: size_of::<Argument>() as u32,
        flags,
        ioas_id: ioas,
        reserved: 0,
        user_va: memory.start() as u64,
        length: memory.len() as u64,
        iova,
    };
    // SAFETY: The structure is alive and exclusively borrowed for the call. The memory it names is only
    // ever accessed with atomic operations, and the IOAS keeps it for as long as it is mapped.
    answer(unsafe {
        libc::ioctl(
            iommufd.as_fd().as_raw_fd(),
            Request::IOAS_MAP.number() as _,
            ptr::from_mut(&mut argument),
        )
    })
    .map(drop)
}
