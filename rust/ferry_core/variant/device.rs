// SPDX-License-Identifier: GPL-2.0

//! A function that a variant driver has bound: its data, first open and last close.

use crate::{
    driver::WindowSize,
    migration::{
        migrating::with_migration,
        region::{
            DataPages,
            Region, //
        },
        state::{
            Engine,
            Migration,
            StateBuffer, //
        },
    },
    statistics::Statistics,
    variant::{
        context::in_context,
        Driver, //
    },
};
use ::migration::v1::DATA_OFFSET;
use core::fmt::Display;
use device_model::hardware::Hardware;
use kernel::{
    debugfs,
    prelude::*,
    str::CString,
    sync::{
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
use vfio::Device;
use vfio_pci::{
    Identity,
    PciCore,
    ResetFlag,
    Trap,
    Traps, //
};

/// The private data of a function. For its lock order see the module's documentation.
#[pin_data]
pub(super) struct Variant<D: Driver> {
    #[pin]
    pub(super) migration: Mutex<Migration<()>>,
    /// Present while the function is open.
    #[pin]
    pub(super) open: Mutex<Option<Open<D::Hardware>>>,
    /// The data section of the migration region of the open function.
    #[pin]
    window: SpinLock<Option<Arc<SharedPages>>>,
    #[pin]
    traps: SpinLock<Traps>,
    #[pin]
    pub(super) refusals: Refusals,
    #[pin]
    pub(super) statistics: debugfs::File<Statistics>,
    identity: Identity,
    pub(super) was_reset: ResetFlag,
}

/// A function that a user has open.
pub(super) struct Open<H: Hardware> {
    pub(super) hardware: KBox<H>,
    /// The last state that arrived, in the first [`Self::staged_len`] bytes.
    pub(super) staged: KVVec<u8>,
    /// 0 if no state is staged or pending.
    pub(super) staged_len: usize,
    /// The state in [`Self::staged`] is that of the function, which gets it when it starts: the user restores the
    /// command register before that.
    pub(super) is_pending: bool,
    /// Why the last state that arrived was refused.
    pub(super) load_error: Option<H::StateError>,
    pub(super) running: bool,
    pub(super) p2p: bool,
}

impl<H: Hardware> Open<H> {
    fn new(hardware: KBox<H>) -> Result<Self> {
        let staged = KVVec::from_elem(0, hardware.state_size(), GFP_KERNEL_ACCOUNT)?;

        Ok(Self {
            hardware,
            staged,
            staged_len: 0,
            is_pending: false,
            load_error: None,
            running: true,
            p2p: false,
        })
    }

    /// Forgets everything of a migration: the function runs.
    pub(super) fn forget(&mut self) {
        self.staged_len = 0;
        self.is_pending = false;
        self.load_error = None;
        self.running = true;
        self.p2p = false;
    }
}

impl<D: Driver> Variant<D> {
    pub(super) fn new(
        name: &CStr,
        identity: Identity,
        window_size: Result<WindowSize>,
    ) -> impl PinInit<Self, Error> {
        let directory = CString::try_from_fmt(fmt!("{}-{}", D::NAME, name));

        try_pin_init!(Self {
            migration <- new_lock!(
                Mutex,
                c"Variant::migration",
                Migration::new((), window_size?),
            ),
            open <- new_lock!(Mutex, c"Variant::open", None),
            window <- new_lock!(SpinLock, c"Variant::window", None),
            traps <- new_lock!(SpinLock, c"Variant::traps", Traps::NONE),
            refusals <- Refusals::new(),
            statistics <- debugfs::Dir::new(&directory?)
                .read_only_file(c"statistics", Statistics::new()),
            identity,
            was_reset: ResetFlag::new(),
        })
    }

    pub(super) fn open_window(&self) -> Result<Arc<SharedPages>> {
        self.window.lock().clone().ok_or(ENODEV)
    }

    pub(super) fn open_traps(&self) -> Traps {
        *self.traps.lock()
    }

    /// Resets the function to what no user has left anything in.
    pub(super) fn reset_hardware(device: &Device<Self>, hardware: &mut D::Hardware) -> Result {
        in_context(device, |context| {
            hardware
                .reset(context)
                .map_err(|reason| Self::failed(device, "reset", &reason, EIO))
        })
        .inspect_err(|error| {
            Self::failed(device, "reset", &"the function is asleep", *error);
        })?
    }

    /// Logs that a sequence has failed.
    pub(super) fn failed(
        device: &Device<Self>,
        what: &str,
        reason: &dyn Display,
        error: Error,
    ) -> Error {
        device.refused(Subject::Backend, what, reason, error)
    }

    /// Opens the function, as [`Operations::open_device`](vfio::Operations::open_device) describes.
    pub(super) fn open(device: &Device<Self>) -> Result {
        // The open itself resets the function, as far as it can be by PCI.
        let _ = device.was_reset.take();
        let mut hardware = KBox::new(D::open(&device.identity)?, GFP_KERNEL_ACCOUNT)?;
        Self::reset_hardware(device, &mut hardware)?;
        let traps = Traps::new(hardware.traps().iter().map(|trap| Trap {
            bar: trap.bar,
            offset: trap.offset,
            len: trap.len,
        }))?;
        let window = device.migration.lock().window_size.bytes();
        let pages = Arc::new(SharedPages::new(window)?, GFP_KERNEL_ACCOUNT)?;
        let buffer = KVVec::from_elem(0, hardware.state_size(), GFP_KERNEL_ACCOUNT)?;
        let open = Open::new(hardware)?;
        // A page for the header.
        let size = usize::try_from(DATA_OFFSET).map_err(|_| EINVAL)?;
        PciCore::register_own_region(device, size.checked_add(window).ok_or(EINVAL)?)?;

        let mut migration = device.migration.lock();
        migration.in_use = true;
        migration.engine = Some(Engine::new(StateBuffer(buffer)));
        migration.region = Some(Region::new(DataPages(pages.clone())));
        migration.protocol = None;
        migration.session = None;
        migration.sessions = 0;
        *device.open.lock() = Some(open);
        *device.traps.lock() = traps;
        *device.window.lock() = Some(pages);
        Ok(())
    }

    /// Closes the function, as [`Operations::close_device`](vfio::Operations::close_device) describes.
    pub(super) fn close(device: &Device<Self>) {
        let open = device.open.lock().take();
        if let Some(mut open) = open {
            // The next open does it again, and fails if the function still does not answer.
            let _ = Self::reset_hardware(device, &mut open.hardware);
        }

        let pages = device.window.lock().take();
        *device.traps.lock() = Traps::NONE;
        let region = with_migration(device, |migration| {
            migration.session = None;
            migration.in_use = false;
            (migration.engine.take(), migration.region.take())
        });
        // No lock is held while memory is freed, which may take long.
        drop(region);
        drop(pages);
    }
}
