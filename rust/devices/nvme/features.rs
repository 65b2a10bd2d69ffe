// SPDX-License-Identifier: GPL-2.0

//! Features, section 5.21.1.

use crate::command::{
    high,
    low, //
};
use crate::doorbells::PAIRS;
use crate::status::Status;

/// The temperature of the controller, in kelvins: 40 °C, come what may.
pub(crate) const TEMPERATURE: u16 = 313;
/// From here on it is said to be too warm: 70 °C.
pub(crate) const TEMPERATURE_WARNING: u16 = 343;
/// From here on it would be in danger: 80 °C.
pub(crate) const TEMPERATURE_CRITICAL: u16 = 353;

/// Number of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    /// Arbitration.
    Arbitration,
    /// Power Management.
    PowerManagement,
    /// Temperature Threshold.
    TemperatureThreshold,
    /// Error Recovery.
    ErrorRecovery,
    /// Volatile Write Cache.
    WriteCache,
    /// Number of Queues.
    QueueCount,
    /// Interrupt Coalescing.
    Coalescing,
    /// Interrupt Vector Configuration.
    VectorConfiguration,
    /// Write Atomicity Normal.
    WriteAtomicity,
    /// Asynchronous Event Configuration.
    AsyncEvents,
}

impl Feature {
    /// Returns the feature that a command names in dword 10.
    pub(crate) fn decode(cdw10: u32) -> Result<Self, Status> {
        Ok(match cdw10 & 0xff {
            0x01 => Self::Arbitration,
            0x02 => Self::PowerManagement,
            0x04 => Self::TemperatureThreshold,
            0x05 => Self::ErrorRecovery,
            0x06 => Self::WriteCache,
            0x07 => Self::QueueCount,
            0x08 => Self::Coalescing,
            0x09 => Self::VectorConfiguration,
            0x0a => Self::WriteAtomicity,
            0x0b => Self::AsyncEvents,
            _ => return Err(Status::INVALID_FIELD.unlogged()),
        })
    }

    /// Whether each namespace has a value of its own.
    pub(crate) fn is_of_namespace(self) -> bool {
        self == Self::ErrorRecovery
    }
}

/// Which value of a feature is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Select {
    /// The one in use.
    Current,
    /// The one after power-on. It is the saved one, too, as none can be saved.
    Default,
    /// What can be done with the feature instead of a value.
    Capabilities,
}

impl Select {
    /// Returns what a command selects in dword 10.
    pub(crate) fn decode(cdw10: u32) -> Result<Self, Status> {
        match cdw10 >> 8 & 0x7 {
            0 => Ok(Self::Current),
            1 | 2 => Ok(Self::Default),
            3 => Ok(Self::Capabilities),
            _ => Err(Status::INVALID_FIELD),
        }
    }
}

/// Bits of dword 11 that the arbitration feature has: burst and weights.
const ARBITRATION_ALL: u32 = 0xffff_ff07;
/// No limit for a burst.
const ARBITRATION_DEFAULT: u32 = 0x7;
/// Power states: the number.
const POWER_STATE: u32 = 0x1f;
/// Power management: a hint about the workload.
const POWER_ALL: u32 = 0xff;
/// Temperature: which threshold, over or under.
const THRESHOLD_TYPE_SHIFT: u32 = 20;
const THRESHOLD_TYPE: u32 = 0x3;
/// Temperature: which sensor.
const THRESHOLD_SENSOR_SHIFT: u32 = 16;
const THRESHOLD_SENSOR: u32 = 0xf;
/// The composite temperature.
const SENSOR_COMPOSITE: u32 = 0x0;
/// All sensors.
const SENSOR_ALL: u32 = 0xf;
/// Error recovery: time limit, in units of 100 ms.
const ERROR_RECOVERY_ALL: u32 = 0xffff;
/// Error recovery: an error for deallocated blocks, which Identify does not promise.
const ERROR_RECOVERY_DULBE: u32 = 1 << 16;
/// Interrupt coalescing: threshold and time.
const COALESCING_ALL: u32 = 0xffff;
/// Vector configuration: no coalescing on this vector.
const VECTOR_NO_COALESCING_SHIFT: u32 = 16;
/// Write atomicity: no need for the atomicity of normal writes.
const WRITE_ATOMICITY_ALL: u32 = 1 << 0;
/// Asynchronous events: critical warnings of the health log.
const EVENTS_HEALTH: u32 = 0xff;
/// Critical warning: the temperature is beyond a threshold.
pub(crate) const WARNING_TEMPERATURE: u8 = 1 << 1;
/// There are 65535 I/O queues at most, so the number less one is not this.
const QUEUE_COUNT_INVALID: u16 = u16::MAX;

