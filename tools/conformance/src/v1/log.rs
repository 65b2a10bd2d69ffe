// SPDX-License-Identifier: GPL-2.0

//! The kernel log: a line for each refusal, tracepoints, and no complaint of the kernel about itself.

use std::path::Path;

use vfio_client::stream::identity;
use vfio_client::stream::HEADER_RECORD;
use vfio_client::v1::State;
use vfio_client::Errno;
use vfio_client::Mapping;

use crate::case::cases;
use crate::case::Case;
use crate::check::denied;
use crate::check::holds;
use crate::check::same;
use crate::check::Outcome;
use crate::check::Stop;
use crate::kmsg::await_line;
use crate::kmsg::expect_line;
use crate::kmsg::lines_of;
use crate::kmsg::no_complaint;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::device::good_stream;
use crate::v1::device::TestDevice;
use crate::v1::device::WINDOW_SIZE;

const FIRST_NEEDS: &[Requirement] = &[Requirement::V1, Requirement::Ferry];

/// The cases that run first, before the other cases use up the rate limit of the kernel log.
pub const FIRST: &[Case] = cases![
    FIRST_NEEDS;
    log_a_refused_stream_says_why [Driver],
    log_a_refused_state_says_why,
    log_a_refused_access_says_why,
    log_a_refused_window_size_says_why,
    log_noise_hides_neither_a_refused_stream_nor_another_device [Driver, Pair],
    log_tells_how_many_lines_were_suppressed,
    log_a_refused_mapping_of_registers_once_per_process [Emulated],
    trace_a_migration_shows_in_tracefs [Driver],
];

/// The case that runs last.
pub const LAST: &[Case] = cases![&[]; log_the_kernel_did_not_complain];

fn log_a_refused_stream_says_why(target: &Target) -> Outcome {
    let good = good_stream(target, 1)?;
    let mut newer = good.clone();
    if let Some(header) = newer.find_mut(HEADER_RECORD) {
        header.payload[identity::MAJOR] = 2;
    }
    let mut corrupt = good.bytes();
    corrupt[40] ^= 1;
    let device = TestDevice::new(target)?;
    for (stream, errno) in [
        (newer.bytes(), Errno::PROTONOSUPPORT),
        (corrupt, Errno::BADMSG),
    ] {
        let code = format!("(-{})", errno.raw_os_error());
        expect_line(
            &[target.kind.driver(), device.subject.name(), &code],
            || {
                device.set(State::RESUMING)?;
                denied("a bad stream", device.migration.feed(&stream, usize::MAX))?;
                device.reset()
            },
        )?;
    }
    Ok(())
}

fn log_a_refused_state_says_why(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let code = format!("(-{})", Errno::INVAL.raw_os_error());
    expect_line(
        &[target.kind.driver(), device.subject.name(), &code],
        || {
            denied(
                "an invalid state",
                device.migration.set_state(State::INVALID[0]),
            )
        },
    )
}

fn log_a_refused_access_says_why(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let code = format!("(-{})", Errno::INVAL.raw_os_error());
    expect_line(
        &[target.kind.driver(), device.subject.name(), &code],
        || {
            denied(
                "a malformed access",
                device.migration.region().read(0, &mut [0; 2]),
            )
        },
    )
}

fn log_a_refused_window_size_says_why(target: &Target) -> Outcome {
    let mdev = target.subject()?;
    let code = format!("(-{})", Errno::INVAL.raw_os_error());
    expect_line(&[target.kind.driver(), mdev.name(), "4097", &code], || {
        denied("a window of 4097", mdev.set_attribute(WINDOW_SIZE, b"4097"))
    })
}

/// Malformed accesses, many more than the log takes at once.
fn make_noise(device: &TestDevice) -> Outcome {
    for _ in 0..100 {
        denied(
            "a malformed access",
            device.migration.region().read(0, &mut [0; 2]),
        )?;
    }
    Ok(())
}

fn log_noise_hides_neither_a_refused_stream_nor_another_device(target: &Target) -> Outcome {
    let mut corrupt = good_stream(target, 1)?.bytes();
    corrupt[40] ^= 1;
    let device = TestDevice::new(target)?;
    let code = format!("(-{})", Errno::BADMSG.raw_os_error());
    let lines = lines_of(&[device.subject.name(), &code], || {
        make_noise(&device)?;
        device.set(State::RESUMING)?;
        denied("a bad stream", device.migration.feed(&corrupt, usize::MAX))?;
        // A client that ignores errors goes on, and its refusals repeat the first one.
        for _ in 0..100 {
            denied("more of it", device.migration.feed(&corrupt, usize::MAX))?;
        }
        device.reset()
    })?;
    holds(
        lines.iter().any(|line| line.contains("checksum")),
        format_args!("expected a line that says why the stream was refused, seen {lines:#?}"),
    )?;
    // The repeats did not use up the rate limit of the next refusal, either.
    let lines = lines_of(&[device.subject.name(), &code, "checksum"], || {
        device.set(State::RESUMING)?;
        denied("a bad stream", device.migration.feed(&corrupt, usize::MAX))?;
        device.reset()
    })?;
    same("lines of the second stream", lines.len(), 1)?;

    let other = TestDevice::new(target)?;
    let lines = lines_of(&[other.subject.name()], || {
        make_noise(&device)?;
        denied(
            "a malformed access",
            other.migration.region().read(0, &mut [0; 2]),
        )
    })?;
    same("lines of another device", lines.len(), 1)
}

