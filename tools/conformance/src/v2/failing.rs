// SPDX-License-Identifier: GPL-2.0

//! Changes of state of a disk whose block device fails.

use vfio_client::v2::State;
use vfio_client::Errno;
use vfio_drivers::nvme::nvm;
use vfio_drivers::nvme::register;
use vfio_drivers::nvme::Command;
use vfio_drivers::nvme::Status;
use vfio_drivers::nvme::CC_ENABLE;
use vfio_drivers::nvme::CC_SHUTDOWN;
use vfio_drivers::nvme::CC_SIZES;
use vfio_drivers::nvme::CSTS_SHUTDOWN;
use vfio_drivers::nvme::CSTS_SHUTDOWN_COMPLETE;

use crate::case::cases;
use crate::case::Case;
use crate::check::refused;
use crate::check::same;
use crate::check::Outcome;
use crate::kmsg::expect_line;
use crate::null_disk::NullDisk;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v2::device::TestDevice;
use crate::v2::device::Writer;
use crate::v2::device::PIECE;

const NEEDS: &[Requirement] = &[Requirement::V2, Requirement::Nvme];

/// Cases of a device with storage.
pub const CASES: &[Case] = cases![
    NEEDS;
    failing_stop_leaves_a_running_disk_running [Mdev],
    failing_stop_leaves_a_disk_in_pre_copy [P2p, PreCopy, Mdev],
    failing_stop_says_where_it_leaves_the_disk [Mdev],
    failing_stop_is_told_to_the_guest [Mdev],
    failing_shutdown_is_told_to_the_guest [Mdev],
];

/// Opens a controller whose content is on a disk.
#[track_caller]
fn open_on(disk: &NullDisk, target: &Target) -> Outcome<TestDevice> {
    let mdev = target.subject()?;
    mdev.set_attribute("nvme/store", b"file")?;
    mdev.set_attribute("nvme/file", disk.path().as_bytes())?;
    TestDevice::open(mdev, target)
}

/// Returns a disk that fails, with a device on it that runs and whose guest has written what will be lost.
#[track_caller]
fn with_lost_write(target: &Target) -> Outcome<(NullDisk, TestDevice, Writer)> {
    let disk = NullDisk::new()?;
    let device = open_on(&disk, target)?;
    let mut writer = Writer::new(&device)?;
    disk.fail()?;
    writer.write(1, 1)?;
    Ok((disk, device, writer))
}

/// Checks that a disk cannot stop, for the reason that `what` tells.
#[track_caller]
fn expect_no_stop(what: &str, device: &TestDevice) -> Outcome {
    refused(
        format_args!("STOP of a disk {what}"),
        device.migration.set_state(State::STOP),
        Errno::IO,
    )
}

/// Checks that a disk executes commands.
#[track_caller]
fn expect_works(writer: &mut Writer, page: u64) -> Outcome {
    writer.write(page, 0x42)?;
    let buffer = writer.driver.data(0);
    writer.driver.memory().write(buffer, &[0; 4096]);
    writer.read(page, buffer)?;
    same(
        "a byte of the page that was written",
        writer.driver.memory().bytes(buffer, 1),
        vec![0x42],
    )
}

/// Checks that the guest's next flush tells it that writes were lost, and the one after that nothing.
#[track_caller]
fn expect_told(writer: &mut Writer) -> Outcome {
    for (what, expected) in [
        ("the flush after a loss", Status::WRITE_FAULT),
        ("the flush after that", Status::SUCCESS),
    ] {
        let queue = writer.queue();
        let flush = Command::new(nvm::FLUSH).namespace(1);
        same(what, writer.driver.execute(queue, flush)?.status, expected)?;
    }
    Ok(())
}

/// Checks that the loss of a write that a stop met is not forgotten: the stop is refused as long as the guest does
/// not know.
fn failing_stop_is_told_to_the_guest(target: &Target) -> Outcome {
    let (disk, device, mut writer) = with_lost_write(target)?;
    expect_no_stop("that cannot be flushed", &device)?;
    disk.mend()?;
    expect_no_stop("whose guest does not know of the loss", &device)?;
    // A reset of the controller is no news for the guest.
    writer.restart()?;
    expect_no_stop("whose guest has reset it", &device)?;
    expect_told(&mut writer)?;
    device.set(State::STOP)?;
    device.set(State::RUNNING)?;
    expect_works(&mut writer, 5)
}

