// SPDX-License-Identifier: GPL-2.0

//! A read returns what was written, at any address in the guest's memory and in any kind of store.

use std::collections::BTreeSet;

use vfio_drivers::nvme::admin;
use vfio_drivers::nvme::content;
use vfio_drivers::nvme::nvm;
use vfio_drivers::nvme::Command;
use vfio_drivers::nvme::Status;
use vfio_drivers::nvme::PAGE;
use vfio_drivers::random::Random;

use crate::case::cases;
use crate::case::Case;
use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::check::Stop;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::nvme::disk::create;
use crate::v1::nvme::disk::field;
use crate::v1::nvme::disk::in_each_store;
use crate::v1::nvme::disk::Disk;
use crate::v1::nvme::disk::Scratch;
use crate::v1::nvme::disk::CAPACITY;
use crate::v1::nvme::disk::FILE;
use crate::v1::nvme::disk::MOST;
use crate::v1::nvme::disk::STORE;

const MIB: u64 = 1 << 20;

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::Nvme];

pub const CASES: &[Case] = cases![
    NEEDS;
    nvme_data_is_zeros_at_first [Mdev],
    nvme_data_at_any_alignment_and_length [Mdev],
    nvme_data_random_commands_in_memory [Mdev],
    nvme_data_random_commands_in_a_file [Mdev],
    nvme_data_of_a_file_survives_a_close [Mdev],
    nvme_data_around_the_ends_of_the_namespace [Mdev],
    nvme_data_more_than_a_command_may_move_is_refused,
    nvme_data_compare_finds_a_single_byte,
    nvme_data_several_queues_at_once,
    nvme_data_the_smallest_queue_wraps_a_thousand_times,
    nvme_data_a_list_over_several_pages [Mdev],
    nvme_data_a_write_to_memory_that_fails_writes_nothing [Mdev],
];

fn nvme_data_is_zeros_at_first(target: &Target) -> Outcome {
    in_each_store(target, is_zeros_at_first)
}

fn is_zeros_at_first(_: &Target, mut disk: Disk) -> Outcome {
    for place in [0, 17 * PAGE, 33 * MIB, 64 * MIB - 64 * PAGE] {
        let buffer = disk.driver.data(0);
        disk.memory().write(buffer, &[0xff; 64 * PAGE as usize]);
        same_bytes(
            format_args!("64 pages at {place:#x}"),
            &disk.read(place, 64 * PAGE)?,
            &[0; 64 * PAGE as usize],
        )?;
    }
    Ok(())
}

fn nvme_data_at_any_alignment_and_length(target: &Target) -> Outcome {
    in_each_store(target, at_any_alignment_and_length)
}

fn at_any_alignment_and_length(_: &Target, mut disk: Disk) -> Outcome {
    let mut random = Random::new(5);
    let memory = disk.memory().clone();
    for offset in [0, 4, 512, 2048, 4092] {
        for blocks in [1, 2, 3, 7, 8, 9, 16, 17] {
            let len = blocks * disk.block();
            let bytes = random.bytes(len as usize);
            let from = disk.driver.data(offset);
            let to = disk.driver.data(MIB + (offset * 3) % PAGE);
            let place = disk.block() * 3;
            memory.write(from, &bytes);
            // Memory before and behind the buffer does not change.
            memory.write(to - 8, &vec![0xcc; len as usize + 16]);
            disk.expect(nvm::WRITE, place, len, from, Status::SUCCESS)?;
            disk.expect(nvm::READ, place, len, to, Status::SUCCESS)?;
            let what = format!("{len} bytes at {offset} of a page");
            same_bytes(&what, &memory.bytes(to, len as usize), &bytes)?;
            same_bytes(
                format_args!("before {what}"),
                &memory.bytes(to - 8, 8),
                &[0xcc; 8],
            )?;
            same_bytes(
                format_args!("behind {what}"),
                &memory.bytes(to + len, 8),
                &[0xcc; 8],
            )?;
        }
    }
    Ok(())
}

