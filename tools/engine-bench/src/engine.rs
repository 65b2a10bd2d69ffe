// SPDX-License-Identifier: GPL-2.0

//! A disk that migrates, and the engine with both of its front ends.
//!
//! `d3fbec3/engine.rs` has the same interface to the engine of that commit.

use migration::stream::crc32c::crc32c;
use migration::v1::DataSection;
use migration::v1::MigrationRegion;
use migration::v2::file::File;
use migration::v2::file::Read;
use migration::v2::fsm;
use migration::Dirty;
use migration::DirtyBlocks;
use migration::Engine;
use migration::MigratedBlocks;
use migration::Port;
use migration::Refusal;
use migration::Sink;
use migration::Source;
use migration::StepError;
use vfio_uapi::v1;
use vfio_uapi::v1::Field;
use vfio_uapi::v2::MigState;
use vfio_uapi::Errno;

use crate::measure::Result;
use crate::measure::State;
use crate::pages::Block;
use crate::pages::Memory;
use crate::pages::Pages;

/// Returns the checksum of a record's payload, if the engine lends it.
pub const CHECKSUM: Option<fn(&[u8]) -> u32> = Some(crc32c);

/// Bytes of the device's state.
const STATE_SIZE: usize = 64;

/// Bytes of the data window for each byte of the engine's buffer, as in `rust/ferry_core/device/open.rs`.
const WINDOW_PER_BUFFER: usize = 256;

/// The disk.
struct Disk {
    pages: Pages,
    dirty: Option<DirtyBlocks<Vec<u64>>>,
}

impl MigratedBlocks for Disk {
    fn blocks(&self) -> u64 {
        self.pages.blocks() as u64
    }

    fn track(&mut self) -> std::result::Result<(), Errno> {
        let words = DirtyBlocks::words(self.blocks()).ok_or(Errno::ENOMEM)?;
        let mut dirty = DirtyBlocks::new(vec![0; words], self.blocks()).ok_or(Errno::ENOMEM)?;
        for index in 0..self.blocks() {
            if self.pages.block(index).is_some() {
                dirty.mark_data(index);
            }
        }
        self.dirty = Some(dirty);
        Ok(())
    }

    fn untrack(&mut self) {
        self.dirty = None;
    }

    fn dirty(&self, from: u64) -> Dirty {
        self.dirty
            .as_ref()
            .map_or(Dirty::default(), |dirty| dirty.dirty(from))
    }

    fn take_dirty(&mut self, from: u64) -> Option<u64> {
        self.dirty.as_mut()?.take_next(from)
    }

    fn mark_dirty(&mut self, index: u64) {
        if let Some(dirty) = &mut self.dirty {
            dirty.mark_data(index);
        }
    }

    fn block(&self, index: u64) -> Option<&Block> {
        self.pages.block(index)
    }

    fn put(
        &mut self,
        offset: u64,
        len: usize,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> std::result::Result<(), Errno> {
        let written = self.pages.write(offset, len, fill);
        written.for_each(|index| self.mark_dirty(index));
        Ok(())
    }

    fn put_zeroes(&mut self, offset: u64, len: u64) -> std::result::Result<(), Errno> {
        let written = self.pages.write_zeroes(offset, len);
        written.for_each(|index| self.mark_dirty(index));
        Ok(())
    }
}

/// The device, whose staged blocks are its own: it has nothing to lose.
struct Device(Disk);

impl Port for Device {
    const TYPE: &'static str = "engine-bench";

    fn state_size(&self) -> usize {
        STATE_SIZE
    }

    fn configuration(&self, _out: &mut [u8; migration::CONFIGURATION_MAX]) -> usize {
        0
    }

    fn stop(&mut self) -> std::result::Result<(), StepError<Errno>> {
        Ok(())
    }

    fn start(&mut self) -> std::result::Result<(), StepError<Errno>> {
        Ok(())
    }

