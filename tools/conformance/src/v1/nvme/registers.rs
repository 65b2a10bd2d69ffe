// SPDX-License-Identifier: GPL-2.0

//! The registers behind BAR0, and how the controller is enabled, disabled and shut down.

use vfio_drivers::nvme;
use vfio_drivers::nvme::content;
use vfio_drivers::nvme::feature;
use vfio_drivers::nvme::register;
use vfio_drivers::nvme::Command;
use vfio_drivers::nvme::Controller;
use vfio_drivers::nvme::PAGE;

use crate::case::cases;
use crate::case::Case;
use crate::check::denied;
use crate::check::holds;
use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::nvme::disk::create;
use crate::v1::nvme::disk::Disk;
use crate::v1::nvme::disk::DEPTH;

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::Nvme];

pub const CASES: &[Case] = cases![
    NEEDS;
    nvme_registers_have_their_reset_values [Mdev],
    nvme_registers_that_are_read_only_stay,
    nvme_registers_read_the_same_at_every_width [Mdev],
    nvme_registers_out_of_bar0_are_refused,
    nvme_registers_with_a_bad_address_are_refused,
    nvme_enable_and_disable_again_and_again,
    nvme_enable_with_what_it_cannot_do_fails [Mdev],
    nvme_disable_keeps_the_admin_queues_places,
    nvme_disable_drops_commands_and_queues,
    nvme_reset_forgets_everything_but_the_data,
    nvme_subsystem_reset_is_reported,
    nvme_shutdown_completes_and_may_be_followed_by_a_start,
    nvme_close_while_it_works [Mdev],
];

/// The address of the last page that can be named.
const LAST_PAGE: u64 = !0xfff;

fn nvme_registers_have_their_reset_values(target: &Target) -> Outcome {
    let disk = Disk::disabled(target, create(target, &[])?)?;
    let bar = disk.driver.bar();
    let cap = bar.read_u64(register::CAP)?;
    holds(
        cap & 0xffff >= 255,
        format_args!("expected queues of at least 256 entries, seen CAP {cap:#x}"),
    )?;
    same("CAP.CQR: queues are contiguous", cap >> 16 & 1, 1)?;
    same("CAP.DSTRD", cap >> 32 & 0xf, 0)?;
    same("CAP.CSS: the NVM command set", cap >> 37 & 1, 1)?;
    same("CAP.MPSMIN: 4 KiB", cap >> 48 & 0xf, 0)?;
    holds(
        cap >> 24 & 0xff != 0,
        format_args!("CAP.TO of 0 in {cap:#x}"),
    )?;
    same("VS", bar.read_u32(register::VS)?, 0x0001_0400)?;
    for (name, at) in [
        ("INTMS", register::INTMS),
        ("INTMC", register::INTMC),
        ("CC", register::CC),
        ("CSTS", register::CSTS),
        ("AQA", register::AQA),
    ] {
        same(name, bar.read_u32(at)?, 0)?;
    }
    same("ASQ", bar.read_u64(register::ASQ)?, 0)?;
    same("ACQ", bar.read_u64(register::ACQ)?, 0)
}

fn nvme_registers_that_are_read_only_stay(target: &Target) -> Outcome {
    let disk = Disk::new(target)?;
    let bar = disk.driver.bar();
    for at in [
        register::CAP,
        register::CAP + 4,
        register::VS,
        register::CSTS,
    ] {
        let before = bar.read_u32(at)?;
        for value in [0, u32::MAX] {
            disk.driver.write(at, value)?;
            same(
                format_args!("register {at:#x} after {value:#x}"),
                bar.read_u32(at)?,
                before,
            )?;
        }
    }
    // The admin queues' places are fixed while it is enabled.
    let before = bar.read_u64(register::ASQ)?;
    disk.driver.write_long(register::ASQ, 0x1000)?;
    same("ASQ while enabled", bar.read_u64(register::ASQ)?, before)
}

fn nvme_registers_read_the_same_at_every_width(target: &Target) -> Outcome {
    let disk = Disk::new(target)?;
    let bar = disk.driver.bar();
    let mut whole = vec![0; 0x1000];
    bar.read(0, &mut whole)?;
    for width in [1usize, 2, 4, 8] {
        for at in (0..0x40).step_by(width) {
            let mut bytes = vec![0xee; width];
            bar.read(at as u64, &mut bytes)?;
            same_bytes(
                format_args!("{width} bytes at {at:#x}"),
                &bytes,
                &whole[at..at + width],
            )?;
        }
    }
    // Two writes of four bytes do the same as one of eight.
    drop(disk);
    let disk = Disk::disabled(target, create(target, &[])?)?;
    let bar = disk.driver.bar();
    disk.driver.write(register::ACQ + 4, 0x1234)?;
    disk.driver.write(register::ACQ, 0x5678_9000)?;
    same("ACQ", bar.read_u64(register::ACQ)?, 0x1234_5678_9000)?;
    disk.driver.write_long(register::ASQ, 0x11_2233_4000)?;
    same("ASQ", bar.read_u64(register::ASQ)?, 0x11_2233_4000)
}

