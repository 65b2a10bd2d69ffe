// SPDX-License-Identifier: GPL-2.0

//! A namespace in a file whose file system does not answer: a change of state that waits for it waits alone, and can be
//! killed.

use std::os::fd::AsFd as _;
use std::thread;
use std::time::Instant;

use vfio_bindings::bindings::vfio;
use vfio_client::v2::Migration;
use vfio_client::v2::State;
use vfio_client::Device;
use vfio_drivers::nvme::nvm;
use vfio_drivers::nvme::Command;
use vfio_drivers::nvme::PAGE;

use crate::case::cases;
use crate::case::Case;
use crate::check::holds;
use crate::check::same;
use crate::check::Outcome;
use crate::check::Stop;
use crate::requirement::Requirement;
use crate::second_process;
use crate::slow_file::Held;
use crate::slow_file::SlowFile;
use crate::target::Target;
use crate::v2::device::TestDevice;
use crate::v2::device::Writer;
use crate::v2::device::PATIENCE;
use crate::v2::device::PIECE;

const SIZE: usize = 4 << 20;

const NEEDS: &[Requirement] = &[Requirement::V2, Requirement::Nvme, Requirement::Mdev];

/// Cases of a device with storage.
pub const STORAGE: &[Case] = cases![
    NEEDS;
    slow_file_start_waits_alone,
    slow_file_start_ends_with_its_process,
    slow_file_stop_waits_alone,
    slow_file_reset_of_a_save_does_not_wait,
    slow_file_write_back_is_dirty,
];

/// Opens a controller with its first namespace in the file.
#[track_caller]
fn device(target: &Target, file: &SlowFile) -> Outcome<TestDevice> {
    let subject = target.subject()?;
    subject.set_attribute("nvme/store", b"file")?;
    subject.set_attribute("nvme/file", file.text().as_bytes())?;
    TestDevice::open(subject, target)
}

/// Uses what software uses of a device, and looks at the state in both ways.
#[track_caller]
fn use_device(device: &TestDevice, writer: &Writer, expected: State) -> Outcome {
    const COMMAND: u64 = 0x04;
    writer.driver.status()?;
    let config = device.vfio().region(vfio::VFIO_PCI_CONFIG_REGION_INDEX)?;
    let command = config.read_u16(COMMAND)?;
    config.write(COMMAND, &command.to_le_bytes())?;
    device.expect(expected)?;
    device.subject.attribute("migration/device_state")?;
    Ok(())
}

/// Checks that nothing but a change to `state` waits for the file system, in state `during`.
#[track_caller]
fn expect_waits_alone(
    device: &TestDevice,
    writer: &Writer,
    held: Held<'_>,
    during: State,
    state: State,
) -> Outcome {
    thread::scope(|scope| {
        let waits = scope.spawn(|| device.set(state).map(drop));
        let seen = held
            .await_request()
            .and_then(|()| use_device(device, writer, during));
        // Without it, the thread would wait for ever.
        let seen = seen.and(held.end());
        let waited = waits
            .join()
            .unwrap_or_else(|_| Err(Stop::failed("a thread panicked")));
        seen.and(waited)
    })
}

fn slow_file_start_waits_alone(target: &Target) -> Outcome {
    let file = SlowFile::new(SIZE)?;
    let device = device(target, &file)?;
    let mut writer = Writer::new(&device)?;
    for state in [State::RUNNING, State::RUNNING_P2P] {
        device.set(State::STOP)?;
        expect_waits_alone(&device, &writer, file.hold(), State::STOP, state)?;
    }
    device.set(State::RUNNING)?;
    writer.write(1, 7)
}

/// The word that a process prints before it [`change`]s the state.
const READY: &str = "ready";

/// Brings the device that is standard input to a state.
///
/// # Errors
///
/// What the kernel answers.
pub fn change(state: u32) -> Outcome {
    let device = rustix::stdio::stdin().try_clone_to_owned();
    let device = Device::new(device.map_err(Stop::failed)?, "standard input");
    println!("{READY}");
    Migration::new(&device).set_state(State(state))?;
    Ok(())
}

