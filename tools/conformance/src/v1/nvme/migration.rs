// SPDX-License-Identifier: GPL-2.0

//! Migration of a controller with the commands of its guest, and with its namespace.

use std::collections::BTreeSet;

use rustix::param::page_size;
use vfio_client::stream::Record;
use vfio_client::stream::Stream;
use vfio_client::stream::BLOCK;
use vfio_client::stream::HEADER_RECORD;
use vfio_client::stream::STATE;
use vfio_client::stream::ZEROES;
use vfio_client::v1::State;
use vfio_client::Errno;
use vfio_drivers::nvme::admin;
use vfio_drivers::nvme::content;
use vfio_drivers::nvme::feature;
use vfio_drivers::nvme::nvm;
use vfio_drivers::nvme::tail_doorbell;
use vfio_drivers::nvme::Command;
use vfio_drivers::nvme::Controller;
use vfio_drivers::nvme::Status;
use vfio_drivers::nvme::PAGE;
use vfio_drivers::random::Random;

use crate::case::cases;
use crate::case::Case;
use crate::check::denied;
use crate::check::holds;
use crate::check::one_of;
use crate::check::refused;
use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::check::Stop;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::device::TestDevice;
use crate::v1::device::PATIENCE;
use crate::v1::device::WINDOW_SIZE;
use crate::v1::nvme::config::VECTORS;
use crate::v1::nvme::disk::create;
use crate::v1::nvme::disk::Disk;
use crate::v1::nvme::disk::Scratch;
use crate::v1::nvme::disk::CAPACITY;
use crate::v1::nvme::disk::DEPTH;
use crate::v1::nvme::disk::FILE;
use crate::v1::nvme::disk::QUEUES;
use crate::v1::nvme::disk::SERIAL;
use crate::v1::nvme::disk::STORE;

const MIB: u64 = 1 << 20;
/// An upper bound of the state of a controller and of the frame of a stream, in bytes.
const STATE_AND_FRAME: u64 = 64 << 10;

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::Nvme];

pub const CASES: &[Case] = cases![
    NEEDS;
    nvme_moves_queues_features_and_identity [Mdev],
    nvme_moves_commands_that_were_not_fetched [Mdev],
    nvme_moves_event_requests_and_interrupts_that_wait [Msix, Mdev],
    nvme_moves_shadow_doorbells [Mdev],
    nvme_moves_its_namespace_while_it_is_written [Mdev],
    nvme_moves_between_windows_of_different_sizes [Mdev],
    nvme_moves_there_and_back_again [Mdev],
    nvme_moves_only_what_is_dirty_in_stop_and_copy [Mdev],
    nvme_moves_what_was_never_written_for_nothing [Mdev],
    nvme_moves_zeros_for_next_to_nothing [Mdev],
    nvme_moves_data_that_became_zeros [Mdev],
    nvme_pending_bytes_are_an_honest_estimate [Mdev],
    nvme_pending_bytes_count_nothing_for_what_is_empty [Mdev],
    nvme_memory_is_freed_where_zeros_are_written [Mdev],
    nvme_resume_replaces_the_whole_namespace [Mdev],
    nvme_chunks_in_doubt_are_sent_again [Mdev],
    nvme_cancel_in_the_middle_changes_nothing [Mdev],
    nvme_continue_after_stop_and_copy_starts_over [Mdev],
    nvme_another_configuration_is_refused_at_the_first_record [Mdev],
    nvme_hostile_blocks_are_refused [Mdev],
    nvme_refused_stream_leaves_the_namespace_alone [Mdev],
    nvme_file_moves_its_state_only [Mdev],
    nvme_file_is_handed_over [Mdev],
    nvme_memory_is_freed_at_close [Mdev],
    nvme_module_stays_while_a_controller_is_open,
];

const FORMAT_NEEDS: &[Requirement] = &[Requirement::V1, Requirement::Nvme, Requirement::Mdev];

/// Cases for which the size of a logical block makes a difference.
pub const FORMAT: &[Case] = cases![
    FORMAT_NEEDS;
    nvme_moves_queues_features_and_identity,
    nvme_moves_its_namespace_while_it_is_written,
    nvme_another_configuration_is_refused_at_the_first_record,
];

/// The expected content of a namespace, by page. Other pages are zeros.
#[derive(Debug, Default)]
struct Expected(std::collections::BTreeMap<u64, u64>);

impl Expected {
    /// Writes a page with a content of its own.
    #[track_caller]
    fn write(&mut self, disk: &mut Disk, page: u64, seed: u64) -> Outcome {
        self.0.insert(page, seed);
        disk.write(page * PAGE, &content(page, seed))
    }

    /// Writes many pages in a row, with large commands.
    #[track_caller]
    fn write_run(&mut self, disk: &mut Disk, first: u64, count: u64, seed: u64) -> Outcome {
        let mut bytes = Vec::new();
        for page in first..first + count {
            self.0.insert(page, seed);
            bytes.extend(content(page, seed));
        }
        disk.write(first * PAGE, &bytes)
    }

    /// Checks a range of pages.
    #[track_caller]
    fn check(&self, disk: &mut Disk, first: u64, count: u64) -> Outcome {
        let seen = disk.read(first * PAGE, count * PAGE)?;
        for (page, seen) in (first..).zip(seen.chunks(PAGE as usize)) {
            let expected = match self.0.get(&page) {
                Some(seed) => content(page, *seed),
                None => vec![0; PAGE as usize],
            };
            same_bytes(format_args!("page {page}"), seen, &expected)?;
        }
        Ok(())
    }

