// SPDX-License-Identifier: GPL-2.0

//! Features, section 5.21.1: identifiers and the fields of their values.

use crate::spec::status::Status;

/// Feature Identifier (`fid`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    /// Section 5.21.1.1.
    Arbitration,
    /// Section 5.21.1.2.
    PowerManagement,
    /// Section 5.21.1.4.
    TemperatureThreshold,
    /// Section 5.21.1.5.
    ErrorRecovery,
    /// Volatile Write Cache, section 5.21.1.6.
    WriteCache,
    /// Number of Queues, section 5.21.1.7.
    QueueCount,
    /// Interrupt Coalescing, section 5.21.1.8.
    Coalescing,
    /// Interrupt Vector Configuration, section 5.21.1.9.
    VectorConfiguration,
    /// Write Atomicity Normal, section 5.21.1.10.
    WriteAtomicity,
    /// Asynchronous Event Configuration, section 5.21.1.11.
    AsyncEvents,
}

impl Feature {
    /// Returns the feature that dword 10 names.
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

    /// Returns whether each namespace has a value of its own.
    pub(crate) fn is_of_namespace(self) -> bool {
        self == Self::ErrorRecovery
    }
}

/// Dword 10 of Set Features: Save (`sv`).
pub(crate) const SAVE: u32 = 1 << 31;

/// Select (`sel`): which value of a feature Get Features asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Select {
    /// The value in use.
    Current,
    /// The value after power-on, which is the saved one, too, where none can be saved.
    Default,
    /// Supported capabilities: what can be done with the feature, instead of a value.
    Capabilities,
}

impl Select {
    /// Returns what dword 10 selects.
    pub(crate) fn decode(cdw10: u32) -> Result<Self, Status> {
        match cdw10 >> 8 & 0x7 {
            0 => Ok(Self::Current),
            1 | 2 => Ok(Self::Default),
            3 => Ok(Self::Capabilities),
            _ => Err(Status::INVALID_FIELD),
        }
    }
}

/// Supported capabilities: the feature has a value for each namespace.
pub(crate) const CAPABILITY_NAMESPACE: u32 = 1 << 1;
/// Supported capabilities: the feature can be changed.
pub(crate) const CAPABILITY_CHANGEABLE: u32 = 1 << 2;

/// Arbitration: burst (`ab`) and weights.
pub(crate) const ARBITRATION: u32 = 0xffff_ff00 | ARBITRATION_BURST;
/// Arbitration: burst (`ab`); all ones are no limit.
pub(crate) const ARBITRATION_BURST: u32 = 0x7;
/// Power management: power state (`ps`).
pub(crate) const POWER_STATE: u32 = 0x1f;
/// Power management: workload hint (`wh`).
pub(crate) const POWER_WORKLOAD: u32 = 0xe0;
/// Error recovery: time limited error recovery (`tler`), in units of 100 ms.
pub(crate) const ERROR_RECOVERY_TLER: u32 = 0xffff;
/// Error recovery: an error for deallocated blocks (`dulbe`), if Identify promises it.
pub(crate) const ERROR_RECOVERY_DULBE: u32 = 1 << 16;
/// Volatile write cache: enable (`wce`).
pub(crate) const WRITE_CACHE_WCE: u32 = 1 << 0;
/// Interrupt coalescing: threshold (`thr`) and time (`time`).
pub(crate) const COALESCING: u32 = 0xffff;
/// Interrupt coalescing: completions that are announced together (`thr`), one less.
pub(crate) const COALESCING_THR: u32 = 0xff;
/// Interrupt coalescing: where the time (`time`) is.
pub(crate) const COALESCING_TIME_SHIFT: u32 = 8;
/// Microseconds of a unit of the time.
pub(crate) const COALESCING_TIME_UNIT: u32 = 100;
/// Interrupt vector configuration: coalescing disable (`cd`), above the vector (`iv`).
pub(crate) const VECTOR_CD_SHIFT: u32 = 16;
/// Write atomicity: disable normal (`dn`).
pub(crate) const WRITE_ATOMICITY_DN: u32 = 1 << 0;
/// Asynchronous event configuration: the critical warnings that are reported.
pub(crate) const ASYNC_EVENTS_HEALTH: u32 = 0xff;
/// Number of queues: a request for 65536 queues, which is invalid.
pub(crate) const QUEUE_COUNT_INVALID: u16 = u16::MAX;

/// Temperature threshold: Threshold Type Select (`thsel`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Threshold {
    /// Over temperature.
    Over,
    /// Under temperature.
    Under,
}

impl Threshold {
    /// Returns which threshold dword 11 names.
    pub(crate) fn decode(cdw11: u32) -> Result<Self, Status> {
        match cdw11 >> 20 & 0x3 {
            0 => Ok(Self::Over),
            1 => Ok(Self::Under),
            _ => Err(Status::INVALID_FIELD),
        }
    }
}

/// Temperature threshold: Threshold Temperature Select (`tmpsel`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sensor {
    /// The composite temperature.
    Composite,
    /// Every sensor, in Set Features only.
    All,
}

impl Sensor {
    /// Returns which sensor dword 11 names: there is none but the composite temperature.
    pub(crate) fn decode(cdw11: u32) -> Result<Self, Status> {
        match cdw11 >> 16 & 0xf {
            0x0 => Ok(Self::Composite),
            0xf => Ok(Self::All),
            _ => Err(Status::INVALID_FIELD),
        }
    }
}
