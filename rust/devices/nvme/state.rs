// SPDX-License-Identifier: GPL-2.0

//! The controller's state as bytes, to be moved to another host.
//!
//! # Version 1
//!
//! Numbers are little endian. Bytes that are not listed are 0.
//!
//! | offset | bytes | content                                                      |
//! |-------:|------:|--------------------------------------------------------------|
//! |      0 |     1 | version, 1                                                   |
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
//! |   2228 |       | end                                                          |
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
//! Asynchronous events; of error (0) and health (1) events:
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
//! Interrupts that are to be sent are not there: each completion queue that has interrupts and
//! completions that the guest did not consume interrupts after the move. A guest can live with one
//! interrupt too many. Doorbells have to be [drained](Controller::drain) before. A state that no
//! controller would have written so is refused.

use core::fmt;

use pci_config::{
    ImageError,
    CONFIG_SPACE_SIZE, //
};

use crate::controller::{
    Controller,
    ADMIN_VECTOR,
    MSIX_TABLE_SIZE, //
};
use crate::doorbells::PAIRS;
use crate::events::{
    Events,
    Request,
    KINDS,
    REQUESTS_MAX, //
};
use crate::features::Features;
use crate::identify::{
    Names,
    FIRMWARE_SIZE,
    MODEL_SIZE, //
};
use crate::log::{
    ErrorEntry,
    ErrorLog,
    Health,
    ERROR_ENTRIES, //
};
use crate::parameters::{
    is_printable,
    ParameterError,
    Parameters,
    SERIAL_SIZE, //
};
use crate::queue::{
    CompletionQueue,
    Positions,
    SubmissionQueue, //
};
use crate::registers::{
    self as regs,
    is_aligned,
    Registers, //
};
use crate::shadow::Shadows;
use crate::worker::ADMIN;

/// The version that this code writes, and the only one that it reads.
const VERSION: u8 = 1;

const HEADER_SIZE: usize = 4;
const REGISTERS_SIZE: usize = 32;
const NAMES_SIZE: usize = SERIAL_SIZE + MODEL_SIZE + FIRMWARE_SIZE;
const FEATURES_SIZE: usize = 36;
const REQUEST_SIZE: usize = 4;
const EVENTS_SIZE: usize = 2 + KINDS + REQUESTS_MAX * REQUEST_SIZE;
const HEALTH_SIZE: usize = 5 * 8;
const ERROR_ENTRY_SIZE: usize = 24;
const ERRORS_SIZE: usize = 8 + ERROR_ENTRIES * ERROR_ENTRY_SIZE;
const SHADOWS_SIZE: usize = 20;
const QUEUE_SIZE: usize = 32;
const QUEUES_SIZE: usize = 2 * PAIRS * QUEUE_SIZE;

/// Queue flags: it exists.
const QUEUE_EXISTS: u8 = 1 << 0;
/// Queue flags: completions interrupt.
const QUEUE_INTERRUPTS: u8 = 1 << 1;
/// Queue flags: phase of the next completion.
const QUEUE_PHASE: u8 = 1 << 2;

