// SPDX-License-Identifier: GPL-2.0

//! The system calls that no crate wraps safely: VFIO's ioctls, shared mappings, and accesses with
//! an address that the kernel must refuse.
//!
//! This is the one file of the crate with `unsafe` in it.

#![expect(
    unsafe_code,
    reason = "ioctl, mmap and shared memory have no safe form"
)]

use core::ffi::c_void;
use core::ptr;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::AtomicU8;
use core::sync::atomic::Ordering;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::mm::userfaultfd;
use rustix::mm::MapFlags;
use rustix::mm::ProtFlags;
use rustix::mm::UserfaultfdFlags;
use vfio_bindings::bindings::vfio;

/// An ioctl of VFIO or of iommufd, as the distance from `VFIO_BASE`. All of them are
/// `_IO(VFIO_TYPE, VFIO_BASE + n)`: iommufd has the same type, and numbers from 0x80 on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Request(u8);

impl Request {
    /// Returns the version of the container's interface.
    pub const GET_API_VERSION: Request = Request(0);
    /// Sets the container's IOMMU type.
    pub const SET_IOMMU: Request = Request(2);
    /// Puts a group into a container.
    pub const GROUP_SET_CONTAINER: Request = Request(4);
    /// Opens a device of a group.
    pub const GROUP_GET_DEVICE_FD: Request = Request(6);
    /// Describes a device.
    pub const DEVICE_GET_INFO: Request = Request(7);
    /// Describes a region of a device.
    pub const DEVICE_GET_REGION_INFO: Request = Request(8);
    /// Describes an interrupt index of a device.
    pub const DEVICE_GET_IRQ_INFO: Request = Request(9);
    /// Sets up, masks, unmasks and triggers interrupts.
    pub const DEVICE_SET_IRQS: Request = Request(10);
    /// Resets a device.
    pub const DEVICE_RESET: Request = Request(11);
    /// Describes a type1 IOMMU: the same number as a device ioctl that mdevs do not have.
    pub const IOMMU_GET_INFO: Request = Request(12);
    /// Maps memory for DMA; see [`map_dma`], which [`ioctl`] refuses to do.
    pub const IOMMU_MAP_DMA: Request = Request(13);
    /// Unmaps memory for DMA.
    pub const IOMMU_UNMAP_DMA: Request = Request(14);
    /// Gets, sets or probes a feature of a device.
    pub const DEVICE_FEATURE: Request = Request(17);
    /// Starts, stops and reads the logging of dirty pages: the same number as the device's.
    pub const IOMMU_DIRTY_PAGES: Request = Request(17);
    /// Binds the device of a character device to an iommufd, which opens it.
    pub const DEVICE_BIND_IOMMUFD: Request = Request(18);
    /// Attaches a bound device to an IOAS.
    pub const DEVICE_ATTACH_IOMMUFD_PT: Request = Request(19);
    /// Detaches it.
    pub const DEVICE_DETACH_IOMMUFD_PT: Request = Request(20);
    /// Asks the data file of a save what there is to read.
    pub const GET_PRECOPY_INFO: Request = Request(21);
    /// Destroys an object of an iommufd.
    pub const IOMMU_DESTROY: Request = Request::of_iommufd(0x80);
    /// Makes an IOAS in an iommufd.
    pub const IOAS_ALLOC: Request = Request::of_iommufd(0x81);
    /// Maps memory in an IOAS; see [`map_ioas`], which [`ioctl`] refuses to do.
    pub const IOAS_MAP: Request = Request::of_iommufd(0x85);
    /// Unmaps memory in an IOAS.
    pub const IOAS_UNMAP: Request = Request::of_iommufd(0x86);

    /// Makes any request, also one that does not exist.
    pub const fn new(distance: u8) -> Self {
        Request(distance)
    }

    const fn of_iommufd(number: u8) -> Self {
        const { assert!(vfio::VFIO_TYPE == b';') };
        Request(number - vfio::VFIO_BASE as u8)
    }

    fn number(self) -> u64 {
        u64::from(vfio::VFIO_TYPE) << 8 | (u64::from(vfio::VFIO_BASE) + u64::from(self.0))
    }
}

/// The kernel never answers with more than this, whatever the request.
const LARGEST_ANSWER: usize = 64 * 1024;

/// Addresses below this are never mapped, so the kernel cannot follow them anywhere.
pub const NOWHERE: usize = 4096;

