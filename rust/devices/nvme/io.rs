// SPDX-License-Identifier: GPL-2.0

//! Commands of the NVM command set, section 6.

use device_model::{
    BackendError,
    BlockBackend,
    GuestMemory,
    ReadStraight,
    Stores, //
};

use crate::executor::Executor;
use crate::marks::Marks;
use crate::namespace::Selected;
use crate::parameters::NAMESPACES_MAX;
use crate::prp::{
    List,
    Prp,
    TRANSFER_MAX, //
};
use crate::spec::command::{
    Command,
    DatasetRange,
    DATASET_AD,
    DATASET_NR,
    FUA,
    NSID_ALL,
    RANGE_SIZE,
    WRITE_ZEROES_DEAC, //
};
use crate::spec::opcode::NvmOpcode;
use crate::spec::status::Status;

/// Ranges that are read at once.
const RANGES_BATCH: usize = 32;

/// Existing blocks of the namespace, in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

impl Executor {
    /// Executes a command of an I/O queue.
    pub(crate) fn execute_io<M: GuestMemory, S: Stores<M> + ?Sized>(
        &mut self,
        command: &Command,
        memory: &mut M,
        stores: &mut S,
    ) -> Result<(), Status> {
        let keeps_marks = self.parameters.keeps_marks();
        let opcode = NvmOpcode::decode(command.opcode)
            .filter(|opcode| opcode.is_executed(keeps_marks))
            .ok_or(Status::INVALID_OPCODE)?;
        self.count(opcode);
        command.check_flags()?;
        if opcode == NvmOpcode::Flush && command.nsid == NSID_ALL {
            self.check_not_formatting(NSID_ALL)?;
            return flush_all(stores);
        }
        let namespace = self
            .namespace(command.nsid)
            .ok_or(Status::INVALID_NAMESPACE)?;
        self.check_not_formatting(command.nsid)?;
        let backend = stores.store(namespace.index).ok_or(Status::INTERNAL)?;

        match opcode {
            NvmOpcode::Flush => flush(backend),
            NvmOpcode::Write => self.write(command, &namespace, memory, backend),
            NvmOpcode::Read => self.read(command, &namespace, memory, backend),
            NvmOpcode::WriteUncorrectable => self.write_uncorrectable(command, &namespace, backend),
            NvmOpcode::Compare => self.compare(command, &namespace, memory, backend),
            NvmOpcode::WriteZeroes => self.write_zeroes(command, &namespace, backend),
            NvmOpcode::DatasetManagement => {
                self.manage_dataset(command, &namespace, memory, backend)
            }
            NvmOpcode::Verify => verify(command, &namespace, backend),
        }
    }

    /// Checks that no format of a namespace, or of any with [`NSID_ALL`], is under way.
    pub(crate) fn check_not_formatting(&self, nsid: u32) -> Result<(), Status> {
        match self.formatting {
            Some(formatting) if formatting.concerns(nsid) => Err(Status::FORMAT_IN_PROGRESS),
            _ => Ok(()),
        }
    }

    /// Counts a command that is going to be completed, whatever its status, as figure 196 demands:
    /// Compare and Read commands as reads, and Write commands as writes.
    pub(crate) fn count(&mut self, opcode: NvmOpcode) {
        match opcode {
            NvmOpcode::Read | NvmOpcode::Compare => self.health.count_read(),
            NvmOpcode::Write => self.health.count_write(),
            _ => {}
        }
    }

    /// Announces to the store the blocks that a command of an I/O queue will read.
    pub(crate) fn announce_read<M, S: Stores<M> + ?Sized>(
        &self,
        command: &Command,
        stores: &mut S,
    ) {
        let (Some(NvmOpcode::Read) | Some(NvmOpcode::Compare)) = NvmOpcode::decode(command.opcode)
        else {
            return;
        };
        // A command that cannot be executed announces nothing.
        let Some(namespace) = self.namespace(command.nsid) else {
            return;
        };
        if let (Ok(extent), Some(backend)) = (
            transfer_extent(command, &namespace),
            stores.store(namespace.index),
        ) {
            if backend.has_to_wait() {
                backend.expect_read(extent.offset, extent.length);
            }
        }
    }

