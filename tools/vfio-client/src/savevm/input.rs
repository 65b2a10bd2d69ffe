// SPDX-License-Identifier: GPL-2.0

//! The bytes of the stream, with the offset in it for errors.

use std::io;
use std::io::Read;

use super::refuse;
use super::Error;
use super::Result;

/// The stream, and the offset of its next byte.
pub struct Input<R> {
    stream: R,
    pub offset: u64,
}

impl<R: Read> Input<R> {
    pub fn new(stream: R) -> Self {
        Input { stream, offset: 0 }
    }

    fn failed(&self, error: io::Error, what: &'static str) -> Error {
        let offset = self.offset;
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::Truncated { offset, what },
            _ => Error::Read {
                offset,
                source: error,
            },
        }
    }

    pub fn bytes<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream
            .read_exact(&mut bytes)
            .map_err(|error| self.failed(error, what))?;
        self.offset += N as u64;
        Ok(bytes)
    }

    pub fn u8(&mut self, what: &'static str) -> Result<u8> {
        self.bytes(what).map(u8::from_be_bytes)
    }

    pub fn u16(&mut self, what: &'static str) -> Result<u16> {
        self.bytes(what).map(u16::from_be_bytes)
    }

    pub fn u32(&mut self, what: &'static str) -> Result<u32> {
        self.bytes(what).map(u32::from_be_bytes)
    }

    pub fn u64(&mut self, what: &'static str) -> Result<u64> {
        self.bytes(what).map(u64::from_be_bytes)
    }

    /// Appends `length` bytes to `to`, which grows only as they come.
    pub fn append(&mut self, length: u64, to: &mut Vec<u8>, what: &'static str) -> Result<()> {
        let done = self.stream.by_ref().take(length).read_to_end(to);
        self.moved(done.map(|done| done as u64), length, what)
    }

    pub fn skip(&mut self, length: u64, what: &'static str) -> Result<()> {
        let done = io::copy(&mut self.stream.by_ref().take(length), &mut io::sink());
        self.moved(done, length, what)
    }

    fn moved(&mut self, done: io::Result<u64>, length: u64, what: &'static str) -> Result<()> {
        let done = done.map_err(|error| self.failed(error, what))?;
        if done < length {
            return Err(self.failed(io::ErrorKind::UnexpectedEof.into(), what));
        }
        self.offset += length;
        Ok(())
    }

    pub fn text(&mut self, length: u64, what: &'static str) -> Result<String> {
        let at = self.offset;
        let mut bytes = Vec::new();
        self.append(length, &mut bytes, what)?;
        String::from_utf8(bytes).or_else(|_| refuse(at, format!("{what} is no text")))
    }

    pub fn name(&mut self, what: &'static str) -> Result<String> {
        let length = self.u8(what)?;
        self.text(length.into(), what)
    }
}

/// Reads a word that can have one value only.
pub fn expect_word<R: Read>(input: &mut Input<R>, word: u64, what: &'static str) -> Result<()> {
    let at = input.offset;
    let seen = input.u64(what)?;
    if seen != word {
        return refuse(at, format!("{what}: expected {word:#x}, seen {seen:#x}"));
    }
    Ok(())
}
