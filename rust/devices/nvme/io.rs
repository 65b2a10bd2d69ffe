// SPDX-License-Identifier: GPL-2.0

//! Commands of the NVM command set, section 6.

use crate::backend::{
    BackendError, //
    BlockBackend,
};
use crate::command::{
    low,
    Command,
    NSID,
    NSID_ALL, //
};
use crate::controller::Controller;
use crate::identify::TRANSFER_MAX;
use crate::memory::GuestMemory;
use crate::prp::Prp;
use crate::status::Status;

const FLUSH: u8 = 0x00;
const WRITE: u8 = 0x01;
const READ: u8 = 0x02;
const COMPARE: u8 = 0x05;
const WRITE_ZEROES: u8 = 0x08;
const DATASET_MANAGEMENT: u8 = 0x09;

/// The I/O commands, and whether they change content.
pub(crate) const COMMANDS: [(u8, bool); 6] = [
    (FLUSH, false),
    (WRITE, true),
    (READ, false),
    (COMPARE, false),
    (WRITE_ZEROES, true),
    (DATASET_MANAGEMENT, true),
];

/// Dword 12: the data must be on the medium when the command completes.
const FORCE_UNIT_ACCESS: u32 = 1 << 30;
/// Dword 12 of Write Zeroes: the blocks may be deallocated.
const WRITE_ZEROES_DEALLOCATE: u32 = 1 << 25;
/// Dword 11 of Dataset Management: the ranges are to be deallocated.
const DATASET_DEALLOCATE: u32 = 1 << 2;
/// Dword 10 of Dataset Management: number of ranges less one.
const DATASET_RANGES: u32 = 0xff;

/// Bytes of a range of Dataset Management.
const RANGE_SIZE: usize = 16;
/// Ranges that are read at once.
const RANGES_BATCH: usize = 32;

/// Blocks of the namespace, as bytes. They exist.
#[derive(Clone, Copy)]
struct Extent {
    offset: u64,
    length: u64,
}

impl Controller {
    /// Executes a command of an I/O queue.
    pub(crate) fn execute_io<M: GuestMemory, S: BlockBackend>(
        &mut self,
        command: &Command,
        memory: &mut M,
        store: &mut S,
    ) -> Result<(), Status> {
        self.count(command);
        if !COMMANDS.iter().any(|(opcode, _)| *opcode == command.opcode) {
            return Err(Status::INVALID_OPCODE);
        }
        command.check_flags()?;
        let all_allowed = command.opcode == FLUSH && command.nsid == NSID_ALL;
        if command.nsid != NSID && !all_allowed {
            return Err(Status::INVALID_NAMESPACE);
        }

        match command.opcode {
            READ => self.read(command, memory, store),
            WRITE => self.write(command, memory, store),
            COMPARE => self.compare(command, memory, store),
            WRITE_ZEROES => self.write_zeroes(command, store),
            DATASET_MANAGEMENT => self.manage_dataset(command, memory, store),
            _ => flush(store),
        }
    }

    /// Counts a command that is going to be completed, as figure 196 has it: whatever becomes of it,
    /// Compare and Read commands as reads, and Write commands as writes.
    fn count(&mut self, command: &Command) {
        match command.opcode {
            READ | COMPARE => self.health.count_read(),
            WRITE => self.health.count_write(),
            _ => {}
        }
    }

    /// Tells the store of what a command of an I/O queue will read.
    pub(crate) fn announce_read<S: BlockBackend>(&self, command: &Command, store: &mut S) {
        if ![READ, COMPARE].contains(&command.opcode) {
            return;
        }
        // One that cannot be executed leads to nothing here.
        if let Ok(extent) = self.transfer_extent(command) {
            store.expect_read(extent.offset, extent.length);
        }
    }