    /// Checks all of them, and some others.
    #[track_caller]
    fn check_all(&self, disk: &mut Disk) -> Outcome {
        let end = disk.capacity()? / PAGE;
        let mut at = 0;
        while at < end {
            // Long runs of zeros are in between.
            let next = self.0.range(at..).next().map_or(end, |(page, _)| *page);
            if next > at + 1024 {
                self.check(disk, at, 1)?;
                self.check(disk, next - 1, 1)?;
                at = next;
                continue;
            }
            let count = (end - at).min(128);
            self.check(disk, at, count)?;
            at += count;
        }
        Ok(())
    }
}

/// Takes the chunks of pre-copy until there are none.
#[track_caller]
pub fn pre_copy(disk: &Disk) -> Outcome<Vec<u8>> {
    disk.device.set(State::PRE_COPY)?;
    Ok(disk.device.migration.save()?)
}

fn nvme_moves_queues_features_and_identity(target: &Target) -> Outcome {
    let attributes = [(SERIAL, "at the source"), (CAPACITY, "8388608")];
    let mut disk = Disk::with(target, &attributes)?;
    let features = [
        (feature::TEMPERATURE, 0x14d),
        (feature::ASYNC_EVENTS, 0x3),
        (feature::COALESCING, 0x0203),
    ];
    for (feature, value) in features {
        disk.driver.set_feature(feature, value)?;
    }
    for depth in [2, 7, 100] {
        disk.driver.create_pair(depth, None)?;
    }
    // Heads and tails at all sorts of places, some past a wrap.
    let buffer = disk.driver.data(0);
    for queue in 1..=4u16 {
        for i in 0..u64::from(queue) * 9 {
            let command = disk.transfer(queue, nvm::READ, i * PAGE, PAGE, buffer);
            disk.driver.succeed(queue, command)?;
        }
    }
    let mut expected = Expected::default();
    for page in [0, 5, 2047] {
        expected.write(&mut disk, page, 4)?;
    }
    let identity = disk.driver.identify(1, 0)?;
    let mut disk = disk.migrate(target, &[(SERIAL, "elsewhere"), (CAPACITY, "8388608")])?;
    same_bytes("identity", &disk.driver.identify(1, 0)?, &identity)?;
    for (feature, value) in features {
        same(
            format_args!("feature {feature}"),
            disk.driver.feature(feature)?,
            value,
        )?;
    }
    for queue in 1..=4u16 {
        for i in 0..u64::from(queue) * 7 {
            let command = disk.transfer(queue, nvm::READ, i * PAGE, PAGE, buffer);
            disk.driver.succeed(queue, command)?;
        }
    }
    expected.check_all(&mut disk)?;
    // Queues can be deleted and made, and the controller started anew.
    disk.driver.delete_pair()?;
    disk.driver.create_pair(16, None)?;
    disk.expect_recovers()
}

/// Takes all completions of queue 1 until `count` commands are complete. `ids` has the complete commands. No
/// command may complete twice.
#[track_caller]
fn collect(driver: &mut Controller, ids: &mut BTreeSet<u16>, count: usize) -> Outcome {
    while ids.len() < count {
        let seen = driver.wait(1)?;
        same("status", seen.status, Status::SUCCESS)?;
        if !ids.insert(seen.id) {
            return Err(Stop::failed(format_args!(
                "command {} was completed twice",
                seen.id
            )));
        }
    }
    same("a completion too many", driver.peek(1), None)
}

fn nvme_moves_commands_that_were_not_fetched(target: &Target) -> Outcome {
    const CAPACITY_8M: [(&str, &str); 1] = [(CAPACITY, "8388608")];
    let mut disk = Disk::with(target, &CAPACITY_8M)?;
    let mut expected = Expected::default();
    for round in 0..25u64 {
        let mut ids = BTreeSet::new();
        let count = u64::from(DEPTH) - 1;
        for i in 0..count {
            let page = (round * 7 + i * 3) % 2048;
            let buffer = disk.driver.data(i * PAGE);
            disk.memory().write(buffer, &content(page, round));
            expected.0.insert(page, round);
            let command = disk.transfer(1, nvm::WRITE, page * PAGE, PAGE, buffer);
            disk.driver.post(1, command);
            // Some are known to the controller one by one, some all at once, some not yet.
            if round % 3 == 0 {
                disk.driver.ring(1)?;
            }
        }
        let rung = round % 3 != 2;
        if rung {
            disk.driver.ring(1)?;
        }
        if round % 5 == 4 && rung {
            disk.driver.await_completion(1)?;
        }
        disk = disk.migrate(target, &CAPACITY_8M)?;
        if !rung {
            same(
                "a completion before the doorbell",
                disk.driver.peek(1),
                None,
            )?;
            disk.driver.ring(1)?;
        }
        collect(&mut disk.driver, &mut ids, count as usize)?;
    }
    expected.check_all(&mut disk)
}

