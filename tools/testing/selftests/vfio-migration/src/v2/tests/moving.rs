// SPDX-License-Identifier: GPL-2.0

//! Moving a state: good streams, bad ones, and several devices at once.

use vfio_bindings::bindings::vfio;
use vfio_client::v2::State;
use vfio_client::Region;

use crate::check::denied;
use crate::check::holds;
use crate::check::same;
use crate::check::Outcome;
use crate::check::Stop;
use crate::stream::Stream;
use crate::test_device::Target;
use crate::test_device::TestDevice;
use crate::test_device::Writer;
use crate::test_device::PIECE;
use crate::tests::cases;
use crate::tests::Case;
use vfio_drivers::random::Random;

/// The tests of whatever device.
pub const CASES: &[Case] = cases![
    moving_carries_the_state_with_and_without_pre_copy,
    moving_a_cancelled_save_leaves_the_device_as_it_is,
    moving_there_and_back_again_and_again,
    moving_two_devices_at_once,
    moving_a_stream_with_a_flipped_bit_is_refused,
    moving_more_than_the_stream_is_refused,
];
/// Those of a device with storage.
pub const STORAGE: &[Case] = cases![moving_a_device_in_d3hot_leaves_it_there];
/// Those of Ferry's devices.
pub const FERRY: &[Case] = cases![
    moving_a_stream_of_v1_loads_through_v2,
    moving_a_stream_of_v2_loads_through_v1,
    moving_a_refused_stream_leaves_the_device_as_it_is,
];

pub fn moving_carries_the_state_with_and_without_pre_copy(target: &Target) -> Outcome {
    for (seed, way) in (1..).zip([
        &[State::STOP_COPY][..],
        &[State::PRE_COPY, State::STOP_COPY],
        &[State::PRE_COPY, State::PRE_COPY_P2P, State::STOP_COPY],
        &[State::RUNNING_P2P, State::STOP, State::STOP_COPY],
        &[
            State::RUNNING_P2P,
            State::PRE_COPY_P2P,
            State::PRE_COPY,
            State::STOP_COPY,
        ],
    ]) {
        let source = TestDevice::new(target)?;
        source.fill(seed)?;
        let mut file = None;
        let mut stream = Vec::new();
        for state in way {
            file = source.set(*state)?.or(file);
            if let Some(file) = &file {
                stream.extend(file.read_all(PIECE)?);
            }
        }
        let card = TestDevice::new(target)?;
        card.resume(&stream)
            .map_err(|stop| Stop::failed(format_args!("{way:?}: {stop:?}")))?;
        card.expect_filled(seed)?;
        card.expect_works()?;
    }
    Ok(())
}

fn moving_a_cancelled_save_leaves_the_device_as_it_is(target: &Target) -> Outcome {
    let card = TestDevice::new(target)?;
    card.fill(8)?;
    for state in [State::PRE_COPY, State::PRE_COPY_P2P, State::STOP_COPY] {
        for part in [0, 1, 100, PIECE] {
            let file = card.begin(state)?;
            if part > 0 {
                file.read(&mut vec![0; part])?;
            }
            card.set(State::RUNNING)?;
        }
    }
    let stream = card.save()?;
    card.set(State::RUNNING)?;
    card.expect_filled(8)?;
    let other = TestDevice::new(target)?;
    other.resume(&stream)?;
    other.expect_filled(8)
}

pub fn moving_there_and_back_again_and_again(target: &Target) -> Outcome {
    let cards = [TestDevice::new(target)?, TestDevice::new(target)?];
    cards[0].fill(61)?;
    for round in 0..10 {
        let (from, to) = (&cards[round % 2], &cards[(round + 1) % 2]);
        let file = from.begin(State::PRE_COPY)?;
        let mut stream = file.read_all(4096)?;
        from.set(State::STOP_COPY)?;
        stream.extend(file.read_all(4096)?);
        from.set(State::STOP)?;
        to.resume(&stream)?;
        from.reset()?;
    }
    cards[0].expect_filled(61)
}

