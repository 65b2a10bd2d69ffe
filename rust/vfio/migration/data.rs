// SPDX-License-Identifier: GPL-2.0

//! The direction of a data file, and the data that it has.

/// The direction of a data file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// The user reads the state.
    Saving,
    /// The user writes the state.
    Resuming,
}

/// The result of [`read_data`](super::MigrationOperations::read_data).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Available {
    /// The number of bytes that were read, at least one.
    Bytes(usize),
    /// There is no data now, but there may be later, for the device runs.
    Later,
    /// The stream has ended.
    Ended,
}
