// SPDX-License-Identifier: GPL-2.0

//! `device_state` of the v1 migration region, `VFIO_DEVICE_STATE_V1_*`.

use core::fmt;

use vfio_uapi::v1;

/// A value of `device_state`.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct State(pub u32);

impl State {
    /// Stopped.
    pub const STOP: State = State(v1::State::Stop.bits());
    /// The default.
    pub const RUNNING: State = State(v1::State::Running.bits());
    /// Stop-and-copy.
    pub const STOP_COPY: State = State(v1::State::StopCopy.bits());
    /// Pre-copy: saving while it runs.
    pub const PRE_COPY: State = State(v1::State::PreCopy.bits());
    /// The device loads a saved state.
    pub const RESUMING: State = State(v1::State::Resuming.bits());
    /// The device must be reset. No user writes it.
    pub const ERROR: State = State(v1::State::Error.bits());

    /// The states that a user may write.
    pub const VALID: [State; 5] = [
        State::STOP,
        State::RUNNING,
        State::STOP_COPY,
        State::PRE_COPY,
        State::RESUMING,
    ];
    /// The combinations of the three bits that a user may not write.
    pub const INVALID: [State; 3] = [
        State(v1::RESUMING | v1::RUNNING),
        State::ERROR,
        State(v1::STATE_MASK),
    ];

    /// Returns the state without the reserved bits.
    pub fn bits(self) -> State {
        State(self.0 & v1::STATE_MASK)
    }

    /// Says whether the device saves in this state.
    pub fn is_saving(self) -> bool {
        matches!(self.bits(), State::STOP_COPY | State::PRE_COPY)
    }

    /// Returns the state's name in sysfs.
    pub fn name(self) -> &'static str {
        match self.bits() {
            State::STOP => "STOP",
            State::RUNNING => "RUNNING",
            State::STOP_COPY => "STOP_COPY",
            State::PRE_COPY => "PRE_COPY",
            State::RESUMING => "RESUMING",
            State::ERROR => "ERROR",
            _ => "invalid",
        }
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:#x})", self.name(), self.0)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
