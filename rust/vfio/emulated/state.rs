// SPDX-License-Identifier: GPL-2.0

//! The Rust state of an emulated device.

use super::{
    gate::Gate,
    work::Worker, //
};
use kernel::prelude::*;

/// The base of an emulated device, which embeds nothing but a `struct vfio_device`. The driver itself does the
/// DMA, in a thread of the user's process, through the user's I/O address space.
///
/// # Invariants
///
/// - `worker` has a thread only while the device is open.
/// - `gate` is open at most while the device is open.
#[pin_data]
pub struct Emulated {
    #[pin]
    pub(super) worker: Worker,
    #[pin]
    pub(super) gate: Gate,
}