fn log_tells_how_many_lines_were_suppressed(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    // A case before this one may have used up the limit of a device that exists.
    expect_line(&[device.subject.name()], || {
        denied(
            "a malformed access",
            device.migration.region().read(0, &mut [0; 2]),
        )
    })?;
    let lines = lines_of(&[device.subject.name()], || make_noise(&device))?;
    holds(
        (1..100).contains(&lines.len()),
        format_args!("expected some lines of 100, seen {}", lines.len()),
    )?;
    let suppressed = 100 - lines.len() as u32;
    // Until the limit allows another line, each attempt is one more that is suppressed.
    let mut attempts = 0;
    let told = await_line(
        &[device.subject.name(), "lines of this kind before it"],
        || {
            attempts += 1;
            denied(
                "a malformed access",
                device.migration.region().read(0, &mut [0; 2]),
            )
        },
    )?;
    let count = suppressed + attempts - 1;
    holds(
        told.contains(&format!("; {count} lines of this kind")),
        format_args!("expected that {count} lines were suppressed, seen {told}"),
    )
}

fn log_a_refused_mapping_of_registers_once_per_process(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let lines = lines_of(&[device.subject.name(), "BAR 0 cannot be mapped"], || {
        for _ in 0..20 {
            let mapped = Mapping::new(device.vfio(), 0, 4096);
            holds(mapped.is_err(), "expected no mapping of BAR 0, seen one")?;
        }
        Ok(())
    })?;
    same("lines", lines.len(), 1)?;
    // Another refused mapping is logged all the same, and so is the same one after another open.
    let lines = lines_of(&[device.subject.name(), "cannot be mapped so"], || {
        let header = device.migration.region().map(0, 4096);
        holds(
            header.is_err(),
            "expected no mapping of the header, seen one",
        )
    })?;
    same("lines of the header", lines.len(), 1)?;
    let device = device.reopen()?;
    let lines = lines_of(&[device.subject.name(), "BAR 0 cannot be mapped"], || {
        let mapped = Mapping::new(device.vfio(), 0, 4096);
        holds(mapped.is_err(), "expected no mapping of BAR 0, seen one")
    })?;
    same("lines after another open", lines.len(), 1)
}

/// Returns where tracefs is mounted.
pub fn tracefs() -> Outcome<&'static Path> {
    ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .into_iter()
        .map(Path::new)
        .find(|root| root.join("events").exists())
        .ok_or_else(|| Stop::Skipped("tracefs is not mounted".into()))
}

fn trace_a_migration_shows_in_tracefs(target: &Target) -> Outcome {
    let root = tracefs()?;
    let events = root.join("events/ferry/enable");
    let trace = root.join("trace");
    let write = |path: &Path, text: &str| {
        std::fs::write(path, text)
            .map_err(|error| Stop::failed(format_args!("{}: {error}", path.display())))
    };
    let stream = good_stream(target, 2)?.bytes();
    let device = TestDevice::new(target)?;
    write(&trace, "")?;
    write(&events, "1")?;
    let moved = || -> Outcome {
        let saved = device.save()?;
        device.set(State::STOP)?;
        device.set(State::RUNNING)?;
        device.resume(&stream)?;
        denied("an invalid state", device.migration.set_state(State::ERROR))?;
        device.resume(&stream[..0]).err();
        holds(!saved.is_empty(), "expected a stream, seen none")
    };
    let result = moved();
    write(&events, "0")?;
    result?;
    let text = std::fs::read_to_string(&trace)
        .map_err(|error| Stop::failed(format_args!("{}: {error}", trace.display())))?;
    let words_of_device = format!("device={}", device.subject.name());
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
            text.lines().any(|line| {
                line.contains(&words_of_device) && words.iter().all(|word| line.contains(word))
            }),
            format_args!("expected a line with {words:?}, seen\n{text}"),
        )?;
    }
    Ok(())
}

fn log_the_kernel_did_not_complain(_: &Target) -> Outcome {
    no_complaint()
}
