// SPDX-License-Identifier: GPL-2.0

//! The device's dirty log, `VFIO_DEVICE_FEATURE_DMA_LOGGING_*`.

use std::collections::BTreeSet;
use std::thread;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use vfio_client::sys::PageFaults;
use vfio_client::v2::Feature;
use vfio_client::v2::GET;
use vfio_client::v2::SET;
use vfio_client::Errno;
use vfio_client::Mapping;
use vfio_drivers::nvme::PAGE;

use crate::case::cases;
use crate::case::Case;
use crate::check::holds;
use crate::check::refused;
use crate::check::same;
use crate::check::Outcome;
use crate::check::Stop;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v2::device::TestDevice;
use crate::v2::device::Writer;

const NEEDS: &[Requirement] = &[Requirement::V2];

/// Cases of any device.
pub const CASES: &[Case] = cases![
    NEEDS;
    logging_is_all_there_or_not_at_all [Driver],
    logging_is_started_once_and_stopped_once [DirtyLog, Driver],
    logging_takes_ranges_however_large [DirtyLog, Driver],
    logging_refuses_bad_ranges [DirtyLog],
    logging_ends_with_the_open [DirtyLog, Driver],
];
const STORAGE_NEEDS: &[Requirement] = &[Requirement::V2, Requirement::Nvme, Requirement::DirtyLog];

/// Cases of a device with storage, which writes memory.
pub const STORAGE: &[Case] = cases![
    STORAGE_NEEDS;
    logging_shows_what_the_device_writes_and_nothing_else,
    logging_of_large_pages_shows_them_whole,
    logging_asked_for_in_pieces_leaves_nothing,
    logging_reports_to_slow_memory_while_the_device_works,
];

const RANGE: (u64, u64) = (0, 1 << 30);

pub fn logging_is_all_there_or_not_at_all(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let log = &device.migration;
    let features = [
        (Feature::LOGGING_START, SET),
        (Feature::LOGGING_STOP, SET),
        (Feature::LOGGING_REPORT, GET),
    ];
    if log.probe(Feature::LOGGING_START, SET).is_ok() {
        for (feature, how) in features {
            log.probe(feature, how)?;
        }
        // The kernel can report it.
        log.start_logging(PAGE, &[RANGE])?;
        log.take_logged(RANGE.0, RANGE.1, PAGE)?;
        log.stop_logging()?;
        return device.expect_works();
    }
    for (feature, how) in features {
        refused(
            format_args!("probe of {feature:?}"),
            log.probe(feature, how),
            Errno::NOTTY,
        )?;
    }
    refused("start", log.start_logging(PAGE, &[RANGE]), Errno::NOTTY)?;
    refused("stop", log.stop_logging(), Errno::NOTTY)?;
    refused(
        "report",
        log.take_logged(RANGE.0, RANGE.1, PAGE),
        Errno::NOTTY,
    )?;
    device.expect_works()
}

pub fn logging_is_started_once_and_stopped_once(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let log = &device.migration;
    for _ in 0..2 {
        refused(
            "report without a start",
            log.take_logged(RANGE.0, RANGE.1, PAGE),
            Errno::INVAL,
        )?;
        refused("stop without a start", log.stop_logging(), Errno::INVAL)?;
        same("size of a page", log.start_logging(PAGE, &[RANGE])?, PAGE)?;
        refused(
            "second start",
            log.start_logging(PAGE, &[RANGE]),
            Errno::INVAL,
        )?;
        let words = log.take_logged(RANGE.0, RANGE.1, PAGE)?;
        same(
            "words with a bit",
            words.iter().any(|word| *word != 0),
            false,
        )?;
        device.reset()?;
        // The log is the VMM's: a reset by the guest keeps it.
        log.take_logged(RANGE.0, RANGE.1, PAGE)?;
        log.stop_logging()?;
    }
    device.expect_works()
}

fn logging_takes_ranges_however_large(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let log = &device.migration;
    for (length, size) in [
        (1 << 38, PAGE),
        (1 << 39, 2 * PAGE),
        (1 << 52, 1 << 26),
        (1 << 63, 1 << 37),
    ] {
        same(
            format_args!("size of a page of {length:#x} bytes"),
            log.start_logging(PAGE, &[(0, length)])?,
            size,
        )?;
        log.take_logged(0, 1 << 30, PAGE)?;
        log.stop_logging()?;
    }
    let many: Vec<(u64, u64)> = (0..256).map(|i| (i << 40, 1 << 20)).collect();
    same("size", log.start_logging(PAGE, &many)?, PAGE)?;
    log.stop_logging()?;
    for size in [PAGE, 1 << 16, 1 << 21, 1 << 30] {
        same("size", log.start_logging(size, &[RANGE])?, size)?;
        log.stop_logging()?;
    }
    device.expect_works()
}

