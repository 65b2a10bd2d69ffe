// SPDX-License-Identifier: GPL-2.0

//! The pages that are pinned because the function may write to them.
//!
//! The container reports a pinned page as dirty, and from the first pin on no other page of the function's group. It
//! does so until the group leaves the container, which a driver is not told of: [`Narrowed`] outlives the open.
//!
//! The container unpins nothing by itself. When the user unmaps memory, it calls the driver and waits until no page of
//! it is pinned.

use crate::variant::{
    device::Variant,
    Driver, //
};
use device_model::hardware::{
    Pin,
    PinError,
    Pins,
    PAGE_SIZE, //
};
use kernel::{
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};
use vfio::log::DmaLog;
use vfio_pci::{
    Function,
    Unmaps, //
};

/// Whether the container may report nothing but pinned pages.
pub(super) struct Narrowed(Atomic<u32>);

impl Narrowed {
    pub(super) const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Returns whether a page has been pinned since the function was bound.
    pub(super) fn get(&self) -> bool {
        self.0.load(Relaxed) != 0
    }

    pub(super) fn set(&self) {
        self.0.store(1, Relaxed);
    }

    /// The group has left the container.
    pub(super) fn clear(&self) {
        self.0.store(0, Relaxed);
    }
}

/// Pages that are tried to narrow a container for a function that writes nowhere: a VMM maps a guest's memory from 0, from 1
/// MiB or from 4 GiB on.
const USUALLY_MAPPED: [u64; 3] = [0, 1 << 8, 1 << 20];

/// Pins a page and unpins it, so that the container reports nothing but pinned pages from now on. Returns whether it does.
///
/// The page is dirty in the next report.
pub(super) fn narrow<D: Driver>(function: &Function<'_, Variant<D>>) -> bool {
    USUALLY_MAPPED.into_iter().any(|page| {
        let pinned = function.pin_page(page).is_ok();
        if pinned {
            function.unpin_page(page);
        }
        pinned
    })
}

/// How often each page is pinned.
#[derive(Default)]
pub(super) struct PinnedPages {
    pages: RBTree<u64, u32>,
    /// None of a function that has yet to be opened. In a box, as the pages move to the stack for a sequence.
    unmaps: Option<KBox<Unmaps>>,
}

impl PinnedPages {
    /// No page yet.
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            pages: RBTree::new(),
            unmaps: Some(KBox::new(Unmaps::default(), GFP_KERNEL_ACCOUNT)?),
        })
    }

    fn pin<D: Driver>(&mut self, function: &Function<'_, Variant<D>>, page: u64) -> Result {
        if self.unmaps.as_ref().is_some_and(|it| it.refuses(page)) {
            return Err(EBUSY);
        }
        if let Some(count) = self.pages.get_mut(&page) {
            *count = count.checked_add(1).ok_or(EOVERFLOW)?;
            return Ok(());
        }

        let node = RBTreeNode::new(page, 1, GFP_KERNEL_ACCOUNT)?;
        function.pin_page(page)?;
        self.pages.insert(node);
        Ok(())
    }

    fn unpin<D: Driver>(&mut self, function: &Function<'_, Variant<D>>, log: &DmaLog, page: u64) {
        let Some(count) = self.pages.get_mut(&page) else {
            return;
        };

        *count = count.saturating_sub(1);
        if *count == 0 {
            self.forget(function, log, page);
        }
    }

    /// Unpins a page, which the function may have written to since the log was read.
    fn forget<D: Driver>(&mut self, function: &Function<'_, Variant<D>>, log: &DmaLog, page: u64) {
        self.pages.remove(&page);
        mark(log, page);
        function.unpin_page(page);
    }

    /// Marks all pages in `log`: the function may have written to them.
    pub(super) fn mark(&self, log: &DmaLog) {
        for &page in self.pages.keys() {
            mark(log, page);
        }
    }

    /// Unpins the `count` pages from `first` on, which the current task unmaps.
    pub(super) fn unmap<D: Driver>(
        &mut self,
        function: &Function<'_, Variant<D>>,
        log: &DmaLog,
        first: u64,
        count: u64,
    ) {
        if let Some(unmaps) = &mut self.unmaps {
            unmaps.note(current!().pid(), first, count);
        }
        self.release(function, log, first, count);
    }

    /// Unpins the `count` pages from `first` on.
    pub(super) fn release<D: Driver>(
        &mut self,
        function: &Function<'_, Variant<D>>,
        log: &DmaLog,
        first: u64,
        count: u64,
    ) {
        loop {
            let found = self
                .pages
                .cursor_lower_bound(&first)
                .map(|cursor| *cursor.current().0);
            match found {
                Some(page) if page.wrapping_sub(first) < count => self.forget(function, log, page),
                _ => return,
            }
        }
    }
}

fn mark(log: &DmaLog, page: u64) {
    log.mark(page.saturating_mul(PAGE_SIZE), PAGE_SIZE as usize);
}

/// Pins pages of an open function.
pub(super) struct FunctionPins<'a, D: Driver> {
    pub(super) function: &'a Function<'a, Variant<D>>,
    pub(super) pages: &'a mut PinnedPages,
    pub(super) narrowed: &'a Narrowed,
    pub(super) log: &'a DmaLog,
}

impl<D: Driver> Pins for FunctionPins<'_, D> {
    fn pin(&mut self, page: u64) -> Result<Pin, PinError> {
        match self.pages.pin(self.function, page) {
            Ok(()) => {
                self.narrowed.set();
                mark(self.log, page);
                Ok(Pin::Pinned)
            }
            // Nothing is mapped there, or nothing that the function can write to.
            Err(error) if error == EINVAL || error == EPERM => Ok(Pin::NotMapped),
            Err(_) => Err(PinError),
        }
    }

    fn unpin(&mut self, page: u64) {
        self.pages.unpin(self.function, self.log, page);
    }
}

/// The first page and the number of pages that `length` bytes from `iova` on have.
pub(super) fn pages_of(iova: u64, length: u64) -> (u64, u64) {
    let first = iova / PAGE_SIZE;
    let last = iova.saturating_add(length.saturating_sub(1)) / PAGE_SIZE;

    (first, last.saturating_sub(first).saturating_add(1))
}
