// SPDX-License-Identifier: GPL-2.0

//! Attributes of the mdev and of its type.

use vfio_client::mdev::random_uuid;
use vfio_client::v1::State;
use vfio_client::Errno;
use vfio_client::GroupSession;

use crate::check::denied;
use crate::check::holds;
use crate::check::one_of;
use crate::check::refused;
use crate::check::same;
use crate::check::Outcome;
use crate::check::Stop;
use crate::test_device::Context;
use crate::test_device::TestDevice;
use crate::test_device::DEVICE_STATE;
use crate::test_device::WINDOW_SIZE;
use crate::tests::cases;
use crate::tests::Case;

/// All tests of this file.
pub const CASES: &[Case] = cases![
    sysfs_the_type_describes_itself,
    sysfs_malformed_uuids_are_refused,
    sysfs_a_uuid_can_be_used_once,
    sysfs_window_size_is_the_modules_at_first,
    sysfs_window_size_sets_the_region,
    sysfs_bad_window_sizes_change_nothing,
    sysfs_window_size_is_busy_while_open,
    sysfs_device_state_follows_the_header,
    sysfs_device_state_is_read_only,
    sysfs_a_device_opens_once_at_a_time,
    sysfs_removal_waits_for_the_user,
    sysfs_a_hundred_devices_come_and_go,
];

fn sysfs_the_type_describes_itself(context: &Context) -> Outcome {
    let kind = context.mdev_type();
    same(
        "device_api",
        kind.attribute("device_api")?,
        "vfio-pci".to_string(),
    )?;
    holds(
        !kind.attribute("name")?.is_empty(),
        "name: expected something, seen nothing",
    )?;
    let available = kind.attribute("available_instances")?;
    holds(
        available.parse::<u32>().is_ok_and(|count| count > 0),
        format_args!("available_instances: expected a number, seen {available:?}"),
    )
}

fn sysfs_malformed_uuids_are_refused(context: &Context) -> Outcome {
    let kind = context.mdev_type();
    for uuid in [
        "1",
        "83b8f4f2-509f-382f-3c1e-e6bfe0fa100",
        "83b8f4f2-509f-382f-3c1e-e6bfe0fa100111",
        "83b8f4f2+509f+382f+3c1e+e6bfe0fa1001",
        "../../../../../../../../../etc/passwd",
    ] {
        denied(
            format_args!("create of {uuid:?}"),
            kind.create_raw(uuid.as_bytes()),
        )?;
    }
    Ok(())
}

fn sysfs_a_uuid_can_be_used_once(context: &Context) -> Outcome {
    let mdev = context.mdev_type().create()?;
    refused(
        "create with the same UUID",
        context.mdev_type().create_raw(mdev.uuid().as_bytes()),
        Errno::EXIST,
    )?;
    let uuid = mdev.uuid().to_string();
    mdev.remove()?;
    context.mdev_type().create_raw(uuid.as_bytes())?;
    let again = vfio_client::Mdev::existing(&uuid);
    again.remove()?;
    holds(uuid != random_uuid()?, "a random UUID came twice")
}

fn sysfs_window_size_is_the_modules_at_first(context: &Context) -> Outcome {
    // The module's parameter cannot be read back, but it is the same for every card.
    let card = TestDevice::new(context)?;
    let size = card.mdev.attribute(WINDOW_SIZE)?;
    let valid = size
        .parse::<u64>()
        .is_ok_and(|size| (4096..=16 << 20).contains(&size) && size.is_multiple_of(4096));
    holds(
        valid,
        format_args!("expected pages up to 16 MiB, seen {size}"),
    )?;
    same(
        "size of the window",
        card.migration.window().size.to_string(),
        size.clone(),
    )?;
    let other = context.mdev_type().create()?;
    other.set_attribute(WINDOW_SIZE, b"12288")?;
    let third = context.mdev_type().create()?;
    same(
        "window_size of a third card",
        third.attribute(WINDOW_SIZE)?,
        size,
    )
}

fn sysfs_window_size_sets_the_region(context: &Context) -> Outcome {
    for size in [4096u64, 8192, 3 * 4096, 16 << 20] {
        let card = TestDevice::with_window(context, size)?;
        same(
            "window_size",
            card.mdev.attribute(WINDOW_SIZE)?,
            size.to_string(),
        )?;
        same("size of the window", card.migration.window().size, size)?;
        let mapping = card.migration.map_window()?;
        mapping.write(size as usize - 8, &[1; 8]);
        // It stays so for the next user.
        drop(mapping);
        let card = card.reopen()?;
        same("size after reopen", card.migration.window().size, size)?;
    }
    Ok(())
}

