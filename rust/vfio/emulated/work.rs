// SPDX-License-Identifier: GPL-2.0

//! The worker of a device, see `rust/helpers/work.c`.

use kernel::{
    error::to_result,
    prelude::*,
    types::Opaque, //
};

/// A thread of the user's process that does the device's work.
///
/// # Invariants
///
/// The worker is initialised. It has a thread only while the device is open.
// Transparent, so that the pointer that the thread passes to the function is one to the worker.
#[pin_data(PinnedDrop)]
#[repr(transparent)]
pub(super) struct Worker {
    #[pin]
    inner: Opaque<vfio_bindings::ferry_worker>,
}

// SAFETY: The C functions lock what they share.
unsafe impl Send for Worker {}

// SAFETY: As above.
unsafe impl Sync for Worker {}

impl Worker {
    /// A worker that calls `function` with a pointer to itself.
    pub(super) fn new(
        function: unsafe extern "C" fn(*mut vfio_bindings::ferry_worker),
    ) -> impl PinInit<Self> {
        pin_init!(Self {
            inner <- Opaque::ffi_init(move |slot| {
                // SAFETY: `slot` is valid for writes and pinned.
                unsafe { vfio_bindings::ferry_worker_init(slot, Some(function)) }
            }),
        })
    }

    /// Makes the thread in the current process, unless there is one that lives. May sleep.
    ///
    /// # Safety
    ///
    /// The device must be open, and stay so meanwhile.
    ///
    /// # Errors
    ///
    /// What making a thread returns: a pending signal, or a limit of the process.
    pub(super) unsafe fn make(&self) -> Result {
        // SAFETY: By the type invariants the worker is initialised.
        to_result(unsafe { vfio_bindings::ferry_worker_make(self.inner.get()) })
    }

    /// Wakes the thread, or leaves the work to the next one. Can be called in any context.
    pub(super) fn kick(&self) {
        // SAFETY: By the type invariants the worker is initialised.
        unsafe { vfio_bindings::ferry_worker_kick(self.inner.get()) };
    }

    /// Waits until no other thread has the turn, and takes it. May sleep.
    ///
    /// # Errors
    ///
    /// `EINTR` if the current process is killed.
    pub(super) fn take_turn(&self) -> Result {
        // SAFETY: By the type invariants the worker is initialised.
        to_result(unsafe { vfio_bindings::ferry_worker_take_turn(self.inner.get()) })
    }

    /// Ends the turn.
    ///
    /// # Safety
    ///
    /// The current thread must have taken the turn, and not ended it.
    pub(super) unsafe fn end_turn(&self) {
        // SAFETY: By the type invariants the worker is initialised; the mutex is held by the function's requirement.
        unsafe { vfio_bindings::ferry_worker_end_turn(self.inner.get()) };
    }

    /// Has no work begun until [`Self::resume`], and what is under way ended.
    pub(super) fn pause(&self) {
        // SAFETY: By the type invariants the worker is initialised.
        unsafe { vfio_bindings::ferry_worker_pause(self.inner.get()) };
    }

    /// Waits until no work is under way. May sleep.
    ///
    /// # Errors
    ///
    /// `EINTR` if the current process is killed, or what [`Self::make`] returns: the thread that had something under way
    /// was killed.
    pub(super) fn await_idle(&self) -> Result {
        // SAFETY: By the type invariants the worker is initialised.
        to_result(unsafe { vfio_bindings::ferry_worker_await(self.inner.get()) })
    }

    /// Undoes one [`Self::pause`].
    pub(super) fn resume(&self) {
        // SAFETY: By the type invariants the worker is initialised.
        unsafe { vfio_bindings::ferry_worker_resume(self.inner.get()) };
    }

    /// Says whether something is under way that goes on while the function is not called. The worker calls this, and
    /// [`Self::is_interrupted`] after it.
    pub(super) fn set_under_way(&self, under_way: bool) {
        // SAFETY: By the type invariants the worker is initialised.
        unsafe { vfio_bindings::ferry_worker_set_under_way(self.inner.get(), under_way) };
    }

    /// Has the function called when `microseconds` are over, unless such a time is under way. The worker calls this.
    pub(super) fn wake_in(&self, microseconds: u32) {
        // Milliseconds as nanoseconds are far below the most.
        let ns = u64::from(microseconds) * 1000;
        // SAFETY: By the type invariants the worker is initialised.
        unsafe { vfio_bindings::ferry_worker_wake_in(self.inner.get(), ns) };
    }

    /// Returns whether a time of [`Self::wake_in`] is over, once for each. The worker calls this.
    pub(super) fn is_due(&self) -> bool {
        // SAFETY: By the type invariants the worker is initialised.
        unsafe { vfio_bindings::ferry_worker_is_due(self.inner.get()) }
    }

    /// Returns whether the worker, which calls this, has to freeze, pause, stop or end before it goes on.
    pub(super) fn is_interrupted(&self) -> bool {
        // SAFETY: By the type invariants the worker is initialised.
        unsafe { vfio_bindings::ferry_worker_is_interrupted(self.inner.get()) }
    }

    /// Ends the thread, and waits for it. May sleep.
    pub(super) fn stop(&self) {
        // SAFETY: By the type invariants the worker is initialised.
        unsafe { vfio_bindings::ferry_worker_stop(self.inner.get()) };
    }
}

#[pinned_drop]
impl PinnedDrop for Worker {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariants the worker is initialised; nobody else uses it any more.
        unsafe { vfio_bindings::ferry_worker_destroy(self.inner.get()) };
    }
}
