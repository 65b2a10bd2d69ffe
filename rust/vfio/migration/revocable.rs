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

/// The link from data files to the open device, which is cut by [`Self::revoke`].
#[pin_data]
pub(crate) struct RevocableDevice {
    #[pin]
    device: Mutex<Option<OpenDevice>>,
    /// Notified when there may be more to read, and when the link is revoked.
    #[pin]
    pub(super) changed: PollCondVar,
}

/// # Invariants
///
/// The device is open, and of the type that `data` was made for.
struct OpenDevice {
    vdev: NonNull<vfio_bindings::vfio_device>,
    /// The table lies in the driver's module, which stays loaded as long as a device is open.
    data: &'static DataOperations,
}

// SAFETY: A VFIO device may be used from any thread.
unsafe impl Send for OpenDevice {}

impl RevocableDevice {
    /// The link to a device that is being opened. Returns [`None`] if the device does not migrate by protocol
    /// v2.
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

    /// Revokes the link. Waits until no operation on a data file uses the device; later operations get
    /// `ENODEV`.
    pub(crate) fn revoke(&self) {
        *self.device.lock() = None;
        self.changed.notify_all();
    }

    /// Wakes the pollers of data files.
    pub(crate) fn notify(&self) {
        self.changed.notify_all();
    }

    /// Runs `f` on the device.
    ///
    /// # Errors
    ///
    /// `ENODEV` once the link is revoked, else what `f` returns.
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
