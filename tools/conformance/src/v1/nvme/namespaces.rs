// SPDX-License-Identifier: GPL-2.0

//! More than one namespace, each with its own size and store.

use vfio_client::stream::Stream;
use vfio_client::stream::HEADER_RECORD;
use vfio_client::v1::State;
use vfio_client::Errno;
use vfio_client::GroupSession;
use vfio_drivers::nvme::admin;
use vfio_drivers::nvme::content;
use vfio_drivers::nvme::nvm;
use vfio_drivers::nvme::Command;
use vfio_drivers::nvme::Status;
use vfio_drivers::nvme::PAGE;

use crate::case::cases;
use crate::case::Case;
use crate::check::refused;
use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::check::Stop;
use crate::kmsg::expect_line;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::device::TestDevice;
use crate::v1::nvme::disk::create;
use crate::v1::nvme::disk::expect_fails_to_start;
use crate::v1::nvme::disk::field;
use crate::v1::nvme::disk::Disk;
use crate::v1::nvme::disk::Scratch;
use crate::v1::nvme::disk::FILE;
use crate::v1::nvme::disk::STORE;
use crate::v1::nvme::migration::pre_copy;

const MIB: u64 = 1 << 20;

const STORE_2: &str = "nvme-ns2/store";
const CAPACITY_2: &str = "nvme-ns2/capacity";
const BLOCK_2: &str = "nvme-ns2/block_size";
const FILE_2: &str = "nvme-ns2/file";
const STORE_3: &str = "nvme-ns3/store";
const CAPACITY_3: &str = "nvme-ns3/capacity";
const BLOCK_3: &str = "nvme-ns3/block_size";
const FILE_3: &str = "nvme-ns3/file";
const STORE_4: &str = "nvme-ns4/store";

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::Nvme];

pub const CASES: &[Case] = cases![
    NEEDS;
    nvme_namespaces_have_attributes_of_their_own [Mdev],
    nvme_namespaces_have_their_own_size_and_content [Mdev],
    nvme_namespaces_move_while_they_are_written [Mdev],
    nvme_namespaces_that_differ_are_refused_at_the_first_record [Mdev],
    nvme_namespaces_without_the_one_before_are_refused [Mdev],
    nvme_namespaces_in_the_same_file_do_not_start [Mdev],
];

/// A namespace of a disk.
#[derive(Clone, Copy, Debug)]
struct Space {
    id: u32,
    /// Bytes of a logical block, as a binary logarithm.
    shift: u8,
}

impl Space {
    #[track_caller]
    fn execute(self, disk: &mut Disk, opcode: u8, place: u64, len: u64) -> Outcome<Status> {
        let buffer = disk.driver.data(0);
        let (first, count) = (place >> self.shift, (len >> self.shift) as u32);
        let command = disk
            .driver
            .transfer(1, opcode, self.shift, first, count, buffer);
        let command = command.namespace(self.id);
        Ok(disk.driver.execute(1, command)?.status)
    }

    #[track_caller]
    fn write(self, disk: &mut Disk, place: u64, seed: u64) -> Outcome {
        let buffer = disk.driver.data(0);
        disk.memory().write(buffer, &content(place, seed));
        let status = self.execute(disk, nvm::WRITE, place, PAGE)?;
        same(
            format_args!("write at {place:#x} of {self:?}"),
            status,
            Status::SUCCESS,
        )
    }

    #[track_caller]
    fn expect(self, disk: &mut Disk, place: u64, expected: &[u8]) -> Outcome {
        let status = self.execute(disk, nvm::READ, place, PAGE)?;
        let what = format!("page at {place:#x} of {self:?}");
        same(&what, status, Status::SUCCESS)?;
        let buffer = disk.driver.data(0);
        let seen = disk.memory().bytes(buffer, PAGE as usize);
        same_bytes(what, &seen, expected)
    }
}