/// Executes random commands on a small namespace, and returns the expected content.
fn random_commands(disk: &mut Disk, seed: u64) -> Outcome<Vec<u8>> {
    const ROUNDS: usize = 400;
    /// The most blocks of a command here.
    const BLOCKS: usize = 40;
    let mut random = Random::new(seed);
    let memory = disk.memory().clone();
    let block = disk.block();
    let capacity = disk.capacity()?;
    let mut expected = vec![0; capacity as usize];
    for round in 0..ROUNDS {
        let count = 1 + random.below(BLOCKS) as u64;
        let first = random.below((capacity / block - count + 1) as usize) as u64;
        let (place, len) = (first * block, count * block);
        let buffer = disk.driver.data(random.below(0x1000) as u64 * 4);
        let range = place as usize..(place + len) as usize;
        match random.below(10) {
            0..=3 => {
                let bytes = random.bytes(len as usize);
                memory.write(buffer, &bytes);
                disk.expect(nvm::WRITE, place, len, buffer, Status::SUCCESS)?;
                expected[range].copy_from_slice(&bytes);
            }
            4..=6 => {
                disk.expect(nvm::READ, place, len, buffer, Status::SUCCESS)?;
                same_bytes(
                    format_args!("round {round}: {len} bytes at {place:#x}"),
                    &memory.bytes(buffer, len as usize),
                    &expected[range],
                )?;
            }
            7 => {
                disk.write_zeroes(place, len, round % 2 == 0)?;
                expected[range].fill(0);
            }
            8 => {
                disk.deallocate(place, len)?;
                expected[range].fill(0);
            }
            _ => {
                memory.write(buffer, &expected[range]);
                disk.expect(nvm::COMPARE, place, len, buffer, Status::SUCCESS)?;
                let command = Command::new(nvm::FLUSH).namespace(1);
                let flushed = disk.driver.execute(1, command)?;
                same("flush", flushed.status, Status::SUCCESS)?;
            }
        }
    }
    same_bytes("the whole namespace", &disk.read(0, capacity)?, &expected)?;
    Ok(expected)
}

fn nvme_data_random_commands_in_memory(target: &Target) -> Outcome {
    for seed in 1..4 {
        let mut disk = Disk::with(target, &[(CAPACITY, "1048576")])?;
        random_commands(&mut disk, seed)?;
    }
    Ok(())
}

fn nvme_data_random_commands_in_a_file(target: &Target) -> Outcome {
    let scratch = Scratch::new(MIB)?;
    let mut disk = Disk::with(target, &[(STORE, "file"), (FILE, scratch.text())])?;
    let expected = random_commands(&mut disk, 9)?;
    drop(disk);
    same_bytes("the file", &scratch.read()?, &expected)
}

fn nvme_data_of_a_file_survives_a_close(target: &Target) -> Outcome {
    let scratch = Scratch::new(2 * MIB)?;
    let mdev = create(target, &[(STORE, "file"), (FILE, scratch.text())])?;
    let mut disk = Disk::open(target, mdev)?;
    let bytes = content(0, 40);
    for place in [0, MIB, 2 * MIB - PAGE] {
        disk.write(place, &bytes)?;
    }
    drop(disk.driver);
    let mut disk = Disk::open(target, disk.device.close())?;
    for place in [0, MIB, 2 * MIB - PAGE] {
        same_bytes(
            format_args!("page at {place:#x}"),
            &disk.read(place, PAGE)?,
            &bytes,
        )?;
    }
    Ok(())
}

fn nvme_data_around_the_ends_of_the_namespace(target: &Target) -> Outcome {
    let mut disk = Disk::with(target, &[(CAPACITY, "1048576")])?;
    let blocks = MIB / disk.block();
    let buffer = disk.driver.data(0);
    for opcode in [nvm::READ, nvm::WRITE, nvm::COMPARE, nvm::WRITE_ZEROES] {
        for (first, count, expected) in [
            (blocks - 1, 1, Status::SUCCESS),
            (blocks - 1, 2, Status::LBA_RANGE),
            (blocks, 1, Status::LBA_RANGE),
            (blocks - 8, 9, Status::LBA_RANGE),
            (u64::MAX, 1, Status::LBA_RANGE),
            (u64::MAX - 1, 2, Status::LBA_RANGE),
            (u64::MAX - 7, 8, Status::LBA_RANGE),
            (1 << 63, 1, Status::LBA_RANGE),
            (u64::from(u32::MAX) + 1, 1, Status::LBA_RANGE),
        ] {
            let (one, two) = disk.driver.prps(
                buffer,
                u64::from(count) * disk.block(),
                disk.driver.data(MIB),
            );
            let command = Command::new(opcode)
                .namespace(1)
                .prp(one, two)
                .blocks(first, count);
            disk.memory().write(buffer, &vec![0; 2 * PAGE as usize]);
            let seen = disk.driver.execute(1, command)?;
            same(
                format_args!("opcode {opcode:#x}, {count} blocks at {first:#x}"),
                seen.status,
                expected,
            )?;
        }
    }
    Ok(())
}

