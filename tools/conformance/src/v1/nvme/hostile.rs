// SPDX-License-Identifier: GPL-2.0

//! A hostile guest: the controller answers with a status, an event or a fatal status, and works after a
//! reset.

use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering;
use std::collections::BTreeSet;
use std::thread;

use vfio_drivers::nvme;
use vfio_drivers::nvme::admin;
use vfio_drivers::nvme::content;
use vfio_drivers::nvme::feature;
use vfio_drivers::nvme::head_doorbell;
use vfio_drivers::nvme::nvm;
use vfio_drivers::nvme::register;
use vfio_drivers::nvme::tail_doorbell;
use vfio_drivers::nvme::Command;
use vfio_drivers::nvme::Status;
use vfio_drivers::nvme::PAGE;
use vfio_drivers::random::Random;

use crate::case::cases;
use crate::case::Case;
use crate::check::holds;
use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::check::Stop;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::nvme::disk::create;
use crate::v1::nvme::disk::Disk;
use crate::v1::nvme::disk::DEPTH;

const MIB: u64 = 1 << 20;
/// The address of the last page that can be named.
const LAST_PAGE: u64 = !0xfff;
/// An address at which nothing is mapped.
const NOWHERE: u64 = 0x5555_0000_0000;

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::Nvme];

pub const CASES: &[Case] = cases![
    NEEDS;
    nvme_hostile_doorbells_of_every_number_and_value [Mdev],
    nvme_hostile_doorbell_is_reported_as_an_event,
    nvme_hostile_doorbell_widths_and_places,
    nvme_hostile_queues_are_refused [Mdev],
    nvme_hostile_queues_at_an_address_of_nothing,
    nvme_hostile_opcodes_all_get_a_status,
    nvme_hostile_namespaces_are_refused,
    nvme_hostile_prps_get_a_status,
    nvme_hostile_full_completion_queue_loses_nothing,
    nvme_hostile_event_requests_beyond_the_limit,
    nvme_hostile_refused_commands_change_nothing,
    nvme_hostile_random_commands,
    nvme_hostile_random_register_writes,
    nvme_hostile_memory_that_changes_under_its_hands,
    nvme_hostile_queues_in_the_way_of_data,
    nvme_hostile_accesses_from_many_threads,
];

/// Values of a doorbell that are outside every queue, or wrong.
const VALUES: [u32; 9] = [
    0,
    1,
    DEPTH as u32 - 1,
    DEPTH as u32,
    0xff,
    0xffff,
    0x1_0000,
    0x8000_0000,
    u32::MAX,
];

fn nvme_hostile_doorbells_of_every_number_and_value(target: &Target) -> Outcome {
    let mut disk = Disk::disabled(target, create(target, &[])?)?;
    for pairs in [None, Some(0), Some(2)] {
        for value in VALUES {
            for doorbell in (register::DOORBELLS..register::DOORBELLS + 0x1000).step_by(4) {
                let number = (doorbell - register::DOORBELLS) / 4;
                // All doorbells, the first ones that do not exist, and the last one.
                if !(0..40).contains(&number) && number != 0x3ff {
                    continue;
                }
                disk.driver.write(doorbell, value)?;
            }
            disk.device.reset()?;
            if let Some(pairs) = pairs {
                disk.driver.restart(DEPTH)?;
                for _ in 0..pairs {
                    disk.driver.create_pair(DEPTH, None)?;
                }
            }
        }
        disk.expect_recovers()?;
    }
    Ok(())
}