fn nvme_moves_event_requests_and_interrupts_that_wait(target: &Target) -> Outcome {
    let mut disk = Disk::disabled(target, create(target, &[])?)?;
    disk.driver.connect(VECTORS)?;
    disk.driver.restart(DEPTH)?;
    for vector in [1, 2] {
        disk.driver.create_pair(DEPTH, Some(vector))?;
    }
    disk.driver.set_feature(feature::ASYNC_EVENTS, 0xff)?;
    let requests = [
        disk.driver.submit(0, Command::new(admin::ASYNC_EVENT))?,
        disk.driver.submit(0, Command::new(admin::ASYNC_EVENT))?,
    ];
    // Complete and not taken: the guest had no time for the interrupt yet.
    let buffer = disk.driver.data(0);
    for i in 0..3 {
        let command = disk.transfer(2, nvm::READ, i * PAGE, PAGE, buffer);
        disk.driver.submit(2, command)?;
    }
    disk.driver.await_completion(2)?;
    for vector in 0..3 {
        disk.driver.event(vector).take()?;
    }
    let mut disk = disk.migrate(target, &[])?;
    let signals = disk.driver.event(2).wait(PATIENCE)?;
    holds(
        signals >= 1,
        "expected the interrupt of completions that wait, seen none",
    )?;
    for _ in 0..3 {
        same("status", disk.driver.wait(2)?.status, Status::SUCCESS)?;
    }
    // The requests are still the controller's, in their order.
    for id in requests {
        same("a completion before its event", disk.driver.peek(0), None)?;
        disk.driver.write(tail_doorbell(9), 1)?;
        let event = disk.driver.wait(0)?;
        same("id of the event", event.id, id)?;
        same("status of the event", event.status, Status::SUCCESS)?;
        // The log page has to be read before the next event of this kind.
        let log = Command::new(admin::GET_LOG_PAGE)
            .prp(buffer, 0)
            .word(10, 15 << 16 | 1);
        disk.driver.succeed(0, log)?;
    }
    // All vectors are alive.
    let command = disk.transfer(1, nvm::READ, 0, PAGE, buffer);
    disk.driver.succeed(1, command)?;
    disk.expect_recovers()
}

/// The pages of the doorbell buffer config command: the guest's doorbells, and how far the
/// controller has to be told of them.
pub struct Shadow {
    doorbells: u64,
    events: u64,
}

impl Shadow {
    /// Has the controller use shadow doorbells.
    #[track_caller]
    pub fn configure(disk: &mut Disk) -> Outcome<Shadow> {
        let shadow = Shadow {
            doorbells: disk.driver.data(MIB),
            events: disk.driver.data(MIB + PAGE),
        };
        let config = Command::new(admin::DOORBELL_BUFFER).prp(shadow.doorbells, shadow.events);
        disk.driver.succeed(0, config)?;
        Ok(shadow)
    }

    fn at(start: u64, queue: u16, head: bool) -> u64 {
        start + u64::from(queue) * 8 + if head { 4 } else { 0 }
    }

    fn read(disk: &Disk, at: u64) -> u16 {
        // The words are pairs, and a pair is read at once.
        (disk.memory().read_u64(at & !7) >> ((at & 4) * 8)) as u16
    }

    /// Writes a shadow doorbell.
    pub fn set(&self, disk: &Disk, queue: u16, head: bool, value: u16) {
        let at = Shadow::at(self.doorbells, queue, head);
        disk.memory().write(at, &u32::from(value).to_le_bytes());
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
    }

    /// Returns an event index.
    pub fn event(&self, disk: &Disk, queue: u16, head: bool) -> u16 {
        Shadow::read(disk, Shadow::at(self.events, queue, head))
    }

    /// Writes a doorbell as the stock driver does. Returns whether the register had to be written.
    #[track_caller]
    fn ring(&self, disk: &Disk, queue: u16, head: bool, value: u16) -> Outcome<bool> {
        let at = Shadow::at(self.doorbells, queue, head);
        let old = Shadow::read(disk, at);
        self.set(disk, queue, head, value);
        let event = self.event(disk, queue, head);
        let due = value.wrapping_sub(event).wrapping_sub(1) < value.wrapping_sub(old);
        if due {
            let register = tail_doorbell(queue) + if head { 4 } else { 0 };
            disk.driver.write(register, value.into())?;
        }
        Ok(due)
    }

    /// Executes reads in queue 1; returns how often a register was written for them.
    #[track_caller]
    pub fn work(&self, disk: &mut Disk, count: u64) -> Outcome<usize> {
        let buffer = disk.driver.data(0);
        let mut traps = 0;
        for i in 0..count {
            let command = disk.transfer(1, nvm::READ, i * PAGE, PAGE, buffer);
            disk.driver.post(1, command);
            traps += usize::from(self.ring(disk, 1, false, disk.driver.pair(1).tail)?);
            disk.driver.await_completion(1)?;
            let seen = disk.driver.take_quietly(1);
            same(
                "status",
                seen.map(|completion| completion.status),
                Some(Status::SUCCESS),
            )?;
            traps += usize::from(self.ring(disk, 1, true, disk.driver.pair(1).head)?);
        }
        Ok(traps)
    }
}

fn nvme_moves_shadow_doorbells(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    disk.start(DEPTH)?;
    let shadow = Shadow::configure(&mut disk)?;
    shadow.work(&mut disk, 100)?;
    let mut disk = disk.migrate(target, &[])?;
    // These reach the controller by the buffers alone, unless it asked for the register.
    let traps = shadow.work(&mut disk, 100)?;
    holds(
        traps <= 200,
        format_args!("{traps} doorbells for 100 commands"),
    )?;
    // Posted in the shadow while nobody looks, on both sides of a move.
    disk.device.set(State::STOP_COPY)?;
    let stream = disk.device.migration.save()?;
    let buffer = disk.driver.data(0);
    let command = disk.transfer(1, nvm::READ, 0, PAGE, buffer);
    disk.driver.post(1, command);
    let at = Shadow::at(shadow.doorbells, 1, false);
    let tail = u32::from(disk.driver.pair(1).tail);
    disk.memory().write(at, &tail.to_le_bytes());
    let mut disk = disk.arrive(target, &[], &stream)?;
    same(
        "status",
        disk.driver.await_completion(1)?.status,
        Status::SUCCESS,
    )?;
    disk.expect_recovers()
}

