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
    Link, //
};
use kernel::prelude::*;
use vfio::{
    emulated::Dma,
    Device, //
};

/// The executor and the backend of an open device. The worker keeps the lock for as long as a command waits.
pub(crate) struct Execution<M: DeviceModel, B: Backend> {
    /// Executors are large and stay in their boxes, as they do not fit onto the stack.
    pub(crate) executor: KBox<M::Executor>,
    pub(crate) backend: B,
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
        Option::as_mut(&mut self.execution.lock())
            .map(f)
            .ok_or(ENODEV)
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
