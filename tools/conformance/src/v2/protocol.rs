// SPDX-License-Identifier: GPL-2.0

//! Protocols v1 and v2 on one device: the first one that is used keeps the other out, and the administrator
//! may choose.

use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering;

use vfio_client::v1::State as Region;
use vfio_client::v2::Feature;
use vfio_client::v2::State;
use vfio_client::v2::GET;
use vfio_client::Errno;
use vfio_client::GroupSession;
use vfio_client::Mapping;

use crate::case::cases;
use crate::case::Case;
use crate::check::bare;
use crate::check::holds;
use crate::check::refused;
use crate::check::same;
use crate::check::Outcome;
use crate::check::Stop;
use crate::kmsg::expect_line;
use crate::kmsg::lines_of;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v2::device::TestDevice;

/// The attribute by which the administrator chooses.
const PROTOCOL: &str = "migration/protocol";
/// Another attribute.
const WINDOW_SIZE: &str = "migration/window_size";

/// Where the migration region is in the device's file, if there is one.
const MIGRATION_REGION: u64 = 9 << 40;

const NEEDS: &[Requirement] = &[Requirement::V2, Requirement::Ferry];

pub const CASES: &[Case] = cases![
    NEEDS;
    protocol_v1_keeps_v2_out_until_a_reset [P2p, PreCopy, Driver],
    protocol_v2_keeps_v1_out_until_a_reset [P2p, PreCopy, Driver],
    protocol_a_close_lets_the_other_in,
    protocol_a_look_uses_nothing [PreCopy],
    protocol_the_log_says_who_was_first,
    protocol_any_is_offered_at_first [Mdev],
    protocol_the_administrator_may_offer_v1_only [P2p, PreCopy, Driver, Mdev],
    protocol_the_administrator_may_offer_v2_only [Driver, Mdev],
    protocol_v2_alone_takes_no_memory_for_a_data_section [Mdev],
    protocol_bad_choices_change_nothing [Mdev],
    protocol_is_busy_while_open [Mdev],
    protocol_can_be_chosen_again_and_again [P2p, PreCopy, Driver, Mdev],
    protocol_other_settings_outlast_a_choice [Mdev],
    protocol_a_choice_and_opens_at_once [Driver, Mdev],
];

fn protocol_v1_keeps_v2_out_until_a_reset(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let region = device.region()?;
    for state in Region::VALID {
        if state == Region::RUNNING {
            continue;
        }
        region.set_state(state)?;
        for wanted in State::ALL {
            refused(
                format_args!("{wanted} while v1 has {state}"),
                device.migration.set_state(wanted),
                Errno::BUSY,
            )?;
        }
        same("state of v1", region.state()?, state)?;
        if state != Region::RESUMING {
            region.set_state(Region::RUNNING)?;
            refused(
                "v2 after v1 has gone back to RUNNING",
                device.migration.set_state(State::STOP),
                Errno::BUSY,
            )?;
        }
        device.reset()?;
        device.set(State::STOP)?;
        device.reset()?;
    }
    device.expect_works()
}

fn protocol_v2_keeps_v1_out_until_a_reset(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let region = device.region()?;
    for state in State::ALL {
        if state == State::RUNNING {
            continue;
        }
        let file = device.set(state)?;
        for wanted in Region::VALID {
            refused(
                format_args!("v1's {wanted} in {state}"),
                region.set_state(wanted),
                Errno::BUSY,
            )?;
        }
        refused("pending_bytes", region.pending(), Errno::BUSY)?;
        refused("data_offset", region.data_offset(), Errno::BUSY)?;
        refused("data_size", region.data_size(), Errno::BUSY)?;
        refused("data_size", region.set_data_size(1), Errno::BUSY)?;
        device.expect(state)?;
        drop(file);
        device.reset()?;
        region.set_state(Region::STOP)?;
        device.reset()?;
    }
    device.expect_works()
}

pub fn protocol_a_close_lets_the_other_in(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.set(State::STOP_COPY)?;
    let device = TestDevice::open(device.close(), target)?;
    device.region()?.set_state(Region::STOP_COPY)?;
    let device = TestDevice::open(device.close(), target)?;
    device.set(State::STOP_COPY)?;
    Ok(())
}

fn protocol_a_look_uses_nothing(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let region = device.region()?;
    same("state of v1", region.state()?, Region::RUNNING)?;
    device.expect(State::RUNNING)?;
    device.migration.data_size()?;
    region.pending()?;
    device.set(State::STOP)?;
    // The v1 region shows the same.
    same("state of v1", region.state()?, Region::STOP)?;
    device.reset()?;
    region.set_state(Region::PRE_COPY)?;
    device.expect(State::PRE_COPY)
}

