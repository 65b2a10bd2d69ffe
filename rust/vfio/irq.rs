// SPDX-License-Identifier: GPL-2.0

//! Interrupts as a user sees them: indexes, the vectors of each, and what `VFIO_DEVICE_SET_IRQS` asks for.
//!
//! Mirrors `struct vfio_irq_info` and `struct vfio_irq_set` of
//! [`include/uapi/linux/vfio.h`](srctree/include/uapi/linux/vfio.h).

pub mod routing;

pub use self::routing::Index;

use kernel::prelude::*;

impl Index {
    /// How many indexes a PCI device has. Those that are no [`Index`] have no interrupt that a device raises.
    pub const COUNT: u32 = vfio_bindings::VFIO_PCI_NUM_IRQS;

    /// The index of the number `VFIO_PCI_*_IRQ_INDEX`.
    pub(crate) fn new(index: u32) -> Option<Self> {
        match index {
            vfio_bindings::VFIO_PCI_INTX_IRQ_INDEX => Some(Self::Intx),
            vfio_bindings::VFIO_PCI_MSI_IRQ_INDEX => Some(Self::Msi),
            vfio_bindings::VFIO_PCI_MSIX_IRQ_INDEX => Some(Self::Msix),
            _ => None,
        }
    }
}

/// The answer to `VFIO_DEVICE_GET_IRQ_INFO` for an index.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Info {
    /// `VFIO_IRQ_INFO_*`
    pub flags: u32,
    /// Number of interrupts of the index.
    pub count: u32,
}

/// `VFIO_IRQ_SET_ACTION_*`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Stop delivery, keep the level.
    Mask,
    /// Deliver again, at once if the level is still high.
    Unmask,
    /// Signal, or set the eventfd to signal.
    Trigger,
}

/// `VFIO_IRQ_SET_DATA_*`, with one element for each interrupt.
pub enum Data {
    /// The action is done for every interrupt. [`Action::Trigger`] of no interrupt disables the index.
    None,
    /// The action is done where an element is set.
    Bool(KVec<bool>),
    /// The eventfd whose signal has the action done, or the eventfd that is signalled; -1 takes the eventfd
    /// away.
    EventFd(KVec<i32>),
}

/// A `VFIO_DEVICE_SET_IRQS` whose numbers have been checked against [`Info::count`].
pub struct Set {
    /// `VFIO_PCI_*_IRQ_INDEX`
    pub index: u32,
    /// First interrupt.
    pub start: u32,
    /// Number of interrupts.
    pub count: u32,
    /// The action.
    pub action: Action,
    /// The data of the action.
    pub data: Data,
}
