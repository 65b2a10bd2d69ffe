// SPDX-License-Identifier: GPL-2.0

//! Mappings of the data section into the user's memory.

use crate::{
    device::{
        emulated::EmulatedDevice,
        target::MIGRATION, //
    },
    driver::Driver,
};
use ::migration::v1::DATA_OFFSET;
use core::fmt::{
    self,
    Display, //
};
use kernel::{
    current,
    mm::virt::VmaNew,
    prelude::*,
    sync::atomic::Relaxed, //
};
use kernel_ext::refusal::{
    Refuse,
    Subject, //
};
use vfio::{
    region::{
        pci,
        Position, //
    },
    Device, //
};

/// A mapping that was not made.
struct NotMapped {
    index: u32,
    offset: u64,
    len: usize,
}

impl Display for NotMapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, offset, len } = self;

        if (pci::BAR0..=pci::BAR5).contains(index) {
            return write!(
                f,
                "BAR {index} cannot be mapped, as its registers are emulated: a driver in user space \
                 that maps them cannot use the device"
            );
        }
        write!(
            f,
            "{len} bytes at {offset:#x} of region {index} cannot be mapped so: only the data window \
             can, shared and not executable"
        )
    }
}

impl<D: Driver> EmulatedDevice<D> {
    /// Maps the region at `position`, if that lies in the data section.
    pub(super) fn map_window(device: &Device<Self>, vma: &VmaNew, position: Position) -> Result {
        let Position { index, offset } = position;

        offset
            .checked_sub(DATA_OFFSET)
            .filter(|_| index == MIGRATION)
            .and_then(|offset| usize::try_from(offset).ok())
            .ok_or(EINVAL)
            .and_then(|offset| device.open_window().map_err(|_| EINVAL)?.mmap(vma, offset))
            .inspect_err(|error| {
                let refused = NotMapped {
                    index,
                    offset,
                    len: vma.end().saturating_sub(vma.start()),
                };
                // A driver in user space tries each BAR, and some try again and again.
                let process = current!().group_leader().pid();
                let told = (pci::BAR0..=pci::BAR5).contains(&index)
                    && device.last_not_mapped.xchg(process, Relaxed) == process;
                if !told {
                    device.refused(Subject::Mapping, "mmap", &refused, *error);
                }
            })
    }
}
