// SPDX-License-Identifier: GPL-2.0

//! The data files: reads, writes and polls, well formed and malformed.

use std::time::Duration;

use rustix::event::PollFlags;
use rustix::fs::seek;
use rustix::fs::SeekFrom;
use vfio_client::sys;
use vfio_client::sys::Request;
use vfio_client::v2::State;
use vfio_client::Errno;
use vfio_client::Mapping;

use crate::case::cases;
use crate::case::Case;
use crate::check::bare;
use crate::check::holds;
use crate::check::refused;
use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::check::Stop;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v2::device::TestDevice;
use crate::v2::device::Writer;
use crate::v2::device::PATIENCE;
use crate::v2::device::PIECE;

const NEEDS: &[Requirement] = &[Requirement::V2];

/// Cases of any device.
pub const CASES: &[Case] = cases![
    NEEDS;
    file_pieces_of_any_size_make_the_same_stream [Driver, Pair],
    file_ends_for_good_in_stop_copy,
    file_ends_for_now_in_pre_copy [P2p, PreCopy, Driver, Pair],
    file_is_always_readable_in_stop_copy,
    file_is_writable_in_resuming,
    file_goes_one_way [PreCopy],
    file_has_no_positions,
    file_cannot_be_mapped,
    file_reads_and_writes_of_nothing_do_nothing [Driver, Pair],
    file_bad_addresses_lose_nothing [Driver, Pair],
    file_knows_one_ioctl [PreCopy],
];
const STORAGE_NEEDS: &[Requirement] = &[Requirement::V2, Requirement::Nvme, Requirement::PreCopy];

/// Cases of a device with storage.
pub const STORAGE: &[Case] = cases![
    STORAGE_NEEDS;
    file_a_write_of_the_device_wakes_a_poll,
    file_is_readable_while_another_thread_reads,
    file_the_end_of_pre_copy_wakes_a_poll,
];

fn file_pieces_of_any_size_make_the_same_stream(target: &Target) -> Outcome {
    for (seed, piece) in (1..).zip([1, 3, 31, 256, 4095, 65_536, 65_537, 4 << 20]) {
        let source = TestDevice::new(target)?;
        source.fill(seed)?;
        let stream = source.begin(State::STOP_COPY)?.read_all(piece)?;
        let device = TestDevice::new(target)?;
        device.begin(State::RESUMING)?.write_all(&stream, piece)?;
        device.set(State::RUNNING)?;
        device.expect_filled(seed)?;
    }
    Ok(())
}

fn file_ends_for_good_in_stop_copy(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let file = device.begin(State::STOP_COPY)?;
    let stream = file.read_all(PIECE)?;
    holds(!stream.is_empty(), "expected a stream, seen none")?;
    for nonblocking in [false, true] {
        file.set_nonblocking(nonblocking)?;
        for _ in 0..3 {
            same("read after the end", file.read(&mut [0; 16])?, 0)?;
        }
    }
    Ok(())
}

fn file_ends_for_now_in_pre_copy(target: &Target) -> Outcome {
    const SEED: u8 = 5;
    let source = TestDevice::new(target)?;
    source.fill(SEED)?;
    for state in [State::PRE_COPY, State::PRE_COPY_P2P] {
        let file = source.begin(state)?;
        let mut stream = file.read_all(PIECE)?;
        holds(!stream.is_empty(), "expected something, seen nothing")?;
        for nonblocking in [false, true] {
            file.set_nonblocking(nonblocking)?;
            refused(
                format_args!("read in {state} with O_NONBLOCK {nonblocking}"),
                file.read(&mut [0; 16]),
                Errno::NOMSG,
            )?;
            let ready = file.poll(PollFlags::IN | PollFlags::OUT, None)?;
            same("poll", ready, PollFlags::empty())?;
        }
        let none = source.set(State::STOP_COPY)?;
        same("second file", none.is_some(), false)?;
        stream.extend(file.read_all(PIECE)?);
        source.set(State::STOP)?;
        source.set(State::RUNNING)?;
        let device = TestDevice::new(target)?;
        device.resume(&stream)?;
        device.expect_filled(SEED)?;
    }
    Ok(())
}