/// Says whether the kernel might write through an address that is a part of an argument.
fn leads_elsewhere(request: Request, argument: &[u8]) -> bool {
    let flags = argument
        .get(size_of::<u32>()..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |bytes| u32::from_ne_bytes(*bytes));
    match request {
        Request::IOMMU_MAP_DMA | Request::IOAS_MAP => true,
        Request::IOMMU_UNMAP_DMA => flags & vfio::VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP != 0,
        // To a container this is one thing, to a device another, and both have an argument of
        // this kind. To the other one it makes no sense and is refused anyway.
        Request::IOMMU_DIRTY_PAGES => {
            flags == vfio::VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP
                || flags
                    == vfio::VFIO_DEVICE_FEATURE_GET | vfio::VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT
        }
        _ => false,
    }
}

fn answer(result: i32) -> Result<u32, Errno> {
    u32::try_from(result).map_err(|_| {
        let code = std::io::Error::last_os_error().raw_os_error();
        Errno::from_raw_os_error(code.unwrap_or(0))
    })
}

/// Does an ioctl whose argument is a structure, given and returned as bytes.
///
/// The bytes may be any at all. What the kernel writes past their end is dropped.
///
/// # Errors
///
/// What the kernel answers, and `EPERM` when the argument has an address in it that the kernel might
/// write through: [`map_dma`], [`map_ioas`] and [`dirty_bitmap`] are for those.
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

/// Does an ioctl whose argument is a small number or an address where nothing is.
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
    unsafe { rustix::mm::mprotect(memory.start(), memory.len, rustix::mm::MprotectFlags::READ) }?;
    // SAFETY: The argument is mapped for the call, and the kernel cannot write to it.
    answer(unsafe {
        libc::ioctl(
            fd.as_fd().as_raw_fd(),
            request.number() as _,
            memory.start(),
        )
    })
}

/// Does the ioctl that makes a file descriptor: opens the device `name` of a group.
///
/// # Errors
///
/// What the kernel answers.
pub fn device_fd(group: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let mut argument = name.to_vec();
    argument.push(0);
    let fd = ioctl(group, Request::GROUP_GET_DEVICE_FD, &mut argument)?;
    // SAFETY: The kernel has just installed this descriptor for us and nobody else knows it. It fits
    // because it came out of an `i32`.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Maps memory of this process for DMA.
///
/// The kernel accesses the memory by its address here until it is unmapped or the container is gone,
/// so whoever calls this keeps it for as long. Only [`crate::Container`] does.
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
        size: memory.len as u64,
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
/// As for [`map_dma`], whoever calls this keeps the memory. Only [`crate::Ioas`] does.
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
        length: memory.len as u64,
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

/// Takes the bitmap of the pages in a range of I/O virtual addresses that were written since they
/// were asked for last: a bit for each page of `page` bytes, from the lowest of the first word on.
///
/// # Errors
///
/// What the kernel answers: `EINVAL` when no logging is on.
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

/// Sets the migration state of a device by protocol v2. Returns the file that comes with it.
///
/// # Errors
///
/// What the kernel answers.
pub fn set_migration_state(device: impl AsFd, state: u32) -> Result<Option<OwnedFd>, Errno> {
    #[repr(C)]
    struct Argument {
        argsz: u32,
        flags: u32,
        state: vfio::vfio_device_feature_mig_state,
    }

    let mut argument = Argument {
        argsz: size_of::<Argument>() as u32,
        flags: vfio::VFIO_DEVICE_FEATURE_SET | vfio::VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
        state: vfio::vfio_device_feature_mig_state {
            device_state: state,
            data_fd: -1,
        },
    };
    // SAFETY: The structure is alive and exclusively borrowed for the call, and the kernel writes no
    // more than it has.
    answer(unsafe {
        libc::ioctl(
            device.as_fd().as_raw_fd(),
            Request::DEVICE_FEATURE.number() as _,
            ptr::from_mut(&mut argument),
        )
    })?;
    match argument.state.data_fd {
        -1 => Ok(None),
        // SAFETY: The kernel has just installed this descriptor for us and nobody else knows it.
        fd => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
    }
}

/// Begins to log which pages of `ranges`, by start and length, a device writes. Returns the size of
/// a page as the device has it.
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

/// Takes the bitmap of the pages in a range that a device has written since the last time: a bit for
/// each page of `page` bytes, from the lowest of the first word on.
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

/// The same into memory that is mapped.
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
    if bitmap_words(length, page)? > bitmap.len / size_of::<u64>() {
        return Err(Errno::INVAL);
    }
    // SAFETY: The mapping has as many words as the length takes, and its bytes are shared with the kernel.
    unsafe { dma_logging_report_to(device, iova, length, page, bitmap.start.cast().as_ptr()) }
}

