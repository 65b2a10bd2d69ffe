// SPDX-License-Identifier: GPL-2.0

//! Migration of a state: good streams, bad streams, and several devices at once.

use vfio_bindings::bindings::vfio;
use vfio_client::stream::Stream;
use vfio_client::v2::State;
use vfio_client::Region;
use vfio_drivers::random::Random;

use crate::case::cases;
use crate::case::Case;
use crate::check::denied;
use crate::check::holds;
use crate::check::same;
use crate::check::Outcome;
use crate::check::Stop;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v2::device::TestDevice;
use crate::v2::device::Writer;
use crate::v2::device::PIECE;

const NEEDS: &[Requirement] = &[Requirement::V2, Requirement::Driver, Requirement::Pair];

/// Cases of any device.
pub const CASES: &[Case] = cases![
    NEEDS;
    moving_carries_the_state_with_and_without_pre_copy [P2p, PreCopy],
    moving_a_cancelled_save_leaves_the_device_as_it_is [P2p, PreCopy],
    moving_there_and_back_again_and_again [PreCopy],
    moving_two_devices_at_once [P2p, PreCopy, Mdev],
    moving_a_stream_with_a_flipped_bit_is_refused,
    moving_more_than_the_stream_is_refused,
];
const STORAGE_NEEDS: &[Requirement] = &[Requirement::V2, Requirement::Nvme];

/// Cases of a device with storage.
pub const STORAGE: &[Case] = cases![
    STORAGE_NEEDS;
    moving_a_device_in_d3hot_leaves_it_there [P2p, PreCopy, Mdev],
];
const FERRY_NEEDS: &[Requirement] = &[
    Requirement::V2,
    Requirement::Ferry,
    Requirement::Driver,
    Requirement::Pair,
];

/// Cases of Ferry's devices.
pub const FERRY: &[Case] = cases![
    FERRY_NEEDS;
    moving_a_stream_of_v1_loads_through_v2,
    moving_a_stream_of_v2_loads_through_v1 [PreCopy],
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
        let device = TestDevice::new(target)?;
        device
            .resume(&stream)
            .map_err(|stop| Stop::failed(format_args!("{way:?}: {stop:?}")))?;
        device.expect_filled(seed)?;
        device.expect_works()?;
    }
    Ok(())
}

fn moving_a_cancelled_save_leaves_the_device_as_it_is(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(8)?;
    for state in [State::PRE_COPY, State::PRE_COPY_P2P, State::STOP_COPY] {
        for part in [0, 1, 100, PIECE] {
            let file = device.begin(state)?;
            if part > 0 {
                file.read(&mut vec![0; part])?;
            }
            device.set(State::RUNNING)?;
        }
    }
    let stream = device.save()?;
    device.set(State::RUNNING)?;
    device.expect_filled(8)?;
    let other = TestDevice::new(target)?;
    other.resume(&stream)?;
    other.expect_filled(8)
}

pub fn moving_there_and_back_again_and_again(target: &Target) -> Outcome {
    let devices = [TestDevice::new(target)?, TestDevice::new(target)?];
    devices[0].fill(61)?;
    for round in 0..10 {
        let (from, to) = (&devices[round % 2], &devices[(round + 1) % 2]);
        let file = from.begin(State::PRE_COPY)?;
        let mut stream = file.read_all(4096)?;
        from.set(State::STOP_COPY)?;
        stream.extend(file.read_all(4096)?);
        from.set(State::STOP)?;
        to.resume(&stream)?;
        from.reset()?;
    }
    devices[0].expect_filled(61)
}

pub fn moving_two_devices_at_once(target: &Target) -> Outcome {
    let sources = [TestDevice::new(target)?, TestDevice::new(target)?];
    let devices = [TestDevice::new(target)?, TestDevice::new(target)?];
    for (seed, source) in (1..).zip(&sources) {
        source.fill(seed)?;
    }
    // A VMM with two devices stops no device before all are in P2P.
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
    for device in &devices {
        files.push(device.begin(State::RESUMING)?);
    }
    for at in (0..streams[0].len().max(streams[1].len())).step_by(500) {
        for (file, stream) in files.iter().zip(&streams) {
            let end = stream.len().min(at + 500);
            file.write_all(stream.get(at..end).unwrap_or_default(), PIECE)?;
        }
    }
    for state in [State::STOP, State::RUNNING_P2P, State::RUNNING] {
        for device in &devices {
            device.set(state)?;
        }
    }
    for (seed, device) in (1..).zip(&devices) {
        device.expect_filled(seed)?;
    }
    Ok(())
}

