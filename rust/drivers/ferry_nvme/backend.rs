// SPDX-License-Identifier: GPL-2.0

//! The content of a namespace: in the host's memory, or in a file.

pub(crate) mod file;
mod ram;

use crate::settings::{
    NvmeSettings,
    StoreKind, //
};
use device_model::{
    Backend,
    DiskBackend,
    Log,
    ReadStraight, //
};
use ferry_core::{
    dma_memory::DmaMemory,
    errno, //
};
use file::FileBackend;
use kernel::prelude::*;
use nvme::storage_size;
use ram::RamBackend;
use vfio_uapi::Errno;

/// The content of a namespace.
pub(crate) enum NvmeBackend {
    /// Memory of the host, which migrates.
    Ram(RamBackend),
    /// A file, which both hosts of a migration reach.
    File(FileBackend),
}

impl NvmeBackend {
    /// Makes or opens the backend that `settings` choose, for the current process.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOENT` if no file has been chosen, or what [`FileBackend::open`] returns.
    pub(crate) fn open(settings: &NvmeSettings, log: Log<'_>) -> Result<Self> {
        match settings.store {
            StoreKind::Ram => Ok(Self::Ram(RamBackend::new(storage_size(settings.capacity))?)),
            StoreKind::File => settings
                .file
                .as_ref()
                .ok_or(ENOENT)
                .and_then(FileBackend::open)
                .map(Self::File)
                .inspect_err(|error| log("open", &"the file cannot be used", errno(*error))),
        }
    }

    /// Capacity in bytes of a namespace with `settings`.
    pub(crate) fn capacity(&self, settings: &NvmeSettings) -> u64 {
        match self {
            Self::Ram(_) => settings.capacity,
            Self::File(file) => file.capacity(),
        }
    }
}

impl Backend for NvmeBackend {
    type Blocks = RamBackend;

    fn acquire(&mut self, log: Log<'_>) -> Result<(), Errno> {
        let Self::File(file) = self else {
            return Ok(());
        };
        file.acquire().map_err(|error| {
            log("store", &"the file cannot be locked", errno(error));
            errno(error)
        })
    }

    fn release(&mut self, log: Log<'_>) -> Result<(), Errno> {
        let Self::File(file) = self else {
            return Ok(());
        };
        file.release().map_err(|error| {
            log("store", &"the file cannot be flushed", errno(error));
            errno(error)
        })
    }

    fn settle(&mut self) {
        if let Self::File(file) = self {
            file.settle();
        }
    }

    fn blocks(&mut self) -> Option<&mut RamBackend> {
        match self {
            Self::Ram(ram) => Some(ram),
            Self::File(_) => None,
        }
    }

    fn new_blocks(&self) -> Result<Option<RamBackend>, Errno> {
        match self {
            Self::Ram(ram) => ram.new_alike().map(Some).map_err(errno),
            Self::File(_) => Ok(None),
        }
    }

    fn replace_blocks(&mut self, blocks: RamBackend) -> RamBackend {
        match self {
            Self::Ram(ram) => core::mem::replace(ram, blocks),
            // A file has no blocks to be replaced.
            Self::File(_) => blocks,
        }
    }
}

impl<'a> DiskBackend<DmaMemory<'a>> for NvmeBackend {
    fn content(&mut self) -> &mut dyn ReadStraight<DmaMemory<'a>> {
        match self {
            Self::Ram(ram) => ram,
            Self::File(file) => file,
        }
    }
}
