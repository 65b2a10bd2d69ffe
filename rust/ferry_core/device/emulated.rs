// SPDX-License-Identifier: GPL-2.0

//! An emulated device: the private data of an mdev and of its VFIO device.

use crate::{
    device::{
        execution::Execution,
        open_model::OpenModel, //
    },
    driver::{
        Driver,
        WindowSize, //
    },
    migration::state::{
        Engine,
        Migration, //
    },
    statistics::Statistics, //
};
use core::fmt::Display;
use device_model::{
    DeviceModel,
    PostedWrites,
    Vectors, //
};
use kernel::{
    debugfs,
    prelude::*,
    str::CString,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex,
        SpinLock, //
    },
};
use kernel_ext::{
    new_lock,
    refusal::{
        Refusals,
        Refuse,
        Subject, //
    },
    shared_pages::SharedPages, //
};
use vfio::{
    emulated::{
        Interrupts,
        VectorCounts, //
    },
    irq,
    log::DmaLog,
    region::pci,
    Device, //
};
use vfio_uapi::{
    v1::State,
    Errno, //
};

const BARS: usize = (pci::BAR5 - pci::BAR0 + 1) as usize;

/// The private data of a mediated device. For its lock order see the crate's documentation.
#[pin_data]
pub struct EmulatedDevice<D: Driver> {
    #[pin]
    pub(super) migration: Mutex<Migration<D::Settings>>,
    /// The executor and the backend, present while the device is open. The worker holds the lock while it waits for
    /// memory of the user and for the backend.
    #[pin]
    pub(super) execution: Mutex<Option<Execution<D::Model, D::Backend>>>,
    /// The tracking of the blocks has ended, which whoever takes the lock `execution` next has to do.
    pub(super) owes_untrack: Atomic<bool>,
    /// The registers, present while the device is open.
    #[pin]
    pub(super) live: Mutex<Option<OpenModel<D::Model, D::Backend>>>,
    /// Posted writes, which are noted without the lock `live`.
    pub(crate) posted: <D::Model as DeviceModel>::Posted,
    /// The BARs that take posted writes, one bit for each: a BAR does while the device runs and decodes it.
    /// Read without the lock `live`; [`Self::follow_config`] updates it.
    pub(crate) takes_posted: Atomic<u32>,
    #[pin]
    pub(crate) interrupts: Interrupts,
    /// The data window of the open device, where it offers protocol v1.
    #[pin]
    pub(super) window: SpinLock<Option<Arc<SharedPages>>>,
    #[pin]
    pub(super) refusals: Refusals,
    /// Process that was last refused a mapping of a BAR since the open, by its identifier; 0 if none was.
    pub(super) last_not_mapped: Atomic<i32>,
    #[pin]
    pub(super) dma_log: DmaLog,
    #[pin]
    pub(crate) statistics: debugfs::File<Statistics>,
    /// Sizes of the BARs in bytes, which never change; 0 for a BAR that the device lacks.
    pub(super) bar_sizes: [u64; BARS],
}

impl<D: Driver> EmulatedDevice<D> {
    pub(crate) fn new(
        name: &CStr,
        settings: Result<D::Settings>,
        bar_size: impl Fn(u32) -> u64,
        window_size: Result<WindowSize>,
    ) -> impl PinInit<Self, Error> {
        let mut bar_sizes = [0; BARS];
        for (bar, size) in (pci::BAR0..=pci::BAR5).zip(bar_sizes.iter_mut()) {
            *size = bar_size(bar);
        }

        let directory = CString::try_from_fmt(fmt!("{}-{}", D::NAME, name));
        try_pin_init!(Self {
            bar_sizes,
            migration <- new_lock!(
                Mutex,
                c"EmulatedDevice::migration",
                Migration::new(settings?, window_size?),
            ),
            execution <- new_lock!(Mutex, c"EmulatedDevice::execution", None),
            owes_untrack: Atomic::new(false),
            live <- new_lock!(Mutex, c"EmulatedDevice::live", None),
            posted: Default::default(),
            takes_posted: Atomic::new(0),
            interrupts <- Interrupts::new(vector_counts(D::Model::VECTORS)),
            window <- new_lock!(SpinLock, c"EmulatedDevice::window", None),
            refusals <- Refusals::new(),
            last_not_mapped: Atomic::new(0),
            dma_log <- DmaLog::new(),
            statistics <- debugfs::Dir::new(&directory?)
                .read_only_file(c"statistics", Statistics::new()),
        })
    }

    /// Returns the migration state, or [`None`] while the device is closed.
    pub(crate) fn state(&self) -> Option<State> {
        self.migration.lock().engine.as_ref().map(Engine::state)
    }

    /// Runs `f` with the state mutex held.
    pub(crate) fn with_migration<R>(&self, f: impl FnOnce(&mut Migration<D::Settings>) -> R) -> R {
        f(&mut self.migration.lock())
    }

    /// Runs `f` on the registers of the open device, with their lock held.
    ///
    /// # Errors
    ///
    /// `ENODEV` if it is not open.
    pub(crate) fn with_open_model<R>(
        &self,
        f: impl FnOnce(&mut OpenModel<D::Model, D::Backend>) -> R,
    ) -> Result<R> {
        Option::as_mut(&mut self.live.lock()).map(f).ok_or(ENODEV)
    }

    /// Updates the copies of configuration space that are read without the lock `live`: the BARs that take
    /// posted writes, and whether messages may be sent. The caller holds that lock.
    pub(crate) fn follow_config(&self, live: &OpenModel<D::Model, D::Backend>) {
        let answering = (pci::BAR0..=pci::BAR5)
            .filter(|bar| live.running && live.model.decodes(*bar))
            .fold(0, |set, bar| set | 1 << bar);

        self.takes_posted.store(answering, Relaxed);
        self.interrupts.set_asleep(!live.model.may_send_messages());
    }

    /// Sets the interrupt line to the level that `model` asserts, and sends the messages that it has raised.
    pub(crate) fn drive_interrupts(&self, model: &mut D::Model) {
        self.interrupts
            .set_line(model.intx_asserted(), model.interrupt(), || {
                self.posted.is_posted()
            });
        self.interrupts.raise(model.take_raised());
    }

    /// Tells `model` which messages the user has enabled.
    pub(crate) fn tell_messages(&self, model: &mut D::Model) {
        let enabled = self.interrupts.enabled();

        model.set_msi(enabled == Some(irq::Index::Msi));
        model.set_msix(enabled == Some(irq::Index::Msix));
    }

    /// Logs a refusal of the model or of the backend, as [`Log`](device_model::Log) demands.
    pub(crate) fn log(device: &Device<Self>, what: &str, reason: &dyn Display, errno: Errno) {
        device.refused(
            Subject::Backend,
            what,
            reason,
            Error::from_errno(errno.to_errno()),
        );
    }

    pub(super) fn bar_size(&self, bar: u32) -> u64 {
        self.bar_sizes.get(bar as usize).copied().unwrap_or(0)
    }

    pub(super) fn open_window(&self) -> Result<Arc<SharedPages>> {
        self.window.lock().clone().ok_or(ENODEV)
    }
}

fn vector_counts(vectors: Vectors) -> VectorCounts {
    VectorCounts {
        msi: vectors.msi,
        msix: vectors.msix,
    }
}