fn nvme_hostile_doorbell_is_reported_as_an_event(target: &Target) -> Outcome {
    for (what, doorbell, value, information) in [
        ("of a queue that is not there", tail_doorbell(9), 1, 0),
        ("with a tail outside the queue", tail_doorbell(1), 0x7fff, 1),
    ] {
        let mut disk = Disk::new(target)?;
        disk.driver.set_feature(feature::ASYNC_EVENTS, 0xff)?;
        let id = disk.driver.submit(0, Command::new(admin::ASYNC_EVENT))?;
        disk.driver.write(doorbell, value)?;
        let event = disk.driver.wait(0)?;
        same(
            format_args!("id of the event, a doorbell {what}"),
            event.id,
            id,
        )?;
        same("status", event.status, Status::SUCCESS)?;
        // Type 0 is an error, then what it was, then the log page that has more: number 1.
        same(
            format_args!("event for a doorbell {what}"),
            event.result & 0xff_ffff,
            1 << 16 | information << 8,
        )?;
        disk.expect_recovers()?;
    }
    Ok(())
}

fn nvme_hostile_doorbell_widths_and_places(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    let bar = disk.driver.bar().clone();
    let mut random = Random::new(16);
    for len in [1usize, 2, 3, 5, 6, 7, 8, 12, 16, 64, 4096] {
        for at in [
            0x1000, 0x1001, 0x1002, 0x1003, 0x1004, 0x1006, 0x1ffc, 0xffc, 0xfff, 0x2000, 0x2ffe,
            0x3000,
        ] {
            if at + len as u64 <= bar.size() {
                bar.write(at, &random.bytes(len))?;
                bar.read(at, &mut vec![0; len])?;
            }
        }
    }
    disk.expect_recovers()
}

fn nvme_hostile_queues_are_refused(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    let most = (disk.driver.bar().read_u64(register::CAP)? & 0xffff) as u32;
    let at = disk.driver.data(0);
    let create = |opcode: u8, id: u32, size: u32, flags: u32, at: u64| {
        Command::new(opcode)
            .prp(at, 0)
            .word(10, size << 16 | id)
            .word(11, flags)
    };
    const CONTIGUOUS: u32 = 1;
    // The completion queue of the submission queues, number 1, is there; so is number 1 itself. There
    // is no vector but 0 as long as the pin is used.
    let sq = |id, size, cq: u32, at| create(admin::CREATE_SQ, id, size, cq << 16 | CONTIGUOUS, at);
    let cq = |id, size, vector: u32, at| {
        create(
            admin::CREATE_CQ,
            id,
            size,
            vector << 16 | 2 | CONTIGUOUS,
            at,
        )
    };
    let delete = |opcode: u8, id: u32| Command::new(opcode).word(10, id);
    for (what, command, expected) in [
        ("SQ 0", sq(0, 7, 1, at), Status::INVALID_QUEUE),
        ("SQ 17", sq(17, 7, 1, at), Status::INVALID_QUEUE),
        ("SQ 65535", sq(0xffff, 7, 1, at), Status::INVALID_QUEUE),
        ("SQ 1 again", sq(1, 7, 1, at), Status::INVALID_QUEUE),
        ("SQ of one", sq(2, 0, 1, at), Status::INVALID_QUEUE_SIZE),
        (
            "SQ too large",
            sq(2, most + 1, 1, at),
            Status::INVALID_QUEUE_SIZE,
        ),
        (
            "SQ of 65536",
            sq(2, 0xffff, 1, at),
            Status::INVALID_QUEUE_SIZE,
        ),
        ("SQ without CQ", sq(2, 7, 2, at), Status::INVALID_CQ),
        ("SQ on CQ 0", sq(2, 7, 0, at), Status::INVALID_QUEUE),
        ("SQ on CQ 300", sq(2, 7, 300, at), Status::INVALID_QUEUE),
        (
            "SQ in the middle of a page",
            sq(2, 7, 1, at + 64),
            Status::INVALID_PRP,
        ),
        ("CQ 0", cq(0, 7, 0, at), Status::INVALID_QUEUE),
        ("CQ 17", cq(17, 7, 0, at), Status::INVALID_QUEUE),
        ("CQ 1 again", cq(1, 7, 0, at), Status::INVALID_QUEUE),
        ("CQ of one", cq(2, 0, 0, at), Status::INVALID_QUEUE_SIZE),
        (
            "CQ too large",
            cq(2, most + 1, 0, at),
            Status::INVALID_QUEUE_SIZE,
        ),
        (
            "CQ of vector 1 without MSI-X",
            cq(2, 7, 1, at),
            Status::INVALID_VECTOR,
        ),
        ("CQ of vector 17", cq(2, 7, 17, at), Status::INVALID_VECTOR),
        (
            "CQ of vector 65535",
            cq(2, 7, 0xffff, at),
            Status::INVALID_VECTOR,
        ),
        (
            "CQ in the middle of a page",
            cq(2, 7, 0, at + 64),
            Status::INVALID_PRP,
        ),
        (
            "SQ that is scattered",
            create(admin::CREATE_SQ, 2, 7, 1 << 16, at),
            Status::INVALID_FIELD,
        ),
        (
            "CQ that is scattered",
            create(admin::CREATE_CQ, 2, 7, 0, at),
            Status::INVALID_FIELD,
        ),
        (
            "end of SQ 0",
            delete(admin::DELETE_SQ, 0),
            Status::INVALID_QUEUE,
        ),
        (
            "end of SQ 2",
            delete(admin::DELETE_SQ, 2),
            Status::INVALID_QUEUE,
        ),
        (
            "end of SQ 65535",
            delete(admin::DELETE_SQ, 0xffff),
            Status::INVALID_QUEUE,
        ),
        (
            "end of CQ 0",
            delete(admin::DELETE_CQ, 0),
            Status::INVALID_QUEUE,
        ),
        (
            "end of CQ 2",
            delete(admin::DELETE_CQ, 2),
            Status::INVALID_QUEUE,
        ),
        (
            "end of a CQ with a SQ",
            delete(admin::DELETE_CQ, 1),
            Status::INVALID_DELETION,
        ),
    ] {
        let seen = disk.driver.execute(0, command)?.status;
        same(what, seen, expected)?;
    }
    disk.read(0, PAGE)?;
    // A refused queue does not exist, and a good one can be made.
    disk.driver.create_pair(8, None)?;
    disk.driver.delete_pair()?;
    disk.driver.create_pair(16, None)?;
    disk.expect_recovers()
}

