// SPDX-License-Identifier: GPL-2.0

//! DMA with an iommufd reaches the IOAS to which the device is attached, while it is attached, and no other
//! memory.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use vfio_client::address_space::Access;
use vfio_client::v2::Migration;
use vfio_client::v2::State;
use vfio_client::Cdev;
use vfio_client::Errno;
use vfio_client::GuestMemory;
use vfio_client::Iommufd;
use vfio_client::Mapping;
use vfio_drivers::nvme;
use vfio_drivers::nvme::nvm;
use vfio_drivers::nvme::tail_doorbell;
use vfio_drivers::nvme::Controller;
use vfio_drivers::nvme::Status;
use vfio_drivers::nvme::PAGE;
use vfio_drivers::random::Random;

use crate::case::cases;
use crate::case::Case;
use crate::check::holds;
use crate::check::refused;
use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::check::Stop;
use crate::device::MEMORY;
use crate::pins::pinned;
use crate::requirement::Requirement;
use crate::second_process;
use crate::target::Target;
use crate::v1::nvme::pinned::expect_fatal;
use crate::v1::nvme::pinned::queue_pages;
use crate::v1::nvme::pinned::unmap_while_used;
use crate::v2::cdev::expect_cut_off;
use crate::v2::cdev::SECOND_MEMORY;
use crate::v2::device::TestDevice;
use crate::v2::device::Writer;
use crate::v2::device::PATIENCE;
use crate::v2::device::PIECE;

const NEEDS: &[Requirement] = &[
    Requirement::V2,
    Requirement::Nvme,
    Requirement::Iommufd,
    Requirement::Cdev,
];

/// Cases of a device with storage, which reaches memory.
pub const STORAGE: &[Case] = cases![
    NEEDS;
    cdev_dma_needs_an_address_space,
    cdev_dma_no_access_after_an_unmap,
    cdev_dma_unmap_while_it_works,
    cdev_dma_detach_while_it_works,
    cdev_dma_close_while_it_works,
    cdev_dma_pins_the_queues_alone,
    cdev_dma_unmap_of_the_queues_while_they_are_used,
    cdev_dma_read_only_memory_is_not_written,
    cdev_dma_across_two_mappings,
    cdev_dma_goes_to_the_address_space_that_it_was_attached_to_last,
    cdev_dma_goes_into_the_memory_of_another_device,
    cdev_dma_goes_on_when_the_iommufd_is_closed,
    cdev_dma_goes_to_another_process_until_it_ends,
];

const MIB: u64 = 1 << 20;
/// Where further memory is mapped.
const ELSEWHERE: u64 = 0x40_0000_0000;

/// Opens a device through its character device, with a page in its namespace that has all ones.
#[track_caller]
fn written(target: &Target) -> Outcome<(TestDevice, Writer)> {
    let device = TestDevice::new(&target.through_cdev())?;
    let mut writer = Writer::new(&device)?;
    writer.write(0, 0xff)?;
    Ok((device, writer))
}

const ONES: [u8; PAGE as usize] = [0xff; PAGE as usize];

fn cdev_dma_needs_an_address_space(target: &Target) -> Outcome {
    let iommufd = Iommufd::open()?;
    let mdev = target.subject()?;
    let cdev = Cdev::open(&mdev)?;
    cdev.bind(&iommufd)?;
    // All but memory works, long before there is an address space.
    let memory = GuestMemory::new(MEMORY, 4 * MIB as usize)?;
    let mut driver = Controller::new(cdev.device(), &memory)?;
    for round in 0..3 {
        driver.restart(4)?;
        driver.write(tail_doorbell(0), 1)?;
        let status = driver.wait_status(nvme::CSTS_FATAL, nvme::CSTS_FATAL)?;
        same(
            format_args!("CFS in round {round}"),
            status & nvme::CSTS_FATAL,
            nvme::CSTS_FATAL,
        )?;
        cdev.device().reset()?;
    }
    let ioas = iommufd.ioas()?;
    memory.attach(&ioas)?;
    cdev.attach(&ioas)?;
    driver.restart(4)?;
    driver.identify(1, 0)?;
    drop(driver);
    drop(cdev);
    Ok(())
}

