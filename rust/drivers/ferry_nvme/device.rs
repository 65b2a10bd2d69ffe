// SPDX-License-Identifier: GPL-2.0

//! The controller with its store, as the framework sees it.

use crate::{
    file_backend::FileBackend,
    ram_backend::RamBackend,
    settings::{
        NvmeSettings,
        StoreKind, //
    },
};
use core::fmt::{
    self,
    Display, //
};
use ferry_core::{
    model::{
        Log,
        Model,
        PostedWrites,
        VectorCounts,
        Work, //
    },
    Dma, CONFIGURATION_MAX,
};
use kernel::prelude::*;
use nvme::{
    AccessError,
    BackendError, //
    BlockBackend,
    Controller,
    Doorbells,
    GuestMemory,
    MemoryError,
    Parameters,
};

/// How many commands are executed while the device's lock is held: whoever accesses a register
/// meanwhile waits for them.
const COMMANDS_AT_ONCE: u32 = 16;

/// The controller's view of the guest's memory.
struct Memory<'a>(&'a Dma<'a>);

impl GuestMemory for Memory<'_> {
    fn read(&mut self, address: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        self.0.read(address, into).map_err(|_| MemoryError)
    }

    fn write(&mut self, address: u64, from: &[u8]) -> Result<(), MemoryError> {
        self.0.write(address, from).map_err(|_| MemoryError)
    }
}

/// Doorbells, which take no lock.
#[derive(Default)]
pub(crate) struct Posted(Doorbells);

impl PostedWrites for Posted {
    fn post(&self, bar: u32, offset: u64, bytes: &[u8]) -> bool {
        bar == 0 && self.0.post(offset, bytes)
    }

    fn is_posted(&self) -> bool {
        self.0.is_posted()
    }

    fn clear(&self) {
        self.0.clear();
    }
}

/// What keeps the content of the namespace.
enum Backend {
    Ram(RamBackend),
    File(FileBackend),
}

/// The content of the namespace, and the guest's memory, which a file reaches by itself.
struct BackendWithDma<'a> {
    backend: &'a mut Backend,
    dma: &'a Dma<'a>,
}

impl BlockBackend for BackendWithDma<'_> {
    fn read(
        &mut self,
        offset: u64,
        len: usize,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), MemoryError>,
    ) -> Result<(), BackendError> {
        match self.backend {
            Backend::Ram(store) => store.read(offset, len, sink),
            Backend::File(store) => store.read(offset, len, sink),
        }
    }

    fn has_to_wait(&self) -> bool {
        match &*self.backend {
            // It has nothing to wait for.
            Backend::Ram(_) => false,
            Backend::File(store) => store.has_to_wait(),
        }
    }

    fn expect_read(&mut self, offset: u64, len: u64) {
        match self.backend {
            Backend::Ram(store) => store.expect_read(offset, len),
            Backend::File(store) => store.expect_read(offset, len),
        }
    }

    fn read_straight(
        &mut self,
        offset: u64,
        len: usize,
        place: &mut dyn FnMut(usize) -> Result<(u64, usize), MemoryError>,
    ) -> Result<usize, BackendError> {
        match self.backend {
            // It lends its own memory.
            Backend::Ram(_) => Ok(0),
            Backend::File(store) => store.read_straight(offset, len, place, self.dma),
        }
    }

    fn write(
        &mut self,
        offset: u64,
        len: usize,
        source: &mut dyn FnMut(&mut [u8]) -> Result<(), MemoryError>,
    ) -> Result<(), BackendError> {
        match self.backend {
            Backend::Ram(store) => store.write(offset, len, source),
            Backend::File(store) => store.write(offset, len, source),
        }
    }

    fn write_zeroes(
        &mut self,
        offset: u64,
        len: u64,
        may_deallocate: bool,
    ) -> Result<(), BackendError> {
        match self.backend {
            Backend::Ram(store) => store.write_zeroes(offset, len, may_deallocate),
            Backend::File(store) => store.write_zeroes(offset, len, may_deallocate),
        }
    }

    fn deallocate(&mut self, offset: u64, len: u64) -> Result<(), BackendError> {
        match self.backend {
            Backend::Ram(store) => store.deallocate(offset, len),
            Backend::File(store) => store.deallocate(offset, len),
        }
    }

    fn flush(&mut self) -> Result<(), BackendError> {
        match self.backend {
            Backend::Ram(store) => store.flush(),
            Backend::File(store) => store.flush(),
        }
    }
}

/// Why a state is refused.
pub(crate) enum LoadError {
    /// The controller cannot have it.
    Controller(nvme::LoadError),
    /// There is no room for it.
    Memory(Error),
}

impl Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controller(error) => error.fmt(f),
            Self::Memory(error) => write!(f, "there is no room for it: {}", error.to_errno()),
        }
    }
}

/// A controller with the content of its namespace.
pub(crate) struct NvmeDevice {
    controller: KBox<Controller>,
    /// [`None`] is a staged device's whose content lies in the file that the live one has open.
    backend: Option<Backend>,
}

impl NvmeDevice {
    /// A controller after power-on.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or why the file cannot be used.
    pub(crate) fn open(settings: &NvmeSettings, log: Log<'_>) -> Result<Self> {
        let backend = match settings.store {
            StoreKind::Ram => Backend::Ram(RamBackend::new(settings.capacity)?),
            StoreKind::File => Backend::File(settings.open_file().inspect_err(|error| {
                log("open", &"the file cannot be used", *error);
            })?),
        };
        let parameters = Parameters {
            capacity: match &backend {
                Backend::Ram(_) => settings.capacity,
                Backend::File(store) => store.capacity(),
            },
            lba_shift: settings.lba_shift,
            queue_pairs: settings.queues,
            serial: settings.serial,
            store: settings.store as u8,
        };
        let controller = Controller::new(parameters).map_err(|error| {
            log("open", &error, EINVAL);
            EINVAL
        })?;

        Ok(Self {
            controller: KBox::new(controller, GFP_KERNEL_ACCOUNT)?,
            backend: Some(backend),
        })
    }

