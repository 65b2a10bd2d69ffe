// SPDX-License-Identifier: GPL-2.0

//! The scheduler.
//!
//! C header: [`include/linux/sched.h`](srctree/include/linux/sched.h)

/// Lets another thread run if one is waiting. Long loops call it now and then. Must not be called with a
/// spinlock held, which the kernel checks.
pub fn cond_resched() {
    // SAFETY: No memory of ours is concerned.
    unsafe { vfio_bindings::ferry_cond_resched() };
}
