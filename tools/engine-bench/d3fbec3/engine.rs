// SPDX-License-Identifier: GPL-2.0

//! A disk that migrates, and the engine of commit d3fbec3: the interface of `src/engine.rs`.

use std::ops::DerefMut;

use migration::header::Field;
use migration::state;
use migration::v2::FsmState;
use migration::v2::Read;
use migration::Device;
use migration::DirtyBlocks;
use migration::Errno;
use migration::MigrationRegion;
use migration::Refusal;
use migration::Storage;
use migration::Window;

use crate::measure::Result;
use crate::measure::State;
use crate::pages::Block;
use crate::pages::Memory;
use crate::pages::Pages;

/// Returns the checksum of a record's payload, if the engine lends it.
pub const CHECKSUM: Option<fn(&[u8]) -> u32> = None;

/// Bytes of the device's state.
const STATE_SIZE: usize = 64;

/// Size of the engine's buffer, through which blocks are received, as in `rust/ferry/mediated.rs` of that commit.
const BUFFER: usize = 64 << 10;

/// The disk.
struct Disk {
    pages: Pages,
    dirty: Option<DirtyBlocks<Vec<u64>>>,
}

impl Storage for Disk {
    fn blocks(&self) -> u64 {
        self.pages.blocks() as u64
    }

    fn track(&mut self) -> std::result::Result<(), Errno> {
        let words = DirtyBlocks::words(self.blocks()).ok_or(Errno::ENOMEM)?;
        let mut dirty = DirtyBlocks::new(vec![0; words], self.blocks()).ok_or(Errno::ENOMEM)?;
        for index in 0..self.blocks() {
            if self.pages.block(index).is_some() {
                dirty.mark(index);
            }
        }
        self.dirty = Some(dirty);
        Ok(())
    }

    fn untrack(&mut self) {
        self.dirty = None;
    }

    fn dirty_blocks(&self) -> u64 {
        self.dirty.as_ref().map_or(0, DirtyBlocks::count)
    }

    fn take_dirty(&mut self, from: u64) -> Option<u64> {
        self.dirty.as_mut()?.take_next(from)
    }

    fn mark_dirty(&mut self, index: u64) {
        if let Some(dirty) = &mut self.dirty {
            dirty.mark(index);
        }
    }

    fn block(&self, index: u64) -> Option<&Block> {
        self.pages.block(index)
    }

    fn put(&mut self, offset: u64, bytes: &[u8]) -> std::result::Result<(), Errno> {
        let mut rest = bytes;
        let written = self.pages.write(offset, bytes.len(), &mut |piece| {
            let (here, behind) = rest.split_at(piece.len());
            piece.copy_from_slice(here);
            rest = behind;
        });
        written.for_each(|index| self.mark_dirty(index));
        Ok(())
    }

    fn put_zeroes(&mut self, offset: u64, len: u64) -> std::result::Result<(), Errno> {
        let written = self.pages.write_zeroes(offset, len);
        written.for_each(|index| self.mark_dirty(index));
        Ok(())
    }
}

/// The device, whose staged storage is its own: it has nothing to lose.
struct Unit(Disk);

impl Device for Unit {
    const TYPE: &'static str = "engine-bench";
    const STATE_SIZE: usize = STATE_SIZE;

    fn configuration(&self, _out: &mut [u8; migration::CONFIGURATION_MAX]) -> usize {
        0
    }

    fn stop(&mut self) -> std::result::Result<(), Errno> {
        Ok(())
    }

    fn start(&mut self) -> std::result::Result<(), Errno> {
        Ok(())
    }

    fn save(&mut self, out: &mut [u8]) -> std::result::Result<usize, Errno> {
        Ok(out.len())
    }

    fn stage(&mut self, _state: &[u8]) -> std::result::Result<(), Errno> {
        Ok(())
    }

    fn adopt(&mut self) {}

    fn unstage(&mut self) {}

    fn reset(&mut self) {}

    fn with_storage<R>(&mut self, f: impl FnOnce(&mut dyn Storage) -> R) -> Option<R> {
        Some(f(&mut self.0))
    }

