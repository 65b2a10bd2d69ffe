// SPDX-License-Identifier: GPL-2.0

//! The settings for a device's next open, which an administrator changes while the device is closed.

use crate::{
    device::emulated::EmulatedDevice,
    driver::{
        Driver,
        WindowSize, //
    },
    protocol::{
        Protocol,
        Protocols, //
    },
};
use kernel::prelude::*;
use vfio::{
    mdev::Instance,
    migration::Support, //
};

/// Returns the support of protocol v2 that a VFIO device is registered with.
fn support<D: Driver>(protocols: Protocols) -> Support {
    if protocols.offer(Protocol::V2) {
        Support::of::<EmulatedDevice<D>>()
    } else {
        Support::NONE
    }
}

impl<D: Driver> EmulatedDevice<D> {
    pub(crate) fn window_size(&self) -> WindowSize {
        self.migration.lock().window_size
    }

    /// Sets the size of the data window for the next open.
    ///
    /// # Errors
    ///
    /// `EBUSY` while the device is open.
    pub(crate) fn set_window_size(&self, window_size: WindowSize) -> Result {
        let mut migration = self.migration.lock();
        migration.check_unused()?;

        migration.window_size = window_size;
        Ok(())
    }

    pub(crate) fn protocols(&self) -> Protocols {
        self.migration.lock().protocols
    }

    /// Sets which protocols the device offers from the next open on.
    ///
    /// The VFIO core offers `VFIO_DEVICE_FEATURE_MIGRATION` if the VFIO device was registered with it, so a
    /// choice that adds or removes protocol v2 registers a new VFIO device.
    ///
    /// # Errors
    ///
    /// `EBUSY` while somebody has the device open, or why there is no new VFIO device.
    pub(crate) fn set_protocols(mdev: &Instance<Self>, protocols: Protocols) -> Result {
        // A device in use cannot be opened.
        let before = mdev.with_migration(|migration| {
            migration.take()?;
            Ok::<_, Error>(migration.protocols)
        })?;
        // Called before users see the new VFIO device, for they may open it at once.
        let choose = |protocols| {
            mdev.with_migration(|migration| {
                migration.in_use = false;
                migration.protocols = protocols;
            });
        };
        if protocols.offer(Protocol::V2) == before.offer(Protocol::V2) && mdev.is_registered() {
            choose(protocols);
            return Ok(());
        }
        let result = mdev.register_anew(support::<D>(protocols), || choose(protocols));
        if result.is_err() {
            choose(before);
        }
        result
    }

    /// Returns a copy of the settings for the next open.
    pub(crate) fn settings(&self) -> D::Settings {
        self.migration.lock().settings.clone()
    }

    /// Lets `change` change the settings for the next open.
    ///
    /// # Errors
    ///
    /// `EBUSY` while the device is open, or what `change` returns.
    pub(crate) fn change_settings(
        &self,
        change: impl FnOnce(&mut D::Settings) -> Result,
    ) -> Result {
        let mut migration = self.migration.lock();
        migration.check_unused()?;

        let before = migration.settings.clone();
        let changed = change(&mut migration.settings);
        drop(migration);
        // No lock is held here, for this may close a file.
        drop(before);
        changed
    }
}
