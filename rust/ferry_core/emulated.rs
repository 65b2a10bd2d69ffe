// SPDX-License-Identifier: GPL-2.0

//! One mediated device: what a user's accesses do.

use crate::{
    driver::{
        Driver,
        WindowSize, //
    },
    migrate::{
        DataWindow,
        EnginePort,
        Region,
        StateBuffer, //
    },
    model::{
        Model,
        PostedWrites,
        Work, //
    },
    statistics::Statistics,
    v2::FileSession,
};
use core::fmt::Display;
use kernel::{
    current, debugfs, dev_notice, dev_warn,
    mm::virt::VmaNew,
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
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};
use migration::{
    State,
    BLOCK_SIZE, //
};
use vfio::{
    device::{
        Device,
        Operations, //
    },
    dma::{
        self,
        Dma, //
    },
    dma_log::{
        self,
        DmaLog,
        LogOperations, //
    },
    ioctl::DeviceInfo,
    irq::{
        self,
        Interrupts, //
    },
    mdev::Instance,
    migration::Support,
    new_lock,
    refusal::{
        Refusals,
        Subject, //
    },
    region::{
        self,
        pci,
        Position, //
    },
    shared_pages::SharedPages,
};

/// Index of the migration region: the first after those that a PCI device has anyway.
const MIGRATION: u32 = pci::COUNT;
const NUM_REGIONS: u32 = MIGRATION + 1;
const BARS: usize = (pci::BAR5 - pci::BAR0 + 1) as usize;

/// How many bytes of an access of registers are copied from or to the user at once.
const BLOCK: usize = 64;

/// Bytes of the buffer through which the storage of a device is received.
const STORAGE_BUFFER: usize = 16 * BLOCK_SIZE;

/// For how many bytes of the data window there is a byte of notes in that buffer.
const WINDOW_PER_NOTE: usize = BLOCK_SIZE / 16;

/// How often a worker takes the device's lock for a part of the work before it queues up again.
const WORK_ROUNDS: usize = 16;

/// The open device as it is now.
pub(crate) struct OpenModel<M: Model> {
    pub(crate) model: M,
    /// What it becomes when RESUMING is left.
    pub(crate) staged: Option<M>,
    /// The storage that this will have, until all of the state is there.
    pub(crate) staged_storage: Option<M::MigratedBlocks>,
    /// Why the state that was received last could not be staged.
    pub(crate) load_error: Option<M::LoadError>,
    /// Its state may advance.
    pub(crate) running: bool,
    /// It initiates no DMA.
    pub(crate) p2p: bool,
}

impl<M: Model> OpenModel<M> {
    fn new(model: M) -> Self {
        Self {
            model,
            staged: None,
            staged_storage: None,
            load_error: None,
            running: true,
            p2p: false,
        }
    }

    /// Resets the device as `VFIO_DEVICE_RESET` does.
    pub(crate) fn reset(&mut self) {
        self.model.reset();
        self.staged = None;
        self.staged_storage = None;
        self.load_error = None;
        self.running = true;
        self.p2p = false;
    }
}

/// A migration protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Protocol {
    /// The migration region.
    V1,
    /// `VFIO_DEVICE_FEATURE_MIGRATION`.
    V2,
}

impl Display for Protocol {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        })
    }
}

/// The protocols that a device offers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Protocols {
    /// Whichever is used first.
    Any,
    /// Only this one.
    Only(Protocol),
}

impl Protocols {
    fn offer(self, protocol: Protocol) -> bool {
        match self {
            Self::Any => true,
            Self::Only(only) => only == protocol,
        }
    }

    /// What users are told of protocol v2.
    fn support<D: Driver>(self) -> Support {
        if self.offer(Protocol::V2) {
            Support::of::<EmulatedDevice<D>>()
        } else {
            Support::NONE
        }
    }
}

impl Display for Protocols {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Only(protocol) => protocol.fmt(f),
        }
    }
}

impl core::str::FromStr for Protocols {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "any" => Ok(Self::Any),
            "v1" => Ok(Self::Only(Protocol::V1)),
            "v2" => Ok(Self::Only(Protocol::V2)),
            _ => Err(EINVAL),
        }
    }
}

