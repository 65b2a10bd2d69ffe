// SPDX-License-Identifier: GPL-2.0

//! The device's estimates of its data against the bytes that are then read.

use vfio_client::v2::State;
use vfio_client::Errno;
use vfio_drivers::random::Random;

use crate::case::cases;
use crate::case::Case;
use crate::check::bare;
use crate::check::holds;
use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::check::Stop;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v2::device::TestDevice;
use crate::v2::device::Writer;
use crate::v2::device::PIECE;

const NEEDS: &[Requirement] = &[Requirement::V2];

/// Cases of any device.
pub const CASES: &[Case] = cases![
    NEEDS;
    size_is_no_less_than_what_is_read [Driver],
    size_shrinks_as_it_is_read [Driver],
    precopy_info_is_what_is_read [PreCopy, Driver],
    precopy_info_flags_are_the_users_without_the_opt_in [PreCopy],
    precopy_info_flags_are_the_devices_with_the_opt_in [PreCopy],
    precopy_info_opt_in_ends_with_the_open [PreCopy],
];
const STORAGE_NEEDS: &[Requirement] = &[Requirement::V2, Requirement::Nvme, Requirement::PreCopy];

/// Cases of a device with storage.
pub const STORAGE: &[Case] = cases![
    STORAGE_NEEDS;
    precopy_info_initial_bytes_come_to_nothing_however_busy_the_device,
    size_counts_what_the_device_writes,
    size_counts_nothing_for_what_is_empty [Mdev],
    precopy_info_nothing_is_dirty_while_nothing_is_written,
    precopy_info_a_rewritten_disk_begins_anew_with_the_opt_in [Mdev],
    precopy_info_a_rewritten_disk_is_dirty_without_the_opt_in,
    precopy_info_beginning_anew_comes_to_an_end,
    precopy_info_does_not_begin_anew_where_it_is_invalid [P2p],
];

/// Pages of a disk that is large enough to begin anew: half of these are 4 MiB.
const LARGE: u64 = 2048;

/// By how much an estimate may be too high: blocks that share the headers of their records, and one
/// header that is the device's own.
fn at_most(read: u64) -> u64 {
    read + read / 50 + 1024
}

fn size_is_no_less_than_what_is_read(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(3)?;
    let running = device.migration.data_size()?;
    let file = device.begin(State::STOP_COPY)?;
    let stopped = device.migration.data_size()?;
    let read = file.read_all(PIECE)?.len() as u64;
    for (when, size) in [("in RUNNING", running), ("in STOP_COPY", stopped)] {
        holds(
            read <= size,
            format_args!("size {when}: expected at least {read}, seen {size}"),
        )?;
    }
    holds(
        stopped <= at_most(read),
        format_args!("size in STOP_COPY: expected about {read}, seen {stopped}"),
    )
}

fn size_shrinks_as_it_is_read(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(4)?;
    let file = device.begin(State::STOP_COPY)?;
    let mut random = Random::new(11);
    let mut bytes = vec![0; PIECE];
    let mut sizes = vec![device.migration.data_size()?];
    let mut read = vec![];
    loop {
        let piece = 1 + random.below(5000);
        let len = file.read(&mut bytes[..piece])?;
        if len == 0 {
            break;
        }
        read.push(len as u64);
        sizes.push(device.migration.data_size()?);
    }
    same("size at the end", sizes.last().copied(), Some(0))?;
    // The bytes left at each point against the device's word at that point.
    let mut left: u64 = read.iter().sum();
    for (i, size) in sizes.iter().enumerate() {
        holds(
            left <= *size && *size <= at_most(left),
            format_args!("size after {i} reads: expected about {left}, seen {size}"),
        )?;
        left -= read.get(i).copied().unwrap_or(0);
    }
    Ok(())
}

