// SPDX-License-Identifier: GPL-2.0

//! A controller whose content is on a block device of the host.
//!
//! Two block devices are one disk, as two hosts see a disk that they share: the page cache of one is not
//! that of the other. They are virtio disks with the serial number [`SERIAL`], whose content is overwritten,
//! or loop devices on one file where there are no such disks.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command as Process;
use std::process::Output;
use std::thread;
use std::time::Instant;

use rustix::fs::fcntl_lock;
use rustix::fs::mknodat;
use rustix::fs::FileType;
use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::CWD;
use vfio_client::mdev::random_uuid;
use vfio_client::v1::State;
use vfio_client::Errno;
use vfio_client::GroupSession;
use vfio_drivers::nvme::content;
use vfio_drivers::nvme::PAGE;

use crate::case::cases;
use crate::case::Case;
use crate::check::holds;
use crate::check::refused;
use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::check::Stop;
use crate::kmsg::expect_line;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::device::PATIENCE;
use crate::v1::nvme::disk::create;
use crate::v1::nvme::disk::expect_fails_to_start;
use crate::v1::nvme::disk::refuses_two_writers;
use crate::v1::nvme::disk::Disk;
use crate::v1::nvme::disk::Scratch;
use crate::v1::nvme::disk::DEPTH;
use crate::v1::nvme::disk::FILE;
use crate::v1::nvme::disk::STORE;

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::Nvme];

pub const CASES: &[Case] = cases![
    NEEDS;
    nvme_file_may_be_a_block_device [Mdev],
    nvme_block_device_is_read_from_one_end_to_the_other [Mdev],
    nvme_block_device_refuses_two_writers [Mdev],
    nvme_block_device_is_claimed [Mdev],
    nvme_block_device_is_written_back_while_saving [Mdev],
    nvme_block_device_that_is_locked_leaves_no_files_open [Mdev],
    nvme_block_device_is_handed_over_to_another_host [Mdev],
    nvme_block_device_is_discarded [Mdev],
    nvme_block_device_that_has_gone_is_not_another_one [Mdev],
];

/// A device node of the test's own, where nodes of devices work.
struct Node(String);

impl Node {
    /// Makes another node of the device whose node `like` is.
    #[track_caller]
    fn new(like: &str) -> Outcome<Node> {
        let device = fs::metadata(like).map_err(Stop::failed)?.rdev();
        let node = Node(format!("/dev/ferry-{}", random_uuid()?));
        mknodat(
            CWD,
            &node.0,
            FileType::BlockDevice,
            Mode::RUSR | Mode::WUSR,
            device,
        )
        .map_err(Stop::failed)?;
        Ok(node)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The test may have removed it.
        let _ = fs::remove_file(&self.0);
    }
}

fn nvme_block_device_that_has_gone_is_not_another_one(target: &Target) -> Outcome {
    let shared = Shared::find()?;
    let node = Node::new(&shared.here)?;
    let attributes: &[(&str, &str)] = &[(STORE, "file"), (FILE, &node.0)];
    let disk = Disk::with(target, attributes)?;
    drop(disk.driver);
    let mdev = disk.device.close();
    // So it goes with the device, whose number the kernel gives to the next one.
    fs::remove_file(&node.0).map_err(Stop::failed)?;
    refused("the device", GroupSession::open(&mdev), Errno::NXIO)?;
    // A node of that name is named anew.
    mdev.set_attribute(FILE, shared.here.as_bytes())?;
    Disk::open(target, mdev).map(drop)
}

/// The serial number of both disks.
const SERIAL: &str = "ferry-shared";

const MIB: u64 = 1 << 20;

/// A disk that two hosts share.
struct Shared {
    /// The disk of one host.
    here: String,
    /// The disk of the other host.
    there: String,
    /// What it consists of, in the order in which it has to go.
    _loops: Vec<Loop>,
    _file: Option<Scratch>,
}

/// A loop device, detached when it is dropped.
struct Loop(String);

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Process::new("losetup").args(["-d", &self.0]).status();
    }
}