fn logging_refuses_bad_ranges(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let log = &device.migration;
    for (what, size, ranges, errno) in [
        ("no range", PAGE, vec![], Errno::INVAL),
        ("257 ranges", PAGE, vec![RANGE; 257], Errno::TOOBIG),
        ("overlap", PAGE, vec![RANGE, RANGE], Errno::INVAL),
        ("odd start", PAGE, vec![(1, PAGE)], Errno::INVAL),
        ("odd length", PAGE, vec![(0, PAGE + 1)], Errno::INVAL),
        ("odd page", 3 * PAGE, vec![(0, 0)], Errno::INVAL),
        ("nothing", PAGE, vec![(0, 0)], Errno::INVAL),
        ("nothing elsewhere", PAGE, vec![(1 << 30, 0)], Errno::INVAL),
        (
            "nothing behind something",
            PAGE,
            vec![RANGE, (RANGE.0 + RANGE.1, 0)],
            Errno::INVAL,
        ),
        (
            "wrapped",
            PAGE,
            vec![(!(PAGE - 1), 2 * PAGE)],
            Errno::OVERFLOW,
        ),
    ] {
        refused(what, log.start_logging(size, &ranges), errno)?;
    }
    // No refused call has started the log.
    log.start_logging(PAGE, &[RANGE])?;
    log.stop_logging()?;
    Ok(())
}

pub fn logging_ends_with_the_open(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.migration.start_logging(PAGE, &[RANGE])?;
    let device = TestDevice::open(device.close(), target)?;
    refused(
        "report of the former user's log",
        device.migration.take_logged(RANGE.0, RANGE.1, PAGE),
        Errno::INVAL,
    )?;
    device.migration.start_logging(PAGE, &[RANGE])?;
    device.migration.stop_logging()?;
    device.expect_works()
}

/// The pages of a bitmap from `start` on.
fn pages(start: u64, size: u64, words: &[u64]) -> BTreeSet<u64> {
    (0..words.len() as u64 * 64)
        .filter(|page| words[(page / 64) as usize] >> (page % 64) & 1 != 0)
        .map(|page| start + page * size)
        .collect()
}

pub fn logging_shows_what_the_device_writes_and_nothing_else(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let log = &device.migration;
    let mut writer = Writer::new(&device)?;
    let memory = device.memory()?.clone();
    let (start, length) = (memory.start(), memory.size());
    let take = || -> Outcome<BTreeSet<u64>> {
        Ok(pages(start, PAGE, &log.take_logged(start, length, PAGE)?))
    };
    log.start_logging(PAGE, &[(start, length)])?;
    same(
        "pages before anything was written",
        take()?,
        BTreeSet::new(),
    )?;
    for round in 0..8 {
        let mut expected = BTreeSet::from([writer.completions()]);
        // Pages that the device reads are clean, pages that it writes are dirty.
        writer.write(round, 1)?;
        for page in [0, 3 * round, 100 + round, 700] {
            let address = writer.driver.data(page * PAGE);
            writer.read(round, address)?;
            expected.insert(address);
        }
        same(format_args!("pages of round {round}"), take()?, expected)?;
        same("pages after that", take()?, BTreeSet::new())?;
    }
    // A report of a part leaves the rest in the log.
    let (low, high) = (writer.driver.data(0), writer.driver.data(64 * PAGE));
    writer.read(0, low)?;
    writer.read(0, high)?;
    let part = log.take_logged(start, high - start, PAGE)?;
    same(
        "pages of the part",
        pages(start, PAGE, &part).contains(&low),
        true,
    )?;
    same("pages of the rest", take()?, BTreeSet::from([high]))?;
    log.stop_logging()?;
    writer.read(0, low)?;
    log.start_logging(PAGE, &[(start, length)])?;
    same("pages of a new log", take()?, BTreeSet::new())?;
    log.stop_logging()?;
    Ok(())
}

