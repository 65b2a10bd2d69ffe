// SPDX-License-Identifier: GPL-2.0

//! The datagrams between the host and a guest with a network card.
//!
//! A flow ends after each move, and the next one has another port: QEMU keeps packets that arrive at a stopped card, and hands
//! them to the next user of the card.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::ensure;
use anyhow::Context;
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

/// What says where a guest loses datagrams: at a socket, or in its network card.
const LOSSES: &str = "grep Udp: /proc/net/snmp; grep . /sys/class/net/*/statistics/rx_*err* /sys/class/net/*/statistics/rx_dropped";

/// How long a measurement of the link takes.
const MEASURED: Duration = Duration::from_secs(3);

/// What a flow carries.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Datagrams per second that the guest and the host receive.
    pub to_guest: f64,
    pub to_host: f64,
    /// Bytes per second that the host receives.
    pub bytes_to_host: f64,
}

/// The datagrams of one guest.
#[derive(Clone, Default)]
pub struct Traffic(Arc<Mutex<State>>);

struct State {
    flow: Option<Flow>,
    longest: usize,
    /// The time between two datagrams to the guest and to the host, in microseconds.
    pauses_us: [u64; 2],
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
            pauses_us: [PAUSE_US; 2],
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
        let [to_guest, to_host] = state.pauses_us.map(|pause_us| Settings {
            port: network::FLOW_PORT + state.count,
            longest: state.longest,
            pause_us,
        });
        let flow = Flow::open(Side::Host, to_guest)?;
        guest.begin_flow(link, to_host)?;
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

    /// Sets the datagrams per second of later flows to `percent` of `rates`, without a limit from 100 on.
    pub fn set_share(&self, rates: Rates, percent: u64) {
        let pause = |per_second: f64| match percent {
            100.. => 0,
            _ => (1e8 / (per_second.max(1.0) * percent.max(1) as f64)) as u64,
        };
        self.lock().pauses_us = [rates.to_guest, rates.to_host].map(pause);
    }

    /// Measures what the link carries with datagrams in both directions and no pause between two.
    pub fn measure(&self, guest: &Guest, link: &Link) -> Result<Rates> {
        let before = std::mem::take(&mut self.lock().pauses_us);
        self.begin(guest, link)?;
        let look = || {
            let state = self.lock();
            let flow = state.flow.as_ref().context("the guest has no card")?;
            flow.wait_acknowledged(ENOUGH);
            anyhow::Ok((Instant::now(), flow.acknowledged(), flow.so_far()))
        };
        let (began, to_guest, at_host) = look()?;
        thread::sleep(MEASURED);
        let (ended, to_guest_then, at_host_then) = look()?;
        self.end(guest, link)?;
        self.lock().pauses_us = before;
        let rate = |from: u64, to: u64| (to - from) as f64 / (ended - began).as_secs_f64();
        Ok(Rates {
            to_guest: rate(to_guest, to_guest_then),
            to_host: rate(at_host.received, at_host_then.received),
            bytes_to_host: rate(at_host.bytes, at_host_then.bytes),
        })
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
        // Jumbo frames were lost beside a standstill once in five runs, before a socket had room for a window of them.
        let overruns = if state.longest == datagram::JUMBO {
            2
        } else {
            0
        };
        let standstills = state.standstills + overruns;
        if !at_guest.good(state.standstills) {
            doing(format!(
                "where the guest may have lost them: {}",
                guest.run(link, LOSSES)?
            ));
        }
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
