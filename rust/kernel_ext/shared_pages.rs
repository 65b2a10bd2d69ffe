// SPDX-License-Identifier: GPL-2.0

//! Memory that a user maps and writes whenever it likes.
//!
//! [`SharedPages`] owns the pages and offers copies in and out, and the mapping. No other code
//! touches that memory. Rust code never reads or writes a byte of it, be it by a reference or by a
//! raw pointer: a copy that races with a store of the user would be undefined behaviour. The copies
//! are C functions (`rust/helpers/shared_pages.c`), for which such a race yields arbitrary bytes and
//! does no other harm, as for `copy_from_user()`. So a caller copies first and validates the copy.

use kernel::{
    mm::virt::{
        flags,
        VmaNew, //
    },
    page::{
        Page,
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    uaccess::UserPtr, //
};

/// Zeroed pages, charged to the memory cgroup of the process that allocated them.
pub struct SharedPages {
    pages: KVVec<Page>,
}

impl SharedPages {
    /// Allocates `size` bytes. May sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `size` is zero or not a multiple of the page size, `ENOMEM`.
    pub fn new(size: usize) -> Result<Self> {
        if size == 0 || size % PAGE_SIZE != 0 {
            return Err(EINVAL);
        }

        let count = size >> PAGE_SHIFT;
        let mut pages = KVVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..count {
            let page = Page::alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO)?;
            pages.push(page, GFP_KERNEL_ACCOUNT)?;
        }

        Ok(Self { pages })
    }

    /// Size in bytes.
    pub fn size(&self) -> usize {
        self.pages.len() << PAGE_SHIFT
    }

    /// Calls `f` for each page that `[offset, offset + len)` touches, with the page, the offset in the page,
    /// the offset in the range, and the number of bytes in the page.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the range does not lie in the memory, else what `f` returns first.
    fn for_each_page(
        &self,
        offset: usize,
        len: usize,
        mut f: impl FnMut(&Page, usize, usize, usize) -> Result,
    ) -> Result {
        let end = offset.checked_add(len).ok_or(EINVAL)?;
        if end > self.size() {
            return Err(EINVAL);
        }

        let mut at = offset;
        while at < end {
            let page = self.pages.get(at >> PAGE_SHIFT).ok_or(EINVAL)?;
            let in_page = at % PAGE_SIZE;
            let piece = (PAGE_SIZE - in_page).min(end - at);
            f(page, in_page, at - offset, piece)?;
            at += piece;
        }

        Ok(())
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if that is out of range.
    pub fn copy_in(&self, offset: usize, bytes: &[u8]) -> Result {
        self.for_each_page(offset, bytes.len(), |page, in_page, done, len| {
            let from = bytes.get(done..).and_then(|rest| rest.get(..len));
            let from = from.ok_or(EINVAL)?;
            // SAFETY: `from` has `len` bytes, and `for_each_page()` keeps `in_page + len` within the
            // page, which is ours.
            unsafe {
                vfio_bindings::ferry_page_copy_in(page.as_ptr(), in_page, from.as_ptr().cast(), len)
            };
            Ok(())
        })
    }

    /// Copies the bytes at `offset` to `into`. The user may be writing them at the same time: look
    /// only at the copy.
    ///
    /// # Errors
    ///
    /// `EINVAL` if that is out of range.
    pub fn copy_out(&self, offset: usize, into: &mut [u8]) -> Result {
        self.for_each_page(offset, into.len(), |page, in_page, done, len| {
            let to = into.get_mut(done..).and_then(|rest| rest.get_mut(..len));
            let to = to.ok_or(EINVAL)?;
            // SAFETY: `to` has `len` bytes, and `for_each_page()` keeps `in_page + len` within the
            // page, which is ours.
            unsafe {
                vfio_bindings::ferry_page_copy_out(
                    page.as_ptr(),
                    in_page,
                    to.as_mut_ptr().cast(),
                    len,
                )
            };
            Ok(())
        })
    }

    /// Overwrites everything with zeroes.
    pub fn clear(&self) {
        for page in self.pages.iter() {
            // SAFETY: The page is ours.
            unsafe { vfio_bindings::ferry_page_clear(page.as_ptr()) };
        }
    }

    /// Copies `len` bytes from the user's `from` to `offset`. May sleep and fault; call it with no
    /// lock held.
    ///
    /// # Errors
    ///
    /// `EINVAL` if that is out of range, `EFAULT` if `from` cannot be read; then some of the bytes
    /// may have been copied.
    pub fn copy_from_user(&self, offset: usize, from: UserPtr, len: usize) -> Result {
        self.for_each_page(offset, len, |page, in_page, done, len| {
            let from = from.wrapping_byte_add(done).as_const_ptr();
            // SAFETY: `for_each_page()` keeps `in_page + len` within the page, which is ours; the
            // function checks the user's address.
            let missing = unsafe {
                vfio_bindings::ferry_page_copy_from_user(page.as_ptr(), in_page, from, len)
            };
            all_copied(missing)
        })
    }

    /// Copies `len` bytes from `offset` to the user's `into`. May sleep and fault; call it with no
    /// lock held.
    ///
    /// # Errors
    ///
    /// As for [`Self::copy_from_user`].
    pub fn copy_to_user(&self, offset: usize, into: UserPtr, len: usize) -> Result {
        self.for_each_page(offset, len, |page, in_page, done, len| {
            let into = into.wrapping_byte_add(done).as_mut_ptr();
            // SAFETY: As in `copy_from_user()`.
            let missing = unsafe {
                vfio_bindings::ferry_page_copy_to_user(page.as_ptr(), in_page, into, len)
            };
            all_copied(missing)
        })
    }

    /// Maps `[offset, offset + vma's size)` of the memory into `vma`. Called under the mmap lock:
    /// takes no lock itself.
    ///
    /// A private mapping is refused: its pages would be copies, and the user's stores would not reach
    /// this memory.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the range is empty, not page-aligned, does not lie in the memory, or the
    /// mapping is not shared or wants to execute; `ENOMEM`.
    pub fn mmap(&self, vma: &VmaNew, offset: usize) -> Result {
        let len = vma.end().checked_sub(vma.start()).ok_or(EINVAL)?;
        let end = offset.checked_add(len).ok_or(EINVAL)?;
        if len == 0
            || offset % PAGE_SIZE != 0
            || end > self.size()
            || vma.flags() & flags::SHARED == 0
        {
            return Err(EINVAL);
        }
        vma.try_clear_mayexec()?;

        // A mapping of the device is neither grown nor dumped, and not inherited by a child of the user.
        vma.set_dontexpand();
        vma.set_dontdump();
        vma.set_dontcopy();

        let vma = vma.set_mixedmap();
        self.for_each_page(offset, len, |page, _, done, _| {
            vma.vm_insert_page(vma.start() + done, page)
        })
    }
}

/// Turns the number of bytes that a copy from or to a user missed into a result.
fn all_copied(missing: usize) -> Result {
    match missing {
        0 => Ok(()),
        _ => Err(EFAULT),
    }
}