fn nvme_registers_out_of_bar0_are_refused(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    let bar = disk.driver.bar().clone();
    let size = bar.size();
    for (at, len) in [
        (size, 1),
        (size - 1, 2),
        (size - 4, 8),
        (0, size as usize + 1),
        (1 << 32, 4),
    ] {
        denied(
            format_args!("read of {len} at {at:#x}"),
            bar.read(at, &mut vec![0; len]),
        )?;
        denied(
            format_args!("write of {len} at {at:#x}"),
            bar.write(at, &vec![0xff; len]),
        )?;
    }
    same("CSTS", disk.driver.status()?, nvme::CSTS_READY)?;
    disk.read(0, PAGE).map(drop)
}

fn nvme_registers_with_a_bad_address_are_refused(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    let bar = disk.driver.bar().clone();
    for at in [register::CC, register::DOORBELLS, 0x2000] {
        for len in [1, 2, 4, 8] {
            denied(
                format_args!("read of {len} at {at:#x} to nowhere"),
                bar.read_nowhere(at, len),
            )?;
            denied(
                format_args!("write of {len} at {at:#x} from nowhere"),
                bar.write_nowhere(at, len),
            )?;
        }
    }
    same("CSTS", disk.driver.status()?, nvme::CSTS_READY)?;
    disk.read(0, PAGE).map(drop)
}

fn nvme_enable_and_disable_again_and_again(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    for round in 0..100 {
        let depth = 2 + round * 7 % 200;
        disk.start(depth)?;
        let bytes = content(0, round.into());
        disk.write(0, &bytes)?;
        same_bytes(format_args!("round {round}"), &disk.read(0, PAGE)?, &bytes)?;
    }
    Ok(())
}

/// Enables with any values and returns the status when that is decided.
fn try_enable(driver: &mut Controller, cc: u32, aqa: u32, asq: u64, acq: u64) -> Outcome<u32> {
    driver.disable()?;
    driver.write(register::AQA, aqa)?;
    driver.write_long(register::ASQ, asq)?;
    driver.write_long(register::ACQ, acq)?;
    driver.write(register::CC, cc)?;
    Ok(driver.wait_status(nvme::CSTS_READY, nvme::CSTS_READY)?)
}

fn nvme_enable_with_what_it_cannot_do_fails(target: &Target) -> Outcome {
    let mut disk = Disk::disabled(target, create(target, &[])?)?;
    let start = disk.memory().start();
    const ENABLE: u32 = nvme::CC_SIZES | nvme::CC_ENABLE;
    const SIZES: u32 = 7 << 16 | 7;
    for (what, cc, aqa) in [
        ("the largest page size", ENABLE | 0xf << 7, SIZES),
        ("another command set", ENABLE | 6 << 4, SIZES),
        ("another arbitration", ENABLE | 7 << 11, SIZES),
        ("an admin submission queue of one", ENABLE, 7 << 16),
        ("an admin completion queue of one", ENABLE, 7),
    ] {
        let status = try_enable(&mut disk.driver, cc, aqa, start, start + 0x4000)?;
        same(
            format_args!("CSTS with {what}"),
            status & (nvme::CSTS_READY | nvme::CSTS_FATAL),
            nvme::CSTS_FATAL,
        )?;
        disk.start(DEPTH)?;
        disk.read(0, PAGE)?;
    }
    // An address without memory is noticed at the first use at the latest.
    for (asq, acq) in [
        (0xdead_0000, start),
        (start, 0xdead_0000),
        (LAST_PAGE, LAST_PAGE),
    ] {
        let status = try_enable(&mut disk.driver, ENABLE, SIZES, asq, acq)?;
        if status & nvme::CSTS_FATAL == 0 {
            disk.driver.write(nvme::tail_doorbell(0), 1)?;
            let status = disk
                .driver
                .wait_status(nvme::CSTS_FATAL, nvme::CSTS_FATAL)?;
            same(
                format_args!("CSTS & CFS, queues at {asq:#x} and {acq:#x}"),
                status & nvme::CSTS_FATAL,
                nvme::CSTS_FATAL,
            )?;
        }
        disk.start(DEPTH)?;
        disk.read(0, PAGE)?;
    }
    Ok(())
}

fn nvme_disable_keeps_the_admin_queues_places(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    let bar = disk.driver.bar().clone();
    let queues = [register::AQA, register::ASQ, register::ACQ];
    let before = queues.map(|at| bar.read_u32(at).ok());
    disk.driver.disable()?;
    same("CSTS", disk.driver.status()?, 0)?;
    same(
        "AQA, ASQ, ACQ",
        queues.map(|at| bar.read_u32(at).ok()),
        before,
    )
}

