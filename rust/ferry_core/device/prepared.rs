// SPDX-License-Identifier: GPL-2.0

//! What a use of the engine has to wait for, which is waited for before the state mutex is taken and after it was
//! dropped.
//!
//! The file of a disk is locked before the device begins to run. It is written back before the device stops, and unlocked
//! when it has stopped. Each may take as long as the medium or its server takes.

use crate::{
    device::{
        emulated::EmulatedDevice,
        open_model::OpenModel, //
    },
    driver::Driver,
    migration::migrating::Change, //
};
use device_model::{
    Backend,
    DeviceModel, //
};
use kernel::prelude::*;
use vfio::{
    emulated::{
        Paused,
        Turn, //
    },
    Device, //
};

/// A use of the engine that has been waited for. The fields' order is the order in which they are dropped.
pub(crate) struct Prepared<'a, D: Driver> {
    device: &'a Device<EmulatedDevice<D>>,
    /// The device may start or stop.
    changes_state: bool,
    /// The worker pauses.
    paused: Option<Paused<'a>>,
    /// Other uses of the engine wait, as this one may wait with the lock `execution` held.
    _turn: Turn<'a>,
}

impl<'a, D: Driver> Prepared<'a, D> {
    /// Waits for what a use of the engine that is no change of state waits for: the device gives its blocks to one user
    /// at a time.
    ///
    /// # Errors
    ///
    /// `EINTR` if the current process is killed.
    pub(super) fn for_use(device: &'a Device<EmulatedDevice<D>>) -> Result<Self> {
        let mut prepared = Self::first(device)?;

        prepared.pause_for_blocks()?;
        Ok(prepared)
    }

    /// Waits for what a change of state waits for. Whether the backend allows it is told to the step of the change.
    ///
    /// # Errors
    ///
    /// `EINTR` if the current process is killed.
    pub(super) fn for_change(
        device: &'a Device<EmulatedDevice<D>>,
        change: Change,
    ) -> Result<Self> {
        let mut prepared = Self::first(device)?;
        // A reset, which does not wait for the turn, may have the device run from here on. Then no step comes that starts
        // it.
        let runs = prepared.live(|live| live.running);
        if runs && change == Change::Run {
            prepared.pause_for_blocks()?;
            return Ok(prepared);
        }
        prepared.pause()?;
        prepared.changes_state = true;

        let uses_backend = prepared.live(|live| live.next_model().uses_backend());
        // A closed device has no backend.
        let _ = device.with_execution(|execution| {
            let log: device_model::Log<'_> =
                &|what, reason, errno| EmulatedDevice::log(device, what, reason, errno);
            execution.prepared = if runs {
                execution.backend.settle(log)
            } else if change != Change::Stop && uses_backend {
                execution.backend.acquire(log)
            } else {
                Ok(())
            };
        });
        Ok(prepared)
    }

    fn first(device: &'a Device<EmulatedDevice<D>>) -> Result<Self> {
        Ok(Self {
            _turn: device.take_turn()?,
            paused: None,
            changes_state: false,
            device,
        })
    }

    /// Waits until the worker pauses, if it uses blocks that the engine uses as well.
    fn pause_for_blocks(&mut self) -> Result {
        if self.live(|live| live.has_blocks) {
            self.pause()?;
        }
        Ok(())
    }

    /// Waits until the worker pauses.
    fn pause(&mut self) -> Result {
        self.paused.insert(self.device.pause_work()).await_idle()
    }

    /// Returns what `f` says of the registers; `false` for a closed device.
    fn live(&self, f: impl FnOnce(&OpenModel<D::Model, D::Backend>) -> bool) -> bool {
        self.device.with_open_model(|live| f(live)).unwrap_or(false)
    }
}

impl<D: Driver> Drop for Prepared<'_, D> {
    /// Gives up the backend of a device that has stopped, or that did not start.
    fn drop(&mut self) {
        let device = self.device;

        if !self.changes_state || self.live(|live| live.running) {
            return;
        }
        // Whoever stopped the device has had everything written back, so nothing is lost here.
        let _ = device.with_execution(|execution| {
            execution
                .backend
                .release(&|what, reason, errno| EmulatedDevice::log(device, what, reason, errno))
        });
    }
}