/// Moves a namespace of `capacity` bytes with pre-copy, writing all the time; the windows have these
/// sizes.
fn move_while_writing(target: &Target, capacity: u64, from: u64, to: u64, run: u64) -> Outcome {
    let capacity_text = capacity.to_string();
    let (from, to) = (from.to_string(), to.to_string());
    let source = [(CAPACITY, capacity_text.as_str()), (WINDOW_SIZE, &from)];
    let destination = [(CAPACITY, capacity_text.as_str()), (WINDOW_SIZE, &to)];
    let pages = capacity / PAGE;
    let mut disk = Disk::with(target, &source)?;
    let mut expected = Expected::default();
    expected.write_run(&mut disk, pages / 4, run, 1)?;
    expected.write(&mut disk, 0, 1)?;
    expected.write(&mut disk, pages - 1, 1)?;
    disk.device.set(State::PRE_COPY)?;
    let mut random = Random::new(capacity);
    let mut stream = Vec::new();
    let mut seed = 2;
    while let Some(chunk) = disk.device.migration.next_chunk()? {
        stream.extend(chunk.bytes);
        if seed < 150 {
            // Some that were sent, some that were not, some that were never written.
            let page = match random.below(3) {
                0 => pages / 4 + random.below(run as usize) as u64,
                1 => random.below(pages as usize) as u64,
                _ => pages / 4,
            };
            expected.write(&mut disk, page, seed)?;
            seed += 1;
        }
    }
    for page in [1, pages / 4, pages / 4 + run - 1, pages - 1] {
        expected.write(&mut disk, page, seed)?;
    }
    disk.device.set(State::STOP_COPY)?;
    stream.extend(disk.device.migration.save()?);
    let mut disk = disk.arrive(target, &destination, &stream)?;
    expected.check_all(&mut disk)?;
    expected.write(&mut disk, 2, 1000)?;
    expected.check(&mut disk, 0, 4)
}

fn nvme_moves_its_namespace_while_it_is_written(target: &Target) -> Outcome {
    move_while_writing(target, 16 * MIB, MIB, MIB, 700)
}

fn nvme_moves_between_windows_of_different_sizes(target: &Target) -> Outcome {
    let page = page_size() as u64;
    for (from, to) in [
        (page, 16 * MIB),
        (16 * MIB, page),
        (3 * page, 2 * page),
        (page, page),
    ] {
        move_while_writing(target, 4 * MIB, from, to, 100)?;
    }
    Ok(())
}

fn nvme_moves_there_and_back_again(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    let mut expected = Expected::default();
    for round in 0..8 {
        expected.write_run(&mut disk, round * 100, 50, round)?;
        expected.write(&mut disk, 3, round)?;
        let mut stream = pre_copy(&disk)?;
        expected.write(&mut disk, 4 + round, round)?;
        disk.device.set(State::STOP_COPY)?;
        stream.extend(disk.device.migration.save()?);
        disk = disk.arrive(target, &[], &stream)?;
    }
    expected.check_all(&mut disk)
}

fn nvme_moves_only_what_is_dirty_in_stop_and_copy(target: &Target) -> Outcome {
    const DIRTY: u64 = 20;
    let mut sizes = Vec::new();
    for (capacity, run) in [(64 * MIB, 256), (64 * MIB, 2048), (1024 * MIB, 2048)] {
        let text = capacity.to_string();
        let mut disk = Disk::with(target, &[(CAPACITY, &text)])?;
        let mut expected = Expected::default();
        expected.write_run(&mut disk, 0, run, 1)?;
        let first = pre_copy(&disk)?.len() as u64;
        holds(
            first >= run * PAGE,
            format_args!("{first} bytes of pre-copy for {run} pages"),
        )?;
        for i in 0..DIRTY {
            expected.write(&mut disk, i * 11, 2)?;
        }
        disk.device.set(State::STOP_COPY)?;
        let last = disk.device.migration.save()?.len() as u64;
        holds(
            (DIRTY * PAGE..DIRTY * PAGE + STATE_AND_FRAME).contains(&last),
            format_args!("{last} bytes of stop-and-copy for {DIRTY} pages, {run} before"),
        )?;
        sizes.push(last);
    }
    same(
        "bytes of stop-and-copy with four times as much written before",
        sizes[1],
        sizes[0],
    )?;
    same(
        "bytes of stop-and-copy with sixteen times the capacity",
        sizes[2],
        sizes[0],
    )
}

fn nvme_moves_what_was_never_written_for_nothing(target: &Target) -> Outcome {
    let large = (64u64 << 30).to_string();
    let disk = Disk::with(target, &[(CAPACITY, &large)])?;
    let before = pre_copy(&disk)?.len() as u64;
    disk.device.set(State::STOP_COPY)?;
    let after = disk.device.migration.save()?.len() as u64;
    holds(
        before + after < STATE_AND_FRAME,
        format_args!("{before} and {after} bytes for 64 GiB of nothing"),
    )
}

