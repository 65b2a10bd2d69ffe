// SPDX-License-Identifier: GPL-2.0

//! The VFIO operations of a real function.

use crate::{
    migration::{
        migrating::{
            reset,
            with_migration,
            Change,
            Migrating, //
        },
        state::Migration,
        v1,
        v2::migration_operations, //
    },
    statistics::Statistics,
    variant::{
        context::{
            in_access,
            with_context,
            Unusable, //
        },
        device::Variant,
        port::VariantPort,
        Driver, //
    },
};
use ::migration::v1::DATA_OFFSET;
use core::fmt::Display;
use device_model::hardware::{
    FollowDma,
    Hardware, //
};
use kernel::{
    mm::virt::VmaNew,
    prelude::*,
    sync::Mutex,
    uaccess::UserPtr, //
};
use kernel_ext::refusal::{
    Refusals,
    Refuse,
    Subject, //
};
use vfio::{
    log::{
        self,
        DmaLog,
        LogOperations, //
    },
    region::{
        self,
        Info, //
    },
    Device,
    Operations, //
};
use vfio_pci::{
    Function,
    PciCore,
    ResetFlag,
    Traps, //
};

impl<D: Driver> AsRef<Refusals> for Variant<D> {
    fn as_ref(&self) -> &Refusals {
        &self.refusals
    }
}

impl<D: Driver> AsRef<ResetFlag> for Variant<D> {
    fn as_ref(&self) -> &ResetFlag {
        &self.was_reset
    }
}

impl<D: Driver> Migrating for Variant<D> {
    type Settings = ();
    type Port<'a> = VariantPort<'a, D>;

    type Prepared<'a> = ();

    fn before_change(_device: &Device<Self>, _change: Change) -> Result {
        Ok(())
    }

    fn before_use(_device: &Device<Self>) -> Result {
        Ok(())
    }

    fn port(device: &Device<Self>) -> VariantPort<'_, D> {
        VariantPort(device)
    }

    fn migration_state(&self) -> &Mutex<Migration<()>> {
        &self.migration
    }

    fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    fn with_load_error(&self, report: &mut dyn FnMut(Option<&dyn Display>)) {
        let open = self.open.lock();
        let error = open.as_ref().and_then(|open| open.load_error.as_ref());

        report(error.map(|error| error as &dyn Display));
    }

    fn owes_reset(&self) -> bool {
        self.was_reset.is_set()
    }

    fn settle(device: &Device<Self>, migration: &mut Migration<()>) {
        if migration.engine.is_some() && device.was_reset.take() {
            // Fails only if the device is closed.
            let _ = reset(device, migration);
        }
    }
}

migration_operations!(<D: Driver> Variant<D>);

impl<D: Driver> LogOperations for Variant<D> {
    type Log = DmaLog;

    fn dirty_log(device: &Device<Self>) -> &DmaLog {
        &device.log
    }

    fn log_started(device: &Device<Self>) -> Result {
        let mut open = device.open.lock();
        let open = Option::as_mut(&mut open).ok_or(ENODEV)?;

        Self::follow(device, open)?;
        if !open.hardware.is_following() {
            return Err(Self::failed(
                device,
                "dirty log",
                &"the function's DMA is not followed: by the parameter, or as it shares its IOMMU group or has no container",
                EOPNOTSUPP,
            ));
        }
        Ok(())
    }

    fn log_is_read(device: &Device<Self>) -> Result {
        let mut open = device.open.lock();
        let open = Option::as_mut(&mut open).ok_or(ENODEV)?;

        Self::check_followed(device, open)?;
        open.pages.mark(&device.log);
        Ok(())
    }
}

#[vtable]
impl<D: Driver> Operations for Variant<D> {
    type Base = PciCore;
    type OwnerModule = D::OwnerModule;

    const NAME: &'static CStr = D::NAME;
    const LOG: log::Support = log::Support::of::<Self>();

    fn open_device(device: &Device<Self>) -> Result {
        Self::open(device)
    }

    fn close_device(device: &Device<Self>) {
        Self::close(device);
    }

    fn dma_unmap(device: &Device<Self>, iova: u64, length: u64) {
        Self::unmap(device, iova, length);
    }
}

/// The part of the migration region that an access lies in.
enum Part {
    Header,
    Data { offset: usize },
}

