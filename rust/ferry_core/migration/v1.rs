// SPDX-License-Identifier: GPL-2.0

//! Protocol v1: accesses of the migration region's header, which drive the engine.

use crate::{
    device::emulated::EmulatedDevice,
    driver::Driver,
    migration::window::Region,
    protocol::Protocol, //
};
use kernel::prelude::*;
use vfio::device::Device;

/// An access of the header of the migration region.
pub(crate) enum RegionAccess {
    Read { offset: u64 },
    Write,
}

impl RegionAccess {
    /// Whether it is a part of protocol v1 and nothing else. A look at `device_state` is harmless.
    fn uses_protocol(&self) -> bool {
        match self {
            Self::Read { offset } => *offset >= DEVICE_STATE_END,
            Self::Write => true,
        }
    }
}

/// Where `device_state` ends in the header.
const DEVICE_STATE_END: u64 = 4;

pub(crate) trait RegionUser<D: Driver> {
    fn with_region(
        &self,
        access: RegionAccess,
        f: impl FnOnce(&mut Region) -> Result<(), ::migration::Refusal>,
    ) -> Result;
}

impl<D: Driver> RegionUser<D> for Device<EmulatedDevice<D>> {
    /// Runs `f` with the migration region of the open device, under the state mutex.
    fn with_region(
        &self,
        access: RegionAccess,
        f: impl FnOnce(&mut Region) -> Result<(), ::migration::Refusal>,
    ) -> Result {
        self.with_migration(|migration| {
            if access.uses_protocol() {
                migration
                    .may_use(Protocol::V1)
                    .map_err(|refusal| refusal.report(self))?;
            }
            let region = migration.region.as_mut().ok_or(ENODEV)?;

            let before = region.state();
            let result = f(region);
            if region.state() != before {
                migration.protocol = Some(Protocol::V1);
            }
            result.map_err(|refusal| Error::from_errno(refusal.errno.to_errno()))
        })
    }
}