pub fn logging_of_large_pages_shows_them_whole(target: &Target) -> Outcome {
    const LARGE: u64 = 1 << 20;
    let device = TestDevice::new(target)?;
    let log = &device.migration;
    let mut writer = Writer::new(&device)?;
    let (start, length) = (device.memory()?.start(), device.memory()?.size());
    log.start_logging(LARGE, &[(start, length)])?;
    let address = writer.driver.data(300 * PAGE);
    let large = address / LARGE * LARGE;
    writer.read(0, address)?;
    let words = log.take_logged(start, length, LARGE)?;
    holds(
        pages(start, LARGE, &words).contains(&large),
        "expected the page, seen none",
    )?;
    // Half of it is asked for, which takes nothing away from the other half.
    writer.read(0, address)?;
    for half in [0, LARGE / 2] {
        let words = log.take_logged(large + half, LARGE / 2, PAGE)?;
        same(
            format_args!("pages of the half at {half:#x}"),
            pages(large + half, PAGE, &words).len() as u64,
            LARGE / 2 / PAGE,
        )?;
    }
    let words = log.take_logged(large, LARGE, PAGE)?;
    same(
        "pages once both halves were asked for",
        pages(large, PAGE, &words),
        BTreeSet::new(),
    )?;
    log.stop_logging()?;
    Ok(())
}

/// A VMM asks for its guest's memory in pieces that need not be whole pages of the log, which are larger
/// than it asked for where the range is.
fn logging_asked_for_in_pieces_leaves_nothing(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let log = &device.migration;
    let mut writer = Writer::new(&device)?;
    for (range, size) in [(1 << 39, 2 * PAGE), (1 << 44, 64 * PAGE)] {
        same(
            format_args!("size of a page of {range:#x} bytes"),
            log.start_logging(PAGE, &[(0, range)])?,
            size,
        )?;
        let address = writer.driver.data(100 * PAGE);
        let large = address / size * size;
        let whole: BTreeSet<u64> = (large..large + size).step_by(PAGE as usize).collect();
        // Five pages each, across the border of the log's page, so that no piece has it whole.
        const PIECE: u64 = 5 * PAGE;
        let first = large.saturating_sub(3 * PAGE);
        let ask = |from: u64, to: u64| -> Outcome<BTreeSet<u64>> {
            let mut seen = BTreeSet::new();
            for at in (from..to).step_by(PIECE.min(size - PAGE) as usize) {
                let length = PIECE.min(size - PAGE).min(to - at);
                seen.append(&mut pages(at, PAGE, &log.take_logged(at, length, PAGE)?));
            }
            seen.retain(|page| whole.contains(page));
            Ok(seen)
        };
        let end = large + size + 3 * PAGE;
        for round in 0..3 {
            writer.read(round, address)?;
            same(
                format_args!("pages of round {round} in pages of {size:#x}"),
                ask(first, end)?,
                whole.clone(),
            )?;
            same("pages after that", ask(first, end)?, BTreeSet::new())?;
        }
        // What is written between two pieces is told by the second, and once more by the next first.
        writer.read(0, address)?;
        let (front, back): (BTreeSet<u64>, BTreeSet<u64>) =
            whole.iter().partition(|page| **page < large + PAGE);
        same(
            "pages of the front",
            ask(first, large + PAGE)?,
            front.clone(),
        )?;
        writer.read(1, address)?;
        same("pages of the back", ask(large + PAGE, end)?, back)?;
        same("pages of the front, written anew", ask(first, end)?, front)?;
        same("pages at last", ask(first, end)?, BTreeSet::new())?;
        log.stop_logging()?;
    }
    Ok(())
}

fn logging_reports_to_slow_memory_while_the_device_works(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let log = &device.migration;
    let mut writer = Writer::new(&device)?;
    let memory = device.memory()?.clone();
    let (start, length) = (memory.start(), memory.size());
    // A write to this memory waits until `faults` are dropped.
    let bitmap = Mapping::anonymous(PAGE as usize).map_err(Stop::failed)?;
    let faults = PageFaults::new().map_err(Stop::failed)?;
    faults.of(&bitmap).map_err(Stop::failed)?;

    log.start_logging(PAGE, &[(start, length)])?;
    let address = writer.driver.data(PAGE);
    writer.read(0, address)?;
    thread::scope(|scope| -> Outcome {
        let report = scope.spawn(|| log.take_logged_into(start, length, PAGE, &bitmap));
        let waits = rustix::event::poll(&mut [PollFd::new(&faults, PollFlags::IN)], None);
        // The device writes, and so logs.
        let worked = writer.read(1, address).and_then(|()| device.reset());
        drop(faults);
        let reported = report.join();

        waits.map_err(Stop::failed)?;
        worked?;
        reported.map_err(|_| Stop::failed("the report's thread panicked"))??;
        Ok(())
    })?;
    log.stop_logging()?;
    Ok(())
}
