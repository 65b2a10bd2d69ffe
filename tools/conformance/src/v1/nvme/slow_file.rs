// SPDX-License-Identifier: GPL-2.0

//! A namespace in a file whose file system does not answer: whoever waits for it waits alone, and can be killed.

use std::os::fd::AsFd as _;
use std::thread;
use std::time::Instant;

use vfio_bindings::bindings::vfio;
use vfio_client::v1::Migration;
use vfio_client::v1::State;
use vfio_client::Device;
use vfio_drivers::nvme::content;
use vfio_drivers::nvme::nvm;
use vfio_drivers::nvme::register;
use vfio_drivers::nvme::Command;
use vfio_drivers::nvme::Controller;
use vfio_drivers::nvme::PAGE;

use crate::case::cases;
use crate::case::Case;
use crate::check::holds;
use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::check::Stop;
use crate::requirement::Requirement;
use crate::second_process;
use crate::slow_file::Held;
use crate::slow_file::SlowFile;
use crate::target::Target;
use crate::v1::device::TestDevice;
use crate::v1::device::PATIENCE;
use crate::v1::nvme::disk::create;
use crate::v1::nvme::disk::Disk;
use crate::v1::nvme::disk::DEPTH;
use crate::v1::nvme::disk::FILE;
use crate::v1::nvme::disk::STORE;
use crate::v1::region::joined;

const MIB: u64 = 1 << 20;
const SIZE: usize = 4 << 20;

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::Nvme, Requirement::Mdev];

pub const CASES: &[Case] = cases![
    NEEDS;
    nvme_slow_file_start_waits_alone,
    nvme_slow_file_start_after_a_resume_waits_alone,
    nvme_slow_file_start_ends_with_its_process,
    nvme_slow_file_start_that_a_reset_overtakes,
    nvme_slow_file_first_enable_waits_alone,
    nvme_slow_file_stop_waits_alone,
    nvme_slow_file_reset_of_a_save_does_not_wait,
    nvme_slow_file_write_back_is_pending,
];

/// Creates a controller with its first namespace in the file, and enables it.
#[track_caller]
fn disk(target: &Target, file: &SlowFile) -> Outcome<Disk> {
    Disk::with(target, &[(STORE, "file"), (FILE, file.text())])
}

/// Uses what software uses of a device, and looks at the state in both ways that need no transition.
#[track_caller]
fn use_device(device: &TestDevice, driver: &Controller, expected: State) -> Outcome {
    const COMMAND: u64 = 0x04;
    driver.status()?;
    driver.write(register::INTMS, 1 << 3)?;
    let config = device.vfio().region(vfio::VFIO_PCI_CONFIG_REGION_INDEX)?;
    let command = config.read_u16(COMMAND)?;
    config.write(COMMAND, &command.to_le_bytes())?;
    same("device_state", device.migration.state()?, expected)?;
    let text = device.subject.attribute("migration/device_state")?;
    same("migration/device_state", text.as_str(), expected.name())
}

/// Checks that nothing but `wait` waits for the file system, in state `during`, and that `wait` ends with its answer.
#[track_caller]
fn expect_waits_alone(
    disk: &Disk,
    held: Held<'_>,
    during: State,
    wait: impl FnOnce(&TestDevice) -> Outcome + Send,
) -> Outcome {
    let device = &disk.device;
    thread::scope(|scope| {
        let waits = scope.spawn(|| wait(device));
        let seen = held
            .await_request()
            .and_then(|()| use_device(device, &disk.driver, during));
        // Without it, the thread would wait for ever.
        let seen = seen.and(held.end());
        let waited = joined(waits);
        seen.and(waited)
    })
}

/// Checks that a disk keeps what is written.
#[track_caller]
fn expect_works(disk: &mut Disk) -> Outcome {
    let bytes = content(MIB, 3);
    disk.write(MIB, &bytes)?;
    same_bytes("read back", &disk.read(MIB, PAGE)?, &bytes)
}

fn nvme_slow_file_start_waits_alone(target: &Target) -> Outcome {
    let file = SlowFile::new(SIZE)?;
    let mut disk = disk(target, &file)?;
    for state in [State::RUNNING, State::PRE_COPY] {
        disk.device.set(State::STOP)?;
        expect_waits_alone(&disk, file.hold(), State::STOP, |device| device.set(state))?;
    }
    expect_works(&mut disk)
}

fn nvme_slow_file_start_after_a_resume_waits_alone(target: &Target) -> Outcome {
    let file = SlowFile::new(SIZE)?;
    let source = disk(target, &file)?;
    let stream = source.device.save()?;
    drop(source);
    // This controller is not enabled: the state that it gets is.
    let subject = create(target, &[(STORE, "file"), (FILE, file.text())])?;
    let disk = Disk::disabled(target, subject)?;
    disk.device.set(State::RESUMING)?;
    disk.device.migration.feed(&stream, usize::MAX)?;
    expect_waits_alone(&disk, file.hold(), State::RESUMING, |device| {
        device.set(State::RUNNING)
    })?;
    let mut disk = disk;
    disk.expect_recovers()
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
    let migration = Migration::find(&device)?
        .ok_or_else(|| Stop::failed("expected a migration region, seen none"))?;
    println!("{READY}");
    migration.set_state(State(state))?;
    Ok(())
}

