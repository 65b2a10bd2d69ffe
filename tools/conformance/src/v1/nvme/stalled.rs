// SPDX-License-Identifier: GPL-2.0

//! A command that waits for memory of its user, who is in no hurry: all else about the device goes on.

use std::fs;
use std::sync::mpsc;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use rustix::event::poll;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::process::Pid;
use rustix::thread::gettid;
use vfio_bindings::bindings::vfio;
use vfio_client::irq::Index;
use vfio_client::sys::PageFaults;
use vfio_client::v1::State;
use vfio_client::AddressSpace as _;
use vfio_client::EventFd;
use vfio_client::Mapping;
use vfio_drivers::nvme::content;
use vfio_drivers::nvme::nvm;
use vfio_drivers::nvme::register;
use vfio_drivers::nvme::Status;
use vfio_drivers::nvme::PAGE;

use crate::case::cases;
use crate::case::Case;
use crate::check::holds;
use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::check::Stop;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::device::TestDevice;
use crate::v1::device::PATIENCE;
use crate::v1::nvme::disk::Disk;
use crate::v1::region::joined;

const MIB: u64 = 1 << 20;
/// Where the memory is mapped that nobody provides.
const ELSEWHERE: u64 = 0x40_0000_0000;
/// Offset of the command register in configuration space.
const COMMAND: u64 = 0x04;
const MEMORY: u16 = 0x0002;
const MEMORY_AND_MASTER: u16 = 0x0006;

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::Nvme];

pub const CASES: &[Case] = cases![
    NEEDS;
    nvme_stalled_registers_answer,
    nvme_stalled_command_ends_with_a_controller_reset,
    nvme_stalled_command_ends_with_a_function_reset,
    nvme_stalled_command_ends_with_bus_mastering,
    nvme_stalled_save_waits_alone,
    nvme_stalled_stop_waits_alone,
];

/// A disk with a command that waits for memory.
struct Stalled {
    disk: Disk,
    queue: u16,
    memory: Arc<Mapping>,
    faults: PageFaults,
}

impl Stalled {
    fn new(disk: Disk) -> Outcome<Self> {
        let faults = PageFaults::new().map_err(Stop::failed)?;
        let memory = Arc::new(Mapping::anonymous(MIB as usize).map_err(Stop::failed)?);
        faults.of(&memory).map_err(Stop::failed)?;
        disk.device.session.container.map(ELSEWHERE, &memory)?;
        let mut stalled = Stalled {
            disk,
            queue: 1,
            memory,
            faults,
        };
        stalled.submit()?;
        Ok(stalled)
    }

    /// Has a command executed that writes from the memory, and waits until it waits.
    fn submit(&mut self) -> Outcome {
        let write = self
            .disk
            .transfer(self.queue, nvm::WRITE, MIB, PAGE, ELSEWHERE);
        self.disk.driver.submit(self.queue, write)?;
        let mut ready = [PollFd::new(&self.faults, PollFlags::IN)];
        poll(&mut ready, None).map_err(Stop::failed)?;
        Ok(())
    }

    /// Lets the command go on, with zeros.
    fn provide(&self) -> Outcome {
        self.faults
            .provide_zeroes(&self.memory)
            .map_err(Stop::failed)
    }

    /// Ends the stall, and returns the disk without the memory.
    fn end(self) -> Outcome<Disk> {
        let Stalled { disk, .. } = self;
        disk.device.session.container.unmap(ELSEWHERE, MIB)?;
        Ok(disk)
    }
}

/// Uses all that software uses of a device while a command is executed.
fn use_registers(disk: &Disk) -> Outcome {
    let vfio = disk.device.vfio();
    holds(
        disk.driver.status()? & 1 != 0,
        "expected a controller that is ready",
    )?;
    disk.driver.write(register::INTMS, 1 << 3)?;
    disk.driver.write(register::INTMC, 1 << 3)?;
    let config = vfio.region(vfio::VFIO_PCI_CONFIG_REGION_INDEX)?;
    let command = config.read_u16(COMMAND)?;
    config.write(COMMAND, &command.to_le_bytes())?;
    let event = EventFd::new()?;
    vfio.set_trigger(Index::Intx, Some(&event))?;
    vfio.set_trigger(Index::Intx, None)?;
    Ok(())
}

/// Looks at the state, in both ways that need no transition.
fn look_at_state(disk: &Disk, expected: State) -> Outcome {
    same("device_state", disk.device.migration.state()?, expected)?;
    let text = disk.device.subject.attribute("migration/device_state")?;
    same("migration/device_state", text.as_str(), expected.name())
}