fn nvme_disable_drops_commands_and_queues(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    disk.driver.set_feature(feature::TEMPERATURE, 0x123)?;
    // Requests that never end, and commands under way.
    for _ in 0..3 {
        disk.driver
            .submit(0, Command::new(nvme::admin::ASYNC_EVENT))?;
    }
    let buffer = disk.driver.data(0);
    for i in 0..20 {
        let command = disk.transfer(1, nvme::nvm::READ, i * PAGE, PAGE, buffer);
        disk.driver.post(1, command);
    }
    disk.driver.ring(1)?;
    disk.driver.disable()?;
    // No completion comes any more: the queues are the driver's again.
    let memory = disk.memory().clone();
    memory.write(memory.start(), &vec![0xa5; 0xc000]);
    disk.driver.write(nvme::tail_doorbell(0), 1)?;
    disk.driver.write(nvme::tail_doorbell(1), 1)?;
    same("CSTS", disk.driver.status()?, 0)?;
    same_bytes(
        "the queues' memory",
        &memory.bytes(memory.start(), 0xc000),
        &vec![0xa5; 0xc000],
    )?;
    disk.driver.enable(DEPTH)?;
    let temperature = disk.driver.feature(feature::TEMPERATURE)?;
    holds(
        temperature != 0x123,
        "expected the features' defaults after a controller reset, seen what was set before",
    )?;
    // The I/O queue is gone as well, so its number is free.
    disk.driver.create_pair(4, None)?;
    disk.read(0, PAGE).map(drop)
}

fn nvme_reset_forgets_everything_but_the_data(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    let bytes = content(3, 3);
    disk.write(PAGE, &bytes)?;
    disk.device.reset()?;
    let bar = disk.driver.bar();
    for at in [register::CC, register::CSTS, register::AQA, register::ASQ] {
        same(format_args!("register {at:#x}"), bar.read_u32(at)?, 0)?;
    }
    disk.start(DEPTH)?;
    same_bytes("data after a reset", &disk.read(PAGE, PAGE)?, &bytes)?;
    // A close, unlike a reset, is the end of a store in memory.
    drop(disk.driver);
    let mut disk = Disk::open(target, disk.device.close())?;
    same_bytes("data after a close", &disk.read(PAGE, PAGE)?, &[0; 4096])
}

fn nvme_subsystem_reset_is_reported(target: &Target) -> Outcome {
    const NSSRS: u64 = 1 << 36;
    const NVME: u32 = 0x4e56_4d65;
    const OCCURRED: u32 = 1 << 4;
    let mut disk = Disk::new(target)?;
    if disk.driver.bar().read_u64(register::CAP)? & NSSRS == 0 {
        return Err(crate::check::Stop::Skipped("no subsystem reset".into()));
    }
    disk.driver.write(register::NSSR, NVME ^ 1)?;
    same(
        "CSTS after another word",
        disk.driver.status()?,
        nvme::CSTS_READY,
    )?;
    disk.driver.write(register::NSSR, NVME)?;
    same("CSTS after the reset", disk.driver.status()?, OCCURRED)?;
    same(
        "CC after the reset",
        disk.driver.bar().read_u32(register::CC)?,
        0,
    )?;
    disk.driver.write(register::CSTS, OCCURRED)?;
    same("CSTS once cleared", disk.driver.status()?, 0)?;
    disk.start(DEPTH)?;
    disk.read(0, PAGE).map(drop)
}

fn nvme_shutdown_completes_and_may_be_followed_by_a_start(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    let bytes = content(1, 1);
    for abrupt in [false, true] {
        disk.write(0, &bytes)?;
        let how = if abrupt { 2 << 14 } else { nvme::CC_SHUTDOWN };
        let cc = nvme::CC_SIZES | nvme::CC_ENABLE;
        disk.driver.write(register::CC, cc | how)?;
        let status = disk
            .driver
            .wait_status(nvme::CSTS_SHUTDOWN, nvme::CSTS_SHUTDOWN_COMPLETE)?;
        same(
            "CSTS once shut down",
            status & (nvme::CSTS_SHUTDOWN | nvme::CSTS_FATAL),
            nvme::CSTS_SHUTDOWN_COMPLETE,
        )?;
        disk.start(DEPTH)?;
        same("CSTS once started", disk.driver.status()?, nvme::CSTS_READY)?;
        same_bytes("data", &disk.read(0, PAGE)?, &bytes)?;
    }
    Ok(())
}

fn nvme_close_while_it_works(target: &Target) -> Outcome {
    let mut mdev = create(target, &[])?;
    for round in 0..20 {
        let mut disk = Disk::open(target, mdev)?;
        let buffer = disk.driver.data(0);
        for i in 0..DEPTH - 1 {
            let place = u64::from(i) * 16 * PAGE;
            let command = disk.transfer(1, nvme::nvm::WRITE, place, 16 * PAGE, buffer);
            disk.driver.post(1, command);
        }
        disk.driver.ring(1)?;
        if round % 2 == 0 {
            disk.driver.wait(1)?;
        }
        drop(disk.driver);
        mdev = disk.device.close();
    }
    Disk::open(target, mdev)?.read(0, PAGE).map(drop)
}
