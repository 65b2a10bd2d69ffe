// SPDX-License-Identifier: GPL-2.0

//! A controller with its driver, ready to read and write.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use vfio_client::mdev::random_uuid;
use vfio_client::v1::State;
use vfio_client::GuestMemory;
use vfio_drivers::nvme::content;
use vfio_drivers::nvme::nvm;
use vfio_drivers::nvme::Command;
use vfio_drivers::nvme::Completion;
use vfio_drivers::nvme::Controller;
use vfio_drivers::nvme::Status;
use vfio_drivers::nvme::CSTS_FATAL;
use vfio_drivers::nvme::PAGE;

use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::check::Stop;
use crate::kmsg::expect_line;
use crate::subject::Subject;
use crate::target::Target;
use crate::v1::device::TestDevice;

/// The attributes of a controller.
pub const STORE: &str = "nvme/store";
pub const CAPACITY: &str = "nvme/capacity";
pub const FILE: &str = "nvme/file";
pub const CACHE: &str = "nvme/cache";
pub const POLL: &str = "nvme/poll";
pub const QUEUES: &str = "nvme/queues";
pub const SERIAL: &str = "nvme/serial";

/// Entries of the queues where the number does not matter.
pub const DEPTH: u16 = 32;
/// The most that a command may move, in bytes, as `identify` says it.
pub const MOST: u64 = 512 << 10;

/// A controller with its driver. The fields' order is the order in which they are dropped: the driver has the
/// device open as well.
#[derive(Debug)]
pub struct Disk {
    /// The guest's driver.
    pub driver: Controller,
    /// The device.
    pub device: TestDevice,
    shift: u8,
}

impl Disk {
    /// Creates a controller with some attributes and enables it, with one I/O queue pair.
    #[track_caller]
    pub fn with(target: &Target, attributes: &[(&str, &str)]) -> Outcome<Disk> {
        Disk::open(target, create(target, attributes)?)
    }

    /// Creates a controller as it is by default and enables it.
    #[track_caller]
    pub fn new(target: &Target) -> Outcome<Disk> {
        Disk::with(target, &[])
    }

    /// Opens a controller and enables it.
    #[track_caller]
    pub fn open(target: &Target, subject: Subject) -> Outcome<Disk> {
        let mut disk = Disk::disabled(target, subject)?;
        disk.start(DEPTH)?;
        Ok(disk)
    }

    /// Opens a controller and leaves it disabled.
    #[track_caller]
    pub fn disabled(target: &Target, subject: Subject) -> Outcome<Disk> {
        Disk::adopt(target, TestDevice::open(subject)?)
    }

    /// Takes a controller that is open, in any state.
    #[track_caller]
    pub fn adopt(target: &Target, device: TestDevice) -> Outcome<Disk> {
        Ok(Disk {
            driver: Controller::new(device.vfio(), device.memory()?)?,
            device,
            shift: target.shift(),
        })
    }

    /// Resets the controller and enables it, with one I/O queue pair.
    #[track_caller]
    pub fn start(&mut self, depth: u16) -> Outcome {
        self.driver.restart(depth)?;
        self.driver.create_pair(depth, None)?;
        Ok(())
    }

    /// The guest's memory.
    pub fn memory(&self) -> &GuestMemory {
        self.driver.memory()
    }

    /// The size of a logical block in bytes.
    pub fn block(&self) -> u64 {
        1 << self.shift
    }

    /// Makes a command for `len` bytes at a place in the namespace, in whole blocks.
    pub fn transfer(&self, queue: u16, opcode: u8, place: u64, len: u64, address: u64) -> Command {
        let count = (len >> self.shift) as u32;
        self.driver.transfer(
            queue,
            opcode,
            self.shift,
            place >> self.shift,
            count,
            address,
        )
    }

    /// Moves bytes between a place and an address.
    #[track_caller]
    pub fn execute(
        &mut self,
        opcode: u8,
        place: u64,
        len: u64,
        address: u64,
    ) -> Outcome<Completion> {
        let command = self.transfer(1, opcode, place, len, address);
        Ok(self.driver.execute(1, command)?)
    }

    /// As [`Disk::execute`], and expects a status.
    #[track_caller]
    pub fn expect(
        &mut self,
        opcode: u8,
        place: u64,
        len: u64,
        address: u64,
        expected: Status,
    ) -> Outcome {
        let seen = self.execute(opcode, place, len, address)?;
        same(
            format_args!("opcode {opcode:#x}, {len} bytes at {place:#x}"),
            seen.status,
            expected,
        )
    }

