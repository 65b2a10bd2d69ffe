// SPDX-License-Identifier: GPL-2.0

//! A controller in the power state D3hot: it does nothing, and goes on in D0.

use vfio_client::irq::Action;
use vfio_client::irq::Data;
use vfio_client::irq::Index;
use vfio_client::EventFd;
use vfio_client::Region;
use vfio_drivers::nvme;
use vfio_drivers::nvme::admin;
use vfio_drivers::nvme::feature;
use vfio_drivers::nvme::nvm;
use vfio_drivers::nvme::register;
use vfio_drivers::nvme::Command;
use vfio_drivers::nvme::Status;
use vfio_drivers::nvme::PAGE;

use crate::case::cases;
use crate::case::Case;
use crate::check::holds;
use crate::check::same;
use crate::check::Outcome;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::config::space;
use crate::v1::config::COMMAND;
use crate::v1::config::COMMAND_MASTER;
use crate::v1::config::COMMAND_MEMORY;
use crate::v1::config::STATUS_INTERRUPT;
use crate::v1::device::PATIENCE;
use crate::v1::nvme::config::capability;
use crate::v1::nvme::config::POWER;
use crate::v1::nvme::config::POWER_CONTROL;
use crate::v1::nvme::config::VECTORS;
use crate::v1::nvme::disk::create;
use crate::v1::nvme::disk::Disk;

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::Nvme, Requirement::Mdev];

pub const CASES: &[Case] = cases![
    NEEDS;
    nvme_d3hot_registers_read_as_ones_and_take_nothing [Msix],
    nvme_d3hot_a_doorbell_that_was_rung_before_counts_afterwards [Msix],
    nvme_d3hot_a_doorbell_that_is_rung_is_lost [Msix],
    nvme_d3hot_moves [Msix],
    nvme_d3hot_the_pin_is_quiet [Intx],
    nvme_d3hot_a_message_waits_for_d0 [Msix],
    nvme_d3hot_a_message_does_not_outlive_a_reset [Msix],
    nvme_status_bit_is_0_while_msix_is_enabled [Msix],
    nvme_memory_space_off_work_goes_on [Msix],
];

const D0: u8 = 0;
const D3HOT: u8 = 3;

/// A command that changes nothing.
fn harmless() -> Command {
    Command::new(admin::GET_FEATURES).word(10, feature::ARBITRATION.into())
}

/// A controller with MSI-X and a queue pair with vector 1.
#[track_caller]
fn connected(target: &Target) -> Outcome<Disk> {
    let mut disk = Disk::disabled(target, create(target, &[])?)?;
    disk.driver.connect(VECTORS)?;
    disk.driver.restart(8)?;
    disk.driver.create_pair(8, Some(1))?;
    disk.driver.event(0).take()?;
    disk.driver.event(1).take()?;
    Ok(disk)
}

#[track_caller]
fn power(disk: &Disk) -> Outcome<(Region, u64)> {
    let space = space(&disk.device)?;
    let at = capability(&space, POWER)? + POWER_CONTROL;
    Ok((space, at))
}

#[track_caller]
fn set_power(disk: &Disk, state: u8) -> Outcome {
    let (space, at) = power(disk)?;
    space.write(at, &[state])?;
    same("power state", space.read_u8(at)? & 3, state)
}

/// Rings the doorbell of queue 1 for a read in D0, while the function is no bus master, so that nothing is
/// fetched; and lets it be one in D3hot.
#[track_caller]
fn ring_and_sleep(disk: &mut Disk) -> Outcome {
    let space = space(&disk.device)?;
    space.write(COMMAND, &COMMAND_MEMORY.to_le_bytes())?;
    let command = disk.transfer(1, nvm::READ, 0, PAGE, disk.driver.data(0));
    disk.driver.submit(1, command)?;
    set_power(disk, D3HOT)?;
    let command = COMMAND_MEMORY | COMMAND_MASTER;
    Ok(space.write(COMMAND, &command.to_le_bytes())?)
}

/// Checks that the controller executes nothing. A worker that runs would have the time for it meanwhile.
#[track_caller]
fn expect_asleep(disk: &Disk) -> Outcome {
    let (space, at) = power(disk)?;
    for _ in 0..50 {
        same("CSTS in D3hot", disk.driver.status()?, u32::MAX)?;
        // Writing anything to configuration space has the worker look.
        let state = space.read_u8(at)?;
        space.write(at, &[state])?;
        same("power state", state & 3, D3HOT)?;
    }
    same("a completion in D3hot", disk.driver.peek(1), None)?;
    same("messages in D3hot", disk.driver.event(1).take()?, 0)?;
    same(
        "interrupt status in D3hot",
        space.read_u16(0x06)? & STATUS_INTERRUPT,
        0,
    )
}

