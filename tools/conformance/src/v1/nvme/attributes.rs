// SPDX-License-Identifier: GPL-2.0

//! The attributes of a controller, which an administrator sets while it is closed.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::fs::FileExt;

use vfio_client::mdev::random_uuid;
use vfio_client::Errno;
use vfio_client::GroupSession;
use vfio_drivers::nvme;
use vfio_drivers::nvme::admin;
use vfio_drivers::nvme::content;
use vfio_drivers::nvme::nvm;
use vfio_drivers::nvme::register;
use vfio_drivers::nvme::Command;
use vfio_drivers::nvme::Controller;
use vfio_drivers::nvme::Status;
use vfio_drivers::nvme::PAGE;

use crate::case::cases;
use crate::case::Case;
use crate::check::denied;
use crate::check::holds;
use crate::check::one_of;
use crate::check::refused;
use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::check::Stop;
use crate::kmsg::expect_line;
use crate::requirement::Requirement;
use crate::subject::Subject;
use crate::target::Target;
use crate::v1::nvme::disk::create;
use crate::v1::nvme::disk::field;
use crate::v1::nvme::disk::refuses_two_writers;
use crate::v1::nvme::disk::Disk;
use crate::v1::nvme::disk::Scratch;
use crate::v1::nvme::disk::CAPACITY;
use crate::v1::nvme::disk::DEPTH;
use crate::v1::nvme::disk::FILE;
use crate::v1::nvme::disk::POLL;
use crate::v1::nvme::disk::QUEUES;
use crate::v1::nvme::disk::SERIAL;
use crate::v1::nvme::disk::STORE;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::Nvme];

pub const CASES: &[Case] = cases![
    NEEDS;
    nvme_attributes_have_their_defaults,
    nvme_serial_numbers_differ_wherever_the_uuids_do [Mdev],
    nvme_attributes_reach_the_guest [Mdev],
    nvme_attributes_bad_values_change_nothing [Mdev],
    nvme_attributes_bad_values_are_explained [Mdev],
    nvme_attributes_are_busy_while_open [Mdev],
    nvme_attributes_of_a_controller_are_its_own [Mdev],
    nvme_attributes_in_any_order [Mdev],
    nvme_capacity_bounds [Mdev],
    nvme_capacity_of_a_file_is_the_files [Mdev],
    nvme_capacity_of_a_file_is_not_bounded_by_memory [Mdev],
    nvme_file_that_cannot_be_one_is_refused [Mdev],
    nvme_file_of_another_kind_is_refused_when_it_is_named [Mdev],
    nvme_file_is_named_by_an_absolute_path [Mdev],
    nvme_file_stays_the_one_that_was_named [Mdev],
    nvme_file_stays_named_when_its_mount_is_gone [Mdev],
    nvme_file_refuses_two_writers [Mdev],
    nvme_file_is_free_once_its_controller_is_closed [Mdev],
    nvme_file_is_no_failure_when_it_is_not_in_use [Mdev],
];

const FORMAT_NEEDS: &[Requirement] = &[Requirement::V1, Requirement::Nvme];

/// Cases for which the size of a logical block makes a difference.
pub const FORMAT: &[Case] = cases![
    FORMAT_NEEDS;
    nvme_attributes_reach_the_guest [Mdev],
    nvme_capacity_bounds [Mdev],
];

const ALL: [&str; 6] = [CAPACITY, FILE, POLL, QUEUES, SERIAL, STORE];

fn nvme_attributes_have_their_defaults(target: &Target) -> Outcome {
    let mdev = target.subject()?;
    for (name, value) in [
        (STORE, "ram"),
        (CAPACITY, "67108864"),
        (FILE, ""),
        (POLL, "0"),
        (QUEUES, "16"),
    ] {
        same(name, mdev.attribute(name)?, value.to_string())?;
    }
    let serial = mdev.attribute(SERIAL)?;
    holds(
        (1..=20).contains(&serial.len()) && serial.bytes().all(|byte| byte.is_ascii_graphic()),
        format_args!("expected 1 to 20 printable characters as serial number, seen {serial:?}"),
    )?;
    let other = target.subject()?;
    holds(
        other.attribute(SERIAL)? != serial,
        format_args!("expected another serial number for another controller, seen {serial} twice"),
    )
}

