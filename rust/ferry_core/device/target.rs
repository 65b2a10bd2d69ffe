// SPDX-License-Identifier: GPL-2.0

//! The target of an access of the device's file: a BAR, configuration space, or the header or data section of
//! the migration region.

use crate::{
    device::emulated::EmulatedDevice,
    driver::Driver, //
};
use ::migration::v1::DATA_OFFSET;
use core::fmt::{
    self,
    Display, //
};
use device_model::DeviceModel;
use kernel::prelude::*;
use vfio::region::{
    pci,
    Position, //
};

/// Index of the migration region: the first after the regions of every PCI device.
pub(super) const MIGRATION: u32 = pci::COUNT;

/// The target of an access.
pub(super) enum Target {
    Bar(u32),
    Config,
    Header,
    Data { offset: usize },
}

/// An access that lies in no region.
pub(super) struct OutOfRegion {
    pub(super) position: Position,
    pub(super) count: usize,
}

impl Display for OutOfRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "an access of {} bytes at {:#x} does not lie in region {}",
            self.count, self.position.offset, self.position.index
        )
    }
}

impl<D: Driver> EmulatedDevice<D> {
    /// Finds the target of an access of `count` bytes at `position`.
    pub(super) fn target(&self, position: Position, count: usize) -> Result<Target, OutOfRegion> {
        let outside = OutOfRegion { position, count };
        let Some(end) = position.offset.checked_add(count as u64) else {
            return Err(outside);
        };

        let (size, target) = match position.index {
            bar @ pci::BAR0..=pci::BAR5 => (self.bar_size(bar), Target::Bar(bar)),
            pci::CONFIG => (D::Model::CONFIG_SIZE, Target::Config),
            MIGRATION => {
                // A device that does not offer protocol v1 has no migration region.
                let Some(size) = self.window.lock().as_ref().map(|window| window.size()) else {
                    return Err(outside);
                };
                match position.offset.checked_sub(DATA_OFFSET) {
                    // The engine checks accesses of the header, which takes the first page.
                    None => (DATA_OFFSET, Target::Header),
                    Some(offset) => {
                        let Ok(offset) = usize::try_from(offset) else {
                            return Err(outside);
                        };
                        (DATA_OFFSET + size as u64, Target::Data { offset })
                    }
                }
            }
            _ => return Err(outside),
        };

        if end > size {
            return Err(outside);
        }
        Ok(target)
    }
}