fn nvme_slow_file_start_ends_with_its_process(target: &Target) -> Outcome {
    let file = SlowFile::new(SIZE)?;
    let mut disk = disk(target, &file)?;
    disk.device.set(State::STOP)?;
    let held = file.hold();
    let state = State::RUNNING.0.to_string();
    let device = disk.device.vfio().as_fd().try_clone_to_owned();
    let stdin = device.map_err(Stop::failed)?;
    let mut child = second_process::start(&["--change", &state], stdin, READY)?;
    let seen = held
        .await_request()
        .and_then(|()| use_device(&disk.device, &disk.driver, State::STOP));
    child
        .kill()
        .and_then(|()| child.wait())
        .map_err(Stop::failed)?;
    seen?;
    use_device(&disk.device, &disk.driver, State::STOP)?;
    held.end()?;
    // The file was not left locked for a device that did not start.
    let mut other = self::disk(target, &file)?;
    expect_works(&mut other)?;
    drop(other);
    disk.device.set(State::RUNNING)?;
    expect_works(&mut disk)
}

/// A reset lets the device run, and the start that waits has nothing left to do.
fn nvme_slow_file_start_that_a_reset_overtakes(target: &Target) -> Outcome {
    let file = SlowFile::new(SIZE)?;
    let mut disk = disk(target, &file)?;
    disk.device.set(State::STOP)?;
    let held = file.hold();
    let device = &disk.device;
    thread::scope(|scope| {
        let waits = scope.spawn(|| Ok(device.migration.set_state(State::RUNNING)?));
        let seen = held.await_request().and_then(|()| device.reset());
        let seen = seen.and(held.end());
        let waited = joined(waits);
        seen.and(waited)
    })?;
    disk.device.expect(State::RUNNING)?;
    disk.expect_recovers()
}

fn nvme_slow_file_first_enable_waits_alone(target: &Target) -> Outcome {
    let file = SlowFile::new(SIZE)?;
    let subject = create(target, &[(STORE, "file"), (FILE, file.text())])?;
    let mut disk = Disk::disabled(target, subject)?;
    let held = file.hold();
    let mut driver = disk.driver.clone();
    thread::scope(|scope| {
        let waits = scope.spawn(move || Ok(driver.restart(DEPTH)?));
        let seen = held
            .await_request()
            .and_then(|()| use_device(&disk.device, &disk.driver, State::RUNNING));
        let seen = seen.and(held.end());
        let waited = joined(waits);
        seen.and(waited)
    })?;
    disk.start(DEPTH)?;
    expect_works(&mut disk)
}

fn nvme_slow_file_stop_waits_alone(target: &Target) -> Outcome {
    let file = SlowFile::new(SIZE)?;
    let mut disk = disk(target, &file)?;
    expect_works(&mut disk)?;
    expect_waits_alone(&disk, file.hold(), State::RUNNING, |device| {
        device.set(State::STOP_COPY)
    })?;
    disk.device.set(State::RUNNING)?;
    expect_works(&mut disk)
}

/// The save has blocks of the namespace in memory; the controller flushes the one in the file.
fn nvme_slow_file_reset_of_a_save_does_not_wait(target: &Target) -> Outcome {
    let file = SlowFile::new(SIZE)?;
    let attributes = [
        (STORE, "ram"),
        ("nvme-ns2/store", "file"),
        ("nvme-ns2/file", file.text()),
    ];
    let mut disk = Disk::with(target, &attributes)?;
    expect_works(&mut disk)?;
    disk.device.set(State::PRE_COPY)?;
    let buffer = disk.driver.data(0);
    let shift = disk.block().trailing_zeros() as u8;
    let count = (PAGE >> shift) as u32;
    let write = disk
        .driver
        .transfer(1, nvm::WRITE, shift, 0, count, buffer)
        .namespace(2);
    disk.driver.succeed(1, write)?;
    let held = file.hold();
    disk.driver
        .submit(1, Command::new(nvm::FLUSH).namespace(2))?;
    held.await_request()?;
    disk.device.reset()?;
    use_device(&disk.device, &disk.driver, State::RUNNING)?;
    held.end()?;
    disk.expect_recovers()?;
    // Nothing of the save is left.
    disk.device.set(State::PRE_COPY)?;
    disk.device.set(State::RUNNING)
}

/// A user who stopped the device would wait for it.
fn nvme_slow_file_write_back_is_pending(target: &Target) -> Outcome {
    // Little enough for the cache of a file system in user space.
    const LEN: u64 = 128 << 10;
    let file = SlowFile::new(SIZE)?;
    let mut disk = disk(target, &file)?;
    // What the kernel asks at the first write it does not ask again.
    expect_works(&mut disk)?;
    let bytes = content(MIB, 5).repeat((LEN / PAGE) as usize);
    // By itself the kernel writes back as it likes.
    let held = file.hold();
    disk.write(MIB, &bytes)?;
    disk.device.set(State::PRE_COPY)?;
    held.await_request()?;
    let mut stream = Vec::new();
    // The first chunk is all that there is to give.
    for round in 0..3 {
        let chunk = disk.device.migration.next_chunk()?;
        let chunk = chunk.ok_or_else(|| Stop::failed("expected pending bytes, seen none"))?;
        holds(
            chunk.pending >= LEN,
            format_args!(
                "round {round}: expected {LEN} bytes pending, seen {}",
                chunk.pending
            ),
        )?;
        stream.extend(chunk.bytes);
    }
    held.end()?;
    let start = Instant::now();
    while let Some(chunk) = disk.device.migration.next_chunk()? {
        stream.extend(chunk.bytes);
        holds(
            start.elapsed() < PATIENCE,
            format_args!(
                "expected the end of the write-back, seen {} bytes",
                chunk.pending
            ),
        )?;
    }
    disk.device.set(State::STOP_COPY)?;
    stream.extend(disk.device.migration.save()?);
    let mut moved = Disk::disabled(
        target,
        create(target, &[(STORE, "file"), (FILE, file.text())])?,
    )?;
    moved.device.resume(&stream)?;
    drop(disk);
    moved.start(DEPTH)?;
    same_bytes("what was written", &moved.read(MIB, LEN)?, &bytes)
}