fn nvme_serial_numbers_differ_wherever_the_uuids_do(target: &Target) -> Outcome {
    let serial = |uuid: &str| -> Outcome<String> {
        let mdev = target.mdev_type()?.create_called(uuid.to_owned())?;
        Ok(mdev.attribute(SERIAL)?)
    };
    let uuid = random_uuid()?;
    let first = serial(&uuid)?;
    same("length of the serial number", first.len(), 20)?;
    for (at, digit) in uuid.bytes().enumerate() {
        // At one digit another one, and the rest the same, as time makes it in a UUID of version 1.
        let another = match digit {
            b'-' => continue,
            b'0' => "1",
            _ => "0",
        };
        let mut other = uuid.clone();
        other.replace_range(at..=at, another);
        holds(
            serial(&other)? != first,
            format_args!(
                "expected another serial number for {other} than for {uuid}, seen {first}"
            ),
        )?;
    }
    Ok(())
}

fn nvme_attributes_reach_the_guest(target: &Target) -> Outcome {
    let mut disk = Disk::with(
        target,
        &[
            (CAPACITY, "3145728\n"),
            (QUEUES, "3"),
            (SERIAL, "Ferry #1 in dock"),
        ],
    )?;
    let controller = disk.driver.identify(1, 0)?;
    same_bytes("serial number", &controller[4..24], b"Ferry #1 in dock    ")?;
    let namespace = disk.driver.identify(0, 1)?;
    let format = usize::from(namespace[26] & 0xf);
    let shift = field(&namespace, 128 + 4 * format + 2, 1);
    same(
        "size of a block, as a power of two",
        shift,
        target.shift().into(),
    )?;
    same(
        "blocks of the namespace",
        field(&namespace, 0, 8),
        (3 * MIB) >> shift,
    )?;
    // Both counts are of I/O queues, and 0's based. The controller must have no I/O queue yet.
    disk.driver.restart(8)?;
    let queues = disk
        .driver
        .set_feature(nvme::feature::QUEUES, 15 << 16 | 15)?;
    same("queues that the controller grants", queues, 2 << 16 | 2)?;
    for _ in 0..3 {
        disk.driver.create_pair(8, None)?;
    }
    denied_pair(&mut disk.driver)
}

/// Checks that the controller has no further queue pair.
fn denied_pair(driver: &mut Controller) -> Outcome {
    match driver.create_pair(8, None) {
        Err(error) if error.errno().is_none() => Ok(()),
        seen => Err(Stop::failed(format_args!(
            "expected no further queue, seen {seen:?}"
        ))),
    }
}

fn nvme_attributes_bad_values_change_nothing(target: &Target) -> Outcome {
    let scratch = Scratch::new(2 * MIB)?;
    let good = [
        (SERIAL, "good"),
        (QUEUES, "5"),
        (CAPACITY, "2097152"),
        (FILE, scratch.text()),
    ];
    let mdev = create(target, &good)?;
    let long_path = format!("/{}", "x".repeat(5000));
    let bad: [(&str, &[&[u8]]); 6] = [
        (
            POLL,
            &[
                b"",
                b"-1",
                b"100001",
                b"4294967296",
                b"1 ms",
                b"0x10",
                b"1.5",
            ],
        ),
        (
            STORE,
            &[
                b"",
                b"\n",
                b"RAM",
                b"ramm",
                b"ra",
                b"ram file",
                b"disk",
                b"0",
                b"\xff\xfe",
                b"\0",
            ],
        ),
        (
            CAPACITY,
            &[
                b"",
                b"\n",
                b"0",
                b"-1",
                b"4096",
                b"1044480",
                b"1048575",
                b"1048577",
                b"1049088",
                b"68719476737",
                b"68719480832",
                b"18446744073709551615",
                b"18446744073710600192",
                b"1M",
                b"64 MiB",
                b"0x100000",
                b"1048576 1048576",
                b"\xff",
            ],
        ),
        (
            QUEUES,
            &[
                b"",
                b"0",
                b"1",
                b"17",
                b"65537",
                b"65552",
                b"-1",
                b"4294967297",
                b"four",
                b"1 1",
                b"1.0",
            ],
        ),
        (
            SERIAL,
            &[
                b"",
                b"\n",
                b"123456789012345678901",
                b"tab\there",
                b"\x7f",
                b"\xc3\xa4",
                b"two\nlines",
            ],
        ),
        (
            FILE,
            &[
                b"relative",
                b"./relative",
                b"../up",
                b"\xff\xfe",
                long_path.as_bytes(),
            ],
        ),
    ];
    for (name, values) in bad {
        let before = mdev.attribute(name)?;
        for value in values {
            let shown = String::from_utf8_lossy(&value[..value.len().min(24)]).into_owned();
            // sysfs does not hand a write of no bytes to the driver.
            if !value.is_empty() {
                one_of(
                    format_args!("{name} of {shown:?}"),
                    mdev.set_attribute(name, value),
                    &[Errno::INVAL, Errno::RANGE, Errno::NAMETOOLONG],
                )?;
            }
            same(
                format_args!("{name} after {shown:?}"),
                mdev.attribute(name)?,
                before.clone(),
            )?;
        }
    }
    for (name, value) in good {
        same(name, mdev.attribute(name)?, value.to_string())?;
    }
    Disk::open(target, mdev).map(drop)
}