/// Capabilities: the feature has a value for each namespace.
const CAPABILITY_NAMESPACE: u32 = 1 << 1;
/// Capabilities: the feature can be changed.
const CAPABILITY_CHANGEABLE: u32 = 1 << 2;

/// Values of the features that can be changed, as dword 11 of Set Features gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Features {
    pub(crate) arbitration: u32,
    pub(crate) power_management: u32,
    /// In kelvins: too warm from here on.
    pub(crate) over_temperature: u16,
    /// In kelvins: too cold down from here.
    pub(crate) under_temperature: u16,
    pub(crate) error_recovery: u32,
    pub(crate) write_cache: bool,
    pub(crate) coalescing: u32,
    /// Vectors without coalescing, as a set of bits.
    pub(crate) uncoalesced: u32,
    pub(crate) write_atomicity: u32,
    pub(crate) async_events: u32,
}

/// The bits that fields of [`Features`] have.
impl Features {
    pub(crate) const ARBITRATION: u32 = ARBITRATION_ALL;
    pub(crate) const POWER_MANAGEMENT: u32 = POWER_ALL & !POWER_STATE;
    pub(crate) const ERROR_RECOVERY: u32 = ERROR_RECOVERY_ALL;
    pub(crate) const COALESCING: u32 = COALESCING_ALL;
    pub(crate) const UNCOALESCED: u32 = (1 << PAIRS) - 1;
    pub(crate) const WRITE_ATOMICITY: u32 = WRITE_ATOMICITY_ALL;
    pub(crate) const ASYNC_EVENTS: u32 = EVENTS_HEALTH;
}

impl Default for Features {
    fn default() -> Self {
        Self {
            arbitration: ARBITRATION_DEFAULT,
            power_management: 0,
            over_temperature: TEMPERATURE_WARNING,
            under_temperature: 0,
            error_recovery: 0,
            write_cache: true,
            coalescing: 0,
            uncoalesced: 0,
            write_atomicity: 0,
            async_events: 0,
        }
    }
}

impl Features {
    /// Returns a value, as it goes into dword 0 of the completion.
    pub(crate) fn get(
        &self,
        feature: Feature,
        cdw11: u32,
        queue_pairs: u16,
    ) -> Result<u32, Status> {
        Ok(match feature {
            Feature::Arbitration => self.arbitration,
            Feature::PowerManagement => self.power_management,
            // There is no value of all sensors together.
            Feature::TemperatureThreshold => match threshold(cdw11, &[SENSOR_COMPOSITE])? {
                Threshold::Over => self.over_temperature.into(),
                Threshold::Under => self.under_temperature.into(),
            },
            Feature::ErrorRecovery => self.error_recovery,
            Feature::WriteCache => self.write_cache.into(),
            Feature::QueueCount => queue_count(queue_pairs),
            Feature::Coalescing => self.coalescing,
            Feature::VectorConfiguration => {
                let vector = vector(cdw11)?;
                vector | (self.uncoalesced >> vector & 1) << VECTOR_NO_COALESCING_SHIFT
            }
            Feature::WriteAtomicity => self.write_atomicity,
            Feature::AsyncEvents => self.async_events,
        })
    }

