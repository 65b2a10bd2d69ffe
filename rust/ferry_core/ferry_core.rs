// SPDX-License-Identifier: GPL-2.0

//! Binds a device model to VFIO and to the migration engine.
//!
//! A vendor driver has a [`DeviceModel`](device_model::DeviceModel), implements
//! [`Driver`](driver::Driver), and keeps a [`Registration`](registration::Registration). The rest is
//! here: regions, interrupts, reset, both migration protocols, sysfs attributes, tracepoints and log lines.
//!
//! # Lock order
//!
//! 1. `EmulatedDevice::migration`: the state mutex. Transitions and the header of the migration region.
//! 2. `EmulatedDevice::execution`: the executor and the backend. The worker holds it while it waits for the user's
//!    memory or for the backend.
//! 3. `EmulatedDevice::live`: the registers. The fast path takes only this one, a posted write not even that. Nobody
//!    waits with it held.
//! 4. The interrupts' own locks, see `vfio::irq`.
//!
//! `EmulatedDevice::window` is a leaf, and so is `EmulatedDevice::dma_log`. The user's buffers are accessed and
//! VMAs are made with none of these locks held, so that a page fault that hangs delays no other access and no
//! reset. DMA is different: the worker waits for the page with `EmulatedDevice::execution` held. A transition that
//! stops the device waits for the worker before it takes the state mutex, and a reset ends the wait, see
//! `vfio::emulated::Dma`. So do uses of the engine that wait for the backend; they take turns, by a mutex that comes
//! before the state mutex, see `device::prepared`. The lock under which the worker's thread is made and ended, which
//! waits for the worker, comes before all of these and is taken with none of them held, see
//! `rust/helpers/work.c`. The locks of protocol v2's data files come before all of these, see `vfio::migration`.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

/// What `pr_err!()` and its like begin with: the name of the module that this crate is in.
const __LOG_PREFIX: &[u8] = b"ferry\0";

pub mod attributes;
mod device;
pub mod dma_memory;
pub mod driver;
mod migration;
mod protocol;
pub mod registration;
pub mod settings;
mod statistics;
pub mod variant;

use kernel::prelude::*;
use vfio_uapi::Errno;

/// Returns `error` as pure crates have it. The kernel's own codes for a wait that was interrupted are `EINTR`.
pub fn errno(error: Error) -> Errno {
    let own = [
        ERESTARTSYS,
        ERESTARTNOINTR,
        ERESTARTNOHAND,
        ERESTART_RESTARTBLOCK,
    ];
    if own.contains(&error) {
        return Errno::EINTR;
    }
    Errno::from_errno(error.to_errno())
}