/// A state that no controller of the configuration can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// The state is not as long as one is.
    Length {
        /// How many bytes it should have.
        expected: usize,
        /// How many bytes it has.
        found: usize,
    },
    /// The state has a version that this code does not know.
    Version {
        /// Its version.
        found: u8,
    },
    /// The configuration space is not one of the controller.
    Config(ImageError),
    /// The serial number is not one that a controller can have.
    Parameters(ParameterError),
    /// A field has bits that it cannot have.
    Bits {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        found: u64,
        /// The bits that it can have.
        allowed: u64,
    },
    /// A field has a value that is too large.
    Range {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        found: u64,
        /// The largest value that it can have.
        most: u64,
    },
    /// A text has a byte that is not printable ASCII.
    Text {
        /// Name of the field.
        field: &'static str,
        /// What the byte is.
        found: u8,
    },
    /// An address is not at the beginning of a page.
    Alignment {
        /// Name of the field.
        field: &'static str,
        /// The address.
        found: u64,
    },
    /// The controller is ready, but was not enabled or cannot be.
    Ready {
        /// The value of CC.
        cc: u32,
    },
    /// Something is there that only a ready controller has, or the admin queue of a ready one is not.
    NotReady {
        /// What it is.
        field: &'static str,
    },
    /// A submission queue cannot be there or like this.
    SubmissionQueue {
        /// Its number.
        index: usize,
    },
    /// A completion queue cannot be there or like this.
    CompletionQueue {
        /// Its number.
        index: usize,
    },
    /// A byte that is reserved or unused is not 0.
    Unused {
        /// Where it is in the state.
        offset: usize,
        /// What it is.
        found: u8,
    },
}

impl Controller {
    /// Number of bytes of the controller's state.
    pub const STATE_SIZE: usize = HEADER_SIZE
        + CONFIG_SPACE_SIZE
        + MSIX_TABLE_SIZE
        + REGISTERS_SIZE
        + NAMES_SIZE
        + FEATURES_SIZE
        + EVENTS_SIZE
        + HEALTH_SIZE
        + ERRORS_SIZE
        + SHADOWS_SIZE
        + QUEUES_SIZE;

    /// Writes the complete state of the controller to the front of `out`.
    ///
    /// Returns the number of bytes written, or [`None`] if `out` is too small.
    /// [`Controller::STATE_SIZE`] bytes are always enough.
    pub fn save(&self, out: &mut [u8]) -> Option<usize> {
        let mut rest = out.get_mut(..Self::STATE_SIZE)?;
        self.encode(&mut |bytes| {
            if let Some((field, behind)) =
                core::mem::take(&mut rest).split_at_mut_checked(bytes.len())
            {
                field.copy_from_slice(bytes);
                rest = behind;
            }
        });
        Some(Self::STATE_SIZE)
    }

    /// Returns the controller with `parameters`, but the serial number that moves with the state, of
    /// which [`Controller::save`] wrote `state`.
    ///
    /// # Errors
    ///
    /// A controller of this configuration cannot have that state, or a version of this code wrote it
    /// that is not known here. Nothing in `state` is taken for granted.
    pub fn load(parameters: &Parameters, state: &[u8]) -> Result<Self, LoadError> {
        parameters.check().map_err(LoadError::Parameters)?;
        let mut controller = Self::power_on(*parameters);
        controller.restore(state)?;
        Ok(controller)
    }

    /// Does what [`Controller::load`] does with a controller that is there already, which takes much
    /// less of the stack.
    ///
    /// # Errors
    ///
    /// As for [`Controller::load`]. The controller is good for nothing but another attempt then.
    pub fn restore(&mut self, state: &[u8]) -> Result<(), LoadError> {
        // The version comes first: it tells how long the rest is.
        if let Some(&found) = state.first() {
            if found != VERSION {
                return Err(LoadError::Version { found });
            }
        }
        if state.len() != Self::STATE_SIZE {
            return Err(LoadError::Length {
                expected: Self::STATE_SIZE,
                found: state.len(),
            });
        }

        self.decode(&mut Reader {
            state,
            size: state.len(),
        })?;
        self.check_readiness()?;
        self.check_unused(state)?;
        self.raise_unconsumed();
        Ok(())
    }

    /// Checks that what was not read is as the controller writes it: it is reserved or unused.
    fn check_unused(&self, state: &[u8]) -> Result<(), LoadError> {
        let mut offset = 0;
        let mut unused = None;
        self.encode(&mut |bytes| {
            let mut pairs = state[offset..].iter().zip(bytes);
            if let (None, Some(index)) = (unused, pairs.position(|(a, b)| a != b)) {
                unused = Some(offset + index);
            }
            offset += bytes.len();
        });
        match unused {
            Some(offset) => Err(LoadError::Unused {
                offset,
                found: state[offset],
            }),
            None => Ok(()),
        }
    }