fn nvme_data_more_than_a_command_may_move_is_refused(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    let controller = disk.driver.identify(1, 0)?;
    let most = PAGE << field(&controller, 77, 1);
    same("MDTS in bytes", most, MOST)?;
    let buffer = disk.driver.data(0);
    for opcode in [nvm::READ, nvm::WRITE, nvm::COMPARE] {
        disk.expect(opcode, 0, most, buffer, Status::SUCCESS)?;
        let block = disk.block();
        disk.expect(opcode, 0, most + block, buffer, Status::INVALID_FIELD)?;
    }
    Ok(())
}

fn nvme_data_compare_finds_a_single_byte(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    let len = 5 * PAGE;
    let bytes = Random::new(8).bytes(len as usize);
    disk.write(0, &bytes)?;
    let buffer = disk.driver.data(MIB);
    disk.memory().write(buffer, &bytes);
    disk.expect(nvm::COMPARE, 0, len, buffer, Status::SUCCESS)?;
    for at in [0, 1, 4095, 4096, len - 1] {
        disk.memory().flip(buffer + at, 0x40);
        disk.expect(nvm::COMPARE, 0, len, buffer, Status::COMPARE_FAILURE)?;
        disk.memory().flip(buffer + at, 0x40);
    }
    // A page of the namespace that was never written is as good as one of zeros.
    disk.memory().write(buffer, &[0; 4096]);
    disk.expect(nvm::COMPARE, 32 * MIB, PAGE, buffer, Status::SUCCESS)?;
    disk.memory().flip(buffer, 1);
    disk.expect(
        nvm::COMPARE,
        32 * MIB,
        PAGE,
        buffer,
        Status::COMPARE_FAILURE,
    )
}

fn nvme_data_several_queues_at_once(target: &Target) -> Outcome {
    const PAIRS: u16 = 6;
    const DEPTH: u16 = 16;
    let mut disk = Disk::new(target)?;
    disk.driver.restart(32)?;
    for _ in 0..PAIRS {
        disk.driver.create_pair(DEPTH, None)?;
    }
    let memory = disk.memory().clone();
    let place = |round: u64, queue: u16, i: u16| {
        (round * 1000 + u64::from(queue) * 100 + u64::from(i)) * PAGE
    };
    let buffer = |disk: &Disk, queue: u16, i: u16| {
        disk.driver
            .data((u64::from(queue) * 16 + u64::from(i)) * PAGE)
    };
    for round in 0..4 {
        for opcode in [nvm::WRITE, nvm::READ] {
            for queue in 1..=PAIRS {
                for i in 0..DEPTH - 1 {
                    let at = buffer(&disk, queue, i);
                    let bytes = match opcode {
                        nvm::WRITE => content(place(round, queue, i), 6),
                        _ => vec![0; PAGE as usize],
                    };
                    memory.write(at, &bytes);
                    let command = disk.transfer(queue, opcode, place(round, queue, i), PAGE, at);
                    disk.driver.post(queue, command);
                }
            }
            for queue in 1..=PAIRS {
                disk.driver.ring(queue)?;
            }
            for queue in (1..=PAIRS).rev() {
                let mut ids = BTreeSet::new();
                for _ in 0..DEPTH - 1 {
                    let seen = disk.driver.wait(queue)?;
                    same("status", seen.status, Status::SUCCESS)?;
                    same("queue of a completion", seen.queue, queue)?;
                    if !ids.insert(seen.id) {
                        return Err(Stop::failed(format_args!(
                            "command {} of queue {queue} was completed twice",
                            seen.id
                        )));
                    }
                }
                same("a further completion", disk.driver.peek(queue), None)?;
            }
        }
        for queue in 1..=PAIRS {
            for i in 0..DEPTH - 1 {
                same_bytes(
                    format_args!("round {round}, command {i} of queue {queue}"),
                    &memory.bytes(buffer(&disk, queue, i), PAGE as usize),
                    &content(place(round, queue, i), 6),
                )?;
            }
        }
    }
    Ok(())
}

