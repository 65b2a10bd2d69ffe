// SPDX-License-Identifier: GPL-2.0

//! The kinds of device that the cases know.

use std::path::Path;
use std::path::PathBuf;

use vfio_drivers::probe::Ids;

/// The kind of a device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A serial card of Ferry.
    Uart {
        /// The number of its ports.
        ports: u8,
    },
    /// An NVMe controller of Ferry.
    Nvme {
        /// The size of its logical blocks, as a power of two of bytes.
        shift: u8,
    },
    /// A serial card of the kernel's sample `mtty`, with one port.
    Mtty,
    /// An Intel 82574L that Ferry's variant driver has: a real card, whose registers are mapped.
    E1000e,
    /// Any other device.
    Other,
}

/// The kinds of device by their PCI ids, those of `Documentation/` and of `samples/vfio-mdev/mtty.c`. An 82574L
/// with another driver than Ferry's is of another kind.
/// The ids do not tell the size of a controller's logical blocks: it is 512 bytes by default.
const KINDS: [(u16, u16, Kind); 6] = [
    (0x1af4, 0x10f0, Kind::Nvme { shift: 9 }),
    (0x1af4, 0x10f1, Kind::Uart { ports: 1 }),
    (0x1af4, 0x10f2, Kind::Uart { ports: 2 }),
    (0x1af4, 0x10f3, Kind::Uart { ports: 4 }),
    (0x4348, 0x3253, Kind::Mtty),
    (0x8086, 0x10d3, Kind::E1000e),
];

impl Kind {
    /// Returns the kind by the name of an mdev type. `None` for a type that the cases do not know.
    pub fn of_type(type_name: &str) -> Option<Self> {
        match type_name.rsplit_once('-')? {
            ("ferry_uart", ports) => Some(Kind::Uart {
                ports: ports.parse().ok()?,
            }),
            ("ferry_nvme", "512") => Some(Kind::Nvme { shift: 9 }),
            ("ferry_nvme", "4096") => Some(Kind::Nvme { shift: 12 }),
            ("mtty", "1") => Some(Kind::Mtty),
            _ => None,
        }
    }

    /// Returns the kind by PCI ids.
    pub fn of_ids(ids: Ids) -> Self {
        KINDS
            .into_iter()
            .find(|(vendor, device, _)| (*vendor, *device) == (ids.vendor, ids.device))
            .map_or(Kind::Other, |(_, _, kind)| kind)
    }

    /// Returns the kind of a device with a driver of the kernel: a function that is real may have any driver, and
    /// is Ferry's only with Ferry's.
    pub fn with_driver(self, driver: Option<&str>) -> Self {
        match self {
            Kind::E1000e if driver != Some(self.driver()) => Kind::Other,
            kind => kind,
        }
    }

    /// Returns the name of the kernel's driver.
    pub fn driver(self) -> &'static str {
        match self {
            Kind::Uart { .. } => "ferry_uart",
            Kind::Nvme { .. } => "ferry_nvme",
            Kind::Mtty => "mtty",
            Kind::E1000e => "ferry_e1000e",
            Kind::Other => "another driver",
        }
    }

    /// Returns where the parent of the driver's mediated devices is in sysfs.
    pub(crate) fn parent(self) -> PathBuf {
        let driver = self.driver();
        Path::new("/sys/class").join(driver).join(driver)
    }

    /// Says whether the device is one of Ferry's.
    pub fn is_ferry(self) -> bool {
        matches!(self, Kind::Uart { .. } | Kind::Nvme { .. } | Kind::E1000e)
    }

    /// Says whether the device's registers are emulated: the driver sees each access, and decides what it does.
    /// The registers of a real function are mapped, and a user's access reaches it in any state.
    pub fn is_emulated(self) -> bool {
        self != Kind::E1000e
    }

    /// Returns the device type in the header of the device's stream; empty for a device that is not
    /// Ferry's.
    pub fn stream_type(self) -> &'static [u8] {
        match self {
            Kind::Uart { .. } => b"ferry-uart",
            Kind::Nvme { .. } => b"ferry-nvme",
            Kind::E1000e => b"82574l",
            Kind::Mtty | Kind::Other => b"",
        }
    }
}

#[cfg(test)]
mod tests {
    use vfio_drivers::probe::Ids;

    use super::Kind;

    #[test]
    fn a_kind_is_told_by_type_and_by_ids() {
        for (name, vendor, device, kind) in [
            ("ferry_uart-4", 0x1af4, 0x10f3, Kind::Uart { ports: 4 }),
            ("ferry_nvme-512", 0x1af4, 0x10f0, Kind::Nvme { shift: 9 }),
            ("mtty-1", 0x4348, 0x3253, Kind::Mtty),
        ] {
            assert_eq!(Kind::of_type(name), Some(kind), "{name}");
            assert_eq!(Kind::of_ids(Ids { vendor, device }), kind, "{name}");
        }
        let card = Ids {
            vendor: 0x8086,
            device: 0x10d3,
        };
        let card = Kind::of_ids(card);
        assert_eq!(card, Kind::E1000e);
        assert_eq!(card.with_driver(Some("ferry_e1000e")), Kind::E1000e);
        assert_eq!(card.with_driver(Some("vfio-pci")), Kind::Other);
        assert_eq!(Kind::Mtty.with_driver(None), Kind::Mtty);
        let other = Ids {
            vendor: 0x15b3,
            device: 0x101e,
        };
        assert_eq!(Kind::of_ids(other), Kind::Other);
        assert_eq!(Kind::of_type("mtty-2"), None);
    }
}