/// Why a protocol cannot be used.
pub(crate) enum ProtocolRefusal {
    /// The administrator does not want it.
    NotOffered { wanted: Protocol },
    /// The other one is in use.
    OtherInUse { wanted: Protocol, used: Protocol },
}

impl ProtocolRefusal {
    fn error(&self) -> Error {
        match self {
            Self::NotOffered { .. } => EOPNOTSUPP,
            Self::OtherInUse { .. } => EBUSY,
        }
    }

    /// Logs it and returns the error.
    pub(crate) fn report<T: Operations>(&self, device: &Device<T>) -> Error {
        device.refused(Subject::Transition, "migration", self, self.error())
    }
}

impl Display for ProtocolRefusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotOffered { wanted } => {
                write!(f, "the device does not offer protocol {wanted}")
            }
            Self::OtherInUse { wanted, used } => write!(
                f,
                "protocol {wanted} cannot be used before the next reset, as {used} has been"
            ),
        }
    }
}

/// What there is of migration, and what is chosen before.
pub(crate) struct Migration<D: Driver> {
    settings: D::Settings,
    /// Size of the data window at the next open.
    window_size: WindowSize,
    /// What users may use from the next open on.
    protocols: Protocols,
    /// The device is open, is being opened, or gets another VFIO device: nothing can be chosen.
    in_use: bool,
    /// Present while the device is open.
    pub(crate) region: Option<Region>,
    /// The protocol that has been used since the open or the last reset.
    pub(crate) protocol: Option<Protocol>,
    /// The session of protocol v2.
    pub(crate) file: Option<FileSession>,
    /// How many such sessions this open has had.
    pub(crate) sessions: u64,
}

impl<D: Driver> Migration<D> {
    /// Checks that what is chosen for the next open can be changed.
    fn check_unused(&self) -> Result {
        if self.in_use {
            return Err(EBUSY);
        }
        Ok(())
    }

    /// Makes it in use.
    fn take(&mut self) -> Result {
        self.check_unused()?;
        self.in_use = true;
        Ok(())
    }

    /// Checks that `wanted` is offered and not held up by the other one.
    pub(crate) fn may_use(&self, wanted: Protocol) -> Result<(), ProtocolRefusal> {
        if !self.protocols.offer(wanted) {
            return Err(ProtocolRefusal::NotOffered { wanted });
        }
        match self.protocol {
            Some(used) if used != wanted => Err(ProtocolRefusal::OtherInUse { wanted, used }),
            _ => Ok(()),
        }
    }
}

