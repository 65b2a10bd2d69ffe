// SPDX-License-Identifier: GPL-2.0

//! Attributes of the mdev and of its type.

use vfio_client::mdev::random_uuid;
use vfio_client::v1::State;
use vfio_client::Errno;
use vfio_client::GroupSession;

use crate::case::cases;
use crate::case::Case;
use crate::check::denied;
use crate::check::holds;
use crate::check::one_of;
use crate::check::refused;
use crate::check::same;
use crate::check::Outcome;
use crate::check::Stop;
use crate::requirement::Requirement;
use crate::subject::Subject;
use crate::target::Target;
use crate::v1::device::TestDevice;
use crate::v1::device::DEVICE_STATE;
use crate::v1::device::WINDOW_SIZE;

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::Ferry];

pub const CASES: &[Case] = cases![
    NEEDS;
    sysfs_the_type_describes_itself [Mdev],
    sysfs_malformed_uuids_are_refused [Mdev],
    sysfs_a_uuid_can_be_used_once [Mdev],
    sysfs_window_size_is_the_modules_at_first [Mdev],
    sysfs_window_size_sets_the_region,
    sysfs_bad_window_sizes_change_nothing,
    sysfs_window_size_is_busy_while_open,
    sysfs_device_state_follows_the_header,
    sysfs_device_state_is_read_only,
    sysfs_a_device_opens_once_at_a_time [Driver],
    sysfs_removal_waits_for_the_user [Driver, Mdev],
    sysfs_a_hundred_devices_come_and_go [Driver, Mdev],
];

fn sysfs_the_type_describes_itself(target: &Target) -> Outcome {
    let kind = target.mdev_type()?;
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

fn sysfs_malformed_uuids_are_refused(target: &Target) -> Outcome {
    let kind = target.mdev_type()?;
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

fn sysfs_a_uuid_can_be_used_once(target: &Target) -> Outcome {
    let mdev = target.subject()?;
    refused(
        "create with the same UUID",
        target.mdev_type()?.create_raw(mdev.name().as_bytes()),
        Errno::EXIST,
    )?;
    let uuid = mdev.name().to_string();
    mdev.remove()?;
    target.mdev_type()?.create_raw(uuid.as_bytes())?;
    let again = vfio_client::Mdev::existing(&uuid);
    again.remove()?;
    holds(uuid != random_uuid()?, "a random UUID came twice")
}

fn sysfs_window_size_is_the_modules_at_first(target: &Target) -> Outcome {
    // The module's parameter cannot be read back, but it is the same for every device.
    let device = TestDevice::new(target)?;
    let size = device.subject.attribute(WINDOW_SIZE)?;
    let valid = size
        .parse::<u64>()
        .is_ok_and(|size| (4096..=16 << 20).contains(&size) && size.is_multiple_of(4096));
    holds(
        valid,
        format_args!("expected pages up to 16 MiB, seen {size}"),
    )?;
    same(
        "size of the window",
        device.migration.window().size.to_string(),
        size.clone(),
    )?;
    let other = target.subject()?;
    other.set_attribute(WINDOW_SIZE, b"12288")?;
    let third = target.subject()?;
    same(
        "window_size of a third device",
        third.attribute(WINDOW_SIZE)?,
        size,
    )
}

fn sysfs_window_size_sets_the_region(target: &Target) -> Outcome {
    for size in [4096u64, 8192, 3 * 4096, 16 << 20] {
        let device = TestDevice::with_window(target, size)?;
        same(
            "window_size",
            device.subject.attribute(WINDOW_SIZE)?,
            size.to_string(),
        )?;
        same("size of the window", device.migration.window().size, size)?;
        let mapping = device.migration.map_window()?;
        mapping.write(size as usize - 8, &[1; 8]);
        // The next user finds the same window.
        drop(mapping);
        let device = device.reopen()?;
        same("size after reopen", device.migration.window().size, size)?;
    }
    Ok(())
}

fn sysfs_bad_window_sizes_change_nothing(target: &Target) -> Outcome {
    let mdev = target.subject()?;
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
    let device = TestDevice::open(mdev)?;
    same("size of the window", device.migration.window().size, 8192)
}

fn sysfs_window_size_is_busy_while_open(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let before = device.subject.attribute(WINDOW_SIZE)?;
    refused(
        "window_size while open",
        device.subject.set_attribute(WINDOW_SIZE, b"4096"),
        Errno::BUSY,
    )?;
    same(
        "window_size",
        device.subject.attribute(WINDOW_SIZE)?,
        before,
    )?;
    let mdev = device.close();
    mdev.set_attribute(WINDOW_SIZE, b"4096")?;
    same(
        "window_size once closed",
        mdev.attribute(WINDOW_SIZE)?,
        "4096".to_string(),
    )
}

fn sysfs_device_state_follows_the_header(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    for state in [
        State::RUNNING,
        State::PRE_COPY,
        State::STOP_COPY,
        State::STOP,
        State::RESUMING,
    ] {
        device.set(state)?;
        same(
            "device_state",
            device.subject.attribute(DEVICE_STATE)?,
            state.name().to_string(),
        )?;
    }
    device.reset()?;
    same(
        "device_state after a reset",
        device.subject.attribute(DEVICE_STATE)?,
        "RUNNING".to_string(),
    )?;
    let mdev = device.close();
    same(
        "device_state once closed",
        mdev.attribute(DEVICE_STATE)?,
        "closed".to_string(),
    )
}

fn sysfs_device_state_is_read_only(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    refused(
        "write of device_state",
        device.subject.set_attribute(DEVICE_STATE, b"STOP"),
        Errno::ACCESS,
    )?;
    device.expect(State::RUNNING)
}

fn sysfs_a_device_opens_once_at_a_time(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    denied("a second open", GroupSession::open(&device.subject))?;
    device.expect_works()
}

fn sysfs_removal_waits_for_the_user(target: &Target) -> Outcome {
    let device = TestDevice::open(target.subject()?.keep())?;
    let mdev = vfio_client::Mdev::existing(device.subject.name());
    std::thread::scope(|scope| {
        let removal = scope.spawn(|| mdev.remove());
        // Before, during and after the request, the device works until its user closes it.
        for seed in 0..20 {
            device.fill(seed)?;
            device.expect_filled(seed)?;
            device.image()?;
        }
        drop(device);
        removal
            .join()
            .map_err(|_| Stop::failed("the removing thread panicked"))??;
        Ok(())
    })
}

fn sysfs_a_hundred_devices_come_and_go(target: &Target) -> Outcome {
    let kind = target.mdev_type()?;
    let available = kind.attribute("available_instances")?;
    let mut mdevs = Vec::new();
    for _ in 0..available.parse().unwrap_or(0).min(100) {
        mdevs.push(Subject::new(kind.create()?)?);
    }
    // Several devices are open at once.
    let mut devices = Vec::new();
    for mdev in mdevs.drain(..).take(8) {
        devices.push(TestDevice::open(mdev)?);
    }
    for device in &devices {
        device.expect_works()?;
    }
    drop(devices);
    same(
        "available_instances afterwards",
        kind.attribute("available_instances")?,
        available,
    )
}
