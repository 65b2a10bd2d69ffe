// SPDX-License-Identifier: GPL-2.0

//! The engine's port: what the migration engine does with a real function.

use crate::{
    errno,
    migration::report,
    variant::{
        context::{
            with_context,
            Unusable, //
        },
        device::{
            Open,
            Variant, //
        },
        Driver, //
    },
};
use ::migration::{
    Port,
    Refusal,
    StepError, //
};
use device_model::{
    hardware::{
        Context,
        Failure,
        Hardware, //
    },
    CONFIGURATION_MAX,
};
use kernel::prelude::*;
use vfio::Device;
use vfio_uapi::{
    v1::State,
    Errno, //
};

/// The port of a real function: executes the engine's steps by the hardware's sequences. Used with the state mutex
/// held.
pub(super) struct VariantPort<'a, D: Driver>(pub(super) &'a Device<Variant<D>>);

type HardwareError<D> = <<D as Driver>::Hardware as Hardware>::Error;

impl<D: Driver> VariantPort<'_, D> {
    fn with_open<R>(&self, f: impl FnOnce(&mut Open<D::Hardware>) -> R) -> Result<R, Errno> {
        Option::as_mut(&mut self.0.open.lock())
            .map(f)
            .ok_or(Errno::ENODEV)
    }

    /// Runs the sequence `f`, called `what`, on the function.
    fn sequence(
        &self,
        what: &str,
        f: impl FnOnce(
            &mut Open<D::Hardware>,
            &mut Context<'_>,
        ) -> Result<(), Failure<HardwareError<D>>>,
    ) -> Result<(), StepError<Errno>> {
        let done = self
            .with_open(|open| {
                Variant::check_reset(self.0, open, what)?;
                Ok(with_context(self.0, open, f))
            })?
            .map_err(errno)?;

        match done {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failure)) => {
                Variant::failed(self.0, what, failure.reason(), EIO);
                Err(match failure {
                    Failure::Undone(_) => StepError::Unchanged(Errno::EIO),
                    Failure::Broken(_) => StepError::Irreversible(Errno::EIO),
                })
            }
            Err(unusable) => {
                let error = errno(Variant::failed(self.0, what, &unusable, unusable.error()));
                Err(match unusable {
                    Unusable::Asleep(_) => StepError::Unchanged(error),
                    Unusable::Disturbed => StepError::Irreversible(error),
                })
            }
        }
    }

    /// Gives the function the state that is pending.
    fn apply(&mut self) -> Result<(), StepError<Errno>> {
        let is_pending = self.with_open(|open| open.is_pending)?;
        if !is_pending {
            return Ok(());
        }

        // It was checked when it was staged, and nobody else has the bytes.
        let mut is_refused = false;
        self.sequence("apply", |open, context| {
            let state = open.staged.get(..open.staged_len).unwrap_or(&[]);
            let Ok(state) = open.hardware.parse(state) else {
                is_refused = true;
                return Ok(());
            };
            open.hardware.apply(context, &state)?;
            open.is_pending = false;
            open.staged_len = 0;
            Ok(())
        })?;
        if is_refused {
            return Err(Errno::EINVAL.into());
        }
        Ok(())
    }
}

impl<D: Driver> Port for VariantPort<'_, D> {
    const TYPE: &'static str = D::Hardware::TYPE;

    fn state_size(&self) -> usize {
        self.with_open(|open| open.hardware.state_size())
            .unwrap_or(0)
    }

    fn configuration(&self, out: &mut [u8; CONFIGURATION_MAX]) -> usize {
        self.with_open(|open| open.hardware.configuration(out))
            .unwrap_or(0)
    }

    fn stop(&mut self) -> Result<(), StepError<Errno>> {
        self.sequence("stop", |open, context| {
            open.hardware.quiesce(context)?;
            open.running = false;
            Ok(())
        })
    }

    fn start(&mut self) -> Result<(), StepError<Errno>> {
        self.apply()?;
        self.sequence("start", |open, context| {
            if !open.p2p {
                open.hardware.resume(context)?;
            }
            open.running = true;
            Ok(())
        })
    }

    fn set_p2p(&mut self, p2p: bool) -> Result<(), StepError<Errno>> {
        self.sequence("P2P", |open, context| {
            match (open.running, p2p) {
                (true, true) => open.hardware.quiesce(context)?,
                (true, false) => open.hardware.resume(context)?,
                (false, _) => {}
            }
            open.p2p = p2p;
            Ok(())
        })
    }

    fn begin_pre_copy(&mut self) -> Result<(), StepError<Errno>> {
        self.with_open(|open| {
            Variant::check_reset(self.0, open, "follow DMA")?;
            Variant::follow(self.0, open)?;
            Variant::check_followed(self.0, open)
        })?
        .map_err(|error| errno(error).into())
    }

    fn save(&mut self, out: &mut [u8]) -> Result<usize, StepError<Errno>> {
        let mut saved = 0;

        self.with_open(|open| Variant::check_followed(self.0, open))?
            .map_err(|error| StepError::Unchanged(errno(error)))?;

        self.sequence("save", |open, context| {
            saved = if open.is_pending {
                copy(open.staged.get(..open.staged_len).unwrap_or(&[]), out)
            } else {
                open.hardware.save(context, out).map_err(Failure::Undone)?
            };
            Ok(())
        })?;
        match saved {
            0 => Err(Errno::EIO.into()),
            len => Ok(len),
        }
    }

    fn stage(&mut self, state: &[u8]) -> Result<(), Errno> {
        self.with_open(|open| {
            open.staged_len = 0;
            open.is_pending = false;
            open.load_error = open.hardware.parse(state).err();
            if open.load_error.is_some() {
                return Err(Errno::EINVAL);
            }
            open.staged_len = copy(state, &mut open.staged);
            match open.staged_len {
                0 => Err(Errno::EINVAL),
                _ => Ok(()),
            }
        })?
    }

    fn adopt(&mut self) -> Result<(), StepError<Errno>> {
        self.with_open(|open| open.is_pending = open.staged_len != 0)
            .map_err(StepError::Unchanged)
    }

    fn unstage(&mut self) {
        let _ = self.with_open(|open| {
            if !open.is_pending {
                open.staged_len = 0;
            }
        });
    }

    fn reset(&mut self) {
        let _ = self.with_open(|open| {
            open.forget();
            // The failure is logged, and refuses each step until the next reset.
            let _ = Variant::reset_hardware(self.0, open);
        });
    }

    fn on_transition(&mut self, from: State, to: State, result: Result<(), &Refusal>) {
        report::transition(self.0, from, to, result);
    }

    fn on_pending(&mut self, state: State, pending: u64) {
        report::pending(self.0, state, pending);
    }

    fn on_chunk(&mut self, state: State, size: u64, total: u64) {
        report::chunk(self.0, state, size, total);
    }

    fn on_refusal(&mut self, state: State, refusal: &Refusal) {
        report::refusal(self.0, state, refusal);
    }
}

/// Copies `from` to the front of `to`, and returns its length; 0 if there is no room for it.
fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let Some(to) = to.get_mut(..from.len()) else {
        return 0;
    };

    to.copy_from_slice(from);
    from.len()
}