/// How many words the bitmap of a range has.
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

/// Reads `length` bytes at `offset` of a file into an address where nothing is.
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

/// Writes `length` bytes to `offset` of a file from an address where nothing is.
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

/// Reads `length` bytes of a file that has no positions into an address where nothing is.
///
/// # Errors
///
/// What the kernel answers; `EFAULT` is right.
pub fn read_nowhere(fd: impl AsFd, length: usize) -> Result<u32, Errno> {
    // SAFETY: The null page is never mapped, so the kernel writes nothing anywhere.
    answer(unsafe { libc::read(fd.as_fd().as_raw_fd(), ptr::null_mut(), length) } as i32)
}

/// Writes `length` bytes to a file that has no positions from an address where nothing is.
///
/// # Errors
///
/// What the kernel answers; `EFAULT` is right.
pub fn write_nowhere(fd: impl AsFd, length: usize) -> Result<u32, Errno> {
    // SAFETY: The kernel only ever reads through the pointer, and the null page is never mapped.
    answer(unsafe { libc::write(fd.as_fd().as_raw_fd(), ptr::null(), length) } as i32)
}

/// A shared mapping of a part of a device or of fresh memory; unmapped on drop.
///
/// The kernel and other threads may change the bytes at any time. They are therefore never lent out
/// as a slice, only copied in and out, with atomic operations.
///
/// # Invariants
///
/// `start` is the page-aligned start of `len` bytes that this object alone may unmap.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<c_void>,
    len: usize,
}