    /// Returns whether a command of an I/O queue can take much longer than the largest transfer: it
    /// concerns more bytes, or the medium has to have everything before it completes. `any_waits` says whether a store has
    /// a medium to wait for.
    pub(crate) fn takes_long<M, S: Stores<M> + ?Sized>(
        &self,
        command: &Command,
        stores: &mut S,
        any_waits: bool,
    ) -> bool {
        let opcode = NvmOpcode::decode(command.opcode);
        if let (false, Some(NvmOpcode::Read | NvmOpcode::Write)) = (any_waits, opcode) {
            return false;
        }
        let unit_access = command.cdw12() & FUA != 0;
        let namespace = self.namespace(command.nsid);
        let many = namespace.is_some_and(|namespace| {
            command.block_count() << namespace.lba_shift() > TRANSFER_MAX as u64
        });
        let (flushes, large) = match opcode {
            Some(NvmOpcode::Flush) => (true, false),
            Some(NvmOpcode::Read) => (unit_access, false),
            Some(NvmOpcode::Write) => (unit_access || !self.features.write_cache, false),
            Some(NvmOpcode::WriteZeroes) => (unit_access || !self.features.write_cache, many),
            Some(NvmOpcode::Verify) => (unit_access, many),
            Some(NvmOpcode::DatasetManagement) => (false, command.cdw11() & DATASET_AD != 0),
            Some(NvmOpcode::Compare | NvmOpcode::WriteUncorrectable) | None => (false, false),
        };
        // A flush of all namespaces has none of its own.
        let mut concerned = match namespace {
            Some(namespace) => namespace.index..namespace.index + 1,
            None => 0..NAMESPACES_MAX,
        };
        large || flushes && concerned.any(|index| has_to_wait(stores, index))
    }

    fn read<M: GuestMemory, B: ReadStraight<M> + ?Sized>(
        &mut self,
        command: &Command,
        namespace: &Selected,
        memory: &mut M,
        backend: &mut B,
    ) -> Result<(), Status> {
        let mut list = None;
        let (extent, length, mut prp) = self.transfer(command, namespace, &mut list)?;
        let offset = extent.offset;
        prepare_read(command, namespace, extent, backend)?;
        let straight = backend
            .read_straight(offset, length, memory, &mut |memory, most| {
                prp.take(memory, most)
            })
            .map_err(|error| failure(error, Some(&prp), Status::READ_ERROR))?;
        let left = length.checked_sub(straight).ok_or(Status::INTERNAL)?;
        let read = match left {
            0 => Ok(()),
            _ => backend.read(offset + straight as u64, left, &mut |bytes| {
                prp.write(memory, bytes)
            }),
        };
        self.health.count_data_read(straight + prp.moved());
        read.map_err(|error| failure(error, Some(&prp), Status::READ_ERROR))
    }

    fn write<M: GuestMemory, B: BlockBackend + ?Sized>(
        &mut self,
        command: &Command,
        namespace: &Selected,
        memory: &mut M,
        backend: &mut B,
    ) -> Result<(), Status> {
        let mut list = None;
        let (extent, length, mut prp) = self.transfer(command, namespace, &mut list)?;
        let written = backend.write(extent.offset, length, &mut |bytes| prp.read(memory, bytes));
        self.health.count_data_written(prp.moved());
        written.map_err(|error| failure(error, Some(&prp), Status::WRITE_FAULT))?;
        unmark(namespace, extent, backend)?;
        self.persist(command, backend)
    }

    fn compare<M: GuestMemory, B: BlockBackend + ?Sized>(
        &mut self,
        command: &Command,
        namespace: &Selected,
        memory: &mut M,
        backend: &mut B,
    ) -> Result<(), Status> {
        let mut list = None;
        let (extent, length, mut prp) = self.transfer(command, namespace, &mut list)?;
        check_unmarked(namespace, extent, backend)?;
        let compared = backend.read(extent.offset, length, &mut |bytes| {
            prp.compare(memory, bytes)
        });
        self.health.count_data_read(prp.moved());
        compared.map_err(|error| failure(error, Some(&prp), Status::READ_ERROR))
    }

