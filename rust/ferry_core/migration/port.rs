// SPDX-License-Identifier: GPL-2.0

//! The engine's port: what the migration engine does with an emulated device.

use crate::{
    device::{
        emulated::EmulatedDevice,
        execution::Execution,
        open_model::OpenModel, //
    },
    driver::Driver,
    errno,
    migration::report, //
};
use ::migration::{
    Port,
    Refusal,
    StepError, //
};
use device_model::{
    Backend,
    DeviceModel,
    MigratedBlocks,
    PostedWrites,
    WriteBack,
    CONFIGURATION_MAX, //
};
use kernel::prelude::*;
use vfio::Device;
use vfio_uapi::{
    v1::State,
    Errno, //
};

/// The port of an emulated device: executes the engine's steps on the model, and passes the engine's reports on
/// to tracepoints, statistics and log. Used with the state mutex held.
pub(crate) struct EnginePort<'a, D: Driver>(pub(crate) &'a Device<EmulatedDevice<D>>);

impl<D: Driver> Port for EnginePort<'_, D> {
    const TYPE: &'static str = D::Model::TYPE;

    fn state_size(&self) -> usize {
        self.0
            .with_open_model(|live| live.model.state_size())
            .unwrap_or(0)
    }

    fn configuration(&self, out: &mut [u8; CONFIGURATION_MAX]) -> usize {
        self.0
            .with_open_model(|live| live.model.configuration(out))
            .unwrap_or(0)
    }

    fn stop(&mut self) -> Result<(), StepError<Errno>> {
        // Work that is under way has the lock, and is done when the lock is taken here.
        let stopped = self.with_execution(|execution| {
            // It gives up the backend once the change of state is done, see `Prepared`.
            execution.prepared?;
            self.with_open_model(|live| {
                live.model.exchange(&mut execution.executor);
                live.running = false;
                // No posted write is taken from here on.
                self.0.follow_config(live);
                live.model.exchange(&mut execution.executor);
                D::Model::take_posted(&mut execution.executor, &self.0.posted);
                live.model.exchange(&mut execution.executor);
                self.0.drive_interrupts(&mut live.model);
                Ok(())
            })
        });
        match stopped {
            Ok(()) => {
                // A container takes pinned pages for written ones.
                self.0.unpin_dma();
                self.0.interrupts.hold();
                Ok(())
            }
            Err(errno) => {
                self.0.kick();
                Err(errno.into())
            }
        }
    }

    fn start(&mut self) -> Result<(), StepError<Errno>> {
        self.with_both(|execution, live| {
            execution.prepared?;
            live.running = true;
            self.take_posted(live);
            self.0.drive_interrupts(&mut live.model);
            Ok(())
        })?;
        self.run();
        Ok(())
    }

    fn set_p2p(&mut self, p2p: bool) -> Result<(), StepError<Errno>> {
        // Work that is under way has the lock, and is done when the lock is taken here.
        let set = self.0.with_both(|_, live| live.p2p = p2p);

        if set.is_ok() && !p2p {
            self.0.kick();
        } else {
            self.0.unpin_dma();
        }
        Ok(())
    }

    fn save(&mut self, out: &mut [u8]) -> Result<usize, StepError<Errno>> {
        self.0
            .with_both(|execution, live| live.model.save(&execution.executor, out))
            .map_err(errno)?
            .ok_or(Errno::EIO.into())
    }

    fn stage(&mut self, state: &[u8]) -> Result<(), Errno> {
        self.with_both(|execution, live| live.stage(&execution.backend, state))
    }

    fn adopt(&mut self) -> Result<(), StepError<Errno>> {
        let former = self.0.with_both(|execution, live| {
            let former = live.adopt(execution)?;
            // The VMM has set up the interrupts for the state that is adopted.
            self.0.tell_messages(&mut live.model);
            self.0.interrupts.forget();
            self.0.follow_config(live);
            self.0.drive_interrupts(&mut live.model);
            former
        });

        // No lock is held while memory is freed, which may take long.
        drop(former);
        Ok(())
    }

    fn unstage(&mut self) {
        let staged = self.0.with_open_model(OpenModel::unstage);

        drop(staged);
    }

    fn reset(&mut self) {
        let reset = self.0.with_open_model(|live| {
            let staged = live.reset();
            // Pending interrupts are dropped before the device, awake after the reset, may deliver them.
            self.0.interrupts.forget();
            self.take_posted(live);
            self.0.drive_interrupts(&mut live.model);
            if live.model.take_dma_end() {
                self.0.end_dma();
            }
            staged
        });

        // No lock but the state mutex is held while memory is freed.
        if let Ok(staged) = reset {
            drop(staged);
            self.0.await_dma();
            self.0.unpin_dma();
            self.run();
        }
    }

    fn with_blocks<R>(&mut self, f: impl FnOnce(&mut dyn MigratedBlocks) -> R) -> Option<R> {
        // A device without blocks does not wait for its executor.
        if !self.0.with_open_model(|live| live.has_blocks).ok()? {
            return None;
        }
        self.0
            .with_execution(|execution| execution.backend.blocks().map(|blocks| f(blocks)))
            .ok()?
    }

    fn unwritten(&mut self) -> u64 {
        // A closed device has nothing to write back.
        let unwritten = self.0.with_open_model(|live| live.write_back.unwritten());
        unwritten.unwrap_or(0)
    }

    fn untrack(&mut self) {
        self.0.untrack();
    }

    fn with_staged_blocks<R>(
        &mut self,
        f: impl FnOnce(&mut dyn MigratedBlocks) -> R,
    ) -> Result<Option<R>, Errno> {
        if !self
            .0
            .with_open_model(|live| live.has_blocks)
            .map_err(errno)?
        {
            return Ok(None);
        }
        self.with_both(|execution, live| {
            let blocks = live.staged_blocks(&execution.backend)?;
            Ok(blocks.map(|blocks| f(blocks)))
        })
    }

    fn on_transition(&mut self, from: State, to: State, result: Result<(), &Refusal>) {
        if result.is_ok() {
            self.begin_write_back(to);
        }
        report::transition(self.0, from, to, result);
    }

    fn on_pending(&mut self, state: State, pending: u64) {
        self.begin_write_back(state);
        report::pending(self.0, state, pending);
    }

    fn on_chunk(&mut self, state: State, size: u64, total: u64) {
        report::chunk(self.0, state, size, total);
    }

    fn on_refusal(&mut self, state: State, refusal: &Refusal) {
        report::refusal(self.0, state, refusal);
    }
}