/// Tries to resume a bad stream. Returns whether it was refused.
fn is_refused(device: &TestDevice, stream: &[u8], piece: usize) -> Outcome<bool> {
    let file = device.begin(State::RESUMING)?;
    let written = file.write_all(stream, piece);
    let left = device.migration.set_state(State::STOP);
    if let Err(error) = &left {
        holds(error.errno().is_some(), format_args!("{error}"))?;
        device.expect(State::RESUMING)?;
    }
    if written.is_err() {
        // A refusal is final.
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
    let device = TestDevice::new(target)?;
    let mut random = Random::new(2026);
    for round in 0..60 {
        let mut bad = stream.clone();
        let bit = random.below(bad.len() * 8);
        bad[bit / 8] ^= 1 << (bit % 8);
        let refused = is_refused(&device, &bad, if round % 2 == 0 { PIECE } else { 1000 })?;
        same(format_args!("bit {bit}: refused"), refused, true)?;
        device.reset()?;
    }
    device.expect_works()
}

fn moving_more_than_the_stream_is_refused(target: &Target) -> Outcome {
    let stream = TestDevice::new(target)?.save()?;
    let device = TestDevice::new(target)?;
    for more in [1, 31, 32, 33, 5000] {
        let mut long = stream.clone();
        long.extend(vec![0x46; more]);
        let refused = is_refused(&device, &long, PIECE)?;
        same(format_args!("{more} bytes more: refused"), refused, true)?;
        device.reset()?;
    }
    device.expect_works()
}

pub fn moving_a_refused_stream_leaves_the_device_as_it_is(target: &Target) -> Outcome {
    let stream = {
        let source = TestDevice::new(target)?;
        source.fill(200)?;
        source.save()?
    };
    let device = TestDevice::new(target)?;
    let mut random = Random::new(77);
    for _ in 0..20 {
        let mut bad = stream.clone();
        let at = random.below(bad.len());
        let noise = random.bytes(40);
        for (byte, noise) in bad[at..].iter_mut().zip(noise) {
            *byte ^= noise | 1;
        }
        same("refused", is_refused(&device, &bad, 3000)?, true)?;
        // A good stream in a new session is accepted.
        device.reset()?;
        device.resume(&stream)?;
        device.expect_filled(200)?;
        device.reset()?;
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
        let device = TestDevice::new(target)?;
        device.begin(State::RESUMING)?.write_all(&stream, piece)?;
        device.set(State::RUNNING)?;
        device.expect_filled(seed)?;
        device.expect_works()?;
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
        let device = TestDevice::new(target)?;
        let region = device.region()?;
        region.set_state(Region::RESUMING)?;
        region.feed(&stream, piece)?;
        region.set_state(Region::RUNNING)?;
        device.expect_filled(seed)?;
        device.expect_works()?;
    }
    Ok(())
}

/// A doorbell that was rung before D3hot counts in D0, on either host, and not before.
fn moving_a_device_in_d3hot_leaves_it_there(target: &Target) -> Outcome {
    const COMMAND: u64 = 0x04;
    const MEMORY: u16 = 0x0002;
    const MEMORY_AND_MASTER: u16 = 0x0006;
    // The control and status of power management, the first capability.
    const POWER: u64 = 0x44;
    let config = |device: &TestDevice| -> Outcome<Region> {
        Ok(device.vfio().region(vfio::VFIO_PCI_CONFIG_REGION_INDEX)?)
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
    let device = TestDevice::new(target)?;
    device.resume(&stream)?;
    device.memory()?.detach(device.space())?;
    memory.attach(device.space())?;
    let space = config(&device)?;
    same("power state", space.read_u8(POWER)? & 3, 3)?;
    let mut writer = writer.moved_to(&device)?;
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
