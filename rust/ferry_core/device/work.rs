// SPDX-License-Identifier: GPL-2.0

//! The model's work, which a thread of the user's process does.

use crate::{
    device::{
        emulated::EmulatedDevice,
        execution::ExecutorLink, //
    },
    dma_memory::DmaMemory,
    driver::Driver, //
};
use device_model::{
    Work,
    Worker, //
};
use vfio::{
    emulated::Dma,
    Device, //
};

/// Parts of the work that a worker does before it queues itself again, each under the lock `execution`.
const WORK_ROUNDS: usize = 16;

impl<D: Driver> EmulatedDevice<D> {
    /// Does a part of the work, and queues the worker again if more is left.
    pub(super) fn work_on(device: &Device<Self>, dma: &Dma<'_>) {
        for _ in 0..WORK_ROUNDS {
            let worked = device.with_execution(|execution| {
                D::Model::work(
                    &mut execution.executor,
                    &mut ExecutorLink { device, dma },
                    &device.posted,
                    &mut DmaMemory(dma),
                    &mut execution.backend,
                    &|what, reason, errno| Self::log(device, what, reason, errno),
                )
            });
            let Ok(work) = worked else {
                return;
            };
            // The device may be being closed.
            let _ = device.with_open_model(|live| device.drive_interrupts(&mut live.model));
            if work == Work::Idle {
                device.notify_data();
                return;
            }
            if dma.is_interrupted() {
                break;
            }
        }

        device.notify_data();
        device.kick();
    }
}