fn nvme_hostile_queues_at_an_address_of_nothing(target: &Target) -> Outcome {
    for (sq_at, cq_at) in [(NOWHERE, None), (LAST_PAGE, None)]
        .into_iter()
        .chain([(0, Some(NOWHERE)), (0, Some(LAST_PAGE))])
    {
        let mut disk = Disk::new(target)?;
        let good = disk.driver.data(0);
        let cq = Command::new(admin::CREATE_CQ)
            .prp(cq_at.unwrap_or(good), 0)
            .word(10, 7 << 16 | 2)
            .word(11, 1);
        let sq = Command::new(admin::CREATE_SQ)
            .prp(if cq_at.is_some() { good + PAGE } else { sq_at }, 0)
            .word(10, 7 << 16 | 2)
            .word(11, 2 << 16 | 1);
        // The controller may check the addresses now or later.
        if disk.driver.execute(0, cq)?.status == Status::SUCCESS
            && disk.driver.execute(0, sq)?.status == Status::SUCCESS
        {
            let read = disk.transfer(1, nvm::READ, 0, PAGE, disk.driver.data(MIB));
            disk.memory().write(good + PAGE, &read.bytes());
            disk.driver.write(tail_doorbell(2), 1)?;
            let status = disk
                .driver
                .wait_status(nvme::CSTS_FATAL, nvme::CSTS_FATAL)?;
            same(
                format_args!("CFS, submissions at {sq_at:#x}, completions at {cq_at:x?}"),
                status & nvme::CSTS_FATAL,
                nvme::CSTS_FATAL,
            )?;
        }
        disk.expect_recovers()?;
    }
    Ok(())
}

