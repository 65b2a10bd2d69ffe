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
        context::{
            in_context,
            with_context,
            Unusable, //
        },
        pins::{
            narrow,
            pages_of,
            Narrowed,
            PinnedPages, //
        },
        DirtyTracking,
        Driver, //
    },
};
use ::migration::v1::DATA_OFFSET;
use core::fmt::Display;
use device_model::hardware::{
    Context,
    FollowDma,
    Hardware, //
};
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
use vfio::{
    log::{
        DirtyLog,
        DmaLog, //
    },
    Device, //
};
use vfio_pci::{
    Function,
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
    /// A function that its user has closed asleep, which is reset when the core has woken it up.
    #[pin]
    closed_asleep: Mutex<Option<KBox<D::Hardware>>>,
    /// The data section of the migration region of the open function.
    #[pin]
    window: SpinLock<Option<Arc<SharedPages>>>,
    #[pin]
    traps: SpinLock<Traps>,
    #[pin]
    pub(super) refusals: Refusals,
    #[pin]
    pub(super) statistics: debugfs::File<Statistics>,
    /// The pages that were pinned since a user has read them as dirty, where the kernel can report them.
    #[pin]
    pub(super) log: DmaLog,
    identity: Identity,
    pub(super) was_reset: ResetFlag,
    pub(super) narrowed: Narrowed,
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
    /// The bus master bit of the command register, as the user wrote it last.
    pub(super) bus_master: bool,
    /// The last reset has failed, so that the function is none of what the engine takes it for.
    pub(super) reset_failed: bool,
    /// The user has disturbed a sequence since the function's DMA is followed, so that pages may be missing.
    pub(super) disturbed: bool,
    /// The pages that the function may write to.
    pub(super) pages: PinnedPages,
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
            // The core has cleared it.
            bus_master: false,
            reset_failed: false,
            disturbed: false,
            pages: PinnedPages::new()?,
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
            closed_asleep <- new_lock!(Mutex, c"Variant::closed_asleep", None),
            window <- new_lock!(SpinLock, c"Variant::window", None),
            traps <- new_lock!(SpinLock, c"Variant::traps", Traps::NONE),
            refusals <- Refusals::new(),
            statistics <- debugfs::Dir::new(&directory?)
                .read_only_file(c"statistics", Statistics::new()),
            log <- DmaLog::new(),
            identity,
            was_reset: ResetFlag::new(),
            narrowed: Narrowed::new(),
        })
    }

    pub(super) fn open_window(&self) -> Result<Arc<SharedPages>> {
        self.window.lock().clone().ok_or(ENODEV)
    }

    pub(super) fn open_traps(&self) -> Traps {
        *self.traps.lock()
    }

    /// Resets the function to what no user has left anything in.
    pub(super) fn reset_hardware(device: &Device<Self>, open: &mut Open<D::Hardware>) -> Result {
        let done = with_context(device, open, |open, context| {
            Self::reset_in(device, &mut open.hardware, context)
        });

        let done = Self::unless_unusable(device, "reset", done);
        open.reset_failed = done.is_err();
        done
    }

    /// Checks that the last reset has not failed. What the hardware keeps of a stop before the reset would be taken for
    /// what the function has now.
    ///
    /// # Errors
    ///
    /// Refuses a step of a migration until the next reset.
    pub(super) fn check_reset(
        device: &Device<Self>,
        open: &Open<D::Hardware>,
        what: &str,
    ) -> Result {
        if !open.reset_failed {
            return Ok(());
        }
        Err(Self::failed(
            device,
            what,
            &"the last reset of the function has failed",
            EIO,
        ))
    }

    fn reset_in(
        device: &Device<Self>,
        hardware: &mut D::Hardware,
        context: &mut Context<'_>,
    ) -> Result {
        hardware
            .reset(context)
            .map_err(|reason| Self::failed(device, "reset", &reason, EIO))
    }

    fn unless_unusable<R>(
        device: &Device<Self>,
        what: &str,
        done: Result<Result<R>, Unusable>,
    ) -> Result<R> {
        done.unwrap_or_else(|unusable| Err(Self::failed(device, what, &unusable, unusable.error())))
    }

    /// Pins what the function may write to from now on, unless this is so already.
    ///
    /// A function that shares its IOMMU group, or its memory with no container, is not followed, as the container
    /// would not report what the others write to. All memory is dirty then.
    ///
    /// # Errors
    ///
    /// Pages may be missed from now on, as the container reports nothing but pinned pages already.
    pub(super) fn follow(device: &Device<Self>, open: &mut Open<D::Hardware>) -> Result {
        if !open.hardware.can_follow() {
            return Ok(());
        }
        if !PciCore::function(device)?.has_own_container() {
            return if device.narrowed.get() {
                Err(Self::failed(
                    device,
                    "follow DMA",
                    &"another device has come into the IOMMU group",
                    EIO,
                ))
            } else {
                Ok(())
            };
        }

        let done = with_context(device, open, |open, context| {
            // A user who begins a save sends all memory anew.
            if open.disturbed || open.hardware.lost().is_some() {
                open.hardware.unfollow(context);
                open.disturbed = false;
            }
            open.hardware
                .follow(context)
                .map_err(|reason| Self::failed(device, "follow DMA", &reason, EIO))
        });
        let followed = Self::unless_unusable(device, "follow DMA", done);
        if device.narrowed.get() {
            return followed;
        }
        // A guest that has posted nothing, as its driver is not bound, would have all its memory dirty. Nobody unmaps the
        // page meanwhile: `unmap()` waits for the lock that the caller holds.
        if followed.is_ok() && narrow(&PciCore::function(device)?) {
            device.narrowed.set();
        }
        Ok(())
    }

    /// Checks that the container's dirty pages are all that the function has written to.
    ///
    /// # Errors
    ///
    /// Pages may have been missed.
    pub(super) fn check_followed(device: &Device<Self>, open: &Open<D::Hardware>) -> Result {
        if !device.narrowed.get() {
            return Ok(());
        }

        let why: &dyn Display = if let Some(lost) = open.hardware.lost() {
            lost
        } else if open.disturbed {
            &Unusable::Disturbed
        } else if !open.hardware.is_following() {
            &"DMA was not followed while the container reported nothing but pinned pages"
        } else if !PciCore::function(device)?.has_own_container() {
            &"another device has come into the IOMMU group"
        } else {
            return Ok(());
        };
        Err(Self::failed(device, "dirty pages", why, EIO))
    }

    /// Unpins all pages. A function that is closed does no DMA.
    fn unfollow(device: &Device<Self>, open: &mut Open<D::Hardware>) {
        let _ = with_context(device, open, |open, context| {
            open.hardware.unfollow(context);
        });
        // The function may be asleep.
        if let Ok(function) = PciCore::function(device) {
            open.pages.release(&function, &device.log, 0, u64::MAX);
        }
    }

    /// Unpins the pages of memory that the user unmaps, as
    /// [`Operations::dma_unmap`](vfio::Operations::dma_unmap) describes.
    pub(super) fn unmap(device: &Device<Self>, iova: u64, length: u64) {
        let mut open = device.open.lock();
        let Some(open) = Option::as_mut(&mut open) else {
            return;
        };
        let (first, count) = pages_of(iova, length);

        // A function that is closed has no pages.
        if let Ok(function) = PciCore::function(device) {
            open.pages.unmap(&function, &device.log, first, count);
        }
        open.hardware.unmapped(first, count);
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
        let function = PciCore::function(device)?;
        if !function.has_container() {
            device.narrowed.clear();
        }
        let tracking = DirtyTracking::new(D::dirty_tracking())?;
        let mut hardware = KBox::new(D::open(&device.identity, tracking)?, GFP_KERNEL_ACCOUNT)?;
        let mut no_pages = PinnedPages::default();
        let done = in_context(device, &function, &mut no_pages, None, |context| {
            Self::reset_in(device, &mut hardware, context)
        });
        Self::unless_unusable(device, "reset", done)?;
        let traps = Traps::new(hardware.traps().iter().map(|trap| Trap {
            bar: trap.bar,
            offset: trap.offset,
            len: trap.len,
        }))
        .ok_or(EINVAL)?;
        let window = device.migration.lock().window_size.bytes();
        let pages = Arc::new(SharedPages::new(window)?, GFP_KERNEL_ACCOUNT)?;
        let buffer = KVVec::from_elem(0, hardware.state_size(), GFP_KERNEL_ACCOUNT)?;
        // A page for the header.
        let size = usize::try_from(DATA_OFFSET).map_err(|_| EINVAL)?;
        let size = size.checked_add(window).ok_or(EINVAL)?;
        let open = Open::new(hardware)?;
        PciCore::register_own_region(device, size)?;

        {
            // While a page is pinned, `unmap()` has to find it.
            let mut guard = device.open.lock();
            let open = guard.insert(open);
            if device.narrowed.get() {
                // The failure is logged, and refuses each migration of this open.
                let _ = Self::follow(device, open);
            }
        }
        let mut migration = device.migration.lock();
        migration.in_use = true;
        migration.engine = Some(Engine::new(StateBuffer(buffer)));
        migration.region = Some(Region::new(DataPages(pages.clone())));
        migration.protocol = None;
        migration.session = None;
        migration.sessions = 0;
        *device.traps.lock() = traps;
        *device.window.lock() = Some(pages);
        Ok(())
    }

    /// Closes the function, as [`Operations::close_device`](vfio::Operations::close_device) describes.
    pub(super) fn close(device: &Device<Self>) {
        let mut is_asleep = false;
        let open = {
            // While a page is pinned, `unmap()` has to find it.
            let mut guard = device.open.lock();
            if let Some(open) = Option::as_mut(&mut guard) {
                let done = with_context(device, open, |open, context| {
                    Self::reset_in(device, &mut open.hardware, context)
                });
                is_asleep = matches!(done, Err(Unusable::Asleep(_)));
                if !is_asleep {
                    // The next open does it again, and fails if the function still does not answer.
                    let _ = Self::unless_unusable(device, "reset", done);
                }
                Self::unfollow(device, open);
            }
            guard.take()
        };
        if is_asleep {
            *device.closed_asleep.lock() = open.map(|open| open.hardware);
        }
        // Fails if no user has started the log.
        let _ = device.log.stop();

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

    /// Resets a function that its user has closed asleep, as [`Operations::disabling`](vfio_pci::Operations::disabling)
    /// describes.
    pub(super) fn reset_late(device: &Device<Self>, function: &Function<'_, Self>) {
        let Some(mut hardware) = device.closed_asleep.lock().take() else {
            return;
        };
        let mut no_pages = PinnedPages::default();
        let done = in_context(device, function, &mut no_pages, None, |context| {
            // The close has released the pages, and nobody would release those of a reset that goes on to follow.
            hardware.unfollow(context);
            Self::reset_in(device, &mut hardware, context)
        });

        // The next open does it again, and fails if the function still does not answer.
        let _ = Self::unless_unusable(device, "reset", done);
    }
}
