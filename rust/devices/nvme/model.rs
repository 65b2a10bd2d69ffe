// SPDX-License-Identifier: GPL-2.0

//! The controller as a device model: accesses, interrupts, reset, state and work.

use device_model::saved_state;
use device_model::{
    Backend,
    DeviceModel,
    GuestMemory,
    Link,
    Log,
    Stores,
    Vectors,
    Work,
    Worker,
    CONFIGURATION_MAX, //
};
use pci_config::AccessError;
use vfio_uapi::Errno;

use crate::controller::{
    Controller,
    WORD_SIZE, //
};
use crate::doorbells::Doorbells;
use crate::executor::Executor;
use crate::function::{
    BAR0_SIZE,
    CONFIG_SIZE,
    MSIX_TABLE,
    VECTORS, //
};
use crate::load_error::LoadError;
use crate::msix_table::MsixTable;
use crate::parameters::{
    ParameterError,
    Parameters, //
};

/// Commands that are executed between two exchanges, and so before their interrupts are sent.
const COMMANDS_AT_ONCE: u32 = 16;

impl DeviceModel for Controller {
    type Executor = Executor;
    type Parameters = Parameters;
    type ParameterError = ParameterError;
    type AccessError = AccessError;
    type LoadError = LoadError;
    type Posted = Doorbells;

    const TYPE: &'static str = "ferry-nvme";
    const CONFIG_SIZE: u64 = CONFIG_SIZE as u64;
    const VECTORS: Vectors = Vectors {
        msi: 0,
        msix: VECTORS,
    };

    fn power_on(parameters: &Parameters) -> Result<Self, ParameterError> {
        Self::new(*parameters)
    }

    fn uses_backend(&self) -> bool {
        self.registers.enabled()
    }

    fn executor(&self) -> Executor {
        Executor::new(self.parameters)
    }

    fn exchange(&mut self, executor: &mut Executor) {
        self.exchange_with(executor);
    }

    fn take_posted(executor: &mut Executor, doorbells: &Doorbells) {
        executor.settle(doorbells);
    }

    fn take_dma_end(&mut self) -> bool {
        core::mem::take(&mut self.ends_dma)
    }

    /// See [`Parameters::configuration`].
    fn configuration(&self, out: &mut [u8; CONFIGURATION_MAX]) -> usize {
        self.parameters.configuration(out)
    }

    /// Doorbells that were posted before the controller stopped to decode count.
    fn decodes(&self, bar: u32) -> bool {
        self.config.decodes(bar as usize)
    }

    fn read_bar(&mut self, bar: u32, offset: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
        // No register changes by being read.
        self.peek_bar(bar, offset, bytes)
    }

    /// Doorbells and pending bits read as 0.
    fn peek_bar(&self, _bar: u32, offset: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
        let range = AccessError::check(offset, bytes.len(), BAR0_SIZE as usize)?;

        let registers = self.registers.image();
        for (address, byte) in range.zip(bytes) {
            *byte = match address.checked_sub(MSIX_TABLE as usize) {
                None => registers.get(address).copied(),
                Some(offset) => self.msix_table.byte(offset),
            }
            .unwrap_or(0);
        }
        Ok(())
    }

    /// Registers take aligned words of 32 or 64 bits; of the latter, the lower half comes first.
    /// Section 3.1 leaves other accesses undefined; they have no effect here. Doorbells are for
    /// [`Doorbells::post`], and have no effect here, either.
    fn write_bar(&mut self, _bar: u32, offset: u64, bytes: &[u8]) -> Result<(), AccessError> {
        let range = AccessError::check(offset, bytes.len(), BAR0_SIZE as usize)?;

        let words = bytes.chunks_exact(WORD_SIZE);
        if range.start % WORD_SIZE == 0 && words.remainder().is_empty() {
            for (address, word) in range.step_by(WORD_SIZE).zip(words) {
                if let Ok(word) = word.try_into() {
                    self.write_word(address, word);
                }
            }
        }
        Ok(())
    }

    /// The MSI-X table takes the write.
    fn write_bar_stopped(
        &mut self,
        bar: u32,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), AccessError> {
        let end = MSIX_TABLE + MsixTable::SIZE as u64;
        if (MSIX_TABLE..end).contains(&offset) {
            return self.write_bar(bar, offset, bytes);
        }
        AccessError::check(offset, bytes.len(), BAR0_SIZE as usize).map(|_| ())
    }