fn nvme_hostile_opcodes_all_get_a_status(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    let buffer = disk.driver.data(0);
    for opcode in 0..=u8::MAX {
        // Vendor's words of all zeros and of all ones.
        for word in [0, u32::MAX] {
            if opcode != admin::ASYNC_EVENT {
                let mut command = Command::new(opcode).namespace(1).prp(buffer, buffer + PAGE);
                for index in 10..16 {
                    command = command.word(index, word);
                }
                disk.driver.execute(0, command)?;
                // A command like this may have taken the I/O queue or moved the doorbells.
                if disk.driver.status()? != nvme::CSTS_READY
                    || matches!(opcode, admin::DELETE_SQ | admin::DOORBELL_BUFFER)
                {
                    disk.start(DEPTH)?;
                }
            }
            let mut command = Command::new(opcode).namespace(1).prp(buffer, buffer + PAGE);
            for index in 10..16 {
                command = command.word(index, word);
            }
            let seen = disk.driver.execute(1, command)?;
            let known = [
                nvm::FLUSH,
                nvm::WRITE,
                nvm::READ,
                nvm::COMPARE,
                nvm::WRITE_ZEROES,
                nvm::DATASET,
                nvm::WRITE_UNCORRECTABLE,
                nvm::VERIFY,
            ];
            if !known.contains(&opcode) {
                same(
                    format_args!("I/O opcode {opcode:#x}"),
                    seen.status,
                    Status::INVALID_OPCODE,
                )?;
            }
        }
    }
    for opcode in [admin::KEEP_ALIVE, 0x10, 0x11, 0x0d, 0xc0, 0xff] {
        let seen = disk.driver.execute(0, Command::new(opcode).namespace(1))?;
        holds(
            seen.status != Status::SUCCESS,
            format_args!("admin opcode {opcode:#x}: expected a refusal, seen success"),
        )?;
    }
    disk.expect_recovers()
}

fn nvme_hostile_namespaces_are_refused(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    let buffer = disk.driver.data(0);
    for namespace in [0, 2, 3, 0x8000_0001, u32::MAX - 1, u32::MAX] {
        for opcode in [
            nvm::READ,
            nvm::WRITE,
            nvm::COMPARE,
            nvm::WRITE_ZEROES,
            nvm::DATASET,
            nvm::WRITE_UNCORRECTABLE,
            nvm::VERIFY,
        ] {
            let command = Command::new(opcode)
                .namespace(namespace)
                .prp(buffer, 0)
                .blocks(0, 1);
            same(
                format_args!("opcode {opcode:#x}, namespace {namespace:#x}"),
                disk.driver.execute(1, command)?.status,
                Status::INVALID_NAMESPACE,
            )?;
        }
    }
    disk.expect_recovers()
}

