// SPDX-License-Identifier: GPL-2.0

//! The migration region: header and data section.
//!
//! This is `VFIO_REGION_TYPE_MIGRATION` of Linux 5.8 to 5.17 as QEMU 5.2 to 7.2 use it. The binding
//! serialises the accesses of the header (statement 6 of the protocol) and serves those of the data
//! section itself, straight from its memory.

use super::{
    handshake::Handshake,
    header::{
        self,
        DeviceState, //
    },
};
use crate::{
    engine::{
        Engine,
        LastChunk,
        ROOM_MIN, //
    },
    port::{
        Port,
        Sink,
        Source, //
    },
    refusal::{
        Reason,
        Refusal, //
    },
    transition::{
        Step,
        Transition, //
    },
};
use vfio_uapi::v1::{
    Field,
    State, //
};

/// Offset of the data section in the region, in bytes: one page, so that it can be mapped.
/// It is constant (statement 13 of the protocol).
pub const DATA_OFFSET: u64 = 4096;

/// The data section of the migration region: memory that the user reads and writes at any time.
///
/// Nothing in it can be relied upon, not even for the time of two looks, so the engine only copies. Offsets
/// of [`Sink`] and [`Source`] are in bytes from the start of the data section.
pub trait DataSection: Sink + Source {
    /// Fills the data section with zeros.
    fn clear(&mut self);
}

/// The migration region of one open of a device, without the state that the engine has.
///
/// # Invariants
///
/// `handshake` is `Idle` exactly outside the saving states, as far as this region has changed the state.
pub struct MigrationRegion<W: DataSection> {
    /// Bits of `device_state` that have no meaning, as the user last wrote them.
    reserved: u32,
    handshake: Handshake,
    data: W,
}

impl<W: DataSection> MigrationRegion<W> {
    /// Returns the region of a device that has just been opened.
    ///
    /// `data` is the data section, filled with zeros and of at least [`ROOM_MIN`] bytes. A save cannot
    /// begin if it is smaller.
    pub fn new(data: W) -> Self {
        Self {
            reserved: 0,
            handshake: Handshake::Idle,
            data,
        }
    }

    /// Returns the size of the region in bytes, header and data section.
    pub fn size(&self) -> u64 {
        DATA_OFFSET.saturating_add(self.data.room() as u64)
    }

    /// Returns the data section.
    pub fn data(&self) -> &W {
        &self.data
    }

    /// Returns the data section.
    pub fn data_mut(&mut self) -> &mut W {
        &mut self.data
    }

    /// The device is being reset: the region is as at the open.
    pub fn reset(&mut self) {
        self.reserved = 0;
        self.handshake = Handshake::Idle;
        self.data.clear();
    }

    /// The user reads `bytes.len()` bytes of the header at `offset`, which become `bytes` in the
    /// byte order of the machine.
    ///
    /// # Errors
    ///
    /// [`Reason::Access`] for anything but one field at its width; the ERROR state has no
    /// `data_offset` and `data_size`. `bytes` is as before.
    pub fn read_header<P: Port, B: AsMut<[u8]> + AsRef<[u8]>>(
        &mut self,
        engine: &mut Engine<B>,
        port: &mut P,
        offset: u64,
        bytes: &mut [u8],
    ) -> Result<(), Refusal> {
        let state = engine.state();

        header::decode(offset, bytes.len())
            .and_then(|field| self.read_field(engine, port, field, bytes))
            .inspect_err(|refusal| port.on_refusal(state, refusal))
    }

    /// The user writes `bytes` in the byte order of the machine to the header at `offset`. Returns
    /// when all that it asks for is done.
    ///
    /// # Errors
    ///
    /// [`Reason::Access`] for anything but one field at its width, [`Reason::ReadOnly`], why a
    /// transition cannot be done, or why a chunk is refused.
    pub fn write_header<P: Port, B: AsMut<[u8]> + AsRef<[u8]>>(
        &mut self,
        engine: &mut Engine<B>,
        port: &mut P,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), Refusal> {
        let state = engine.state();

        header::decode(offset, bytes.len())
            .and_then(|field| match field {
                Field::DeviceState => {
                    let word = u32::from_ne_bytes(value(offset, bytes)?);
                    self.write_device_state(engine, port, word)
                }
                Field::Reserved => Ok(()),
                Field::PendingBytes | Field::DataOffset => Err(Reason::ReadOnly { field }.into()),
                Field::DataSize => {
                    let size = u64::from_ne_bytes(value(offset, bytes)?);
                    self.write_data_size(engine, port, size)
                }
            })
            .inspect_err(|refusal| port.on_refusal(state, refusal))
    }