    /// Locks the file while the controller is in use, so that nobody else writes it, and unlocks it
    /// otherwise.
    ///
    /// # Errors
    ///
    /// `EBUSY` if somebody else has locked it, or why it cannot be flushed.
    fn claim(&mut self, log: Log<'_>) -> Result {
        let Some(Backend::File(store)) = &mut self.backend else {
            return Ok(());
        };

        if self.controller.is_enabled() {
            store.acquire().inspect_err(|error| {
                log("store", &"the file cannot be locked", *error);
            })
        } else {
            Self::yield_file(store, log)
        }
    }

    /// Lets whoever has the file next read what was written.
    fn yield_file(store: &mut FileBackend, log: Log<'_>) -> Result {
        store.release().inspect_err(|error| {
            log("store", &"the file cannot be flushed", *error);
        })
    }
}

impl Model for NvmeDevice {
    type AccessError = AccessError;
    type LoadError = LoadError;
    type Posted = Posted;
    type MigratedBlocks = RamBackend;

    const TYPE: &'static str = "ferry-nvme";
    const STATE_SIZE: usize = Controller::STATE_SIZE;
    const CONFIG_SIZE: u64 = Controller::CONFIG_SIZE as u64;
    const VECTORS: VectorCounts = VectorCounts {
        msi: 0,
        msix: Controller::VECTORS,
    };

    fn configuration(&self, out: &mut [u8; CONFIGURATION_MAX]) -> usize {
        self.controller.configuration(out)
    }

    fn decodes(&self, bar: u32) -> bool {
        self.controller.decodes(bar as usize)
    }

    fn read_bar(&mut self, _bar: u32, offset: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
        self.controller.read_bar0(offset, bytes)
    }

    fn peek_bar(&self, _bar: u32, offset: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
        self.controller.peek_bar0(offset, bytes)
    }

    fn write_bar(&mut self, _bar: u32, offset: u64, bytes: &[u8]) -> Result<(), AccessError> {
        self.controller.write_bar0(offset, bytes)
    }

    fn write_bar_stopped(
        &mut self,
        _bar: u32,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), AccessError> {
        self.controller.write_msix_table(offset, bytes)
    }

    fn read_config(&self, offset: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
        self.controller.read_config(offset, bytes)
    }

    fn write_config(&mut self, offset: u64, bytes: &[u8]) -> Result<(), AccessError> {
        self.controller.write_config(offset, bytes)
    }

    fn may_send_messages(&self) -> bool {
        self.controller.may_send_messages()
    }

    fn intx_asserted(&self) -> bool {
        self.controller.intx_asserted()
    }

    fn interrupt(&self) -> bool {
        // It has no MSI.
        false
    }

    fn set_msix(&mut self, enabled: bool) {
        self.controller.set_msix(enabled);
    }

    fn take_raised(&mut self) -> u32 {
        self.controller.take_raised()
    }

    fn has_work(&self) -> bool {
        // Whatever is not a doorbell is rare enough.
        true
    }

    fn work(&mut self, posted: &Posted, dma: &Dma<'_>, log: Log<'_>) -> Work {
        if !self.controller.has_failed() && self.claim(log).is_err() {
            self.controller.fail();
        }
        let Some(backend) = &mut self.backend else {
            return Work::Done;
        };

        let work = self.controller.work(
            &posted.0,
            &mut Memory(dma),
            &mut BackendWithDma { backend, dma },
            COMMANDS_AT_ONCE,
        );
        match work {
            nvme::Work::Idle => Work::Done,
            nvme::Work::More => Work::More,
        }
    }

    fn start(&mut self, log: Log<'_>) -> Result {
        self.claim(log)
    }

    fn stop(&mut self, posted: &Posted, log: Log<'_>) -> Result {
        self.controller.drain(&posted.0);
        if let Some(Backend::File(store)) = &mut self.backend {
            Self::yield_file(store, log)?;
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.controller.reset();
    }

    fn save(&self, out: &mut [u8]) -> Option<usize> {
        self.controller.save(out)
    }

    fn load(&self, state: &[u8]) -> Result<Self, LoadError> {
        // The state is restored where the controller stays: it is too large for the stack.
        let mut controller = KBox::new(Controller::clone(&self.controller), GFP_KERNEL_ACCOUNT)
            .map_err(|error| LoadError::Memory(error.into()))?;
        controller.restore(state).map_err(LoadError::Controller)?;
        let storage = self.new_storage().map_err(LoadError::Memory)?;

        Ok(Self {
            controller,
            backend: storage.map(Backend::Ram),
        })
    }

    fn adopt(&mut self, mut staged: Self) -> Self {
        core::mem::swap(&mut self.controller, &mut staged.controller);
        if staged.backend.is_some() {
            core::mem::swap(&mut self.backend, &mut staged.backend);
        }
        staged
    }

    fn storage(&mut self) -> Option<&mut RamBackend> {
        match &mut self.backend {
            Some(Backend::Ram(store)) => Some(store),
            _ => None,
        }
    }

    fn new_storage(&self) -> Result<Option<RamBackend>> {
        match &self.backend {
            Some(Backend::Ram(store)) => store.new_alike().map(Some),
            _ => Ok(None),
        }
    }

    fn set_storage(&mut self, storage: RamBackend) {
        self.backend = Some(Backend::Ram(storage));
    }
}
