// SPDX-License-Identifier: GPL-2.0

//! The dirty bitmap of the container. A card whose DMA is followed narrows it to what the card may write.

use std::collections::BTreeSet;

use vfio_client::dirty::DIRTY_PAGE;
use vfio_client::v1::State;
use vfio_drivers::e1000e::Card;
use vfio_drivers::e1000e::Frame;

use crate::case::cases;
use crate::case::Case;
use crate::check::holds;
use crate::check::same;
use crate::check::Outcome;
use crate::check::Stop;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::card::moving::exchange;
use crate::v1::card::moving::station;
use crate::v1::card::moving::GUEST;
use crate::v1::card::moving::PEER;
use crate::v1::device::TestDevice;

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::E1000e, Requirement::Pair];

pub const CASES: &[Case] = cases![
    NEEDS;
    card_dirty_pages_are_rings_and_posted_buffers,
    card_dirty_pages_are_all_that_it_writes,
    card_dirty_pages_follow_replaced_buffers,
    card_dirty_pages_are_all_pages_unless_followed,
    card_memory_is_unmapped_while_it_is_followed,
];

/// The attribute that says whether DMA is followed.
const TRACKING: &str = "migration/dirty_tracking";
/// By the parameter of the module, it is not.
const OFF: &str = "off";

/// Skips the case unless DMA is followed.
#[track_caller]
fn needs_tracking(device: &TestDevice, wanted: bool) -> Outcome {
    let tracking = device.subject.attribute(TRACKING)?;
    if (tracking != OFF) == wanted {
        return Ok(());
    }
    Err(Stop::Skipped(format!(
        "the parameter dirty_tracking of ferry_e1000e makes it {tracking}"
    )))
}

/// Takes the dirty pages of the memory.
#[track_caller]
fn take(device: &TestDevice) -> Outcome<BTreeSet<u64>> {
    let memory = device.memory()?;
    let dirty = device
        .session
        .container
        .take_dirty(memory.start(), memory.size())?;
    Ok(dirty.pages().into_iter().collect())
}

/// Begins a migration, as QEMU does: the log first, and the first look at it before pre-copy sends all memory.
#[track_caller]
fn begin(device: &TestDevice) -> Outcome {
    device.session.container.start_logging()?;
    device.set(State::PRE_COPY)?;
    take(device)?;
    same(
        TRACKING,
        device.subject.attribute(TRACKING)?,
        "following".to_string(),
    )
}

/// Returns the pages whose content has changed.
fn changed(before: &[u8], after: &[u8], start: u64) -> BTreeSet<u64> {
    let pages = before
        .chunks(DIRTY_PAGE as usize)
        .zip(after.chunks(DIRTY_PAGE as usize));
    (0..)
        .zip(pages)
        .filter(|(_, (before, after))| before != after)
        .map(|(page, _)| start + page * DIRTY_PAGE)
        .collect()
}

fn content(device: &TestDevice) -> Outcome<Vec<u8>> {
    let memory = device.memory()?;
    Ok(memory.bytes(memory.start(), memory.size() as usize))
}

/// Checks that all of `expected` are among the dirty pages.
#[track_caller]
fn has_all(what: &str, dirty: &BTreeSet<u64>, expected: &BTreeSet<u64>) -> Outcome {
    let missed: Vec<String> = expected
        .difference(dirty)
        .map(|page| format!("{page:#x}"))
        .collect();
    holds(
        missed.is_empty(),
        format_args!("{what}: expected them to be dirty, seen that {missed:?} are not"),
    )
}

/// Receives frames from a peer, and looks at the log after each round.
fn receive_and_look(device: &TestDevice, guest: &mut Card, peer: &mut Card) -> Outcome {
    let may: BTreeSet<u64> = guest
        .receive_buffers()
        .into_iter()
        .chain(guest.writable())
        .collect();
    let mut received = 0;
    for round in 0..8u64 {
        let before = content(device)?;
        exchange(
            peer,
            guest,
            [PEER, GUEST],
            round * 100..round * 100 + 3 + round,
        )?;
        // Some stay where they were received.
        for seed in 0..round {
            peer.send(&Frame::new(GUEST, PEER, 5000 + seed, 1000))?;
        }
        let written = changed(&before, &content(device)?, device.memory()?.start());
        let dirty = take(device)?;
        has_all(&format!("round {round}: pages written"), &dirty, &written)?;
        has_all(&format!("round {round}: dirty pages"), &may, &dirty)?;
        received += written.len();
        for _ in 0..round {
            guest.receive()?;
        }
    }
    holds(received > 8, "expected the card to write, seen nothing")
}

