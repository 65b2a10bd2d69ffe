// SPDX-License-Identifier: GPL-2.0

//! What the kernel says: a line for each refusal, tracepoints, and no complaint of its own.

use std::time::Instant;

use rustix::fs::open;
use rustix::fs::seek;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::SeekFrom;
use vfio_client::migration::State;
use vfio_client::Errno;

use crate::card::good_stream;
use crate::card::Card;
use crate::card::Context;
use crate::card::PATIENCE;
use crate::card::WINDOW_SIZE;
use crate::check::denied;
use crate::check::holds;
use crate::check::name;
use crate::check::Outcome;
use crate::check::Stop;
use crate::stream::identity;
use crate::stream::HEADER_RECORD;
use crate::tests::cases;
use crate::tests::Case;

/// The tests that run first, before the kernel limits the rate of what the others provoke.
pub const FIRST: &[Case] = cases![
    log_a_refused_stream_says_why,
    log_a_refused_state_says_why,
    log_a_refused_access_says_why,
    log_a_refused_window_size_says_why,
    trace_a_migration_shows_in_tracefs,
];

/// The test that runs last.
pub const LAST: &[Case] = cases![log_the_kernel_did_not_complain];

/// The kernel's log, record by record.
struct Kmsg(std::os::fd::OwnedFd);

