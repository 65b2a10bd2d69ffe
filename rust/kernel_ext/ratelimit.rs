// SPDX-License-Identifier: GPL-2.0

//! Rate limit of log lines that a user can provoke.
//!
//! C header: [`include/linux/ratelimit.h`](srctree/include/linux/ratelimit.h)

use kernel::{
    bindings,
    prelude::*,
    types::Opaque, //
};

/// A limit of ten lines in five seconds, the kernel's default.
#[pin_data]
pub struct RateLimit {
    #[pin]
    state: Opaque<bindings::ratelimit_state>,
}

// SAFETY: `___ratelimit()` locks the state itself.
unsafe impl Send for RateLimit {}

// SAFETY: As above.
unsafe impl Sync for RateLimit {}

impl RateLimit {
    /// A limit that no line has been counted against.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            state <- Opaque::ffi_init(|slot| {
                // SAFETY: `slot` is valid for writes and pinned.
                unsafe { vfio_bindings::ferry_ratelimit_state_init(slot) }
            }),
        })
    }

    /// Whether a line may be printed now. The caller counts the lines that may not.
    pub fn allows(&self) -> bool {
        // SAFETY: The state was initialised by `new()`. The name is for a message that the C helper has
        // turned off.
        unsafe { bindings::___ratelimit(self.state.get(), c"".as_char_ptr()) != 0 }
    }
}