fn nvme_hostile_prps_get_a_status(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    let good = disk.driver.data(0);
    let list = disk.driver.data(MIB);
    let blocks = |len: u64, disk: &Disk| (len / disk.block()) as u32;
    disk.write(0, &Random::new(4).bytes(64 * 1024))?;
    // The lists' second entry is wrong in some way; each has four.
    let entries = |second: u64| [good + PAGE, second, good + 3 * PAGE, good + 4 * PAGE];
    for (what, entries) in [
        ("unaligned", entries(good + 2 * PAGE + 4)),
        ("at an address of nothing", entries(NOWHERE)),
        ("0", entries(0)),
        ("at the end of all addresses", entries(LAST_PAGE)),
    ] {
        for (i, entry) in entries.iter().enumerate() {
            disk.memory()
                .write(list + i as u64 * 8, &entry.to_le_bytes());
        }
        for opcode in [nvm::READ, nvm::WRITE, nvm::COMPARE] {
            let command = Command::new(opcode)
                .namespace(1)
                .prp(good, list)
                .blocks(0, blocks(5 * PAGE, &disk));
            let seen = disk.driver.execute(1, command)?.status;
            holds(
                matches!(seen, Status::TRANSFER_ERROR | Status::INVALID_PRP),
                format_args!("opcode {opcode:#x} with an entry {what}: seen {seen:?}"),
            )?;
        }
    }
    for (what, one, two, len) in [
        ("first unaligned by a byte", good + 1, 0, PAGE / 2),
        ("first unaligned by two", good + 2, 0, PAGE / 2),
        ("first nowhere", NOWHERE, 0, PAGE),
        ("first at 0", 0, 0, PAGE),
        ("second unaligned", good, good + PAGE + 8, 2 * PAGE),
        ("second nowhere", good, NOWHERE, 2 * PAGE),
        ("list nowhere", good, NOWHERE, 8 * PAGE),
        ("list unaligned", good, list + 4, 8 * PAGE),
        ("list at 0", good, 0, 8 * PAGE),
        ("list at the very end", good, u64::MAX - 7, 8 * PAGE),
    ] {
        let len = len.max(disk.block());
        let command = Command::new(nvm::READ)
            .namespace(1)
            .prp(one, two)
            .blocks(0, blocks(len, &disk));
        let seen = disk.driver.execute(1, command)?.status;
        holds(
            matches!(seen, Status::TRANSFER_ERROR | Status::INVALID_PRP),
            format_args!("{what}: expected a transfer error or an invalid PRP, seen {seen:?}"),
        )?;
    }
    // A list whose last entry leads to itself, for ever.
    let tail = list + PAGE - 8;
    disk.memory().write(tail, &tail.to_le_bytes());
    let command = Command::new(nvm::READ)
        .namespace(1)
        .prp(good, tail)
        .blocks(0, blocks(128 * PAGE, &disk));
    let seen = disk.driver.execute(1, command)?.status;
    holds(
        seen != Status::SUCCESS,
        "expected a refusal of a list that leads to itself, seen success",
    )?;
    disk.expect_recovers()
}

fn nvme_hostile_full_completion_queue_loses_nothing(target: &Target) -> Outcome {
    const FEW: u16 = 8;
    let mut disk = Disk::new(target)?;
    disk.start(FEW)?;
    let buffer = disk.driver.data(0);
    let mut ids = BTreeSet::new();
    let mut taken = 0;
    for round in 0..30u64 {
        // The first half fills the completion queue; the second half waits for room in it.
        for half in 0..2 {
            for i in 0..u64::from(FEW) - 1 {
                let place = (round * 2 + half) * 8 + i;
                let command = disk.transfer(1, nvm::READ, place * PAGE, PAGE, buffer);
                disk.driver.post(1, command);
            }
            disk.driver.ring(1)?;
            for _ in 0..FEW - 1 {
                if half == 1 {
                    break;
                }
                ids.insert(disk.driver.await_completion(1)?.id);
                disk.driver.take_quietly(1);
                taken += 1;
            }
        }
        // The controller is through with all commands once these are complete.
        for _ in 0..3 {
            let command = Command::new(admin::GET_FEATURES).word(10, 1);
            disk.driver.succeed(0, command)?;
        }
        same(
            "a completion in a queue that is full",
            disk.driver.peek(1),
            None,
        )?;
        disk.driver.acknowledge(1)?;
        for _ in 0..FEW - 1 {
            ids.insert(disk.driver.wait(1)?.id);
            taken += 1;
        }
    }
    same("commands that were completed", ids.len(), taken)?;
    disk.expect_recovers()
}

fn nvme_hostile_event_requests_beyond_the_limit(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    let limit = u16::from(disk.driver.identify(1, 0)?[259]) + 1;
    for _ in 0..limit {
        disk.driver.submit(0, Command::new(admin::ASYNC_EVENT))?;
    }
    for _ in 0..3 {
        let seen = disk.driver.execute(0, Command::new(admin::ASYNC_EVENT))?;
        same("a request too many", seen.status, Status::EVENT_LIMIT)?;
    }
    disk.read(0, PAGE)?;
    disk.expect_recovers()
}

