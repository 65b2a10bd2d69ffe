// SPDX-License-Identifier: GPL-2.0

//! Memory that a user can do without.
//!
//! C header: [`include/linux/gfp_types.h`](srctree/include/linux/gfp_types.h)

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

/// Allocates a zeroed `T` that is charged to the memory cgroup of the current process. May sleep.
///
/// The allocation fails where another one would start the OOM killer: use it for memory that a user
/// can do without, or whose lack can be reported.
///
/// # Errors
///
/// There is no memory left, or the cgroup has reached its limit.
pub fn try_zeroed<T: Zeroable>() -> Result<KBox<T>, AllocError> {
    const {
        assert!(size_of::<T>() > 0, "there is nothing to allocate");
    }
    let layout = Kmalloc::aligned_layout(Layout::new::<T>());
    let flags = bindings::GFP_KERNEL_ACCOUNT
        | bindings::__GFP_ZERO
        | bindings::__GFP_NOWARN
        | 1 << bindings::___GFP_RETRY_MAYFAIL_BIT;

    // SAFETY: Without a previous allocation the function makes a new one.
    let memory = unsafe {
        bindings::krealloc_node_align(
            null(),
            layout.size(),
            layout.align(),
            flags,
            bindings::NUMA_NO_NODE,
        )
    };
    if memory.is_null() {
        return Err(AllocError);
    }

    // SAFETY: `Kmalloc` allocates with this function, too; the memory has the size and the
    // alignment of a `T`, is ours, and holds zeroes, which are a value of `T`.
    Ok(unsafe { KBox::from_raw(memory.cast()) })
}