    /// Writes bytes to a place, in commands as large as they may be.
    #[track_caller]
    pub fn write(&mut self, place: u64, bytes: &[u8]) -> Outcome {
        let mut at = place;
        for piece in bytes.chunks(MOST as usize) {
            let buffer = self.driver.data(0);
            self.memory().write(buffer, piece);
            self.expect(nvm::WRITE, at, piece.len() as u64, buffer, Status::SUCCESS)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Reads `len` bytes from a place.
    #[track_caller]
    pub fn read(&mut self, place: u64, len: u64) -> Outcome<Vec<u8>> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < len {
            let at = place + bytes.len() as u64;
            let piece = (len - bytes.len() as u64).min(MOST);
            let buffer = self.driver.data(0);
            self.expect(nvm::READ, at, piece, buffer, Status::SUCCESS)?;
            bytes.extend(self.memory().bytes(buffer, piece as usize));
        }
        Ok(bytes)
    }

    /// Writes zeroes to, or deallocates with `deallocate`, a part of the namespace.
    #[track_caller]
    pub fn write_zeroes(&mut self, place: u64, len: u64, deallocate: bool) -> Outcome {
        const DEAC: u32 = 1 << 25;
        let command = Command::new(nvm::WRITE_ZEROES)
            .namespace(1)
            .word(12, if deallocate { DEAC } else { 0 })
            .blocks(place >> self.shift, (len >> self.shift) as u32);
        let seen = self.driver.execute(1, command)?;
        same("write zeroes", seen.status, Status::SUCCESS)
    }

    /// Deallocates a part of the namespace.
    #[track_caller]
    pub fn deallocate(&mut self, place: u64, len: u64) -> Outcome {
        let range = self.driver.data(0);
        self.memory().write(range, &[0; 16]);
        let blocks = (len >> self.shift) as u32;
        self.memory().write(range + 4, &blocks.to_le_bytes());
        let first = place >> self.shift;
        self.memory().write(range + 8, &first.to_le_bytes());
        const DEALLOCATE: u32 = 1 << 2;
        let command = Command::new(nvm::DATASET)
            .namespace(1)
            .prp(range, 0)
            .word(10, 0)
            .word(11, DEALLOCATE);
        let seen = self.driver.execute(1, command)?;
        same("dataset management", seen.status, Status::SUCCESS)
    }

    /// Takes over the size of a logical block from what the controller says.
    #[track_caller]
    pub fn identify_block(&mut self) -> Outcome {
        let namespace = self.driver.identify(0, 1)?;
        let format = usize::from(namespace[26] & 0xf);
        self.shift = namespace[128 + 4 * format + 2];
        Ok(())
    }

    /// Returns the capacity in bytes, as the controller says it.
    #[track_caller]
    pub fn capacity(&mut self) -> Outcome<u64> {
        let namespace = self.driver.identify(0, 1)?;
        Ok(field(&namespace, 0, 8) << self.shift)
    }

    /// Checks that a reset makes the controller work, whatever was done to it before.
    #[track_caller]
    pub fn expect_recovers(&mut self) -> Outcome {
        self.device.reset()?;
        // MSI-X is disabled after a reset.
        self.driver.disconnect();
        self.start(DEPTH)?;
        let place = 5 * PAGE;
        let bytes = vfio_drivers::nvme::content(place, 77);
        self.write(place, &bytes)?;
        crate::check::same_bytes("read back", &self.read(place, PAGE)?, &bytes)
    }

    /// Migrates to another controller by stop-and-copy alone. The driver, as a guest's, does not notice.
    #[track_caller]
    pub fn migrate(self, target: &Target, attributes: &[(&str, &str)]) -> Outcome<Disk> {
        self.device.set(State::STOP_COPY)?;
        let stream = self.device.migration.save()?;
        self.arrive(target, attributes, &stream)
    }

    /// Goes on with another controller that loads a stream. The first controller is closed.
    #[track_caller]
    pub fn arrive(
        self,
        target: &Target,
        attributes: &[(&str, &str)],
        stream: &[u8],
    ) -> Outcome<Disk> {
        self.arrive_at(create(target, attributes)?, stream)
    }

    /// As [`Disk::arrive`], with a controller that exists.
    #[track_caller]
    pub fn arrive_at(self, other: Subject, stream: &[u8]) -> Outcome<Disk> {
        let memory = self.memory().clone();
        let device = TestDevice::open_for(other, memory)?;
        device.set(State::RESUMING)?;
        device.migration.feed(stream, usize::MAX)?;
        let driver = self.driver.moved_to(device.vfio())?;
        // A VMM connects the interrupts while the device is still resuming.
        driver.signal()?;
        device.set(State::RUNNING)?;
        Ok(Disk {
            driver,
            device,
            shift: self.shift,
        })
    }
}

/// Reads a little-endian number of up to eight bytes.
pub fn field(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len]
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Creates a controller with some attributes, which are written in this order.
#[track_caller]
pub fn create(target: &Target, attributes: &[(&str, &str)]) -> Outcome<Subject> {
    let subject = target.subject()?;
    for (name, value) in attributes {
        subject.set_attribute(name, value.as_bytes())?;
    }
    Ok(subject)
}

/// Runs a test with a disk in memory, and with one of the same size in a file, with and without the page cache.
#[track_caller]
pub fn in_each_store(target: &Target, test: impl Fn(&Target, Disk) -> Outcome) -> Outcome {
    const SIZE: u64 = 64 << 20;
    let scratch = Scratch::new(SIZE)?;
    let direct = Scratch::new(SIZE)?;
    let ram: &[_] = &[(STORE, "ram")];
    let file = [(STORE, "file"), (FILE, scratch.text())];
    let direct = [(STORE, "file"), (FILE, direct.text()), (CACHE, "none")];
    for attributes in [ram, &file, &direct] {
        let disk = Disk::with(target, attributes)?;
        test(target, disk).map_err(|stop| match stop {
            Stop::Failed(why) => {
                let store: Vec<_> = attributes.iter().map(|(_, value)| *value).collect();
                Stop::Failed(format!("{why} ({})", store.join(" ")))
            }
            stop => stop,
        })?;
    }
    Ok(())
}

/// Checks that a controller whose file is another's does not start.
#[track_caller]
pub fn expect_fails_to_start(driver: &mut Controller) -> Outcome {
    driver.disable()?;
    match driver.enable(DEPTH) {
        Err(_) if driver.status()? & CSTS_FATAL != 0 => Ok(()),
        Err(error) => Err(error.into()),
        Ok(()) => Err(Stop::failed(
            "expected a fatal status while another controller has the file, seen ready",
        )),
    }
}

/// A file that is removed when it is dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes a file of zeros.
    #[track_caller]
    pub fn new(size: u64) -> Outcome<Scratch> {
        let scratch = Scratch::path_only()?;
        fs::File::create_new(&scratch.0)
            .and_then(|file| file.set_len(size))
            .map_err(|error| Stop::failed(format_args!("{}: {error}", scratch.0.display())))?;
        Ok(scratch)
    }