fn nvme_stalled_registers_answer(target: &Target) -> Outcome {
    let stalled = Stalled::new(Disk::new(target)?)?;
    use_registers(&stalled.disk)?;
    look_at_state(&stalled.disk, State::RUNNING)?;
    stalled.provide()?;
    let mut disk = {
        let mut stalled = stalled;
        let seen = stalled.disk.driver.wait(stalled.queue)?;
        same("status", seen.status, Status::SUCCESS)?;
        stalled.end()?
    };
    same_bytes("page", &disk.read(MIB, PAGE)?, &[0; PAGE as usize])
}

/// Has a command wait, and checks that `reset` ends it.
fn expect_reset_ends(target: &Target, reset: impl FnOnce(&mut Disk) -> Outcome) -> Outcome {
    let mut disk = Disk::new(target)?;
    let bytes = content(1, 5);
    disk.write(MIB, &bytes)?;
    let mut stalled = Stalled::new(disk)?;
    reset(&mut stalled.disk)?;
    // Memory of the user that comes now is not for the command.
    stalled.provide()?;
    let mut disk = stalled.end()?;
    disk.expect_recovers()?;
    same_bytes("page", &disk.read(MIB, PAGE)?, &bytes)
}

fn nvme_stalled_command_ends_with_a_controller_reset(target: &Target) -> Outcome {
    expect_reset_ends(target, |disk| Ok(disk.driver.disable()?))
}

fn nvme_stalled_command_ends_with_a_function_reset(target: &Target) -> Outcome {
    expect_reset_ends(target, |disk| Ok(disk.device.vfio().reset()?))
}

fn nvme_stalled_command_ends_with_bus_mastering(target: &Target) -> Outcome {
    expect_reset_ends(target, |disk| {
        let config = disk
            .device
            .vfio()
            .region(vfio::VFIO_PCI_CONFIG_REGION_INDEX)?;
        config.write(COMMAND, &MEMORY.to_le_bytes())?;
        Ok(config.write(COMMAND, &MEMORY_AND_MASTER.to_le_bytes())?)
    })
}

/// Waits until thread `id` waits in a system call.
fn await_blocked(id: Pid) -> Outcome {
    let path = format!("/proc/self/task/{}/syscall", id.as_raw_nonzero());
    let start = Instant::now();
    while fs::read_to_string(&path).map_err(Stop::failed)?.trim() == "running" {
        holds(
            start.elapsed() < PATIENCE,
            "the thread has waited for nothing yet",
        )?;
        thread::yield_now();
    }
    Ok(())
}

/// Checks that nothing but `wait` waits for a command that waits, in state `during`, and that both end with the memory.
fn expect_waits_alone(
    stalled: &Stalled,
    during: State,
    wait: impl FnOnce(&TestDevice) -> Outcome + Send,
) -> Outcome {
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        let device = &stalled.disk.device;
        let waits = scope.spawn(move || -> Outcome {
            tell.send(gettid()).map_err(Stop::failed)?;
            wait(device)
        });
        let seen = (|| {
            let id = told.recv().map_err(Stop::failed)?;
            await_blocked(id)?;
            use_registers(&stalled.disk)?;
            look_at_state(&stalled.disk, during)
        })();
        // Without it, the thread would wait for ever.
        let provided = stalled.provide();
        let waited = joined(waits);
        seen.and(provided).and(waited)
    })
}

/// The storage of a disk in memory is one that a save and a command share.
fn nvme_stalled_save_waits_alone(target: &Target) -> Outcome {
    let disk = Disk::new(target)?;
    disk.device.set(State::PRE_COPY)?;
    let mut stalled = Stalled::new(disk)?;
    expect_waits_alone(&stalled, State::PRE_COPY, |device| {
        Ok(device.migration.pending().map(drop)?)
    })?;
    let seen = stalled.disk.driver.wait(stalled.queue)?;
    same("status", seen.status, Status::SUCCESS)?;
    stalled.end()?.expect_recovers()
}

fn nvme_stalled_stop_waits_alone(target: &Target) -> Outcome {
    let mut stalled = Stalled::new(Disk::new(target)?)?;
    expect_waits_alone(&stalled, State::RUNNING, |device| {
        device.set(State::STOP_COPY)
    })?;
    look_at_state(&stalled.disk, State::STOP_COPY)?;
    stalled.disk.device.set(State::RUNNING)?;
    let seen = stalled.disk.driver.wait(stalled.queue)?;
    same("status", seen.status, Status::SUCCESS)?;
    stalled.end()?.expect_recovers()
}
