// SPDX-License-Identifier: GPL-2.0

//! A resume session: takes a stream chunk by chunk.
//!
//! A fault of the stream is refused at the chunk that shows it, as a user may not survive a refusal
//! later (statement 30 of the protocol). A refused stream poisons the session: the rest of the stream is
//! not read, and only a reset ends the session. The live device changes when the session is finished,
//! and not before.

use super::state_buffer;
use crate::{
    migrated_blocks::{
        MigratedBlocks,
        BLOCK_SIZE, //
    },
    port::{
        Port,
        Source, //
    },
    refusal::{
        Reason,
        Refusal, //
    },
    stream::{
        format::MINOR,
        identity::Identity,
        reader::{
            Event,
            Limits,
            Reader,
            Span, //
        }, //
    },
    transition::{
        Step,
        StepError, //
    },
};
use vfio_uapi::Errno;

/// The place of the received state.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Staging {
    /// Not complete.
    None,
    /// Staged: checked by the device and kept aside.
    Staged,
    /// The state of the live device.
    Adopted,
}

/// A resume session.
pub(crate) struct Resume {
    identity: Identity,
    reader: Reader,
    staging: Staging,
    /// Size in bytes of the storage that is staged, once it was asked for.
    storage_size: Option<u64>,
    /// Bytes consumed in this session.
    total: u64,
    /// Why the stream was refused.
    poison: Option<Refusal>,
}

impl Resume {
    /// Begins a session; `buffer` is the one that will take the state of the device.
    ///
    /// # Errors
    ///
    /// [`Reason::BufferTooSmall`], or why the device has no [`Identity`].
    pub(crate) fn begin<P: Port>(port: &P, buffer: &mut [u8]) -> Result<Self, Refusal> {
        state_buffer(port, buffer)?;

        Ok(Self {
            identity: Identity::of(port, MINOR)?,
            reader: Reader::new(),
            staging: Staging::None,
            storage_size: None,
            total: 0,
            poison: None,
        })
    }

    /// Returns how many bytes were consumed in this session.
    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    /// Consumes the first `size` bytes of `source`. `buffer` is the same in every call.
    ///
    /// # Errors
    ///
    /// Why the stream is refused, or [`Reason::RefusedBefore`].
    pub(crate) fn consume<P: Port, S: Source + ?Sized>(
        &mut self,
        port: &mut P,
        source: &S,
        size: usize,
        buffer: &mut [u8],
    ) -> Result<(), Refusal> {
        self.refuse_poisoned()?;

        let result = self.read(port, source, Span::new(size), buffer);
        match result {
            Ok(()) => self.total = self.total.saturating_add(size as u64),
            Err(refusal) => {
                self.poison = Some(refusal);
                self.unstage(port);
            }
        }
        result
    }

    /// Checks that the stream was not refused. The reason was logged at the chunk that had it, and is not logged
    /// again.
    fn refuse_poisoned(&self) -> Result<(), Refusal> {
        match self.poison {
            Some(Refusal { errno, .. }) => Err(Reason::RefusedBefore { errno }.into()),
            None => Ok(()),
        }
    }

    fn read<P: Port, S: Source + ?Sized>(
        &mut self,
        port: &mut P,
        source: &S,
        mut span: Span,
        buffer: &mut [u8],
    ) -> Result<(), Refusal> {
        let state = state_buffer(port, buffer)?.len();
        loop {
            let limits = Limits {
                state,
                storage: self.storage_size,
            };
            let Some(event) =
                self.reader
                    .read(source, &mut span, &self.identity, limits, buffer)?
            else {
                return Ok(());
            };

            match event {
                Event::Accepted => {
                    self.storage_size = with_blocks(port, |migrated| Ok(migrated.blocks()))?
                        .map(|blocks| blocks.saturating_mul(BLOCK_SIZE as u64));
                }
                Event::Restarted => self.unstage(port),
                Event::Block { offset, len } => {
                    let reader = &mut self.reader;
                    let mut taken: usize = 0;
                    with_blocks(port, |migrated| {
                        migrated.put(offset, len, &mut |into| {
                            taken = taken.saturating_add(reader.take(source, &mut span, into));
                        })
                    })?;
                    // A device that takes less would be offered the rest for ever.
                    if taken != len {
                        let errno = Errno::EIO;
                        return Err(Reason::StorageFailed { errno }.into());
                    }
                }
                Event::Zeroes { offset, len } => {
                    with_blocks(port, |migrated| migrated.put_zeroes(offset, len))?;
                }
                Event::Completed { len } => {
                    port.stage(buffer.get(..len).unwrap_or(buffer))
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
    /// [`Reason::RefusedBefore`] or [`Reason::Incomplete`], and the device is as before; or why the device
    /// cannot adopt the state.
    pub(crate) fn finish<P: Port>(&mut self, port: &mut P) -> Result<(), StepError<Refusal>> {
        self.refuse_poisoned()?;
        if !self.reader.is_complete() {
            return Err(Refusal::from(Reason::Incomplete {
                bytes: self.total,
                records: self.reader.records(),
            })
            .into());
        }

        // A complete stream has been staged, or it was refused. Where a later step failed and this
        // one was undone, the device has the state already.
        if self.staging == Staging::Staged {
            port.adopt().map_err(|error| {
                error.map(|errno| {
                    Refusal::from(Reason::StepFailed {
                        step: Step::FinishResume,
                        errno,
                    })
                })
            })?;
            self.staging = Staging::Adopted;
            self.storage_size = None;
        }
        Ok(())
    }

    /// Forgets what is staged.
    pub(crate) fn unstage<P: Port>(&mut self, port: &mut P) {
        if self.staging == Staging::Staged || self.storage_size.is_some() {
            port.unstage();
        }
        self.staging = Staging::None;
        self.storage_size = None;
    }
}

/// Calls `f` with the blocks that the device has staged, if it has any that migrate.
fn with_blocks<P: Port, R>(
    port: &mut P,
    f: impl FnOnce(&mut dyn MigratedBlocks) -> Result<R, Errno>,
) -> Result<Option<R>, Refusal> {
    port.with_staged_blocks(f)
        .and_then(Option::transpose)
        .map_err(|errno| Reason::StorageFailed { errno }.into())
}