/// Checks that a loss outlives the shutdown of the controller that met it.
fn failing_shutdown_is_told_to_the_guest(target: &Target) -> Outcome {
    let (disk, device, mut writer) = with_lost_write(target)?;
    writer
        .driver
        .write(register::CC, CC_SIZES | CC_ENABLE | CC_SHUTDOWN)?;
    writer
        .driver
        .wait_status(CSTS_SHUTDOWN, CSTS_SHUTDOWN_COMPLETE)?;
    disk.mend()?;
    writer.restart()?;
    expect_told(&mut writer)?;
    device.set(State::STOP)?;
    Ok(())
}

fn failing_stop_leaves_a_running_disk_running(target: &Target) -> Outcome {
    let disk = NullDisk::new()?;
    let device = open_on(&disk, target)?;
    let mut writer = Writer::new(&device)?;
    for (page, to) in (1..).zip([State::STOP, State::STOP_COPY, State::RESUMING]) {
        disk.fail()?;
        writer.write(page, 1)?;
        refused(
            format_args!("{to} of a disk that cannot be flushed"),
            device.migration.set_state(to),
            Errno::IO,
        )?;
        device.expect(State::RUNNING)?;
        expect_works(&mut writer, 100 + page)?;
        disk.mend()?;
    }
    // The kernel has dropped the pages that could not be written. The disk stops when the guest knows.
    expect_told(&mut writer)?;
    let file = device.begin(State::STOP_COPY)?;
    file.read_all(PIECE)?;
    device.set(State::RUNNING)?;
    expect_works(&mut writer, 5)
}

fn failing_stop_leaves_a_disk_in_pre_copy(target: &Target) -> Outcome {
    let disk = NullDisk::new()?;
    let device = open_on(&disk, target)?;
    let mut writer = Writer::new(&device)?;
    let file = device.begin(State::PRE_COPY)?;
    let mut stream = file.read_all(PIECE)?;
    for state in [State::PRE_COPY, State::PRE_COPY_P2P] {
        disk.fail()?;
        writer.write(1, 1)?;
        device.set(state)?;
        refused(
            format_args!("STOP_COPY of a disk that cannot be flushed, from {state}"),
            device.migration.set_state(State::STOP_COPY),
            Errno::IO,
        )?;
        device.expect(state)?;
        disk.mend()?;
        device.set(State::PRE_COPY)?;
        expect_told(&mut writer)?;
        expect_works(&mut writer, 7)?;
    }
    // A session that is over does not come back, but the disk runs.
    disk.fail()?;
    writer.write(2, 1)?;
    refused(
        "RESUMING of a disk that cannot be flushed",
        device.migration.set_state(State::RESUMING),
        Errno::IO,
    )?;
    device.expect(State::RUNNING)?;
    refused("its file", file.read(&mut [0]), Errno::NODEV)?;
    disk.mend()?;
    expect_told(&mut writer)?;
    expect_works(&mut writer, 8)?;

    let file = device.begin(State::PRE_COPY)?;
    stream.extend(file.read_all(PIECE)?);
    device.set(State::STOP_COPY)?;
    stream.extend(file.read_all(PIECE)?);
    device.set(State::STOP)?;
    // The state from which it came is as good as another one.
    device.resume(&stream)?;
    expect_works(&mut writer, 9)
}

fn failing_stop_says_where_it_leaves_the_disk(target: &Target) -> Outcome {
    let (disk, device, _writer) = with_lost_write(target)?;
    let code = format!("(-{})", Errno::IO.raw_os_error());
    let words = [
        target.kind.driver(),
        device.subject.name(),
        "a change of state that began in RUNNING leaves the device in RUNNING",
        &code,
    ];
    expect_line(&words, || expect_no_stop("that cannot be flushed", &device))?;
    disk.mend()
}
