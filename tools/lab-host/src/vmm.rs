// SPDX-License-Identifier: GPL-2.0

//! The QEMUs that run guests in the host VM.

use serde::Deserialize;
use serde::Serialize;

/// A version of QEMU.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Qemu {
    /// The newest version that uses protocol v1, the migration region.
    #[default]
    #[serde(rename = "7.2")]
    V7_2,
    /// A version that uses protocol v2, `VFIO_DEVICE_FEATURE_MIGRATION`.
    #[serde(rename = "10.0")]
    V10_0,
    /// A newer version, with protocol v2, too.
    #[serde(rename = "11.1")]
    V11_1,
}

impl Qemu {
    pub const ALL: [Self; 3] = [Self::V7_2, Self::V10_0, Self::V11_1];

    /// The versions that use protocol v2.
    pub const OF_V2: [Self; 2] = [Self::V10_0, Self::V11_1];

    /// As in `10.0`.
    pub const fn version(self) -> &'static str {
        match self {
            Self::V7_2 => "7.2",
            Self::V10_0 => "10.0",
            Self::V11_1 => "11.1",
        }
    }

    pub fn by_version(version: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|qemu| qemu.version() == version)
    }

    /// The root directory of the QEMU in the host VM. Each QEMU has its own libraries.
    pub const fn root(self) -> &'static str {
        match self {
            Self::V7_2 => "",
            Self::V10_0 => "/ferry/qemu-10.0",
            Self::V11_1 => "/ferry/qemu-11.1",
        }
    }

    /// The machine type of this version, which later versions know, too. A type without a version means another machine in
    /// each QEMU.
    pub const fn machine(self) -> &'static str {
        match self {
            Self::V7_2 => "pc-q35-7.2",
            Self::V10_0 => "pc-q35-10.0",
            Self::V11_1 => "pc-q35-11.1",
        }
    }

    /// Whether it migrates devices through protocol v1.
    pub const fn speaks_v1(self) -> bool {
        matches!(self, Self::V7_2)
    }

    /// Whether the QEMU uses `VFIO_PRECOPY_INFO_REINIT`, by which a device announces a new first part of its state in
    /// pre-copy.
    pub const fn begins_anew(self) -> bool {
        matches!(self, Self::V11_1)
    }

    /// The option of `vfio-pci` that enables migration. Without the option later versions migrate only a device that has a
    /// dirty log.
    pub const fn migration_option(self) -> &'static str {
        if self.speaks_v1() {
            "x-enable-migration=on"
        } else {
            "enable-migration=on"
        }
    }

    /// Whether KVM gets the right line for the INTx of a device that waits for its guest.
    ///
    /// A reset of the machine connects it anew, the device's before that of q35's LPC bridge, which
    /// says where it is routed. Until its first reset the bridge of QEMU 10.0 says "ISA interrupt
    /// 0"; 7.2 reset it when it made it. Where a guest boots, its firmware then
    /// programs the bridge, and the device hears of it. Nobody tells it when the bridge's state comes
    /// from another QEMU. So KVM does not see the guest's end of interrupt, takes the line for
    /// asserted still, and the guest's handler is called for ever. A second reset puts it right.
    pub const fn routes_incoming_intx(self) -> bool {
        self.speaks_v1()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_names_one_qemu_everywhere() {
        for qemu in Qemu::ALL {
            let version = qemu.version();
            assert_eq!(Qemu::by_version(version), Some(qemu));
            assert_eq!(qemu.machine(), format!("pc-q35-{version}"));
            let json = serde_json::to_string(&qemu).expect("JSON");
            assert_eq!(json, format!("\"{version}\""));
        }
        assert_eq!(Qemu::by_version("8.0"), None);
    }
}