fn precopy_info_is_what_is_read(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(6)?;
    let file = device.begin(State::PRE_COPY)?;
    let first = file.precopy_info()?;
    holds(
        first.initial_bytes > 0 && first.dirty_bytes == 0,
        format_args!("expected only initial bytes, seen {first:?}"),
    )?;
    let mut last = first;
    let mut read = 0;
    let mut bytes = vec![0; 1000];
    while last.bytes() > 0 {
        read += file.read(&mut bytes)? as u64;
        let info = file.precopy_info()?;
        holds(
            info.bytes() < last.bytes(),
            format_args!("expected less than {last:?}, seen {info:?}"),
        )?;
        last = info;
    }
    holds(
        read <= first.bytes() && first.bytes() <= at_most(read),
        format_args!("{read} bytes read, seen {first:?} before"),
    )?;
    same(
        "rest of a pre-copy with nothing pending",
        file.read_all(PIECE)?.len(),
        0,
    )
}

fn precopy_info_flags_are_the_users_without_the_opt_in(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let file = device.begin(State::PRE_COPY)?;
    for flags in [0, 1, u32::MAX] {
        let seen = file.precopy_info_with(24, flags).map(|info| info.flags);
        same("flags", seen, Ok(flags))?;
    }
    Ok(())
}

fn precopy_info_flags_are_the_devices_with_the_opt_in(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.migration.use_precopy_info_v2()?;
    let file = device.begin(State::PRE_COPY)?;
    for flags in [0, 1, u32::MAX] {
        let seen = file.precopy_info_with(24, flags).map(|info| info.flags);
        same("flags", seen, Ok(0))?;
    }
    Ok(())
}

fn precopy_info_opt_in_ends_with_the_open(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.migration.use_precopy_info_v2()?;
    let device = TestDevice::open(device.close(), target)?;
    let file = device.begin(State::PRE_COPY)?;
    let seen = file.precopy_info_with(24, 7).map(|info| info.flags);
    same("flags", seen, Ok(7))
}

fn precopy_info_initial_bytes_come_to_nothing_however_busy_the_device(target: &Target) -> Outcome {
    const PAGES: u64 = 64;
    let device = TestDevice::new(target)?;
    let mut writer = Writer::new(&device)?;
    for page in 0..PAGES {
        writer.write(page, page as u8 | 0x80)?;
    }
    let file = device.begin(State::PRE_COPY)?;
    let mut bytes = vec![0; 16 << 10];
    let mut last = file.precopy_info()?.initial_bytes;
    for round in 0.. {
        let info = file.precopy_info()?;
        holds(
            info.initial_bytes <= last,
            format_args!(
                "round {round}: expected no more than {last} initial bytes, seen {info:?}"
            ),
        )?;
        last = info.initial_bytes;
        if last == 0 {
            break;
        }
        // Rounds by the time that everything was read twice.
        holds(
            round < 2 * PAGES,
            format_args!("expected no initial bytes after {round} rounds, seen {info:?}"),
        )?;
        // Faster than it is read.
        for page in 0..8 {
            writer.write((round * 8 + page) % PAGES, round as u8)?;
        }
        file.read(&mut bytes)?;
    }
    writer.write(1, 0x55)?;
    let info = file.precopy_info()?;
    holds(
        info.initial_bytes == 0 && info.dirty_bytes >= 4096,
        format_args!("expected dirty bytes only, seen {info:?}"),
    )
}

fn size_counts_what_the_device_writes(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let mut writer = Writer::new(&device)?;
    writer.write(0, 1)?;
    let before = device.migration.data_size()?;
    for page in 0..32 {
        writer.write(2 * page, 2)?;
    }
    let after = device.migration.data_size()?;
    holds(
        after >= before + 31 * 4096,
        format_args!("expected 31 pages more than {before}, seen {after}"),
    )?;
    let file = device.begin(State::PRE_COPY)?;
    file.read_all(PIECE)?;
    let given = device.migration.data_size()?;
    holds(
        given + 32 * 4096 <= after,
        format_args!("expected 32 pages less than {after}, seen {given}"),
    )
}