fn nvme_attributes_bad_values_are_explained(target: &Target) -> Outcome {
    let mdev = target.subject()?;
    for (name, value, words) in [
        (QUEUES, "1", ["queues:", "2 to 16", "UEFI"]),
        (POLL, "100001", ["poll:", "0 to 100000", "microseconds"]),
        (
            CAPACITY,
            "68719480832",
            ["capacity:", "68719476736", "file"],
        ),
        (STORE, "disk", ["store:", "ram", "file"]),
        (SERIAL, "tab\there", ["serial:", "20", "ASCII"]),
        (FILE, "relative", ["file:", "absolute", "path"]),
    ] {
        let line = [&[target.kind.driver(), mdev.name()][..], &words].concat();
        expect_line(&line, || {
            refused(
                format_args!("{name} of {value:?}"),
                mdev.set_attribute(name, value.as_bytes()),
                Errno::INVAL,
            )
        })?;
    }
    Ok(())
}

fn nvme_attributes_are_busy_while_open(target: &Target) -> Outcome {
    let disk = Disk::new(target)?;
    let before = ALL.map(|name| disk.device.subject.attribute(name).ok());
    let scratch = Scratch::new(MIB)?;
    let values = ["1048576", scratch.text(), "100000", "2", "other", "file"];
    for (name, value) in ALL.into_iter().zip(values) {
        refused(
            format_args!("{name} while open"),
            disk.device.subject.set_attribute(name, value.as_bytes()),
            Errno::BUSY,
        )?;
    }
    same(
        "attributes",
        ALL.map(|name| disk.device.subject.attribute(name).ok()),
        before,
    )?;
    drop(disk.driver);
    let mdev = disk.device.close();
    for (name, value) in ALL.into_iter().zip(values) {
        mdev.set_attribute(name, value.as_bytes())?;
    }
    same(
        "queues once closed",
        mdev.attribute(QUEUES)?,
        "2".to_string(),
    )
}

fn nvme_attributes_of_a_controller_are_its_own(target: &Target) -> Outcome {
    let mut large = Disk::with(target, &[(CAPACITY, "8388608"), (SERIAL, "large")])?;
    let mut small = Disk::with(target, &[(CAPACITY, "1048576"), (SERIAL, "small")])?;
    same("capacity of the large one", large.capacity()?, 8 * MIB)?;
    same("capacity of the small one", small.capacity()?, MIB)
}

fn nvme_attributes_in_any_order(target: &Target) -> Outcome {
    // mdevctl writes them in the order in which they were defined; any may come first.
    let scratch = Scratch::new(4 * MIB)?;
    let attributes = [
        (QUEUES, "2"),
        (STORE, "file"),
        (FILE, scratch.text()),
        (SERIAL, "ordered"),
    ];
    for first in 0..attributes.len() {
        for backwards in [false, true] {
            let mut order = attributes;
            order.rotate_left(first);
            if backwards {
                order.reverse();
            }
            let mut disk = Disk::with(target, &order)?;
            same(
                format_args!("capacity after {order:?}"),
                disk.capacity()?,
                4 * MIB,
            )?;
        }
    }
    Ok(())
}

