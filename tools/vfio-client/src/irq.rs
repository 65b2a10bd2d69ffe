// SPDX-License-Identifier: GPL-2.0

//! Interrupts of a device.

use core::mem::offset_of;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;

use rustix::io::Errno;
use vfio_bindings::bindings::vfio;

use crate::capability::u32_at;
use crate::error::Context as _;
use crate::sys::Request;
use crate::Device;
use crate::Error;
use crate::EventFd;
use crate::Result;

/// An interrupt index of a PCI device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Index {
    /// The legacy, level-triggered interrupt.
    Intx = vfio::VFIO_PCI_INTX_IRQ_INDEX,
    /// Message-signalled interrupts.
    Msi = vfio::VFIO_PCI_MSI_IRQ_INDEX,
    /// Extended message-signalled interrupts.
    Msix = vfio::VFIO_PCI_MSIX_IRQ_INDEX,
    /// Error notification.
    Error = vfio::VFIO_PCI_ERR_IRQ_INDEX,
    /// The kernel's request to give the device back.
    Request = vfio::VFIO_PCI_REQ_IRQ_INDEX,
}

/// `VFIO_IRQ_SET_ACTION_*`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Action {
    /// Stop delivery.
    Mask = vfio::VFIO_IRQ_SET_ACTION_MASK,
    /// Resume delivery.
    Unmask = vfio::VFIO_IRQ_SET_ACTION_UNMASK,
    /// Trigger the interrupt; with an eventfd: signal it there from now on.
    Trigger = vfio::VFIO_IRQ_SET_ACTION_TRIGGER,
}

/// `VFIO_IRQ_SET_DATA_*`, the data of an action.
#[derive(Clone, Copy, Debug)]
pub enum Data<'a> {
    /// No data: the action is for all `count` interrupts.
    None,
    /// A byte for each interrupt; the action is for those that are not 0.
    Bool(&'a [u8]),
    /// An eventfd for each interrupt; `None` removes the present one.
    EventFd(&'a [Option<&'a EventFd>]),
}

/// The answer to `VFIO_DEVICE_GET_IRQ_INFO`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IrqInfo {
    /// `VFIO_IRQ_INFO_*`.
    pub flags: u32,
    /// The number of interrupts of the index.
    pub count: u32,
}

/// Builds the argument of `VFIO_DEVICE_SET_IRQS` from any numbers.
pub fn set_argument(
    argsz: u32,
    flags: u32,
    index: u32,
    start: u32,
    count: u32,
    data: &[u8],
) -> Vec<u8> {
    let mut argument = Vec::with_capacity(size_of::<vfio::vfio_irq_set>() + data.len());
    for word in [argsz, flags, index, start, count] {
        argument.extend(word.to_ne_bytes());
    }
    argument.extend(data);
    argument
}

impl Device {
    /// Does `VFIO_DEVICE_GET_IRQ_INFO`.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn irq_info(&self, index: u32) -> Result<IrqInfo> {
        let what = || format!("{}: VFIO_DEVICE_GET_IRQ_INFO of {index}", self.name());
        let mut info = [0; size_of::<vfio::vfio_irq_info>()];
        let argsz = info.len() as u32;
        info[..4].copy_from_slice(&argsz.to_ne_bytes());
        let field = offset_of!(vfio::vfio_irq_info, index);
        info[field..field + 4].copy_from_slice(&index.to_ne_bytes());
        self.ioctl(Request::DEVICE_GET_IRQ_INFO, &mut info)
            .what(what)?;
        let field = |offset| {
            u32_at(&info, offset).ok_or_else(|| Error::malformed(what(), "answer too short"))
        };
        Ok(IrqInfo {
            flags: field(offset_of!(vfio::vfio_irq_info, flags))?,
            count: field(offset_of!(vfio::vfio_irq_info, count))?,
        })
    }

    /// Does `VFIO_DEVICE_SET_IRQS` on interrupts `start..start + count` of an index.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn set_irqs(
        &self,
        index: Index,
        action: Action,
        start: u32,
        count: u32,
        data: Data<'_>,
    ) -> Result<()> {
        let (kind, bytes) = match data {
            Data::None => (vfio::VFIO_IRQ_SET_DATA_NONE, Vec::new()),
            Data::Bool(values) => (vfio::VFIO_IRQ_SET_DATA_BOOL, values.to_vec()),
            Data::EventFd(events) => {
                let fd = |event: &Option<&EventFd>| match event {
                    Some(event) => event.as_fd().as_raw_fd().to_ne_bytes(),
                    None => (-1i32).to_ne_bytes(),
                };
                let bytes = events.iter().flat_map(fd).collect();
                (vfio::VFIO_IRQ_SET_DATA_EVENTFD, bytes)
            }
        };
        let argsz = size_of::<vfio::vfio_irq_set>() + bytes.len();
        let flags = kind | action as u32;
        let mut argument = set_argument(argsz as u32, flags, index as u32, start, count, &bytes);
        self.set_irqs_raw(&mut argument).what(|| {
            format!(
                "{}: VFIO_DEVICE_SET_IRQS, {action:?} {index:?} {start}..+{count} with {data:?}",
                self.name()
            )
        })
    }

    /// Does `VFIO_DEVICE_SET_IRQS` with any bytes.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn set_irqs_raw(&self, argument: &mut [u8]) -> core::result::Result<(), Errno> {
        self.ioctl(Request::DEVICE_SET_IRQS, argument).map(drop)
    }

    /// Has the first interrupt of an index signalled on an eventfd. `None` removes the present eventfd.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn set_trigger(&self, index: Index, event: Option<&EventFd>) -> Result<()> {
        self.set_irqs(index, Action::Trigger, 0, 1, Data::EventFd(&[event]))
    }

    /// Disables an index, as a VMM does for a guest that disables its interrupts.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn disable_irqs(&self, index: Index) -> Result<()> {
        self.set_irqs(index, Action::Trigger, 0, 0, Data::None)
    }

    /// Masks the first interrupt of an index.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn mask(&self, index: Index) -> Result<()> {
        self.set_irqs(index, Action::Mask, 0, 1, Data::None)
    }

    /// Unmasks the first interrupt of an index.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn unmask(&self, index: Index) -> Result<()> {
        self.set_irqs(index, Action::Unmask, 0, 1, Data::None)
    }
}
