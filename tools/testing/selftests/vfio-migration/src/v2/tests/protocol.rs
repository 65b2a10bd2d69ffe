// SPDX-License-Identifier: GPL-2.0

//! Protocols v1 and v2 on one device: who comes first has it, and the administrator may choose.

use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering;

use vfio_client::v1::State as Region;
use vfio_client::v2::Feature;
use vfio_client::v2::State;
use vfio_client::v2::GET;
use vfio_client::Errno;
use vfio_client::GroupSession;
use vfio_client::Mapping;

use crate::check::bare;
use crate::check::holds;
use crate::check::refused;
use crate::check::same;
use crate::check::Outcome;
use crate::check::Stop;
use crate::kmsg::expect_line;
use crate::kmsg::lines_of;
use crate::test_device::Target;
use crate::test_device::TestDevice;
use crate::tests::cases;
use crate::tests::Case;

/// The attribute by which the administrator chooses.
const PROTOCOL: &str = "migration/protocol";
/// One that has nothing to do with it.
const WINDOW_SIZE: &str = "migration/window_size";

/// Where the migration region is in the device's file, if there is one.
const MIGRATION_REGION: u64 = 9 << 40;

/// All tests of this file.
pub const CASES: &[Case] = cases![
    protocol_v1_keeps_v2_out_until_a_reset,
    protocol_v2_keeps_v1_out_until_a_reset,
    protocol_a_close_lets_the_other_in,
    protocol_a_look_uses_nothing,
    protocol_the_log_says_who_was_first,
    protocol_any_is_offered_at_first,
    protocol_the_administrator_may_offer_v1_only,
    protocol_the_administrator_may_offer_v2_only,
    protocol_bad_choices_change_nothing,
    protocol_is_busy_while_open,
    protocol_can_be_chosen_again_and_again,
    protocol_other_settings_outlast_a_choice,
    protocol_a_choice_and_opens_at_once,
];

fn protocol_v1_keeps_v2_out_until_a_reset(target: &Target) -> Outcome {
    let card = TestDevice::new(target)?;
    let region = card.region()?;
    for state in Region::VALID {
        if state == Region::RUNNING {
            continue;
        }
        region.set_state(state)?;
        for wanted in State::ALL {
            refused(
                format_args!("{wanted} while v1 has {state}"),
                card.migration.set_state(wanted),
                Errno::BUSY,
            )?;
        }
        same("state of v1", region.state()?, state)?;
        if state != Region::RESUMING {
            region.set_state(Region::RUNNING)?;
            refused(
                "v2 after v1 has gone back to RUNNING",
                card.migration.set_state(State::STOP),
                Errno::BUSY,
            )?;
        }
        card.reset()?;
        card.set(State::STOP)?;
        card.reset()?;
    }
    card.expect_works()
}

fn protocol_v2_keeps_v1_out_until_a_reset(target: &Target) -> Outcome {
    let card = TestDevice::new(target)?;
    let region = card.region()?;
    for state in State::ALL {
        if state == State::RUNNING {
            continue;
        }
        let file = card.set(state)?;
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
        card.expect(state)?;
        drop(file);
        card.reset()?;
        region.set_state(Region::STOP)?;
        card.reset()?;
    }
    card.expect_works()
}

pub fn protocol_a_close_lets_the_other_in(target: &Target) -> Outcome {
    let card = TestDevice::new(target)?;
    card.set(State::STOP_COPY)?;
    let card = TestDevice::open(card.close(), target)?;
    card.region()?.set_state(Region::STOP_COPY)?;
    let card = TestDevice::open(card.close(), target)?;
    card.set(State::STOP_COPY)?;
    Ok(())
}

fn protocol_a_look_uses_nothing(target: &Target) -> Outcome {
    let card = TestDevice::new(target)?;
    let region = card.region()?;
    same("state of v1", region.state()?, Region::RUNNING)?;
    card.expect(State::RUNNING)?;
    card.migration.data_size()?;
    region.pending()?;
    card.set(State::STOP)?;
    // As v1 has it.
    same("state of v1", region.state()?, Region::STOP)?;
    card.reset()?;
    region.set_state(Region::PRE_COPY)?;
    card.expect(State::PRE_COPY)
}

fn protocol_the_log_says_who_was_first(target: &Target) -> Outcome {
    let card = TestDevice::new(target)?;
    let region = card.region()?;
    let code = format!("(-{})", Errno::BUSY.raw_os_error());
    let words = |wanted| [target.kind.driver(), card.mdev.uuid(), &code, wanted];
    region.set_state(Region::STOP)?;
    expect_line(&words("protocol v2 cannot be used"), || {
        refused("v2", card.migration.set_state(State::STOP), Errno::BUSY)
    })?;
    card.reset()?;
    card.set(State::STOP)?;
    // Each refusal has one line.
    let lines = lines_of(&words("protocol v1 cannot be used"), || {
        refused("v1", region.set_state(Region::STOP), Errno::BUSY)
    })?;
    same("lines", lines.len(), 1)
}

