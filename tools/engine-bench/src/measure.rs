// SPDX-License-Identifier: GPL-2.0

//! What is measured: the ways a disk's content takes through the engine, and copies of as many bytes.
//!
//! Both sides of a migration take turns, chunk by chunk, as they do on the way from one host to another. The times are
//! those of the calls of the engine, and of the copies between user and kernel that an access to the data takes. What a
//! user does with the data is not counted.

use std::hint::black_box;
use std::time::Duration;

use rustix::time::clock_gettime;
use rustix::time::ClockId;

use crate::engine;
use crate::engine::Side;
use crate::pages::Memory;
use crate::pages::Pages;
use crate::pages::BLOCK_SIZE;

pub type Result<T> = std::result::Result<T, String>;

/// Size of the data window, and of a user's reads and writes, in bytes.
const WINDOW: usize = 1 << 20;

/// Size of the buffer of a data file, as in `rust/vfio/migration/file.rs`.
const FILE_BUFFER: usize = 64 << 10;

/// States of both protocols.
#[derive(Clone, Copy)]
pub enum State {
    Stop,
    Running,
    PreCopy,
    StopCopy,
    Resuming,
}

/// The time that each side took.
#[derive(Clone, Copy, Default)]
pub struct Times {
    pub save: Duration,
    pub resume: Duration,
}

/// Adds the processor time of `f` to `sum`. Other programs on the machine do not count.
fn time<R>(sum: &mut Duration, f: impl FnOnce() -> R) -> R {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::try_from(time).expect("the clock is past zero")
    };
    let began = now();
    let result = f();
    *sum += now() - began;
    result
}

/// Copies all bytes of `from` into a window, and those of a window to all of `to`.
fn copy(from: &Pages, to: &mut Pages) -> Times {
    let (mut sent, mut received) = (Memory::new(WINDOW), Memory::new(WINDOW));
    let mut times = Times::default();
    let pieces = from.memory().chunks(WINDOW);
    for (from, to) in pieces.zip(to.memory_mut().chunks_mut(WINDOW)) {
        let len = from.len();
        time(&mut times.save, || {
            sent[..len].copy_from_slice(from);
            black_box(&mut sent);
        });
        received.copy_from_slice(&sent);
        time(&mut times.resume, || {
            to.copy_from_slice(&received[..len]);
            black_box(to);
        });
    }
    times
}

/// The same block by block, with a checksum of the source before the copy, and of the copy after it: the least that an
/// engine does.
fn copy_and_sum(checksum: fn(&[u8]) -> u32, from: &Pages, to: &mut Pages) -> Times {
    let (mut sent, mut received) = (Memory::new(WINDOW), Memory::new(WINDOW));
    let mut times = Times::default();
    let pieces = from.memory().chunks(WINDOW);
    for (from, to) in pieces.zip(to.memory_mut().chunks_mut(WINDOW)) {
        time(&mut times.save, || {
            for (from, to) in from.chunks(BLOCK_SIZE).zip(sent.chunks_mut(BLOCK_SIZE)) {
                black_box(checksum(from));
                to.copy_from_slice(from);
            }
        });
        received.copy_from_slice(&sent);
        time(&mut times.resume, || {
            for (from, to) in received.chunks(BLOCK_SIZE).zip(to.chunks_mut(BLOCK_SIZE)) {
                to.copy_from_slice(from);
                black_box(checksum(to));
            }
        });
    }
    times
}

/// Copies all bytes of `from` to a user and those of a user to all of `to`, both through the buffer of a data file: the
/// copies of protocol v2.
fn copy_through_buffer(from: &Pages, to: &mut Pages) -> Times {
    let (mut sent, mut received) = (Memory::new(FILE_BUFFER), Memory::new(FILE_BUFFER));
    let mut user = Memory::new(WINDOW);
    let mut times = Times::default();
    let pieces = from.memory().chunks(WINDOW);
    for (from, to) in pieces.zip(to.memory_mut().chunks_mut(WINDOW)) {
        time(&mut times.save, || {
            for (from, to) in from.chunks(FILE_BUFFER).zip(user.chunks_mut(FILE_BUFFER)) {
                sent[..from.len()].copy_from_slice(from);
                black_box(&mut sent);
                to[..from.len()].copy_from_slice(&sent[..from.len()]);
            }
        });
        time(&mut times.resume, || {
            for (from, to) in user.chunks(FILE_BUFFER).zip(to.chunks_mut(FILE_BUFFER)) {
                received[..to.len()].copy_from_slice(&from[..to.len()]);
                black_box(&mut received);
                to.copy_from_slice(&received[..to.len()]);
            }
        });
        black_box(to);
    }
    times
}