fn nvme_moves_zeros_for_next_to_nothing(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    disk.write(0, &vec![0; 8 * MIB as usize])?;
    disk.write(16 * MIB, &[0xff; 4096])?;
    for page in 0..200 {
        disk.write(32 * MIB + page * 2 * PAGE, &[0; 4096])?;
    }
    let mut stream = pre_copy(&disk)?;
    disk.device.set(State::STOP_COPY)?;
    stream.extend(disk.device.migration.save()?);
    holds(
        (stream.len() as u64) < 2 * STATE_AND_FRAME,
        format_args!("{} bytes for zeros and one page", stream.len()),
    )?;
    let mut disk = disk.arrive(target, &[], &stream)?;
    same_bytes("the page", &disk.read(16 * MIB, PAGE)?, &[0xff; 4096])?;
    same_bytes("zeros", &disk.read(0, PAGE)?, &[0; 4096])
}

fn nvme_moves_data_that_became_zeros(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    let mut expected = Expected::default();
    expected.write_run(&mut disk, 0, 256, 1)?;
    let mut stream = pre_copy(&disk)?;
    disk.write_zeroes(10 * PAGE, 20 * PAGE, false)?;
    disk.write_zeroes(40 * PAGE, 20 * PAGE, true)?;
    disk.deallocate(70 * PAGE, 20 * PAGE)?;
    disk.write(100 * PAGE, &[0; 4096])?;
    disk.write_zeroes(120 * PAGE, PAGE, false)?;
    for page in [10..30, 40..60, 70..90, 100..101, 120..121] {
        for page in page {
            expected.0.remove(&page);
        }
    }
    disk.device.set(State::STOP_COPY)?;
    stream.extend(disk.device.migration.save()?);
    let mut disk = disk.arrive(target, &[], &stream)?;
    expected.check(&mut disk, 0, 256)
}

fn nvme_pending_bytes_are_an_honest_estimate(target: &Target) -> Outcome {
    for window in [4096, 12 * 4096, MIB, 16 * MIB] {
        let text = window.to_string();
        let mut disk = Disk::with(target, &[(WINDOW_SIZE, &text)])?;
        Expected::default().write_run(&mut disk, 0, 300, 1)?;
        for state in [State::PRE_COPY, State::STOP_COPY] {
            if state == State::STOP_COPY {
                Expected::default().write_run(&mut disk, 100, 50, 2)?;
            }
            disk.device.set(state)?;
            let chunks = disk.device.migration.drain()?;
            let mut left: u64 = chunks.iter().map(|chunk| chunk.bytes.len() as u64).sum();
            for chunk in chunks {
                holds(
                    chunk.pending >= left && chunk.pending <= left + left / 8 + STATE_AND_FRAME,
                    format_args!(
                        "{state}, window of {window}: {} bytes promised, {left} came",
                        chunk.pending
                    ),
                )?;
                left -= chunk.bytes.len() as u64;
            }
        }
    }
    Ok(())
}

fn nvme_pending_bytes_count_nothing_for_what_is_empty(target: &Target) -> Outcome {
    const PAGES: u64 = 2048;
    // A record of zeros for each of up to 256 pages, and one where reading went on in the middle.
    const ZEROES: u64 = 40;
    let mut disk = Disk::new(target)?;
    let mut expected = Expected::default();
    expected.write_run(&mut disk, 0, PAGES, 1)?;
    let mut stream = pre_copy(&disk)?;
    let len = PAGES * PAGE;
    let zeros = vec![0; len as usize];
    type Empty = fn(&mut Disk, u64, &[u8]) -> Outcome;
    let ways: [(&str, Empty); 4] = [
        ("deallocated", |disk, len, _| disk.deallocate(0, len)),
        ("Write Zeroes", |disk, len, _| {
            disk.write_zeroes(0, len, false)
        }),
        ("written with zeros", |disk, _, zeros| disk.write(0, zeros)),
        ("block by block", |disk, _, zeros| {
            let block = disk.block();
            for (place, zeros) in (0..)
                .step_by(block as usize)
                .zip(zeros.chunks(block as usize))
            {
                disk.write(place, zeros)?;
            }
            Ok(())
        }),
    ];
    for (seed, (what, empty)) in (2..).zip(ways) {
        // The last page stays.
        let all = len - PAGE;
        empty(&mut disk, all, &zeros[..all as usize])?;
        let pending = disk.device.migration.pending()?;
        let most = (1 + PAGES.div_ceil(256)) * ZEROES;
        holds(
            pending <= most,
            format_args!("{what}: expected {most} bytes pending at most, seen {pending}"),
        )?;
        let chunks = disk.device.migration.drain()?;
        let came: u64 = chunks.iter().map(|chunk| chunk.bytes.len() as u64).sum();
        holds(
            came <= pending,
            format_args!("{what}: {pending} bytes promised, {came} came"),
        )?;
        stream.extend(chunks.into_iter().flat_map(|chunk| chunk.bytes));
        if seed < 5 {
            expected.write_run(&mut disk, 0, PAGES, seed)?;
            stream.extend(disk.device.migration.save()?);
        }
    }
    disk.device.set(State::STOP_COPY)?;
    stream.extend(disk.device.migration.save()?);
    let mut disk = disk.arrive(target, &[], &stream)?;
    expected.0.retain(|page, _| *page == PAGES - 1);
    expected.check(&mut disk, 0, PAGES)
}

