// SPDX-License-Identifier: GPL-2.0

//! The names of the migration scenarios.

use serde::Deserialize;
use serde::Serialize;

use crate::device::Kind;
use crate::vmm::Qemu;

/// A migration scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// A guest moves from one QEMU to another while it runs.
    LiveMigration,
    /// A guest moves to another QEMU and back to the device that it came from.
    ThereAndBack,
    /// The destination's data section is much smaller than the source's.
    SmallerWindow,
    /// The migration is cancelled in pre-copy; a second one succeeds.
    CancelInPreCopy,
    /// The guest is paused when it is migrated, and goes on afterwards.
    PausedGuest,
    /// The guest is paused and goes on during pre-copy.
    StopAndContinueInPreCopy,
    /// An internal snapshot is taken, and the guest goes back to it.
    Snapshot,
    /// The guest is put into a file, and another QEMU starts it from there.
    ToFileAndBack,
    /// The same, but before that the client library takes the state of the device out of the file
    /// and loads it through protocol v2, and what it saves then through protocol v1.
    FileThroughV2,
    /// The destination is killed during the migration; the source goes on.
    DestinationKilled,
    /// The destination's device is another one and refuses; the source goes on.
    DestinationRefuses,
    /// A guest moves there and back twice, each time into a new device.
    RoundTrips,
    /// Files are written while the guest moves; the file system and every file are whole then.
    FileSystem,
    /// Commands of nvme-cli and blkdiscard work before and after a migration.
    DiskCommands,
    /// The guest's driver is unbound from the disk, the guest moves, the driver is bound again.
    UnbindAndRebind,
    /// The guest resets the controller again and again while it moves.
    ResetWhileMigrating,
    /// A destination with another capacity, block size or backend refuses at once.
    DiskMismatch,
    /// A guest with two disks moves there and back.
    TwoDisks,
    /// A guest whose disk has four namespaces, in memory and in files, moves there and back.
    Namespaces,
    /// Both sides have the same file for the disk's content.
    SharedFile,
    /// A guest that uses INTx instead of MSI-X moves there and back.
    OnItsPin,
    /// A guest whose memory is a shared file gets a DIMM while it runs, gives memory to its balloon in pre-copy, and takes
    /// the memory back afterwards.
    Memory,
    /// A guest with an IOMMU that passes the disk through moves there and back.
    Iommu,
    /// A guest moves there and back, with the state of its device through several connections.
    Multifd,
    /// A guest moves there and back. Its source is stopped only when the destination has the first part of the device's
    /// state.
    SwitchoverAck,
    /// The guest rewrites most of its disk while it moves there and back, which makes a new first part of the state. The
    /// source is stopped only when the destination has the new first part, too.
    RewrittenDisk,
    /// A guest with a disk and a serial card, or a disk and a network card, moves there and back.
    TwoDevices,
    /// The guest's filters, VLAN, multicasts and jumbo frames go on after a migration.
    NetworkFeatures,
    /// A guest moves while its interface is down, while no driver has the card, and with INTx in place of MSI-X.
    NetworkDriver,
    /// A guest moves from QEMU 7.2 to this one: the state of its device is saved through protocol
    /// v1 and loaded through protocol v2.
    FromOldQemu,
    /// A guest moves there and back in QEMUs that open the device through its character device, with iommufd, and read the
    /// device's dirty log.
    DeviceLog,
}

impl Scenario {
    pub const ALL: [Self; 31] = [
        Self::LiveMigration,
        Self::ThereAndBack,
        Self::SmallerWindow,
        Self::CancelInPreCopy,
        Self::PausedGuest,
        Self::StopAndContinueInPreCopy,
        Self::Snapshot,
        Self::ToFileAndBack,
        Self::FileThroughV2,
        Self::DestinationKilled,
        Self::DestinationRefuses,
        Self::RoundTrips,
        Self::FileSystem,
        Self::DiskCommands,
        Self::UnbindAndRebind,
        Self::ResetWhileMigrating,
        Self::DiskMismatch,
        Self::Multifd,
        Self::SwitchoverAck,
        Self::NetworkFeatures,
        Self::NetworkDriver,
        // These boot guests of their own.
        Self::TwoDisks,
        Self::Namespaces,
        Self::SharedFile,
        Self::OnItsPin,
        Self::Memory,
        Self::Iommu,
        Self::RewrittenDisk,
        Self::TwoDevices,
        Self::FromOldQemu,
        Self::DeviceLog,
    ];

    /// The scenarios of each QEMU that uses protocol v2, in which it differs from QEMU 7.2.
    const OF_V2: [Self; 12] = [
        Self::ThereAndBack,
        Self::Multifd,
        Self::SwitchoverAck,
        Self::CancelInPreCopy,
        Self::PausedGuest,
        Self::DestinationKilled,
        Self::NetworkFeatures,
        Self::NetworkDriver,
        Self::Memory,
        Self::RewrittenDisk,
        Self::TwoDevices,
        Self::FromOldQemu,
    ];