fn cdev_dma_no_access_after_an_unmap(target: &Target) -> Outcome {
    let (device, mut writer) = written(target)?;
    let other = GuestMemory::new(ELSEWHERE, MIB as usize)?;
    for round in 0..10 {
        other.attach(device.space())?;
        writer.read(0, ELSEWHERE)?;
        same_bytes("data", &other.bytes(ELSEWHERE, ONES.len()), &ONES)?;
        other.detach(device.space())?;
        let mark = [round; PAGE as usize];
        other.write(ELSEWHERE, &mark);
        for (opcode, page) in [(nvm::READ, 0), (nvm::WRITE, 1)] {
            same(
                format_args!("status of {opcode:#x} without the memory"),
                writer.attempt(opcode, page, ELSEWHERE)?,
                Status::TRANSFER_ERROR,
            )?;
        }
        same_bytes(
            "memory that was taken away",
            &other.bytes(ELSEWHERE, mark.len()),
            &mark,
        )?;
    }
    // The rest of it was not touched.
    device.expect_works()
}

const LONG: usize = 32 * PAGE as usize;

/// As [`written`], with 32 pages, so that a command takes a while.
#[track_caller]
fn long_written(target: &Target) -> Outcome<(TestDevice, Writer)> {
    let (device, mut writer) = written(target)?;
    for page in 1..32 {
        writer.write(page, 0xff)?;
    }
    Ok((device, writer))
}

fn cdev_dma_unmap_while_it_works(target: &Target) -> Outcome {
    let (device, mut writer) = long_written(target)?;
    let other = GuestMemory::new(ELSEWHERE, MIB as usize)?;
    let command = writer.transfer(nvm::READ, LONG as u64, ELSEWHERE);
    let queue = writer.queue();
    let (mut good, mut bad) = (0, 0);
    for round in 0..60u8 {
        other.write(ELSEWHERE, &[0; LONG]);
        other.attach(device.space())?;
        for _ in 0..8 {
            writer.driver.post(queue, command);
        }
        writer.driver.ring(queue)?;
        // In the middle of the first command, or of a later one.
        let seen = ELSEWHERE + if round % 2 == 0 { 0 } else { 31 * PAGE };
        await_written(&other, seen)?;
        // This does not wait for the device, and the device holds nothing.
        same(
            "bytes unmapped",
            device.space().unmap(ELSEWHERE, other.size())?,
            other.size(),
        )?;
        let mark = vec![round; LONG];
        other.write(ELSEWHERE, &mark);
        for _ in 0..8 {
            match writer.driver.wait(queue)?.status {
                Status::SUCCESS => good += 1,
                Status::TRANSFER_ERROR => bad += 1,
                other => {
                    return Err(Stop::failed(format_args!(
                        "expected success or a transfer error, seen {other:?}"
                    )))
                }
            }
        }
        same_bytes(
            format_args!("round {round}: memory that was taken away"),
            &other.bytes(ELSEWHERE, LONG),
            &mark,
        )?;
    }
    holds(
        good > 0 && bad > 0,
        format_args!("expected commands of both kinds, seen {good} good and {bad} failed"),
    )?;
    device.expect_works()
}

/// Has the device read more than it is soon done with into `memory`, and waits until it has begun.
#[track_caller]
fn keep_busy(writer: &mut Writer, memory: &GuestMemory) -> Outcome {
    let command = writer.transfer(nvm::READ, LONG as u64, ELSEWHERE);
    let queue = writer.queue();
    for _ in 0..15 {
        writer.driver.post(queue, command);
    }
    writer.driver.ring(queue)?;
    await_written(memory, ELSEWHERE)
}

/// Waits until there is something else than zeros in `memory`.
#[track_caller]
fn await_written(memory: &GuestMemory, address: u64) -> Outcome {
    let start = Instant::now();
    while memory.read_u64(address) == 0 {
        holds(
            start.elapsed() < PATIENCE,
            format_args!("nothing was written to {address:#x}"),
        )?;
        thread::yield_now();
    }
    Ok(())
}

