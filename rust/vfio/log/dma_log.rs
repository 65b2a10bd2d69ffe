// SPDX-License-Identifier: GPL-2.0

//! A dirty log in which writes are marked one by one, as [`Dma`](crate::emulated::Dma) does.

use super::{
    dirty_log::DirtyLog,
    page_log::{
        Fragment,
        Layout,
        PageLog,
        Question,
        Range,
        Runs, //
    },
};
use kernel::{
    prelude::*,
    sync::Mutex, //
};
use kernel_ext::new_lock;

/// Most pages of a log, whatever the user asks for: 8 MiB of bits. The pages are larger where the ranges
/// would need more.
const PAGES_MAX: u64 = 1 << 26;

/// Fragments of a log, see [`page_log`](super::page_log). A VMM that asks for the guest's memory section by
/// section needs at most two for each section.
const FRAGMENTS: usize = 256;

type Log = PageLog<KVec<Range>, KVVec<u64>, KVVec<Fragment>>;

/// A dirty log in which each write is marked after it was done.
#[pin_data]
pub struct DmaLog {
    #[pin]
    log: Mutex<Option<Log>>,
}

/// A log of `ranges`, by their first and last address, and the size of its pages.
fn new_log(ranges: impl Iterator<Item = (u64, u64)>, page_size: u64) -> Result<(Log, u64)> {
    let mut list = KVec::new();
    for (first, last) in ranges {
        // The core passes an empty range at address 0 as all addresses.
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

    /// Marks `len` bytes at `iova`, which were written.
    ///
    /// Called after the write: a report that comes between the write and the mark does not have the write,
    /// but the next report has it.
    pub fn mark(&self, iova: u64, len: usize) {
        if let (Some(log), Some(more)) = (&mut *self.log.lock(), (len as u64).checked_sub(1)) {
            log.mark(iova, iova.saturating_add(more));
        }
    }
}

impl DirtyLog for DmaLog {
    fn start(
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
        // The core's tree does not find an empty range among others.
        if new.ranges() != count {
            return Err(EINVAL);
        }
        *log = Some(new);
        Ok(page_size)
    }

    fn stop(&self) -> Result {
        let stopped = self.log.lock().take();

        // Dropped with no lock held, for the log may be large.
        stopped.map(drop).ok_or(EINVAL)
    }

    fn read_and_clear(&self, iova: u64, length: u64, mut report: impl FnMut(u64, u64)) -> Result {
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
}
