// SPDX-License-Identifier: GPL-2.0

//! The engine's port: what a device does for the engine and learns from it, and the two ends of a chunk.

use crate::{
    migrated_blocks::MigratedBlocks,
    refusal::Refusal,
    transition::StepError, //
};
use device_model::CONFIGURATION_MAX;
use vfio_uapi::{
    v1::State,
    Errno, //
};

/// A device as the engine sees it.
///
/// A binding implements the trait once for all of its devices: by a model in memory, or by the registers
/// of a real function. The engine calls one method at a time, on one thread, and the methods may sleep: to
/// wait for DMA in flight, for firmware, or for a lock.
///
/// The methods of a step return [`StepError::Unchanged`] where the device is as before, so that the engine
/// can unwind the transition, and [`StepError::Irreversible`] where it is neither that nor what was asked
/// for, such as a quiesce that timed out half way. The device is then in the ERROR state until it is
/// reset.
pub trait Port {
    /// The type of the device: 1 to 16 bytes of ASCII that never change. A device refuses a stream of
    /// another type.
    const TYPE: &'static str;

    /// Returns the most bytes of state that [`save`](Self::save) can give. Constant while the device is
    /// open, at most [`STATE_MAX`](crate::engine::STATE_MAX).
    fn state_size(&self) -> usize;

    /// Writes the configuration, which must be equal at both ends of a migration, such as a number of ports,
    /// to `out` and returns its length in bytes. The configuration must not change during a session.
    fn configuration(&self, out: &mut [u8; CONFIGURATION_MAX]) -> usize;

    /// Stops the device. After a successful return there is no DMA, no interrupt and no advance of
    /// the state until [`start`](Self::start).
    ///
    /// # Errors
    ///
    /// [`StepError::Unchanged`]: the device still runs as before.
    fn stop(&mut self) -> Result<(), StepError<Errno>>;

    /// Lets the stopped device run from the state that it has.
    ///
    /// # Errors
    ///
    /// [`StepError::Unchanged`]: the device is still stopped.
    fn start(&mut self) -> Result<(), StepError<Errno>>;

    /// Enters or leaves P2P: after a successful return the device initiates no DMA, or initiates DMA again. In
    /// P2P the device answers accesses as before. The device may run or be stopped, and a reset ends P2P.
    ///
    /// # Errors
    ///
    /// [`StepError::Unchanged`]: the device is in P2P, or not, as before.
    fn set_p2p(&mut self, p2p: bool) -> Result<(), StepError<Errno>> {
        let _ = p2p;
        Ok(())
    }

    /// A save begins while the device runs. A device whose dirty pages are told by what it does, and not by its
    /// IOMMU, reports all that it writes to from now on: the user sends the guest's memory after this.
    ///
    /// # Errors
    ///
    /// [`StepError::Unchanged`]: the save does not begin.
    fn begin_pre_copy(&mut self) -> Result<(), StepError<Errno>> {
        Ok(())
    }

    /// Writes the whole state of the stopped device to `out`, which has
    /// [`state_size`](Self::state_size) bytes, and returns its length in bytes. All that is in flight is
    /// part of the state.
    ///
    /// The engine asks for the state in one piece: what is sent must be the state at one moment, and a user
    /// may write configuration space or an MSI-X table in stop-and-copy. It also asks once per
    /// stop-and-copy, as reading a register may clear it. A device whose hardware gives its state in pieces
    /// fills `out` piece by piece.
    ///
    /// # Errors
    ///
    /// [`StepError::Unchanged`]: the device is stopped as before and could save again.
    fn save(&mut self, out: &mut [u8]) -> Result<usize, StepError<Errno>>;

    /// Checks `state`, which is hostile, and keeps it aside. The live device must not change. Forgets the
    /// state that was staged before, but not the staged blocks.
    ///
    /// # Errors
    ///
    /// This device cannot have the state; no state is staged.
    fn stage(&mut self, state: &[u8]) -> Result<(), Errno>;