impl Loop {
    #[track_caller]
    fn attach(file: &Scratch) -> Outcome<Loop> {
        let found = losetup(&["-f"])?;
        let name = String::from_utf8_lossy(&found.stdout).trim().to_string();
        losetup(&[&name, file.text()])?;
        Ok(Loop(name))
    }
}

#[track_caller]
fn losetup(arguments: &[&str]) -> Outcome<Output> {
    let skipped = |why: String| Stop::Skipped(format!("no disk and no loop device: {why}"));
    let output = Process::new("losetup")
        .args(arguments)
        .output()
        .map_err(|error| skipped(format!("losetup: {error}")))?;
    if !output.status.success() {
        return Err(skipped(
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ));
    }
    Ok(output)
}

impl Shared {
    #[track_caller]
    fn find() -> Outcome<Shared> {
        let mut disks = Vec::new();
        for entry in fs::read_dir("/sys/block").map_err(Stop::failed)? {
            let entry = entry.map_err(Stop::failed)?;
            let serial = fs::read_to_string(entry.path().join("serial"));
            if serial.is_ok_and(|serial| serial.trim() == SERIAL) {
                disks.push(format!("/dev/{}", entry.file_name().to_string_lossy()));
            }
        }
        if let [here, there, ..] = &disks[..] {
            return Ok(Shared {
                here: here.clone(),
                there: there.clone(),
                _loops: Vec::new(),
                _file: None,
            });
        }

        // It may be built in.
        let _ = Process::new("modprobe").arg("loop").output();
        let file = Scratch::new(4 * MIB)?;
        let loops = vec![Loop::attach(&file)?, Loop::attach(&file)?];
        Ok(Shared {
            here: loops[0].0.clone(),
            there: loops[1].0.clone(),
            _loops: loops,
            _file: Some(file),
        })
    }