    fn write_zeroes<B: BlockBackend + ?Sized>(
        &mut self,
        command: &Command,
        namespace: &Selected,
        backend: &mut B,
    ) -> Result<(), Status> {
        let extent = namespace.extent(command.slba(), command.block_count())?;
        let may_deallocate = command.cdw12() & WRITE_ZEROES_DEAC != 0;
        backend
            .write_zeroes(extent.offset, extent.length, may_deallocate)
            .map_err(|error| backend_failure(error, Status::WRITE_FAULT))?;
        unmark(namespace, extent, backend)?;
        self.persist(command, backend)
    }

    /// Write Uncorrectable: the blocks cannot be read until they are written.
    fn write_uncorrectable<B: BlockBackend + ?Sized>(
        &mut self,
        command: &Command,
        namespace: &Selected,
        backend: &mut B,
    ) -> Result<(), Status> {
        let extent = namespace.extent(command.slba(), command.block_count())?;
        if let Some(state) = self.namespaces.get_mut(namespace.index) {
            state.marked = true;
        }
        Marks::new(namespace.parameters.capacity, backend)
            .set(extent, true)
            .map_err(|error| backend_failure(error, Status::WRITE_FAULT))
    }

    /// Dataset Management. The attributes other than deallocation are hints, and ignored.
    fn manage_dataset<M: GuestMemory, B: BlockBackend + ?Sized>(
        &mut self,
        command: &Command,
        namespace: &Selected,
        memory: &mut M,
        backend: &mut B,
    ) -> Result<(), Status> {
        if command.cdw11() & DATASET_AD == 0 {
            return Ok(());
        }

        let count = (command.cdw10() & DATASET_NR) as usize + 1;
        let mut list = None;
        let page_shift = self.registers.page_shift();
        let mut prp = Prp::new(command, count * RANGE_SIZE, page_shift, &mut list)?;
        let mut batch = [[0; RANGE_SIZE]; RANGES_BATCH];
        let mut left = count;
        // Ranges may overlap. As deallocation is a hint, the namespace is not gone over 256 times for
        // that.
        let mut allowed = namespace.parameters.capacity;
        while left > 0 {
            let ranges = &mut batch[..left.min(RANGES_BATCH)];
            left -= ranges.len();
            prp.read(memory, ranges.as_flattened_mut())
                .map_err(|_| prp.failure())?;
            for range in ranges.iter() {
                let DatasetRange { slba, blocks } = DatasetRange::decode(range);
                let extent = namespace.extent(slba, blocks.into())?;
                if extent.length > 0 && extent.length <= allowed {
                    allowed -= extent.length;
                    backend
                        .deallocate(extent.offset, extent.length)
                        .map_err(|error| backend_failure(error, Status::WRITE_FAULT))?;
                    // Deallocated blocks read as zeros.
                    unmark(namespace, extent, backend)?;
                }
            }
        }
        Ok(())
    }

    /// Flushes after a command that wrote, if its data has to survive a loss of power.
    fn persist<B: BlockBackend + ?Sized>(
        &self,
        command: &Command,
        backend: &mut B,
    ) -> Result<(), Status> {
        if command.cdw12() & FUA != 0 || !self.features.write_cache {
            flush(backend)?;
        }
        Ok(())
    }

    /// Returns the blocks and the length of the data of a command in the backend, and its place in the guest.
    pub(crate) fn transfer<'a>(
        &self,
        command: &Command,
        namespace: &Selected,
        list: &'a mut Option<List>,
    ) -> Result<(Extent, usize, Prp<'a>), Status> {
        let extent = transfer_extent(command, namespace)?;
        // It is at most the maximum transfer size.
        let length = extent.length as usize;
        let prp = Prp::new(command, length, self.registers.page_shift(), list)?;
        Ok((extent, length, prp))
    }
}

