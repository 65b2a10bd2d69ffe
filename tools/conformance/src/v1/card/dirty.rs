// SPDX-License-Identifier: GPL-2.0

//! The dirty bitmap of the container. A card whose DMA is followed narrows it to what the card may write.

use std::collections::BTreeSet;

use vfio_client::dirty::DIRTY_PAGE;
use vfio_client::v1::State;
use vfio_drivers::e1000e::Frame;

use crate::case::cases;
use crate::case::Case;
use crate::check::holds;
use crate::check::same;
use crate::check::Outcome;
use crate::network::changed;
use crate::network::content;
use crate::network::exchange;
use crate::network::has_all;
use crate::network::receive_and_look;
use crate::network::station;
use crate::network::GUEST;
use crate::network::PEER;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::card::needs_tracking;
use crate::v1::card::TRACKING;
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
    receive_and_look(&device, &mut guest, &mut peer, || take(&device))?;
    // The last frames arrive on the way to stop-and-copy.
    let before = content(&device)?;
    for seed in 0..5 {
        peer.send(&Frame::new(GUEST, PEER, seed, 700))?;
    }
    device.set(State::STOP_COPY)?;
    let written = changed(&device, &before)?;
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
    receive_and_look(&device, &mut guest, &mut peer, || take(&device))?;
    // All descriptors get other buffers between two looks.
    let before = content(&device)?;
    exchange(&mut peer, &mut guest, [PEER, GUEST], 2000..2045)?;
    let written = changed(&device, &before)?;
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
