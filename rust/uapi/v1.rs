// SPDX-License-Identifier: GPL-2.0

//! Protocol v1: the bits of `device_state`, and the layout of the migration region's header.
//!
//! Mirrors `struct vfio_device_migration_info` (Linux 5.8 to 5.17, `include/uapi/linux/vfio.h`);
//! statements 2 to 5, 16 to 18, 20 and 21 of the protocol.

use core::fmt;

/// `VFIO_DEVICE_STATE_V1_RUNNING`: the device runs.
pub const RUNNING: u32 = 1 << 0;
/// `VFIO_DEVICE_STATE_V1_SAVING`: the device gives its state.
pub const SAVING: u32 = 1 << 1;
/// `VFIO_DEVICE_STATE_V1_RESUMING`: the device takes a state.
pub const RESUMING: u32 = 1 << 2;
/// `VFIO_DEVICE_STATE_MASK`: the bits of `device_state` that are not reserved.
pub const STATE_MASK: u32 = RUNNING | SAVING | RESUMING;

/// A state that the device can be in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// 000b: stopped, neither saving nor resuming.
    Stop,
    /// 001b: running, which is where every open begins.
    Running,
    /// 010b: stopped, and all of its state can be read.
    StopCopy,
    /// 011b: running, and a part of its state can be read.
    PreCopy,
    /// 100b: stopped, and a state can be written.
    Resuming,
    /// 110b: broken until it is reset. The device reports it; a user cannot write it.
    Error,
}

impl State {
    /// The states that can be written.
    pub const VALID: [State; 5] = [
        Self::Stop,
        Self::Running,
        Self::StopCopy,
        Self::PreCopy,
        Self::Resuming,
    ];

    /// Returns the three bits of the state.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Stop => 0,
            Self::Running => RUNNING,
            Self::StopCopy => SAVING,
            Self::PreCopy => SAVING | RUNNING,
            Self::Resuming => RESUMING,
            Self::Error => RESUMING | SAVING,
        }
    }

    /// Returns whether the RUNNING bit is set.
    pub const fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::PreCopy)
    }

    /// Returns whether a save session is open. ERROR has the SAVING bit, but no session.
    pub const fn is_saving(self) -> bool {
        matches!(self, Self::StopCopy | Self::PreCopy)
    }

    /// Returns whether a resume session is open. ERROR has the RESUMING bit, but no session.
    pub const fn is_resuming(self) -> bool {
        matches!(self, Self::Resuming)
    }

    /// Returns the name as sysfs, traces and logs have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stop => "STOP",
            Self::Running => "RUNNING",
            Self::StopCopy => "STOP_COPY",
            Self::PreCopy => "PRE_COPY",
            Self::Resuming => "RESUMING",
            Self::Error => "ERROR",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Size of the header, in bytes.
pub const HEADER_SIZE: u64 = 32;

/// A field of the header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    /// `device_state`, 4 bytes at 0, read and write: the state, and the request to change it.
    DeviceState,
    /// `reserved`, 4 bytes at 4: reads as zero, writes are ignored.
    Reserved,
    /// `pending_bytes`, 8 bytes at 8, read-only: what is left to save.
    PendingBytes,
    /// `data_offset`, 8 bytes at 16, read-only: where in the region the data is.
    DataOffset,
    /// `data_size`, 8 bytes at 24, read and write: how much data is there.
    DataSize,
}

impl Field {
    /// All fields, in the order of their offsets.
    pub const ALL: [Field; 5] = [
        Self::DeviceState,
        Self::Reserved,
        Self::PendingBytes,
        Self::DataOffset,
        Self::DataSize,
    ];

    /// The width of the widest field, in bytes.
    pub const WIDTH_MAX: usize = 8;

    /// Returns the field's offset in the region, in bytes.
    pub const fn offset(self) -> u64 {
        match self {
            Self::DeviceState => 0,
            Self::Reserved => 4,
            Self::PendingBytes => 8,
            Self::DataOffset => 16,
            Self::DataSize => 24,
        }
    }

    /// Returns the field's width, in bytes.
    pub const fn width(self) -> usize {
        match self {
            Self::DeviceState | Self::Reserved => 4,
            Self::PendingBytes | Self::DataOffset | Self::DataSize => Self::WIDTH_MAX,
        }
    }

    /// Returns the field's name in the C structure.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DeviceState => "device_state",
            Self::Reserved => "reserved",
            Self::PendingBytes => "pending_bytes",
            Self::DataOffset => "data_offset",
            Self::DataSize => "data_size",
        }
    }

    /// Returns the field of which an access of `len` bytes at `offset` is the whole; [`None`] for every
    /// other access.
    pub fn at(offset: u64, len: usize) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|field| field.offset() == offset && field.width() == len)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