fn protocol_the_log_says_who_was_first(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let region = device.region()?;
    let code = format!("(-{})", Errno::BUSY.raw_os_error());
    let words = |wanted| [target.kind.driver(), device.subject.name(), &code, wanted];
    region.set_state(Region::STOP)?;
    expect_line(&words("protocol v2 cannot be used"), || {
        refused("v2", device.migration.set_state(State::STOP), Errno::BUSY)
    })?;
    device.reset()?;
    device.set(State::STOP)?;
    // Each refusal has one line.
    let lines = lines_of(&words("protocol v1 cannot be used"), || {
        refused("v1", region.set_state(Region::STOP), Errno::BUSY)
    })?;
    same("lines", lines.len(), 1)
}

fn protocol_any_is_offered_at_first(target: &Target) -> Outcome {
    let mdev = target.subject()?;
    same(PROTOCOL, mdev.attribute(PROTOCOL)?, "any".to_string())
}

fn protocol_the_administrator_may_offer_v1_only(target: &Target) -> Outcome {
    let mdev = target.subject()?;
    mdev.set_attribute(PROTOCOL, b"v1\n")?;
    let device = TestDevice::open(mdev, target)?;
    has_no_v2(&device)?;
    let region = device.region()?;
    region.set_state(Region::STOP_COPY)?;
    holds(!region.save()?.is_empty(), "expected a stream, seen none")?;
    region.set_state(Region::RUNNING)?;
    device.expect_works()?;
    // A later choice counts at once.
    drop(region);
    let mdev = device.close();
    mdev.set_attribute(PROTOCOL, b"any")?;
    let device = TestDevice::open(mdev, target)?;
    holds(device.migration.flags()? != 0, "expected flags, seen none")?;
    device.set(State::STOP)?;
    Ok(())
}

/// Checks that there is nothing of protocol v2: by the uapi header a device whose flags can be got has
/// STOP_COPY at least, and one that does not migrate has no such feature.
fn has_no_v2(device: &TestDevice) -> Outcome {
    for feature in [Feature::MIGRATION, Feature::STATE, Feature::DATA_SIZE] {
        refused(
            format_args!("probe of {feature:?}"),
            device.migration.probe(feature, GET),
            Errno::NOTTY,
        )?;
    }
    refused("flags", device.migration.flags(), Errno::NOTTY)?;
    refused("state", device.migration.state(), Errno::NOTTY)?;
    refused("size", device.migration.data_size(), Errno::NOTTY)?;
    // The core's word for a device without pre-copy.
    refused(
        "INFOv2",
        device.migration.use_precopy_info_v2(),
        Errno::INVAL,
    )?;
    for state in State::ALL {
        refused(
            format_args!("{state}"),
            device.migration.set_state(state),
            Errno::NOTTY,
        )?;
    }
    Ok(())
}

fn protocol_can_be_chosen_again_and_again(target: &Target) -> Outcome {
    let mut mdev = target.subject()?;
    for round in 0..3 {
        for (choice, v1, v2) in [
            ("v1", true, false),
            ("v2", false, true),
            ("v1", true, false),
            ("any", true, true),
        ] {
            // Some that change nothing between.
            mdev.set_attribute(PROTOCOL, choice.as_bytes())?;
            mdev.set_attribute(PROTOCOL, choice.as_bytes())?;
            same(PROTOCOL, mdev.attribute(PROTOCOL)?, choice.to_string())?;
            let device = TestDevice::open(mdev, target)?;
            let region = vfio_client::v1::Migration::find(device.vfio())?;
            same(format_args!("region with {choice}"), region.is_some(), v1)?;
            if v2 {
                device.set(State::STOP)?;
                device.reset()?;
            } else {
                has_no_v2(&device)?;
            }
            device.fill(round)?;
            device.expect_filled(round)?;
            mdev = device.close();
        }
    }
    Ok(())
}

fn protocol_other_settings_outlast_a_choice(target: &Target) -> Outcome {
    let mdev = target.subject()?;
    mdev.set_attribute(WINDOW_SIZE, b"65536")?;
    mdev.set_attribute(PROTOCOL, b"v1")?;
    same(
        WINDOW_SIZE,
        mdev.attribute(WINDOW_SIZE)?,
        "65536".to_string(),
    )?;
    let device = TestDevice::open(mdev, target)?;
    let window = device.region()?.window();
    same("window", window.size, 65536)
}

fn protocol_a_choice_and_opens_at_once(target: &Target) -> Outcome {
    // An open during a choice gets the device of before or after the choice, or is refused.
    let mdev = target.subject()?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let chooser = scope.spawn(|| -> Result<u32, vfio_client::Error> {
            let mut chosen = 0;
            for choice in ["v1", "any"].into_iter().cycle().take(100) {
                match mdev.set_attribute(PROTOCOL, choice.as_bytes()) {
                    Ok(()) => chosen += 1,
                    Err(error) if error.errno() == Some(Errno::BUSY) => {}
                    Err(error) => {
                        done.store(true, Ordering::Relaxed);
                        return Err(error);
                    }
                }
            }
            done.store(true, Ordering::Relaxed);
            Ok(chosen)
        });
        while !done.load(Ordering::Relaxed) {
            let Ok(session) = GroupSession::open(&mdev) else {
                continue;
            };
            let migration = vfio_client::v2::Migration::new(&session.device);
            let region = vfio_client::v1::Migration::find(&session.device)?;
            holds(region.is_some(), "expected a region, seen none")?;
            // The choice does not change while the device is open.
            let first = migration.flags().map_err(|error| error.errno());
            for _ in 0..3 {
                let flags = migration.flags().map_err(|error| error.errno());
                same("flags of an open device", flags, first)?;
            }
            holds(
                matches!(first, Ok(flags) if flags != 0) || first == Err(Some(Errno::NOTTY)),
                format_args!("expected flags or ENOTTY, seen {first:?}"),
            )?;
        }
        let chosen = chooser
            .join()
            .map_err(|_| Stop::failed("a thread panicked"))??;
        holds(chosen > 0, "expected some choices that came through")
    })?;
    TestDevice::open(mdev, target)?.expect_works()
}

