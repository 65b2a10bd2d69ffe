// SPDX-License-Identifier: GPL-2.0

//! Memory that a user maps and writes whenever it likes.
//!
//! [`SharedPages`] owns the pages and offers copies in and out, and the mapping. Nobody else
//! touches that memory, and no reference to it is ever made: a copy that races with a store of the
//! user yields arbitrary bytes and does no other harm, as with `copy_from_user()`. So a caller
//! copies first and validates what it copied.

use kernel::{
    bindings,
    ffi::c_void,
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

/// Zeroed pages, charged to the memory cgroup of whoever made them.
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

    /// Calls `f` with each page that `[offset, offset + len)` touches, the offset in it, how far
    /// into the range it is and how many bytes of it are meant.
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
            // SAFETY: `bytes[done..done + len]` is valid for reads. Races on the page are with
            // accesses that go through raw pointers or user space, see the module's comment.
            unsafe { page.write_raw(bytes[done..][..len].as_ptr(), in_page, len) }
        })
    }

    /// Copies what is at `offset` to `into`. The user may be writing it at the same time: look
    /// only at the copy.
    ///
    /// # Errors
    ///
    /// `EINVAL` if that is out of range.
    pub fn copy_out(&self, offset: usize, into: &mut [u8]) -> Result {
        self.for_each_page(offset, into.len(), |page, in_page, done, len| {
            // SAFETY: `into[done..done + len]` is valid for writes. For races see `copy_in()`.
            unsafe { page.read_raw(into[done..][..len].as_mut_ptr(), in_page, len) }
        })
    }

    /// Overwrites everything with zeroes.
    pub fn clear(&self) {
        for page in self.pages.iter() {
            // SAFETY: For races see `copy_in()`.
            let whole_page = unsafe { page.fill_zero_raw(0, PAGE_SIZE) };

            debug_assert!(whole_page.is_ok());
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
            Self::with_address(page, in_page, |address| {
                // SAFETY: `address` is valid for writes up to the page's end and `len` does not go
                // past it. For races see `copy_in()`.
                unsafe {
                    bindings::_copy_from_user(
                        address,
                        from.wrapping_byte_add(done).as_const_ptr(),
                        len,
                    )
                }
            })
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
            Self::with_address(page, in_page, |address| {
                // SAFETY: `address` is valid for reads up to the page's end and `len` does not go
                // past it. For races see `copy_in()`.
                unsafe {
                    bindings::_copy_to_user(into.wrapping_byte_add(done).as_mut_ptr(), address, len)
                }
            })
        })
    }

    /// Maps the page while `copy` runs with the address of `offset` in it; `copy` returns how many
    /// bytes it could not copy.
    fn with_address(page: &Page, offset: usize, copy: impl FnOnce(*mut c_void) -> usize) -> Result {
        debug_assert!(offset < PAGE_SIZE);

        // SAFETY: The page is valid.
        let base = unsafe { bindings::kmap_local_page(page.as_ptr()) };
        let missing = copy(base.wrapping_byte_add(offset));
        // SAFETY: `base` is from the latest `kmap_local_page()` of this thread, as `copy` maps
        // nothing.
        unsafe { bindings::kunmap_local(base) };

        if missing == 0 {
            Ok(())
        } else {
            Err(EFAULT)
        }
    }

    /// Maps `[offset, offset + vma's size)` of the memory into `vma`. Called under the mmap lock:
    /// takes no lock itself.
    ///
    /// A private mapping is refused: its pages would be copies, and the user's stores would never
    /// get here.
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

        // Neither growing nor dumping it makes sense, and a child of the user has no business
        // with the device.
        vma.set_dontexpand();
        vma.set_dontdump();
        vma.set_dontcopy();

        let vma = vma.set_mixedmap();
        self.for_each_page(offset, len, |page, _, done, _| {
            vma.vm_insert_page(vma.start() + done, page)
        })
    }
}
