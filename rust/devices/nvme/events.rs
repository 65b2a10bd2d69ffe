// SPDX-License-Identifier: GPL-2.0

//! Asynchronous events that wait to be reported, and the requests for them, section 5.2.

use device_model::saved_state::{
    check_bits,
    StateError,
    StateReader,
    StateWriter, //
};

use crate::spec::event::{
    self,
    Event,
    EventType, //
};
use crate::spec::log_page::LogPage;

/// The most outstanding requests.
pub(crate) const REQUESTS_MAX: usize = 4;

/// Types of events that the controller reports.
const TYPES: usize = EventType::ALL.len();

/// An Asynchronous Event Request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    /// Command identifier (`cid`).
    pub(crate) cid: u16,
    /// The request was aborted, and its completion is to follow.
    pub(crate) aborted: bool,
}

impl Request {
    /// Bytes of a saved request.
    const STATE_SIZE: usize = 4;

    fn save(&self, state: &mut StateWriter<'_>) {
        state.u16(self.cid);
        state.u8(self.aborted.into());
        state.reserved::<1>();
    }

    fn load(state: &mut StateReader<'_>) -> Result<Self, StateError> {
        let cid = state.u16()?;
        let aborted = state.flag("aborted request")?;
        state.reserved::<1>()?;
        Ok(Self { cid, aborted })
    }
}

/// Events that wait to be reported, and requests for them.
///
/// # Invariants
///
/// At most [`REQUESTS_MAX`] requests are outstanding. The entries behind them have their default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Events {
    /// Events that were not reported yet: a bit for each information, by type.
    pending: [u8; TYPES],
    /// Types that are masked, because an event was reported and not cleared yet, by type.
    masked: [bool; TYPES],
    requests: [Request; REQUESTS_MAX],
    outstanding: usize,
}

impl Events {
    /// Bytes of the saved events.
    pub(crate) const STATE_SIZE: usize = 2 + TYPES + REQUESTS_MAX * Request::STATE_SIZE;

    /// Adds an event to those that wait to be reported.
    pub(crate) fn raise(&mut self, event: Event) {
        self.pending[event.event_type() as usize] |= 1 << event.information();
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

    /// Clears the events of a log page that the host has read, and unmasks their type.
    pub(crate) fn clear(&mut self, page: LogPage) {
        for event_type in EventType::ALL {
            if event_type.log_page() == page {
                self.pending[event_type as usize] = 0;
                self.masked[event_type as usize] = false;
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

    /// Takes a request for an event, if both are waiting, and returns its command identifier and the result
    /// that describes the event. No request is aborted.
    pub(crate) fn answer(&mut self) -> Option<(u16, u32)> {
        if self.outstanding == 0 {
            return None;
        }

        let event_type = EventType::ALL.into_iter().find(|event_type| {
            let index = *event_type as usize;
            self.pending[index] != 0 && !self.masked[index]
        })?;
        let pending = &mut self.pending[event_type as usize];
        let information = pending.trailing_zeros();
        *pending &= *pending - 1;
        self.masked[event_type as usize] = true;

        let result = event::result(event_type, information);
        Some((self.remove(0).cid, result))
    }

    /// Saves the events.
    pub(crate) fn save(&self, state: &mut StateWriter<'_>) {
        let masked = (0..)
            .zip(self.masked)
            .fold(0, |set, (bit, masked)| set | u8::from(masked) << bit);
        // There are at most four.
        state.u8(self.outstanding as u8);
        state.bytes(&self.pending);
        state.u8(masked);
        for request in &self.requests {
            request.save(state);
        }
    }

    /// Loads what [`Self::save`] saved.
    pub(crate) fn load(state: &mut StateReader<'_>) -> Result<Self, StateError> {
        let mut events = Self::default();

        let outstanding = state.at_most("requests for events", REQUESTS_MAX as u8)?;
        events.pending = state.bytes()?;
        for (event_type, pending) in EventType::ALL.into_iter().zip(events.pending) {
            check_bits(
                "pending events",
                pending.into(),
                event_type.information().into(),
            )?;
        }
        let masked = state.u8_of("masked events", (1 << TYPES) - 1)?;
        for (bit, flag) in events.masked.iter_mut().enumerate() {
            *flag = masked & 1 << bit != 0;
        }
        for index in 0..REQUESTS_MAX as u8 {
            let request = Request::load(state)?;
            if index < outstanding {
                events.request(request);
            }
        }
        Ok(events)
    }

    fn remove(&mut self, index: usize) -> Request {
        let removed = self.requests[index];
        self.requests[index..self.outstanding].rotate_left(1);
        self.outstanding -= 1;
        self.requests[self.outstanding] = Request::default();
        removed
    }
}
