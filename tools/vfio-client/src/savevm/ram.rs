// SPDX-License-Identifier: GPL-2.0

//! The content of the section "ram", `migration/ram.c`: which blocks, and their pages.

use std::io::Read;

use super::input::expect_word;
use super::input::Input;
use super::refuse;
use super::Result;

/// The most blocks of RAM.
pub const BLOCKS_MAX: usize = 1024;

/// A page of x86, `TARGET_PAGE_SIZE`.
pub const PAGE: u64 = 4096;

/// Flags in the words of RAM, `RAM_SAVE_FLAG_*`.
pub mod flag {
    pub const ZERO: u64 = 0x02;
    pub const MEM_SIZE: u64 = 0x04;
    pub const PAGE: u64 = 0x08;
    pub const EOS: u64 = 0x10;
    pub const CONTINUE: u64 = 0x20;
    pub const XBZRLE: u64 = 0x40;
    pub const HOOK: u64 = 0x80;
    pub const COMPRESS_PAGE: u64 = 0x100;
}

/// A block of RAM.
struct Block {
    name: String,
    /// In bytes.
    length: u64,
}

#[derive(Default)]
pub struct Ram {
    blocks: Vec<Block>,
    /// The index of the block of the last page. Parts share it.
    last: Option<usize>,
}

impl Ram {
    /// Reads which blocks there are.
    pub fn blocks<R: Read>(&mut self, input: &mut Input<R>) -> Result<()> {
        let what = "the list of RAM blocks";
        let at = input.offset;
        let word = input.u64(what)?;
        if word % PAGE != flag::MEM_SIZE {
            return refuse(at, format!("expected {what}, seen a word {word:#x}"));
        }
        let mut left = word - flag::MEM_SIZE;
        while left > 0 {
            let at = input.offset;
            let name = input.name(what)?;
            let length = input.u64(what)?;
            let fits = length % PAGE == 0 && self.blocks.len() < BLOCKS_MAX;
            let Some(rest) = left.checked_sub(length).filter(|_| fits) else {
                return refuse(at, format!("a RAM block {name:?} of {length:#x} bytes"));
            };
            left = rest;
            self.blocks.push(Block { name, length });
        }
        expect_word(input, flag::EOS, what)
    }

    /// Reads pages.
    pub fn pages<R: Read>(&mut self, input: &mut Input<R>) -> Result<()> {
        loop {
            let at = input.offset;
            let word = input.u64("a word of RAM")?;
            let flags = word % PAGE;
            match flags & !flag::CONTINUE {
                flag::ZERO => {
                    self.page(input, at, word)?;
                    let at = input.offset;
                    let byte = input.u8("a page of zeros")?;
                    if byte != 0 {
                        return refuse(at, format!("a page of bytes {byte:#x}"));
                    }
                }
                flag::PAGE => {
                    self.page(input, at, word)?;
                    input.skip(PAGE, "a page")?;
                }
                flag::EOS if word == flag::EOS => return Ok(()),
                flag::XBZRLE => return refuse(at, "a page that is compressed with XBZRLE"),
                flag::COMPRESS_PAGE => return refuse(at, "a page that is compressed"),
                _ if flags & flag::HOOK != 0 => return refuse(at, "a word of RDMA"),
                _ => return refuse(at, format!("a word {word:#x} of RAM")),
            }
        }
    }

    /// Checks where a page is, and reads the name of its block if that is not the last one's.
    fn page<R: Read>(&mut self, input: &mut Input<R>, at: u64, word: u64) -> Result<()> {
        let index = if word & flag::CONTINUE != 0 {
            self.last
        } else {
            let name = input.name("the name of a RAM block")?;
            self.blocks.iter().position(|block| block.name == name)
        };
        let Some(index) = index else {
            return refuse(at, "a page of no RAM block");
        };
        let (block, address) = (&self.blocks[index], word - word % PAGE);
        if address >= block.length {
            let Block { name, length } = block;
            return refuse(
                at,
                format!("a page at {address:#x} of {name:?}, which has {length:#x} bytes"),
            );
        }
        self.last = Some(index);
        Ok(())
    }
}