pub fn moving_two_devices_at_once(target: &Target) -> Outcome {
    let sources = [TestDevice::new(target)?, TestDevice::new(target)?];
    let cards = [TestDevice::new(target)?, TestDevice::new(target)?];
    for (seed, source) in (1..).zip(&sources) {
        source.fill(seed)?;
    }
    // As a VMM with two devices does it: no device stops before all are in P2P.
    let mut files = Vec::new();
    for source in &sources {
        files.push(source.begin(State::PRE_COPY)?);
    }
    let mut streams = [Vec::new(), Vec::new()];
    for state in [State::PRE_COPY_P2P, State::STOP_COPY] {
        for source in &sources {
            source.set(state)?;
        }
    }
    let mut bytes = vec![0; 777];
    let mut ended = [false, false];
    while ended.contains(&false) {
        for (i, file) in files.iter().enumerate() {
            let len = file.read(&mut bytes)?;
            ended[i] |= len == 0;
            streams[i].extend(&bytes[..len]);
        }
    }
    let mut files = Vec::new();
    for card in &cards {
        files.push(card.begin(State::RESUMING)?);
    }
    for at in (0..streams[0].len().max(streams[1].len())).step_by(500) {
        for (file, stream) in files.iter().zip(&streams) {
            let end = stream.len().min(at + 500);
            file.write_all(stream.get(at..end).unwrap_or_default(), PIECE)?;
        }
    }
    for state in [State::STOP, State::RUNNING_P2P, State::RUNNING] {
        for card in &cards {
            card.set(state)?;
        }
    }
    for (seed, card) in (1..).zip(&cards) {
        card.expect_filled(seed)?;
    }
    Ok(())
}

/// Tries to resume a stream that must not be accepted. Returns whether it was refused.
fn is_refused(card: &TestDevice, stream: &[u8], piece: usize) -> Outcome<bool> {
    let file = card.begin(State::RESUMING)?;
    let written = file.write_all(stream, piece);
    let left = card.migration.set_state(State::STOP);
    if let Err(error) = &left {
        holds(error.errno().is_some(), format_args!("{error}"))?;
        card.expect(State::RESUMING)?;
    }
    if written.is_err() {
        // Once refused it stays so.
        denied("STOP after a refused write", left)?;
        denied("write after a refused one", file.write(&[0]))?;
        return Ok(true);
    }
    Ok(left.is_err())
}

fn moving_a_stream_with_a_flipped_bit_is_refused(target: &Target) -> Outcome {
    let source = TestDevice::new(target)?;
    source.fill(12)?;
    let stream = source.save()?;
    let card = TestDevice::new(target)?;
    let mut random = Random::new(2026);
    for round in 0..60 {
        let mut bad = stream.clone();
        let bit = random.below(bad.len() * 8);
        bad[bit / 8] ^= 1 << (bit % 8);
        let refused = is_refused(&card, &bad, if round % 2 == 0 { PIECE } else { 1000 })?;
        same(format_args!("bit {bit}: refused"), refused, true)?;
        card.reset()?;
    }
    card.expect_works()
}

fn moving_more_than_the_stream_is_refused(target: &Target) -> Outcome {
    let stream = TestDevice::new(target)?.save()?;
    let card = TestDevice::new(target)?;
    for more in [1, 31, 32, 33, 5000] {
        let mut long = stream.clone();
        long.extend(vec![0x46; more]);
        let refused = is_refused(&card, &long, PIECE)?;
        same(format_args!("{more} bytes more: refused"), refused, true)?;
        card.reset()?;
    }
    card.expect_works()
}

pub fn moving_a_refused_stream_leaves_the_device_as_it_is(target: &Target) -> Outcome {
    let stream = {
        let source = TestDevice::new(target)?;
        source.fill(200)?;
        source.save()?
    };
    let card = TestDevice::new(target)?;
    let mut random = Random::new(77);
    for _ in 0..20 {
        let mut bad = stream.clone();
        let at = random.below(bad.len());
        let noise = random.bytes(40);
        for (byte, noise) in bad[at..].iter_mut().zip(noise) {
            *byte ^= noise | 1;
        }
        same("refused", is_refused(&card, &bad, 3000)?, true)?;
        // A good one in a new session is as good as ever.
        card.reset()?;
        card.resume(&stream)?;
        card.expect_filled(200)?;
        card.reset()?;
    }
    Ok(())
}