fn nvme_memory_is_freed_where_zeros_are_written(target: &Target) -> Outcome {
    const EACH: u64 = 32 * MIB;
    const ROUNDS: u64 = 10;
    // What is freed may stay with a processor, but is not the slab's any more. A kernel with KASAN keeps
    // a part of it, which is why there are several rounds, each at another place.
    let taken = || memory("SUnreclaim:");
    let capacity = (ROUNDS * EACH).to_string();
    let mut disk = Disk::with(target, &[(CAPACITY, &capacity)])?;
    let before = taken()?;
    for place in (0..ROUNDS).map(|round| round * EACH) {
        let empty = taken()?;
        disk.write(place, &vec![0x5a; EACH as usize])?;
        let full = taken()?;
        if place == 0 {
            holds(
                full > empty + EACH / 2,
                format_args!("expected {EACH} bytes more than {empty} in use, seen {full}"),
            )?;
        }
        disk.write(place, &vec![0; EACH as usize])?;
    }
    let after = taken()?;
    let most = before + ROUNDS * EACH * 5 / 8;
    holds(
        after < most,
        format_args!("expected less than {most} bytes in use, {before} before, seen {after}"),
    )?;
    same_bytes(
        "read back",
        &disk.read(EACH / 2, PAGE)?,
        &[0; PAGE as usize],
    )
}

fn nvme_resume_replaces_the_whole_namespace(target: &Target) -> Outcome {
    let mut source = Disk::new(target)?;
    let mut expected = Expected::default();
    expected.write_run(&mut source, 0, 20, 1)?;
    source.device.set(State::STOP_COPY)?;
    let stream = source.device.migration.save()?;
    // The destination has been used before, as with loadvm.
    let mut used = Disk::new(target)?;
    used.write(10 * PAGE, &content(0, 50))?;
    used.write(50 * PAGE, &content(0, 51))?;
    used.device.set(State::STOP)?;
    used.device.set(State::RESUMING)?;
    used.device.migration.feed(&stream, usize::MAX)?;
    used.device.set(State::RUNNING)?;
    used.start(DEPTH)?;
    expected.check_all(&mut used)?;
    // The source continues.
    source.device.set(State::RUNNING)?;
    expected.check_all(&mut source)
}

fn nvme_chunks_in_doubt_are_sent_again(target: &Target) -> Outcome {
    for taken in [false, true] {
        for chunks in [0, 1, 2, 5] {
            let mut disk = Disk::with(target, &[(WINDOW_SIZE, "65536")])?;
            let mut expected = Expected::default();
            expected.write_run(&mut disk, 0, 100, 1)?;
            disk.device.set(State::PRE_COPY)?;
            let mut stream = Vec::new();
            for _ in 0..chunks {
                if let Some(chunk) = disk.device.migration.next_chunk()? {
                    stream.extend(chunk.bytes);
                }
            }
            // This chunk is presented, and the device is not told whether it was taken.
            disk.device.migration.pending()?;
            let (_, bytes) = disk.device.migration.presented()?;
            if taken {
                stream.extend(bytes);
            }
            expected.write(&mut disk, 3, 2)?;
            disk.device.set(State::STOP_COPY)?;
            stream.extend(disk.device.migration.save()?);
            let mut disk = disk
                .arrive(target, &[], &stream)
                .map_err(|why| Stop::failed(format_args!("{taken}, {chunks}: {why:?}")))?;
            expected.check(&mut disk, 0, 128)?;
        }
    }
    Ok(())
}

fn nvme_cancel_in_the_middle_changes_nothing(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    let mut expected = Expected::default();
    expected.write_run(&mut disk, 0, 600, 1)?;
    for round in 2..8 {
        disk.device.set(State::PRE_COPY)?;
        for i in 0..round {
            disk.device.migration.next_chunk()?;
            expected.write(&mut disk, round * 40 + i, round)?;
        }
        if round % 2 == 0 {
            disk.device.set(State::STOP_COPY)?;
            disk.device.migration.next_chunk()?;
        }
        disk.device.set(State::RUNNING)?;
        same("pending_bytes", disk.device.migration.pending()?, 0)?;
        expected.write(&mut disk, round, round)?;
    }
    expected.check_all(&mut disk)?;
    // And then it is moved after all.
    let mut stream = pre_copy(&disk)?;
    disk.device.set(State::STOP_COPY)?;
    stream.extend(disk.device.migration.save()?);
    let mut disk = disk.arrive(target, &[], &stream)?;
    expected.check_all(&mut disk)
}

fn nvme_continue_after_stop_and_copy_starts_over(target: &Target) -> Outcome {
    let mut disk = Disk::new(target)?;
    let mut expected = Expected::default();
    expected.write_run(&mut disk, 0, 300, 1)?;
    let mut stream = pre_copy(&disk)?;
    disk.device.set(State::STOP_COPY)?;
    stream.extend(disk.device.migration.save()?);
    // The guest is continued and stopped again, in one and the same migration.
    for back in [State::RUNNING, State::PRE_COPY] {
        disk.device.set(back)?;
        expected.write_run(&mut disk, 250, 100, 2)?;
        disk.deallocate(0, 8 * PAGE)?;
        expected.0.retain(|page, _| *page >= 8);
        if back == State::PRE_COPY {
            stream.extend(disk.device.migration.save()?);
            expected.write(&mut disk, 299, 3)?;
        }
        disk.device.set(State::STOP_COPY)?;
        stream.extend(disk.device.migration.save()?);
    }
    let mut disk = disk.arrive(target, &[], &stream)?;
    expected.check(&mut disk, 0, 400)
}

