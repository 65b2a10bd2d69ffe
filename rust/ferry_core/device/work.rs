// SPDX-License-Identifier: GPL-2.0

//! The model's work, which a thread of the user's process does.

use crate::{
    device::emulated::EmulatedDevice,
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

/// Parts of the work that a worker does before it queues itself again, each under the lock `live`.
const WORK_ROUNDS: usize = 16;

impl<D: Driver> EmulatedDevice<D> {
    /// Does a part of the work, and queues the worker again if more is left.
    pub(super) fn work_on(device: &Device<Self>, dma: &Dma<'_>) {
        for _ in 0..WORK_ROUNDS {
            let mut live = device.live.lock();
            let Some(live) = Option::as_mut(&mut live).filter(|live| live.running && !live.p2p)
            else {
                return;
            };
            let work = live.model.work(
                &device.posted,
                &mut DmaMemory(dma),
                &mut live.backend,
                &|what, reason, errno| Self::log(device, what, reason, errno),
            );
            device.drive_interrupts(&mut live.model);
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
