// SPDX-License-Identifier: GPL-2.0

//! The contents of a controller's namespaces: in the host's memory, or in files.

mod blocks;
pub(crate) mod file;
mod ram;
mod write_back;

use crate::settings::{
    Cache,
    NamespaceSettings,
    NvmeSettings,
    StoreKind, //
};
use blocks::RamBlocks;
use core::fmt::{
    self,
    Display, //
};
use device_model::{
    Backend,
    Log,
    ReadStraight,
    Stores, //
};
use ferry_core::{
    dma_memory::DmaMemory,
    driver::Waker,
    errno, //
};
use file::FileBackend;
use kernel::prelude::*;
use nvme::{
    storage_size,
    NamespaceParameters,
    NAMESPACES_MAX, //
};
use ram::RamBackend;
use vfio_uapi::Errno;
use write_back::FileWriteBack;

/// The contents of a controller's namespaces. Each namespace that exists is in one of both.
pub(crate) struct NvmeBackend {
    /// Memory of the host, which migrates.
    ram: RamBlocks,
    /// Files, which both hosts of a migration reach.
    files: [Option<FileBackend>; NAMESPACES_MAX],
    namespaces: [Option<NamespaceParameters>; NAMESPACES_MAX],
}

impl NvmeBackend {
    /// Makes or opens the stores that `settings` choose, for the current process.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOENT` if no file has been chosen, or what [`FileBackend::open`] returns.
    pub(crate) fn open(settings: &NvmeSettings, waker: &Waker, log: Log<'_>) -> Result<Self> {
        let mut backend = Self {
            ram: RamBlocks::default(),
            files: [const { None }; NAMESPACES_MAX],
            namespaces: [None; NAMESPACES_MAX],
        };

        for (index, namespace) in settings.namespaces.iter().enumerate() {
            backend.add(index, namespace, waker).inspect_err(|error| {
                if namespace.store == StoreKind::File {
                    let failure = match namespace.cache {
                        Cache::WriteBack => "used",
                        // Most likely the blocks are smaller than those of the disk.
                        Cache::None => "used without the page cache, with blocks of this size",
                    };
                    log("open", &Failed(index, failure), errno(*error));
                }
            })?;
        }
        Ok(backend)
    }

    fn add(&mut self, index: usize, settings: &NamespaceSettings, waker: &Waker) -> Result {
        let capacity = match settings.store {
            StoreKind::None => return Ok(()),
            StoreKind::Ram => {
                let ram = RamBackend::new(storage_size(settings.capacity))?;
                self.ram.put_store(index, ram);
                settings.capacity
            }
            StoreKind::File => {
                let name = settings.file.as_ref().ok_or(ENOENT)?;
                let file = FileBackend::open(name, settings, waker)?;
                let capacity = file.capacity();
                *self.files.get_mut(index).ok_or(EINVAL)? = Some(file);
                capacity
            }
        };
        *self.namespaces.get_mut(index).ok_or(EINVAL)? = Some(NamespaceParameters {
            capacity,
            lba_shift: settings.lba_shift,
            store: settings.store as u8,
        });
        Ok(())
    }

    /// Returns what the model has to know of the namespaces.
    pub(crate) fn namespaces(&self) -> &[Option<NamespaceParameters>; NAMESPACES_MAX] {
        &self.namespaces
    }

    /// Does `f` to each file, also after an error, of which it returns the first one.
    fn for_each_file(
        &mut self,
        log: Log<'_>,
        failure: &'static str,
        mut f: impl FnMut(&mut FileBackend) -> Result,
    ) -> Result<(), Errno> {
        let mut result = Ok(());

        for (index, file) in self.files.iter_mut().enumerate() {
            let Some(file) = file else {
                continue;
            };
            if let Err(error) = f(file) {
                log("store", &Failed(index, failure), errno(error));
                result = result.and(Err(errno(error)));
            }
        }
        result
    }
}

/// The file of namespace number `.0`, from 0, cannot be `.1`.
struct Failed(usize, &'static str);

impl Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(index, failure) = self;
        match index {
            0 => write!(f, "the file cannot be {failure}"),
            _ => write!(f, "the file of namespace {} cannot be {failure}", index + 1),
        }
    }
}

/// Writes files back while the device goes on.
pub(crate) struct FilesWriteBack([Option<FileWriteBack>; NAMESPACES_MAX]);

impl device_model::WriteBack for FilesWriteBack {
    fn begin(&self) {
        self.0.iter().flatten().for_each(FileWriteBack::begin);
    }

    fn unwritten(&self) -> u64 {
        let files = self.0.iter().flatten();
        files.fold(0, |sum, file| sum.saturating_add(file.unwritten()))
    }
}

impl Backend for NvmeBackend {
    type Blocks = RamBlocks;
    type WriteBack = FilesWriteBack;

    fn write_back(&self) -> Result<FilesWriteBack, Errno> {
        let mut write_back = FilesWriteBack([const { None }; NAMESPACES_MAX]);

        for (place, file) in write_back.0.iter_mut().zip(&self.files) {
            let file = file.as_ref().map(FileBackend::write_back);
            *place = file.transpose().map_err(errno)?;
        }
        Ok(write_back)
    }

    fn acquire(&mut self, log: Log<'_>) -> Result<(), Errno> {
        // Files that cannot be used all are used by nobody, so that the other end of a migration can go on.
        self.for_each_file(log, "locked", FileBackend::acquire)
            .inspect_err(|_| {
                let _ = self.for_each_file(log, "flushed", FileBackend::release);
            })
    }

    fn release(&mut self, log: Log<'_>) -> Result<(), Errno> {
        self.for_each_file(log, "flushed", FileBackend::release)
    }

    fn settle(&mut self, log: Log<'_>) -> Result<(), Errno> {
        self.for_each_file(log, "flushed", FileBackend::settle)
    }

    fn blocks(&mut self) -> Option<&mut RamBlocks> {
        (!self.ram.is_empty()).then_some(&mut self.ram)
    }

    fn new_blocks(&self) -> Result<Option<RamBlocks>, Errno> {
        if self.ram.is_empty() {
            return Ok(None);
        }
        self.ram.new_alike().map(Some).map_err(errno)
    }

    fn replace_blocks(&mut self, blocks: RamBlocks) -> RamBlocks {
        core::mem::replace(&mut self.ram, blocks)
    }
}

impl<'a> Stores<DmaMemory<'a>> for NvmeBackend {
    fn store(&mut self, index: usize) -> Option<&mut dyn ReadStraight<DmaMemory<'a>>> {
        if let Some(ram) = self.ram.store(index) {
            return Some(ram);
        }
        match self.files.get_mut(index) {
            Some(Some(file)) => Some(file),
            _ => None,
        }
    }
}
