// SPDX-License-Identifier: GPL-2.0

//! A state moves from a card to another one, with another EEPROM, and its traffic goes on there.

use vfio_client::v1::State;
use vfio_drivers::e1000e::register;
use vfio_drivers::e1000e::Frame;
use vfio_drivers::e1000e::Mac;
use vfio_drivers::e1000e::Plug;

use crate::case::cases;
use crate::case::Case;
use crate::check::differs;
use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::network::card;
use crate::network::exchange;
use crate::network::station;
use crate::network::GUEST;
use crate::network::PEER;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::card::needs_tracking;
use crate::v1::config::space;
use crate::v1::device::TestDevice;

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::E1000e, Requirement::Pair];

pub const CASES: &[Case] = cases![
    NEEDS;
    card_of_another_mac_has_the_same_configuration_space,
    card_receives_at_the_destination_what_is_sent_to_the_source,
    card_sends_at_the_destination_what_was_not_sent_at_the_source,
    card_stopped_sends_and_receives_nothing,
    card_statistics_never_go_backwards,
];

/// A VMM refuses a destination whose configuration space differs.
fn card_of_another_mac_has_the_same_configuration_space(target: &Target) -> Outcome {
    /// BARs, which the guest sets, and the line of the interrupt.
    const GUESTS: [core::ops::Range<usize>; 2] = [0x10..0x28, 0x3c..0x3d];
    /// The capability Device Serial Number.
    const SERIAL_NUMBER: u16 = 3;
    let devices = [TestDevice::new(target)?, TestDevice::new(target)?];
    // A kernel without access to extended configuration space has a region of 256 bytes.
    let size = space(&devices[0])?.size() as usize;
    let mut spaces = [vec![0; size], vec![0; size]];
    for (device, bytes) in devices.iter().zip(&mut spaces) {
        space(device)?.read(0, bytes)?;
        for range in GUESTS {
            bytes[range].fill(0);
        }
    }
    let [one, other] = &spaces;
    same_bytes("configuration space of the other card", other, one)?;
    differs(
        "MAC of the EEPROM",
        card(&devices[1])?.mac(0)?,
        card(&devices[0])?.mac(0)?,
    )?;
    let mut at = 0x100;
    let mut serial = None;
    while at != 0 && at < size {
        let header = u32::from_le_bytes([one[at], one[at + 1], one[at + 2], one[at + 3]]);
        if header as u16 == SERIAL_NUMBER {
            serial = Some(one[at + 4..at + 12].to_vec());
        }
        at = (header >> 20) as usize;
    }
    same("serial number", serial, (size > 0x100).then(|| vec![0; 8]))
}

fn card_receives_at_the_destination_what_is_sent_to_the_source(target: &Target) -> Outcome {
    const TO_GUEST: [Mac; 2] = [PEER, GUEST];
    const TO_PEER: [Mac; 2] = [GUEST, PEER];
    let mut source = TestDevice::new(target)?;
    let mut guest = station(&source, GUEST)?;
    for round in 0..4 {
        let peer_device = TestDevice::new(target)?;
        let mut peer = station(&peer_device, PEER)?;
        let base = round * 100;
        exchange(&mut peer, &mut guest, TO_GUEST, base..base + 20)?;
        exchange(&mut guest, &mut peer, TO_PEER, base + 20..base + 40)?;
        // Frames that have arrived and that the guest has not looked at.
        let waiting: Vec<Frame> = (base + 40..base + 45)
            .map(|seed| Frame::new(GUEST, PEER, seed, 200))
            .collect();
        for frame in &waiting {
            peer.send(frame)?;
        }
        drop(peer);
        drop(peer_device);

        let pre_copy = round % 2 == 0;
        let mut stream = Vec::new();
        if pre_copy {
            source.set(State::PRE_COPY)?;
            stream.extend(source.migration.save()?);
        }
        source.set(State::STOP_COPY)?;
        stream.extend(source.migration.save()?);
        let memory = source.memory()?.clone();
        let destination = TestDevice::open_for(target.subject()?, memory)?;
        destination.resume(&stream)?;
        drop(source);

        guest = guest.moved_to(destination.vfio())?;
        guest.decode()?;
        same("MAC", guest.mac(0)?, Some(GUEST))?;
        for frame in waiting {
            same("a frame that had arrived", guest.receive()?, frame)?;
        }
        source = destination;
    }
    let peer_device = TestDevice::new(target)?;
    let mut peer = station(&peer_device, PEER)?;
    exchange(&mut peer, &mut guest, TO_GUEST, 1000..1040)?;
    exchange(&mut guest, &mut peer, TO_PEER, 1040..1080)
}

