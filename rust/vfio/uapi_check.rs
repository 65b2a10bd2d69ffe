// SPDX-License-Identifier: GPL-2.0

//! Asserts at compile time that the numbers of the `vfio_uapi` crate are those of the kernel's headers.

use core::mem::{
    offset_of,
    size_of, //
};
use kernel::bindings;
use vfio_bindings::vfio_device_migration_info as Header;
use vfio_uapi::{
    v1::{
        self,
        Field, //
    },
    v2::{
        self,
        Flags,
        MigState, //
    },
    Errno, //
};

/// `device_state` and the header of the migration region.
const _: () = {
    assert!(v1::RUNNING == vfio_bindings::VFIO_DEVICE_STATE_V1_RUNNING);
    assert!(v1::SAVING == vfio_bindings::VFIO_DEVICE_STATE_V1_SAVING);
    assert!(v1::RESUMING == vfio_bindings::VFIO_DEVICE_STATE_V1_RESUMING);
    assert!(v1::HEADER_SIZE == size_of::<Header>() as u64);
    assert!(Field::DeviceState.offset() == offset_of!(Header, device_state) as u64);
    assert!(Field::Reserved.offset() == offset_of!(Header, reserved) as u64);
    assert!(Field::PendingBytes.offset() == offset_of!(Header, pending_bytes) as u64);
    assert!(Field::DataOffset.offset() == offset_of!(Header, data_offset) as u64);
    assert!(Field::DataSize.offset() == offset_of!(Header, data_size) as u64);
};

/// `enum vfio_device_mig_state`, `VFIO_MIGRATION_*` and `VFIO_PRECOPY_INFO_*`.
const _: () = {
    use vfio_bindings::*;

    assert!(MigState::Error.raw() == vfio_device_mig_state_VFIO_DEVICE_STATE_ERROR);
    assert!(MigState::Stop.raw() == vfio_device_mig_state_VFIO_DEVICE_STATE_STOP);
    assert!(MigState::Running.raw() == vfio_device_mig_state_VFIO_DEVICE_STATE_RUNNING);
    assert!(MigState::StopCopy.raw() == vfio_device_mig_state_VFIO_DEVICE_STATE_STOP_COPY);
    assert!(MigState::Resuming.raw() == vfio_device_mig_state_VFIO_DEVICE_STATE_RESUMING);
    assert!(MigState::RunningP2p.raw() == vfio_device_mig_state_VFIO_DEVICE_STATE_RUNNING_P2P);
    assert!(MigState::PreCopy.raw() == vfio_device_mig_state_VFIO_DEVICE_STATE_PRE_COPY);
    assert!(MigState::PreCopyP2p.raw() == vfio_device_mig_state_VFIO_DEVICE_STATE_PRE_COPY_P2P);
    assert!(Flags::STOP_COPY.bits() == VFIO_MIGRATION_STOP_COPY as u64);
    assert!(Flags::P2P.bits() == VFIO_MIGRATION_P2P as u64);
    assert!(Flags::PRE_COPY.bits() == VFIO_MIGRATION_PRE_COPY as u64);
    assert!(v2::PRECOPY_INFO_REINIT == VFIO_PRECOPY_INFO_REINIT);
};

/// Error numbers.
const _: () = {
    const fn is(errno: Errno, number: u32) -> bool {
        errno.to_errno().unsigned_abs() == number
    }

    assert!(is(Errno::EPERM, bindings::EPERM));
    assert!(is(Errno::EIO, bindings::EIO));
    assert!(is(Errno::ENOMEM, bindings::ENOMEM));
    assert!(is(Errno::EBUSY, bindings::EBUSY));
    assert!(is(Errno::EXDEV, bindings::EXDEV));
    assert!(is(Errno::ENODEV, bindings::ENODEV));
    assert!(is(Errno::EINVAL, bindings::EINVAL));
    assert!(is(Errno::ENODATA, bindings::ENODATA));
    assert!(is(Errno::EBADMSG, bindings::EBADMSG));
    assert!(is(Errno::EMSGSIZE, bindings::EMSGSIZE));
    assert!(is(Errno::EPROTONOSUPPORT, bindings::EPROTONOSUPPORT));
};
