// SPDX-License-Identifier: GPL-2.0

//! The values of features, section 5.21.1.

use core::ops::Range;

use device_model::saved_state::{
    check_bits,
    StateError,
    StateReader,
    StateWriter, //
};

use crate::parameters::{
    NAMESPACES_MAX,
    PAIRS, //
};
use crate::spec::command::{
    high,
    low, //
};
use crate::spec::feature::{
    Feature,
    Sensor,
    Threshold,
    ARBITRATION,
    ARBITRATION_BURST,
    ASYNC_EVENTS_HEALTH,
    CAPABILITY_CHANGEABLE,
    CAPABILITY_NAMESPACE,
    COALESCING,
    COALESCING_THR,
    COALESCING_TIME_SHIFT,
    COALESCING_TIME_UNIT,
    ERROR_RECOVERY_DULBE,
    ERROR_RECOVERY_TLER,
    POWER_STATE,
    POWER_WORKLOAD,
    QUEUE_COUNT_INVALID,
    VECTOR_CD_SHIFT,
    WRITE_ATOMICITY_DN,
    WRITE_CACHE_WCE, //
};
use crate::spec::log_page::health::WARNING_TEMPERATURE;
use crate::spec::status::Status;

/// The temperature of the controller, in kelvins: always 40 °C.
pub(crate) const TEMPERATURE: u16 = 313;
/// WCTEMP: the controller is too warm from here on, in kelvins: 70 °C.
pub(crate) const TEMPERATURE_WARNING: u16 = 343;
/// CCTEMP: the controller is in danger from here on, in kelvins: 80 °C.
pub(crate) const TEMPERATURE_CRITICAL: u16 = 353;

/// Values of the features that can be changed, as dword 11 of Set Features gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Features {
    arbitration: u32,
    power_management: u32,
    /// The controller is too warm from here on, in kelvins.
    over_temperature: u16,
    /// The controller is too cold from here down, in kelvins.
    under_temperature: u16,
    /// Of each namespace.
    error_recovery: [u32; NAMESPACES_MAX],
    pub(crate) write_cache: bool,
    coalescing: u32,
    /// Vectors without coalescing, as a set of bits.
    uncoalesced: u32,
    write_atomicity: u32,
    async_events: u32,
}

impl Default for Features {
    fn default() -> Self {
        Self {
            // No limit for a burst.
            arbitration: ARBITRATION_BURST,
            power_management: 0,
            over_temperature: TEMPERATURE_WARNING,
            under_temperature: 0,
            error_recovery: [0; NAMESPACES_MAX],
            write_cache: true,
            coalescing: 0,
            uncoalesced: 0,
            write_atomicity: 0,
            async_events: 0,
        }
    }
}

impl Features {
    /// Bytes of the saved values.
    pub(crate) const STATE_SIZE: usize = 36;

    /// Returns a value, as it goes into dword 0 of the completion. That of a feature of namespaces is the value of the
    /// `namespace` with this number.
    pub(crate) fn get(
        &self,
        feature: Feature,
        namespace: usize,
        cdw11: u32,
        queue_pairs: u16,
    ) -> Result<u32, Status> {
        Ok(match feature {
            Feature::Arbitration => self.arbitration,
            Feature::PowerManagement => self.power_management,
            Feature::TemperatureThreshold => match Sensor::decode(cdw11)? {
                Sensor::Composite => match Threshold::decode(cdw11)? {
                    Threshold::Over => self.over_temperature.into(),
                    Threshold::Under => self.under_temperature.into(),
                },
                // All sensors together have no value.
                Sensor::All => return Err(Status::INVALID_FIELD),
            },
            Feature::ErrorRecovery => self.error_recovery_of(namespace),
            Feature::WriteCache => self.write_cache.into(),
            Feature::QueueCount => queue_count(queue_pairs),
            Feature::Coalescing => self.coalescing,
            Feature::VectorConfiguration => {
                let vector = vector(cdw11)?;
                vector | (self.uncoalesced >> vector & 1) << VECTOR_CD_SHIFT
            }
            Feature::WriteAtomicity => self.write_atomicity,
            Feature::AsyncEvents => self.async_events,
        })
    }

    /// Changes a value and returns dword 0 of the completion. A feature of namespaces is changed for `namespaces` with these
    /// numbers.
    ///
    /// Reserved bits are ignored.
    pub(crate) fn set(
        &mut self,
        feature: Feature,
        namespaces: Range<usize>,
        cdw11: u32,
        queue_pairs: u16,
    ) -> Result<u32, Status> {
        match feature {
            Feature::Arbitration => self.arbitration = cdw11 & ARBITRATION,
            Feature::PowerManagement => {
                // Power state 0 is the only one.
                if cdw11 & POWER_STATE != 0 {
                    return Err(Status::INVALID_FIELD);
                }
                self.power_management = cdw11 & POWER_WORKLOAD;
            }
            Feature::TemperatureThreshold => {
                // The composite temperature is the only sensor, so both names mean it.
                Sensor::decode(cdw11)?;
                match Threshold::decode(cdw11)? {
                    Threshold::Over => self.over_temperature = low(cdw11),
                    Threshold::Under => self.under_temperature = low(cdw11),
                }
            }
            Feature::ErrorRecovery => {
                if cdw11 & ERROR_RECOVERY_DULBE != 0 {
                    return Err(Status::INVALID_FIELD);
                }
                let values = self.error_recovery.get_mut(namespaces).unwrap_or_default();
                values.fill(cdw11 & ERROR_RECOVERY_TLER);
            }
            Feature::WriteCache => self.write_cache = cdw11 & WRITE_CACHE_WCE != 0,
            Feature::QueueCount => {
                if [low(cdw11), high(cdw11)].contains(&QUEUE_COUNT_INVALID) {
                    return Err(Status::INVALID_FIELD);
                }
                // Every host gets all queues, and need not use those that it did not ask for.
                return Ok(queue_count(queue_pairs));
            }
            Feature::Coalescing => self.coalescing = cdw11 & COALESCING,
            Feature::VectorConfiguration => {
                let vector = vector(cdw11)?;
                let disabled = cdw11 >> VECTOR_CD_SHIFT & 1;
                self.uncoalesced = self.uncoalesced & !(1 << vector) | disabled << vector;
            }
            Feature::WriteAtomicity => self.write_atomicity = cdw11 & WRITE_ATOMICITY_DN,
            Feature::AsyncEvents => self.async_events = cdw11 & ASYNC_EVENTS_HEALTH,
        }
        Ok(0)
    }