    /// Takes a path at which nothing is.
    #[track_caller]
    pub fn path_only() -> Outcome<Scratch> {
        let name = format!("ferry-nvme-{}", random_uuid()?);
        Ok(Scratch(std::env::temp_dir().join(name)))
    }

    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the path as a string, for an attribute.
    pub fn text(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// Returns the content.
    #[track_caller]
    pub fn read(&self) -> Outcome<Vec<u8>> {
        fs::read(&self.0)
            .map_err(|error| Stop::failed(format_args!("{}: {error}", self.0.display())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The test may have removed the file, or never made it.
        let _ = fs::remove_file(&self.0).or_else(|_| fs::remove_dir(&self.0));
    }
}

/// Checks that of two controllers with the same `attributes`, which name a file, the second one starts only
/// once the first one is closed.
#[track_caller]
pub fn refuses_two_writers(target: &Target, attributes: &[(&str, &str)]) -> Outcome {
    let mut first = Disk::with(target, attributes)?;
    let bytes = content(0, 2);
    first.write(0, &bytes)?;
    // During a migration both controllers are open, so the start fails, not the open.
    let mut second = Disk::disabled(target, create(target, attributes)?)?;
    let uuid = second.device.subject.name().to_string();
    let mut driver = second.driver.clone();
    expect_line(&[target.kind.driver(), &uuid, "lock"], || {
        expect_fails_to_start(&mut driver)
    })?;
    // The first controller and the file are not affected.
    same_bytes("read by the first", &first.read(0, PAGE)?, &bytes)?;
    // A reset of the first controller does not give the file to the second one.
    first.driver.disable()?;
    expect_line(&[target.kind.driver(), &uuid, "lock"], || {
        expect_fails_to_start(&mut driver)
    })?;
    first.start(DEPTH)?;
    same_bytes("read by the first again", &first.read(0, PAGE)?, &bytes)?;
    drop(first);
    // The file is free now.
    second.start(DEPTH)?;
    same_bytes("read by the second", &second.read(0, PAGE)?, &bytes)
}
