// SPDX-License-Identifier: GPL-2.0

//! What cases run on: a type of mediated device, or a device at an address.

use std::path::Path;
use std::path::PathBuf;
use std::sync::OnceLock;

use vfio_client::mdev::MdevType;
use vfio_client::Address;
use vfio_client::Backend;
use vfio_drivers::probe::Ids;

use crate::check::Outcome;
use crate::check::Stop;
use crate::requirement::Facts;
use crate::subject::Subject;

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
    /// Any other device.
    Other,
}

/// The kinds of device by their PCI ids, those of `Documentation/` and of `samples/vfio-mdev/mtty.c`.
/// The ids do not tell the size of a controller's logical blocks: it is 512 bytes by default.
const KINDS: [(u16, u16, Kind); 5] = [
    (0x1af4, 0x10f0, Kind::Nvme { shift: 9 }),
    (0x1af4, 0x10f1, Kind::Uart { ports: 1 }),
    (0x1af4, 0x10f2, Kind::Uart { ports: 2 }),
    (0x1af4, 0x10f3, Kind::Uart { ports: 4 }),
    (0x4348, 0x3253, Kind::Mtty),
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

    /// Returns the name of the kernel's driver.
    pub fn driver(self) -> &'static str {
        match self {
            Kind::Uart { .. } => "ferry_uart",
            Kind::Nvme { .. } => "ferry_nvme",
            Kind::Mtty => "mtty",
            Kind::Other => "another driver",
        }
    }

    /// Returns where the parent of the driver's mediated devices is in sysfs.
    fn parent(self) -> PathBuf {
        let driver = self.driver();
        Path::new("/sys/class").join(driver).join(driver)
    }

    /// Says whether the device is one of Ferry's.
    pub fn is_ferry(self) -> bool {
        matches!(self, Kind::Uart { .. } | Kind::Nvme { .. })
    }

    /// Returns the device type in the header of the device's stream; empty for a device that is not
    /// Ferry's.
    pub fn stream_type(self) -> &'static [u8] {
        match self {
            Kind::Uart { .. } => b"ferry-uart",
            Kind::Nvme { .. } => b"ferry-nvme",
            Kind::Mtty | Kind::Other => b"",
        }
    }
}

/// Where a case gets its device from.
#[derive(Clone, Debug)]
enum Source {
    /// It creates a mediated device.
    Type {
        /// The parent device in sysfs.
        parent: PathBuf,
    },
    /// It takes a device that exists.
    Device(Address),
}

/// What cases run on.
#[derive(Clone, Debug)]
pub struct Target {
    /// The name of the type, for example `ferry_uart-2`, or the address of the device.
    pub name: String,
    /// The kind of the device.
    pub kind: Kind,
    /// How the cases open the device, if they do not care.
    pub backend: Backend,
    source: Source,
    facts: OnceLock<Facts>,
}

impl Target {
    /// Takes a type of mediated device by its name, of the driver's own parent. `None` for an unknown type.
    pub fn of_type(type_name: &str) -> Option<Self> {
        let kind = Kind::of_type(type_name)?;
        Some(Target {
            name: type_name.to_string(),
            kind,
            backend: Backend::Type1,
            source: Source::Type {
                parent: kind.parent(),
            },
            facts: OnceLock::new(),
        })
    }

    /// Takes the device at an address, which is opened once, to tell its kind.
    ///
    /// # Errors
    ///
    /// Why it cannot be opened, and how to mend that.
    pub fn at(address: &Address, backend: Backend) -> vfio_drivers::Result<Self> {
        let session = address.open(backend)?;
        let ids = Ids::read(session.device())?;
        Ok(Target {
            name: address.to_string(),
            kind: Kind::of_ids(ids),
            backend,
            source: Source::Device(address.clone()),
            facts: OnceLock::new(),
        })
    }

    /// Returns the same type of another parent, which is at a path in sysfs. A device at an address stays
    /// what it is.
    pub fn of_parent(self, path: &Path) -> Self {
        Target {
            source: match self.source {
                Source::Type { .. } => Source::Type {
                    parent: path.into(),
                },
                device => device,
            },
            ..self
        }
    }

