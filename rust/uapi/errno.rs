// SPDX-License-Identifier: GPL-2.0

//! Error numbers of the kernel, with the meaning that each has for a user of migration.
//!
//! C headers: `include/uapi/asm-generic/errno-base.h`, `include/uapi/asm-generic/errno.h`

use core::fmt;

/// An error number of the kernel, 1 to 4095.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(u16);

impl Errno {
    /// Operation not permitted: a write to a read-only field.
    pub const EPERM: Self = Self(1);
    /// Interrupted system call: the process that waited was killed.
    pub const EINTR: Self = Self(4);
    /// Input/output error: the device failed, or it is in the ERROR state.
    pub const EIO: Self = Self(5);
    /// Out of memory.
    pub const ENOMEM: Self = Self(12);
    /// Device or resource busy.
    pub const EBUSY: Self = Self(16);
    /// Cross-device link: the stream is of a device with another configuration.
    pub const EXDEV: Self = Self(18);
    /// No such device: the stream is of another type of device.
    pub const ENODEV: Self = Self(19);
    /// Invalid argument: a malformed access or a state that does not exist.
    pub const EINVAL: Self = Self(22);
    /// No data available: the stream ended before it was complete.
    pub const ENODATA: Self = Self(61);
    /// Bad message: the stream is corrupt.
    pub const EBADMSG: Self = Self(74);
    /// Message too long: a chunk is larger than the data section.
    pub const EMSGSIZE: Self = Self(90);
    /// Protocol not supported: the stream needs a newer reader.
    pub const EPROTONOSUPPORT: Self = Self(93);

    /// Returns the error of a negative return value of the kernel, -4095 to -1, or [`Self::EIO`] for any
    /// other value.
    pub const fn from_errno(errno: i32) -> Self {
        match errno {
            -4095..=-1 => Self(errno.unsigned_abs() as u16),
            _ => Self::EIO,
        }
    }

    /// Returns the number as the kernel returns it, which is negative: -4095 to -1.
    pub const fn to_errno(self) -> i32 {
        // No overflow: the operand is at most 65535.
        0i32.wrapping_sub(self.0 as i32)
    }

    /// Returns the symbolic name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EPERM => "EPERM",
            Self::EINTR => "EINTR",
            Self::EIO => "EIO",
            Self::ENOMEM => "ENOMEM",
            Self::EBUSY => "EBUSY",
            Self::EXDEV => "EXDEV",
            Self::ENODEV => "ENODEV",
            Self::EINVAL => "EINVAL",
            Self::ENODATA => "ENODATA",
            Self::EBADMSG => "EBADMSG",
            Self::EMSGSIZE => "EMSGSIZE",
            Self::EPROTONOSUPPORT => "EPROTONOSUPPORT",
            Self(_) => "unknown error",
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
