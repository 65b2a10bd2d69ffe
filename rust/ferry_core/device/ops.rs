// SPDX-License-Identifier: GPL-2.0

//! The VFIO operations of an emulated device: `read()`, `write()`, `mmap()` and ioctls of its users.

use crate::{
    device::{
        emulated::EmulatedDevice,
        prepared::Prepared,
        target::{
            Target,
            MIGRATION, //
        },
    },
    driver::Driver,
    migration::{
        migrating::{
            reset,
            with_migration,
            Change,
            Migrating, //
        },
        port::EnginePort,
        state::Migration,
        v1,
        v2::migration_operations, //
    },
    statistics::Statistics, //
};
use ::migration::v1::DATA_OFFSET;
use core::fmt::Display;
use device_model::DeviceModel;
use kernel::{
    dev_notice, dev_warn, device,
    mm::virt::VmaNew,
    prelude::*,
    sync::Mutex,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};
use kernel_ext::refusal::{
    Refusals,
    Refuse,
    Subject, //
};
use vfio::{
    emulated::{
        self,
        DeviceInfo,
        Dma,
        Emulated,
        Failure, //
    },
    irq,
    log::{
        self,
        DmaLog,
        LogOperations, //
    },
    region::{
        self,
        pci,
        Position,
        RegionInfo, //
    },
    Device,
    Operations, //
};

/// Regions of a device that offers protocol v1.
const NUM_REGIONS: u32 = MIGRATION + 1;

/// Bytes of an access of registers that are copied from or to the user at once.
const BLOCK: usize = 64;

impl<D: Driver> AsRef<Refusals> for EmulatedDevice<D> {
    fn as_ref(&self) -> &Refusals {
        &self.refusals
    }
}

impl<D: Driver> LogOperations for EmulatedDevice<D> {
    type Log = DmaLog;

    fn dirty_log(device: &Device<Self>) -> &DmaLog {
        &device.dma_log
    }
}

impl<D: Driver> EmulatedDevice<D> {
    /// Describes the region `index`.
    fn region_info(&self, index: u32) -> Result<region::Info> {
        let read_write = |size| region::Info {
            size,
            access: region::Access::ReadWrite,
            type_: None,
        };

        match index {
            bar @ pci::BAR0..=pci::BAR5 => Ok(match self.bar_size(bar) {
                0 => region::Info::ABSENT,
                size => read_write(size),
            }),
            pci::CONFIG => Ok(read_write(D::Model::CONFIG_SIZE)),
            MIGRATION => {
                let window_size = self.open_window().map_err(|_| EINVAL)?.size() as u64;
                Ok(region::Info {
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
            index if index < pci::COUNT => Ok(region::Info::ABSENT),
            _ => Err(EINVAL),
        }
    }
}

impl<D: Driver> Migrating for EmulatedDevice<D> {
    type Settings = D::Settings;
    type Port<'a> = EnginePort<'a, D>;

    type Prepared<'a> = Prepared<'a, D>;

    fn before_change(device: &Device<Self>, change: Change) -> Result<Prepared<'_, D>> {
        Prepared::for_change(device, change)
    }

    fn before_use(device: &Device<Self>) -> Result<Prepared<'_, D>> {
        Prepared::for_use(device)
    }

    fn port(device: &Device<Self>) -> EnginePort<'_, D> {
        EnginePort(device)
    }

    fn migration_state(&self) -> &Mutex<Migration<D::Settings>> {
        &self.migration
    }

    fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    fn with_load_error(&self, report: &mut dyn FnMut(Option<&dyn Display>)) {
        let reported = self.with_open_model(|live| {
            report(live.load_error.as_ref().map(|error| error as &dyn Display));
        });

        if reported.is_err() {
            report(None);
        }
    }
}

migration_operations!(<D: Driver> EmulatedDevice<D>);

#[vtable]
impl<D: Driver> Operations for EmulatedDevice<D> {
    type Base = Emulated;
    type OwnerModule = D::OwnerModule;

    const NAME: &'static CStr = D::NAME;
    const LOG: log::Support = log::Support::of::<Self>();

    fn open_device(device: &Device<Self>) -> Result {
        Self::open(device)
    }

    fn close_device(device: &Device<Self>) {
        Self::close(device);
    }