/// Checks that the controller executes in D0 the commands of before.
#[track_caller]
fn expect_awakes(disk: &mut Disk) -> Outcome {
    set_power(disk, D0)?;
    let signals = disk.driver.event(1).wait(PATIENCE)?;
    holds(signals >= 1, "no interrupt after the return to D0")?;
    let seen = disk.driver.wait(1)?;
    same("status of the command", seen.status, Status::SUCCESS)?;
    let command = disk.transfer(1, nvm::READ, 0, PAGE, disk.driver.data(0));
    disk.driver.succeed(1, command)?;
    Ok(())
}

fn nvme_d3hot_registers_read_as_ones_and_take_nothing(target: &Target) -> Outcome {
    let disk = connected(target)?;
    let bar = disk.driver.bar();
    let before = bar.read_u32(register::AQA)?;
    set_power(&disk, D3HOT)?;
    let mut whole = vec![0; bar.size() as usize];
    bar.read(0, &mut whole)?;
    holds(
        whole.iter().all(|byte| *byte == 0xff),
        "expected BAR 0 to read as ones",
    )?;
    disk.driver.write(register::CC, 0)?;
    bar.write(0x2000, &[0x5a; 16])?;
    set_power(&disk, D0)?;
    same("CSTS in D0", disk.driver.status()?, nvme::CSTS_READY)?;
    same("AQA in D0", bar.read_u32(register::AQA)?, before)?;
    same("the MSI-X table in D0", bar.read_u32(0x2000)?, 0)
}

fn nvme_d3hot_a_doorbell_that_was_rung_before_counts_afterwards(target: &Target) -> Outcome {
    let mut disk = connected(target)?;
    ring_and_sleep(&mut disk)?;
    expect_asleep(&disk)?;
    expect_awakes(&mut disk)
}

fn nvme_d3hot_a_doorbell_that_is_rung_is_lost(target: &Target) -> Outcome {
    let mut disk = connected(target)?;
    set_power(&disk, D3HOT)?;
    let command = disk.transfer(1, nvm::READ, 0, PAGE, disk.driver.data(0));
    disk.driver.submit(1, command)?;
    expect_asleep(&disk)?;
    set_power(&disk, D0)?;
    // The admin command comes after whatever the other doorbell could have started.
    disk.driver.succeed(0, harmless())?;
    same("a completion in D0", disk.driver.peek(1), None)?;
    // The next doorbell tells of both.
    disk.driver.submit(1, command)?;
    disk.driver.wait(1)?;
    disk.driver.wait(1)?;
    Ok(())
}

fn nvme_d3hot_moves(target: &Target) -> Outcome {
    let mut disk = connected(target)?;
    ring_and_sleep(&mut disk)?;
    for _ in 0..2 {
        disk = disk.migrate(target, &[])?;
        let command = space(&disk.device)?.read_u16(COMMAND)?;
        same("command", command, COMMAND_MEMORY | COMMAND_MASTER)?;
        expect_asleep(&disk)?;
    }
    expect_awakes(&mut disk)?;
    // What completed and was not announced is announced in D0, on whichever host.
    let command = disk.transfer(1, nvm::READ, 0, PAGE, disk.driver.data(0));
    disk.driver.submit(1, command)?;
    disk.driver.await_completion(1)?;
    // Whatever completed before was announced before.
    set_power(&disk, D3HOT)?;
    disk.driver.event(1).take()?;
    let mut disk = disk.migrate(target, &[])?;
    for _ in 0..50 {
        same("CSTS in D3hot", disk.driver.status()?, u32::MAX)?;
    }
    same("messages in D3hot", disk.driver.event(1).take()?, 0)?;
    set_power(&disk, D0)?;
    let signals = disk.driver.event(1).wait(PATIENCE)?;
    holds(signals >= 1, "no interrupt after the return to D0")?;
    disk.driver.wait(1)?;
    disk.expect_recovers()
}