    /// Hands the state to `put`, one field after the other.
    fn encode(&self, put: &mut dyn FnMut(&[u8])) {
        put(&[VERSION, 0, 0, 0]);
        put(self.config.image());
        put(&self.msix_table);

        let registers = &self.registers;
        put(&registers.cc.to_le_bytes());
        put(&registers.csts.to_le_bytes());
        put(&registers.interrupt_mask.to_le_bytes());
        put(&registers.aqa.to_le_bytes());
        put(&registers.asq.to_le_bytes());
        put(&registers.acq.to_le_bytes());

        put(&self.parameters.serial);
        put(&self.names.model);
        put(&self.names.firmware);

        encode_features(&self.features, put);
        encode_events(&self.events, put);
        encode_health(&self.health, put);
        encode_errors(&self.errors, put);

        put(&[
            self.shadows.is_some().into(),
            // There are 17 queues.
            self.next_queue as u8,
            0,
            0,
        ]);
        let (doorbells, event_indexes) = self
            .shadows
            .map_or((0, 0), |shadows| (shadows.doorbells, shadows.event_indexes));
        put(&doorbells.to_le_bytes());
        put(&event_indexes.to_le_bytes());

        for queue in &self.submission {
            put(&encode_submission(queue.as_ref()));
        }
        for queue in &self.completion {
            put(&encode_completion(queue.as_ref()));
        }
    }

    /// Reads the state and checks each part of it. Queues are checked against the registers.
    fn decode(&mut self, reader: &mut Reader<'_>) -> Result<(), LoadError> {
        let _header: [u8; HEADER_SIZE] = reader.bytes()?;
        self.config
            .restore(&reader.bytes()?)
            .map_err(LoadError::Config)?;
        self.msix_table = reader.bytes()?;
        self.registers = decode_registers(reader)?;
        self.parameters.serial = reader.bytes()?;
        self.parameters.check().map_err(LoadError::Parameters)?;
        self.names = Names {
            model: reader.text("model number")?,
            firmware: reader.text("firmware revision")?,
        };
        self.features = decode_features(reader)?;
        self.events = decode_events(reader)?;
        self.health = decode_health(reader)?;
        decode_errors(&mut self.errors, reader)?;
        self.decode_shadows(reader)?;
        self.decode_queues(reader)
    }

    fn decode_shadows(&mut self, reader: &mut Reader<'_>) -> Result<(), LoadError> {
        let [present, next_queue, _, _] = reader.bytes()?;
        let present = at_most("shadow doorbells", present.into(), 1)? != 0;
        self.next_queue = at_most("next queue", next_queue.into(), PAIRS as u64 - 1)? as usize;

        let shadows = Shadows {
            doorbells: reader.u64()?,
            event_indexes: reader.u64()?,
        };
        if present {
            self.aligned("shadow doorbells", shadows.doorbells)?;
            self.aligned("event indexes", shadows.event_indexes)?;
        }
        self.shadows = present.then_some(shadows);
        Ok(())
    }

