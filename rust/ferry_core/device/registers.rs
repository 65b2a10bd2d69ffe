// SPDX-License-Identifier: GPL-2.0

//! Accesses of the model's registers: BARs and configuration space.

use crate::{
    device::{
        emulated::EmulatedDevice,
        open_model::OpenModel,
        target::Target, //
    },
    driver::Driver, //
};
use device_model::{
    DeviceModel,
    PostedWrites, //
};
use kernel::{
    prelude::*,
    sync::atomic::Relaxed, //
};
use vfio::Device;

type AccessError<D> = <<D as Driver>::Model as DeviceModel>::AccessError;
type RegisterResult<D> = Result<(), AccessError<D>>;

/// Value of each byte of a BAR that the device does not decode.
const UNDECODED: u8 = 0xff;

/// Cuts `[offset, offset + len)` into naturally aligned pieces of 1, 2, 4 or 8 bytes. Yields the offset of
/// each piece and its range in the access.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, core::ops::Range<usize>)> {
    let mut done = 0;

    core::iter::from_fn(move || {
        let left = len.checked_sub(done).filter(|left| *left > 0)?;
        let at = offset.checked_add(done as u64)?;
        let size = [8, 4, 2, 1]
            .into_iter()
            .find(|size| *size <= left && at % *size as u64 == 0)?;
        let piece = done..done + size;
        done += size;
        Some((at, piece))
    })
}

impl<D: Driver> EmulatedDevice<D> {
    /// Reads `bytes.len()` bytes of a BAR or of configuration space at `offset`.
    pub(super) fn read_registers(
        &self,
        target: &Target,
        offset: u64,
        bytes: &mut [u8],
    ) -> RegisterResult<D> {
        let mut live = self.live.lock();
        let Some(live) = Option::as_mut(&mut live) else {
            return Ok(());
        };

        for (at, piece) in pieces(offset, bytes.len()) {
            let bytes = &mut bytes[piece];
            match target {
                Target::Bar(bar) if !live.model.decodes(*bar) => bytes.fill(UNDECODED),
                Target::Bar(bar) if live.running => {
                    live.model.read_bar(*bar, at, bytes)?;
                    self.drive_interrupts(&mut live.model);
                }
                Target::Bar(bar) => live.model.peek_bar(*bar, at, bytes)?,
                _ => live.model.read_config(at, bytes)?,
            }
        }

        Ok(())
    }

    /// Notes `bytes` for the worker and returns `true`, if they are a posted write.
    fn post(&self, target: &Target, at: u64, bytes: &[u8]) -> bool {
        match target {
            Target::Bar(bar) if self.takes_posted.load(Relaxed) & 1 << (bar % u32::BITS) != 0 => {
                let posted = self.posted.post(*bar, at, bytes);
                if posted {
                    self.interrupts.mark_line_stale();
                }
                posted
            }
            _ => false,
        }
    }

    /// Writes `bytes` to a BAR or to configuration space at `offset`. Returns whether the model has work.
    pub(super) fn write_registers(
        device: &Device<Self>,
        target: &Target,
        offset: u64,
        bytes: &[u8],
    ) -> Result<bool, AccessError<D>> {
        let mut posted = 0;
        for (at, piece) in pieces(offset, bytes.len()) {
            if !device.post(target, at, &bytes[piece.clone()]) {
                break;
            }
            posted = piece.end;
        }
        if posted == bytes.len() {
            return Ok(device.posted.is_awaited());
        }

        let (result, ends_dma) = Self::write_live(device, target, offset, bytes, posted);
        if ends_dma {
            device.await_dma();
            device.unpin_dma();
        }
        result
    }

    /// Writes what follows the first `posted` of `bytes`, which were posted. Returns whether the model has work, and
    /// whether DMA that is under way was ended, which the caller has to await.
    fn write_live(
        device: &Device<Self>,
        target: &Target,
        offset: u64,
        bytes: &[u8],
        posted: usize,
    ) -> (Result<bool, AccessError<D>>, bool) {
        let mut live = device.live.lock();
        let Some(live) = Option::as_mut(&mut live) else {
            return (Ok(false), false);
        };

        let result = device.write_pieces(live, target, offset, bytes, posted);
        let ends_dma = live.model.take_dma_end();
        if ends_dma {
            device.end_dma();
        }
        (result, ends_dma)
    }

    fn write_pieces(
        &self,
        live: &mut OpenModel<D::Model, D::Backend>,
        target: &Target,
        offset: u64,
        bytes: &[u8],
        posted: usize,
    ) -> Result<bool, AccessError<D>> {
        for (at, piece) in pieces(offset, bytes.len()).filter(|(_, piece)| piece.start >= posted) {
            let bytes = &bytes[piece];
            if self.post(target, at, bytes) {
                continue;
            }
            match target {
                Target::Bar(bar) if !live.running => {
                    if live.model.decodes(*bar) {
                        live.model.write_bar_stopped(*bar, at, bytes)?;
                    }
                    if let Some(staged) = live.staged().filter(|staged| staged.decodes(*bar)) {
                        staged.write_bar_stopped(*bar, at, bytes)?;
                    }
                }
                Target::Bar(bar) if live.model.decodes(*bar) => {
                    live.model.write_bar(*bar, at, bytes)?;
                }
                Target::Bar(_) => {}
                _ => {
                    live.model.write_config(at, bytes)?;
                    // A VMM restores configuration space between the stream and the end of RESUMING, so
                    // the staged model has to see the write, too.
                    if let Some(staged) = live.staged() {
                        staged.write_config(at, bytes)?;
                    }
                    self.follow_config(live);
                }
            }
            self.drive_interrupts(&mut live.model);
        }

        Ok(live.running && live.model.has_work())
    }
}