fn slow_file_start_ends_with_its_process(target: &Target) -> Outcome {
    let file = SlowFile::new(SIZE)?;
    let stopped = device(target, &file)?;
    let mut writer = Writer::new(&stopped)?;
    stopped.set(State::STOP)?;
    let held = file.hold();
    let state = State::RUNNING.0.to_string();
    let stdin = stopped.vfio().as_fd().try_clone_to_owned();
    let stdin = stdin.map_err(Stop::failed)?;
    let mut child = second_process::start(&["--change", &state], stdin, READY)?;
    let seen = held
        .await_request()
        .and_then(|()| use_device(&stopped, &writer, State::STOP));
    child
        .kill()
        .and_then(|()| child.wait())
        .map_err(Stop::failed)?;
    seen?;
    use_device(&stopped, &writer, State::STOP)?;
    held.end()?;
    // The file was not left locked for a device that did not start.
    let other = device(target, &file)?;
    Writer::new(&other)?.write(2, 9)?;
    drop(other);
    stopped.set(State::RUNNING)?;
    writer.write(1, 7)
}

fn slow_file_stop_waits_alone(target: &Target) -> Outcome {
    let file = SlowFile::new(SIZE)?;
    let device = device(target, &file)?;
    let mut writer = Writer::new(&device)?;
    for state in [State::STOP, State::RUNNING_P2P] {
        writer.write(1, 7)?;
        expect_waits_alone(&device, &writer, file.hold(), State::RUNNING, state)?;
        device.set(State::RUNNING)?;
    }
    writer.write(1, 8)
}

/// The save has blocks of the namespace in memory; the controller flushes the one in the file.
fn slow_file_reset_of_a_save_does_not_wait(target: &Target) -> Outcome {
    let file = SlowFile::new(SIZE)?;
    let subject = target.subject()?;
    subject.set_attribute("nvme-ns2/store", b"file")?;
    subject.set_attribute("nvme-ns2/file", file.text().as_bytes())?;
    let device = TestDevice::open(subject, target)?;
    let mut writer = Writer::new(&device)?;
    writer.write(1, 7)?;
    let data = device.begin(State::PRE_COPY)?;
    let zeroes = Command::new(nvm::WRITE_ZEROES).namespace(2);
    writer.driver.succeed(writer.queue(), zeroes)?;
    let held = file.hold();
    let flush = Command::new(nvm::FLUSH).namespace(2);
    writer.driver.submit(writer.queue(), flush)?;
    held.await_request()?;
    device.vfio().reset()?;
    use_device(&device, &writer, State::RUNNING)?;
    held.end()?;
    same(
        "a read of the session that is over",
        data.read(&mut [0]).is_err(),
        true,
    )?;
    writer.restart()?;
    writer.write(1, 8)
}

/// A user who stopped the device would wait for it.
fn slow_file_write_back_is_dirty(target: &Target) -> Outcome {
    // Little enough for the cache of a file system in user space.
    const PAGES: u64 = 32;
    let file = SlowFile::new(SIZE)?;
    let device = self::device(target, &file)?;
    let mut writer = Writer::new(&device)?;
    // What the kernel asks at the first write it does not ask again.
    writer.write(PAGES, 7)?;
    // By itself the kernel writes back as it likes.
    let held = file.hold();
    writer.write_run(0, PAGES, 7)?;
    let data = device.begin(State::PRE_COPY)?;
    held.await_request()?;
    let mut stream = data.read_all(PIECE)?;
    let info = data.precopy_info()?;
    same("initial_bytes", info.initial_bytes, 0)?;
    holds(
        info.dirty_bytes >= PAGES * PAGE,
        format_args!(
            "expected {} dirty bytes, seen {}",
            PAGES * PAGE,
            info.dirty_bytes
        ),
    )?;
    same("bytes to read", data.read_all(PIECE)?.len(), 0)?;
    held.end()?;
    let start = Instant::now();
    while data.precopy_info()?.dirty_bytes > 0 {
        holds(
            start.elapsed() < PATIENCE,
            "expected the end of the write-back, seen none",
        )?;
    }
    device.set(State::STOP_COPY)?;
    stream.extend(data.read_all(PIECE)?);
    let moved = self::device(target, &file)?;
    moved.resume(&stream)?;
    Writer::new(&moved)?.write(1, 8)
}