fn size_counts_nothing_for_what_is_empty(target: &Target) -> Outcome {
    // Eight records of zeros, one more where reading goes on in the middle, and the records that open a
    // stream.
    const MOST: u64 = 9 * 40 + 200;
    let device = TestDevice::new(target)?;
    let mut writer = Writer::new(&device)?;
    let idle = device.migration.data_size()?;
    writer.write_run(0, LARGE, 1)?;
    let file = device.begin(State::PRE_COPY)?;
    let mut stream = file.read_all(PIECE)?;
    for way in ["deallocated", "written with zeros"] {
        match way {
            "deallocated" => writer.deallocate(0, LARGE)?,
            _ => writer.write_run(0, LARGE, 0)?,
        }
        let info = file.precopy_info()?;
        holds(
            info.initial_bytes == 0 && info.dirty_bytes <= MOST,
            format_args!("{way}: expected {MOST} dirty bytes at most, seen {info:?}"),
        )?;
        let size = device.migration.data_size()?;
        holds(
            size <= idle + MOST,
            format_args!("{way}: expected {MOST} bytes more than {idle} at most, seen {size}"),
        )?;
        let read = file.read_all(PIECE)?;
        holds(
            read.len() as u64 <= info.dirty_bytes,
            format_args!("{way}: {} bytes read, seen {info:?} before", read.len()),
        )?;
        stream.extend(read);
        writer.write_run(0, LARGE, 2)?;
        stream.extend(file.read_all(PIECE)?);
    }
    writer.deallocate(1, LARGE - 2)?;
    device.set(State::STOP_COPY)?;
    stream.extend(file.read_all(PIECE)?);

    let device = TestDevice::new(target)?;
    device.resume(&stream)?;
    let mut writer = Writer::new(&device)?;
    let buffer = writer.driver.data(0);
    for (page, byte) in [
        (0, 2),
        (1, 0),
        (LARGE / 2, 0),
        (LARGE - 2, 0),
        (LARGE - 1, 2),
    ] {
        writer.read(page, buffer)?;
        let seen = writer.driver.memory().bytes(buffer, 4096);
        same_bytes(format_args!("page {page}"), &seen, &[byte; 4096])?;
    }
    Ok(())
}

fn precopy_info_nothing_is_dirty_while_nothing_is_written(target: &Target) -> Outcome {
    const PAGES: u64 = 100;
    let device = TestDevice::new(target)?;
    let mut writer = Writer::new(&device)?;
    // Each with a header of its own.
    for page in 0..PAGES {
        writer.write(2 * page, 7)?;
    }
    let mut random = Random::new(9);
    let mut bytes = vec![0; PIECE];
    for most in [5000, 70_000, PIECE] {
        let file = device.begin(State::PRE_COPY)?;
        let mut last = file.precopy_info()?;
        holds(
            last.initial_bytes > PAGES * 4096 && last.dirty_bytes == 0,
            format_args!("expected only initial bytes, seen {last:?}"),
        )?;
        while last.bytes() > 0 {
            let piece = 1 + random.below(most);
            let read = file.read(&mut bytes[..piece])? as u64;
            let info = file.precopy_info()?;
            holds(
                info.dirty_bytes == 0 && info.initial_bytes + read <= last.initial_bytes,
                format_args!("expected {read} bytes less than {last:?}, seen {info:?}"),
            )?;
            last = info;
        }
        device.set(State::RUNNING)?;
    }
    Ok(())
}

/// `VFIO_PRECOPY_INFO_REINIT`
const REINIT: u32 = 1;

