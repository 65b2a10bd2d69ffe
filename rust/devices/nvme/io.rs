// SPDX-License-Identifier: GPL-2.0

//! Commands of the NVM command set, section 6.

use device_model::{
    BackendError,
    BlockBackend,
    GuestMemory,
    ReadStraight, //
};

use crate::executor::Executor;
use crate::marks::Marks;
use crate::parameters::NSID;
use crate::prp::{
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
    pub(crate) fn execute_io<M: GuestMemory, B: ReadStraight<M> + ?Sized>(
        &mut self,
        command: &Command,
        memory: &mut M,
        backend: &mut B,
    ) -> Result<(), Status> {
        let keeps_marks = self.parameters.keeps_marks();
        let opcode = NvmOpcode::decode(command.opcode)
            .filter(|opcode| opcode.is_executed(keeps_marks))
            .ok_or(Status::INVALID_OPCODE)?;
        self.count(opcode);
        command.check_flags()?;
        let all_allowed = opcode == NvmOpcode::Flush && command.nsid == NSID_ALL;
        if command.nsid != NSID && !all_allowed {
            return Err(Status::INVALID_NAMESPACE);
        }
        if self.formatting.is_some() {
            return Err(Status::FORMAT_IN_PROGRESS);
        }

        match opcode {
            NvmOpcode::Flush => flush(backend),
            NvmOpcode::Write => self.write(command, memory, backend),
            NvmOpcode::Read => self.read(command, memory, backend),
            NvmOpcode::WriteUncorrectable => self.write_uncorrectable(command, backend),
            NvmOpcode::Compare => self.compare(command, memory, backend),
            NvmOpcode::WriteZeroes => self.write_zeroes(command, backend),
            NvmOpcode::DatasetManagement => self.manage_dataset(command, memory, backend),
            NvmOpcode::Verify => self.verify(command, backend),
        }
    }

    /// Counts a command that is going to be completed, whatever its status, as figure 196 demands:
    /// Compare and Read commands as reads, and Write commands as writes.
    fn count(&mut self, opcode: NvmOpcode) {
        match opcode {
            NvmOpcode::Read | NvmOpcode::Compare => self.health.count_read(),
            NvmOpcode::Write => self.health.count_write(),
            _ => {}
        }
    }

    /// Announces to the backend the blocks that a command of an I/O queue will read.
    pub(crate) fn announce_read<B: BlockBackend + ?Sized>(
        &self,
        command: &Command,
        backend: &mut B,
    ) {
        let (Some(NvmOpcode::Read) | Some(NvmOpcode::Compare)) = NvmOpcode::decode(command.opcode)
        else {
            return;
        };
        // A command that cannot be executed announces nothing.
        if let Ok(extent) = self.transfer_extent(command) {
            backend.expect_read(extent.offset, extent.length);
        }
    }

    /// Returns whether a command of an I/O queue can take much longer than the largest transfer: it
    /// concerns more bytes, or the medium has to have everything before it completes.
    pub(crate) fn takes_long<B: BlockBackend + ?Sized>(
        &self,
        command: &Command,
        backend: &B,
    ) -> bool {
        let unit_access = command.cdw12() & FUA != 0;
        let many = command.block_count() << self.lba_shift() > TRANSFER_MAX as u64;
        let (flushes, large) = match NvmOpcode::decode(command.opcode) {
            Some(NvmOpcode::Flush) => (true, false),
            Some(NvmOpcode::Read) => (unit_access, false),
            Some(NvmOpcode::Write) => (unit_access || !self.features.write_cache, false),
            Some(NvmOpcode::WriteZeroes) => (unit_access || !self.features.write_cache, many),
            Some(NvmOpcode::Verify) => (unit_access, many),
            Some(NvmOpcode::DatasetManagement) => (false, command.cdw11() & DATASET_AD != 0),
            Some(NvmOpcode::Compare | NvmOpcode::WriteUncorrectable) | None => (false, false),
        };
        large || flushes && backend.has_to_wait()
    }

    fn read<M: GuestMemory, B: ReadStraight<M> + ?Sized>(
        &mut self,
        command: &Command,
        memory: &mut M,
        backend: &mut B,
    ) -> Result<(), Status> {
        let (extent, length, mut prp) = self.transfer(command)?;
        let offset = extent.offset;
        self.prepare_read(command, extent, backend)?;
        let straight = backend
            .read_straight(offset, length, memory, &mut |memory, most| {
                prp.take(memory, most)
            })
            .map_err(|error| failure(error, &prp, Status::READ_ERROR))?;
        let left = length.checked_sub(straight).ok_or(Status::INTERNAL)?;
        let read = match left {
            0 => Ok(()),
            _ => backend.read(offset + straight as u64, left, &mut |bytes| {
                prp.write(memory, bytes)
            }),
        };
        self.health.count_data_read(straight + prp.moved());
        read.map_err(|error| failure(error, &prp, Status::READ_ERROR))
    }

    fn write<M: GuestMemory, B: BlockBackend + ?Sized>(
        &mut self,
        command: &Command,
        memory: &mut M,
        backend: &mut B,
    ) -> Result<(), Status> {
        let (extent, length, mut prp) = self.transfer(command)?;
        let written = backend.write(extent.offset, length, &mut |bytes| prp.read(memory, bytes));
        self.health.count_data_written(prp.moved());
        written.map_err(|error| failure(error, &prp, Status::WRITE_FAULT))?;
        self.unmark(extent, backend)?;
        self.persist(command, backend)
    }

    fn compare<M: GuestMemory, B: BlockBackend + ?Sized>(
        &mut self,
        command: &Command,
        memory: &mut M,
        backend: &mut B,
    ) -> Result<(), Status> {
        let (extent, length, mut prp) = self.transfer(command)?;
        self.check_unmarked(extent, backend)?;
        let compared = backend.read(extent.offset, length, &mut |bytes| {
            prp.compare(memory, bytes)
        });
        self.health.count_data_read(prp.moved());
        compared.map_err(|error| failure(error, &prp, Status::READ_ERROR))
    }

    fn write_zeroes<B: BlockBackend + ?Sized>(
        &mut self,
        command: &Command,
        backend: &mut B,
    ) -> Result<(), Status> {
        let extent = self.extent(command.slba(), command.block_count())?;
        let may_deallocate = command.cdw12() & WRITE_ZEROES_DEAC != 0;
        backend
            .write_zeroes(extent.offset, extent.length, may_deallocate)
            .map_err(|error| backend_failure(error, Status::WRITE_FAULT))?;
        self.unmark(extent, backend)?;
        self.persist(command, backend)
    }

    /// Verify: reads blocks as Read does, and transfers none. The maximum transfer size does not limit it.
    fn verify<B: BlockBackend + ?Sized>(
        &self,
        command: &Command,
        backend: &mut B,
    ) -> Result<(), Status> {
        let extent = self.extent(command.slba(), command.block_count())?;
        self.prepare_read(command, extent, backend)?;
        // It is at most 65536 blocks.
        let length = extent.length as usize;
        backend
            .read(extent.offset, length, &mut |_| Ok(()))
            .map_err(|error| backend_failure(error, Status::READ_ERROR))
    }

    /// Write Uncorrectable: the blocks cannot be read until they are written.
    fn write_uncorrectable<B: BlockBackend + ?Sized>(
        &mut self,
        command: &Command,
        backend: &mut B,
    ) -> Result<(), Status> {
        let extent = self.extent(command.slba(), command.block_count())?;
        self.namespace.marked = true;
        Marks::new(self.parameters.capacity, backend)
            .set(extent, true)
            .map_err(|error| backend_failure(error, Status::WRITE_FAULT))
    }

    /// Does what comes before the content is read: what a read of the medium asks for, and the check for marks.
    fn prepare_read<B: BlockBackend + ?Sized>(
        &self,
        command: &Command,
        extent: Extent,
        backend: &mut B,
    ) -> Result<(), Status> {
        if command.cdw12() & FUA != 0 {
            // A failed read does not tell the guest that a write was lost, so the error is kept for a flush.
            backend.write_back().map_err(|_| Status::READ_ERROR)?;
        }
        self.check_unmarked(extent, backend)
    }

    /// Checks that no block has the mark of Write Uncorrectable.
    fn check_unmarked<B: BlockBackend + ?Sized>(
        &self,
        extent: Extent,
        backend: &mut B,
    ) -> Result<(), Status> {
        if self.namespace.marked
            && Marks::new(self.parameters.capacity, backend)
                .any(extent)
                .map_err(|error| backend_failure(error, Status::READ_ERROR))?
        {
            return Err(Status::UNCORRECTABLE);
        }
        Ok(())
    }

    /// Removes the marks of blocks that were written.
    fn unmark<B: BlockBackend + ?Sized>(
        &self,
        extent: Extent,
        backend: &mut B,
    ) -> Result<(), Status> {
        if !self.namespace.marked {
            return Ok(());
        }
        Marks::new(self.parameters.capacity, backend)
            .set(extent, false)
            .map_err(|error| backend_failure(error, Status::WRITE_FAULT))
    }

    /// Dataset Management. The attributes other than deallocation are hints, and ignored.
    fn manage_dataset<M: GuestMemory, B: BlockBackend + ?Sized>(
        &mut self,
        command: &Command,
        memory: &mut M,
        backend: &mut B,
    ) -> Result<(), Status> {
        if command.cdw11() & DATASET_AD == 0 {
            return Ok(());
        }

        let count = (command.cdw10() & DATASET_NR) as usize + 1;
        let mut prp = Prp::new(command, count * RANGE_SIZE, self.registers.page_shift())?;
        let mut batch = [[0; RANGE_SIZE]; RANGES_BATCH];
        let mut left = count;
        // Ranges may overlap. As deallocation is a hint, the namespace is not gone over 256 times for
        // that.
        let mut allowed = self.parameters.capacity;
        while left > 0 {
            let ranges = &mut batch[..left.min(RANGES_BATCH)];
            left -= ranges.len();
            prp.read(memory, ranges.as_flattened_mut())
                .map_err(|_| prp.failure())?;
            for range in ranges.iter() {
                let DatasetRange { slba, blocks } = DatasetRange::decode(range);
                let extent = self.extent(slba, blocks.into())?;
                if extent.length > 0 && extent.length <= allowed {
                    allowed -= extent.length;
                    backend
                        .deallocate(extent.offset, extent.length)
                        .map_err(|error| backend_failure(error, Status::WRITE_FAULT))?;
                    // Deallocated blocks read as zeros.
                    self.unmark(extent, backend)?;
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

    /// Returns the blocks that a command transfers.
    fn transfer_extent(&self, command: &Command) -> Result<Extent, Status> {
        let blocks = command.block_count();
        let most = TRANSFER_MAX as u64 >> self.lba_shift();
        if blocks > most {
            return Err(Status::INVALID_FIELD);
        }
        self.extent(command.slba(), blocks)
    }

    /// Returns the blocks and the length of the data of a command in the backend, and its place in the guest.
    fn transfer(&self, command: &Command) -> Result<(Extent, usize, Prp), Status> {
        let extent = self.transfer_extent(command)?;
        // It is at most the maximum transfer size.
        let length = extent.length as usize;
        let prp = Prp::new(command, length, self.registers.page_shift())?;
        Ok((extent, length, prp))
    }

    /// Returns `blocks` logical blocks from `start` on, if the namespace has them.
    fn extent(&self, start: u64, blocks: u64) -> Result<Extent, Status> {
        match start.checked_add(blocks) {
            Some(end) if end <= self.blocks() => Ok(Extent {
                offset: start << self.lba_shift(),
                length: blocks << self.lba_shift(),
            }),
            _ => Err(Status::LBA_OUT_OF_RANGE),
        }
    }
}

/// Flushes the backend.
pub(crate) fn flush<B: BlockBackend + ?Sized>(backend: &mut B) -> Result<(), Status> {
    backend
        .flush()
        .map_err(|error| backend_failure(error, Status::WRITE_FAULT))
}

/// Returns the status for an error of a backend that moved data.
fn failure(error: BackendError, prp: &Prp, medium: Status) -> Status {
    match error {
        BackendError::Memory(_) => prp.failure(),
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
