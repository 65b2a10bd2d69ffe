// SPDX-License-Identifier: GPL-2.0

//! Format NVM.

use vfio_drivers::nvme::admin;
use vfio_drivers::nvme::content;
use vfio_drivers::nvme::nvm;
use vfio_drivers::nvme::Command;
use vfio_drivers::nvme::Status;
use vfio_drivers::nvme::PAGE;

use crate::case::cases;
use crate::case::Case;
use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::nvme::disk::field;
use crate::v1::nvme::disk::in_each_store;
use crate::v1::nvme::disk::Disk;
use crate::v1::nvme::disk::Scratch;
use crate::v1::nvme::disk::CAPACITY;
use crate::v1::nvme::disk::DEPTH;
use crate::v1::nvme::disk::FILE;
use crate::v1::nvme::disk::STORE;

const MIB: u64 = 1 << 20;
/// Secure Erase Settings: user data erase.
const ERASE: u32 = 1 << 9;

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::Nvme];

pub const CASES: &[Case] = cases![
    NEEDS;
    nvme_format_leaves_zeros [Mdev],
    nvme_format_of_a_file_is_in_the_file [Mdev],
    nvme_format_chooses_the_size_of_a_block_in_memory [Mdev],
    nvme_format_goes_on_where_the_guest_moves_to [Mdev],
    nvme_format_that_is_not_offered_is_refused [Mdev],
];

fn format(cdw10: u32) -> Command {
    Command::new(admin::FORMAT).namespace(1).word(10, cdw10)
}

/// Formats that LBA formats the controller has, and that it says it can.
fn formats(disk: &mut Disk) -> Outcome<u32> {
    const OACS: usize = 256;
    const OACS_FORMAT: u64 = 1 << 1;
    let oacs = field(&disk.driver.identify(1, 0)?, OACS, 2);
    same("OACS, Format NVM", oacs & OACS_FORMAT, OACS_FORMAT)?;
    Ok(u32::from(disk.driver.identify(0, 1)?[25]) + 1)
}

fn nvme_format_leaves_zeros(target: &Target) -> Outcome {
    in_each_store(target, |_, mut disk| {
        for (cdw10, namespace) in [(0, 1), (ERASE, 1), (0, u32::MAX)] {
            for place in [0, 33 * MIB, 64 * MIB - PAGE] {
                disk.write(place, &content(place, 3))?;
            }
            disk.driver.succeed(0, format(cdw10).namespace(namespace))?;
            for place in [0, 33 * MIB, 64 * MIB - PAGE] {
                let what = format!("page at {place:#x} after a format, {cdw10:#x}");
                same_bytes(what, &disk.read(place, PAGE)?, &[0; PAGE as usize])?;
            }
        }
        disk.write(PAGE, &content(1, 4))?;
        same_bytes("written then", &disk.read(PAGE, PAGE)?, &content(1, 4))
    })
}

fn nvme_format_of_a_file_is_in_the_file(target: &Target) -> Outcome {
    let scratch = Scratch::new(40 * MIB)?;
    let mut disk = Disk::with(target, &[(STORE, "file"), (FILE, scratch.text())])?;
    for place in [0, 20 * MIB, 40 * MIB - PAGE] {
        disk.write(place, &content(place, 3))?;
    }
    disk.driver.succeed(0, format(ERASE))?;
    let bytes = scratch.read()?;
    same("bytes of the file", bytes.len() as u64, 40 * MIB)?;
    same_bytes("the file", &bytes, &vec![0; bytes.len()])
}

fn nvme_format_chooses_the_size_of_a_block_in_memory(target: &Target) -> Outcome {
    let attributes = [(STORE, "ram"), (CAPACITY, "67108864")];
    let mut disk = Disk::with(target, &attributes)?;
    same("LBA formats", formats(&mut disk)?, 2)?;
    let other = 512 * PAGE / disk.block();
    disk.write(0, &content(0, 3))?;

    disk.driver.succeed(0, format(1))?;
    disk.identify_block()?;
    same("bytes of a block", disk.block(), other)?;
    same("capacity", disk.capacity()?, 64 * MIB)?;
    same_bytes("zeros", &disk.read(0, PAGE)?, &[0; PAGE as usize])?;
    disk.write(64 * MIB - PAGE, &content(1, 4))?;

    // The format is the content's: it outlives resets, and moves.
    disk.device.reset()?;
    disk.driver.disconnect();
    disk.start(DEPTH)?;
    let mut disk = disk.migrate(target, &attributes)?;
    disk.identify_block()?;
    same("bytes of a block that moved", disk.block(), other)?;
    let last = disk.read(64 * MIB - PAGE, PAGE)?;
    same_bytes("what was written", &last, &content(1, 4))?;
    disk.start(DEPTH)?;
    disk.driver.succeed(0, format(0))?;
    disk.identify_block()?;
    same(
        "bytes of a block as at first",
        disk.block(),
        512 * PAGE / other,
    )?;

    // Without the content there is no format.
    disk.driver.succeed(0, format(1))?;
    let Disk { driver, device, .. } = disk;
    drop(driver);
    let mut disk = Disk::open(target, device.close())?;
    let block = disk.block();
    disk.identify_block()?;
    same("bytes of a block after a close", disk.block(), block)
}

fn nvme_format_goes_on_where_the_guest_moves_to(target: &Target) -> Outcome {
    // It takes a while, as the controller does it in parts. Whether it is over when the device stops does not matter.
    let attributes = [(STORE, "ram"), (CAPACITY, "68719476736")];
    for cdw10 in [0, 1] {
        let mut disk = Disk::with(target, &attributes)?;
        let end = 65536 * MIB;
        for place in [0, 30000 * MIB, end - PAGE] {
            disk.write(place, &content(place, 3))?;
        }
        disk.driver.submit(0, format(cdw10))?;
        let mut disk = disk.migrate(target, &attributes)?;
        let completion = disk.driver.wait(0)?;
        same("format", completion.status, Status::SUCCESS)?;
        disk.identify_block()?;
        for place in [0, 30000 * MIB, end - PAGE] {
            let what = format!("page at {place:#x}, format {cdw10}");
            same_bytes(what, &disk.read(place, PAGE)?, &[0; PAGE as usize])?;
        }
    }
    Ok(())
}

fn nvme_format_that_is_not_offered_is_refused(target: &Target) -> Outcome {
    in_each_store(target, |_, mut disk| {
        disk.write(0, &content(0, 3))?;
        let formats = formats(&mut disk)?;
        for (what, command, expected) in [
            (
                "another LBA format",
                format(formats),
                Status::INVALID_FORMAT,
            ),
            ("LBA format 15", format(15), Status::INVALID_FORMAT),
            (
                "protection information",
                format(1 << 5),
                Status::INVALID_FORMAT,
            ),
            (
                "a cryptographic erase",
                format(2 << 9),
                Status::INVALID_FIELD,
            ),
            (
                "namespace 0",
                format(0).namespace(0),
                Status::INVALID_NAMESPACE,
            ),
            (
                "namespace 2",
                format(0).namespace(2),
                Status::INVALID_NAMESPACE,
            ),
        ] {
            let seen = disk.driver.execute(0, command)?.status;
            same(what, seen, expected)?;
        }
        let buffer = disk.driver.data(0);
        disk.expect(nvm::READ, 0, PAGE, buffer, Status::SUCCESS)?;
        let seen = disk.memory().bytes(buffer, PAGE as usize);
        same_bytes("what was written", &seen, &content(0, 3))
    })
}