fn precopy_info_a_rewritten_disk_begins_anew_with_the_opt_in(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.migration.use_precopy_info_v2()?;
    let mut writer = Writer::new(&device)?;
    writer.write_run(0, LARGE, 1)?;
    let file = device.begin(State::PRE_COPY)?;
    let first = file.precopy_info()?;
    same("flags at first", first.flags, 0)?;
    let mut stream = file.read_all(PIECE)?;
    writer.write_run(0, LARGE / 2, 2)?;
    let half = file.precopy_info()?;
    same("flags with half of it written", half.flags, 0)?;
    same("initial bytes then", half.initial_bytes, 0)?;
    writer.write_run(LARGE / 2, 100, 2)?;
    // A user that asks again without a read in between relies on the first answer.
    let more = file.precopy_info()?;
    same("flags where nothing was read", more.flags, 0)?;
    let mut bytes = [0; 4096];
    let len = file.read(&mut bytes)?;
    stream.extend(&bytes[..len]);
    let info = file.precopy_info()?;
    same("flags when something was read", info.flags, REINIT)?;
    same("dirty bytes then", info.dirty_bytes, 0)?;
    holds(
        info.initial_bytes > half.dirty_bytes,
        format_args!("expected more than {half:?}, seen {info:?}"),
    )?;
    let again = file.precopy_info()?;
    same("flags after it was told", again.flags, 0)?;
    same(
        "initial bytes then",
        again.initial_bytes,
        info.initial_bytes,
    )?;
    stream.extend(file.read_all(PIECE)?);
    same("what is left", file.precopy_info()?.bytes(), 0)?;
    device.set(State::STOP_COPY)?;
    stream.extend(file.read_all(PIECE)?);

    let device = TestDevice::new(target)?;
    device.resume(&stream)?;
    let mut writer = Writer::new(&device)?;
    let buffer = writer.driver.data(0);
    for (page, byte) in [(0, 2), (LARGE / 2, 2), (LARGE / 2 + 100, 1), (LARGE - 1, 1)] {
        writer.read(page, buffer)?;
        let seen = writer.driver.memory().bytes(buffer, 4096);
        same_bytes(format_args!("page {page}"), &seen, &[byte; 4096])?;
    }
    Ok(())
}

fn precopy_info_a_rewritten_disk_is_dirty_without_the_opt_in(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let mut writer = Writer::new(&device)?;
    writer.write_run(0, LARGE, 1)?;
    let file = device.begin(State::PRE_COPY)?;
    file.read_all(PIECE)?;
    writer.write_run(0, LARGE, 2)?;
    for flags in [0, REINIT, u32::MAX] {
        let info = file.precopy_info_with(24, flags).map_err(Stop::failed)?;
        same("flags", info.flags, flags)?;
        same("initial bytes", info.initial_bytes, 0)?;
        holds(
            info.dirty_bytes > LARGE * 4096,
            format_args!("expected {LARGE} dirty pages, seen {info:?}"),
        )?;
    }
    Ok(())
}

fn precopy_info_beginning_anew_comes_to_an_end(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.migration.use_precopy_info_v2()?;
    let mut writer = Writer::new(&device)?;
    writer.write_run(0, LARGE, 1)?;
    let file = device.begin(State::PRE_COPY)?;
    let mut begun = 0;
    for round in 0..8 {
        file.read_all(PIECE)?;
        writer.write_run(0, LARGE, round)?;
        begun += u32::from(file.precopy_info()?.flags == REINIT);
    }
    same("how often a busy disk began anew", begun, 3)
}

fn precopy_info_does_not_begin_anew_where_it_is_invalid(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.migration.use_precopy_info_v2()?;
    let mut writer = Writer::new(&device)?;
    writer.write_run(0, LARGE, 1)?;
    let file = device.begin(State::PRE_COPY)?;
    file.read_all(PIECE)?;
    writer.write_run(0, LARGE, 2)?;
    // A device in P2P is about to be stopped.
    device.set(State::PRE_COPY_P2P)?;
    same("flags in PRE_COPY_P2P", file.precopy_info()?.flags, 0)?;
    device.set(State::STOP_COPY)?;
    bare("in STOP_COPY", file.precopy_info_with(24, 0), Errno::INVAL)?;
    device.set(State::RUNNING)?;
    bare("in RUNNING", file.precopy_info_with(24, 0), Errno::INVAL)?;
    let file = device.begin(State::PRE_COPY)?;
    let info = file.precopy_info()?;
    same("flags of the next session", info.flags, 0)?;
    holds(
        info.initial_bytes > LARGE * 4096 && info.dirty_bytes == 0,
        format_args!("expected only initial bytes, seen {info:?}"),
    )
}