fn nvme_hostile_refused_commands_change_nothing(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    let bytes = content(0, 60);
    disk.write(0, &bytes)?;
    let blocks = (PAGE / disk.block()) as u32;
    let buffer = disk.driver.data(MIB);
    for command in [
        Command::new(nvm::WRITE)
            .namespace(2)
            .prp(buffer, 0)
            .blocks(0, blocks),
        Command::new(nvm::WRITE)
            .namespace(1)
            .prp(NOWHERE, 0)
            .blocks(0, blocks),
        Command::new(nvm::WRITE)
            .namespace(1)
            .prp(buffer + 1, 0)
            .blocks(0, blocks),
        Command::new(nvm::WRITE)
            .namespace(1)
            .prp(buffer, 0)
            .blocks(u64::MAX, blocks),
        Command::new(0x7f)
            .namespace(1)
            .prp(buffer, 0)
            .blocks(0, blocks),
    ] {
        let seen = disk.driver.execute(1, command)?;
        holds(
            seen.status != Status::SUCCESS,
            format_args!("{command:x?}: expected a refusal, seen success"),
        )?;
        same_bytes("data", &disk.read(0, PAGE)?, &bytes)?;
    }
    Ok(())
}

fn nvme_hostile_random_commands(target: &Target) -> Outcome {
    for seed in 1..6 {
        let mut disk = Disk::new(target)?;
        let mut random = Random::new(seed);
        let start = disk.memory().start();
        for _ in 0..300 {
            for queue in 0..2u16 {
                let mut words = [0u32; 16];
                for word in &mut words {
                    *word = match random.below(4) {
                        0 => 0,
                        1 => random.below(16) as u32,
                        2 => u32::MAX,
                        _ => random.number() as u32,
                    };
                }
                words[0] = words[0] & !0xff | random.below(0x20) as u32;
                let mut command = Command { words };
                if random.below(2) == 0 {
                    let page = random.below(1024) as u64 * PAGE;
                    command = command.namespace(1).prp(start + page, start);
                }
                disk.driver.post(queue, command);
                disk.driver.ring(queue)?;
                // The heads are whatever was taken; garbage may have hit the queues themselves.
                disk.driver.take(queue)?;
            }
            if disk.driver.status()? & nvme::CSTS_FATAL != 0 {
                disk.start(DEPTH)?;
            }
        }
        disk.expect_recovers()?;
    }
    Ok(())
}

fn nvme_hostile_random_register_writes(target: &Target) -> Outcome {
    for seed in 1..6 {
        let disk = Disk::new(target)?;
        let mut random = Random::new(seed * 31);
        let start = disk.memory().start();
        for _ in 0..500 {
            let value = match random.below(4) {
                0 => start as u32 + random.below(1024) as u32 * PAGE as u32,
                1 => nvme::CC_SIZES | random.below(2) as u32,
                2 => random.below(256) as u32,
                _ => random.number() as u32,
            };
            let at = match random.below(3) {
                0 => register::DOORBELLS + random.below(40) as u64 * 4,
                1 => [register::CC, register::AQA, register::ASQ, register::ACQ][random.below(4)],
                _ => random.below(0x3ff) as u64 * 4,
            };
            disk.driver.write(at, value)?;
            if random.below(20) == 0 {
                // So that the random queues can be where something is.
                disk.driver.write_long(register::ASQ, start)?;
                disk.driver.write_long(register::ACQ, start + PAGE)?;
                disk.driver.write(register::AQA, 0x00ff_00ff)?;
            }
        }
        let mut disk = disk;
        disk.expect_recovers()?;
    }
    Ok(())
}