fn nvme_another_configuration_is_refused_at_the_first_record(target: &Target) -> Outcome {
    let scratch = Scratch::new(64 * MIB)?;
    let variants: [&[(&str, &str)]; 4] = [
        &[],
        &[(CAPACITY, "67112960")],
        &[(QUEUES, "15")],
        &[(STORE, "file"), (FILE, scratch.text())],
    ];
    for (i, source) in variants.iter().enumerate() {
        let device = TestDevice::open(create(target, source)?)?;
        // The first record of a stream, long before the rest.
        device.set(State::PRE_COPY)?;
        let first = device
            .migration
            .next_chunk()?
            .ok_or_else(|| Stop::failed("expected a first record in pre-copy, seen none"))?;
        drop(device);
        let records = Stream::parse(&first.bytes).map_err(Stop::failed)?.0;
        same(
            "type of the first record",
            records.first().map(|record| record.kind),
            Some(HEADER_RECORD),
        )?;
        let record = records[0].bytes();
        for (j, destination) in variants.iter().enumerate() {
            let device = TestDevice::open(create(target, destination)?)?;
            device.set(State::RESUMING)?;
            let fed = device.migration.feed_chunk(&record);
            if i == j {
                fed?;
            } else {
                refused(
                    format_args!("first record of {source:?} for {destination:?}"),
                    fed,
                    Errno::XDEV,
                )?;
            }
        }
    }
    Ok(())
}

fn nvme_hostile_blocks_are_refused(target: &Target) -> Outcome {
    let mut source = Disk::with(target, &[(CAPACITY, "1048576")])?;
    source.write(0, &content(0, 1))?;
    source.device.set(State::STOP_COPY)?;
    let good = Stream::parse(&source.device.migration.save()?).map_err(Stop::failed)?;
    drop(source);
    let device = TestDevice::open(create(target, &[(CAPACITY, "1048576")])?)?;
    let record = |kind, argument, payload: &[u8]| Record {
        kind,
        flags: 0,
        sequence: 0,
        argument,
        payload: payload.to_vec(),
    };
    let zeroes = |offset: u64, len: u64| record(ZEROES, offset, &len.to_le_bytes());
    // The marks of Write Uncorrectable are behind the content: a bit for each 512 bytes, in whole blocks.
    const END: u64 = MIB + PAGE;
    for (what, record) in [
        ("a block behind the end", record(BLOCK, END, &[1; 4096])),
        ("a block across the end", record(BLOCK, END - 1, &[1; 2])),
        (
            "a block at the very end",
            record(BLOCK, u64::MAX, &[1; 4096]),
        ),
        (
            "a block that wraps",
            record(BLOCK, u64::MAX - 4095, &[1; 4097]),
        ),
        ("a huge block", record(BLOCK, 0, &vec![1; MIB as usize + 1])),
        ("zeros behind the end", zeroes(END, 1)),
        ("zeros across the end", zeroes(END - 4096, 8192)),
        ("zeros without an end", zeroes(0, u64::MAX)),
        ("zeros that wrap", zeroes(u64::MAX, 2)),
        ("zeros from the very end", zeroes(u64::MAX - 4095, 4096)),
        ("zeros without a length", record(ZEROES, 0, &[])),
        ("zeros with half a length", record(ZEROES, 0, &[0; 4])),
        ("zeros with a long length", record(ZEROES, 0, &[0; 16])),
    ] {
        let stream = good.with_record(1, record).bytes();
        device.set(State::RESUMING)?;
        one_of(
            what,
            device.migration.feed(&stream, usize::MAX),
            &[Errno::BADMSG, Errno::INVAL, Errno::RANGE],
        )?;
        device.expect(State::RESUMING)?;
        device.reset()?;
    }
    // Blocks of any size at any offset in range are accepted.
    let odd = good
        .with_record(1, record(BLOCK, 8191, &[7; 3]))
        .with_record(2, zeroes(8192, 1));
    device.resume(&odd.bytes())?;
    drop(device);
    let storage = odd.storage().map_err(Stop::failed)?;
    let mut disk = Disk::with(target, &[(CAPACITY, "1048576")])?;
    disk.device.resume(&odd.bytes())?;
    disk.start(DEPTH)?;
    for (place, expected) in storage {
        same_bytes(
            format_args!("page at {place:#x}"),
            &disk.read(place, PAGE)?,
            &expected,
        )?;
    }
    Ok(())
}

fn nvme_refused_stream_leaves_the_namespace_alone(target: &Target) -> Outcome {
    let mut source = Disk::new(target)?;
    Expected::default().write_run(&mut source, 0, 50, 1)?;
    source.device.set(State::STOP_COPY)?;
    let stream = source.device.migration.save()?;
    let mut disk = Disk::new(target)?;
    let mut expected = Expected::default();
    expected.write_run(&mut disk, 0, 30, 2)?;
    let mut bad = Stream::parse(&stream).map_err(Stop::failed)?;
    if let Some(state) = bad.find_mut(STATE) {
        state.payload.fill(0xff);
    }
    for part in [&stream[..stream.len() / 2], &bad.bytes()] {
        disk.device.set(State::RESUMING)?;
        let fed = disk.device.migration.feed(part, usize::MAX);
        let left = disk.device.migration.set_state(State::RUNNING);
        denied("a stream that is not good", fed.and(left))?;
        // The reset is what ends the session; the data was never touched.
        disk.device.reset()?;
        disk.start(DEPTH)?;
        expected.check(&mut disk, 0, 64)?;
    }
    Ok(())
}

