// SPDX-License-Identifier: GPL-2.0

//! The data of a command in the guest's memory: physical region pages, section 4.3.

use device_model::{
    GuestMemory,
    MemoryError, //
};

use crate::registers::is_aligned;
use crate::spec::command::Command;
use crate::spec::registers::PAGE_SHIFT_MIN;
use crate::spec::status::Status;

/// MDTS (`mdts`): binary logarithm of the most bytes that a command transfers, in the smallest pages.
pub(crate) const TRANSFER_SHIFT: u32 = 7;
/// The most bytes that a command transfers: 512 KiB.
pub const TRANSFER_MAX: usize = 1 << (PAGE_SHIFT_MIN + TRANSFER_SHIFT);

/// Bytes of an entry.
const ENTRY_SIZE: usize = 8;
/// Binary logarithm of the bytes of an entry.
const ENTRY_SHIFT: u32 = 3;
/// Binary logarithm of the alignment of data: a dword.
const DATA_SHIFT: u32 = 2;
/// Entries of a list that are read at once: those of 256 KiB of data.
const BATCH: usize = 64;
/// Bytes that are compared at once.
const COMPARE_SIZE: usize = 512;

/// A cursor over the physical region pages of a command.
///
/// Every entry is read once. Pages that follow each other become one access.
pub(crate) struct Prp<'a> {
    page_shift: u32,
    /// Bus address of the rest of the current run of contiguous bytes.
    address: u64,
    /// Bytes that the current run has left.
    run: usize,
    /// Bytes behind the current run.
    behind: usize,
    next: Next<'a>,
    /// Bytes that were read or written so far.
    moved: usize,
    /// The status of an error other than one of the guest's memory.
    failure: Option<Status>,
}

/// The page behind the current run.
enum Next<'a> {
    /// The last page, at this address.
    Last(u64),
    /// The next page of a list.
    List(&'a mut List),
}

/// A list of entries that was read in part. Most commands have none, and it is large: its place is the caller's, so that
/// a cursor can be moved.
pub(crate) struct List {
    /// Bus address of the entries that were not read yet.
    address: u64,
    /// Entries that were read.
    entries: [[u8; ENTRY_SIZE]; BATCH],
    /// Number of entries that were taken.
    taken: usize,
    /// Number of entries that were read.
    read: usize,
    /// The last entry that was read is a link to the next page of the list.
    chained: bool,
}

impl<'a> Prp<'a> {
    /// Returns the cursor for the `length` bytes of a command, in pages of 2 to the power of `page_shift`
    /// bytes. `place` is for its list, if it has one.
    pub(crate) fn new(
        command: &Command,
        length: usize,
        page_shift: u32,
        place: &'a mut Option<List>,
    ) -> Result<Self, Status> {
        if !is_aligned(command.prp1, DATA_SHIFT) {
            return Err(Status::PRP_OFFSET);
        }
        let page = page_size(page_shift);
        let offset = (command.prp1 % page as u64) as usize;
        let run = length.min(page - offset);
        let behind = length - run;

        let next = if behind > page {
            if !is_aligned(command.prp2, ENTRY_SHIFT) {
                return Err(Status::PRP_OFFSET);
            }
            Next::List(place.insert(List {
                address: command.prp2,
                entries: [[0; ENTRY_SIZE]; BATCH],
                taken: 0,
                read: 0,
                chained: false,
            }))
        } else {
            if behind > 0 && !is_aligned(command.prp2, page_shift) {
                return Err(Status::PRP_OFFSET);
            }
            Next::Last(command.prp2)
        };
        Ok(Self {
            page_shift,
            address: command.prp1,
            run,
            behind,
            next,
            moved: 0,
            failure: None,
        })
    }

    /// The status after a failure: [`Status::DATA_TRANSFER`] if the guest's memory failed.
    pub(crate) fn failure(&self) -> Status {
        self.failure.unwrap_or(Status::DATA_TRANSFER)
    }

    /// Bytes that [`Prp::read`], [`Prp::write`] and [`Prp::compare`] have moved, also those of a call that
    /// failed.
    pub(crate) fn moved(&self) -> usize {
        self.moved
    }

    /// Fills `bytes` with the next bytes of the guest.
    pub(crate) fn read<M: GuestMemory>(
        &mut self,
        memory: &mut M,
        mut bytes: &mut [u8],
    ) -> Result<(), MemoryError> {
        while !bytes.is_empty() {
            let (address, length) = self.take(memory, bytes.len())?;
            let (now, later) = bytes.split_at_mut(length);
            memory.read(address, now)?;
            self.moved += length;
            bytes = later;
        }
        Ok(())
    }

    /// Gives `bytes` to the guest as its next ones.
    pub(crate) fn write<M: GuestMemory>(
        &mut self,
        memory: &mut M,
        mut bytes: &[u8],
    ) -> Result<(), MemoryError> {
        while !bytes.is_empty() {
            let (address, length) = self.take(memory, bytes.len())?;
            let (now, later) = bytes.split_at(length);
            memory.write(address, now)?;
            self.moved += length;
            bytes = later;
        }
        Ok(())
    }