    fn decode_queues(&mut self, reader: &mut Reader<'_>) -> Result<(), LoadError> {
        for index in 0..PAIRS {
            let record = QueueRecord::decode(reader, QUEUE_EXISTS)?;
            let impossible = LoadError::SubmissionQueue { index };
            self.submission[index] = None;
            if record.exists() {
                self.check_queue(index, &record.positions, impossible)?;
                let queue = SubmissionQueue::restore(
                    &record.positions,
                    record.partner.into(),
                    record.shadow,
                );
                self.submission[index] = Some(queue.ok_or(impossible)?);
            }
        }
        for index in 0..PAIRS {
            let allowed = QUEUE_EXISTS | QUEUE_INTERRUPTS | QUEUE_PHASE;
            let record = QueueRecord::decode(reader, allowed)?;
            let impossible = LoadError::CompletionQueue { index };
            self.completion[index] = None;
            if record.exists() {
                self.check_queue(index, &record.positions, impossible)?;
                let interrupts = record.flags & QUEUE_INTERRUPTS != 0;
                if usize::from(record.partner) >= PAIRS {
                    return Err(impossible);
                }
                let queue = CompletionQueue::restore(
                    &record.positions,
                    record.flags & QUEUE_PHASE != 0,
                    interrupts.then_some(record.partner),
                    record.shadow,
                );
                self.completion[index] = Some(queue.ok_or(impossible)?);
            }
        }

        for (index, queue) in self.submission.iter().enumerate() {
            let Some(queue) = queue else {
                continue;
            };
            let completion = self.completion.get(queue.completion_queue);
            let is_admin = |queue| queue == ADMIN;
            if !matches!(completion, Some(Some(_)))
                || is_admin(index) != is_admin(queue.completion_queue)
            {
                return Err(LoadError::SubmissionQueue { index });
            }
        }
        Ok(())
    }

    /// Checks that a queue can exist, and where it is.
    fn check_queue(
        &self,
        index: usize,
        positions: &Positions,
        impossible: LoadError,
    ) -> Result<(), LoadError> {
        let most = if index == ADMIN {
            // The registers say what it is like.
            regs::ADMIN_ENTRIES_MAX
        } else {
            regs::QUEUE_ENTRIES_MAX
        };
        let aligned = is_aligned(positions.base, self.registers.page_shift());
        if index > self.parameters.queue_pairs.into() || positions.entries > most || !aligned {
            return Err(impossible);
        }
        Ok(())
    }

    /// Checks that a controller that is ready has what it needs, and another one nothing.
    fn check_readiness(&self) -> Result<(), LoadError> {
        let registers = &self.registers;
        let admin = |registers: &Registers| {
            let submission = self.submission[ADMIN].as_ref()?.positions();
            let completion = self.completion[ADMIN].as_ref()?;
            let fits = submission.base == registers.asq
                && submission.entries == registers.admin_submission_entries()
                && completion.positions().base == registers.acq
                && completion.positions().entries == registers.admin_completion_entries()
                && completion.vector == Some(ADMIN_VECTOR);
            fits.then_some(())
        };

        if registers.csts & regs::CSTS_RDY != 0 {
            if !registers.enabled() || !registers.can_enable() {
                return Err(LoadError::Ready { cc: registers.cc });
            }
            return admin(registers).ok_or(LoadError::NotReady {
                field: "admin queue",
            });
        }
        let submission = self.submission.iter().flatten().next();
        let completion = self.completion.iter().flatten().next();
        for (field, present) in [
            ("submission queue", submission.is_some()),
            ("completion queue", completion.is_some()),
            ("request for an event", !self.events.requests().is_empty()),
            ("shadow doorbells", self.shadows.is_some()),
        ] {
            if present {
                return Err(LoadError::NotReady { field });
            }
        }
        Ok(())
    }

    /// Has every completion queue interrupt for what may not have been interrupted for.
    pub(crate) fn raise_unconsumed(&mut self) {
        self.raised = 0;
        for completion in self.completion.iter().flatten() {
            if let (Some(vector), false) = (completion.vector, completion.is_empty()) {
                self.raised |= 1 << vector;
            }
        }
    }

    fn aligned(&self, field: &'static str, found: u64) -> Result<(), LoadError> {
        if !is_aligned(found, self.registers.page_shift()) {
            return Err(LoadError::Alignment { field, found });
        }
        Ok(())
    }
}

