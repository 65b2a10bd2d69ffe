// SPDX-License-Identifier: GPL-2.0

//! A device that migrates, as the front ends of both protocols see it.

use crate::{
    migration::state::Migration,
    statistics::Statistics, //
};
use ::migration::Port;
use core::fmt::Display;
use kernel::{
    prelude::*,
    sync::Mutex, //
};
use kernel_ext::refusal::Refusals;
use vfio::{
    migration::MigrationOperations,
    Device, //
};

/// What a change of state asks of a device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Change {
    /// The device runs.
    Run,
    /// The device runs and initiates no DMA.
    RunWithoutDma,
    /// The device does not run.
    Stop,
}

/// A device that migrates: an emulated device, or a variant driver's.
pub(crate) trait Migrating: MigrationOperations + AsRef<Refusals> {
    /// The settings that an administrator can choose.
    type Settings: Unpin;
    /// The engine's port.
    type Port<'a>: Port
    where
        Self: 'a;

    /// Keeps the device from beginning something that a use of the engine would have to wait for. When it is dropped, the
    /// device does what may take long and is due after a change of state.
    type Prepared<'a>
    where
        Self: 'a;

    /// Waits until a change of state has nothing left to wait for but what is short, until the return value is dropped,
    /// which is after the state mutex. Other uses of the engine wait meanwhile, and everything else about the device goes
    /// on.
    ///
    /// # Errors
    ///
    /// `EINTR` if the current process is killed.
    fn before_change(device: &Device<Self>, change: Change) -> Result<Self::Prepared<'_>>;

    /// As [`Self::before_change`], for a use of the engine that is no change of state: the device gives its blocks to one
    /// user at a time.
    ///
    /// # Errors
    ///
    /// `EINTR` if the current process is killed.
    fn before_use(device: &Device<Self>) -> Result<Self::Prepared<'_>>;

    /// Returns the port, which is used with the state mutex held.
    fn port(device: &Device<Self>) -> Self::Port<'_>;

    /// Returns what the state mutex protects.
    fn migration_state(&self) -> &Mutex<Migration<Self::Settings>>;

    /// Returns the counters.
    fn statistics(&self) -> &Statistics;

    /// Calls `report` with the reason why the device refused the last state that arrived, if it did.
    fn with_load_error(&self, report: &mut dyn FnMut(Option<&dyn Display>));

    /// Whether the device was reset and [`settle`](Self::settle) has yet to reset the engine: it is RUNNING.
    fn owes_reset(&self) -> bool {
        false
    }

    /// Does what the device owes since the state mutex was held last: a reset that was deferred.
    fn settle(_device: &Device<Self>, _migration: &mut Migration<Self::Settings>) {}
}

/// Runs `f` with the state mutex of `device` held.
pub(crate) fn with_migration<T: Migrating, R>(
    device: &Device<T>,
    f: impl FnOnce(&mut Migration<T::Settings>) -> R,
) -> R {
    let mut migration = device.migration_state().lock();

    T::settle(device, &mut migration);
    f(&mut migration)
}

/// Resets the device as `VFIO_DEVICE_RESET` does: the session ends, and the device runs.
///
/// # Errors
///
/// `ENODEV` if the device is closed.
pub(crate) fn reset<T: Migrating>(
    device: &Device<T>,
    migration: &mut Migration<T::Settings>,
) -> Result {
    let engine = migration.engine.as_mut().ok_or(ENODEV)?;

    if let Some(region) = &mut migration.region {
        region.reset();
    }
    engine.reset(&mut T::port(device));
    migration.protocol = None;
    migration.session = None;
    device.notify_data();
    Ok(())
}
