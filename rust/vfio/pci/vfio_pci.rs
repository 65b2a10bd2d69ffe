// SPDX-License-Identifier: GPL-2.0

//! Variant drivers of vfio-pci: VFIO devices that embed a `struct vfio_pci_core_device`.
//!
//! The second [`Base`](vfio::Base) beside that of emulated devices. What a driver does not override is done by
//! `vfio_pci_core_*()`. A crate and a module of its own, `ferry_pci.ko`, as vfio-pci-core.ko need not be
//! loaded for mediated devices.
//!
//! # Resets
//!
//! The PCI core reports every reset of the function to `reset_done`: that of `VFIO_DEVICE_RESET`, a hot reset through
//! another device of the set, a function level reset by configuration space, and the one at the first open. It does so
//! with `memory_lock` held, under which no lock of a driver may be taken. So the callback sets the driver's
//! [`ResetFlag`], and the driver takes it with [`ResetFlag::take`] under its own lock before each use of the device.
//! [`Operations::was_reset`] is called at the end of the system call that may have reset the function.
//!
//! # Lock order
//!
//! The driver's locks, then `vfio_pci_core_device::memory_lock`, which is held for a single access of a register. The lock
//! of `Uses` is a leaf.
//! The core's fault handler takes `memory_lock` under the mmap lock.
//!
//! C header: [`include/linux/vfio_pci_core.h`](srctree/include/linux/vfio_pci_core.h)

#![warn(missing_docs)]
#![warn(clippy::undocumented_unsafe_blocks)]

/// What `pr_err!()` and its like begin with: the name of the module that this crate is in.
const __LOG_PREFIX: &[u8] = b"ferry_pci\0";

mod base;
pub mod config_layout;
mod driver;
mod function;
mod id;
mod operations;
mod reset;
mod trampolines;
mod traps;
mod unmaps;
mod uses;

pub use self::{
    base::PciCore,
    driver::{
        Driver,
        Registration, //
    },
    function::{
        Awake,
        Function,
        Identity, //
    },
    id::Id,
    operations::Operations,
    reset::ResetFlag,
    traps::{
        Trap,
        Traps, //
    },
    unmaps::Unmaps,
};