fn decode_registers(reader: &mut Reader<'_>) -> Result<Registers, LoadError> {
    let registers = Registers {
        cc: reader.u32_of("CC", regs::CC_ALL)?,
        csts: reader.u32_of("CSTS", regs::CSTS_ALL)?,
        interrupt_mask: reader.u32()?,
        aqa: reader.u32_of("AQA", regs::AQA_ALL)?,
        asq: reader.u64_of("ASQ", regs::ADMIN_BASE_ALL)?,
        acq: reader.u64_of("ACQ", regs::ADMIN_BASE_ALL)?,
    };
    at_most(
        "CSTS.SHST",
        (registers.csts & regs::CSTS_SHST).into(),
        regs::CSTS_SHST_COMPLETE.into(),
    )?;
    Ok(registers)
}

fn encode_features(features: &Features, put: &mut dyn FnMut(&[u8])) {
    put(&features.arbitration.to_le_bytes());
    put(&features.power_management.to_le_bytes());
    put(&features.error_recovery.to_le_bytes());
    put(&features.coalescing.to_le_bytes());
    put(&features.uncoalesced.to_le_bytes());
    put(&features.write_atomicity.to_le_bytes());
    put(&features.async_events.to_le_bytes());
    put(&features.over_temperature.to_le_bytes());
    put(&features.under_temperature.to_le_bytes());
    put(&[features.write_cache.into(), 0, 0, 0]);
}

fn decode_features(reader: &mut Reader<'_>) -> Result<Features, LoadError> {
    let features = Features {
        arbitration: reader.u32_of("arbitration", Features::ARBITRATION)?,
        power_management: reader.u32_of("power management", Features::POWER_MANAGEMENT)?,
        error_recovery: reader.u32_of("error recovery", Features::ERROR_RECOVERY)?,
        coalescing: reader.u32_of("interrupt coalescing", Features::COALESCING)?,
        uncoalesced: reader.u32_of("vector configuration", Features::UNCOALESCED)?,
        write_atomicity: reader.u32_of("write atomicity", Features::WRITE_ATOMICITY)?,
        async_events: reader.u32_of("event configuration", Features::ASYNC_EVENTS)?,
        over_temperature: reader.u16()?,
        under_temperature: reader.u16()?,
        write_cache: {
            let [write_cache, _, _, _] = reader.bytes()?;
            at_most("write cache", write_cache.into(), 1)? != 0
        },
    };
    Ok(features)
}

fn encode_events(events: &Events, put: &mut dyn FnMut(&[u8])) {
    let masked = (0..KINDS).fold(0, |set, kind| set | u8::from(events.masked[kind]) << kind);
    // There are at most four.
    put(&[events.requests().len() as u8]);
    put(&events.pending);
    put(&[masked]);
    for index in 0..REQUESTS_MAX {
        let request = events.requests().get(index).copied().unwrap_or_default();
        let [low, high] = request.cid.to_le_bytes();
        put(&[low, high, request.aborted.into(), 0]);
    }
}

fn decode_events(reader: &mut Reader<'_>) -> Result<Events, LoadError> {
    let mut events = Events::default();

    let [outstanding] = reader.bytes()?;
    let outstanding = at_most(
        "requests for events",
        outstanding.into(),
        REQUESTS_MAX as u64,
    )?;
    let pending: [u8; KINDS] = reader.bytes()?;
    for (kind, allowed) in Events::INFORMATION.into_iter().enumerate() {
        let found = pending[kind].into();
        events.pending[kind] = bits("pending events", found, allowed.into())? as u8;
    }
    let [masked] = reader.bytes()?;
    let masked = bits("masked events", masked.into(), (1 << KINDS) - 1)?;
    for (kind, flag) in events.masked.iter_mut().enumerate() {
        *flag = masked & 1 << kind != 0;
    }
    for index in 0..REQUESTS_MAX as u64 {
        let [low, high, aborted, _] = reader.bytes()?;
        let request = Request {
            cid: u16::from_le_bytes([low, high]),
            aborted: at_most("aborted request", aborted.into(), 1)? != 0,
        };
        if index < outstanding {
            events.request(request);
        }
    }
    Ok(events)
}

