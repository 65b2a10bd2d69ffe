// SPDX-License-Identifier: GPL-2.0

//! The names of the migration scenarios.

use serde::Deserialize;
use serde::Serialize;

/// A migration scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// A guest moves from one QEMU to another while it runs.
    LiveMigration,
    /// It moves back to the device that it came from.
    ThereAndBack,
    /// The destination's data section is much smaller than the source's.
    SmallerWindow,
    /// The migration is cancelled in pre-copy; a second one succeeds.
    CancelInPreCopy,
    /// The guest is paused when it is migrated, and goes on afterwards.
    PausedGuest,
    /// The guest is paused and goes on in the midst of pre-copy.
    StopAndContinueInPreCopy,
    /// An internal snapshot is taken, and the guest goes back to it.
    Snapshot,
    /// The guest is put into a file, and another QEMU starts it from there.
    ToFileAndBack,
    /// The destination is killed in the midst of the migration; the source goes on.
    DestinationKilled,
    /// The destination's device is another one and refuses; the source goes on.
    DestinationRefuses,
}

impl Scenario {
    /// All of them, in the order in which they are run.
    pub const ALL: [Self; 10] = [
        Self::LiveMigration,
        Self::ThereAndBack,
        Self::SmallerWindow,
        Self::CancelInPreCopy,
        Self::PausedGuest,
        Self::StopAndContinueInPreCopy,
        Self::Snapshot,
        Self::ToFileAndBack,
        Self::DestinationKilled,
        Self::DestinationRefuses,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::LiveMigration => "live-migration",
            Self::ThereAndBack => "there-and-back",
            Self::SmallerWindow => "smaller-window",
            Self::CancelInPreCopy => "cancel-in-pre-copy",
            Self::PausedGuest => "paused-guest",
            Self::StopAndContinueInPreCopy => "stop-and-continue-in-pre-copy",
            Self::Snapshot => "snapshot",
            Self::ToFileAndBack => "to-file-and-back",
            Self::DestinationKilled => "destination-killed",
            Self::DestinationRefuses => "destination-refuses",
        }
    }

    /// The scenario of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|scenario| scenario.name() == name)
    }
}
