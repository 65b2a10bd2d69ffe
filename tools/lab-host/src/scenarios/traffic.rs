// SPDX-License-Identifier: GPL-2.0

//! The datagrams between the host and a guest with a network card.
//!
//! A flow ends after each move, and the next one has another port: QEMU keeps packets that arrive at a stopped card, and hands
//! them to the next user of the card.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use anyhow::ensure;
use anyhow::Result;
use lab_guest::datagram;
use lab_guest::datagram::Side;
use lab_guest::flow::Flow;
use lab_guest::flow::Settings;
use lab_guest::network;
use lab_guest::report::Request;

use crate::guest::Guest;
use crate::guest::Link;
use crate::report::doing;

/// The time between two datagrams in one direction, in microseconds. With ten times as many, an emulated host delivers an
/// interrupt of its guest twice within a minute or two, which stops the guest.
const PAUSE_US: u64 = 20_000;

/// Datagrams that the guest has to receive before a flow may end.
const ENOUGH: u64 = 20;

/// The datagrams of one guest.
#[derive(Clone, Default)]
pub struct Traffic(Arc<Mutex<State>>);

struct State {
    flow: Option<Flow>,
    longest: usize,
    pause_us: u64,
    /// Flows so far.
    count: u16,
    /// The number of times that the guest has stood still since the flow began.
    standstills: usize,
}

impl Default for State {
    fn default() -> Self {
        Self {
            flow: None,
            longest: datagram::ORDINARY,
            pause_us: PAUSE_US,
            count: 0,
            standstills: 0,
        }
    }
}

impl Traffic {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a flow, if the guest has a network card.
    pub fn begin(&self, guest: &Guest, link: &Link) -> Result<()> {
        if !guest.found().has_card() {
            return Ok(());
        }
        let mut state = self.lock();
        let settings = Settings {
            port: network::FLOW_PORT + state.count,
            longest: state.longest,
            pause_us: state.pause_us,
        };
        let flow = Flow::open(Side::Host, settings)?;
        guest.begin_flow(link, settings)?;
        flow.start();
        state.flow = Some(flow);
        state.count += 1;
        state.standstills = 0;
        Ok(())
    }

    /// Sets the length of the longest datagram of later flows.
    pub fn set_longest(&self, longest: usize) {
        self.lock().longest = longest;
    }

    /// Sets the number of datagrams per second of later flows.
    pub fn set_rate(&self, per_second: u64) {
        self.lock().pause_us = 1_000_000 / per_second.max(1);
    }

    /// Tells that the guest has stood still, which loses the packets that arrive meanwhile.
    pub fn stood_still(&self) {
        self.lock().standstills += 1;
    }

    /// Ends the flow, if there is one, and checks it: the host has to have every datagram, and the guest all but those that
    /// arrived while it stood still.
    pub fn end(&self, guest: &Guest, link: &Link) -> Result<()> {
        let mut state = self.lock();
        let Some(flow) = state.flow.take() else {
            return Ok(());
        };
        // A flow may just have begun.
        flow.wait_acknowledged(ENOUGH);
        let from_host = flow.stop();
        link.ask(&Request::StopFlow)?;
        let from_guest = guest.wait_flow_stopped()?;
        link.ask(&Request::EndFlow { sent: from_host })?;
        let at_guest = guest.wait_flow_ended()?;
        let at_host = flow.end(from_guest);
        doing(format!(
            "datagrams to the guest: {} of {from_host} received, {} lost: {:?}; to the host: {} of {from_guest}",
            at_guest.received, at_guest.faults.lost, at_guest.gaps, at_host.received
        ));
        // An emulated guest may be too slow for jumbo frames, and its ring be full for a moment. Seen once in five runs.
        let overruns = if state.longest == datagram::JUMBO {
            2
        } else {
            0
        };
        let standstills = state.standstills + overruns;
        ensure!(
            at_guest.good(standstills) && at_guest.received > 0,
            "datagrams to the guest: expected each once, in order and whole, and losses in {standstills} standstills at most, \
             saw {at_guest:?} of {from_host}"
        );
        ensure!(
            at_host.good(0) && at_host.received > 0,
            "datagrams to the host: expected each once, in order and whole, saw {at_host:?} of {from_guest}"
        );
        Ok(())
    }

    /// Ends the flow, and begins another one.
    pub fn renew(&self, guest: &Guest, link: &Link) -> Result<()> {
        if self.lock().flow.is_none() {
            return Ok(());
        }
        self.end(guest, link)?;
        self.begin(guest, link)
    }
}
