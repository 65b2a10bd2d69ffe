// SPDX-License-Identifier: GPL-2.0

//! The log of what a device writes to memory, `VFIO_DEVICE_FEATURE_DMA_LOGGING_*`.
//!
//! A driver that has it sets [`Operations::DMA_LOGGING`] to [`Support::of`]; [`Dma`](crate::dma::Dma)
//! does the rest. It is offered where the kernel can report a log, which takes
//! `CONFIG_IOMMUFD_DRIVER`; elsewhere the container's own log has to serve, in which the core's
//! `vfio_dma_rw()` records the same writes.
//!
//! C header: [`include/linux/vfio.h`](srctree/include/linux/vfio.h), `struct vfio_log_ops`

use crate::{
    device::{
        Device,
        Operations, //
    },
    page_log::{
        Fragment,
        Layout,
        PageLog,
        Question,
        Range,
        Runs, //
    },
};
#[cfg(CONFIG_IOMMUFD_DRIVER)]
use core::marker::PhantomData;
#[cfg(CONFIG_IOMMUFD_DRIVER)]
use kernel::{
    error::from_result,
    ffi::{
        c_int,
        c_ulong, //
    },
};
use kernel::{
    prelude::*,
    sync::Mutex, //
};
use kernel_ext::new_lock;

/// How many pages a log has at most, whatever the user asks for: 8 MiB of bits. Where there is more
/// memory than that, its pages are larger.
const PAGES_MAX: u64 = 1 << 26;

/// How many parts of pages can be told of by themselves, see [`page_log`](crate::page_log). A VMM that
/// asks for the memory of its guest section by section needs two for each section at most.
const FRAGMENTS: usize = 256;

/// What a driver implements whose devices log their DMA.
pub trait LogOperations: Operations {
    /// The log of the device, which the driver stops when the device is closed.
    fn dma_log(device: &Device<Self>) -> &DmaLog;
}

/// Whether the devices of a driver log their DMA.
pub struct Support<T: Operations> {
    pub(crate) ops: *const vfio_bindings::vfio_log_ops,
    pub(crate) log: Option<fn(&Device<T>) -> &DmaLog>,
}

// SAFETY: What it points to never changes.
unsafe impl<T: Operations> Sync for Support<T> {}

impl<T: Operations> Support<T> {
    /// They do not.
    pub const NONE: Self = Self {
        ops: core::ptr::null(),
        log: None,
    };
}

impl<T: LogOperations> Support<T> {
    /// They do, if the kernel can report what they log.
    #[cfg(CONFIG_IOMMUFD_DRIVER)]
    pub const fn of() -> Self {
        Self {
            ops: &raw const *VTable::<T>::OPS,
            log: Some(T::dma_log),
        }
    }

    /// They do, if the kernel can report what they log.
    #[cfg(not(CONFIG_IOMMUFD_DRIVER))]
    pub const fn of() -> Self {
        Self::NONE
    }
}

type Log = PageLog<KVec<Range>, KVVec<u64>, KVVec<Fragment>>;

/// The log of a device; stopped at first.
#[pin_data]
pub struct DmaLog {
    #[pin]
    log: Mutex<Option<Log>>,
}

/// A log of `ranges`, by their first and last address, and the size of its pages.
fn new_log(ranges: impl Iterator<Item = (u64, u64)>, page_size: u64) -> Result<(Log, u64)> {
    let mut list = KVec::new();
    for (first, last) in ranges {
        // The core takes a range of no bytes at address 0 for all addresses.
        let range = Range::new(first, last).ok_or(EINVAL)?;
        list.push(range, GFP_KERNEL_ACCOUNT)?;
    }

    let layout = Layout::new(&mut list, page_size, PAGES_MAX).ok_or(EINVAL)?;
    let bits = KVVec::from_elem(0, layout.words(), GFP_KERNEL_ACCOUNT)?;
    let fragments = KVVec::from_elem(Fragment::default(), FRAGMENTS, GFP_KERNEL_ACCOUNT)?;
    let log = PageLog::new(&layout, list, bits, fragments);
    Ok((log, layout.page_size()))
}

