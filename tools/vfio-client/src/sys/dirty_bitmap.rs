// SPDX-License-Identifier: GPL-2.0

//! Dirty bitmaps: of a type1 container, and of a device's own log
//! (`VFIO_DEVICE_FEATURE_DMA_LOGGING_*`).

use core::ptr;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;

use rustix::io::Errno;
use vfio_bindings::bindings::vfio;

use super::ioctl::answer;
use super::Mapping;
use super::Request;

/// Reads and clears the dirty bitmap of a range of IOVAs: a bit for each page of `page` bytes, from the
/// lowest of the first word on.
///
/// # Errors
///
/// What the kernel answers; `EINVAL` without a log.
pub fn dirty_bitmap(
    container: impl AsFd,
    iova: u64,
    size: u64,
    page: u64,
) -> Result<Vec<u64>, Errno> {
    #[repr(C)]
    struct Argument {
        head: vfio::vfio_iommu_type1_dirty_bitmap,
        get: vfio::vfio_iommu_type1_dirty_bitmap_get,
    }
    const { assert!(core::mem::offset_of!(Argument, get) == 8) };

    let pages = size.checked_div(page).ok_or(Errno::INVAL)?;
    let words = usize::try_from(pages.div_ceil(u64::BITS.into())).map_err(|_| Errno::OVERFLOW)?;
    let mut bitmap = vec![0u64; words];
    let mut argument = Argument {
        head: vfio::vfio_iommu_type1_dirty_bitmap {
            argsz: size_of::<Argument>() as u32,
            flags: vfio::VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP,
            ..Default::default()
        },
        get: vfio::vfio_iommu_type1_dirty_bitmap_get {
            iova,
            size,
            bitmap: vfio::vfio_bitmap {
                pgsize: page,
                size: size_of_val(bitmap.as_slice()) as u64,
                data: bitmap.as_mut_ptr(),
            },
        },
    };
    // SAFETY: Structure and bitmap are alive and exclusively borrowed for the call. The structure
    // says how long the bitmap is, and the kernel writes no more than that.
    answer(unsafe {
        libc::ioctl(
            container.as_fd().as_raw_fd(),
            Request::IOMMU_DIRTY_PAGES.number() as _,
            ptr::from_mut(&mut argument),
        )
    })?;
    Ok(bitmap)
}

/// Starts a device's log of the pages that it writes in `ranges`, by start and length. Returns the page
/// size of the log.
///
/// # Errors
///
/// What the kernel answers.
pub fn start_dma_logging(
    device: impl AsFd,
    page_size: u64,
    ranges: &[(u64, u64)],
) -> Result<u64, Errno> {
    #[repr(C)]
    struct Argument {
        argsz: u32,
        flags: u32,
        control: vfio::vfio_device_feature_dma_logging_control,
    }

    let ranges: Vec<_> = ranges
        .iter()
        .map(
            |(iova, length)| vfio::vfio_device_feature_dma_logging_range {
                iova: *iova,
                length: *length,
            },
        )
        .collect();
    let mut argument = Argument {
        argsz: size_of::<Argument>() as u32,
        flags: vfio::VFIO_DEVICE_FEATURE_SET | vfio::VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
        control: vfio::vfio_device_feature_dma_logging_control {
            page_size,
            num_ranges: u32::try_from(ranges.len()).map_err(|_| Errno::TOOBIG)?,
            ranges: ranges.as_ptr() as u64,
            ..Default::default()
        },
    };
    // SAFETY: Structure and ranges are alive for the call. The structure says how many ranges there
    // are, which the kernel only reads.
    answer(unsafe {
        libc::ioctl(
            device.as_fd().as_raw_fd(),
            Request::DEVICE_FEATURE.number() as _,
            ptr::from_mut(&mut argument),
        )
    })?;
    Ok(argument.control.page_size)
}

/// Reads and clears the dirty bitmap of a range of a device's log: a bit for each page of `page` bytes,
/// from the lowest of the first word on.
///
/// # Errors
///
/// What the kernel answers.
pub fn dma_logging_report(
    device: impl AsFd,
    iova: u64,
    length: u64,
    page: u64,
) -> Result<Vec<u64>, Errno> {
    let mut bitmap = vec![0u64; bitmap_words(length, page)?];
    // SAFETY: The bitmap has as many words as the length takes, and is exclusively borrowed for the call.
    unsafe { dma_logging_report_to(device, iova, length, page, bitmap.as_mut_ptr()) }?;
    Ok(bitmap)
}

/// As [`dma_logging_report`], with the bitmap in a mapping.
///
/// # Errors
///
/// What the kernel answers, `EINVAL` if the mapping is too small.
pub fn dma_logging_report_into(
    device: impl AsFd,
    iova: u64,
    length: u64,
    page: u64,
    bitmap: &Mapping,
) -> Result<(), Errno> {
    if bitmap_words(length, page)? > bitmap.len() / size_of::<u64>() {
        return Err(Errno::INVAL);
    }
    // SAFETY: The mapping has as many words as the length takes, and its bytes are shared with the kernel.
    unsafe { dma_logging_report_to(device, iova, length, page, bitmap.start().cast()) }
}

/// Returns the number of words of the bitmap of a range.
fn bitmap_words(length: u64, page: u64) -> Result<usize, Errno> {
    let pages = length.checked_div(page).ok_or(Errno::INVAL)?;
    usize::try_from(pages.div_ceil(u64::BITS.into())).map_err(|_| Errno::OVERFLOW)
}

/// # Safety
///
/// The kernel must be free to write [`bitmap_words`] words to `bitmap` during the call.
unsafe fn dma_logging_report_to(
    device: impl AsFd,
    iova: u64,
    length: u64,
    page: u64,
    bitmap: *mut u64,
) -> Result<(), Errno> {
    #[repr(C)]
    struct Argument {
        argsz: u32,
        flags: u32,
        report: vfio::vfio_device_feature_dma_logging_report,
    }

    let mut argument = Argument {
        argsz: size_of::<Argument>() as u32,
        flags: vfio::VFIO_DEVICE_FEATURE_GET | vfio::VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
        report: vfio::vfio_device_feature_dma_logging_report {
            iova,
            length,
            page_size: page,
            bitmap: bitmap as u64,
        },
    };
    // SAFETY: The structure is alive and exclusively borrowed for the call. The kernel writes a bit for
    // each page of the range, for which there is memory by the function's requirement.
    answer(unsafe {
        libc::ioctl(
            device.as_fd().as_raw_fd(),
            Request::DEVICE_FEATURE.number() as _,
            ptr::from_mut(&mut argument),
        )
    })?;
    Ok(())
}