fn cdev_dma_detach_while_it_works(target: &Target) -> Outcome {
    let (device, mut writer) = long_written(target)?;
    let other = GuestMemory::new(ELSEWHERE, MIB as usize)?;
    other.attach(device.space())?;
    let session = device.cdev()?;
    let empty = session.iommufd.ioas()?;
    for round in 0..40u8 {
        other.write(ELSEWHERE, &[0; LONG]);
        writer.restart()?;
        keep_busy(&mut writer, &other)?;
        if round % 2 == 0 {
            session.cdev.detach()?;
        } else {
            session.cdev.attach(&empty)?;
        }
        let mark = vec![round; LONG];
        other.write(ELSEWHERE, &mark);
        // The command has failed, or was complete before.
        writer.driver.status()?;
        expect_cut_off(&device)?;
        same_bytes(
            format_args!("round {round}: memory that was taken away"),
            &other.bytes(ELSEWHERE, LONG),
            &mark,
        )?;
        session.cdev.attach(&session.ioas)?;
    }
    device.expect_works()
}

fn cdev_dma_close_while_it_works(target: &Target) -> Outcome {
    let target = &target.through_cdev();
    let mut mdev = target.subject()?;
    for round in 0..20u8 {
        let device = TestDevice::open(mdev, target)?;
        let other = GuestMemory::new(ELSEWHERE, MIB as usize)?;
        other.attach(device.space())?;
        let mut writer = Writer::new(&device)?;
        for page in 0..32 {
            writer.write(page, 0xff)?;
        }
        keep_busy(&mut writer, &other)?;
        drop(writer);
        // All stays mapped: it is the close that ends the work.
        let ioas = Arc::clone(&device.cdev()?.ioas);
        mdev = device.close();
        let mark = vec![round; LONG];
        other.write(ELSEWHERE, &mark);
        same_bytes(
            format_args!("round {round}: memory of a device that is closed"),
            &other.bytes(ELSEWHERE, LONG),
            &mark,
        )?;
        drop(ioas);
    }
    TestDevice::open(mdev, target)?.expect_works()
}

fn cdev_dma_pins_the_queues_alone(target: &Target) -> Outcome {
    let (device, mut writer) = long_written(target)?;
    let other = GuestMemory::new(ELSEWHERE, MIB as usize)?;
    other.attach(device.space())?;
    let command = writer.transfer(nvm::READ, LONG as u64, ELSEWHERE);
    let queue = writer.queue();
    let target = &target.through_cdev();
    let queues = queue_pages(&writer.driver).len() as u64 * PAGE / 1024;
    for _ in 0..30 {
        for _ in 0..8 {
            writer.driver.post(queue, command);
        }
        writer.driver.ring(queue)?;
        same("pinned KiB while it works", pinned(target)?, queues)?;
        for _ in 0..8 {
            let status = writer.driver.wait(queue)?.status;
            same("status", status, Status::SUCCESS)?;
        }
        same("pinned KiB when it has worked", pinned(target)?, queues)?;
    }
    writer.driver.disable()?;
    same("pinned KiB without queues", pinned(target)?, 0)
}

fn cdev_dma_unmap_of_the_queues_while_they_are_used(target: &Target) -> Outcome {
    let (device, mut writer) = written(target)?;
    for round in 0..20 {
        unmap_while_used(&mut writer.driver, device.space(), 1 + round)?;
        same(
            "pinned KiB once unmapped",
            pinned(&target.through_cdev())?,
            0,
        )?;
        expect_fatal(&mut writer.driver)?;
        device.memory()?.attach(device.space())?;
        device.reset()?;
        writer.restart()?;
        writer.write(0, 0xff)?;
    }
    Ok(())
}