fn nvme_capacity_bounds(target: &Target) -> Outcome {
    for capacity in [MIB, MIB + 4096, 64 * GIB - 4096, 64 * GIB] {
        let mut disk = Disk::with(target, &[(CAPACITY, &capacity.to_string())])?;
        same("capacity", disk.capacity()?, capacity)?;
        // The last block is there, and none behind it; the rest costs nothing.
        let bytes = content(capacity, 1);
        disk.write(capacity - PAGE, &bytes)?;
        same_bytes("last page", &disk.read(capacity - PAGE, PAGE)?, &bytes)?;
        let block = disk.block();
        let buffer = disk.driver.data(0);
        disk.expect(nvm::READ, capacity, block, buffer, Status::LBA_RANGE)?;
        let across = capacity - block;
        disk.expect(nvm::WRITE, across, 2 * block, buffer, Status::LBA_RANGE)?;
    }
    Ok(())
}

fn nvme_capacity_of_a_file_is_the_files(target: &Target) -> Outcome {
    for (size, capacity) in [
        (MIB, MIB),
        (5 * MIB + 4096, 5 * MIB + 4096),
        // A part of a page at the end is not used.
        (5 * MIB + 4095, 5 * MIB),
    ] {
        let scratch = Scratch::new(size)?;
        let mdev = create(target, &[(STORE, "file"), (FILE, scratch.text())])?;
        same(
            format_args!("capacity attribute, file of {size}"),
            mdev.attribute(CAPACITY)?,
            capacity.to_string(),
        )?;
        denied(
            "write of the capacity",
            mdev.set_attribute(CAPACITY, b"2097152"),
        )?;
        let mut disk = Disk::open(target, mdev)?;
        same("capacity", disk.capacity()?, capacity)?;
        drop(disk);
        same("length of the file", scratch.read()?.len() as u64, size)?;
    }
    Ok(())
}

fn nvme_capacity_of_a_file_is_not_bounded_by_memory(target: &Target) -> Outcome {
    const TIB: u64 = 1 << 40;
    const LARGEST: u64 = 1 << 53;
    for capacity in [64 * GIB + 4096, TIB, LARGEST] {
        // Only the end of the file takes space.
        let scratch = Scratch::new(capacity)?;
        let mdev = create(target, &[(STORE, "file"), (FILE, scratch.text())])?;
        same(
            "capacity attribute",
            mdev.attribute(CAPACITY)?,
            capacity.to_string(),
        )?;
        let mut disk = Disk::open(target, mdev)?;
        same("capacity", disk.capacity()?, capacity)?;
        let last = capacity - PAGE;
        let bytes = content(last, 1);
        disk.write(last, &bytes)?;
        same_bytes("last page", &disk.read(last, PAGE)?, &bytes)?;
        let mut kept = vec![0; PAGE as usize];
        fs::File::open(scratch.path())
            .and_then(|file| file.read_exact_at(&mut kept, last))
            .map_err(Stop::failed)?;
        same_bytes("last page of the file", &kept, &bytes)?;
        let (block, buffer) = (disk.block(), disk.driver.data(0));
        disk.expect(nvm::READ, capacity, block, buffer, Status::LBA_RANGE)?;
        let across = capacity - block;
        disk.expect(nvm::WRITE, across, 2 * block, buffer, Status::LBA_RANGE)?;
        // The rest is a hole, which deallocation of all of it leaves.
        same_bytes("first page", &disk.read(0, PAGE)?, &[0; PAGE as usize])?;
        disk.deallocate(last, PAGE)?;
        disk.write_zeroes(last, PAGE, true)?;
        same_bytes("last page", &disk.read(last, PAGE)?, &[0; PAGE as usize])?;
    }

    let scratch = Scratch::new(LARGEST + PAGE)?;
    let mdev = create(target, &[(STORE, "file"), (FILE, scratch.text())])?;
    let line = [target.kind.driver(), mdev.name(), "9007199254740992"];
    expect_line(&line, || {
        refused("a larger file", GroupSession::open(&mdev), Errno::INVAL)
    })
}

/// Checks that a controller does not open with a file, and does with another one.
#[track_caller]
fn refuses_file(target: &Target, what: &str, path: &str, expected: &[Errno]) -> Outcome {
    let mdev = create(target, &[(STORE, "file")])?;
    let opened = mdev
        .set_attribute(FILE, path.as_bytes())
        .and_then(|()| GroupSession::open(&mdev).map(drop));
    one_of(what, opened, expected)?;
    let good = Scratch::new(MIB)?;
    mdev.set_attribute(FILE, good.text().as_bytes())?;
    Disk::open(target, mdev).map(drop)
}