    /// The scenarios of the network card. A guest that goes back to a snapshot loses its connections to hosts that do not.
    const OF_CARD: [Self; 12] = [
        Self::ThereAndBack,
        Self::CancelInPreCopy,
        Self::PausedGuest,
        Self::StopAndContinueInPreCopy,
        Self::ToFileAndBack,
        Self::DestinationKilled,
        Self::DestinationRefuses,
        Self::NetworkFeatures,
        Self::NetworkDriver,
        Self::Multifd,
        Self::TwoDevices,
        Self::FromOldQemu,
    ];

    /// The scenarios of a kind of device with a QEMU, in their order.
    pub fn of(kind: Kind, qemu: Qemu) -> Vec<Self> {
        let fits = |scenario: &Self| match kind {
            Kind::Serial => !scenario.needs_disk() && !scenario.needs_card(),
            Kind::NetworkCard => Self::OF_CARD.contains(scenario),
            // The round trips contain there-and-back, and a mismatch is a refusal.
            Kind::Disk if qemu.speaks_v1() => {
                !matches!(scenario, Self::ThereAndBack | Self::DestinationRefuses)
                    && !scenario.needs_card()
            }
            Kind::Disk => !scenario.needs_card(),
        };
        if qemu.speaks_v1() {
            let known = |scenario: &Self| !scenario.needs_v2();
            Self::ALL.into_iter().filter(known).filter(fits).collect()
        } else {
            // These scenarios are slow, and the QEMUs do the same in them.
            let slow = [Self::Memory, Self::NetworkFeatures, Self::NetworkDriver];
            let new = |scenario: &Self| !slow.contains(scenario) || qemu == Qemu::V11_1;
            let known = |scenario: &Self| *scenario != Self::RewrittenDisk || qemu.begins_anew();
            Self::OF_V2
                .into_iter()
                .filter(new)
                .filter(known)
                .filter(fits)
                .collect()
        }
    }

    /// Whether the scenario does something that only a QEMU with protocol v2 can.
    pub fn needs_v2(self) -> bool {
        matches!(
            self,
            Self::Multifd
                | Self::SwitchoverAck
                | Self::RewrittenDisk
                | Self::TwoDevices
                | Self::FromOldQemu
                | Self::DeviceLog
        )
    }

    /// The QEMUs that the scenario starts when it is run with `qemu`.
    pub fn qemus(self, qemu: Qemu) -> Vec<Qemu> {
        match self {
            Self::FromOldQemu => vec![Qemu::default(), qemu],
            _ => vec![qemu],
        }
    }

    /// The scenario's name among other tests.
    pub fn title(self) -> String {
        format!("scenario: {}", self.name())
    }

    /// Whether the scenario does something that only a disk can.
    pub fn needs_disk(self) -> bool {
        matches!(
            self,
            Self::RoundTrips
                | Self::FileSystem
                | Self::DiskCommands
                | Self::UnbindAndRebind
                | Self::ResetWhileMigrating
                | Self::DiskMismatch
                | Self::TwoDisks
                | Self::Namespaces
                | Self::SharedFile
                | Self::OnItsPin
                | Self::Memory
                | Self::Iommu
                | Self::RewrittenDisk
                | Self::TwoDevices
        )
    }

    /// Whether the scenario does something that only a network card can.
    pub fn needs_card(self) -> bool {
        matches!(self, Self::NetworkFeatures | Self::NetworkDriver)
    }

    /// Whether the scenario's guest has other devices than those of the other scenarios.
    pub fn has_own_devices(self) -> bool {
        matches!(
            self,
            Self::TwoDisks
                | Self::Namespaces
                | Self::SharedFile
                | Self::OnItsPin
                | Self::Memory
                | Self::Iommu
                | Self::RewrittenDisk
                | Self::TwoDevices
                | Self::DeviceLog
        )
    }

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
            Self::FileThroughV2 => "file-through-v2",
            Self::DestinationKilled => "destination-killed",
            Self::DestinationRefuses => "destination-refuses",
            Self::RoundTrips => "round-trips",
            Self::FileSystem => "file-system",
            Self::DiskCommands => "disk-commands",
            Self::UnbindAndRebind => "unbind-and-rebind",
            Self::ResetWhileMigrating => "reset-while-migrating",
            Self::DiskMismatch => "disk-mismatch",
            Self::TwoDisks => "two-disks",
            Self::Namespaces => "namespaces",
            Self::SharedFile => "shared-file",
            Self::OnItsPin => "intx-only",
            Self::Memory => "memory",
            Self::Iommu => "iommu",
            Self::Multifd => "multifd",
            Self::SwitchoverAck => "switchover-ack",
            Self::RewrittenDisk => "rewritten-disk",
            Self::TwoDevices => "two-devices",
            Self::NetworkFeatures => "network-features",
            Self::NetworkDriver => "network-driver",
            Self::FromOldQemu => "from-qemu-7.2",
            Self::DeviceLog => "device-log",
        }
    }

    /// The scenario of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|scenario| scenario.name() == name)
    }
}
