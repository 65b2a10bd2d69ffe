// SPDX-License-Identifier: GPL-2.0

//! A mediated device that is bound to its driver.

use super::device::Device;
use crate::{
    device::Operations,
    migration::Support,
    registration::Registration as VfioRegistration, //
};
use core::{
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    device,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
};
use kernel_ext::{
    new_lock,
    refusal::{
        Refusals,
        Refuse, //
    },
};

/// A mediated device that is bound to its driver: the driver's data, to which [`Deref`] leads, and the
/// VFIO device that users open.
///
/// The migration protocol of a registered VFIO device never changes. A change of the protocol registers a new
/// VFIO device.
///
/// # Invariants
///
/// The mdev is bound, and its driver data points to this value.
#[pin_data]
pub struct Instance<T: Operations> {
    mdev: NonNull<vfio_bindings::mdev_device>,
    data: Arc<T>,
    /// [`None`] if the last registration failed.
    #[pin]
    vfio: Mutex<Option<VfioRegistration<T>>>,
}

// SAFETY: An mdev may be used from any thread; `T` is `Send + Sync`.
unsafe impl<T: Operations> Send for Instance<T> {}

// SAFETY: As above.
unsafe impl<T: Operations> Sync for Instance<T> {}

impl<T: Operations> Instance<T> {
    /// The instance of `mdev`, with the data of the driver and a VFIO device.
    ///
    /// # Safety
    ///
    /// `mdev` must be being bound, stay bound as long as the instance exists, and the instance must become
    /// its driver data.
    pub(super) unsafe fn new(
        mdev: &Device,
        data: Arc<T>,
        registration: VfioRegistration<T>,
    ) -> impl PinInit<Self> {
        let mdev = NonNull::from(mdev).cast();

        // INVARIANT: By the function's requirement.
        pin_init!(Self {
            mdev,
            data,
            vfio <- new_lock!(Mutex, c"Instance::vfio", Some(registration)),
        })
    }

    fn mdev(&self) -> &Device {
        // SAFETY: By the type invariants the mdev is valid, and `Device` is a transparent wrapper.
        unsafe { self.mdev.cast().as_ref() }
    }

    /// Whether the VFIO device is registered.
    pub fn is_registered(&self) -> bool {
        self.vfio.lock().is_some()
    }

    /// Unregisters the VFIO device, calls `between`, and registers a new VFIO device with `migration`. Called
    /// by a sysfs attribute of the mdev.
    ///
    /// # Errors
    ///
    /// `EBUSY` if a user has the VFIO device open, be it a character device that is not bound: waiting for
    /// the user may take for ever, and no signal ends the wait. As [`VfioRegistration::new`]; then the former
    /// VFIO device is registered again, or no VFIO device if that fails as well.
    pub fn register_anew(&self, migration: Support, between: impl FnOnce()) -> Result {
        let mut vfio = self.vfio.lock();

        let former = match &*vfio {
            Some(registration) if registration.is_held() => return Err(EBUSY),
            Some(registration) => registration.migration(),
            None => migration,
        };
        // A user who opens the character device just now gets an error when it binds the device.
        drop(vfio.take());
        between();
        let register = |migration| {
            // SAFETY: By the type invariants the mdev is bound as long as this instance exists, which drops
            // the registration.
            unsafe { VfioRegistration::new(self.mdev().as_ref(), self.data.clone(), migration) }
        };
        match register(migration) {
            Ok(registration) => *vfio = Some(registration),
            Err(error) => {
                *vfio = register(former).ok();
                return Err(error);
            }
        }
        Ok(())
    }
}

impl<T: Operations> Deref for Instance<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.data
    }
}

impl<T: Operations + AsRef<Refusals>> Refuse for Instance<T> {
    fn refusals(&self) -> &Refusals {
        T::as_ref(&self.data)
    }
}

impl<T: Operations> AsRef<device::Device> for Instance<T> {
    fn as_ref(&self) -> &device::Device {
        self.mdev().as_ref()
    }
}
