// SPDX-License-Identifier: GPL-2.0

//! The states of protocol v2, `enum vfio_device_mig_state`.

use core::fmt;

use vfio_uapi::v2::MigState;

/// A state of the device, `enum vfio_device_mig_state`.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct State(pub u32);

impl State {
    /// The device must be reset.
    pub const ERROR: State = State(MigState::Error.raw());
    /// Stopped.
    pub const STOP: State = State(MigState::Stop.raw());
    /// The default.
    pub const RUNNING: State = State(MigState::Running.raw());
    /// Stop-and-copy: stopped, and the whole state can be read.
    pub const STOP_COPY: State = State(MigState::StopCopy.raw());
    /// The device loads a saved state.
    pub const RESUMING: State = State(MigState::Resuming.raw());
    /// Running without DMA of its own (P2P).
    pub const RUNNING_P2P: State = State(MigState::RunningP2p.raw());
    /// Pre-copy: saving while it runs.
    pub const PRE_COPY: State = State(MigState::PreCopy.raw());
    /// Pre-copy without DMA of its own (P2P).
    pub const PRE_COPY_P2P: State = State(MigState::PreCopyP2p.raw());

    /// The states that a user may set.
    pub const ALL: [State; 7] = [
        State::STOP,
        State::RUNNING,
        State::STOP_COPY,
        State::RESUMING,
        State::RUNNING_P2P,
        State::PRE_COPY,
        State::PRE_COPY_P2P,
    ];

    /// Says whether the device state can be read in this state.
    pub fn is_saving(self) -> bool {
        MigState::from_raw(self.0).is_some_and(MigState::is_saving)
    }

    /// Returns the state's name in debugfs.
    pub fn name(self) -> &'static str {
        MigState::from_raw(self.0).map_or("invalid", MigState::name)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
