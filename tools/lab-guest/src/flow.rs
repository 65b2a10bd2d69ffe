// SPDX-License-Identifier: GPL-2.0

//! A flow of datagrams ([`crate::datagram`]) in both directions at once, one end of it.
//!
//! An end sends only so much more than the other end has acknowledged that no socket's buffer can overflow. What is lost, the
//! network has lost.
//!
//! Locks: a flow's state, alone.

use std::net::Ipv4Addr;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use rustix::net::shutdown;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::net::Shutdown;
use serde::Deserialize;
use serde::Serialize;

use crate::datagram;
use crate::datagram::Judge;
use crate::datagram::Side;
use crate::datagram::Tally;
use crate::network;

/// Datagrams in flight.
const WINDOW: u64 = 16;

/// The size of a socket's receive buffer in bytes, before Linux doubles it. A jumbo frame takes 13 KiB of it, three pages and an skb.
/// The 208 KiB that a socket has by default are no more than a window of them.
const BUFFER: usize = 1 << 20;

/// After this time without an acknowledgement another datagram is sent. Those in flight may be lost.
const PATIENCE: Duration = Duration::from_millis(50);

/// The time limit of the datagrams in flight once both ends have stopped to send, and of acknowledgements.
const FLUSH_LIMIT: Duration = Duration::from_secs(30);

/// The settings of a flow. Both ends have the same port and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The UDP port of both ends.
    pub port: u16,
    /// The length of the longest datagram.
    pub longest: usize,
    /// The time between two datagrams that this end sends, in microseconds.
    pub pause_us: u64,
}

/// One end of a flow, which ends when this is dropped.
pub struct Flow {
    shared: Arc<Shared>,
}

struct Shared {
    side: Side,
    settings: Settings,
    socket: UdpSocket,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    sending: bool,
    /// A datagram is being sent.
    busy: bool,
    ended: bool,
    judge: Judge,
}

impl Flow {
    /// Opens the end `side`, which receives and does not send yet.
    pub fn open(side: Side, settings: Settings) -> Result<Self> {
        let (own, other) = match side {
            Side::Guest => (network::GUEST, network::HOST),
            Side::Host => (network::HOST, network::GUEST),
        };
        let socket = connect(own, other, settings.port)
            .with_context(|| format!("opening the UDP port {}", settings.port))?;
        Ok(Self::over(socket, side, settings))
    }

    /// The same over a socket that is connected to the other end.
    fn over(socket: UdpSocket, side: Side, settings: Settings) -> Self {
        let shared = Arc::new(Shared {
            side,
            settings,
            socket,
            state: Mutex::new(State {
                sending: false,
                busy: false,
                ended: false,
                judge: Judge::new(side, settings.longest),
            }),
            changed: Condvar::new(),
        });
        let (sender, receiver) = (shared.clone(), shared.clone());
        thread::spawn(move || sender.send());
        thread::spawn(move || receiver.receive());
        Self { shared }
    }

    /// Starts to send.
    pub fn start(&self) {
        self.shared.lock().sending = true;
        self.shared.changed.notify_all();
    }

    /// Stops to send, and returns the number of datagrams sent.
    pub fn stop(&self) -> u64 {
        let mut state = self.shared.lock();
        state.sending = false;
        while state.busy {
            let waited = self.shared.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        state.judge.tally.sent
    }

    /// Waits until the other end has received the first `count` datagrams.
    pub fn wait_acknowledged(&self, count: u64) {
        let state = self.shared.lock();
        drop(
            self.shared
                .wait(state, |state| state.judge.acknowledged >= count),
        );
    }

    /// The number of datagrams up to the last one that the other end has received.
    pub fn acknowledged(&self) -> u64 {
        self.shared.lock().judge.acknowledged
    }

    /// What was sent and received so far.
    pub fn so_far(&self) -> Tally {
        self.shared.lock().judge.tally.clone()
    }

    /// Waits for the last of the `sent` datagrams of the other end, and returns the final tally.
    pub fn end(&self, sent: u64) -> Tally {
        let state = self.shared.lock();
        let mut state = self
            .shared
            .wait(state, |state| state.judge.expected() >= sent);
        state.judge.end(sent);
        state.judge.tally.clone()
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
        // Wakes the receiver.
        let _ = shutdown(&self.shared.socket, Shutdown::Both);
    }
}

fn connect(own: Ipv4Addr, other: Ipv4Addr, port: u16) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind((own, port))?;
    // Both ends are run by root, whom the system's limit does not hold.
    set_socket_recv_buffer_size_force(&socket, BUFFER)?;
    socket.connect((other, port))?;
    Ok(socket)
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the state is as `done` says, but not longer than [`FLUSH_LIMIT`].
    fn wait<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        done: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        let deadline = Instant::now() + FLUSH_LIMIT;
        while !done(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }

    fn send(&self) {
        let pause = Duration::from_micros(self.settings.pause_us);
        let mut due = Instant::now();
        loop {
            let mut state = self.lock();
            let began = Instant::now();
            loop {
                if state.ended {
                    return;
                }
                let in_flight = state
                    .judge
                    .tally
                    .sent
                    .saturating_sub(state.judge.acknowledged);
                let late = began.elapsed() >= PATIENCE;
                // The host opens its end first, so the guest's is open once it has sent.
                let open = self.side == Side::Guest || state.judge.tally.received > 0;
                if state.sending && open && (in_flight < WINDOW || late) {
                    break;
                }
                let waited = self.changed.wait_timeout(state, PATIENCE);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            let (number, ack) = (state.judge.tally.sent, state.judge.expected());
            state.busy = true;
            drop(state);
            let datagram = datagram::build(self.side, self.settings.longest, number, ack);
            // An error may be an earlier datagram's, which found no open port, or the interface is down: nothing
            // was sent.
            let sent = self.socket.send(&datagram).is_ok();
            let mut state = self.lock();
            state.busy = false;
            state.judge.tally.sent += u64::from(sent);
            drop(state);
            self.changed.notify_all();
            // What was sent late is not made up for by a burst.
            let now = Instant::now();
            due = now.max(due + pause);
            if due > now {
                thread::sleep(due - now);
            }
        }
    }

    fn receive(&self) {
        let mut datagram = vec![0; self.settings.longest + 1];
        loop {
            let received = self.socket.recv(&mut datagram);
            let mut state = self.lock();
            if state.ended {
                return;
            }
            // An error is that the other end's port was not open, or its address had no answer. A later datagram may
            // get through.
            if let Ok(length) = received {
                state.judge.take(&datagram[..length]);
            }
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_receive_all_that_the_other_has_sent() {
        let [one, two] =
            [(); 2].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket"));
        one.connect(two.local_addr().expect("an address"))
            .expect("connect");
        two.connect(one.local_addr().expect("an address"))
            .expect("connect");
        let settings = Settings {
            port: 0,
            longest: datagram::ORDINARY,
            pause_us: 0,
        };
        let guest = Flow::over(one, Side::Guest, settings);
        let host = Flow::over(two, Side::Host, settings);
        guest.start();
        host.start();
        while guest.so_far().received < 500 || host.so_far().received < 500 {
            thread::yield_now();
        }
        let (from_guest, from_host) = (guest.stop(), host.stop());
        for (flow, sent) in [(&guest, from_host), (&host, from_guest)] {
            let tally = flow.end(sent);
            assert_eq!(tally.received, sent, "saw {tally:?}");
            assert!(tally.good(0), "saw {tally:?}");
        }
    }
}
