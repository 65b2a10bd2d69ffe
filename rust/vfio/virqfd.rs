// SPDX-License-Identifier: GPL-2.0

//! Eventfds of the user that a device listens to, such as the one that unmasks INTx.
//!
//! C header: `vfio_virqfd_enable()` of [`include/linux/vfio.h`](srctree/include/linux/vfio.h)

use core::marker::PhantomPinned;
use kernel::{
    ffi::c_void,
    prelude::*,
    sync::Arc,
    types::Opaque, //
};

/// The receiver of the signals of a [`Virqfd`]. Called in process context.
pub trait Signalled: Send + Sync + 'static {
    /// The user signalled the eventfd.
    fn signalled(&self);
}

/// A listener to an eventfd of the user, such as KVM's resample eventfd of an INTx.
///
/// The listener ends when this value is dropped or when the user closes the eventfd, whichever
/// is first. After the drop no call of [`Signalled::signalled`] runs or will run.
///
/// # Invariants
///
/// `slot` is NULL or points to the `struct virqfd` that `vfio_virqfd_enable()` stored; only the
/// C code changes `slot`, under a lock of its own, and `target` outlives it.
pub struct Virqfd<S: Signalled> {
    slot: Pin<KBox<Slot>>,
    _target: Arc<S>,
}

#[pin_data]
struct Slot {
    #[pin]
    virqfd: Opaque<*mut vfio_bindings::virqfd>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: The slot is only handed to C functions that lock it.
unsafe impl Send for Slot {}

// SAFETY: As above.
unsafe impl Sync for Slot {}

impl<S: Signalled> Virqfd<S> {
    /// Listens to the eventfd `fd` of the current process. A signal that is pending already
    /// counts.
    ///
    /// May sleep. The value must not be dropped with a lock held that [`Signalled::signalled`] takes, for
    /// the drop waits for that call.
    ///
    /// # Errors
    ///
    /// `EBADF`, `EINVAL` if `fd` is no eventfd, `ENOMEM`.
    pub fn new(fd: i32, target: Arc<S>) -> Result<Self> {
        let slot = KBox::pin_init(
            pin_init!(Slot {
                virqfd: Opaque::new(core::ptr::null_mut()),
                _pin: PhantomPinned,
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        let opaque = Arc::as_ptr(&target).cast_mut().cast::<c_void>();

        // SAFETY:
        // - `slot` is pinned and lives until `vfio_virqfd_disable()` has run in `drop()`.
        // - `opaque` points to `target`, which is dropped after that.
        // - `Self::thread` expects exactly this pointer.
        let ret = unsafe {
            vfio_bindings::vfio_virqfd_enable(
                opaque,
                None,
                Some(Self::thread),
                core::ptr::null_mut(),
                slot.virqfd.get(),
                fd,
            )
        };
        kernel::error::to_result(ret)?;

        // INVARIANT: `vfio_virqfd_enable()` stored the `struct virqfd` in the slot.
        Ok(Self {
            slot,
            _target: target,
        })
    }

    /// # Safety
    ///
    /// `opaque` must be the pointer that [`Virqfd::new`] passed.
    unsafe extern "C" fn thread(opaque: *mut c_void, _data: *mut c_void) {
        // SAFETY: `opaque` points to the `S` that the `Arc` in the `Virqfd` keeps alive until the
        // work that calls us has been flushed.
        let target = unsafe { &*opaque.cast::<S>() };

        target.signalled();
    }
}

impl<S: Signalled> Drop for Virqfd<S> {
    fn drop(&mut self) {
        // SAFETY: The slot was given to `vfio_virqfd_enable()`; the function copes with one that
        // the user's close has emptied, and waits until the work has run.
        unsafe { vfio_bindings::vfio_virqfd_disable(self.slot.virqfd.get()) };
    }
}