pub fn moving_a_stream_of_v1_loads_through_v2(target: &Target) -> Outcome {
    use vfio_client::v1::State as Region;

    for (seed, piece) in (1..).zip([7, 4096, PIECE]) {
        let source = TestDevice::new(target)?;
        source.fill(seed)?;
        let region = source.region()?;
        let mut stream = Vec::new();
        for state in [Region::PRE_COPY, Region::STOP_COPY] {
            region.set_state(state)?;
            stream.extend(region.save()?);
        }
        let card = TestDevice::new(target)?;
        card.begin(State::RESUMING)?.write_all(&stream, piece)?;
        card.set(State::RUNNING)?;
        card.expect_filled(seed)?;
        card.expect_works()?;
    }
    Ok(())
}

pub fn moving_a_stream_of_v2_loads_through_v1(target: &Target) -> Outcome {
    use vfio_client::v1::State as Region;

    for (seed, piece) in (1..).zip([7, 4096, PIECE]) {
        let source = TestDevice::new(target)?;
        source.fill(seed)?;
        let file = source.begin(State::PRE_COPY)?;
        let mut stream = file.read_all(piece)?;
        source.set(State::STOP_COPY)?;
        stream.extend(file.read_all(piece)?);
        Stream::parse(&stream)
            .and_then(|stream| stream.device_state())
            .map_err(Stop::failed)?;
        let card = TestDevice::new(target)?;
        let region = card.region()?;
        region.set_state(Region::RESUMING)?;
        region.feed(&stream, piece)?;
        region.set_state(Region::RUNNING)?;
        card.expect_filled(seed)?;
        card.expect_works()?;
    }
    Ok(())
}

/// A doorbell that was rung before D3hot counts in D0, on whichever host; and nothing happens before.
fn moving_a_device_in_d3hot_leaves_it_there(target: &Target) -> Outcome {
    const COMMAND: u64 = 0x04;
    const MEMORY: u16 = 0x0002;
    const MEMORY_AND_MASTER: u16 = 0x0006;
    // The control and status of power management, the first capability.
    const POWER: u64 = 0x44;
    let config = |card: &TestDevice| -> Outcome<Region> {
        Ok(card.device().region(vfio::VFIO_PCI_CONFIG_REGION_INDEX)?)
    };
    let source = TestDevice::new(target)?;
    let mut writer = Writer::new(&source)?;
    writer.write(1, 1)?;
    let space = config(&source)?;
    same("first capability", space.read_u16(0x40)? & 0xff, 0x01)?;
    // Without bus mastering nothing is fetched.
    space.write(COMMAND, &MEMORY.to_le_bytes())?;
    writer.submit(2)?;
    space.write(POWER, &[3])?;
    space.write(COMMAND, &MEMORY_AND_MASTER.to_le_bytes())?;
    let file = source.begin(State::PRE_COPY)?;
    let mut stream = file.read_all(PIECE)?;
    source.set(State::PRE_COPY_P2P)?;
    source.set(State::STOP_COPY)?;
    stream.extend(file.read_all(PIECE)?);

    let memory = source.memory()?.clone();
    let card = TestDevice::new(target)?;
    card.resume(&stream)?;
    card.memory()?.detach(card.space())?;
    memory.attach(card.space())?;
    let space = config(&card)?;
    same("power state", space.read_u8(POWER)? & 3, 3)?;
    let mut writer = writer.moved_to(&card)?;
    // A worker that runs would have time for it while all of this happens.
    for _ in 0..50 {
        same("CSTS in D3hot", writer.driver.status()?, u32::MAX)?;
        space.write(COMMAND, &MEMORY_AND_MASTER.to_le_bytes())?;
    }
    same("completion in D3hot", writer.has_completion(), false)?;
    space.write(POWER, &[0])?;
    writer.wait()?;
    writer.write(3, 3)
}
