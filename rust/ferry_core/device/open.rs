// SPDX-License-Identifier: GPL-2.0

//! First open and last close of a device.

use crate::{
    device::{
        emulated::EmulatedDevice,
        execution::{
            boxed_executor,
            Execution, //
        },
        open_model::OpenModel, //
    },
    driver::{
        Driver,
        Parameters,
        WindowSize, //
    },
    migration::{
        region::{
            DataPages,
            Region, //
        },
        state::{
            Engine,
            StateBuffer, //
        },
    },
    protocol::Protocol, //
};
use device_model::{
    Backend,
    DeviceModel,
    PostedWrites,
    BLOCK_SIZE, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::Relaxed,
        Arc, //
    },
};
use kernel_ext::{
    refusal::{
        Refuse,
        Subject, //
    },
    shared_pages::SharedPages, //
};
use vfio::{
    log::DirtyLog,
    migration::BUFFER_SIZE,
    Device, //
};

/// Bytes of a chunk for each byte of notes in the state buffer, see `Engine`.
const CHUNK_PER_NOTE: usize = BLOCK_SIZE / 16;

/// Parts of an open device, made before the device is open to accesses.
struct Opened<D: Driver> {
    model: OpenModel<D::Model, D::Backend>,
    execution: Execution<D::Model, D::Backend>,
    /// The data section of the migration region, where the device offers protocol v1.
    pages: Option<Arc<SharedPages>>,
    buffer: StateBuffer,
}

impl<D: Driver> Opened<D> {
    fn new(
        device: &Device<EmulatedDevice<D>>,
        settings: &D::Settings,
        window_size: Option<WindowSize>,
    ) -> Result<Self> {
        let (parameters, mut backend) =
            D::open(settings, device.waker(), &|what, reason, errno| {
                EmulatedDevice::log(device, what, reason, errno);
            })?;
        let mut model = power_on(device, &parameters)?;
        let spare = power_on(device, &parameters)?;
        enable_bars(&mut *model)
            .map_err(|error| device.refused(Subject::Access, "open", &error, EINVAL))?;
        let window = window_size.map(WindowSize::bytes);
        let pages = window
            .map(|bytes| {
                Arc::new(SharedPages::new(bytes)?, GFP_KERNEL_ACCOUNT).map_err(Error::from)
            })
            .transpose()?;
        // The engine notes there the blocks of a chunk that the user has not acknowledged, too.
        let has_blocks = backend.blocks().is_some();
        let least = if has_blocks {
            BUFFER_SIZE.max(window.unwrap_or(0)) / CHUNK_PER_NOTE
        } else {
            0
        };
        let spare_executor = boxed_executor(&*spare)?;
        let buffer = KVVec::from_elem(0, model.state_size().max(least), GFP_KERNEL_ACCOUNT)?;

        let write_back = backend
            .write_back()
            .map_err(|errno| Error::from_errno(errno.to_errno()))?;
        Ok(Self {
            execution: Execution::new(boxed_executor(&*model)?, backend, D::poll_time(settings)),
            model: OpenModel::new(model, spare, spare_executor, has_blocks, write_back),
            pages,
            buffer: StateBuffer(buffer),
        })
    }
}

/// Returns a model after power-on. It is on the stack on its way to its box, so nothing else is.
#[inline(never)]
fn power_on<D: Driver>(
    device: &Device<EmulatedDevice<D>>,
    parameters: &Parameters<D>,
) -> Result<KBox<D::Model>> {
    match D::Model::power_on(parameters) {
        Ok(model) => Ok(KBox::new(model, GFP_KERNEL_ACCOUNT)?),
        Err(error) => Err(device.refused(Subject::Backend, "open", &error, EINVAL)),
    }
}

impl<D: Driver> EmulatedDevice<D> {
    /// Makes `opened` the state of the device, and lets accesses reach the model.
    fn take_over(device: &Device<Self>, opened: Opened<D>) {
        let Opened {
            mut model,
            execution,
            pages,
            buffer,
        } = opened;
        let mut migration = device.migration.lock();

        device.interrupts.forget();
        device.drive_interrupts(&mut model.model);
        device.posted.clear();
        device.follow_config(&model);
        *device.execution.lock() = Some(execution);
        *device.live.lock() = Some(model);
        migration.engine = Some(Engine::new(buffer));
        migration.region = pages.clone().map(|pages| Region::new(DataPages(pages)));
        migration.protocol = None;
        migration.session = None;
        migration.sessions = 0;
        device.last_not_mapped.store(0, Relaxed);
        *device.window.lock() = pages;
    }
}

/// Sets Memory and I/O Space Enable in the command register: `vfio-pci` hands a device to its user after
/// `pci_enable_device()`, which has set them.
fn enable_bars<M: DeviceModel>(model: &mut M) -> Result<(), M::AccessError> {
    const COMMAND: u64 = 0x04;
    const IO_AND_MEMORY: u8 = 0x03;

    let mut command = [0];
    model.read_config(COMMAND, &mut command)?;
    model.write_config(COMMAND, &[command[0] | IO_AND_MEMORY])
}

impl<D: Driver> EmulatedDevice<D> {
    /// Opens the device, as [`Operations::open_device`](vfio::Operations::open_device) describes.
    pub(super) fn open(device: &Device<Self>) -> Result {
        let (settings, window_size) = device.with_migration(|migration| {
            migration.take()?;
            // A change of the protocols is refused while the device is in use.
            let offers_v1 = migration.protocols.offer(Protocol::V1);
            let window_size = offers_v1.then_some(migration.window_size);
            Ok::<_, Error>((migration.settings.clone(), window_size))
        })?;
        // No lock is held while a file is opened, for its file system may take long.
        Opened::new(device, &settings, window_size)
            .map(|opened| Self::take_over(device, opened))
            .inspect_err(|_| device.with_migration(|migration| migration.in_use = false))
    }

    /// Closes the device, as [`Operations::close_device`](vfio::Operations::close_device) describes.
    pub(super) fn close(device: &Device<Self>) {
        device.takes_posted.store(0, Relaxed);
        let live = device.live.lock().take();
        // A worker that runs now finds no registers and returns.
        device.stop_work();
        let execution = device.execution.lock().take();
        device.interrupts.disable();
        device.interrupts.forget();
        device.interrupts.release();
        // Fails if the device logs no DMA, which is as good.
        let _ = device.dma_log.stop();

        let pages = device.window.lock().take();
        let region = device.with_migration(|migration| {
            migration.session = None;
            (migration.engine.take(), migration.region.take())
        });
        // No lock is held while memory is freed and a file is flushed, for both may take long.
        drop(live);
        if let Some(mut execution) = execution {
            // It logs the loss of data, which nobody else can be told any more.
            let _ = execution
                .backend
                .release(&|what, reason, errno| Self::log(device, what, reason, errno));
        }
        drop(region);
        drop(pages);
        device.with_migration(|migration| migration.in_use = false);
    }
}