    /// Makes the staged state that of the live device, which is stopped, and the staged blocks its
    /// blocks.
    ///
    /// By then the user may have restored PCI configuration space and interrupts (statement 31 of the
    /// protocol); adopting must not undo that. A device whose
    /// hardware cannot take a part of the state while it is stopped keeps that part for
    /// [`start`](Self::start).
    ///
    /// # Errors
    ///
    /// [`StepError::Unchanged`]: the live device is as before, and the state is still staged.
    fn adopt(&mut self) -> Result<(), StepError<Errno>>;

    /// Forgets the staged state and the staged blocks. Does nothing if neither is staged.
    fn unstage(&mut self);

    /// Resets the device from whatever state it is in and lets it run. Nothing is staged then.
    fn reset(&mut self);

    /// Calls `f` with the blocks of the live device and returns what it returns; [`None`] if the
    /// device has no blocks that migrate, which must be the same for as long as it is open.
    ///
    /// In pre-copy the device runs. A lock that keeps it from its blocks is held for one call, in which the
    /// engine copies no more than some 64 KiB.
    fn with_blocks<R>(&mut self, f: impl FnOnce(&mut dyn MigratedBlocks) -> R) -> Option<R> {
        let _ = f;
        None
    }

    /// Returns how many bytes the device, which runs, has yet to write back to a medium of its own before it can stop, at
    /// most. They are not a part of the stream. Once the device writes nothing more, it falls to 0 by the repeated calls
    /// of [`on_pending`](Self::on_pending).
    fn unwritten(&mut self) -> u64 {
        0
    }

    /// Ends the tracking of the live device's blocks, at the latest before the next call of
    /// [`with_blocks`](Self::with_blocks); without effect if nothing is tracked. Called by a reset as well, and so must
    /// not wait for what the device does.
    fn untrack(&mut self) {
        self.with_blocks(|migrated| migrated.untrack());
    }

    /// Calls `f` with the staged blocks, which are all zeros when they are first asked for
    /// since the device was opened, or since the last [`adopt`](Self::adopt),
    /// [`unstage`](Self::unstage) or [`reset`](Self::reset). The live device must not change. One call copies
    /// no more than some 64 KiB.
    /// [`None`] exactly where [`with_blocks`](Self::with_blocks) has it.
    ///
    /// # Errors
    ///
    /// There is no memory for them.
    fn with_staged_blocks<R>(
        &mut self,
        f: impl FnOnce(&mut dyn MigratedBlocks) -> R,
    ) -> Result<Option<R>, Errno> {
        let _ = f;
        Ok(None)
    }

    /// A transition was tried, or a reset was done. `to` is the state asked for, or ERROR where the
    /// device broke.
    fn on_transition(&mut self, from: State, to: State, result: Result<(), &Refusal>) {
        let _ = (from, to, result);
    }

    /// A user of the device was told that `pending` bytes are left to save.
    fn on_pending(&mut self, state: State, pending: u64) {
        let _ = (state, pending);
    }

    /// A chunk of `size` bytes was given (saving) or taken (resuming); `total` counts the
    /// bytes of the session with this chunk.
    fn on_chunk(&mut self, state: State, size: u64, total: u64) {
        let _ = (state, size, total);
    }

    /// A request was refused; `state` is the one in which it came. Called once for each refusal.
    fn on_refusal(&mut self, state: State, refusal: &Refusal) {
        let _ = (state, refusal);
    }
}

/// Memory that a save puts the records of one chunk into.
///
/// A user may change the memory at any time, so the engine never reads it back. Offsets are in bytes from the
/// start of the chunk, and the engine keeps `offset + length` within [`room`](Self::room).
pub trait Sink {
    /// Returns how many bytes a chunk can have. Constant.
    fn room(&self) -> usize;

    /// Copies `bytes` to `offset` of the chunk. The header of a record comes after its payload.
    fn write(&mut self, offset: usize, bytes: &[u8]);
}

/// Memory that a resume takes the records of one chunk from.
///
/// A user may change the memory at any time, so the engine copies every byte out once and checks the copy.
/// Offsets are in bytes from the start of the chunk, and the engine stays within the size of the chunk.
pub trait Source {
    /// Copies a part of the chunk out.
    fn read(&self, offset: usize, into: &mut [u8]);
}