fn nvme_namespaces_have_attributes_of_their_own(target: &Target) -> Outcome {
    let scratch = Scratch::new(3 * MIB)?;
    let mdev = target.subject()?;
    let block = (1u64 << target.shift()).to_string();
    for directory in ["nvme-ns2", "nvme-ns3", "nvme-ns4"] {
        for (name, value) in [
            ("store", "none"),
            ("capacity", "67108864"),
            ("block_size", block.as_str()),
            ("file", ""),
        ] {
            let name = format!("{directory}/{name}");
            same(&name, mdev.attribute(&name)?, value.to_string())?;
        }
    }
    for (name, value) in [
        (STORE, "none"),
        (STORE_2, "no"),
        (STORE_2, "\n"),
        (CAPACITY_2, "4096"),
        (CAPACITY_2, "1048577"),
        (BLOCK_2, "1024"),
        (BLOCK_2, "9"),
        (FILE_2, "relative"),
    ] {
        refused(
            format_args!("{value:?} for {name}"),
            mdev.set_attribute(name, value.as_bytes()),
            Errno::INVAL,
        )?;
    }
    for (name, value) in [
        (CAPACITY_2, "2097152"),
        (BLOCK_2, "4096"),
        (BLOCK_3, "512"),
        (FILE_3, scratch.text()),
        (STORE_2, "ram"),
        (STORE_3, "file"),
    ] {
        mdev.set_attribute(name, value.as_bytes())?;
        same(name, mdev.attribute(name)?, value.to_string())?;
    }
    // The other namespaces stay as they were, and a file has its own size.
    same(STORE_4, mdev.attribute(STORE_4)?, "none".to_string())?;
    same(
        "capacity of a file",
        mdev.attribute(CAPACITY_3)?,
        (3 * MIB).to_string(),
    )?;
    let capacity = mdev.attribute("nvme/capacity")?;
    same("capacity of namespace 1", capacity, (64 * MIB).to_string())?;

    let device = TestDevice::open(mdev)?;
    for name in [STORE_2, CAPACITY_2, BLOCK_2, FILE_2] {
        refused(
            format_args!("{name} while open"),
            device.subject.set_attribute(name, b"ram"),
            Errno::BUSY,
        )?;
    }
    Ok(())
}

fn nvme_namespaces_have_their_own_size_and_content(target: &Target) -> Outcome {
    let scratch = Scratch::new(3 * MIB)?;
    let mut disk = Disk::with(
        target,
        &[
            (STORE_2, "ram"),
            (CAPACITY_2, "2097152"),
            (BLOCK_2, "4096"),
            (FILE_3, scratch.text()),
            (STORE_3, "file"),
            (BLOCK_3, "512"),
        ],
    )?;
    same("NN", field(&disk.driver.identify(1, 0)?, 516, 4), 3)?;
    let list = disk.driver.identify(2, 0)?;
    for (index, nsid) in [1, 2, 3, 0].into_iter().enumerate() {
        same("active namespaces", field(&list, index * 4, 4), nsid)?;
    }
    let sizes = [
        (1, target.shift(), 64 * MIB),
        (2, 12, 2 * MIB),
        (3, 9, 3 * MIB),
    ];
    let space = |id: u32, shift| Space { id, shift };
    for (id, shift, capacity) in sizes {
        let data = disk.driver.identify(0, id)?;
        let what = format!("blocks of namespace {id}");
        same(what, field(&data, 0, 8), capacity >> shift)?;
        for place in [0, MIB, capacity - PAGE] {
            space(id, shift).write(&mut disk, place, id.into())?;
        }
        let behind = space(id, shift).execute(&mut disk, nvm::READ, capacity, PAGE)?;
        same("read behind the end", behind, Status::LBA_RANGE)?;
    }
    for (id, shift, capacity) in sizes {
        for place in [0, MIB, capacity - PAGE] {
            space(id, shift).expect(&mut disk, place, &content(place, id.into()))?;
        }
    }
    for (id, expected) in [
        (1, Status::SUCCESS),
        (3, Status::SUCCESS),
        (4, Status::INVALID_NAMESPACE),
        (u32::MAX, Status::SUCCESS),
    ] {
        let flush = Command::new(nvm::FLUSH).namespace(id);
        let seen = disk.driver.execute(1, flush)?.status;
        same(format_args!("flush of {id:#x}"), seen, expected)?;
    }
    let file = scratch.read()?;
    let at = MIB as usize;
    same_bytes("the file", &file[at..at + PAGE as usize], &content(MIB, 3))?;

    let format = Command::new(admin::FORMAT).namespace(2);
    disk.driver.succeed(0, format)?;
    space(2, 12).expect(&mut disk, 0, &[0; PAGE as usize])?;
    space(1, target.shift()).expect(&mut disk, 0, &content(0, 1))?;
    space(3, 9).expect(&mut disk, 0, &content(0, 3))
}