fn nvme_d3hot_the_pin_is_quiet(target: &Target) -> Outcome {
    let mut disk = Disk::disabled(target, create(target, &[])?)?;
    let event = EventFd::new()?;
    disk.device.vfio().set_trigger(Index::Intx, Some(&event))?;
    disk.driver.restart(8)?;
    disk.driver.submit(0, harmless())?;
    same("interrupts in D0", event.wait(PATIENCE)?, 1)?;
    let (space, _) = power(&disk)?;
    let status = || -> Outcome<u16> { Ok(space.read_u16(0x06)? & STATUS_INTERRUPT) };
    same("interrupt status in D0", status()?, STATUS_INTERRUPT)?;
    set_power(&disk, D3HOT)?;
    same("interrupt status in D3hot", status()?, 0)?;
    disk.device.vfio().unmask(Index::Intx)?;
    same("interrupts in D3hot", event.take()?, 0)?;
    set_power(&disk, D0)?;
    same("interrupts in D0 again", event.wait(PATIENCE)?, 1)?;
    disk.driver.wait(0)?;
    Ok(())
}

/// Has a message wait in D3hot that had no eventfd before, and gives it one.
#[track_caller]
fn message_waits(disk: &mut Disk) -> Outcome<EventFd> {
    let vfio = disk.device.vfio().clone();
    let set = |event: Option<&EventFd>| -> Outcome {
        let data = Data::EventFd(&[event]);
        Ok(vfio.set_irqs(Index::Msix, Action::Trigger, 1, 1, data)?)
    };
    set(None)?;
    let command = disk.transfer(1, nvm::READ, 0, PAGE, disk.driver.data(0));
    disk.driver.submit(1, command)?;
    while disk.driver.peek(1).is_none() {
        std::thread::yield_now();
    }
    // Whatever completed before was announced before.
    set_power(disk, D3HOT)?;
    let event = EventFd::new()?;
    set(Some(&event))?;
    same("messages in D3hot", event.take()?, 0)?;
    Ok(event)
}

/// A message that had no eventfd waits for one, and for D0.
fn nvme_d3hot_a_message_waits_for_d0(target: &Target) -> Outcome {
    let mut disk = connected(target)?;
    let event = message_waits(&mut disk)?;
    set_power(&disk, D0)?;
    same("messages in D0", event.wait(PATIENCE)?, 1)
}

/// The function is in D0 after a reset, and signals nothing of before.
fn nvme_d3hot_a_message_does_not_outlive_a_reset(target: &Target) -> Outcome {
    let mut disk = connected(target)?;
    let event = message_waits(&mut disk)?;
    disk.device.reset()?;
    same("messages after a reset", event.take()?, 0)?;
    disk.expect_recovers()
}

/// In both ways in which it can be enabled: by the guest in configuration space, or by `VFIO_DEVICE_SET_IRQS`.
fn nvme_status_bit_is_0_while_msix_is_enabled(target: &Target) -> Outcome {
    let mut disk = connected(target)?;
    let (space, _) = power(&disk)?;
    let status = |what: &str, expected: u16| -> Outcome {
        same(
            format_args!("interrupt status {what}"),
            space.read_u16(0x06)? & STATUS_INTERRUPT,
            expected,
        )
    };
    disk.driver.submit(0, harmless())?;
    disk.driver.await_completion(0)?;
    status("with a listener and the enable bit", 0)?;
    let control = disk.driver.msix()? + 2;
    space.write(control, &[0, 0])?;
    status("with a listener", 0)?;
    disk.device.vfio().disable_irqs(Index::Msix)?;
    status("for the pin", STATUS_INTERRUPT)?;
    space.write(control, &nvme::MSIX_ENABLE.to_le_bytes())?;
    status("with the enable bit", 0)
}

fn nvme_memory_space_off_work_goes_on(target: &Target) -> Outcome {
    let mut disk = connected(target)?;
    let space = space(&disk.device)?;
    space.write(COMMAND, &COMMAND_MEMORY.to_le_bytes())?;
    let command = disk.transfer(1, nvm::READ, 0, PAGE, disk.driver.data(0));
    disk.driver.submit(1, command)?;
    // The function is a bus master whose registers cannot be reached.
    space.write(COMMAND, &COMMAND_MASTER.to_le_bytes())?;
    let signals = disk.driver.event(1).wait(PATIENCE)?;
    holds(signals >= 1, "no interrupt with memory space off")?;
    holds(disk.driver.peek(1).is_some(), "no completion")?;
    same("CSTS", disk.driver.status()?, u32::MAX)?;
    let command = COMMAND_MASTER | COMMAND_MEMORY;
    space.write(COMMAND, &command.to_le_bytes())?;
    same("CSTS", disk.driver.status()?, nvme::CSTS_READY)?;
    disk.driver.wait(1)?;
    Ok(())
}
