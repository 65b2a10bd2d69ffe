// SPDX-License-Identifier: GPL-2.0

//! The executor and the backend of an open device, and the executor's link to the registers.

use crate::{
    device::{
        emulated::EmulatedDevice,
        open_model::OpenModel, //
    },
    driver::Driver, //
};
use device_model::{
    Backend,
    DeviceModel,
    Link,
    MigratedBlocks, //
};
use kernel::{
    prelude::*,
    sync::atomic::Relaxed,
    time::Delta, //
};
use vfio::{
    emulated::Dma,
    Device, //
};
use vfio_uapi::Errno;

/// The executor and the backend of an open device. The worker keeps the lock for as long as a command waits.
pub(crate) struct Execution<M: DeviceModel, B: Backend> {
    /// Executors are large and stay in their boxes, as they do not fit onto the stack.
    pub(crate) executor: KBox<M::Executor>,
    pub(crate) backend: B,
    /// How long the worker looks for more work when none is left.
    pub(super) poll_time: Delta,
    /// Whether the backend allows the change of state that was prepared last.
    pub(crate) prepared: Result<(), Errno>,
}

impl<M: DeviceModel, B: Backend> Execution<M, B> {
    /// Returns the halves and the backend of a device that has been opened and runs.
    pub(crate) fn new(executor: KBox<M::Executor>, backend: B, poll_time: Delta) -> Self {
        Self {
            executor,
            backend,
            poll_time,
            prepared: Ok(()),
        }
    }
}

/// Returns the executor of `model`. It is on the stack on its way to its box, so nothing else is.
#[inline(never)]
pub(crate) fn boxed_executor<M: DeviceModel>(model: &M) -> Result<KBox<M::Executor>> {
    Ok(KBox::new(model.executor(), GFP_KERNEL_ACCOUNT)?)
}

/// The link from the worker's executor to the registers.
pub(super) struct ExecutorLink<'a, D: Driver> {
    pub(super) device: &'a Device<EmulatedDevice<D>>,
    pub(super) dma: &'a Dma<'a>,
    pub(super) may_poll: bool,
}

impl<D: Driver> Link<<D::Model as DeviceModel>::Executor> for ExecutorLink<'_, D> {
    fn exchange(&mut self, executor: &mut <D::Model as DeviceModel>::Executor) -> bool {
        let mut live = self.device.live.lock();
        let Some(live) = Option::as_mut(&mut live).filter(|live| live.works()) else {
            return false;
        };

        live.model.exchange(executor);
        self.dma.renew();
        true
    }

    fn is_current(&self) -> bool {
        self.dma.is_current() && !self.dma.is_interrupted()
    }

    fn has_timer(&self) -> bool {
        true
    }

    fn wake_in(&self, microseconds: u32) {
        self.dma.wake_in(microseconds);
    }

    fn is_due(&self) -> bool {
        self.dma.is_due()
    }

    fn may_poll(&self) -> bool {
        self.may_poll
    }
}

impl<D: Driver> EmulatedDevice<D> {
    /// Runs `f` on the executor and the backend of the open device, with their lock held. Waits for the worker.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the device is not open.
    pub(crate) fn with_execution<R>(
        &self,
        f: impl FnOnce(&mut Execution<D::Model, D::Backend>) -> R,
    ) -> Result<R> {
        let mut execution = self.execution.lock();
        let execution = Option::as_mut(&mut execution).ok_or(ENODEV)?;

        self.untrack_owed(execution);
        Ok(f(execution))
    }

    /// Ends the tracking of the blocks, now if nobody has the execution's lock, else before somebody takes it next. Does
    /// not wait.
    pub(crate) fn untrack(&self) {
        self.owes_untrack.store(true, Relaxed);
        if let Some(mut execution) = self.execution.try_lock() {
            if let Some(execution) = Option::as_mut(&mut execution) {
                self.untrack_owed(execution);
            }
        }
    }

    fn untrack_owed(&self, execution: &mut Execution<D::Model, D::Backend>) {
        if !self.owes_untrack.xchg(false, Relaxed) {
            return;
        }
        if let Some(blocks) = execution.backend.blocks() {
            blocks.untrack();
        }
    }

    /// Runs `f` on all of the open device, between two exchanges of the halves. Waits for the worker.
    ///
    /// # Errors
    ///
    /// As for [`Self::with_execution`].
    pub(crate) fn with_both<R>(
        &self,
        f: impl FnOnce(&mut Execution<D::Model, D::Backend>, &mut OpenModel<D::Model, D::Backend>) -> R,
    ) -> Result<R> {
        self.with_execution(|execution| {
            self.with_open_model(|live| {
                live.model.exchange(&mut execution.executor);
                let result = f(execution, live);
                live.model.exchange(&mut execution.executor);
                result
            })
        })?
    }
}