fn nvme_namespaces_move_while_they_are_written(target: &Target) -> Outcome {
    let scratch = Scratch::new(3 * MIB)?;
    let attributes = [
        (STORE_2, "file"),
        (FILE_2, scratch.text()),
        (STORE_3, "ram"),
        (CAPACITY_3, "8388608"),
        (BLOCK_3, "4096"),
        (STORE_4, "ram"),
    ];
    let spaces = [
        (1, target.shift(), 64 * MIB),
        (2, target.shift(), 3 * MIB),
        (3, 12, 8 * MIB),
        (4, target.shift(), 64 * MIB),
    ]
    .map(|(id, shift, capacity)| (Space { id, shift }, capacity));
    let mut disk = Disk::with(target, &attributes)?;
    let write = |disk: &mut Disk, page: u64, seed: u64| -> Outcome {
        for (space, capacity) in spaces {
            space.write(disk, page * PAGE, seed + u64::from(space.id))?;
            // Neighbours in the stream.
            space.write(disk, capacity - PAGE, seed + u64::from(space.id))?;
        }
        Ok(())
    };
    write(&mut disk, 0, 10)?;
    write(&mut disk, 7, 20)?;
    let mut stream = pre_copy(&disk)?;
    write(&mut disk, 0, 30)?;
    stream.extend(disk.device.migration.save()?);
    write(&mut disk, 9, 40)?;
    disk.device.set(State::STOP_COPY)?;
    stream.extend(disk.device.migration.save()?);
    let mut disk = disk.arrive(target, &attributes, &stream)?;
    for (space, capacity) in spaces {
        let id = u64::from(space.id);
        for (page, seed) in [(0, 30), (7, 20), (9, 40)] {
            let place = page * PAGE;
            space.expect(&mut disk, place, &content(place, seed + id))?;
        }
        let last = capacity - PAGE;
        space.expect(&mut disk, last, &content(last, 40 + id))?;
        space.expect(&mut disk, PAGE, &[0; PAGE as usize])?;
    }
    write(&mut disk, 3, 50)
}

fn nvme_namespaces_that_differ_are_refused_at_the_first_record(target: &Target) -> Outcome {
    let scratch = Scratch::new(64 * MIB)?;
    let other_block = match target.shift() {
        9 => "4096",
        _ => "512",
    };
    let variants: [&[(&str, &str)]; 6] = [
        &[],
        &[(STORE_2, "ram")],
        &[(STORE_2, "ram"), (CAPACITY_2, "67112960")],
        &[(STORE_2, "ram"), (BLOCK_2, other_block)],
        &[(STORE_2, "file"), (FILE_2, scratch.text())],
        &[(STORE_2, "ram"), (STORE_3, "ram")],
    ];
    for (i, source) in variants.iter().enumerate() {
        let device = TestDevice::open(create(target, source)?)?;
        device.set(State::PRE_COPY)?;
        let first = device
            .migration
            .next_chunk()?
            .ok_or_else(|| Stop::failed("expected a first record in pre-copy, seen none"))?;
        drop(device);
        let records = Stream::parse(&first.bytes).map_err(Stop::failed)?.0;
        let kind = records.first().map(|record| record.kind);
        same("type of the first record", kind, Some(HEADER_RECORD))?;
        let record = records[0].bytes();
        for (j, destination) in variants.iter().enumerate() {
            let device = TestDevice::open(create(target, destination)?)?;
            device.set(State::RESUMING)?;
            let fed = device.migration.feed_chunk(&record);
            if i == j {
                fed?;
                continue;
            }
            refused(
                format_args!("first record of {source:?} for {destination:?}"),
                fed,
                Errno::XDEV,
            )?;
        }
    }
    Ok(())
}

fn nvme_namespaces_without_the_one_before_are_refused(target: &Target) -> Outcome {
    let mdev = create(target, &[(STORE_3, "ram")])?;
    let uuid = mdev.name().to_string();
    let line = [target.kind.driver(), &uuid, "namespace 3"];
    expect_line(&line, || {
        refused(
            "open with namespaces 1 and 3",
            GroupSession::open(&mdev).map(drop),
            Errno::INVAL,
        )
    })
}

fn nvme_namespaces_in_the_same_file_do_not_start(target: &Target) -> Outcome {
    let scratch = Scratch::new(3 * MIB)?;
    let attributes = [
        (STORE, "file"),
        (FILE, scratch.text()),
        (STORE_2, "file"),
        (FILE_2, scratch.text()),
    ];
    let mut disk = Disk::disabled(target, create(target, &attributes)?)?;
    let uuid = disk.device.subject.name().to_string();
    let line = [target.kind.driver(), &uuid, "file of namespace 2"];
    expect_line(&line, || expect_fails_to_start(&mut disk.driver))
}
