// SPDX-License-Identifier: GPL-2.0

//! Protocol v1: the migration region of a device, whose header drives the engine.

use crate::{
    migration::{
        migrating::{
            with_migration,
            Change,
            Migrating, //
        },
        region::Region,
        report::error,
        state::Engine, //
    },
    protocol::Protocol, //
};
use ::migration::Refusal;
use core::fmt::{
    self,
    Display, //
};
use kernel::{
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};
use kernel_ext::refusal::{
    Refuse,
    Subject, //
};
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

/// Returns what a write of `bytes` to the header at `offset` asks of the device, if it changes the state.
fn change(offset: u64, bytes: &[u8]) -> Option<Change> {
    if offset != Field::DeviceState.offset() {
        return None;
    }
    let state = u32::from_ne_bytes(bytes.try_into().ok()?);

    Some(if state & RUNNING != 0 {
        Change::Run
    } else {
        Change::Stop
    })
}

/// An access of the header that is wider than any field.
struct Wide {
    count: usize,
}

impl Display for Wide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "an access of {} bytes is wider than any field of the header",
            self.count
        )
    }
}

/// Returns the part of `field` that an access of `count` bytes of the header takes.
///
/// # Errors
///
/// `EINVAL` if no field is as wide.
fn part<'a, T: Migrating>(
    device: &Device<T>,
    field: &'a mut [u8; Field::WIDTH_MAX],
    count: usize,
) -> Result<&'a mut [u8]> {
    field
        .get_mut(..count)
        .ok_or_else(|| device.refused(Subject::Access, "migration", &Wide { count }, EINVAL))
}

/// Serves a read of `count` bytes of the header at `offset`.
///
/// # Errors
///
/// What the user's `read()` gets.
pub(crate) fn read_header<T: Migrating>(
    device: &Device<T>,
    into: UserPtr,
    count: usize,
    offset: u64,
) -> Result {
    // An access of no bytes succeeds in every region.
    if count == 0 {
        return Ok(());
    }
    let mut field = [0; Field::WIDTH_MAX];
    let bytes = part(device, &mut field, count)?;
    // A read of the header has side effects. Writing zeros first finds out whether the user's buffer takes the value,
    // so that no side effect happens without it.
    UserSlice::new(into, count).writer().write_slice(bytes)?;
    let uses_protocol = uses_protocol(offset);
    {
        let _prepared = uses_protocol.then(|| T::before_use(device)).transpose()?;
        with_region(device, uses_protocol, |region, engine, port| {
            region.read_header(engine, port, offset, bytes)
        })?;
    }
    UserSlice::new(into, count).writer().write_slice(bytes)
}

/// Serves a write of `count` bytes to the header at `offset`.
///
/// # Errors
///
/// What the user's `write()` gets.
pub(crate) fn write_header<T: Migrating>(
    device: &Device<T>,
    from: UserPtr,
    count: usize,
    offset: u64,
) -> Result {
    if count == 0 {
        return Ok(());
    }
    let mut field = [0; Field::WIDTH_MAX];
    let bytes = part(device, &mut field, count)?;
    UserSlice::new(from, count).reader().read_slice(bytes)?;
    let _prepared = match change(offset, bytes) {
        Some(change) => T::before_change(device, change)?,
        None => T::before_use(device)?,
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