fn protocol_the_administrator_may_offer_v2_only(target: &Target) -> Outcome {
    let mdev = target.subject()?;
    mdev.set_attribute(PROTOCOL, b"v2")?;
    let device = TestDevice::open(mdev, target)?;
    same("regions", device.vfio().info()?.regions, 9)?;
    same(
        "migration region",
        vfio_client::v1::Migration::find(device.vfio())?.is_some(),
        false,
    )?;
    holds(
        device.vfio().region(9).is_err(),
        "expected no region 9, seen one",
    )?;
    for offset in [0, 4, 8, 24, 4096] {
        let at = MIGRATION_REGION + offset;
        let read = rustix::io::pread(device.vfio(), &mut [0; 4], at);
        bare(format_args!("read at {offset} of it"), read, Errno::INVAL)?;
        let write = rustix::io::pwrite(device.vfio(), &[0; 4], at);
        bare(format_args!("write at {offset} of it"), write, Errno::INVAL)?;
    }
    let mapped = Mapping::new(device.vfio(), MIGRATION_REGION + 4096, 4096).map(drop);
    bare("mmap of it", mapped, Errno::INVAL)?;
    device.fill(1)?;
    let stream = device.save()?;
    device.reset()?;
    device.resume(&stream)?;
    device.expect_filled(1)
}

/// Returns how much memory the kernel has allocated since it was booted, in bytes. Pages count that were
/// freed before and wait on a list of a CPU, which `/proc/meminfo` takes for used.
fn allocated() -> Outcome<u64> {
    const PAGE: u64 = 4096;

    let text = std::fs::read_to_string("/proc/vmstat").map_err(Stop::failed)?;
    let pages: u64 = text
        .lines()
        .filter(|line| line.starts_with("pgalloc_"))
        .filter_map(|line| line.split_once(' ')?.1.parse::<u64>().ok())
        .sum();
    if pages == 0 {
        let why = "the kernel counts no allocations (CONFIG_VM_EVENT_COUNTERS)";
        return Err(Stop::Skipped(why.into()));
    }
    Ok(pages * PAGE)
}

fn protocol_v2_alone_takes_no_memory_for_a_data_section(target: &Target) -> Outcome {
    const WINDOW: u64 = 16 << 20;

    let mut mdev = target.subject()?;
    mdev.set_attribute(WINDOW_SIZE, WINDOW.to_string().as_bytes())?;
    let mut alone = None;
    for (choice, has_section) in [("v2", false), ("any", true), ("v1", true), ("v2", false)] {
        mdev.set_attribute(PROTOCOL, choice.as_bytes())?;
        // The least of some opens: others on the machine take memory, too.
        let mut taken = u64::MAX;
        for _ in 0..4 {
            let before = allocated()?;
            let device = TestDevice::open(mdev, target)?;
            taken = taken.min(allocated()? - before);
            mdev = device.close();
        }
        let more = taken.saturating_sub(*alone.get_or_insert(taken));
        holds(
            (more >= WINDOW / 2) == has_section,
            format_args!(
                "with {choice} and a window of {WINDOW} bytes an open took {more} bytes more than with \
                 v2, expected {} than half of the window",
                if has_section { "more" } else { "less" }
            ),
        )?;
    }
    Ok(())
}

fn protocol_bad_choices_change_nothing(target: &Target) -> Outcome {
    let mdev = target.subject()?;
    mdev.set_attribute(PROTOCOL, b"v2")?;
    for bad in [&b"v3"[..], b"V1", b"v1 v2", b"any\nv1", b"\xff", b"v"] {
        refused(
            format_args!("{bad:?}"),
            mdev.set_attribute(PROTOCOL, bad),
            Errno::INVAL,
        )?;
        same(PROTOCOL, mdev.attribute(PROTOCOL)?, "v2".to_string())?;
    }
    Ok(())
}

fn protocol_is_busy_while_open(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    refused(
        "protocol while open",
        device.subject.set_attribute(PROTOCOL, b"v1"),
        Errno::BUSY,
    )?;
    let mdev = device.close();
    mdev.set_attribute(PROTOCOL, b"v1")?;
    same(PROTOCOL, mdev.attribute(PROTOCOL)?, "v1".to_string())
}
