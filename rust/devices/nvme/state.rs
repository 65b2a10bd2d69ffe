// SPDX-License-Identifier: GPL-2.0

//! The controller's state as bytes: the table of offsets, the order, and the checks across parts.
//!
//! Each part has its own `save` and `load` in its file.
//!
//! # Version 2
//!
//! Numbers are little endian. Bytes that are not listed are 0.
//!
//! | offset | bytes | content                                                      |
//! |-------:|------:|--------------------------------------------------------------|
//! |      0 |     1 | version, 2                                                   |
//! |      4 |   256 | configuration space; interrupt status is 0                   |
//! |    260 |   272 | MSI-X table                                                  |
//! |    532 |     4 | CC                                                           |
//! |    536 |     4 | CSTS                                                         |
//! |    540 |     4 | interrupt mask, as INTMS reads                               |
//! |    544 |     4 | AQA                                                          |
//! |    548 |     8 | ASQ                                                          |
//! |    556 |     8 | ACQ                                                          |
//! |    564 |    20 | serial number                                                |
//! |    584 |    40 | model number                                                 |
//! |    624 |     8 | firmware revision                                            |
//! |    632 |    36 | features                                                     |
//! |    668 |    20 | asynchronous events                                          |
//! |    688 |    40 | health log: five counters                                    |
//! |    728 |   392 | error log                                                    |
//! |   1120 |    20 | shadow doorbells                                             |
//! |   1140 |   544 | submission queues 0 to 16, 32 bytes each                     |
//! |   1684 |   544 | completion queues 0 to 16, 32 bytes each                     |
//! |   2228 |    32 | namespaces 1 to 4, 8 bytes each                              |
//! |   2260 |    24 | Format NVM                                                   |
//! |   2284 |       | end                                                          |
//!
//! Version 1 ends at 2228. It is read as well; its namespace is as it was made.
//!
//! Features, with the values that dword 11 of Set Features gave:
//!
//! | offset | bytes | content                                                      |
//! |-------:|------:|--------------------------------------------------------------|
//! |      0 |     4 | arbitration                                                  |
//! |      4 |     4 | power management                                             |
//! |      8 |     4 | error recovery                                               |
//! |     12 |     4 | interrupt coalescing                                         |
//! |     16 |     4 | set of the vectors that have coalescing disabled             |
//! |     20 |     4 | write atomicity                                              |
//! |     24 |     4 | asynchronous event configuration                             |
//! |     28 |     2 | over temperature threshold                                   |
//! |     30 |     2 | under temperature threshold                                  |
//! |     32 |     1 | volatile write cache                                         |
//!
//! Asynchronous events; types are error (0) and health (1):
//!
//! | offset | bytes | content                                                      |
//! |-------:|------:|--------------------------------------------------------------|
//! |      0 |     1 | number of outstanding requests                               |
//! |      1 |     2 | for each type, the set of the information that is pending    |
//! |      3 |     1 | set of the types that are masked until their log is read     |
//! |      4 |    16 | four requests, oldest first: identifier (2 bytes), and 1 if  |
//! |        |       | the request was aborted (1 byte)                             |
//!
//! The counters of the health log, 8 bytes each: read and written data in 512 bytes, read and write
//! commands, errors of the medium.
//!
//! The error log begins with the number of errors so far (8 bytes). The error with number `n`, from 0,
//! is in record `n` modulo 16 of the following:
//!
//! | offset | bytes | content                                                      |
//! |-------:|------:|--------------------------------------------------------------|
//! |      0 |     2 | submission queue                                             |
//! |      2 |     2 | command identifier                                           |
//! |      4 |     2 | status field without phase                                   |
//! |      8 |     4 | namespace identifier                                         |
//! |     16 |     8 | logical block                                                |
//!
//! Shadow doorbells:
//!
//! | offset | bytes | content                                                      |
//! |-------:|------:|--------------------------------------------------------------|
//! |      0 |     1 | 1 if there are shadow doorbells                              |
//! |      1 |     1 | the submission queue that is served next                     |
//! |      4 |     8 | bus address of the doorbells                                 |
//! |     12 |     8 | bus address of the event indexes                             |
//!
//! A queue; one that does not exist has zeros:
//!
//! | offset | bytes | content                                                      |
//! |-------:|------:|--------------------------------------------------------------|
//! |      0 |     8 | bus address                                                  |
//! |      8 |     4 | number of entries                                            |
//! |     12 |     4 | head                                                         |
//! |     16 |     4 | tail                                                         |
//! |     20 |     4 | shadow doorbell when it was looked at last                   |
//! |     24 |     2 | submission: completion queue; completion: interrupt vector   |
//! |     26 |     1 | bit 0: the queue exists; completion: bit 1: it has           |
//! |        |       | interrupts, bit 2: phase of the next entry                   |
//!
//! A namespace; one that does not exist has zeros:
//!
//! | offset | bytes | content                                                      |
//! |-------:|------:|--------------------------------------------------------------|
//! |      0 |     1 | LBA format in use                                            |
//! |      1 |     1 | 1 if blocks were marked by Write Uncorrectable since its     |
//! |        |       | content began; the marks are a part of the content           |
//! |      4 |     4 | error recovery; of namespace 1 it is among the features, and |
//! |        |       | 0 here                                                       |
//!
//! Format NVM; if none is under way, zeros:
//!
//! | offset | bytes | content                                                      |
//! |-------:|------:|--------------------------------------------------------------|
//! |      0 |     1 | 1 if a format is under way                                   |
//! |      1 |     1 | the LBA format to be                                         |
//! |      2 |     2 | command identifier                                           |
//! |      4 |     4 | namespace identifier of the command                          |
//! |      8 |     8 | bytes that are formatted                                     |
//! |     16 |     4 | the namespace that is formatted                              |
//!
//! The state has no interrupts that are to be sent: after the move, each completion queue with interrupts
//! and unconsumed completions interrupts. A guest can live with one interrupt too many. Doorbells have
//! to be [drained](Executor::drain) before. A state that no controller would have written is refused.