    /// Checks that `bytes` are the next bytes of the guest.
    pub(crate) fn compare<M: GuestMemory>(
        &mut self,
        memory: &mut M,
        bytes: &[u8],
    ) -> Result<(), MemoryError> {
        let mut buffer = [0; COMPARE_SIZE];
        for piece in bytes.chunks(COMPARE_SIZE) {
            let theirs = &mut buffer[..piece.len()];
            self.read(memory, theirs)?;
            if theirs != piece {
                self.failure = Some(Status::COMPARE_FAILURE);
                return Err(MemoryError);
            }
        }
        Ok(())
    }

    /// Goes forward by `most` bytes or fewer, and returns the bus address and the number of these bytes.
    ///
    /// The command must have `most` bytes left.
    pub(crate) fn take<M: GuestMemory>(
        &mut self,
        memory: &mut M,
        most: usize,
    ) -> Result<(u64, usize), MemoryError> {
        if self.run == 0 {
            self.begin_run(memory)?;
        }
        while self.run < most {
            // A page that is not where the run ends begins the next one.
            if !self.extend_run() {
                break;
            }
        }

        let length = self.run.min(most);
        let address = self.address;
        self.address = address.wrapping_add(length as u64);
        self.run -= length;
        Ok((address, length))
    }

    /// Begins a run with the next page.
    fn begin_run<M: GuestMemory>(&mut self, memory: &mut M) -> Result<(), MemoryError> {
        let page = page_size(self.page_shift);
        if self.behind == 0 {
            // The caller asked for more than the command has.
            self.failure = Some(Status::INTERNAL);
            return Err(MemoryError);
        }
        self.address = match &mut self.next {
            Next::Last(address) => *address,
            Next::List(list) => {
                if list.is_used_up() {
                    list.fetch(memory, self.behind.div_ceil(page), self.page_shift)
                        .map_err(|failure| {
                            self.failure = failure;
                            MemoryError
                        })?;
                }
                let address = list.front().unwrap_or(0);
                list.taken += 1;
                address
            }
        };
        if !is_aligned(self.address, self.page_shift) {
            self.failure = Some(Status::PRP_OFFSET);
            return Err(MemoryError);
        }
        self.run = self.behind.min(page);
        self.behind -= self.run;
        Ok(())
    }

    /// Makes the run longer if the next page is known and follows the run.
    fn extend_run(&mut self) -> bool {
        let end = self.address.wrapping_add(self.run as u64);
        let next = match &mut self.next {
            _ if self.behind == 0 => None,
            Next::Last(address) => Some(*address),
            Next::List(list) => list.front(),
        };
        // The first page of a run is aligned or ends with its page, so the next one is aligned, too.
        if next != Some(end) || !is_aligned(end, self.page_shift) {
            return false;
        }
        if let Next::List(list) = &mut self.next {
            list.taken += 1;
        }
        let more = self.behind.min(page_size(self.page_shift));
        self.run += more;
        self.behind -= more;
        true
    }
}

impl List {
    /// Number of data entries that were read and not taken.
    fn left(&self) -> usize {
        let data = self.read - usize::from(self.chained);
        data - self.taken
    }

    fn is_used_up(&self) -> bool {
        self.left() == 0
    }

    /// The next data entry, if it was read.
    fn front(&self) -> Option<u64> {
        let entry = self.entries.get(self.taken)?;
        (!self.is_used_up()).then(|| u64::from_le_bytes(*entry))
    }

    /// Reads more entries, with at least one data entry; `pages` data entries are needed.
    ///
    /// Fails with a status, or without one if the guest's memory failed.
    fn fetch<M: GuestMemory>(
        &mut self,
        memory: &mut M,
        pages: usize,
        page_shift: u32,
    ) -> Result<(), Option<Status>> {
        // The last entry before the end of a page of the list can be nothing but a link to the next
        // page, so this ends in the second round.
        loop {
            if self.chained {
                let link = self.entries[self.read - 1];
                self.address = u64::from_le_bytes(link);
                if !is_aligned(self.address, page_shift) {
                    return Err(Some(Status::PRP_OFFSET));
                }
            }

            let page = page_size(page_shift);
            let slots = (page - (self.address % page as u64) as usize) / ENTRY_SIZE;
            let wanted = pages.min(slots).min(BATCH);
            let entries = &mut self.entries[..wanted];
            memory
                .read(self.address, entries.as_flattened_mut())
                .map_err(|_| None)?;

            self.address = self.address.wrapping_add((wanted * ENTRY_SIZE) as u64);
            self.taken = 0;
            self.read = wanted;
            // The last entry of a page of the list is a link unless it is the last one of all.
            self.chained = wanted == slots && pages > slots;
            if !self.is_used_up() {
                return Ok(());
            }
        }
    }
}

/// Bytes of a page. CAP.MPSMAX keeps the shift far below the bits of a number.
fn page_size(page_shift: u32) -> usize {
    1 << page_shift.min(usize::BITS - 1)
}
