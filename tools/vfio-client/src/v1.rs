// SPDX-License-Identifier: GPL-2.0

//! The user's side of the v1 migration region, `struct vfio_device_migration_info`.
//!
//! [`Migration::save`] and [`Migration::feed`] do what `hw/vfio/migration.c` of QEMU 7.2 does. The single
//! operations on the header are public, for tests that do them in another order.

mod state;

use core::mem::offset_of;

use vfio_bindings::bindings::vfio;
use vfio_bindings::bindings::vfio::vfio_device_migration_info as Header;

use crate::region::Area;
use crate::sys::Mapping;
use crate::Device;
use crate::Error;
use crate::Region;
use crate::Result;

pub use state::State;

/// The size of the header in bytes.
pub const HEADER_SIZE: u64 = size_of::<Header>() as u64;
/// Offset of `device_state`, 4 bytes.
pub const DEVICE_STATE: u64 = offset_of!(Header, device_state) as u64;
/// Offset of `reserved`, 4 bytes.
pub const RESERVED: u64 = offset_of!(Header, reserved) as u64;
/// Offset of `pending_bytes`, 8 bytes.
pub const PENDING_BYTES: u64 = offset_of!(Header, pending_bytes) as u64;
/// Offset of `data_offset`, 8 bytes.
pub const DATA_OFFSET: u64 = offset_of!(Header, data_offset) as u64;
/// Offset of `data_size`, 8 bytes.
pub const DATA_SIZE: u64 = offset_of!(Header, data_size) as u64;

/// The type of the migration region's type capability, and its subtype.
pub const KIND: (u32, u32) = (
    vfio::VFIO_REGION_TYPE_MIGRATION_DEPRECATED,
    vfio::VFIO_REGION_SUBTYPE_MIGRATION_DEPRECATED,
);

/// A chunk that the device presents.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Chunk {
    /// `pending_bytes` before it was presented.
    pub pending: u64,
    /// `data_offset` of the chunk.
    pub offset: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// The migration region of an open device.
#[derive(Debug)]
pub struct Migration {
    region: Region,
    area: Area,
    mapping: Option<Mapping>,
}

impl Migration {
    /// Finds the migration region among the device's regions. `None` when there is none.
    ///
    /// # Errors
    ///
    /// What the kernel answers; [`Error::Malformed`] when it has no window that can be mapped.
    pub fn find(device: &Device) -> Result<Option<Self>> {
        for region in device.regions()? {
            if region.info().kind != Some(KIND) {
                continue;
            }
            let what = || format!("{}: migration region", device.name());
            let area = match region.info().sparse.as_deref() {
                Some([area]) => *area,
                areas => {
                    return Err(Error::malformed(
                        what(),
                        format!("expected one area that can be mapped, seen {areas:?}"),
                    ))
                }
            };
            return Ok(Some(Migration {
                region,
                area,
                mapping: None,
            }));
        }
        Ok(None)
    }

    /// Returns the region itself.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Returns the place of the data window in the region.
    pub fn window(&self) -> Area {
        self.area
    }