/// Moves a disk by protocol v1. The user maps the data window, or reads and writes it.
fn through_window(from: &mut Side, to: &mut Side, mapped: bool) -> Result<Times> {
    let mut times = Times::default();
    let (save, resume) = (&mut times.save, &mut times.resume);
    let mut user = Memory::new(WINDOW);
    time(resume, || to.go(State::Resuming))?;
    for state in [State::PreCopy, State::StopCopy] {
        time(save, || from.go(state))?;
        loop {
            let size = time(save, || from.present())?;
            if size == 0 {
                break;
            }
            if mapped {
                to.window()[..size].copy_from_slice(&from.window()[..size]);
            } else {
                time(save, || {
                    user[..size].copy_from_slice(&from.window()[..size])
                });
                time(resume, || {
                    to.window()[..size].copy_from_slice(&user[..size])
                });
            }
            time(resume, || to.take(size))?;
        }
    }
    time(save, || from.go(State::Stop))?;
    time(resume, || to.go(State::Running))?;
    Ok(times)
}

/// A user's read of a data file, through the file's `buffer`. Returns the number of bytes.
fn read(from: &mut Side, buffer: &mut [u8], user: &mut [u8]) -> Result<usize> {
    let mut done = 0;
    while done + buffer.len() <= user.len() {
        let size = from.read(buffer)?;
        if size == 0 {
            break;
        }
        user[done..done + size].copy_from_slice(&buffer[..size]);
        done += size;
    }
    Ok(done)
}

/// A user's write of a data file, through the file's `buffer`.
fn write(to: &mut Side, buffer: &mut [u8], user: &[u8]) -> Result<()> {
    for piece in user.chunks(buffer.len()) {
        let buffer = &mut buffer[..piece.len()];
        buffer.copy_from_slice(piece);
        to.write(buffer)?;
    }
    Ok(())
}

/// Moves a disk by protocol v2.
fn through_file(from: &mut Side, to: &mut Side) -> Result<Times> {
    let mut times = Times::default();
    let (save, resume) = (&mut times.save, &mut times.resume);
    let mut user = Memory::new(WINDOW);
    let (mut sent, mut received) = (Memory::new(FILE_BUFFER), Memory::new(FILE_BUFFER));
    time(resume, || to.arc(State::Stop))?;
    time(resume, || to.arc(State::Resuming))?;
    for state in [State::PreCopy, State::StopCopy] {
        time(save, || from.arc(state))?;
        loop {
            let size = time(save, || read(from, &mut sent, &mut user))?;
            if size == 0 {
                break;
            }
            time(resume, || write(to, &mut received, &user[..size]))?;
        }
    }
    time(save, || from.arc(State::Stop))?;
    time(resume, || to.arc(State::Stop))?;
    time(resume, || to.arc(State::Running))?;
    Ok(times)
}

/// A way to move a disk.
type Way = fn(&mut Side, &mut Side) -> Result<Times>;

/// The ways, and their names.
const WAYS: [(&str, Way); 3] = [
    ("v1, mapped", |from, to| through_window(from, to, true)),
    ("v1, not mapped", |from, to| through_window(from, to, false)),
    ("v2", through_file),
];

/// Measures everything once with a full disk of `blocks` blocks, and has `tell` take each result.
pub fn all(blocks: usize, mut tell: impl FnMut(&str, Times)) -> Result<()> {
    let mut source = Pages::new(blocks);
    source.fill_randomly();
    let mut destination = Pages::new(blocks);

    // The first pass over memory is slower than all others.
    copy(&source, &mut destination);
    tell("memcpy", copy(&source, &mut destination));
    tell(
        "memcpy twice, as v2 does",
        copy_through_buffer(&source, &mut destination),
    );
    if let Some(checksum) = engine::CHECKSUM {
        let times = copy_and_sum(checksum, &source, &mut destination);
        tell("memcpy and checksum", times);
    }
    for (name, way) in WAYS {
        destination.clear();
        let mut from = Side::new(source, WINDOW);
        let mut to = Side::new(destination, WINDOW);
        let times = way(&mut from, &mut to).map_err(|why| format!("{name}: {why}"))?;
        (source, destination) = (from.into_pages(), to.into_pages());
        if source != destination {
            return Err(format!("{name}: the content arrived changed"));
        }
        tell(name, times);
    }
    Ok(())
}