fn card_dirty_pages_are_rings_and_posted_buffers(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    needs_tracking(&device, true)?;
    let mut guest = station(&device, GUEST)?;
    begin(&device)?;
    let posted: BTreeSet<u64> = guest.writable().into_iter().collect();
    for _ in 0..3 {
        // A page that the card may write is dirty each time.
        same("dirty pages", take(&device)?, posted.clone())?;
    }
    // It has not gone on to send all memory in stop-and-copy.
    device.set(State::STOP_COPY)?;
    same("dirty pages in stop-and-copy", take(&device)?, posted)?;
    device.migration.save()?;
    device.set(State::RUNNING)?;
    let peer_device = TestDevice::new(target)?;
    let mut peer = station(&peer_device, PEER)?;
    exchange(&mut peer, &mut guest, [PEER, GUEST], 0..40)
}

fn card_dirty_pages_are_all_that_it_writes(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    needs_tracking(&device, true)?;
    let mut guest = station(&device, GUEST)?;
    let peer_device = TestDevice::new(target)?;
    let mut peer = station(&peer_device, PEER)?;
    exchange(&mut peer, &mut guest, [PEER, GUEST], 0..20)?;
    begin(&device)?;
    receive_and_look(&device, &mut guest, &mut peer)?;
    // The last frames arrive on the way to stop-and-copy.
    let before = content(&device)?;
    for seed in 0..5 {
        peer.send(&Frame::new(GUEST, PEER, seed, 700))?;
    }
    device.set(State::STOP_COPY)?;
    let written = changed(&before, &content(&device)?, device.memory()?.start());
    has_all("pages written before the stop", &take(&device)?, &written)?;
    holds(written.len() > 4, "expected five frames, seen fewer")
}

/// The page of a buffer that was completed is not pinned any more when its descriptor has got another one. It is
/// dirty all the same.
fn card_dirty_pages_follow_replaced_buffers(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    needs_tracking(&device, true)?;
    let mut guest = station(&device, GUEST)?;
    guest.replace_buffers();
    let peer_device = TestDevice::new(target)?;
    let mut peer = station(&peer_device, PEER)?;
    begin(&device)?;
    receive_and_look(&device, &mut guest, &mut peer)?;
    // All descriptors get other buffers between two looks.
    let before = content(&device)?;
    exchange(&mut peer, &mut guest, [PEER, GUEST], 2000..2045)?;
    let written = changed(&before, &content(&device)?, device.memory()?.start());
    holds(
        written.len() > 30,
        format_args!("expected all buffers to be written, seen {}", written.len()),
    )?;
    has_all("pages written", &take(&device)?, &written)?;
    // Now only those that are in the ring may be written.
    let dirty = take(&device)?;
    let writable: BTreeSet<u64> = guest.writable().into_iter().collect();
    has_all("pages that may be written", &dirty, &writable)?;
    holds(
        dirty.len() <= writable.len() + 1,
        format_args!(
            "expected {} dirty pages, seen {}",
            writable.len(),
            dirty.len()
        ),
    )
}

fn card_dirty_pages_are_all_pages_unless_followed(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    needs_tracking(&device, false)?;
    let _guest = station(&device, GUEST)?;
    device.session.container.start_logging()?;
    let memory = device.memory()?;
    let all: BTreeSet<u64> = (memory.start()..memory.start() + memory.size())
        .step_by(DIRTY_PAGE as usize)
        .collect();
    for state in [State::RUNNING, State::PRE_COPY, State::STOP_COPY] {
        device.set(state)?;
        same(
            format_args!("{state}: dirty pages"),
            take(&device)?,
            all.clone(),
        )?;
    }
    Ok(())
}

fn card_memory_is_unmapped_while_it_is_followed(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    needs_tracking(&device, true)?;
    let mut guest = station(&device, GUEST)?;
    begin(&device)?;
    let memory = device.memory()?.clone();
    for _ in 0..3 {
        // The container waits until nothing of it is pinned.
        let unmapped = device.space().unmap(memory.start(), memory.size())?;
        same("bytes unmapped", unmapped, memory.size())?;
        memory.attach(device.space())?;
    }
    let peer_device = TestDevice::new(target)?;
    let mut peer = station(&peer_device, PEER)?;
    exchange(&mut peer, &mut guest, [PEER, GUEST], 0..40)?;
    device.reset()?;
    device.expect_works()
}