    /// Changes a value and returns dword 0 of the completion.
    ///
    /// Bits that are reserved are ignored. Coalescing is a permission that is not made use of: the
    /// worker completes what it finds before anybody looks for interrupts.
    pub(crate) fn set(
        &mut self,
        feature: Feature,
        cdw11: u32,
        queue_pairs: u16,
    ) -> Result<u32, Status> {
        match feature {
            Feature::Arbitration => self.arbitration = cdw11 & ARBITRATION_ALL,
            Feature::PowerManagement => {
                // Power state 0 is the only one.
                if cdw11 & POWER_STATE != 0 {
                    return Err(Status::INVALID_FIELD);
                }
                self.power_management = cdw11 & POWER_ALL;
            }
            Feature::TemperatureThreshold => {
                match threshold(cdw11, &[SENSOR_COMPOSITE, SENSOR_ALL])? {
                    Threshold::Over => self.over_temperature = low(cdw11),
                    Threshold::Under => self.under_temperature = low(cdw11),
                }
            }
            Feature::ErrorRecovery => {
                if cdw11 & ERROR_RECOVERY_DULBE != 0 {
                    return Err(Status::INVALID_FIELD);
                }
                self.error_recovery = cdw11 & ERROR_RECOVERY_ALL;
            }
            Feature::WriteCache => self.write_cache = cdw11 & 1 != 0,
            Feature::QueueCount => {
                if [low(cdw11), high(cdw11)].contains(&QUEUE_COUNT_INVALID) {
                    return Err(Status::INVALID_FIELD);
                }
                // All are given to everybody: a host need not use what it did not ask for.
                return Ok(queue_count(queue_pairs));
            }
            Feature::Coalescing => self.coalescing = cdw11 & COALESCING_ALL,
            Feature::VectorConfiguration => {
                let vector = vector(cdw11)?;
                let disabled = cdw11 >> VECTOR_NO_COALESCING_SHIFT & 1;
                self.uncoalesced = self.uncoalesced & !(1 << vector) | disabled << vector;
            }
            Feature::WriteAtomicity => self.write_atomicity = cdw11 & WRITE_ATOMICITY_ALL,
            Feature::AsyncEvents => self.async_events = cdw11 & EVENTS_HEALTH,
        }
        Ok(0)
    }

    /// The critical warnings of the health log.
    pub(crate) fn warnings(&self) -> u8 {
        if TEMPERATURE >= self.over_temperature || TEMPERATURE <= self.under_temperature {
            WARNING_TEMPERATURE
        } else {
            0
        }
    }

    /// Whether critical warnings are reported as events.
    pub(crate) fn reports(&self, warnings: u8) -> bool {
        self.async_events & u32::from(warnings) != 0
    }
}

/// What can be done with a feature. All can be changed, and none can be saved.
pub(crate) fn capabilities(feature: Feature) -> u32 {
    if feature.is_of_namespace() {
        CAPABILITY_CHANGEABLE | CAPABILITY_NAMESPACE
    } else {
        CAPABILITY_CHANGEABLE
    }
}

enum Threshold {
    Over,
    Under,
}

/// Returns which threshold dword 11 names, of the only sensor that there is, by one of its names.
fn threshold(cdw11: u32, sensors: &[u32]) -> Result<Threshold, Status> {
    let sensor = cdw11 >> THRESHOLD_SENSOR_SHIFT & THRESHOLD_SENSOR;
    if !sensors.contains(&sensor) {
        return Err(Status::INVALID_FIELD);
    }
    match cdw11 >> THRESHOLD_TYPE_SHIFT & THRESHOLD_TYPE {
        0 => Ok(Threshold::Over),
        1 => Ok(Threshold::Under),
        _ => Err(Status::INVALID_FIELD),
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

/// Number of submission and completion queues, both less one.
fn queue_count(pairs: u16) -> u32 {
    let last = u32::from(pairs.saturating_sub(1));
    last << u16::BITS | last
}
