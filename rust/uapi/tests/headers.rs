// SPDX-License-Identifier: GPL-2.0

//! Compares the definitions with those that bindgen made of the kernel's header for the `vfio-bindings`
//! crate.

use std::mem::offset_of;

use vfio_bindings::bindings::vfio;
use vfio_uapi::v1;
use vfio_uapi::v1::Field;
use vfio_uapi::v1::State;
use vfio_uapi::v2;
use vfio_uapi::v2::Flags;
use vfio_uapi::v2::MigState;

#[test]
fn device_state_has_the_bits_of_the_header() {
    assert_eq!(v1::RUNNING, vfio::VFIO_DEVICE_STATE_V1_RUNNING);
    assert_eq!(v1::SAVING, vfio::VFIO_DEVICE_STATE_V1_SAVING);
    assert_eq!(v1::RESUMING, vfio::VFIO_DEVICE_STATE_V1_RESUMING);
    assert_eq!(v1::STATE_MASK, vfio::VFIO_DEVICE_STATE_MASK);
    assert_eq!(State::Stop.bits(), vfio::VFIO_DEVICE_STATE_V1_STOP);
}

#[test]
fn the_migration_region_begins_with_the_structure_of_the_header() {
    use vfio::vfio_device_migration_info as Header;

    let offset = |field: Field| usize::try_from(field.offset()).unwrap();
    assert_eq!(v1::HEADER_SIZE, size_of::<Header>() as u64);
    assert_eq!(offset(Field::DeviceState), offset_of!(Header, device_state));
    assert_eq!(offset(Field::Reserved), offset_of!(Header, reserved));
    assert_eq!(
        offset(Field::PendingBytes),
        offset_of!(Header, pending_bytes)
    );
    assert_eq!(offset(Field::DataOffset), offset_of!(Header, data_offset));
    assert_eq!(offset(Field::DataSize), offset_of!(Header, data_size));
    // Field follows on field, up to the end.
    let end = Field::ALL.into_iter().fold(0, |end, field| {
        assert_eq!(offset(field), end, "{field}");
        end + field.width()
    });
    assert_eq!(end, size_of::<Header>());
}

#[test]
fn mig_state_has_the_numbers_of_the_header() {
    let numbers = [
        vfio::vfio_device_mig_state_VFIO_DEVICE_STATE_ERROR,
        vfio::vfio_device_mig_state_VFIO_DEVICE_STATE_STOP,
        vfio::vfio_device_mig_state_VFIO_DEVICE_STATE_RUNNING,
        vfio::vfio_device_mig_state_VFIO_DEVICE_STATE_STOP_COPY,
        vfio::vfio_device_mig_state_VFIO_DEVICE_STATE_RESUMING,
        vfio::vfio_device_mig_state_VFIO_DEVICE_STATE_RUNNING_P2P,
        vfio::vfio_device_mig_state_VFIO_DEVICE_STATE_PRE_COPY,
        vfio::vfio_device_mig_state_VFIO_DEVICE_STATE_PRE_COPY_P2P,
    ];

    assert_eq!(MigState::ALL.map(MigState::raw), numbers);
    for state in MigState::ALL {
        assert_eq!(MigState::from_raw(state.raw()), Some(state));
    }
    assert_eq!(MigState::from_raw(8), None);
}

#[test]
fn the_flags_have_the_bits_of_the_header() {
    let bits = u64::from;

    assert_eq!(
        Flags::STOP_COPY.bits(),
        bits(vfio::VFIO_MIGRATION_STOP_COPY)
    );
    assert_eq!(Flags::P2P.bits(), bits(vfio::VFIO_MIGRATION_P2P));
    assert_eq!(Flags::PRE_COPY.bits(), bits(vfio::VFIO_MIGRATION_PRE_COPY));
    assert_eq!(v2::PRECOPY_INFO_REINIT, vfio::VFIO_PRECOPY_INFO_REINIT);
}

/// The names are ABI: sysfs, debugfs, tracepoints and the log have them.
#[test]
fn states_have_the_names_that_users_see() {
    let v1 = State::VALID.map(State::name);
    assert_eq!(v1, ["STOP", "RUNNING", "STOP_COPY", "PRE_COPY", "RESUMING"]);
    assert_eq!(State::Error.name(), "ERROR");
    assert_eq!(
        MigState::ALL.map(MigState::name),
        [
            "ERROR",
            "STOP",
            "RUNNING",
            "STOP_COPY",
            "RESUMING",
            "RUNNING_P2P",
            "PRE_COPY",
            "PRE_COPY_P2P",
        ]
    );
}
