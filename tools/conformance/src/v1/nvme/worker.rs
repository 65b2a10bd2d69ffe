// SPDX-License-Identifier: GPL-2.0

//! The worker of a controller is a thread of the process that uses it: it is charged as the process is, and another
//! process that has the device as well is served in spite of what happens to the first one.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;
use std::path::Path;
use std::process::Child;
use std::process::Stdio;

use rustix::process::pidfd_getfd;
use rustix::process::pidfd_open;
use rustix::process::Pid;
use rustix::process::PidfdFlags;
use rustix::process::PidfdGetfdFlags;
use vfio_client::v1::State;
use vfio_client::Container;
use vfio_client::Device;
use vfio_client::GuestMemory;
use vfio_drivers::nvme::content;
use vfio_drivers::nvme::nvm;
use vfio_drivers::nvme::Command;
use vfio_drivers::nvme::Controller;
use vfio_drivers::nvme::Status;
use vfio_drivers::nvme::PAGE;

use crate::case::cases;
use crate::case::Case;
use crate::cgroup::Cgroup;
use crate::check::holds;
use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::check::Stop;
use crate::null_disk::NullDisk;
use crate::requirement::Requirement;
use crate::second_process;
use crate::subject::Subject;
use crate::target::Target;
use crate::v1::nvme::disk::Disk;
use crate::v1::nvme::disk::Scratch;
use crate::v1::nvme::disk::DEPTH;
use crate::v1::nvme::disk::FILE;
use crate::v1::nvme::disk::MOST;
use crate::v1::nvme::disk::STORE;
use crate::v1::nvme::dma::STALLED;
use crate::v1::state::HELD;

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::Nvme];

pub const CASES: &[Case] = cases![
    NEEDS;
    nvme_worker_is_a_thread_of_the_user,
    nvme_worker_io_is_charged_to_the_user [Mdev],
    nvme_worker_memory_is_charged_to_the_user [Mdev],
    nvme_worker_beyond_the_limit_of_memory_kills_nobody [Mdev],
    nvme_worker_serves_a_process_that_is_not_the_opener,
    nvme_worker_is_replaced_when_its_process_is_killed,
    nvme_worker_is_replaced_when_it_is_killed_in_a_page_fault,
];

const MIB: u64 = 1 << 20;
/// Where the memory of a process is mapped that is not the opener.
const ELSEWHERE: u64 = 0x60_0000_0000;

/// Returns the number of workers among the threads of a process, which is named as in `/proc`.
#[track_caller]
fn workers(process: &str) -> Outcome<usize> {
    let mut count = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task")).map_err(Stop::failed)? {
        let path = thread.map_err(Stop::failed)?.path().join("comm");
        // A thread may end meanwhile.
        let name = fs::read_to_string(path).unwrap_or_default();
        count += usize::from(name.trim_end() == "ferry");
    }
    Ok(count)
}

fn nvme_worker_is_a_thread_of_the_user(target: &Target) -> Outcome {
    let before = workers("self")?;
    let disk = Disk::new(target)?;
    same("workers of an open disk", workers("self")?, before + 1)?;
    drop(disk);
    same("workers of a closed disk", workers("self")?, before)
}

fn nvme_worker_io_is_charged_to_the_user(target: &Target) -> Outcome {
    let null = NullDisk::new()?;
    let number = null.number()?;
    let cgroup = Cgroup::new()?;
    let mut disk = Disk::with(target, &[(STORE, "file"), (FILE, &null.path())])?;
    let buffer = disk.driver.data(0);
    let before = cgroup.transferred(&number)?;
    disk.expect(nvm::READ, 16 * MIB, MOST, buffer, Status::SUCCESS)?;
    disk.expect(nvm::WRITE, 32 * MIB, MOST, buffer, Status::SUCCESS)?;
    let flush = Command::new(nvm::FLUSH).namespace(1);
    same(
        "a flush",
        disk.driver.execute(1, flush)?.status,
        Status::SUCCESS,
    )?;
    let after = cgroup.transferred(&number)?;
    for (what, before, after) in [("read", before.0, after.0), ("written", before.1, after.1)] {
        holds(
            after >= before + MOST,
            format_args!("expected {MOST} bytes {what} by the cgroup, seen {before} before and {after} after"),
        )?;
    }
    Ok(())
}