    /// Whether a command of an I/O queue can take much longer than the largest transfer: it is about
    /// more bytes than that, or the medium has to have everything before it completes.
    pub(crate) fn takes_long<S: BlockBackend>(&self, command: &Command, store: &S) -> bool {
        let unit_access = command.cdw12() & FORCE_UNIT_ACCESS != 0;
        let flushes = match command.opcode {
            FLUSH => true,
            READ => unit_access,
            WRITE | WRITE_ZEROES => unit_access || !self.features.write_cache,
            _ => false,
        };
        let large = match command.opcode {
            WRITE_ZEROES => block_count(command) << self.parameters.lba_shift > TRANSFER_MAX as u64,
            DATASET_MANAGEMENT => command.cdw11() & DATASET_DEALLOCATE != 0,
            _ => false,
        };
        large || flushes && store.has_to_wait()
    }

    fn read<M: GuestMemory, S: BlockBackend>(
        &mut self,
        command: &Command,
        memory: &mut M,
        store: &mut S,
    ) -> Result<(), Status> {
        let (offset, length, mut prp) = self.transfer(command)?;
        if command.cdw12() & FORCE_UNIT_ACCESS != 0 {
            flush(store).map_err(|_| Status::READ_ERROR)?;
        }
        let straight = store
            .read_straight(offset, length, &mut |most| prp.take(memory, most))
            .map_err(|error| failure(error, &prp, Status::READ_ERROR))?;
        let left = length.checked_sub(straight).ok_or(Status::INTERNAL)?;
        let read = match left {
            0 => Ok(()),
            _ => store.read(offset + straight as u64, left, &mut |bytes| {
                prp.write(memory, bytes)
            }),
        };
        self.health.count_data_read(straight + prp.moved());
        read.map_err(|error| failure(error, &prp, Status::READ_ERROR))
    }

    fn write<M: GuestMemory, S: BlockBackend>(
        &mut self,
        command: &Command,
        memory: &mut M,
        store: &mut S,
    ) -> Result<(), Status> {
        let (offset, length, mut prp) = self.transfer(command)?;
        let written = store.write(offset, length, &mut |bytes| prp.read(memory, bytes));
        self.health.count_data_written(prp.moved());
        written.map_err(|error| failure(error, &prp, Status::WRITE_FAULT))?;
        self.persist(command, store)
    }

    fn compare<M: GuestMemory, S: BlockBackend>(
        &mut self,
        command: &Command,
        memory: &mut M,
        store: &mut S,
    ) -> Result<(), Status> {
        let (offset, length, mut prp) = self.transfer(command)?;
        let compared = store.read(offset, length, &mut |bytes| prp.compare(memory, bytes));
        self.health.count_data_read(prp.moved());
        compared.map_err(|error| failure(error, &prp, Status::READ_ERROR))
    }

    fn write_zeroes<S: BlockBackend>(
        &mut self,
        command: &Command,
        store: &mut S,
    ) -> Result<(), Status> {
        let extent = self.extent(command.cdw10_11(), block_count(command))?;
        let may_deallocate = command.cdw12() & WRITE_ZEROES_DEALLOCATE != 0;
        store
            .write_zeroes(extent.offset, extent.length, may_deallocate)
            .map_err(|error| failure_of_store(error, Status::WRITE_FAULT))?;
        self.persist(command, store)
    }

    /// Dataset Management. All but deallocation is a hint, which is of no use here.
    fn manage_dataset<M: GuestMemory, S: BlockBackend>(
        &mut self,
        command: &Command,
        memory: &mut M,
        store: &mut S,
    ) -> Result<(), Status> {
        if command.cdw11() & DATASET_DEALLOCATE == 0 {
            return Ok(());
        }

        let count = (command.cdw10() & DATASET_RANGES) as usize + 1;
        let mut prp = Prp::new(command, count * RANGE_SIZE, self.registers.page_shift())?;
        let mut batch = [[0; RANGE_SIZE]; RANGES_BATCH];
        let mut left = count;
        // Ranges may overlap. That is no reason to go over the namespace 256 times, as deallocation is
        // a wish.
        let mut allowed = self.parameters.capacity;
        while left > 0 {
            let ranges = &mut batch[..left.min(RANGES_BATCH)];
            left -= ranges.len();
            prp.read(memory, ranges.as_flattened_mut())
                .map_err(|_| prp.failure())?;
            for range in ranges.iter() {
                let (start, blocks) = decode_range(range);
                let extent = self.extent(start, blocks.into())?;
                if extent.length > 0 && extent.length <= allowed {
                    allowed -= extent.length;
                    store
                        .deallocate(extent.offset, extent.length)
                        .map_err(|error| failure_of_store(error, Status::WRITE_FAULT))?;
                }
            }
        }
        Ok(())
    }

