// SPDX-License-Identifier: GPL-2.0

//! The link from data files to the open device, which is revoked before the device is closed.

use super::support::{
    DataOperations,
    Support, //
};
use core::ptr::NonNull;
use kernel::{
    new_mutex, new_poll_condvar,
    prelude::*,
    sync::{
        poll::PollCondVar,
        Arc,
        Mutex, //
    },
};

/// The way from data files to the device that they belong to, until that is closed.
#[pin_data]
pub(crate) struct RevocableDevice {
    #[pin]
    device: Mutex<Option<OpenDevice>>,
    /// Notified when there may be more to read, and when the device is revoked.
    #[pin]
    pub(super) changed: PollCondVar,
}

/// # Invariants
///
/// The device is open, and of the type that the table is for.
struct OpenDevice {
    vdev: NonNull<vfio_bindings::vfio_device>,
    /// A part of the driver's module, which is there as long as one of its devices is open.
    data: &'static DataOperations,
}

// SAFETY: A VFIO device may be used from any thread.
unsafe impl Send for OpenDevice {}

impl RevocableDevice {
    /// The revocable device of one that is being opened; [`None`] if it does not migrate by this protocol.
    ///
    /// # Safety
    ///
    /// `vdev` must be of the type that `support` is for, and stay open until [`Self::revoke`].
    pub(crate) unsafe fn new(
        vdev: NonNull<vfio_bindings::vfio_device>,
        support: Support,
    ) -> Result<Option<Arc<Self>>> {
        let Some(data) = support.data else {
            return Ok(None);
        };

        // INVARIANT: By the function's requirement.
        let device = OpenDevice { vdev, data };
        Arc::pin_init(
            pin_init!(Self {
                device <- new_mutex!(Some(device)),
                changed <- new_poll_condvar!(),
            }),
            GFP_KERNEL_ACCOUNT,
        )
        .map(Some)
    }

    /// Waits until no operation on a data file uses the device; none will any more.
    pub(crate) fn revoke(&self) {
        *self.device.lock() = None;
        self.changed.notify_all();
    }

    /// There may be more to read.
    pub(crate) fn notify(&self) {
        self.changed.notify_all();
    }

    /// Runs `f` on the device, as long as there is one.
    pub(super) fn with<R>(
        &self,
        f: impl FnOnce(&DataOperations, NonNull<vfio_bindings::vfio_device>) -> Result<R>,
    ) -> Result<R> {
        let device = self.device.lock();

        match &*device {
            Some(device) => f(device.data, device.vdev),
            None => Err(ENODEV),
        }
    }
}
