// SPDX-License-Identifier: GPL-2.0

//! Tracepoints of the migration protocol, `events/ferry/` in tracefs.
//!
//! A disabled tracepoint costs a call and a patched branch. The static keys stay in the framework's module,
//! so no function here is inlined into a driver. States are the low three bits of the v1 `device_state`.
//!
//! C header: `include/trace/events/ferry.h`

use core::fmt::{
    Display,
    Write, //
};
use kernel::{
    prelude::*,
    str::Formatter, //
};

/// Longest reason that is traced, in bytes. A longer reason is cut off.
const REASON_MAX: usize = 160;

/// Whether the tracepoint is enabled.
macro_rules! is_enabled {
    ($name:ident) => {{
        // SAFETY: The static key of a tracepoint can always be queried.
        unsafe {
            kernel::jump_label::static_branch_unlikely!(
                vfio_bindings::$name,
                kernel::bindings::tracepoint,
                key
            )
        }
    }};
}

/// A transition from `from` to `to` ended with 0 or the negative `errno`.
#[inline(never)]
pub fn state(device: &CStr, from: u32, to: u32, errno: i32) {
    #[cfg(CONFIG_TRACEPOINTS)]
    if is_enabled!(__tracepoint_vfio_migration_state) {
        // SAFETY: `device` is a C string, which the tracepoint copies.
        unsafe {
            vfio_bindings::rust_do_trace_vfio_migration_state(device.as_char_ptr(), from, to, errno)
        };
    }
}

/// The user read `pending_bytes`, or asked for `VFIO_MIG_GET_PRECOPY_INFO`.
#[inline(never)]
pub fn pending(device: &CStr, state: u32, pending: u64) {
    #[cfg(CONFIG_TRACEPOINTS)]
    if is_enabled!(__tracepoint_vfio_migration_pending) {
        // SAFETY: As for `state()`.
        unsafe {
            vfio_bindings::rust_do_trace_vfio_migration_pending(
                device.as_char_ptr(),
                state,
                pending,
            )
        };
    }
}

/// A chunk of `size` bytes was presented or consumed, `total` bytes in this session.
#[inline(never)]
pub fn chunk(device: &CStr, state: u32, size: u64, total: u64) {
    #[cfg(CONFIG_TRACEPOINTS)]
    if is_enabled!(__tracepoint_vfio_migration_chunk) {
        // SAFETY: As for `state()`.
        unsafe {
            vfio_bindings::rust_do_trace_vfio_migration_chunk(
                device.as_char_ptr(),
                state,
                size,
                total,
            )
        };
    }
}

/// An access, a transition or a stream was refused with the negative `errno`, for `reason`.
#[inline(never)]
pub fn refusal(device: &CStr, state: u32, errno: i32, reason: &dyn Display) {
    #[cfg(CONFIG_TRACEPOINTS)]
    if is_enabled!(__tracepoint_vfio_migration_refusal) {
        let mut buffer = [0; REASON_MAX + 1];
        // A longer reason is cut off; the last byte stays NUL.
        let _cut = write!(Formatter::new(&mut buffer[..REASON_MAX]), "{reason}");
        // SAFETY: As for `state()`; `buffer` ends with a NUL byte.
        unsafe {
            vfio_bindings::rust_do_trace_vfio_migration_refusal(
                device.as_char_ptr(),
                state,
                errno,
                buffer.as_ptr().cast(),
            )
        };
    }
}