fn nvme_file_moves_its_state_only(target: &Target) -> Outcome {
    let scratch = Scratch::new(16 * MIB)?;
    let attributes = [(STORE, "file"), (FILE, scratch.text())];
    let mut disk = Disk::with(target, &attributes)?;
    let mut expected = Expected::default();
    for round in 0..3 {
        expected.write_run(&mut disk, round * 500, 500, round)?;
        let mut stream = pre_copy(&disk)?;
        expected.write(&mut disk, 7, 10 + round)?;
        disk.device.set(State::STOP_COPY)?;
        stream.extend(disk.device.migration.save()?);
        holds(
            (stream.len() as u64) < STATE_AND_FRAME,
            format_args!("{} bytes although the file is shared", stream.len()),
        )?;
        disk = disk.arrive(target, &attributes, &stream)?;
        expected.check_all(&mut disk)?;
    }
    Ok(())
}

fn nvme_file_is_handed_over(target: &Target) -> Outcome {
    let scratch = Scratch::new(2 * MIB)?;
    let attributes = [(STORE, "file"), (FILE, scratch.text())];
    let mut source = Disk::with(target, &attributes)?;
    let mut expected = Expected::default();
    expected.write_run(&mut source, 0, 20, 1)?;
    // Both are open, and the destination waits.
    let memory = source.memory().clone();
    let destination = TestDevice::open_for(create(target, &attributes)?, memory)?;
    destination.set(State::RESUMING)?;
    let stream = pre_copy(&source)?;
    destination.migration.feed(&stream, usize::MAX)?;
    expected.write(&mut source, 1, 2)?;
    source.device.set(State::STOP_COPY)?;
    destination
        .migration
        .feed(&source.device.migration.save()?, usize::MAX)?;
    // The source has released the file, which has the whole content.
    same_bytes(
        "page 1 of the file",
        &scratch.read()?[4096..8192],
        &content(1, 2),
    )?;
    // The migration fails in the last moment, and the source continues.
    source.device.set(State::RUNNING)?;
    expected.write(&mut source, 2, 3)?;
    denied(
        "a destination that starts while the source has the file",
        destination.migration.set_state(State::RUNNING),
    )?;
    destination.expect(State::RESUMING)?;
    destination.reset()?;
    // Another try.
    let stream = pre_copy(&source)?;
    destination.set(State::RESUMING)?;
    destination.migration.feed(&stream, usize::MAX)?;
    source.device.set(State::STOP_COPY)?;
    destination
        .migration
        .feed(&source.device.migration.save()?, usize::MAX)?;
    destination.set(State::RUNNING)?;
    // Now the source has lost the file.
    denied(
        "a source that goes on after the destination has",
        source.device.migration.set_state(State::RUNNING),
    )?;
    drop(source);
    let mut disk = Disk::adopt(target, destination)?;
    disk.start(DEPTH)?;
    expected.check(&mut disk, 0, 32)
}

/// Returns the available memory, in bytes.
fn available() -> Outcome<u64> {
    memory("MemAvailable:")
}

/// Returns one of the kernel's counts of memory, in bytes.
#[track_caller]
fn memory(name: &str) -> Outcome<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").map_err(Stop::failed)?;
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|number| number.trim().parse::<u64>().ok())
        .map(|kib| kib << 10)
        .ok_or_else(|| Stop::failed(format_args!("expected {name} in /proc/meminfo")))
}

fn nvme_memory_is_freed_at_close(target: &Target) -> Outcome {
    const ROUNDS: u64 = 12;
    const EACH: u64 = 16 * MIB;
    let page = vec![0x5a; EACH as usize];
    let fill = |mdev| -> Outcome<Disk> {
        let mut disk = Disk::open(target, mdev)?;
        disk.write(0, &page)?;
        Ok(disk)
    };
    // Once, so that caches are filled.
    let mut disk = fill(create(target, &[])?)?;
    disk.device.set(State::STOP_COPY)?;
    let stream = disk.device.migration.save()?;
    disk.device.set(State::RUNNING)?;
    let before = available()?;
    for round in 0..ROUNDS {
        drop(disk.driver);
        disk = fill(disk.device.close())?;
        // With a session in every state of its life, too.
        match round % 4 {
            0 => disk.device.set(State::PRE_COPY)?,
            1 => {
                disk.device.set(State::RESUMING)?;
                let part = stream.len() / 2;
                disk.device.migration.feed(&stream[..part], usize::MAX)?;
            }
            2 => disk.device.resume(&stream)?,
            _ => disk.deallocate(0, EACH)?,
        }
    }
    drop(disk);
    let after = available()?;
    holds(
        after + 4 * EACH > before,
        format_args!(
            "{ROUNDS} controllers with {EACH} bytes each came and went, and {} bytes with them",
            before.saturating_sub(after)
        ),
    )
}

fn nvme_module_stays_while_a_controller_is_open(target: &Target) -> Outcome {
    const O_NONBLOCK: core::ffi::c_int = 0o4000;
    let mut disk = Disk::new(target)?;
    let name = std::ffi::CString::new(target.kind.driver()).map_err(Stop::failed)?;
    match rustix::system::delete_module(&name, O_NONBLOCK) {
        Err(Errno::AGAIN | Errno::BUSY) => {}
        Err(Errno::NOENT) => return Err(Stop::Skipped("the driver is not a module".into())),
        other => {
            return Err(Stop::failed(format_args!(
                "rmmod while open: expected EWOULDBLOCK or EBUSY, seen {other:?}"
            )))
        }
    }
    disk.read(0, PAGE).map(drop)
}