fn encode_health(health: &Health, put: &mut dyn FnMut(&[u8])) {
    for counter in [
        health.sectors_read,
        health.sectors_written,
        health.reads,
        health.writes,
        health.media_errors,
    ] {
        put(&counter.to_le_bytes());
    }
}

fn decode_health(reader: &mut Reader<'_>) -> Result<Health, LoadError> {
    Ok(Health {
        sectors_read: reader.u64()?,
        sectors_written: reader.u64()?,
        reads: reader.u64()?,
        writes: reader.u64()?,
        media_errors: reader.u64()?,
    })
}

fn encode_errors(errors: &ErrorLog, put: &mut dyn FnMut(&[u8])) {
    put(&errors.count.to_le_bytes());
    for entry in &errors.entries {
        put(&entry.queue.to_le_bytes());
        put(&entry.cid.to_le_bytes());
        put(&entry.status.to_le_bytes());
        put(&[0; 2]);
        put(&entry.nsid.to_le_bytes());
        put(&[0; 4]);
        put(&entry.lba.to_le_bytes());
    }
}

fn decode_errors(errors: &mut ErrorLog, reader: &mut Reader<'_>) -> Result<(), LoadError> {
    errors.count = reader.u64()?;
    for (index, slot) in errors.entries.iter_mut().enumerate() {
        let queue = reader.u16()?;
        let cid = reader.u16()?;
        let status = reader.u16()?;
        let _reserved: [u8; 2] = reader.bytes()?;
        let nsid = reader.u32()?;
        let _reserved: [u8; 4] = reader.bytes()?;
        let lba = reader.u64()?;
        // A record without an error has to be all zeros.
        *slot = if (index as u64) < errors.count {
            ErrorEntry {
                queue,
                cid,
                status: bits("status", status.into(), u64::from(u16::MAX >> 1))? as u16,
                nsid,
                lba,
            }
        } else {
            ErrorEntry::default()
        };
    }
    Ok(())
}

fn encode_submission(queue: Option<&SubmissionQueue>) -> [u8; QUEUE_SIZE] {
    queue.map_or([0; QUEUE_SIZE], |queue| {
        let record = QueueRecord {
            positions: queue.positions(),
            shadow: queue.shadow,
            // There are 17 queues.
            partner: queue.completion_queue as u16,
            flags: QUEUE_EXISTS,
        };
        record.encode()
    })
}

fn encode_completion(queue: Option<&CompletionQueue>) -> [u8; QUEUE_SIZE] {
    queue.map_or([0; QUEUE_SIZE], |queue| {
        let mut record = QueueRecord {
            positions: queue.positions(),
            shadow: queue.shadow,
            partner: 0,
            flags: QUEUE_EXISTS,
        };
        if let Some(vector) = queue.vector {
            record.partner = vector;
            record.flags |= QUEUE_INTERRUPTS;
        }
        if queue.phase() {
            record.flags |= QUEUE_PHASE;
        }
        record.encode()
    })
}

/// A queue of either kind.
struct QueueRecord {
    positions: Positions,
    shadow: u32,
    /// The completion queue or the interrupt vector.
    partner: u16,
    flags: u8,
}

impl QueueRecord {
    fn exists(&self) -> bool {
        self.flags & QUEUE_EXISTS != 0
    }

    fn encode(&self) -> [u8; QUEUE_SIZE] {
        let mut record = [0; QUEUE_SIZE];
        record[0..8].copy_from_slice(&self.positions.base.to_le_bytes());
        record[8..12].copy_from_slice(&self.positions.entries.to_le_bytes());
        record[12..16].copy_from_slice(&self.positions.head.to_le_bytes());
        record[16..20].copy_from_slice(&self.positions.tail.to_le_bytes());
        record[20..24].copy_from_slice(&self.shadow.to_le_bytes());
        record[24..26].copy_from_slice(&self.partner.to_le_bytes());
        record[26] = self.flags;
        record
    }

