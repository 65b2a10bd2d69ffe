// SPDX-License-Identifier: GPL-2.0

//! Protocol v1: the migration region of a device, whose header drives the engine.

use crate::{
    migration::{
        migrating::{
            with_migration,
            Migrating, //
        },
        region::Region,
        report::error,
        state::Engine, //
    },
    protocol::Protocol, //
};
use ::migration::Refusal;
use kernel::prelude::*;
use vfio::Device;
use vfio_uapi::v1::{
    Field,
    RUNNING, //
};

/// Returns whether a read of the header at `offset` uses protocol v1. A read of `device_state` does not: it
/// shows the state whichever protocol is in use.
fn uses_protocol(offset: u64) -> bool {
    offset >= Field::DeviceState.offset() + Field::DeviceState.width() as u64
}

/// Returns whether a write of `bytes` to the header at `offset` asks the device to stop.
fn stops(offset: u64, bytes: &[u8]) -> bool {
    offset == Field::DeviceState.offset()
        && bytes
            .try_into()
            .is_ok_and(|bytes| u32::from_ne_bytes(bytes) & RUNNING == 0)
}

/// Serves a read of `bytes.len()` bytes of the header at `offset`.
///
/// # Errors
///
/// What the user's `read()` gets.
pub(crate) fn read_header<T: Migrating>(
    device: &Device<T>,
    offset: u64,
    bytes: &mut [u8],
) -> Result {
    let uses_protocol = uses_protocol(offset);
    let _paused = if uses_protocol {
        T::before_use(device)?
    } else {
        None
    };
    with_region(device, uses_protocol, |region, engine, port| {
        region.read_header(engine, port, offset, bytes)
    })
}

/// Serves a write of `bytes` to the header at `offset`.
///
/// # Errors
///
/// What the user's `write()` gets.
pub(crate) fn write_header<T: Migrating>(device: &Device<T>, offset: u64, bytes: &[u8]) -> Result {
    let _paused = if stops(offset, bytes) {
        Some(T::before_stop(device)?)
    } else {
        T::before_use(device)?
    };
    with_region(device, true, |region, engine, port| {
        region.write_header(engine, port, offset, bytes)
    })
}

/// Runs `f` with the migration region of the open device, under the state mutex.
fn with_region<T: Migrating>(
    device: &Device<T>,
    uses_protocol: bool,
    f: impl FnOnce(&mut Region, &mut Engine, &mut T::Port<'_>) -> Result<(), Refusal>,
) -> Result {
    with_migration(device, |migration| {
        if uses_protocol {
            migration
                .may_use(Protocol::V1)
                .map_err(|refusal| refusal.report(device))?;
        }
        let region = migration.region.as_mut().ok_or(ENODEV)?;
        let engine = migration.engine.as_mut().ok_or(ENODEV)?;

        let before = engine.state();
        let result = f(region, engine, &mut T::port(device));
        if engine.state() != before {
            migration.protocol = Some(Protocol::V1);
        }
        result.map_err(|refusal| error(&refusal))
    })
}