fn nvme_worker_memory_is_charged_to_the_user(target: &Target) -> Outcome {
    const LEN: u64 = 16 * MIB;
    let scratch = Scratch::new(64 * MIB)?;
    let ram: &[_] = &[(STORE, "ram")];
    for attributes in [ram, &[(STORE, "file"), (FILE, scratch.text())]] {
        let cgroup = Cgroup::new()?;
        let mut disk = Disk::with(target, attributes)?;
        let buffer = disk.driver.data(0);
        // A block of zeros takes no memory.
        disk.memory().write(buffer, &[0x5a; MOST as usize]);
        disk.expect(nvm::WRITE, 0, MOST, buffer, Status::SUCCESS)?;
        let before = cgroup.memory()?;
        for place in (MOST..MOST + LEN).step_by(MOST as usize) {
            disk.expect(nvm::WRITE, place, MOST, buffer, Status::SUCCESS)?;
        }
        let after = cgroup.memory()?;
        // Each processor may have been charged for some memory before it took it.
        holds(
            after >= before + LEN / 2,
            format_args!(
                "expected {LEN} bytes more in the cgroup, seen {before} before and {after} after ({})",
                attributes[0].1
            ),
        )?;
    }
    Ok(())
}

fn nvme_worker_beyond_the_limit_of_memory_kills_nobody(target: &Target) -> Outcome {
    let cgroup = Cgroup::new()?;
    let mut disk = Disk::with(target, &[(STORE, "ram")])?;
    let buffer = disk.driver.data(0);
    disk.memory().write(buffer, &[0x5a; MOST as usize]);
    disk.expect(nvm::WRITE, 0, MOST, buffer, Status::SUCCESS)?;
    let end = disk.capacity()?;
    cgroup.limit_memory(cgroup.memory()? + end / 4)?;
    // Nothing here takes memory until there is some again.
    let mut place = MOST;
    let mut refused = Status::SUCCESS;
    while place < end && refused == Status::SUCCESS {
        refused = disk.execute(nvm::WRITE, place, MOST, buffer)?.status;
        place += MOST;
    }
    disk.write_zeroes(place - MOST, MOST, true)?;
    disk.write_zeroes(MOST, MOST, true)?;
    same(
        format_args!("status of the write before {place:#x}"),
        refused,
        Status::CAPACITY,
    )?;
    disk.expect(nvm::WRITE, MOST, MOST, buffer, Status::SUCCESS)
}

/// A process that has opened a device, with a worker, and the opened device and container, which this process has as
/// well.
#[derive(Debug)]
struct Opener {
    device: Device,
    container: Container,
    child: Child,
}

impl Opener {
    /// Starts the process, which prints `word` then.
    #[track_caller]
    fn start(subject: &Subject, option: &str, argument: &str, word: &str) -> Outcome<Opener> {
        let arguments = [option, subject.name(), argument];
        let mut child = second_process::start(&arguments, Stdio::piped(), word)?;
        let files = open_file(&child, "anon_inode:[vfio-device]")
            .and_then(|device| Ok((device, open_file(&child, "/dev/vfio/vfio")?)));
        match files {
            Ok((device, container)) => Ok(Opener {
                device: Device::new(device, subject.name()),
                container: container.into(),
                child,
            }),
            Err(stop) => {
                let _ = child.kill().and_then(|()| child.wait());
                Err(stop)
            }
        }
    }

    /// Kills the process, and waits for its end.
    #[track_caller]
    fn kill(&mut self) -> Outcome {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed.map(drop).map_err(Stop::failed)
    }