    fn with_staged_storage<R>(
        &mut self,
        f: impl FnOnce(&mut dyn Storage) -> R,
    ) -> std::result::Result<Option<R>, Errno> {
        Ok(Some(f(&mut self.0)))
    }
}

/// Memory of this program: the data window, or a data file's buffer.
struct Copied<B>(B);

impl<B: DerefMut<Target = [u8]>> Window for Copied<B> {
    fn size(&self) -> usize {
        (*self.0).len()
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        (*self.0)[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        into.copy_from_slice(&(*self.0)[offset..offset + into.len()]);
    }

    fn clear(&mut self) {
        (*self.0).fill(0);
    }
}

fn refused(refusal: Refusal) -> String {
    format!("the engine refuses: {refusal}")
}

fn v1_state(state: State) -> state::State {
    match state {
        State::Stop => state::State::Stop,
        State::Running => state::State::Running,
        State::PreCopy => state::State::PreCopy,
        State::StopCopy => state::State::StopAndCopy,
        State::Resuming => state::State::Resuming,
    }
}

fn v2_state(state: State) -> FsmState {
    match state {
        State::Stop => FsmState::Stop,
        State::Running => FsmState::Running,
        State::PreCopy => FsmState::PreCopy,
        State::StopCopy => FsmState::StopCopy,
        State::Resuming => FsmState::Resuming,
    }
}

/// One side of a migration.
pub struct Side {
    device: Unit,
    region: MigrationRegion<Copied<Memory>, Vec<u8>>,
}

impl Side {
    /// Returns a disk with `pages` and a data window of `window` bytes.
    pub fn new(pages: Pages, window: usize) -> Self {
        let buffer = vec![0; BUFFER];
        Self {
            device: Unit(Disk { pages, dirty: None }),
            region: MigrationRegion::new(Copied(Memory::new(window)), buffer),
        }
    }

    pub fn into_pages(self) -> Pages {
        self.device.0.pages
    }

    /// Returns the data window.
    pub fn window(&mut self) -> &mut [u8] {
        &mut self.region.window_mut().0
    }

    fn read_field(&mut self, field: Field) -> Result<u64> {
        let mut value = [0; 8];
        self.region
            .read_header(&mut self.device, &mut (), field.offset(), &mut value)
            .map_err(refused)?;
        Ok(u64::from_ne_bytes(value))
    }

    fn write_field(&mut self, field: Field, value: &[u8]) -> Result<()> {
        self.region
            .write_header(&mut self.device, &mut (), field.offset(), value)
            .map_err(refused)
    }

    /// Brings the device to a state, by protocol v1.
    pub fn go(&mut self, state: State) -> Result<()> {
        let word = v1_state(state).bits();
        self.write_field(Field::DeviceState, &word.to_ne_bytes())
    }

    /// Has the engine put the next chunk into the data window, and returns its size in bytes; 0 if nothing is pending.
    pub fn present(&mut self) -> Result<usize> {
        if self.read_field(Field::PendingBytes)? == 0 {
            return Ok(0);
        }
        self.read_field(Field::DataOffset)?;
        Ok(self.read_field(Field::DataSize)? as usize)
    }

    /// Has the engine take a chunk of `size` bytes from the data window.
    pub fn take(&mut self, size: usize) -> Result<()> {
        self.write_field(Field::DataSize, &(size as u64).to_ne_bytes())
    }

    /// Brings the device to a state, by protocol v2.
    pub fn arc(&mut self, state: State) -> Result<()> {
        self.region
            .do_arc(&mut self.device, &mut (), v2_state(state))
            .map_err(refused)
    }

    /// Fills the data file's buffer and returns how many bytes it has; 0 if there are none now.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let read = self
            .region
            .read_file(&mut self.device, &mut (), &mut Copied(buffer))
            .map_err(refused)?;
        Ok(match read {
            Read::Bytes(bytes) => bytes as usize,
            Read::Later | Read::Ended => 0,
        })
    }

    /// Writes bytes to the data file.
    pub fn write(&mut self, bytes: &mut [u8]) -> Result<()> {
        let size = bytes.len();
        self.region
            .write_file(&mut self.device, &mut (), &Copied(bytes), size)
            .map_err(refused)
    }
}
