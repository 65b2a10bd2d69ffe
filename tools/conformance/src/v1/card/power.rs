// SPDX-License-Identifier: GPL-2.0

//! A card that its user has put to sleep is not moved, and wakes up as it was.

use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;

use vfio_bindings::bindings::vfio;
use vfio_client::sys::Request;
use vfio_client::v1::State;
use vfio_client::Errno;
use vfio_client::Region;
use vfio_drivers::e1000e::register;
use vfio_drivers::e1000e::Plug;
use vfio_drivers::e1000e::CTRL_MASTER_DISABLE;

use crate::case::cases;
use crate::case::Case;
use crate::check::holds;
use crate::check::refused;
use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::check::Stop;
use crate::network::card;
use crate::requirement::Requirement;
use crate::subject::Subject;
use crate::target::Target;
use crate::v1::card::needs_tracking;
use crate::v1::config::space;
use crate::v1::config::COMMAND;
use crate::v1::device::TestDevice;

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::E1000e];

pub const CASES: &[Case] = cases![
    NEEDS;
    card_in_low_power_is_not_moved,
    card_whose_reset_failed_is_not_moved_until_the_next_reset,
    card_in_d3hot_is_not_moved,
    card_that_is_closed_asleep_is_reset,
    card_that_is_disturbed_saves_nothing_wrong,
    card_moves_without_memory_and_bus_mastering [Pair],
    card_that_runs_is_held_only_until_it_is_bus_master,
];

/// Memory decoding and bus mastering.
const MEMORY_AND_MASTER: u16 = 6;

/// Sets a feature that has no data.
#[track_caller]
fn set_feature(device: &TestDevice, id: u32) -> Outcome {
    let mut argument = vec![0; 8];
    argument[..4].copy_from_slice(&8u32.to_ne_bytes());
    argument[4..].copy_from_slice(&(id | vfio::VFIO_DEVICE_FEATURE_SET).to_ne_bytes());
    device
        .vfio()
        .ioctl(Request::DEVICE_FEATURE, &mut argument)
        .map_err(|errno| Stop::failed(format_args!("feature {id}: {errno}")))?;
    Ok(())
}

fn card_in_low_power_is_not_moved(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    set_feature(&device, vfio::VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY)?;
    for state in [State::STOP, State::STOP_COPY] {
        refused(
            format_args!("{state} in low power"),
            device.migration.set_state(state),
            Errno::BUSY,
        )?;
        device.expect(State::RUNNING)?;
    }
    set_feature(&device, vfio::VFIO_DEVICE_FEATURE_LOW_POWER_EXIT)?;
    device.save()?;
    device.set(State::RUNNING)?;
    device.expect_works()
}

/// The card still has what it was stopped with.
fn card_whose_reset_failed_is_not_moved_until_the_next_reset(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.set(State::STOP)?;
    set_feature(&device, vfio::VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY)?;
    device.reset()?;
    device.expect(State::RUNNING)?;
    set_feature(&device, vfio::VFIO_DEVICE_FEATURE_LOW_POWER_EXIT)?;
    for state in [State::PRE_COPY, State::STOP, State::STOP_COPY] {
        refused(
            format_args!("{state} after a reset that failed"),
            device.migration.set_state(state),
            Errno::IO,
        )?;
        device.expect(State::RUNNING)?;
    }
    device.reset()?;
    device.save()?;
    device.set(State::RUNNING)?;
    device.expect_works()
}

/// Returns where the control and status of power management is.
#[track_caller]
fn power_control(space: &Region) -> Outcome<u64> {
    const FIRST: u64 = 0x34;
    const POWER_MANAGEMENT: u8 = 1;
    let mut at = u64::from(space.read_u8(FIRST)?);
    while at != 0 {
        if space.read_u8(at)? == POWER_MANAGEMENT {
            return Ok(at + 4);
        }
        at = u64::from(space.read_u8(at + 1)?);
    }
    Err(Stop::failed("expected power management, seen none"))
}

fn card_in_d3hot_is_not_moved(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(19)?;
    let space = space(&device)?;
    let power = power_control(&space)?;
    space.write(power, &3u16.to_le_bytes())?;
    same("power state", space.read_u8(power)? & 3, 3)?;
    refused(
        "STOP in D3hot",
        device.migration.set_state(State::STOP),
        Errno::BUSY,
    )?;
    device.expect(State::RUNNING)?;
    space.write(power, &0u16.to_le_bytes())?;
    device.save()?;
    device.set(State::RUNNING)?;
    device.expect_works()
}

/// Reads a register of a card without a driver, through the I/O ports that lead to all registers.
fn read_unbound(subject: &Subject, offset: u64) -> std::io::Result<u32> {
    const IOADDR: u64 = 0;
    const IODATA: u64 = 4;
    let path = subject.path().join("resource2");
    let ports = File::options().read(true).write(true).open(path)?;
    let mut value = [0; 4];
    ports.write_all_at(&offset.to_le_bytes()[..4], IOADDR)?;
    ports.read_exact_at(&mut value, IODATA)?;
    Ok(u32::from_le_bytes(value))
}