fn nvme_file_that_cannot_be_one_is_refused(target: &Target) -> Outcome {
    let missing = Scratch::path_only()?;
    refuses_file(
        target,
        "a file that is not there",
        missing.text(),
        &[Errno::NOENT],
    )?;
    let below = format!("{}/below", missing.text());
    refuses_file(
        target,
        "a directory that is not there",
        &below,
        &[Errno::NOENT],
    )?;
    refuses_file(target, "the root directory", "/", &[Errno::INVAL])?;
    refuses_file(target, "/dev/null", "/dev/null", &[Errno::INVAL])?;
    refuses_file(
        target,
        "an attribute",
        "/proc/version",
        &[Errno::INVAL, Errno::ACCESS, Errno::IO, Errno::OPNOTSUPP],
    )?;
    let small = Scratch::new(MIB - 1)?;
    refuses_file(
        target,
        "a file of less than 1 MiB",
        small.text(),
        &[Errno::INVAL],
    )?;
    let empty = Scratch::new(0)?;
    refuses_file(target, "an empty file", empty.text(), &[Errno::INVAL])?;
    let loops = Scratch::path_only()?;
    symlink(loops.path(), loops.path()).map_err(Stop::failed)?;
    refuses_file(target, "a link to itself", loops.text(), &[Errno::LOOP])?;
    let fifo = fifo()?;
    refuses_file(target, "a FIFO", fifo.text(), &[Errno::INVAL])?;
    // None at all.
    let mdev = create(target, &[(STORE, "file")])?;
    one_of(
        "an open without a file",
        GroupSession::open(&mdev),
        &[Errno::NOENT, Errno::INVAL],
    )
}

