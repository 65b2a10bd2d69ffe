// SPDX-License-Identifier: GPL-2.0

//! Asynchronous events, section 5.2.1.

use crate::spec::log_page::LogPage;

/// Asynchronous Event Type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum EventType {
    /// Error status.
    Error = 0,
    /// SMART / Health status.
    Health = 1,
}

impl EventType {
    /// The types that this controller reports, in the order of their numbers.
    pub(crate) const ALL: [Self; 2] = [Self::Error, Self::Health];

    /// Returns the log page that tells more; reading the page clears events of the type.
    pub(crate) fn log_page(self) -> LogPage {
        match self {
            Self::Error => LogPage::Error,
            Self::Health => LogPage::Health,
        }
    }

    /// Returns the information that this controller reports with the type, as a set of bits.
    pub(crate) fn information(self) -> u8 {
        match self {
            Self::Error => 1 << INVALID_DOORBELL_REGISTER | 1 << INVALID_DOORBELL_VALUE,
            Self::Health => 1 << TEMPERATURE_THRESHOLD,
        }
    }
}

/// Error status: Write to Invalid Doorbell Register.
const INVALID_DOORBELL_REGISTER: u8 = 0;
/// Error status: Invalid Doorbell Write Value.
const INVALID_DOORBELL_VALUE: u8 = 1;
/// Health status: Temperature Threshold.
const TEMPERATURE_THRESHOLD: u8 = 1;

/// An asynchronous event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A doorbell was written that does not exist.
    InvalidDoorbell,
    /// A doorbell was written with a value that its queue cannot have.
    InvalidDoorbellValue,
    /// The temperature is beyond a threshold.
    Temperature,
}

impl Event {
    /// Returns the type of the event.
    pub(crate) fn event_type(self) -> EventType {
        match self {
            Self::InvalidDoorbell | Self::InvalidDoorbellValue => EventType::Error,
            Self::Temperature => EventType::Health,
        }
    }

    /// Returns the Asynchronous Event Information, which tells the events of a type apart.
    pub(crate) fn information(self) -> u8 {
        match self {
            Self::InvalidDoorbell => INVALID_DOORBELL_REGISTER,
            Self::InvalidDoorbellValue => INVALID_DOORBELL_VALUE,
            Self::Temperature => TEMPERATURE_THRESHOLD,
        }
    }
}

/// Returns dword 0 of the completion of a request that reports `information` of `event_type`.
pub(crate) fn result(event_type: EventType, information: u32) -> u32 {
    const INFORMATION_SHIFT: u32 = 8;
    const LOG_PAGE_SHIFT: u32 = 16;

    event_type as u32
        | information << INFORMATION_SHIFT
        | (event_type.log_page() as u32) << LOG_PAGE_SHIFT
}