/// The private data of a mediated device. For its lock order see the crate's documentation.
#[pin_data]
pub struct EmulatedDevice<D: Driver> {
    #[pin]
    migration: Mutex<Migration<D>>,
    /// Present while the device is open.
    #[pin]
    live: Mutex<Option<OpenModel<D::Model>>>,
    /// What was written without that lock.
    pub(crate) posted: <D::Model as Model>::Posted,
    /// The BARs of which a posted write counts, as a set of bits: those that answer while the device is
    /// running, for those without the lock. See [`Self::follow_config`].
    pub(crate) takes_posted: Atomic<u32>,
    #[pin]
    pub(crate) interrupts: Interrupts,
    /// The data window of the open device.
    #[pin]
    window: SpinLock<Option<Arc<SharedPages>>>,
    #[pin]
    refusals: Refusals,
    /// The process that was refused a mapping of a BAR last, by its identifier; none since the open is 0.
    last_not_mapped: Atomic<i32>,
    #[pin]
    dma_log: DmaLog,
    #[pin]
    pub(crate) statistics: debugfs::File<Statistics>,
    /// Sizes of the BARs in bytes, which never change; 0 where there is none.
    bar_sizes: [u64; BARS],
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
                Migration {
                    settings: settings?,
                    window_size: window_size?,
                    protocols: Protocols::Any,
                    in_use: false,
                    region: None,
                    protocol: None,
                    file: None,
                    sessions: 0,
                },
            ),
            live <- new_lock!(Mutex, c"EmulatedDevice::live", None),
            posted: Default::default(),
            takes_posted: Atomic::new(0),
            interrupts <- Interrupts::new(D::Model::VECTORS),
            window <- new_lock!(SpinLock, c"EmulatedDevice::window", None),
            refusals <- Refusals::new(),
            last_not_mapped: Atomic::new(0),
            dma_log <- DmaLog::new(),
            statistics <- debugfs::Dir::new(&directory?)
                .read_only_file(c"statistics", Statistics::new()),
        })
    }

    /// The migration state, or [`None`] while the device is closed.
    pub(crate) fn state(&self) -> Option<State> {
        self.migration.lock().region.as_ref().map(Region::state)
    }

    pub(crate) fn window_size(&self) -> WindowSize {
        self.migration.lock().window_size
    }

    /// Sets the size of the data window for the next open.
    ///
    /// # Errors
    ///
    /// `EBUSY` while the device is open.
    pub(crate) fn set_window_size(&self, window_size: WindowSize) -> Result {
        let mut migration = self.migration.lock();
        migration.check_unused()?;

        migration.window_size = window_size;
        Ok(())
    }

    pub(crate) fn protocols(&self) -> Protocols {
        self.migration.lock().protocols
    }

    /// Sets which protocols the device offers from the next open on.
    ///
    /// The VFIO core answers by what the VFIO device was registered with whether there is
    /// `VFIO_DEVICE_FEATURE_MIGRATION`, so that a choice that concerns that takes a new VFIO device.
    ///
    /// # Errors
    ///
    /// `EBUSY` while somebody has the device open, or why there is no new VFIO device.
    pub(crate) fn set_protocols(mdev: &Instance<Self>, protocols: Protocols) -> Result {
        // Until it is not in use any more nobody can open it.
        let before = mdev.with_migration(|migration| {
            migration.take()?;
            Ok::<_, Error>(migration.protocols)
        })?;
        // Whoever sees the new VFIO device can open it.
        let choose = |protocols| {
            mdev.with_migration(|migration| {
                migration.in_use = false;
                migration.protocols = protocols;
            });
        };
        if protocols.offer(Protocol::V2) == before.offer(Protocol::V2) && mdev.is_registered() {
            choose(protocols);
            return Ok(());
        }
        let result = mdev.register_anew(protocols.support::<D>(), || choose(protocols));
        if result.is_err() {
            choose(before);
        }
        result
    }

    /// Runs `f` with the state mutex held.
    pub(crate) fn with_migration<R>(&self, f: impl FnOnce(&mut Migration<D>) -> R) -> R {
        f(&mut self.migration.lock())
    }

    /// The settings for the next open, as they are now.
    pub(crate) fn settings(&self) -> D::Settings {
        self.migration.lock().settings.clone()
    }

    /// Lets `change` change the settings for the next open.
    ///
    /// # Errors
    ///
    /// `EBUSY` while the device is open, or what `change` returns.
    pub(crate) fn change_settings(
        &self,
        change: impl FnOnce(&mut D::Settings) -> Result,
    ) -> Result {
        let mut migration = self.migration.lock();
        migration.check_unused()?;

        let before = migration.settings.clone();
        let changed = change(&mut migration.settings);
        drop(migration);
        // With no lock held: it may be the last reference to a file.
        drop(before);
        changed
    }

    /// Runs `f` on the open device, with its lock held.
    ///
    /// # Errors
    ///
    /// `ENODEV` if it is not open.
    pub(crate) fn with_open_model<R>(
        &self,
        f: impl FnOnce(&mut OpenModel<D::Model>) -> R,
    ) -> Result<R> {
        Option::as_mut(&mut self.live.lock()).map(f).ok_or(ENODEV)
    }

    /// Has those who look without the lock follow what configuration space says now: posted writes, and
    /// messages. The caller has the lock.
    pub(crate) fn follow_config(&self, live: &OpenModel<D::Model>) {
        let answering = (pci::BAR0..=pci::BAR5)
            .filter(|bar| live.running && live.model.decodes(*bar))
            .fold(0, |set, bar| set | 1 << bar);

        self.takes_posted.store(answering, Relaxed);
        self.interrupts.set_asleep(!live.model.may_send_messages());
    }

    /// Drives the interrupts as `model` wants them.
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

    fn bar_size(&self, bar: u32) -> u64 {
        self.bar_sizes.get(bar as usize).copied().unwrap_or(0)
    }

    fn open_window(&self) -> Result<Arc<SharedPages>> {
        self.window.lock().clone().ok_or(ENODEV)
    }
}