    /// Returns the same target, to be opened through the character device.
    pub fn through_cdev(&self) -> Self {
        Target {
            backend: Backend::Iommufd,
            ..self.clone()
        }
    }

    /// Returns why the target is not there, or `None` if it is.
    pub fn absence(&self) -> Option<String> {
        match &self.source {
            Source::Type { parent } => {
                if MdevType::new(parent, &self.name).exists() {
                    return None;
                }
                Some(format!(
                    "no {} at {}; is {} loaded?",
                    self.name,
                    parent.display(),
                    self.kind.driver()
                ))
            }
            Source::Device(address) => address.find().err().map(|error| error.to_string()),
        }
    }

    /// Returns the facts about the target's devices, gathered on the first call.
    ///
    /// # Errors
    ///
    /// Why they cannot be gathered.
    pub fn facts(&self) -> Outcome<&Facts> {
        if let Some(facts) = self.facts.get() {
            return Ok(facts);
        }
        let facts = Facts::gather(self)?;
        Ok(self.facts.get_or_init(|| facts))
    }

    /// Says whether a case can create devices.
    pub fn is_type(&self) -> bool {
        matches!(self.source, Source::Type { .. })
    }

    /// Creates a mediated device for a case, or takes the device that exists.
    #[track_caller]
    pub fn subject(&self) -> Outcome<Subject> {
        match &self.source {
            Source::Type { .. } => Subject::new(self.mdev_type()?.create()?),
            Source::Device(address) => Ok(Subject::at(address.find()?, self.kind)),
        }
    }

    /// Returns the type of mediated device, of a target that is one.
    pub fn mdev_type(&self) -> Outcome<MdevType> {
        match &self.source {
            Source::Type { parent } => Ok(MdevType::new(parent, &self.name)),
            Source::Device(address) => Err(Stop::Skipped(format!(
                "{address} is no type of mediated device"
            ))),
        }
    }

    /// Returns the other types of the same parent.
    #[track_caller]
    pub fn other_types(&self) -> Outcome<Vec<MdevType>> {
        let Source::Type { parent } = &self.source else {
            return Ok(Vec::new());
        };
        let types = std::fs::read_dir(parent.join("mdev_supported_types"))
            .map_err(|error| Stop::failed(format_args!("{}: {error}", parent.display())))?;
        Ok(types
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| *name != self.name)
            .map(|name| MdevType::new(parent, &name))
            .collect())
    }

    /// Returns how many ports a serial card has, 0 for another device.
    pub fn ports(&self) -> u8 {
        match self.kind {
            Kind::Uart { ports } => ports,
            Kind::Mtty => 1,
            Kind::Nvme { .. } | Kind::Other => 0,
        }
    }

    /// Returns the size of a controller's logical block as a power of two, 0 for another device.
    pub fn shift(&self) -> u8 {
        match self.kind {
            Kind::Nvme { shift } => shift,
            Kind::Uart { .. } | Kind::Mtty | Kind::Other => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use vfio_client::Address;
    use vfio_client::Backend;
    use vfio_drivers::probe::Ids;

    use super::Kind;
    use super::Target;

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
        let other = Ids {
            vendor: 0x15b3,
            device: 0x101e,
        };
        assert_eq!(Kind::of_ids(other), Kind::Other);
        assert_eq!(Kind::of_type("mtty-2"), None);
    }

    #[test]
    fn a_target_that_is_not_there_says_so() {
        let target = Target::of_type("ferry_uart-2").expect("a known type");
        let target = target.of_parent("/nowhere".as_ref());
        let expected = "no ferry_uart-2 at /nowhere; is ferry_uart loaded?";
        assert_eq!(target.absence().as_deref(), Some(expected));
        let address: Address = "/sys/nowhere".parse().expect("a path");
        let error = Target::at(&address, Backend::Type1).expect_err("nothing is there");
        assert!(error.to_string().contains("/sys/nowhere"), "{error}");
    }
}
