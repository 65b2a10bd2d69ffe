// SPDX-License-Identifier: GPL-2.0

//! A resume session: takes a stream chunk by chunk.
//!
//! What can be refused is refused at the chunk that shows it, for a user may not survive a refusal
//! later (statement 30 of the protocol). A refused stream poisons the session: nothing more of it
//! is looked at, and only a reset ends it. The live device changes when the session is finished,
//! and not before.

use crate::{
    device::{
        state_buffer,
        Device,
        Window, //
    },
    identity::{
        Identity,
        MINOR, //
    },
    migrated_blocks::{
        MigratedBlocks,
        BLOCK_SIZE, //
    },
    reader::{
        Event,
        Limits,
        Reader,
        Span, //
    },
    refusal::{
        Reason,
        Refusal, //
    },
};
use vfio_uapi::Errno;

/// Where the received state is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Staging {
    /// Not complete.
    None,
    /// With the device, checked and kept aside.
    Staged,
    /// In the live device.
    Adopted,
}

/// A resume session.
pub struct Resume {
    identity: Identity,
    reader: Reader,
    staging: Staging,
    /// Size in bytes of the storage that is staged, once there is one.
    storage: Option<u64>,
    /// Bytes consumed in this session.
    total: u64,
    /// Why the stream was refused.
    poison: Option<Refusal>,
}

impl Resume {
    /// Begins a session of `device`; `buffer` is the one that will take its state.
    ///
    /// # Errors
    ///
    /// [`Reason::BufferTooSmall`], or what [`Identity::of`] says.
    pub fn begin<D: Device>(device: &D, buffer: &mut [u8]) -> Result<Self, Refusal> {
        state_buffer::<D>(buffer)?;

        Ok(Self {
            identity: Identity::of(device, MINOR)?,
            reader: Reader::new(),
            staging: Staging::None,
            storage: None,
            total: 0,
            poison: None,
        })
    }

    /// Returns how many bytes were consumed in this session.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Consumes the first `size` bytes of `window`. `buffer` is the same in every call.
    ///
    /// # Errors
    ///
    /// Why the stream is refused, or [`Reason::RefusedBefore`].
    pub fn consume<D: Device, W: Window>(
        &mut self,
        device: &mut D,
        window: &W,
        size: usize,
        buffer: &mut [u8],
    ) -> Result<(), Refusal> {
        self.refuse_poisoned()?;

        let result = self.read(device, window, Span::new(size), buffer);
        match result {
            Ok(()) => self.total = self.total.saturating_add(size as u64),
            Err(refusal) => {
                self.poison = Some(refusal);
                self.unstage(device);
            }
        }
        result
    }

    /// Checks that the stream was not refused. The reason was told once; that it comes up again is no
    /// reason to tell it again.
    fn refuse_poisoned(&self) -> Result<(), Refusal> {
        match self.poison {
            Some(Refusal { errno, .. }) => Err(Reason::RefusedBefore { errno }.into()),
            None => Ok(()),
        }
    }

    fn read<D: Device, W: Window>(
        &mut self,
        device: &mut D,
        window: &W,
        mut span: Span,
        buffer: &mut [u8],
    ) -> Result<(), Refusal> {
        loop {
            let limits = Limits {
                state: state_buffer::<D>(buffer)?.len(),
                storage: self.storage,
            };
            let Some(event) =
                self.reader
                    .read(window, &mut span, &self.identity, limits, buffer)?
            else {
                return Ok(());
            };

            match event {
                Event::Accepted => {
                    self.storage = with_storage(device, |storage| Ok(storage.blocks()))?
                        .map(|blocks| blocks.saturating_mul(BLOCK_SIZE as u64));
                    if self.storage.is_some() && buffer.is_empty() {
                        return Err(Reason::BufferTooSmall { size: 0, least: 1 }.into());
                    }
                }
                Event::Restarted => self.unstage(device),
                Event::Block { offset, len } => {
                    let piece = buffer.get(..len).unwrap_or(buffer);
                    with_storage(device, |storage| storage.put(offset, piece))?;
                }
                Event::Zeroes { offset, len } => {
                    with_storage(device, |storage| storage.put_zeroes(offset, len))?;
                }
                Event::Completed { len } => {
                    device
                        .stage(buffer.get(..len).unwrap_or(buffer))
                        .map_err(|errno| Reason::StateRefused { errno })?;
                    self.staging = Staging::Staged;
                }
            }
        }
    }

    /// Makes the received state that of the device, which is stopped.
    ///
    /// # Errors
    ///
    /// [`Reason::RefusedBefore`] or [`Reason::Incomplete`]. The device is as before.
    pub fn finish<D: Device>(&mut self, device: &mut D) -> Result<(), Refusal> {
        self.refuse_poisoned()?;
        if !self.reader.is_complete() {
            return Err(Reason::Incomplete {
                bytes: self.total,
                records: self.reader.records(),
            }
            .into());
        }

        // A complete stream has been staged, or it was refused. Where a later step failed and this
        // one was undone, the device has the state already.
        if self.staging == Staging::Staged {
            device.adopt();
            self.staging = Staging::Adopted;
            self.storage = None;
        }
        Ok(())
    }

    /// Forgets what is staged.
    pub fn unstage<D: Device>(&mut self, device: &mut D) {
        if self.staging == Staging::Staged || self.storage.is_some() {
            device.unstage();
        }
        self.staging = Staging::None;
        self.storage = None;
    }
}

/// Calls `f` with the storage that `device` has staged, if it has storage.
fn with_storage<D: Device, R>(
    device: &mut D,
    f: impl FnOnce(&mut dyn MigratedBlocks) -> Result<R, Errno>,
) -> Result<Option<R>, Refusal> {
    device
        .with_staged_storage(f)
        .and_then(Option::transpose)
        .map_err(|errno| Reason::StorageFailed { errno }.into())
}