fn cdev_dma_read_only_memory_is_not_written(target: &Target) -> Outcome {
    let (device, mut writer) = written(target)?;
    let mapping = Arc::new(Mapping::anonymous(MIB as usize).map_err(Stop::failed)?);
    let content = Random::new(7).bytes(PAGE as usize);
    mapping.write(0, &content);
    device
        .space()
        .map_for(ELSEWHERE, &mapping, Access::ReadOnly)?;
    same(
        "status of a read into it",
        writer.attempt(nvm::READ, 0, ELSEWHERE)?,
        Status::TRANSFER_ERROR,
    )?;
    let mut seen = [0; PAGE as usize];
    mapping.read(0, &mut seen);
    same_bytes("memory that may only be read", &seen, &content)?;
    same(
        "status of a write out of it",
        writer.attempt(nvm::WRITE, 1, ELSEWHERE)?,
        Status::SUCCESS,
    )?;
    let data = writer.driver.data(8 * PAGE);
    writer.read(1, data)?;
    same_bytes(
        "data",
        &device.memory()?.bytes(data, content.len()),
        &content,
    )?;
    // And in the other direction.
    let written = Arc::new(Mapping::anonymous(MIB as usize).map_err(Stop::failed)?);
    device
        .space()
        .map_for(ELSEWHERE + MIB, &written, Access::WriteOnly)?;
    same(
        "status of a write out of what may only be written",
        writer.attempt(nvm::WRITE, 2, ELSEWHERE + MIB)?,
        Status::TRANSFER_ERROR,
    )?;
    same(
        "status of a read into it",
        writer.attempt(nvm::READ, 1, ELSEWHERE + MIB)?,
        Status::SUCCESS,
    )?;
    written.read(0, &mut seen);
    same_bytes("data", &seen, &content)
}

fn cdev_dma_across_two_mappings(target: &Target) -> Outcome {
    let (device, mut writer) = written(target)?;
    let first = GuestMemory::new(ELSEWHERE, MIB as usize)?;
    let second = GuestMemory::new(ELSEWHERE + MIB, MIB as usize)?;
    first.attach(device.space())?;
    second.attach(device.space())?;
    // Half of it here, half of it there.
    let at = ELSEWHERE + MIB - PAGE / 2;
    let command = writer.transfer(nvm::READ, PAGE, at);
    let queue = writer.queue();
    writer.driver.succeed(queue, command)?;
    let half = PAGE as usize / 2;
    same_bytes("first half", &first.bytes(at, half), &ONES[..half])?;
    same_bytes(
        "second half",
        &second.bytes(ELSEWHERE + MIB, half),
        &ONES[..half],
    )?;
    // A command fails as a whole if half of its memory is unmapped.
    second.detach(device.space())?;
    let status = writer.driver.execute(queue, command)?.status;
    same("status", status, Status::TRANSFER_ERROR)
}

fn cdev_dma_goes_to_the_address_space_that_it_was_attached_to_last(target: &Target) -> Outcome {
    let device = TestDevice::new(&target.through_cdev())?;
    let session = device.cdev()?;
    let other = Arc::new(session.iommufd.ioas()?);
    let memories = [
        device.memory()?.clone(),
        GuestMemory::new(MEMORY, device.memory()?.size() as usize)?,
    ];
    memories[1].attach(&*other)?;
    for round in 0..6u8 {
        let which = usize::from(round % 2);
        session.cdev.attach([&session.ioas, &other][which])?;
        let untouched = &memories[1 - which];
        let before = untouched.bytes(MEMORY, untouched.size() as usize);
        let mut writer = Writer::on(device.vfio(), &memories[which], target)?;
        writer.write(0, round)?;
        let data = writer.driver.data(8 * PAGE);
        writer.read(0, data)?;
        same_bytes(
            "data",
            &memories[which].bytes(data, ONES.len()),
            &[round; PAGE as usize],
        )?;
        same_bytes(
            "memory of the other address space",
            &untouched.bytes(MEMORY, before.len()),
            &before,
        )?;
    }
    session.cdev.detach()?;
    Ok(())
}

fn cdev_dma_goes_into_the_memory_of_another_device(target: &Target) -> Outcome {
    let iommufd = Iommufd::open()?;
    let ioas = Arc::new(iommufd.ioas()?);
    let first = TestDevice::new_in(target, &iommufd, &ioas, MEMORY)?;
    let second = TestDevice::new_in(target, &iommufd, &ioas, SECOND_MEMORY)?;
    let mut writers = [Writer::new(&first)?, Writer::new(&second)?];
    // From the one namespace to the other, by way of the other's memory.
    writers[0].write(0, 0xff)?;
    let address = writers[1].driver.data(16 * PAGE);
    writers[0].read(0, address)?;
    same(
        "status",
        writers[1].attempt(nvm::WRITE, 5, address)?,
        Status::SUCCESS,
    )?;
    let address = writers[0].driver.data(32 * PAGE);
    writers[1].read(5, address)?;
    same_bytes("data", &first.memory()?.bytes(address, ONES.len()), &ONES)
}