/// Pieces of 1, 2, 4 or 8 bytes at a multiple of their size that make up `[offset, offset + len)`,
/// as offset and range of the access.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, core::ops::Range<usize>)> {
    let mut done = 0;

    core::iter::from_fn(move || {
        let left = len.checked_sub(done).filter(|left| *left > 0)?;
        let at = offset.checked_add(done as u64)?;
        let size = [8, 4, 2, 1]
            .into_iter()
            .find(|size| *size <= left && at % *size as u64 == 0)?;
        let piece = done..done + size;
        done += size;
        Some((at, piece))
    })
}

/// What an open device has, made before anybody else knows of it.
struct Opened<M: Model> {
    model: M,
    pages: Arc<SharedPages>,
    buffer: StateBuffer,
}

impl<M: Model> Opened<M> {
    fn new<D: Driver<Model = M>>(
        device: &Device<EmulatedDevice<D>>,
        settings: &D::Settings,
        window_size: WindowSize,
    ) -> Result<Self> {
        let mut model = D::open(settings, &|what, reason, error| {
            device.refused(Subject::Backend, what, reason, error);
        })?;
        enable_bars(&mut model)
            .map_err(|error| device.refused(Subject::Access, "open", &error, EINVAL))?;
        let pages = Arc::new(SharedPages::new(window_size.bytes())?, GFP_KERNEL_ACCOUNT)?;
        // Where there is storage, notes about its blocks go there as well, see `MigrationRegion`.
        let least = match model.storage() {
            Some(_) => STORAGE_BUFFER.max(window_size.bytes() / WINDOW_PER_NOTE),
            None => 0,
        };
        let buffer = KVVec::from_elem(0, M::STATE_SIZE.max(least), GFP_KERNEL_ACCOUNT)?;

        Ok(Self {
            model,
            pages,
            buffer: StateBuffer(buffer),
        })
    }
}

impl<D: Driver> EmulatedDevice<D> {
    /// Becomes `opened`, for the user who opens the device.
    fn take_over(device: &Device<Self>, opened: Opened<D::Model>) {
        let Opened {
            mut model,
            pages,
            buffer,
        } = opened;
        let mut migration = device.migration.lock();

        device.interrupts.forget();
        device.drive_interrupts(&mut model);
        device.posted.clear();
        let live = OpenModel::new(model);
        device.follow_config(&live);
        *device.live.lock() = Some(live);
        migration.region = Some(Region::new(DataWindow(pages.clone()), buffer));
        migration.protocol = None;
        migration.file = None;
        migration.sessions = 0;
        device.last_not_mapped.store(0, Relaxed);
        if migration.protocols.offer(Protocol::V1) {
            *device.window.lock() = Some(pages);
        }
    }
}

/// Where an access goes.
enum Target {
    Bar(u32),
    Config,
    Header,
    Data { offset: usize },
}

/// An access that no region has.
struct OutOfRegion {
    position: Position,
    count: usize,
}

impl Display for OutOfRegion {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "an access of {} bytes at {:#x} does not lie in region {}",
            self.count, self.position.offset, self.position.index
        )
    }
}

/// A mapping that was not made.
struct NotMapped {
    index: u32,
    offset: u64,
    len: usize,
}

impl Display for NotMapped {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { index, offset, len } = self;

        if (pci::BAR0..=pci::BAR5).contains(index) {
            return write!(
                f,
                "BAR {index} cannot be mapped, as its registers are emulated: a driver in user space \
                 that maps them cannot use the device"
            );
        }
        write!(
            f,
            "{len} bytes at {offset:#x} of region {index} cannot be mapped so: only the data window \
             can, shared and not executable"
        )
    }
}

/// An access of the header that is wider than any field.
struct Wide {
    count: usize,
}

impl Display for Wide {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "an access of {} bytes is wider than any field of the header",
            self.count
        )
    }
}