use device_model::saved_state::{
    check_unused,
    check_version,
    StateReader,
    StateWriter, //
};
use pci_config::CONFIG_SPACE_SIZE;

use crate::admin::Formatting;
use crate::controller::Controller;
use crate::error_log::ErrorLog;
use crate::events::Events;
use crate::executor::Executor;
use crate::features::Features;
use crate::health::Health;
use crate::load_error::LoadError;
use crate::msix_table::MsixTable;
use crate::names::Names;
use crate::namespace::Namespace;
use crate::parameters::{
    NAMESPACES_MAX,
    PAIRS,
    SERIAL_SIZE, //
};
use crate::queues::Queues;
use crate::registers::Registers;
use crate::shadow::Shadows;
use crate::spec::registers::Csts;

/// The version that this code writes.
const VERSION: u8 = 2;
/// A version that this code reads as well: it has no namespace.
const VERSION_1: u8 = 1;

/// The version and three reserved bytes.
const HEADER_SIZE: usize = 4;
/// Two bytes of flags before the shadow doorbells, and two reserved ones.
const SHADOWS_HEADER_SIZE: usize = 4;

impl Controller {
    /// Number of bytes of the controller's state.
    pub const STATE_SIZE: usize =
        Self::STATE_1_SIZE + NAMESPACES_MAX * Namespace::STATE_SIZE + Formatting::STATE_SIZE;

    /// Number of bytes of a state of version 1.
    const STATE_1_SIZE: usize = HEADER_SIZE
        + CONFIG_SPACE_SIZE
        + MsixTable::STATE_SIZE
        + Registers::STATE_SIZE
        + SERIAL_SIZE
        + Names::STATE_SIZE
        + Features::STATE_SIZE
        + Events::STATE_SIZE
        + Health::STATE_SIZE
        + ErrorLog::STATE_SIZE
        + SHADOWS_HEADER_SIZE
        + Shadows::STATE_SIZE
        + Queues::STATE_SIZE;

    /// Loads a state. Nothing in `state` is taken for granted.
    pub(crate) fn load_state(
        &mut self,
        executor: &mut Executor,
        state: &[u8],
    ) -> Result<(), LoadError> {
        // The connection is no part of the state.
        self.msix_connected = false;
        let (version, size) = match state.first() {
            Some(&VERSION_1) => (VERSION_1, Self::STATE_1_SIZE),
            _ => (VERSION, Self::STATE_SIZE),
        };
        check_version(state, version)?;
        self.load_parts(executor, version, &mut StateReader::new(state, size)?)?;
        self.check_readiness(executor)?;
        check_unused(state, |state| self.save_parts(executor, version, state))?;

        // Nothing is left of what the halves had to tell each other before.
        self.owes_reset = false;
        self.ends_dma = false;
        executor.parameters = self.parameters;
        executor.raised = 0;
        executor.shut_down = false;
        executor.registers = self.registers.clone();
        self.exchange_with(executor);
        self.raise_unconsumed();
        Ok(())
    }

