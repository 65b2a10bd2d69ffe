// SPDX-License-Identifier: GPL-2.0

//! The adapter between the migration engine and a device of this driver.

use crate::{driver::Driver, mediated::Mediated, model::Model};
use core::fmt::Display;
use kernel::{
    prelude::*,
    sync::Arc, //
};
use migration::{
    Errno,
    MigrationRegion,
    Observer,
    Reason,
    Refusal,
    State,
    Window,
    CONFIGURATION_MAX, //
};
use vfio::{
    device::Device,
    shared_pages::SharedPages,
    trace, //
};

/// The migration region of an open device.
pub(crate) type Region = MigrationRegion<DataWindow, StateBuffer>;

/// Where the state of the device is on its way from or to the window.
pub(crate) struct StateBuffer(pub(crate) KVVec<u8>);

impl AsRef<[u8]> for StateBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsMut<[u8]> for StateBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// The data section, in memory that the user maps.
pub(crate) struct DataWindow(pub(crate) Arc<SharedPages>);

impl Window for DataWindow {
    fn size(&self) -> usize {
        self.0.size()
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let copied = self.0.copy_in(offset, bytes);

        debug_assert!(copied.is_ok(), "the engine keeps within the window");
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        let copied = self.0.copy_out(offset, into);

        debug_assert!(copied.is_ok(), "the engine keeps within the window");
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

/// What the engine does with the device. Made with the state mutex held.
pub(crate) struct Engaged<'a, D: Driver>(pub(crate) &'a Device<Mediated<D>>);

impl<D: Driver> migration::Device for Engaged<'_, D> {
    const TYPE: &'static str = D::Model::TYPE;
    const STATE_SIZE: usize = D::Model::STATE_SIZE;

    fn configuration(&self, out: &mut [u8; CONFIGURATION_MAX]) -> usize {
        self.0.live.lock().model.configuration(out)
    }

    fn stop(&mut self) -> Result<(), Errno> {
        // Whoever is in the middle of an access has the lock, and is through when we get it.
        self.0.live.lock().running = false;
        self.0.interrupts.hold();
        Ok(())
    }

    fn start(&mut self) -> Result<(), Errno> {
        let mut live = self.0.live.lock();
        live.running = true;
        self.0.drive_interrupts(&live.model);
        drop(live);

        self.0.interrupts.release();
        Ok(())
    }

    fn save(&mut self, out: &mut [u8]) -> Result<usize, Errno> {
        self.0.live.lock().model.save(out).ok_or(Errno::EIO)
    }

    fn stage(&mut self, state: &[u8]) -> Result<(), Errno> {
        let mut live = self.0.live.lock();

        match live.model.load(state) {
            Ok(model) => {
                live.staged = Some(model);
                live.load_error = None;
                Ok(())
            }
            Err(error) => {
                live.staged = None;
                live.load_error = Some(error);
                Err(Errno::EINVAL)
            }
        }
    }

    fn adopt(&mut self) {
        let mut live = self.0.live.lock();

        if let Some(staged) = live.staged.take() {
            live.model = staged;
            // The VMM has set up the interrupts for the device that it is now.
            self.0.interrupts.forget_line();
            self.0.drive_interrupts(&live.model);
        }
    }

    fn unstage(&mut self) {
        self.0.live.lock().staged = None;
    }

    fn reset(&mut self) {
        let mut live = self.0.live.lock();
        live.reset();
        self.0.interrupts.forget_line();
        self.0.drive_interrupts(&live.model);
        drop(live);

        self.0.interrupts.release();
    }
}

/// Tells tracepoints and the log what the engine does.
pub(crate) struct Reporter<'a, D: Driver>(pub(crate) &'a Device<Mediated<D>>);

impl<D: Driver> Reporter<'_, D> {
    fn name(&self) -> &CStr {
        let device: &kernel::device::Device = self.0.as_ref();

        device.name()
    }
}

impl<D: Driver> Observer for Reporter<'_, D> {
    fn state(&mut self, from: State, to: State, result: Result<(), &Refusal>) {
        let errno = result.map_or_else(|refusal| refusal.errno.to_errno(), |()| 0);

        trace::state(self.name(), from.bits(), to.bits(), errno);
    }

    fn pending(&mut self, state: State, pending: u64) {
        trace::pending(self.name(), state.bits(), pending);
    }

    fn chunk(&mut self, state: State, size: u64, total: u64) {
        trace::chunk(self.name(), state.bits(), size, total);
    }

    fn refused(&mut self, state: State, refusal: &Refusal) {
        let report = |reason: &dyn Display| {
            let errno = refusal.errno.to_errno();

            trace::refusal(self.name(), state.bits(), errno, reason);
            self.0
                .refused("migration", reason, Error::from_errno(errno));
        };

        // The engine knows that the device refused the state, the device knows why.
        match (&refusal.reason, &self.0.live.lock().load_error) {
            (Reason::StateRefused { .. }, Some(error)) => {
                report(&format_args!("{refusal}: {error}"));
            }
            _ => report(refusal),
        }
    }
}