fn protocol_any_is_offered_at_first(target: &Target) -> Outcome {
    let mdev = target.mdev_type().create()?;
    same(PROTOCOL, mdev.attribute(PROTOCOL)?, "any".to_string())
}

fn protocol_the_administrator_may_offer_v1_only(target: &Target) -> Outcome {
    let mdev = target.mdev_type().create()?;
    mdev.set_attribute(PROTOCOL, b"v1\n")?;
    let card = TestDevice::open(mdev, target)?;
    has_no_v2(&card)?;
    let region = card.region()?;
    region.set_state(Region::STOP_COPY)?;
    holds(!region.save()?.is_empty(), "expected a stream, seen none")?;
    region.set_state(Region::RUNNING)?;
    card.expect_works()?;
    // A later choice counts at once.
    drop(region);
    let mdev = card.close();
    mdev.set_attribute(PROTOCOL, b"any")?;
    let card = TestDevice::open(mdev, target)?;
    holds(card.migration.flags()? != 0, "expected flags, seen none")?;
    card.set(State::STOP)?;
    Ok(())
}

/// Checks that there is nothing of protocol v2: by the uapi header a device whose flags can be got has
/// STOP_COPY at least, and one that does not migrate has no such feature.
fn has_no_v2(card: &TestDevice) -> Outcome {
    for feature in [Feature::MIGRATION, Feature::STATE, Feature::DATA_SIZE] {
        refused(
            format_args!("probe of {feature:?}"),
            card.migration.probe(feature, GET),
            Errno::NOTTY,
        )?;
    }
    refused("flags", card.migration.flags(), Errno::NOTTY)?;
    refused("state", card.migration.state(), Errno::NOTTY)?;
    refused("size", card.migration.data_size(), Errno::NOTTY)?;
    // The core's word for a device without pre-copy.
    refused("INFOv2", card.migration.use_precopy_info_v2(), Errno::INVAL)?;
    for state in State::ALL {
        refused(
            format_args!("{state}"),
            card.migration.set_state(state),
            Errno::NOTTY,
        )?;
    }
    Ok(())
}

fn protocol_can_be_chosen_again_and_again(target: &Target) -> Outcome {
    let mut mdev = target.mdev_type().create()?;
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
            let card = TestDevice::open(mdev, target)?;
            let region = vfio_client::v1::Migration::find(card.device())?;
            same(format_args!("region with {choice}"), region.is_some(), v1)?;
            if v2 {
                card.set(State::STOP)?;
                card.reset()?;
            } else {
                has_no_v2(&card)?;
            }
            card.fill(round)?;
            card.expect_filled(round)?;
            mdev = card.close();
        }
    }
    Ok(())
}

fn protocol_other_settings_outlast_a_choice(target: &Target) -> Outcome {
    let mdev = target.mdev_type().create()?;
    mdev.set_attribute(WINDOW_SIZE, b"65536")?;
    mdev.set_attribute(PROTOCOL, b"v1")?;
    same(
        WINDOW_SIZE,
        mdev.attribute(WINDOW_SIZE)?,
        "65536".to_string(),
    )?;
    let card = TestDevice::open(mdev, target)?;
    let window = card.region()?.window();
    same("window", window.size, 65536)
}

fn protocol_a_choice_and_opens_at_once(target: &Target) -> Outcome {
    // Whoever opens it meanwhile gets a device of before or after the choice, or is refused.
    let mdev = target.mdev_type().create()?;
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
            // It is the same one or the other way as long as it is open.
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
    let mdev = target.mdev_type().create()?;
    mdev.set_attribute(PROTOCOL, b"v2")?;
    let card = TestDevice::open(mdev, target)?;
    same("regions", card.device().info()?.regions, 9)?;
    same(
        "migration region",
        vfio_client::v1::Migration::find(card.device())?.is_some(),
        false,
    )?;
    holds(
        card.device().region(9).is_err(),
        "expected no region 9, seen one",
    )?;
    for offset in [0, 4, 8, 24, 4096] {
        let at = MIGRATION_REGION + offset;
        let read = rustix::io::pread(card.device(), &mut [0; 4], at);
        bare(format_args!("read at {offset} of it"), read, Errno::INVAL)?;
        let write = rustix::io::pwrite(card.device(), &[0; 4], at);
        bare(format_args!("write at {offset} of it"), write, Errno::INVAL)?;
    }
    let mapped = Mapping::new(card.device(), MIGRATION_REGION + 4096, 4096).map(drop);
    bare("mmap of it", mapped, Errno::INVAL)?;
    card.fill(1)?;
    let stream = card.save()?;
    card.reset()?;
    card.resume(&stream)?;
    card.expect_filled(1)
}

fn protocol_bad_choices_change_nothing(target: &Target) -> Outcome {
    let mdev = target.mdev_type().create()?;
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
    let card = TestDevice::new(target)?;
    refused(
        "protocol while open",
        card.mdev.set_attribute(PROTOCOL, b"v1"),
        Errno::BUSY,
    )?;
    let mdev = card.close();
    mdev.set_attribute(PROTOCOL, b"v1")?;
    same(PROTOCOL, mdev.attribute(PROTOCOL)?, "v1".to_string())
}