fn nvme_hostile_memory_that_changes_under_its_hands(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    let memory = disk.memory().clone();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let scribble = scope.spawn(|| {
            let mut random = Random::new(99);
            // Submission queues, completion queues, lists and data.
            while !done.load(Ordering::Relaxed) {
                let at = match random.below(3) {
                    0 => random.below(0x1_0000),
                    1 => random.below(0x800),
                    _ => random.below(memory.size() as usize),
                };
                memory.flip(memory.start() + at as u64, 1 << random.below(8));
            }
        });
        let mut work = || -> Outcome {
            let buffer = disk.driver.data(0);
            for i in 0..600u64 {
                let opcode = [nvm::READ, nvm::WRITE, nvm::COMPARE][i as usize % 3];
                let command = disk.transfer(1, opcode, i * PAGE, 16 * PAGE, buffer);
                disk.driver.submit(1, command)?;
                disk.driver
                    .submit(0, Command::new(admin::IDENTIFY).prp(buffer, 0).word(10, 1))?;
                disk.driver.take(1)?;
                disk.driver.take(0)?;
                if disk.driver.status()? & nvme::CSTS_FATAL != 0 {
                    // Enabling anew takes queues that nobody scribbles in; so just go on after it.
                    disk.driver.write(register::CC, 0)?;
                    disk.driver
                        .write(register::CC, nvme::CC_SIZES | nvme::CC_ENABLE)?;
                }
            }
            Ok(())
        };
        let worked = work();
        done.store(true, Ordering::Relaxed);
        scribble
            .join()
            .map_err(|_| Stop::failed("the scribbling thread panicked"))?;
        worked
    })?;
    disk.expect_recovers()
}

fn nvme_hostile_queues_in_the_way_of_data(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    // Reads into the queues themselves, and completions into submissions.
    let start = disk.memory().start();
    let garbage = Random::new(3).bytes(64 * 1024);
    disk.write(0, &garbage)?;
    for page in 0..12 {
        let blocks = (PAGE / disk.block()) as u32;
        let command = Command::new(nvm::READ)
            .namespace(1)
            .prp(start + page * PAGE, 0)
            .blocks(page * u64::from(blocks), blocks);
        disk.driver.submit(1, command)?;
        for doorbell in [tail_doorbell(0), tail_doorbell(1), head_doorbell(0)] {
            disk.driver.write(doorbell, page as u32 * 2)?;
        }
        if page % 4 == 3 {
            disk.expect_recovers()?;
        }
    }
    let cq_on_sq = Command::new(admin::CREATE_CQ)
        .prp(disk.driver.pair(1).submissions, 0)
        .word(10, 31 << 16 | 2)
        .word(11, 1);
    disk.driver.execute(0, cq_on_sq)?;
    disk.expect_recovers()
}

fn nvme_hostile_accesses_from_many_threads(target: &Target) -> Outcome {
    const ROUNDS: usize = 1500;
    let mut disk = Disk::new(target)?;
    let driver = disk.driver.clone();
    let vfio = disk.device.vfio().clone();
    let registers = |seed: u64| {
        let mut random = Random::new(seed);
        for _ in 0..ROUNDS {
            let _ = match random.below(8) {
                0 => driver.write(register::CC, nvme::CC_SIZES | nvme::CC_ENABLE),
                1 => driver.write(register::CC, 0),
                2 | 3 => driver.write(
                    tail_doorbell(random.below(3) as u16),
                    random.below(32) as u32,
                ),
                4 | 5 => driver.write(
                    head_doorbell(random.below(3) as u16),
                    random.below(32) as u32,
                ),
                6 => driver.write(register::INTMS, random.number() as u32),
                _ => driver.status().map(drop),
            };
        }
    };
    let resets = || {
        for _ in 0..ROUNDS / 10 {
            let _ = vfio.reset();
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| registers(1));
        scope.spawn(|| registers(2));
        scope.spawn(|| registers(3));
        scope.spawn(resets);
    });
    drop(driver);
    disk.expect_recovers()
}