    fn read_field<P: Port, B: AsMut<[u8]> + AsRef<[u8]>>(
        &mut self,
        engine: &mut Engine<B>,
        port: &mut P,
        field: Field,
        bytes: &mut [u8],
    ) -> Result<(), Refusal> {
        match field {
            Field::DeviceState => {
                let device_state = DeviceState {
                    state: engine.state(),
                    reserved: self.reserved,
                };
                fill(bytes, &device_state.word().to_ne_bytes());
            }
            Field::Reserved => fill(bytes, &0u32.to_ne_bytes()),
            Field::PendingBytes => {
                let pending = self.read_pending_bytes(engine, port);
                port.on_pending(engine.state(), pending);
                fill(bytes, &pending.to_ne_bytes());
            }
            Field::DataOffset => {
                let offset = self.read_data_offset(engine, port)?;
                fill(bytes, &offset.to_ne_bytes());
            }
            Field::DataSize => {
                engine.refuse_in_error()?;
                fill(bytes, &self.handshake.size().to_ne_bytes());
            }
        }
        Ok(())
    }

    fn read_pending_bytes<P: Port, B: AsMut<[u8]> + AsRef<[u8]>>(
        &mut self,
        engine: &mut Engine<B>,
        port: &mut P,
    ) -> u64 {
        self.handshake.pending_was_read();

        let room = self.data.room();
        match engine.save_mut() {
            Some(save) => save.promise(port, room),
            None => 0,
        }
    }

    fn read_data_offset<P: Port, B: AsMut<[u8]> + AsRef<[u8]>>(
        &mut self,
        engine: &mut Engine<B>,
        port: &mut P,
    ) -> Result<u64, Refusal> {
        engine.refuse_in_error()?;

        if self.handshake.wants_chunk() {
            let size = engine.read_chunk(port, &mut self.data)?;
            self.handshake = Handshake::Presented { size };
        }
        Ok(DATA_OFFSET)
    }

    fn write_data_size<P: Port, B: AsMut<[u8]> + AsRef<[u8]>>(
        &mut self,
        engine: &mut Engine<B>,
        port: &mut P,
        size: u64,
    ) -> Result<(), Refusal> {
        engine.check_resuming()?;
        if size == 0 {
            return Ok(());
        }

        let most = self.data.room();
        match usize::try_from(size) {
            Ok(bytes) if bytes <= most => engine.write_chunk(port, &self.data, bytes),
            _ => Err(Reason::ChunkTooLarge { size, most }.into()),
        }
    }

    fn write_device_state<P: Port, B: AsMut<[u8]> + AsRef<[u8]>>(
        &mut self,
        engine: &mut Engine<B>,
        port: &mut P,
        word: u32,
    ) -> Result<(), Refusal> {
        // In the ERROR state even a request that makes no sense gets this answer.
        engine.refuse_in_error()?;

        let wanted = DeviceState::from_word(word)?;
        let from = engine.state();
        if wanted.state.is_saving() && !from.is_saving() {
            self.check_room()?;
        }
        let last_chunk = match self.handshake.size() {
            0 => LastChunk::Taken,
            _ => LastChunk::Unacknowledged,
        };
        let result = engine.transition(port, wanted.state, last_chunk);
        if result.is_ok() {
            self.reserved = wanted.reserved;
        }
        self.follow(from, engine.state());
        result
    }

    /// Checks that the records of a save that belong together fit into the data section.
    fn check_room(&self) -> Result<(), Refusal> {
        let size = self.data.room();
        if size < ROOM_MIN {
            let least = ROOM_MIN;
            return Err(Reason::WindowTooSmall { size, least }.into());
        }
        Ok(())
    }

    /// The state has changed from `from` to `to`, if they differ: the chunk in the data section is void, and
    /// so is its content where a session began or ended.
    fn follow(&mut self, from: State, to: State) {
        if from == to {
            return;
        }

        self.handshake = if to.is_saving() {
            Handshake::Prepared
        } else {
            Handshake::Idle
        };
        // A device that broke has no transition, and no session.
        let same_session = Transition::new(from, to)
            .is_some_and(|transition| !transition.steps().any(Step::is_of_session));
        if !same_session {
            self.data.clear();
        }
    }
}

/// Makes `bytes` the `value` of a field, which `header::decode` has found to be as wide.
fn fill(bytes: &mut [u8], value: &[u8]) {
    for (byte, value) in bytes.iter_mut().zip(value) {
        *byte = *value;
    }
}

/// Returns the value in `bytes`, which `header::decode` has found to be as wide.
fn value<const WIDTH: usize>(offset: u64, bytes: &[u8]) -> Result<[u8; WIDTH], Refusal> {
    let len = bytes.len();
    bytes
        .try_into()
        .map_err(|_| Reason::Access { offset, len }.into())
}
