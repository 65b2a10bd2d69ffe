// SPDX-License-Identifier: GPL-2.0

//! Atomic writes to a disk, `RWF_ATOMIC` of pwritev2(2).

use std::fs::File;
use std::fs::OpenOptions;
use std::io::IoSlice;
use std::io::IoSliceMut;
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use rustix::fs::statx;
use rustix::fs::AtFlags;
use rustix::fs::OFlags;
use rustix::fs::StatxFlags;
use rustix::fs::CWD;
use rustix::io::preadv;
use rustix::io::pwritev2;
use rustix::io::Errno;
use rustix::io::ReadWriteFlags;

/// `STATX_WRITE_ATOMIC`.
const WRITE_ATOMIC: StatxFlags = StatxFlags::from_bits_retain(0x10000);
/// `RWF_ATOMIC`.
const ATOMIC: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x40);

/// Alignment of memory that every disk takes.
const ALIGNMENT: usize = 4096;

/// Bytes of a size and an alignment that a disk takes, each with a value of its own.
struct Buffer {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    fn new(len: usize, seed: usize) -> Self {
        let mut memory = vec![0; len + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        for (at, byte) in memory[start..].iter_mut().enumerate() {
            *byte = (at * 7 + at / 509 + seed) as u8;
        }
        Self { memory, start, len }
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

fn write(disk: &File, place: u64, bytes: &[u8]) -> Result<usize, Errno> {
    pwritev2(disk, &[IoSlice::new(bytes)], place, ATOMIC)
}

/// Writes atomically to `path` at `place`, a multiple of the largest write: the largest that the kernel offers, the
/// smallest, and some that it has to refuse. Returns the sizes of the smallest and of the largest.
pub fn check(path: &str, place: u64) -> Result<(u32, u32)> {
    let stat = statx(CWD, path, AtFlags::empty(), WRITE_ATOMIC).context("statx")?;
    let (least, most) = (
        stat.stx_atomic_write_unit_min,
        stat.stx_atomic_write_unit_max,
    );
    ensure!(
        stat.stx_mask & WRITE_ATOMIC.bits() != 0 && least > 0 && most >= least,
        "statx: no atomic writes: {least} to {most} bytes"
    );
    let disk = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlags::DIRECT.bits() as i32)
        .open(path)
        .with_context(|| format!("opening {path}"))?;
    for (seed, len) in [most, least].into_iter().enumerate() {
        let buffer = Buffer::new(len as usize, seed);
        let written = write(&disk, place, buffer.bytes());
        ensure!(
            written == Ok(len as usize),
            "an atomic write of {len} bytes: expected all, saw {written:?}"
        );
        let mut back = Buffer::new(len as usize, seed + 1);
        let read = preadv(&disk, &mut [IoSliceMut::new(back.bytes_mut())], place);
        ensure!(
            read == Ok(len as usize) && back.bytes() == buffer.bytes(),
            "an atomic write of {len} bytes reads back as something else ({read:?})"
        );
    }
    let twice = Buffer::new(2 * most as usize, 9);
    let refused = write(&disk, place, twice.bytes());
    ensure!(
        refused == Err(Errno::INVAL),
        "an atomic write of {} bytes: expected EINVAL, saw {refused:?}",
        2 * most
    );
    if most > least {
        let refused = write(
            &disk,
            place + u64::from(least),
            &twice.bytes()[..most as usize],
        );
        ensure!(
            refused == Err(Errno::INVAL),
            "an atomic write to no multiple of its size: expected EINVAL, saw {refused:?}"
        );
    }
    Ok((least, most))
}