impl<D: Driver> EmulatedDevice<D> {
    /// Finds what `[position, position + count)` is part of.
    fn target(&self, position: Position, count: usize) -> Result<Target, OutOfRegion> {
        let outside = OutOfRegion { position, count };
        let Some(end) = position.offset.checked_add(count as u64) else {
            return Err(outside);
        };

        let (size, target) = match position.index {
            bar @ pci::BAR0..=pci::BAR5 => (self.bar_size(bar), Target::Bar(bar)),
            pci::CONFIG => (D::Model::CONFIG_SIZE, Target::Config),
            MIGRATION => {
                // Where protocol v1 is not offered there is no window, and so no region.
                let Some(size) = self.window.lock().as_ref().map(|window| window.size()) else {
                    return Err(outside);
                };
                match position.offset.checked_sub(Region::WINDOW_OFFSET) {
                    // The engine checks what an access of the header is; data begins a page on.
                    None => (Region::WINDOW_OFFSET, Target::Header),
                    Some(offset) => {
                        let Ok(offset) = usize::try_from(offset) else {
                            return Err(outside);
                        };
                        (Region::WINDOW_OFFSET + size as u64, Target::Data { offset })
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

    fn read_registers(&self, target: &Target, offset: u64, bytes: &mut [u8]) -> RegisterResult<D> {
        let mut live = self.live.lock();
        let Some(live) = Option::as_mut(&mut live) else {
            return Ok(());
        };

        for (at, piece) in pieces(offset, bytes.len()) {
            let bytes = &mut bytes[piece];
            match target {
                Target::Bar(bar) if !live.model.decodes(*bar) => bytes.fill(NOBODY),
                Target::Bar(bar) if live.running => {
                    live.model.read_bar(*bar, at, bytes)?;
                    self.drive_interrupts(&mut live.model);
                }
                Target::Bar(bar) => live.model.peek_bar(*bar, at, bytes)?,
                _ => live.model.read_config(at, bytes)?,
            }
        }

        Ok(())
    }

    /// Notes `bytes` if all of it is posted. Then there is work.
    fn post(&self, target: &Target, offset: u64, bytes: &[u8]) -> bool {
        match target {
            Target::Bar(bar) if self.takes_posted.load(Relaxed) & 1 << (bar % u32::BITS) != 0 => {
                pieces(offset, bytes.len()).all(|(at, piece)| {
                    // Each piece is the model's to take or not; what it took, the rest of the
                    // access cannot undo.
                    let posted = self.posted.post(*bar, at, &bytes[piece]);
                    if posted {
                        self.interrupts.mark_line_stale();
                    }
                    posted
                })
            }
            _ => false,
        }
    }

    /// Returns whether there is work.
    fn write_registers(
        &self,
        target: &Target,
        offset: u64,
        bytes: &[u8],
    ) -> Result<bool, AccessError<D>> {
        if self.post(target, offset, bytes) {
            return Ok(true);
        }

        let mut live = self.live.lock();
        let Some(live) = Option::as_mut(&mut live) else {
            return Ok(false);
        };

        for (at, piece) in pieces(offset, bytes.len()) {
            let bytes = &bytes[piece];
            match target {
                Target::Bar(bar) if !live.running => {
                    let models = [Some(&mut live.model), live.staged.as_mut()];
                    for model in models.into_iter().flatten() {
                        if model.decodes(*bar) {
                            model.write_bar_stopped(*bar, at, bytes)?;
                        }
                    }
                }
                Target::Bar(bar) if live.model.decodes(*bar) => {
                    live.model.write_bar(*bar, at, bytes)?;
                }
                Target::Bar(_) => {}
                _ => {
                    live.model.write_config(at, bytes)?;
                    // The VMM restores configuration space after it has given us the state, and
                    // before that becomes the device.
                    if let Some(staged) = &mut live.staged {
                        staged.write_config(at, bytes)?;
                    }
                    self.follow_config(live);
                }
            }
            self.drive_interrupts(&mut live.model);
        }

        Ok(live.running && live.model.has_work())
    }
}

type AccessError<D> = <<D as Driver>::Model as Model>::AccessError;
type RegisterResult<D> = Result<(), AccessError<D>>;

/// What a byte reads as that nobody answers for.
const NOBODY: u8 = 0xff;

/// Has the device answer accesses of its BARs, as `vfio-pci` does by `pci_enable_device()`: whoever opens
/// a device finds it so.
fn enable_bars<M: Model>(model: &mut M) -> Result<(), M::AccessError> {
    const COMMAND: u64 = 0x04;
    const IO_AND_MEMORY: u8 = 0x03;

    let mut command = [0];
    model.read_config(COMMAND, &mut command)?;
    model.write_config(COMMAND, &[command[0] | IO_AND_MEMORY])
}

/// The widest field of the header.
const FIELD_MAX: usize = 8;

impl<D: Driver> LogOperations for EmulatedDevice<D> {
    fn dma_log(device: &Device<Self>) -> &DmaLog {
        &device.dma_log
    }
}

impl<D: Driver> Operations for EmulatedDevice<D> {
    const NAME: &'static CStr = D::NAME;
    const DMA_LOGGING: dma_log::Support<Self> = dma_log::Support::of();

    fn open_device(device: &Device<Self>) -> Result {
        let (settings, window_size) = device.with_migration(|migration| {
            migration.take()?;
            Ok::<_, Error>((migration.settings.clone(), migration.window_size))
        })?;
        // With no lock held: a file may take as long as its file system likes.
        Opened::new(device, &settings, window_size)
            .map(|opened| Self::take_over(device, opened))
            .inspect_err(|_| device.with_migration(|migration| migration.in_use = false))
    }

    fn close_device(device: &Device<Self>) {
        device.takes_posted.store(0, Relaxed);
        let live = device.live.lock().take();
        // It finds no device and returns.
        device.cancel_work();
        device.interrupts.disable();
        device.interrupts.forget();
        device.interrupts.release();
        // Whether or not there was one.
        let _ = device.dma_log.stop();

        let pages = device.window.lock().take();
        let region = device.with_migration(|migration| {
            migration.file = None;
            migration.region.take()
        });
        // With no lock held: there may be much to free, and to write to a file.
        drop(live);
        drop(region);
        drop(pages);
        device.with_migration(|migration| migration.in_use = false);
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
            // Of nothing, as everywhere else.
            Target::Header if count == 0 => {}
            Target::Header => {
                let mut field = [0; FIELD_MAX];
                let bytes = field.get_mut(..count).ok_or_else(|| {
                    device.refused(Subject::Access, "migration", &Wide { count }, EINVAL)
                })?;
                // A read has an effect, which is not to be had without its value: see first that
                // the user can be given one.
                UserSlice::new(into, count).writer().write_slice(bytes)?;
                let access = RegionAccess::Read {
                    offset: position.offset,
                };
                device.with_region(access, |region| {
                    region.read_header(
                        &mut EnginePort(device),
                        &mut EnginePort(device),
                        position.offset,
                        bytes,
                    )
                })?;
                UserSlice::new(into, count).writer().write_slice(bytes)?;
            }
            Target::Bar(_) | Target::Config => {
                let mut probe = UserSlice::new(into, count).writer();
                let mut writer = UserSlice::new(into, count).writer();
                let mut block = [0; BLOCK];
                for done in (0..count).step_by(BLOCK) {
                    let bytes = &mut block[..BLOCK.min(count - done)];
                    // A register may be another one once it was read.
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
            Target::Header if count == 0 => {}
            Target::Header => {
                let mut field = [0; FIELD_MAX];
                let bytes = field.get_mut(..count).ok_or_else(|| {
                    device.refused(Subject::Access, "migration", &Wide { count }, EINVAL)
                })?;
                UserSlice::new(from, count).reader().read_slice(bytes)?;
                device.with_region(RegionAccess::Write, |region| {
                    region.write_header(
                        &mut EnginePort(device),
                        &mut EnginePort(device),
                        position.offset,
                        bytes,
                    )
                })?;
            }
            Target::Bar(_) | Target::Config => {
                let mut reader = UserSlice::new(from, count).reader();
                let mut block = [0; BLOCK];
                for done in (0..count).step_by(BLOCK) {
                    let bytes = &mut block[..BLOCK.min(count - done)];
                    reader.read_slice(bytes)?;
                    let work = device
                        .write_registers(&target, position.offset + done as u64, bytes)
                        .map_err(|error| {
                            device.refused(Subject::Access, "write", &error, EINVAL)
                        })?;
                    if work {
                        device.kick();
                    }
                }
            }
        }

        Ok(count)
    }

    fn mmap(device: &Device<Self>, vma: &VmaNew, index: u32, offset: u64) -> Result {
        offset
            .checked_sub(Region::WINDOW_OFFSET)
            .filter(|_| index == MIGRATION)
            .and_then(|offset| usize::try_from(offset).ok())
            .ok_or(EINVAL)
            .and_then(|offset| device.open_window().map_err(|_| EINVAL)?.mmap(vma, offset))
            .inspect_err(|error| {
                let refused = NotMapped {
                    index,
                    offset,
                    len: vma.end().saturating_sub(vma.start()),
                };
                // A driver in user space tries each BAR, and some try again and again.
                let process = current!().group_leader().pid();
                let told = (pci::BAR0..=pci::BAR5).contains(&index)
                    && device.last_not_mapped.xchg(process, Relaxed) == process;
                if !told {
                    device.refused(Subject::Mapping, "mmap", &refused, *error);
                }
            })
    }

    fn info(device: &Device<Self>) -> DeviceInfo {
        DeviceInfo {
            num_regions: match device.open_window() {
                Ok(_) => NUM_REGIONS,
                Err(_) => MIGRATION,
            },
            num_irqs: irq::Index::COUNT,
        }
    }

    fn region_info(device: &Device<Self>, index: u32) -> Result<region::Info> {
        let read_write = |size| region::Info {
            size,
            access: region::Access::ReadWrite,
            type_: None,
        };

        match index {
            bar @ pci::BAR0..=pci::BAR5 => Ok(match device.bar_size(bar) {
                0 => region::Info::ABSENT,
                size => read_write(size),
            }),
            pci::CONFIG => Ok(read_write(D::Model::CONFIG_SIZE)),
            MIGRATION => {
                let window_size = device.open_window().map_err(|_| EINVAL)?.size() as u64;
                Ok(region::Info {
                    size: Region::WINDOW_OFFSET + window_size,
                    access: region::Access::ReadWriteMmap {
                        offset: Region::WINDOW_OFFSET,
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

    fn irq_info(device: &Device<Self>, index: u32) -> Result<irq::Info> {
        device.interrupts.info(index)
    }

    fn set_irqs(device: &Device<Self>, set: irq::Set) -> Result {
        if device.interrupts.set(&set)? {
            device.with_open_model(|live| {
                device.tell_messages(&mut live.model);
                device.drive_interrupts(&mut live.model);
            })?;
        }
        Ok(())
    }

    fn reset(device: &Device<Self>) -> Result {
        device.with_migration(|migration| {
            let region = migration.region.as_mut().ok_or(ENODEV)?;
            region.reset(&mut EnginePort(device), &mut EnginePort(device));
            migration.protocol = None;
            migration.file = None;
            device.notify_data();
            Ok(())
        })
    }

    fn request(device: &Device<Self>, count: u32) {
        /// How many requests have one line of the log.
        const REQUESTS_PER_LINE: u32 = 10;

        let asked = device.interrupts.request_release();
        if asked && count % REQUESTS_PER_LINE == 0 {
            dev_notice!(device, "asking the user to release the device (#{count})\n");
        } else if !asked && count == 0 {
            dev_warn!(
                device,
                "nobody can be asked to release the device, which is waited for until it is closed\n"
            );
        }
    }

    fn work(device: &Device<Self>, dma: &Dma<'_>) {
        for _ in 0..WORK_ROUNDS {
            let mut live = device.live.lock();
            let Some(live) = Option::as_mut(&mut live).filter(|live| live.running && !live.p2p)
            else {
                return;
            };
            let work = live
                .model
                .work(&device.posted, dma, &|what, reason, error| {
                    device.refused(Subject::Backend, what, reason, error);
                });
            device.drive_interrupts(&mut live.model);
            if work == Work::Done {
                device.notify_data();
                return;
            }
        }

        device.notify_data();
        device.kick();
    }

    fn dma_failed(device: &Device<Self>, failure: &dma::Failure) {
        device.statistics.dma_failed();
        device.refused(Subject::Dma, "DMA", failure, failure.error);
    }

    fn refusals(&self) -> &Refusals {
        &self.refusals
    }
}

/// An access of the header of the migration region.
enum RegionAccess {
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

trait RegionUser<D: Driver> {
    fn with_region(
        &self,
        access: RegionAccess,
        f: impl FnOnce(&mut Region) -> Result<(), migration::Refusal>,
    ) -> Result;
}

impl<D: Driver> RegionUser<D> for Device<EmulatedDevice<D>> {
    /// Runs `f` with the migration region of the open device, under the state mutex.
    fn with_region(
        &self,
        access: RegionAccess,
        f: impl FnOnce(&mut Region) -> Result<(), migration::Refusal>,
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