impl DmaLog {
    /// A log that is stopped.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            log <- new_lock!(Mutex, c"DmaLog::log", None),
        })
    }

    /// Starts to log writes of `ranges`, `count` of them, each a first and a last address, in pages of
    /// about `page_size` bytes. Returns the size that the pages have.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it has been started, for a size that is no power of two, or if some range is
    /// empty; `ENOMEM`.
    pub fn start(
        &self,
        ranges: impl Iterator<Item = (u64, u64)>,
        count: usize,
        page_size: u64,
    ) -> Result<u64> {
        let mut log = self.log.lock();
        if log.is_some() {
            return Err(EINVAL);
        }

        let (new, page_size) = new_log(ranges, page_size)?;
        // An empty range among others is not found.
        if new.ranges() != count {
            return Err(EINVAL);
        }
        *log = Some(new);
        Ok(page_size)
    }

    /// Stops and forgets.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it has not been started.
    pub fn stop(&self) -> Result {
        let stopped = self.log.lock().take();

        // With no lock held: there may be much to free.
        stopped.map(drop).ok_or(EINVAL)
    }

    /// Calls `report` with first address and length of what was written of `length` bytes at `iova`
    /// since it was last asked for. No lock is held then: the report goes to memory of a user, who
    /// may have a page fault take as long as he likes.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the log has not been started.
    pub fn read_and_clear(
        &self,
        iova: u64,
        length: u64,
        mut report: impl FnMut(u64, u64),
    ) -> Result {
        let mut question = Question::new(iova, length);
        loop {
            let mut runs = Runs::default();
            let more = {
                let mut log = self.log.lock();
                let log = Option::as_mut(&mut log).ok_or(EINVAL)?;
                match &mut question {
                    Some(question) => log.take(question, &mut runs),
                    None => false,
                }
            };
            for (iova, length) in runs.iter() {
                report(iova, length);
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// `len` bytes at `iova` were written.
    ///
    /// Called after the write: what a report misses that comes in between, the next one has.
    pub(crate) fn mark(&self, iova: u64, len: usize) {
        if let (Some(log), Some(more)) = (&mut *self.log.lock(), (len as u64).checked_sub(1)) {
            log.mark(iova, iova.saturating_add(more));
        }
    }
}

#[cfg(CONFIG_IOMMUFD_DRIVER)]
struct VTable<T>(PhantomData<T>);

#[cfg(CONFIG_IOMMUFD_DRIVER)]
impl<T: LogOperations> VTable<T> {
    const OPS: &'static vfio_bindings::vfio_log_ops = &vfio_bindings::vfio_log_ops {
        log_start: Some(Self::start_callback),
        log_stop: Some(Self::stop_callback),
        log_read_and_clear: Some(Self::read_and_clear_callback),
    };

    /// # Safety
    ///
    /// Called by the VFIO core with an open device of a driver with this table, and with arguments
    /// that are valid during the call.
    unsafe extern "C" fn start_callback(
        vdev: *mut vfio_bindings::vfio_device,
        ranges: *mut kernel::bindings::rb_root_cached,
        count: u32,
        page_size: *mut u64,
    ) -> c_int {
        // SAFETY: By the function's requirement.
        let device = unsafe { Device::<T>::from_raw(vdev) };
        let mut from = Some(0);
        let ranges = core::iter::from_fn(|| {
            let (mut first, mut last) = (0, 0);
            // SAFETY: The tree is the core's, and ours during the call.
            let found =
                unsafe { vfio_bindings::ferry_next_range(ranges, from?, &mut first, &mut last) };
            from = c_ulong::checked_add(last, 1);
            found.then_some((first as u64, last as u64))
        });

        from_result(|| {
            // SAFETY: The core passes a variable of its own.
            let page_size = unsafe { &mut *page_size };
            *page_size = T::dma_log(device).start(ranges, count as usize, *page_size)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// As for [`Self::start_callback`].
    unsafe extern "C" fn stop_callback(vdev: *mut vfio_bindings::vfio_device) -> c_int {
        // SAFETY: By the function's requirement.
        let device = unsafe { Device::<T>::from_raw(vdev) };

        from_result(|| T::dma_log(device).stop().map(|()| 0))
    }

    /// # Safety
    ///
    /// As for [`Self::start_callback`].
    unsafe extern "C" fn read_and_clear_callback(
        vdev: *mut vfio_bindings::vfio_device,
        iova: c_ulong,
        length: c_ulong,
        dirty: *mut kernel::bindings::iova_bitmap,
    ) -> c_int {
        // SAFETY: By the function's requirement.
        let device = unsafe { Device::<T>::from_raw(vdev) };

        from_result(|| {
            T::dma_log(device).read_and_clear(iova as u64, length as u64, |iova, length| {
                // SAFETY: The bitmap is valid during the call, and the range within what was asked
                // for.
                unsafe {
                    vfio_bindings::ferry_iova_bitmap_set(dirty, iova as c_ulong, length as usize)
                };
            })?;
            Ok(0)
        })
    }
}
