// SPDX-License-Identifier: GPL-2.0

//! Asynchronous events, section 5.2.

use crate::log::LogPage;

/// The most outstanding requests.
pub(crate) const REQUESTS_MAX: usize = 4;

/// Types of events.
pub(crate) const KINDS: usize = 2;

/// Where the information is in the result of a request.
const INFORMATION_SHIFT: u32 = 8;
/// Where the number of the log page is in the result of a request.
const LOG_PAGE_SHIFT: u32 = 16;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A doorbell was written that does not exist.
    InvalidDoorbell,
    /// A doorbell was written with a value that its queue cannot have.
    InvalidDoorbellValue,
    /// The temperature is beyond a threshold.
    Temperature,
}

/// The type of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Error status.
    Error = 0,
    /// SMART or health status.
    Health = 1,
}

impl Kind {
    const ALL: [Self; KINDS] = [Self::Error, Self::Health];

    /// The log page that tells more about events of this type; reading it clears them.
    fn log_page(self) -> LogPage {
        match self {
            Self::Error => LogPage::Error,
            Self::Health => LogPage::Health,
        }
    }
}

impl Event {
    fn kind(self) -> Kind {
        match self {
            Self::InvalidDoorbell | Self::InvalidDoorbellValue => Kind::Error,
            Self::Temperature => Kind::Health,
        }
    }

    fn information(self) -> u8 {
        match self {
            Self::InvalidDoorbell => 0,
            Self::InvalidDoorbellValue | Self::Temperature => 1,
        }
    }
}

/// A request for an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    /// Its command identifier.
    pub(crate) cid: u16,
    /// It was aborted, and its completion is to follow.
    pub(crate) aborted: bool,
}

/// Events to be reported and requests for them.
///
/// # Invariants
///
/// At most [`REQUESTS_MAX`] requests are outstanding. The entries behind them have their default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Events {
    /// Events that were not reported yet: a bit for each information, by type.
    pub(crate) pending: [u8; KINDS],
    /// Types of which an event was reported and not cleared yet, by type.
    pub(crate) masked: [bool; KINDS],
    requests: [Request; REQUESTS_MAX],
    outstanding: usize,
}

impl Events {
    /// Information that events can have, as bits by type.
    pub(crate) const INFORMATION: [u8; KINDS] = [
        1 << 0 | 1 << 1, // Doorbells.
        1 << 1,          // Temperature.
    ];

    /// Notes an event.
    pub(crate) fn raise(&mut self, event: Event) {
        self.pending[event.kind() as usize] |= 1 << event.information();
    }

    /// Takes a request. Returns whether there was room for it.
    pub(crate) fn request(&mut self, request: Request) -> bool {
        match self.requests.get_mut(self.outstanding) {
            Some(free) => {
                *free = request;
                self.outstanding += 1;
                true
            }
            None => false,
        }
    }

    /// Aborts a request. Returns whether there was one to abort.
    pub(crate) fn abort(&mut self, cid: u16) -> bool {
        let found = self.requests[..self.outstanding]
            .iter_mut()
            .find(|request| request.cid == cid && !request.aborted);
        match found {
            Some(request) => {
                request.aborted = true;
                true
            }
            None => false,
        }
    }

    /// The host has read a log page: events that it tells about need not be reported any more, and
    /// later ones can be.
    pub(crate) fn clear(&mut self, page: LogPage) {
        for kind in Kind::ALL {
            if kind.log_page() == page {
                self.pending[kind as usize] = 0;
                self.masked[kind as usize] = false;
            }
        }
    }

    /// Requests that are outstanding, oldest first.
    pub(crate) fn requests(&self) -> &[Request] {
        &self.requests[..self.outstanding]
    }

    /// Takes a request that was aborted, and returns its command identifier.
    pub(crate) fn take_aborted(&mut self) -> Option<u16> {
        let index = self.requests().iter().position(|request| request.aborted)?;
        Some(self.remove(index).cid)
    }

    /// Takes a request, none of which is aborted, for an event, and returns its command identifier and
    /// the result that describes the event.
    pub(crate) fn answer(&mut self) -> Option<(u16, u32)> {
        if self.outstanding == 0 {
            return None;
        }

        let kind = Kind::ALL.into_iter().find(|kind| {
            let index = *kind as usize;
            self.pending[index] != 0 && !self.masked[index]
        })?;
        let pending = &mut self.pending[kind as usize];
        let information = pending.trailing_zeros();
        *pending &= *pending - 1;
        self.masked[kind as usize] = true;

        let result = kind as u32
            | information << INFORMATION_SHIFT
            | (kind.log_page() as u32) << LOG_PAGE_SHIFT;
        Some((self.remove(0).cid, result))
    }

    fn remove(&mut self, index: usize) -> Request {
        let removed = self.requests[index];
        self.requests[index..self.outstanding].rotate_left(1);
        self.outstanding -= 1;
        self.requests[self.outstanding] = Request::default();
        removed
    }
}