// SAFETY: The bytes are only accessed with atomic operations.
unsafe impl Send for Mapping {}
// SAFETY: As above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes at `offset` of a file, shared, readable and writable.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn new(fd: impl AsFd, offset: u64, len: usize) -> Result<Self, Errno> {
        Self::with(
            fd,
            offset,
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
        )
    }

    /// Maps `len` bytes at `offset` of a file in any way.
    ///
    /// # Errors
    ///
    /// What the kernel answers, and `EINVAL` for flags that would place the mapping over others.
    pub fn with(
        fd: impl AsFd,
        offset: u64,
        len: usize,
        protection: ProtFlags,
        flags: MapFlags,
    ) -> Result<Self, Errno> {
        if flags.contains(MapFlags::FIXED) {
            return Err(Errno::INVAL);
        }
        // SAFETY: Without `MAP_FIXED` the kernel picks an address where nothing is.
        let start =
            unsafe { rustix::mm::mmap(ptr::null_mut(), len, protection, flags, fd, offset) }?;
        // INVARIANT: Just mapped.
        NonNull::new(start)
            .map(|start| Mapping { start, len })
            .ok_or(Errno::FAULT)
    }

    /// Maps `len` bytes of fresh, zeroed memory, shared with child processes.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn anonymous(len: usize) -> Result<Self, Errno> {
        // SAFETY: The kernel picks an address where nothing is.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
            )
        }?;
        // INVARIANT: Just mapped.
        NonNull::new(start)
            .map(|start| Mapping { start, len })
            .ok_or(Errno::FAULT)
    }

    fn start(&self) -> *mut c_void {
        self.start.as_ptr()
    }

    /// Returns the size of the mapping in bytes.
    #[expect(
        clippy::len_without_is_empty,
        reason = "the kernel makes no empty mappings"
    )]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Tries to make the mapping `len` bytes long, wherever that has to be.
    ///
    /// # Errors
    ///
    /// What the kernel answers; the mapping is then as it was.
    pub fn resize(&mut self, len: usize) -> Result<(), Errno> {
        // SAFETY: No borrow of the mapped bytes outlives a method of this object, and this one has
        // the object exclusively, so the bytes may move.
        let start = unsafe {
            rustix::mm::mremap(
                self.start(),
                self.len,
                len,
                rustix::mm::MremapFlags::MAYMOVE,
            )
        }?;
        // INVARIANT: The kernel says that this is where the mapping is now.
        self.start = NonNull::new(start).ok_or(Errno::FAULT)?;
        self.len = len;
        Ok(())
    }

    fn byte(&self, offset: usize) -> &AtomicU8 {
        assert!(
            offset < self.len,
            "byte {offset} of a {}-byte mapping",
            self.len
        );
        // SAFETY: In bounds of a mapping that lives as long as `self` does, and everyone in this
        // process accesses it atomically.
        unsafe { AtomicU8::from_ptr(self.start().cast::<u8>().add(offset)) }
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(
            offset.is_multiple_of(size_of::<u64>()) && offset + size_of::<u64>() <= self.len,
            "word {offset} of a {}-byte mapping",
            self.len
        );
        // SAFETY: As for `byte`, and aligned: `offset` was checked and `start` is page-aligned.
        unsafe { AtomicU64::from_ptr(self.start().cast::<u8>().add(offset).cast::<u64>()) }
    }

    /// Copies bytes out of the mapping.
    ///
    /// # Panics
    ///
    /// When the range is not in the mapping.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        let mut at = 0;
        while at < into.len() {
            let from = offset + at;
            let rest = &mut into[at..];
            if from.is_multiple_of(size_of::<u64>()) && rest.len() >= size_of::<u64>() {
                let word = self.word(from).load(Ordering::Relaxed).to_ne_bytes();
                rest[..word.len()].copy_from_slice(&word);
                at += word.len();
            } else {
                rest[0] = self.byte(from).load(Ordering::Relaxed);
                at += 1;
            }
        }
    }

    /// Copies bytes into the mapping.
    ///
    /// # Panics
    ///
    /// When the range is not in the mapping.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            let to = offset + at;
            let rest = &bytes[at..];
            match rest.first_chunk() {
                Some(word) if to.is_multiple_of(size_of::<u64>()) => {
                    self.word(to)
                        .store(u64::from_ne_bytes(*word), Ordering::Relaxed);
                    at += word.len();
                }
                _ => {
                    self.byte(to).store(rest[0], Ordering::Relaxed);
                    at += 1;
                }
            }
        }
    }

    /// Flips bits of one byte, as a guest that does not care would.
    ///
    /// # Panics
    ///
    /// When the byte is not in the mapping.
    pub fn flip(&self, offset: usize, bits: u8) {
        self.byte(offset).fetch_xor(bits, Ordering::Relaxed);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: By the invariant the range is ours, and `self` can no longer be used. An error is
        // of no interest: there is nobody to tell and nothing to do.
        let _ = unsafe { rustix::mm::munmap(self.start(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::ioctl;
    use super::Errno;
    use super::Mapping;
    use super::Request;

    #[test]
    fn a_mapping_gives_back_what_was_put_in_at_any_offset_and_length() {
        let mapping = Mapping::anonymous(4096).expect("memory");
        for offset in 0..20 {
            for len in 0..40 {
                let bytes: Vec<u8> = (0..len).map(|i| (i * 7 + offset + 1) as u8).collect();
                mapping.write(offset, &bytes);
                let mut back = vec![0; len];
                mapping.read(offset, &mut back);
                assert_eq!(back, bytes, "offset {offset}, {len} bytes");
            }
        }
    }

    #[test]
    #[should_panic(expected = "byte 4096 of a 4096-byte mapping")]
    fn a_mapping_cannot_be_read_past_its_end() {
        let mapping = Mapping::anonymous(4096).expect("memory");
        mapping.read(4090, &mut [0; 7]);
    }
    #[test]
    fn a_request_of_iommufd_has_the_number_of_its_header() {
        // `_IO(';', 0x86)`.
        assert_eq!(Request::IOAS_UNMAP.number(), 0x3b86);
        assert_eq!(Request::DEVICE_BIND_IOMMUFD.number(), 0x3b76);
    }

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

/// The page faults of mappings, which the kernel would have this process serve. Nobody does: an access
/// of a page that has not been touched waits until this is gone.
#[derive(Debug)]
pub struct PageFaults(OwnedFd);

impl PageFaults {
    /// Makes one of no mapping yet.
    ///
    /// # Errors
    ///
    /// What the kernel answers, `EPERM` to those who may not hold up the kernel.
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

    /// Takes the faults of a mapping.
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
        let mut register = [start, mapping.len as u64, MISSING, 0];

        // SAFETY: As in `new()`. The bytes of the mapping are zeros until somebody touches them, as
        // they would be without this; an access that waits is none.
        answer(unsafe { libc::ioctl(self.0.as_raw_fd(), REGISTER, register.as_mut_ptr()) })?;
        Ok(())
    }
}

impl AsFd for PageFaults {
    /// It is readable once somebody waits.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