fn sysfs_bad_window_sizes_change_nothing(context: &Context) -> Outcome {
    let mdev = context.mdev_type().create()?;
    mdev.set_attribute(WINDOW_SIZE, b"8192\n")?;
    let long = [b'9'; 4096];
    let values: [&[u8]; 19] = [
        b"0",
        b"1",
        b"4095",
        b"4097",
        b"6144",
        b"16777217",
        b"16781312",
        b"-4096",
        b"-1",
        b"4294967296",
        b"4294971392",
        b"18446744073709551615",
        b"18446744073709551616",
        b"18446744073709555712",
        b"\n",
        b"8k",
        b"4096 4096",
        b"\xff\xfe\x00\x01",
        &long,
    ];
    for value in values {
        let shown = String::from_utf8_lossy(&value[..value.len().min(24)]).into_owned();
        one_of(
            format_args!("window_size of {shown:?}"),
            mdev.set_attribute(WINDOW_SIZE, value),
            &[Errno::INVAL, Errno::RANGE],
        )?;
        same(
            format_args!("window_size after {shown:?}"),
            mdev.attribute(WINDOW_SIZE)?,
            "8192".to_string(),
        )?;
    }
    let card = TestDevice::open(mdev)?;
    same("size of the window", card.migration.window().size, 8192)
}

fn sysfs_window_size_is_busy_while_open(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    let before = card.mdev.attribute(WINDOW_SIZE)?;
    refused(
        "window_size while open",
        card.mdev.set_attribute(WINDOW_SIZE, b"4096"),
        Errno::BUSY,
    )?;
    same("window_size", card.mdev.attribute(WINDOW_SIZE)?, before)?;
    let mdev = card.close();
    mdev.set_attribute(WINDOW_SIZE, b"4096")?;
    same(
        "window_size once closed",
        mdev.attribute(WINDOW_SIZE)?,
        "4096".to_string(),
    )
}

fn sysfs_device_state_follows_the_header(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    for state in [
        State::RUNNING,
        State::PRE_COPY,
        State::STOP_COPY,
        State::STOP,
        State::RESUMING,
    ] {
        card.set(state)?;
        same(
            "device_state",
            card.mdev.attribute(DEVICE_STATE)?,
            state.name().to_string(),
        )?;
    }
    card.reset()?;
    same(
        "device_state after a reset",
        card.mdev.attribute(DEVICE_STATE)?,
        "RUNNING".to_string(),
    )?;
    let mdev = card.close();
    same(
        "device_state once closed",
        mdev.attribute(DEVICE_STATE)?,
        "closed".to_string(),
    )
}

fn sysfs_device_state_is_read_only(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    refused(
        "write of device_state",
        card.mdev.set_attribute(DEVICE_STATE, b"STOP"),
        Errno::ACCESS,
    )?;
    card.expect(State::RUNNING)
}

fn sysfs_a_device_opens_once_at_a_time(context: &Context) -> Outcome {
    let card = TestDevice::new(context)?;
    denied("a second open", GroupSession::open(&card.mdev))?;
    card.expect_works()
}

fn sysfs_removal_waits_for_the_user(context: &Context) -> Outcome {
    let card = TestDevice::open(context.mdev_type().create()?.keep())?;
    let mdev = vfio_client::Mdev::existing(card.mdev.uuid());
    std::thread::scope(|scope| {
        let removal = scope.spawn(|| mdev.remove());
        // Before, during and after the request, the device is its user's until he closes it.
        for seed in 0..20 {
            card.fill(seed)?;
            card.expect_filled(seed)?;
            card.image()?;
        }
        drop(card);
        removal
            .join()
            .map_err(|_| Stop::failed("the removing thread panicked"))??;
        Ok(())
    })
}

fn sysfs_a_hundred_devices_come_and_go(context: &Context) -> Outcome {
    let kind = context.mdev_type();
    let available = kind.attribute("available_instances")?;
    let mut mdevs = Vec::new();
    for _ in 0..available.parse().unwrap_or(0).min(100) {
        mdevs.push(kind.create()?);
    }
    // Some of them open at once.
    let mut cards = Vec::new();
    for mdev in mdevs.drain(..).take(8) {
        cards.push(TestDevice::open(mdev)?);
    }
    for card in &cards {
        card.expect_works()?;
    }
    drop(cards);
    same(
        "available_instances afterwards",
        kind.attribute("available_instances")?,
        available,
    )
}