impl<D: Driver> Variant<D> {
    fn part(device: &Device<Self>, what: &str, count: usize, offset: u64) -> Result<Part> {
        let outside = || {
            device.refused(
                Subject::Access,
                what,
                &format_args!(
                    "an access of {count} bytes at {offset:#x} does not lie in the migration region"
                ),
                EINVAL,
            )
        };
        let end = offset.checked_add(count as u64).ok_or_else(outside)?;
        let size = device.open_window()?.size() as u64;

        match offset.checked_sub(DATA_OFFSET) {
            None if end <= DATA_OFFSET => Ok(Part::Header),
            Some(offset) if end <= DATA_OFFSET.saturating_add(size) => Ok(Part::Data {
                offset: usize::try_from(offset).map_err(|_| EINVAL)?,
            }),
            _ => Err(outside()),
        }
    }

    /// Runs `f`, an access, on the hardware of the open function.
    fn on_hardware<R>(
        device: &Device<Self>,
        f: impl FnOnce(&mut D::Hardware, &mut device_model::hardware::Context<'_>) -> R,
    ) -> Result<R> {
        let mut open = device.open.lock();
        let open = Option::as_mut(&mut open).ok_or(ENODEV)?;

        in_access(device, open, |open, context| f(&mut open.hardware, context))
            .map_err(Unusable::error)
    }
}

impl<D: Driver> vfio_pci::Operations for Variant<D> {
    fn traps(device: &Device<Self>) -> Traps {
        device.open_traps()
    }

    fn read_trapped(device: &Device<Self>, bar: u32, offset: u64, bytes: &mut [u8]) -> Result {
        Self::on_hardware(device, |hardware, context| {
            hardware.read(context, bar, offset, bytes)
        })?
        .map_err(|_| EINVAL)
    }

    fn write_trapped(device: &Device<Self>, bar: u32, offset: u64, bytes: &[u8]) -> Result {
        Self::on_hardware(device, |hardware, context| {
            hardware.write(context, bar, offset, bytes)
        })?
        .map_err(|_| EINVAL)
    }

    fn own_region(device: &Device<Self>) -> Result<Info> {
        let window_size = device.open_window().map_err(|_| EINVAL)?.size() as u64;

        Ok(Info {
            size: DATA_OFFSET + window_size,
            access: region::Access::ReadWriteMmap {
                offset: DATA_OFFSET,
                size: window_size,
            },
            type_: Some(region::Type {
                type_: region::TYPE_MIGRATION,
                subtype: region::SUBTYPE_MIGRATION,
            }),
        })
    }

    fn read_own(device: &Device<Self>, into: UserPtr, count: usize, offset: u64) -> Result {
        match Self::part(device, "read", count, offset)? {
            Part::Data { offset } => device.open_window()?.copy_to_user(offset, into, count),
            Part::Header => v1::read_header(device, into, count, offset),
        }
    }

    fn write_own(device: &Device<Self>, from: UserPtr, count: usize, offset: u64) -> Result {
        match Self::part(device, "write", count, offset)? {
            Part::Data { offset } => device.open_window()?.copy_from_user(offset, from, count),
            Part::Header => v1::write_header(device, from, count, offset),
        }
    }

    fn map_own(device: &Device<Self>, vma: &VmaNew, offset: u64) -> Result {
        let offset = offset.checked_sub(DATA_OFFSET).ok_or(EINVAL)?;

        device
            .open_window()
            .map_err(|_| EINVAL)?
            .mmap(vma, usize::try_from(offset).map_err(|_| EINVAL)?)
    }

    fn was_reset(device: &Device<Self>) {
        with_migration(device, |_| ());
    }

    fn command_written(device: &Device<Self>) {
        let mut open = device.open.lock();
        let Some(open) = Option::as_mut(&mut open) else {
            return;
        };
        let Ok(function) = PciCore::function(device) else {
            return;
        };
        // Read with the lock held: of two writes at once, the later read has the result of both.
        open.bus_master = function.is_bus_master();
        if !open.bus_master || !open.running || open.p2p || open.reset_failed {
            return;
        }

        let resumed = with_context(device, open, |open, context| open.hardware.resume(context));
        if let Ok(Err(failure)) = resumed {
            Self::failed(device, "bus mastering", failure.reason(), EIO);
        }
    }

    fn disabling(device: &Device<Self>, function: &Function<'_, Self>) {
        Self::reset_late(device, function);
    }
}