    /// Returns the number of completions that are announced together by a vector, if they may wait for each other for
    /// [some time](Self::coalescing_time).
    pub(crate) fn coalescing_threshold(&self, vector: u16) -> Option<u32> {
        let threshold = (self.coalescing & COALESCING_THR) + 1;
        let disabled = self.uncoalesced >> (u32::from(vector) % u32::BITS) & 1 != 0;
        (!disabled && threshold > 1 && self.coalescing_time() > 0).then_some(threshold)
    }

    /// The time in microseconds for which a completion may wait to be announced.
    pub(crate) fn coalescing_time(&self) -> u32 {
        (self.coalescing >> COALESCING_TIME_SHIFT) * COALESCING_TIME_UNIT
    }

    /// The critical warnings of the health log.
    pub(crate) fn warnings(&self) -> u8 {
        if TEMPERATURE >= self.over_temperature || TEMPERATURE <= self.under_temperature {
            WARNING_TEMPERATURE
        } else {
            0
        }
    }

    /// Returns whether any of the critical `warnings` is reported as an event.
    pub(crate) fn reports(&self, warnings: u8) -> bool {
        self.async_events & u32::from(warnings) != 0
    }

    /// Error recovery of a namespace.
    pub(crate) fn error_recovery_of(&self, namespace: usize) -> u32 {
        self.error_recovery.get(namespace).copied().unwrap_or(0)
    }

    /// Takes over a loaded error recovery of a namespace.
    pub(crate) fn set_error_recovery(
        &mut self,
        namespace: usize,
        value: u32,
    ) -> Result<(), StateError> {
        check_bits("error recovery", value.into(), ERROR_RECOVERY_TLER.into())?;
        if let Some(error_recovery) = self.error_recovery.get_mut(namespace) {
            *error_recovery = value;
        }
        Ok(())
    }

    /// Saves the values, of the namespaces those of the first one.
    pub(crate) fn save(&self, state: &mut StateWriter<'_>) {
        state.u32(self.arbitration);
        state.u32(self.power_management);
        state.u32(self.error_recovery_of(0));
        state.u32(self.coalescing);
        state.u32(self.uncoalesced);
        state.u32(self.write_atomicity);
        state.u32(self.async_events);
        state.u16(self.over_temperature);
        state.u16(self.under_temperature);
        state.u8(self.write_cache.into());
        state.reserved::<3>();
    }

    /// Loads what [`Self::save`] saved.
    pub(crate) fn load(state: &mut StateReader<'_>) -> Result<Self, StateError> {
        let features = Self {
            arbitration: state.u32_of("arbitration", ARBITRATION)?,
            power_management: state.u32_of("power management", POWER_WORKLOAD)?,
            error_recovery: {
                let mut error_recovery = [0; NAMESPACES_MAX];
                error_recovery[0] = state.u32_of("error recovery", ERROR_RECOVERY_TLER)?;
                error_recovery
            },
            coalescing: state.u32_of("interrupt coalescing", COALESCING)?,
            uncoalesced: state.u32_of("vector configuration", (1 << PAIRS) - 1)?,
            write_atomicity: state.u32_of("write atomicity", WRITE_ATOMICITY_DN)?,
            async_events: state.u32_of("event configuration", ASYNC_EVENTS_HEALTH)?,
            over_temperature: state.u16()?,
            under_temperature: state.u16()?,
            write_cache: state.flag("write cache")?,
        };
        state.reserved::<3>()?;
        Ok(features)
    }
}

/// Supported capabilities of a feature. All can be changed, and none can be saved.
pub(crate) fn capabilities(feature: Feature) -> u32 {
    if feature.is_of_namespace() {
        CAPABILITY_CHANGEABLE | CAPABILITY_NAMESPACE
    } else {
        CAPABILITY_CHANGEABLE
    }
}

/// Returns the vector that dword 11 names.
fn vector(cdw11: u32) -> Result<u32, Status> {
    let vector = u32::from(low(cdw11));
    if vector as usize >= PAIRS {
        return Err(Status::INVALID_FIELD);
    }
    Ok(vector)
}

/// Number of I/O submission queues and of I/O completion queues, both less one.
fn queue_count(pairs: u16) -> u32 {
    let last = u32::from(pairs.saturating_sub(1));
    last << u16::BITS | last
}