    fn decode(reader: &mut Reader<'_>, allowed: u8) -> Result<Self, LoadError> {
        let positions = Positions {
            base: reader.u64()?,
            entries: reader.u32()?,
            head: reader.u32()?,
            tail: reader.u32()?,
        };
        let shadow = reader.u32()?;
        let partner = reader.u16()?;
        let [flags, _, _, _, _, _] = reader.bytes()?;
        Ok(Self {
            positions,
            shadow,
            partner,
            flags: bits("queue flags", flags.into(), allowed.into())? as u8,
        })
    }
}

/// Reads one field after the other.
struct Reader<'a> {
    /// What was not read yet.
    state: &'a [u8],
    /// Bytes of the whole state.
    size: usize,
}

impl Reader<'_> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], LoadError> {
        let (field, rest) = self
            .state
            .split_first_chunk::<N>()
            .ok_or(LoadError::Length {
                expected: Controller::STATE_SIZE,
                found: self.size,
            })?;
        self.state = rest;
        Ok(*field)
    }

    fn u16(&mut self) -> Result<u16, LoadError> {
        self.bytes().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, LoadError> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, LoadError> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn u32_of(&mut self, field: &'static str, allowed: u32) -> Result<u32, LoadError> {
        let found = self.u32()?;
        bits(field, found.into(), allowed.into()).map(|_| found)
    }

    fn u64_of(&mut self, field: &'static str, allowed: u64) -> Result<u64, LoadError> {
        let found = self.u64()?;
        bits(field, found, allowed)
    }

    fn text<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], LoadError> {
        let text = self.bytes()?;
        match text.iter().find(|byte| !is_printable(**byte)) {
            Some(&found) => Err(LoadError::Text { field, found }),
            None => Ok(text),
        }
    }
}

fn bits(field: &'static str, found: u64, allowed: u64) -> Result<u64, LoadError> {
    if found & !allowed != 0 {
        return Err(LoadError::Bits {
            field,
            found,
            allowed,
        });
    }
    Ok(found)
}

fn at_most(field: &'static str, found: u64, most: u64) -> Result<u64, LoadError> {
    if found > most {
        return Err(LoadError::Range { field, found, most });
    }
    Ok(found)
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { expected, found } => {
                write!(f, "state has {found} bytes instead of {expected}")
            }
            Self::Version { found } => {
                write!(f, "state has version {found}, known is {VERSION}")
            }
            Self::Config(error) => error.fmt(f),
            Self::Parameters(error) => error.fmt(f),
            Self::Bits {
                field,
                found,
                allowed,
            } => write!(
                f,
                "{field} is {found:#x}, but has only the bits {allowed:#x}"
            ),
            Self::Range { field, found, most } => {
                write!(
                    f,
                    "{field} is {found:#x}, but at most {most:#x} is possible"
                )
            }
            Self::Text { field, found } => write!(
                f,
                "{field} has a byte {found:#04x}, which is not printable ASCII"
            ),
            Self::Alignment { field, found } => {
                write!(f, "{field} is at {found:#x}, where no page begins")
            }
            Self::Ready { cc } => {
                write!(f, "controller is ready, but cannot be with CC {cc:#010x}")
            }
            Self::NotReady { field } => {
                write!(
                    f,
                    "{field} does not fit to what CSTS and the admin queue registers say"
                )
            }
            Self::SubmissionQueue { index } => {
                write!(f, "submission queue {index} is impossible")
            }
            Self::CompletionQueue { index } => {
                write!(f, "completion queue {index} is impossible")
            }
            Self::Unused { offset, found } => {
                write!(f, "state byte {offset} is unused, but {found:#04x}")
            }
        }
    }
}