impl Kmsg {
    fn open() -> Outcome<Kmsg> {
        open(
            "/dev/kmsg",
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map(Kmsg)
        .map_err(|errno| Stop::Skipped(format!("open /dev/kmsg: {}", name(errno))))
    }

    /// Opens the log at its end, so that only what is logged from now on is read.
    fn from_now() -> Outcome<Kmsg> {
        let kmsg = Kmsg::open()?;
        seek(&kmsg.0, SeekFrom::End(0))
            .map_err(|errno| Stop::Skipped(format!("seek in /dev/kmsg: {}", name(errno))))?;
        Ok(kmsg)
    }

    /// Takes all messages that are there.
    fn messages(&self) -> Outcome<Vec<String>> {
        let mut messages = Vec::new();
        let mut record = vec![0; 8192];
        loop {
            match rustix::io::read(&self.0, &mut record) {
                Ok(len) => {
                    let text = String::from_utf8_lossy(&record[..len]);
                    // `priority,sequence,time,flags;message`, then lines of key and value.
                    let message = text
                        .split_once(';')
                        .and_then(|(_, rest)| rest.lines().next());
                    messages.extend(message.map(str::to_string));
                }
                // Overwritten before they were read: go on with the oldest that is left.
                Err(Errno::PIPE) => {}
                Err(Errno::AGAIN) => return Ok(messages),
                Err(errno) => return Err(Stop::failed(format_args!("/dev/kmsg: {errno}"))),
            }
        }
    }
}

/// Provokes a refusal until the log has a line with all of `words`. The rate is limited, so it may
/// take a few.
#[track_caller]
pub fn expect_line(words: &[&str], mut provoke: impl FnMut() -> Outcome) -> Outcome {
    let kmsg = Kmsg::from_now()?;
    let start = Instant::now();
    let mut seen = Vec::new();
    loop {
        provoke()?;
        let messages = kmsg.messages()?;
        if messages
            .iter()
            .any(|message| words.iter().all(|word| message.contains(word)))
        {
            return Ok(());
        }
        seen.extend(messages);
        if start.elapsed() > PATIENCE {
            seen.dedup();
            return Err(Stop::failed(format_args!(
                "expected a line with {words:?} in the kernel log, seen {seen:#?}"
            )));
        }
        std::thread::yield_now();
    }
}

fn log_a_refused_stream_says_why(context: &Context) -> Outcome {
    let good = good_stream(context, 1)?;
    let mut newer = good.clone();
    if let Some(header) = newer.find_mut(HEADER_RECORD) {
        header.payload[identity::MAJOR] = 2;
    }
    let mut corrupt = good.bytes();
    corrupt[40] ^= 1;
    let card = Card::new(context)?;
    for (stream, errno) in [
        (newer.bytes(), Errno::PROTONOSUPPORT),
        (corrupt, Errno::BADMSG),
    ] {
        let code = format!("(-{})", errno.raw_os_error());
        expect_line(&[context.kind.driver(), card.mdev.uuid(), &code], || {
            card.set(State::RESUMING)?;
            denied("a bad stream", card.migration.feed(&stream, usize::MAX))?;
            card.reset()
        })?;
    }
    Ok(())
}

fn log_a_refused_state_says_why(context: &Context) -> Outcome {
    let card = Card::new(context)?;
    let code = format!("(-{})", Errno::INVAL.raw_os_error());
    expect_line(&[context.kind.driver(), card.mdev.uuid(), &code], || {
        denied(
            "an invalid state",
            card.migration.set_state(State::INVALID[0]),
        )
    })
}

fn log_a_refused_access_says_why(context: &Context) -> Outcome {
    let card = Card::new(context)?;
    let code = format!("(-{})", Errno::INVAL.raw_os_error());
    expect_line(&[context.kind.driver(), card.mdev.uuid(), &code], || {
        denied(
            "a malformed access",
            card.migration.region().read(0, &mut [0; 2]),
        )
    })
}

fn log_a_refused_window_size_says_why(context: &Context) -> Outcome {
    let mdev = context.mdev_type().create()?;
    let code = format!("(-{})", Errno::INVAL.raw_os_error());
    expect_line(&[context.kind.driver(), mdev.uuid(), "4097", &code], || {
        denied("a window of 4097", mdev.set_attribute(WINDOW_SIZE, b"4097"))
    })
}

fn trace_a_migration_shows_in_tracefs(context: &Context) -> Outcome {
    let root = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .iter()
        .map(std::path::Path::new)
        .find(|root| root.join("events").exists())
        .ok_or_else(|| Stop::Skipped("tracefs is not mounted".into()))?;
    let events = root.join("events/ferry/enable");
    let trace = root.join("trace");
    let write = |path: &std::path::Path, text: &str| {
        std::fs::write(path, text)
            .map_err(|error| Stop::failed(format_args!("{}: {error}", path.display())))
    };
    let stream = good_stream(context, 2)?.bytes();
    let card = Card::new(context)?;
    write(&trace, "")?;
    write(&events, "1")?;
    let moved = || -> Outcome {
        let saved = card.save()?;
        card.set(State::STOP)?;
        card.set(State::RUNNING)?;
        card.resume(&stream)?;
        denied("an invalid state", card.migration.set_state(State::ERROR))?;
        card.resume(&stream[..0]).err();
        holds(!saved.is_empty(), "expected a stream, seen none")
    };
    let result = moved();
    write(&events, "0")?;
    result?;
    let text = std::fs::read_to_string(&trace)
        .map_err(|error| Stop::failed(format_args!("{}: {error}", trace.display())))?;
    let device = format!("device={}", card.mdev.uuid());
    for words in [
        &[
            "vfio_migration_state:",
            "from=RUNNING to=STOP_COPY result=0",
        ][..],
        &["vfio_migration_state:", "from=STOP_COPY to=STOP result=0"],
        &["vfio_migration_state:", "from=RESUMING to=RUNNING result=0"],
        &["vfio_migration_pending:", "state=STOP_COPY", "pending=0"],
        &["vfio_migration_chunk:", "state=STOP_COPY", "size="],
        &["vfio_migration_chunk:", "state=RESUMING", "total="],
        &["vfio_migration_refusal:", "errno=-22", "reason="],
        &["vfio_migration_refusal:", "errno=-61", "reason="],
    ] {
        holds(
            text.lines()
                .any(|line| line.contains(&device) && words.iter().all(|word| line.contains(word))),
            format_args!("expected a line with {words:?}, seen\n{text}"),
        )?;
    }
    Ok(())
}

fn log_the_kernel_did_not_complain(_: &Context) -> Outcome {
    let complaints = [
        "WARNING:",
        "BUG:",
        "Oops",
        "UBSAN:",
        "KASAN:",
        "KFENCE:",
        "general protection",
        "kernel panic",
        "blocked for more than",
        "soft lockup",
        "refcount_t:",
        "possible recursive locking",
        "circular locking",
        "inconsistent lock state",
        "suspicious RCU usage",
        "rust_kernel: panicked",
        // As kmemleak reports them; it says "memory leak detector" when it starts.
        "suspected memory leak",
    ];
    let found: Vec<String> = Kmsg::open()?
        .messages()?
        .into_iter()
        .filter(|message| complaints.iter().any(|word| message.contains(word)))
        .collect();
    holds(
        found.is_empty(),
        format_args!("expected no complaint in the kernel log, seen {found:#?}"),
    )
}
