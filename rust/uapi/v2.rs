// SPDX-License-Identifier: GPL-2.0

//! Protocol v2: states, feature flags and the record of pre-copy.
//!
//! Mirrors `enum vfio_device_mig_state`, `VFIO_MIGRATION_*` and `struct vfio_precopy_info` (Linux 5.18
//! and later, `include/uapi/linux/vfio.h`).

use core::fmt;

/// A state of protocol v2, `enum vfio_device_mig_state`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum MigState {
    /// The device has failed and must be reset.
    Error = 0,
    /// The device is stopped.
    Stop = 1,
    /// The device runs.
    Running = 2,
    /// The device is stopped, and all of its state can be read.
    StopCopy = 3,
    /// The device is stopped, and a state can be written.
    Resuming = 4,
    /// The device runs, but initiates no DMA.
    RunningP2p = 5,
    /// The device runs, and a part of its state can be read.
    PreCopy = 6,
    /// As [`Self::PreCopy`], but the device initiates no DMA.
    PreCopyP2p = 7,
}

impl MigState {
    /// All states, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Error,
        Self::Stop,
        Self::Running,
        Self::StopCopy,
        Self::Resuming,
        Self::RunningP2p,
        Self::PreCopy,
        Self::PreCopyP2p,
    ];

    /// Returns the state with the number `raw`.
    pub fn from_raw(raw: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.raw() == raw)
    }

    /// Returns the number of the state.
    pub const fn raw(self) -> u32 {
        self as u32
    }

    /// Returns whether the device runs and initiates DMA.
    pub const fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::PreCopy)
    }

    /// Returns whether the device runs without initiating DMA.
    pub const fn is_p2p(self) -> bool {
        matches!(self, Self::RunningP2p | Self::PreCopyP2p)
    }

    /// Returns whether the state of the device can be read.
    pub const fn is_saving(self) -> bool {
        matches!(self, Self::StopCopy | Self::PreCopy | Self::PreCopyP2p)
    }

    /// Returns whether the arc from here to `to` begins a data transfer session, which has a new file.
    pub const fn begins_session(self, to: Self) -> bool {
        matches!(to, Self::Resuming) || (to.is_saving() && !self.is_saving())
    }

    /// Returns whether the arc from here to `to` ends a data transfer session.
    pub const fn ends_session(self, to: Self) -> bool {
        matches!(self, Self::Resuming) || (self.is_saving() && !to.is_saving())
    }

    /// Returns the name as debugfs and logs have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Stop => "STOP",
            Self::Running => "RUNNING",
            Self::StopCopy => "STOP_COPY",
            Self::Resuming => "RESUMING",
            Self::RunningP2p => "RUNNING_P2P",
            Self::PreCopy => "PRE_COPY",
            Self::PreCopyP2p => "PRE_COPY_P2P",
        }
    }
}

impl fmt::Display for MigState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The parts of protocol v2 that a device supports, `VFIO_MIGRATION_*`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Flags(u64);

impl Flags {
    /// The device does not migrate by this protocol.
    pub const NONE: Self = Self(0);
    /// `VFIO_MIGRATION_STOP_COPY`: the state can be moved while the device is stopped.
    pub const STOP_COPY: Self = Self(1 << 0);
    /// `VFIO_MIGRATION_P2P`: there are states in which the device runs but initiates no DMA.
    pub const P2P: Self = Self(1 << 1);
    /// `VFIO_MIGRATION_PRE_COPY`: a part of the state can be moved while the device runs.
    pub const PRE_COPY: Self = Self(1 << 2);

    /// Returns the union of both sets.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the bits as `struct vfio_device_feature_migration` has them.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

/// Bits of `flags` in `struct vfio_precopy_info`: `VFIO_PRECOPY_INFO_REINIT`.
pub const PRECOPY_INFO_REINIT: u32 = 1 << 0;

/// An estimate of what can be read in pre-copy, `struct vfio_precopy_info`. In bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PrecopyInfo {
    /// Left of the initial part: the data of when pre-copy began, or began anew.
    pub initial_bytes: u64,
    /// Left of the data that has changed since.
    pub dirty_bytes: u64,
    /// [`PRECOPY_INFO_REINIT`]: pre-copy has begun anew, with a new initial part, since the user asked
    /// last.
    pub reinit: bool,
}

impl PrecopyInfo {
    /// Returns the `flags` of the C structure.
    pub const fn flags(&self) -> u32 {
        if self.reinit {
            PRECOPY_INFO_REINIT
        } else {
            0
        }
    }
}
