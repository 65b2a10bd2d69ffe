// SPDX-License-Identifier: GPL-2.0

//! Memory cgroups, to which memory is charged that a kernel worker allocates for a user.
//!
//! C headers: [`include/linux/memcontrol.h`](srctree/include/linux/memcontrol.h),
//! `set_active_memcg()` of [`include/linux/sched/mm.h`](srctree/include/linux/sched/mm.h)

use core::{
    alloc::Layout,
    ptr::null, //
};
use kernel::{
    alloc::{
        allocator::Kmalloc,
        AllocError, //
    },
    bindings,
    prelude::*, //
};
use pin_init::Zeroable;

/// A counted reference to a memory cgroup.
///
/// # Invariants
///
/// The pointer is NULL, which stands for no group (the only value in a kernel without memory cgroups), or
/// valid, and this value owns one reference to it.
pub struct MemoryCgroup(*mut bindings::mem_cgroup);

// SAFETY: A memory cgroup is reference-counted and may be used and put from any thread.
unsafe impl Send for MemoryCgroup {}

// SAFETY: It is only handed to C functions, which lock what they change.
unsafe impl Sync for MemoryCgroup {}

impl MemoryCgroup {
    /// The group to which the memory of the current process is charged.
    pub fn of_current() -> Self {
        // INVARIANT: The function takes a reference for us.
        // SAFETY: It can be called in any task, also in one without user memory.
        Self(unsafe { vfio_bindings::ferry_get_current_memcg() })
    }

    /// Runs `f`, and charges to the group the memory that this thread allocates with `GFP_KERNEL_ACCOUNT`
    /// and the pages that it adds to the page cache meanwhile.
    pub fn charge<R>(&self, f: impl FnOnce() -> R) -> R {
        // This is a function and not a guard: a guard that is leaked, or dropped after a guard that
        // was made later, would leave the thread with a group that nobody holds.

        // SAFETY: By the type invariants the group stays valid while it is the active one.
        let outer = unsafe { vfio_bindings::ferry_set_active_memcg(self.0) };
        let result = f();
        // SAFETY: `outer` was the active group, and its setter keeps it valid.
        unsafe { vfio_bindings::ferry_set_active_memcg(outer) };

        result
    }

    /// Allocates a zeroed `T` that is charged to the group. May sleep.
    ///
    /// The allocation fails where another one would start the OOM killer: use it for memory that a user
    /// can do without, or whose lack can be reported.
    ///
    /// # Errors
    ///
    /// There is no memory left, or the group has reached its limit.
    pub fn try_zeroed<T: Zeroable>(&self) -> Result<KBox<T>, AllocError> {
        const {
            assert!(size_of::<T>() > 0, "there is nothing to allocate");
        }
        let layout = Kmalloc::aligned_layout(Layout::new::<T>());
        let flags = bindings::GFP_KERNEL_ACCOUNT
            | bindings::__GFP_ZERO
            | bindings::__GFP_NOWARN
            | 1 << bindings::___GFP_RETRY_MAYFAIL_BIT;

        let memory = self.charge(|| {
            // SAFETY: Without a previous allocation the function makes a new one.
            unsafe {
                bindings::krealloc_node_align(
                    null(),
                    layout.size(),
                    layout.align(),
                    flags,
                    bindings::NUMA_NO_NODE,
                )
            }
        });
        if memory.is_null() {
            return Err(AllocError);
        }

        // SAFETY: `Kmalloc` allocates with this function, too; the memory has the size and the
        // alignment of a `T`, is ours, and holds zeroes, which are a value of `T`.
        Ok(unsafe { KBox::from_raw(memory.cast()) })
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        // SAFETY: By the type invariants we own the reference that is put.
        unsafe { vfio_bindings::ferry_put_memcg(self.0) };
    }
}

/// Lets another thread run if one is waiting. Long loops call it now and then. Must not be called with a
/// spinlock held, which the kernel checks.
pub fn cond_resched() {
    // SAFETY: No memory of ours is concerned.
    unsafe { vfio_bindings::ferry_cond_resched() };
}