/// Verify: reads blocks as Read does, and transfers none. The maximum transfer size does not limit it.
fn verify<B: BlockBackend + ?Sized>(
    command: &Command,
    namespace: &Selected,
    backend: &mut B,
) -> Result<(), Status> {
    let extent = namespace.extent(command.slba(), command.block_count())?;
    prepare_read(command, namespace, extent, backend)?;
    // It is at most 65536 blocks.
    let length = extent.length as usize;
    backend
        .read(extent.offset, length, &mut |_| Ok(()))
        .map_err(|error| backend_failure(error, Status::READ_ERROR))
}

/// Does what comes before the content is read: what a read of the medium asks for, and the check for marks.
fn prepare_read<B: BlockBackend + ?Sized>(
    command: &Command,
    namespace: &Selected,
    extent: Extent,
    backend: &mut B,
) -> Result<(), Status> {
    if command.cdw12() & FUA != 0 {
        // A failed read does not tell the guest that a write was lost, so the error is kept for a flush.
        backend.write_back().map_err(|_| Status::READ_ERROR)?;
    }
    check_unmarked(namespace, extent, backend)
}

/// Checks that no block has the mark of Write Uncorrectable.
fn check_unmarked<B: BlockBackend + ?Sized>(
    namespace: &Selected,
    extent: Extent,
    backend: &mut B,
) -> Result<(), Status> {
    if namespace.state.marked
        && Marks::new(namespace.parameters.capacity, backend)
            .any(extent)
            .map_err(|error| backend_failure(error, Status::READ_ERROR))?
    {
        return Err(Status::UNCORRECTABLE);
    }
    Ok(())
}

/// Removes the marks of blocks that were written.
fn unmark<B: BlockBackend + ?Sized>(
    namespace: &Selected,
    extent: Extent,
    backend: &mut B,
) -> Result<(), Status> {
    if !namespace.state.marked {
        return Ok(());
    }
    Marks::new(namespace.parameters.capacity, backend)
        .set(extent, false)
        .map_err(|error| backend_failure(error, Status::WRITE_FAULT))
}

/// Returns the blocks that a command transfers.
fn transfer_extent(command: &Command, namespace: &Selected) -> Result<Extent, Status> {
    let blocks = command.block_count();
    let most = TRANSFER_MAX as u64 >> namespace.lba_shift();
    if blocks > most {
        return Err(Status::INVALID_FIELD);
    }
    namespace.extent(command.slba(), blocks)
}

/// Returns whether a store exists whose requests wait for a medium.
pub(crate) fn has_to_wait<M, S: Stores<M> + ?Sized>(stores: &mut S, index: usize) -> bool {
    stores.store(index).is_some_and(|store| store.has_to_wait())
}

/// Flushes the stores of all namespaces.
///
/// # Errors
///
/// The first one; the other stores are flushed all the same.
pub(crate) fn flush_all<M, S: Stores<M> + ?Sized>(stores: &mut S) -> Result<(), Status> {
    let mut result = Ok(());
    for index in 0..NAMESPACES_MAX {
        if let Some(store) = stores.store(index) {
            result = result.and(flush(store));
        }
    }
    result
}

/// Flushes the backend.
pub(crate) fn flush<B: BlockBackend + ?Sized>(backend: &mut B) -> Result<(), Status> {
    backend
        .flush()
        .map_err(|error| backend_failure(error, Status::WRITE_FAULT))
}

/// Returns the status for an error of a backend, which moved the data that `prp` describes.
pub(crate) fn failure(error: BackendError, prp: Option<&Prp<'_>>, medium: Status) -> Status {
    match (error, prp) {
        (BackendError::Memory(_), Some(prp)) => prp.failure(),
        _ => backend_failure(error, medium),
    }
}

/// Returns the status for an error of a backend that moved no data.
pub(crate) fn backend_failure(error: BackendError, medium: Status) -> Status {
    match error {
        BackendError::Memory(_) => Status::INTERNAL,
        BackendError::Full => Status::CAPACITY_EXCEEDED,
        BackendError::Medium => medium,
    }
}
