// SPDX-License-Identifier: GPL-2.0

//! Two network cards as stations of the same network.

use core::ops::Range;
use std::collections::BTreeSet;

use vfio_client::dirty::DIRTY_PAGE;
use vfio_client::Session;
use vfio_drivers::e1000e::Card;
use vfio_drivers::e1000e::Frame;
use vfio_drivers::e1000e::Mac;
use vfio_drivers::e1000e::Plug;

use crate::check::holds;
use crate::check::same;
use crate::check::Outcome;
use crate::device::TestDevice;

/// The station of the guest whose card moves.
pub const GUEST: Mac = [0x02, 0x46, 0x65, 0x72, 0x72, 0x79];
/// The station that it talks to.
pub const PEER: Mac = [0x02, 0x50, 0x65, 0x65, 0x72, 0x00];

/// Returns the card of an open device.
#[track_caller]
pub fn card<S: Session, M>(device: &TestDevice<S, M>) -> Outcome<Card> {
    Ok(Card::new(device.vfio(), device.memory()?)?)
}

/// Sets a card up as a station of the network.
#[track_caller]
pub fn station<S: Session, M>(device: &TestDevice<S, M>, mac: Mac) -> Outcome<Card> {
    let mut card = card(device)?;
    card.reset()?;
    card.set_mac(0, mac)?;
    card.start(Plug::Network, 16)?;
    Ok(card)
}

/// Sends frames from one card to another, and checks that they come in order.
#[track_caller]
pub fn exchange(from: &mut Card, to: &mut Card, macs: [Mac; 2], seeds: Range<u64>) -> Outcome {
    for seed in seeds {
        let frame = Frame::new(macs[1], macs[0], seed, 60 + (seed as usize * 37) % 1400);
        from.send(&frame)?;
        same(format_args!("frame {seed}"), to.receive()?, frame)?;
    }
    Ok(())
}

/// Returns the content of the memory.
#[track_caller]
pub fn content<S: Session, M>(device: &TestDevice<S, M>) -> Outcome<Vec<u8>> {
    let memory = device.memory()?;
    Ok(memory.bytes(memory.start(), memory.size() as usize))
}

/// Returns the pages of the memory whose content is not what it was `before`.
#[track_caller]
pub fn changed<S: Session, M>(device: &TestDevice<S, M>, before: &[u8]) -> Outcome<BTreeSet<u64>> {
    let after = content(device)?;
    let start = device.memory()?.start();
    let pages = before
        .chunks(DIRTY_PAGE as usize)
        .zip(after.chunks(DIRTY_PAGE as usize));
    Ok((0..)
        .zip(pages)
        .filter(|(_, (before, after))| before != after)
        .map(|(page, _)| start + page * DIRTY_PAGE)
        .collect())
}

/// Checks that all of `expected` are among the dirty pages.
#[track_caller]
pub fn has_all(what: &str, dirty: &BTreeSet<u64>, expected: &BTreeSet<u64>) -> Outcome {
    let missed: Vec<String> = expected
        .difference(dirty)
        .map(|page| format!("{page:#x}"))
        .collect();
    holds(
        missed.is_empty(),
        format_args!("{what}: expected them to be dirty, seen that {missed:?} are not"),
    )
}

/// Receives frames from a peer. Checks with `look`, which takes the log, after each round that all pages that were
/// written are in the log, and that no page is that the card may not write.
#[track_caller]
pub fn receive_and_look<S: Session, M>(
    device: &TestDevice<S, M>,
    guest: &mut Card,
    peer: &mut Card,
    look: impl Fn() -> Outcome<BTreeSet<u64>>,
) -> Outcome {
    let may: BTreeSet<u64> = guest
        .receive_buffers()
        .into_iter()
        .chain(guest.writable())
        .collect();
    let mut received = 0;
    for round in 0..8u64 {
        let before = content(device)?;
        let seeds = round * 100..round * 100 + 3 + round;
        exchange(peer, guest, [PEER, GUEST], seeds)?;
        // Some stay where they were received.
        for seed in 0..round {
            peer.send(&Frame::new(GUEST, PEER, 5000 + seed, 1000))?;
        }
        let written = changed(device, &before)?;
        let dirty = look()?;
        has_all(&format!("round {round}: pages written"), &dirty, &written)?;
        has_all(&format!("round {round}: dirty pages"), &may, &dirty)?;
        received += written.len();
        for _ in 0..round {
            guest.receive()?;
        }
    }
    holds(received > 8, "expected the card to write, seen nothing")
}