    fn save(&mut self, out: &mut [u8]) -> std::result::Result<usize, StepError<Errno>> {
        Ok(out.len())
    }

    fn stage(&mut self, _state: &[u8]) -> std::result::Result<(), Errno> {
        Ok(())
    }

    fn adopt(&mut self) -> std::result::Result<(), StepError<Errno>> {
        Ok(())
    }

    fn unstage(&mut self) {}

    fn reset(&mut self) {}

    fn with_blocks<R>(&mut self, f: impl FnOnce(&mut dyn MigratedBlocks) -> R) -> Option<R> {
        Some(f(&mut self.0))
    }

    fn with_staged_blocks<R>(
        &mut self,
        f: impl FnOnce(&mut dyn MigratedBlocks) -> R,
    ) -> std::result::Result<Option<R>, Errno> {
        Ok(Some(f(&mut self.0)))
    }
}

/// The data window.
struct Window(Memory);

impl Sink for Window {
    fn room(&self) -> usize {
        self.0.len()
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
}

impl Source for Window {
    fn read(&self, offset: usize, into: &mut [u8]) {
        into.copy_from_slice(&self.0[offset..offset + into.len()]);
    }
}

impl DataSection for Window {
    fn clear(&mut self) {
        self.0.fill(0);
    }
}

fn refused(refusal: Refusal) -> String {
    format!("the engine refuses: {refusal}")
}

fn v1_state(state: State) -> v1::State {
    match state {
        State::Stop => v1::State::Stop,
        State::Running => v1::State::Running,
        State::PreCopy => v1::State::PreCopy,
        State::StopCopy => v1::State::StopCopy,
        State::Resuming => v1::State::Resuming,
    }
}

fn v2_state(state: State) -> MigState {
    match state {
        State::Stop => MigState::Stop,
        State::Running => MigState::Running,
        State::PreCopy => MigState::PreCopy,
        State::StopCopy => MigState::StopCopy,
        State::Resuming => MigState::Resuming,
    }
}

/// One side of a migration.
pub struct Side {
    device: Device,
    engine: Engine<Vec<u8>>,
    region: MigrationRegion<Window>,
    file: File,
}

impl Side {
    /// Returns a disk with `pages` and a data window of `window` bytes.
    pub fn new(pages: Pages, window: usize) -> Self {
        let buffer = STATE_SIZE.max(window / WINDOW_PER_BUFFER);
        Self {
            device: Device(Disk { pages, dirty: None }),
            engine: Engine::new(vec![0; buffer]),
            region: MigrationRegion::new(Window(Memory::new(window))),
            file: File::new(),
        }
    }

    pub fn into_pages(self) -> Pages {
        self.device.0.pages
    }

    /// Returns the data window.
    pub fn window(&mut self) -> &mut [u8] {
        &mut self.region.data_mut().0
    }

    fn read_field(&mut self, field: Field) -> Result<u64> {
        let mut value = [0; 8];
        self.region
            .read_header(
                &mut self.engine,
                &mut self.device,
                field.offset(),
                &mut value,
            )
            .map_err(refused)?;
        Ok(u64::from_ne_bytes(value))
    }

    fn write_field(&mut self, field: Field, value: &[u8]) -> Result<()> {
        self.region
            .write_header(&mut self.engine, &mut self.device, field.offset(), value)
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
        fsm::arc(&mut self.engine, &mut self.device, v2_state(state)).map_err(refused)
    }

    /// Fills the data file's buffer and returns how many bytes it has; 0 if there are none now.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let read = self
            .file
            .read(&mut self.engine, &mut self.device, buffer)
            .map_err(refused)?;
        // The user reads all of them.
        self.file.keep(0);
        Ok(match read {
            Read::Bytes(bytes) => bytes as usize,
            Read::Later | Read::Ended => 0,
        })
    }

    /// Writes bytes to the data file.
    pub fn write(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.file
            .write(&mut self.engine, &mut self.device, bytes)
            .map_err(refused)
    }
}