/// Takes the driver away from a card, reads a register of the card, and gives the driver back.
fn read_closed(subject: &Subject, offset: u64) -> std::io::Result<u32> {
    let path = subject.path();
    fs::write(path.join("driver/unbind"), subject.name())?;
    let read = fs::write(path.join("enable"), "1").and_then(|()| {
        let read = read_unbound(subject, offset);
        fs::write(path.join("enable"), "0").and(read)
    });
    fs::write(path.join("subsystem/drivers_probe"), subject.name()).and(read)
}

/// Whoever is given the card next, without VFIO, finds nothing of the user.
fn card_that_is_closed_asleep_is_reset(target: &Target) -> Outcome {
    let sleeps: [fn(&TestDevice) -> Outcome; 2] = [
        |device| set_feature(device, vfio::VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY),
        |device| {
            let space = space(device)?;
            Ok(space.write(power_control(&space)?, &3u16.to_le_bytes())?)
        },
    ];
    for sleep in sleeps {
        let device = TestDevice::new(target)?;
        device.fill(23)?;
        sleep(&device)?;
        let subject = device.close();
        for (name, offset) in [("IMS", register::IMS), ("RDLEN", register::RDLEN)] {
            let seen = read_closed(&subject, offset)
                .map_err(|error| Stop::failed(format_args!("reading {name}: {error}")))?;
            same(format_args!("{name} after a close asleep"), seen, 0)?;
        }
        drop(subject);
        TestDevice::new(target)?.expect_works()?;
    }
    Ok(())
}

/// How often a save is disturbed.
const DISTURBED: usize = 20;

/// A register that is not decoded reads as all ones.
fn card_that_is_disturbed_saves_nothing_wrong(target: &Target) -> Outcome {
    const MASTER: u16 = 4;
    let device = TestDevice::new(target)?;
    let space = space(&device)?;
    let command = |value: u16| space.write(COMMAND, &value.to_le_bytes());
    device.fill(29)?;
    let expected = device.image()?;
    for round in 0..DISTURBED {
        let done = AtomicBool::new(false);
        let saved = thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let _ = command(MASTER);
                    let _ = command(MEMORY_AND_MASTER);
                }
            });
            let saved = device.image();
            done.store(true, Ordering::Relaxed);
            saved
        });
        command(MEMORY_AND_MASTER)?;
        match saved {
            Ok(saved) => same_bytes(format_args!("image {round}"), &saved, &expected)?,
            Err(_) => {
                device.reset()?;
                device.fill(29)?;
            }
        }
    }
    device.reset()?;
    device.expect_works()
}

/// As a guest leaves a card before its driver is loaded.
fn card_moves_without_memory_and_bus_mastering(target: &Target) -> Outcome {
    // The work has statistics.
    needs_tracking(&TestDevice::new(target)?, true)?;
    for (seed, command) in [(41, 0u16), (42, 2), (43, 4)] {
        let source = TestDevice::new(target)?;
        source.fill(seed)?;
        space(&source)?.write(COMMAND, &command.to_le_bytes())?;
        let stream = source.save()?;

        let device = TestDevice::new(target)?;
        device.set(State::RESUMING)?;
        device.migration.feed(&stream, usize::MAX)?;
        // A VMM restores configuration space before it starts the device.
        let space = space(&device)?;
        space.write(COMMAND, &command.to_le_bytes())?;
        device.set(State::RUNNING)?;
        holds(
            space.read_u16(COMMAND)? & MEMORY_AND_MASTER == command,
            format_args!("expected command {command:#x} to stay"),
        )?;
        space.write(COMMAND, &MEMORY_AND_MASTER.to_le_bytes())?;
        device.expect_filled(seed)?;
        device.expect_works()?;
    }
    Ok(())
}

/// QEMU's card does DMA while masters are disabled. A real one does not.
fn card_that_runs_is_held_only_until_it_is_bus_master(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let mut card = card(&device)?;
    card.reset()?;
    card.start(Plug::Loopback, 16)?;
    let space = space(&device)?;
    let held = |what: &str, expected: bool| -> Outcome {
        same(
            format_args!("CTRL.GIO Master Disable {what}"),
            card.read(register::CTRL)? & CTRL_MASTER_DISABLE != 0,
            expected,
        )
    };

    held("before the first stop", false)?;
    for state in [State::STOP, State::STOP_COPY] {
        device.set(state)?;
        held("of a card that is stopped", true)?;
        device.set(State::RUNNING)?;
        held("of a bus master that runs", false)?;

        const MEMORY: u16 = 2;
        space.write(COMMAND, &MEMORY.to_le_bytes())?;
        device.set(state)?;
        device.set(State::RUNNING)?;
        held("of a card that is no bus master", true)?;
        space.write(COMMAND, &MEMORY_AND_MASTER.to_le_bytes())?;
        held("of a card that has become bus master", false)?;
    }
    Ok(())
}