    fn read(
        device: &Device<Self>,
        into: UserPtr,
        count: usize,
        position: Position,
    ) -> Result<usize> {
        let target = device
            .target(position, count)
            .map_err(|outside| device.refused(Subject::Access, "read", &outside, EINVAL))?;

        match &target {
            Target::Data { offset } => device.open_window()?.copy_to_user(*offset, into, count)?,
            Target::Header => v1::read_header(device, into, count, position.offset)?,
            Target::Bar(_) | Target::Config => {
                let mut probe = UserSlice::new(into, count).writer();
                let mut writer = UserSlice::new(into, count).writer();
                let mut block = [0; BLOCK];
                for done in (0..count).step_by(BLOCK) {
                    let bytes = &mut block[..BLOCK.min(count - done)];
                    // A read may change the register: first find out whether the user's buffer takes the value.
                    probe.write_slice(bytes)?;
                    device
                        .read_registers(&target, position.offset + done as u64, bytes)
                        .map_err(|error| device.refused(Subject::Access, "read", &error, EINVAL))?;
                    writer.write_slice(bytes)?;
                }
            }
        }

        Ok(count)
    }

    fn write(
        device: &Device<Self>,
        from: UserPtr,
        count: usize,
        position: Position,
    ) -> Result<usize> {
        let target = device
            .target(position, count)
            .map_err(|outside| device.refused(Subject::Access, "write", &outside, EINVAL))?;

        match &target {
            Target::Data { offset } => {
                device.open_window()?.copy_from_user(*offset, from, count)?
            }
            Target::Header => v1::write_header(device, from, count, position.offset)?,
            Target::Bar(_) | Target::Config => {
                let mut reader = UserSlice::new(from, count).reader();
                let mut block = [0; BLOCK];
                for done in (0..count).step_by(BLOCK) {
                    let bytes = &mut block[..BLOCK.min(count - done)];
                    reader.read_slice(bytes)?;
                    let work = Self::write_registers(
                        device,
                        &target,
                        position.offset + done as u64,
                        bytes,
                    )
                    .map_err(|error| device.refused(Subject::Access, "write", &error, EINVAL))?;
                    if work {
                        device.kick();
                    }
                }
            }
        }

        Ok(count)
    }

    fn mmap(device: &Device<Self>, vma: &VmaNew, position: Position) -> Result {
        Self::map_window(device, vma, position)
    }

    fn get_region_info(device: &Device<Self>, info: RegionInfo<'_>) -> Result {
        let index = info.index();

        info.answer(device.region_info(index).map_err(|error| {
            device.refused(
                Subject::Ioctl,
                "VFIO_DEVICE_GET_REGION_INFO",
                &format_args!("no region {index}"),
                error,
            )
        })?)
    }

    fn request(data: &Self, device: &device::Device, count: u32) {
        /// How many requests have one line of the log.
        const REQUESTS_PER_LINE: u32 = 10;

        let asked = data.interrupts.request_release();
        if asked && count % REQUESTS_PER_LINE == 0 {
            dev_notice!(device, "asking the user to release the device (#{count})\n");
        } else if !asked && count == 0 {
            dev_warn!(
                device,
                "nobody can be asked to release the device, which is waited for until it is closed\n"
            );
        }
    }
}

impl<D: Driver> emulated::Operations for EmulatedDevice<D> {
    fn info(device: &Device<Self>) -> DeviceInfo {
        DeviceInfo {
            num_regions: match device.open_window() {
                Ok(_) => NUM_REGIONS,
                Err(_) => MIGRATION,
            },
            num_irqs: irq::Index::COUNT,
        }
    }

    fn irq_info(device: &Device<Self>, index: u32) -> Result<irq::Info> {
        device.interrupts.info(index)
    }

    fn set_irqs(device: &Device<Self>, set: irq::Set) -> Result {
        if device.interrupts.set(&set)? {
            device.with_open_model(|live| {
                device.tell_messages(&mut live.model);
                device.drive_interrupts(&mut live.model);
            })?;
            // The executor may wait for other writes than before: those that the interrupt line follows.
            device.kick();
        }
        Ok(())
    }

    fn reset(device: &Device<Self>) -> Result {
        // A transition under way may wait for the executor, and that for memory of the user.
        let _paused = device.pause_work();
        device.end_dma();
        device.await_dma();
        with_migration(device, |migration| reset(device, migration))
    }

    fn dma_log(device: &Device<Self>) -> Option<&DmaLog> {
        Some(&device.dma_log)
    }

    const WORKS: bool = D::Model::HAS_WORK;

    fn work(device: &Device<Self>, dma: &Dma<'_>) {
        Self::work_on(device, dma);
    }

    fn dma_failed(device: &Device<Self>, failure: &Failure) {
        device.statistics.dma_failed();
        device.refused(Subject::Dma, "DMA", failure, failure.error);
    }
}