    /// Saves the state.
    pub(crate) fn save_state(&self, executor: &Executor, state: &mut StateWriter<'_>) {
        self.save_parts(executor, VERSION, state);
    }

    /// Saves one part after the other, as `version` has them.
    fn save_parts(&self, executor: &Executor, version: u8, state: &mut StateWriter<'_>) {
        state.u8(version);
        state.reserved::<3>();
        state.bytes(self.config.image());
        self.msix_table.save(state);
        self.registers.save(state);
        state.bytes(&self.parameters.serial);
        executor.names.save(state);
        executor.features.save(state);
        executor.events.save(state);
        executor.health.save(state);
        executor.errors.save(state);
        state.u8(executor.shadows.is_some().into());
        // There are 17 queues.
        state.u8(executor.next_queue as u8);
        state.reserved::<2>();
        Shadows::save(executor.shadows, state);
        executor.queues.save(state);
        if version == VERSION_1 {
            return;
        }
        for (index, namespace) in executor.namespaces.iter().enumerate() {
            let error_recovery = match index {
                0 => 0,
                _ => executor.features.error_recovery_of(index),
            };
            namespace.save(error_recovery, state);
        }
        Formatting::save(executor.formatting, state);
    }

    /// Loads what [`Self::save_parts`] saved, and checks each part by itself and against the registers.
    fn load_parts(
        &mut self,
        executor: &mut Executor,
        version: u8,
        state: &mut StateReader<'_>,
    ) -> Result<(), LoadError> {
        state.reserved::<HEADER_SIZE>()?;
        self.config
            .restore(state.array()?)
            .map_err(LoadError::Config)?;
        self.msix_table.load(state)?;
        self.registers = Registers::load(state)?;
        self.parameters.serial = state.bytes()?;
        self.parameters.check().map_err(LoadError::Parameters)?;
        executor.names = Names::load(state)?;
        executor.features = Features::load(state)?;
        executor.events = Events::load(state)?;
        executor.health = Health::load(state)?;
        executor.errors.load(state)?;

        let has_shadows = state.flag("shadow doorbells")?;
        executor.next_queue = state.at_most("next queue", PAIRS as u8 - 1)?.into();
        state.reserved::<2>()?;
        let shadows = Shadows::load(state)?;
        if has_shadows {
            shadows.check(self.registers.page_shift())?;
        }
        executor.shadows = has_shadows.then_some(shadows);

        executor
            .queues
            .load(&self.parameters, &self.registers, state)?;
        if version == VERSION_1 {
            executor.namespaces = [Namespace::default(); NAMESPACES_MAX];
            executor.formatting = None;
            return Ok(());
        }
        for (index, namespace) in executor.namespaces.iter_mut().enumerate() {
            let Some(parameters) = self.parameters.namespace(index) else {
                *namespace = Namespace::default();
                state.reserved::<{ Namespace::STATE_SIZE }>()?;
                continue;
            };
            *namespace = Namespace::load(&parameters, state)?;
            let error_recovery = state.u32()?;
            if index > 0 {
                executor
                    .features
                    .set_error_recovery(index, error_recovery)?;
            }
        }
        executor.formatting = Formatting::load(&self.parameters, state)?;
        Ok(())
    }

    /// Checks that a ready controller has its admin queue, and that any other has no queues, no requests
    /// for events and no shadow doorbells.
    fn check_readiness(&self, executor: &Executor) -> Result<(), LoadError> {
        let registers = &self.registers;
        let not_ready = |field| Err(LoadError::NotReady { field });

        if registers.csts.intersects(Csts::RDY) {
            if !registers.enabled() || !registers.can_enable() {
                return Err(LoadError::Ready {
                    cc: registers.cc.bits(),
                });
            }
            if !executor.queues.has_admin(registers) {
                return not_ready("admin queue");
            }
            return Ok(());
        }
        for (field, present) in [
            (
                "submission queue",
                executor.queues.submission.iter().any(Option::is_some),
            ),
            (
                "completion queue",
                executor.queues.completion.iter().any(Option::is_some),
            ),
            (
                "request for an event",
                !executor.events.requests().is_empty(),
            ),
            ("shadow doorbells", executor.shadows.is_some()),
            ("format", executor.formatting.is_some()),
        ] {
            if present {
                return not_ready(field);
            }
        }
        Ok(())
    }
}