    /// Makes what a command wrote survive a loss of power if it has to.
    fn persist<S: BlockBackend>(&self, command: &Command, store: &mut S) -> Result<(), Status> {
        if command.cdw12() & FORCE_UNIT_ACCESS != 0 || !self.features.write_cache {
            flush(store)?;
        }
        Ok(())
    }

    /// Returns where the data of a command is in the store.
    fn transfer_extent(&self, command: &Command) -> Result<Extent, Status> {
        let blocks = block_count(command);
        let most = TRANSFER_MAX as u64 >> self.parameters.lba_shift;
        if blocks > most {
            return Err(Status::INVALID_FIELD);
        }
        self.extent(command.cdw10_11(), blocks)
    }

    /// Returns where the data of a command is: offset and length in the store, and in the guest.
    fn transfer(&self, command: &Command) -> Result<(u64, usize, Prp), Status> {
        let extent = self.transfer_extent(command)?;
        // It is at most the maximum transfer size.
        let length = extent.length as usize;
        let prp = Prp::new(command, length, self.registers.page_shift())?;
        Ok((extent.offset, length, prp))
    }

    /// Returns where blocks are in the store.
    fn extent(&self, start: u64, blocks: u64) -> Result<Extent, Status> {
        match start.checked_add(blocks) {
            Some(end) if end <= self.parameters.blocks() => Ok(Extent {
                offset: start << self.parameters.lba_shift,
                length: blocks << self.parameters.lba_shift,
            }),
            _ => Err(Status::LBA_OUT_OF_RANGE),
        }
    }
}

/// Makes everything that was written survive a loss of power.
pub(crate) fn flush<S: BlockBackend>(store: &mut S) -> Result<(), Status> {
    store
        .flush()
        .map_err(|error| failure_of_store(error, Status::WRITE_FAULT))
}

/// Whether a command of an I/O queue says in dwords 10 and 11 where its blocks begin.
pub(crate) fn has_blocks(command: &Command) -> bool {
    [WRITE, READ, COMPARE, WRITE_ZEROES].contains(&command.opcode)
}

/// Number of blocks of a command that says one less in dword 12.
fn block_count(command: &Command) -> u64 {
    u64::from(low(command.cdw12())) + 1
}

/// Returns the first block and the number of blocks of a range.
fn decode_range(range: &[u8; RANGE_SIZE]) -> (u64, u32) {
    // The first four bytes are hints about how the range is used.
    let [_, _, _, _, b0, b1, b2, b3, start @ ..] = *range;
    (
        u64::from_le_bytes(start),
        u32::from_le_bytes([b0, b1, b2, b3]),
    )
}

/// The status for an error of a store that moved data.
fn failure(error: BackendError, prp: &Prp, medium: Status) -> Status {
    match error {
        BackendError::Memory(_) => prp.failure(),
        _ => failure_of_store(error, medium),
    }
}

/// The status for an error of a store alone.
fn failure_of_store(error: BackendError, medium: Status) -> Status {
    match error {
        // It moved no data.
        BackendError::Memory(_) => Status::INTERNAL,
        BackendError::Full => Status::CAPACITY_EXCEEDED,
        BackendError::Medium => medium,
    }
}