    fn read_config(&self, offset: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
        self.config.read(offset, bytes, self.interrupt_status())
    }

    /// A function level reset is done at once. When software enables MSI-X, completions that wait to be
    /// consumed are announced once more.
    fn write_config(&mut self, offset: u64, bytes: &[u8]) -> Result<(), AccessError> {
        let enabled = self.msix_enabled();
        let could_access_memory = self.config.may_access_memory();
        self.config.write(offset, bytes)?;
        self.ends_dma |= could_access_memory && !self.config.may_access_memory();
        if !enabled && self.msix_enabled() {
            self.raise_unconsumed();
        }
        if self.config.requests_reset(offset, bytes) {
            self.config.function_level_reset();
            self.reset_function();
        }
        Ok(())
    }

    fn may_send_messages(&self) -> bool {
        self.config.may_access_memory()
    }

    fn intx_asserted(&self) -> bool {
        self.interrupt_status() && !self.config.intx_disabled()
    }

    /// Completions that wait to be consumed are announced once more.
    fn set_msix(&mut self, connected: bool) {
        if connected && !self.msix_enabled() {
            self.raise_unconsumed();
        }
        self.msix_connected = connected;
    }

    /// The set is empty while MSI-X is disabled. It is also empty while the controller may not send
    /// messages, which are kept then. Masks are left to the owner of the vectors, who gets the message and
    /// keeps it pending.
    fn take_raised(&mut self) -> u32 {
        if !self.may_send_messages() {
            return 0;
        }
        let raised = core::mem::take(&mut self.raised);
        if self.msix_enabled() {
            raised
        } else {
            0
        }
    }

    const HAS_WORK: bool = true;

    fn has_work(&self) -> bool {
        // Writes other than those of doorbells are rare enough.
        true
    }

    /// The logs stay, as they outlive a loss of power. Doorbells that were posted before do no harm: none
    /// is taken until software enabled the controller again.
    fn reset(&mut self) {
        self.config.bus_driver_reset();
        self.reset_function();
    }

    fn state_size(&self) -> usize {
        Self::STATE_SIZE
    }

    fn save(&self, executor: &Executor, out: &mut [u8]) -> Option<usize> {
        saved_state::save(out, Self::STATE_SIZE, |state| {
            self.save_state(executor, state)
        })
    }

    /// The serial number moves with the state.
    fn load(&mut self, executor: &mut Executor, state: &[u8]) -> Result<(), LoadError> {
        self.load_state(executor, state)
    }
}

impl<M: GuestMemory, B: Backend + Stores<M>> Worker<M, B> for Controller {
    fn work(
        executor: &mut Executor,
        link: &mut dyn Link<Executor>,
        doorbells: &Doorbells,
        memory: &mut M,
        backend: &mut B,
        log: Log<'_>,
    ) -> Work {
        if !link.exchange(executor) {
            return Work::Idle;
        }
        if !executor.has_failed() && executor.claim(backend, log).is_err() {
            executor.fail();
        }
        let work = executor.serve(link, doorbells, memory, backend, COMMANDS_AT_ONCE);
        if link.exchange(executor) {
            work
        } else {
            Work::Idle
        }
    }

    fn drain(
        executor: &mut Executor,
        link: &mut dyn Link<Executor>,
        memory: &mut M,
        backend: &mut B,
    ) -> bool {
        if executor.in_flight.is_empty() {
            return true;
        }
        if !link.exchange(executor) {
            return false;
        }
        let drained = executor.drain_commands(memory, backend);
        link.exchange(executor);
        drained
    }

    fn is_under_way(executor: &Executor) -> bool {
        !executor.in_flight.is_empty()
    }
}

impl Executor {
    /// Has the right to use the backend from the first enable on. Until the stop or the close it is not given up,
    /// not even by a reset: the guest's data is in the caches, and nobody else may use the content meanwhile.
    fn claim<B: Backend>(&self, backend: &mut B, log: Log<'_>) -> Result<(), Errno> {
        if self.registers.enabled() {
            backend.acquire(log)
        } else {
            Ok(())
        }
    }
}