    fn attributes(path: &str) -> [(&'static str, &str); 2] {
        [(STORE, "file"), (FILE, path)]
    }

    /// The attributes of a controller on this host.
    fn here(&self) -> [(&'static str, &str); 2] {
        Self::attributes(&self.here)
    }

    /// The attributes of a controller on the other host.
    fn there(&self) -> [(&'static str, &str); 2] {
        Self::attributes(&self.there)
    }

    /// The size in bytes, as the kernel knows it.
    #[track_caller]
    fn size(&self) -> Outcome<u64> {
        const SECTOR: u64 = 512;
        let path = format!("/sys/block/{}/size", self.here.trim_start_matches("/dev/"));
        let text = fs::read_to_string(path).map_err(Stop::failed)?;
        let sectors: u64 = text.trim().parse().map_err(Stop::failed)?;
        Ok(sectors * SECTOR)
    }
}

/// Reads a page. The last close of a block device drops its page cache.
#[track_caller]
fn page(path: &str, place: u64) -> Outcome<Vec<u8>> {
    let mut bytes = vec![0; PAGE as usize];
    fs::File::open(path)
        .and_then(|file| file.read_exact_at(&mut bytes, place))
        .map_err(|error| Stop::failed(format_args!("{path}: {error}")))?;
    Ok(bytes)
}

fn nvme_file_may_be_a_block_device(target: &Target) -> Outcome {
    let shared = Shared::find()?;
    let mut disk = Disk::with(target, &shared.here())?;
    same("capacity", disk.capacity()?, shared.size()?)?;
    let bytes = content(7, 4);
    disk.write(MIB, &bytes)?;
    disk.write(MIB + PAGE, &bytes)?;
    disk.write_zeroes(MIB + PAGE, PAGE, false)?;
    same_bytes("read back", &disk.read(MIB, PAGE)?, &bytes)?;
    drop(disk);
    let mut disk = Disk::with(target, &shared.here())?;
    same_bytes("read by the next user", &disk.read(MIB, PAGE)?, &bytes)?;
    drop(disk);
    same_bytes("on the disk", &page(&shared.there, MIB)?, &bytes)?;
    same_bytes(
        "zeroes on the disk",
        &page(&shared.there, MIB + PAGE)?,
        &[0; PAGE as usize],
    )
}

/// The host reads ahead then, into pages that are larger and larger.
fn nvme_block_device_is_read_from_one_end_to_the_other(target: &Target) -> Outcome {
    const LEN: u64 = 16 * MIB;
    const BEGIN: u64 = MIB + PAGE;
    let shared = Shared::find()?;
    let mut disk = Disk::with(target, &shared.here())?;
    let len = LEN.min(disk.capacity()? - BEGIN);
    let bytes: Vec<u8> = (0..len / PAGE).flat_map(|page| content(page, 11)).collect();
    disk.write(BEGIN, &bytes)?;
    drop(disk);
    let mut disk = Disk::with(target, &shared.here())?;
    for piece in [4 * PAGE, 31 * PAGE, 512 << 10] {
        let mut seen = Vec::new();
        while (seen.len() as u64) < len {
            let at = seen.len() as u64;
            seen.extend(disk.read(BEGIN + at, piece.min(len - at))?);
        }
        same_bytes(format_args!("read by {piece} bytes"), &seen, &bytes)?;
        drop(disk);
        disk = Disk::with(target, &shared.here())?;
    }
    Ok(())
}

fn nvme_block_device_refuses_two_writers(target: &Target) -> Outcome {
    let shared = Shared::find()?;
    refuses_two_writers(target, &shared.here())
}

/// Opens the block device `path` as its only user, as a mount does.
fn claim(path: &str) -> io::Result<fs::File> {
    fs::File::options()
        .read(true)
        .custom_flags(OFlags::EXCL.bits() as i32)
        .open(path)
}

/// Returns how many bytes were written to the block device `path` so far.
fn written(path: &str) -> Outcome<u64> {
    /// Sectors that were written, as a field of a block device's statistics.
    const SECTORS: usize = 6;
    const SECTOR: u64 = 512;
    let path = format!("/sys/block/{}/stat", path.trim_start_matches("/dev/"));
    let text = fs::read_to_string(&path).map_err(Stop::failed)?;
    let field = text.split_whitespace().nth(SECTORS);
    let sectors: u64 = field
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| Stop::failed(format_args!("{path} has no such field: {text:?}")))?;
    Ok(sectors * SECTOR)
}

/// A stop would have to write all of it.
fn nvme_block_device_is_written_back_while_saving(target: &Target) -> Outcome {
    const LEN: u64 = 4 * MIB;
    let shared = Shared::find()?;
    let mut disk = Disk::with(target, &shared.here())?;
    let before = written(&shared.here)?;
    for page in 0..LEN / PAGE {
        disk.write(MIB + page * PAGE, &content(page, 21))?;
    }
    disk.device.set(State::PRE_COPY)?;
    // The kernel's own time for it is longer than the test's patience.
    let start = Instant::now();
    while written(&shared.here)? - before < LEN {
        holds(
            start.elapsed() < PATIENCE,
            "expected the disk to be written while it is saved",
        )?;
        thread::yield_now();
    }
    disk.device.set(State::RUNNING)
}

fn nvme_block_device_is_claimed(target: &Target) -> Outcome {
    let shared = Shared::find()?;
    let claimed = claim(&shared.here).map_err(Stop::failed)?;
    let mut disk = Disk::disabled(target, create(target, &shared.here())?)?;
    let uuid = disk.device.subject.name().to_string();
    let mut driver = disk.driver.clone();
    expect_line(&[target.kind.driver(), &uuid, "lock"], || {
        expect_fails_to_start(&mut driver)
    })?;
    drop(claimed);
    disk.start(DEPTH)?;
    let busy = |what| match claim(&shared.here) {
        Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => Ok(()),
        other => Err(Stop::failed(format_args!(
            "{what}: expected EBUSY, seen {other:?}"
        ))),
    };
    busy("the block device of a controller that runs")?;
    disk.driver.disable()?;
    busy("the block device of a controller that was reset")?;
    // Both have the device open, whose removal waits for the close.
    drop(driver);
    drop(disk);
    claim(&shared.here).map(|_| ()).map_err(Stop::failed)
}

/// Returns the number of open files of the host.
fn open_files() -> Outcome<u64> {
    let text = fs::read_to_string("/proc/sys/fs/file-nr").map_err(Stop::failed)?;
    let count = text.split_whitespace().next().unwrap_or_default();
    count.parse().map_err(Stop::failed)
}

fn nvme_block_device_that_is_locked_leaves_no_files_open(target: &Target) -> Outcome {
    const STARTS: u64 = 1000;
    let shared = Shared::find()?;
    let locked = fs::File::options()
        .read(true)
        .write(true)
        .open(&shared.here)
        .map_err(Stop::failed)?;
    fcntl_lock(&locked, FlockOperation::NonBlockingLockExclusive).map_err(Stop::failed)?;
    let disk = Disk::disabled(target, create(target, &shared.here())?)?;
    let mut driver = disk.driver.clone();
    let before = open_files()?;
    // Each start claims the block device before it finds it locked.
    for _ in 0..STARTS {
        expect_fails_to_start(&mut driver)?;
    }
    let after = open_files()?;
    holds(
        after < before + STARTS / 2,
        format_args!(
            "expected no files of {STARTS} starts that failed, seen {before} files before and {after} after"
        ),
    )
}

fn nvme_block_device_is_handed_over_to_another_host(target: &Target) -> Outcome {
    let shared = Shared::find()?;
    let mut disk = Disk::with(target, &shared.here())?;
    let old = content(0, 6);
    disk.write(0, &old)?;
    drop(disk);
    // A process on the other host has read the disk and keeps it open: the other host caches it.
    let other = fs::File::open(&shared.there).map_err(Stop::failed)?;
    let mut bytes = vec![0; PAGE as usize];
    other.read_exact_at(&mut bytes, 0).map_err(Stop::failed)?;
    same_bytes("read there before", &bytes, &old)?;

    let mut source = Disk::with(target, &shared.here())?;
    let moved = content(1, 7);
    source.write(0, &moved)?;
    let mut disk = source.migrate(target, &shared.there())?;
    same_bytes("read at the destination", &disk.read(0, PAGE)?, &moved)?;

    // And back, where it has been written before.
    let returned = content(2, 8);
    let here = fs::File::open(&shared.here).map_err(Stop::failed)?;
    here.read_exact_at(&mut bytes, 0).map_err(Stop::failed)?;
    disk.write(0, &returned)?;
    let mut disk = disk.migrate(target, &shared.here())?;
    same_bytes("read at the source again", &disk.read(0, PAGE)?, &returned)?;

    // A cancelled migration, and a complete one.
    disk.device.set(State::STOP_COPY)?;
    disk.device.set(State::RUNNING)?;
    let last = content(3, 9);
    disk.write(0, &last)?;
    let mut disk = disk.migrate(target, &shared.there())?;
    same_bytes("read after another try", &disk.read(0, PAGE)?, &last)
}

fn nvme_block_device_is_discarded(target: &Target) -> Outcome {
    let shared = Shared::find()?;
    let mut disk = Disk::with(target, &shared.here())?;
    let bytes: Vec<u8> = (0..8).flat_map(|page| content(page, 10)).collect();
    let len = bytes.len() as u64;
    disk.write(MIB, &bytes)?;
    // Some of it is on the disk, and some in the cache only.
    drop(disk);
    let mut disk = Disk::with(target, &shared.here())?;
    let half = bytes.len() / 2;
    disk.write(MIB + len / 2, &bytes[half..])?;
    disk.deallocate(MIB + PAGE, len - 2 * PAGE)?;
    let mut expected = bytes;
    let last = expected.len() - PAGE as usize;
    expected[PAGE as usize..last].fill(0);
    same_bytes("read back", &disk.read(MIB, len)?, &expected)?;
    drop(disk);
    for (index, expected) in expected.chunks(PAGE as usize).enumerate() {
        let place = MIB + index as u64 * PAGE;
        same_bytes(
            format_args!("page {index} on the disk"),
            &page(&shared.there, place)?,
            expected,
        )?;
    }
    Ok(())
}
