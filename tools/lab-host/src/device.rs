// SPDX-License-Identifier: GPL-2.0

//! Kinds of devices, and their drivers, by the names of mdev types and of variant drivers.

/// A kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A card with serial ports: `ferry_uart-1`, `-2` and `-4`.
    Serial,
    /// An NVMe disk: `ferry_nvme-512` and `-4096`.
    Disk,
    /// A network card of the host, an Intel 82574L.
    NetworkCard,
}

/// The driver of the serial card.
pub const SERIAL_DRIVER: &str = "ferry_uart";

/// The driver of the disk.
pub const DISK_DRIVER: &str = "ferry_nvme";

/// The variant driver of the network card.
pub const CARD_DRIVER: &str = "ferry_e1000e";

/// PCI vendor and device of the network card.
pub const CARD_IDS: (u16, u16) = (0x8086, 0x10d3);

/// PCI addresses of the network cards in the host VM.
pub const CARDS: [&str; 2] = ["0000:00:05.0", "0000:00:06.0"];

/// The same for a network card of another subsystem, whose state fits no other card, and that subsystem.
pub const OTHER_CARD: &str = "ferry_e1000e-other";
pub const OTHER_SUBSYSTEM: u16 = 0x1234;

/// The driver that passes a function through and cannot migrate it. In place of a variant driver: a network card with it.
pub const PLAIN_DRIVER: &str = "vfio-pci";

/// In place of an mdev type: QEMU's own NVMe disk, which shows whether a scenario of disks itself is right. Only QEMU 11.1
/// migrates that disk.
pub const EMULATED_DISK: &str = "nvme";

/// The driver that offers an mdev type, whose name begins with that of its parent device, or that binds a kind of network card.
pub fn driver(mdev_type: &str) -> &str {
    if mdev_type == PLAIN_DRIVER {
        return PLAIN_DRIVER;
    }
    mdev_type
        .rsplit_once('-')
        .map_or(mdev_type, |(driver, _)| driver)
}

impl Kind {
    /// The kind of the devices of an mdev type or a variant driver.
    pub fn of(mdev_type: &str) -> Option<Self> {
        match driver(mdev_type) {
            SERIAL_DRIVER => Some(Self::Serial),
            DISK_DRIVER | EMULATED_DISK => Some(Self::Disk),
            CARD_DRIVER | PLAIN_DRIVER => Some(Self::NetworkCard),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_tells_its_driver_and_kind() {
        assert_eq!(Kind::of("ferry_nvme-4096"), Some(Kind::Disk));
        assert_eq!(Kind::of("ferry_uart-1"), Some(Kind::Serial));
        assert_eq!(Kind::of("ferry_e1000e"), Some(Kind::NetworkCard));
        assert_eq!(Kind::of(OTHER_CARD), Some(Kind::NetworkCard));
        assert_eq!(driver(OTHER_CARD), CARD_DRIVER);
        assert_eq!(Kind::of(PLAIN_DRIVER), Some(Kind::NetworkCard));
        assert_eq!(driver(PLAIN_DRIVER), "vfio-pci");
        assert_eq!(Kind::of("mtty-1"), None);
        assert_eq!(driver("ferry_nvme-512"), "ferry_nvme");
    }
}