fn nvme_data_the_smallest_queue_wraps_a_thousand_times(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    disk.driver.restart(2)?;
    disk.driver.create_pair(2, None)?;
    let buffer = disk.driver.data(0);
    let block = disk.block();
    for i in 0..2000u64 {
        disk.memory().write(buffer, &i.to_le_bytes());
        disk.expect(
            nvm::WRITE,
            (i % 100) * block,
            block,
            buffer,
            Status::SUCCESS,
        )?;
        if i % 50 == 0 {
            let command = Command::new(admin::GET_FEATURES).word(10, 1);
            disk.driver.succeed(0, command)?;
        }
    }
    for i in 1900..2000u64 {
        disk.expect(nvm::READ, (i % 100) * block, block, buffer, Status::SUCCESS)?;
        same("number in a block", disk.memory().read_u64(buffer), i)?;
    }
    Ok(())
}

fn nvme_data_a_list_over_several_pages(target: &Target) -> Outcome {
    in_each_store(target, a_list_over_several_pages)
}

fn a_list_over_several_pages(_: &Target, mut disk: Disk) -> Outcome {
    let len = 32 * PAGE;
    let bytes = Random::new(12).bytes(len as usize);
    let (from, to) = (disk.driver.data(0), disk.driver.data(MIB));
    disk.memory().write(from, &bytes);
    let blocks = (len / disk.block()) as u32;
    // The list begins so close to the end of a page that it goes on in the next one.
    for left in [1u64, 2, 3, 30, 31] {
        let list = disk.driver.data(2 * MIB) + PAGE - left * 8;
        for (opcode, buffer) in [(nvm::WRITE, from), (nvm::READ, to)] {
            let (one, two) = disk.driver.prps(buffer, len, list);
            let command = Command::new(opcode)
                .namespace(1)
                .prp(one, two)
                .blocks(left * 100, blocks);
            let seen = disk.driver.execute(1, command)?;
            same(
                format_args!("opcode {opcode:#x} with {left} entries in the first page"),
                seen.status,
                Status::SUCCESS,
            )?;
        }
        same_bytes(
            format_args!("{left} entries in the first page"),
            &disk.memory().bytes(to, len as usize),
            &bytes,
        )?;
        disk.memory().write(to, &vec![0; len as usize]);
    }
    Ok(())
}

/// Section 6.4.2: a write of at most NAWUPF blocks that fails leaves the old data or the new data.
fn nvme_data_a_write_to_memory_that_fails_writes_nothing(target: &Target) -> Outcome {
    const NOWHERE: u64 = 0x40_0000_0000;
    /// NSFEAT: the namespace has atomic units of its own.
    const NSABP: u8 = 1 << 1;
    let mut disk = Disk::with(target, &[(STORE, "ram")])?;
    let block = disk.block();
    let namespace = disk.driver.identify(0, 1)?;
    same("NSABP", namespace[24] & NSABP, NSABP)?;
    let most = (field(&namespace, 36, 2) + 1) * block;
    same("NAWUPF in bytes", most, MOST)?;

    let memory = disk.memory().clone();
    let (buffer, list) = (disk.driver.data(0), disk.driver.data(2 * MIB));
    let mut random = Random::new(21);
    // Whole pages and parts of pages, where something was written before and where nothing was.
    let mut expected = random.bytes(2 * MIB as usize);
    expected[MIB as usize + PAGE as usize * 3..].fill(0);
    disk.write(0, &expected)?;
    for place in [0, 3 * block, MIB, MIB + 5 * block] {
        for (len, bad) in [
            (2 * PAGE, 1),
            (9 * PAGE, 8),
            (most, 1),
            (most, most / PAGE - 1),
        ] {
            memory.write(buffer, &random.bytes(len as usize));
            let (one, two) = disk.driver.prps(buffer, len, list);
            let second = if len == 2 * PAGE { NOWHERE } else { two };
            if second == two {
                memory.write(list + (bad - 1) * 8, &NOWHERE.to_le_bytes());
            }
            let command = Command::new(nvm::WRITE)
                .namespace(1)
                .prp(one, second)
                .blocks(place / block, (len / block) as u32);
            let what = format!("{len} bytes at {place:#x}, page {bad} of them nowhere");
            let seen = disk.driver.execute(1, command)?;
            same(&what, seen.status, Status::TRANSFER_ERROR)?;
            same_bytes(&what, &disk.read(0, 2 * MIB)?, &expected)?;
        }
        // The next one, of any length, is written in full.
        let bytes = random.bytes(most as usize);
        expected[place as usize..][..bytes.len()].copy_from_slice(&bytes);
        disk.write(place, &bytes)?;
        same_bytes(
            format_args!("{most} bytes at {place:#x}"),
            &disk.read(0, 2 * MIB)?,
            &expected,
        )?;
    }
    Ok(())
}