/// A transmitter that is off has posted what it has not sent.
fn card_sends_at_the_destination_what_was_not_sent_at_the_source(target: &Target) -> Outcome {
    let source = TestDevice::new(target)?;
    let mut guest = station(&source, GUEST)?;
    let on = guest.read(register::TCTL)?;
    guest.write(register::TCTL, on & !vfio_drivers::e1000e::TCTL_ENABLE)?;
    let frames: Vec<Frame> = (0..5)
        .map(|seed| Frame::new(PEER, GUEST, seed, 300))
        .collect();
    for frame in &frames {
        guest.submit(frame)?;
    }
    let stream = source.save()?;
    let memory = source.memory()?.clone();
    let destination = TestDevice::open_for(target.subject()?, memory)?;
    destination.resume(&stream)?;
    drop(source);
    guest = guest.moved_to(destination.vfio())?;
    guest.decode()?;
    same("TDH", guest.read(register::TDH)?, 0)?;
    same("TDT", guest.read(register::TDT)?, 5)?;
    let peer_device = TestDevice::new(target)?;
    let mut peer = station(&peer_device, PEER)?;
    guest.write(register::TCTL, on)?;
    for frame in frames {
        same(
            "a frame that was posted at the source",
            peer.receive()?,
            frame,
        )?;
    }
    guest.flush()?;
    Ok(())
}

fn card_stopped_sends_and_receives_nothing(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let mut guest = station(&device, GUEST)?;
    let peer_device = TestDevice::new(target)?;
    let mut peer = station(&peer_device, PEER)?;
    exchange(&mut peer, &mut guest, [PEER, GUEST], 0..5)?;
    for state in [State::STOP, State::STOP_COPY] {
        device.set(state)?;
        let memory = device.memory()?;
        let before = memory.bytes(memory.start(), memory.size() as usize);
        for seed in 0..5 {
            peer.send(&Frame::new(GUEST, PEER, seed, 500))?;
            peer.send(&Frame::broadcast(PEER, seed, 500))?;
        }
        same_bytes(
            format_args!("{state}: memory after frames for the card"),
            &memory.bytes(memory.start(), memory.size() as usize),
            &before,
        )?;
        device.set(State::RUNNING)?;
        // A network may have kept them. On a cable they are lost.
        let now = Frame::new(GUEST, PEER, 10, 60);
        peer.send(&now)?;
        while guest.receive()? != now {}
        exchange(&mut peer, &mut guest, [PEER, GUEST], 11..15)?;
        exchange(&mut guest, &mut peer, [GUEST, PEER], 20..25)?;
    }
    Ok(())
}

/// A guest adds up what it reads, as Linux's driver does every two seconds.
fn card_statistics_never_go_backwards(target: &Target) -> Outcome {
    let mut total = 0;
    let mut source = TestDevice::new(target)?;
    needs_tracking(&source, true)?;
    let mut guest = card(&source)?;
    guest.reset()?;
    guest.set_mac(0, GUEST)?;
    guest.start(Plug::Loopback, 16)?;
    let mut sent = 0;
    for round in 0..4u32 {
        // Some of it is read before the move, the rest after; a cancelled save loses nothing, either.
        for part in 0..3 {
            let frame = Frame::new(GUEST, GUEST, u64::from(sent), 100);
            guest.send(&frame)?;
            same("frame", guest.receive()?, frame)?;
            sent += 1;
            match part {
                0 => total += guest.read(register::GPRC)?,
                1 => {
                    source.save()?;
                    source.set(State::RUNNING)?;
                }
                _ => {}
            }
        }
        same(
            format_args!("frames that were counted before move {round}"),
            total + 2,
            sent,
        )?;
        let stream = source.save()?;
        let memory = source.memory()?.clone();
        let destination = TestDevice::open_for(target.subject()?, memory)?;
        destination.resume(&stream)?;
        drop(source);
        guest = guest.moved_to(destination.vfio())?;
        guest.decode()?;
        total += guest.read(register::GPRC)?;
        same(
            format_args!("frames that were counted after move {round}"),
            total,
            sent,
        )?;
        source = destination;
    }
    same("GPTC of all", guest.read(register::GPTC)?, sent)
}