impl<D: Driver> EnginePort<'_, D> {
    /// Begins to write back what the stop would have to, while the device is saved and goes on.
    fn begin_write_back(&self, state: State) {
        if state == State::PreCopy {
            // A closed device has nothing to write back.
            let _ = self.0.with_open_model(|live| live.write_back.begin());
        }
    }

    /// Runs `f` on the executor and the backend of the open device, with their lock held.
    fn with_execution<R>(
        &self,
        f: impl FnOnce(&mut Execution<D::Model, D::Backend>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        self.0.with_execution(f).map_err(errno)?
    }

    /// Runs `f` on all of the open device, between two exchanges of the halves.
    fn with_both<R>(
        &self,
        f: impl FnOnce(
            &mut Execution<D::Model, D::Backend>,
            &mut OpenModel<D::Model, D::Backend>,
        ) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        self.0.with_both(f).map_err(errno)?
    }

    /// Runs `f` on the registers of the open device, with their lock held.
    fn with_open_model<R>(
        &self,
        f: impl FnOnce(&mut OpenModel<D::Model, D::Backend>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        self.0.with_open_model(f).map_err(errno)?
    }

    /// Lets posted writes count from here on, and no earlier ones.
    fn take_posted(&self, live: &OpenModel<D::Model, D::Backend>) {
        self.0.posted.clear();
        self.0.follow_config(live);
    }

    /// Lets the device go on from the state that it has, which may be one with work left to do.
    fn run(&self) {
        self.0.interrupts.release();
        self.0.kick();
    }
}
