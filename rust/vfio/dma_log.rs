// SPDX-License-Identifier: GPL-2.0

//! The log of what a device writes to memory, `VFIO_DEVICE_FEATURE_DMA_LOGGING_*`.
//!
//! A driver that has it sets [`Operations::DMA_LOGGING`] to [`Support::of`]; [`Dma`](crate::dma::Dma)
//! does the rest. It is offered where the kernel can report a log, which takes
//! `CONFIG_IOMMUFD_DRIVER`; elsewhere the container's own log has to serve, in which the core's
//! `vfio_dma_rw()` records the same writes.
//!
//! C header: [`include/linux/vfio.h`](srctree/include/linux/vfio.h), `struct vfio_log_ops`

use crate::device::{
    Device,
    Operations, //
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

/// The least size of a page that is logged, in bytes as a power of two: what a user may ask for.
const PAGE_SHIFT_MIN: u32 = 12;

/// How many pages a log has at most, whatever the user asks for: 8 MiB of bits. Where there is more
/// memory than that, its pages are larger.
const PAGES_MAX: u64 = 1 << 26;

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

/// Addresses that are logged.
struct Range {
    /// The first and the last of them.
    first: u64,
    last: u64,
    /// Place of the first page's bit in the bitmap.
    bit: u64,
}

/// What was written since the log was started, page by page.
struct Log {
    page_shift: u32,
    ranges: KVec<Range>,
    bits: KVVec<u64>,
}

/// The log of a device; stopped at first.
#[pin_data]
pub struct DmaLog {
    #[pin]
    log: Mutex<Option<Log>>,
}

/// Bits in a word of the bitmap.
const WORD_BITS: u64 = u64::BITS as u64;

// Shifts are written so that there is no panic for a bad distance: objtool does not know that such
// a function ends there.

/// The number of the page that an address is in.
fn page_of(address: u64, page_shift: u32) -> u64 {
    address.wrapping_shr(page_shift)
}

/// How many pages `[first, last]` has a part in.
fn pages(first: u64, last: u64, page_shift: u32) -> u64 {
    page_of(last, page_shift)
        .saturating_sub(page_of(first, page_shift))
        .saturating_add(1)
}

/// The word that a bit is in, and its mask there.
fn place(bit: u64) -> (usize, u64) {
    (
        (bit / WORD_BITS) as usize,
        1u64.wrapping_shl((bit % WORD_BITS) as u32),
    )
}

impl Log {
    /// A log of `ranges`, by their first and last address.
    fn new(ranges: impl Iterator<Item = (u64, u64)>, page_size: u64) -> Result<Self> {
        if !page_size.is_power_of_two() {
            return Err(EINVAL);
        }
        let mut list = KVec::new();
        for (first, last) in ranges {
            // The core takes a range of no bytes at address 0 for all addresses.
            if last < first || last == u64::MAX {
                return Err(EINVAL);
            }
            list.push(
                Range {
                    first,
                    last,
                    bit: 0,
                },
                GFP_KERNEL_ACCOUNT,
            )?;
        }

        let count = |page_shift| {
            list.iter().fold(0u64, |sum, range| {
                sum.saturating_add(pages(range.first, range.last, page_shift))
            })
        };
        // With the largest pages there are no more than two for each of the few ranges.
        let page_shift = (page_size.trailing_zeros().max(PAGE_SHIFT_MIN)..u64::BITS)
            .find(|page_shift| count(*page_shift) <= PAGES_MAX)
            .ok_or(E2BIG)?;
        let words = count(page_shift).div_ceil(WORD_BITS) as usize;
        let mut bit = 0u64;
        for range in list.iter_mut() {
            range.bit = bit;
            bit = bit.saturating_add(pages(range.first, range.last, page_shift));
        }

        Ok(Self {
            page_shift,
            ranges: list,
            bits: KVVec::from_elem(0, words, GFP_KERNEL_ACCOUNT)?,
        })
    }

    /// `[first, last]` was written.
    fn mark(&mut self, first: u64, last: u64) {
        for range in self.ranges.iter() {
            let (from, to) = (first.max(range.first), last.min(range.last));
            if from > to {
                continue;
            }
            let base = page_of(range.first, self.page_shift);
            for page in page_of(from, self.page_shift)..=page_of(to, self.page_shift) {
                let (word, mask) = place(range.bit.saturating_add(page.saturating_sub(base)));
                if let Some(word) = self.bits.get_mut(word) {
                    *word |= mask;
                }
            }
        }
    }

    /// Moves what was written in `[first, last]` to `runs`. Returns where to go on when they are full.
    fn take(&mut self, first: u64, last: u64, runs: &mut Runs) -> Option<u64> {
        let page_shift = self.page_shift;

        for range in self.ranges.iter() {
            let (from, to) = (first.max(range.first), last.min(range.last));
            if from > to {
                continue;
            }
            let base = page_of(range.first, page_shift);
            let end = page_of(to, page_shift);
            let mut page = page_of(from, page_shift);
            while page <= end {
                let bit = range.bit.saturating_add(page.saturating_sub(base));
                let (word, mask) = place(bit);
                let Some(word) = self.bits.get_mut(word) else {
                    break;
                };
                if *word == 0 {
                    // Most of memory is not written.
                    page = page.saturating_add(WORD_BITS - bit % WORD_BITS);
                    continue;
                }
                if *word & mask != 0 {
                    let start = page.wrapping_shl(page_shift);
                    let more = 1u64.wrapping_shl(page_shift).saturating_sub(1);
                    let (start, stop) = (start.max(range.first), (start | more).min(range.last));
                    let (reported, until) = (start.max(from), stop.min(to));
                    if !runs.add(reported, until) {
                        return Some(reported);
                    }
                    // Somebody else asks for the rest of a page that is only partly asked for.
                    if from <= start && stop <= to {
                        *word &= !mask;
                    }
                }
                page = page.saturating_add(1);
            }
        }
        None
    }
}

/// How many runs of addresses are taken from a log at once.
const RUNS: usize = 32;

/// Runs of addresses, each by its first and its last.
struct Runs {
    runs: [(u64, u64); RUNS],
    len: usize,
}

impl Runs {
    const fn new() -> Self {
        Self {
            runs: [(0, 0); RUNS],
            len: 0,
        }
    }

    /// Adds `[first, last]`, which is behind all others. Returns whether there was room.
    fn add(&mut self, first: u64, last: u64) -> bool {
        if let Some((_, end)) = self.runs[..self.len].last_mut() {
            if end.checked_add(1) == Some(first) {
                *end = last;
                return true;
            }
        }
        match self.runs.get_mut(self.len) {
            Some(run) => {
                *run = (first, last);
                self.len += 1;
                true
            }
            None => false,
        }
    }

    /// First address and length of each.
    fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.runs[..self.len]
            .iter()
            .map(|(first, last)| (*first, last.saturating_sub(*first).saturating_add(1)))
    }
}

impl DmaLog {
    /// A log that is stopped.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            log <- crate::new_lock!(Mutex, c"DmaLog::log", None),
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

        let new = Log::new(ranges, page_size)?;
        // An empty range among others is not found.
        if new.ranges.len() != count {
            return Err(EINVAL);
        }
        let started = log.insert(new);
        Ok(1u64.wrapping_shl(started.page_shift))
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
        let last = iova.saturating_add(length.saturating_sub(1));
        let mut rest = Some(iova);

        while let Some(first) = rest {
            let mut runs = Runs::new();
            rest = {
                let mut log = self.log.lock();
                let log = Option::as_mut(&mut log).ok_or(EINVAL)?;
                match length {
                    0 => None,
                    _ => log.take(first, last, &mut runs),
                }
            };
            for (iova, length) in runs.iter() {
                report(iova, length);
            }
        }
        Ok(())
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
