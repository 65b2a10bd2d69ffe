// SPDX-License-Identifier: GPL-2.0

//! The content of a disk in memory, as `rust/drivers/ferry_nvme/backend/ram.rs` has it: pages that are allocated and
//! zeroed when a block is first written.
//!
//! The pages are of one piece of memory that was written before, as those of the kernel's allocator are: a first touch in
//! user space costs a page fault, which the kernel does not have.

use std::ops::Deref;
use std::ops::DerefMut;
use std::ops::Range;

/// Size of a block and of a page, in bytes.
pub const BLOCK_SIZE: usize = 4096;

pub type Block = [u8; BLOCK_SIZE];

/// Whole pages of memory that was written before.
pub struct Memory {
    bytes: Vec<u8>,
    /// The place of the first page.
    start: usize,
    len: usize,
}

impl Memory {
    /// Returns `len` bytes.
    pub fn new(len: usize) -> Self {
        let bytes = vec![!0; len + BLOCK_SIZE];
        Self {
            start: bytes.as_ptr().align_offset(BLOCK_SIZE),
            len,
            bytes,
        }
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..][..self.len]
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][..self.len]
    }
}

/// Returns the page `page` of `memory`.
fn page(memory: &mut [u8], page: u32) -> &mut [u8] {
    &mut memory[page as usize * BLOCK_SIZE..][..BLOCK_SIZE]
}

/// Sparse content of fixed capacity.
pub struct Pages {
    memory: Memory,
    /// The pages that no block has.
    free: Vec<u32>,
    /// The page of each block that is present.
    present: Vec<Option<u32>>,
}

impl Pages {
    /// Returns the content of a disk of `blocks` blocks, of which none is present.
    pub fn new(blocks: usize) -> Self {
        let numbers = 0..u32::try_from(blocks).expect("a disk of some GiB");
        Self {
            memory: Memory::new(blocks * BLOCK_SIZE),
            free: numbers.rev().collect(),
            present: vec![None; blocks],
        }
    }

    /// Capacity in blocks.
    pub fn blocks(&self) -> usize {
        self.present.len()
    }

    /// Makes no block present.
    pub fn clear(&mut self) {
        self.free
            .extend(self.present.iter_mut().rev().filter_map(Option::take));
    }

    /// Fills all blocks with pseudo-random numbers.
    pub fn fill_randomly(&mut self) {
        let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
        self.write(0, self.blocks() * BLOCK_SIZE, &mut |piece| {
            for word in piece.chunks_exact_mut(8) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                word.copy_from_slice(&state.to_le_bytes());
            }
        });
    }

    /// Returns the content of a block that is present.
    pub fn block(&self, index: u64) -> Option<&Block> {
        let page = (*self.present.get(usize::try_from(index).ok()?)?)?;
        self.memory[page as usize * BLOCK_SIZE..].first_chunk()
    }

    /// Has `fill` write `len` bytes at `offset`, block by block. Returns the blocks that were written.
    pub fn write(
        &mut self,
        offset: u64,
        len: usize,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Range<u64> {
        let start = usize::try_from(offset).expect("a disk in memory");
        let end = start + len;
        let mut at = start;
        while at < end {
            let (index, first) = (at / BLOCK_SIZE, at % BLOCK_SIZE);
            let last = BLOCK_SIZE.min(first + end - at);
            let number = *self.present[index].get_or_insert_with(|| {
                let number = self.free.pop().expect("a page for each block");
                page(&mut self.memory, number).fill(0);
                number
            });
            fill(&mut page(&mut self.memory, number)[first..last]);
            at += last - first;
        }
        (start / BLOCK_SIZE) as u64..end.div_ceil(BLOCK_SIZE) as u64
    }

    /// Makes `len` bytes at `offset` zeros.
    pub fn write_zeroes(&mut self, offset: u64, len: u64) -> Range<u64> {
        self.write(
            offset,
            usize::try_from(len).expect("a disk in memory"),
            &mut |piece| piece.fill(0),
        )
    }

    /// Returns the memory of all blocks, in some order.
    pub fn memory(&self) -> &[u8] {
        &self.memory
    }

    /// Returns the memory of all blocks, in some order. No block is present then.
    pub fn memory_mut(&mut self) -> &mut [u8] {
        self.clear();
        &mut self.memory
    }
}

impl PartialEq for Pages {
    fn eq(&self, other: &Self) -> bool {
        let blocks = 0..self.blocks() as u64;
        self.blocks() == other.blocks()
            && blocks
                .into_iter()
                .all(|index| self.block(index) == other.block(index))
    }
}
