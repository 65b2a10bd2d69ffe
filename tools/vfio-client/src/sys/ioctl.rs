// SPDX-License-Identifier: GPL-2.0

//! ioctls whose argument is bytes or a number, well formed or not.

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;

use rustix::io::Errno;
use vfio_bindings::bindings::vfio;

use super::Mapping;
use super::Request;

/// No answer of the kernel is longer, in bytes.
const LARGEST_ANSWER: usize = 64 * 1024;

/// Addresses below this one are never mapped, so the kernel cannot follow them.
pub const NOWHERE: usize = 4096;

/// Says whether the kernel might write through an address in an argument.
fn leads_elsewhere(request: Request, argument: &[u8]) -> bool {
    let flags = argument
        .get(size_of::<u32>()..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |bytes| u32::from_ne_bytes(*bytes));
    match request {
        Request::IOMMU_MAP_DMA | Request::IOAS_MAP => true,
        Request::IOMMU_UNMAP_DMA => flags & vfio::VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP != 0,
        // The number is `VFIO_IOMMU_DIRTY_PAGES` of a container and `VFIO_DEVICE_FEATURE` of a device. Each
        // of the two refuses the other one's argument.
        Request::IOMMU_DIRTY_PAGES => {
            flags == vfio::VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP
                || flags
                    == vfio::VFIO_DEVICE_FEATURE_GET | vfio::VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT
        }
        _ => false,
    }
}

pub(super) fn answer(result: i32) -> Result<u32, Errno> {
    u32::try_from(result).map_err(|_| {
        let code = std::io::Error::last_os_error().raw_os_error();
        Errno::from_raw_os_error(code.unwrap_or(0))
    })
}

/// Does an ioctl whose argument is a structure, given and returned as any bytes. What the kernel writes
/// past their end is dropped.
///
/// # Errors
///
/// What the kernel answers, and `EPERM` when the argument has an address in it that the kernel might
/// write through: [`AddressSpace::map_for`](crate::AddressSpace::map_for) and
/// [`dirty_bitmap`](super::dirty_bitmap()) are for those.
pub fn ioctl(fd: impl AsFd, request: Request, argument: &mut [u8]) -> Result<u32, Errno> {
    if leads_elsewhere(request, argument) {
        return Err(Errno::PERM);
    }
    // The kernel trusts `argsz`, which the caller may have made up.
    let mut bounce = vec![0u8; argument.len().max(LARGEST_ANSWER)];
    bounce[..argument.len()].copy_from_slice(argument);
    // SAFETY: `bounce` is alive and exclusively borrowed for the call and at least as large as any
    // answer. No VFIO ioctl but the excluded ones writes through a pointer in its argument.
    let result = unsafe {
        libc::ioctl(
            fd.as_fd().as_raw_fd(),
            request.number() as _,
            bounce.as_mut_ptr(),
        )
    };
    argument.copy_from_slice(&bounce[..argument.len()]);
    answer(result)
}

/// Does an ioctl whose argument is a small number, or an address that is never mapped.
///
/// # Errors
///
/// What the kernel answers.
///
/// # Panics
///
/// When `value` is not below [`NOWHERE`].
pub fn ioctl_value(fd: impl AsFd, request: Request, value: usize) -> Result<u32, Errno> {
    assert!(
        value < NOWHERE,
        "{value:#x} could be the address of something"
    );
    // SAFETY: Nothing is mapped at `value`, so a kernel that takes it for an address gets EFAULT.
    answer(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request.number() as _, value) })
}

/// Does an ioctl on a structure in memory that the kernel may read but not write.
///
/// # Errors
///
/// What the kernel answers.
pub fn ioctl_read_only(fd: impl AsFd, request: Request, argument: &[u8]) -> Result<u32, Errno> {
    if leads_elsewhere(request, argument) {
        return Err(Errno::PERM);
    }
    let memory = Mapping::anonymous(LARGEST_ANSWER.max(argument.len()))?;
    memory.write(0, argument);
    // SAFETY: The whole of a mapping that this function owns loses a permission; it is not accessed
    // from here afterwards.
    unsafe {
        rustix::mm::mprotect(
            memory.start(),
            memory.len(),
            rustix::mm::MprotectFlags::READ,
        )
    }?;
    // SAFETY: The argument is mapped for the call, and the kernel cannot write to it.
    answer(unsafe {
        libc::ioctl(
            fd.as_fd().as_raw_fd(),
            request.number() as _,
            memory.start(),
        )
    })
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::ioctl;
    use crate::sys::Request;

    #[test]
    fn an_argument_through_which_the_kernel_would_write_is_refused() {
        let null = std::fs::File::open("/dev/null").expect("/dev/null");
        for (request, flags) in [
            (Request::IOMMU_MAP_DMA, 0u32),
            (Request::IOAS_MAP, 0),
            (Request::IOMMU_UNMAP_DMA, 1),
            (Request::IOMMU_DIRTY_PAGES, 1 << 2),
            (Request::DEVICE_FEATURE, 1 << 16 | 8),
        ] {
            let mut argument = [0; 64];
            argument[4..8].copy_from_slice(&flags.to_ne_bytes());
            let seen = ioctl(&null, request, &mut argument);
            assert_eq!(seen, Err(Errno::PERM), "{request:?} with flags {flags:#x}");
            argument[4..8].fill(0);
            let seen = ioctl(&null, request, &mut argument);
            assert_eq!(
                seen == Err(Errno::PERM),
                matches!(request, Request::IOMMU_MAP_DMA | Request::IOAS_MAP),
                "{request:?} without flags: {seen:?}"
            );
        }
    }
}
