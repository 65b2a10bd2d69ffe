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
use core::hint::spin_loop;
use device_model::{
    Work,
    Worker, //
};
use kernel::time::{
    Instant,
    Monotonic, //
};
use vfio::{
    emulated::Dma,
    Device, //
};

/// Parts of the work that a worker does before it queues itself again, each under the lock `execution`.
const WORK_ROUNDS: usize = 16;

impl<D: Driver> EmulatedDevice<D> {
    /// Does a part of the work, and queues the worker again if more is left. If none is, looks for more for a while.
    pub(super) fn work_on(device: &Device<Self>, dma: &Dma<'_>) {
        let mut rounds = 0;
        let mut idle_since: Option<Instant<Monotonic>> = None;
        while rounds < WORK_ROUNDS {
            // The worker may be called for nothing but to end what is under way.
            if dma.is_interrupted() {
                break;
            }
            let worked = device.with_execution(|execution| {
                let poll_time = execution.poll_time;
                let may_poll = !poll_time.is_zero()
                    && idle_since.is_none_or(|since| since.elapsed() < poll_time);
                D::Model::work(
                    &mut execution.executor,
                    &mut ExecutorLink {
                        device,
                        dma,
                        may_poll,
                    },
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
            match work {
                Work::Idle => {
                    device.notify_data();
                    Self::end_work(device, dma);
                    return;
                }
                Work::More => {
                    idle_since = None;
                    rounds += 1;
                }
                Work::Poll => {
                    if idle_since.is_none() {
                        idle_since = Some(Instant::now());
                        device.notify_data();
                    }
                    spin_loop();
                }
            }
        }

        device.notify_data();
        device.kick();
        Self::end_work(device, dma);
    }

    /// Ends what is under way, if the device stops or the thread pauses.
    fn end_work(device: &Device<Self>, dma: &Dma<'_>) {
        let is_under_way = || {
            device.with_execution(|execution| {
                <D::Model as Worker<DmaMemory<'_>, D::Backend>>::is_under_way(&execution.executor)
            })
        };
        // A closed device has nothing under way that concerns its user.
        let under_way = is_under_way().unwrap_or(false);
        dma.set_under_way(under_way);
        if !under_way || !dma.is_interrupted() {
            return;
        }

        let drained = device.with_execution(|execution| {
            D::Model::drain(
                &mut execution.executor,
                &mut ExecutorLink {
                    device,
                    dma,
                    may_poll: false,
                },
                &mut DmaMemory(dma),
                &mut execution.backend,
            )
        });
        // The device may be being closed.
        let _ = device.with_open_model(|live| device.drive_interrupts(&mut live.model));
        dma.set_under_way(!drained.unwrap_or(true));
    }
}