    /// Makes a mapping of the whole data window.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn map_window(&self) -> Result<Mapping> {
        let len = usize::try_from(self.area.size).map_err(|_| {
            Error::malformed(
                "migration region",
                format!("a window of {}", self.area.size),
            )
        })?;
        self.region.map(self.area.offset, len)
    }

    /// Moves data through a mapping from now on.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn map(&mut self) -> Result<()> {
        self.mapping = Some(self.map_window()?);
        Ok(())
    }

    /// Moves data with read and write from now on.
    pub fn unmap(&mut self) {
        self.mapping = None;
    }

    /// Reads `device_state`.
    ///
    /// # Errors
    ///
    /// As [`Region::read`], also for the other fields.
    pub fn state(&self) -> Result<State> {
        self.region.read_u32(DEVICE_STATE).map(State)
    }

    /// Writes `device_state`.
    ///
    /// # Errors
    ///
    /// As [`Region::write`].
    pub fn set_state(&self, state: State) -> Result<()> {
        self.region.write(DEVICE_STATE, &state.0.to_ne_bytes())
    }

    /// Reads `pending_bytes`.
    ///
    /// # Errors
    ///
    /// As [`Region::read`].
    pub fn pending(&self) -> Result<u64> {
        self.region.read_u64(PENDING_BYTES)
    }

    /// Reads `data_offset`.
    ///
    /// # Errors
    ///
    /// As [`Region::read`].
    pub fn data_offset(&self) -> Result<u64> {
        self.region.read_u64(DATA_OFFSET)
    }

    /// Reads `data_size`.
    ///
    /// # Errors
    ///
    /// As [`Region::read`].
    pub fn data_size(&self) -> Result<u64> {
        self.region.read_u64(DATA_SIZE)
    }

    /// Writes `data_size`.
    ///
    /// # Errors
    ///
    /// As [`Region::write`].
    pub fn set_data_size(&self, size: u64) -> Result<()> {
        self.region.write(DATA_SIZE, &size.to_ne_bytes())
    }

    fn mapped(&self, offset: u64, len: usize) -> Option<(&Mapping, usize)> {
        let mapping = self.mapping.as_ref()?;
        let at = usize::try_from(offset.checked_sub(self.area.offset)?).ok()?;
        (at.checked_add(len)? <= mapping.len()).then_some((mapping, at))
    }

    /// Copies data out of the region, `offset` counted from the region's start.
    ///
    /// # Errors
    ///
    /// As [`Region::read`].
    pub fn read_data(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        match self.mapped(offset, into.len()) {
            Some((mapping, at)) => {
                mapping.read(at, into);
                Ok(())
            }
            None => self.region.read(offset, into),
        }
    }

    /// Copies data into the region, `offset` counted from the region's start.
    ///
    /// # Errors
    ///
    /// As [`Region::write`].
    pub fn write_data(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        match self.mapped(offset, bytes.len()) {
            Some((mapping, at)) => {
                mapping.write(at, bytes);
                Ok(())
            }
            None => self.region.write(offset, bytes),
        }
    }

    /// Reads the presented chunk: `data_offset`, `data_size`, data.
    ///
    /// # Errors
    ///
    /// As [`Region::read`], and [`Error::Malformed`] for a chunk that is not inside the region.
    pub fn presented(&self) -> Result<(u64, Vec<u8>)> {
        let offset = self.data_offset()?;
        let size = self.data_size()?;
        let inside = offset
            .checked_add(size)
            .is_some_and(|end| end <= self.region.size());
        let len = usize::try_from(size)
            .ok()
            .filter(|_| inside)
            .ok_or_else(|| {
                Error::malformed(
                    format!("{}: chunk", self.region.device().name()),
                    format!(
                        "{size} bytes at {offset:#x} of a region of {} bytes",
                        self.region.size()
                    ),
                )
            })?;
        let mut bytes = vec![0; len];
        self.read_data(offset, &mut bytes)?;
        Ok((offset, bytes))
    }

    /// Reads the next chunk, `None` when nothing is pending. The read of `pending_bytes` in the next call
    /// tells the device that the chunk was taken.
    ///
    /// # Errors
    ///
    /// As [`Migration::presented`]; [`Error::Malformed`] for an empty chunk with bytes pending, which QEMU
    /// takes for the end of the stream.
    pub fn next_chunk(&self) -> Result<Option<Chunk>> {
        let pending = self.pending()?;
        if pending == 0 {
            return Ok(None);
        }
        let (offset, bytes) = self.presented()?;
        if bytes.is_empty() {
            return Err(Error::malformed(
                format!("{}: chunk", self.region.device().name()),
                format!("{pending} bytes pending but data_size is 0"),
            ));
        }
        Ok(Some(Chunk {
            pending,
            offset,
            bytes,
        }))
    }

    /// Reads chunks until nothing is pending.
    ///
    /// # Errors
    ///
    /// As [`Migration::next_chunk`].
    pub fn drain(&self) -> Result<Vec<Chunk>> {
        let mut chunks = Vec::new();
        while let Some(chunk) = self.next_chunk()? {
            chunks.push(chunk);
        }
        Ok(chunks)
    }

    /// Reads all chunks of the present saving state, as one stream of bytes.
    ///
    /// # Errors
    ///
    /// As [`Migration::next_chunk`].
    pub fn save(&self) -> Result<Vec<u8>> {
        Ok(self
            .drain()?
            .into_iter()
            .flat_map(|chunk| chunk.bytes)
            .collect())
    }

    /// Gives the device one chunk: `data_offset`, data, `data_size`.
    ///
    /// # Errors
    ///
    /// The device's refusal of the chunk.
    pub fn feed_chunk(&self, bytes: &[u8]) -> Result<()> {
        let offset = self.data_offset()?;
        self.write_data(offset, bytes)?;
        self.set_data_size(bytes.len() as u64)
    }

    /// Gives the device a stream, in chunks of at most `chunk` bytes that fit into the window.
    ///
    /// # Errors
    ///
    /// The device's refusal of a chunk.
    pub fn feed(&self, stream: &[u8], chunk: usize) -> Result<()> {
        let fits = usize::try_from(self.area.size).unwrap_or(usize::MAX);
        for bytes in stream.chunks(chunk.clamp(1, fits)) {
            self.feed_chunk(bytes)?;
        }
        Ok(())
    }
}