/// Makes a FIFO. An open of a FIFO for reading waits for a writer.
fn fifo() -> Outcome<Scratch> {
    let fifo = Scratch::path_only()?;
    rustix::fs::mknodat(
        rustix::fs::CWD,
        fifo.path(),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .map_err(Stop::failed)?;
    Ok(fifo)
}

fn nvme_file_of_another_kind_is_refused_when_it_is_named(target: &Target) -> Outcome {
    let fifo = fifo()?;
    let good = Scratch::new(MIB)?;
    let mdev = create(target, &[(STORE, "file"), (FILE, good.text())])?;
    for path in [fifo.text(), "/dev/null", "/"] {
        refused(
            path,
            mdev.set_attribute(FILE, path.as_bytes()),
            Errno::INVAL,
        )?;
        // The refusal does not wait for an open of the other end.
        same("file", mdev.attribute(FILE)?, good.text().to_string())?;
        same("capacity", mdev.attribute(CAPACITY)?, MIB.to_string())?;
    }
    Disk::open(target, mdev).map(drop)
}

fn nvme_file_stays_the_one_that_was_named(target: &Target) -> Outcome {
    // At the time of the open the name is another file's.
    let (named, other) = (Scratch::new(2 * MIB)?, Scratch::new(4 * MIB)?);
    let moved = Scratch::path_only()?;
    let mdev = create(target, &[(STORE, "file"), (FILE, named.text())])?;
    fs::rename(named.path(), moved.path()).map_err(Stop::failed)?;
    fs::rename(other.path(), named.path()).map_err(Stop::failed)?;
    same("capacity", mdev.attribute(CAPACITY)?, (2 * MIB).to_string())?;
    let mut disk = Disk::open(target, mdev)?;
    let bytes = content(0, 9);
    disk.write(PAGE, &bytes)?;
    drop(disk);
    same_bytes(
        "the file that was named",
        &moved.read()?[4096..8192],
        &bytes,
    )?;
    same_bytes(
        "the file that has its name now",
        &named.read()?[4096..8192],
        &[0; PAGE as usize],
    )
}

fn nvme_file_stays_named_when_its_mount_is_gone(target: &Target) -> Outcome {
    // As when the mount namespace in which it was named is gone.
    let directory = Scratch::path_only()?;
    fs::create_dir(directory.path()).map_err(Stop::failed)?;
    rustix::mount::mount(
        "ferry",
        directory.path(),
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        None,
    )
    .map_err(Stop::failed)?;
    let path = directory.path().join("disk");
    let named = fs::File::create_new(&path)
        .and_then(|file| file.set_len(2 * MIB))
        .map_err(Stop::failed)
        .and_then(|()| {
            let text = path.to_str().unwrap_or_default();
            create(target, &[(STORE, "file"), (FILE, text)])
        });
    rustix::mount::unmount(directory.path(), rustix::mount::UnmountFlags::DETACH)
        .map_err(Stop::failed)?;
    holds(
        !path.exists(),
        format_args!("expected that {} is gone", path.display()),
    )?;
    let mdev = named?;
    same("capacity", mdev.attribute(CAPACITY)?, (2 * MIB).to_string())?;
    let mut disk = Disk::open(target, mdev)?;
    let bytes = content(3, 9);
    disk.write(PAGE, &bytes)?;
    same_bytes("read back", &disk.read(PAGE, PAGE)?, &bytes)
}

fn nvme_file_is_named_by_an_absolute_path(target: &Target) -> Outcome {
    // A link leads where it leads when the file is named, and the name stays as written.
    let file = Scratch::new(2 * MIB)?;
    let other = Scratch::new(4 * MIB)?;
    let link = Scratch::path_only()?;
    let mdev = create(target, &[(STORE, "file")])?;
    refused(
        "a link that is not there yet",
        mdev.set_attribute(FILE, link.text().as_bytes()),
        Errno::NOENT,
    )?;
    symlink(file.path(), link.path()).map_err(Stop::failed)?;
    mdev.set_attribute(FILE, link.text().as_bytes())?;
    fs::remove_file(link.path()).map_err(Stop::failed)?;
    symlink(other.path(), link.path()).map_err(Stop::failed)?;
    same("file", mdev.attribute(FILE)?, link.text().to_string())?;
    let mut disk = Disk::open(target, mdev)?;
    let bytes = content(0, 9);
    disk.write(PAGE, &bytes)?;
    drop(disk);
    same_bytes("the link's target", &file.read()?[4096..8192], &bytes)?;
    // An empty name removes the file.
    let mdev = create(target, &[(FILE, link.text()), (FILE, "\n")])?;
    same("file", mdev.attribute(FILE)?, String::new())
}

fn nvme_file_refuses_two_writers(target: &Target) -> Outcome {
    let scratch = Scratch::new(2 * MIB)?;
    refuses_two_writers(target, &[(STORE, "file"), (FILE, scratch.text())])
}

fn nvme_file_is_no_failure_when_it_is_not_in_use(target: &Target) -> Outcome {
    let scratch = Scratch::new(2 * MIB)?;
    let mut disk = Disk::with(target, &[(STORE, "file"), (FILE, scratch.text())])?;
    disk.write(0, &content(0, 1))?;
    // Disabled and shut down at once: the file is released before there is data to flush.
    disk.driver
        .write(register::CC, nvme::CC_SIZES | nvme::CC_SHUTDOWN)?;
    disk.driver
        .wait_status(nvme::CSTS_SHUTDOWN, nvme::CSTS_SHUTDOWN_COMPLETE)?;
    disk.start(DEPTH)?;

    let buffer = disk.driver.data(0);
    let log = Command::new(admin::GET_LOG_PAGE)
        .prp(buffer, 0)
        .word(10, 127 << 16 | 2);
    disk.driver.succeed(0, log)?;
    same(
        "errors of the medium in the SMART log",
        disk.memory().read_u64(buffer + 160),
        0,
    )
}

fn nvme_file_is_free_once_its_controller_is_closed(target: &Target) -> Outcome {
    let scratch = Scratch::new(2 * MIB)?;
    let attributes = [(STORE, "file"), (FILE, scratch.text())];
    let mut mdev: Option<Subject> = None;
    for round in 0..5 {
        let mut disk = match mdev.take() {
            Some(mdev) => Disk::open(target, mdev)?,
            None => Disk::with(target, &attributes)?,
        };
        let bytes = content(round, 3);
        disk.write(round * PAGE, &bytes)?;
        drop(disk.driver);
        mdev = Some(disk.device.close());
        let at = (round * PAGE) as usize;
        same_bytes(
            "what is in the file",
            &scratch.read()?[at..at + PAGE as usize],
            &bytes,
        )?;
        // The file is not open.
        fs::OpenOptions::new()
            .write(true)
            .open(scratch.path())
            .and_then(|file| file.set_len(2 * MIB))
            .map_err(Stop::failed)?;
    }
    Ok(())
}