    /// Returns the number of workers among its threads.
    #[track_caller]
    fn workers(&self) -> Outcome<usize> {
        workers(&self.child.id().to_string())
    }

    /// Checks that the controller executes commands of this process, in memory of this process.
    #[track_caller]
    fn expect_serves(&self, target: &Target) -> Outcome {
        let memory = GuestMemory::new(ELSEWHERE, 4 * MIB as usize)?;
        memory.attach(&self.container)?;
        let mut driver = Controller::new(&self.device, &memory)?;
        driver.restart(DEPTH)?;
        let queue = driver.create_pair(DEPTH, None)?;
        let bytes = content(3, 7);
        // Not at the begin of a page, so that each page's part is copied by itself.
        let (from, into) = (driver.data(512), driver.data(MIB + 1536));
        memory.write(from, &bytes);
        let shift = target.shift();
        let count = (PAGE >> shift) as u32;
        for (what, opcode, address) in [("write", nvm::WRITE, from), ("read", nvm::READ, into)] {
            let command = driver.transfer(queue, opcode, shift, 0, count, address);
            same(
                format_args!("status of a {what}"),
                driver.execute(queue, command)?.status,
                Status::SUCCESS,
            )?;
        }
        same_bytes("read back", &memory.bytes(into, bytes.len()), &bytes)
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        // The test may have killed it.
        let _ = self.kill();
    }
}

/// Returns an open file of a process by the name that `/proc` has for it.
#[track_caller]
fn open_file(process: &Child, name: &str) -> Outcome<OwnedFd> {
    let files = format!("/proc/{}/fd", process.id());
    for file in fs::read_dir(&files).map_err(Stop::failed)? {
        let file = file.map_err(Stop::failed)?;
        if fs::read_link(file.path()).map_err(Stop::failed)? != Path::new(name) {
            continue;
        }
        let number: RawFd = file
            .file_name()
            .to_string_lossy()
            .parse()
            .map_err(Stop::failed)?;
        let handle = pidfd_open(Pid::from_child(process), PidfdFlags::empty());
        return handle
            .and_then(|handle| pidfd_getfd(handle, number, PidfdGetfdFlags::empty()))
            .map_err(Stop::failed);
    }
    Err(Stop::failed(format_args!(
        "expected the file {name} in {files}, seen none"
    )))
}

fn nvme_worker_serves_a_process_that_is_not_the_opener(target: &Target) -> Outcome {
    let subject = target.subject()?;
    let running = State::RUNNING.0.to_string();
    let before = workers("self")?;
    let opener = Opener::start(&subject, "--hold", &running, HELD)?;
    opener.expect_serves(target)?;
    same("workers of the opener", opener.workers()?, 1)?;
    same("workers of the other process", workers("self")?, before)
}

/// Checks that the worker of this process is the next one, when the opener is killed.
#[track_caller]
fn expect_replaced(target: &Target, mut opener: Opener) -> Outcome {
    let before = workers("self")?;
    same("workers of the opener", opener.workers()?, 1)?;
    opener.kill()?;
    opener.expect_serves(target)?;
    same(
        "workers of the process that is left",
        workers("self")?,
        before + 1,
    )?;
    drop(opener);
    same(
        "workers once the device is closed",
        workers("self")?,
        before,
    )
}

fn nvme_worker_is_replaced_when_its_process_is_killed(target: &Target) -> Outcome {
    let subject = target.subject()?;
    let running = State::RUNNING.0.to_string();
    expect_replaced(target, Opener::start(&subject, "--hold", &running, HELD)?)
}

fn nvme_worker_is_replaced_when_it_is_killed_in_a_page_fault(target: &Target) -> Outcome {
    let subject = target.subject()?;
    expect_replaced(
        target,
        Opener::start(&subject, "--stall", "unmap", STALLED)?,
    )
}