fn file_is_always_readable_in_stop_copy(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let file = device.begin(State::STOP_COPY)?;
    let readable = |when: &str| {
        let ready = file.poll(PollFlags::IN, None)?;
        same(format_args!("poll {when}"), ready, PollFlags::IN)
    };
    readable("at first")?;
    file.read(&mut [0; 1])?;
    readable("after a byte")?;
    file.read_all(PIECE)?;
    readable("at the end")
}

fn file_is_writable_in_resuming(target: &Target) -> Outcome {
    let stream = TestDevice::new(target)?.save()?;
    let device = TestDevice::new(target)?;
    let file = device.begin(State::RESUMING)?;
    same("poll", file.poll(PollFlags::OUT, None)?, PollFlags::OUT)?;
    file.set_nonblocking(true)?;
    file.write_all(&stream, PIECE)?;
    same("poll", file.poll(PollFlags::OUT, None)?, PollFlags::OUT)
}

fn file_goes_one_way(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    for state in [State::PRE_COPY, State::STOP_COPY] {
        device.reset()?;
        let file = device.begin(state)?;
        refused("write of a save", file.write(&[0; 4]), Errno::BADF)?;
    }
    let file = device.begin(State::RESUMING)?;
    refused("read of a resume", file.read(&mut [0; 4]), Errno::BADF)?;
    device.reset()
}

fn file_has_no_positions(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    for state in [State::STOP_COPY, State::RESUMING] {
        let file = device.begin(state)?;
        for to in [SeekFrom::Start(0), SeekFrom::Current(0), SeekFrom::End(0)] {
            bare("lseek", seek(&file, to), Errno::SPIPE)?;
        }
        let mut byte = [0; 1];
        let read = rustix::io::pread(&file, &mut byte, 0);
        let write = rustix::io::pwrite(&file, &byte, 0);
        bare("pread", read, Errno::SPIPE)?;
        bare("pwrite", write, Errno::SPIPE)?;
    }
    device.reset()
}

fn file_cannot_be_mapped(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let file = device.begin(State::STOP_COPY)?;
    match Mapping::new(&file, 0, 4096) {
        Err(Errno::NODEV | Errno::ACCESS) => Ok(()),
        seen => Err(Stop::failed(format_args!(
            "mmap: expected ENODEV or EACCES, seen {seen:?}"
        ))),
    }
}

fn file_reads_and_writes_of_nothing_do_nothing(target: &Target) -> Outcome {
    const SEED: u8 = 99;
    let source = TestDevice::new(target)?;
    source.fill(SEED)?;
    let file = source.begin(State::STOP_COPY)?;
    same("read of nothing", file.read(&mut [])?, 0)?;
    let stream = file.read_all(PIECE)?;
    let device = TestDevice::new(target)?;
    let file = device.begin(State::RESUMING)?;
    same("write of nothing", file.write(&[])?, 0)?;
    file.write_all(&stream, PIECE)?;
    same("write of nothing at the end", file.write(&[])?, 0)?;
    device.set(State::RUNNING)?;
    device.expect_filled(SEED)
}

fn file_bad_addresses_lose_nothing(target: &Target) -> Outcome {
    const SEED: u8 = 42;
    let source = TestDevice::new(target)?;
    source.fill(SEED)?;
    let file = source.begin(State::STOP_COPY)?;
    let mut stream = vec![0; 10];
    for _ in 0..2 {
        bare(
            "read to nowhere",
            sys::read_nowhere(&file, 64),
            Errno::FAULT,
        )?;
    }
    same("read", file.read(&mut stream)?, 10)?;
    bare(
        "read to nowhere",
        sys::read_nowhere(&file, 64),
        Errno::FAULT,
    )?;
    stream.extend(file.read_all(PIECE)?);
    let device = TestDevice::new(target)?;
    let file = device.begin(State::RESUMING)?;
    bare(
        "write from nowhere",
        sys::write_nowhere(&file, 4),
        Errno::FAULT,
    )?;
    file.write_all(&stream[..20], PIECE)?;
    bare(
        "write from nowhere",
        sys::write_nowhere(&file, 4),
        Errno::FAULT,
    )?;
    file.write_all(&stream[20..], PIECE)?;
    device.set(State::RUNNING)?;
    device.expect_filled(SEED)
}

