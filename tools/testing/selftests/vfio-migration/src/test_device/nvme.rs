// SPDX-License-Identifier: GPL-2.0

//! What the tests of the migration do to an NVMe controller.

use vfio_client::nvme;
use vfio_client::nvme::feature;
use vfio_client::nvme::nvm;
use vfio_client::nvme::register;
use vfio_client::nvme::Command;
use vfio_client::nvme::Driver;
use vfio_client::nvme::PAGE;
use vfio_client::Device;
use vfio_client::GuestMemory;

use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::random::Random;

/// Where the guest's memory is.
pub const MEMORY: u64 = 0x100_0000;
/// Its size in bytes: the queues, and 3.5 MiB for data.
pub const MEMORY_SIZE: usize = 4 << 20;

/// The places in the namespace, in bytes, that [`fill`] writes a page to.
const FILLED: [u64; 3] = [0, 0x12_3000, 0x7f_f000];
/// The place where [`expect_works`] does its work.
const SCRATCH: u64 = 0x1_0000;

/// Entries of the admin queues.
fn depth(seed: u8) -> u16 {
    8 + u16::from(seed % 32)
}

/// The content of a page by its place and a seed.
pub fn content(place: u64, seed: u64) -> Vec<u8> {
    Random::new(place.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (seed + 1) << 32).bytes(PAGE as usize)
}

/// Makes a command that moves one page between a place in the namespace and an address.
fn page(opcode: u8, shift: u8, place: u64, address: u64) -> Command {
    Command::new(opcode)
        .namespace(1)
        .prp(address, 0)
        .blocks(place >> shift, (PAGE >> shift) as u32)
}

/// Sets the controller up and writes to its namespace, different by `seed`.
#[track_caller]
pub fn fill(device: &Device, memory: &GuestMemory, shift: u8, seed: u8) -> Outcome {
    let mut driver = Driver::new(device, memory)?;
    driver.restart(depth(seed))?;
    driver.set_feature(feature::TEMPERATURE, 0x150 + u32::from(seed))?;
    let queue = driver.create_pair(depth(seed), None)?;
    for place in FILLED {
        memory.write(driver.data(0), &content(place, seed.into()));
        let command = page(nvm::WRITE, shift, place, driver.data(0));
        driver.succeed(queue, command)?;
    }
    Ok(())
}

/// Checks that controller and namespace are what [`fill`] made of them. The queues are those of the
/// guest who filled it, and that one may be gone; so they are set up anew.
#[track_caller]
pub fn expect_filled(device: &Device, memory: &GuestMemory, shift: u8, seed: u8) -> Outcome {
    let mut driver = Driver::new(device, memory)?;
    let size = u32::from(depth(seed) - 1);
    let bar = driver.bar();
    same("AQA", bar.read_u32(register::AQA)?, size << 16 | size)?;
    same("ASQ", bar.read_u64(register::ASQ)?, memory.start())?;
    same(
        "CC",
        bar.read_u32(register::CC)?,
        nvme::CC_SIZES | nvme::CC_ENABLE,
    )?;
    same("CSTS", driver.status()?, nvme::CSTS_READY)?;
    driver.restart(depth(seed))?;
    let queue = driver.create_pair(depth(seed), None)?;
    for place in FILLED {
        let command = page(nvm::READ, shift, place, driver.data(0));
        driver.succeed(queue, command)?;
        same_bytes(
            format_args!("page at {place:#x} of the namespace"),
            &memory.bytes(driver.data(0), PAGE as usize),
            &content(place, seed.into()),
        )?;
    }
    Ok(())
}

/// Checks that the registers show nothing of a [`fill`].
#[track_caller]
pub fn expect_fresh(device: &Device, memory: &GuestMemory) -> Outcome {
    let driver = Driver::new(device, memory)?;
    let bar = driver.bar();
    same("CC", bar.read_u32(register::CC)?, 0)?;
    same("CSTS", bar.read_u32(register::CSTS)?, 0)?;
    same("AQA", bar.read_u32(register::AQA)?, 0)?;
    same("ASQ", bar.read_u64(register::ASQ)?, 0)
}

/// Checks that the controller works: what is written is read.
#[track_caller]
pub fn expect_works(device: &Device, memory: &GuestMemory, shift: u8) -> Outcome {
    let mut driver = Driver::new(device, memory)?;
    driver.restart(4)?;
    let queue = driver.create_pair(4, None)?;
    for round in 0..2 {
        let (from, to) = (driver.data(0), driver.data(PAGE));
        let expected = content(SCRATCH, 1000 + round);
        memory.write(from, &expected);
        driver.succeed(queue, page(nvm::WRITE, shift, SCRATCH, from))?;
        driver.succeed(queue, page(nvm::READ, shift, SCRATCH, to))?;
        same_bytes(
            "what was written, read back",
            &memory.bytes(to, PAGE as usize),
            &expected,
        )?;
    }
    Ok(())
}

/// Has a completion in the admin queue that nobody takes: INTx is up.
#[track_caller]
pub fn raise(device: &Device, memory: &GuestMemory) -> Outcome {
    let mut driver = Driver::new(device, memory)?;
    driver.restart(8)?;
    let command = Command::new(nvme::admin::GET_FEATURES).word(10, feature::ARBITRATION.into());
    driver.submit(0, command)?;
    driver.await_completion(0)?;
    Ok(())
}

/// Writes registers and doorbells, and reads. Whether a controller that does not run ignores these or
/// refuses them is its business.
#[track_caller]
pub fn poke(device: &Device, memory: &GuestMemory) -> Outcome {
    let driver = Driver::new(device, memory)?;
    for queue in 0..3 {
        for value in [3, 0xffff, 1, 0] {
            let _ = driver.write(nvme::tail_doorbell(queue), value);
            let _ = driver.write(nvme::head_doorbell(queue), value);
        }
    }
    for mask in [u32::MAX, 1] {
        let _ = driver.write(register::INTMS, mask);
        let _ = driver.write(register::INTMC, mask);
    }
    let _ = driver.write(register::CC, 0);
    let _ = driver.write(register::AQA, 0x0003_0003);
    let _ = driver.write_long(register::ASQ, memory.start());
    let _ = driver.write(register::CC, nvme::CC_SIZES | nvme::CC_ENABLE);
    let _ = driver.bar().read_u64(register::CAP);
    let _ = driver.status();
    Ok(())
}
