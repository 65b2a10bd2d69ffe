// SPDX-License-Identifier: GPL-2.0

//! ioctls whose answer is a new file descriptor: an open device, a migration data file.

use core::ptr;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use vfio_bindings::bindings::vfio;

use super::ioctl;
use super::ioctl::answer;
use super::Request;

/// Does the ioctl that makes a file descriptor: opens the device `name` of a group.
///
/// # Errors
///
/// What the kernel answers.
pub fn device_fd(group: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let mut argument = name.to_vec();
    argument.push(0);
    let fd = ioctl(group, Request::GROUP_GET_DEVICE_FD, &mut argument)?;
    // SAFETY: The kernel has just installed this descriptor for us and nobody else knows it. It fits
    // because it came out of an `i32`.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sets the state of a device by protocol v2. Returns the data file if a session begins.
///
/// # Errors
///
/// What the kernel answers.
pub fn set_migration_state(device: impl AsFd, state: u32) -> Result<Option<OwnedFd>, Errno> {
    #[repr(C)]
    struct Argument {
        argsz: u32,
        flags: u32,
        state: vfio::vfio_device_feature_mig_state,
    }

    let mut argument = Argument {
        argsz: size_of::<Argument>() as u32,
        flags: vfio::VFIO_DEVICE_FEATURE_SET | vfio::VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
        state: vfio::vfio_device_feature_mig_state {
            device_state: state,
            data_fd: -1,
        },
    };
    // SAFETY: The structure is alive and exclusively borrowed for the call, and the kernel writes no
    // more than it has.
    answer(unsafe {
        libc::ioctl(
            device.as_fd().as_raw_fd(),
            Request::DEVICE_FEATURE.number() as _,
            ptr::from_mut(&mut argument),
        )
    })?;
    match argument.state.data_fd {
        -1 => Ok(None),
        // SAFETY: The kernel has just installed this descriptor for us and nobody else knows it.
        fd => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
    }
}