fn cdev_dma_goes_on_when_the_iommufd_is_closed(target: &Target) -> Outcome {
    let iommufd = Iommufd::open()?;
    let mdev = target.subject()?;
    let file: Cdev = Cdev::open(&mdev)?;
    file.bind(&iommufd)?;
    let ioas = iommufd.ioas()?;
    let memory = GuestMemory::new(MEMORY, 4 * MIB as usize)?;
    memory.attach(&ioas)?;
    file.attach(&ioas)?;
    let mut writer = Writer::on(file.device(), &memory, target)?;
    writer.write(0, 1)?;

    ioas.leave();
    drop(iommufd);
    writer.write(0, 0xff)?;
    let data = writer.driver.data(8 * PAGE);
    writer.read(0, data)?;
    same_bytes("data", &memory.bytes(data, ONES.len()), &ONES)?;
    let migration = Migration::new(file.device());
    let save = migration.begin(State::STOP_COPY)?;
    let stream = save.read_all(PIECE)?;
    drop((writer, migration, file));
    // The close of the last file has freed everything.
    refused("read after that", save.read(&mut [0; 8]), Errno::NODEV)?;
    let device = TestDevice::open(mdev, target)?;
    device.resume(&stream)?;
    device.expect_works()
}

/// The content of the page that the other process gives.
fn given() -> Vec<u8> {
    Random::new(99).bytes(PAGE as usize)
}

/// The word that the other process prints once its memory is mapped.
const MAPPED: &str = "mapped";

/// The other process of `cdev_dma_goes_to_another_process_until_it_ends`: maps memory of its own in an IOAS
/// of the iommufd that is its standard input, prints a word, and waits until the first page is all ones.
pub fn map_for_another_process(ioas: u32) -> Outcome {
    let iommufd = rustix::stdio::stdin()
        .try_clone_to_owned()
        .map_err(Stop::failed)?;
    let ioas = vfio_client::Iommufd::from(iommufd).existing_ioas(ioas);
    let memory = GuestMemory::new(ELSEWHERE, MIB as usize)?;
    memory.write(ELSEWHERE + PAGE, &given());
    memory.attach(&ioas)?;
    println!("{MAPPED}");
    let start = Instant::now();
    while memory.bytes(ELSEWHERE, ONES.len()) != ONES {
        holds(start.elapsed() < PATIENCE, "expected ones, seen none")?;
        thread::yield_now();
    }
    ioas.leave();
    Ok(())
}

fn cdev_dma_goes_to_another_process_until_it_ends(target: &Target) -> Outcome {
    let (device, mut writer) = written(target)?;
    let session = device.cdev()?;
    let iommufd = session
        .iommufd
        .as_fd()
        .try_clone_to_owned()
        .map_err(Stop::failed)?;
    let map = ["--map", &session.ioas.id().to_string()];
    let mut other = second_process::start(&map, iommufd, MAPPED)?;
    same(
        "status of a write out of its memory",
        writer.attempt(nvm::WRITE, 3, ELSEWHERE + PAGE)?,
        Status::SUCCESS,
    )?;
    let data = writer.driver.data(8 * PAGE);
    writer.read(3, data)?;
    same_bytes("data", &device.memory()?.bytes(data, ONES.len()), &given())?;
    same(
        "status of a read into its memory",
        writer.attempt(nvm::READ, 0, ELSEWHERE)?,
        Status::SUCCESS,
    )?;
    let ended = other.wait().map_err(Stop::failed)?;
    holds(ended.success(), format_args!("other process: {ended}"))?;
    // The range is mapped, but the memory is gone with its process.
    for (opcode, page) in [(nvm::READ, 0), (nvm::WRITE, 1)] {
        same(
            format_args!("status of {opcode:#x} once it has ended"),
            writer.attempt(opcode, page, ELSEWHERE)?,
            Status::TRANSFER_ERROR,
        )?;
    }
    same("bytes unmapped", device.space().unmap(ELSEWHERE, MIB)?, MIB)?;
    device.expect_works()
}