fn file_knows_one_ioctl(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let file = device.begin(State::PRE_COPY)?;
    file.precopy_info()?;
    for number in (0..64).filter(|number| Request::new(*number) != Request::GET_PRECOPY_INFO) {
        bare(
            format_args!("ioctl {number}"),
            sys::ioctl_value(&file, Request::new(number), 0),
            Errno::NOTTY,
        )?;
    }
    bare(
        "no address",
        sys::ioctl_value(&file, Request::GET_PRECOPY_INFO, 0),
        Errno::FAULT,
    )?;
    for argsz in 0..24 {
        bare(
            format_args!("argsz {argsz}"),
            file.precopy_info_with(argsz, 0),
            Errno::INVAL,
        )?;
    }
    same(
        "room to spare",
        file.precopy_info_with(100, 0).is_ok(),
        true,
    )?;
    device.set(State::STOP_COPY)?;
    bare("in STOP_COPY", file.precopy_info_with(24, 0), Errno::INVAL)?;
    device.set(State::STOP)?;
    let file = device.begin(State::RESUMING)?;
    bare("of a resume", file.precopy_info_with(24, 0), Errno::NOTTY)?;
    device.reset()
}

fn file_a_write_of_the_device_wakes_a_poll(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let mut writer = Writer::new(&device)?;
    let file = device.begin(State::PRE_COPY)?;
    for page in [3, 700, 3] {
        file.read_all(PIECE)?;
        let ready = std::thread::scope(|scope| {
            let poller = scope.spawn(|| file.poll(PollFlags::IN, Some(PATIENCE)));
            writer.write(page, page as u8)?;
            poller
                .join()
                .map_err(|_| Stop::failed("the polling thread panicked"))?
                .map_err(Stop::from)
        })?;
        same("poll", ready, PollFlags::IN)?;
        let bytes = file.read_all(PIECE)?;
        holds(
            bytes.len() >= 4096,
            format_args!("expected a page, seen {} bytes", bytes.len()),
        )?;
    }
    Ok(())
}

fn file_is_readable_while_another_thread_reads(target: &Target) -> Outcome {
    // Less than `fill()` writes to the namespace.
    const BYTES: usize = 8192;
    let device = TestDevice::new(target)?;
    device.fill(8)?;
    let file = device.begin(State::PRE_COPY)?;
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            (0..BYTES).try_for_each(|_| file.read(&mut [0; 1]).map_err(Stop::from).map(drop))
        });
        let mut polls = 0;
        while !reader.is_finished() {
            let ready = file.poll(PollFlags::IN, Some(Duration::ZERO))?;
            same(format_args!("poll {polls}"), ready, PollFlags::IN)?;
            let info = file.precopy_info()?;
            holds(
                info.bytes() > 0,
                format_args!("precopy info {polls}: expected something, seen {info:?}"),
            )?;
            polls += 1;
        }
        reader
            .join()
            .map_err(|_| Stop::failed("the reading thread panicked"))?
    })
}

fn file_the_end_of_pre_copy_wakes_a_poll(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    for state in [State::STOP_COPY, State::RUNNING] {
        device.reset()?;
        let file = device.begin(State::PRE_COPY)?;
        file.read_all(PIECE)?;
        let ready = std::thread::scope(|scope| {
            let poller = scope.spawn(|| file.poll(PollFlags::IN, Some(PATIENCE)));
            device.set(state)?;
            poller
                .join()
                .map_err(|_| Stop::failed("the polling thread panicked"))?
                .map_err(Stop::from)
        })?;
        holds(
            ready.contains(PollFlags::IN),
            format_args!("poll after {state}: expected readable, seen {ready:?}"),
        )?;
        if state == State::RUNNING {
            refused("read of a dead file", file.read(&mut [0]), Errno::NODEV)?;
        } else {
            same_bytes("magic number", &file.read_all(PIECE)?[..4], b"FRRY")?;
        }
    }
    Ok(())
}
